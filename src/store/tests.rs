//! The store on real files: commit means commit, refusals touch nothing, damage is told.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::error::StoreError;
use super::group::Scope;
use super::open::{READERS, connect};
use super::writer::{FEW_FOR, MANY};
use super::{Retention, Secret, Store, check};
use crate::clock::{Clock, ManualClock};
use crate::engine::event::{At, Event, Failure, Output};
use crate::engine::port::{
    Archive, Change, DagFilter, Journal, JournalError, Level, LogLine, NewDag, Record, RequestKey, Stamp,
};
use crate::engine::template::{Caps, Definition, Interruption, Lock, NodeDef};
use crate::engine::{DagState, Operator, Single, Snapshot, Steer, operate, plan, single, steer};
use crate::model::{AgentAddr, DagId, EventId, Timestamp};

struct Rig {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    store: Store,
}

fn path(dir: &tempfile::TempDir) -> &Utf8Path {
    Utf8Path::from_path(dir.path()).unwrap()
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap());
    let store = open(&dir, &clock).unwrap();
    Rig { dir, clock, store }
}

fn open(dir: &tempfile::TempDir, clock: &Arc<ManualClock>) -> Result<Store, StoreError> {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    Store::open(path(dir), clock, 2)
}

fn definition(nodes: usize, lock: Option<Lock>) -> Definition {
    let node = |at: usize| NodeDef {
        name: format!("node {at}"),
        step: "t.step".into(),
        upstreams: at.checked_sub(1).into_iter().collect(),
        targets: vec![AgentAddr::new([127, 0, 0, 1].into(), 2886)],
        is_parallel: false,
        at_most: None,
        is_safe_point: false,
        goes_on_by_lease: false,
        is_always: false,
        releases_lock_on_failure: false,
        caps: Caps::of("CTXPB"),
        on_interruption: Interruption::Rerun,
        deadline_secs: 60,
    };
    Definition {
        name: "Test".into(),
        flow: "test".into(),
        nodes: (0..nodes).map(node).collect(),
        params: json!({ "n": nodes }),
        lock,
        main_dag: Some("22130706433028861".into()),
    }
}

const LOCKED: Option<Lock> = Some(Lock { lease_secs: None });

impl Rig {
    fn stamp(&self) -> Stamp {
        Stamp { at: self.clock.now(), actor: "tester".into() }
    }

    async fn create(&self, nodes: usize, lock: Option<Lock>) -> Result<Snapshot, JournalError> {
        let new =
            NewDag { definition: definition(nodes, lock), stamp: self.stamp(), key: None, begins: false };
        self.store.create(new).await.map(|created| created.snapshot)
    }

    /// Commits these events and what is planned after them: the rows say the same.
    async fn take(&self, dag: &mut Snapshot, mut events: Vec<Event>) -> Result<(), JournalError> {
        self.clock.advance(Duration::from_millis(1));
        let stamp = self.stamp();
        let mut after = dag.clone();
        for event in &events {
            after.apply(event, stamp.at).unwrap();
        }
        for event in plan(&after) {
            after.apply(&event, stamp.at).unwrap();
            events.push(event);
        }
        let revision = dag.revision;
        after.revision += 1;
        let change = Change { revision, events: events.into(), stamp, after: Arc::new(after.clone()) };
        self.store.append(change).await?;
        assert_eq!(self.store.load(dag.id).await.unwrap().as_ref(), Some(&after));
        *dag = after;
        Ok(())
    }

    async fn run_to_the_end(&self, dag: &mut Snapshot) {
        self.take(dag, vec![]).await.unwrap();
        loop {
            let active =
                dag.sub_tasks().find(|(_, s)| s.state.is_active()).map(|(at, s)| (at, s.execute_times));
            let Some((at, attempt)) = active else { break };
            let event =
                Event::Succeeded { at, attempt, output: Output { data: json!(1), shown: Value::Null } };
            self.take(dag, vec![event]).await.unwrap();
        }
    }

    /// Holds the writer until all of these wait: then they are one group.
    async fn in_one_group<T>(&self, writes: impl Future<Output = T>) -> T {
        let (tell, is_held) = oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let hold = move |_: &mut Scope<'_>| -> Result<(), StoreError> {
            tell.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        };
        let queueing = async {
            is_held.await.unwrap();
            let mut writes = std::pin::pin!(writes);
            assert!((&mut writes).now_or_never().is_none(), "answered while the writer was held");
            release.send(()).unwrap();
            writes.await
        };
        let (held, done) = tokio::join!(self.store.inner.writer.write(hold), queueing);
        held.unwrap();
        done
    }

    fn line(&self, dag: &Snapshot, text: &str) -> LogLine {
        LogLine {
            node: dag.nodes[0].id,
            dag: dag.id,
            sub_task: dag.nodes[0].sub_tasks[0].id,
            attempt: 1,
            dag_name: "Test".into(),
            node_name: "node 0".into(),
            level: Level::Info,
            text: text.into(),
            fields: Value::Null,
        }
    }

    fn assert_sound(&self) {
        let report = check(self.store.path()).unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
    }
}

fn failed(dag: &Snapshot) -> Event {
    let failure =
        Failure { code: "Common.Unexpected".into(), text: "no".into(), diagnosis: Some(json!({ "x": 1 })) };
    Event::Failed { at: At { node: 0, sub: 0 }, attempt: dag.nodes[0].sub_tasks[0].execute_times, failure }
}

#[tokio::test]
async fn a_dag_survives_reopening_with_everything() {
    let rig = rig();
    let mut dag = rig.create(2, LOCKED).await.unwrap();
    rig.take(&mut dag, vec![]).await.unwrap();
    let event = Event::Noted { at: At { node: 0, sub: 0 }, attempt: 1, note: json!({ "pid": 1 }) };
    rig.take(&mut dag, vec![event]).await.unwrap();
    let event = failed(&dag);
    rig.take(&mut dag, vec![event]).await.unwrap();
    let events = operate(&dag, Operator::Retry).unwrap();
    rig.take(&mut dag, events).await.unwrap();
    rig.store.close().await;

    let again = open(&rig.dir, &rig.clock).unwrap();
    assert_eq!(again.load(dag.id).await.unwrap().unwrap(), dag);
    assert_eq!(again.live(DagId(0), 100).await.unwrap(), [dag]);
    rig.assert_sound();
}

/// What is asked of a DAG and of its sub-tasks one by one is stored as it was, rows and log alike.
#[tokio::test]
async fn what_a_dag_is_steered_by_survives_reopening() {
    let rig = rig();
    let mut definition = definition(2, LOCKED);
    definition.nodes[0].targets.push(AgentAddr::new([127, 0, 0, 2].into(), 2886));
    definition.nodes[0].at_most = Some(1);
    definition.nodes[1].is_safe_point = true;
    definition.nodes[1].goes_on_by_lease = true;
    let new = NewDag { definition, stamp: rig.stamp(), key: None, begins: false };
    let mut dag = rig.store.create(new).await.unwrap().snapshot;
    rig.take(&mut dag, vec![]).await.unwrap();
    let place = |sub| At { node: 0, sub };
    let events = single(&dag, Single::Cancel, place(0)).unwrap();
    rig.take(&mut dag, events).await.unwrap();
    rig.take(&mut dag, vec![Event::Stopped { at: place(0), attempt: 1 }]).await.unwrap();
    let events = single(&dag, Single::Retry, place(0)).unwrap();
    rig.take(&mut dag, events).await.unwrap();
    let event = failed(&dag);
    rig.take(&mut dag, vec![event]).await.unwrap();
    let events = single(&dag, Single::Pass, place(0)).unwrap();
    rig.take(&mut dag, events).await.unwrap();
    let events = steer(&dag, Steer::Pause).unwrap();
    rig.take(&mut dag, events).await.unwrap();
    let event = Event::Succeeded { at: place(1), attempt: 1, output: Output::default() };
    rig.take(&mut dag, vec![event]).await.unwrap();
    assert_eq!((dag.state, dag.paused_before()), (DagState::Waiting, Some(1)));
    rig.assert_sound();
    let stored = rig.store.load(dag.id).await.unwrap().unwrap();
    assert_eq!(stored, dag);
    let events = steer(&dag, Steer::Abort).unwrap();
    rig.take(&mut dag, events).await.unwrap();
    assert_eq!((dag.state, dag.operator), (DagState::Failed, Operator::Cancel));
    rig.store.close().await;
    let again = open(&rig.dir, &rig.clock).unwrap();
    assert_eq!(again.load(dag.id).await.unwrap().unwrap(), dag);
    rig.assert_sound();
}

/// A cancel that came too late for one node skips the next when that one ends: only the skip tells it.
#[tokio::test]
async fn what_is_skipped_after_a_cancel_is_stored() {
    let rig = rig();
    let mut dag = rig.create(2, None).await.unwrap();
    rig.take(&mut dag, vec![]).await.unwrap();
    let events = operate(&dag, Operator::Cancel).unwrap();
    rig.take(&mut dag, events).await.unwrap();
    assert_eq!(dag.nodes[1].operator, Operator::Run);
    let too_late = Event::Succeeded { at: At { node: 0, sub: 0 }, attempt: 1, output: Output::default() };
    rig.take(&mut dag, vec![too_late]).await.unwrap();
    assert_eq!(dag.nodes[1].operator, Operator::Cancel);
}

#[tokio::test]
async fn w33_full_synchronous_and_wal_are_really_on() {
    let rig = rig();
    let pragma = |name: &'static str| {
        let write = move |scope: &mut Scope<'_>| -> Result<String, StoreError> {
            Ok(scope
                .connection
                .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
                .map(|v| format!("{v:?}"))?)
        };
        rig.store.inner.writer.write(write)
    };
    assert_eq!(pragma("synchronous").await.unwrap(), "Integer(2)");
    assert_eq!(pragma("journal_mode").await.unwrap(), "Text(\"wal\")");
    assert_eq!(pragma("foreign_keys").await.unwrap(), "Integer(1)");
}

#[tokio::test]
async fn w2_a_held_lock_names_its_holder_and_only_the_holder_frees_it() {
    let rig = rig();
    let mut first = rig.create(1, LOCKED).await.unwrap();
    let Err(JournalError::LockHeld(holder)) = rig.create(1, LOCKED).await else { panic!("two holders") };
    assert_eq!((holder.dag, holder.name.as_str()), (first.id, "Test"));
    assert_eq!(holder.main_dag.as_deref(), Some("22130706433028861"));
    assert_eq!(rig.store.dags(DagFilter::ALL, false).await.unwrap().len(), 1, "the refused one left nothing");

    // A DAG that gave its lock back and ends much later does not free the next holder's.
    rig.take(&mut first, vec![Event::LockReleased { reason: "test".into() }]).await.unwrap();
    let second = rig.create(1, LOCKED).await.unwrap();
    rig.take(&mut first, vec![Event::LockReleased { reason: "again".into() }]).await.unwrap();
    assert_eq!(rig.store.holder().await.unwrap().unwrap().dag, second.id);
    let Err(JournalError::LockHeld(_)) = rig.take(&mut first, vec![Event::LockTaken]).await else {
        panic!("stolen")
    };
    rig.assert_sound();
}

#[tokio::test]
async fn a_refused_write_takes_back_nothing_of_its_neighbours() {
    let rig = rig();
    let dag = rig.create(1, LOCKED).await.unwrap();
    let writes = (0..50).map(|n| rig.create(1, if n % 2 == 0 { LOCKED } else { None }));
    let results = join_all(writes).await;
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.is_ok(), n % 2 == 1, "{n}");
    }
    assert_eq!(rig.store.dags(DagFilter::ALL, false).await.unwrap().len(), 26);
    assert_eq!(rig.store.holder().await.unwrap().unwrap().dag, dag.id);
    rig.assert_sound();
}

#[tokio::test]
async fn w4_a_stale_change_is_refused_and_leaves_nothing() {
    let rig = rig();
    let mut dag = rig.create(1, None).await.unwrap();
    let mut neighbour = rig.create(1, None).await.unwrap();
    let mut stale = dag.clone();
    rig.take(&mut dag, vec![]).await.unwrap();
    let before = rig.store.newest().await.unwrap();
    let both = async { tokio::join!(rig.take(&mut stale, vec![]), rig.take(&mut neighbour, vec![])) };
    let (refused, taken) = rig.in_one_group(both).await;
    assert!(matches!(refused, Err(JournalError::Stale)), "{refused:?}");
    taken.unwrap();
    // Of the neighbour: it started, and its step was claimed.
    assert_eq!(rig.store.newest().await.unwrap().0, before.0 + 2);
    rig.assert_sound();
}

/// A change that fails when half of it is written takes its group with it, once; after that it takes nobody with it.
#[tokio::test]
async fn a_half_written_change_fails_its_group_once_and_then_only_itself() {
    let rig = rig();
    let mut first = rig.create(1, None).await.unwrap();
    let mut half = rig.create(1, None).await.unwrap();
    let mut last = rig.create(1, None).await.unwrap();
    let before = (rig.store.newest().await.unwrap(), rig.store.written().groups);
    let mut feed = Journal::feed(&rig.store);
    let line = rig.line(&last, "one");
    for is_careful in [false, true] {
        // The second of them finds the first one's lock when all events are written.
        let twice = vec![Event::LockTaken, Event::LockTaken];
        let changes = async {
            tokio::join!(
                rig.take(&mut first, vec![]),
                rig.take(&mut half, twice),
                async { rig.store.log(line.clone()) },
                rig.take(&mut last, vec![])
            )
        };
        let (begun, failed, (), ended) = rig.in_one_group(changes).await;
        assert!(matches!(failed, Err(JournalError::Store(_))), "{failed:?}");
        assert_eq!((begun.is_ok(), ended.is_ok()), (is_careful, is_careful), "{begun:?} {ended:?}");
        if let Err(error) = ended {
            let why = crate::error::Error::from(error).chain();
            assert!(why.contains("lock"), "what was not tried is told what failed: {why}");
        }
        for dag in [&first, &half, &last] {
            assert_eq!(rig.store.load(dag.id).await.unwrap().as_ref(), Some(dag), "what was told is there");
        }
        if !is_careful {
            assert_eq!(rig.store.newest().await.unwrap(), before.0);
            assert_eq!(rig.store.written().groups, before.1 + 1, "that which held the writer");
        }
        assert_eq!(rig.store.holder().await.unwrap(), None);
        rig.assert_sound();
    }
    assert_eq!(
        rig.store.written().groups,
        before.1 + 3,
        "those that waited together were committed together"
    );
    let told = std::iter::from_fn(|| feed.try_recv().ok());
    let told: Vec<_> = told.map(|record| (record.dag.unwrap(), record.kind.clone())).collect();
    let of = |dag: &Snapshot, kinds: &[&str]| kinds.iter().map(|kind| (dag.id, (*kind).to_owned())).collect();
    let (kept, begun): (Vec<_>, Vec<_>) = (of(&last, &["log"]), of(&first, &["started", "claimed"]));
    let ended = of(&last, &["log", "started", "claimed"]);
    assert_eq!(told, [kept, begun, ended].concat(), "a line has no caller to tell, and is kept");
}

/// What follows from a creation is in the store with it: one commit, and the rows are the sum of the events.
#[tokio::test]
async fn a_dag_begins_with_the_commit_that_makes_it() {
    let rig = rig();
    let before = rig.store.written();
    let new = NewDag { definition: definition(2, LOCKED), stamp: rig.stamp(), key: None, begins: true };
    let created = rig.store.create(new).await.unwrap();
    assert_eq!(rig.store.written().groups, before.groups + 1);
    assert_eq!(created.snapshot.state, DagState::Ready, "it is told as it was created");
    let begun = created.begun.unwrap();
    assert_eq!(begun.state, DagState::Running);
    let stored = rig.store.load(created.snapshot.id).await.unwrap().unwrap();
    assert_eq!(stored, *begun);
    assert_eq!(check(rig.store.path()).unwrap().problems, [""; 0]);
}

#[tokio::test]
async fn w41_the_same_request_key_finds_the_same_dag() {
    let rig = rig();
    let submit = |fingerprint: &str| {
        let key = Some(RequestKey { key: "k1".into(), fingerprint: fingerprint.into() });
        rig.store.create(NewDag { definition: definition(1, LOCKED), stamp: rig.stamp(), key, begins: false })
    };
    let first = submit("a").await.unwrap();
    let second = submit("a").await.unwrap();
    assert!(first.is_new && !second.is_new);
    assert_eq!(first.snapshot.id, second.snapshot.id);
    assert!(matches!(submit("b").await, Err(JournalError::KeyReused)));
}

#[tokio::test]
async fn log_lines_come_before_the_append_that_follows_them_and_move_the_version() {
    let rig = rig();
    let mut feed = Journal::feed(&rig.store);
    let mut dag = rig.create(1, None).await.unwrap();
    rig.store.log(rig.line(&dag, "one"));
    rig.store.log(rig.line(&dag, "two"));
    rig.take(&mut dag, vec![]).await.unwrap();
    let mut kinds = Vec::new();
    let mut last = EventId(0);
    while let Ok(record) = feed.try_recv() {
        assert!(record.id > last, "published in order");
        last = record.id;
        kinds.push(record.kind.clone());
    }
    assert_eq!(kinds, ["created", "log", "log", "started", "claimed"]);
    let detail = rig.store.dag(dag.id, true).await.unwrap().unwrap();
    assert_eq!(detail.version, last);
    assert_eq!(detail.logs.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(rig.store.logs(dag.nodes[0].sub_tasks[0].id).await.unwrap(), detail.logs);
    let read = rig.store.records(Some(dag.id), EventId(1), 100).await.unwrap();
    assert_eq!(
        read.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>(),
        ["log", "log", "started", "claimed"]
    );
    assert_eq!(read[3].node_name.as_deref(), Some("node 0"));
}

#[tokio::test]
async fn events_cannot_be_rewritten() {
    let rig = rig();
    rig.create(1, None).await.unwrap();
    let write = |scope: &mut Scope<'_>| -> Result<usize, StoreError> {
        Ok(scope.connection.execute("UPDATE event SET actor = 'nobody'", [])?)
    };
    let error = rig.store.inner.writer.write(write).await.unwrap_err().to_string();
    assert!(error.contains("append-only"), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_half_written() {
    let rig = rig();
    let mut dag = rig.create(1, None).await.unwrap();
    let limit = |pages: i64| {
        let write = move |scope: &mut Scope<'_>| -> Result<(), StoreError> {
            scope.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
            Ok(())
        };
        rig.store.inner.writer.write(write)
    };
    limit(1).await.unwrap();
    let error = loop {
        rig.store.log(rig.line(&dag, &"x".repeat(3_000)));
        match rig.create(30, None).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let text = format!("{:?}", crate::error::Error::from(error));
    assert!(text.contains("file system of the store is full"), "{text}");
    rig.assert_sound();
    // Space is freed: everything goes on, and the lines that had no caller to tell are there.
    limit(1 << 20).await.unwrap();
    rig.take(&mut dag, vec![]).await.unwrap();
    rig.create(30, None).await.unwrap();
    let logs = rig.store.logs(dag.nodes[0].sub_tasks[0].id).await.unwrap();
    let tries = rig.store.dags(DagFilter::ALL, false).await.unwrap().len() - 1;
    assert_eq!(logs.len(), tries, "one line per try, the failed one included");
    rig.assert_sound();
}

#[tokio::test]
async fn w34_pruning_takes_old_finished_dags_and_never_an_unfinished_one() {
    let rig = rig();
    let mut stuck = rig.create(1, LOCKED).await.unwrap();
    rig.take(&mut stuck, vec![]).await.unwrap();
    let event = failed(&stuck);
    rig.take(&mut stuck, vec![event]).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let mut dag = rig.create(2, None).await.unwrap();
        rig.run_to_the_end(&mut dag).await;
        ids.push(dag.id);
        rig.clock.advance(Duration::from_secs(86_400));
    }
    let left = async || {
        let dags = rig.store.dags(DagFilter::ALL, false).await.unwrap();
        dags.into_iter().map(|d| d.snapshot.id).collect::<Vec<DagId>>()
    };
    let now = rig.clock.now();
    assert_eq!(rig.store.prune(Retention { days: 0, count: 0, audit_count: 0 }, now).await.unwrap(), 0);
    assert_eq!(rig.store.prune(Retention { days: 0, count: 3, audit_count: 0 }, now).await.unwrap(), 2);
    assert_eq!(left().await, [stuck.id, ids[2], ids[3], ids[4]]);
    assert_eq!(rig.store.prune(Retention { days: 2, count: 0, audit_count: 0 }, now).await.unwrap(), 2);
    assert_eq!(left().await, [stuck.id, ids[4]]);
    rig.clock.advance(Duration::from_secs(86_400 * 1_000));
    rig.store.prune(Retention { days: 1, count: 1, audit_count: 0 }, rig.clock.now()).await.unwrap();
    assert_eq!(left().await, [stuck.id]);
    assert_eq!(rig.store.records(Some(ids[0]), EventId(0), 10).await.unwrap(), []);
    rig.assert_sound();
}

/// The trail is read by itself, whatever else happened meanwhile, and does not grow without end.
#[tokio::test]
async fn the_audit_trail_is_read_by_itself_and_is_bounded() {
    let rig = rig();
    let mut dag = rig.create(2, None).await.unwrap();
    for number in 0..10 {
        rig.store.note("audit", rig.stamp(), json!({ "action": number }));
    }
    rig.store.record("audit", Some(dag.id), rig.stamp(), json!({ "action": "of a task" })).await.unwrap();
    rig.run_to_the_end(&mut dag).await;
    let read = async |after, limit| rig.store.audit(after, limit).await.unwrap();
    let actions =
        |records: &[Record]| -> Vec<_> { records.iter().map(|r| r.body["action"].clone()).collect() };
    let all = read(None, 100).await;
    assert_eq!(all.len(), 11);
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id), "oldest first");
    assert_eq!(actions(&read(None, 2).await), [json!(9), json!("of a task")], "the newest");
    assert_eq!(actions(&read(Some(all[3].id), 2).await), [json!(4), json!(5)], "what came after");
    assert_eq!(read(Some(all[10].id), 9).await, []);
    let retention = Retention { days: 0, count: 0, audit_count: 4 };
    rig.store.prune(retention, rig.clock.now()).await.unwrap();
    assert_eq!(actions(&read(None, 100).await), [json!(7), json!(8), json!(9), json!("of a task")]);
    rig.assert_sound();
}

#[tokio::test]
async fn documents_and_secrets_are_kept_together() {
    let rig = rig();
    let secret = Secret { name: "root".into(), sealed: Some(vec![1, 2]) };
    rig.store
        .save_documents(
            vec![("agent", json!({ "a": 1 }).to_string())],
            vec![secret],
            rig.stamp(),
            json!("first"),
        )
        .await
        .unwrap();
    assert_eq!(rig.store.document("agent").await.unwrap(), Some(json!({ "a": 1 })));
    assert_eq!(rig.store.secret("root").await.unwrap(), Some(vec![1, 2]));
    let none = Secret { name: "root".into(), sealed: None };
    rig.store
        .save_documents(
            vec![("agent", json!({ "a": 2 }).to_string())],
            vec![none],
            rig.stamp(),
            json!("second"),
        )
        .await
        .unwrap();
    assert_eq!(rig.store.secret("root").await.unwrap(), None);
    let records = rig.store.records(None, EventId(0), 10).await.unwrap();
    assert_eq!(
        records.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>(),
        ["agent_changed", "agent_changed"]
    );
    assert_eq!(records[1].actor, "tester");
}

#[tokio::test]
async fn seen_blocks_are_forgotten_when_they_expire() {
    let rig = rig();
    let now = rig.clock.now();
    rig.store.remember_blocks(vec![[1; 32], [2; 32]], now + Duration::from_secs(60), now);
    rig.store.remember_blocks(vec![[1; 32]], now + Duration::from_secs(60), now);
    // Queued before this one, so committed no later.
    rig.create(1, None).await.unwrap();
    let seen = rig.store.seen_blocks(now).await.unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].1, now.as_second() + 60);
    let later = now + Duration::from_secs(61);
    assert_eq!(rig.store.seen_blocks(later).await.unwrap(), []);
    rig.store.remember_blocks(vec![], later, later);
    rig.create(1, None).await.unwrap();
    let count: i64 = connect(rig.store.path(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
        .unwrap()
        .query_row("SELECT count(*) FROM seen_block", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 0);
}

/// What lasts goes with its key; what ends by itself stays.
#[tokio::test]
async fn lasting_blocks_are_forgotten_with_their_key() {
    let rig = rig();
    let now = rig.clock.now();
    let day = Duration::from_secs(86_400);
    rig.store.remember_blocks(vec![[1; 32]], Timestamp::MAX, now);
    rig.store.remember_blocks(vec![[2; 32]], now + day, now);
    rig.create(1, None).await.unwrap();
    let seen = rig.store.seen_blocks(now).await.unwrap();
    assert!(seen.iter().any(|(hash, ts)| *hash == [1; 32] && *ts > now.as_second() + 86_400), "{seen:?}");
    rig.store.forget_blocks_after(now + day);
    rig.create(1, None).await.unwrap();
    assert_eq!(rig.store.seen_blocks(now).await.unwrap(), [([2; 32], now.as_second() + 86_400)]);
}

#[tokio::test]
async fn a_backup_taken_while_writing_is_whole_and_old_ones_go() {
    let rig = rig();
    let writing = async {
        for _ in 0..40 {
            rig.create(3, None).await.unwrap();
        }
    };
    let (backup, ()) = tokio::join!(rig.store.backup(2), writing);
    let backup = backup.unwrap();
    assert!(backup.bytes > 0);
    let report = check(&backup.path).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(std::fs::metadata(&backup.path).unwrap().permissions().mode() & 0o777, 0o600);
    for _ in 0..3 {
        rig.clock.advance(Duration::from_secs(1));
        rig.store.backup(2).await.unwrap();
    }
    let left = std::fs::read_dir(backup.path.parent().unwrap()).unwrap().count();
    assert_eq!((left, backup.path.exists()), (2, false));
}

#[test]
fn files_that_are_not_ours_or_not_whole_are_refused_with_the_reason() {
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
    let with = |prepare: &dyn Fn(&Utf8Path)| {
        let dir = tempfile::tempdir().unwrap();
        let file = path(&dir).join("store.db");
        prepare(&file);
        let before = std::fs::read(&file).unwrap();
        let error = open(&dir, &clock).unwrap_err();
        assert_eq!(std::fs::read(&file).unwrap(), before, "a refused file is not touched");
        error.to_string()
    };
    let private = |file: &Utf8Path, bytes: &[u8]| {
        std::io::Write::write_all(&mut std::fs::File::create(file).unwrap(), bytes).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let made = |file: &Utf8Path, sql: &str| {
        private(file, b"");
        connect(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap().execute_batch(sql).unwrap();
        assert!(!file.with_extension("db-wal").exists(), "as another program would leave it");
    };
    let text = with(&|file| private(file, &[7; 8192]));
    assert!(text.contains("is damaged") && text.contains("backup"), "{text}");
    let text = with(&|file| made(file, "CREATE TABLE x (y); PRAGMA application_id = 7;"));
    assert!(text.contains("another program"), "{text}");
    let text = with(&|file| {
        made(file, "CREATE TABLE x (y); PRAGMA application_id = 1868722281; PRAGMA user_version = 99;")
    });
    assert!(text.contains("format 99") && text.contains("newer agent"), "{text}");
    let text = with(&|file| {
        private(file, b"");
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    });
    assert!(text.contains("chmod 600"), "{text}");
}

/// What an older agent has left is backed up as it was, and gone on with.
#[tokio::test]
async fn a_store_of_the_first_format_is_backed_up_and_taken_on() {
    let rig = rig();
    let mut dag = rig.create(2, None).await.unwrap();
    rig.run_to_the_end(&mut dag).await;
    rig.store.record("audit", None, rig.stamp(), json!({ "action": "of before" })).await.unwrap();
    rig.store.close().await;
    let file = path(&rig.dir).join("store.db");
    let older = "DROP INDEX event_audit; PRAGMA user_version = 1;
        INSERT INTO ledger (name, body, updated_at) VALUES
            ('agent', '{\"a\":1,\"members\":[{\"b\":null}],\"topology\":{\"servers\":[2]}}', 7);";
    connect(&file, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap().execute_batch(older).unwrap();
    let store = open(&rig.dir, &rig.clock).unwrap();
    let trail = store.audit(None, 9).await.unwrap();
    assert_eq!((trail.len(), &trail[0].body["action"]), (1, &json!("of before")));
    assert_eq!(store.dags(DagFilter::ALL, false).await.unwrap().len(), 1);
    assert_eq!(store.document("agent").await.unwrap(), Some(json!({ "a": 1 })));
    let others = json!({ "members": [{ "b": null }], "topology": { "servers": [2] } });
    assert_eq!(store.document("others").await.unwrap(), Some(others));
    store.close().await;
    let report = check(&file).unwrap();
    assert_eq!((report.format, report.problems), (3, vec![]));
    let backups = std::fs::read_dir(path(&rig.dir).join("backup")).unwrap().flatten();
    let kept: Vec<_> = backups.map(|entry| Utf8PathBuf::from_path_buf(entry.path()).unwrap()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(check(&kept[0]).unwrap().format, 1);
}

#[tokio::test]
async fn check_finds_what_does_not_hold_together() {
    let damage = async |sql: &'static str| {
        let rig = rig();
        let mut dag = rig.create(2, LOCKED).await.unwrap();
        rig.take(&mut dag, vec![]).await.unwrap();
        rig.store.close().await;
        rig.assert_sound();
        connect(rig.store.path(), rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)
            .unwrap()
            .execute_batch(sql)
            .unwrap();
        check(rig.store.path()).unwrap().problems.join("; ")
    };
    for (sql, expected) in [
        ("UPDATE sub_task SET execute_times = 5 WHERE position = 0", "not the sum of its events"),
        ("DELETE FROM event WHERE kind = 'claimed'", "not the sum of its events"),
        ("UPDATE dag SET state = 'succeeded'", "it has ended, but"),
        ("DELETE FROM lock", "believes to hold the lock"),
        ("UPDATE dag SET holds_lock = 0", "does not know it"),
    ] {
        let problems = damage(sql).await;
        assert!(problems.contains(expected), "{sql}: {problems}");
    }
    let missing = check(&Utf8PathBuf::from("/nowhere/store.db")).unwrap_err().to_string();
    assert!(missing.contains("no such file"), "{missing}");
}

#[tokio::test]
async fn a_damaged_page_is_found() {
    let rig = rig();
    for _ in 0..200 {
        rig.create(3, None).await.unwrap();
    }
    rig.store.close().await;
    let mut bytes = std::fs::read(rig.store.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    std::io::Write::write_all(&mut std::fs::File::create(rig.store.path()).unwrap(), &bytes).unwrap();
    match check(rig.store.path()) {
        Ok(report) => assert!(!report.problems.is_empty()),
        Err(error) => assert!(error.to_string().contains("is damaged"), "{error}"),
    }
}

#[tokio::test]
async fn a_closed_store_refuses_and_says_so() {
    let rig = rig();
    rig.store.close().await;
    let error = rig.create(1, None).await.unwrap_err();
    assert!(crate::error::Error::from(error).text().contains("closing"));
}

#[tokio::test]
async fn unfinished_and_last_maintenance_are_told_apart() {
    let rig = rig();
    let mut plain = rig.create(1, None).await.unwrap();
    let mut locked = rig.create(1, LOCKED).await.unwrap();
    for dag in [&mut plain, &mut locked] {
        rig.take(dag, vec![]).await.unwrap();
        let event = failed(dag);
        rig.take(dag, vec![event]).await.unwrap();
        assert_eq!(dag.state, DagState::Failed);
    }
    let ids = async |filter| {
        let dags = rig.store.dags(filter, false).await.unwrap();
        dags.into_iter().map(|d| d.snapshot.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(DagFilter::Unfinished).await, [locked.id], "a failed DAG without lock is finished");
    let events = operate(&locked, Operator::Pass).unwrap();
    rig.take(&mut locked, events).await.unwrap();
    assert_eq!(ids(DagFilter::Unfinished).await, []);
    assert_eq!(ids(DagFilter::LastMaintenance).await, [locked.id], "even if it ended long ago");
    assert_eq!(ids(DagFilter::ALL).await, [plain.id, locked.id]);
    let flow = plain.definition.flow.clone();
    let flows: &'static [&'static str] = vec!["no flow", &*flow.leak()].leak();
    assert_eq!(ids(DagFilter::LastOf(flows)).await, [locked.id]);
    assert_eq!(ids(DagFilter::LastOf(&["no flow"])).await, []);
}

/// Pollers ask for both all the time, and are answered from memory until the next commit.
#[tokio::test]
async fn what_is_kept_of_the_lock_and_the_unfinished_is_never_older_than_what_was_committed() {
    let rig = rig();
    let seen = async || {
        let mut both = Vec::new();
        for _ in 0..2 {
            let unfinished = rig.store.dags(DagFilter::Unfinished, false).await.unwrap();
            let states: Vec<_> = unfinished.iter().map(|d| (d.snapshot.id, d.snapshot.state)).collect();
            both.push((rig.store.holder().await.unwrap().map(|holder| holder.dag), states));
        }
        assert_eq!(both[0], both[1], "asked twice");
        both.remove(0)
    };
    for _ in 0..3 {
        assert_eq!(seen().await, (None, vec![]));
        let mut dag = rig.create(1, LOCKED).await.unwrap();
        assert_eq!(seen().await, (Some(dag.id), vec![(dag.id, DagState::Ready)]));
        rig.take(&mut dag, vec![]).await.unwrap();
        assert_eq!(seen().await, (Some(dag.id), vec![(dag.id, DagState::Running)]));
        rig.run_to_the_end(&mut dag).await;
    }
    // More than are kept.
    for number in 1..40 {
        rig.create(1, None).await.unwrap();
        let unfinished = rig.store.dags(DagFilter::Unfinished, false).await.unwrap();
        assert_eq!(unfinished.len(), number);
    }
}

/// A reader sees one moment: the last line of a record and the state that came with it, never one without the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w8_a_reader_sees_the_task_and_its_record_of_the_same_moment() {
    let rig = rig();
    let mut dag = rig.create(40, None).await.unwrap();
    let id = dag.id;
    let reading = {
        let store = rig.store.clone();
        async move {
            let mut moments = std::collections::BTreeSet::new();
            loop {
                let seen = store.dag(id, true).await.unwrap().unwrap();
                let ended = seen.snapshot.sub_tasks().filter(|(_, sub)| sub.ended_at.is_some()).count();
                // Each sub-task says one word before it ends.
                assert!(
                    seen.logs.len() == ended || seen.logs.len() == ended + 1,
                    "{} {ended}",
                    seen.logs.len()
                );
                let last = seen.logs.last().map_or(EventId(0), |line| line.id);
                assert!(seen.version >= last, "a line that is newer than the version");
                moments.insert(seen.version);
                if seen.snapshot.is_finished() {
                    return moments.len();
                }
            }
        }
    };
    let writing = async {
        rig.take(&mut dag, vec![]).await.unwrap();
        loop {
            let active =
                dag.sub_tasks().find(|(_, s)| s.state.is_active()).map(|(at, s)| (at, s.execute_times));
            let Some((at, attempt)) = active else { break };
            let line = LogLine { sub_task: dag.sub_task(at).id, ..rig.line(&dag, "about to end") };
            rig.store.log(line);
            let event =
                Event::Succeeded { at, attempt, output: Output { data: json!(1), shown: Value::Null } };
            rig.take(&mut dag, vec![event]).await.unwrap();
        }
    };
    let (moments, ()) = tokio::join!(reading, writing);
    assert!(moments > 1, "the reader has seen it grow");
}

/// Nobody can read it any more.
#[tokio::test]
async fn a_line_of_a_task_that_was_pruned_is_dropped() {
    let rig = rig();
    let (mut gone, kept) = (rig.create(1, None).await.unwrap(), rig.create(1, None).await.unwrap());
    rig.run_to_the_end(&mut gone).await;
    rig.clock.advance(Duration::from_secs(2 * 86_400));
    let retention = Retention { days: 1, count: 0, audit_count: 0 };
    assert_eq!(rig.store.prune(retention, rig.clock.now()).await.unwrap(), 1);
    let before = rig.store.newest().await.unwrap();
    // Twice: the second of a sub-task is not looked for again.
    let lines = async {
        for dag in [&gone, &gone, &kept, &kept, &gone] {
            rig.store.log(rig.line(dag, "late"));
        }
        rig.store.probe().await.unwrap();
    };
    rig.in_one_group(lines).await;
    let records = rig.store.records(None, before, 9).await.unwrap();
    assert_eq!(records.iter().map(|record| record.dag).collect::<Vec<_>>(), [Some(kept.id), Some(kept.id)]);
    rig.assert_sound();
}

/// Though the one before it, of the same group, was not.
#[tokio::test]
async fn a_line_behind_the_pruning_of_its_task_is_dropped() {
    let rig = rig();
    let mut gone = rig.create(1, None).await.unwrap();
    rig.run_to_the_end(&mut gone).await;
    rig.clock.advance(Duration::from_secs(2 * 86_400));
    let retention = Retention { days: 1, count: 0, audit_count: 0 };
    let writes = async {
        rig.store.log(rig.line(&gone, "late"));
        let log = async { rig.store.log(rig.line(&gone, "later")) };
        let (pruned, ()) = tokio::join!(rig.store.prune(retention, rig.clock.now()), log);
        assert_eq!(pruned.unwrap(), 1);
    };
    rig.in_one_group(writes).await;
    assert_eq!(rig.store.records(None, EventId(0), 9).await.unwrap(), []);
}

/// Pages of many tasks are kept while there are many, and no longer.
#[tokio::test]
async fn the_writer_keeps_more_pages_while_many_write() {
    let rig = rig();
    let pages = async || {
        let read = |scope: &mut Scope<'_>| {
            Ok::<i64, StoreError>(scope.connection.pragma_query_value(None, "cache_size", |row| row.get(0))?)
        };
        rig.store.inner.writer.write(read).await.unwrap()
    };
    let few = pages().await;
    let write = || rig.store.inner.writer.write(|_: &mut Scope<'_>| Ok::<(), StoreError>(()));
    rig.in_one_group(join_all((0..MANY).map(|_| write()))).await;
    for _ in 0..FEW_FOR - 1 {
        assert!(pages().await < few, "they are told in KiB, as negative numbers");
    }
    assert_eq!(pages().await, few);
}

/// As many as there may be read at the same time; who comes next waits, and finds a connection that was kept.
#[tokio::test]
async fn readers_are_a_few_whoever_asks() {
    let rig = rig();
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let meeting = Arc::new(std::sync::Barrier::new(READERS));
    let read = || {
        let (inside, most, meeting) = (Arc::clone(&inside), Arc::clone(&most), Arc::clone(&meeting));
        rig.store.read(move |_| {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            meeting.wait();
            inside.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let done = join_all((0..READERS * 8).map(|_| read())).await;
    assert!(done.into_iter().all(|read| read.is_ok()));
    assert_eq!(most.load(Ordering::SeqCst), READERS);
}

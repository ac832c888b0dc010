//! What survives the crash of an agent that exists only here: its journal and its documents, in memory.
//!
//! A commit takes time, and a crash before its end loses it. Lines of the record are queued until the next commit of any DAG,
//! as the laws of the port allow, and a crash loses those too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::chance::Chance;
use crate::clock::Clock;
use crate::engine::event::Event;
use crate::engine::port::{
    Archive, Change, Created, DagFilter, Detail, Holder, Journal, JournalError, LogLine, LogRow, NewDag,
    Record, RequestKey, Stamp,
};
use crate::engine::{DagState, Heading, Node, Operator, Snapshot, SubTask};
use crate::error::Error;
use crate::model::{DagId, EventId, NodeId, SubTaskId};

/// The platter.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) dags: BTreeMap<DagId, (Snapshot, EventId)>,
    keys: BTreeMap<String, DagId>,
    records: Vec<Record>,
    holder: Option<Holder>,
    numbers: i64,
}

#[derive(Debug)]
pub(crate) struct Disk {
    state: Mutex<State>,
    feed: broadcast::Sender<Arc<Record>>,
}

/// An agent's way to its disk, cut when the agent is killed.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    disk: Arc<Disk>,
    clock: Arc<dyn Clock>,
    chance: Chance,
    is_alive: Arc<AtomicBool>,
    queued: Arc<Mutex<Vec<LogLine>>>,
}

impl Disk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), feed: broadcast::channel(4096).0 })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The lock's holder, as stored.
    pub(crate) fn holder(&self) -> Option<Holder> {
        self.state().holder.clone()
    }

    pub(crate) fn handle(self: &Arc<Self>, clock: Arc<dyn Clock>, chance: Chance) -> Handle {
        let is_alive = Arc::new(AtomicBool::new(true));
        Handle { disk: Arc::clone(self), clock, chance, is_alive, queued: Arc::default() }
    }
}

impl State {
    fn next(&mut self) -> i64 {
        self.numbers += 1;
        self.numbers
    }

    fn record(&mut self, mut record: Record) -> Record {
        record.id = EventId(self.next());
        self.records.push(record.clone());
        if let Some(entry) = record.dag.and_then(|dag| self.dags.get_mut(&dag)) {
            entry.1 = record.id;
        }
        record
    }

    /// After every commit: whoever believes to hold the lock holds it, and there is one at most.
    fn check(&self, chance: &Chance) {
        let believers = self.dags.values().filter(|(dag, _)| dag.holds_lock).map(|(dag, _)| dag.id);
        let believers: Vec<_> = believers.collect();
        let holder: Vec<_> = self.holder.iter().map(|holder| holder.dag).collect();
        if believers != holder {
            chance.violated(&format!("{believers:?} believe to hold the lock that {holder:?} holds"));
        }
    }

    fn take_lock(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        if let Some(holder) = &self.holder {
            return Err(JournalError::LockHeld(holder.clone()));
        }
        self.holder = Some(Holder {
            dag: snapshot.id,
            name: snapshot.definition.name.clone(),
            main_dag: snapshot.definition.main_dag.clone(),
            since: snapshot.created_at,
        });
        Ok(())
    }

    fn insert(&mut self, new: NewDag) -> Snapshot {
        let NewDag { definition, stamp, key, begins: _ } = new;
        let nodes = definition.nodes.iter().map(|def| {
            let sub_tasks = def.targets.iter().map(|agent| SubTask::new(SubTaskId(self.next()), *agent));
            let sub_tasks = sub_tasks.collect();
            Node { id: NodeId(self.next()), operator: Operator::Run, sub_tasks }
        });
        let nodes = nodes.collect();
        let snapshot = Snapshot {
            id: DagId(i64::try_from(self.dags.len()).unwrap() + 1),
            revision: 0,
            holds_lock: definition.lock.is_some(),
            definition: Arc::new(definition),
            state: DagState::Ready,
            heading: Heading::Forward,
            operator: Operator::Run,
            signals: Vec::new(),
            nodes,
            created_at: stamp.at,
            started_at: None,
            ended_at: None,
        };
        if let Some(key) = key {
            self.keys.insert(key.key, snapshot.id);
        }
        self.dags.insert(snapshot.id, (snapshot.clone(), EventId(0)));
        snapshot
    }
}

fn blank(stamp: &Stamp, kind: &str, dag: Option<DagId>, body: Value) -> Record {
    Record {
        id: EventId(0),
        at: stamp.at,
        kind: kind.to_owned(),
        dag,
        dag_name: None,
        node: None,
        node_name: None,
        sub_task: None,
        attempt: None,
        actor: stamp.actor.clone(),
        body,
    }
}

impl Handle {
    pub(crate) fn kill(&self) {
        self.is_alive.store(false, Ordering::SeqCst);
    }

    /// Time passes; an agent that was killed meanwhile never comes back from here.
    async fn commit(&self) {
        self.chance.pause(5).await;
        self.or_never().await;
    }

    async fn or_never(&self) {
        if !self.is_alive.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    fn publish(&self, records: Vec<Record>) {
        for record in records {
            drop(self.disk.feed.send(Arc::new(record)));
        }
    }

    fn flush(&self, state: &mut State) -> Vec<Record> {
        let stamp = Stamp { at: self.clock.now(), actor: "engine".to_owned() };
        let lines = std::mem::take(&mut *self.queued.lock().unwrap());
        let written = lines.into_iter().map(|line| {
            let body = json!({ "level": line.level, "text": line.text, "fields": line.fields });
            let mut record = blank(&stamp, "log", Some(line.dag), body);
            record.sub_task = Some(line.sub_task);
            record.attempt = Some(line.attempt);
            state.record(record)
        });
        written.collect()
    }
}

impl Journal for Handle {
    fn create(&self, new: NewDag) -> BoxFuture<'_, Result<Created, JournalError>> {
        Box::pin(async move {
            self.commit().await;
            let mut written = Vec::new();
            let created = {
                let mut state = self.disk.state();
                if let Some(known) = new.key.as_ref().and_then(|key| state.keys.get(&key.key)) {
                    let snapshot = state.dags[known].0.clone();
                    return Ok(Created { snapshot, begun: None, is_new: false });
                }
                if new.definition.lock.is_some()
                    && let Some(holder) = &state.holder
                {
                    return Err(JournalError::LockHeld(holder.clone()));
                }
                let stamp = new.stamp.clone();
                let snapshot = state.insert(new);
                if snapshot.holds_lock {
                    state.take_lock(&snapshot)?;
                }
                written.push(state.record(blank(&stamp, "created", Some(snapshot.id), Value::Null)));
                Created { snapshot, begun: None, is_new: true }
            };
            self.publish(written);
            Ok(created)
        })
    }

    fn append(&self, change: Change) -> BoxFuture<'_, Result<(), JournalError>> {
        Box::pin(async move {
            self.commit().await;
            let written = {
                let mut state = self.disk.state();
                let dag = change.after.id;
                if state.dags[&dag].0.revision != change.revision {
                    return Err(JournalError::Stale);
                }
                let mut written = self.flush(&mut state);
                for event in change.events.iter() {
                    if *event == Event::LockTaken {
                        state.take_lock(&change.after)?;
                    }
                    if matches!(event, Event::LockReleased { .. }) {
                        let released = state.holder.take().map(|holder| holder.dag);
                        if released != Some(dag) {
                            self.chance.violated("a lock was released by somebody else than its holder");
                        }
                    }
                    let body = serde_json::to_value(event).unwrap();
                    written.push(state.record(blank(&change.stamp, event.kind(), Some(dag), body)));
                }
                state.dags.get_mut(&dag).unwrap().0 = (*change.after).clone();
                state.check(&self.chance);
                written
            };
            self.publish(written);
            Ok(())
        })
    }

    fn log(&self, line: LogLine) {
        self.queued.lock().unwrap().push(line);
    }

    fn load(&self, dag: DagId) -> BoxFuture<'_, Result<Option<Snapshot>, JournalError>> {
        Box::pin(async move {
            self.or_never().await;
            Ok(self.disk.state().dags.get(&dag).map(|(snapshot, _)| snapshot.clone()))
        })
    }

    fn live(&self, after: DagId, limit: usize) -> BoxFuture<'_, Result<Vec<Snapshot>, JournalError>> {
        Box::pin(async move {
            let state = self.disk.state();
            let is_live = |dag: &&Snapshot| {
                let has_lease =
                    dag.holds_lock && dag.definition.lock.is_some_and(|lock| lock.lease_secs.is_some());
                dag.id > after && (!dag.state.is_at_rest() || has_lease)
            };
            Ok(state.dags.values().map(|(dag, _)| dag).filter(is_live).take(limit).cloned().collect())
        })
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Record>> {
        self.disk.feed.subscribe()
    }
}

impl Archive for Handle {
    fn dag(&self, id: DagId, with_logs: bool) -> BoxFuture<'_, Result<Option<Detail>, Error>> {
        Box::pin(async move {
            self.or_never().await;
            let state = self.disk.state();
            Ok(state.dags.get(&id).map(|(snapshot, version)| Detail {
                snapshot: snapshot.clone(),
                version: *version,
                logs: if with_logs { lines(&state, id) } else { Vec::new() },
            }))
        })
    }

    fn dags(&self, filter: DagFilter, _: bool) -> BoxFuture<'_, Result<Vec<Detail>, Error>> {
        Box::pin(async move {
            let state = self.disk.state();
            let wanted =
                state.dags.values().filter(|(dag, _)| filter != DagFilter::Unfinished || !dag.is_finished());
            let detail = |(dag, version): &(Snapshot, EventId)| Detail {
                snapshot: dag.clone(),
                version: *version,
                logs: lines(&state, dag.id),
            };
            Ok(wanted.map(detail).collect())
        })
    }

    fn dag_of_node(&self, _: NodeId) -> BoxFuture<'_, Result<Option<DagId>, Error>> {
        Box::pin(async { Ok(None) })
    }

    fn dag_of_sub_task(&self, _: SubTaskId) -> BoxFuture<'_, Result<Option<DagId>, Error>> {
        Box::pin(async { Ok(None) })
    }

    fn note(&self, _: &'static str, _: Stamp, _: Value) {}

    fn audit(&self, _: Option<EventId>, _: u32) -> BoxFuture<'_, Result<Vec<Record>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn logs(&self, _: SubTaskId) -> BoxFuture<'_, Result<Vec<LogRow>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn records(
        &self,
        dag: Option<DagId>,
        after: EventId,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, Error>> {
        Box::pin(async move {
            self.or_never().await;
            let state = self.disk.state();
            let wanted = state.records.iter().filter(|r| r.id > after && (dag.is_none() || r.dag == dag));
            Ok(wanted.take(limit as usize).cloned().collect())
        })
    }

    fn newest(&self) -> BoxFuture<'_, Result<EventId, Error>> {
        Box::pin(async { Ok(EventId(self.disk.state().numbers)) })
    }

    fn holder(&self) -> BoxFuture<'_, Result<Option<Holder>, Error>> {
        Box::pin(async move {
            self.or_never().await;
            Ok(self.disk.holder())
        })
    }

    fn coordinated_by<'a>(&'a self, main_dag: &'a str) -> BoxFuture<'a, Result<Option<DagId>, Error>> {
        Box::pin(async move {
            self.or_never().await;
            let state = self.disk.state();
            let mut newest = state.dags.values().rev();
            let found = newest.find(|(dag, _)| dag.definition.main_dag.as_deref() == Some(main_dag));
            Ok(found.map(|(dag, _)| dag.id))
        })
    }

    fn made_by<'a>(&'a self, key: &'a RequestKey) -> BoxFuture<'a, Result<Option<Snapshot>, Error>> {
        Box::pin(async move {
            let state = self.disk.state();
            Ok(state.keys.get(&key.key).map(|dag| state.dags[dag].0.clone()))
        })
    }

    fn record(
        &self,
        kind: &'static str,
        dag: Option<DagId>,
        stamp: Stamp,
        body: Value,
    ) -> BoxFuture<'_, Result<EventId, Error>> {
        Box::pin(async move {
            self.commit().await;
            let written = self.disk.state().record(blank(&stamp, kind, dag, body));
            let id = written.id;
            self.publish(vec![written]);
            Ok(id)
        })
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Record>> {
        self.disk.feed.subscribe()
    }
}

fn lines(state: &State, dag: DagId) -> Vec<LogRow> {
    let logs = state.records.iter().filter(|record| record.dag == Some(dag) && record.kind == "log");
    let row = |record: &Record| {
        let text = record.body["text"].as_str().unwrap_or_default().to_owned();
        Some(LogRow {
            id: record.id,
            sub_task: record.sub_task?,
            attempt: record.attempt?,
            at: record.at,
            level: serde_json::from_value(record.body["level"].clone()).ok()?,
            text,
            fields: Value::Null,
        })
    };
    logs.filter_map(row).collect()
}

//! An agent's own part in an operation: a sub-DAG under its maintenance lock, prepared, told to go, watched, ended.
//!
//! Purpose: the receiving side of `handshake` and of `remote`. On one host the coordinator calls it directly; other agents
//! reach it through their messages. What a part does is `part`.
//!
//! Invariant: at most one sub-DAG per part, whatever is repeated (W18); it executes only after a go of its own main DAG was
//! recorded (W36); whatever happens to the coordinator, the lock is free again at the latest when the lease ends (W19).
//!
//! Two coordinators that want the same agents at once: one of them wins, because of two whose parts are only prepared the
//! one with the lower id waits for the other to withdraw, and the other is refused at once (W41).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::contest::comes_first;
use super::part;
use super::peers::{Ask, HeldBy, PartKey, PeerLine, PeerView, Prepare, Prepared, Progressed, Release};
use crate::clock::Clock;
use crate::engine::event::Failure;
use crate::engine::port::{Archive, Holder, JournalError, Level, Look, Record, RequestKey, Stamp};
use crate::engine::run::{ENGINE, LEASE_OVER};
use crate::engine::{DagState, Handle, NodeState, Operator, Snapshot, SubTaskState, Submission, SubmitError};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, DagId, EventId, GenericId};

/// A prepared or resting sub-DAG gives its lock back when its coordinator was silent for so long. The coordinator's
/// watch renews it several times in this span.
pub const LEASE: Duration = Duration::from_secs(30);

/// What ending somebody's part may take: the grace of a cancelled step and the commits around it.
const END_LIMIT: Duration = Duration::from_secs(60);

/// How long a competitor that has to withdraw is waited for in one PREPARE, which may be asked again.
const CONTEST_LIMIT: Duration = Duration::from_secs(3);

/// Signal of the coordinator.
pub(super) const GO: &str = "go";

/// The same, for the second half.
pub(super) const GO_ON: &str = "go on";

/// A part that runs tells what it does in looks that are so far apart at least.
const GATHER: Duration = Duration::from_millis(100);

/// Lines handed over in one look.
const LINES_MAX: u32 = 1_000;

/// A part has some dozens.
const RECORDS_MAX: u32 = 100_000;

/// What an audit record calls it.
const FORCED: &str = "forcePassDag";

/// The participant of one agent.
#[derive(Clone, Debug)]
pub struct Participant {
    own: AgentAddr,
    archive: Arc<dyn Archive>,
    clock: Arc<dyn Clock>,
    /// Given once the engine exists: its steps hold this participant.
    engine: Arc<OnceLock<Handle>>,
    /// The part that was made or found last: the one that its coordinator speaks of now.
    latest: Arc<Mutex<Option<(PartKey, DagId)>>>,
}

impl Participant {
    pub fn new(own: AgentAddr, archive: Arc<dyn Archive>, clock: Arc<dyn Clock>) -> Self {
        Self { own, archive, clock, engine: Arc::default(), latest: Arc::default() }
    }

    /// # Panics
    /// When called twice: a defect of the wiring.
    pub fn attach(&self, engine: Handle) {
        self.engine.set(engine).expect("the participant gets its engine once");
    }

    fn engine(&self) -> &Handle {
        self.engine.get().expect("the engine is attached before anything runs")
    }

    fn reference(&self, dag: DagId) -> String {
        GenericId::agent(self.own, dag.0).to_string()
    }

    /// Answers the messages that are about parts; `None` for the others.
    pub async fn answer(&self, ask: &Ask) -> Option<Result<Value>> {
        let nothing = |done: Result<()>| done.map(|()| Value::Null);
        Some(match ask {
            Ask::Prepare(request) => self.prepare(request).await.map(|made| json!(made)),
            Ask::Go { key } => nothing(self.tell(key, GO).await),
            Ask::GoOn { key } => nothing(self.tell(key, GO_ON).await),
            Ask::Watch { key, since, wait_millis } => {
                let view = self.watch(key, *since, Duration::from_millis(*wait_millis)).await;
                view.map(|view| json!(view))
            }
            Ask::Renew { key } => nothing(self.renew(key).await),
            Ask::End { key, actor } => self.end(key, actor).await.map(|was| json!(was)),
            Ask::Revoke { main_dag, actor } => nothing(self.revoke(main_dag, actor).await),
            Ask::Facts
            | Ask::Preflight { .. }
            | Ask::Sql { .. }
            | Ask::RootPassword { .. }
            | Ask::Certify { .. }
            | Ask::TakeAuthority { .. }
            | Ask::Leave { .. }
            | Ask::CheckPassword { .. }
            | Ask::Welcome { .. }
            | Ask::Farewell { .. }
            | Ask::Topology { .. }
            | Ask::Accounts { .. }
            | Ask::Instance { .. } => return None,
        })
    }

    async fn prepare(&self, request: &Prepare) -> Result<Prepared> {
        let mut made = Prepared { sub_dag: String::new(), pushed_aside: Vec::new() };
        if let Some(dag) = self.find(&request.key).await? {
            let known = self.engine().load(dag).await?;
            let is_live = !known.state.is_final() && (known.state != DagState::Failed || known.holds_lock);
            if is_live || request_of(&known).is_some_and(|known| known.round >= request.round) {
                made.sub_dag = self.reference(dag);
                return Ok(made);
            }
        }
        let snapshot = match self.submit(request).await {
            Err(SubmitError::Journal(JournalError::LockHeld(holder))) => {
                if self.may_push_aside(&holder, &request.force) {
                    self.push_aside(&holder, request).await?;
                    made.pushed_aside.extend(holder.main_dag.clone());
                } else if !self.withdraws(&holder, request).await? {
                    return Err(self.held(&holder).await);
                }
                match self.submit(request).await {
                    Err(SubmitError::Journal(JournalError::LockHeld(holder))) => {
                        return Err(self.held(&holder).await);
                    }
                    other => other?,
                }
            }
            other => other?,
        };
        made.sub_dag = self.reference(snapshot.id);
        Ok(made)
    }

    async fn submit(&self, request: &Prepare) -> std::result::Result<Snapshot, SubmitError> {
        let fingerprint = json!({ "operation": request.operation }).to_string();
        let PartKey { main_dag, part } = &request.key;
        let key =
            Some(RequestKey { key: format!("prepare:{main_dag}:{part}:{}", request.round), fingerprint });
        let submission =
            Submission { template: part::template(self.own, request), actor: request.actor.clone(), key };
        let made = self.engine().submit(submission).await?;
        *self.latest() = Some((request.key.clone(), made.id));
        Ok(made)
    }

    /// The holder is a competitor that is only prepared, comes after this request in the order of ids, and has withdrawn.
    async fn withdraws(&self, holder: &Holder, request: &Prepare) -> Result<bool> {
        let is_after =
            holder.main_dag.as_deref().is_some_and(|theirs| comes_first(&request.key.main_dag, theirs));
        if !is_after || !is_prepared(&self.engine().load(holder.dag).await?) {
            return Ok(false);
        }
        let gone = self.engine().until(holder.dag, |known| !known.holds_lock || known.has_signal(GO));
        match tokio::time::timeout(CONTEST_LIMIT, gone).await {
            Ok(known) => Ok(!known?.holds_lock),
            Err(_) => Ok(false),
        }
    }

    /// Whether the holder is named among the ids, by its own or its main DAG's.
    pub fn may_push_aside(&self, holder: &Holder, force: &[String]) -> bool {
        let own_ref = self.reference(holder.dag);
        force.iter().any(|id| *id == own_ref || Some(id) == holder.main_dag.as_ref())
    }

    /// The task to look at, to wait for, or to name in `forcePassDag`: the one that coordinates the holder, if one does.
    pub fn name_of(&self, holder: &Holder) -> String {
        holder.main_dag.clone().unwrap_or_else(|| self.reference(holder.dag))
    }

    /// Who holds the lock, for people in the text and for programs in the data (W20).
    pub async fn held(&self, holder: &Holder) -> Error {
        let id = self.name_of(holder);
        let text = format!(
            "{} is busy with task [{id}:{}] since {}; wait for it to end, or name {id} in forcePassDag to cancel and pass it",
            self.own,
            holder.name,
            crate::model::on_wire(holder.since)
        );
        let held_by = self.held_by(holder).await;
        let data = json!({ "genecric_id": "", "expected_stage": 0, "id": [id], "holder": held_by });
        Error::new(Code::UnderMaintenanceDag, text).with_data(data)
    }

    /// The same as facts. What its step does is left open where that cannot be read now.
    pub async fn held_by(&self, holder: &Holder) -> HeldBy {
        let known = self.archive.dag(holder.dag, true).await.ok().flatten();
        let mut held = HeldBy {
            id: self.name_of(holder),
            sub_dag: self.reference(holder.dag),
            name: holder.name.clone(),
            since: holder.since,
            is_prepared: false,
            doing: String::new(),
            until: None,
            actor: String::new(),
        };
        let Some(known) = known else { return held };
        let snapshot = &known.snapshot;
        held.is_prepared = is_prepared(snapshot);
        held.actor = request_of(snapshot).map(|request| request.actor).unwrap_or_default();
        let current =
            snapshot.sub_tasks().find(|(_, sub)| sub.state.is_active() || sub.state == SubTaskState::Waiting);
        let failed = || snapshot.sub_tasks().find(|(_, sub)| sub.state == SubTaskState::Failed);
        if let Some((at, sub)) = current.or_else(failed) {
            let node = &snapshot.definition_of(at.node).name;
            let said = known.last_line(sub.id);
            held.doing = said.map_or_else(|| node.clone(), |line| format!("{node}: {line}"));
            held.until = snapshot.gives_up_at(at);
        }
        held
    }

    /// `forcePassDag`: ends the holder, its main DAG first so that nothing of it goes on (W43), and records who did it.
    async fn push_aside(&self, holder: &Holder, request: &Prepare) -> Result<()> {
        let holder_ref = self.reference(holder.dag);
        let body = json!({
            "action": FORCED,
            "for": request.key.main_dag,
            "pushes_aside": { "main_dag": holder.main_dag, "dag": holder_ref, "name": holder.name, "since": holder.since },
        });
        let stamp = Stamp { at: self.clock.now(), actor: request.actor.clone() };
        self.archive.record("audit", Some(holder.dag), stamp, body).await?;
        let main = holder.main_dag.as_deref().and_then(|id| id.parse::<GenericId>().ok());
        if let Some(main) = main.filter(|id| id.owner() == Some(self.own)) {
            self.cancel_and_settle(DagId(main.number), &request.actor).await?;
        }
        self.finish(holder.dag, &request.actor).await?;
        Ok(())
    }

    /// Cancels a DAG if it runs, and waits until its code has stopped.
    async fn cancel_and_settle(&self, dag: DagId, actor: &str) -> Result<Snapshot> {
        let snapshot = self.engine().load(dag).await?;
        if !snapshot.state.is_at_rest() {
            match self.engine().operate(dag, Operator::Cancel, actor).await {
                Ok(()) => {}
                // It came to rest by itself, or only its own release is left: both end without us.
                Err(error) if matches!(error.code, Code::CancelFinished | Code::CancelNotAllowed) => {}
                Err(error) => return Err(error),
            }
        }
        let rest = self.engine().until(dag, |s| s.state.is_at_rest());
        tokio::time::timeout(END_LIMIT, rest).await.unwrap_or_else(|_| {
            let text = format!("task {} did not stop within {} s", self.reference(dag), END_LIMIT.as_secs());
            Err(Error::new(Code::CancelTimeout, text))
        })
    }

    /// Cancels a main DAG of ours that was pushed aside on another agent; what it holds elsewhere it releases itself.
    async fn revoke(&self, main_dag: &str, actor: &str) -> Result<()> {
        let id = main_dag.parse::<GenericId>().ok().filter(|id| id.owner() == Some(self.own));
        let Some(id) = id else {
            return Err(Error::new(
                Code::TaskNotFound,
                format!("task {main_dag} is not one of {}", self.own),
            ));
        };
        match self.cancel_and_settle(DagId(id.number), actor).await {
            Err(error) if error.code == Code::TaskNotFound => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Ends a lock holder: cancelled if it runs, passed if it rests. Ended already is success.
    async fn finish(&self, dag: DagId, actor: &str) -> Result<()> {
        let rest = self.cancel_and_settle(dag, actor).await?;
        if rest.state.is_final() {
            return Ok(());
        }
        match self.engine().operate(dag, Operator::Pass, actor).await {
            // Somebody else was faster.
            Err(error) if error.code == Code::PassNotFailed => Ok(()),
            // What may not be called done, such as half a scale-out, has failed and gave its lock back: that is what counts.
            Err(error) if error.code == Code::PassNotAllowed && !rest.holds_lock => Ok(()),
            other => other,
        }
    }

    fn latest(&self) -> MutexGuard<'_, Option<(PartKey, DagId)>> {
        self.latest.lock().expect("no holder of this lock panics")
    }

    async fn find(&self, key: &PartKey) -> Result<Option<DagId>> {
        let latest = self.latest().as_ref().filter(|(known, _)| known == key).map(|(_, dag)| *dag);
        if latest.is_some() {
            return Ok(latest);
        }
        let Some(dag) = self.archive.coordinated_by(&key.main_dag).await? else { return Ok(None) };
        let known = self.engine().load(dag).await?;
        Ok(request_of(&known).is_some_and(|request| request.key == *key).then_some(dag))
    }

    async fn found(&self, key: &PartKey) -> Result<DagId> {
        self.find(key).await?.ok_or_else(|| {
            let text = format!("{} has prepared nothing for task {}", self.own, key.main_dag);
            Error::new(Code::TaskNotFound, text)
        })
    }

    /// A part that was released has no go any more: its coordinator prepares it anew.
    async fn tell(&self, key: &PartKey, signal: &str) -> Result<()> {
        let dag = self.found(key).await?;
        self.engine().signal(dag, signal, format!("task {}", key.main_dag)).await
    }

    async fn watch(&self, key: &PartKey, since: EventId, wait: Duration) -> Result<PeerView> {
        let dag = self.found(key).await?;
        self.engine().renew(dag);
        let mut feed = self.archive.feed();
        let begun = tokio::time::sleep(wait.min(GATHER));
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(begun, deadline);
        loop {
            let view = self.view(dag, since).await?;
            // What is on its way is told together; whatever somebody waits for is told at once.
            let is_more_to_come = matches!(view.progressed, Progressed::Preparing | Progressed::Running);
            let is_news = view.version > since;
            if is_news && (!is_more_to_come || wait.is_zero() || begun.is_elapsed()) {
                return Ok(view);
            }
            loop {
                tokio::select! {
                    biased;
                    () = &mut begun, if is_news => break,
                    () = &mut deadline => return Ok(view),
                    record = feed.recv() => match record {
                        Ok(record) if record.dag == Some(dag) && !(is_news && is_on_the_way(&record)) => break,
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return Ok(view),
                    },
                }
            }
        }
    }

    /// State and records of one moment: what is shown as new is never newer than the state beside it, and nothing is lost,
    /// because the version is that of the records.
    async fn view(&self, dag: DagId, since: EventId) -> Result<PeerView> {
        let Look { records, snapshot } =
            self.archive.look(dag, since, LINES_MAX).await?.ok_or_else(|| {
                Error::new(Code::TaskNotFound, format!("there is no task {dag} in this agent's store"))
            })?;
        let version = records.last().map_or(since, |last| last.id);
        let lines = records.iter().filter(|r| r.kind == "log").filter_map(|r| line(&r.body)).collect();
        Ok(PeerView {
            sub_dag: self.reference(dag),
            progressed: progressed(&snapshot),
            version,
            lines,
            failure: failure(&snapshot),
            release: self.release(&snapshot).await?,
        })
    }

    /// How it came to be released: by its lease, by its coordinator, or by somebody who wanted its lock.
    async fn release(&self, snapshot: &Snapshot) -> Result<Option<Release>> {
        if progressed(snapshot) != Progressed::Released {
            return Ok(None);
        }
        let records = self.archive.records(Some(snapshot.id), EventId(0), RECORDS_MAX).await?;
        let is_force = |record: &Record| record.kind == "audit" && record.body["action"] == json!(FORCED);
        Ok(Some(Release {
            is_by_lease: snapshot.has_signal(LEASE_OVER),
            was_done: part::is_done(snapshot),
            was_pushed_aside: records.iter().any(is_force),
        }))
    }

    async fn renew(&self, key: &PartKey) -> Result<()> {
        let dag = self.found(key).await?;
        self.engine().renew(dag);
        Ok(())
    }

    async fn end(&self, key: &PartKey, actor: &str) -> Result<bool> {
        let Some(dag) = self.find(key).await? else { return Ok(false) };
        self.finish(dag, actor).await?;
        Ok(true)
    }
}

/// One of many that a part records while it runs: somebody who waits for its end need not know each as it comes.
fn is_on_the_way(record: &Record) -> bool {
    matches!(record.kind.as_str(), "log" | "started" | "claimed" | "resumed" | "noted" | "succeeded")
}

fn line(body: &Value) -> Option<PeerLine> {
    let level = serde_json::from_value::<Level>(body.get("level")?.clone()).ok()?;
    Some(PeerLine { level, text: body.get("text")?.as_str()?.to_owned() })
}

/// What the part was made for.
fn request_of(snapshot: &Snapshot) -> Option<Prepare> {
    serde_json::from_value(snapshot.definition.params.clone()).ok()
}

/// Holds its lock, or is about to, and was not told to go.
fn is_prepared(snapshot: &Snapshot) -> bool {
    let waits = part::waits_for_go(snapshot) && !snapshot.state.is_final() && !snapshot.has_signal(GO);
    waits && snapshot.state != DagState::Failed
}

/// What an outsider may know of a sub-DAG. Decided by stage and outcome together, never by FAILED alone (W1).
fn progressed(snapshot: &Snapshot) -> Progressed {
    let waits_for_go = part::waits_for_go(snapshot);
    match snapshot.state {
        DagState::Ready | DagState::Running | DagState::Cancelling
            if !waits_for_go || snapshot.has_signal(GO) =>
        {
            Progressed::Running
        }
        DagState::Ready | DagState::Running | DagState::Cancelling => Progressed::Preparing,
        DagState::Waiting if snapshot.nodes[0].state() == NodeState::Waiting => Progressed::Prepared,
        DagState::Waiting if part::is_halfway(snapshot) => Progressed::Halfway,
        DagState::Waiting => Progressed::Done,
        DagState::Failed => Progressed::Failed,
        // What acts at once is over when it has ended well.
        DagState::Succeeded if !waits_for_go => Progressed::Done,
        DagState::Succeeded | DagState::RolledBack | DagState::Passed => Progressed::Released,
    }
}

fn failure(snapshot: &Snapshot) -> Option<Failure> {
    let failed = snapshot.sub_tasks().find_map(|(_, sub)| sub.failure.clone());
    failed.or_else(|| {
        let is_cancelled = snapshot.state == DagState::Failed && snapshot.operator == Operator::Cancel;
        is_cancelled.then(|| Failure {
            code: Code::SubDagsNotSucceeded.name().to_owned(),
            text: "its part was cancelled".to_owned(),
            diagnosis: None,
        })
    })
}

/// The actor of what the engine does to end its own parts.
pub(super) const RELEASER: &str = ENGINE;

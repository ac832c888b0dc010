//! An agent's own part in an operation: a sub-DAG under its maintenance lock, prepared, told to go, watched, ended.
//!
//! Purpose: the receiving side of `handshake`. On one host the coordinator calls it directly; other agents reach it
//! through their requests.
//!
//! Invariant: at most one sub-DAG per main DAG, whatever is repeated (W18); it executes only after a go of its own
//! main DAG was recorded (W36); whatever happens to the coordinator, the lock is free again at the latest when the
//! lease ends (W19).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::ports::{Operation, PeerLine, PeerView, Peers, Prepare, Progress, Progressed};
use crate::clock::Clock;
use crate::engine::event::Failure;
use crate::engine::port::{Archive, Holder, JournalError, Level, RequestKey, Stamp};
use crate::engine::run::ENGINE;
use crate::engine::{
    Caps, DagState, Handle, NodeState, Operator, Outcome, Registry, Snapshot, Step, StepCtx, StepSpec,
    Submission, SubmitError, Template,
};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, DagId, EventId, GenericId};

/// A prepared or resting sub-DAG gives its lock back when its coordinator was silent for so long. The coordinator's
/// watch renews it several times in this span.
pub const LEASE: Duration = Duration::from_secs(30);

/// What ending somebody's part may take: the grace of a cancelled step and the commits around it.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Signal of the coordinator.
const GO: &str = "go";

/// Lines handed over in one look.
const LINES_MAX: u32 = 1_000;

pub(super) fn register(registry: &mut Registry) {
    registry.add(Begin);
    registry.add(Rest);
}

/// The sub-DAG of an operation; names and numbers of nodes as v1 clients know them (`task-engine.md` §7.1).
pub(super) fn template(own: AgentAddr, request: &Prepare) -> Template {
    let params = json!(request);
    let lease = Some(LEASE.as_secs());
    let name = match request.operation {
        Operation::Start => "Start observer",
        Operation::Stop { .. } => "Stop observer",
    };
    let begun = Template::new("participant", name, params)
        .locked(lease)
        .coordinated_by(&request.main_dag)
        .then("participant.begin", "Start preparations", own);
    let acting = match request.operation {
        Operation::Start => begun
            .then("server.check", "Check ob process and config", own)
            .then("server.start", "Start observer", own)
            .then("server.serve", "Execute start observer sql", own),
        Operation::Stop { .. } => begun.then("server.stop", "Stop observer", own),
    };
    acting.then("participant.rest", "Wait for task to end", own)
}

/// `Start preparations`: waits for the go. Looks only, so it may run any number of times.
#[derive(Debug)]
struct Begin;

impl Step for Begin {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "participant.begin", caps: Caps::of("CPXT"), deadline: Duration::from_secs(60) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let main = ctx.main_dag().unwrap_or_default();
            if ctx.has_signal(GO) {
                ctx.info(&format!("told to go by task {main}"));
                return Outcome::done();
            }
            ctx.info(&format!(
                "prepared; waiting for task {main}, at most {} s without a word",
                LEASE.as_secs()
            ));
            Ok(Outcome::Wait)
        })
    }

    fn undo<'a>(&'a self, _: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// `Wait for task to end`: the part is done; the coordinator takes the outcome and ends it.
#[derive(Debug)]
struct Rest;

impl Step for Rest {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "participant.rest", caps: Caps::of("CPX"), deadline: Duration::from_secs(60) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            ctx.info("done; waiting to be ended");
            Ok(Outcome::Wait)
        })
    }
}

/// The participant of one agent.
#[derive(Clone, Debug)]
pub struct Participant {
    own: AgentAddr,
    archive: Arc<dyn Archive>,
    clock: Arc<dyn Clock>,
    /// Given once the engine exists: its steps hold this participant.
    engine: Arc<OnceLock<Handle>>,
}

impl Participant {
    pub fn new(own: AgentAddr, archive: Arc<dyn Archive>, clock: Arc<dyn Clock>) -> Self {
        Self { own, archive, clock, engine: Arc::default() }
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

    /// See [`Peers::prepare`].
    ///
    /// # Errors
    /// See there.
    pub async fn prepare(&self, request: &Prepare) -> Result<String> {
        if let Some(dag) = self.find(&request.main_dag).await? {
            let known = self.engine().load(dag).await?;
            let round =
                serde_json::from_value::<Prepare>(known.definition.params.clone()).map_or(0, |p| p.round);
            if !known.state.is_final() || round >= request.round {
                return Ok(self.reference(dag));
            }
        }
        match self.submit(request).await {
            Err(SubmitError::Journal(JournalError::LockHeld(holder))) => {
                if !self.may_push_aside(&holder, &request.force) {
                    return Err(self.held(&holder));
                }
                self.push_aside(&holder, request).await?;
                let made = self.submit(request).await;
                made.map_err(|error| match error {
                    SubmitError::Journal(JournalError::LockHeld(holder)) => self.held(&holder),
                    other @ (SubmitError::Template(_) | SubmitError::Journal(_)) => other.into(),
                })
            }
            other => other.map_err(Error::from),
        }
        .map(|snapshot| self.reference(snapshot.id))
    }

    async fn submit(&self, request: &Prepare) -> std::result::Result<Snapshot, SubmitError> {
        let fingerprint = json!({ "operation": request.operation }).to_string();
        let key = format!("prepare:{}:{}", request.main_dag, request.round);
        let key = Some(RequestKey { key, fingerprint });
        let submission =
            Submission { template: template(self.own, request), actor: request.actor.clone(), key };
        self.engine().submit(submission).await
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
    pub fn held(&self, holder: &Holder) -> Error {
        let id = self.name_of(holder);
        let text = format!(
            "{} is busy with task [{id}:{}] since {}; wait for it to end, or name {id} in forcePassDag to cancel and pass it",
            self.own,
            holder.name,
            crate::model::on_wire(holder.since)
        );
        let data = json!({
            "genecric_id": "",
            "expected_stage": 0,
            "id": [id],
            "holder": { "id": id, "sub_dag": self.reference(holder.dag), "name": holder.name, "since": holder.since },
        });
        Error::new(Code::UnderMaintenanceDag, text).with_data(data)
    }

    /// `forcePassDag`: ends the holder, its main DAG first so that nothing of it goes on (W43), and records who did it.
    async fn push_aside(&self, holder: &Holder, request: &Prepare) -> Result<()> {
        let holder_ref = self.reference(holder.dag);
        let body = json!({
            "action": "forcePassDag",
            "for": request.main_dag,
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

    /// Ends a lock holder: cancelled if it runs, passed if it rests. Ended already is success.
    async fn finish(&self, dag: DagId, actor: &str) -> Result<()> {
        let rest = self.cancel_and_settle(dag, actor).await?;
        if rest.state.is_final() {
            return Ok(());
        }
        match self.engine().operate(dag, Operator::Pass, actor).await {
            // Somebody else was faster.
            Err(error) if error.code == Code::PassNotFailed => Ok(()),
            other => other,
        }
    }

    async fn find(&self, main_dag: &str) -> Result<Option<DagId>> {
        self.archive.coordinated_by(main_dag).await
    }

    async fn found(&self, main_dag: &str) -> Result<DagId> {
        let found = self.find(main_dag).await?;
        found.ok_or_else(|| {
            Error::new(Code::TaskNotFound, format!("{} has prepared nothing for task {main_dag}", self.own))
        })
    }

    /// See [`Peers::go`].
    ///
    /// # Errors
    /// See there.
    pub async fn go(&self, main_dag: &str) -> Result<()> {
        let dag = self.found(main_dag).await?;
        self.engine().signal(dag, GO, format!("task {main_dag}")).await
    }

    /// See [`Peers::watch`].
    ///
    /// # Errors
    /// See there.
    pub async fn watch(&self, main_dag: &str, since: EventId, wait: Duration) -> Result<PeerView> {
        let dag = self.found(main_dag).await?;
        self.engine().renew(dag);
        let mut feed = self.archive.feed();
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        loop {
            let view = self.view(dag, since).await?;
            if view.version > since {
                return Ok(view);
            }
            loop {
                tokio::select! {
                    () = &mut deadline => return Ok(view),
                    record = feed.recv() => match record {
                        Ok(record) if record.dag == Some(dag) => break,
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return Ok(view),
                    },
                }
            }
        }
    }

    /// Records first, state after: what is shown as new is never newer than the state beside it, and nothing between
    /// the two is lost, because the version is that of the records.
    async fn view(&self, dag: DagId, since: EventId) -> Result<PeerView> {
        let records = self.archive.records(Some(dag), since, LINES_MAX).await?;
        let version = records.last().map_or(since, |last| last.id);
        let lines = records.iter().filter(|r| r.kind == "log").filter_map(|r| line(&r.body)).collect();
        let snapshot = self.engine().load(dag).await?;
        Ok(PeerView {
            sub_dag: self.reference(dag),
            progressed: progressed(&snapshot),
            version,
            lines,
            failure: failure(&snapshot),
        })
    }

    /// See [`Peers::renew`].
    ///
    /// # Errors
    /// See there.
    pub async fn renew(&self, main_dag: &str) -> Result<()> {
        let dag = self.found(main_dag).await?;
        self.engine().renew(dag);
        Ok(())
    }

    /// See [`Peers::end`].
    ///
    /// # Errors
    /// See there.
    pub async fn end(&self, main_dag: &str, actor: &str) -> Result<bool> {
        let Some(dag) = self.find(main_dag).await? else { return Ok(false) };
        self.finish(dag, actor).await?;
        Ok(true)
    }
}

fn line(body: &Value) -> Option<PeerLine> {
    let level = serde_json::from_value::<Level>(body.get("level")?.clone()).ok()?;
    Some(PeerLine { level, text: body.get("text")?.as_str()?.to_owned() })
}

/// What an outsider may know of a sub-DAG. Decided by stage and outcome together, never by FAILED alone (W1).
fn progressed(snapshot: &Snapshot) -> Progressed {
    match snapshot.state {
        DagState::Ready | DagState::Running | DagState::Cancelling if snapshot.has_signal(GO) => {
            Progressed::Running
        }
        DagState::Ready | DagState::Running | DagState::Cancelling => Progressed::Preparing,
        DagState::Waiting if snapshot.nodes[0].state() == NodeState::Waiting => Progressed::Prepared,
        DagState::Waiting => Progressed::Done,
        DagState::Failed => Progressed::Failed,
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

/// [`Peers`] of an agent that is alone: the only peer is itself.
#[derive(Clone, Debug)]
pub struct OnlySelf(pub Participant);

impl OnlySelf {
    fn check(&self, agent: AgentAddr) -> Result<&Participant> {
        if agent == self.0.own {
            return Ok(&self.0);
        }
        Err(Error::new(
            Code::AgentNotExist,
            format!("{agent} is no member of this cluster; {} is", self.0.own),
        ))
    }
}

impl Peers for OnlySelf {
    fn prepare<'a>(&'a self, agent: AgentAddr, request: &'a Prepare) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move { self.check(agent)?.prepare(request).await })
    }

    fn go<'a>(&'a self, agent: AgentAddr, main_dag: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.check(agent)?.go(main_dag).await })
    }

    fn watch<'a>(
        &'a self,
        agent: AgentAddr,
        main_dag: &'a str,
        since: EventId,
        wait: Duration,
    ) -> BoxFuture<'a, Result<PeerView>> {
        Box::pin(async move { self.check(agent)?.watch(main_dag, since, wait).await })
    }

    fn renew<'a>(&'a self, agent: AgentAddr, main_dag: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.check(agent)?.renew(main_dag).await })
    }

    fn end<'a>(&'a self, agent: AgentAddr, main_dag: &'a str, actor: &'a str) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { self.check(agent)?.end(main_dag, actor).await })
    }
}

/// The actor of what the engine does to end its own parts.
pub(super) const RELEASER: &str = ENGINE;

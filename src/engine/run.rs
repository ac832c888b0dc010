//! The asynchronous shell: commits what is planned, starts the steps that are claimed, waits for what happens.
//!
//! One task per live DAG owns its snapshot and is its only writer; many DAGs commit at once and the store groups
//! their commits. A DAG that rests and holds no lease has no task: an operator's wish loads it again.
//!
//! Invariant: nothing is started, and no caller is answered, before the events that say so are committed.
//!
//! Not here: decisions (`plan`, `operate`, `recover`), SQL, what a step does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::event::{At, Event};
use super::operate::{operate, pass_node};
use super::plan::plan;
use super::port::{Change, Journal, JournalError, Level, LogLine, Stamp};
use super::recover::recover;
use super::registry::Registry;
use super::snapshot::Snapshot;
use super::state::{DagState, Heading, Illegal, NodeState, Operator, SubTaskState};
use super::step::{Input, Outcome, StepCtx};
use super::worker::{self, Ended};
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, DagId, GenericId, NodeId};
use crate::tasks::{Kind, Tasks};

/// Who the engine itself is in the records.
pub const ENGINE: &str = "engine";

/// A signal of the engine itself: the DAG was passed because nobody renewed its lease.
pub const LEASE_OVER: &str = "lease over";

/// Pauses between tries to commit an outcome while the store refuses (disk full): nothing is lost meanwhile, the
/// step's end waits in memory and, should the agent die, the step is recovered.
const COMMIT_RETRY: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(15)];

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) own: AgentAddr,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) registry: Registry,
    pub(super) tasks: Tasks,
    pub(super) clock: Arc<dyn Clock>,
    /// Unbounded because every sender is either a step's end, at most one per sub-task, or a caller that waits for
    /// its reply; both are bounded where they are made.
    pub(super) actors: Mutex<HashMap<DagId, mpsc::UnboundedSender<Msg>>>,
}

#[derive(Debug)]
pub(super) enum Msg {
    Finished { at: At, attempt: u32, ended: Ended },
    Note { at: At, attempt: u32, note: Value, reply: oneshot::Sender<Result<()>> },
    Operate { operator: Operator, actor: String, reply: oneshot::Sender<Result<()>> },
    PassNode { node: NodeId, actor: String, reply: oneshot::Sender<Result<()>> },
    Signal { signal: String, actor: String, reply: oneshot::Sender<Result<()>> },
    Renew,
}

/// A running step's way to commit a note.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    at: At,
    attempt: u32,
    inbox: mpsc::UnboundedSender<Msg>,
}

impl Notes {
    pub(super) async fn save(&self, note: Value) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::unexpected("the task does not take notes any more");
        let message = Msg::Note { at: self.at, attempt: self.attempt, note, reply };
        self.inbox.send(message).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Shared {
    pub(super) fn actors(&self) -> MutexGuard<'_, HashMap<DagId, mpsc::UnboundedSender<Msg>>> {
        self.actors.lock().expect("no holder of this lock panics")
    }

    pub(super) fn stamp(&self, actor: impl Into<String>) -> Stamp {
        Stamp { at: self.clock.now(), actor: actor.into() }
    }

    pub(super) async fn load(&self, dag: DagId) -> Result<Snapshot> {
        let found = self.journal.load(dag).await?;
        found.ok_or_else(|| {
            Error::new(Code::TaskNotFound, format!("there is no task {dag} in this agent's store"))
        })
    }

    /// Hands a message to the DAG's task, which is made if there is none; without a message it is only made. The task
    /// stands in the map before it reads the DAG, and leaves the map when nothing is left to be written: never do two of
    /// them write one DAG, and none writes what it has read too early.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub(super) fn tell(shared: &Arc<Self>, dag: DagId, message: Option<Msg>) -> Result<()> {
        let mut actors = shared.actors();
        let inbox = actors.entry(dag).or_insert_with(|| Self::spawn(shared, dag, None));
        let is_gone = message.is_some_and(|message| inbox.send(message).is_err());
        if is_gone { Err(Error::unexpected("the agent is stopping")) } else { Ok(()) }
    }

    /// Takes up a DAG as it was found at the start of the agent.
    pub(super) fn take_up(shared: &Arc<Self>, found: Snapshot) {
        let dag = found.id;
        let inbox = Self::spawn(shared, dag, Some(found));
        shared.actors().insert(dag, inbox);
    }

    fn spawn(shared: &Arc<Self>, dag: DagId, found: Option<Snapshot>) -> mpsc::UnboundedSender<Msg> {
        let (sender, inbox) = mpsc::unbounded_channel();
        // A panic here is a defect of the engine: the agent ends and recovers. Stopping the agent drops it.
        let kind = Kind {
            name: "dag",
            on_failure: crate::tasks::OnFailure::StopAgent,
            on_stop: crate::tasks::OnStop::Drop,
        };
        shared.tasks.spawn(kind, live(Arc::clone(shared), dag, found, inbox, sender.clone()));
        sender
    }
}

/// The life of a DAG's task.
async fn live(
    shared: Arc<Shared>,
    dag: DagId,
    found: Option<Snapshot>,
    inbox: mpsc::UnboundedReceiver<Msg>,
    sender: mpsc::UnboundedSender<Msg>,
) {
    let first = found.as_ref().map(recover).unwrap_or_default();
    let read = match found {
        Some(snapshot) => Ok(snapshot),
        None => shared.load(dag).await,
    };
    match read {
        Ok(snapshot) => {
            Actor { shared, snapshot, inbox, sender, running: HashMap::new() }.run(first).await;
        }
        Err(error) => refuse_all(&shared, dag, inbox, &error),
    }
}

/// Nobody can work on a DAG that cannot be read; whoever asks next tries again.
fn refuse_all(shared: &Shared, dag: DagId, mut inbox: mpsc::UnboundedReceiver<Msg>, error: &Error) {
    shared.actors().remove(&dag);
    while let Ok(message) = inbox.try_recv() {
        match message {
            Msg::Note { reply, .. }
            | Msg::Operate { reply, .. }
            | Msg::PassNode { reply, .. }
            | Msg::Signal { reply, .. } => answer(reply, Err(Error::new(error.code, error.text()))),
            Msg::Finished { .. } | Msg::Renew => {}
        }
    }
}

struct Actor {
    shared: Arc<Shared>,
    snapshot: Snapshot,
    inbox: mpsc::UnboundedReceiver<Msg>,
    sender: mpsc::UnboundedSender<Msg>,
    running: HashMap<At, CancellationToken>,
}

impl Actor {
    async fn run(mut self, first: Vec<Event>) {
        self.advance_surely(first, ENGINE).await;
        loop {
            if self.running.is_empty()
                && self.lease().is_none()
                && self.snapshot.state.is_at_rest()
                && self.leave()
            {
                return;
            }
            let lease = self.lease();
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    Some(message) => self.handle(message).await,
                    None => return,
                },
                () = expiry(lease) => self.expire().await,
            }
        }
    }

    /// Gives up the DAG's task unless somebody has just written to it.
    fn leave(&mut self) -> bool {
        let mut actors = self.shared.actors();
        let is_quiet = self.inbox.is_empty();
        if is_quiet {
            actors.remove(&self.snapshot.id);
        }
        is_quiet
    }

    /// The lease that runs while the DAG rests with its lock.
    fn lease(&self) -> Option<Duration> {
        let resting = matches!(self.snapshot.state, DagState::Waiting | DagState::Failed);
        let lock = self.snapshot.definition.lock.filter(|_| resting && self.snapshot.holds_lock);
        lock.and_then(|lock| lock.lease_secs).map(Duration::from_secs)
    }

    async fn expire(&mut self) {
        let reason = "its coordinator did not renew the lease".to_owned();
        let mut events = Vec::new();
        if self.snapshot.state == DagState::Waiting {
            events.push(Event::Signalled { signal: LEASE_OVER.to_owned() });
            events.push(Event::Passed);
        }
        events.push(Event::LockReleased { reason });
        self.advance_surely(events, "lease").await;
    }

    async fn handle(&mut self, message: Msg) {
        match message {
            Msg::Finished { at, attempt, ended } => self.finish(at, attempt, ended).await,
            Msg::Note { at, attempt, note, reply } => {
                let result = self.advance(vec![Event::Noted { at, attempt, note }], ENGINE).await;
                answer(reply, result);
            }
            Msg::Operate { operator, actor, reply } => {
                let result = match operate(&self.snapshot, operator) {
                    Ok(events) => self.advance(events, &actor).await,
                    Err(refused) => Err(refused.into()),
                };
                answer(reply, result);
            }
            Msg::PassNode { node, actor, reply } => {
                let index = self.snapshot.nodes.iter().position(|n| n.id == node);
                let result = match index.map(|index| pass_node(&self.snapshot, index)) {
                    Some(Ok(events)) => self.advance(events, &actor).await,
                    Some(Err(refused)) => Err(refused.into()),
                    None => Err(Error::new(Code::TaskNotFound, format!("there is no node {node}"))),
                };
                answer(reply, result);
            }
            Msg::Signal { signal, actor, reply } => {
                let result = self.take_signal(signal, &actor).await;
                answer(reply, result);
            }
            // The lease begins anew with the next turn of the loop.
            Msg::Renew => {}
        }
    }

    async fn take_signal(&mut self, signal: String, actor: &str) -> Result<()> {
        let mut events = Vec::new();
        if !self.snapshot.has_signal(&signal) {
            events.push(Event::Signalled { signal });
        }
        if self.snapshot.state == DagState::Waiting {
            events.push(Event::RetryAsked);
        }
        self.advance(events, actor).await
    }

    async fn finish(&mut self, at: At, attempt: u32, ended: Ended) {
        self.running.remove(&at);
        let event = match ended {
            Ended::Done(Outcome::Done(output)) => Event::Succeeded { at, attempt, output },
            Ended::Done(Outcome::Wait) => Event::Waits { at, attempt },
            Ended::Failed(failure) => {
                self.log(at, Level::Error, format!("[{}]: {}", failure.code, failure.text));
                Event::Failed { at, attempt, failure }
            }
            Ended::Stopped => {
                self.log(at, Level::Info, "cancelled".to_owned());
                Event::Stopped { at, attempt }
            }
        };
        self.advance_surely(vec![event], ENGINE).await;
    }

    fn log(&self, at: At, level: Level, text: String) {
        let sub = self.snapshot.sub_task(at);
        self.shared.journal.log(LogLine {
            dag: self.snapshot.id,
            sub_task: sub.id,
            attempt: sub.execute_times,
            dag_name: self.snapshot.definition.name.as_str().into(),
            node_name: self.snapshot.definition_of(at.node).name.as_str().into(),
            level,
            text,
            fields: Value::Null,
        });
    }

    /// Commits these events and all that follow from them, then acts.
    async fn advance(&mut self, events: Vec<Event>, actor: &str) -> Result<()> {
        let stamp = self.shared.stamp(actor);
        let (events, after) = self.lead(events, &stamp).map_err(|e| Error::unexpected(e.to_string()))?;
        Ok(self.commit(&events, after, stamp).await?)
    }

    /// For what has happened already and must be recorded: tries until the store takes it.
    async fn advance_surely(&mut self, events: Vec<Event>, actor: &str) {
        let stamp = self.shared.stamp(actor);
        let (events, after) = match self.lead(events, &stamp) {
            Ok(led) => led,
            Err(illegal) => {
                tracing::error!(dag = %self.snapshot.id, %illegal, "a defect of the engine: an outcome was dropped");
                return;
            }
        };
        let last = COMMIT_RETRY[COMMIT_RETRY.len() - 1];
        let mut pauses = COMMIT_RETRY.iter().copied().chain(std::iter::repeat(last));
        while let Err(error) = self.commit(&events, after.clone(), stamp.clone()).await {
            assert!(!matches!(error, JournalError::Stale), "somebody else writes task {}", self.snapshot.id);
            let error = Error::from(error);
            let pause = pauses.next().unwrap_or(last);
            tracing::error!(dag = %self.snapshot.id, cause = %error.chain(), retry_secs = pause.as_secs(), "a task's progress could not be recorded");
            tokio::time::sleep(pause).await;
        }
    }

    /// These events, all that follow from them, and where they lead.
    fn lead(&self, mut events: Vec<Event>, stamp: &Stamp) -> Result<(Vec<Event>, Snapshot), Illegal> {
        let mut after = self.snapshot.clone();
        for event in &events {
            after.apply(event, stamp.at)?;
        }
        for event in plan(&after) {
            after.apply(&event, stamp.at)?;
            if let Event::Skipped { at } = event {
                self.log(at, Level::Info, "cancelled before it began".to_owned());
            }
            events.push(event);
        }
        after.revision += 1;
        Ok((events, after))
    }

    async fn commit(&mut self, events: &[Event], after: Snapshot, stamp: Stamp) -> Result<(), JournalError> {
        if events.is_empty() {
            return Ok(());
        }
        let revision = self.snapshot.revision;
        let change = Change { revision, events: events.to_vec(), stamp, after: Arc::new(after.clone()) };
        self.shared.journal.append(change).await?;
        self.snapshot = after;
        self.act(events);
        Ok(())
    }

    fn act(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Claimed { at, heading, .. } => self.dispatch(*at, *heading, false),
                Event::Resumed { at } => {
                    self.dispatch(*at, self.snapshot.heading, true);
                }
                Event::CancelAsked => self.cancel_running(),
                Event::Created { .. }
                | Event::Started
                | Event::Noted { .. }
                | Event::Succeeded { .. }
                | Event::Failed { .. }
                | Event::Waits { .. }
                | Event::Stopped { .. }
                | Event::Skipped { .. }
                | Event::RetryAsked
                | Event::RollbackAsked
                | Event::Passed
                | Event::NodePassed { .. }
                | Event::Signalled { .. }
                | Event::Ended { .. }
                | Event::LockTaken
                | Event::LockReleased { .. } => {}
            }
        }
    }

    fn cancel_running(&self) {
        for (at, token) in &self.running {
            if !self.snapshot.definition_of(at.node).is_always {
                token.cancel();
            }
        }
    }

    fn dispatch(&mut self, at: At, heading: Heading, is_resumed: bool) {
        let def = self.snapshot.definition_of(at.node);
        let (attempt, sender) = (self.snapshot.sub_task(at).execute_times, self.sender.clone());
        // Not a child of the agent's: an agent that stops drops its steps where they are, and the next one takes them up; a
        // step that saw a cancel there would end as cancelled.
        let token = CancellationToken::new();
        self.running.insert(at, token.clone());
        let Some(step) = self.shared.registry.get(&def.step).cloned() else {
            let error = Error::unexpected(format!("this version of the agent has no step '{}'", def.step));
            deliver(&sender, Msg::Finished { at, attempt, ended: Ended::Failed((&error).into()) });
            return;
        };
        if is_resumed {
            let text = "the agent ended while this step ran; started again, it goes on from what it finds";
            self.log(at, Level::Warn, text.to_owned());
        }
        let deadline = self.remaining(at);
        let ctx = Arc::new(self.context(at, token, is_resumed));
        self.shared.tasks.spawn(Kind::helper("step"), async move {
            let ended = worker::execute(step, ctx, heading, deadline).await;
            deliver(&sender, Msg::Finished { at, attempt, ended });
        });
    }

    /// A resumed execution keeps its start, so its deadline goes on counting; it gets a moment at least.
    fn remaining(&self, at: At) -> Duration {
        let whole = Duration::from_secs(self.snapshot.definition_of(at.node).deadline_secs);
        let since = self.snapshot.sub_task(at).started_at.unwrap_or_else(|| self.shared.clock.now());
        let spent = self.shared.clock.now().duration_since(since);
        let spent = Duration::try_from(spent).unwrap_or_default();
        whole.saturating_sub(spent).max(Duration::from_secs(1))
    }

    fn context(&self, at: At, token: CancellationToken, is_resumed: bool) -> StepCtx {
        let snapshot = &self.snapshot;
        let sub = snapshot.sub_task(at);
        let def = snapshot.definition_of(at.node);
        StepCtx {
            dag: snapshot.id,
            dag_ref: GenericId::agent(self.shared.own, snapshot.id.0).to_string(),
            dag_name: snapshot.definition.name.as_str().into(),
            node_name: def.name.as_str().into(),
            sub_task: sub.id,
            agent: sub.agent,
            attempt: sub.execute_times,
            asked_at: snapshot.started_at.unwrap_or(snapshot.created_at),
            is_resumed,
            token,
            is_cancelled: snapshot.operator == Operator::Cancel,
            is_failing: snapshot.nodes.iter().any(|n| n.state() == NodeState::Failed),
            params: Arc::clone(&snapshot.definition),
            inputs: inputs(snapshot, at),
            signals: snapshot.signals.clone(),
            note: sub.note.clone(),
            notes: Notes { at, attempt: sub.execute_times, inbox: self.sender.clone() },
            journal: Arc::clone(&self.shared.journal),
        }
    }
}

/// Results of every node before this one. Its own output is among them when it is being undone.
fn inputs(snapshot: &Snapshot, at: At) -> Vec<Input> {
    let earlier = snapshot.sub_tasks().filter(|(place, _)| place.node <= at.node);
    let inputs = earlier.map(|(place, sub)| Input {
        step: snapshot.definition_of(place.node).step.clone(),
        agent: sub.agent,
        data: sub.output.as_ref().map_or(Value::Null, |output| output.data.clone()),
        is_done: sub.state == SubTaskState::Succeeded || (place == at && sub.output.is_some()),
    });
    inputs.collect()
}

fn answer(reply: oneshot::Sender<Result<()>>, result: Result<()>) {
    if reply.send(result).is_err() {
        tracing::debug!("a caller has gone before its answer");
    }
}

fn deliver(inbox: &mpsc::UnboundedSender<Msg>, message: Msg) {
    if inbox.send(message).is_err() {
        tracing::debug!("a step ended after its task; recovery takes care of it");
    }
}

async fn expiry(lease: Option<Duration>) {
    match lease {
        Some(lease) => tokio::time::sleep(lease).await,
        None => std::future::pending().await,
    }
}

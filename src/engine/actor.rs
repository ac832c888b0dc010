//! The one writer of a live DAG: its snapshot, its inbox, the steps that run for it.
//!
//! Invariant: nothing is started, and no caller is answered, before the events that say so are committed.
//!
//! Not here: how a DAG gets its task and who finds it (`run`), decisions (`plan`, `operate`, `steer`, `single`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::event::{At, Event};
use super::operate::{Refused, lease_over, operate, pass_node};
use super::plan::follow;
use super::port::{Change, JournalError, Level, LogLine, Stamp};
use super::run::{ENGINE, Msg, Notes, Shared, answer, deliver};
use super::single::single;
use super::snapshot::Snapshot;
use super::state::{DagState, Heading, Illegal, NodeState, Operator, SubTaskState};
use super::steer::steer;
use super::step::{Outcome, StepCtx};
use super::worker::{self, Ended};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, GenericId};
use crate::tasks::Kind;

/// Pauses between tries to commit an outcome while the store refuses (disk full): nothing is lost meanwhile, the
/// step's end waits in memory and, should the agent die, the step is recovered.
const COMMIT_RETRY: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(15)];

/// Outcomes and notes in one commit at most.
const BATCH_MAX: usize = 1_024;

/// Events, and where they lead.
type Led = (Arc<[Event]>, Arc<Snapshot>);

pub(super) struct Actor {
    pub(super) shared: Arc<Shared>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) inbox: mpsc::UnboundedReceiver<Msg>,
    pub(super) sender: mpsc::UnboundedSender<Msg>,
    pub(super) shown: watch::Sender<Option<Arc<Snapshot>>>,
    pub(super) running: HashMap<At, CancellationToken>,
    /// Cancelled while a pause or an abort is asked for; a new one after each.
    pub(super) steering: CancellationToken,
    /// Taken out of the inbox already.
    pub(super) next: Option<Msg>,
    pub(super) names: Names,
}

/// What a DAG is called, for its steps.
pub(super) struct Names {
    dag_ref: Arc<str>,
    dag_name: Arc<str>,
}

impl Names {
    pub(super) fn of(own: AgentAddr, dag: &Snapshot) -> Self {
        let dag_ref = GenericId::agent(own, dag.id.0).to_string().into();
        Self { dag_ref, dag_name: dag.definition.name.as_str().into() }
    }
}

impl Actor {
    pub(super) async fn run(mut self) {
        loop {
            if self.next.is_none()
                && self.running.is_empty()
                && self.lease().is_none()
                && self.snapshot.state.is_at_rest()
                && self.leave()
            {
                return;
            }
            if let Some(message) = self.next.take() {
                self.handle(message).await;
                continue;
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

    /// Starts what was claimed when the DAG was created. What was cancelled meanwhile begins only to end.
    pub(super) fn begin(&mut self) {
        let snapshot = Arc::clone(&self.snapshot);
        for (at, sub) in snapshot.sub_tasks().filter(|(_, sub)| sub.state.is_active()) {
            if !self.running.contains_key(&at) {
                self.dispatch(at, snapshot.heading, false);
                if sub.state == SubTaskState::Cancelling
                    && let Some(token) = self.running.get(&at)
                {
                    token.cancel();
                }
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
        self.advance_surely(lease_over(&self.snapshot), "lease").await;
    }

    async fn handle(&mut self, message: Msg) {
        match message {
            Msg::Finished { .. } | Msg::Note { .. } => self.record(message).await,
            Msg::Operate { operator, actor, reply } => {
                let result = self.grant(operate(&self.snapshot, operator), &actor).await;
                answer(reply, result);
            }
            Msg::PassNode { node, actor, reply } => {
                let index = self.snapshot.nodes.iter().position(|n| n.id == node);
                let result = match index.map(|index| pass_node(&self.snapshot, index)) {
                    Some(granted) => self.grant(granted, &actor).await,
                    None => Err(Error::new(Code::TaskNotFound, format!("there is no node {node}"))),
                };
                answer(reply, result);
            }
            Msg::Steer { wish, actor, reply } => {
                let result = self.grant(steer(&self.snapshot, wish), &actor).await;
                answer(reply, result);
            }
            Msg::Single { wish, sub_task, actor, reply } => {
                let at = self.snapshot.sub_tasks().find(|(_, sub)| sub.id == sub_task).map(|(at, _)| at);
                let result = match at.map(|at| single(&self.snapshot, wish, at)) {
                    Some(granted) => self.grant(granted, &actor).await,
                    None => Err(Error::new(Code::TaskNotFound, format!("there is no sub-task {sub_task}"))),
                };
                answer(reply, result);
            }
            Msg::Signal { signal, actor, reply } => {
                let result = self.take_signal(signal, &actor).await;
                answer(reply, result);
            }
            // The lease begins anew with the next turn of the loop.
            Msg::Renew => {}
            Msg::Begin => self.begin(),
        }
    }

    /// Outcomes and notes of steps, with all others that have come meanwhile: one commit for all of them, and one plan.
    async fn record(&mut self, first: Msg) {
        let (mut notes, mut noted, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut message = Some(first);
        while let Some(next) = message.take() {
            match next {
                Msg::Finished { at, attempt, ended } => ends.push(self.end_of(at, attempt, ended)),
                // Before the outcome of the same execution, whatever stands between them.
                Msg::Note { at, attempt, note, reply } => {
                    notes.push(Event::Noted { at, attempt, note });
                    noted.push(reply);
                }
                other @ (Msg::Operate { .. }
                | Msg::PassNode { .. }
                | Msg::Steer { .. }
                | Msg::Single { .. }
                | Msg::Signal { .. }
                | Msg::Renew
                | Msg::Begin) => {
                    self.next = Some(other);
                    break;
                }
            }
            if notes.len() + ends.len() < BATCH_MAX {
                message = self.inbox.try_recv().ok();
            }
        }
        if notes.is_empty() {
            return self.advance_surely(ends, ENGINE).await;
        }
        let stamp = self.shared.stamp(ENGINE);
        let refused = self.refused(&notes, &stamp);
        let accepted = notes.into_iter().zip(&refused).filter(|(_, why)| why.is_none()).map(|(note, _)| note);
        let all = accepted.chain(ends.iter().cloned()).collect();
        let led = self.lead_what_can(all, &stamp);
        let committed = self.commit(led, stamp).await;
        let is_committed = committed.is_ok();
        let failed = committed.err().map(Error::from);
        for (reply, why) in noted.into_iter().zip(refused) {
            let result = match (why, &failed) {
                (Some(illegal), _) => Err(Error::unexpected(illegal.to_string())),
                (None, Some(error)) => Err(Error::new(error.code, error.text())),
                (None, None) => Ok(()),
            };
            answer(reply, result);
        }
        // A step that could not note what it is about to do does not do it; what has ended has ended.
        if !is_committed {
            self.advance_surely(ends, ENGINE).await;
        }
    }

    /// For each note, why it cannot be taken: its execution is over.
    fn refused(&self, notes: &[Event], stamp: &Stamp) -> Vec<Option<Illegal>> {
        let mut after = (*self.snapshot).clone();
        notes.iter().map(|note| after.apply(note, stamp.at).err()).collect()
    }

    async fn grant(&mut self, granted: std::result::Result<Vec<Event>, Refused>, actor: &str) -> Result<()> {
        self.advance(granted?, actor).await
    }

    async fn take_signal(&mut self, signal: String, actor: &str) -> Result<()> {
        let mut events = Vec::new();
        if !self.snapshot.has_signal(&signal) {
            events.push(Event::Signalled { signal });
        }
        // One that is paused waits for somebody else.
        let waits = self.snapshot.sub_tasks().any(|(_, sub)| sub.state == SubTaskState::Waiting);
        if self.snapshot.state == DagState::Waiting && waits {
            events.push(Event::RetryAsked);
        }
        self.advance(events, actor).await
    }

    fn end_of(&mut self, at: At, attempt: u32, ended: Ended) -> Event {
        self.running.remove(&at);
        match ended {
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
        }
    }

    fn log(&self, at: At, level: Level, text: String) {
        let sub = self.snapshot.sub_task(at);
        self.shared.journal.log(LogLine {
            dag: self.snapshot.id,
            node: self.snapshot.nodes[at.node].id,
            sub_task: sub.id,
            attempt: sub.execute_times,
            dag_name: Arc::clone(&self.names.dag_name),
            node_name: self.snapshot.definition_of(at.node).name.as_str().into(),
            level,
            text,
            fields: Value::Null,
        });
    }

    /// Commits these events and all that follow from them, then acts.
    async fn advance(&mut self, events: Vec<Event>, actor: &str) -> Result<()> {
        let stamp = self.shared.stamp(actor);
        let led = self.lead(events, &stamp).map_err(|e| Error::unexpected(e.to_string()))?;
        Ok(self.commit(led, stamp).await?)
    }

    /// For what has happened already and must be recorded: tries until the store takes it.
    pub(super) async fn advance_surely(&mut self, events: Vec<Event>, actor: &str) {
        let stamp = self.shared.stamp(actor);
        let led = self.lead_what_can(events, &stamp);
        let last = COMMIT_RETRY[COMMIT_RETRY.len() - 1];
        let mut pauses = COMMIT_RETRY.iter().copied().chain(std::iter::repeat(last));
        while let Err(error) = self.commit(led.clone(), stamp.clone()).await {
            assert!(!matches!(error, JournalError::Stale), "somebody else writes task {}", self.snapshot.id);
            let error = Error::from(error);
            let pause = pauses.next().unwrap_or(last);
            tracing::error!(dag = %self.snapshot.id, cause = %error.chain(), retry_secs = pause.as_secs(), "a task's progress could not be recorded");
            tokio::time::sleep(pause).await;
        }
    }

    /// These events, all that follow from them, and where they lead.
    fn lead(&self, events: Vec<Event>, stamp: &Stamp) -> Result<Led, Illegal> {
        let mut after = (*self.snapshot).clone();
        for event in &events {
            after.apply(event, stamp.at)?;
        }
        Ok(self.led(events, after, stamp))
    }

    /// The same without those that cannot be.
    fn lead_what_can(&self, mut events: Vec<Event>, stamp: &Stamp) -> Led {
        let mut after = (*self.snapshot).clone();
        events.retain(|event| {
            let applied = after.apply(event, stamp.at);
            if let Err(illegal) = &applied {
                tracing::error!(dag = %self.snapshot.id, %illegal, "a defect of the engine: an outcome was dropped");
            }
            applied.is_ok()
        });
        self.led(events, after, stamp)
    }

    fn led(&self, mut events: Vec<Event>, mut after: Snapshot, stamp: &Stamp) -> Led {
        let is_abort = after.state != DagState::Cancelling;
        for event in follow(&mut after, stamp.at) {
            if let Event::Skipped { at } = event {
                let what = if is_abort { "aborted" } else { "cancelled" };
                self.log(at, Level::Info, format!("{what} before it began"));
            }
            events.push(event);
        }
        after.revision += 1;
        (events.into(), Arc::new(after))
    }

    async fn commit(&mut self, (events, after): Led, stamp: Stamp) -> Result<(), JournalError> {
        if events.is_empty() {
            return Ok(());
        }
        let revision = self.snapshot.revision;
        let change = Change { revision, events: Arc::clone(&events), stamp, after: Arc::clone(&after) };
        self.shared.journal.append(change).await?;
        self.snapshot = after;
        self.shown.send_replace(Some(Arc::clone(&self.snapshot)));
        self.act(&events);
        Ok(())
    }

    fn act(&mut self, events: &[Event]) {
        self.pass_on_steering();
        for event in events {
            match event {
                Event::Claimed { at, heading, .. } => self.dispatch(*at, *heading, false),
                Event::Resumed { at } => {
                    self.dispatch(*at, self.snapshot.heading, true);
                }
                Event::CancelAsked => self.cancel_running(),
                Event::SubTaskCancelAsked { at } => {
                    if let Some(token) = self.running.get(at) {
                        token.cancel();
                    }
                }
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
                | Event::SubTaskRetryAsked { .. }
                | Event::SubTaskPassed { .. }
                | Event::Signalled { .. }
                | Event::Ended { .. }
                | Event::LockTaken
                | Event::LockReleased { .. } => {}
            }
        }
    }

    /// Steps that run hear of a pause or an abort; those that begin after a resume hear only of the next one.
    pub(super) fn pass_on_steering(&mut self) {
        if self.snapshot.steer().is_some() {
            self.steering.cancel();
        } else if self.steering.is_cancelled() {
            self.steering = CancellationToken::new();
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
            dag_ref: Arc::clone(&self.names.dag_ref),
            dag_name: Arc::clone(&self.names.dag_name),
            node_name: def.name.as_str().into(),
            sub_task: sub.id,
            agent: sub.agent,
            attempt: sub.execute_times,
            asked_at: snapshot.started_at.unwrap_or(snapshot.created_at),
            is_resumed,
            token,
            steering: self.steering.clone(),
            is_cancelled: snapshot.operator == Operator::Cancel,
            is_failing: snapshot.nodes.iter().any(|n| n.state() == NodeState::Failed),
            snapshot: Arc::clone(snapshot),
            at,
            notes: Notes { at, attempt: sub.execute_times, inbox: self.sender.clone() },
            journal: Arc::clone(&self.shared.journal),
        }
    }
}

async fn expiry(lease: Option<Duration>) {
    match lease {
        Some(lease) => tokio::time::sleep(lease).await,
        None => std::future::pending().await,
    }
}

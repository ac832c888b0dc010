//! What a flow implements: a step, and what it is given when it runs.
//!
//! Laws of a step:
//! - It first looks whether its goal is already true, and then says so and succeeds.
//! - It may be dropped at any `await` (cancel, deadline, stop of the agent) and the process may die at any
//!   instruction; run again it leads to the same end. What it must find again it notes *before* the effect.
//! - Its undo is safe to run twice, and safe to run when the step did nothing or only half.
//! - Everything it waits for has a deadline or is an event that must come; it says what it waits for.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::event::{At, Output};
use super::port::{Journal, Level, LogLine};
use super::snapshot::{Snapshot, SubTask};
use super::state::SubTaskState;
use super::template::Caps;
use crate::error::{Error, Result};
use crate::flow::ports::Progress;
use crate::model::{AgentAddr, DagId, SubTaskId, Timestamp};

/// What never changes about a step.
#[derive(Clone, Copy, Debug)]
pub struct StepSpec {
    /// Stable key, `flow.step`; a rename changes the stored format.
    pub key: &'static str,
    pub caps: Caps,
    /// For one execution.
    pub deadline: Duration,
}

/// How an execution ended well.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Done(Output),
    /// Nothing more to do until the coordinator or an operator says so.
    Wait,
}

impl Outcome {
    pub fn done() -> Result<Self> {
        Ok(Self::Done(Output::default()))
    }

    /// Data for later steps of the same DAG.
    pub fn with(data: impl serde::Serialize) -> Result<Self> {
        Ok(Self::Done(Output { data: to_value(data)?, shown: Value::Null }))
    }

    /// The same, and what clients see as `additional_data`.
    pub fn shown(data: impl serde::Serialize, shown: Value) -> Result<Self> {
        Ok(Self::Done(Output { data: to_value(data)?, shown }))
    }
}

fn to_value(data: impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(data).map_err(|e| Error::unexpected("a result cannot be stored").with_source(e))
}

pub trait Step: Send + Sync + Debug {
    fn spec(&self) -> StepSpec;

    /// # Errors
    /// The reason for the failure, written for the operator.
    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>>;

    /// Takes back what `run` did. By default there is nothing.
    ///
    /// # Errors
    /// The reason why it could not be taken back.
    fn undo<'a>(&'a self, _ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// The result of an earlier node for one agent.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub agent: AgentAddr,
    pub data: &'a Value,
    /// It ended well; a step that runs always sees the others too.
    pub is_done: bool,
}

/// Everything a running step knows and may tell.
#[derive(Debug)]
pub struct StepCtx {
    pub dag: DagId,
    /// Generic id of the DAG, as clients and peers know it.
    pub dag_ref: Arc<str>,
    pub dag_name: Arc<str>,
    pub node_name: Arc<str>,
    pub sub_task: SubTaskId,
    /// The agent this sub-task is about.
    pub agent: AgentAddr,
    pub attempt: u32,
    /// When the DAG was asked for, or its round by a RETRY.
    pub asked_at: Timestamp,
    /// An execution that was interrupted by a crash goes on under the same number.
    pub is_resumed: bool,
    /// Somebody cancels, or the deadline is over: stop at the next sensible place.
    pub token: CancellationToken,
    /// A node of the DAG failed or was cancelled before this one (only a node that runs always sees true).
    pub is_failing: bool,
    /// The DAG was cancelled by somebody (only a node that runs always sees true).
    pub is_cancelled: bool,
    /// Cancelled when a pause or an abort was asked for.
    pub(super) steering: CancellationToken,
    /// The DAG as it was when this execution began, and the place of this sub-task in it.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) at: At,
    pub(super) notes: super::run::Notes,
    pub(super) journal: Arc<dyn Journal>,
}

impl StepCtx {
    /// The flow's parameters.
    ///
    /// # Errors
    /// When the stored ones do not fit: a defect of ours or a store of another version.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P> {
        P::deserialize(&self.snapshot.definition.params)
            .map_err(|e| Error::unexpected("the task's parameters cannot be read").with_source(e))
    }

    /// Its node's place in the DAG, from 0: tells apart the nodes of one step.
    pub fn node(&self) -> usize {
        self.at.node
    }

    /// The first of its node's sub-tasks.
    pub fn is_first(&self) -> bool {
        self.at.sub == 0
    }

    pub fn main_dag(&self) -> Option<&str> {
        self.snapshot.definition.main_dag.as_deref()
    }

    /// Results of an earlier step, one per agent, in the order of its targets. Its own is among them when it is being
    /// undone.
    pub fn inputs_of<'a>(&'a self, step: &'a str) -> impl Iterator<Item = Input<'a>> {
        let nodes = self.snapshot.nodes.iter().zip(&self.snapshot.definition.nodes).enumerate();
        let earlier = nodes.filter(move |(node, (_, def))| *node <= self.at.node && def.step == step);
        earlier.flat_map(move |(node, (found, _))| {
            let subs = found.sub_tasks.iter().enumerate();
            subs.map(move |(sub, known)| self.input_from(At { node, sub }, known))
        })
    }

    fn input_from<'a>(&self, at: At, known: &'a SubTask) -> Input<'a> {
        Input {
            agent: known.agent,
            data: known.output.as_ref().map_or(&Value::Null, |output| &output.data),
            is_done: known.state == SubTaskState::Succeeded || (at == self.at && known.output.is_some()),
        }
    }

    /// The result of an earlier step for this agent, or of its only sub-task.
    ///
    /// # Errors
    /// When there is none or it has another shape.
    pub fn input<T: DeserializeOwned>(&self, step: &str) -> Result<T> {
        let mut found = self.inputs_of(step).filter(|input| input.is_done).peekable();
        let first = found.peek().copied();
        let input = found.find(|input| input.agent == self.agent).or(first);
        let data = input.ok_or_else(|| Error::unexpected(format!("step {step} has left no result")))?;
        T::deserialize(data.data).map_err(|e| {
            Error::unexpected(format!("the result of step {step} cannot be read")).with_source(e)
        })
    }

    /// How long one execution may take in all.
    pub fn allowed(&self) -> Duration {
        Duration::from_secs(self.snapshot.definition_of(self.at.node).deadline_secs)
    }

    pub fn has_signal(&self, signal: &str) -> bool {
        self.snapshot.has_signal(signal)
    }

    /// What this execution noted before it was interrupted.
    pub fn note<T: DeserializeOwned>(&self) -> Option<T> {
        self.snapshot.sub_task(self.at).note.as_ref().and_then(|note| T::deserialize(note).ok())
    }

    /// Commits what must be found again after a crash; returns when it is durable.
    ///
    /// # Errors
    /// When the store cannot keep it: then the effect must not happen.
    pub async fn save_note(&self, note: impl serde::Serialize) -> Result<()> {
        self.notes.save(to_value(note)?).await
    }

    /// For a step that only waits here: a cancel ends it at once. What is dropped half way must be harmless.
    ///
    /// # Errors
    /// Those of the future, and that it was cancelled.
    pub async fn waiting<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        let ended = self.token.run_until_cancelled(future).await;
        ended.unwrap_or_else(|| Err(Error::unexpected("the waiting was cancelled")))
    }

    /// Completes when a pause or an abort was asked for, also if that was before this step began. A step that merely
    /// lets time pass may then end; one that acts need not look.
    pub async fn steered(&self) {
        self.steering.cancelled().await;
    }

    pub fn log(&self, level: Level, text: impl Into<String>) {
        self.log_with(level, text, Value::Null);
    }

    /// A line of the task's record, with fields for machines.
    pub fn log_with(&self, level: Level, text: impl Into<String>, fields: Value) {
        self.journal.log(LogLine {
            dag: self.dag,
            node: self.snapshot.nodes[self.at.node].id,
            sub_task: self.sub_task,
            attempt: self.attempt,
            dag_name: Arc::clone(&self.dag_name),
            node_name: Arc::clone(&self.node_name),
            level,
            text: text.into(),
            fields,
        });
    }

    /// Waiting for something outside: what, on whom, until when. Shown by CLI and API while it lasts.
    pub fn log_wait(&self, what: &str, deadline: Duration) {
        let text = format!("waiting for {what}, at most {} s", deadline.as_secs());
        self.log_with(Level::Info, text, json!({ "waits_for": what, "deadline_secs": deadline.as_secs() }));
    }
}

impl Progress for StepCtx {
    fn info(&self, text: &str) {
        self.log(Level::Info, text);
    }

    fn warn(&self, text: &str) {
        self.log(Level::Warn, text);
    }
}

//! The engine's face: DAGs are submitted, operated, signalled and looked at through a [`Handle`].
//!
//! Invariant: no caller is answered before the events that its answer tells of are committed.
//!
//! Not here: who runs a DAG and when (`run`), what may be done to it (`operate`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, oneshot};

use super::port::{Journal, JournalError, NewDag, RequestKey};
use super::registry::Registry;
use super::run::{Msg, Shared};
use super::single::Single;
use super::snapshot::Snapshot;
use super::state::{Operator, Steer};
use super::template::{Definition, Template, TemplateError};
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, DagId, NodeId, SubTaskId};
use crate::tasks::{Kind, Tasks};

/// How many DAGs that were found at the start are read, and wait for their first commit, at a time: few enough for the store to
/// take them, enough to fill its groups.
const TAKEN_UP_AT_ONCE: usize = 1_024;

#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// A DAG to be made.
#[derive(Clone, Debug)]
pub struct Submission {
    pub template: Template,
    pub actor: String,
    pub key: Option<RequestKey>,
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the flow has a defect")]
    Template(#[from] TemplateError),
    #[error("the task could not be recorded")]
    Journal(#[from] JournalError),
}

impl From<SubmitError> for Error {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Template(defect) => Self::new(Code::TaskCreateFailed, defect.to_string()),
            SubmitError::Journal(JournalError::Store(inner)) => {
                Self::new(Code::TaskCreateFailed, format!("the task could not be recorded: {inner}"))
                    .with_source(inner)
            }
            SubmitError::Journal(other) => other.into(),
        }
    }
}

impl Handle {
    pub fn new(
        own: AgentAddr,
        journal: Arc<dyn Journal>,
        registry: Registry,
        tasks: Tasks,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let actors = Mutex::new(HashMap::new());
        Self { shared: Arc::new(Shared { own, journal, registry, tasks, clock, actors }) }
    }

    /// Takes up every DAG that was live when the agent ended. Returns how many.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recover(&self) -> Result<usize> {
        let permits = Arc::new(Semaphore::new(TAKEN_UP_AT_ONCE));
        let (mut count, mut last) = (0, DagId(0));
        loop {
            let live = self.shared.journal.live(last, TAKEN_UP_AT_ONCE).await?;
            let Some(newest) = live.last() else { return Ok(count) };
            last = newest.id;
            count += live.len();
            for snapshot in live {
                let permit = Arc::clone(&permits).acquire_owned().await;
                let permit =
                    permit.map_err(|e| Error::unexpected("the recovery was closed").with_source(e))?;
                Shared::take_up(&self.shared, snapshot, permit);
            }
        }
    }

    /// Records a DAG and starts it. The answer is as created: READY, nothing has run.
    ///
    /// # Errors
    /// [`SubmitError`]; a held lock names its holder.
    pub async fn submit(&self, submission: Submission) -> Result<Snapshot, SubmitError> {
        let Submission { template, actor, key } = submission;
        let definition = template.define(&self.shared.registry)?;
        let new = NewDag { definition, stamp: self.shared.stamp(actor), key, begins: true };
        // A caller who goes, as a client does that closes its connection, leaves no task that is recorded and never begun.
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.to_its_end(Kind::helper("submit"), async move { shared.create(new).await }).await
    }

    /// The DAG that a template would make, without making it.
    ///
    /// # Errors
    /// When the flow has a defect.
    pub fn define(&self, template: Template) -> Result<Definition> {
        template.define(&self.shared.registry).map_err(|defect| SubmitError::from(defect).into())
    }

    /// Applies an operator; returns when the new state can be read back.
    ///
    /// # Errors
    /// `Task.NotFound`, the refusals of `operate`, a held lock, or a failing store.
    pub async fn operate(&self, dag: DagId, operator: Operator, actor: impl Into<String>) -> Result<()> {
        let actor = actor.into();
        self.ask(dag, |reply| Msg::Operate { operator, actor, reply }).await
    }

    /// PASS on one node.
    ///
    /// # Errors
    /// As [`Handle::operate`].
    pub async fn pass_node(&self, dag: DagId, node: NodeId, actor: impl Into<String>) -> Result<()> {
        let actor = actor.into();
        self.ask(dag, |reply| Msg::PassNode { node, actor, reply }).await
    }

    /// Asks for a pause or an abort at the next safe point, or takes that back; returns when it is recorded, which may be long
    /// before it takes effect. Repeating it is harmless.
    ///
    /// # Errors
    /// `Task.NotFound`, `Task.Dag.Operator.SteerNotAllowed`, a held lock, or a failing store.
    pub async fn steer(&self, dag: DagId, wish: Steer, actor: impl Into<String>) -> Result<()> {
        let actor = actor.into();
        self.ask(dag, |reply| Msg::Steer { wish, actor, reply }).await
    }

    /// RETRY of one failed sub-task: it alone runs again. Its DAG goes on if no other has failed, and fails again else.
    ///
    /// # Errors
    /// `Task.NotFound`, `RetryNotFailedDag`, `RetryNotAllowed`, a held lock, or a failing store.
    pub async fn retry_one(&self, dag: DagId, sub_task: SubTaskId, actor: impl Into<String>) -> Result<()> {
        self.ask_single(dag, Single::Retry, sub_task, actor.into()).await
    }

    /// PASS of one failed sub-task: counts as done without running, or as undone on the way back.
    ///
    /// # Errors
    /// `Task.NotFound`, `PassNotFailedDag`, `PassNotFailedNode` and `PassNotAllowed` of `Task.Node.Operator`, a held lock, or a
    /// failing store.
    pub async fn pass_one(&self, dag: DagId, sub_task: SubTaskId, actor: impl Into<String>) -> Result<()> {
        self.ask_single(dag, Single::Pass, sub_task, actor.into()).await
    }

    /// CANCEL of one running sub-task: its code is stopped, the rest of its DAG runs on and the DAG fails when that has ended.
    ///
    /// # Errors
    /// `Task.NotFound`, `CancelFinishedDag`, `CancelNotAllowed`, or a failing store.
    pub async fn cancel_one(&self, dag: DagId, sub_task: SubTaskId, actor: impl Into<String>) -> Result<()> {
        self.ask_single(dag, Single::Cancel, sub_task, actor.into()).await
    }

    /// A message of the coordinator. Recorded once; a DAG that waits goes on and looks at it. Repeating it is
    /// harmless.
    ///
    /// # Errors
    /// `Task.NotFound`, or a failing store.
    pub async fn signal(&self, dag: DagId, signal: &str, actor: impl Into<String>) -> Result<()> {
        let (signal, actor) = (signal.to_owned(), actor.into());
        self.ask(dag, |reply| Msg::Signal { signal, actor, reply }).await
    }

    /// The coordinator is alive: a lease begins anew. Unknown or ended DAGs are no error.
    pub fn renew(&self, dag: DagId) {
        if let Some(live) = self.shared.actors().get(&dag)
            && live.inbox.send(Msg::Renew).is_err()
        {
            tracing::debug!(%dag, "a lease was renewed for a task that has just ended");
        }
    }

    /// Waits until the DAG is as wanted. The caller sets the deadline by dropping the future.
    ///
    /// # Errors
    /// `Task.NotFound`, or a failing store.
    pub async fn until(&self, dag: DagId, wanted: impl Fn(&Snapshot) -> bool) -> Result<Snapshot> {
        loop {
            let live = self.shared.actors().get(&dag).map(|live| live.seen.clone());
            // A task that was dropped, because the agent stops, tells nothing.
            if let Some(mut seen) = live.filter(|seen| seen.has_changed().is_ok()) {
                let is_wanted = |seen: &Option<Arc<Snapshot>>| seen.as_deref().is_some_and(&wanted);
                if let Ok(seen) = seen.wait_for(is_wanted).await
                    && let Some(snapshot) = seen.as_deref()
                {
                    return Ok(snapshot.clone());
                }
                // Its task has ended.
                continue;
            }
            // Subscribed before the store is read: what is committed later is told.
            let mut feed = self.shared.journal.feed();
            let snapshot = self.load(dag).await?;
            if wanted(&snapshot) {
                return Ok(snapshot);
            }
            loop {
                match feed.recv().await {
                    Ok(record) if record.dag == Some(dag) && record.kind != "log" => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Err(Error::unexpected("the store has closed")),
                }
            }
        }
    }

    /// # Errors
    /// `Task.NotFound`, or a failing store.
    pub async fn load(&self, dag: DagId) -> Result<Snapshot> {
        self.shared.load(dag).await
    }

    pub fn own(&self) -> AgentAddr {
        self.shared.own
    }

    async fn ask_single(&self, dag: DagId, wish: Single, sub_task: SubTaskId, actor: String) -> Result<()> {
        self.ask(dag, |reply| Msg::Single { wish, sub_task, actor, reply }).await
    }

    async fn ask(&self, dag: DagId, message: impl FnOnce(oneshot::Sender<Result<()>>) -> Msg) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        Shared::tell(&self.shared, dag, Some(message(reply)))?;
        answer.await.map_err(|_| Error::unexpected("the agent is stopping; ask again when it is back"))?
    }
}

//! The engine's face: DAGs are submitted, operated, signalled and looked at through a [`Handle`].
//!
//! Invariant: no caller is answered before the events that its answer tells of are committed.
//!
//! Not here: who runs a DAG and when (`run`), what may be done to it (`operate`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use super::port::{Journal, JournalError, NewDag, RequestKey};
use super::registry::Registry;
use super::run::{Msg, Shared};
use super::snapshot::Snapshot;
use super::state::Operator;
use super::template::{Definition, Template, TemplateError};
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, DagId, NodeId};
use crate::tasks::Tasks;

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
        let live = self.shared.journal.live().await?;
        let count = live.len();
        for snapshot in live {
            Shared::take_up(&self.shared, snapshot);
        }
        Ok(count)
    }

    /// Records a DAG and starts it. The answer is as created: READY, nothing has run.
    ///
    /// # Errors
    /// [`SubmitError`]; a held lock names its holder.
    pub async fn submit(&self, submission: Submission) -> Result<Snapshot, SubmitError> {
        let Submission { template, actor, key } = submission;
        let definition = template.define(&self.shared.registry)?;
        let created =
            self.shared.journal.create(NewDag { definition, stamp: self.shared.stamp(actor), key }).await?;
        if created.is_new {
            // An agent that stops has recorded it, and takes it up at its next start.
            drop(Shared::tell(&self.shared, created.snapshot.id, None));
        }
        Ok(created.snapshot)
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
        if let Some(inbox) = self.shared.actors().get(&dag)
            && inbox.send(Msg::Renew).is_err()
        {
            tracing::debug!(%dag, "a lease was renewed for a task that has just ended");
        }
    }

    /// Waits until the DAG is as wanted. The caller sets the deadline by dropping the future.
    ///
    /// # Errors
    /// `Task.NotFound`, or a failing store.
    pub async fn until(&self, dag: DagId, wanted: impl Fn(&Snapshot) -> bool) -> Result<Snapshot> {
        let mut feed = self.shared.journal.feed();
        loop {
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

    async fn ask(&self, dag: DagId, message: impl FnOnce(oneshot::Sender<Result<()>>) -> Msg) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        Shared::tell(&self.shared, dag, Some(message(reply)))?;
        answer.await.map_err(|_| Error::unexpected("the agent is stopping; ask again when it is back"))?
    }
}

//! What must be stored, as verbs. `store` implements it on SQLite; tests and the simulator in memory.
//!
//! Laws:
//! - `create` and `append` return after the commit, and what they commit is all or nothing.
//! - `append` refuses a change whose `revision` is not the stored one (`Stale`): a DAG has one writer.
//! - Taking a lock and the events that go with it are one transaction; a held lock is `LockHeld`, naming the holder,
//!   and nothing is stored.
//! - `log` never waits and never fails the caller; its line is committed no later than the next `append` of the
//!   same DAG.
//! - Everything committed is published in the order of its numbers.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast;

use super::event::Event;
use super::snapshot::Snapshot;
use super::template::Definition;
use crate::error::{Code, Error};
use crate::model::{DagId, EventId, NodeId, SubTaskId, Timestamp};

/// Who and why, on every record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub at: Timestamp,
    /// `engine`, or the caller: `root@sys from 10.0.0.5`, `uid 0 (socket)`, `policy`.
    pub actor: String,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub dag: DagId,
    pub name: String,
    pub main_dag: Option<String>,
    pub since: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the maintenance lock is held by '{}'", .0.name)]
    LockHeld(Holder),
    #[error("the Idempotency-Key was used for another request")]
    KeyReused,
    #[error("the task was changed by somebody else")]
    Stale,
    #[error("the store failed")]
    Store(#[source] Error),
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::LockHeld(holder) => {
                let text = format!(
                    "the agent is busy with '{}' (task {}) since {}",
                    holder.name, holder.dag, holder.since
                );
                Self::new(Code::UnderMaintenance, text)
            }
            JournalError::KeyReused => Self::new(
                Code::IllegalArgument,
                "this Idempotency-Key was used for another request; use a new key for a new request",
            ),
            JournalError::Stale => {
                Self::new(Code::Unexpected, "the task was changed by somebody else; look again")
            }
            JournalError::Store(error) => error,
        }
    }
}

/// Makes a repeated request find what the first one made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    pub key: String,
    /// Hash of what was asked; the same key for something else is refused.
    pub fingerprint: String,
}

#[derive(Clone, Debug)]
pub struct NewDag {
    pub definition: Definition,
    pub stamp: Stamp,
    pub key: Option<RequestKey>,
}

/// What `create` made, or found under the same key.
#[derive(Clone, Debug)]
pub struct Created {
    pub snapshot: Snapshot,
    pub is_new: bool,
}

/// Events of one DAG that are committed together, with the snapshot they lead to.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision the events were planned on; `after.revision` is one more.
    pub revision: i64,
    pub events: Vec<Event>,
    pub stamp: Stamp,
    pub after: Arc<Snapshot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// A line of a sub-task's record.
#[derive(Clone, Debug)]
pub struct LogLine {
    pub dag: DagId,
    pub sub_task: SubTaskId,
    pub attempt: u32,
    pub dag_name: Arc<str>,
    pub node_name: Arc<str>,
    pub level: Level,
    pub text: String,
    pub fields: Value,
}

/// Something committed, as subscribers get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub id: EventId,
    pub at: Timestamp,
    /// [`Event::kind`], `log`, `audit`, or what happened outside a DAG such as `server_exited`.
    pub kind: String,
    pub dag: Option<DagId>,
    pub dag_name: Option<String>,
    pub node: Option<NodeId>,
    pub node_name: Option<String>,
    pub sub_task: Option<SubTaskId>,
    pub attempt: Option<u32>,
    pub actor: String,
    pub body: Value,
}

pub trait Journal: Send + Sync + Debug {
    /// # Errors
    /// `LockHeld`, `KeyReused`, `Store`.
    fn create(&self, new: NewDag) -> BoxFuture<'_, Result<Created, JournalError>>;

    /// # Errors
    /// `LockHeld` (when an event takes the lock), `Stale`, `Store`.
    fn append(&self, change: Change) -> BoxFuture<'_, Result<(), JournalError>>;

    fn log(&self, line: LogLine);

    /// # Errors
    /// `Store`.
    fn load(&self, dag: DagId) -> BoxFuture<'_, Result<Option<Snapshot>, JournalError>>;

    /// Every DAG that an engine must take up at start: ready, running, cancelling, or resting under a lease.
    ///
    /// # Errors
    /// `Store`.
    fn live(&self) -> BoxFuture<'_, Result<Vec<Snapshot>, JournalError>>;

    /// Everything committed from now on. A subscriber that falls behind is told so and reads the store.
    fn feed(&self) -> broadcast::Receiver<Arc<Record>>;
}

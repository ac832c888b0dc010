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
    /// Its first change may be committed with it ([`super::plan::begin`]).
    pub begins: bool,
}

/// What `create` made, or found under the same key.
#[derive(Clone, Debug)]
pub struct Created {
    /// As it was created; nothing has run.
    pub snapshot: Snapshot,
    /// Where its first change led, if that was committed with it; else that is the engine's to commit.
    pub begun: Option<Arc<Snapshot>>,
    pub is_new: bool,
}

/// Events of one DAG that are committed together, with the snapshot they lead to.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision the events were planned on; `after.revision` is one more.
    pub revision: i64,
    pub events: Arc<[Event]>,
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
    pub node: NodeId,
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

/// Which DAGs to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DagFilter {
    /// By their numbers: those after this one, at most so many. A store may have more than belong into memory.
    After(DagId, u32),
    Unfinished,
    /// The newest one that took the lock, even if it ended long ago.
    LastMaintenance,
    /// The newest one of these flows that took the lock, even if it ended long ago.
    LastOf(&'static [&'static str]),
}

impl DagFilter {
    pub const ALL: Self = Self::After(DagId(0), u32::MAX);
}

/// A line of a sub-task's record, as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRow {
    pub id: EventId,
    pub sub_task: SubTaskId,
    pub attempt: u32,
    pub at: Timestamp,
    pub level: Level,
    pub text: String,
    pub fields: Value,
}

/// A DAG as read in one moment (W8), with the lines of its sub-tasks when asked for.
#[derive(Clone, Debug)]
pub struct Detail {
    pub snapshot: Snapshot,
    /// The last event that concerned it, log lines included.
    pub version: EventId,
    pub logs: Vec<LogRow>,
}

impl Detail {
    /// What a sub-task said last.
    pub fn last_line(&self, sub_task: SubTaskId) -> Option<&str> {
        self.logs.iter().rev().find(|line| line.sub_task == sub_task).map(|line| line.text.as_str())
    }
}

/// What was recorded of a DAG, and how it stood then.
#[derive(Clone, Debug)]
pub struct Look {
    pub records: Vec<Record>,
    /// Not older than the records.
    pub snapshot: Snapshot,
}

/// What the store can tell, and what is recorded beside the DAGs.
pub trait Archive: Send + Sync + Debug {
    /// # Errors
    /// When the store cannot be read; so for all of these.
    fn dag(&self, id: DagId, with_logs: bool) -> BoxFuture<'_, Result<Option<Detail>, Error>>;

    /// By number, oldest first.
    fn dags(&self, filter: DagFilter, with_logs: bool) -> BoxFuture<'_, Result<Vec<Detail>, Error>>;

    /// The DAG that a node belongs to.
    fn dag_of_node(&self, node: NodeId) -> BoxFuture<'_, Result<Option<DagId>, Error>>;

    /// The DAG that a sub-task belongs to.
    fn dag_of_sub_task(&self, sub_task: SubTaskId) -> BoxFuture<'_, Result<Option<DagId>, Error>>;

    /// All attempts of a sub-task in order; empty for an unknown number.
    fn logs(&self, sub_task: SubTaskId) -> BoxFuture<'_, Result<Vec<LogRow>, Error>>;

    /// Records after a number, oldest first, at most `limit`; of one DAG or of all.
    fn records(
        &self,
        dag: Option<DagId>,
        after: EventId,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, Error>>;

    /// Records of one DAG after a number, oldest first, at most `limit`, and how it stands.
    fn look(&self, dag: DagId, after: EventId, limit: u32) -> BoxFuture<'_, Result<Option<Look>, Error>> {
        Box::pin(async move {
            let records = self.records(Some(dag), after, limit).await?;
            let detail = self.dag(dag, false).await?;
            Ok(detail.map(|detail| Look { records, snapshot: detail.snapshot }))
        })
    }

    /// The number of the newest record.
    fn newest(&self) -> BoxFuture<'_, Result<EventId, Error>>;

    /// Who holds the maintenance lock of this host.
    fn holder(&self) -> BoxFuture<'_, Result<Option<Holder>, Error>>;

    /// The newest DAG that is coordinated by this one.
    fn coordinated_by<'a>(&'a self, main_dag: &'a str) -> BoxFuture<'a, Result<Option<DagId>, Error>>;

    /// What a request with this key has made.
    ///
    /// # Errors
    /// That the key was used for another request.
    fn made_by<'a>(&'a self, key: &'a RequestKey) -> BoxFuture<'a, Result<Option<Snapshot>, Error>>;

    /// Records what belongs to no transition: an audit entry, what was seen of the database process. Returns after
    /// the commit.
    fn record(
        &self,
        kind: &'static str,
        dag: Option<DagId>,
        stamp: Stamp,
        body: Value,
    ) -> BoxFuture<'_, Result<EventId, Error>>;

    /// The same without waiting: committed no later than what is recorded after it, unless the store fails.
    fn note(&self, kind: &'static str, stamp: Stamp, body: Value);

    /// The audit trail, oldest first, at most `limit`: what came after an entry, or the newest ones. What was noted before is
    /// in it.
    fn audit(&self, after: Option<EventId>, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, Error>>;

    /// Everything committed from now on. A subscriber that falls behind is told so and reads on with `records`.
    fn feed(&self) -> broadcast::Receiver<Arc<Record>>;
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

    /// DAGs that an engine must take up at start, by number: ready, running, cancelling, or resting under a lease. At most
    /// `limit`, those after a number.
    ///
    /// # Errors
    /// `Store`.
    fn live(&self, after: DagId, limit: usize) -> BoxFuture<'_, Result<Vec<Snapshot>, JournalError>>;

    /// Everything committed from now on. A subscriber that falls behind is told so and reads the store.
    fn feed(&self) -> broadcast::Receiver<Arc<Record>>;
}

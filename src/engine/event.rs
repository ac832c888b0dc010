//! What can happen to a DAG. The log of these, in order, is the truth; rows are its sum.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::{DagState, Heading};
use super::template::Definition;

/// Where in a DAG: node and sub-task by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct At {
    pub node: usize,
    pub sub: usize,
}

/// Why a sub-task failed, as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// `errCode` of the table.
    pub code: String,
    pub text: String,
    /// Facts for whoever has to act: exit status, log lines, causes with advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Value>,
}

impl From<&crate::error::Error> for Failure {
    fn from(error: &crate::error::Error) -> Self {
        Self {
            code: error.code.name().to_owned(),
            text: error.text().to_owned(),
            diagnosis: error.diagnosis().cloned(),
        }
    }
}

/// What a step leaves behind: data for later steps, and what clients see as `additional_data`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub shown: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Created {
        definition: Box<Definition>,
    },
    Started,
    /// A sub-task is given to code, with the number of this execution (its fence).
    Claimed {
        at: At,
        heading: Heading,
        attempt: u32,
    },
    /// Found running at start, runs on under the same number.
    Resumed {
        at: At,
    },
    /// What a running step wants to find again after a crash.
    Noted {
        at: At,
        attempt: u32,
        note: Value,
    },
    Succeeded {
        at: At,
        attempt: u32,
        output: Output,
    },
    Failed {
        at: At,
        attempt: u32,
        failure: Failure,
    },
    Waits {
        at: At,
        attempt: u32,
    },
    /// The code has ended because the DAG was cancelled.
    Stopped {
        at: At,
        attempt: u32,
    },
    /// Cancelled before its turn came.
    Skipped {
        at: At,
    },
    CancelAsked,
    RetryAsked,
    RollbackAsked,
    Passed,
    NodePassed {
        node: usize,
    },
    /// RETRY of one failed sub-task; others that have failed stay so.
    SubTaskRetryAsked {
        at: At,
    },
    /// PASS of one failed sub-task; on the way back it counts as undone.
    SubTaskPassed {
        at: At,
    },
    /// CANCEL of one running sub-task; the rest of its DAG runs on.
    SubTaskCancelAsked {
        at: At,
    },
    /// A message from the coordinator that steps look at, such as `go`; or of the engine itself: a pause, a resume, an
    /// abort, the end of a lease.
    Signalled {
        signal: String,
    },
    /// Nothing runs any more.
    Ended {
        state: DagState,
    },
    LockTaken,
    LockReleased {
        reason: String,
    },
}

impl Event {
    /// Stable name in the `kind` column and in the event stream.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Started => "started",
            Self::Claimed { .. } => "claimed",
            Self::Resumed { .. } => "resumed",
            Self::Noted { .. } => "noted",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Waits { .. } => "waits",
            Self::Stopped { .. } => "stopped",
            Self::Skipped { .. } => "skipped",
            Self::CancelAsked => "cancel_asked",
            Self::RetryAsked => "retry_asked",
            Self::RollbackAsked => "rollback_asked",
            Self::Passed => "passed",
            Self::NodePassed { .. } => "node_passed",
            Self::SubTaskRetryAsked { .. } => "sub_task_retry_asked",
            Self::SubTaskPassed { .. } => "sub_task_passed",
            Self::SubTaskCancelAsked { .. } => "sub_task_cancel_asked",
            Self::Signalled { .. } => "signalled",
            Self::Ended { .. } => "ended",
            Self::LockTaken => "lock_taken",
            Self::LockReleased { .. } => "lock_released",
        }
    }

    /// The sub-task it is about, if it is about one.
    pub fn at(&self) -> Option<At> {
        match self {
            Self::Claimed { at, .. }
            | Self::Resumed { at }
            | Self::Noted { at, .. }
            | Self::Succeeded { at, .. }
            | Self::Failed { at, .. }
            | Self::Waits { at, .. }
            | Self::Stopped { at, .. }
            | Self::Skipped { at }
            | Self::SubTaskRetryAsked { at }
            | Self::SubTaskPassed { at }
            | Self::SubTaskCancelAsked { at } => Some(*at),
            Self::Created { .. }
            | Self::Started
            | Self::CancelAsked
            | Self::RetryAsked
            | Self::RollbackAsked
            | Self::Passed
            | Self::NodePassed { .. }
            | Self::Signalled { .. }
            | Self::Ended { .. }
            | Self::LockTaken
            | Self::LockReleased { .. } => None,
        }
    }

    /// The execution it is about, where it names one.
    pub fn attempt(&self) -> Option<u32> {
        match self {
            Self::Claimed { attempt, .. }
            | Self::Noted { attempt, .. }
            | Self::Succeeded { attempt, .. }
            | Self::Failed { attempt, .. }
            | Self::Waits { attempt, .. }
            | Self::Stopped { attempt, .. } => Some(*attempt),
            Self::Created { .. }
            | Self::Started
            | Self::Resumed { .. }
            | Self::Skipped { .. }
            | Self::CancelAsked
            | Self::RetryAsked
            | Self::RollbackAsked
            | Self::Passed
            | Self::NodePassed { .. }
            | Self::SubTaskRetryAsked { .. }
            | Self::SubTaskPassed { .. }
            | Self::SubTaskCancelAsked { .. }
            | Self::Signalled { .. }
            | Self::Ended { .. }
            | Self::LockTaken
            | Self::LockReleased { .. } => None,
        }
    }
}

//! What is to be said of a server, a zone, the cluster: the words of the v2 API (`ocp-v2.md` §3, §5.1), and which task makes
//! an object be under way.
//!
//! Invariant: a word of the time between (`STARTING`, `RESTARTING`, …) is never kept by itself. It follows from the stored
//! states of the task that covers the object, so no crash can leave one behind, and none can outlive its task.

use serde::{Deserialize, Serialize};

use crate::model::{ServerAddr, ZoneName};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Running,
    Starting,
    Stopping,
    Restarting,
    /// Something within it is under way, not it itself.
    Operating,
    Stopped,
    Unavailable,
}

impl Status {
    pub fn text(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Starting => "STARTING",
            Self::Stopping => "STOPPING",
            Self::Restarting => "RESTARTING",
            Self::Operating => "OPERATING",
            Self::Stopped => "STOPPED",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// What has a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    Cluster,
    Zone(ZoneName),
    Server(ServerAddr),
}

/// An object that a task has under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub object: Object,
    pub status: Status,
    /// Generic id of the main DAG.
    pub task: String,
}

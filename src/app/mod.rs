//! Use cases: what a request means, decided in one place, whoever asks.
//!
//! Purpose: check in order, each with its own error, then answer or submit a flow. Two parts run all the time: `health`
//! watches the database process and its SQL, and applies the restart policy; `members` keeps the list of members and the
//! cluster's own alike. `desk` is what other agents ask of us.
//!
//! Invariant: a use case that returns an error has changed nothing; one that returns a task has committed it.
//!
//! Not here: HTTP, authentication of callers (`api`), the steps of operations (`flow`).

mod agent;
mod blocked;
mod cluster;
mod context;
mod credential;
mod desk;
pub mod health;
mod info;
pub mod members;
mod ob;
mod outlook;
mod plan;
pub mod policy;
mod reading;
mod scale;
mod task;

#[cfg(test)]
mod tests;

pub use agent::{AgentView, JoinRequest, StatusView};
pub use blocked::{Blocked, Wait};
pub use cluster::{ClusterRequest, InitRequest};
pub use context::{App, Caller, Learned, Parts, Request, RunState};
pub use info::{InfoView, ServerView, ZoneView};
pub use ob::{OperateRequest, Operated, StopMode, Wish, ZoneStop};
pub use outlook::{Outlook, Remembered, Seen};
pub use plan::{Plan, PlannedServer, Shown};
pub use reading::Instance;
pub use scale::{ScaleInRequest, ScaleOutRequest};
pub use task::{DagList, Watch};

//! Use cases: what a request means, decided in one place, whoever asks.
//!
//! Purpose: check in order, each with its own error, then answer or submit a flow. Two parts run all the time: `health`
//! watches the database process and its SQL, and applies the restart policy; `members` keeps the list of members and the
//! cluster's own alike. `desk` is what other agents ask of us.
//!
//! Invariant: a use case that returns an error has changed nothing; one that returns a task has committed it.
//!
//! Not here: HTTP, authentication of callers (`api`), the steps of operations (`flow`).

pub mod accounts;
mod agent;
mod blocked;
mod cluster;
mod context;
mod credential;
pub mod custody;
mod desk;
pub mod health;
pub mod holding;
mod info;
mod instance;
pub mod members;
mod ob;
mod order;
mod order_plan;
mod outlook;
mod picture;
mod plan;
pub mod policy;
mod proposal;
mod reading;
mod scale;
mod standing;
mod take_over;
mod task;

#[cfg(test)]
mod tests;

pub use agent::{AgentView, JoinRequest, StatusView};
pub use blocked::{Blocked, Wait};
pub use cluster::{ClusterRequest, InitRequest};
pub use context::{App, Caller, Learned, Memory, Parts, Request, RunState};
pub use info::{InfoView, ServerView, ZoneView};
pub use instance::{Listed, Numbered, Numbers, Page};
pub use ob::{OperateRequest, Operated, StopMode, Wish, ZoneStop};
pub use order::{OrderRequest, OrderWish};
pub use outlook::{Outlook, Seen};
pub use picture::Picture;
pub use plan::{Plan, PlannedServer};
pub use reading::Instance;
pub use scale::{ScaleInRequest, ScaleOutRequest};
pub use standing::Standing;
pub use take_over::TakeOverRequest;
pub use task::{DagList, Watch};

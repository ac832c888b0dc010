//! Use cases: what a request means, decided in one place, whoever asks.
//!
//! Purpose: check in order, each with its own error, then answer or submit a flow. `health` is the one long-running part:
//! it watches the database process and its SQL, and applies the restart policy.
//!
//! Invariant: a use case that returns an error has changed nothing; one that returns a task has committed it.
//!
//! Not here: HTTP, authentication of callers (`api`), the steps of operations (`flow`).

mod agent;
mod cluster;
mod context;
mod credential;
pub mod health;
mod ob;
mod plan;
pub mod policy;
mod task;

#[cfg(test)]
mod tests;

pub use agent::{AgentView, StatusView};
pub use cluster::{ClusterRequest, InfoView, InitRequest, ServerInfo};
pub use context::{App, Caller, Learned, Parts, Request, RunState};
pub use ob::{OperateRequest, StopMode};
pub use plan::{Plan, PlannedServer};
pub use task::{DagList, Watch};

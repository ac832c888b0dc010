//! Bodies as OCP's v2 API spells them (`ocp-v2.md`).
//!
//! Purpose: one task, cluster or server of ours in the names and JSON types that clients of OCP read; what they send, as we
//! mean it. What is ours is an additional member.
//!
//! Invariant: a member that has no value is left out, as there; every other of the documented samples is there.
//!
//! Not here: which route answers what (`api::v2`), who may ask.

mod class_names;
mod cluster;
mod context;
mod envelope;
mod order;
mod task;

#[cfg(test)]
mod tests;

pub use cluster::{
    Cluster, ClusterPage, NEVER_STOPPED, PageInfo, RootServer, Server, ServerList, Standby, Zone, ZoneList,
};
pub use context::{Context, ContextMaps};
pub use envelope::{EnvelopeV2, ErrorV2};
pub use order::{OrderBody, Ordered, StopKind};
pub use task::{
    ClusterRef, Creator, Frame, Shape, Step, StepItem, StepLogView, Task, TaskItem, TaskMore, TaskOrPlanV2,
    TaskPage, render_item, render_log, render_step, render_task,
};

//! The durable DAG engine.
//!
//! Purpose: an operation becomes a DAG of nodes; a node is one step, or the same step once per agent (its
//! sub-tasks). Every change of state is an [`Event`], committed before anything is done because of it, so that a
//! kill at any instant loses nothing.
//!
//! How it decides: [`plan()`] looks at one [`Snapshot`] and says which events come next; [`operate()`] does the same
//! for an operator's wish, or refuses; [`recover()`] for a snapshot found at start. All three are pure. The one way
//! a state changes is [`Snapshot::apply`], used by the live run, by recovery and by the tests that replay logs.
//! [`run`] is the thin asynchronous shell: commit the events, start the steps they claim, wait for what happens.
//!
//! A sub-task:
//!
//! ```text
//!             claim            succeed
//!   PENDING ─────────▶ RUNNING ────────▶ SUCCEEDED ─ undo ─▶ UNDOING ─ succeed ─▶ UNDONE
//!      ▲  │              │ │ └─ wait ──▶ WAITING                │ │
//!      │  └─ cancel ─┐   │ └── cancel ─▶ CANCELLING             │ └─ cancel ─▶ UNDO CANCELLING
//!      │             ▼   ▼ fail             │ stopped           ▼ fail               │ stopped
//!      └── reset ── FAILED ◀────────────────┘               UNDO FAILED ◀────────────┘
//! ```
//!
//! FAILED and WAITING can be reset (RETRY) or passed; FAILED, UNDO FAILED and SUCCEEDED can be undone (ROLLBACK). A single
//! UNDO FAILED sub-task can be passed too: it counts as UNDONE.
//!
//! A DAG: READY → RUNNING → SUCCEEDED, or FAILED, or WAITING for an operator; CANCELLING on its way to FAILED;
//! backwards READY → RUNNING → ROLLED BACK. Direction is part of the state (W3). "Waiting" is a state of its own
//! (W1); only `wire` shows it as OBShell's FAILED. A DAG that was asked to pause waits before a safe point without any
//! sub-task of it waiting; one that was asked to abort fails there.
//!
//! Promises, each a property test: it ends; nothing runs before its upstreams succeeded; a rollback visits exactly
//! what ran, in reverse; replaying any prefix of the event log gives the state that was stored then.
//!
//! Not here: SQL (`store` implements [`port::Journal`]), what steps do (`flow`), who may ask (`api`), how any of
//! it is spelled for clients (`wire`).

mod actor;
pub mod event;
mod handle;
pub mod operate;
pub mod plan;
pub mod port;
pub mod recover;
pub mod registry;
pub mod run;
pub mod single;
pub mod snapshot;
pub mod state;
pub mod steer;
pub mod step;
pub mod sub_tasks;
pub mod template;
mod worker;

#[cfg(test)]
mod tests;

pub use event::{Event, Failure};
pub use handle::{Handle, Submission, SubmitError};
pub use operate::{Refused, allowed, lease_over, operate, pass_node, wishes};
pub use plan::plan;
pub use recover::recover;
pub use registry::Registry;
pub use single::{Single, single};
pub use snapshot::{Node, Snapshot, SubTask};
pub use state::{DagState, Heading, NodeState, Operator, Steer, SubTaskState, Wish};
pub use steer::{steer, steerable};
pub use step::{Outcome, Step, StepCtx, StepSpec};
pub use sub_tasks::SubTasks;
pub use template::{Caps, Definition, Interruption, Lock, NodeDef, Template};

//! Orders over servers, zones and the whole cluster: every restart, and starts and stops of the v2 API. Their tasks carry the
//! names and stand in the order that OCP gives them (`ocp-v2.md` §1.7, §1.8); what each does is §5.2 there.
//!
//! A restart of several zones is a roll: a block of tasks per zone, one after another. Before a block nothing may be wrong
//! elsewhere and every log stream must keep its majority without it; after it its servers must be active, caught up, its zone
//! started. What is not so halts the roll with the reason. RETRY goes on, ROLLBACK starts what was stopped, a pause or an
//! abort takes effect before the next block.
//!
//! The agents take part as in `handshake`: a part under their own lock. That of a restart has two halves, and does the second
//! one by itself when its coordinator is not heard of any more, so that no server stays down for want of a word.
//!
//! Invariant: whatever fails or is cancelled, the last node ends every part; one that is halfway is told to start its server.
//! Whatever was released meanwhile is prepared again by the step that needs it, so that a RETRY may come days later.
//!
//! Not here: which servers, in which order, and whether they may (`app::order`); the rules of DAGs (`engine`).
//!
//! `graph` the chains of tasks, `hands` the agents, `sight` what is looked at; then the steps: `prepare`, `service` (by SQL),
//! `process` (by the agents), `settle` (is it as it should be). `mark` tells which objects a task has under way.

mod graph;
mod hands;
mod mark;
mod params;
mod prepare;
mod process;
mod service;
mod settle;
mod sight;

pub use graph::{name, template};
pub use mark::marks;
pub use params::{Block, Hand, Isolation, Options, Params, Verb};
pub use sight::dangers;

use super::catalog::Ports;
use crate::engine::Registry;

/// Stored in every definition of these tasks.
pub const FLOW: &str = "roll";

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    prepare::register(registry, ports);
    service::register(registry, ports);
    process::register(registry, ports);
    settle::register(registry, ports);
}

//! The database process: found, started, watched, asked to stop, and explained when it fails.
//!
//! Purpose: the one room that touches it. [`Control`] is the port `flow::ports::Process` for one home.
//!
//! Invariant: nothing is signalled whose identity was not verified in the same call, through a pidfd; nothing is removed
//! that a first start of ours did not make; no shell, no inherited environment, no descriptor of the agent in a child.
//!
//! Which file: what differs between engines `engine`, `seekdb`, `observer` · argument vectors become processes
//! `command` · is this pid it `identity`, where is it `find`, hold on to it `life`, how did it end `exit` ·
//! start `spawn`, wait `ready`, end `stop` · directories `layout` · before `preflight`, afterwards
//! `diagnose` from its `log` with `causes`.
//!
//! Not here: SQL, decisions, when to do any of this (`flow`), facts about the host (`host`).

mod causes;
mod command;
mod control;
mod diagnose;
mod engine;
mod exit;
mod find;
mod identity;
mod instance;
mod layout;
mod life;
mod log;
mod observer;
mod preflight;
mod ready;
mod record;
mod scope;
mod seekdb;
mod spawn;
mod stop;
#[cfg(test)]
mod tests;
mod virtualization;

pub use control::Control;
pub use identity::age;
pub use instance::Settings;
pub use virtualization::virtualization;

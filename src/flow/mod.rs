//! The long operations, one file each: parameters, template, steps, and their undo.
//!
//! Purpose: what a start or an init *is*, as nodes that look before they act. `handshake` is the coordinator's side of
//! an operation over agents, `participant` the side of each agent in scope; both are the same on one host and on many.
//! `peers` are the messages between them; `instance` is how they tell each other of their tasks.
//!
//! Invariant: every step can be run again from any point where it was interrupted, and says in its comment why.
//!
//! Not here: when an operation is allowed (`app`), how processes, SQL and peers are reached (`ports` and the adapters
//! behind them), the rules of DAGs (`engine`).

pub mod bootstrap;
pub mod catalog;
mod contest;
pub mod handshake;
pub mod init;
pub mod instance;
pub mod keeper;
pub mod local;
pub mod member;
pub mod newcomer;
mod part;
pub mod participant;
pub mod peers;
pub mod ports;
mod remote;
pub mod roll;
pub mod scale_in;
pub mod scale_out;
pub mod server;
pub mod settings;
pub mod start;
mod step;
pub mod stop;
pub mod take_over;
pub mod trust;
pub mod zones;

#[cfg(test)]
pub(crate) mod tests;

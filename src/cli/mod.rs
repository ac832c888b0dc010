//! The command line: a client of the agent's own API, over its Unix socket or over TCP.
//!
//! Purpose: commands for people and scripts. Data goes to stdout, everything else to stderr; `--output json` gives the
//! API's own shapes; every end has an exit code ([`exit`]).
//!
//! Invariant: a command can do nothing that the API cannot. Only what needs no agent happens in the command itself:
//! `agent run`, `config check`, `store check`, `completions`.
//!
//! Not here: meaning. What is asked for, refused and done is the agent's business.

mod accounts;
mod agent;
mod args;
mod client;
mod cluster;
pub mod exit;
mod follow;
mod graph;
mod known;
mod parameter;
mod password;
mod render;
mod restart;
mod run;
mod scale;
mod sealing;
mod security;
mod store;
mod take_over;
mod task;
mod tree;

#[cfg(test)]
mod tests;

pub use args::{Cli, command};
pub use run::{Next, finish, run};

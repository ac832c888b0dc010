//! A stand-in for OceanBase's `observer`, for tests of whatever operates it.
//!
//! Purpose: one executable that starts, daemonises, keeps files, takes signals, speaks the MySQL protocol and forms clusters
//! as `observer-model.md` describes, so that operations on clusters can be tested where none can be had. It stands in no
//! relation to the code it tests, which can not tell that it is there.
//!
//! Invariant: what a client or an operator can see of it follows the model, with its numbers and texts. Faults are switched on
//! in its settings (`settings`), never in the code under test.
//!
//! Not here: storing user data beyond small tables, and speed.

mod alter;
mod bootstrap;
mod checks;
mod clock;
mod cluster;
mod database;
mod define;
mod functions;
mod journal;
mod listen;
mod log;
mod options;
mod parameters;
mod process;
mod protocol;
mod refusal;
mod rows;
mod rules;
mod saved;
mod server;
mod session;
mod settings;
mod show;
mod signals;
mod start;
mod state;
mod statement;
mod system;
mod tables;
mod tenant_rows;
mod token;
mod translate;
mod wire;

fn main() {
    std::process::exit(start::main());
}

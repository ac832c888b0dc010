//! The agent as a process: built from its configuration, run until it is told to stop.
//!
//! Purpose: the only room that names concrete adapters. [`build`](build::build) puts every part together, [`run`](run::run)
//! is the order of starting and stopping.
//!
//! Invariant: the listeners answer only after everything they need exists; the store is closed after everybody who
//! writes to it has ended; the database process is never touched by either.
//!
//! Not here: anything that decides.

mod build;
mod error;
mod holding;
mod home;
mod keep;
mod metered;
mod network;
mod remembered;
mod run;
mod tls;

pub use error::DaemonError;
pub use run::run;

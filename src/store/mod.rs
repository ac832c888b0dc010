//! The agent's own store: one SQLite file under the home.
//!
//! Purpose: "commit means commit". WAL with `synchronous=FULL`; one writer thread that puts whatever is waiting into
//! one transaction (group commit); readers apart and read-only. It implements the engine's journal and keeps the
//! documents and sealed secrets of the agent.
//!
//! Invariant: rows of `dag`, `node` and `sub_task` are the sum of the DAG's events, changed in the same transaction;
//! `event` is append-only; a caller is answered after the commit and before anybody acts on it.
//!
//! Not here: what the rows mean (`engine`, `cluster`), sealing (`secure::vault`), the single-agent lock (`host::lock`).

mod backup;
mod check;
mod checkpoint;
mod dag;
mod documents;
mod error;
mod group;
mod journal;
mod memo;
mod migrate;
mod open;
mod prune;
mod queries;
mod records;
mod writer;

#[cfg(test)]
mod tests;

pub use backup::{BackupReport, backup};
pub use check::{CheckReport, check};
pub use documents::Secret;
pub use error::StoreError;
pub use open::Store;
pub use prune::Retention;
pub use writer::Written;

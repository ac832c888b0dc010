//! Who we are, and what our cluster is configured to be.
//!
//! Purpose: one typed document, [`AgentState`], changed only by a [`Change`], saved before anybody sees it. The table
//! of identities ([`identity`]) says which operation an agent of which identity may do, and what it becomes. [`members`] are
//! the agents we know; [`quorum`] tells what a stop would do to the tenants; [`parameters`] and [`figures`] are what the
//! database tells of itself; [`take_over`] finds whose server is which in a cluster that was here before us.
//!
//! Invariant: what [`Ledger::state`] shows is committed.
//!
//! Not here: the DAGs that make these changes (`flow`), how they are stored and sealed (`daemon` wires `store` and
//! `secure`), how members and rows are asked for (`flow::ports`).

mod accounts;
mod config;
pub mod figures;
mod identity;
mod ledger;
mod members;
pub mod papers;
pub mod parameters;
mod quorum;
mod state;
pub mod status;
pub mod take_over;
pub mod topology;

#[cfg(test)]
pub(crate) mod tests;

pub use accounts::Accounts;
pub use config::{
    ConfigError, DENIED_KEYS, MYSQL_PORT_DEFAULT, RPC_PORT_DEFAULT, effective, port, tidy_keys,
};
pub use identity::{Act, may};
pub use ledger::{Keep, Ledger, Secrets};
pub use members::Members;
pub use quorum::{ClusterView, Fate, ReplicaRow, ServerRow, ZoneRow};
pub use state::{AgentState, Change, ClusterConfig, LastExit, ObserverConfig, Server, Wanted};

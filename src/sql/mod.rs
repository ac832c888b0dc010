//! SQL to the local database: connecting, the statements we send, the server's errors by number.
//!
//! Purpose: the one room that knows `mysql_async` and holds SQL text. It implements
//! [`crate::flow::ports::ObSql`] and [`crate::flow::ports::ClusterSql`].
//!
//! Invariant: nothing from outside is pasted into a statement; literals go through [`quote`], names are checked.
//! Every statement has a time limit. A password is never part of an error text or a log line.
//!
//! Not here: when to ask and what the answers mean for a flow; connections to other hosts (there are none: agents
//! talk to agents).

mod charsets;
mod connect;
mod figures;
mod freeze;
mod line;
mod members;
mod named;
mod observer;
mod parameters;
mod quote;
mod seekdb;
mod servers;
mod serving;
mod view;

#[cfg(test)]
mod tests;

pub use connect::Endpoint;
pub use observer::ObserverSql;
pub use quote::literal;
pub use seekdb::SeekdbSql;
pub use serving::{Own, OwnLife};

//! A real agent in a temporary home: started, asked, killed, started again.
//!
//! Invariant: every wait has a limit and ends by an event (readiness by `NOTIFY_SOCKET`, the end of a process by its
//! handle, the end of a task by a watch); whatever a home started is killed when the home is dropped.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "each test binary uses a part of it; tests start processes"
)]

mod answer;
pub mod body;
mod cluster;
mod home;
mod netns;
mod ports;
mod python;
mod writer;

pub use answer::{Answer, Door, told};
pub use cluster::{Cluster, simulator, zone};
pub use home::{Agent, Ended, Home, engine};
pub use netns::{Net, ip};
pub(crate) use ports::free_port;
pub use python::python;
pub use writer::{Failed, Writer, Written, at};

use std::time::Duration;

/// Every wait of a test ends.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The root password that tests set.
pub const PASSWORD: &str = "4 horses' \"sea\" \\ 100% ü";

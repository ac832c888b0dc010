//! The agent as others see it: a real process, real requests, and where a database runs, the real engine.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests start processes and make clients")]

#[path = "../rig/mod.rs"]
mod rig;

mod callers;
mod command_line;
mod contract;
mod door;
mod entry;
mod five_hosts;
mod forge;
mod forming;
mod life;
mod memory;
mod one_home;
mod operating;
mod partition;
mod reading;
mod records;
mod recovery;
mod refusals;
mod scaling;
mod scheme_v3;
mod sdk;
mod secrets;
mod table;
mod tls;
mod transport;

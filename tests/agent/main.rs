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
mod graphs;
mod hardening;
mod life;
mod lines;
mod memory;
mod one_home;
mod operating;
mod own_ca;
mod partition;
mod reading;
mod records;
mod recovery;
mod refusals;
mod restarting;
mod scaling;
mod scheme_v1;
mod scheme_v3;
mod sdk;
mod secrets;
mod table;
mod take_over;
mod tls;
mod transport;
mod v2_door;
mod v2_orders;
mod v2_tasks;

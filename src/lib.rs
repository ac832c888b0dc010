//! obpilot: an agent beside every OceanBase server process.

pub mod clock;
pub mod config;
pub mod crash;
pub mod error;
pub mod flow;
pub mod host;
pub mod model;
pub mod process;
pub mod tasks;

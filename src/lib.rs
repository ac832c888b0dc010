//! obpilot: an agent beside every OceanBase server process.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod crash;
pub mod daemon;
pub mod engine;
pub mod error;
pub mod flow;
pub mod host;
pub mod model;
pub mod process;
pub mod secure;
pub mod sql;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod wire;

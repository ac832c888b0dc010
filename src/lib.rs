//! obpilot: an agent beside every OceanBase server process.

pub mod app;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod crash;
pub mod engine;
pub mod error;
pub mod flow;
pub mod model;
pub mod secure;
pub mod sql;
pub mod store;
pub mod tasks;
pub mod wire;

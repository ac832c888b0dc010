//! Every step of every flow, with the hands it may use, in the engine's registry.

use std::sync::Arc;
use std::time::Duration;

use super::handshake::Keeper;
use super::ports::{ObSql, Peers, Process, Sealer};
use super::{handshake, init, join, participant, server, settings, start, stop};
use crate::clock::Clock;
use crate::cluster::Ledger;
use crate::config::EngineKind;
use crate::engine::Registry;
use crate::model::AgentAddr;

/// What steps are given. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ports {
    pub own: AgentAddr,
    pub engine: EngineKind,
    pub process: Arc<dyn Process>,
    pub sql: Arc<dyn ObSql>,
    pub peers: Arc<dyn Peers>,
    pub sealer: Arc<dyn Sealer>,
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub keeper: Keeper,
    pub limits: Limits,
}

/// From the configuration, in durations.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub start: Duration,
    pub stop_grace: Duration,
    pub freeze: Duration,
}

/// Registers every step. Keys are part of the stored format: see `tests::the_stored_keys`.
pub fn register_all(ports: &Ports) -> Registry {
    let mut registry = Registry::default();
    join::register(&mut registry, ports);
    settings::register(&mut registry, ports);
    init::register(&mut registry, ports);
    handshake::register(&mut registry, ports);
    participant::register(&mut registry);
    server::register(&mut registry, ports);
    start::register(&mut registry, ports);
    stop::register(&mut registry, ports);
    registry
}

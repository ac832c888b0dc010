//! Every step of every flow, with the hands it may use, in the engine's registry.

use std::sync::Arc;
use std::time::Duration;

use super::keeper::Keeper;
use super::peers::{Gate, Peers};
use super::ports::{ClusterSql, ObSql, Process, Sealer};
use super::trust::Trust;
use super::{
    bootstrap, handshake, init, member, newcomer, part, roll, scale_in, scale_out, server, settings,
    take_over, zones,
};
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
    pub cluster: Arc<dyn ClusterSql>,
    pub peers: Arc<dyn Peers>,
    pub gate: Arc<dyn Gate>,
    pub sealer: Arc<dyn Sealer>,
    pub trust: Arc<dyn Trust>,
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub keeper: Keeper,
    pub limits: Limits,
    pub about: About,
}

/// What a member's row says of us that nothing here changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub os: String,
    pub architecture: String,
    pub home_path: String,
    pub public_key: String,
    pub peer_key: String,
}

/// From the configuration, in durations.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub start: Duration,
    pub stop_grace: Duration,
    pub freeze: Duration,
    /// How long a server that runs is given before it is asked whether the others run that it needs for a majority.
    pub quorum: Duration,
    /// For PREPARE to be answered.
    pub prepare: Duration,
    /// An agent that was not reached for so long is lost for the operation under way.
    pub silence: Duration,
    /// Servers of a zone that an order works on at a time.
    pub parallel: usize,
}

/// Registers every step. Keys are part of the stored format: see `tests::the_stored_keys`.
pub fn register_all(ports: &Ports) -> Registry {
    let mut registry = Registry::default();
    member::register(&mut registry, ports);
    settings::register(&mut registry, ports);
    init::register(&mut registry, ports);
    bootstrap::register(&mut registry, ports);
    handshake::register(&mut registry, ports);
    part::register(&mut registry, ports);
    server::register(&mut registry, ports);
    zones::register(&mut registry, ports);
    newcomer::register(&mut registry, ports);
    scale_out::register(&mut registry, ports);
    scale_in::register(&mut registry, ports);
    take_over::register(&mut registry, ports);
    roll::register(&mut registry, ports);
    registry
}

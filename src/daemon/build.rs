//! Every part of the agent, made in the order in which one needs another. Nothing answers and nothing runs yet.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::DaemonError;
use super::home::Home;
use super::metered::{MeteredNetwork, MeteredSql};
use super::network::Network;
use super::tls;
use crate::api::{self, Door, DoorParts, Listeners};
use crate::app::custody::{self, Custody};
use crate::app::health::{self, Service};
use crate::app::holding::Subject;
use crate::app::{self, App, Learned, RunState};
use crate::clock::Clock;
use crate::cluster::MYSQL_PORT_DEFAULT;
use crate::config::{self, Config, EngineKind};
use crate::engine::Handle;
use crate::flow::catalog::{About, Limits, Ports, register_all};
use crate::flow::keeper::Keeper;
use crate::flow::participant::Participant;
use crate::flow::ports::{ClusterSql, ObSql};
use crate::flow::trust::{NoTrust, Trust};
use crate::host::{facts, heap, net};
use crate::model::{AgentAddr, Identity};
use crate::peer::Client;
use crate::process::{self, Control};
use crate::secure::{AgentKey, Holding, PeerIdentity, Seen, Tls, V3Key};
use crate::sql::{ObserverSql, Own, OwnLife, SeekdbSql};
use crate::store::Store;
use crate::tasks::Tasks;
use crate::telemetry::{Meters, Page};

/// Relative to the home.
const SOCKET: &str = "run/obpilot.sock";

/// The parts that `run` starts, serves and stops.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) home: Home,
    pub(super) store: Store,
    pub(super) engine: Handle,
    pub(super) app: App,
    pub(super) health: Service,
    pub(super) control: Control,
    pub(super) learned: watch::Sender<Learned>,
    pub(super) door: Door,
    pub(super) listeners: Listeners,
    pub(super) tls: Option<Tls>,
    pub(super) custody: Option<Custody>,
    pub(super) run_state: RunState,
    /// Cancelled first when the agent stops: waiting requests are answered with what there is.
    pub(super) stopping: CancellationToken,
}

pub(super) async fn build(
    config: &Config,
    home: Home,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Agent, DaemonError> {
    let state = home.ledger.state();
    let (own, store) = (state.addr, home.keeper.store.clone());
    let stopping = CancellationToken::new();

    let control = Control::new(settings(config, &home), Arc::clone(&clock), tasks.clone());
    let keys = keys(&home, &*clock).await?;
    let Ways { client, network, tls, custody } = ways(config, &home, &keys, &clock, tasks).await?;
    let meters = Measured::default();
    let ports = ports(config, &home, &keys, &control, (&client, &network, custody.as_ref()), &meters, tasks);
    let (engine, participant) = engine(own, &store, &ports, tasks);

    warn_of_v1(config);
    let (health, health_handle) = health::new(watching(config), Arc::clone(&clock));
    let page = meters.page(&store, health_handle.clone());
    let (learned, knows) = watch::channel(Learned::default());
    let run_state = RunState::default();
    let app = App::new(app::Parts {
        own,
        home: home.path.to_string(),
        engine: engine.clone(),
        archive: Arc::new(store.clone()),
        ledger: home.ledger.clone(),
        participant,
        ports,
        health: health_handle,
        clock: Arc::clone(&clock),
        run_state: run_state.clone(),
        started_at: clock.now(),
        learned: knows,
        memory: app::Memory::default(),
        stopping: stopping.clone(),
    });

    network.attach(app.clone());

    let door = Door::new(DoorParts {
        app: app.clone(),
        tls: tls.clone(),
        custody: custody.clone(),
        key: keys.agent,
        v3_key: keys.v3,
        seen: seen(&store, &*clock).await?,
        keep: home.keeper.clone(),
        identity: keys.peer,
        peers: client,
        auth: config.auth.clone(),
        api: config.api.clone(),
        claimants: claimants(&config.bootstrap.allow),
        socket_uids: socket_uids(config, &home),
        clock,
        tasks: tasks.clone(),
        stopping: stopping.clone(),
        page,
    });
    let listeners = listen(config, &home)?;
    Ok(Agent {
        home,
        store,
        engine,
        app,
        health,
        control,
        learned,
        door,
        listeners,
        tls,
        custody,
        run_state,
        stopping,
    })
}

/// What works on tasks, and what takes part in those of other agents.
fn engine(own: AgentAddr, store: &Store, ports: &Ports, tasks: &Tasks) -> (Handle, Participant) {
    let participant = Participant::new(own, Arc::new(store.clone()), Arc::clone(&ports.clock));
    let (journal, clock) = (Arc::new(store.clone()), Arc::clone(&ports.clock));
    let engine = Handle::new(own, journal, register_all(ports), tasks.clone(), clock);
    participant.attach(engine.clone());
    (engine, participant)
}

/// What flows may use, with its real adapters.
fn ports(
    config: &Config,
    home: &Home,
    keys: &Keys,
    control: &Control,
    (client, network, custody): (&Client, &Network, Option<&Custody>),
    meters: &Measured,
    tasks: &Tasks,
) -> Ports {
    let state = home.ledger.state();
    let (sql, cluster) = sql(home, state.engine, &meters.sql);
    let (network, messages) = (network.clone(), meters.messages.clone());
    let peers = Arc::new(MeteredNetwork { network, own: state.addr, messages });
    let own_ca = custody.map(|own| Arc::new(own.clone()) as Arc<dyn Trust>);
    Ports {
        own: state.addr,
        engine: state.engine,
        process: Arc::new(control.clone()),
        sql,
        cluster,
        peers: peers.clone(),
        gate: Arc::new(client.clone()),
        about: about(home, keys),
        sealer: home.keeper.clone(),
        trust: own_ca.unwrap_or_else(|| Arc::new(NoTrust)),
        ledger: home.ledger.clone(),
        clock: Arc::clone(client.clock()),
        keeper: Keeper::new(peers, tasks.clone()),
        limits: limits(config),
    }
}

/// What an operation's time goes into, as this agent sees it.
#[derive(Debug)]
struct Measured {
    messages: Meters,
    sql: Meters,
}

impl Default for Measured {
    fn default() -> Self {
        Self { messages: Meters::new("message"), sql: Meters::new("what") }
    }
}

impl Measured {
    fn page(&self, store: &Store, health: health::Handle) -> Arc<Page> {
        let page = Page::default()
            .with(
                "store_commit",
                "Groups of writes, from the first of them until they are durable",
                store.commit_times(),
            )
            .with_kinds(
                "peer_message",
                "Messages to other agents, until the answer; a watch waits for news",
                &self.messages,
            )
            .with_kinds(
                "sql",
                "What was asked of the own server, from the login to the last answer",
                &self.sql,
            )
            .with_reading("server_serving", "1 if the own server serves", move || {
                f64::from(u8::from(health.now().is_serving()))
            })
            .with_reading(
                "heap_held_bytes",
                "Memory that the agent has asked for and not given back",
                || heap::held_bytes().map_or(f64::NAN, f64::from),
            );
        Arc::new(page)
    }
}

/// How others are reached, and what they are shown.
struct Ways {
    client: Client,
    network: Network,
    tls: Option<Tls>,
    custody: Option<Custody>,
}

async fn ways(
    config: &Config,
    home: &Home,
    keys: &Keys,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
) -> Result<Ways, DaemonError> {
    let (own, ledger) = (home.ledger.state().addr, home.ledger.clone());
    let tls::Loaded { tls, own: held } = tls::load(config, home, &**clock).await?;
    let identity = Arc::clone(&keys.peer);
    let client = Client::new(own, identity, ledger, Arc::clone(clock), tls.as_ref(), tasks.clone())?;
    let network = Network::new(own, client.clone());
    let custody = tls.as_ref().zip(held).map(|(tls, held)| custody(tls, held, home, &network, clock));
    Ok(Ways { client, network, tls, custody })
}

fn custody(
    tls: &Tls,
    (subject, holding): (Subject, Holding),
    home: &Home,
    network: &Network,
    clock: &Arc<dyn Clock>,
) -> Custody {
    Custody::new(custody::Parts {
        subject,
        tls: tls.clone(),
        keep: home.keeper.clone(),
        peers: Arc::new(network.clone()),
        ledger: home.ledger.clone(),
        clock: Arc::clone(clock),
        holding,
    })
}

/// The agent's own keys.
struct Keys {
    agent: AgentKey,
    v3: V3Key,
    peer: Arc<PeerIdentity>,
}

/// Whoever has switched v1 on without TLS may not know what that means.
fn warn_of_v1(config: &Config) {
    if config.auth.v1 && config.tls.mode == config::TlsMode::Off {
        tracing::warn!(
            "auth.v1 is on and tls.mode is off: whoever sees a header of scheme v1 on its way can send any request with it"
        );
    }
}

/// Each probe asks for the password that is known too, so it comes as often as that is to be checked (W13).
fn watching(config: &Config) -> config::Engine {
    let probe_interval_secs = config.engine.probe_interval_secs.min(config.auth.recheck_password_secs);
    config::Engine { probe_interval_secs, ..config.engine.clone() }
}

/// Kept ones, or new ones at the first start; the two that take time are made beside each other.
async fn keys(home: &Home, clock: &dyn Clock) -> Result<Keys, DaemonError> {
    let (keeper, now) = (&home.keeper, clock.now());
    let (agent, v3) = tokio::try_join!(keeper.agent_key(now), keeper.v3_key(now))?;
    Ok(Keys { agent, v3, peer: Arc::new(keeper.peer_identity(now).await?) })
}

/// Blocks of headers that were accepted before and have not expired.
async fn seen(store: &Store, clock: &dyn Clock) -> Result<Seen, DaemonError> {
    let mut seen = Seen::default();
    let now = clock.now();
    seen.restore(store.seen_blocks(now).await?, now.as_second());
    Ok(seen)
}

/// SQL to the server of this engine.
fn sql(home: &Home, engine: EngineKind, acts: &Meters) -> (Arc<dyn ObSql>, Arc<dyn ClusterSql>) {
    let ledger = home.ledger.clone();
    let port = move || ledger.state().server.sql_port.unwrap_or(MYSQL_PORT_DEFAULT);
    match engine {
        EngineKind::Seekdb => {
            let sql = MeteredSql { sql: SeekdbSql::new(port), acts: acts.clone() };
            (Arc::new(sql.clone()), Arc::new(sql))
        }
        EngineKind::Observer => {
            let (ledger, ip) = (home.ledger.clone(), home.ledger.state().addr.ip);
            let own = move || {
                let state = ledger.state();
                // Before init it is nobody's server.
                let member = state.own_member().filter(|_| state.identity == Identity::ClusterAgent);
                let server = member.map(crate::model::Member::server);
                let life = state.server.process.as_ref().and_then(|process| {
                    Some(OwnLife { start_ticks: process.start_ticks, age: process::age(process)? })
                });
                Own { server, sql_port: port(), life }
            };
            let sql = MeteredSql { sql: ObserverSql::new(ip, own), acts: acts.clone() };
            (Arc::new(sql.clone()), Arc::new(sql))
        }
    }
}

/// What a member's row says of this agent.
fn about(home: &Home, keys: &Keys) -> About {
    About {
        os: facts::os_id(),
        architecture: std::env::consts::ARCH.to_owned(),
        home_path: home.path.to_string(),
        public_key: keys.agent.public_on_wire().to_owned(),
        peer_key: keys.peer.public_on_wire(),
    }
}

fn settings(config: &Config, home: &Home) -> process::Settings {
    let state = home.ledger.state();
    process::Settings {
        kind: state.engine,
        binary: state.binary.clone(),
        home: home.path.clone(),
        disk_reserve_bytes: config.engine.disk_reserve_mib << 20,
        has_systemd_scope: config.engine.systemd_scope,
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        start: Duration::from_secs(config.engine.start_timeout_secs),
        stop_grace: Duration::from_secs(config.engine.stop_grace_secs),
        freeze: Duration::from_secs(config.engine.freeze_timeout_secs),
        quorum: Duration::from_secs(config.peers.quorum_wait_secs),
        prepare: Duration::from_secs(config.peers.prepare_timeout_secs),
        silence: Duration::from_secs(config.peers.silence_limit_secs),
        parallel: usize::try_from(config.peers.parallel_max).unwrap_or(usize::MAX),
    }
}

fn listen(config: &Config, home: &Home) -> Result<Listeners, DaemonError> {
    let own = home.ledger.state().addr.socket();
    let addrs = if config.agent.listen.is_empty() { vec![own] } else { config.agent.listen.clone() };
    let socket = socket_path(config, home);
    let is_shared = !config.socket.allow_uids.is_empty() || owner_of(home) != own_uid();
    api::listen(&addrs, &socket, &home.state_dir, is_shared).map_err(|e| DaemonError::Listen(e.to_string()))
}

fn socket_path(config: &Config, home: &Home) -> Utf8PathBuf {
    config.socket.path.clone().unwrap_or_else(|| home.path.join(SOCKET))
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn owner_of(home: &Home) -> u32 {
    std::fs::metadata(&home.path).map_or_else(|_| own_uid(), |found| found.uid())
}

/// Who may use the socket: root, the agent's own user, the owner of the home, and whom the configuration names.
fn socket_uids(config: &Config, home: &Home) -> Vec<u32> {
    let mut uids = vec![0, own_uid(), owner_of(home)];
    uids.extend(&config.socket.allow_uids);
    uids
}

/// The rules of `bootstrap.allow` as networks. They were checked when the configuration was read.
fn claimants(allow: &[String]) -> Vec<config::Network> {
    let mut networks = Vec::new();
    for rule in allow {
        match rule.as_str() {
            "loopback" => {
                let loopback: [(IpAddr, u8); 2] = [([127, 0, 0, 0].into(), 8), (IpAddr::V6(1.into()), 128)];
                networks.extend(
                    loopback.into_iter().filter_map(|(base, prefix)| config::Network::new(base, prefix)),
                );
            }
            "attached" => match net::attached() {
                Ok(attached) => networks.extend(attached),
                Err(error) => {
                    tracing::warn!(%error, "the networks of this host are not known; none may claim this agent")
                }
            },
            rule => networks.extend(config::Network::parse(rule)),
        }
    }
    networks
}

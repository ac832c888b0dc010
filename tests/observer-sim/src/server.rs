//! One simulated server: what it is called, how far it has come, and who may come in (`observer-model.md` §7, §8, §15.2).
//!
//! Invariant: how far it has come follows from the shared state and from its own store, looked at again at every beat and
//! before every statement; there is no message between servers that could be lost.
//!
//! Simplified: what a server missed while it was away it has again 4 s (× factor) after it reached a leader, a moment after it
//! serves, or when fault `catch_up_ms` lets it.
//!
//! Not here: the rules of the cluster (`rules`), what statements do (`session`), the files of a start (`process`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::clock;
use crate::cluster::{Cluster, Mark};
use crate::log::Log;
use crate::process;
use crate::refusal::Refusal;
use crate::rules::{self, View};
use crate::saved::{self, Config};
use crate::settings::{Convention, Settings, Source, hold};
use crate::state::{Addr, Card, Credential, State, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Starting,
    /// Of no cluster.
    Waiting,
    /// Of a cluster, but not ready.
    Syncing,
    Serving,
    /// Somebody asked for a stop; all goes on for a moment.
    Grace,
    Stopping,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Syncing => "syncing",
            Self::Serving => "serving",
            Self::Grace => "grace",
            Self::Stopping => "stopping",
        }
    }
}

/// What may be different in a moment.
#[derive(Debug)]
struct Life {
    phase: Phase,
    sync_since: Option<u64>,
    serving_since: i64,
    /// As on the card.
    behind_since: i64,
    catching_up_since: Option<u64>,
    /// The built-in root is gone for this life.
    is_schema_loaded: bool,
    root: Credential,
    users: BTreeMap<String, Credential>,
}

/// Who a login is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Root without password, who may bootstrap.
    BuiltIn,
    Schema {
        root: Credential,
        users: BTreeMap<String, Credential>,
        tenants: Vec<String>,
    },
}

/// State and view of a moment, as this server has them.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) state: State,
    pub(crate) view: View,
    pub(crate) settings: Settings,
    /// This server belongs to the cluster and has its data.
    pub(crate) is_member: bool,
    /// It reaches the leader of the system's log stream.
    pub(crate) has_leader: bool,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) addr: Addr,
    pub(crate) sql_port: u16,
    pub(crate) zone: String,
    pub(crate) home: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) cluster: Cluster,
    pub(crate) log: Log,
    pub(crate) source: Source,
    pub(crate) spawn: u64,
    /// This life began with a saved configuration.
    pub(crate) is_restart: bool,
    config: Mutex<Config>,
    life: Mutex<Life>,
    stop: Condvar,
    /// One thread at a time looks and advances.
    turn: Mutex<()>,
}

/// What a server is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) addr: Addr,
    pub(crate) home: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) cluster: Cluster,
    pub(crate) log: Log,
    pub(crate) source: Source,
    pub(crate) config: Config,
    pub(crate) sql_port: u16,
    pub(crate) is_restart: bool,
}

impl Server {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let is_return = process::has_streams(&parts.data_dir);
        let life = Life {
            phase: Phase::Starting,
            sync_since: None,
            serving_since: 0,
            behind_since: if is_return { clock::wall_us() } else { 0 },
            catching_up_since: None,
            is_schema_loaded: false,
            root: None,
            users: BTreeMap::new(),
        };
        Arc::new(Self {
            addr: parts.addr,
            sql_port: parts.sql_port,
            zone: parts.config.get("zone").cloned().unwrap_or_default(),
            home: parts.home,
            data_dir: parts.data_dir,
            cluster: parts.cluster,
            log: parts.log,
            source: parts.source,
            spawn: clock::boot_ns(),
            is_restart: parts.is_restart,
            config: Mutex::new(parts.config),
            life: Mutex::new(life),
            stop: Condvar::new(),
            turn: Mutex::default(),
        })
    }

    pub(crate) fn settings(&self) -> Settings {
        self.source.read()
    }

    pub(crate) fn phase(&self) -> Phase {
        hold(&self.life).phase
    }

    fn enter(&self, phase: Phase) {
        self.go_on(&mut hold(&self.life), phase);
    }

    /// For those who decide by the phase that it has: nobody else moves it between the look and the change.
    fn go_on(&self, life: &mut Life, phase: Phase) {
        if life.phase != phase {
            life.phase = phase;
            self.cluster
                .note("state", json!({ "what": format!("phase of {}", self.addr), "is": phase.name() }));
        }
    }

    pub(crate) fn age(&self) -> Duration {
        Duration::from_nanos(clock::boot_ns().saturating_sub(self.spawn))
    }

    /// Looks around, goes on as far as possible, and says how things are.
    pub(crate) fn sight(&self) -> Result<Sight, Refusal> {
        let _turn = hold(&self.turn);
        let settings = self.settings();
        self.publish(&settings)?;
        let (state, view) = self.cluster.settled(settings.factor)?;
        let sight = self.advance(settings, state, view)?;
        Ok(sight)
    }

    fn publish(&self, settings: &Settings) -> anyhow::Result<()> {
        let card = {
            let life = hold(&self.life);
            Card {
                pid: std::process::id(),
                spawn: self.spawn,
                zone: self.zone.clone(),
                sql_port: self.sql_port,
                rpc_port: self.addr.port(),
                version: settings.version(self.is_restart).to_owned(),
                build_version: settings.build_version(self.is_restart),
                home: self.home.clone(),
                data_dir: self.data_dir.clone(),
                phase: life.phase.name().to_owned(),
                serving_since: life.serving_since,
                behind_since: life.behind_since,
                is_leaving: life.phase >= Phase::Grace,
                keeps_leaders: settings.has("stop_server_blocks"),
                never_freezes: settings.has("freeze_never"),
                never_leaves: settings.has("delete_never"),
                config: hold(&self.config).clone(),
                has_data: false,
            }
        };
        self.cluster.publish(self.addr, &card)
    }

    fn advance(&self, settings: Settings, mut state: State, mut view: View) -> Result<Sight, Refusal> {
        let is_listed = state.is_bootstrapped && state.server(self.addr).is_some();
        let root = rules::root_service(&state, &view).filter(|root| view.sees(self.addr, *root));
        let mut has_data = process::has_streams(&self.data_dir);
        if is_listed && !has_data && root.is_some() {
            // What was lost is copied from the others.
            process::make_streams(&self.data_dir).map_err(anyhow::Error::from)?;
            has_data = true;
            hold(&self.life).behind_since = clock::wall_us();
        }
        let is_member = is_listed && has_data;
        let leader = rules::system_leader(&state, &view, self.addr);
        let has_leader = is_member && leader.is_some() && !settings.has("no_leader");
        let has_caught_up = self.catch_up(&settings, &view, has_leader);
        if self.step(&settings, &state, &view, is_member, has_leader) || has_caught_up {
            self.publish(&settings)?;
            (state, view) = self.cluster.settled(settings.factor)?;
        }
        if has_leader {
            self.keep_configuration(&state);
        }
        Ok(Sight { state, view, settings, is_member, has_leader })
    }

    /// Whether its replicas came to have everything just now.
    fn catch_up(&self, settings: &Settings, view: &View, has_leader: bool) -> bool {
        const CATCH_UP: f64 = 4.0;
        let mut life = hold(&self.life);
        if !has_leader || life.behind_since == 0 {
            life.catching_up_since = None;
            return false;
        }
        let since = *life.catching_up_since.get_or_insert(view.now);
        let is_held = settings.millis("catch_up_ms").is_some_and(|span| self.age() < span);
        if is_held || !view.is_over(since, CATCH_UP) {
            return false;
        }
        life.behind_since = 0;
        true
    }

    /// Whether it began to serve just now.
    fn step(
        &self,
        settings: &Settings,
        state: &State,
        view: &View,
        is_member: bool,
        has_leader: bool,
    ) -> bool {
        const SYNC: f64 = 3.0;
        let mut life = hold(&self.life);
        if has_leader {
            life.is_schema_loaded = true;
            life.root.clone_from(&state.root);
            life.users.clone_from(&state.users);
        }
        let next = match life.phase {
            Phase::Waiting | Phase::Syncing if !is_member => Phase::Waiting,
            Phase::Waiting | Phase::Syncing if !has_leader => {
                life.sync_since = None;
                Phase::Syncing
            }
            Phase::Waiting | Phase::Syncing => {
                let since = *life.sync_since.get_or_insert(view.now);
                let is_held = settings.has("never_serve")
                    || settings.millis("serve_after_ms").is_some_and(|span| self.age() < span);
                if view.is_over(since, SYNC) && !is_held { Phase::Serving } else { Phase::Syncing }
            }
            phase @ (Phase::Starting | Phase::Serving | Phase::Grace | Phase::Stopping) => phase,
        };
        let begins = next == Phase::Serving && life.phase != Phase::Serving;
        if begins {
            life.serving_since = clock::wall_us();
            self.log.info("observer start service");
        }
        self.go_on(&mut life, next);
        begins
    }

    /// The SQL port is open.
    pub(crate) fn has_opened(&self) {
        let mut life = hold(&self.life);
        if life.phase == Phase::Starting {
            self.go_on(&mut life, Phase::Waiting);
        }
    }

    /// Values set by SQL and the list of servers go into the saved configuration.
    fn keep_configuration(&self, state: &State) {
        let mut config = hold(&self.config);
        let before = config.clone();
        for parameter in &state.parameters {
            let is_meant = match &parameter.target {
                Target::Cluster => true,
                Target::Server(addr) => *addr == self.addr,
                Target::Zone(zone) => *zone == self.zone,
                Target::Tenant(_) => false,
            };
            if is_meant {
                config.insert(parameter.name.clone(), parameter.value.clone());
            }
        }
        let servers: Vec<String> = state.servers.iter().map(|row| row.addr.to_string()).collect();
        config.insert("all_server_list".to_owned(), servers.join(","));
        if let Some(row) = state.server(self.addr) {
            config.insert("observer_id".to_owned(), row.id.to_string());
        }
        let roots: Vec<String> = state
            .system_stream()
            .into_iter()
            .flat_map(|stream| &stream.members)
            .filter_map(|member| state.server(*member))
            .map(|row| format!("{}:{}", row.addr, row.sql_port))
            .collect();
        config.insert("rootservice_list".to_owned(), roots.join(";"));
        if *config != before
            && let Err(error) = saved::save(&self.home, &config)
        {
            self.log.error("dump2file", -4009, &format!("fail to dump configuration, {error}"));
        }
    }

    pub(crate) fn config(&self) -> Config {
        hold(&self.config).clone()
    }

    /// Who is at the door; `tenants` of a cluster that is not there yet are all unknown.
    pub(crate) fn door(&self, state: &State) -> Door {
        let life = hold(&self.life);
        if !life.is_schema_loaded {
            return Door::BuiltIn;
        }
        let tenants = state.tenants.iter().map(|tenant| tenant.name.clone()).collect();
        Door::Schema { root: life.root.clone(), users: life.users.clone(), tenants }
    }

    /// Has a thread of its own for as long as the process lives.
    pub(crate) fn beat_for_ever(&self, mark: &Mark) -> ! {
        // A test that is over takes the cluster's directory away, and with it whatever was left running.
        while self.cluster.dir().is_dir() {
            mark.beat();
            if let Err(why) = self.sight() {
                self.log.error("beat", -4016, &why.text);
            }
            let pause = self.settings().span(0.5).max(Duration::from_millis(50));
            std::thread::sleep(pause);
        }
        std::process::exit(1);
    }

    /// The grace of a graceful stop, then the order to stop.
    pub(crate) fn stop_after_grace(&self) {
        const GRACE: f64 = 5.0;
        self.enter(Phase::Grace);
        drop(self.sight());
        std::thread::sleep(self.settings().span(GRACE));
        self.enter(Phase::Stopping);
        self.stop.notify_all();
    }

    /// The main thread sits here until it is time to go; returns the exit status.
    pub(crate) fn wait_for_stop(&self) -> i32 {
        const SHUTDOWN: f64 = 1.0;
        let mut life = hold(&self.life);
        while life.phase != Phase::Stopping {
            life = self.stop.wait(life).unwrap_or_else(PoisonError::into_inner);
        }
        drop(life);
        self.log.info("observer is stopping");
        let settings = self.settings();
        while self.settings().has("stuck_shutdown") {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(settings.span(SHUTDOWN));
        if settings.signals == Convention::Older {
            drop(std::fs::remove_file(self.home.join(process::PID_FILE)));
        }
        self.cluster.note("exit", json!({ "code": 0 }));
        self.log.info("observer stops");
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A beat that falls together with another thread's step takes it back neither at once nor a moment later.
    #[test]
    fn no_beat_takes_back_how_far_it_has_come() {
        let dir = tempfile::tempdir().unwrap();
        let addr: Addr = "127.0.0.1:2882".parse().unwrap();
        let server = Server::new(Parts {
            addr,
            home: dir.path().to_owned(),
            data_dir: dir.path().to_owned(),
            cluster: Cluster::open(dir.path(), addr).unwrap(),
            log: Log::new(dir.path()),
            source: Source::at(dir.path().join("none")),
            config: Config::new(),
            sql_port: 2881,
            is_restart: false,
        });
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(server.sight());
                }
            });
            let is_kept = |_: &i32| {
                server.enter(Phase::Starting);
                server.enter(Phase::Stopping);
                std::thread::yield_now();
                server.phase() == Phase::Stopping
            };
            let kept = (0..20_000).take_while(is_kept).count();
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(kept, 20_000, "a beat has put back an earlier phase");
        });
    }
}

//! What the simulated cluster holds in common, as written to `state.json`, and what each live process says of itself.
//!
//! Invariant: plain data. Times that tables show are microseconds of wall time with 0 for "never"; times that rules measure
//! are nanoseconds since the host was started.
//!
//! Not here: how any of it changes (`rules`, `alter`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// IP and rpc port: what a server is called in the cluster.
pub(crate) type Addr = SocketAddr;

/// SHA1(SHA1(password)) in hexadecimal; `None` is the empty password.
pub(crate) type Credential = Option<String>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) is_bootstrapped: bool,
    pub(crate) cluster: String,
    pub(crate) cluster_id: String,
    /// Version of the servers at bootstrap.
    pub(crate) version: String,
    pub(crate) root: Credential,
    pub(crate) users: BTreeMap<String, Credential>,
    pub(crate) last_server_id: i64,
    pub(crate) servers: Vec<Server>,
    pub(crate) zones: Vec<Zone>,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) events: Vec<Event>,
    pub(crate) root_service: Option<RootService>,
}

impl State {
    pub(crate) fn server(&self, addr: Addr) -> Option<&Server> {
        self.servers.iter().find(|server| server.addr == addr)
    }

    pub(crate) fn server_mut(&mut self, addr: Addr) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.addr == addr)
    }

    pub(crate) fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn zone_mut(&mut self, name: &str) -> Option<&mut Zone> {
        self.zones.iter_mut().find(|zone| zone.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn system_stream(&self) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.tenant == 1 && stream.id == 1)
    }

    /// Marked as stopped itself, or in a zone that is.
    pub(crate) fn is_stopped(&self, addr: Addr) -> bool {
        self.server(addr).is_some_and(|server| {
            server.stop_time != 0
                || self.zone(&server.zone).is_some_and(|zone| zone.status == ZoneStatus::Inactive)
        })
    }
}

/// A row of `__all_server`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) addr: Addr,
    pub(crate) id: i64,
    pub(crate) zone: String,
    pub(crate) sql_port: u16,
    pub(crate) status: ServerStatus,
    pub(crate) start_service_time: i64,
    pub(crate) stop_time: i64,
    pub(crate) last_offline_time: i64,
    pub(crate) build_version: String,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    /// Since when RootService gets no answer.
    pub(crate) lost_at: Option<u64>,
    /// Since when the server has something new to tell at its next heartbeat.
    pub(crate) news_at: Option<u64>,
    pub(crate) deleting_since: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ServerStatus {
    Active,
    Inactive,
    Deleting,
}

impl ServerStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Deleting => "DELETING",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Zone {
    pub(crate) name: String,
    pub(crate) status: ZoneStatus,
    pub(crate) region: String,
    pub(crate) idc: String,
    pub(crate) kind: String,
    pub(crate) created: i64,
    pub(crate) modified: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ZoneStatus {
    Active,
    Inactive,
}

impl ZoneStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tenant {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) kind: TenantKind,
    pub(crate) created: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TenantKind {
    Sys,
    Meta,
    User,
}

impl TenantKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sys => "SYS",
            Self::Meta => "META",
            Self::User => "USER",
        }
    }
}

/// A log stream and its replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) tenant: i64,
    pub(crate) id: i64,
    pub(crate) members: Vec<Addr>,
    pub(crate) leader: Option<Leader>,
    /// What the location table was last told.
    pub(crate) reported: Option<Addr>,
    pub(crate) proposal: i64,
    /// Since when there is no leader.
    pub(crate) lost_at: Option<u64>,
    /// Since when the leader should be elsewhere.
    pub(crate) leaving_at: Option<u64>,
    /// Replicas that lag, and the SCN at which they stand.
    pub(crate) lagging: BTreeMap<Addr, i64>,
    pub(crate) checkpoints: BTreeMap<Addr, i64>,
    pub(crate) freezes: Vec<Freeze>,
}

impl Stream {
    pub(crate) fn leader(&self) -> Option<Addr> {
        self.leader.as_ref().map(|leader| leader.addr)
    }

    pub(crate) fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }
}

/// A leader is one life of a process: when that is over, so is the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leader {
    pub(crate) addr: Addr,
    pub(crate) spawn: u64,
}

/// A dump that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Freeze {
    pub(crate) addr: Addr,
    pub(crate) since: u64,
    pub(crate) scn: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootService {
    pub(crate) addr: Addr,
    pub(crate) since: u64,
    /// The first of a cluster needs no time to take over.
    pub(crate) is_first: bool,
}

/// A value that was set by SQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Target {
    Cluster,
    Server(Addr),
    Zone(String),
    Tenant(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: i64,
    pub(crate) server: Addr,
    pub(crate) status: String,
    pub(crate) started: i64,
}

/// A row of the history of RootService.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) at: i64,
    pub(crate) module: String,
    pub(crate) event: String,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// What a live process says of itself in `servers/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Card {
    pub(crate) pid: u32,
    pub(crate) spawn: u64,
    pub(crate) zone: String,
    pub(crate) sql_port: u16,
    pub(crate) rpc_port: u16,
    pub(crate) version: String,
    pub(crate) build_version: String,
    pub(crate) home: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) phase: String,
    /// Wall time at which it began to serve.
    pub(crate) serving_since: i64,
    /// Its replicas stand where they stood at this wall time and catch up; 0: they have what their leaders have.
    pub(crate) behind_since: i64,
    /// It is going to end and gives its leaders away.
    pub(crate) is_leaving: bool,
    /// Fault: its leaders stay.
    pub(crate) keeps_leaders: bool,
    /// Fault: its checkpoints stay.
    pub(crate) never_freezes: bool,
    /// Fault: it is never done with being deleted.
    pub(crate) never_leaves: bool,
    pub(crate) config: BTreeMap<String, String>,
    /// It holds replicas. Looked up by whoever reads the card.
    #[serde(skip)]
    pub(crate) has_data: bool,
}

//! The document about this agent, and the changes it can take.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::accounts::Accounts;
use super::members::Members;
use super::topology::Topology;
use crate::config::EngineKind;
use crate::model::{
    Account, AgentAddr, Exit, Identity, KeyPair, Member, Password, Scope, ServerProcess, Timestamp, ZoneName,
};

/// Everything the agent remembers about itself. Secrets are kept apart, see [`super::Secrets`]; what it knows of others is a
/// document of its own, see [`super::papers`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentState {
    pub addr: AgentAddr,
    pub engine: EngineKind,
    pub binary: Utf8PathBuf,
    pub identity: Identity,
    pub zone: Option<ZoneName>,
    /// The agents of our cluster, ourselves included; empty while SINGLE.
    #[serde(skip)]
    pub members: Members,
    /// Agents that are not members yet, or not any more, and that we have to speak to: those that a scale-out of ours adds
    /// (SCALING OUT), and those that were removed and do not know it yet (SCALING IN). Only their keys count.
    #[serde(skip)]
    pub guests: Members,
    /// Numbers of the servers, as the database told them last.
    #[serde(skip)]
    pub topology: Topology,
    pub cluster: ClusterConfig,
    pub observer: ObserverConfig,
    pub server: Server,
}

/// `POST /obcluster/config`. Each call replaces all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterConfig {
    pub id: Option<i64>,
    pub name: Option<String>,
    pub rs_list: Option<String>,
}

/// `POST /observer/config`, by scope. Each call replaces what was set at its scope and targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObserverConfig {
    pub global: BTreeMap<String, String>,
    pub zones: BTreeMap<ZoneName, BTreeMap<String, String>>,
    pub servers: BTreeMap<AgentAddr, BTreeMap<String, String>>,
}

/// What is known and wanted of the database process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub wanted: Wanted,
    /// The life we know of; it may have ended meanwhile.
    pub process: Option<ServerProcess>,
    pub last_exit: Option<LastExit>,
    /// Port of the MySQL protocol, as last started or seen.
    pub sql_port: Option<u16>,
    /// `ob_version()` of the running engine.
    pub version: Option<String>,
}

/// What the last operation wanted of the process. An exit while `Running` is wanted is news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Nobody has started it yet.
    #[default]
    Nothing,
    Running,
    Stopped,
}

/// How the process ended last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    pub pid: i32,
    pub exit: Exit,
    pub at: Timestamp,
    /// No operation had asked for it.
    pub is_unexpected: bool,
}

/// What can change, with the values. Passwords never become part of a record.
#[derive(Clone, Debug)]
pub enum Change {
    /// We lead a cluster to be; the member is ourselves. A MASTER keeps the followers it has.
    BecameMaster {
        own: Member,
    },
    /// We follow; the members are ourselves and our master.
    BecameFollower {
        zone: ZoneName,
        members: Members,
    },
    /// A member of a cluster adds us; the members are ourselves and that one.
    BecameScalingOut {
        zone: ZoneName,
        members: Members,
        config: BTreeMap<String, String>,
    },
    /// The cluster is initialised; so are all of its members.
    BecameClusterAgent,
    /// The same, told by somebody who knows all of its members: a CLUSTER AGENT with the ports that it had as a follower would
    /// write them over those that are right.
    Adopted {
        members: Members,
    },
    BecameSingle,
    /// Our member, or another one, as it is known now.
    MemberKnown(Member),
    /// A member has left; what was configured for it, and for its zone if nobody else is in it, goes with it.
    MemberLeft(AgentAddr),
    /// The same, and it has still to be told.
    MemberRetired(AgentAddr),
    GuestKnown(Member),
    GuestLeft(AgentAddr),
    /// All members, as the cluster says.
    MembersKnown(Members),
    ClusterConfigured {
        config: ClusterConfig,
        root_password: Option<Password>,
    },
    ObserverConfigured {
        scope: Scope,
        config: BTreeMap<String, String>,
    },
    RootPassword(Password),
    AgentPassword(Password),
    /// Without a value it is removed.
    AccountSet {
        name: String,
        account: Option<Account>,
    },
    KeyPairSet {
        access_key: String,
        pair: Option<KeyPair>,
    },
    /// What another member has; what is newer there is taken.
    AccountsKnown(Accounts),
    ServerWanted(Wanted),
    /// `sql_port` as it was told to the server; `None` when the server was told nothing and goes by what it has saved.
    ServerStarted {
        process: ServerProcess,
        sql_port: Option<u16>,
    },
    /// The port that the running server was seen to listen on.
    SqlPort(u16),
    ServerVersion(String),
    ServerExited(LastExit),
    /// Servers with their numbers, as the database says.
    TopologyKnown(Topology),
}

impl Change {
    /// The record of the change: its name and what may be seen of it.
    pub fn describe(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Self::BecameMaster { own } => json!({ "became": Identity::Master, "zone": own.zone }),
            Self::BecameFollower { zone, members } => {
                let master = members.master().map(|member| member.agent);
                json!({ "became": Identity::Follower, "zone": zone, "master": master })
            }
            Self::BecameScalingOut { zone, members, .. } => {
                json!({ "became": Identity::ScalingOut, "zone": zone, "members": members.agents() })
            }
            Self::MemberKnown(member) => json!({ "member": member.agent, "zone": member.zone }),
            Self::MemberLeft(agent) | Self::MemberRetired(agent) => json!({ "member_left": agent }),
            Self::GuestKnown(guest) => json!({ "guest": guest.agent, "identity": guest.identity }),
            Self::GuestLeft(agent) => json!({ "guest_left": agent }),
            Self::MembersKnown(members) => json!({ "members": members.agents() }),
            Self::BecameClusterAgent => json!({ "became": Identity::ClusterAgent }),
            Self::Adopted { members } => {
                json!({ "became": Identity::ClusterAgent, "members": members.agents() })
            }
            Self::BecameSingle => json!({ "became": Identity::Single }),
            Self::ClusterConfigured { config, root_password } => {
                json!({ "cluster": config, "sets_root_password": root_password.is_some() })
            }
            Self::ObserverConfigured { scope, config } => {
                json!({ "scope": scope.to_string(), "observer": config })
            }
            Self::RootPassword(_) => json!("root password"),
            Self::AgentPassword(_) => json!("agent password"),
            Self::AccountSet { name, account } => {
                json!({ "account": name, "role": account.as_ref().map(|account| account.role) })
            }
            Self::KeyPairSet { access_key, pair } => {
                json!({ "key_pair": access_key, "role": pair.as_ref().map(|pair| pair.role) })
            }
            Self::AccountsKnown(_) => json!("accounts of another member"),
            Self::ServerWanted(wanted) => json!({ "server_wanted": wanted }),
            Self::ServerStarted { process, sql_port } => {
                json!({ "server_started": process, "sql_port": sql_port })
            }
            Self::SqlPort(port) => json!({ "sql_port": port }),
            Self::ServerVersion(version) => json!({ "server_version": version }),
            Self::ServerExited(exit) => json!({ "server_exited": exit }),
            Self::TopologyKnown(topology) => json!({ "servers": topology.servers }),
        }
    }
}

impl AgentState {
    pub fn new(addr: AgentAddr, engine: EngineKind, binary: Utf8PathBuf) -> Self {
        Self {
            addr,
            engine,
            binary,
            identity: Identity::Single,
            zone: None,
            members: Members::default(),
            guests: Members::default(),
            topology: Topology::default(),
            cluster: ClusterConfig::default(),
            observer: ObserverConfig::default(),
            server: Server::default(),
        }
    }

    /// The document after a change. Applying a change twice is applying it once.
    #[must_use]
    pub fn after(&self, change: &Change) -> Self {
        let mut state = self.clone();
        match change {
            Change::BecameMaster { own } => {
                state.identity = Identity::Master;
                state.zone = Some(own.zone.clone());
                let followers = state.members.all_as(Identity::Follower);
                state.members = followers.with(Member { identity: Identity::Master, ..own.clone() });
            }
            Change::BecameFollower { zone, members } => {
                state.identity = Identity::Follower;
                state.zone = Some(zone.clone());
                state.members = members.clone();
            }
            Change::BecameScalingOut { zone, members, config } => {
                state.identity = Identity::ScalingOut;
                state.zone = Some(zone.clone());
                state.members = members.clone();
                state.observer = ObserverConfig::default();
                state.observer.replace(&Scope::Server(vec![state.addr]), config);
            }
            Change::BecameClusterAgent => {
                state.identity = Identity::ClusterAgent;
                state.members = state.members.all_as(Identity::ClusterAgent);
            }
            Change::MemberKnown(member) => state.members = state.members.with(member.clone()),
            Change::MemberLeft(agent) => state.forget(*agent),
            Change::MemberRetired(agent) => {
                if let Some(member) = state.members.find(*agent).cloned() {
                    state.guests = state.guests.with(Member { identity: Identity::ScalingIn, ..member });
                }
                state.forget(*agent);
            }
            Change::GuestKnown(guest) => state.guests = state.guests.with(guest.clone()),
            Change::GuestLeft(agent) => state.guests = state.guests.without(*agent),
            Change::Adopted { members } => {
                state.identity = Identity::ClusterAgent;
                state.know(members);
            }
            Change::MembersKnown(members) => state.know(members),
            Change::BecameSingle => state.belong_to_nobody(),
            Change::ClusterConfigured { config, .. } => state.cluster = config.clone(),
            Change::ObserverConfigured { scope, config } => state.observer.replace(scope, config),
            Change::RootPassword(_)
            | Change::AgentPassword(_)
            | Change::AccountSet { .. }
            | Change::KeyPairSet { .. }
            | Change::AccountsKnown(_) => {}
            Change::ServerWanted(wanted) => state.server.wanted = *wanted,
            Change::ServerStarted { process, sql_port } => {
                state.server.process = Some(process.clone());
                state.server.sql_port = sql_port.or(state.server.sql_port);
                state.server.wanted = Wanted::Running;
            }
            Change::SqlPort(port) => state.server.sql_port = Some(*port),
            Change::ServerVersion(version) => state.server.version = Some(version.clone()),
            Change::ServerExited(exit) => {
                state.server.process = None;
                state.server.last_exit = Some(exit.clone());
            }
            Change::TopologyKnown(topology) => state.topology = topology.clone(),
        }
        state
    }

    fn belong_to_nobody(&mut self) {
        self.identity = Identity::Single;
        self.zone = None;
        self.members = Members::default();
        self.guests = Members::default();
        self.topology = Topology::default();
        self.cluster = ClusterConfig::default();
        self.observer = ObserverConfig::default();
    }

    /// Whoever knows all members knows where we are, too.
    fn know(&mut self, members: &Members) {
        if let Some(zone) = members.zone_of(self.addr) {
            self.zone = Some(zone.clone());
        }
        self.members = members.clone();
    }

    /// Only what is its own goes: another member of the zone keeps the zone's settings (W27).
    fn forget(&mut self, agent: AgentAddr) {
        let zone = self.members.zone_of(agent).cloned();
        self.members = self.members.without(agent);
        self.observer.servers.remove(&agent);
        if let Some(zone) = zone
            && !self.members.iter().any(|member| member.zone == zone)
        {
            self.observer.zones.remove(&zone);
        }
    }

    /// Our own row among the members.
    pub fn own_member(&self) -> Option<&Member> {
        self.members.find(self.addr)
    }
}

impl ObserverConfig {
    fn replace(&mut self, scope: &Scope, config: &BTreeMap<String, String>) {
        match scope {
            Scope::Global => self.global = config.clone(),
            Scope::Zone(zones) => {
                self.zones.extend(zones.iter().map(|zone| (zone.clone(), config.clone())));
            }
            Scope::Server(servers) => {
                self.servers.extend(servers.iter().map(|server| (*server, config.clone())));
            }
        }
    }
}

//! Ids and statuses of the cluster, its zones and servers, for the v2 API (`ocp-v2.md` §3, §5.1).
//!
//! Invariant: a word of the time between comes from a task that is under way, asked of the agent that coordinates it; every
//! other word from what the database and the agents say now.

use super::context::App;
use super::info::{ServerView, ZoneView};
use super::outlook::Outlook;
use crate::cluster::Change;
use crate::cluster::status::{Mark, Object, Status};
use crate::cluster::topology::{KnownServer, Topology};
use crate::config::EngineKind;
use crate::engine::port::DagFilter;
use crate::error::Result;
use crate::flow::peers::Operation;
use crate::flow::{handshake, roll};
use crate::model::{GenericId, Scope, ServerAddr, ZoneName};

/// Words for every object, now.
#[derive(Clone, Debug)]
pub struct Standing {
    pub cluster: Status,
    pub zones: Vec<(ZoneName, Status)>,
    pub servers: Vec<(ServerAddr, Status)>,
}

/// What engine seekdb counts as its cluster, its server.
const SEEKDB_ID: i64 = 1;

impl App {
    /// The cluster's number: as it was configured or is in the database; 1 for engine seekdb.
    pub fn cluster_id(&self) -> i64 {
        self.parts.ledger.state().cluster.id.unwrap_or(SEEKDB_ID)
    }

    /// The numbers of servers: from the database where it answers, else as they were last seen. Engine seekdb: one server, 1.
    pub async fn topology(&self) -> Topology {
        // Not remembered for others: they would take it for what they have asked for just now.
        let view = match self.parts.ports.engine {
            EngineKind::Seekdb => None,
            EngineKind::Observer => self.read_view().await,
        };
        self.topology_in(&Outlook { agents: Vec::new(), view }).await
    }

    pub(super) async fn topology_in(&self, outlook: &Outlook) -> Topology {
        let state = self.parts.ledger.state();
        if self.parts.ports.engine == EngineKind::Seekdb {
            let own = state.own_member().map(|own| KnownServer {
                id: SEEKDB_ID,
                server: own.server(),
                zone: own.zone.clone(),
            });
            return Topology { servers: own.into_iter().collect() };
        }
        let Some(view) = &outlook.view else { return state.topology.clone() };
        let told = Topology::of(view);
        if let Err(error) = self.know(told.clone(), "topology").await {
            tracing::warn!(cause = %error.chain(), "the numbers of the servers could not be kept");
        }
        told
    }

    /// Keeps the numbers of servers, where they are news.
    pub(super) async fn know(&self, topology: Topology, actor: &str) -> Result<()> {
        let is_known = self.parts.ledger.state().topology == topology;
        if is_known || topology.servers.is_empty() || !self.is_cluster_agent() {
            return Ok(());
        }
        self.parts.ledger.change(Change::TopologyKnown(topology), actor).await
    }

    /// See [`Standing`].
    pub async fn standing(&self) -> Standing {
        self.standing_in(&self.outlook().await).await
    }

    pub(super) async fn standing_in(&self, outlook: &Outlook) -> Standing {
        let mut marks = self.own_marks().await;
        let told = outlook.agents.iter().filter(|seen| seen.member.agent != self.own());
        marks.extend(told.filter_map(|seen| seen.facts()).flat_map(|facts| facts.under_way.iter().cloned()));
        let zones = self.views_of(outlook);
        let mark = |object: &Object| marks.iter().find(|mark| mark.object == *object).map(|mark| mark.status);
        let mut standing = Standing { cluster: Status::Unavailable, zones: Vec::new(), servers: Vec::new() };
        for zone in &zones {
            if let Ok(name) = zone.name.parse::<ZoneName>() {
                let status = mark(&Object::Zone(name.clone())).unwrap_or_else(|| of_zone(zone));
                standing.zones.push((name, status));
            }
            for server in &zone.servers {
                let Some(addr) = server.addr else { continue };
                standing
                    .servers
                    .push((addr, mark(&Object::Server(addr)).unwrap_or_else(|| of_server(server))));
            }
        }
        standing.cluster = mark(&Object::Cluster).unwrap_or_else(|| {
            let has_sql = outlook.view.is_some() || self.parts.ports.engine == EngineKind::Seekdb;
            of_cluster(&standing.servers, has_sql)
        });
        standing
    }

    /// What the tasks that this agent coordinates have under way.
    pub(super) async fn own_marks(&self) -> Vec<Mark> {
        let unfinished = self.parts.archive.dags(DagFilter::Unfinished, false).await;
        let mut marks = Vec::new();
        for detail in unfinished.unwrap_or_default() {
            let snapshot = &detail.snapshot;
            let task = GenericId::agent(self.own(), snapshot.id.0).to_string();
            let params = snapshot.definition.params.clone();
            match snapshot.definition.flow.as_str() {
                roll::FLOW => {
                    if let Ok(params) = serde_json::from_value::<roll::Params>(params) {
                        marks.extend(roll::marks(&task, snapshot, &params));
                    }
                }
                "start" | "stop" if !snapshot.state.is_at_rest() => {
                    if let Ok(params) = serde_json::from_value::<handshake::Params>(params) {
                        marks.extend(self.marks_of(&task, &params));
                    }
                }
                _ => {}
            }
        }
        marks
    }

    /// The same of a start or a stop of v1.
    fn marks_of(&self, task: &str, params: &handshake::Params) -> Vec<Mark> {
        let is_start = params.operation == Operation::Start;
        let word = if is_start { Status::Starting } else { Status::Stopping };
        let mark = |object, status| Mark { object, status, task: task.to_owned() };
        let members = &self.parts.ledger.state().members;
        let whole = if params.scope == Scope::Global { word } else { Status::Operating };
        let mut marks = vec![mark(Object::Cluster, whole)];
        let is_server = matches!(params.scope, Scope::Server(_));
        for member in params.agents.iter().filter_map(|agent| members.find(*agent)) {
            let zone = Object::Zone(member.zone.clone());
            if !marks.iter().any(|mark| mark.object == zone) {
                marks.push(mark(zone, if is_server { Status::Operating } else { word }));
            }
            marks.push(mark(Object::Server(member.server()), word));
        }
        marks
    }
}

/// The words of v1 (`lifecycle.md` §9.5) in those of v2.
fn of_server(server: &ServerView) -> Status {
    match server.status.as_str() {
        "RUNNING" => Status::Running,
        "STARTING" => Status::Starting,
        "PROCESS_STOPPING" | "SERVICE_STOPPING" => Status::Stopping,
        "PROCESS_STOPPED" | "SERVICE_STOPPED" => Status::Stopped,
        _ => Status::Unavailable,
    }
}

fn of_zone(zone: &ZoneView) -> Status {
    let servers: Vec<_> = zone.servers.iter().map(of_server).collect();
    if zone.inner_status.eq_ignore_ascii_case("INACTIVE")
        || !servers.is_empty() && servers.iter().all(|s| *s == Status::Stopped)
    {
        return Status::Stopped;
    }
    if servers.contains(&Status::Running) { Status::Running } else { Status::Unavailable }
}

fn of_cluster(servers: &[(ServerAddr, Status)], has_sql: bool) -> Status {
    let is_any = |wanted: Status| servers.iter().any(|(_, status)| *status == wanted);
    if !servers.is_empty() && servers.iter().all(|(_, status)| *status == Status::Stopped) {
        return Status::Stopped;
    }
    if has_sql && is_any(Status::Running) { Status::Running } else { Status::Unavailable }
}

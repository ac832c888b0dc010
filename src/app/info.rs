//! The cluster and its servers for people and tools: `ob/info`, `obcluster/info`, topology, `observer/info`, `agents/status`.
//! True within a second, with or without a database, also while hosts are away.

use std::sync::Arc;

use super::context::App;
use super::outlook::{Outlook, Seen};
use crate::cluster::figures::Figures;
use crate::cluster::status::{Object, Status};
use crate::cluster::{AgentState, ServerRow};
use crate::engine::Snapshot;
use crate::flow::peers::Operation;
use crate::flow::roll::Verb;
use crate::flow::{handshake, roll};
use crate::model::{AgentAddr, Identity, Scope, ServerAddr, ZoneName};

/// `GET /ob/info` and `GET /obcluster/info`.
#[derive(Clone, Debug)]
pub struct InfoView {
    pub state: Arc<AgentState>,
    pub outlook: Outlook,
    /// Of the database, else of an agent's own server.
    pub version: String,
    /// Empty before init.
    pub zones: Vec<ZoneView>,
    /// `None` when nobody tells them, or nobody has asked.
    pub figures: Option<Arc<Figures>>,
    /// Task that covers the whole cluster now.
    pub task: Option<String>,
}

#[derive(Clone, Debug)]
pub struct ZoneView {
    pub name: String,
    pub region: String,
    pub idc: String,
    /// `ACTIVE`, `INACTIVE`, or empty when the database cannot be asked.
    pub inner_status: String,
    /// `RUNNING`, `STOPPED`, `STARTING`, `STOPPING`, `UNKNOWN` (`lifecycle.md` §9.5); ours: `RESTARTING`.
    pub status: String,
    pub servers: Vec<ServerView>,
    /// Main DAG that covers it now.
    pub task: Option<String>,
}

/// One server, from the database's row, its agent's facts, or both.
#[derive(Clone, Debug)]
pub struct ServerView {
    pub agent: Option<AgentAddr>,
    /// As the cluster calls it.
    pub addr: Option<ServerAddr>,
    pub ip: String,
    pub rpc_port: u16,
    pub sql_port: u16,
    pub row: Option<ServerRow>,
    pub seen: Option<Seen>,
    /// `RUNNING`, `UNAVAILABLE`, `SERVICE_STOPPED`, … (`lifecycle.md` §9.5).
    pub status: String,
    /// Main DAG that covers it now.
    pub task: Option<String>,
    pub architecture: String,
    /// Why it should not be stopped now; `None` where that is no question.
    pub stop_risks: Option<Vec<String>>,
}

/// A start, stop or restart that is under way, seen from here.
#[derive(Clone, Debug)]
struct UnderWay {
    id: String,
    verb: Verb,
    ends_processes: bool,
    scope: Scope,
    /// Zones that are concerned as a whole. Of a roll, those whose turn it is, and so for the agents.
    zones: Vec<ZoneName>,
    agents: Vec<AgentAddr>,
}

impl App {
    /// Everything that the routes of information show, with figures.
    pub async fn full_overview(&self) -> InfoView {
        let (info, figures) = tokio::join!(self.overview(), self.figures());
        InfoView { figures, ..info }
    }

    /// What the routes of information show, without figures.
    pub async fn overview(&self) -> InfoView {
        self.overview_in(self.outlook().await).await
    }

    pub(super) async fn overview_in(&self, outlook: Outlook) -> InfoView {
        let state = self.parts.ledger.state();
        let version = outlook.view.as_ref().map(|view| view.version.clone());
        let version = version.or_else(|| state.server.version.clone()).unwrap_or_default();
        let under_way = self.under_way().await;
        let is_cluster = state.identity == Identity::ClusterAgent;
        let zones = if is_cluster { self.zones(&state, &outlook, &under_way) } else { Vec::new() };
        let task = under_way.into_iter().find(|task| task.scope == Scope::Global).map(|task| task.id);
        InfoView { state, outlook, version, zones, figures: None, task }
    }

    /// Zones and servers as they are, whatever is under way.
    pub(super) fn views_of(&self, outlook: &Outlook) -> Vec<ZoneView> {
        self.zones(&self.parts.ledger.state(), outlook, &[])
    }

    fn zones(&self, state: &AgentState, outlook: &Outlook, under_way: &[UnderWay]) -> Vec<ZoneView> {
        let mut names = state.members.zones();
        if let Some(view) = &outlook.view {
            names.extend(view.zones.iter().map(|row| row.zone.clone()));
        }
        names.sort();
        names.dedup();
        names.into_iter().map(|zone| self.zone(&zone, outlook, under_way)).collect()
    }

    fn zone(&self, zone: &ZoneName, outlook: &Outlook, under_way: &[UnderWay]) -> ZoneView {
        let row = outlook.view.as_ref().and_then(|view| view.zone(zone));
        let task = under_way.iter().find(|task| task.zones.contains(zone));
        let status = match (task, row) {
            (Some(task), _) => match task.verb {
                Verb::Start => "STARTING",
                Verb::Stop => "STOPPING",
                Verb::Restart => "RESTARTING",
            },
            (None, Some(row)) if row.is_active() => "RUNNING",
            (None, Some(_)) => "STOPPED",
            (None, None) => "UNKNOWN",
        };
        ZoneView {
            name: zone.to_string(),
            region: row.map(|row| row.region.clone()).unwrap_or_default(),
            idc: row.map(|row| row.idc.clone()).unwrap_or_default(),
            inner_status: row.map(|row| row.status.clone()).unwrap_or_default(),
            status: status.to_owned(),
            servers: self.servers(zone, outlook, under_way),
            task: task.map(|task| task.id.clone()),
        }
    }

    /// The database's servers of a zone, and members that it does not list.
    fn servers(&self, zone: &ZoneName, outlook: &Outlook, under_way: &[UnderWay]) -> Vec<ServerView> {
        let rows = outlook.view.iter().flat_map(|view| &view.servers).filter(|row| row.zone == *zone);
        let mut servers: Vec<ServerView> = rows
            .map(|row| {
                let seen = outlook.agents.iter().find(|seen| seen.member.server() == row.server);
                self.server(outlook, seen, Some(row), under_way)
            })
            .collect();
        let unlisted = outlook.agents.iter().filter(|seen| {
            let is_listed =
                outlook.view.as_ref().is_some_and(|view| view.server(seen.member.server()).is_some());
            seen.member.zone == *zone && !is_listed
        });
        servers.extend(unlisted.map(|seen| self.server(outlook, Some(seen), None, under_way)));
        servers
    }

    fn server(
        &self,
        outlook: &Outlook,
        seen: Option<&Seen>,
        row: Option<&ServerRow>,
        under_way: &[UnderWay],
    ) -> ServerView {
        let agent = seen.map(|seen| seen.member.agent);
        let addr = row.map(|row| row.server).or_else(|| seen.map(|seen| seen.member.server()));
        let told = seen.and_then(|seen| seen.facts()?.sql_port).or_else(|| row.map(|row| row.sql_port));
        let task = under_way.iter().find(|task| agent.is_some_and(|agent| task.agents.contains(&agent)));
        let is_up = seen.is_some_and(|seen| seen.ob_state() > 0);
        let is_clustered = !outlook.agents.is_empty() && is_up;
        ServerView {
            agent,
            addr,
            ip: addr.map(|addr| addr.ip.to_string()).unwrap_or_default(),
            rpc_port: addr.map_or(0, |addr| addr.port),
            sql_port: told.or_else(|| seen.map(|seen| seen.member.sql_port)).unwrap_or(0),
            row: row.cloned(),
            seen: seen.cloned(),
            status: status(task, seen, row).to_owned(),
            task: task.map(|task| task.id.clone()),
            architecture: seen.map(|seen| seen.member.architecture.clone()).unwrap_or_default(),
            stop_risks: agent
                .filter(|_| is_clustered)
                .map(|agent| self.stop_risks(outlook.view.as_deref(), &[agent])),
        }
    }

    /// Our own server: `GET /observer/info`.
    pub async fn own_server(&self) -> Option<ServerView> {
        let info = self.overview().await;
        let own = info
            .zones
            .into_iter()
            .flat_map(|zone| zone.servers)
            .find(|server| server.agent == Some(self.own()));
        own.or_else(|| {
            let seen = info.outlook.agents.iter().find(|seen| seen.member.agent == self.own());
            Some(self.server(&info.outlook, seen, None, &[]))
        })
    }

    /// Starts and stops that this agent coordinates, or takes part in.
    async fn under_way(&self) -> Vec<UnderWay> {
        let unfinished = self.parts.archive.dags(crate::engine::port::DagFilter::Unfinished, false).await;
        let unfinished = unfinished.unwrap_or_default();
        let live = unfinished.iter().filter(|detail| !detail.snapshot.state.is_at_rest());
        live.filter_map(|detail| self.as_under_way(&detail.snapshot)).collect()
    }

    fn as_under_way(&self, snapshot: &Snapshot) -> Option<UnderWay> {
        let definition = &snapshot.definition;
        let id = crate::model::GenericId::agent(self.own(), snapshot.id.0).to_string();
        let params = definition.params.clone();
        if definition.flow == roll::FLOW {
            let params: roll::Params = serde_json::from_value(params).ok()?;
            return Some(of_roll(id, snapshot, params));
        }
        let verb = match definition.flow.as_str() {
            "start" => Verb::Start,
            "stop" => Verb::Stop,
            _ => return None,
        };
        let params: handshake::Params = serde_json::from_value(params).ok()?;
        let zones = match &params.scope {
            Scope::Global => self.parts.ledger.state().members.zones(),
            Scope::Zone(zones) => zones.clone(),
            Scope::Server(_) => Vec::new(),
        };
        let ends_processes = matches!(params.operation, Operation::Stop { .. });
        Some(UnderWay { id, verb, ends_processes, scope: params.scope, zones, agents: params.agents })
    }
}

fn of_roll(id: String, snapshot: &Snapshot, params: roll::Params) -> UnderWay {
    let marks = roll::marks(&id, snapshot, &params);
    let is_marked =
        |object: &Object| marks.iter().any(|mark| mark.object == *object && mark.status != Status::Operating);
    let zones = params.zones().filter(|zone| is_marked(&Object::Zone((*zone).clone()))).cloned().collect();
    let hands = params.hands().filter(|hand| is_marked(&Object::Server(hand.server)));
    let agents = hands.map(|hand| hand.agent).collect();
    UnderWay {
        id,
        verb: params.verb,
        ends_processes: !params.options.is_service_only,
        zones,
        agents,
        scope: params.scope,
    }
}

/// The first that fits (`lifecycle.md` §9.5).
fn status(task: Option<&UnderWay>, seen: Option<&Seen>, row: Option<&ServerRow>) -> &'static str {
    let state = seen.map(Seen::ob_state);
    let is_down = state == Some(0) && seen.is_some_and(|seen| seen.facts.is_ok());
    match (task, row) {
        (Some(task), _) if task.verb == Verb::Start => "STARTING",
        (Some(task), _) if task.verb == Verb::Restart => "RESTARTING",
        (Some(task), _) if task.ends_processes => "PROCESS_STOPPING",
        (Some(_), _) => "SERVICE_STOPPING",
        (None, Some(row)) if row.status.eq_ignore_ascii_case("DELETING") => "DELETING",
        (None, _) if is_down => "PROCESS_STOPPED",
        (None, Some(row)) if !row.status.eq_ignore_ascii_case("ACTIVE") => "UNAVAILABLE",
        (None, Some(row)) if row.stopped.is_some() => "SERVICE_STOPPED",
        // An agent that is away says nothing about its server: the database does.
        (None, Some(row))
            if row.is_well()
                && state.is_none_or(|state| state == 3 || seen.is_some_and(|s| s.facts.is_err())) =>
        {
            "RUNNING"
        }
        (None, None) if state == Some(3) => "RUNNING",
        (None, _) => "UNAVAILABLE",
    }
}

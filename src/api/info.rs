//! Routes that show the cluster. Each answers within a second or so, also while hosts are away.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::call::Call;
use super::figures;
use super::public::render_status;
use super::reply::Outcome;
use crate::app::{InfoView, ServerView, ZoneView};
use crate::cluster::figures::Figures;
use crate::cluster::{Act, may};
use crate::error::Result;
use crate::model::{API_VERSION, AgentAddr, Identity};
use crate::peer::Forward;
use crate::wire::{
    AgentInstance, ClusterInfo, Envelope, ObClusterInfo, ObInfo, RootServerInfo, ServerInfo, ServerMore,
    TopologyInfo, TopologyServer, ZoneInfo,
};

/// For one agent to tell its status.
const LIMIT: Duration = Duration::from_millis(950);

/// The cluster and its servers, with or without a database
#[utoipa::path(get, path = "/api/v1/ob/info", tag = "cluster", responses((status = 200, body = Envelope<ObInfo>)))]
pub(super) async fn ob_info(call: Call<()>) -> Outcome<ObInfo> {
    Outcome::data(Ok(render_ob(&call.app.overview().await, call.app.own())))
}

fn render_ob(view: &InfoView, own: AgentAddr) -> ObInfo {
    let state = &view.state;
    let mut agents: Vec<_> = state
        .members
        .iter()
        .map(|member| AgentInstance {
            ip: member.agent.ip.to_string(),
            port: i64::from(member.agent.port),
            zone: member.zone.to_string(),
            identity: member.identity.text().to_owned(),
            version: member.version.clone(),
        })
        .collect();
    if agents.is_empty() {
        agents.push(AgentInstance {
            ip: own.ip.to_string(),
            port: i64::from(own.port),
            zone: String::new(),
            identity: state.identity.text().to_owned(),
            version: API_VERSION.to_owned(),
        });
    }
    let is_initialised = state.identity == Identity::ClusterAgent;
    let topology = view.zones.iter().map(|zone| {
        let servers = zone.servers.iter().map(|server| topology_server(view, server));
        (zone.name.clone(), servers.collect())
    });
    ObInfo {
        agent_info: agents,
        obcluster_info: ObClusterInfo {
            id: state.cluster.id.unwrap_or(0),
            name: state.cluster.name.clone().unwrap_or_default(),
            version: view.version.clone(),
            topology: is_initialised.then(|| topology.collect::<BTreeMap<_, _>>()),
            is_shared_storage: false,
        },
    }
}

fn topology_server(view: &InfoView, server: &ServerView) -> TopologyServer {
    let row = server.row.as_ref();
    let is_serving = server.seen.as_ref().is_some_and(|seen| seen.ob_state() == 3);
    let status = match row {
        Some(row) if row.stopped.is_some() => "STOPPED".to_owned(),
        Some(row) => row.status.clone(),
        None if is_serving => "ACTIVE".to_owned(),
        None => "INACTIVE".to_owned(),
    };
    // One server alone is its own root.
    let has_root =
        row.map_or(view.outlook.view.is_none() && view.outlook.agents.len() <= 1, |row| row.has_root);
    let build = row.map(|row| row.build_version.split('-').next().unwrap_or_default().to_owned());
    TopologyServer {
        svr_ip: server.ip.clone(),
        svr_port: server.rpc_port,
        sql_port: server.sql_port,
        agent_port: server.agent.map_or(0, |agent| agent.port),
        with_rootserver: if has_root { "YES" } else { "NO" }.to_owned(),
        status,
        build_version: build.unwrap_or_else(|| view.version.clone()),
    }
}

/// Everything about the cluster (only on a CLUSTER AGENT)
#[utoipa::path(get, path = "/api/v1/obcluster/info", tag = "cluster", responses((status = 200, body = Envelope<ClusterInfo>)))]
pub(super) async fn cluster_info(call: Call<()>) -> Outcome<ClusterInfo> {
    Outcome::data(overview(&call).await.map(|view| {
        let own = view.outlook.agents.iter().find(|seen| seen.member.agent == call.app.own());
        let status = match own.map_or(0, |seen| seen.ob_state()) {
            0 => "NOT RUNNING",
            1 => "RUNNING",
            2 => "RESTRICTED",
            _ => "AVAILABLE",
        };
        render_cluster(&view, status)
    }))
}

fn render_cluster(view: &InfoView, status: &str) -> ClusterInfo {
    let state = &view.state;
    let told = view.figures.as_deref();
    let own_license = |told: &Figures| {
        told.licenses.as_ref().filter(|_| told.is_standalone())?.first().map(figures::license)
    };
    ClusterInfo {
        cluster_name: told
            .and_then(|told| told.name.clone())
            .or_else(|| state.cluster.name.clone())
            .unwrap_or_default(),
        cluster_id: told.and_then(|told| told.id).or(state.cluster.id).unwrap_or(0),
        ob_version: view.version.clone(),
        startup_mode: told.map_or_else(String::new, |told| {
            // Versions without the parameter know this mode only (W56).
            told.startup_mode.clone().unwrap_or_else(|| "NORMAL".to_owned())
        }),
        status: status.to_owned(),
        is_community_edition: told.is_none_or(|told| told.edition.is_community()),
        is_standalone: told.is_some_and(Figures::is_standalone),
        dead_lock_detection_enabled: told.is_some_and(|told| told.detects_deadlocks),
        is_shared_storage: told.is_some_and(Figures::is_shared_storage),
        local_task_id: view.task.clone(),
        stats: figures::cluster_stats(view),
        zones: zone_infos(view),
        tenants: told.into_iter().flat_map(|told| &told.tenants).map(figures::tenant).collect(),
        tenant_stats: told.into_iter().flat_map(|told| &told.tenants).map(figures::tenant_stats).collect(),
        license: told.and_then(own_license),
    }
}

/// Zones and servers (only on a CLUSTER AGENT)
#[utoipa::path(get, path = "/api/v1/obcluster/topology/info", tag = "cluster", responses((status = 200, body = Envelope<TopologyInfo>)))]
pub(super) async fn topology(call: Call<()>) -> Outcome<TopologyInfo> {
    let view = overview(&call).await;
    Outcome::data(view.map(|view| TopologyInfo { zones: zone_infos(&view) }))
}

async fn overview(call: &Call<()>) -> Result<InfoView> {
    may(Act::Operate, call.app.own(), call.app.identity())?;
    Ok(call.app.full_overview().await)
}

fn zone_infos(view: &InfoView) -> Vec<ZoneInfo> {
    view.zones.iter().map(|zone| zone_info(zone, view.figures.as_deref())).collect()
}

/// Where the root service has a replica in a zone; else the server that runs it, if it is there.
fn root_server(zone: &ZoneView, told: Option<&Figures>) -> RootServerInfo {
    let info = |ip: String, role: &str, svr_port: u16| RootServerInfo {
        ip,
        role: role.to_owned(),
        zone: zone.name.clone(),
        svr_port,
    };
    let replica = told.and_then(|told| told.roots.iter().find(|root| root.zone == zone.name));
    if let Some(root) = replica {
        return info(root.server.ip.to_string(), &root.role, root.server.port);
    }
    let leads = |server: &&ServerView| server.row.as_ref().is_some_and(|row| row.has_root);
    let leader = zone.servers.iter().find(leads);
    leader.map(|server| info(server.ip.clone(), "LEADER", server.rpc_port)).unwrap_or_default()
}

fn zone_info(zone: &ZoneView, told: Option<&Figures>) -> ZoneInfo {
    ZoneInfo {
        name: zone.name.clone(),
        idc_name: zone.idc.clone(),
        region_name: zone.region.clone(),
        status: zone.status.clone(),
        inner_status: zone.inner_status.clone(),
        root_server: root_server(zone, told),
        servers: zone.servers.iter().map(|server| server_info(server, told, &zone.name)).collect(),
        local_task_id: zone.task.clone(),
    }
}

fn server_info(server: &ServerView, told: Option<&Figures>, zone: &str) -> ServerInfo {
    let row = server.row.as_ref();
    let facts = server.seen.as_ref().and_then(|seen| seen.facts());
    let is_reached = facts.is_some();
    ServerInfo {
        id: row.map_or(0, |row| row.id),
        ip: server.ip.clone(),
        svr_port: server.rpc_port,
        sql_port: server.sql_port,
        version: row
            .map(|row| row.build_version.clone())
            .or_else(|| facts.and_then(|facts| facts.ob_version.clone()))
            .unwrap_or_default(),
        with_rootserver: row.is_some_and(|row| row.has_root),
        status: server.status.clone(),
        // An agent that is away says nothing about its server: the database does.
        ob_status: facts
            .map_or(if row.is_some_and(|row| row.is_well()) { 3 } else { 0 }, |facts| facts.ob_state),
        inner_status: row.map(|row| row.status.clone()).unwrap_or_default(),
        start_time: row.and_then(|row| row.started.clone()),
        stop_time: row.and_then(|row| row.stopped.clone()),
        stats: figures::server_stats(server, told, zone),
        architecture: server.architecture.clone(),
        data_dir: facts.map(|facts| facts.data_dir.clone()).unwrap_or_default(),
        redo_dir: facts.map(|facts| facts.redo_dir.clone()).unwrap_or_default(),
        log_dir: facts.map(|facts| facts.log_dir.clone()).unwrap_or_default(),
        local_task_id: server.task.clone(),
        obshell_port: server.agent.map_or(0, |agent| agent.port),
        obpilot: Some(ServerMore {
            agent_reached: is_reached,
            process: server
                .seen
                .as_ref()
                .map_or_else(|| "no agent is known for it".to_owned(), |seen| seen.in_words()),
            safe_to_stop: server.stop_risks.clone().map(Into::into),
        }),
    }
}

/// This host's server
#[utoipa::path(get, path = "/api/v1/observer/info", tag = "cluster", responses((status = 200, body = Envelope<ServerInfo>)))]
pub(super) async fn observer_info(call: Call<()>) -> Outcome<ServerInfo> {
    let (own, told) = tokio::join!(call.app.own_server(), call.app.figures());
    let zone = call.app.ledger().state().zone.as_ref().map(ToString::to_string).unwrap_or_default();
    Outcome::data(Ok(own.map(|server| server_info(&server, told.as_deref(), &zone)).unwrap_or_default()))
}

/// Status of every agent that answers within a second, by its address
#[utoipa::path(get, path = "/api/v1/agents/status", tag = "agent",
    responses((status = 200, description = "A map from agent to what its `/status` answers", body = Envelope<Value>)))]
pub(super) async fn agents_status(call: Call<()>) -> Outcome<Value> {
    let own = call.app.own();
    let others = call.app.agents().into_iter().filter(|agent| *agent != own);
    let asked = others.map(|agent| status_of(&call, agent));
    let (mine, theirs) = tokio::join!(call.app.status(LIMIT), join_all(asked));
    let statuses = mine.map(|mine| {
        let mine = serde_json::to_value(render_status(mine)).unwrap_or_default();
        let all = theirs.into_iter().flatten().chain([(own, mine)]);
        let all: BTreeMap<String, Value> = all.map(|(agent, status)| (agent.to_string(), status)).collect();
        serde_json::to_value(all).unwrap_or_default()
    });
    Outcome::data(statuses)
}

async fn status_of(call: &Call<()>, agent: AgentAddr) -> Option<(AgentAddr, Value)> {
    Some((agent, ask(call, agent, "/api/v1/status", LIMIT).await?))
}

/// What another agent answers; `None` when it does not answer in time, or refuses.
pub(super) async fn ask(call: &Call<()>, agent: AgentAddr, target: &str, limit: Duration) -> Option<Value> {
    let request = Forward {
        method: "GET".to_owned(),
        target: target.to_owned(),
        actor: call.caller.actor.clone(),
        body: Vec::new(),
        headers: Vec::new(),
        limit,
    };
    let answer = tokio::time::timeout(limit, call.door.peers().forward(agent, &request)).await.ok()?.ok()?;
    let envelope: Envelope<Value> = serde_json::from_slice(&answer.body).ok()?;
    envelope.data
}

//! Ids and statuses of the cluster, its zones and servers (`ocp-v2.md` §3), with or without a database.

use std::cmp::Ordering;

use actix_web::web::Path;

use super::call::Call;
use super::error::{OcpCode, Refusal};
use super::query::{Asked, number};
use super::reply::Outcome;
use crate::app::{App, InfoView, Picture, ServerView, Standing, ZoneView};
use crate::clock;
use crate::cluster::figures::RootReplica;
use crate::cluster::status::Status;
use crate::cluster::topology::Topology;
use crate::model::{ZoneName, in_millis};
use crate::wire::v2::{
    Cluster, ClusterPage, ClusterRef, EnvelopeV2, NEVER_STOPPED, PageInfo, RootServer, Server, ServerList,
    Zone, ZoneList,
};

/// Our cluster as tasks name it; `None` before there is one.
pub(super) fn cluster_ref(app: &App) -> Option<ClusterRef> {
    let id = app.cluster_number()?;
    let name = app.ledger().state().cluster.name.clone().unwrap_or_default();
    Some(ClusterRef { id, name, ob_cluster_id: id, r#type: None })
}

/// The one cluster that an agent knows.
///
/// # Errors
/// `COM10001`, `OBE11001`
pub(super) fn check_cluster(app: &App, id: &str) -> Result<ClusterRef, Refusal> {
    let id = number("id", id)?;
    let own = cluster_ref(app);
    let known = own.as_ref().map_or_else(
        || "this agent belongs to no cluster yet".to_owned(),
        |own| format!("this agent's cluster is {} ({})", own.id, own.name),
    );
    own.filter(|own| own.id == id)
        .ok_or_else(|| Refusal::new(OcpCode::NoCluster, format!("there is no cluster {id}; {known}")))
}

/// A zone that the cluster has.
///
/// # Errors
/// `OBE18002`
pub(super) async fn check_zone(app: &App, name: &str) -> Result<ZoneName, Refusal> {
    let mut zones = app.ledger().state().members.zones();
    zones.extend(app.topology().await.servers.into_iter().map(|known| known.zone));
    zones.sort();
    zones.dedup();
    zones.iter().find(|zone| zone.as_str() == name).cloned().ok_or_else(|| {
        let zones: Vec<_> = zones.iter().map(ToString::to_string).collect();
        Refusal::new(OcpCode::NoZone, format!("there is no zone '{name}'; zones are: {}", zones.join(", ")))
    })
}

/// Everything that the answers are made of.
struct Shown {
    cluster: ClusterRef,
    info: InfoView,
    topology: Topology,
    standing: Standing,
    /// All of one answer are as of one moment.
    now: String,
}

impl Shown {
    async fn of(app: &App, cluster: ClusterRef) -> Self {
        let Picture { info, topology, standing } = app.picture().await;
        Self { cluster, info, topology, standing, now: in_millis(clock::system().now()) }
    }

    fn roots(&self) -> Vec<RootServer> {
        let told = self.info.figures.as_ref().map(|told| told.roots.as_slice()).unwrap_or_default();
        let servers = || self.info.zones.iter().flat_map(|zone| &zone.servers);
        if !told.is_empty() {
            return told.iter().map(|root| self.root(root)).collect();
        }
        let leading = servers().filter(|server| has_root(&self.info, server));
        leading.map(|server| root_server(server, "LEADER")).collect()
    }

    fn root(&self, root: &RootReplica) -> RootServer {
        let servers = self.info.zones.iter().flat_map(|zone| &zone.servers);
        let known =
            servers.filter(|server| server.addr == Some(root.server)).map(|server| server.sql_port).next();
        RootServer { address: root.server.to_string(), role: root.role.clone(), sql_port: known.unwrap_or(0) }
    }

    fn cluster(&self) -> Cluster {
        let zones: Vec<_> = self.info.zones.iter().map(|zone| self.zone(zone)).collect();
        let mut regions: Vec<_> = zones.iter().filter_map(|zone| zone.region_name.clone()).collect();
        regions.sort();
        regions.dedup();
        let version = some(&self.info.version);
        let is_asked = self.info.outlook.view.is_some() || self.info.figures.is_some();
        let reason = || "no server of the cluster answers; what is shown is what the agents know".to_owned();
        Cluster {
            id: self.cluster.id,
            name: self.cluster.name.clone(),
            ob_cluster_id: self.cluster.ob_cluster_id,
            ob_version: version.clone(),
            full_version: version,
            status: self.standing.cluster.text().to_owned(),
            r#type: "PRIMARY".to_owned(),
            region_count: regions.len(),
            tenant_count: self.info.figures.as_ref().map(|told| told.tenants.len()),
            server_count: zones.iter().map(|zone| zone.server_count).sum(),
            root_servers: self.roots(),
            zones,
            standby_clusters: Vec::new(),
            update_time: self.now.clone(),
            fail_to_query_from_ob_reason: (!is_asked).then(reason),
        }
    }

    fn zone(&self, zone: &ZoneView) -> Zone {
        let servers: Vec<_> = zone.servers.iter().map(|server| self.server(server, zone)).collect();
        let known = self.standing.zones.iter().find(|(name, _)| name.as_str() == zone.name);
        let status = known.map_or(Status::Unavailable, |(_, status)| *status);
        let told = self.info.figures.as_ref();
        let root = told.and_then(|told| told.roots.iter().find(|root| root.zone == zone.name));
        let leader = zone.servers.iter().find(|server| has_root(&self.info, server));
        Zone {
            name: zone.name.clone(),
            cluster_id: self.cluster.id,
            ob_cluster_id: self.cluster.ob_cluster_id,
            idc_name: some(&zone.idc),
            region_name: some(&zone.region),
            server_count: servers.len(),
            host_count: servers.len(),
            servers,
            status: status.text().to_owned(),
            inner_status: some(&zone.inner_status),
            root_server: root
                .map(|root| self.root(root))
                .or_else(|| leader.map(|server| root_server(server, "LEADER"))),
            operate_status: if is_under_way(status) { "OPERATING" } else { "NORMAL" }.to_owned(),
            update_time: self.now.clone(),
        }
    }

    fn server(&self, server: &ServerView, zone: &ZoneView) -> Server {
        let row = server.row.as_ref();
        let facts = server.seen.as_ref().and_then(|seen| seen.facts());
        let stored = server.addr.and_then(|addr| self.topology.of_server(addr)).map(|known| known.id);
        let id = row.map(|row| row.id).or(stored).unwrap_or(0);
        let known = self.standing.servers.iter().find(|(addr, _)| Some(*addr) == server.addr);
        let is_root = has_root(&self.info, server);
        let version = row.map(|row| row.build_version.clone());
        Server {
            id,
            ip: server.ip.clone(),
            port: server.rpc_port,
            sql_port: server.sql_port,
            version: version.or_else(|| facts.and_then(|facts| facts.ob_version.clone())),
            with_rootserver: is_root,
            with_root_server: is_root,
            status: known.map_or(Status::Unavailable, |(_, status)| *status).text().to_owned(),
            inner_status: row.map(|row| row.status.clone()),
            cluster_id: self.cluster.id,
            zone_name: zone.name.clone(),
            region_name: some(&zone.region),
            idc_name: some(&zone.idc),
            host_id: id,
            start_time: row.and_then(|row| row.started.clone()),
            stop_time: row.and_then(|row| row.stopped.clone()).unwrap_or_else(|| NEVER_STOPPED.to_owned()),
            update_time: self.now.clone(),
            run_path: server
                .seen
                .as_ref()
                .map(|seen| seen.member.home_path.clone())
                .filter(|home| !home.is_empty()),
            agent: server.agent.map(|agent| agent.to_string()),
            task: server.task.clone(),
        }
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// One server alone is its own root.
fn has_root(info: &InfoView, server: &ServerView) -> bool {
    let is_alone = info.outlook.view.is_none() && info.outlook.agents.len() <= 1;
    server.row.as_ref().map_or(is_alone, |row| row.has_root)
}

fn root_server(server: &ServerView, role: &str) -> RootServer {
    let address = server.addr.map(|addr| addr.to_string()).unwrap_or_default();
    RootServer { address, role: role.to_owned(), sql_port: server.sql_port }
}

fn is_under_way(status: Status) -> bool {
    match status {
        Status::Starting | Status::Stopping | Status::Restarting | Status::Operating => true,
        Status::Running | Status::Stopped | Status::Unavailable => false,
    }
}

/// Statuses that a list can be narrowed to; those that no cluster of ours can have find nothing.
const STATUSES: [&str; 14] = [
    "RUNNING",
    "CREATING",
    "DELETING",
    "STARTING",
    "RESTARTING",
    "STOPPING",
    "STOPPED",
    "TAKINGOVER",
    "MOVINGOUT",
    "SWITCHOVER",
    "FAILOVER",
    "OPERATING",
    "UNAVAILABLE",
    "UPGRADING",
];

/// Fields that a list of clusters can be sorted by.
#[derive(Clone, Copy, Debug)]
enum Field {
    Id,
    Name,
    Status,
}

/// Clusters: the one that this agent belongs to, or none
#[utoipa::path(get, path = "/api/v2/ob/clusters", tag = "cluster",
    params(("page" = Option<u32>, Query, description = "From 1"),
        ("size" = Option<u32>, Query, description = "1 to 2000; 10 by default"),
        ("sort" = Option<String>, Query, description = "id, name or status, then ,asc or ,desc"),
        ("name" = Option<String>, Query, description = "Part of the name, in any case"),
        ("status" = Option<String>, Query, description = "Comma list of statuses")),
    responses((status = 200, body = EnvelopeV2<ClusterPage>)))]
pub(super) async fn clusters(call: Call) -> Outcome<ClusterPage> {
    let asked = Asked::of(&call.query);
    let listed = async {
        let page = asked.page()?;
        let statuses = asked.words("status", &STATUSES.map(|status| (status, status)))?;
        let fields = [("id", Field::Id), ("name", Field::Name), ("status", Field::Status)];
        let (field, is_ascending) = asked.sort(&fields)?.unwrap_or((Field::Id, true));
        let name = asked.text("name").map(str::to_lowercase);
        let mut found = Vec::new();
        if let Some(own) = cluster_ref(&call.app) {
            found.push(Shown::of(&call.app, own).await.cluster());
        }
        found.retain(|cluster| {
            name.as_ref().is_none_or(|part| cluster.name.to_lowercase().contains(part))
                && (statuses.is_empty() || statuses.contains(&cluster.status.as_str()))
        });
        found.sort_by(|a, b| {
            let order = by(field, a, b);
            if is_ascending { order } else { order.reverse() }
        });
        let total = found.len();
        let skipped = page.size.saturating_mul(page.number - 1);
        let contents = found.into_iter().skip(skipped).take(page.size).collect();
        Ok(ClusterPage { contents, page: PageInfo::new(page.number, page.size, total) })
    };
    Outcome::data(listed.await)
}

fn by(field: Field, a: &Cluster, b: &Cluster) -> Ordering {
    match field {
        Field::Id => a.id.cmp(&b.id),
        Field::Name => a.name.cmp(&b.name),
        Field::Status => a.status.cmp(&b.status),
    }
}

async fn shown(call: &Call, id: &str) -> Result<Shown, Refusal> {
    let cluster = check_cluster(&call.app, id)?;
    Ok(Shown::of(&call.app, cluster).await)
}

/// One cluster
#[utoipa::path(get, path = "/api/v2/ob/clusters/{id}", tag = "cluster",
    params(("id" = i64, Path, description = "Id of the cluster")), responses((status = 200, body = EnvelopeV2<Cluster>)))]
pub(super) async fn cluster(call: Call, id: Path<String>) -> Outcome<Cluster> {
    Outcome::data(shown(&call, &id).await.map(|shown| shown.cluster()))
}

/// Zones with their servers
#[utoipa::path(get, path = "/api/v2/ob/clusters/{id}/zones", tag = "cluster",
    params(("id" = i64, Path, description = "Id of the cluster")), responses((status = 200, body = EnvelopeV2<ZoneList>)))]
pub(super) async fn zones(call: Call, id: Path<String>) -> Outcome<ZoneList> {
    let shown = shown(&call, &id).await;
    Outcome::data(shown.map(|shown| {
        let contents = shown.info.zones.iter().map(|zone| shown.zone(zone)).collect();
        ZoneList { contents }
    }))
}

async fn servers_of(call: &Call, id: &str, zone: Option<&str>) -> Result<ServerList, Refusal> {
    let shown = shown(call, id).await?;
    let asked = Asked::of(&call.query);
    let (region, idc) = (asked.text("regionName"), asked.text("idcName"));
    if let Some(name) = zone
        && !shown.info.zones.iter().any(|zone| zone.name == name)
    {
        return Err(Refusal::new(OcpCode::NoZone, format!("there is no zone '{name}'")));
    }
    let zones = shown.info.zones.iter().filter(|view| {
        zone.is_none_or(|name| view.name == name)
            && region.is_none_or(|region| view.region == region)
            && idc.is_none_or(|idc| view.idc == idc)
    });
    let servers = zones.flat_map(|view| view.servers.iter().map(|server| shown.server(server, view)));
    Ok(ServerList { contents: servers.collect() })
}

/// Servers
#[utoipa::path(get, path = "/api/v2/ob/clusters/{id}/servers", tag = "cluster",
    params(("id" = i64, Path, description = "Id of the cluster"), ("regionName" = Option<String>, Query, description = "Only of this region"),
        ("idcName" = Option<String>, Query, description = "Only of this data centre")),
    responses((status = 200, body = EnvelopeV2<ServerList>)))]
pub(super) async fn servers(call: Call, id: Path<String>) -> Outcome<ServerList> {
    Outcome::data(servers_of(&call, &id, None).await)
}

/// Servers of a zone
#[utoipa::path(get, path = "/api/v2/ob/clusters/{id}/zones/{zoneName}/servers", tag = "cluster",
    params(("id" = i64, Path, description = "Id of the cluster"), ("zoneName" = String, Path, description = "Name of the zone")),
    responses((status = 200, body = EnvelopeV2<ServerList>)))]
pub(super) async fn servers_of_zone(call: Call, ids: Path<(String, String)>) -> Outcome<ServerList> {
    Outcome::data(servers_of(&call, &ids.0, Some(&ids.1)).await)
}

/// The same, as its page has the path
#[utoipa::path(get, path = "/api/v2/clusters/{id}/zones/{zoneName}/servers", tag = "cluster",
    params(("id" = i64, Path, description = "Id of the cluster"), ("zoneName" = String, Path, description = "Name of the zone")),
    responses((status = 200, body = EnvelopeV2<ServerList>)))]
pub(super) async fn servers_of_zone_by_alias(call: Call, ids: Path<(String, String)>) -> Outcome<ServerList> {
    servers_of_zone(call, ids).await
}

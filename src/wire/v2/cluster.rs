//! The cluster, its zones and servers, and pages of lists (`ocp-v2.md` §3).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a server that was never stopped shows as the time of its stop.
pub const NEVER_STOPPED: &str = "1970-01-01T00:00:00Z";

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageInfo {
    /// From 1.
    pub number: usize,
    pub size: usize,
    pub total_elements: usize,
    pub total_pages: usize,
}

impl PageInfo {
    pub fn new(number: usize, size: usize, total: usize) -> Self {
        Self { number, size, total_elements: total, total_pages: total.div_ceil(size.max(1)) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterPage {
    pub contents: Vec<Cluster>,
    pub page: PageInfo,
}

/// What has no value, or is not known while the database is down, is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// The database's own number of the cluster.
    pub id: i64,
    pub name: String,
    /// The same as `id`.
    pub ob_cluster_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ob_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_version: Option<String>,
    /// `RUNNING`, `STARTING`, `STOPPING`, `RESTARTING`, `OPERATING`, `STOPPED` or `UNAVAILABLE`.
    pub status: String,
    /// `PRIMARY`
    pub r#type: String,
    pub region_count: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_count: Option<usize>,
    pub server_count: usize,
    pub root_servers: Vec<RootServer>,
    pub zones: Vec<Zone>,
    /// Empty: standby clusters are not known here.
    pub standby_clusters: Vec<Standby>,
    pub update_time: String,
    /// Why nothing of the database's own is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_to_query_from_ob_reason: Option<String>,
}

/// Of a list that is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Standby {
    pub id: i64,
    pub name: String,
}

/// A replica of the root service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RootServer {
    /// IP and port between servers.
    pub address: String,
    /// `LEADER` or `FOLLOWER`.
    pub role: String,
    pub sql_port: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ZoneList {
    pub contents: Vec<Zone>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Zone {
    /// Its key.
    pub name: String,
    pub cluster_id: i64,
    pub ob_cluster_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idc_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_name: Option<String>,
    pub server_count: usize,
    pub host_count: usize,
    pub servers: Vec<Server>,
    /// As of a cluster.
    pub status: String,
    /// The database's word: `ACTIVE` or `INACTIVE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner_status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_server: Option<RootServer>,
    /// `NORMAL`, or `OPERATING` while a task covers it.
    pub operate_status: String,
    pub update_time: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerList {
    pub contents: Vec<Server>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// The database's number of the server.
    pub id: i64,
    pub ip: String,
    /// Between servers.
    pub port: u16,
    pub sql_port: u16,
    /// Build string of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Both spellings occur.
    pub with_rootserver: bool,
    pub with_root_server: bool,
    /// As of a cluster.
    pub status: String,
    /// The database's word: `ACTIVE`, `INACTIVE` or `DELETING`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner_status: Option<String>,
    pub cluster_id: i64,
    pub zone_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idc_name: Option<String>,
    /// A host has one server, and its number.
    pub host_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// The epoch, when it is not stopped.
    pub stop_time: String,
    pub update_time: String,
    /// Home of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_path: Option<String>,
    /// Ours: the agent beside it, as `ip:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Ours: the task that has it under way, by its id in v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

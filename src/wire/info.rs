//! Bodies that show the cluster: `ob/info`, `obcluster/info`, topology, `observer/info` (`http-api.md` §7.7, §7.12).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::agent::AgentInstance;
use super::figures::{LicenseInfo, ServerStats, Stats, TenantInfo, TenantStats};

/// `GET /api/v1/ob/info`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ObInfo {
    pub agent_info: Vec<AgentInstance>,
    pub obcluster_info: ObClusterInfo,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ObClusterInfo {
    /// 0 unknown.
    pub id: i64,
    pub name: String,
    pub version: String,
    /// By zone; `null` before init.
    pub topology: Option<BTreeMap<String, Vec<TopologyServer>>>,
    pub is_shared_storage: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TopologyServer {
    pub svr_ip: String,
    pub svr_port: u16,
    pub sql_port: u16,
    /// 0 unknown.
    pub agent_port: u16,
    /// `YES` or `NO`.
    pub with_rootserver: String,
    /// `ACTIVE`, `INACTIVE`, `DELETING`, `STOPPED`.
    pub status: String,
    pub build_version: String,
}

/// `GET /api/v1/obcluster/info`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClusterInfo {
    pub cluster_name: String,
    pub cluster_id: i64,
    pub ob_version: String,
    pub startup_mode: String,
    /// Of this agent's own database: `NOT RUNNING`, `RUNNING`, `RESTRICTED`, `AVAILABLE`.
    pub status: String,
    pub is_community_edition: bool,
    pub is_standalone: bool,
    pub dead_lock_detection_enabled: bool,
    pub is_shared_storage: bool,
    /// The task that covers the whole cluster now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_task_id: Option<String>,
    /// Of all servers together; zeros when the database cannot be asked.
    pub stats: Stats,
    pub zones: Vec<ZoneInfo>,
    /// Empty when the database cannot be asked.
    pub tenants: Vec<TenantInfo>,
    /// Empty when the database cannot be asked.
    pub tenant_stats: Vec<TenantStats>,
    /// Standalone edition only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<LicenseInfo>,
}

/// `GET /api/v1/obcluster/topology/info`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TopologyInfo {
    pub zones: Vec<ZoneInfo>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ZoneInfo {
    pub name: String,
    pub idc_name: String,
    pub region_name: String,
    /// `RUNNING`, `STOPPED`, `STARTING`, `STOPPING`, `UNKNOWN`.
    pub status: String,
    /// As the database says; empty when it cannot be asked.
    pub inner_status: String,
    /// Where the root service has a replica in this zone; empty when the database cannot be asked.
    pub root_server: RootServerInfo,
    pub servers: Vec<ServerInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_task_id: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RootServerInfo {
    pub ip: String,
    /// `LEADER` or `FOLLOWER`.
    pub role: String,
    pub zone: String,
    pub svr_port: u16,
}

/// `GET /api/v1/observer/info`, and a server of a zone.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    pub id: i64,
    pub ip: String,
    pub svr_port: u16,
    pub sql_port: u16,
    pub version: String,
    pub with_rootserver: bool,
    /// `RUNNING`, `UNAVAILABLE`, `SERVICE_STOPPED`, `PROCESS_STOPPED`, `SERVICE_STOPPING`, `PROCESS_STOPPING`, `STARTING`,
    /// `DELETING`.
    pub status: String,
    /// `obState`.
    pub ob_status: u8,
    /// As the database says; empty when it cannot be asked.
    pub inner_status: String,
    /// When it began to serve, as the database says.
    pub start_time: Option<String>,
    /// When it was taken out of service.
    pub stop_time: Option<String>,
    /// Zeros when the database cannot be asked.
    pub stats: ServerStats,
    pub architecture: String,
    pub data_dir: String,
    pub redo_dir: String,
    pub log_dir: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_task_id: Option<String>,
    /// 0 when no agent is known for it.
    pub obshell_port: u16,
    /// Ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obpilot: Option<ServerMore>,
}

/// What OBShell does not tell of a server.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServerMore {
    /// Its agent answered within a second; otherwise its process is not known.
    #[serde(rename = "agentReached")]
    pub agent_reached: bool,
    /// In words.
    pub process: String,
    #[serde(rename = "safeToStop", default, skip_serializing_if = "Option::is_none")]
    pub safe_to_stop: Option<SafeToStop>,
}

/// May this server stop now without a tenant noticing?
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SafeToStop {
    pub safe: bool,
    /// Why not.
    pub why: Vec<String>,
}

impl From<Vec<String>> for SafeToStop {
    fn from(risks: Vec<String>) -> Self {
        Self { safe: risks.is_empty(), why: risks }
    }
}

/// `GET /api/v1/task/blocked`, ours: who holds what, since when, for what, until when.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BlockedView {
    pub locks: Vec<LockView>,
    #[serde(rename = "notReached")]
    pub not_reached: Vec<NotReached>,
    /// What the unfinished tasks of this agent do or wait for.
    pub waits: Vec<WaitView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LockView {
    pub agent: String,
    /// To look at, to wait for, or to name in `forcePassDag`.
    pub id: String,
    /// The part on that agent; the same when the task itself holds it.
    #[serde(rename = "subDag")]
    pub sub_dag: String,
    pub name: String,
    pub since: String,
    pub doing: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Who asked for it.
    pub actor: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NotReached {
    pub agent: String,
    pub why: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitView {
    pub task: String,
    pub name: String,
    pub node: String,
    pub agent: String,
    pub what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

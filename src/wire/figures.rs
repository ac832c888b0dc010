//! Numbers of servers and tenants inside `obcluster/info` and `observer/info` (`http-api.md` §7.12).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Room of the cluster, and what units hold of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    pub cpu_core_total: f64,
    pub cpu_core_assigned: f64,
    /// Of nothing it is 0, here and everywhere.
    pub cpu_core_assigned_percent: f64,
    /// For people, such as `64.00GB`.
    pub memory_total: String,
    pub memory_assigned: String,
    pub memory_in_bytes_total: i64,
    pub memory_in_bytes_assigned: i64,
    pub memory_assigned_percent: f64,
    pub disk_total: String,
    /// What is in use.
    pub disk_assigned: String,
    pub disk_in_bytes_total: i64,
    pub disk_in_bytes_assigned: i64,
    pub disk_assigned_percent: f64,
}

/// Room of one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerStats {
    #[serde(flatten)]
    pub stats: Stats,
    pub disk_used: String,
    pub disk_free: String,
    pub disk_in_bytes_used: i64,
    pub disk_in_bytes_free: i64,
    pub disk_used_percent: f64,
    pub ip: String,
    pub port: u16,
    pub zone: String,
}

/// A tenant; neither a meta tenant nor one in the recycle bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "tenant_name": "shop", "tenant_id": 1002, "created_time": "2026-03-01T09:30:00.5+08:00", "mode": "MYSQL", "status": "NORMAL",
    "locked": "NO", "primary_zone": "RANDOM", "locality": "FULL{1}@zone1", "in_recyclebin": "NO", "charset": "utf8mb4",
    "collation": "utf8mb4_general_ci", "whitelist": "%",
    "pools": [{ "pool_name": "shop_pool", "pool_id": 1002, "zone_list": "zone1", "observer_list": "10.0.0.1:2882", "unit_num": 1,
                "unit_config": null }],
    "read_only": false, "time_zone": "+08:00", "lower_case_table_names": "1", "dead_lock_detection_enabled": true,
    "connection_strings": [], "comment": ""
}))]
pub struct TenantInfo {
    pub tenant_name: String,
    pub tenant_id: i64,
    #[schema(format = DateTime)]
    pub created_time: String,
    /// `MYSQL` or `ORACLE`.
    pub mode: String,
    pub status: String,
    /// `YES` or `NO`.
    pub locked: String,
    pub primary_zone: String,
    pub locality: String,
    pub in_recyclebin: String,
    pub charset: String,
    pub collation: String,
    /// Who may connect.
    pub whitelist: String,
    pub pools: Vec<PoolInfo>,
    pub read_only: bool,
    pub time_zone: String,
    pub lower_case_table_names: String,
    pub dead_lock_detection_enabled: bool,
    /// How to connect through obproxy; none is known to this agent.
    pub connection_strings: Vec<ConnectionString>,
    pub comment: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolInfo {
    pub pool_name: String,
    pub pool_id: i64,
    /// Separated by `;`.
    pub zone_list: String,
    /// Servers as ip:rpc_port, separated by `;`.
    pub observer_list: String,
    pub unit_num: i64,
    pub unit_config: Option<UnitConfigInfo>,
}

/// Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UnitConfigInfo {
    #[schema(format = DateTime)]
    pub create_time: String,
    #[schema(format = DateTime)]
    pub modify_time: String,
    pub unit_config_id: i64,
    pub name: String,
    pub max_cpu: f64,
    pub min_cpu: f64,
    pub memory_size: i64,
    pub log_disk_size: i64,
    pub data_disk_size: i64,
    pub max_iops: i64,
    pub min_iops: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionString {
    pub r#type: String,
    pub obproxy_address: String,
    pub obproxy_port: u16,
    pub connection_string: String,
}

/// What a tenant uses of what it may.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "tenant_id": 1002, "tenant_name": "shop", "cpu_used_percent": 25.0, "memory_used_percent": 50.0,
    "data_disk_usage": 1073741824, "cpu_core_total": 4.0, "memory_in_bytes_total": 4294967296u64 }))]
pub struct TenantStats {
    pub tenant_id: i64,
    pub tenant_name: String,
    pub cpu_used_percent: f64,
    pub memory_used_percent: f64,
    /// In bytes.
    pub data_disk_usage: i64,
    pub cpu_core_total: f64,
    pub memory_in_bytes_total: i64,
}

/// `GET /api/v1/obcluster/license`; only the standalone edition has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "end_user": "Example Ltd", "license_id": "L-1", "license_code": "0000", "license_type": "Commercial", "product_type": "SE",
    "issuance_date": "2026-03-01T00:00:00+08:00", "activation_time": "2026-03-01T09:30:00+08:00",
    "expired_time": "2027-03-01T00:00:00+08:00", "options": "", "node_num": 1, "cluster_ulid": "01"
}))]
pub struct LicenseInfo {
    pub end_user: String,
    pub license_id: String,
    pub license_code: String,
    pub license_type: String,
    pub product_type: String,
    #[schema(format = DateTime)]
    pub issuance_date: String,
    #[schema(format = DateTime)]
    pub activation_time: String,
    #[schema(format = DateTime)]
    pub expired_time: String,
    pub options: String,
    pub node_num: i64,
    pub cluster_ulid: String,
}

/// `GET /api/v1/obcluster/unit-config-limit`: the smallest unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "min_memory": 5.0, "min_cpu": 1 }))]
pub struct UnitConfigLimit {
    /// In GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_memory: Option<f64>,
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_cpu: Option<i64>,
}

/// A size for people: two digits of the largest unit that it fills.
pub fn capacity(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    let mut size = u64::try_from(bytes).unwrap_or(0);
    let mut unit = 0;
    let mut rest = 0;
    while size >= 1024 && unit + 1 < UNITS.len() {
        rest = size % 1024 * 100 / 1024;
        size /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{size}{name}") } else { format!("{size}.{rest:02}{name}") }
}

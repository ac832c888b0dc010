//! Parameters, character sets, statistics, keys of shared storage, upgrades (`http-api.md` §6.3, §7.12, §7.13).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::host::HostInfo;
use crate::error::{Code, Error, Result};
use crate::model::Password;

/// A parameter with its values everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "name": "cpu_count", "scope": "CLUSTER", "edit_level": "DYNAMIC_EFFECTIVE", "default_value": "0", "section": "OBSERVER",
    "data_type": "INT", "info": "the number of CPU's in the system",
    "ob_parameters": [{ "svr_ip": "10.0.0.1", "svr_port": 2882, "zone": "zone1", "value": "16" }],
    "values": ["16"], "is_single_value": true
}))]
pub struct ClusterParameter {
    pub name: String,
    /// `CLUSTER` or `TENANT`.
    pub scope: String,
    pub edit_level: String,
    pub default_value: String,
    pub section: String,
    pub data_type: String,
    pub info: String,
    /// By server, and by tenant where it is one of tenants.
    pub ob_parameters: Vec<ServerValue>,
    /// By tenant, where it is one of tenants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenant_value: Vec<TenantValue>,
    /// All values that it has somewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    pub is_single_value: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerValue {
    pub svr_ip: String,
    pub svr_port: u16,
    pub zone: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_name: Option<String>,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantValue {
    pub tenant_id: i64,
    pub tenant_name: String,
    pub value: String,
}

/// `PATCH /api/v1/obcluster/parameters`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SetParametersBody {
    /// All are checked before any is set; then they are set one after another.
    #[serde(default)]
    #[schema(required = true, value_type = Vec<SetParameter>)]
    pub params: Option<Vec<SetParameter>>,
}

impl SetParametersBody {
    pub const MEMBERS: &[&str] =
        &["params", "name", "value", "scope", "zones", "servers", "tenants", "all_user_tenant"];

    /// # Errors
    /// `Common.BindJsonFailed` when it is missing; an empty list is none.
    pub fn params(self) -> Result<Vec<SetParameter>> {
        let missing = || Error::new(Code::BindJsonFailed, "params is missing; give the parameters as a list");
        self.params.ok_or_else(missing)
    }
}

/// A parameter to be set. Without zones, servers and tenants: everywhere, or for the sys tenant.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(example = json!({ "name": "syslog_level", "value": "INFO", "scope": "CLUSTER", "zones": [], "servers": [], "tenants": [],
    "all_user_tenant": false }))]
pub struct SetParameter {
    #[serde(default)]
    #[schema(required = true)]
    pub name: String,
    #[serde(default)]
    #[schema(required = true)]
    pub value: String,
    /// `CLUSTER` or `TENANT`, in exactly this case.
    #[serde(default)]
    #[schema(required = true)]
    pub scope: String,
    /// Only these, in scope `CLUSTER`; not together with servers.
    #[serde(default)]
    pub zones: Vec<String>,
    /// Only these, as ip:rpc_port, in scope `CLUSTER`.
    #[serde(default)]
    pub servers: Vec<String>,
    /// These, in scope `TENANT`.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// All user tenants, in scope `TENANT`.
    #[serde(default)]
    pub all_user_tenant: bool,
}

/// A character set with its collations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "name": "utf8mb4", "description": "UTF-8 Unicode", "maxlen": 4,
    "collations": [{ "is_default": true, "name": "utf8mb4_general_ci" }, { "is_default": false, "name": "utf8mb4_bin" }] }))]
pub struct CharsetInfo {
    pub name: String,
    pub description: String,
    pub collations: Vec<CollationInfo>,
    /// Bytes of the longest character.
    pub maxlen: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CollationInfo {
    pub is_default: bool,
    pub name: String,
}

/// `GET /api/v1/obcluster/statistics`. Nothing of it is sent anywhere.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Statistics {
    #[serde(rename = "telemetryEnabled")]
    pub telemetry_enabled: bool,
    /// Empty before init.
    #[serde(rename = "clusterId")]
    pub cluster_id: String,
    pub reporter: String,
    #[serde(rename = "obshellVersion")]
    pub obshell_version: String,
    #[serde(rename = "obshellRevision")]
    pub obshell_revision: String,
    /// Unix seconds.
    #[serde(rename = "reportTime")]
    pub report_time: i64,
    #[serde(rename = "telemetryVersion")]
    pub telemetry_version: i64,
    /// Those that answered within a second.
    #[schema(value_type = Vec<HostInfo>)]
    pub hosts: Vec<serde_json::Value>,
    pub instances: Vec<InstanceInfo>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "type": "oceanbase-ce", "version": "4.3.5.1", "revision": "101000042025031818", "cpuCount": 16,
    "memoryLimit": "64G", "dataFileSize": "200G", "logDiskSize": "200G", "hostHash": "1a2b3c4d" }))]
pub struct InstanceInfo {
    /// `oceanbase-ce`, `oceanbase` or `seekdb`.
    pub r#type: String,
    pub version: String,
    pub revision: String,
    #[serde(rename = "cpuCount")]
    pub cpu_count: i64,
    #[serde(rename = "memoryLimit")]
    pub memory_limit: String,
    #[serde(rename = "dataFileSize")]
    pub data_file_size: String,
    #[serde(rename = "logDiskSize")]
    pub log_disk_size: String,
    #[serde(rename = "hostHash")]
    pub host_hash: String,
}

/// `POST /api/v1/obcluster/shared-storage/validate-key` and `/save-key`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(example = json!({ "access_key": "key", "secret_key": "secret", "path": "oss://bucket/path", "endpoint": "host=oss.example.com" }))]
pub struct StorageKeyBody {
    #[serde(default)]
    #[schema(required = true)]
    pub access_key: String,
    #[serde(default)]
    #[schema(required = true, value_type = String)]
    pub secret_key: Password,
    #[serde(default)]
    #[schema(required = true)]
    pub path: String,
    #[serde(default)]
    #[schema(required = true)]
    pub endpoint: String,
}

impl StorageKeyBody {
    pub const MEMBERS: &[&str] = &["access_key", "secret_key", "path", "endpoint"];

    /// # Errors
    /// `Common.BindJsonFailed` naming what is missing.
    pub fn check(&self) -> Result<()> {
        let members = [
            ("access_key", self.access_key.is_empty()),
            ("secret_key", self.secret_key.is_empty()),
            ("path", self.path.is_empty()),
            ("endpoint", self.endpoint.is_empty()),
        ];
        required(members)
    }
}

/// `POST /api/v1/ob/upgrade`, `/api/v1/agent/upgrade`, and their checks.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(example = json!({ "version": "4.5.1.0", "release": "12026090101.el7", "upgradeDir": "", "mode": "ROLLING" }))]
pub struct UpgradeBody {
    #[serde(default)]
    #[schema(required = true)]
    pub version: String,
    /// `<build>.<dist>`
    #[serde(default)]
    #[schema(required = true)]
    pub release: String,
    #[serde(default, rename = "upgradeDir")]
    pub upgrade_dir: String,
    /// `ROLLING` or `STOPSERVICE`; of the database's upgrade only.
    #[serde(default)]
    pub mode: String,
    #[serde(default)]
    pub freeze_server: bool,
}

impl UpgradeBody {
    pub const MEMBERS: &[&str] = &["version", "release", "upgradeDir", "mode", "freeze_server"];

    /// # Errors
    /// `Common.BindJsonFailed` naming what is missing.
    pub fn check(&self, wants_mode: bool) -> Result<()> {
        let members = [
            ("version", self.version.is_empty()),
            ("release", self.release.is_empty()),
            ("mode", wants_mode && self.mode.is_empty()),
        ];
        required(members)
    }
}

fn required<const N: usize>(members: [(&str, bool); N]) -> Result<()> {
    match members.into_iter().find(|(_, is_missing)| *is_missing) {
        Some((name, _)) => Err(Error::new(Code::BindJsonFailed, format!("{name} is missing in the body"))),
        None => Ok(()),
    }
}

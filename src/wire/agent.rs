//! Bodies about agents: info, status, join, passwords, the host.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::info::SafeToStop;
use crate::error::{Code, Error, Result};
use crate::model::{AddrError, AgentAddr, Password, ZoneName};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentInfo {
    #[serde(default)]
    #[schema(required = true)]
    pub ip: String,
    #[serde(default)]
    #[schema(required = true)]
    pub port: i64,
}

impl From<AgentAddr> for AgentInfo {
    fn from(addr: AgentAddr) -> Self {
        Self { ip: addr.ip.to_string(), port: i64::from(addr.port) }
    }
}

impl AgentInfo {
    pub const MEMBERS: &[&str] = &["ip", "port"];

    /// # Errors
    /// `Common.BindJsonFailed` when a member is missing, `Common.InvalidIp` or `Common.InvalidPort`.
    pub fn address(&self, member: &str) -> Result<AgentAddr> {
        if self.ip.is_empty() || self.port == 0 {
            let text = format!("{member} needs ip and port, such as {{\"ip\":\"10.0.0.1\",\"port\":2886}}");
            return Err(Error::new(Code::BindJsonFailed, text));
        }
        AgentAddr::from_parts(&self.ip, self.port).map_err(|error| {
            let code = match error {
                AddrError::Ip(_) => Code::InvalidIp,
                AddrError::Port(_) => Code::InvalidPort,
                AddrError::Shape(_) => Code::InvalidAddress,
            };
            Error::new(code, error.to_string())
        })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentInstance {
    pub ip: String,
    pub port: i64,
    pub zone: String,
    pub identity: String,
    pub version: String,
}

/// `POST /api/v1/logout` (`http-api.md` §6.2).
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct LogoutBody {
    #[serde(default)]
    #[schema(value_type = String, required = true)]
    pub session_id: Password,
}

impl LogoutBody {
    pub const MEMBERS: &[&str] = &["session_id"];
}

/// `GET /api/v1/info` (`http-api.md` §6.1).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Info {
    pub pid: u32,
    /// 1 starting, 2 running, 3 stopping, 4 stopped.
    pub state: u8,
    /// Nanoseconds since 1970.
    #[serde(rename = "startAt")]
    pub start_at: i64,
    #[serde(rename = "homePath")]
    pub home_path: String,
    #[serde(rename = "obVersion")]
    pub ob_version: String,
    pub architecture: String,
    pub ip: String,
    pub port: i64,
    pub zone: String,
    pub identity: String,
    /// The API level we speak, not our own version: SDKs compare it.
    pub version: String,
    #[serde(rename = "isObproxyAgent")]
    pub is_obproxy_agent: bool,
    /// An agent password is set.
    pub security: bool,
    /// `["v2"]`, or `["v2", "v1"]` where v1 is switched on: the Python SDK fails on values it does not know.
    #[serde(rename = "supportedAuth")]
    pub supported_auth: Vec<String>,
    pub product: String,
    #[serde(rename = "productVersion")]
    pub product_version: String,
    /// `seekdb` or `observer`.
    pub engine: String,
    #[serde(default, rename = "authSchemes")]
    pub auth_schemes: Option<AuthSchemes>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GitInfo {
    pub branch: String,
    #[serde(rename = "commitId")]
    pub commit_id: String,
    #[serde(rename = "shortCommitId")]
    pub short_commit_id: String,
    #[serde(rename = "commitTime")]
    pub commit_time: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatusAgent {
    pub ip: String,
    pub port: i64,
    pub identity: String,
}

/// `GET /api/v1/status` (`http-api.md` §6.1).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub agent: StatusAgent,
    pub state: u8,
    pub version: String,
    pub pid: u32,
    #[serde(rename = "startAt")]
    pub start_at: i64,
    pub port: i64,
    /// 0 process not running, 1 running without connection, 2 restricted, 3 available.
    #[serde(rename = "obState")]
    pub ob_state: u8,
    #[serde(rename = "sqlPort", default, skip_serializing_if = "Option::is_none")]
    pub sql_port: Option<u16>,
    #[serde(rename = "underMaintenance")]
    pub under_maintenance: bool,
    /// What OBShell does not tell.
    pub obpilot: Obpilot,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Obpilot {
    pub server: ServerView,
    pub credential: CredentialView,
    /// Who holds the maintenance lock; absent while nobody does.
    #[serde(rename = "heldBy", default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<LockHolder>,
    /// May this server stop now without a tenant noticing? Absent while it does not run.
    #[serde(rename = "safeToStop", default, skip_serializing_if = "Option::is_none")]
    pub safe_to_stop: Option<SafeToStop>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LockHolder {
    /// The task to look at, to wait for, or to name in `forcePassDag`.
    pub id: String,
    /// Name of what holds it: that task itself, or its part on this host.
    pub name: String,
    pub since: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServerView {
    /// `STOPPED`, `STARTING` (runs, has not served yet), `SERVING`, `NOT_SERVING` (it served, and does not now; `why` says).
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    #[serde(rename = "startedAt", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// In words, when it does not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(rename = "lastExit", default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<LastExitView>,
    /// What the restart policy does next, while it has something to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LastExitView {
    pub pid: i32,
    pub how: String,
    pub at: String,
    /// No operation had asked for it.
    pub unexpected: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialView {
    /// `ACCEPTED`, `REFUSED`, or `UNKNOWN` while the database does not answer.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// `GET /api/v1/secret`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    pub ip: String,
    pub port: i64,
    /// Base64 of the PKCS#1 DER.
    pub public_key: String,
    /// Absent at agents of OBShell.
    #[serde(default, rename = "authSchemes")]
    pub auth_schemes: Option<AuthSchemes>,
}

/// Schemes of ours, in a member of their own: SDKs fail on values of `supportedAuth` that they do not know.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuthSchemes {
    pub v3: SchemeV3,
}

/// What a client needs for scheme v3 (`docs/scheme-v3.md`).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SchemeV3 {
    /// First 32 hexadecimal digits of the SHA-256 of the key.
    #[serde(rename = "keyId")]
    pub key_id: String,
    /// RSA key as SubjectPublicKeyInfo, base64 of the DER.
    #[serde(rename = "publicKey")]
    pub public_key: String,
}

/// `POST /api/v1/agent/join`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct JoinBody {
    /// Whom to join: the agent's own address makes it a master.
    #[serde(default, rename = "agentInfo")]
    #[schema(required = true)]
    pub agent_info: AgentInfo,
    #[serde(default, rename = "zoneName")]
    #[schema(required = true)]
    pub zone_name: String,
    /// Agent password of the agent to join.
    #[serde(default, rename = "masterPassword")]
    #[schema(value_type = String)]
    pub master_password: Password,
}

impl JoinBody {
    pub const MEMBERS: &[&str] = &["agentInfo", "ip", "port", "zoneName", "masterPassword"];

    /// # Errors
    /// `Common.BindJsonFailed` when something is missing, or the codes of its parts.
    pub fn into_parts(self) -> Result<(AgentAddr, ZoneName, Password)> {
        let target = self.agent_info.address("agentInfo")?;
        if self.zone_name.is_empty() {
            return Err(Error::new(Code::BindJsonFailed, "zoneName is missing; name the zone of this agent"));
        }
        let zone = self.zone_name.parse::<ZoneName>();
        let zone = zone.map_err(|e| Error::new(Code::IllegalArgument, e.to_string()))?;
        Ok((target, zone, self.master_password))
    }
}

/// A body that is an [`AgentInfo`].
pub type AgentBody = AgentInfo;

/// `POST /api/v1/agent/password`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct PasswordBody {
    /// Not empty.
    #[schema(value_type = String, required = true)]
    #[serde(default)]
    pub password: Password,
}

impl PasswordBody {
    pub const MEMBERS: &[&str] = &["password"];
}

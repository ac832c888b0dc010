//! Bodies about the cluster and its servers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::task::DagDetail;
use crate::error::{Code, Error, Result};
use crate::model::{AddrError, Password, Scope, ScopeError};

#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct ScopeBody {
    /// `GLOBAL`, `ZONE` or `SERVER`, in any case.
    #[serde(default)]
    #[schema(required = true)]
    pub r#type: String,
    /// Zone names, or agents as ip:port; nothing for `GLOBAL`.
    #[serde(default)]
    pub target: Vec<String>,
}

impl ScopeBody {
    /// # Errors
    /// The code that OBShell gives for each kind of wrong scope (`http-api.md` §6.0).
    pub fn parse(&self) -> Result<Scope> {
        Scope::parse(&self.r#type, &self.target).map_err(|error| {
            let code = match &error {
                ScopeError::Type(_) => Code::ScopeInvalid,
                ScopeError::NoTarget(_) | ScopeError::TargetOfGlobal(_) | ScopeError::Twice(_) => {
                    Code::IllegalArgument
                }
                ScopeError::Zone(_) => Code::ZoneNotExist,
                ScopeError::Addr(AddrError::Ip(_)) => Code::InvalidIp,
                ScopeError::Addr(AddrError::Port(_)) => Code::InvalidPort,
                ScopeError::Addr(AddrError::Shape(_)) => Code::InvalidAddress,
            };
            Error::new(code, error.to_string())
        })
    }
}

/// Ids of main DAGs that may be pushed aside: the object that SDKs send, or the list that the documentation shows.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "forcePassDag is {\"id\":[\"…\"]} or [\"…\"]")]
pub enum ForcePass {
    Object {
        #[serde(default)]
        id: Vec<String>,
    },
    List(Vec<String>),
}

impl Default for ForcePass {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl ForcePass {
    /// # Errors
    /// `Task.GenericID.Invalid` for what is no id.
    pub fn ids(self) -> Result<Vec<String>> {
        let (Self::Object { id } | Self::List(id)) = self;
        for text in &id {
            text.parse::<crate::model::GenericId>()
                .map_err(|e| Error::new(Code::GenericIdInvalid, e.to_string()))?;
        }
        Ok(id)
    }
}

/// `POST /api/v1/ob/start`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct StartBody {
    #[serde(default)]
    #[schema(required = true)]
    pub scope: ScopeBody,
    #[serde(default, rename = "forcePassDag")]
    pub force_pass_dag: ForcePass,
    /// Of the plan that was shown: exactly that is done, or nothing.
    #[serde(default, rename = "planHash")]
    pub plan_hash: Option<String>,
}

impl StartBody {
    pub const MEMBERS: &[&str] = &["scope", "type", "target", "forcePassDag", "id", "planHash"];
}

/// `POST /api/v1/ob/stop`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct StopBody {
    #[serde(default)]
    #[schema(required = true)]
    pub scope: ScopeBody,
    #[serde(default, rename = "forcePassDag")]
    pub force_pass_dag: ForcePass,
    /// SIGKILL at once.
    #[serde(default)]
    pub force: bool,
    /// Freeze, then the graceful signal.
    #[serde(default)]
    pub terminate: bool,
    /// Of the plan that was shown: exactly that is done, or nothing.
    #[serde(default, rename = "planHash")]
    pub plan_hash: Option<String>,
}

impl StopBody {
    pub const MEMBERS: &[&str] =
        &["scope", "type", "target", "forcePassDag", "id", "force", "terminate", "planHash"];
}

/// `POST /api/v1/ob/zone/{zone_name}/stop`, and its check.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ZoneStopBody {
    /// Freeze before the processes end.
    #[serde(default)]
    pub freeze_server: bool,
    #[serde(default, rename = "forcePassDag")]
    pub force_pass_dag: ForcePass,
}

impl ZoneStopBody {
    pub const MEMBERS: &[&str] = &["freeze_server", "forcePassDag", "id"];
}

/// `POST|PUT /api/v1/obcluster/config`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ClusterConfigBody {
    /// Greater than 0.
    #[serde(default, rename = "clusterId")]
    #[schema(required = true)]
    pub cluster_id: i64,
    /// Not empty.
    #[serde(default, rename = "clusterName")]
    #[schema(required = true)]
    pub cluster_name: String,
    /// Password of root@sys to be. From then on requests need it.
    #[serde(default, rename = "rootPwd")]
    #[schema(value_type = Option<String>)]
    pub root_pwd: Option<Password>,
    /// Root servers as `ip:rpc_port:sql_port`, separated by `;` (engine observer).
    #[serde(default, rename = "rsList")]
    pub rs_list: Option<String>,
}

impl ClusterConfigBody {
    pub const MEMBERS: &[&str] = &["clusterId", "clusterName", "rootPwd", "rsList"];
}

/// `POST|PUT /api/v1/observer/config`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ObserverConfigBody {
    /// Settings by name; every value is a text.
    #[serde(default, rename = "observerConfig")]
    #[schema(required = true)]
    pub observer_config: BTreeMap<String, String>,
    #[serde(default)]
    #[schema(required = true)]
    pub scope: ScopeBody,
    /// Ignored, as OBShell does: everything here takes effect at init.
    #[serde(default)]
    pub restart: bool,
}

impl ObserverConfigBody {
    /// Names inside `observerConfig` are the caller's and match exactly.
    pub const MEMBERS: &[&str] = &["observerConfig", "scope", "type", "target", "restart"];
}

/// `POST /api/v1/ob/init`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct InitBody {
    /// Load time zones and the like (engine observer).
    #[serde(default)]
    pub import_script: bool,
    /// Make the user that obproxy asks as (engine observer).
    #[serde(default)]
    pub create_proxyro_user: bool,
    #[schema(value_type = String)]
    #[serde(default)]
    pub proxyro_password: Password,
}

impl InitBody {
    pub const MEMBERS: &[&str] = &["import_script", "create_proxyro_user", "proxyro_password"];
}

/// `POST /api/v1/obcluster/password`, ours: the root password as it is now.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RootPwdBody {
    #[serde(default, rename = "rootPwd")]
    #[schema(value_type = String, required = true)]
    pub root_pwd: Password,
}

impl RootPwdBody {
    pub const MEMBERS: &[&str] = &["rootPwd"];
}

/// The answer to a request with `?plan=true`: what it would do, and what stands in its way. Nothing was changed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Name of the task it would make.
    pub name: String,
    pub scope: String,
    pub servers: Vec<PlanServer>,
    /// Names of its nodes, in order.
    pub stages: Vec<String>,
    /// What becomes of every log stream, where something stops.
    pub streams: Vec<PlanStream>,
    /// What it means for whoever uses the database.
    pub consequences: Vec<String>,
    /// Why it would be refused or fail now; empty when it can go.
    pub obstacles: Vec<String>,
    /// From where on it cannot be taken back.
    #[serde(rename = "pointOfNoReturn")]
    pub no_return: String,
    /// Name of this plan. Given as `planHash` with the request, exactly this is done, or nothing.
    #[serde(rename = "planHash")]
    pub hash: String,
}

/// What a start or stop answers: the task that was made, or with `plan=true` what it would be.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TaskOrPlan {
    Task(DagDetail),
    Plan(Plan),
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanStream {
    #[serde(rename = "tenantId")]
    pub tenant_id: i64,
    pub tenant: String,
    #[serde(rename = "logStream")]
    pub stream: i64,
    /// Server that leads it now; absent when it has no leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    #[serde(rename = "leaderMoves")]
    pub leader_moves: bool,
    pub replicas: usize,
    pub left: usize,
    pub needed: usize,
    #[serde(rename = "keepsMajority")]
    pub keeps_majority: bool,
    /// Members that do not count, and why.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlanServer {
    pub agent: String,
    pub zone: String,
    /// Its process now, in words.
    pub now: String,
    /// What would be done to it, in words.
    pub then: String,
    /// Servers of one group at the same time, groups one after another.
    pub group: usize,
}

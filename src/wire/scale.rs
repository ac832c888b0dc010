//! Bodies of scale-out and scale-in (`http-api.md` §7.9, §7.10).

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::agent::AgentInfo;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Password, ZoneName};

/// `POST /api/v1/ob/scale_out`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ScaleOutBody {
    /// The new agent. It must be SINGLE.
    #[serde(default, rename = "agentInfo")]
    #[schema(required = true)]
    pub agent_info: AgentInfo,
    /// Zone of the new server; one that does not exist is made.
    #[serde(default)]
    #[schema(required = true)]
    pub zone: String,
    /// Settings of the new server by name; every value is a text. `{}` is enough.
    #[serde(default, rename = "obConfigs")]
    #[schema(required = true, value_type = BTreeMap<String, String>)]
    pub ob_configs: Option<BTreeMap<String, String>>,
    /// Agent password of the new agent, where it has one.
    #[serde(default, rename = "targetAgentPassword")]
    #[schema(value_type = String)]
    pub target_agent_password: Password,
    /// Of the plan that was shown: exactly that is done, or nothing.
    #[serde(default, rename = "planHash")]
    pub plan_hash: Option<String>,
}

impl ScaleOutBody {
    /// Names inside `obConfigs` are the caller's and match exactly.
    pub const MEMBERS: &[&str] =
        &["agentInfo", "ip", "port", "zone", "obConfigs", "targetAgentPassword", "planHash"];

    /// # Errors
    /// `Common.BindJsonFailed` when something is missing, or the codes of its parts.
    pub fn parts(&self) -> Result<(AgentAddr, ZoneName, BTreeMap<String, String>)> {
        let target = self.agent_info.address("agentInfo")?;
        if self.zone.is_empty() {
            return Err(Error::new(Code::BindJsonFailed, "zone is missing; name the zone of the new server"));
        }
        let zone = self.zone.parse::<ZoneName>();
        let zone = zone.map_err(|e| Error::new(Code::IllegalArgument, e.to_string()))?;
        let config = self.ob_configs.clone().ok_or_else(|| {
            Error::new(Code::BindJsonFailed, "obConfigs is missing; {} is enough where nothing is set")
        })?;
        Ok((target, zone, config))
    }
}

/// `POST /api/v1/ob/scale_in`, `DELETE /api/v1/observer`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct ScaleInBody {
    /// The agent that leaves with its server. (With an underscore, unlike that of a scale-out.)
    #[serde(default)]
    #[schema(required = true)]
    pub agent_info: AgentInfo,
    /// Do not wait for the database to move what is there: SIGKILL, if a majority of every log stream lives without it.
    #[serde(default)]
    pub force_kill: bool,
    /// Of the plan that was shown: exactly that is done, or nothing.
    #[serde(default, rename = "planHash")]
    pub plan_hash: Option<String>,
}

impl ScaleInBody {
    pub const MEMBERS: &[&str] = &["agent_info", "ip", "port", "force_kill", "planHash"];
}

/// `DELETE /api/v1/zone/{zone_name}`. It may be absent, as in OBShell.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct DeleteZoneBody {
    /// Of the plan that was shown: exactly that is done, or nothing.
    #[serde(default, rename = "planHash")]
    pub plan_hash: Option<String>,
}

impl DeleteZoneBody {
    pub const MEMBERS: &[&str] = &["planHash"];
}

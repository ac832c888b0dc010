//! Bodies of orders over servers, zones and the cluster that v1 of OBShell does not have.

use serde::Deserialize;
use utoipa::ToSchema;

use super::ob::{ForcePass, ScopeBody};
use crate::error::{Code, Error, Result};
use crate::model::ZoneName;

/// `POST /api/v1/ob/restart`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct RestartBody {
    #[serde(default)]
    #[schema(required = true)]
    pub scope: ScopeBody,
    #[serde(default, rename = "forcePassDag")]
    pub force_pass_dag: ForcePass,
    /// Nothing is checked, and nothing waits for leaders to move; servers that are named are killed.
    #[serde(default)]
    pub force: bool,
    /// All servers at once instead of zone by zone: business stops meanwhile.
    #[serde(default, rename = "stopTheWorld")]
    pub stop_the_world: bool,
    /// Freeze before processes end: stopping takes longer, coming back is faster.
    #[serde(default, rename = "freezeServer")]
    pub freeze_server: bool,
    /// Zones in the order in which they are restarted. Those that are not named come after them, by name, the one with the root
    /// service last.
    #[serde(default)]
    pub order: Vec<String>,
    /// Servers of a zone that are worked on at a time.
    #[serde(default)]
    pub parallel: Option<usize>,
    /// Seconds between two zones.
    #[serde(default, rename = "pauseSeconds")]
    pub pause_seconds: Option<u64>,
    /// Seconds for one server to stop, and to start.
    #[serde(default, rename = "serverDeadlineSeconds")]
    pub server_deadline_seconds: Option<u64>,
    /// Of the plan that was shown: exactly that is done, or nothing.
    #[serde(default, rename = "planHash")]
    pub plan_hash: Option<String>,
}

impl RestartBody {
    pub const MEMBERS: &[&str] = &[
        "scope",
        "type",
        "target",
        "forcePassDag",
        "id",
        "force",
        "stopTheWorld",
        "freezeServer",
        "order",
        "parallel",
        "pauseSeconds",
        "serverDeadlineSeconds",
        "planHash",
    ];

    /// # Errors
    /// `Common.IllegalArgument` for what cannot be a zone.
    pub fn zones(&self) -> Result<Vec<ZoneName>> {
        let parsed = self.order.iter().map(|name| name.parse::<ZoneName>());
        parsed.collect::<Result<_, _>>().map_err(|e| Error::new(Code::IllegalArgument, format!("order: {e}")))
    }
}

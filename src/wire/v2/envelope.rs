//! The envelope of every answer of v2 (`ocp-v2.md` §1.3, §4.4).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Members as OCP has them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EnvelopeV2<T = Value> {
    /// Absent on errors, and where there is nothing to tell.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub data: Option<T>,
    pub successful: bool,
    /// ISO 8601 with milliseconds and offset.
    pub timestamp: String,
    /// Whole milliseconds.
    pub duration: u64,
    /// The HTTP status.
    pub status: u16,
    /// 16 hexadecimal digits; empty for a caller who has to wait.
    #[serde(rename = "traceId")]
    pub trace_id: String,
    /// Address of the agent that answers, without its port.
    pub server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorV2>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorV2 {
    /// One of ocp-errors.json.
    pub code: String,
    /// What happened, and what to do about it.
    pub message: String,
    /// Ours: the same failure in v1, one of errors.json.
    #[serde(rename = "errCode")]
    pub err_code: String,
    /// Ours: what v1 sends as data along with this error, such as who holds a lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

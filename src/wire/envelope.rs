//! The envelope of every answer (`http-api.md` §2).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Members in the order OBShell writes them. No others may be added at this level: the Go SDK reads the envelope and
/// the body it expects side by side.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Envelope<T = Value> {
    pub successful: bool,
    /// RFC 3339 with offset.
    pub timestamp: String,
    /// Whole milliseconds.
    pub duration: u64,
    /// The HTTP status.
    pub status: u16,
    #[serde(rename = "traceId")]
    pub trace_id: String,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub data: Option<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// Only the legacy numbers that SDKs act on: 10008.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    #[serde(rename = "errCode")]
    pub err_code: String,
    pub message: String,
}

/// Lists are wrapped.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Contents<T> {
    pub contents: Vec<T>,
}

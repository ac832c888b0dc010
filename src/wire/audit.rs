//! The audit trail as it looks outside.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::engine::port::Record;
use crate::model::{AgentAddr, GenericId, on_wire};

/// One entry of `GET /api/v1/security/audit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Grows; the number of the event in `GET /api/v1/task/events`.
    pub id: i64,
    /// RFC 3339.
    pub time: String,
    /// Who, by what, from where: `root@sys from 10.0.0.5`, `uid 0 (socket)`, `somebody from 10.0.0.9`.
    pub actor: String,
    /// `request` (let in), `refused` (at the door), or what was done in words.
    pub action: String,
    /// Generic id of the task that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Of a request: `request` (method and path), `status`, `code` of a refusal, `traceId`. Of refusals: `request`, `code` and
    /// `count`, how many since the entry before.
    #[schema(value_type = Object)]
    pub details: Value,
}

impl AuditEntry {
    /// From a record of kind `audit`.
    pub fn new(own: AgentAddr, record: &Record) -> Self {
        let mut details = record.body.clone();
        let action = details.as_object_mut().and_then(|details| details.shift_remove("action"));
        Self {
            id: record.id.0,
            time: on_wire(record.at),
            actor: record.actor.clone(),
            action: action.as_ref().and_then(Value::as_str).unwrap_or("unknown").to_owned(),
            task: record.dag.map(|dag| GenericId::agent(own, dag.0).to_string()),
            details,
        }
    }
}

//! Operations of this host alone: the emergency start and stop through the Unix socket (`lifecycle.md` §5.7), and the
//! restart by policy.
//!
//! They take the maintenance lock like everything that touches the server (OBShell's do not: two starts may meet there),
//! and give it back when they fail.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::peers::Operation;
use crate::engine::Template;
use crate::model::AgentAddr;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    pub operation: Operation,
    pub actor: String,
}

pub fn template(own: AgentAddr, params: &Params) -> Template {
    let new = |name| Template::new("local", name, json!(params)).locked(None).releases_lock_on_failure();
    if params.operation != Operation::Start {
        return new("Stop local observer").then("server.stop", "Stop observer", own);
    }
    new("Start local observer")
        .then("server.check", "Check ob process and config", own)
        .then("server.start", "Start observer", own)
        .then("server.serve", "Get connection of observer", own)
}

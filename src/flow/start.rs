//! `Start OB`: the servers in scope run and serve. Six nodes for GLOBAL and ZONE, five for SERVER.

use serde_json::json;

use super::handshake::Params;
use crate::engine::Template;
use crate::model::{AgentAddr, Scope};

pub fn template(own: AgentAddr, params: &Params) -> Template {
    let agents = &params.agents;
    let informed = Template::new("start", "Start OB", json!(params))
        .then_on_each("handshake.inform", "Inform all agents to start observer", agents)
        .then("handshake.ready", "Make sure all agents are ready", own)
        .then("handshake.advance", "Advance agents to execute the task", own)
        .then_on_each("handshake.wait", "Wait for all agents to execute tasks successfully", agents);
    let zoned = match params.scope {
        Scope::Global | Scope::Zone(_) => informed.then("start.zone", "Start Zone", own),
        Scope::Server(_) => informed,
    };
    zoned.finally("handshake.end", "Inform all agents to end the task", own)
}

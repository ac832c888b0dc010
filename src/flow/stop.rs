//! `Stop OB`: servers leave service, and with `terminate` and `force` their processes end too. The nodes and their order are
//! those of `task-engine.md` §7.1.

use serde_json::json;

use super::handshake::Params;
use super::peers::Operation;
use crate::engine::Template;
use crate::model::{AgentAddr, StopHow};

/// A graceful stop freezes first, so that the next start has little to replay; a kill does not wait for anything; without
/// either, the servers leave service and their processes stay.
pub fn template(own: AgentAddr, params: &Params) -> Template {
    let prepared = prepared(own, params);
    if params.operation == Operation::Stand {
        return ended(own, executed(own, params, prepared).then("stop.sql", SQL, own));
    }
    let is_graceful = matches!(params.operation, Operation::Stop { how: StopHow::Graceful { .. } });
    let frozen = if is_graceful { prepared.then("stop.freeze", FREEZE, own) } else { prepared };
    ended(own, executed(own, params, frozen))
}

/// `POST /ob/zone/{zone}/stop`: out of service first, then the processes.
pub fn zone_template(own: AgentAddr, params: &Params, freezes: bool) -> Template {
    let out = prepared(own, params).then("stop.sql", SQL, own);
    let frozen = if freezes { out.then("stop.freeze", FREEZE, own) } else { out };
    ended(own, executed(own, params, frozen))
}

const SQL: &str = "Execute stop sql";
const FREEZE: &str = "Minor freeze before stop server";

fn prepared(own: AgentAddr, params: &Params) -> Template {
    Template::new("stop", "Stop OB", json!(params))
        .then_on_each("handshake.inform", "Inform all agents to prepare to stop observer", &params.agents)
        .then("handshake.ready", "Make sure all agents are ready", own)
}

fn executed(own: AgentAddr, params: &Params, before: Template) -> Template {
    before.then("handshake.advance", "Advance agents to execute the task", own).then_on_each(
        "handshake.wait",
        "Wait for all agents to execute tasks successfully",
        &params.agents,
    )
}

fn ended(own: AgentAddr, before: Template) -> Template {
    before.finally("handshake.end", "Inform all agents to end the task", own)
}

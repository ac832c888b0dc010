//! `Start OB`: the servers in scope run and serve. Six nodes for GLOBAL and ZONE, five for SERVER.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::catalog::Ports;
use super::handshake::Params;
use super::ports::Progress;
use crate::config::EngineKind;
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec, Template};
use crate::error::{Code, Error, Result};
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

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(StartZone(ports.clone()));
}

/// `Start Zone`: the zones in scope take traffic. Engine seekdb has no zones; there the server itself must serve.
#[derive(Debug)]
struct StartZone(Ports);

impl Step for StartZone {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "start.zone", caps: Caps::of("CXT"), deadline: Duration::from_secs(900) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            match self.0.engine {
                EngineKind::Seekdb => {
                    if self.0.process.find().await?.is_none() {
                        let text = "the server ended after it had served; look at its log";
                        return Err(Error::new(Code::ProcessNotExist, text));
                    }
                    ctx.info("engine seekdb has no zones; its server runs");
                    Outcome::done()
                }
                EngineKind::Observer => Err(observer_is_not_here()),
            }
        })
    }
}

/// What needs a cluster of `observer`, in this build.
pub(super) fn observer_is_not_here() -> Error {
    let text = "zones of engine observer are not operated by this build yet; it operates engine seekdb";
    Error::new(Code::BadRequest, text)
}

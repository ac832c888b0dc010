//! `Stop OB`: the servers in scope end, gracefully after a freeze (`terminate`) or at once (`force`).

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::catalog::Ports;
use super::handshake::Params;
use super::ports::{Operation, Progress};
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec, Template};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, StopHow};

/// A graceful stop freezes first, so that the next start has little to replay; a kill does not wait for anything.
pub fn template(own: AgentAddr, params: &Params) -> Template {
    let agents = &params.agents;
    let informed = Template::new("stop", "Stop OB", json!(params))
        .then_on_each("handshake.inform", "Inform all agents to prepare to stop observer", agents)
        .then("handshake.ready", "Make sure all agents are ready", own);
    let frozen = match params.operation {
        Operation::Stop { how: StopHow::Graceful { .. } } => {
            informed.then("stop.freeze", "Minor freeze before stop server", own)
        }
        Operation::Stop { how: StopHow::Kill } | Operation::Start => informed,
    };
    frozen
        .then("handshake.advance", "Advance agents to execute the task", own)
        .then_on_each("handshake.wait", "Wait for all agents to execute tasks successfully", agents)
        .finally("handshake.end", "Inform all agents to end the task", own)
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Freeze(ports.clone()));
}

/// `Minor freeze before stop server`. Freezing twice freezes what little came in between.
#[derive(Debug)]
struct Freeze(Ports);

impl Step for Freeze {
    fn spec(&self) -> StepSpec {
        StepSpec {
            key: "stop.freeze",
            caps: Caps::of("CTXP"),
            deadline: self.0.limits.freeze + Duration::from_secs(60),
        }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            if self.0.process.find().await?.is_none() {
                ctx.info("nothing runs, nothing to freeze");
                return Outcome::done();
            }
            let params: Params = ctx.params()?;
            let _held = self.0.keeper.hold(&ctx.dag_ref, &params.agents);
            let limit = self.0.limits.freeze;
            ctx.log_wait("the checkpoint to pass the freeze", limit);
            let password = self.0.ledger.root_password();
            let frozen =
                tokio::time::timeout(limit, ctx.waiting(self.0.sql.minor_freeze(&password, ctx))).await;
            frozen.unwrap_or_else(|_| {
                let text = format!(
                    "the checkpoint did not pass the freeze within {} s; RETRY freezes again, PASS of this node \
                     stops without it",
                    limit.as_secs()
                );
                Err(Error::new(Code::MinorFreezeTimeout, text))
            })?;
            Outcome::done()
        })
    }
}

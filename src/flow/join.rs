//! `Join self`: a SINGLE agent becomes MASTER of a cluster to be (`lifecycle.md` §2.1).

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use crate::cluster::{Act, Change, may};
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec, Template};
use crate::error::Result;
use crate::flow::ports::Progress;
use crate::model::{AgentAddr, Identity, ZoneName};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    pub zone: ZoneName,
    pub actor: String,
}

pub fn template(own: AgentAddr, params: &Params) -> Template {
    // A failed join leaves nothing locked (W25).
    Template::new("join", "Join self", json!(params)).locked(None).releases_lock_on_failure().then(
        "join.self",
        "Join self",
        own,
    )
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(JoinSelf(ports.clone()));
}

/// One commit of the ledger; running it twice finds it done.
#[derive(Debug)]
struct JoinSelf(Ports);

impl Step for JoinSelf {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "join.self", caps: Caps::of("CTPB"), deadline: Duration::from_secs(60) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let state = self.0.ledger.state();
            if state.identity == Identity::Master && state.zone.as_ref() == Some(&params.zone) {
                ctx.info("already the master of its own cluster");
                return Outcome::done();
            }
            may(Act::Join, self.0.own, state.identity)?;
            let zone = params.zone.clone();
            self.0.ledger.change(Change::BecameMaster { zone }, &params.actor).await?;
            ctx.info(&format!("{} is MASTER, zone {}", self.0.own, params.zone));
            Outcome::done()
        })
    }

    fn undo<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.0.ledger.state().identity == Identity::Master {
                self.0.ledger.change(Change::BecameSingle, &ctx.dag_ref).await?;
                ctx.info("SINGLE again");
            }
            Ok(())
        })
    }
}

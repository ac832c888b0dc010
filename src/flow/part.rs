//! What an agent's part in an operation is: its nodes by operation, and the steps that are its own.
//!
//! Names and numbers of nodes are those that v1 clients know (`task-engine.md` §7.1, `lifecycle.md` §4.8). What a part does
//! with the server is `server`; what it does for an init is shared with the master's own steps in `init`.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::catalog::Ports;
use super::participant::{GO, GO_ON, LEASE};
use super::peers::{Operation, Prepare};
use super::ports::Progress;
use super::{init, member, newcomer, take_over};
use crate::engine::run::LEASE_OVER;
use crate::engine::{Caps, NodeState, Outcome, Registry, Snapshot, Step, StepCtx, StepSpec, Template};
use crate::error::{Error, Result};
use crate::model::AgentAddr;

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Begin);
    registry.add(Rest);
    registry.add(Hold);
    registry.add(Act { key: "part.deploy", ports: ports.clone() });
    registry.add(Act { key: "part.undeploy", ports: ports.clone() });
    registry.add(Act { key: "part.start_first", ports: ports.clone() });
    registry.add(Act { key: "part.undo_start", ports: ports.clone() });
    registry.add(Act { key: "part.adopt", ports: ports.clone() });
    registry.add(Act { key: "part.leave", ports: ports.clone() });
    registry.add(Act { key: "part.unadopt", ports: ports.clone() });
    registry.add(Act { key: "part.taken_over", ports: ports.clone() });
    registry.add(Act { key: "part.follow_again", ports: ports.clone() });
    registry.add(Act { key: "part.retire", ports: ports.clone() });
}

const BEGIN: &str = "participant.begin";
const HOLD: &str = "participant.hold";

/// Whether a part waits for the go of its coordinator, or acts as soon as it is prepared.
pub(super) fn waits_for_go(snapshot: &Snapshot) -> bool {
    snapshot.definition.nodes.first().is_some_and(|node| node.step == BEGIN)
}

/// It was told to go, and everything between the go and the end has succeeded.
pub(super) fn is_done(snapshot: &Snapshot) -> bool {
    let work = snapshot.nodes.iter().take(snapshot.nodes.len().saturating_sub(1));
    snapshot.has_signal(GO) && work.clone().all(|node| node.state() == NodeState::Succeeded)
}

/// It has stopped, and is not told to start again yet.
pub(super) fn is_halfway(snapshot: &Snapshot) -> bool {
    let mut nodes = snapshot.nodes.iter().zip(&snapshot.definition.nodes);
    nodes.any(|(node, def)| def.step == HOLD && node.state() == NodeState::Waiting)
}

/// The sub-DAG of an operation.
pub(super) fn template(own: AgentAddr, request: &Prepare) -> Template {
    match &request.operation {
        Operation::Start => {
            let started = launched(own, begun(own, request, "Start observer"));
            rested(own, started.then("server.serve", "Execute start observer sql", own))
        }
        Operation::Stop { .. } => {
            rested(own, begun(own, request, "Stop observer").then("server.stop", "Stop observer", own))
        }
        Operation::Stand => rested(own, begun(own, request, "Stop observer")),
        Operation::Launch => rested(own, launched(own, begun(own, request, "Start observer"))),
        Operation::Restart { .. } => {
            let stopped = begun(own, request, "Restart observer").then("server.stop", "Stop observer", own);
            let held = stopped.then(HOLD, "Wait to be started", own).goes_on_by_lease();
            rested(own, launched(own, held))
        }
        Operation::Deploy { .. } => at_once(own, request, "part.deploy", "Create observer workdir"),
        Operation::Undeploy => at_once(own, request, "part.undeploy", "Destroy observer workdir"),
        Operation::StartFirst { .. } => at_once(own, request, "part.start_first", "Start observer"),
        Operation::UndoStart => at_once(own, request, "part.undo_start", "Stop observer"),
        Operation::Adopt { .. } => at_once(own, request, "part.adopt", "Synchronize agent from cluster"),
        Operation::Leave => at_once(own, request, "part.leave", "Agent to single"),
        Operation::Unadopt { .. } => at_once(own, request, "part.unadopt", "Be scaling agent"),
        Operation::BeTakenOver { .. } => {
            at_once(own, request, "part.taken_over", "Synchronize agent from cluster")
        }
        Operation::FollowAgain { .. } => at_once(own, request, "part.follow_again", "Be follower"),
        // When it is over nobody is left to end it.
        Operation::Retire { .. } => {
            begun(own, request, "Kill observer").then("part.retire", "Kill observer", own)
        }
    }
}

fn begun(own: AgentAddr, request: &Prepare, name: &str) -> Template {
    Template::new("participant", name, json!(request))
        .locked(Some(LEASE.as_secs()))
        .coordinated_by(&request.key.main_dag)
        .then(BEGIN, "Start preparations", own)
}

fn launched(own: AgentAddr, before: Template) -> Template {
    before.then("server.check", "Check ob process and config", own).then(
        "server.start",
        "Start observer",
        own,
    )
}

fn rested(own: AgentAddr, acting: Template) -> Template {
    acting.then("participant.rest", "Wait for task to end", own)
}

/// One node, under the lock; a failure leaves nothing locked, and its coordinator prepares it anew.
fn at_once(own: AgentAddr, request: &Prepare, step: &'static str, name: &'static str) -> Template {
    Template::new("participant", name, json!(request))
        .locked(None)
        .releases_lock_on_failure()
        .coordinated_by(&request.key.main_dag)
        .then(step, name, own)
}

/// `Start preparations`: waits for the go. Looks only, so it may run any number of times.
#[derive(Debug)]
struct Begin;

impl Step for Begin {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "participant.begin", caps: Caps::of("CPXT"), deadline: Duration::from_secs(60) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let main = ctx.main_dag().unwrap_or_default();
            if ctx.has_signal(GO) {
                ctx.info(&format!("told to go by task {main}"));
                return Outcome::done();
            }
            ctx.info(&format!(
                "prepared; waiting for task {main}, at most {} s without a word",
                LEASE.as_secs()
            ));
            Ok(Outcome::Wait)
        })
    }

    fn undo<'a>(&'a self, _: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// `Wait to be started`: what is stopped for a restart waits until the others are, too. It does not wait for a coordinator
/// that is not heard of any more: a server that was stopped in order to be started never stays down for want of a word.
#[derive(Debug)]
struct Hold;

impl Step for Hold {
    fn spec(&self) -> StepSpec {
        StepSpec { key: HOLD, caps: Caps::of("CPXT"), deadline: Duration::from_secs(60) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            if ctx.has_signal(GO_ON) {
                return Outcome::done();
            }
            if ctx.has_signal(LEASE_OVER) {
                ctx.warn("the coordinator was not heard of for the time of a lease; what it had stopped is started again");
                return Outcome::done();
            }
            ctx.info("stopped; waiting to be told to start again");
            Ok(Outcome::Wait)
        })
    }
}

/// `Wait for task to end`: the part is done; the coordinator takes the outcome and ends it.
#[derive(Debug)]
struct Rest;

impl Step for Rest {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "participant.rest", caps: Caps::of("CPX"), deadline: Duration::from_secs(60) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            ctx.info("done; waiting to be ended");
            Ok(Outcome::Wait)
        })
    }
}

/// A part that acts at once. Each looks first whether its goal is true; so each may run again.
#[derive(Debug)]
struct Act {
    key: &'static str,
    ports: Ports,
}

impl Step for Act {
    fn spec(&self) -> StepSpec {
        let deadline = self.ports.limits.start + Duration::from_secs(120);
        StepSpec { key: self.key, caps: Caps::of("CTXP"), deadline }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let Prepare { operation, actor, .. } = ctx.params()?;
            let ports = &self.ports;
            match operation {
                Operation::Deploy { launch } => drop(init::make_directories(ports, ctx, &launch).await?),
                Operation::Undeploy => init::remove_directories(ports, ctx, None).await?,
                Operation::StartFirst { launch } => init::start_first(ports, ctx, &launch).await?,
                Operation::UndoStart => init::undo_start(ports, ctx).await?,
                Operation::Adopt { members, cluster } => {
                    member::adopt(ports, ctx, members, cluster, &actor).await?;
                }
                Operation::Leave => member::leave(ports, ctx, &actor).await?,
                Operation::Unadopt { zone, members } => {
                    newcomer::unadopt(ports, ctx, zone, members, &actor).await?;
                }
                Operation::BeTakenOver { members, cluster } => {
                    take_over::be_taken_over(ports, ctx, members, cluster, &actor).await?;
                }
                Operation::FollowAgain { members } => {
                    take_over::follow_again(ports, ctx, members, &actor).await?;
                }
                Operation::Retire { how } => newcomer::retire(ports, ctx, how, &actor).await?,
                Operation::Start
                | Operation::Stop { .. }
                | Operation::Stand
                | Operation::Launch
                | Operation::Restart { .. } => {
                    return Err(Error::unexpected("a part that waits for the go came to act at once"));
                }
            }
            ctx.info("done");
            Outcome::done()
        })
    }
}

//! A step on another agent: a part of one node there, followed into this record.
//!
//! Invariant: the part is keyed by the coordinating DAG and a name of its own, so whatever is repeated after a lost answer or
//! a crash finds what it has made (W40); its outcome is never another task's.

use std::time::Duration;

use super::catalog::Ports;
use super::handshake::{copy_lines, look_of, part_failed};
use super::participant::RELEASER;
use super::peers::{Operation, PartKey, PeerView, Prepare, Progressed, is_unknown, surely};
use super::ports::Progress;
use crate::crash::{self, Point};
use crate::engine::StepCtx;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, EventId};

/// Has another agent do something, and returns when it is done. `round` tells one try of the step from the next.
///
/// # Errors
/// That agent's failure as it was; or that it was not reached for longer than the limit of silence.
pub(super) async fn run(
    ports: &Ports,
    ctx: &StepCtx,
    agent: AgentAddr,
    part: &str,
    operation: Operation,
    actor: &str,
) -> Result<()> {
    let key = PartKey { main_dag: ctx.dag_ref.to_string(), part: part.to_owned() };
    let request = Prepare {
        key: key.clone(),
        main_name: ctx.dag_name.to_string(),
        round: ctx.attempt,
        operation,
        force: Vec::new(),
        actor: actor.to_owned(),
    };
    crash::point(Point::BeforePeer);
    let silence = ports.limits.silence;
    let made = ctx.waiting(surely(silence, || ports.peers.prepare(agent, &request))).await?;
    ctx.info(&format!("{agent} does it as task {}", made.sub_dag));
    let followed = ctx.waiting(follow(ports, ctx, agent, &key)).await;
    if followed.is_err() && ctx.token.is_cancelled() {
        // What cannot be told to stop now ends by itself; its lock goes with it.
        if let Err(error) = ports.peers.end(agent, &key, RELEASER).await {
            ctx.warn(&format!("{agent} could not be told to stop: {error}"));
        }
    }
    followed
}

async fn follow(ports: &Ports, ctx: &StepCtx, agent: AgentAddr, key: &PartKey) -> Result<()> {
    let mut since = EventId(0);
    loop {
        let wait = if since == EventId(0) { Duration::ZERO } else { look_of(ports) };
        let view = look(ports, agent, key, since, wait).await?;
        copy_lines(ctx, agent, &view);
        since = view.version.max(since);
        match view.progressed {
            Progressed::Preparing | Progressed::Prepared | Progressed::Running | Progressed::Halfway => {}
            Progressed::Done => return Ok(()),
            Progressed::Failed => return Err(part_failed(agent, &view)),
            Progressed::Released => {
                let text = format!("{agent}: its task {} was ended by somebody else", view.sub_dag);
                return Err(Error::new(Code::SubDagsNotSucceeded, text));
            }
        }
    }
}

/// One look at a part, repeated until it is answered or the limit of silence is over.
///
/// # Errors
/// As [`lost`] has it.
pub(super) async fn look(
    ports: &Ports,
    agent: AgentAddr,
    key: &PartKey,
    since: EventId,
    wait: Duration,
) -> Result<PeerView> {
    let looked = surely(ports.limits.silence, || ports.peers.watch(agent, key, since, wait)).await;
    looked.map_err(|error| lost(ports, agent, error))
}

/// Not known is not failed: what the agent does goes on, and its own record tells.
pub(super) fn lost(ports: &Ports, agent: AgentAddr, error: Error) -> Error {
    if !is_unknown(&error) {
        return error;
    }
    let text = format!(
        "{agent} was not reached for {} s ({error}); what it does for this task goes on there, its own record tells",
        ports.limits.silence.as_secs()
    );
    Error::new(Code::RpcRequestFailed, text)
}

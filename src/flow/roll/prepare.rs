//! The beginning of an order, of a block, of a server's turn: agents are taken, and it is looked at again whether it may be.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::hands::{Reins, operation};
use super::params::{Block, Params, Verb};
use super::sight::{self, Before, Life, dangers, facts, hands_beside};
use crate::engine::{Outcome, Registry, StepCtx};
use crate::error::{Code, Error, Result};
use crate::flow::catalog::Ports;
use crate::flow::handshake::each;
use crate::flow::ports::Progress;
use crate::flow::step::step;
use crate::model::{AgentAddr, Scope, Timestamp};

/// What was asked for so long ago and has not begun, or not gone on, does not begin by itself: the world has changed.
const RESUME_LIMIT: Duration = Duration::from_secs(600);

/// For a host to look at what its next start would meet.
const PREFLIGHT_LIMIT: Duration = Duration::from_secs(10);

const SPAN: Duration = Duration::from_secs(1_800);

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Prepare(ports.clone()));
    registry.add(Context(ports.clone()));
    registry.add(PrepareZone(ports.clone()));
    registry.add(PrepareServer(ports.clone()));
}

step!(
    /// `Prepare … cluster`: every agent concerned is taken.
    Prepare, "roll.prepare", "CTXPB", SPAN, prepare, release
);

step!(
    /// `Set zone context`: which zone comes now, after the pause between two.
    Context, "roll.context", "CTXPB", SPAN, context, nothing
);

step!(
    /// `Prepare … OB zone`: may this zone be touched, now?
    PrepareZone, "roll.prepare_zone", "CTXPB", SPAN, prepare_zone, release_zone
);

step!(
    /// `Prepare … observer`: which process it is, and whether it would start again.
    PrepareServer, "roll.prepare_server", "CTXPB", SPAN, prepare_server, nothing
);

pub(super) async fn nothing(_: &Ports, _: &StepCtx) -> Result<()> {
    Ok(())
}

async fn prepare(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    not_too_late(ports, ctx)?;
    params.remarks.iter().for_each(|remark| ctx.warn(remark));
    let agents = params.agents();
    let _held = ports.keeper.hold(&ctx.dag_ref, &agents);
    let taken = take(ports, ctx, &params, &agents).await?;
    Outcome::shown(json!({}), json!({ "sub_dags": taken }))
}

/// Who is asked for at night and answered in the morning does not want it any more.
fn not_too_late(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let age = since(ports, ctx.asked_at);
    if ctx.node() > 0 || age < RESUME_LIMIT {
        return Ok(());
    }
    let text = format!(
        "nothing was begun, and it was asked for more than {} min ago; ask again",
        RESUME_LIMIT.as_secs() / 60
    );
    Err(Error::new(Code::SubDagsNotAdvanced, text))
}

fn since(ports: &Ports, moment: Timestamp) -> Duration {
    Duration::try_from(ports.clock.now().duration_since(moment)).unwrap_or_default()
}

/// All of them, or an error that names each that was not to be had.
pub(super) async fn take(
    ports: &Ports,
    ctx: &StepCtx,
    params: &Params,
    agents: &[AgentAddr],
) -> Result<serde_json::Map<String, serde_json::Value>> {
    let operation = operation(params);
    let wanted = &operation;
    let taken = each(agents, |agent| {
        Box::pin(async move { Reins::of(ports, ctx, params, agent).seize(wanted).await })
    })
    .await;
    let mut parts = serde_json::Map::new();
    let mut refused = Vec::new();
    for (agent, view) in taken {
        match view {
            Ok(view) => drop(parts.insert(agent.to_string(), json!(view.sub_dag))),
            Err(error) => refused.push((agent, error)),
        }
    }
    let Some((_, first)) = refused.first() else {
        let taken: Vec<_> = agents.iter().map(ToString::to_string).collect();
        ctx.info(&format!("taken: {}", taken.join(", ")));
        return Ok(parts);
    };
    let said: Vec<_> = refused.iter().map(|(agent, error)| format!("{agent}: {}", error.text())).collect();
    Err(Error::new(first.code, said.join("; ")))
}

async fn release(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let params: Params = ctx.params()?;
    let_go(ports, ctx, &params, &params.agents()).await
}

async fn release_zone(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let params: Params = ctx.params()?;
    let agents: Vec<_> = hands_beside(&params, ctx.agent).into_iter().map(|hand| hand.agent).collect();
    let_go(ports, ctx, &params, &agents).await
}

/// What is not reached frees itself by its lease.
async fn let_go(ports: &Ports, ctx: &StepCtx, params: &Params, agents: &[AgentAddr]) -> Result<()> {
    let gone = each(agents, |agent| {
        Box::pin(async move { Reins::of(ports, ctx, params, agent).let_go(true).await })
    });
    for (agent, left) in gone.await {
        if let Err(error) = left {
            ctx.warn(&format!("{agent} could not be released, it frees itself: {error}"));
        }
    }
    Ok(())
}

/// The block of this step.
pub(super) fn block_of<'a>(params: &'a Params, ctx: &StepCtx) -> Result<&'a Block> {
    params.block(ctx.agent).ok_or_else(|| Error::unexpected("a step stands in no block of its task"))
}

async fn context(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let block = block_of(&params, ctx)?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let last = ctx.inputs_of("roll.zone_status").filter(|input| input.is_done).last();
    let ended = last.and_then(|input| serde_json::from_value::<Settled>(input.data.clone()).ok());
    let from = ended.as_ref().map_or(ctx.asked_at, |settled| settled.at.max(ctx.asked_at));
    let pause = Duration::from_secs(if ended.is_some() { params.options.pause_secs } else { 0 });
    let age = since(ports, from);
    if age > pause + RESUME_LIMIT {
        let minutes = age.as_secs() / 60;
        // Failed and not waiting: so that it can be rolled back, too.
        let text =
            format!("nothing has gone on for {minutes} min, so it does not go on by itself; RETRY goes on");
        return Err(Error::new(Code::SubDagsNotAdvanced, text));
    }
    let left = pause.saturating_sub(age);
    if !left.is_zero() {
        ctx.log_wait("the pause between two zones to end", left);
        // Who wants a pause or an abort gets it now, before the next zone.
        let paused = async {
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = ctx.steered() => {}
            }
            Ok(())
        };
        ctx.waiting(paused).await?;
    }
    let zones: Vec<_> = block.zones.iter().map(ToString::to_string).collect();
    let servers: Vec<_> = block.hands.iter().map(|hand| hand.server.to_string()).collect();
    ctx.info(&format!("zone {}: {}", zones.join(", "), servers.join(", ")));
    Outcome::with(json!({ "zones": zones, "servers": servers }))
}

/// When a zone was as it should be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Settled {
    pub(super) at: Timestamp,
}

async fn prepare_zone(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    not_too_late(ports, ctx)?;
    if ctx.node() == 0 {
        params.remarks.iter().for_each(|remark| ctx.warn(remark));
    }
    let block = block_of(&params, ctx)?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    if !is_free(&params) {
        match params.verb {
            Verb::Start => {}
            Verb::Stop => refuse_dangers(ports, ctx, block, false).await?,
            Verb::Restart => until_safe(ports, ctx, &params, block).await?,
        }
    }
    let agents: Vec<_> = hands_beside(&params, ctx.agent).into_iter().map(|hand| hand.agent).collect();
    let taken = take(ports, ctx, &params, &agents).await?;
    Outcome::shown(json!({}), json!({ "sub_dags": taken }))
}

/// Nothing is looked at: it was asked for with force, or there is nothing left to protect.
pub(super) fn is_free(params: &Params) -> bool {
    params.options.is_forced || params.is_whole
}

/// What the zone before has left may need a moment more, such as a replica that catches up.
pub(super) async fn until_safe(ports: &Ports, ctx: &StepCtx, params: &Params, block: &Block) -> Result<()> {
    let is_roll = params.blocks.len() > 1;
    let what = "everything else to serve, and every log stream to keep its majority";
    let safe = sight::until_no_error(ctx, what, || async {
        match sight::view(ports, ctx).await {
            Ok(Some(view)) => dangers(&view, block, is_roll),
            Ok(None) => None,
            Err(error) => Some(error),
        }
    });
    let others: Vec<_> = params.hands().filter(|hand| !block.zones.contains(&hand.zone)).collect();
    sight::while_they_run(ports, ctx, params.verb, &others, safe).await
}

async fn refuse_dangers(ports: &Ports, ctx: &StepCtx, block: &Block, is_roll: bool) -> Result<()> {
    match sight::view(ports, ctx).await? {
        Some(view) => dangers(&view, block, is_roll).map_or(Ok(()), Err),
        None => Ok(()),
    }
}

async fn prepare_server(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    not_too_late(ports, ctx)?;
    if ctx.node() == 0 {
        params.remarks.iter().for_each(|remark| ctx.warn(remark));
    }
    let block = block_of(&params, ctx)?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let is_single = matches!(&params.scope, Scope::Server(servers) if servers.len() == 1);
    if is_single && params.verb != Verb::Start && !is_free(&params) {
        refuse_dangers(ports, ctx, block, false).await?;
    }
    let part = Reins::of(ports, ctx, &params, ctx.agent).seize(&operation(&params)).await?;
    let seen = ctx.waiting(facts(ports, ctx.agent)).await?;
    let life = Life::of(&seen);
    match (seen.process, params.verb) {
        (Some(pid), Verb::Start) => ctx.info(&format!("runs already, as process {pid}")),
        (Some(pid), Verb::Stop | Verb::Restart) => ctx.info(&format!("runs as process {pid}")),
        (None, Verb::Start | Verb::Restart) => ctx.info("does not run; it will be started"),
        (None, Verb::Stop) => ctx.info("does not run"),
    }
    if params.verb == Verb::Restart && life.runs() && !params.options.is_forced {
        would_start_again(ports, ctx).await?;
    }
    // Nobody may be left who could tell: then there is no earlier life to be mistaken for this one.
    let view = sight::view(ports, ctx).await.ok().flatten();
    let hand = params.hand(ctx.agent);
    let row = view.as_ref().zip(hand).and_then(|(view, hand)| view.server(hand.server));
    let before = Before { life, served_since: row.and_then(|row| row.started.clone()) };
    Outcome::shown(before, json!({ "sub_dags": { ctx.agent.to_string(): part.sub_dag } }))
}

/// Never stop for a restart what would not come up again.
async fn would_start_again(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let found = ctx.waiting(ports.peers.preflight(ctx.agent, None, PREFLIGHT_LIMIT)).await?;
    let fatal: Vec<_> = found.iter().filter(|finding| finding.is_fatal).map(ToString::to_string).collect();
    if fatal.is_empty() {
        return Ok(());
    }
    let text = format!("it would not start again, and was left running: {}", fatal.join(". "));
    Err(Error::new(Code::PreflightFailed, text).with_diagnosis(json!({ "findings": found })))
}

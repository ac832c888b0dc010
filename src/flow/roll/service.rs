//! Out of service and back, by SQL through whichever server answers: `Stop server`, `Stop zone`, `Minor freeze`, `Start server`,
//! `Start zone` (`ocp-v2.md` §5.2).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::params::{Isolation, Params, Verb};
use super::prepare::{nothing, take};
use super::sight::{self, hand_of, hands_beside};
use crate::config::EngineKind;
use crate::engine::{Outcome, Registry, StepCtx};
use crate::error::{Code, Error, Result};
use crate::flow::catalog::Ports;
use crate::flow::ports::{Progress, SqlAct};
use crate::flow::step::step;
use crate::flow::zones::anywhere;
use crate::model::ServerAddr;

const SPAN: Duration = Duration::from_secs(1_800);

/// For SQL whose success is not waited for: it was asked for with force.
const FORCED: Duration = Duration::from_secs(5);

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(StopServer(ports.clone()));
    registry.add(StopZone(ports.clone()));
    registry.add(Freeze(ports.clone()));
    registry.add(StartServer(ports.clone()));
    registry.add(StartZone(ports.clone()));
}

step!(
    /// `Stop server`: out of service, no leader left on it.
    StopServer, "roll.stop_server", "CTXPB", SPAN, stop_server, start_server_again
);

step!(
    /// `Stop zone`: the same for a zone.
    StopZone, "roll.stop_zone", "CTXPB", SPAN, stop_zone, start_zone_again
);

step!(
    /// `Minor freeze`: the next start has little to replay.
    Freeze, "roll.freeze", "CTXPB", SPAN, freeze, nothing
);

step!(
    /// `Start server`: in service again.
    StartServer, "roll.start_server", "CTXPB", SPAN, start_server, nothing
);

step!(
    /// `Start zone`: the same for a zone.
    StartZone, "roll.start_zone", "CTXPB", SPAN, start_zone, stop_zone_again
);

/// Noted before the statement: from here on the undo has something to take back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Told {
    is_told: bool,
}

/// Why nothing is taken out of service here; nothing where it is.
fn pointless(ports: &Ports, params: &Params, ctx: &StepCtx) -> Option<&'static str> {
    if ports.engine == EngineKind::Seekdb {
        return Some("engine seekdb is one server; there is nowhere its leaders could move to");
    }
    let isolation = params.block(ctx.agent).map_or(Isolation::None, |block| block.isolation);
    (isolation == Isolation::None)
        .then_some("nobody else could serve; there is nowhere its leaders could move to")
}

/// A statement that takes out of service. With force, what refuses it or does not answer is told and left behind.
async fn leave(ports: &Ports, ctx: &StepCtx, params: &Params, act: &SqlAct, what: &str) -> Result<()> {
    let limit = if params.options.is_forced { FORCED } else { ctx.allowed() };
    ctx.log_wait("leaders to leave what is stopped", limit);
    match ctx.waiting(anywhere(ports, act, limit, ctx)).await {
        Ok(_) => ctx.info(&format!("{what} is out of service, its leaders have moved")),
        Err(error) if params.options.is_forced && !ctx.token.is_cancelled() => {
            ctx.warn(&format!("{what} did not leave service ({error}); forced, so it goes on"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn stop_server(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let hand = hand_of(&params, ctx)?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    if let Some(why) = pointless(ports, &params, ctx) {
        ctx.info(why);
        return Outcome::done();
    }
    // A RETRY may come when the lease is over, and somebody else is at work there.
    take(ports, ctx, &params, &[ctx.agent]).await?;
    ctx.save_note(Told { is_told: true }).await?;
    let act = SqlAct::StopServer { server: hand.server };
    leave(ports, ctx, &params, &act, &format!("server {}", hand.server)).await?;
    Outcome::done()
}

async fn start_server_again(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let params: Params = ctx.params()?;
    let hand = hand_of(&params, ctx)?;
    if ctx.note::<Told>().is_none() {
        return Ok(());
    }
    into_service(ports, ctx, hand.server).await
}

async fn into_service(ports: &Ports, ctx: &StepCtx, server: ServerAddr) -> Result<()> {
    if ports.engine == EngineKind::Seekdb {
        ctx.info("engine seekdb is one server; it is in service when it runs");
        return Ok(());
    }
    ctx.waiting(anywhere(ports, &SqlAct::StartServer { server }, ctx.allowed(), ctx)).await?;
    ctx.info(&format!("server {server} is in service"));
    Ok(())
}

async fn stop_zone(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let zone = &hand_of(&params, ctx)?.zone;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    if let Some(why) = pointless(ports, &params, ctx) {
        ctx.info(why);
        return Outcome::done();
    }
    let agents: Vec<_> = hands_beside(&params, ctx.agent).into_iter().map(|hand| hand.agent).collect();
    take(ports, ctx, &params, &agents).await?;
    ctx.save_note(Told { is_told: true }).await?;
    let act = SqlAct::StopZone { zone: zone.clone() };
    leave(ports, ctx, &params, &act, &format!("zone {zone}")).await?;
    Outcome::done()
}

async fn start_zone_again(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    if ctx.note::<Told>().is_none() {
        return Ok(());
    }
    let params: Params = ctx.params()?;
    let zone = hand_of(&params, ctx)?.zone.clone();
    ctx.waiting(anywhere(ports, &SqlAct::StartZone { zone: zone.clone() }, ctx.allowed(), ctx)).await?;
    ctx.info(&format!("zone {zone} is started"));
    Ok(())
}

/// Servers that do not run have nothing to freeze.
async fn freeze(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let limit = ports.limits.freeze;
    let hands = hands_beside(&params, ctx.agent);
    let seen = futures_util::future::join_all(hands.iter().map(|hand| sight::facts(ports, hand.agent))).await;
    let runs =
        |facts: &Result<crate::flow::peers::Facts>| !facts.as_ref().is_ok_and(|seen| seen.process.is_none());
    let servers: Vec<_> =
        hands.iter().zip(&seen).filter(|(_, facts)| runs(facts)).map(|(hand, _)| hand.server).collect();
    if servers.is_empty() {
        ctx.info("nothing runs, nothing to freeze");
        return Outcome::done();
    }
    ctx.log_wait("the checkpoint of every log stream to pass the freeze", limit);
    let frozen = match ports.engine {
        EngineKind::Seekdb => {
            let password = ports.ledger.root_password();
            let frozen = ctx.waiting(ports.sql.minor_freeze(&password, ctx));
            tokio::time::timeout(limit, frozen).await.unwrap_or_else(|_| Err(late(limit)))
        }
        EngineKind::Observer => {
            ctx.waiting(anywhere(ports, &SqlAct::Freeze { servers }, limit, ctx)).await.map(|_| ())
        }
    };
    match frozen {
        Ok(()) => Outcome::done(),
        Err(error) if params.options.is_forced && !ctx.token.is_cancelled() => {
            ctx.warn(&format!("not frozen ({error}); forced, so it goes on"));
            Outcome::done()
        }
        Err(error) if error.code == Code::DatabaseUseless => Err(late(limit)),
        Err(error) => Err(error),
    }
}

fn late(limit: Duration) -> Error {
    let text = format!(
        "the checkpoint did not pass the freeze within {} s; retry freezes again, skip goes on without it",
        limit.as_secs()
    );
    Error::new(Code::MinorFreezeTimeout, text)
}

async fn start_server(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let hand = hand_of(&params, ctx)?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    into_service(ports, ctx, hand.server).await?;
    Outcome::done()
}

async fn start_zone(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let zone = &hand_of(&params, ctx)?.zone;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    if ports.engine == EngineKind::Seekdb {
        ctx.info("engine seekdb has no zones");
        return Outcome::done();
    }
    let before = sight::view(ports, ctx).await.ok().flatten();
    let was_stopped = before.is_some_and(|view| view.zone(zone).is_some_and(|row| !row.is_active()));
    if was_stopped && params.verb == Verb::Start {
        ctx.save_note(Told { is_told: true }).await?;
    }
    let act = SqlAct::StartZone { zone: zone.clone() };
    ctx.waiting(anywhere(ports, &act, ctx.allowed(), ctx)).await?;
    ctx.info(&format!("zone {zone} is active"));
    // Whoever starts a zone wants its servers back too; a stopped one keeps that over its restarts.
    for hand in hands_beside(&params, ctx.agent) {
        into_service(ports, ctx, hand.server).await?;
    }
    Outcome::done()
}

/// Only what was stopped before it was started, and never after a restart: there, started is how it was.
async fn stop_zone_again(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    if ctx.note::<Told>().is_none() {
        return Ok(());
    }
    let params: Params = ctx.params()?;
    let zone = hand_of(&params, ctx)?.zone.clone();
    ctx.waiting(anywhere(ports, &SqlAct::StopZone { zone: zone.clone() }, ctx.allowed(), ctx)).await?;
    ctx.info(&format!("zone {zone} is stopped again"));
    Ok(())
}

//! Whether it is as it should be: servers, zones, the cluster; what every agent has to know of it; the end (`ocp-v2.md` §5.2).

use std::time::Duration;

use serde_json::json;

use super::hands::{Left, Reins};
use super::params::{Hand, Isolation, Params, Verb};
use super::prepare::{Settled, nothing};
use super::sight::{self, all_of, facts, hand_of, hands_beside, until_nothing, while_they_run};
use crate::cluster::topology::Topology;
use crate::cluster::{Change, ClusterView};
use crate::config::EngineKind;
use crate::engine::{Outcome, Registry, StepCtx};
use crate::error::{Code, Result};
use crate::flow::catalog::Ports;
use crate::flow::handshake::each;
use crate::flow::participant::LEASE;
use crate::flow::ports::{Progress, SqlAct};
use crate::flow::step::step;
use crate::flow::zones::glance;
use crate::model::Scope;

const SPAN: Duration = Duration::from_secs(1_800);

/// For one look at what is told of tenants.
const LOOK: Duration = Duration::from_secs(10);

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(ServerStatus(ports.clone()));
    registry.add(ZoneStatus(ports.clone()));
    registry.add(ClusterStatus(ports.clone()));
    registry.add(Sync(ports.clone()));
    registry.add(Tenants(ports.clone()));
    registry.add(Join(ports.clone()));
    registry.add(End(ports.clone()));
}

step!(
    /// `Update observer status`: the server is what it shall be.
    ServerStatus, "roll.server_status", "CTXPB", SPAN, server_status, nothing
);

step!(
    /// `Update zone status`: so is the zone, and what came back has caught up.
    ZoneStatus, "roll.zone_status", "CTXPB", SPAN, zone_status, nothing
);

step!(
    /// `Update OB cluster status`: so is the cluster.
    ClusterStatus, "roll.cluster_status", "CTXPB", SPAN, cluster_status, nothing
);

step!(
    /// `Sync cluster info`: servers and their numbers, into the store of every agent.
    Sync, "roll.sync", "CTXPB", SPAN, sync, nothing
);

step!(
    /// `Sync all tenant information`: every tenant can be read and is normal. Nothing of it is kept.
    Tenants, "roll.tenants", "CTXPB", SPAN, tenants, nothing
);

step!(
    /// `Wait node`: everything before it is done. That is all.
    Join, "roll.join", "CTXPB", SPAN, join, nothing
);

step!(
    /// Ends every part, whatever happened before.
    End, "roll.end", "CX", Duration::from_secs(180), end
);

async fn join(_: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    ctx.info("everything before it is done");
    Outcome::done()
}

/// What these servers are not yet; nothing when they are as they shall be.
async fn server_lacks(ports: &Ports, ctx: &StepCtx, params: &Params, hands: &[&Hand]) -> Option<String> {
    match params.verb {
        Verb::Start | Verb::Restart => sight::lacks(ports, ctx, hands).await,
        Verb::Stop if params.options.is_service_only => match sight::view(ports, ctx).await {
            Ok(Some(view)) => {
                let is_in = |hand: &&&Hand| view.server(hand.server).is_some_and(|row| row.stopped.is_none());
                all_of(hands.iter().filter(is_in).map(|hand| format!("{} is in service", hand.server)))
            }
            Ok(None) => None,
            Err(error) => Some(error.text().to_owned()),
        },
        Verb::Stop => {
            let looks = hands.iter().map(|hand| async {
                match facts(ports, hand.agent).await {
                    Ok(seen) => seen.process.map(|pid| format!("process {pid} of {} runs", hand.server)),
                    Err(error) => Some(error.text().to_owned()),
                }
            });
            all_of(futures_util::future::join_all(looks).await.into_iter().flatten())
        }
    }
}

async fn server_status(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let hand = hand_of(&params, ctx)?;
    let only = [hand];
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let word = if params.verb == Verb::Stop { "STOPPED" } else { "RUNNING" };
    let what = format!("{} to be {word}", hand.server);
    let settled =
        until_nothing(ctx, &what, Code::ServerNotReady, || server_lacks(ports, ctx, &params, &only));
    while_they_run(ports, ctx, params.verb, &only, settled).await?;
    ctx.info(&format!("server {} is {word}", hand.server));
    Outcome::done()
}

/// A stop of servers, or by force, leaves it open how the cluster calls their zone; then there is nothing to ask, and nobody who
/// would have to be there to answer.
fn leaves_zone_open(params: &Params) -> bool {
    let is_isolated = params.blocks.iter().any(|block| block.isolation == Isolation::Zone);
    let is_zone = matches!(params.scope, Scope::Zone(_)) && is_isolated && !params.options.is_forced;
    params.verb == Verb::Stop && !is_zone
}

/// What a zone is not yet, in the cluster's eyes.
fn zone_lacks(view: &ClusterView, params: &Params, hands: &[&Hand]) -> Option<String> {
    let zone = &hands.first()?.zone;
    let is_active = view.zone(zone).is_some_and(crate::cluster::ZoneRow::is_active);
    if params.verb == Verb::Stop {
        return is_active.then(|| format!("zone {zone} is active"));
    }
    // A single server's order leaves the zone as it was.
    let is_server = matches!(&params.scope, Scope::Server(servers) if servers.len() == 1);
    if !is_active && !is_server {
        return Some(format!("zone {zone} is not active"));
    }
    let servers: Vec<_> = hands.iter().map(|hand| hand.server).collect();
    let unwell =
        servers.iter().find(|server| !view.server(**server).is_some_and(crate::cluster::ServerRow::is_well));
    if let Some(server) = unwell {
        return Some(format!("{server} is not in service"));
    }
    let behind = view.behind(&servers);
    (!behind.is_empty()).then(|| format!("has not caught up: {}", behind.join(", ")))
}

async fn zone_status(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let hands = hands_beside(&params, ctx.agent);
    let what = if params.verb == Verb::Stop {
        "the zone to be stopped"
    } else {
        "the zone to be active, and what came back to catch up"
    };
    let settled = until_nothing(ctx, what, Code::ServerNotReady, || async {
        if leaves_zone_open(&params) {
            return None;
        }
        match sight::view(ports, ctx).await {
            Ok(Some(view)) => zone_lacks(&view, &params, &hands),
            Ok(None) => None,
            // Where everything is stopped nobody is left to tell.
            Err(_) if params.verb == Verb::Stop && params.is_whole => None,
            Err(error) => Some(error.text().to_owned()),
        }
    });
    while_they_run(ports, ctx, params.verb, &hands, settled).await?;
    if let Some(hand) = hands.first() {
        let word = if params.verb == Verb::Stop { "as it shall be" } else { "in service and has caught up" };
        ctx.info(&format!("zone {} is {word}", hand.zone));
    }
    Outcome::with(Settled { at: ports.clock.now() })
}

async fn cluster_status(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let hands: Vec<_> = params.hands().collect();
    let settled = until_nothing(ctx, "the cluster to be as it shall be", Code::ServerNotReady, || {
        server_lacks(ports, ctx, &params, &hands)
    });
    while_they_run(ports, ctx, params.verb, &hands, settled).await?;
    ctx.info("the cluster is as it shall be");
    Outcome::done()
}

async fn sync(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    if ports.engine == EngineKind::Seekdb {
        ctx.info("engine seekdb is one server, with the number 1");
        return Outcome::done();
    }
    let view = match ctx.waiting(sight::view(ports, ctx)).await {
        Ok(view) => view,
        Err(error) if params.verb == Verb::Stop && (params.is_whole || params.options.is_forced) => {
            ctx.warn(&format!("nobody is left who could tell ({error}); the numbers stay as they are"));
            return Outcome::done();
        }
        Err(error) => return Err(error),
    };
    let Some(view) = view else { return Outcome::done() };
    let topology = Topology::of(&view);
    if ports.ledger.state().topology != topology {
        ports.ledger.change(Change::TopologyKnown(topology.clone()), &ctx.dag_ref).await?;
    }
    let others: Vec<_> =
        ports.ledger.state().members.agents().into_iter().filter(|agent| *agent != ports.own).collect();
    let (peers, told) = (&ports.peers, &topology);
    let answers =
        each(&others, |agent| Box::pin(async move { peers.tell_topology(agent, told).await })).await;
    for (agent, answer) in answers {
        match answer {
            Ok(()) => ctx.info(&format!("{agent} knows {} servers", topology.servers.len())),
            Err(error) => ctx.warn(&format!("{agent} was not told, it will look for itself: {error}")),
        }
    }
    Outcome::done()
}

async fn tenants(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let what = "every tenant to be readable and normal";
    let normal = until_nothing(ctx, what, Code::DatabaseUseless, || async {
        let told =
            glance(ports, &SqlAct::Figures, LOOK, ctx).await.and_then(crate::flow::ports::SqlAnswer::figures);
        match told {
            Ok(figures) => {
                let odd =
                    figures.tenants.iter().filter(|tenant| !tenant.status.eq_ignore_ascii_case("NORMAL"));
                let odd: Vec<_> = odd.map(|tenant| format!("{} is {}", tenant.name, tenant.status)).collect();
                if odd.is_empty() {
                    ctx.info(&format!("{} tenants, all normal", figures.tenants.len()));
                }
                (!odd.is_empty()).then(|| odd.join(", "))
            }
            Err(error) => Some(error.text().to_owned()),
        }
    });
    let hands: Vec<_> = params.hands().collect();
    while_they_run(ports, ctx, params.verb, &hands, normal).await?;
    Outcome::done()
}

async fn end(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let agents = params.agents();
    let reins = |agent| Reins::of(ports, ctx, &params, agent);
    let left =
        each(&agents, |agent| Box::pin(async move { reins(agent).let_go(ctx.is_cancelled).await })).await;
    for (agent, left) in left {
        let lease = LEASE.as_secs();
        match left {
            Ok(Left::Released) => ctx.info(&format!("{agent} is released")),
            Ok(Left::Nothing) => ctx.info(&format!("{agent} holds nothing for this task")),
            Ok(Left::Starting) => {
                ctx.warn(&format!("{agent} was stopped for the restart; it starts again, and frees itself"));
            }
            Ok(Left::AtWork) => {
                ctx.warn(&format!(
                    "{agent} still does its part; it frees itself within {lease} s of the end of it"
                ));
            }
            Err(error) => {
                ctx.warn(&format!(
                    "{agent} could not be released, it frees itself within {lease} s: {error}"
                ));
            }
        }
    }
    Outcome::shown(json!({}), json!({}))
}

//! The nodes that speak to the cluster as a whole: start and stop of zones and servers by SQL, and the freeze before a stop.
//!
//! The SQL goes through whichever server answers, our own first; with none it waits for one, within its deadline (W28).

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::catalog::Ports;
use super::handshake::Params;
use super::ports::{Progress, SqlAct, SqlAnswer};
use crate::cluster::{ClusterView, Fate};
use crate::config::EngineKind;
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Scope, ServerAddr, ZoneName};

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(StartZone(ports.clone()));
    registry.add(StopSql(ports.clone()));
    registry.add(Freeze(ports.clone()));
}

/// For one statement that should be instant, and for its way to another agent.
const INSTANT: Duration = Duration::from_secs(10);

/// For a look at whether a server answers for the cluster.
const LOOK: Duration = Duration::from_secs(5);

/// Between two rounds of asking every server.
const ROUND: Duration = Duration::from_millis(300);

/// How long a zone's start waits for the cluster to have a leader: an election takes seconds, a replay minutes.
const ZONE_LIMIT: Duration = Duration::from_secs(600);

/// The same while hosts are missing and everybody knows.
const EMERGENCY_LIMIT: Duration = Duration::from_secs(30);

/// Room for notes and commits around a wait that has its own limit.
const MARGIN: Duration = Duration::from_secs(60);

/// Carries an act out through the first server that answers.
///
/// # Errors
/// The database's refusal; or, when no server answered in time, what each of them said.
pub async fn anywhere(
    ports: &Ports,
    act: &SqlAct,
    limit: Duration,
    progress: &dyn Progress,
) -> Result<SqlAnswer> {
    let mut said = String::new();
    let rounds = async {
        loop {
            match one_round(ports, act, limit, progress).await {
                Ok(answer) => return Ok(answer),
                Err(refused) if refused.code == Code::MysqlError => return Err(refused),
                Err(error) => error.text().clone_into(&mut said),
            }
            // A database that becomes available announces it nowhere.
            tokio::time::sleep(ROUND).await;
        }
    };
    let answered = tokio::time::timeout(limit, rounds).await;
    answered.unwrap_or_else(|_| {
        let text = format!("no server of the cluster answered within {} s: {said}", limit.as_secs());
        Err(Error::new(Code::DatabaseUseless, text))
    })
}

async fn one_round(
    ports: &Ports,
    act: &SqlAct,
    limit: Duration,
    progress: &dyn Progress,
) -> Result<SqlAnswer> {
    let password = ports.ledger.root_password();
    let own = match ports.cluster.act(&password, act, limit, progress).await {
        Err(error) if error.code != Code::MysqlError => format!("{}: {error}", ports.own),
        known => return known,
    };
    let useless = |why: &str| Error::new(Code::DatabaseUseless, format!("{own}; {why}"));
    // Each of the others may be as sick as our own: a change goes through one that has just answered a look.
    let look = limit.min(LOOK);
    let looked = first(elsewhere(ports, look), look).await;
    let (speaker, view) = looked.map_err(|error| useless(error.text()))?;
    if *act == SqlAct::View {
        return Ok(SqlAnswer::View(Box::new(view)));
    }
    match ports.peers.sql(speaker, act, limit).await {
        Err(error) if error.code != Code::MysqlError => Err(useless(&format!("{speaker}: {error}"))),
        known => known,
    }
}

type Looking<'a> = BoxFuture<'a, Result<(AgentAddr, ClusterView)>>;

/// A look through one agent's server.
fn look_through(ports: &Ports, agent: AgentAddr, limit: Duration) -> Looking<'_> {
    Box::pin(async move { Ok((agent, view_in(ports.peers.sql(agent, &SqlAct::View, limit).await?)?)) })
}

/// Looks through every other member's server.
fn elsewhere(ports: &Ports, limit: Duration) -> FuturesUnordered<Looking<'_>> {
    let agents = ports.ledger.state().members.agents();
    let others = agents.into_iter().filter(|agent| *agent != ports.own);
    others.map(|agent| look_through(ports, agent, limit)).collect()
}

/// # Errors
/// What each of them said; that there was nobody to ask; that nobody answered in time.
async fn first(
    mut looks: FuturesUnordered<Looking<'_>>,
    limit: Duration,
) -> Result<(AgentAddr, ClusterView)> {
    let mut said = Vec::new();
    let answered = tokio::time::timeout(limit, async {
        while let Some(look) = looks.next().await {
            match look {
                Ok(seen) => return Some(seen),
                Err(error) => said.push(error.text().to_owned()),
            }
        }
        None
    });
    if let Ok(Some(seen)) = answered.await {
        return Ok(seen);
    }
    let said = if said.is_empty() { "no other server answers".to_owned() } else { said.join("; ") };
    Err(Error::new(Code::DatabaseUseless, said))
}

fn view_in(answer: SqlAnswer) -> Result<ClusterView> {
    match answer {
        SqlAnswer::View(view) => Ok(*view),
        SqlAnswer::Done | SqlAnswer::Members(_) | SqlAnswer::Count(_) => {
            Err(Error::unexpected("a view was asked for and not given"))
        }
    }
}

/// The cluster in its own eyes, by one look, whoever answers it: our own server is asked first; all others at once when it
/// fails, or takes a third of the time.
///
/// # Errors
/// That nobody answers now.
pub async fn glance(ports: &Ports, limit: Duration, progress: &dyn Progress) -> Result<ClusterView> {
    let password = ports.ledger.root_password();
    let head_start = limit / 3;
    let mut own: Looking<'_> = Box::pin(async {
        let answer = ports.cluster.act(&password, &SqlAct::View, limit, progress).await?;
        Ok((ports.own, view_in(answer)?))
    });
    let early = tokio::time::timeout(head_start, &mut own).await;
    if let Ok(Ok((_, view))) = early {
        return Ok(view);
    }
    let left = limit - head_start;
    let looks = elsewhere(ports, left);
    if early.is_err() {
        looks.push(own);
    }
    first(looks, left).await.map(|(_, view)| view)
}

/// The cluster in its own eyes.
///
/// # Errors
/// As [`anywhere`].
pub async fn view(ports: &Ports, limit: Duration, progress: &dyn Progress) -> Result<ClusterView> {
    view_in(anywhere(ports, &SqlAct::View, limit, progress).await?)
}

/// The servers of these agents.
pub fn servers_of(ports: &Ports, agents: &[AgentAddr]) -> Vec<ServerAddr> {
    let state = ports.ledger.state();
    agents.iter().filter_map(|agent| state.members.find(*agent)).map(crate::model::Member::server).collect()
}

/// `Start Zone`: the zones in scope take traffic. Engine seekdb has no zones; there the server itself must serve.
#[derive(Debug)]
struct StartZone(Ports);

impl Step for StartZone {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "start.zone", caps: Caps::of("CXT"), deadline: ZONE_LIMIT + MARGIN }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let _held = self.0.keeper.hold(&ctx.dag_ref, &params.agents);
            match self.0.engine {
                EngineKind::Seekdb => {
                    if self.0.process.find().await?.is_none() {
                        let text = "the server ended after it had served; look at its log";
                        return Err(Error::new(Code::ProcessNotExist, text));
                    }
                    ctx.info("engine seekdb has no zones; its server runs");
                }
                EngineKind::Observer => ctx.waiting(start_zones(&self.0, ctx, &params)).await?,
            }
            Outcome::done()
        })
    }
}

async fn start_zones(ports: &Ports, ctx: &StepCtx, params: &Params) -> Result<()> {
    let limit = if params.is_emergency { EMERGENCY_LIMIT } else { ZONE_LIMIT };
    let zones: Vec<ZoneName> = match &params.scope {
        Scope::Zone(zones) => zones.clone(),
        Scope::Global | Scope::Server(_) => {
            view(ports, limit, ctx).await?.zones.into_iter().map(|row| row.zone).collect()
        }
    };
    // All are tried, whatever becomes of the first.
    let mut bad = Vec::new();
    for zone in zones {
        match anywhere(ports, &SqlAct::StartZone { zone: zone.clone() }, limit, ctx).await {
            Ok(_) => ctx.info(&format!("zone {zone} is active")),
            Err(error) => bad.push(format!("zone {zone}: {error}")),
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(Error::new(Code::MysqlError, bad.join("; "))) }
}

/// Log streams that lose their majority; empty when every tenant stays available.
pub fn losses(view: &ClusterView, stopping: &[ServerAddr]) -> Vec<Fate> {
    view.without(stopping).into_iter().filter(|fate| !fate.keeps_majority()).collect()
}

/// Takes what is in scope out of service. The database checks majorities itself, at the very moment.
async fn out_of_service(ports: &Ports, ctx: &StepCtx, params: &Params) -> Result<()> {
    let limit = ports.limits.freeze;
    match &params.scope {
        Scope::Global => {}
        Scope::Zone(zones) => {
            for zone in zones {
                anywhere(ports, &SqlAct::StopZone { zone: zone.clone() }, limit, ctx).await?;
                ctx.info(&format!("zone {zone} is stopped, its leaders have moved"));
            }
        }
        Scope::Server(_) => {
            for server in servers_of(ports, &params.agents) {
                anywhere(ports, &SqlAct::StopServer { server }, limit, ctx).await?;
                ctx.info(&format!("server {server} is out of service, its leaders have moved"));
            }
        }
    }
    Ok(())
}

/// `Execute stop sql`.
#[derive(Debug)]
struct StopSql(Ports);

impl Step for StopSql {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "stop.sql", caps: Caps::of("CX"), deadline: self.0.limits.freeze + MARGIN }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let _held = self.0.keeper.hold(&ctx.dag_ref, &params.agents);
            ctx.log_wait("leaders to leave what is stopped", self.0.limits.freeze);
            ctx.waiting(out_of_service(&self.0, ctx, &params)).await?;
            Outcome::done()
        })
    }
}

/// `Minor freeze before stop server`. Freezing twice freezes what little came in between.
#[derive(Debug)]
struct Freeze(Ports);

impl Step for Freeze {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "stop.freeze", caps: Caps::of("CTXP"), deadline: self.0.limits.freeze * 2 + MARGIN }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let _held = self.0.keeper.hold(&ctx.dag_ref, &params.agents);
            match self.0.engine {
                EngineKind::Seekdb => freeze_own(&self.0, ctx).await?,
                EngineKind::Observer => ctx.waiting(freeze_scope(&self.0, ctx, &params)).await?,
            }
            Outcome::done()
        })
    }
}

async fn freeze_own(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    if ports.process.find().await?.is_none() {
        ctx.info("nothing runs, nothing to freeze");
        return Ok(());
    }
    let limit = ports.limits.freeze;
    ctx.log_wait("the checkpoint to pass the freeze", limit);
    let password = ports.ledger.root_password();
    let frozen = tokio::time::timeout(limit, ctx.waiting(ports.sql.minor_freeze(&password, ctx))).await;
    frozen.unwrap_or_else(|_| Err(freeze_timeout(limit)))
}

fn freeze_timeout(limit: Duration) -> Error {
    let text = format!(
        "the checkpoint did not pass the freeze within {} s; RETRY freezes again, PASS of this node stops without it",
        limit.as_secs()
    );
    Error::new(Code::MinorFreezeTimeout, text)
}

/// Out of service first, where that is possible, so that nothing is lost by what comes after the freeze; then the freeze.
async fn freeze_scope(ports: &Ports, ctx: &StepCtx, params: &Params) -> Result<()> {
    let Some(running) = running(ports, params).await else {
        ctx.info("none of the servers in scope runs, nothing to freeze");
        return Ok(());
    };
    let limit = ports.limits.freeze;
    // A zone stop has done that in the node before.
    if !params.is_zone_stop {
        refuse_losses(ports, ctx, params).await?;
        ctx.log_wait("leaders to leave what is stopped", limit);
        out_of_service(ports, ctx, params).await?;
    }
    ctx.log_wait("the checkpoint of every log stream to pass the freeze", limit);
    match anywhere(ports, &SqlAct::Freeze { servers: running }, limit, ctx).await {
        Ok(_) => Ok(()),
        Err(error) if error.code == Code::DatabaseUseless => Err(freeze_timeout(limit)),
        Err(error) => Err(error),
    }
}

/// The servers in scope that are active; `None` when no process of them runs.
async fn running(ports: &Ports, params: &Params) -> Option<Vec<ServerAddr>> {
    let facts =
        futures_util::future::join_all(params.agents.iter().map(|agent| ports.peers.facts(*agent, INSTANT)))
            .await;
    let is_known_down =
        |facts: &Result<super::peers::Facts>| facts.as_ref().is_ok_and(|facts| facts.process.is_none());
    let up: Vec<_> = params
        .agents
        .iter()
        .zip(&facts)
        .filter(|(_, facts)| !is_known_down(facts))
        .map(|(agent, _)| *agent)
        .collect();
    (!up.is_empty()).then(|| servers_of(ports, &up))
}

/// Looked at again when it matters: what was true when the stop was asked for may not be any more.
async fn refuse_losses(ports: &Ports, ctx: &StepCtx, params: &Params) -> Result<()> {
    if params.scope == Scope::Global {
        return Ok(());
    }
    let view = view(ports, INSTANT, ctx).await?;
    let losses = losses(&view, &servers_of(ports, &params.agents));
    if losses.is_empty() {
        return Ok(());
    }
    Err(majority_error(&losses))
}

/// The refusal that lists what would lose its majority.
pub fn majority_error(losses: &[Fate]) -> Error {
    let listed: Vec<_> = losses.iter().map(Fate::in_words).collect();
    let text = format!(
        "these log streams would not keep their majority: {}; nothing was stopped",
        listed.join("; ")
    );
    Error::new(Code::ReplicaInvalid, text)
}

//! The coordinator's side of an operation over agents: PREPARE, GO, WATCH, END (`decisions.md` §5). The nodes carry the
//! names and numbers that v1 clients know (`task-engine.md` §7.1).
//!
//! While a main DAG works, a keeper (`keeper`) renews the leases of its parts, those that are done included: their locks are
//! freed by the end, not before.
//!
//! Invariant: whatever fails or is cancelled, the last node runs and ends every part that was prepared; what it cannot
//! reach ends by its lease. Every step is keyed by the main DAG's id and may run again. An answer that does not come is
//! "not known": the question is asked again, within the limit of silence.
//!
//! Before the first GO everything can be taken back, and one agent that is not prepared fails the whole. After it the
//! operation is committed: an agent that is lost then fails the task in the end, and the others do their part (W23).

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use super::contest::surely_prepared;
use super::participant::{LEASE, RELEASER};
use super::peers::{Operation, PartKey, PeerView, Prepare, Prepared, Progressed, is_unknown, surely};
use super::ports::Progress;
use super::remote::{self, lost};
use crate::crash::{self, Point};
use crate::engine::port::Level;
use crate::engine::step::Input;
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, EventId, GenericId, Scope};

/// Parameters of every operation over agents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    pub operation: Operation,
    pub scope: Scope,
    /// The agents in scope, resolved when the operation was accepted.
    pub agents: Vec<AgentAddr>,
    pub force: Vec<String>,
    pub actor: String,
    /// The whole cluster is down: agents that are not reached are left out and named, and the others go on.
    #[serde(default)]
    pub is_emergency: bool,
    /// A zone is stopped by SQL before anything else.
    #[serde(default)]
    pub is_zone_stop: bool,
    /// What was known and accepted when it was asked for, such as tenants that lose their majority; for the record.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// The same without the agents: what a step needs that is about one of them.
#[derive(Clone, Debug, Deserialize)]
struct Asked {
    operation: Operation,
    force: Vec<String>,
    actor: String,
    #[serde(default)]
    is_emergency: bool,
    #[serde(default)]
    remarks: Vec<String>,
}

/// One look at a part: long, because every change ends it; short enough for one that is lost to be repeated before the agent
/// counts as lost.
const LOOK: Duration = Duration::from_secs(10);

/// The same where silence is a loss earlier: an agent that has nothing to tell is not a silent one.
pub(super) fn look_of(ports: &Ports) -> Duration {
    LOOK.min(ports.limits.silence / 2)
}

/// From PREPARE to prepared.
pub(super) const READY_LIMIT: Duration = Duration::from_secs(60);

/// For the release of one that is not reached: beyond it, its lease does it.
pub(super) const END_LIMIT: Duration = Duration::from_secs(15);

/// More time for PREPARE when it has to end what is in its way: the grace of its steps.
const FORCE_LIMIT: Duration = Duration::from_secs(60);

/// For an agent to tell how its server is.
const FACTS_LIMIT: Duration = Duration::from_secs(5);

/// How long after it was asked for an operation that was not begun is begun by itself.
const RESUME_LIMIT: Duration = Duration::from_secs(600);

/// For one part to be done: the longest start and stop that a configuration allows, and some.
const WAIT_LIMIT: Duration = Duration::from_secs(26 * 3_600);

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Inform(ports.clone()));
    registry.add(Ready(ports.clone()));
    registry.add(Advance(ports.clone()));
    registry.add(Wait(ports.clone()));
    registry.add(End(ports.clone()));
}

/// The same call to every agent at once; answers in the order of the agents.
pub(super) async fn each<'a, T>(
    agents: &[AgentAddr],
    call: impl Fn(AgentAddr) -> BoxFuture<'a, Result<T>>,
) -> Vec<(AgentAddr, Result<T>)> {
    let answers = futures_util::future::join_all(agents.iter().map(|agent| call(*agent))).await;
    agents.iter().copied().zip(answers).collect()
}

/// PREPARE for one agent. Round 0 is the first; a retry that finds a part released prepares it anew.
async fn prepare(
    ports: &Ports,
    ctx: &StepCtx,
    asked: &Asked,
    agent: AgentAddr,
    round: u32,
) -> Result<Prepared> {
    let request = Prepare {
        key: PartKey::of(&ctx.dag_ref),
        main_name: ctx.dag_name.to_string(),
        round,
        operation: asked.operation.clone(),
        force: asked.force.clone(),
        actor: asked.actor.clone(),
    };
    prepare_as(ports, ctx, agent, &request).await
}

/// PREPARE as it is written; what it pushes aside is ended where it is coordinated.
pub(super) async fn prepare_as(
    ports: &Ports,
    ctx: &StepCtx,
    agent: AgentAddr,
    request: &Prepare,
) -> Result<Prepared> {
    crash::point(Point::BeforePeer);
    let more = if request.force.is_empty() { Duration::ZERO } else { FORCE_LIMIT };
    let made = ctx.waiting(surely_prepared(ports, agent, request, ports.limits.prepare + more)).await?;
    ctx.info(&format!("{agent} prepares as task {}", made.sub_dag));
    for main_dag in &made.pushed_aside {
        revoke(ports, ctx, agent, main_dag, &request.actor).await;
    }
    Ok(made)
}

/// What was pushed aside on one agent ends where it is coordinated too, so that nothing of it goes on (W43). When that
/// cannot be told, it ends by itself as soon as it looks at the part that it has lost.
async fn revoke(ports: &Ports, ctx: &StepCtx, agent: AgentAddr, main_dag: &str, actor: &str) {
    ctx.info(&format!("{agent} has pushed aside task {main_dag}"));
    let Some(owner) = main_dag.parse::<GenericId>().ok().and_then(|id| id.owner()) else { return };
    match surely(FORCE_LIMIT, || ports.peers.revoke(owner, main_dag, actor)).await {
        Ok(()) => ctx.info(&format!("task {main_dag} was ended on {owner}")),
        Err(error) => ctx.warn(&format!("task {main_dag} could not be ended on {owner}: {error}")),
    }
}

/// Waits until an agent holds its lock and waits for the go (or has it: a step that was interrupted looks again). A part whose
/// lease ended while this agent was away is prepared once more, as the given round.
async fn prepared(ports: &Ports, ctx: &StepCtx, asked: &Asked, agent: AgentAddr, round: u32) -> Result<()> {
    let key = PartKey::of(&ctx.dag_ref);
    let mut since = EventId(0);
    let mut is_again = false;
    let look = async {
        loop {
            let view = surely(READY_LIMIT, || ports.peers.watch(agent, &key, since, LOOK)).await?;
            since = view.version;
            match view.progressed {
                Progressed::Preparing => {}
                Progressed::Prepared | Progressed::Running | Progressed::Halfway | Progressed::Done => {
                    return Ok(());
                }
                Progressed::Released if may_go_on(ports, ctx, &view) && !is_again => {
                    (is_again, since) = (true, EventId(0));
                    prepare(ports, ctx, asked, agent, round).await?;
                }
                Progressed::Failed | Progressed::Released => return Err(ended_early(&view)),
            }
        }
    };
    let late = || Error::new(Code::SubDagsNotReady, format!("not ready after {} s", READY_LIMIT.as_secs()));
    let look = ctx.waiting(look);
    tokio::time::timeout(READY_LIMIT, look).await.unwrap_or_else(|_| Err(late()))
}

fn spec(key: &'static str, caps: &str, deadline: Duration) -> StepSpec {
    StepSpec { key, caps: Caps::of(caps), deadline }
}

/// What an agent answered to PREPARE; nothing when it was left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Informed {
    sub_dag: Option<String>,
}

fn is_left_out(input: &Input<'_>) -> bool {
    Informed::deserialize(input.data).is_ok_and(|informed| informed.sub_dag.is_none())
}

/// The agents that take part: all in scope, but those that were left out.
fn present(ctx: &StepCtx, params: &Params) -> Vec<AgentAddr> {
    let left_out: BTreeSet<_> = ctx.inputs_of(INFORM).filter(is_left_out).map(|input| input.agent).collect();
    params.agents.iter().copied().filter(|agent| !left_out.contains(agent)).collect()
}

/// The agents for which a step ended well.
fn done(ctx: &StepCtx, step: &str) -> BTreeSet<AgentAddr> {
    ctx.inputs_of(step).filter(|input| input.is_done).map(|input| input.agent).collect()
}

const INFORM: &str = "handshake.inform";
const WAIT: &str = "handshake.wait";

/// `Inform all agents …`, once per agent: its part exists under its lock. PREPARE is keyed by this DAG's id.
#[derive(Debug)]
struct Inform(Ports);

impl Step for Inform {
    fn spec(&self) -> StepSpec {
        spec(INFORM, "CX", READY_LIMIT * 4)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let asked: Asked = ctx.params()?;
            if ctx.is_first() {
                asked.remarks.iter().for_each(|remark| ctx.warn(remark));
            }
            match prepare(&self.0, ctx, &asked, ctx.agent, 0).await {
                Ok(made) => {
                    let shown = json!({ "sub_dags": { ctx.agent.to_string(): made.sub_dag } });
                    Outcome::shown(Informed { sub_dag: Some(made.sub_dag) }, shown)
                }
                Err(error) if asked.is_emergency && is_unknown(&error) && !ctx.token.is_cancelled() => {
                    ctx.warn(&format!("{} is left out: {error}", ctx.agent));
                    Outcome::with(Informed { sub_dag: None })
                }
                Err(error) => Err(error),
            }
        })
    }
}

/// `Make sure all agents are ready`: every part holds its lock and waits. Looks only.
#[derive(Debug)]
struct Ready(Ports);

impl Step for Ready {
    fn spec(&self) -> StepSpec {
        spec("handshake.ready", "CX", READY_LIMIT * 2)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let agents = present(ctx, &params);
            if agents.is_empty() {
                return Err(Error::new(
                    Code::SubDagsNotCreated,
                    "no agent in scope was reached; nothing was done",
                ));
            }
            let _held = self.0.keeper.hold(&ctx.dag_ref, &agents);
            let asked: Asked = ctx.params()?;
            let looks =
                each(&agents, |agent| Box::pin(prepared(&self.0, ctx, &asked, agent, 2 * ctx.attempt - 1)))
                    .await;
            let bad = told(ctx, looks, "is ready");
            if bad.is_empty() { Outcome::done() } else { Err(all_of(Code::SubDagsNotReady, &bad)) }
        })
    }
}

/// Every agent's good answer in the record; the others.
fn told(ctx: &StepCtx, answers: Vec<(AgentAddr, Result<()>)>, good: &str) -> Vec<(AgentAddr, Error)> {
    let mut bad = Vec::new();
    for (agent, answer) in answers {
        match answer {
            Ok(()) => ctx.info(&format!("{agent} {good}")),
            Err(error) => bad.push((agent, error)),
        }
    }
    bad
}

fn all_of(code: Code, bad: &[(AgentAddr, Error)]) -> Error {
    let texts: Vec<_> = bad.iter().map(|(agent, error)| format!("{agent}: {error}")).collect();
    Error::new(code, texts.join("; "))
}

fn ended_early(view: &PeerView) -> Error {
    let by = match view.release {
        Some(release) if release.is_by_lease => {
            "its coordinator was away, and its lease has ended; ask again"
        }
        Some(_) | None => "it was ended by an operator",
    };
    let why = view.failure.as_ref().map_or(by, |f| f.text.as_str());
    Error::new(Code::SubDagsNotReady, format!("its task {} ended before the go: {why}", view.sub_dag))
}

/// `Advance agents to execute the task`: the go. Repeating it is harmless. A part whose lease has ended since it was prepared
/// is prepared again first, so that a coordinator that was away comes to the same end as an undisturbed run (W35).
#[derive(Debug)]
struct Advance(Ports);

impl Step for Advance {
    fn spec(&self) -> StepSpec {
        spec("handshake.advance", "CX", READY_LIMIT * 3)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let agents = present(ctx, &params);
            let _held = self.0.keeper.hold(&ctx.dag_ref, &agents);
            let asked: Asked = ctx.params()?;
            let gos = each(&agents, |agent| Box::pin(self.go(ctx, &asked, agent))).await;
            let bad = told(ctx, gos, "was told to go");
            let is_committed = bad.len() < agents.len();
            if !is_committed {
                return Err(all_of(Code::SubDagsNotAdvanced, &bad));
            }
            // Who was told goes on; what the others lack is found by who waits for them.
            for (agent, error) in bad {
                let what = if is_unknown(&error) { "may not have been" } else { "was not" };
                ctx.warn(&format!("{agent} {what} told to go: {error}"));
            }
            Outcome::done()
        })
    }
}

impl Advance {
    async fn go(&self, ctx: &StepCtx, asked: &Asked, agent: AgentAddr) -> Result<()> {
        let (ports, key) = (&self.0, PartKey::of(&ctx.dag_ref));
        let limit = ports.limits.silence;
        let look = surely(limit, || ports.peers.watch(agent, &key, EventId(0), Duration::ZERO));
        let view = ctx.waiting(look).await?;
        let is_told = matches!(
            view.progressed,
            Progressed::Running | Progressed::Halfway | Progressed::Done | Progressed::Failed
        );
        if !is_told && is_too_late(ports, ctx) {
            let text = format!(
                "{agent}: nothing was begun there, and it was asked for more than {} min ago; ask again",
                RESUME_LIMIT.as_secs() / 60
            );
            return Err(Error::new(Code::SubDagsNotAdvanced, text));
        }
        if view.progressed == Progressed::Released {
            prepared(ports, ctx, asked, agent, 2 * ctx.attempt).await?;
        }
        crash::point(Point::BeforePeer);
        ctx.waiting(surely(limit, || ports.peers.go(agent, &key))).await
    }
}

/// Nobody has pushed it aside, and it is not too late.
fn may_go_on(ports: &Ports, ctx: &StepCtx, view: &PeerView) -> bool {
    view.release.is_some_and(|release| !release.was_pushed_aside) && !is_too_late(ports, ctx)
}

/// A coordinator that was away goes on by itself with what was asked for a moment ago; later, the world has changed.
fn is_too_late(ports: &Ports, ctx: &StepCtx) -> bool {
    let age = Duration::try_from(ports.clock.now().duration_since(ctx.asked_at)).unwrap_or_default();
    age > RESUME_LIMIT
}

/// How far an agent's record was copied: what a step that was interrupted goes on from.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Copied {
    until: EventId,
}

/// `Wait for all agents to execute tasks successfully`, once per agent: follows its record into this one and ends with
/// its outcome. How far it has copied is noted beside the next look; a crash between the two repeats one look's lines.
#[derive(Debug)]
struct Wait(Ports);

impl Step for Wait {
    fn spec(&self) -> StepSpec {
        spec(WAIT, "CX", WAIT_LIMIT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let asked: Asked = ctx.params()?;
            if ctx.inputs_of(INFORM).any(|input| input.agent == ctx.agent && is_left_out(&input)) {
                ctx.info("was left out");
                return Outcome::done();
            }
            let all = || ctx.params().map(|params| present(ctx, &params)).unwrap_or_default();
            let _held = self.0.keeper.hold_all(&ctx.dag_ref, all);
            let mut since = ctx.note::<Copied>().map_or(EventId(0), |copied| copied.until);
            let mut view = self.look(ctx, since, look_of(&self.0)).await?;
            loop {
                copy_lines(ctx, ctx.agent, &view);
                match view.progressed {
                    Progressed::Preparing | Progressed::Running | Progressed::Halfway => {}
                    // The go did not reach it when it was sent; it would wait for it as long as we look.
                    Progressed::Prepared => self.go_again(ctx).await?,
                    Progressed::Done => return Outcome::done(),
                    Progressed::Failed => return Err(part_failed(ctx.agent, &view)),
                    Progressed::Released => return self.released(ctx, &asked.operation, &view).await,
                }
                let until = view.version.max(since);
                // Where nothing was copied, nothing would be copied twice.
                let is_news = until > since && !view.lines.is_empty();
                let noted = async { if is_news { ctx.save_note(Copied { until }).await } else { Ok(()) } };
                let (noted, next) = tokio::join!(noted, self.look(ctx, until, look_of(&self.0)));
                noted?;
                (since, view) = (until, next?);
            }
        })
    }
}

impl Wait {
    /// While we were away, its lease has ended. Others may have been there since, so what counts is how it is now.
    async fn released(&self, ctx: &StepCtx, operation: &Operation, view: &PeerView) -> Result<Outcome> {
        let was_done = view.release.is_some_and(|release| release.is_by_lease && release.was_done);
        if was_done && self.is_so_now(ctx, operation).await {
            ctx.info(&format!(
                "{}: done; its lease ended before we saw it, and it still is as wanted",
                ctx.agent
            ));
            return Outcome::done();
        }
        let how = match view.release {
            Some(release) if release.is_by_lease => "by its lease, while this agent was away",
            Some(_) | None => "by somebody else",
        };
        let text = format!("{}: its task {} was ended {how}", ctx.agent, view.sub_dag);
        Err(Error::new(Code::SubDagsNotSucceeded, text))
    }

    async fn is_so_now(&self, ctx: &StepCtx, operation: &Operation) -> bool {
        let Ok(facts) = self.0.peers.facts(ctx.agent, FACTS_LIMIT).await else { return false };
        match operation {
            Operation::Start | Operation::Launch => facts.process.is_some(),
            Operation::Stop { .. } => facts.process.is_none(),
            // Of these nothing can be seen from here; a zone's servers are stopped by SQL, later.
            Operation::Stand
            | Operation::Restart { .. }
            | Operation::Deploy { .. }
            | Operation::Undeploy
            | Operation::StartFirst { .. }
            | Operation::UndoStart
            | Operation::Adopt { .. }
            | Operation::Leave
            | Operation::Unadopt { .. }
            | Operation::BeTakenOver { .. }
            | Operation::FollowAgain { .. }
            | Operation::Retire { .. } => false,
        }
    }

    async fn go_again(&self, ctx: &StepCtx) -> Result<()> {
        let (ports, key) = (&self.0, PartKey::of(&ctx.dag_ref));
        let told = surely(ports.limits.silence, || ports.peers.go(ctx.agent, &key));
        ctx.waiting(told).await.map_err(|error| lost(ports, ctx.agent, error))
    }

    async fn look(&self, ctx: &StepCtx, since: EventId, wait: Duration) -> Result<PeerView> {
        let key = PartKey::of(&ctx.dag_ref);
        ctx.waiting(remote::look(&self.0, ctx.agent, &key, since, wait)).await
    }
}

/// Host by host what happened, in the main DAG's own record; errors come last, with this step's own.
pub(super) fn copy_lines(ctx: &StepCtx, agent: AgentAddr, view: &PeerView) {
    for line in view.lines.iter().filter(|line| line.level != Level::Error) {
        ctx.log(line.level, format!("{agent}: {}", line.text));
    }
}

/// The agent's failure as it was: its code, its text, its facts.
pub(super) fn part_failed(agent: AgentAddr, view: &PeerView) -> Error {
    let Some(failure) = &view.failure else {
        return Error::new(Code::SubDagsNotSucceeded, format!("{agent}: its task {} failed", view.sub_dag));
    };
    let code = Code::by_name(&failure.code).unwrap_or(Code::SubDagsNotSucceeded);
    let error = Error::new(code, format!("{agent}: {}", failure.text));
    match &failure.diagnosis {
        Some(diagnosis) => error.with_diagnosis(diagnosis.clone()),
        None => error,
    }
}

/// `Inform all agents to end the task`: frees every lock this DAG holds on agents. Runs after success, failure and
/// cancel alike. What it cannot end frees itself by its lease, and is named; so does one that was lost and is at work:
/// nobody has cancelled what it does.
#[derive(Debug)]
struct End(Ports);

impl Step for End {
    fn spec(&self) -> StepSpec {
        spec("handshake.end", "CX", READY_LIMIT * 3)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            crash::point(Point::BeforePeer);
            let key = PartKey::of(&ctx.dag_ref);
            let present: BTreeSet<_> = present(ctx, &params).into_iter().collect();
            let (informed, waited) = (done(ctx, INFORM), done(ctx, WAIT));
            // Also those that were never reached: PREPARE may have been although its answer did not come back.
            let ends = each(&params.agents, |agent| {
                let is_reached = present.contains(&agent) && informed.contains(&agent);
                let is_over = ctx.is_cancelled || waited.contains(&agent);
                Box::pin(self.end(&key, agent, is_reached, is_over))
            })
            .await;
            for (agent, result) in ends {
                match result {
                    Ok(Ended::Released) => ctx.info(&format!("{agent} is released")),
                    Ok(Ended::HeldNothing) => ctx.info(&format!("{agent} holds nothing for this task")),
                    Ok(Ended::AtWork) => ctx.warn(&format!(
                        "{agent} still does its part; it frees itself within {} s of the end of it",
                        LEASE.as_secs()
                    )),
                    Err(error) => {
                        let lease = LEASE.as_secs();
                        ctx.warn(&format!(
                            "{agent} could not be released, it frees itself within {lease} s: {error}"
                        ));
                    }
                }
            }
            let left_out: Vec<_> = params.agents.iter().filter(|agent| !present.contains(agent)).collect();
            if ctx.is_failing || left_out.is_empty() {
                return Outcome::done();
            }
            let left_out: Vec<_> = left_out.iter().map(ToString::to_string).collect();
            let text = format!(
                "what could be reached has done its part; not reached, and left out: {}. Repeat it when they are back",
                left_out.join(", ")
            );
            Err(Error::new(Code::SubDagsNotSucceeded, text))
        })
    }
}

/// How a part was found at the end.
enum Ended {
    Released,
    HeldNothing,
    AtWork,
}

impl End {
    /// One that was not reached before is not waited for again. What is over is cancelled, or was waited for.
    async fn end(&self, key: &PartKey, agent: AgentAddr, is_reached: bool, is_over: bool) -> Result<Ended> {
        let peers = &self.0.peers;
        if !is_over && self.is_at_work(key, agent).await {
            return Ok(Ended::AtWork);
        }
        let was_there = if is_reached {
            surely(END_LIMIT, || peers.end(agent, key, RELEASER)).await?
        } else {
            peers.end(agent, key, RELEASER).await?
        };
        Ok(if was_there { Ended::Released } else { Ended::HeldNothing })
    }

    async fn is_at_work(&self, key: &PartKey, agent: AgentAddr) -> bool {
        let look = self.0.peers.watch(agent, key, EventId(0), Duration::ZERO).await;
        look.is_ok_and(|view| view.progressed == Progressed::Running)
    }
}

//! The coordinator's side of an operation over agents: PREPARE, GO, WATCH, END (`decisions.md` §5). The nodes carry the
//! names and numbers that v1 clients know (`task-engine.md` §7.1).
//!
//! While a main DAG works, a [`Keeper`] renews the leases of its parts, those that are done included: their locks are
//! freed by the end, not before.
//!
//! Invariant: whatever fails or is cancelled, the last node runs and ends every part that was prepared; what it cannot
//! reach ends by its lease. Every step is keyed by the main DAG's id and may run again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::catalog::Ports;
use super::participant::{LEASE, RELEASER};
use super::ports::{Operation, PeerView, Peers, Prepare, Progress, Progressed};
use crate::crash::{self, Point};
use crate::engine::port::Level;
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, EventId, Scope};
use crate::tasks::{Kind, Tasks};

/// Parameters of every operation over agents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    pub operation: Operation,
    pub scope: Scope,
    /// The agents in scope, resolved when the operation was accepted.
    pub agents: Vec<AgentAddr>,
    pub force: Vec<String>,
    pub actor: String,
}

/// One look at a part: long, because every change ends it.
const LOOK: Duration = Duration::from_secs(60);

/// Between two renewals of a lease; two may be lost.
const RENEWAL: Duration = Duration::from_secs(LEASE.as_secs() / 3);

/// From PREPARE to prepared.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// For one part to be done: the longest start and stop that a configuration allows, and some.
const WAIT_LIMIT: Duration = Duration::from_secs(26 * 3_600);

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Inform(ports.clone()));
    registry.add(Ready(ports.clone()));
    registry.add(Advance(ports.clone()));
    registry.add(Wait(ports.clone()));
    registry.add(End(ports.clone()));
}

/// Renews the leases of a main DAG's parts for as long as one of its steps holds it.
#[derive(Clone, Debug)]
pub struct Keeper {
    peers: Arc<dyn Peers>,
    tasks: Tasks,
    held: Arc<Mutex<HashMap<String, (usize, CancellationToken)>>>,
}

/// Dropped when the step ends; the last one ends the renewals.
#[derive(Debug)]
pub(super) struct Held {
    keeper: Keeper,
    main_dag: String,
}

impl Keeper {
    pub fn new(peers: Arc<dyn Peers>, tasks: Tasks) -> Self {
        Self { peers, tasks, held: Arc::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, (usize, CancellationToken)>> {
        self.held.lock().expect("no holder of this lock panics")
    }

    pub(super) fn hold(&self, main_dag: &str, agents: &[AgentAddr]) -> Held {
        let mut held = self.held();
        let (count, token) = held.entry(main_dag.to_owned()).or_insert_with(|| (0, CancellationToken::new()));
        *count += 1;
        if *count == 1 {
            let (peers, main_dag, agents) = (Arc::clone(&self.peers), main_dag.to_owned(), agents.to_vec());
            let token = token.clone();
            self.tasks.spawn(Kind::helper("lease-keeper"), async move {
                let renewing = renew_all(&*peers, &main_dag, &agents);
                token.run_until_cancelled(renewing).await;
            });
        }
        Held { keeper: self.clone(), main_dag: main_dag.to_owned() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.keeper.held();
        let Some((count, token)) = held.get_mut(&self.main_dag) else { return };
        *count -= 1;
        if *count == 0 {
            token.cancel();
            held.remove(&self.main_dag);
        }
    }
}

async fn renew_all(peers: &dyn Peers, main_dag: &str, agents: &[AgentAddr]) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        for (agent, result) in each(agents, |agent| peers.renew(agent, main_dag)).await {
            if let Err(error) = result {
                tracing::debug!(%agent, main_dag, %error, "a lease was not renewed");
            }
        }
    }
}

/// The same call to every agent at once; answers in the order of the agents.
async fn each<'a, T>(
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
    params: &Params,
    agent: AgentAddr,
    round: u32,
) -> Result<String> {
    let request = Prepare {
        main_dag: ctx.dag_ref.clone(),
        main_name: ctx.dag_name.to_string(),
        round,
        operation: params.operation,
        force: params.force.clone(),
        actor: params.actor.clone(),
    };
    crash::point(Point::BeforePeer);
    let sub_dag = ports.peers.prepare(agent, &request).await?;
    ctx.info(&format!("{agent} prepares as task {sub_dag}"));
    Ok(sub_dag)
}

/// Waits until an agent holds its lock and waits for the go (or has it: a step that was interrupted looks again).
async fn prepared(ports: &Ports, ctx: &StepCtx, agent: AgentAddr) -> Result<()> {
    let mut since = EventId(0);
    let look = async {
        loop {
            let view = ctx.waiting(ports.peers.watch(agent, &ctx.dag_ref, since, LOOK)).await?;
            since = view.version;
            match view.progressed {
                Progressed::Preparing => {}
                Progressed::Prepared | Progressed::Running | Progressed::Done => return Ok(()),
                Progressed::Failed | Progressed::Released => return Err(ended_early(&view)),
            }
        }
    };
    let late = || Error::new(Code::SubDagsNotReady, format!("not ready after {} s", READY_LIMIT.as_secs()));
    tokio::time::timeout(READY_LIMIT, look).await.unwrap_or_else(|_| Err(late()))
}

fn spec(key: &'static str, caps: &str, deadline: Duration) -> StepSpec {
    StepSpec { key, caps: Caps::of(caps), deadline }
}

/// What an agent answered to PREPARE.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Informed {
    sub_dag: String,
}

/// `Inform all agents …`, once per agent: its part exists under its lock. PREPARE is keyed by this DAG's id.
#[derive(Debug)]
struct Inform(Ports);

impl Step for Inform {
    fn spec(&self) -> StepSpec {
        spec("handshake.inform", "CX", READY_LIMIT * 2)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let sub_dag = prepare(&self.0, ctx, &params, ctx.agent, 0).await?;
            let shown = json!({ "sub_dags": { ctx.agent.to_string(): sub_dag } });
            Outcome::shown(Informed { sub_dag }, shown)
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
            let _held = self.0.keeper.hold(&ctx.dag_ref, &params.agents);
            let looks = each(&params.agents, |agent| Box::pin(prepared(&self.0, ctx, agent))).await;
            all(ctx, looks, "is ready", Code::SubDagsNotReady)
        })
    }
}

/// Every agent's answer in the record; success when all are good.
fn all(ctx: &StepCtx, answers: Vec<(AgentAddr, Result<()>)>, good: &str, code: Code) -> Result<Outcome> {
    let mut bad = Vec::new();
    for (agent, answer) in answers {
        match answer {
            Ok(()) => ctx.info(&format!("{agent} {good}")),
            Err(error) => bad.push(format!("{agent}: {error}")),
        }
    }
    if bad.is_empty() { Outcome::done() } else { Err(Error::new(code, bad.join("; "))) }
}

fn ended_early(view: &PeerView) -> Error {
    let why = view.failure.as_ref().map_or("it was ended by an operator or its lease", |f| f.text.as_str());
    Error::new(Code::SubDagsNotReady, format!("its task {} ended before the go: {why}", view.sub_dag))
}

/// `Advance agents to execute the task`: the go. Repeating it is harmless. A part that was released since it was prepared
/// (an earlier failure of this DAG, which is being retried) is prepared again first, so that the retry leads to the same
/// end as an undisturbed run (W35).
#[derive(Debug)]
struct Advance(Ports);

impl Step for Advance {
    fn spec(&self) -> StepSpec {
        spec("handshake.advance", "CX", READY_LIMIT * 3)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let _held = self.0.keeper.hold(&ctx.dag_ref, &params.agents);
            let gos = each(&params.agents, |agent| Box::pin(self.go(ctx, &params, agent))).await;
            all(ctx, gos, "was told to go", Code::SubDagsNotAdvanced)
        })
    }
}

impl Advance {
    async fn go(&self, ctx: &StepCtx, params: &Params, agent: AgentAddr) -> Result<()> {
        let view = self.0.peers.watch(agent, &ctx.dag_ref, EventId(0), Duration::ZERO).await?;
        if view.progressed == Progressed::Released {
            prepare(&self.0, ctx, params, agent, ctx.attempt).await?;
            prepared(&self.0, ctx, agent).await?;
        }
        crash::point(Point::BeforePeer);
        self.0.peers.go(agent, &ctx.dag_ref).await
    }
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
        spec("handshake.wait", "CX", WAIT_LIMIT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let _held = self.0.keeper.hold(&ctx.dag_ref, &params.agents);
            let mut since = ctx.note::<Copied>().map_or(EventId(0), |copied| copied.until);
            let mut view = self.look(ctx, since, Duration::ZERO).await?;
            loop {
                copy_lines(ctx, &view);
                match view.progressed {
                    Progressed::Preparing | Progressed::Prepared | Progressed::Running => {}
                    Progressed::Done => return Outcome::done(),
                    Progressed::Failed => return Err(part_failed(ctx.agent, &view)),
                    Progressed::Released => {
                        let text =
                            format!("{}: its task {} was ended by somebody else", ctx.agent, view.sub_dag);
                        return Err(Error::new(Code::SubDagsNotSucceeded, text));
                    }
                }
                let until = view.version.max(since);
                let noted =
                    async { if until > since { ctx.save_note(Copied { until }).await } else { Ok(()) } };
                let (noted, next) = tokio::join!(noted, self.look(ctx, until, LOOK));
                noted?;
                (since, view) = (until, next?);
            }
        })
    }
}

impl Wait {
    async fn look(&self, ctx: &StepCtx, since: EventId, wait: Duration) -> Result<PeerView> {
        ctx.waiting(self.0.peers.watch(ctx.agent, &ctx.dag_ref, since, wait)).await
    }
}

/// Host by host what happened, in the main DAG's own record; errors come last, with this step's own.
fn copy_lines(ctx: &StepCtx, view: &PeerView) {
    for line in view.lines.iter().filter(|line| line.level != Level::Error) {
        ctx.log(line.level, format!("{}: {}", ctx.agent, line.text));
    }
}

/// The agent's failure as it was: its code, its text, its facts.
fn part_failed(agent: AgentAddr, view: &PeerView) -> Error {
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
/// cancel alike. What it cannot end frees itself by its lease, and is named.
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
            for (agent, result) in
                each(&params.agents, |agent| self.0.peers.end(agent, &ctx.dag_ref, RELEASER)).await
            {
                match result {
                    Ok(true) => ctx.info(&format!("{agent} is released")),
                    Ok(false) => ctx.info(&format!("{agent} holds nothing for this task")),
                    Err(error) => {
                        let lease = LEASE.as_secs();
                        ctx.warn(&format!(
                            "{agent} could not be released, it frees itself within {lease} s: {error}"
                        ));
                    }
                }
            }
            Outcome::done()
        })
    }
}

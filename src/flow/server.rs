//! What every flow does with the own server: check, start, wait until it serves, stop. The steps of the sub-DAGs, of
//! the local emergency operations, and of init.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use super::peers::Operation;
use super::ports::{Progress, SqlAct};
use super::zones;
use crate::cluster::{Change, LastExit, MYSQL_PORT_DEFAULT, Wanted, effective, port};
use crate::config::EngineKind;
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec};
use crate::error::{Code, Error, Result};
use crate::model::{Diagnosis, Exit, Finding, Launch, Password, ServerProcess, StopHow, StopReport};

/// Between two looks whether a server that listens serves: the first pause and the longest.
const SERVING_SOON: Duration = Duration::from_millis(10);
const SERVING_LOOK: Duration = Duration::from_millis(500);

/// What a login is given to succeed once the server listens (measured: the first one takes 60 ms).
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

/// For `START SERVER` once a leader is there; without one it is tried again.
const START_SERVER_LIMIT: Duration = Duration::from_secs(10);

/// For another agent to tell of its server.
const FACTS_LIMIT: Duration = Duration::from_secs(3);

/// Room for notes and commits around a wait that has its own limit.
const MARGIN: Duration = Duration::from_secs(60);

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Check(ports.clone()));
    registry.add(Start(ports.clone()));
    registry.add(Serve(ports.clone()));
    registry.add(Stop(ports.clone()));
}

/// Parameters of a flow that stops: the only thing these steps need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HasOperation {
    pub(super) operation: Operation,
}

/// What a start found before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Checked {
    is_running: bool,
}

/// `Check ob process and config`: is it running already, and would it start? Looks only.
#[derive(Debug)]
struct Check(Ports);

impl Step for Check {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "server.check", caps: Caps::of("CPXT"), deadline: Duration::from_secs(120) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            if let Some(server) = self.0.process.find().await? {
                let since = crate::model::on_wire(server.started_at);
                ctx.info(&format!("already running as process {} since {since}", server.pid));
                return Outcome::with(Checked { is_running: true });
            }
            if !self.0.process.is_initialised() {
                let text =
                    "no database was ever started in this home; initialise it first (obpilot cluster init)";
                return Err(Error::new(Code::NotInitialized, text));
            }
            let findings = self.0.process.preflight(&next_start(&self.0)).await;
            report(ctx, &findings)?;
            Outcome::with(Checked { is_running: false })
        })
    }
}

/// Warnings go to the record; what is fatal fails the step, all of it in one error (W23).
pub(super) fn report(ctx: &StepCtx, findings: &[Finding]) -> Result<()> {
    for finding in findings.iter().filter(|f| !f.is_fatal) {
        ctx.warn(&finding.to_string());
    }
    let fatal: Vec<_> = findings.iter().filter(|f| f.is_fatal).collect();
    if fatal.is_empty() {
        return Ok(());
    }
    let text: Vec<_> = fatal.iter().map(ToString::to_string).collect();
    let text = format!("the server would not start: {}", text.join(". "));
    Err(Error::new(Code::PreflightFailed, text).with_diagnosis(json!({ "findings": findings })))
}

/// A start that is not the first: the engine remembers what it was configured with; the agent repeats only what it does
/// not remember.
pub fn next_start(ports: &Ports) -> Launch {
    let state = ports.ledger.state();
    let configured = effective(&state, ports.own);
    let mut options: BTreeMap<String, String> = BTreeMap::new();
    if let Some(level) = configured.get("syslog_level") {
        options.insert("syslog_level".to_owned(), level.clone());
    }
    let sql_port = state.server.sql_port.map(|port| port.to_string());
    if let Some(sql_port) = sql_port.or_else(|| configured.get("mysql_port").cloned()) {
        options.insert("mysql_port".to_owned(), sql_port);
    }
    Launch { is_first: false, options }
}

/// `Start observer`: spawns the process and waits until it listens.
///
/// Safe to run again: a process that runs already is taken for ours, whoever spawned it, because only the process of
/// this home with this executable is ever found. A crash between spawn and note is therefore no second spawn.
#[derive(Debug)]
struct Start(Ports);

impl Step for Start {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "server.start", caps: Caps::of("TCBPX"), deadline: self.0.limits.start + MARGIN }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let launch = next_start(&self.0);
            let server = start(&self.0, ctx, &launch).await?;
            Outcome::with(json!({ "process": server }))
        })
    }

    /// Stops what this start has started, and nothing that ran before it.
    fn undo<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match ctx.note::<Noted>() {
                Some(noted) => stop_life(&self.0, ctx, &noted.process).await,
                None => Ok(()),
            }
        })
    }
}

/// What a start notes once the process exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Noted {
    process: ServerProcess,
}

/// Makes the server of this home run and listen.
pub(super) async fn start(ports: &Ports, ctx: &StepCtx, launch: &Launch) -> Result<ServerProcess> {
    let sql_port = told_port(launch)?;
    ports.ledger.change(Change::ServerWanted(Wanted::Running), &ctx.dag_ref).await?;
    let mut server = match ports.process.find().await? {
        Some(server) => server,
        None => {
            if launch.is_first {
                ctx.info("starting it for the first time");
            }
            ports.process.spawn(launch, ctx).await?
        }
    };
    loop {
        ctx.save_note(Noted { process: server.clone() }).await?;
        let started = Change::ServerStarted { process: server.clone(), sql_port };
        ports.ledger.change(started, &ctx.dag_ref).await?;
        match wait_ready(ports, ctx, &server).await? {
            None => {
                note_port(ports, &server, &ctx.dag_ref).await?;
                return Ok(server);
            }
            Some(successor) => server = successor,
        }
    }
}

fn told_port(launch: &Launch) -> Result<Option<u16>> {
    if !launch.options.contains_key("mysql_port") {
        return Ok(None);
    }
    let told = port(&launch.options, "mysql_port", MYSQL_PORT_DEFAULT);
    told.map(Some).map_err(|e| Error::new(Code::InvalidPort, e.to_string()))
}

/// SQL is spoken to the port on which the process really listens. What it was told may be unknown (the store was lost,
/// somebody else has started it), and an engine goes by what it has saved.
///
/// # Errors
/// When it cannot be recorded.
pub async fn note_port(ports: &Ports, server: &ServerProcess, actor: &str) -> Result<()> {
    match ports.process.sql_port(server).await {
        Some(seen) => ports.ledger.change(Change::SqlPort(seen), actor).await,
        None => Ok(()),
    }
}

/// The process goes on as another one: an agent that comes back in the middle of a spawn finds the launcher, which ends
/// well as soon as the database it has made stands by itself. Each launcher has one successor, and that one has none.
async fn successor(ports: &Ports, ctx: &StepCtx, server: &ServerProcess) -> Result<Option<ServerProcess>> {
    let found = ports.process.find().await?.filter(|found| found != server);
    if let Some(found) = &found {
        ctx.info(&format!("process {} goes on as process {}", server.pid, found.pid));
    }
    Ok(found)
}

/// `None` once it listens; another process when that one is what has to be waited for.
async fn wait_ready(ports: &Ports, ctx: &StepCtx, server: &ServerProcess) -> Result<Option<ServerProcess>> {
    ctx.log_wait(&format!("process {} to listen", server.pid), ports.limits.start);
    let ready = ctx.waiting(ports.process.ready(server, ctx));
    match tokio::time::timeout(ports.limits.start, ready).await {
        Ok(Ok(())) => Ok(None),
        Ok(Err(error)) if ctx.token.is_cancelled() => Err(error),
        Ok(Err(error)) => {
            if let Some(successor) = successor(ports, ctx, server).await? {
                return Ok(Some(successor));
            }
            // It has ended, so this answers at once.
            let exit = ports.process.exited(server).await;
            record_exit(ports, ctx, server, exit).await?;
            Err(error)
        }
        Err(_) => {
            let diagnosis: Diagnosis = ports.process.diagnose(server, None).await;
            let text = format!(
                "it runs but does not listen after {} s: {}; it was left running, RETRY waits again",
                ports.limits.start.as_secs(),
                diagnosis.headline()
            );
            Err(Error::new(Code::StartFailed, text).with_diagnosis(json!(diagnosis)))
        }
    }
}

/// `Execute start observer sql`: the server serves, seen by SQL with the password that the agent knows. A server that
/// refuses that password is up all the same: the start succeeds and says so.
#[derive(Debug)]
struct Serve(Ports);

impl Step for Serve {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "server.serve", caps: Caps::of("CPXT"), deadline: self.0.limits.start + MARGIN }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            serve(&self.0, ctx, Life::Later).await?;
            Outcome::done()
        })
    }
}

/// How a server came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Bootstrapped just now: nobody has ever stopped it by SQL, and the members do not yet know its ports.
    First,
    Later,
}

pub(super) async fn serve(ports: &Ports, ctx: &StepCtx, life: Life) -> Result<()> {
    let limit = match ports.engine {
        EngineKind::Seekdb => ports.limits.start.min(LOGIN_LIMIT),
        // A member replays its log before it serves.
        EngineKind::Observer => ports.limits.start,
    };
    let served = async {
        tokio::select! {
            biased;
            served = until_serving(ports, ctx, life) => served,
            why = hopeless(ports) => Err(Error::new(Code::ServerNotReady, why)),
        }
    };
    match tokio::time::timeout(limit, ctx.waiting(served)).await {
        Ok(Ok(())) => {
            let version = ports.sql.version(&ports.ledger.root_password()).await?;
            ctx.info(&format!("it serves, version {version}"));
            ports.ledger.change(Change::ServerVersion(version), &ctx.dag_ref).await
        }
        Ok(Err(error)) if ctx.token.is_cancelled() => Err(error),
        Ok(Err(error)) if error.code == Code::ServerNotReady => Err(error),
        Ok(Err(refused)) => {
            ctx.warn(&format!("it listens, but its serving could not be verified: {refused}"));
            Ok(())
        }
        Err(_) => {
            let text =
                format!("it listens, but does not serve SQL after {} s; look at its log", limit.as_secs());
            Err(Error::new(Code::ServerNotReady, text))
        }
    }
}

/// Looks until it serves, because the server announces that nowhere. It follows the listening within a moment; where it does not,
/// what is still missing is told.
async fn until_serving(ports: &Ports, ctx: &StepCtx, life: Life) -> Result<()> {
    let mut pause = SERVING_SOON;
    let mut told = String::new();
    let mut is_in_service = false;
    loop {
        let password = ports.ledger.root_password();
        let served = async {
            // Once is enough: the cluster keeps it.
            if !is_in_service {
                put_in_service(ports, ctx, &password, life).await?;
                is_in_service = true;
            }
            ports.sql.serving(&password).await
        };
        match served.await {
            Ok(()) => return Ok(()),
            Err(error) if error.code == Code::PasswordIncorrect => return Err(error),
            Err(error) => {
                let why = error.headline();
                if pause == SERVING_LOOK && why != told {
                    why.clone_into(&mut told);
                    ctx.info(&format!("it does not serve yet: {why}"));
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(SERVING_LOOK);
    }
}

/// A member that was stopped keeps that over restarts, until it is started by SQL (`observer-model.md` §16.7).
async fn put_in_service(ports: &Ports, ctx: &StepCtx, password: &Password, life: Life) -> Result<()> {
    if ports.engine == EngineKind::Seekdb || life == Life::First {
        return Ok(());
    }
    let state = ports.ledger.state();
    let Some(own) = state.own_member() else { return Ok(()) };
    let act = SqlAct::StartServer { server: own.server() };
    match ports.cluster.act(password, &act, START_SERVER_LIMIT, ctx).await {
        // Another member may know the password that we do not.
        Err(refused) if refused.code == Code::PasswordIncorrect => {
            zones::anywhere(ports, &act, START_SERVER_LIMIT, ctx).await.map_err(|_| refused)?;
            Ok(())
        }
        known => known.map(|_| ()),
    }
}

/// Alone, a member does not serve: it needs the majority of its cluster. Returns when the others have had their time and
/// some of them are known not to run.
async fn hopeless(ports: &Ports) -> String {
    if ports.engine == EngineKind::Seekdb {
        return std::future::pending().await;
    }
    let limit = ports.limits.quorum;
    loop {
        tokio::time::sleep(limit).await;
        let down = down_elsewhere(ports).await;
        if !down.is_empty() {
            return format!(
                "it runs, and does not serve after {} s: {}. It serves by itself as soon as the majority of its cluster runs; \
                 start those",
                limit.as_secs(),
                down.join(", ")
            );
        }
    }
}

async fn down_elsewhere(ports: &Ports) -> Vec<String> {
    let state = ports.ledger.state();
    let others = state.members.iter().filter(|member| member.agent != ports.own);
    let asked = others.map(|member| async move {
        let facts = ports.peers.facts(member.agent, FACTS_LIMIT).await;
        match facts {
            Ok(facts) if facts.process.is_some() => None,
            Ok(_) => Some(format!("{} does not run", member.server())),
            Err(_) => Some(format!("{} is not reached", member.server())),
        }
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}

/// `Stop observer`: graceful as the engine understands it, or SIGKILL, as the flow was told. Already stopped is success.
///
/// Safe to run again: it looks for the process first, and another life than the noted one is never signalled.
#[derive(Debug)]
struct Stop(Ports);

impl Step for Stop {
    fn spec(&self) -> StepSpec {
        StepSpec {
            key: "server.stop",
            caps: Caps::of("CPXT"),
            // A first start that is still initialising is waited for.
            deadline: self.0.limits.start + self.0.limits.stop_grace + MARGIN,
        }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let HasOperation { operation } = ctx.params()?;
            let (Operation::Stop { how } | Operation::Restart { how }) = operation else {
                return Err(Error::unexpected("something else than a stop was told to stop the server"));
            };
            self.0.ledger.change(Change::ServerWanted(Wanted::Stopped), &ctx.dag_ref).await?;
            let Some(server) = self.0.process.find().await? else {
                ctx.info("already stopped");
                return Outcome::done();
            };
            if let Some(noted) = ctx.note::<Noted>().filter(|noted| noted.process != server) {
                let text = format!(
                    "process {} has ended, and process {} was started since by somebody else; it was left alone",
                    noted.process.pid, server.pid
                );
                return Err(Error::new(Code::StopFailed, text));
            }
            ctx.save_note(Noted { process: server.clone() }).await?;
            warn_of_the_next_start(&self.0, ctx).await;
            stop_as(&self.0, ctx, &server, how).await?;
            if let Some(successor) = successor(&self.0, ctx, &server).await? {
                stop_as(&self.0, ctx, &successor, how).await?;
            }
            Outcome::done()
        })
    }
}

/// Never stop silently what would not come up again.
async fn warn_of_the_next_start(ports: &Ports, ctx: &StepCtx) {
    for finding in ports.process.preflight(&next_start(ports)).await {
        if finding.is_fatal {
            ctx.warn(&format!("after this stop it would not start again: {finding}"));
        }
    }
}

pub(super) async fn stop_as(
    ports: &Ports,
    ctx: &StepCtx,
    server: &ServerProcess,
    how: StopHow,
) -> Result<()> {
    match how {
        StopHow::Graceful { grace_secs } => {
            ctx.info(&format!("stopping process {}, SIGKILL after {grace_secs} s", server.pid));
        }
        StopHow::Kill => ctx.info(&format!("killing process {}", server.pid)),
    }
    let stopped = ctx.waiting(ports.process.stop(server, how, ctx)).await;
    if stopped.is_err() && ctx.token.is_cancelled() {
        ctx.warn(&format!("process {} was signalled before the cancel and may end all the same", server.pid));
    }
    let StopReport { signals, exit, took_millis } = stopped?;
    record_exit(ports, ctx, server, exit).await?;
    let signals = if signals.is_empty() { "nothing sent".to_owned() } else { signals.join(", ") };
    ctx.info(&format!("process {} {exit} after {took_millis} ms ({signals})", server.pid));
    Ok(())
}

async fn record_exit(ports: &Ports, ctx: &StepCtx, server: &ServerProcess, exit: Exit) -> Result<()> {
    let known = ports.ledger.state().server.process.as_ref() == Some(server);
    if !known {
        return Ok(());
    }
    let last = LastExit { pid: server.pid, exit, at: ports.clock.now(), is_unexpected: false };
    ports.ledger.change(Change::ServerExited(last), &ctx.dag_ref).await
}

/// Stops one life, if it still lives; for undo.
pub(super) async fn stop_life(ports: &Ports, ctx: &StepCtx, life: &ServerProcess) -> Result<()> {
    ports.ledger.change(Change::ServerWanted(Wanted::Stopped), &ctx.dag_ref).await?;
    match ports.process.find().await? {
        Some(server) if server == *life => {
            let grace_secs = ports.limits.stop_grace.as_secs();
            stop_as(ports, ctx, &server, StopHow::Graceful { grace_secs }).await
        }
        Some(_) | None => {
            ctx.info(&format!("process {} has ended already", life.pid));
            Ok(())
        }
    }
}

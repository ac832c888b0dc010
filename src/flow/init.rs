//! `Initialize cluster`: from a configured MASTER and its followers to CLUSTER AGENTs with a running database.
//!
//! Engine seekdb is one server: prepare, start, wait ready, set the password, record. Engine observer is as many as there are
//! members; what only a cluster needs is `bootstrap`. The nodes are those of `lifecycle.md` §4.1, under their names.
//!
//! Here: what every member does with its own home, as the master's step or as a follower's part.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use super::peers::Operation;
use super::ports::{Login, Progress};
use super::{bootstrap, remote, server};
use crate::cluster::{Act, Change, MYSQL_PORT_DEFAULT, effective, may};
use crate::config::EngineKind;
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec, Template};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity, Launch, Password, ServerAddr, ZoneName};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    pub actor: String,
    pub engine: EngineKind,
    /// Every member, ourselves included.
    pub agents: Vec<AgentAddr>,
    pub imports_script: bool,
    /// Password of the user that obproxy asks as, sealed for [`bootstrap::PROXY_PASSWORD`]; `None` makes no such user.
    pub proxy_password: Option<String>,
}

pub fn template(own: AgentAddr, params: &Params) -> Template {
    let agents = &params.agents;
    let started = Template::new("init", "Initialize cluster", json!(params))
        .locked(None)
        .then("init.integrate", "Integrate config", own)
        .then_on_each("init.directories", "Create observer workdir", agents)
        .then_on_each("init.start", "Start observer", agents);
    match params.engine {
        EngineKind::Seekdb => started.then("init.password", "Modify password", own).then(
            "init.record",
            "Convert master to cluster agent",
            own,
        ),
        EngineKind::Observer => bootstrap::nodes(own, params, started),
    }
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Integrate(ports.clone()));
    registry.add(Directories(ports.clone()));
    registry.add(Start(ports.clone()));
    registry.add(SetPassword(ports.clone()));
    registry.add(Record(ports.clone()));
}

pub(super) const SHORT: Duration = Duration::from_secs(120);

/// What every member is started with, and the order in which the cluster takes them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct InitPlan {
    pub(super) launches: BTreeMap<AgentAddr, Launch>,
    /// One server per zone, for BOOTSTRAP.
    pub(super) first: Vec<(ZoneName, ServerAddr)>,
    /// Added afterwards.
    pub(super) others: Vec<(ZoneName, ServerAddr)>,
}

/// `Integrate config`: the options of the first starts from the configuration, and everything checked that can be checked
/// before anything is made (W23). Looks only.
#[derive(Debug)]
struct Integrate(Ports);

impl Step for Integrate {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "init.integrate", caps: Caps::of("XCTB"), deadline: SHORT }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            may(Act::Init, self.0.own, self.0.ledger.state().identity)?;
            let plan = match self.0.engine {
                EngineKind::Seekdb => integrate_one(&self.0, ctx).await?,
                EngineKind::Observer => ctx.waiting(bootstrap::integrate(&self.0, ctx)).await?,
            };
            Outcome::with(plan)
        })
    }
}

async fn integrate_one(ports: &Ports, ctx: &StepCtx) -> Result<InitPlan> {
    let mut options = effective(&ports.ledger.state(), ports.own);
    options.entry("mysql_port".to_owned()).or_insert_with(|| MYSQL_PORT_DEFAULT.to_string());
    let launch = Launch { is_first: true, options };
    if ports.process.is_initialised() {
        return Err(foreign_data());
    }
    ctx.info(&format!("first start with {}", in_words(&launch)));
    server::report(ctx, &ports.process.preflight(&launch).await)?;
    Ok(InitPlan { launches: BTreeMap::from([(ports.own, launch)]), ..InitPlan::default() })
}

pub(super) fn foreign_data() -> Error {
    let text = "this home holds a database that this agent did not make; it is not initialised again. Use an empty home";
    Error::new(Code::DirNotEmpty, text)
}

pub(super) fn in_words(launch: &Launch) -> String {
    let settings: Vec<_> = launch.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    settings.join(", ")
}

fn launch_of(ctx: &StepCtx) -> Result<Launch> {
    let plan: InitPlan = ctx.input("init.integrate")?;
    let launch = plan.launches.get(&ctx.agent).cloned();
    launch.ok_or_else(|| Error::unexpected(format!("nothing was planned for {}", ctx.agent)))
}

fn actor_of(ctx: &StepCtx) -> Result<String> {
    ctx.params::<Params>().map(|params| params.actor)
}

/// What was made for the first start, so that exactly that can be removed (W13).
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Made {
    paths: Vec<String>,
}

/// `Create observer workdir`, on every member. Directories that exist already are left; running it again makes what is
/// missing.
#[derive(Debug)]
struct Directories(Ports);

impl Step for Directories {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "init.directories", caps: Caps::of("XCTB"), deadline: SHORT }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let (ports, launch) = (&self.0, launch_of(ctx)?);
            if ctx.agent == ports.own {
                return Outcome::with(Made { paths: make_directories(ports, ctx, &launch).await? });
            }
            let deploy = Operation::Deploy { launch };
            remote::run(ports, ctx, ctx.agent, "deploy", deploy, &actor_of(ctx)?).await?;
            Outcome::done()
        })
    }

    /// Removes what the first start made. Its own steps have been undone before: nothing runs.
    fn undo<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let ports = &self.0;
            if ctx.agent != ports.own {
                return remote::run(ports, ctx, ctx.agent, "undeploy", Operation::Undeploy, &actor_of(ctx)?)
                    .await;
            }
            let made = ctx.input::<Made>("init.directories").map_or_else(|_| Vec::new(), |made| made.paths);
            remove_directories(ports, ctx, Some(&made)).await
        })
    }
}

pub(super) async fn make_directories(ports: &Ports, ctx: &StepCtx, launch: &Launch) -> Result<Vec<String>> {
    let paths = ports.process.prepare_dirs(launch).await?;
    if !paths.is_empty() {
        ctx.info(&format!("made {}", paths.join(", ")));
    }
    Ok(paths)
}

/// Only what a first start of ours has made is ever removed; without a list, all of that.
pub(super) async fn remove_directories(ports: &Ports, ctx: &StepCtx, made: Option<&[String]>) -> Result<()> {
    ports.process.remove_dirs(made).await?;
    ctx.info("removed what the first start had made; logs are kept");
    Ok(())
}

/// `Start observer`: the first start, on every member. An interrupted one is begun afresh by the process room; one that is
/// still initialising is waited for and never killed.
#[derive(Debug)]
struct Start(Ports);

impl Step for Start {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "init.start", caps: Caps::of("TCBPX"), deadline: self.0.limits.start + SHORT * 2 }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let (ports, launch) = (&self.0, launch_of(ctx)?);
            if ctx.agent == ports.own {
                start_first(ports, ctx, &launch).await?;
                return Outcome::done();
            }
            let start = Operation::StartFirst { launch };
            remote::run(ports, ctx, ctx.agent, "start", start, &actor_of(ctx)?).await?;
            Outcome::done()
        })
    }

    /// Stops it, and gives the data up: nobody was given this database yet.
    fn undo<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if ctx.agent == self.0.own {
                return undo_start(&self.0, ctx).await;
            }
            remote::run(&self.0, ctx, ctx.agent, "undo-start", Operation::UndoStart, &actor_of(ctx)?).await
        })
    }
}

/// Started, listening, and letting its root in. (An observer is empty until the bootstrap; its data is nobody's yet.)
pub(super) async fn start_first(ports: &Ports, ctx: &StepCtx, launch: &Launch) -> Result<()> {
    server::start(ports, ctx, launch).await?;
    match ports.engine {
        EngineKind::Seekdb => ports.process.mark_initialised().await,
        EngineKind::Observer => lets_root_in(ports, ctx).await,
    }
}

/// A port that is open is not a server that answers (W10).
async fn lets_root_in(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    /// Nothing announces it; it follows the listening within moments.
    const LOOK: Duration = Duration::from_millis(200);
    let let_in = async {
        loop {
            let known = ports.ledger.root_password();
            for password in [Password::default(), known] {
                if ports.sql.login(&password).await == Login::Accepted {
                    return Ok(());
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let limit = SHORT / 2;
    tokio::time::timeout(limit, ctx.waiting(let_in)).await.unwrap_or_else(|_| {
        let text =
            format!("it listens, but did not let root in within {} s; look at its log", limit.as_secs());
        Err(Error::new(Code::ServerNotReady, text))
    })
}

/// Whatever runs in this home was started by this init: before it there was nothing.
pub(super) async fn undo_start(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    if let Some(process) = ports.process.find().await? {
        server::stop_life(ports, ctx, &process).await?;
    }
    ports.process.forget_initialised().await
}

/// `Modify password`: the one that was configured becomes that of root@sys. It looks first: set already is success.
#[derive(Debug)]
struct SetPassword(Ports);

impl Step for SetPassword {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "init.password", caps: Caps::of("TCBX"), deadline: SHORT }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let wanted = self.0.ledger.root_password();
            self.change(ctx, &Password::default(), &wanted).await?;
            self.warn_of_unknown_settings(ctx, &wanted).await;
            server::serve(&self.0, ctx, server::Life::First).await?;
            Outcome::done()
        })
    }

    fn undo<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.0.process.find().await?.is_none() {
                ctx.info("the server does not run; its password goes with its data");
                return Ok(());
            }
            self.change(ctx, &self.0.ledger.root_password(), &Password::default()).await
        })
    }
}

impl SetPassword {
    async fn change(&self, ctx: &StepCtx, from: &Password, to: &Password) -> Result<()> {
        match self.0.sql.login(to).await {
            Login::Accepted => {
                ctx.info("the password of root@sys is set");
                return Ok(());
            }
            Login::Refused => {}
            Login::NoAnswer => {
                return Err(Error::new(
                    Code::DatabaseUseless,
                    "the server does not answer; RETRY tries again",
                ));
            }
        }
        self.0.sql.set_root_password(from, to).await?;
        ctx.info("the password of root@sys was changed");
        Ok(())
    }

    /// The engine ignores settings it does not know, silently; a person should hear of it.
    async fn warn_of_unknown_settings(&self, ctx: &StepCtx, password: &Password) {
        let Ok(launch) = launch_of(ctx) else { return };
        let Ok(known) = self.0.sql.parameter_names(password).await else { return };
        let is_ours = |key: &str| OWN_KEYS.contains(&key);
        for key in launch.options.keys().filter(|key| !is_ours(key) && !known.contains(&key.to_lowercase())) {
            ctx.warn(&format!("the engine knows no setting '{key}' and has ignored it; check its spelling"));
        }
    }
}

/// Settings that are no parameters of the engine.
const OWN_KEYS: [&str; 10] = [
    "mysql_port",
    "rpc_port",
    "data_dir",
    "redo_dir",
    "clog_dir",
    "slog_dir",
    "syslog_level",
    "local_ip",
    "zone",
    "rootservice_list",
];

/// `Convert master to cluster agent`: one commit of the ledger.
#[derive(Debug)]
struct Record(Ports);

impl Step for Record {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "init.record", caps: Caps::of("CTB"), deadline: SHORT }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            bootstrap::become_cluster_agent(&self.0, ctx, &actor_of(ctx)?).await?;
            Outcome::done()
        })
    }

    fn undo<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let state = self.0.ledger.state();
            if let (Identity::ClusterAgent, Some(own)) = (state.identity, state.own_member().cloned()) {
                self.0.ledger.change(Change::BecameMaster { own }, &ctx.dag_ref).await?;
            }
            Ok(())
        })
    }
}

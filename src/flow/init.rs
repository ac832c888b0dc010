//! `Initialize cluster`: from a configured MASTER to a CLUSTER AGENT with a running database.
//!
//! Engine seekdb is one server: prepare, start, wait ready, set the password, record. The nodes are those of
//! `lifecycle.md` §4.1 that a single server has, under their names.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use super::ports::{Login, Progress};
use super::server;
use super::start::observer_is_not_here;
use crate::cluster::{Act, Change, MYSQL_PORT_DEFAULT, effective, may};
use crate::config::EngineKind;
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec, Template};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity, Launch, Password, ServerProcess};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    pub actor: String,
}

pub fn template(own: AgentAddr, params: &Params) -> Template {
    Template::new("init", "Initialize cluster", json!(params))
        .locked(None)
        .then("init.integrate", "Integrate config", own)
        .then("init.directories", "Create observer workdir", own)
        .then("init.start", "Start observer", own)
        .then("init.password", "Modify password", own)
        .then("init.record", "Convert master to cluster agent", own)
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Integrate(ports.clone()));
    registry.add(Directories(ports.clone()));
    registry.add(Start(ports.clone()));
    registry.add(SetPassword(ports.clone()));
    registry.add(Record(ports.clone()));
}

const SHORT: Duration = Duration::from_secs(120);

/// `Integrate config`: the options of the first start from the configuration, and everything checked that can be checked
/// before anything is made (W23). Looks only.
#[derive(Debug)]
struct Integrate(Ports);

impl Step for Integrate {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "init.integrate", caps: Caps::of("XCTB"), deadline: SHORT }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let state = self.0.ledger.state();
            may(Act::Init, self.0.own, state.identity)?;
            if self.0.engine == EngineKind::Observer {
                return Err(observer_is_not_here());
            }
            let mut options: BTreeMap<String, String> = effective(&state, self.0.own);
            options.entry("mysql_port".to_owned()).or_insert_with(|| MYSQL_PORT_DEFAULT.to_string());
            let launch = Launch { is_first: true, options };
            if self.0.process.is_initialised() {
                let text = "this home holds a database that this agent did not make; it is not initialised again. Use an \
                            empty home";
                return Err(Error::new(Code::DirNotEmpty, text));
            }
            let settings: Vec<_> = launch.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
            ctx.info(&format!("first start with {}", settings.join(", ")));
            server::report(ctx, &self.0.process.preflight(&launch).await)?;
            Outcome::with(launch)
        })
    }
}

/// What was made for the first start, so that exactly that can be removed (W13).
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Made {
    paths: Vec<String>,
}

/// `Create observer workdir`. Directories that exist already are left; running it again makes what is missing.
#[derive(Debug)]
struct Directories(Ports);

impl Step for Directories {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "init.directories", caps: Caps::of("XCTB"), deadline: SHORT }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let launch: Launch = ctx.input("init.integrate")?;
            let paths = self.0.process.prepare_dirs(&launch).await?;
            if !paths.is_empty() {
                ctx.info(&format!("made {}", paths.join(", ")));
            }
            Outcome::with(Made { paths })
        })
    }

    /// Removes what the first start made. Its own steps have been undone before: nothing runs.
    fn undo<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let made = ctx.input::<Made>("init.directories").map_or_else(|_| Vec::new(), |made| made.paths);
            self.0.process.remove_dirs(&made).await?;
            ctx.info("removed what the first start had made; logs are kept");
            Ok(())
        })
    }
}

/// `Start observer`: the first start. An interrupted one is begun afresh by the process room; one that is still
/// initialising is waited for and never killed.
#[derive(Debug)]
struct Start(Ports);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Started {
    process: ServerProcess,
}

impl Step for Start {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "init.start", caps: Caps::of("TCBPX"), deadline: self.0.limits.start + SHORT }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let launch: Launch = ctx.input("init.integrate")?;
            let process = server::start(&self.0, ctx, &launch).await?;
            self.0.process.mark_initialised().await?;
            Outcome::with(Started { process })
        })
    }

    /// Stops it, and gives the data up: nobody was given this database yet.
    fn undo<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if let Some(Started { process }) = ctx.note() {
                server::stop_life(&self.0, ctx, &process).await?;
            }
            self.0.process.forget_initialised().await
        })
    }
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
            server::serve(&self.0, ctx).await?;
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
        let Ok(launch) = ctx.input::<Launch>("init.integrate") else { return };
        let Ok(known) = self.0.sql.parameter_names(password).await else { return };
        let is_ours =
            |key: &str| matches!(key, "mysql_port" | "rpc_port" | "data_dir" | "redo_dir" | "syslog_level");
        for key in launch.options.keys().filter(|key| !is_ours(key) && !known.contains(&key.to_lowercase())) {
            ctx.warn(&format!("the engine knows no setting '{key}' and has ignored it; check its spelling"));
        }
    }
}

/// `Convert master to cluster agent`: one commit of the ledger.
#[derive(Debug)]
struct Record(Ports);

impl Step for Record {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "init.record", caps: Caps::of("CTB"), deadline: SHORT }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            self.0.ledger.change(Change::BecameClusterAgent, &params.actor).await?;
            ctx.info(&format!("{} is CLUSTER AGENT", self.0.own));
            Outcome::done()
        })
    }

    fn undo<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let state = self.0.ledger.state();
            if let (Identity::ClusterAgent, Some(zone)) = (state.identity, state.zone.clone()) {
                self.0.ledger.change(Change::BecameMaster { zone }, &ctx.dag_ref).await?;
            }
            Ok(())
        })
    }
}

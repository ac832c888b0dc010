//! `Update cluster config` and `Update observer config`: what init will use (`lifecycle.md` §3).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use super::ports::Progress;
use crate::cluster::{Act, Change, ClusterConfig, may};
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec, Template};
use crate::error::Result;
use crate::model::{AgentAddr, Scope};

/// What a root password in parameters is sealed for.
pub const ROOT_PASSWORD: &str = "task.root_password";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterParams {
    pub config: ClusterConfig,
    /// Sealed for [`ROOT_PASSWORD`].
    pub root_password: Option<String>,
    pub actor: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObserverParams {
    pub scope: Scope,
    pub config: BTreeMap<String, String>,
    pub actor: String,
}

pub fn cluster_template(own: AgentAddr, params: &ClusterParams) -> Template {
    let name = "Update cluster config";
    Template::new("settings", name, json!(params)).locked(None).releases_lock_on_failure().then(
        "settings.cluster",
        name,
        own,
    )
}

pub fn observer_template(own: AgentAddr, params: &ObserverParams) -> Template {
    let name = "Update observer config";
    Template::new("settings", name, json!(params)).locked(None).releases_lock_on_failure().then(
        "settings.observer",
        name,
        own,
    )
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(SetCluster(ports.clone()));
    registry.add(SetObserver(ports.clone()));
}

const DEADLINE: Duration = Duration::from_secs(60);

/// One commit of the ledger, replacing all four values; running it twice finds it done.
#[derive(Debug)]
struct SetCluster(Ports);

impl Step for SetCluster {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "settings.cluster", caps: Caps::of("CTXP"), deadline: DEADLINE }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: ClusterParams = ctx.params()?;
            may(Act::Configure, self.0.own, self.0.ledger.state().identity)?;
            let sealed = params.root_password.as_deref();
            let root_password = sealed.map(|text| self.0.sealer.open(ROOT_PASSWORD, text)).transpose()?;
            let sets_password = root_password.is_some();
            let change = Change::ClusterConfigured { config: params.config.clone(), root_password };
            self.0.ledger.change(change, &params.actor).await?;
            let ClusterConfig { id, name, .. } = params.config;
            ctx.info(&format!(
                "cluster '{}', id {}{}",
                name.unwrap_or_default(),
                id.unwrap_or_default(),
                if sets_password { "; from here on requests need the root password" } else { "" }
            ));
            Outcome::done()
        })
    }
}

/// One commit of the ledger, replacing what was set at the scope; running it twice finds it done.
#[derive(Debug)]
struct SetObserver(Ports);

impl Step for SetObserver {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "settings.observer", caps: Caps::of("CTXP"), deadline: DEADLINE }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: ObserverParams = ctx.params()?;
            may(Act::Configure, self.0.own, self.0.ledger.state().identity)?;
            let keys: Vec<_> = params.config.keys().map(String::as_str).collect();
            ctx.info(&format!("{}: {}", params.scope, keys.join(", ")));
            let change =
                Change::ObserverConfigured { scope: params.scope.clone(), config: params.config.clone() };
            self.0.ledger.change(change, &params.actor).await?;
            Outcome::done()
        })
    }
}

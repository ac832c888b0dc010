//! About the cluster to be and the one that is: configuration, init, info.

use std::collections::BTreeMap;

use super::context::{App, Caller, Request};
use crate::cluster::{Act, ClusterConfig, ConfigError, may, tidy_keys};
use crate::config::EngineKind;
use crate::engine::Snapshot;
use crate::error::{Code, Error, Result};
use crate::flow::{bootstrap, init, settings};
use crate::model::{Identity, Password, Scope};

/// `POST /obcluster/config`.
#[derive(Clone, Debug)]
pub struct ClusterRequest {
    pub id: i64,
    pub name: String,
    pub root_password: Option<Password>,
    pub rs_list: Option<String>,
}

/// `POST /ob/init`.
#[derive(Clone, Debug, Default)]
pub struct InitRequest {
    pub imports_script: bool,
    /// With this password; `None` makes no such user.
    pub proxy_user: Option<Password>,
}

impl App {
    /// Its checks come before the identity, as clients know it (`http-api.md` §7.1).
    ///
    /// # Errors
    /// `OB.Cluster.Id.Invalid`, `OB.Cluster.Name.Empty`, the identity's refusal, a held lock, or a failing store.
    pub async fn configure_cluster(
        &self,
        wanted: ClusterRequest,
        caller: &Caller,
        request: Request,
    ) -> Result<Snapshot> {
        self.make(caller, request, async || {
            if wanted.id <= 0 {
                return Err(Error::new(Code::ClusterIdInvalid, "clusterId must be a number greater than 0"));
            }
            if wanted.name.is_empty() {
                return Err(Error::new(Code::ClusterNameEmpty, "clusterName must not be empty"));
            }
            self.may_configure(Act::Configure)?;
            self.check_none_half().await?;
            let sealer = &self.parts.ports.sealer;
            let root_password = wanted
                .root_password
                .as_ref()
                .map(|pw| sealer.seal(settings::ROOT_PASSWORD, pw))
                .transpose()?;
            let config =
                ClusterConfig { id: Some(wanted.id), name: Some(wanted.name), rs_list: wanted.rs_list };
            let params = settings::ClusterParams { config, root_password, actor: caller.actor.clone() };
            Ok(settings::cluster_template(self.own(), &params))
        })
        .await
    }

    /// # Errors
    /// `Common.IllegalArgument` and the codes of ports, the identity's refusal, the scope's, a held lock, or a failing
    /// store.
    pub async fn configure_observer(
        &self,
        config: BTreeMap<String, String>,
        scope: Result<Scope>,
        caller: &Caller,
        request: Request,
    ) -> Result<Snapshot> {
        self.make(caller, request, async || {
            let config = tidy_keys(config).map_err(config_error)?;
            self.may_configure(Act::Configure)?;
            self.check_none_half().await?;
            let scope = scope?;
            self.parts.ledger.state().members.in_scope(&scope)?;
            let params = settings::ObserverParams { scope, config, actor: caller.actor.clone() };
            Ok(settings::observer_template(self.own(), &params))
        })
        .await
    }

    /// A follower's wish belongs to its master; it comes here only when that was not reached.
    pub(super) fn may_configure(&self, act: Act) -> Result<()> {
        let identity = self.identity();
        may(act, self.own(), identity)?;
        if identity == Identity::Follower {
            return Err(Error::new(Code::NoMaster, "this is for the master to decide; ask it"));
        }
        Ok(())
    }

    /// Says before anything is made what init would fail on (W23).
    ///
    /// # Errors
    /// The identity's refusal, `Common.BadRequest` for what is not configured, a held lock, or a failing store.
    pub async fn init(&self, wanted: InitRequest, caller: &Caller, request: Request) -> Result<Snapshot> {
        self.make(caller, request, async || {
            let state = self.parts.ledger.state();
            self.may_configure(Act::Init)?;
            self.check_none_half().await?;
            if state.cluster.id.is_none() || state.cluster.name.is_none() {
                let text = "the cluster has no name and id yet; set them first (POST /api/v1/obcluster/config)";
                return Err(Error::new(Code::BadRequest, text));
            }
            if state.engine == EngineKind::Seekdb && (wanted.imports_script || wanted.proxy_user.is_some()) {
                let text = "engine seekdb takes neither import_script nor create_proxyro_user: it brings its time zones and \
                            knows no proxy; leave them out";
                return Err(Error::new(Code::IllegalArgument, text));
            }
            let sealer = &self.parts.ports.sealer;
            let sealed = wanted.proxy_user.as_ref().map(|pw| sealer.seal(bootstrap::PROXY_PASSWORD, pw));
            let params = init::Params {
                actor: caller.actor.clone(),
                engine: state.engine,
                agents: state.members.agents(),
                imports_script: wanted.imports_script,
                proxy_password: sealed.transpose()?,
            };
            Ok(init::template(self.own(), &params))
        })
        .await
    }
}

pub(super) fn config_error(error: ConfigError) -> Error {
    let code = match error {
        ConfigError::Port { .. } => Code::InvalidPort,
        ConfigError::Empty | ConfigError::Denied(_) | ConfigError::Twice { .. } | ConfigError::Name(_) => {
            Code::IllegalArgument
        }
    };
    Error::new(code, error.to_string())
}

//! About the cluster to be and the one that is: configuration, init, info.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{App, Caller, Request};
use crate::cluster::{
    Act, AgentState, ClusterConfig, ConfigError, MYSQL_PORT_DEFAULT, RPC_PORT_DEFAULT, effective, may,
    tidy_keys,
};
use crate::config::EngineKind;
use crate::engine::Snapshot;
use crate::error::{Code, Error, Result};
use crate::flow::{init, settings};
use crate::model::{AgentAddr, Identity, Password, Scope};

/// `POST /obcluster/config`.
#[derive(Clone, Debug)]
pub struct ClusterRequest {
    pub id: i64,
    pub name: String,
    pub root_password: Option<Password>,
    pub rs_list: Option<String>,
}

/// `POST /ob/init`.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitRequest {
    pub imports_script: bool,
    pub creates_proxy_user: bool,
}

/// `GET /ob/info`.
#[derive(Clone, Debug)]
pub struct InfoView {
    pub state: Arc<AgentState>,
    /// The one server of this host; none before init.
    pub server: Option<ServerInfo>,
}

#[derive(Clone, Debug)]
pub struct ServerInfo {
    pub addr: AgentAddr,
    pub rpc_port: u16,
    pub sql_port: u16,
    pub is_active: bool,
    pub version: String,
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
            may(Act::Configure, self.own(), self.identity())?;
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
            may(Act::Configure, self.own(), self.identity())?;
            let scope = scope?;
            self.check_scope(&scope)?;
            let params = settings::ObserverParams { scope, config, actor: caller.actor.clone() };
            Ok(settings::observer_template(self.own(), &params))
        })
        .await
    }

    /// Every target must be a member.
    pub(super) fn check_scope(&self, scope: &Scope) -> Result<()> {
        let state = self.parts.ledger.state();
        match scope {
            Scope::Global => Ok(()),
            Scope::Zone(zones) => match zones.iter().find(|zone| state.zone.as_ref() != Some(zone)) {
                None => Ok(()),
                Some(zone) => {
                    let known = state.zone.as_ref().map_or("none".to_owned(), ToString::to_string);
                    Err(Error::new(
                        Code::ZoneNotExist,
                        format!("there is no zone '{zone}'; zones are: {known}"),
                    ))
                }
            },
            Scope::Server(servers) => match servers.iter().find(|server| **server != self.own()) {
                None => Ok(()),
                Some(server) => {
                    let text = format!("{server} is no agent of this cluster; agents are: {}", self.own());
                    Err(Error::new(Code::AgentNotExist, text))
                }
            },
        }
    }

    /// Says before anything is made what init would fail on (W23).
    ///
    /// # Errors
    /// The identity's refusal, `Common.BadRequest` for what is not configured, a held lock, or a failing store.
    pub async fn init(&self, wanted: InitRequest, caller: &Caller, request: Request) -> Result<Snapshot> {
        self.make(caller, request, async || {
            let state = self.parts.ledger.state();
            may(Act::Init, self.own(), state.identity)?;
            if state.cluster.id.is_none() || state.cluster.name.is_none() {
                let text = "the cluster has no name and id yet; set them first (POST /api/v1/obcluster/config)";
                return Err(Error::new(Code::BadRequest, text));
            }
            if state.engine == EngineKind::Seekdb && (wanted.imports_script || wanted.creates_proxy_user) {
                let text = "engine seekdb takes neither import_script nor create_proxyro_user: it brings its time zones and \
                            knows no proxy; leave them out";
                return Err(Error::new(Code::IllegalArgument, text));
            }
            let params = init::Params { actor: caller.actor.clone() };
            Ok(init::template(self.own(), &params))
        })
        .await
    }

    /// True at once, with or without a database.
    pub fn ob_info(&self) -> InfoView {
        let state = self.parts.ledger.state();
        let health = self.parts.health.now();
        let server = (state.identity == Identity::ClusterAgent).then(|| {
            let configured = effective(&state, self.own());
            let rpc_port =
                configured.get("rpc_port").and_then(|p| p.parse().ok()).unwrap_or(RPC_PORT_DEFAULT);
            ServerInfo {
                addr: self.own(),
                rpc_port,
                sql_port: state.server.sql_port.unwrap_or(MYSQL_PORT_DEFAULT),
                is_active: health.is_serving(),
                version: state.server.version.clone().unwrap_or_default(),
            }
        });
        InfoView { state, server }
    }
}

fn config_error(error: ConfigError) -> Error {
    let code = match error {
        ConfigError::Port { .. } => Code::InvalidPort,
        ConfigError::Empty | ConfigError::Denied(_) | ConfigError::Twice { .. } | ConfigError::Name(_) => {
            Code::IllegalArgument
        }
    };
    Error::new(code, error.to_string())
}

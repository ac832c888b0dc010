//! Start and stop: resolve the scope, check in the order clients know, submit.

use std::time::Duration;

use super::context::{App, Caller, Request};
use crate::cluster::{Act, may};
use crate::config::EngineKind;
use crate::engine::{Snapshot, Template};
use crate::error::{Code, Error, Result};
use crate::flow::handshake::Params;
use crate::flow::ports::Operation;
use crate::flow::{local, start, stop};
use crate::model::{AgentAddr, Identity, Scope, StopHow};

/// How long a stop that needs SQL waits for a look at it.
const SQL_LOOK: Duration = Duration::from_secs(5);

/// The two switches of `POST /ob/stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopMode {
    pub is_forced: bool,
    pub terminates: bool,
}

/// A start or stop as it was asked for.
#[derive(Clone, Debug)]
pub struct OperateRequest {
    pub scope: Scope,
    /// Main DAGs that may be pushed aside.
    pub force: Vec<String>,
    /// `None` starts.
    pub stop: Option<StopMode>,
}

impl App {
    /// `POST /ob/start` and `POST /ob/stop`.
    ///
    /// # Errors
    /// In this order: scope, what was never started, identity, the rules of a stop, a lock that is held and not named.
    pub async fn operate(
        &self,
        wanted: OperateRequest,
        caller: &Caller,
        request: Request,
    ) -> Result<Snapshot> {
        self.make(caller, request, async || {
            let template = self.resolve(&wanted, caller).await?;
            self.check_lock(&wanted).await?;
            Ok(template)
        })
        .await
    }

    /// The task that would be made; says why not.
    pub(super) async fn resolve(&self, wanted: &OperateRequest, caller: &Caller) -> Result<Template> {
        if self.is_emergency(wanted, caller) {
            let operation = self.operation(wanted.stop).await?;
            let params = local::Params { operation, actor: caller.actor.clone() };
            return Ok(local::template(self.own(), &params));
        }
        self.check_scope(&wanted.scope)?;
        if wanted.stop.is_none() && !self.parts.ports.process.is_initialised() {
            let text =
                "no database was ever started in this home; initialise it first (obpilot cluster init)";
            return Err(Error::new(Code::NotInitialized, text));
        }
        may(Act::Operate, self.own(), self.identity())?;
        let operation = self.operation(wanted.stop).await?;
        let params = Params {
            operation,
            scope: wanted.scope.clone(),
            agents: self.agents_in(&wanted.scope),
            force: wanted.force.clone(),
            actor: caller.actor.clone(),
        };
        Ok(match operation {
            Operation::Start => start::template(self.own(), &params),
            Operation::Stop { .. } => stop::template(self.own(), &params),
        })
    }

    /// `lifecycle.md` §5.7: through the socket, this server alone, while the agent belongs to no initialised cluster; a
    /// stop only with force.
    fn is_emergency(&self, wanted: &OperateRequest, caller: &Caller) -> bool {
        let is_own = matches!(&wanted.scope, Scope::Server(servers) if servers.as_slice() == [self.own()]);
        let is_stop_allowed = wanted.stop.is_none_or(|mode| mode.is_forced);
        caller.is_local
            && is_own
            && is_stop_allowed
            && may(Act::OperateLocally, self.own(), self.identity()).is_ok()
    }

    fn agents_in(&self, scope: &Scope) -> Vec<AgentAddr> {
        match scope {
            Scope::Global | Scope::Zone(_) => vec![self.own()],
            Scope::Server(servers) => servers.clone(),
        }
    }

    /// What each server in scope has to do; the modes of a stop in the order of `http-api.md` §7.5.
    async fn operation(&self, stop: Option<StopMode>) -> Result<Operation> {
        let Some(StopMode { is_forced, terminates }) = stop else { return Ok(Operation::Start) };
        match (is_forced, terminates) {
            (true, true) => {
                let text = "force and terminate exclude each other; terminate freezes and stops gracefully, force kills";
                Err(Error::new(Code::StopModeConflict, text))
            }
            (true, false) => Ok(Operation::Stop { how: StopHow::Kill }),
            (false, true) => {
                self.require_sql().await?;
                let grace_secs = self.parts.ports.limits.stop_grace.as_secs();
                Ok(Operation::Stop { how: StopHow::Graceful { grace_secs } })
            }
            (false, false) if self.parts.ledger.state().engine == EngineKind::Seekdb => {
                let text = "engine seekdb has no STOP SERVER that would leave the process running; use terminate \
                            (freeze, then a graceful stop) or force (kill)";
                Err(Error::new(Code::StopModeRequired, text))
            }
            (false, false) => Err(Error::new(
                Code::StopModeRequired,
                "force or terminate is required to stop the whole cluster",
            )),
        }
    }

    /// A freeze needs SQL. A server that does not run needs no freeze.
    async fn require_sql(&self) -> Result<()> {
        let health = self.parts.health.fresh(SQL_LOOK).await;
        if health.process.is_none() || health.is_serving() {
            return Ok(());
        }
        let why = health.why().unwrap_or_else(|| "it is not known why".to_owned());
        let text = format!(
            "terminate needs SQL for the freeze, and the database does not answer ({why}); use force"
        );
        Err(Error::new(Code::ForceStopRequired, text))
    }

    /// A lock that is held and not named in `forcePassDag` is told before anything is made. (Whoever takes it between
    /// this look and the PREPARE is told in the task.)
    async fn check_lock(&self, wanted: &OperateRequest) -> Result<()> {
        let Some(holder) = self.parts.archive.holder().await? else { return Ok(()) };
        if self.parts.participant.may_push_aside(&holder, &wanted.force) {
            return Ok(());
        }
        Err(self.parts.participant.held(&holder))
    }

    /// A restart by policy: this server alone, under the lock.
    pub(super) async fn start_by_policy(&self) -> Result<Snapshot> {
        let caller = Caller { actor: "policy on-failure".to_owned(), is_local: true, source: None };
        let params = local::Params { operation: Operation::Start, actor: caller.actor.clone() };
        self.submit(local::template(self.own(), &params), &caller, Request::default()).await
    }

    pub(super) fn is_cluster_agent(&self) -> bool {
        self.identity() == Identity::ClusterAgent
    }
}

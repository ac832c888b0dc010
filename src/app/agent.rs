//! About this agent: info, status, join, its own password.

use serde_json::json;

use super::context::{App, Caller, Request};
use super::health::Health;
use crate::cluster::{Act, AgentState, Change, Members, may};
use crate::config::EngineKind;
use crate::engine::Snapshot;
use crate::engine::port::Holder;
use crate::error::{Code, Error, Result};
use crate::flow::{member, newcomer};
use crate::model::{API_VERSION, AgentAddr, Identity, Member, Password, Timestamp, ZoneName};
use std::sync::Arc;
use std::time::Duration;

/// `GET /info`.
#[derive(Clone, Debug)]
pub struct AgentView {
    pub run_state: u8,
    pub started_at: Timestamp,
    pub home: String,
    /// Of the running engine, else of its executable, else unknown.
    pub ob_version: Option<String>,
    pub state: Arc<AgentState>,
    pub has_agent_password: bool,
    pub engine: EngineKind,
}

/// How long the answer to a join waits for it. What takes longer goes on without whoever asked.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// `GET /status`.
#[derive(Clone, Debug)]
pub struct StatusView {
    pub run_state: u8,
    pub started_at: Timestamp,
    pub state: Arc<AgentState>,
    pub health: Health,
    pub holder: Option<Holder>,
    /// Generic id of the task to look at.
    pub held_by: Option<String>,
    /// Why our server should not be stopped now; empty when no tenant would notice. `None` where that is no question.
    pub stop_risks: Option<Vec<String>>,
}

/// `POST /agent/join`.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Whom to join; ourselves makes us a master.
    pub target: AgentAddr,
    pub zone: ZoneName,
    /// The target's agent password.
    pub master_password: Password,
}

impl App {
    /// Never fails, never waits.
    pub fn info(&self) -> AgentView {
        let parts = &self.parts;
        let state = parts.ledger.state();
        let from_binary = self.learned().binary_version;
        AgentView {
            run_state: parts.run_state.get(),
            started_at: parts.started_at,
            home: parts.home.clone(),
            ob_version: state.server.version.clone().or(from_binary),
            has_agent_password: parts.ledger.secrets().agent.is_some(),
            engine: state.engine,
            state,
        }
    }

    /// The truth of now: the process by its pidfd, SQL by a probe that is no older than a moment, bounded by `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn status(&self, limit: std::time::Duration) -> Result<StatusView> {
        let health = self.parts.health.fresh(limit).await;
        let holder = self.parts.archive.holder().await?;
        let stop_risks = match health.process {
            Some(_) if self.is_cluster_agent() => {
                let view = self.view().await;
                Some(self.stop_risks(view.as_deref(), &[self.own()]))
            }
            _ => None,
        };
        Ok(StatusView {
            stop_risks,
            run_state: self.parts.run_state.get(),
            started_at: self.parts.started_at,
            state: self.parts.ledger.state(),
            held_by: holder.as_ref().map(|holder| self.parts.participant.name_of(holder)),
            holder,
            health,
        })
    }

    /// `POST /agent/join`: become the master of a cluster to be, or follow one.
    ///
    /// # Errors
    /// The identity's refusal, ours or the target's; other versions there; the master's refusal; a held lock, or a failing
    /// store. Nothing is made then.
    pub async fn join(&self, wanted: JoinRequest, caller: &Caller, request: Request) -> Result<Snapshot> {
        let is_own = wanted.target == self.own();
        let made = self.make_join(wanted, caller, request).await?;
        // An SDK asks the master for this task at once, and gives up when that does not know us: so both know each other first.
        if !is_own {
            self.until_at_rest(made.id, JOIN_PATIENCE).await?;
        }
        Ok(made)
    }

    async fn make_join(&self, wanted: JoinRequest, caller: &Caller, request: Request) -> Result<Snapshot> {
        self.make(caller, request, async || {
            may(Act::Join, self.own(), self.parts.ledger.state().identity)?;
            let JoinRequest { target, zone, master_password } = wanted;
            let actor = caller.actor.clone();
            if target == self.own() {
                return Ok(member::join_self(self.own(), &member::JoinSelf { zone, actor }));
            }
            self.check_master(target, &zone, &master_password).await?;
            let password = self.parts.ports.sealer.seal(member::MASTER_PASSWORD, &master_password)?;
            let params = member::JoinMaster { zone, master: target, password, actor };
            Ok(member::join_master(self.own(), &params))
        })
        .await
    }

    /// What a join would fail on, without joining.
    async fn check_master(&self, master: AgentAddr, zone: &ZoneName, password: &Password) -> Result<()> {
        let ports = &self.parts.ports;
        if ports.engine == EngineKind::Seekdb {
            let text = format!(
                "engine seekdb is one server: this agent can only join itself ({}), not {master}",
                self.own()
            );
            return Err(Error::new(Code::BadRequest, text));
        }
        let other = ports.gate.look(master).await.map_err(|error| {
            Error::unexpected(format!("{master} cannot be joined: {error}")).with_source(error)
        })?;
        may(Act::Admit, master, other.identity)?;
        if other.version != API_VERSION {
            let text = format!(
                "{master} has version {}, this agent {API_VERSION}; install the same on both",
                other.version
            );
            return Err(Error::new(Code::VersionInconsistent, text));
        }
        let engine = self.parts.ledger.state().engine.name();
        let own_version = self.info().ob_version.unwrap_or_default();
        // An agent that has just begun does not know its executable yet; init looks at every host again.
        let is_known = !other.ob_version.is_empty() && !own_version.is_empty();
        if other.engine != engine || is_known && other.ob_version != own_version {
            let text = format!(
                "{master} has {} {}, this agent {engine} {own_version}; the databases of one cluster have one version",
                other.engine, other.ob_version
            );
            return Err(Error::new(Code::ObVersionInconsistent, text));
        }
        let own = member::own_member(ports, zone, Identity::Follower);
        ports.gate.join(master, password, &own, true).await.map(|_| ())
    }

    /// An agent wants to follow us (`POST /rpc/v1/agent`). It is known by its key, so a repeated wish is granted again.
    ///
    /// # Errors
    /// The identity's refusal, `Agent.AlreadyExists`, a held lock, or a failing store.
    pub async fn admit(&self, member: Member, is_trial: bool, caller: &Caller) -> Result<Members> {
        may(Act::Admit, self.own(), self.identity())?;
        let state = self.parts.ledger.state();
        match state.members.find(member.agent) {
            Some(known) if known.peer_key == member.peer_key && known.zone == member.zone => {
                return Ok(state.members.clone());
            }
            // It left, or took its join back, while we could not be told.
            Some(known) if known.peer_key == member.peer_key => {}
            Some(_) => {
                let text = format!("{} is a member already, with another key; remove it first", member.agent);
                return Err(Error::new(Code::AgentAlreadyExists, text));
            }
            None => {}
        }
        if member.peer_key.is_empty() || member.agent == self.own() {
            return Err(Error::new(Code::IllegalArgument, format!("{} cannot be a follower", member.agent)));
        }
        self.check_free().await?;
        self.check_none_half().await?;
        if !is_trial {
            let follower = Member { identity: Identity::Follower, ..member };
            self.parts.ledger.change(Change::MemberKnown(follower), &caller.actor).await?;
        }
        Ok(self.parts.ledger.state().members.clone())
    }

    pub(super) async fn check_free(&self) -> Result<()> {
        match self.parts.archive.holder().await? {
            Some(holder) => Err(self.parts.participant.held(&holder).await),
            None => Ok(()),
        }
    }

    /// `POST /agent/remove`; `None` when there is nothing to do. A follower that is asked about another is not asked here:
    /// its master is.
    ///
    /// # Errors
    /// The identity's refusal, a held lock, or a failing store.
    pub async fn remove(
        &self,
        target: AgentAddr,
        caller: &Caller,
        request: Request,
    ) -> Result<Option<Snapshot>> {
        let state = self.parts.ledger.state();
        if state.identity == Identity::Single && target == self.own() {
            return Ok(None);
        }
        let actor = caller.actor.clone();
        if state.identity == Identity::ScalingOut && target == self.own() {
            let template = newcomer::abandon_template(self.own(), &newcomer::Abandon { actor });
            return self.make(caller, request, async || Ok(template)).await.map(Some);
        }
        may(Act::Leave, self.own(), state.identity)?;
        if state.identity == Identity::Master {
            self.check_none_half().await?;
        }
        let is_own = target == self.own();
        let params = |agents| member::Remove { agents, actor: actor.clone() };
        let template = match (state.identity, is_own) {
            (Identity::Follower, true) => member::leave_master(self.own(), &params(vec![target])),
            (Identity::Follower, false) => {
                return Err(Error::new(Code::NoMaster, "only the master removes another agent"));
            }
            (_, true) => {
                self.check_free().await?;
                let mut others = state.members.agents();
                others.retain(|agent| *agent != self.own());
                member::remove_all(self.own(), &params(others))
            }
            (_, false) if state.members.find(target).is_none() => return Ok(None),
            (_, false) => {
                self.check_free().await?;
                member::remove_follower(self.own(), &params(vec![target]), true)
            }
        };
        self.make(caller, request, async || Ok(template)).await.map(Some)
    }

    /// `GET /ob/agents`.
    pub fn agents(&self) -> Vec<AgentAddr> {
        let members = self.parts.ledger.state().members.agents();
        if members.is_empty() { vec![self.own()] } else { members }
    }

    /// `POST /agent/password`: sets or replaces the password of this agent.
    ///
    /// # Errors
    /// `Common.IllegalArgument` for an empty one, or a failing store.
    pub async fn set_agent_password(&self, password: Password, caller: &Caller) -> Result<()> {
        if password.is_empty() {
            return Err(Error::new(
                Code::BindJsonFailed,
                "password is missing or empty; there is no way to remove it",
            ));
        }
        self.parts.ledger.change(Change::AgentPassword(password), &caller.actor).await?;
        let body = json!({ "action": "agent password set" });
        self.parts.archive.record("audit", None, self.stamp(caller), body).await?;
        Ok(())
    }

    pub fn identity(&self) -> Identity {
        self.parts.ledger.state().identity
    }
}

//! About this agent: info, status, join, its own password.

use serde_json::json;

use super::context::{App, Caller, Request};
use super::health::Health;
use crate::cluster::{Act, AgentState, Change, may};
use crate::config::EngineKind;
use crate::engine::Snapshot;
use crate::engine::port::Holder;
use crate::error::{Code, Error, Result};
use crate::flow::join;
use crate::model::{AgentAddr, Identity, Password, Timestamp, ZoneName};
use std::sync::Arc;

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
        Ok(StatusView {
            run_state: self.parts.run_state.get(),
            started_at: self.parts.started_at,
            state: self.parts.ledger.state(),
            held_by: holder.as_ref().map(|holder| self.parts.participant.name_of(holder)),
            holder,
            health,
        })
    }

    /// `POST /agent/join`: become the master of a cluster to be. (Following another agent comes with the cluster.)
    ///
    /// # Errors
    /// The identity's refusal, a held lock, or a failing store.
    pub async fn join(
        &self,
        target: AgentAddr,
        zone: ZoneName,
        caller: &Caller,
        request: Request,
    ) -> Result<Snapshot> {
        self.make(caller, request, async || {
            may(Act::Join, self.own(), self.parts.ledger.state().identity)?;
            if target != self.own() {
                let text = format!(
                    "{target} is another agent; this build runs clusters of one host, so the agent joins itself ({})",
                    self.own()
                );
                return Err(Error::new(Code::BadRequest, text));
            }
            let params = join::Params { zone, actor: caller.actor.clone() };
            Ok(join::template(self.own(), &params))
        })
        .await
    }

    /// `GET /ob/agents`.
    pub fn agents(&self) -> Vec<AgentAddr> {
        vec![self.own()]
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

//! `POST /ob/take_over`: what it would do, what stands in its way, and the task (`flow::take_over`).

use super::context::{App, Caller, Request};
use super::plan::{Plan, PlannedServer};
use super::proposal::Proposal;
use crate::cluster::Act;
use crate::config::EngineKind;
use crate::engine::port::DagFilter;
use crate::engine::{DagState, Snapshot};
use crate::error::{Code, Error, Result};
use crate::flow::take_over::{self, Examined};
use crate::model::{AgentAddr, GenericId, Member, Password, Scope};

/// What a request says.
#[derive(Clone, Debug)]
pub struct TakeOverRequest {
    /// Of root@sys, as it is now.
    pub root_password: Password,
    /// The plan that was shown: the operation does exactly that, or is refused.
    pub plan_hash: Option<String>,
}

impl App {
    /// # Errors
    /// In this order: the identity's refusal; the password's, or that our own server does not answer; what stands in the way
    /// on any host; a held lock; a plan that does not hold any more.
    pub async fn take_over(
        &self,
        wanted: TakeOverRequest,
        caller: &Caller,
        request: Request,
    ) -> Result<Snapshot> {
        self.make(caller, request, async || {
            let proposal = self.propose_take_over(&wanted, caller).await?;
            self.go_ahead(proposal, wanted.plan_hash.as_deref())
        })
        .await
    }

    /// # Errors
    /// Who may not ask, a wrong password, a server of ours that does not answer. What stands in the way is told in the plan.
    pub async fn plan_take_over(&self, wanted: &TakeOverRequest, caller: &Caller) -> Result<Plan> {
        self.propose_take_over(wanted, caller).await.map(|proposal| self.show(proposal))
    }

    async fn propose_take_over(&self, wanted: &TakeOverRequest, caller: &Caller) -> Result<Proposal> {
        self.may_configure(Act::Init)?;
        let (ports, state) = (&self.parts.ports, self.parts.ledger.state());
        let found = take_over::examine(ports, &wanted.root_password).await?;
        let params = take_over::Params {
            actor: caller.actor.clone(),
            engine: state.engine,
            agents: state.members.agents(),
            password: ports.sealer.seal(take_over::ROOT_PASSWORD, &wanted.root_password)?,
        };
        let plan = Plan {
            scope: Scope::Global.to_string(),
            servers: state.members.iter().map(|member| planned(member, &found)).collect(),
            consequences: consequences(state.engine, &found),
            no_return: "none; until the end ROLLBACK takes everything back".to_owned(),
            ..Plan::default()
        };
        let mut obstacles = found.obstacles;
        obstacles.extend(self.own_lock().await?);
        obstacles.extend(self.half_taken_over().await?);
        self.propose(take_over::template(self.own(), &params), plan, obstacles)
    }

    /// One that failed is taken up or taken back: what a second one has done, a rollback of the first would undo.
    pub(super) async fn half_taken_over(&self) -> Result<Option<Error>> {
        let last = self.parts.archive.dags(DagFilter::LastOf(&[take_over::FLOW]), false).await?;
        let half = last.iter().find(|known| known.snapshot.state == DagState::Failed);
        Ok(half.map(|known| {
            let id = GenericId::agent(self.own(), known.snapshot.id.0);
            let text = format!(
                "an earlier take-over has not ended: RETRY goes on with task {id}, ROLLBACK takes it back"
            );
            Error::new(Code::BadRequest, text)
        }))
    }

    /// Its RETRY goes by the members and the password that it found: until it has ended nobody comes, and nothing is set. (A
    /// follower that goes by itself is missed by that RETRY, which says so; ROLLBACK does without it.)
    ///
    /// # Errors
    /// That there is one that failed.
    pub(super) async fn check_none_half(&self) -> Result<()> {
        self.half_taken_over().await?.map_or(Ok(()), Err)
    }
}

fn planned(member: &Member, found: &Examined) -> PlannedServer {
    let agent: AgentAddr = member.agent;
    let (zone, then) = match found.members.find(agent) {
        Some(found) => (&found.zone, format!("goes on as it is; {} starts and stops it from now on", agent)),
        None => (&member.zone, "is not known".to_owned()),
    };
    let now = match (found.seen.get(&agent), found.members.find(agent)) {
        (None, _) => "not reached".to_owned(),
        (Some(_), Some(found)) => format!("runs as server {}, SQL on {}", found.server(), found.sql_port),
        (Some(facts), None) => facts.server.clone(),
    };
    PlannedServer { agent: agent.to_string(), zone: zone.to_string(), now, then, group: 1 }
}

fn consequences(engine: EngineKind, found: &Examined) -> Vec<String> {
    let name = found.cluster.name.clone().unwrap_or_default();
    let id = found.cluster.id.map(|id| format!(" (id {id})")).unwrap_or_default();
    let mut lines = vec![format!("cluster {name}{id} is managed by these agents; no server is stopped")];
    if engine == EngineKind::Observer {
        lines.push("schema ocs is made where it is missing, with a row for each agent".to_owned());
    }
    let gone = found.gone.iter().map(|agent| {
        format!("{agent} does not answer and leaves ocs.all_agent; make sure that it does not run")
    });
    lines.extend(gone);
    lines.extend(found.notes.clone());
    lines
}

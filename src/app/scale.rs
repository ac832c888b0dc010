//! Scale-out, scale-in, the end of a zone: what is checked before anything happens, what it would do, and the task
//! (`lifecycle.md` §6).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use super::context::{App, Caller, Request};
use super::outlook::Outlook;
use super::plan::{Plan, PlannedServer};
use super::proposal::Proposal;
use crate::cluster::{Act, ClusterView, MYSQL_PORT_DEFAULT, Members, RPC_PORT_DEFAULT, may, port, tidy_keys};
use crate::config::EngineKind;
use crate::engine::Snapshot;
use crate::error::{Code, Error, Result};
use crate::flow::peers::Stranger;
use crate::flow::ports::{Silent, SqlAct, SqlAnswer};
use crate::flow::{newcomer, scale_in, scale_out, zones};
use crate::model::{
    API_VERSION, AgentAddr, Identity, Invitation, Member, Password, Scope, ServerAddr, ZoneName,
    compare_dotted,
};

/// `POST /ob/scale_out`.
#[derive(Clone, Debug)]
pub struct ScaleOutRequest {
    pub target: AgentAddr,
    pub zone: ZoneName,
    pub config: BTreeMap<String, String>,
    /// The target's agent password.
    pub password: Password,
    /// The plan that was shown: the operation does exactly that, or is refused.
    pub plan_hash: Option<String>,
}

/// `POST /ob/scale_in`.
#[derive(Clone, Debug)]
pub struct ScaleInRequest {
    pub target: AgentAddr,
    pub is_forced: bool,
    pub plan_hash: Option<String>,
}

/// For the whole cluster to be asked something.
const SQL_LIMIT: Duration = Duration::from_secs(5);

impl App {
    /// # Errors
    /// In this order: identity, settings, the target's identity and versions, what the cluster has already, the target's own
    /// refusal (its password among them), a plan that does not hold any more, a held lock.
    pub async fn scale_out(
        &self,
        wanted: ScaleOutRequest,
        caller: &Caller,
        request: Request,
    ) -> Result<Snapshot> {
        self.make(caller, request, async || {
            let proposal = self.propose_out(&wanted, caller).await?;
            self.go_ahead(proposal, wanted.plan_hash.as_deref())
        })
        .await
    }

    /// # Errors
    /// What is wrong with the request itself; what stands in its way is told in the plan.
    pub async fn plan_scale_out(&self, wanted: &ScaleOutRequest, caller: &Caller) -> Result<Plan> {
        self.propose_out(wanted, caller).await.map(|proposal| self.show(proposal))
    }

    /// `None` when there is nothing to do: the agent is no member.
    ///
    /// # Errors
    /// In this order: our own server, identity, a database that does not answer, a majority that would be lost, a held lock, a
    /// plan that does not hold any more.
    pub async fn scale_in(
        &self,
        wanted: ScaleInRequest,
        caller: &Caller,
        request: Request,
    ) -> Result<Option<Snapshot>> {
        // Who was removed by it is no member any more.
        if let Some(made) = self.made_before(&request).await? {
            return Ok(Some(made));
        }
        let Some(member) = self.leaving(wanted.target)? else { return Ok(None) };
        let made = self.make(caller, request, async || {
            let proposal = self.propose_in(&wanted, &member, caller).await?;
            self.go_ahead(proposal, wanted.plan_hash.as_deref())
        });
        made.await.map(Some)
    }

    /// # Errors
    /// As [`App::plan_scale_out`].
    pub async fn plan_scale_in(&self, wanted: &ScaleInRequest, caller: &Caller) -> Result<Option<Plan>> {
        let Some(member) = self.leaving(wanted.target)? else { return Ok(None) };
        self.propose_in(wanted, &member, caller).await.map(|proposal| Some(self.show(proposal)))
    }

    /// `None` when there is no such zone.
    ///
    /// # Errors
    /// In this order: identity, a database that does not answer, units in the zone, another zone that is stopped, our own zone,
    /// a held lock, a plan that does not hold any more.
    pub async fn delete_zone(
        &self,
        zone: &ZoneName,
        plan_hash: Option<&str>,
        caller: &Caller,
        request: Request,
    ) -> Result<Option<Snapshot>> {
        if let Some(made) = self.made_before(&request).await? {
            return Ok(Some(made));
        }
        let Some(view) = self.view_with(zone).await? else { return Ok(None) };
        let made = self.make(caller, request, async || {
            let proposal = self.propose_zone(zone, &view, caller).await?;
            self.go_ahead(proposal, plan_hash)
        });
        made.await.map(Some)
    }

    /// # Errors
    /// As [`App::plan_scale_out`].
    pub async fn plan_delete_zone(&self, zone: &ZoneName, caller: &Caller) -> Result<Option<Plan>> {
        let Some(view) = self.view_with(zone).await? else { return Ok(None) };
        self.propose_zone(zone, &view, caller).await.map(|proposal| Some(self.show(proposal)))
    }

    async fn propose_out(&self, wanted: &ScaleOutRequest, caller: &Caller) -> Result<Proposal> {
        may(Act::Scale, self.own(), self.identity())?;
        if self.parts.ports.engine == EngineKind::Seekdb {
            let text = "engine seekdb is one server; it has no cluster that another one could be added to";
            return Err(Error::new(Code::BadRequest, text));
        }
        let config = self.settings_of(wanted)?;
        let rpc_port = port(&config, "rpc_port", RPC_PORT_DEFAULT);
        let rpc_port = rpc_port.map_err(|e| Error::new(Code::InvalidPort, e.to_string()))?;
        let server = ServerAddr::new(wanted.target.ip, rpc_port);
        let mut obstacles = Vec::new();
        obstacles.extend(self.known_already(wanted.target));
        let view = self.view_now().await;
        match &view {
            None => obstacles.push(no_database()),
            Some(view) => obstacles.extend(taken(view, server)),
        }
        let is_new_zone = view.as_deref().is_some_and(|view| view.zone(&wanted.zone).is_none());
        let invitation = scale_out::invitation(&self.parts.ports, &wanted.zone, &config)?;
        if obstacles.is_empty() {
            obstacles.extend(self.stranger_refuses(wanted, &invitation).await);
        }
        obstacles.extend(self.own_lock().await?);
        let params = scale_out::Params {
            target: wanted.target,
            zone: wanted.zone.clone(),
            is_new_zone,
            server,
            config,
            password: self.parts.ports.sealer.seal(scale_out::TARGET_PASSWORD, &wanted.password)?,
            actor: caller.actor.clone(),
        };
        let mut consequences =
            vec![format!("server {server} is started for the first time and takes its part of the work")];
        if is_new_zone {
            consequences.push(format!(
                "zone {} is made; tenants come into it when their locality names it",
                params.zone
            ));
        }
        let servers = vec![PlannedServer {
            agent: wanted.target.to_string(),
            zone: wanted.zone.to_string(),
            now: "belongs to nobody".to_owned(),
            then: format!("is started for the first time, and added as {server}"),
            group: 1,
        }];
        let no_return = "none; until the end ROLLBACK takes everything back, and a scale in does later";
        let template = scale_out::template(self.own(), &params);
        let scope = Scope::Server(vec![wanted.target]).to_string();
        let plan = Plan { scope, servers, consequences, no_return: no_return.to_owned(), ..Plan::default() };
        self.propose(template, plan, obstacles)
    }

    /// What is set for the new server. Both ports stand in it.
    fn settings_of(&self, wanted: &ScaleOutRequest) -> Result<BTreeMap<String, String>> {
        let mut config = match wanted.config.is_empty() {
            true => BTreeMap::new(),
            false => tidy_keys(wanted.config.clone()).map_err(super::cluster::config_error)?,
        };
        config.entry("mysql_port".to_owned()).or_insert_with(|| MYSQL_PORT_DEFAULT.to_string());
        config.entry("rpc_port".to_owned()).or_insert_with(|| RPC_PORT_DEFAULT.to_string());
        Ok(config)
    }

    fn known_already(&self, target: AgentAddr) -> Option<Error> {
        let state = self.parts.ledger.state();
        let exists = |text: String| Some(Error::new(Code::AgentAlreadyExists, text));
        if state.members.find(target).is_some() {
            return exists(format!("{target} is a member of this cluster already"));
        }
        let guest = state.guests.find(target).filter(|guest| guest.identity == Identity::ScalingOut)?;
        exists(format!(
            "{} is being added by an earlier task; RETRY that one, or ROLLBACK it first",
            guest.agent
        ))
    }

    /// What the new agent would say to it, in the order of §6.1; its password is tried last, and nothing changes there.
    async fn stranger_refuses(&self, wanted: &ScaleOutRequest, invitation: &Invitation) -> Option<Error> {
        let (ports, target) = (&self.parts.ports, wanted.target);
        let other = match ports.gate.look(target).await {
            Ok(other) => other,
            Err(error) => {
                let text = format!("{target} cannot be added: {error}");
                return Some(Error::new(Code::RpcRequestFailed, text));
            }
        };
        if let Err(error) = may(Act::BeAdded, target, other.identity) {
            return Some(error);
        }
        let state = self.parts.ledger.state();
        let ours = self.info().ob_version.unwrap_or_default();
        if let Some(error) = unfit(target, &other, state.engine.name(), &ours) {
            return Some(error);
        }
        ports.gate.invite(target, &wanted.password, invitation, true).await.err()
    }

    /// `POST /rpc/v1/ob/scale_out`: a cluster wants to add us. It is known by its coordinator's key, so a repeated wish is
    /// granted again.
    ///
    /// # Errors
    /// The identity's refusal, versions, a home that is not empty, a held lock, or a failing store.
    pub async fn be_added(&self, invitation: Invitation, is_trial: bool, caller: &Caller) -> Result<Member> {
        let (ports, state) = (&self.parts.ports, self.parts.ledger.state());
        let own = newcomer::as_member(ports, &invitation)?;
        let coordinator = &invitation.coordinator;
        let is_known =
            state.members.find(coordinator.agent).is_some_and(|known| known.peer_key == coordinator.peer_key);
        if state.identity == Identity::ScalingOut && is_known && state.zone.as_ref() == Some(&invitation.zone)
        {
            return Ok(own);
        }
        may(Act::BeAdded, self.own(), state.identity)?;
        if ports.engine == EngineKind::Seekdb {
            return Err(Error::new(Code::BadRequest, "engine seekdb is one server; it joins no cluster"));
        }
        if coordinator.peer_key.is_empty() || coordinator.agent == self.own() {
            let text = format!("{} cannot be who adds this agent", coordinator.agent);
            return Err(Error::new(Code::IllegalArgument, text));
        }
        if coordinator.version != API_VERSION {
            let text = format!(
                "{} has version {}, this agent {API_VERSION}; install the same on both",
                coordinator.agent, coordinator.version
            );
            return Err(Error::new(Code::VersionInconsistent, text));
        }
        if ports.process.is_initialised() || ports.process.find().await?.is_some() {
            let text = format!(
                "the home of {} holds a database already ({}); a new server needs an empty one",
                self.own(),
                self.parts.home
            );
            return Err(Error::new(Code::DirNotEmpty, text));
        }
        self.check_free().await?;
        if !is_trial {
            let members: Members = [invitation.coordinator.clone(), own.clone()].into_iter().collect();
            let change = newcomer::became(&invitation, members);
            self.parts.ledger.change(change, &caller.actor).await?;
        }
        Ok(own)
    }

    /// The member that leaves; `None` when it is none.
    fn leaving(&self, target: AgentAddr) -> Result<Option<Member>> {
        let state = self.parts.ledger.state();
        let is_own = target == self.own();
        if state.identity == Identity::Single && is_own {
            return Ok(None);
        }
        if is_own {
            let text = format!("{target} does not remove its own server; ask another agent of the cluster");
            return Err(Error::new(Code::ServerDeleteSelf, text));
        }
        may(Act::Scale, self.own(), state.identity)?;
        Ok(state.members.find(target).cloned())
    }

    async fn propose_in(
        &self,
        wanted: &ScaleInRequest,
        member: &Member,
        caller: &Caller,
    ) -> Result<Proposal> {
        let outlook = self.outlook_now().await;
        let server = member.server();
        let mut obstacles = Vec::new();
        let mut fates = Vec::new();
        match outlook.view.as_deref() {
            None => obstacles.push(no_database()),
            Some(view) => {
                fates = view.without(&[server]);
                let losses = scale_in::losses(view, &[server]);
                if wanted.is_forced && !losses.is_empty() {
                    obstacles.push(scale_in::majority_error(&losses));
                }
            }
        }
        obstacles.extend(self.held(&outlook, &[member.agent], &[]).await);
        let params = scale_in::Params {
            members: vec![as_member(member)],
            servers: vec![server],
            zone: None,
            is_forced: wanted.is_forced,
            actor: caller.actor.clone(),
        };
        let then = if wanted.is_forced {
            "is killed, and taken out of the cluster"
        } else {
            "hands everything to others, leaves the cluster, and is stopped"
        };
        let servers = vec![self.planned_leave(&outlook, member, then)];
        let no_return = if wanted.is_forced {
            "'Try to inform to kill observer'; until then CANCEL and ROLLBACK keep the server"
        } else {
            "the end of 'Wait delete observer success'; until then CANCEL keeps the server (CANCEL DELETE SERVER)"
        };
        let consequences = vec![format!("{} is SINGLE afterwards; its directories stay", member.agent)];
        let template = scale_in::template(self.own(), &params);
        let plan = Plan {
            scope: Scope::Server(vec![member.agent]).to_string(),
            servers,
            streams: fates,
            consequences,
            no_return: no_return.to_owned(),
            ..Plan::default()
        };
        self.propose(template, plan, obstacles)
    }

    fn planned_leave(&self, outlook: &Outlook, member: &Member, then: &str) -> PlannedServer {
        let now =
            outlook.seen(member.agent).map_or_else(|| "not reached".to_owned(), super::plan::without_pid);
        PlannedServer {
            agent: member.agent.to_string(),
            zone: member.zone.to_string(),
            now,
            then: then.to_owned(),
            group: 1,
        }
    }

    /// The cluster as it is, if it has this zone.
    async fn view_with(&self, zone: &ZoneName) -> Result<Option<ClusterView>> {
        may(Act::Scale, self.own(), self.identity())?;
        if self.parts.ports.engine == EngineKind::Seekdb {
            return Err(Error::new(Code::BadRequest, "engine seekdb is one server; it has no zones"));
        }
        let view = zones::view(&self.parts.ports, SQL_LIMIT, &Silent).await?;
        Ok(view.zone(zone).is_some().then_some(view))
    }

    async fn propose_zone(&self, zone: &ZoneName, view: &ClusterView, caller: &Caller) -> Result<Proposal> {
        let outlook = self.outlook_now().await;
        let state = self.parts.ledger.state();
        let members: Vec<_> = state.members.iter().filter(|member| member.zone == *zone).collect();
        let agents: Vec<_> = members.iter().map(|member| member.agent).collect();
        let rows: Vec<_> = view.servers.iter().filter(|row| row.zone == *zone).collect();
        let servers: Vec<ServerAddr> = rows.iter().map(|row| row.server).collect();
        let mut obstacles = Vec::new();
        let counted = zones::anywhere(
            &self.parts.ports,
            &SqlAct::CountUnits { zone: zone.clone() },
            SQL_LIMIT,
            &Silent,
        )
        .await?;
        if let SqlAnswer::Count(units @ 1..) = counted {
            let text = format!(
                "zone {zone} holds {units} units of tenants; take it out of their locality and their pools first"
            );
            obstacles.push(Error::new(Code::ZoneNotEmpty, text));
        }
        let elsewhere = view.stopped_elsewhere(std::slice::from_ref(zone));
        if !elsewhere.is_empty() {
            let text =
                format!("something is stopped in another zone: {}; start that first", elsewhere.join(", "));
            obstacles.push(Error::new(Code::StoppedInMultiZone, text));
        }
        if state.zone.as_ref() == Some(zone) {
            let text = format!("{} is in zone {zone} itself; ask an agent of another zone", self.own());
            obstacles.push(Error::new(Code::ZoneDeleteSelf, text));
        }
        obstacles.extend(self.held(&outlook, &agents, &[]).await);
        let planned = members.iter().map(|member| {
            self.planned_leave(&outlook, member, "leaves the cluster with its zone, and is stopped")
        });
        let planned = planned.collect();
        let params = scale_in::Params {
            members: members.iter().map(|member| as_member(member)).collect(),
            servers: servers.clone(),
            zone: Some(zone.clone()),
            is_forced: false,
            actor: caller.actor.clone(),
        };
        let consequences = members
            .iter()
            .map(|member| format!("{} is SINGLE afterwards; its directories stay", member.agent));
        let consequences = consequences.collect();
        let no_return = format!(
            "'Delete zone {zone}'; a server that the cluster has forgotten before does not come back either"
        );
        let template = scale_in::template(self.own(), &params);
        let plan = Plan {
            scope: Scope::Zone(vec![zone.clone()]).to_string(),
            servers: planned,
            streams: view.without(&servers),
            consequences,
            no_return,
            ..Plan::default()
        };
        self.propose(template, plan, obstacles)
    }
}

/// Why an agent of these versions cannot be added; `ob_version` is the cluster's.
fn unfit(target: AgentAddr, other: &Stranger, engine: &str, ob_version: &str) -> Option<Error> {
    let versions = format!("{target} has version {}, this agent {API_VERSION}", other.version);
    match compare_dotted(&other.version, API_VERSION) {
        Ordering::Greater => {
            let text = format!("{versions}; upgrade this cluster first");
            return Some(Error::new(Code::ScaleOutHigherVersion, text));
        }
        Ordering::Less => {
            let text = format!("{versions}; install the same on both");
            return Some(Error::new(Code::ScaleOutLowerVersion, text));
        }
        Ordering::Equal if other.version != API_VERSION => {
            let text = format!("{versions}; install the same release on both");
            return Some(Error::new(Code::VersionInconsistent, text));
        }
        Ordering::Equal => {}
    }
    // An agent that has just begun does not know its executable yet; the task looks again before it makes anything.
    let is_known = !other.ob_version.is_empty() && !ob_version.is_empty();
    if other.engine != engine || is_known && other.ob_version != ob_version {
        let text = format!(
            "{target} has {} {}, the cluster {engine} {ob_version}; servers of one cluster have one version",
            other.engine, other.ob_version
        );
        return Some(Error::new(Code::ObVersionInconsistent, text));
    }
    None
}

/// As it is when it stays.
fn as_member(member: &Member) -> Member {
    Member { identity: Identity::ClusterAgent, ..member.clone() }
}

fn taken(view: &ClusterView, server: ServerAddr) -> Option<Error> {
    let row = view.server(server)?;
    let text =
        format!("the cluster has server {server} already, in zone {}; choose another rpc_port", row.zone);
    Some(Error::new(Code::AgentAlreadyExists, text))
}

fn no_database() -> Error {
    Error::new(
        Code::DatabaseUseless,
        "no server of the cluster answers, and this needs SQL; start the cluster first",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_version_is_not_added() {
        let target = AgentAddr::new([10, 0, 0, 4].into(), 2886);
        let code = |version: &str, engine: &str, ob_version: &str| {
            let other = Stranger {
                identity: Identity::Single,
                version: version.to_owned(),
                ob_version: ob_version.to_owned(),
                engine: engine.to_owned(),
            };
            unfit(target, &other, "observer", "4.3.5.1").map(|error| error.code)
        };
        assert_eq!(code(API_VERSION, "observer", "4.3.5.1"), None);
        assert_eq!(code(API_VERSION, "observer", ""), None, "the task looks again");
        assert_eq!(code("4.10.0.0-1", "observer", "4.3.5.1"), Some(Code::ScaleOutHigherVersion));
        assert_eq!(code("4.2.4.1-1", "observer", "4.3.5.1"), Some(Code::ScaleOutLowerVersion));
        assert_eq!(code("", "observer", "4.3.5.1"), Some(Code::ScaleOutLowerVersion));
        assert_eq!(code("4.5.0.0-1", "observer", "4.3.5.1"), Some(Code::VersionInconsistent));
        assert_eq!(code(API_VERSION, "observer", "4.3.5.2"), Some(Code::ObVersionInconsistent));
        assert_eq!(code(API_VERSION, "seekdb", "4.3.5.1"), Some(Code::ObVersionInconsistent));
    }
}

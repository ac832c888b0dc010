//! Start and stop: resolve the scope, look at the cluster, check in the order clients know, submit.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::context::{App, Caller, Request};
use super::outlook::Outlook;
use super::plan::Plan;
use crate::cluster::{Act, Fate, may};
use crate::config::EngineKind;
use crate::engine::{Snapshot, Template};
use crate::error::{Code, Error, Result};
use crate::flow::handshake::Params;
use crate::flow::peers::Operation;
use crate::flow::{local, start, stop, zones};
use crate::model::{AgentAddr, Identity, Scope, StopHow, ZoneName, on_wire};

/// How long a stop that needs SQL waits for a look at it.
const SQL_LOOK: Duration = Duration::from_secs(5);

/// The two switches of `POST /ob/stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopMode {
    pub is_forced: bool,
    pub terminates: bool,
}

/// `POST /ob/zone/{zone}/stop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneStop {
    pub freezes: bool,
}

/// What is wanted of the servers in scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Start,
    Stop(StopMode),
    StopZone(ZoneStop),
}

/// A start or stop as it was asked for.
#[derive(Clone, Debug)]
pub struct OperateRequest {
    pub scope: Scope,
    /// Main DAGs that may be pushed aside.
    pub force: Vec<String>,
    pub wish: Wish,
    /// The plan that was shown: the operation does exactly that, or is refused.
    pub plan_hash: Option<String>,
}

/// What an operation would be, and what it was decided from.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) template: Template,
    pub(super) agents: Vec<AgentAddr>,
    pub(super) outlook: Outlook,
    /// Of the log streams, when something stops and the database could be asked.
    pub(super) fates: Vec<Fate>,
    /// What stands in its way; nothing is made while there is one.
    pub(super) obstacles: Vec<Error>,
    pub(super) is_emergency: bool,
}

/// What was made, and what a caller should know of it.
#[derive(Clone, Debug)]
pub struct Operated {
    pub snapshot: Snapshot,
    /// Such as ids in `forcePassDag` that hold nothing.
    pub notes: Vec<String>,
}

impl App {
    /// `POST /ob/start`, `POST /ob/stop`, and the stop of a zone.
    ///
    /// # Errors
    /// In this order: scope, what was never started, identity, the rules of a stop, a lock that is held and not named, a plan
    /// that does not hold any more.
    pub async fn operate(
        &self,
        wanted: OperateRequest,
        caller: &Caller,
        request: Request,
    ) -> Result<Operated> {
        let mut notes = Vec::new();
        let snapshot = self
            .make(caller, request, async || {
                let resolved = self.resolve(&wanted, caller).await?;
                if let Some(hash) = &wanted.plan_hash {
                    self.check_plan(hash, &self.plan_of(&wanted, &resolved)?)?;
                }
                notes = unneeded(&wanted.force, &resolved.outlook);
                match resolved.obstacles.into_iter().next() {
                    Some(obstacle) => Err(obstacle),
                    None => Ok(resolved.template),
                }
            })
            .await?;
        Ok(Operated { snapshot, notes })
    }

    /// Whether it could be done now: the first obstacle, if not.
    ///
    /// # Errors
    /// As [`App::operate`].
    pub async fn check(&self, wanted: &OperateRequest, caller: &Caller) -> Result<()> {
        let obstacles = self.resolve(wanted, caller).await?.obstacles;
        obstacles.into_iter().next().map_or(Ok(()), Err)
    }

    /// The task that would be made. What is wrong with the request itself is an error; what stands in its way is told.
    pub(super) async fn resolve(&self, wanted: &OperateRequest, caller: &Caller) -> Result<Resolved> {
        if self.is_local_emergency(wanted, caller) {
            return self.resolve_locally(wanted, caller).await;
        }
        let state = self.parts.ledger.state();
        let agents = match state.members.in_scope(&wanted.scope) {
            // Before it belongs to anybody, an agent knows only itself.
            Err(_) if state.identity != Identity::ClusterAgent && wanted.scope == Scope::Global => Vec::new(),
            other => other?,
        };
        if wanted.wish == Wish::Start && !self.parts.ports.process.is_initialised() {
            let text =
                "no database was ever started in this home; initialise it first (obpilot cluster init)";
            return Err(Error::new(Code::NotInitialized, text));
        }
        may(Act::Operate, self.own(), self.identity())?;
        let operation = self.operation(wanted)?;
        let outlook = self.outlook_now().await;
        let mut obstacles = Vec::new();
        let mut remarks = Vec::new();
        let mut fates = Vec::new();
        if wanted.wish != Wish::Start {
            fates = self.fates(&outlook, &agents);
            self.check_stop(wanted, &agents, &outlook, &fates, &mut obstacles, &mut remarks).await;
        }
        obstacles.extend(self.held(&outlook, &agents, &wanted.force).await);
        let is_emergency = wanted.wish == Wish::Start
            && self.parts.ports.engine == EngineKind::Observer
            && outlook.is_all_down();
        let params = Params {
            operation,
            scope: wanted.scope.clone(),
            agents: agents.clone(),
            force: wanted.force.clone(),
            actor: caller.actor.clone(),
            is_emergency,
            is_zone_stop: matches!(wanted.wish, Wish::StopZone(_)),
            remarks,
        };
        let template = match wanted.wish {
            Wish::Start => start::template(self.own(), &params),
            Wish::Stop(_) => stop::template(self.own(), &params),
            Wish::StopZone(ZoneStop { freezes }) => stop::zone_template(self.own(), &params, freezes),
        };
        Ok(Resolved { template, agents, outlook, fates, obstacles, is_emergency })
    }

    async fn resolve_locally(&self, wanted: &OperateRequest, caller: &Caller) -> Result<Resolved> {
        let operation = self.operation(wanted)?;
        let params = local::Params { operation, actor: caller.actor.clone() };
        let mut obstacles = Vec::new();
        if let Some(holder) = self.parts.archive.holder().await?
            && !self.parts.participant.may_push_aside(&holder, &wanted.force)
        {
            obstacles.push(self.parts.participant.held(&holder).await);
        }
        Ok(Resolved {
            template: local::template(self.own(), &params),
            agents: vec![self.own()],
            outlook: Outlook { agents: Vec::new(), view: None },
            fates: Vec::new(),
            obstacles,
            is_emergency: true,
        })
    }

    /// `lifecycle.md` §5.7: through the socket, this server alone, while the agent belongs to no initialised cluster; a
    /// stop only with force.
    fn is_local_emergency(&self, wanted: &OperateRequest, caller: &Caller) -> bool {
        let is_own = matches!(&wanted.scope, Scope::Server(servers) if servers.as_slice() == [self.own()]);
        let is_allowed = match wanted.wish {
            Wish::Start => true,
            Wish::Stop(mode) => mode.is_forced,
            Wish::StopZone(_) => false,
        };
        caller.is_local
            && is_own
            && is_allowed
            && may(Act::OperateLocally, self.own(), self.identity()).is_ok()
    }

    /// What each server in scope has to do; the modes of a stop in the order of `http-api.md` §7.5.
    fn operation(&self, wanted: &OperateRequest) -> Result<Operation> {
        let graceful = || {
            let grace_secs = self.parts.ports.limits.stop_grace.as_secs();
            Operation::Stop { how: StopHow::Graceful { grace_secs } }
        };
        let mode = match wanted.wish {
            Wish::Start => return Ok(Operation::Start),
            Wish::StopZone(_) => return Ok(graceful()),
            Wish::Stop(mode) => mode,
        };
        match (mode.is_forced, mode.terminates) {
            (false, false) if self.parts.ports.engine == EngineKind::Seekdb => {
                let text = "engine seekdb has no STOP SERVER that would leave the process running; use terminate \
                            (freeze, then a graceful stop) or force (kill)";
                Err(Error::new(Code::StopModeRequired, text))
            }
            (false, false) if wanted.scope == Scope::Global => Err(Error::new(
                Code::StopModeRequired,
                "force or terminate is required to stop the whole cluster",
            )),
            (true, true) => {
                let text = "force and terminate exclude each other; terminate freezes and stops gracefully, force kills";
                Err(Error::new(Code::StopModeConflict, text))
            }
            (true, false) => Ok(Operation::Stop { how: StopHow::Kill }),
            (false, true) => Ok(graceful()),
            (false, false) => Ok(Operation::Stand),
        }
    }

    /// What becomes of every log stream; empty where the database cannot be asked.
    fn fates(&self, outlook: &Outlook, agents: &[AgentAddr]) -> Vec<Fate> {
        let stopping = zones::servers_of(&self.parts.ports, agents);
        outlook.view.as_ref().map_or_else(Vec::new, |view| view.without(&stopping))
    }

    async fn check_stop(
        &self,
        wanted: &OperateRequest,
        agents: &[AgentAddr],
        outlook: &Outlook,
        fates: &[Fate],
        obstacles: &mut Vec<Error>,
        remarks: &mut Vec<String>,
    ) {
        let is_forced = matches!(wanted.wish, Wish::Stop(StopMode { is_forced: true, .. }));
        if !is_forced {
            obstacles.extend(self.sql_needed(agents, outlook).await.err());
            obstacles.extend(self.zones_stopped(wanted, agents, outlook).err());
        }
        // Who stops everything knows that nothing is left.
        if self.parts.ports.engine == EngineKind::Seekdb || wanted.scope == Scope::Global {
            return;
        }
        let losses: Vec<Fate> = fates.iter().filter(|fate| !fate.keeps_majority()).cloned().collect();
        match (losses.is_empty(), is_forced) {
            (true, _) if outlook.view.is_some() => {}
            (true, true) => remarks
                .push("forced without knowing what becomes of the log streams: no server answers".to_owned()),
            // That nobody answers is an obstacle of its own.
            (true, false) => {}
            (false, true) => {
                remarks.extend(losses.iter().map(|fate| format!("forced although {}", fate.in_words())))
            }
            (false, false) => obstacles.push(zones::majority_error(&losses)),
        }
    }

    /// Everything but force needs SQL: any server of the cluster will do (C33). A server that does not run needs no freeze.
    async fn sql_needed(&self, agents: &[AgentAddr], outlook: &Outlook) -> Result<()> {
        let why = match self.parts.ports.engine {
            EngineKind::Seekdb => {
                let health = self.parts.health.fresh(SQL_LOOK).await;
                if health.process.is_none() || health.is_serving() {
                    return Ok(());
                }
                health.why().unwrap_or_else(|| "it is not known why".to_owned())
            }
            EngineKind::Observer => {
                let is_down = |agent: &AgentAddr| {
                    outlook
                        .seen(*agent)
                        .and_then(|seen| seen.facts())
                        .is_some_and(|facts| facts.process.is_none())
                };
                if outlook.view.is_some() || agents.iter().all(is_down) && outlook.is_all_down() {
                    return Ok(());
                }
                let said =
                    outlook.agents.iter().map(|seen| format!("{} {}", seen.member.agent, seen.in_words()));
                said.collect::<Vec<_>>().join(", ")
            }
        };
        let text = format!("this needs SQL, and no database server answers ({why}); use force");
        Err(Error::new(Code::ForceStopRequired, text))
    }

    /// The database takes servers of one zone out of service at a time.
    fn zones_stopped(&self, wanted: &OperateRequest, agents: &[AgentAddr], outlook: &Outlook) -> Result<()> {
        if wanted.scope == Scope::Global || self.parts.ports.engine == EngineKind::Seekdb {
            return Ok(());
        }
        let members = &self.parts.ledger.state().members;
        let zones: BTreeSet<ZoneName> =
            agents.iter().filter_map(|agent| members.zone_of(*agent).cloned()).collect();
        let zones: Vec<_> = zones.into_iter().collect();
        let refuse = |text: String| Err(Error::new(Code::StoppedInMultiZone, text));
        if zones.len() > 1 {
            let names: Vec<_> = zones.iter().map(ToString::to_string).collect();
            return refuse(format!(
                "servers of several zones ({}) cannot be stopped together; stop one zone at a time, or use force",
                names.join(", ")
            ));
        }
        let stopped = outlook.view.as_ref().map_or_else(Vec::new, |view| view.stopped_elsewhere(&zones));
        if stopped.is_empty() {
            return Ok(());
        }
        refuse(format!(
            "something is stopped in another zone already: {}; start that first, or use force",
            stopped.join(", ")
        ))
    }

    /// Locks that are held and not named in `forcePassDag` are told before anything is made, with every id that would unlock
    /// them. (Whoever takes one between this look and the PREPARE is told in the task.)
    pub(super) async fn held(
        &self,
        outlook: &Outlook,
        agents: &[AgentAddr],
        force: &[String],
    ) -> Option<Error> {
        let is_named = |id: &str| force.iter().any(|named| named == id);
        let held: Vec<_> = outlook
            .agents
            .iter()
            .filter(|seen| agents.contains(&seen.member.agent))
            .filter_map(|seen| Some((seen.member.agent, seen.held_by()?)))
            .filter(|(_, holder)| !is_named(&holder.id) && !is_named(&holder.sub_dag))
            .collect();
        let (_, first) = held.first()?;
        let mut ids: Vec<_> = held.iter().map(|(_, holder)| holder.id.clone()).collect();
        ids.dedup();
        let each: Vec<_> = held
            .iter()
            .map(|(agent, h)| {
                format!("{agent} is busy with task [{}:{}] since {}", h.id, h.name, on_wire(h.since))
            })
            .collect();
        let text = format!(
            "{}; wait for it to end, or name {} in forcePassDag to cancel and pass it",
            each.join("; "),
            ids.join(", ")
        );
        let holders: Vec<_> =
            held.iter().map(|(agent, holder)| json!({ "agent": agent, "holder": holder })).collect();
        let data =
            json!({ "genecric_id": "", "expected_stage": 0, "id": ids, "holder": first, "holders": holders });
        Some(Error::new(Code::UnderMaintenanceDag, text).with_data(data))
    }

    fn plan_of(&self, wanted: &OperateRequest, resolved: &Resolved) -> Result<Plan> {
        self.render_plan(wanted, resolved, Vec::new())
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

/// Ids that were named and hold nothing.
pub(super) fn unneeded(force: &[String], outlook: &Outlook) -> Vec<String> {
    let holders: Vec<_> = outlook.agents.iter().filter_map(|seen| seen.held_by()).collect();
    let holds = |id: &String| holders.iter().any(|holder| holder.id == *id || holder.sub_dag == *id);
    force
        .iter()
        .filter(|id| !holds(id))
        .map(|id| format!("task {id} in forcePassDag holds nothing"))
        .collect()
}

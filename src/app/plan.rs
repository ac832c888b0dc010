//! `?plan=true`: what an operation would do, and what stands in its way. Changes nothing.
//!
//! A plan carries the hash of what it was made from. An operation that is given that hash does exactly this, or is refused
//! with what has changed since.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use super::context::{App, Caller};
use super::ob::{OperateRequest, Resolved, StopMode, Wish};
use super::outlook::Seen;
use crate::cluster::Fate;
use crate::config::EngineKind;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Finding, Scope};
use crate::secure::sha256_hex;

/// For a host to look at itself; it runs the executable once.
const PREFLIGHT_LIMIT: Duration = Duration::from_secs(5);

/// Plans that are remembered, to tell what has changed since.
const PLANS_KEPT: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub name: String,
    pub scope: String,
    pub servers: Vec<PlannedServer>,
    pub stages: Vec<String>,
    /// What becomes of log streams, where something stops.
    pub streams: Vec<Fate>,
    pub consequences: Vec<String>,
    pub obstacles: Vec<String>,
    /// From where on it cannot be taken back.
    pub no_return: String,
    /// Name of all of the above.
    #[serde(skip)]
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedServer {
    pub agent: String,
    pub zone: String,
    pub now: String,
    pub then: String,
    /// Servers of one group are done at the same time; groups one after another.
    pub group: usize,
}

/// The plans that were shown lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Arc<Mutex<VecDeque<Plan>>>);

impl Shown {
    fn plans(&self) -> std::sync::MutexGuard<'_, VecDeque<Plan>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    fn keep(&self, plan: &Plan) {
        let mut plans = self.plans();
        plans.retain(|known| known.hash != plan.hash);
        plans.push_back(plan.clone());
        while plans.len() > PLANS_KEPT {
            plans.pop_front();
        }
    }

    fn find(&self, hash: &str) -> Option<Plan> {
        self.plans().iter().find(|plan| plan.hash == hash).cloned()
    }
}

impl Plan {
    /// With its name, which is a digest of all of it.
    ///
    /// # Errors
    /// Never for what is made of texts.
    pub(super) fn named(self) -> Result<Self> {
        let text = serde_json::to_string(&self)
            .map_err(|e| Error::unexpected("a plan cannot be written").with_source(e))?;
        Ok(Self { hash: sha256_hex(&text), ..self })
    }
}

impl App {
    pub(super) fn remember(&self, plan: &Plan) {
        self.parts.memory.shown.keep(plan);
    }

    /// # Errors
    /// What is wrong with the request itself; what stands in its way is part of the plan.
    pub async fn plan(&self, wanted: &OperateRequest, caller: &Caller) -> Result<Plan> {
        let resolved = self.resolve(wanted, caller).await?;
        let findings = self.preflight(&resolved).await;
        let plan = self.render_plan(wanted, &resolved, findings)?;
        self.parts.memory.shown.keep(&plan);
        Ok(plan)
    }

    /// What each host that is reached would fail on, or be slow for, at its next start. Of the others the plan says enough.
    async fn preflight(&self, resolved: &Resolved) -> Vec<(AgentAddr, Finding)> {
        let asked = resolved.agents.iter().map(|agent| async move {
            let found = self.parts.ports.peers.preflight(*agent, None, PREFLIGHT_LIMIT).await;
            let found = found.unwrap_or_else(|error| {
                tracing::debug!(%agent, %error, "what it would find is not known");
                Vec::new()
            });
            found.into_iter().map(|finding| (*agent, finding)).collect::<Vec<_>>()
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The plan from what is known now; `findings` are of the hosts in scope.
    pub(super) fn render_plan(
        &self,
        wanted: &OperateRequest,
        resolved: &Resolved,
        findings: Vec<(AgentAddr, Finding)>,
    ) -> Result<Plan> {
        let definition = self.parts.engine.define(resolved.template.clone())?;
        let servers: Vec<_> =
            resolved.agents.iter().map(|agent| self.planned(wanted, resolved, *agent)).collect();
        let mut obstacles: Vec<_> = resolved.obstacles.iter().map(|error| error.text().to_owned()).collect();
        let mut consequences = self.consequences(wanted, resolved);
        let is_up = |agent: AgentAddr| {
            let facts = resolved.outlook.seen(agent).and_then(Seen::facts);
            facts.is_some_and(|facts| facts.process.is_some())
        };
        let mut plan = Plan {
            name: definition.name.clone(),
            scope: wanted.scope.to_string(),
            servers,
            stages: definition.nodes.iter().map(|node| node.name.clone()).collect(),
            streams: resolved.fates.clone(),
            consequences: Vec::new(),
            obstacles: Vec::new(),
            no_return: no_return(wanted).to_owned(),
            hash: String::new(),
        };
        let named = serde_json::to_string(&(&plan, &consequences, &obstacles));
        plan.hash =
            sha256_hex(&named.map_err(|e| Error::unexpected("a plan cannot be written").with_source(e))?);
        // What the hosts alone would find is shown, and is not part of the promise.
        for (agent, finding) in findings {
            match (wanted.wish == Wish::Start, finding.is_fatal) {
                (true, true) if !is_up(agent) => obstacles.push(format!("{agent}: {finding}")),
                (true, _) => consequences.push(format!("note: {agent}: {finding}")),
                (false, true) => consequences.push(format!("{agent} would not start again: {finding}")),
                (false, false) => {}
            }
        }
        Ok(Plan { consequences, obstacles, ..plan })
    }

    fn planned(&self, wanted: &OperateRequest, resolved: &Resolved, agent: AgentAddr) -> PlannedServer {
        let seen = resolved.outlook.seen(agent);
        let state = self.parts.ledger.state();
        PlannedServer {
            agent: agent.to_string(),
            zone: state.members.zone_of(agent).map(ToString::to_string).unwrap_or_default(),
            now: seen.map_or_else(|| self.parts.health.now().in_words(), without_pid),
            then: then(wanted, seen, resolved.is_emergency),
            group: 1,
        }
    }

    fn consequences(&self, wanted: &OperateRequest, resolved: &Resolved) -> Vec<String> {
        let mut told = Vec::new();
        if wanted.wish == Wish::Start {
            if resolved.is_emergency {
                told.push("the whole cluster is down: everything that is reached is started at once, without the database".to_owned());
            }
            return told;
        }
        if self.parts.ports.engine == EngineKind::Seekdb {
            told.push(
                "it is the only server: the database is not available until it is started again".to_owned(),
            );
            return told;
        }
        if wanted.scope == Scope::Global {
            told.push("every tenant is unavailable until the cluster is started again".to_owned());
            return told;
        }
        for fate in &resolved.fates {
            if !fate.keeps_majority() {
                told.push(format!("loses its majority: {}", fate.in_words()));
            } else if fate.leader_moves {
                told.push(format!(
                    "its leader moves away: tenant {} ({}) log stream {}",
                    fate.tenant_name, fate.tenant, fate.stream
                ));
            }
        }
        told
    }

    /// The plan that was shown still holds, or what has changed.
    pub(super) fn check_plan(&self, hash: &str, now: &Plan) -> Result<()> {
        if now.hash == hash {
            return Ok(());
        }
        let changed = match self.parts.memory.shown.find(hash) {
            Some(shown) => differences(&shown, now).join("; "),
            None => "that plan is not one of this agent's latest".to_owned(),
        };
        let text =
            format!("the plan does not hold any more, and nothing was done: {changed}. Ask for a new plan");
        Err(Error::new(Code::PlanChanged, text).with_data(serde_json::json!({ "planHash": now.hash })))
    }
}

/// A pid says nothing about what would be done.
pub(super) fn without_pid(seen: &Seen) -> String {
    let words = seen.in_words();
    match words.split_once(", process ") {
        Some((state, rest)) => {
            let why = rest.find(" (").and_then(|at| rest.get(at..)).unwrap_or_default();
            format!("{state}{why}")
        }
        None => words,
    }
}

fn then(wanted: &OperateRequest, seen: Option<&Seen>, is_emergency: bool) -> String {
    let is_running = match seen.map(|seen| &seen.facts) {
        Some(Ok(facts)) => facts.process.is_some(),
        Some(Err(_)) if is_emergency => return "is left out, and named".to_owned(),
        Some(Err(_)) => return "must be reached, or nothing is done".to_owned(),
        None => true,
    };
    match (wanted.wish, is_running) {
        (Wish::Start, true) => "runs already, is left as it is",
        (Wish::Start, false) => "is started",
        (Wish::Stop(StopMode { is_forced: false, terminates: false }), _) => {
            "leaves service by SQL; its process stays as it is"
        }
        (_, false) => "is stopped already",
        (Wish::Stop(mode), true) if mode.is_forced => "is killed at once",
        (Wish::Stop(_), true) => "is frozen, then stopped gracefully",
        (Wish::StopZone(zone), true) if zone.freezes => "leaves service, is frozen, then stopped gracefully",
        (Wish::StopZone(_), true) => "leaves service, then is stopped gracefully",
    }
    .to_owned()
}

fn no_return(wanted: &OperateRequest) -> &'static str {
    match wanted.wish {
        Wish::Start => "none; until the end it can be cancelled, and what was started goes on running",
        Wish::Stop(StopMode { is_forced: false, terminates: false }) => {
            "'Execute stop sql': from there on the servers are out of service until they are started"
        }
        Wish::Stop(StopMode { is_forced: false, .. }) if wanted.scope == Scope::Global => {
            "'Advance agents to execute the task': from there on processes end; before it a cancel leaves everything as it is"
        }
        Wish::Stop(StopMode { is_forced: true, .. }) => {
            "'Advance agents to execute the task': from there on processes are killed; before it a cancel leaves everything as it is"
        }
        Wish::Stop(_) => {
            "'Minor freeze before stop server': from there on the servers are out of service until they are started"
        }
        Wish::StopZone(_) => {
            "'Execute stop sql': from there on the zone is out of service until it is started"
        }
    }
}

/// What is in one and not in the other, line by line.
fn differences(shown: &Plan, now: &Plan) -> Vec<String> {
    let lines = |plan: &Plan| {
        let servers = plan.servers.iter().map(|s| format!("{} ({}): {}, {}", s.agent, s.zone, s.now, s.then));
        let streams = plan.streams.iter().map(Fate::in_words);
        let rest = plan.obstacles.iter().cloned().chain([format!("{} {}", plan.name, plan.scope)]);
        servers.chain(streams).chain(rest).collect::<Vec<_>>()
    };
    let (before, after) = (lines(shown), lines(now));
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("was: {line}"));
    let new = after.iter().filter(|line| !before.contains(line)).map(|line| format!("is: {line}"));
    gone.chain(new).collect()
}

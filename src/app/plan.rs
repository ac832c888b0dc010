//! `?plan=true`: what an operation would do, and what stands in its way. Changes nothing.

use super::context::{App, Caller};
use super::ob::OperateRequest;
use crate::engine::Definition;
use crate::error::Result;
use crate::flow::server::next_start;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub name: String,
    pub scope: String,
    pub servers: Vec<PlannedServer>,
    pub stages: Vec<String>,
    pub consequences: Vec<String>,
    pub obstacles: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedServer {
    pub agent: String,
    pub zone: String,
    pub now: String,
    pub then: String,
}

impl App {
    /// # Errors
    /// What is wrong with the request itself; what stands in its way is part of the plan.
    pub async fn plan(&self, wanted: &OperateRequest, caller: &Caller) -> Result<Plan> {
        let definition = self.parts.engine.define(self.resolve(wanted, caller).await?)?;
        let health = self.parts.health.fresh(std::time::Duration::from_secs(2)).await;
        let is_start = wanted.stop.is_none();
        let mut obstacles = Vec::new();
        if let Some(holder) = self.parts.archive.holder().await?
            && !self.parts.participant.may_push_aside(&holder, &wanted.force)
        {
            obstacles.push(self.parts.participant.held(&holder).text().to_owned());
        }
        let findings = self.parts.ports.process.preflight(&next_start(&self.parts.ports)).await;
        let mut consequences = Vec::new();
        for finding in findings {
            match (is_start, finding.is_fatal) {
                (true, true) if health.process.is_none() => obstacles.push(finding.to_string()),
                (true, _) => consequences.push(format!("note: {finding}")),
                (false, true) => consequences.push(format!("it would not start again: {finding}")),
                (false, false) => {}
            }
        }
        if !is_start && health.process.is_some() {
            consequences.push(
                "it is the only server: the database is not available until it is started again".to_owned(),
            );
        }
        let state = self.parts.ledger.state();
        let server = PlannedServer {
            agent: self.own().to_string(),
            zone: state.zone.as_ref().map(ToString::to_string).unwrap_or_default(),
            now: health.in_words(),
            then: then(wanted, health.process.is_some()).to_owned(),
        };
        Ok(Plan {
            name: definition.name.clone(),
            scope: wanted.scope.to_string(),
            servers: vec![server],
            stages: stages(&definition),
            consequences,
            obstacles,
        })
    }
}

fn then(wanted: &OperateRequest, is_running: bool) -> &'static str {
    match (wanted.stop, is_running) {
        (None, true) => "runs already, is left as it is",
        (None, false) => "is started",
        (Some(_), false) => "is stopped already",
        (Some(mode), true) if mode.is_forced => "is killed at once",
        (Some(_), true) => "is frozen, then stopped gracefully",
    }
}

fn stages(definition: &Definition) -> Vec<String> {
    definition.nodes.iter().map(|node| node.name.clone()).collect()
}

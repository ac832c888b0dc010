//! An operation before it is made: the task that it would be, its plan, and what stands in its way.
//!
//! Purpose: a request with `?plan=true` and the same request without it look at the same things and come to the same end.

use super::context::App;
use super::plan::Plan;
use crate::engine::Template;
use crate::error::{Error, Result};

/// What would be made, and what stands in its way; nothing is made while something does.
#[derive(Debug)]
pub(super) struct Proposal {
    template: Template,
    plan: Plan,
    obstacles: Vec<Error>,
}

impl App {
    /// The plan with what only the task tells.
    pub(super) fn propose(&self, template: Template, plan: Plan, obstacles: Vec<Error>) -> Result<Proposal> {
        let definition = self.parts.engine.define(template.clone())?;
        let plan = Plan {
            name: definition.name.clone(),
            stages: definition.nodes.iter().map(|node| node.name.clone()).collect(),
            obstacles: obstacles.iter().map(|error| error.text().to_owned()).collect(),
            ..plan
        };
        Ok(Proposal { template, plan: plan.named()?, obstacles })
    }

    pub(super) fn show(&self, proposal: Proposal) -> Plan {
        self.remember(&proposal.plan);
        proposal.plan
    }

    pub(super) fn go_ahead(&self, proposal: Proposal, plan_hash: Option<&str>) -> Result<Template> {
        if let Some(hash) = plan_hash {
            self.check_plan(hash, &proposal.plan)?;
        }
        proposal.obstacles.into_iter().next().map_or(Ok(proposal.template), Err)
    }

    pub(super) async fn own_lock(&self) -> Result<Option<Error>> {
        Ok(match self.parts.archive.holder().await? {
            Some(holder) => Some(self.parts.participant.held(&holder).await),
            None => None,
        })
    }
}

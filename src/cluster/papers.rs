//! The document as it is kept: what the agent is, and what it knows of others.
//!
//! The second part grows with the cluster and is seldom another; the first changes with every step of the agent's server. Apart
//! from each other a step costs the same in a cluster of any size.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::members::Members;
use super::state::AgentState;
use super::topology::Topology;
use crate::error::{Error, Result};

/// Names of the parts.
pub const AGENT: &str = "agent";
pub const OTHERS: &str = "others";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Others {
    members: Members,
    guests: Members,
    topology: Topology,
}

/// A part by its name, spelled.
pub type Paper = (&'static str, String);

impl AgentState {
    /// The parts that are not as they were before; all of them where that is not known.
    ///
    /// # Errors
    /// When it cannot be spelled: a defect.
    pub fn papers(&self, before: Option<&Self>) -> Result<Vec<Paper>> {
        let is_known = before.is_some_and(|before| {
            (&before.members, &before.guests, &before.topology)
                == (&self.members, &self.guests, &self.topology)
        });
        let unwritable = |e| Error::unexpected("the agent's document cannot be written").with_source(e);
        let mut papers = vec![(AGENT, serde_json::to_string(self).map_err(unwritable)?)];
        if !is_known {
            let (members, guests) = (self.members.clone(), self.guests.clone());
            let others = Others { members, guests, topology: self.topology.clone() };
            papers.push((OTHERS, serde_json::to_string(&others).map_err(unwritable)?));
        }
        Ok(papers)
    }

    /// From its parts, as they were kept.
    ///
    /// # Errors
    /// When they are not what an agent of this version has written.
    pub fn of_papers(agent: Value, others: Option<Value>) -> Result<Self> {
        let unreadable = |e| Error::unexpected(format!("the agent's document cannot be read: {e}"));
        let mut state: Self = serde_json::from_value(agent).map_err(unreadable)?;
        let others: Others =
            others.map(serde_json::from_value).transpose().map_err(unreadable)?.unwrap_or_default();
        (state.members, state.guests, state.topology) = (others.members, others.guests, others.topology);
        Ok(state)
    }
}

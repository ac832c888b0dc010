//! "Why is it blocked?": who holds what, since when, for what, until when; for one task, or for the whole cluster.

use super::context::App;
use super::outlook::Outlook;
use crate::engine::port::Detail;
use crate::engine::{DagState, SubTaskState};
use crate::error::Result;
use crate::flow::peers::HeldBy;
use crate::model::{AgentAddr, GenericId, Timestamp};

/// See the module.
#[derive(Clone, Debug)]
pub struct Blocked {
    pub locks: Vec<(AgentAddr, HeldBy)>,
    /// Agents that could not be asked, and why.
    pub not_reached: Vec<(AgentAddr, String)>,
    pub waits: Vec<Wait>,
}

/// Something that a task does or waits for now.
#[derive(Clone, Debug)]
pub struct Wait {
    /// Generic id.
    pub task: String,
    pub name: String,
    pub node: String,
    pub agent: AgentAddr,
    /// Its last line, or why it failed.
    pub what: String,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl App {
    /// Locks of all members, and what the unfinished tasks of this agent wait for.
    ///
    /// # Errors
    /// A failing store.
    pub async fn blocked(&self) -> Result<Blocked> {
        let outlook = self.outlook().await;
        let mut locks = Vec::new();
        let mut not_reached = Vec::new();
        if outlook.agents.is_empty()
            && let Some(held) = self.own_facts().await?.held_by
        {
            locks.push((self.own(), held));
        }
        let Outlook { agents, .. } = outlook;
        for seen in agents {
            match seen.facts {
                Ok(facts) => locks.extend(facts.held_by.map(|held| (seen.member.agent, held))),
                Err(why) => not_reached.push((seen.member.agent, why)),
            }
        }
        let unfinished = self.parts.archive.dags(crate::engine::port::DagFilter::Unfinished, true).await?;
        let waits = unfinished.iter().flat_map(|detail| self.waits_of(detail)).collect();
        Ok(Blocked { locks, not_reached, waits })
    }

    fn waits_of(&self, detail: &Detail) -> Vec<Wait> {
        let snapshot = &detail.snapshot;
        let is_failed = snapshot.state == DagState::Failed;
        let concerned = snapshot.sub_tasks().filter(|(_, sub)| {
            sub.state.is_active() || sub.state == SubTaskState::Waiting || is_failed && sub.failure.is_some()
        });
        let paused = snapshot.paused_before().map(|node| Wait {
            task: GenericId::agent(self.own(), snapshot.id.0).to_string(),
            name: snapshot.definition.name.clone(),
            node: snapshot.definition_of(node).name.clone(),
            agent: snapshot.nodes[node].sub_tasks[0].agent,
            what: "paused before it; somebody has to resume, abort or roll back the task".to_owned(),
            since: snapshot.ended_at,
            until: None,
        });
        concerned
            .map(|(at, sub)| {
                let failed = sub.failure.as_ref().filter(|_| is_failed);
                let what = failed.map(|failure| failure.text.as_str()).or_else(|| detail.last_line(sub.id));
                Wait {
                    task: GenericId::agent(self.own(), snapshot.id.0).to_string(),
                    name: snapshot.definition.name.clone(),
                    node: snapshot.definition_of(at.node).name.clone(),
                    agent: sub.agent,
                    what: what.unwrap_or("it has said nothing yet").to_owned(),
                    since: sub.started_at,
                    until: snapshot.gives_up_at(at),
                }
            })
            .chain(paused)
            .collect()
    }
}

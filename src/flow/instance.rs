//! A main task as its owner tells it to another agent, for clients that ask any of them: the tasks of the v2 API.
//!
//! Invariant: what is told is one moment of the task as it is stored. Nodes that only release what a task holds are not
//! told of where the graph is a documented one (flow `roll`); everything else is a node of the real graph, with its true edges.
//!
//! Not here: words and shapes of the wire, and the numbers under which clients know tasks (`InstanceId`).

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::roll::Params;
use crate::engine::event::Failure;
use crate::engine::port::{Detail, LogRow};
use crate::engine::{
    DagState, Heading, Operator, Snapshot, Steer, SubTask, SubTaskState, allowed, steerable,
};
use crate::model::{AgentAddr, DagId, SubTaskId, Timestamp};

/// The flow whose graphs are documented.
const ROLL: &str = "roll";

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    pub owner: AgentAddr,
    pub dag: DagId,
    pub name: String,
    /// What was ordered, where it is an order of the v2 API or a restart.
    pub order: Option<Params>,
    pub state: DagState,
    pub heading: Heading,
    pub operator: Operator,
    /// What an operator may ask for now, in words of v1: `RETRY`, `PAUSE`, …
    pub allowed: Vec<String>,
    /// What was asked for and takes effect at the next safe point: `PAUSE` or `ABORT`.
    pub asked: Option<String>,
    /// The node before which it stands still, where it was paused.
    pub paused_before: Option<String>,
    /// Who asked for it: `root@sys from 10.0.0.5`.
    pub actor: String,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    /// Of a task that is at rest.
    pub ended_at: Option<Timestamp>,
    /// Something has run that cannot be undone.
    pub prohibits_rollback: bool,
    /// In topological order.
    pub nodes: Vec<InstanceNode>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceNode {
    pub name: String,
    /// By position in this list.
    pub upstreams: Vec<usize>,
    /// Once for each element of a list, however short.
    pub is_split: bool,
    pub deadline_secs: u64,
    pub can_rollback: bool,
    pub can_pass: bool,
    pub steps: Vec<InstanceStep>,
}

/// A sub-task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStep {
    pub id: SubTaskId,
    pub agent: AgentAddr,
    pub state: SubTaskState,
    /// Everything before it has succeeded, and it has not begun.
    pub is_due: bool,
    pub operator: Operator,
    /// As v1 counts (`task-engine.md` §10.4).
    pub execute_times: u32,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub failure: Option<Failure>,
}

impl InstanceStep {
    fn of(sub: &SubTask, is_open: bool) -> Self {
        Self {
            id: sub.id,
            agent: sub.agent,
            state: sub.state,
            is_due: is_open && sub.state == SubTaskState::Pending,
            operator: sub.operator,
            execute_times: sub.execute_times,
            started_at: sub.started_at,
            ended_at: sub.ended_at,
            failure: sub.failure.clone(),
        }
    }
}

impl Instance {
    /// `actor` is who made it.
    pub fn of(owner: AgentAddr, detail: &Detail, actor: String) -> Self {
        let snapshot = &detail.snapshot;
        let definition = &snapshot.definition;
        let order = (definition.flow == ROLL)
            .then(|| serde_json::from_value(definition.params.clone()).ok())
            .flatten();
        let is_unable = |index: &usize| {
            let def = snapshot.definition_of(*index);
            let has_effect = snapshot.nodes[*index].sub_tasks.iter().any(SubTask::is_left_to_undo);
            has_effect && !def.caps.can_rollback && !def.is_always
        };
        Self {
            owner,
            dag: snapshot.id,
            name: definition.name.clone(),
            order,
            state: snapshot.state,
            heading: snapshot.heading,
            operator: snapshot.operator,
            allowed: possible(snapshot),
            asked: snapshot.steer().map(|steer| steer.text().to_owned()),
            paused_before: snapshot.paused_before().map(|index| snapshot.definition_of(index).name.clone()),
            actor,
            created_at: snapshot.created_at,
            started_at: snapshot.started_at,
            ended_at: snapshot.ended_at.filter(|_| snapshot.state.is_at_rest()),
            prohibits_rollback: (0..snapshot.nodes.len()).any(|index| is_unable(&index)),
            nodes: nodes(detail),
        }
    }

    pub fn step(&self, id: SubTaskId) -> Option<(&InstanceNode, &InstanceStep)> {
        self.nodes.iter().find_map(|node| {
            let step = node.steps.iter().find(|step| step.id == id)?;
            Some((node, step))
        })
    }

    pub fn progress(&self) -> Progress {
        Progress::of(self.state)
    }
}

fn possible(snapshot: &Snapshot) -> Vec<String> {
    let operators = allowed(snapshot).into_iter().map(Operator::text);
    operators.chain(steerable(snapshot).into_iter().map(Steer::text)).map(str::to_owned).collect()
}

fn nodes(detail: &Detail) -> Vec<InstanceNode> {
    let snapshot = &detail.snapshot;
    let defs = &snapshot.definition.nodes;
    let is_documented = snapshot.definition.flow == ROLL;
    let told: Vec<usize> =
        (0..defs.len()).filter(|index| !(is_documented && defs[*index].is_always)).collect();
    let is_going =
        matches!(snapshot.state, DagState::Ready | DagState::Running) && snapshot.heading == Heading::Forward;
    let node = |index: &usize| {
        let def = &defs[*index];
        let is_open = is_going && snapshot.is_due(*index);
        let steps = snapshot.nodes[*index].sub_tasks.iter().map(|sub| InstanceStep::of(sub, is_open));
        let upstreams = def.upstreams.iter().filter_map(|up| told.iter().position(|known| known == up));
        InstanceNode {
            name: def.name.clone(),
            upstreams: upstreams.collect(),
            is_split: def.is_parallel,
            deadline_secs: def.deadline_secs,
            can_rollback: def.caps.can_rollback,
            can_pass: def.caps.can_pass,
            steps: steps.collect(),
        }
    };
    told.iter().map(node).collect()
}

/// The three states that clients of v2 know of a task. What waits for an operator has failed there, as in v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Progress {
    Failed,
    Running,
    Successful,
}

impl Progress {
    pub const ALL: [Self; 3] = [Self::Failed, Self::Running, Self::Successful];

    pub fn of(state: DagState) -> Self {
        match state {
            DagState::Ready | DagState::Running | DagState::Cancelling => Self::Running,
            DagState::Waiting | DagState::Failed => Self::Failed,
            DagState::Succeeded | DagState::RolledBack | DagState::Passed => Self::Successful,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Failed => "FAILED",
            Self::Running => "RUNNING",
            Self::Successful => "SUCCESSFUL",
        }
    }
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortBy {
    Id,
    Name,
    Status,
    #[default]
    StartTime,
    FinishTime,
}

/// Which tasks are wanted, and in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Part of the name, in any case.
    pub name: Option<String>,
    /// Empty: all.
    pub progress: Vec<Progress>,
    /// Orders over exactly this server, by its number.
    pub server: Option<i64>,
    pub sort: SortBy,
    pub is_ascending: bool,
}

impl Wanted {
    pub fn fits(&self, instance: &Instance) -> bool {
        let is_named =
            self.name.as_ref().is_none_or(|part| instance.name.to_lowercase().contains(&part.to_lowercase()));
        let is_of = self.server.is_none_or(|wanted| {
            let hands = instance.order.iter().flat_map(Params::hands);
            let mut numbers = hands.map(|hand| hand.id);
            numbers.next() == Some(Some(wanted)) && numbers.next().is_none()
        });
        let is_so = self.progress.is_empty() || self.progress.contains(&instance.progress());
        is_named && is_of && is_so
    }

    /// `left` and `right` are the numbers of the owners' servers.
    pub fn order(&self, (a, left): (&Instance, i64), (b, right): (&Instance, i64)) -> Ordering {
        let began = |one: &Instance| one.started_at.unwrap_or(one.created_at);
        let by = match self.sort {
            SortBy::Id => Ordering::Equal,
            SortBy::Name => a.name.cmp(&b.name),
            SortBy::Status => a.progress().cmp(&b.progress()),
            SortBy::StartTime => began(a).cmp(&began(b)),
            // Those that have not ended come last.
            SortBy::FinishTime => (a.ended_at.is_none(), a.ended_at).cmp(&(b.ended_at.is_none(), b.ended_at)),
        };
        let order = by.then_with(|| (left, a.dag).cmp(&(right, b.dag)));
        if self.is_ascending { order } else { order.reverse() }
    }
}

/// What is asked of the owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "about")]
pub enum InstanceAsk {
    /// The first so many of those that are wanted. → [`Told`]
    List { wanted: Wanted, most: usize },
    /// → [`Instance`]
    Look { dag: DagId },
    /// What a step has recorded. → [`StepLog`]
    Log { dag: DagId, sub_task: SubTaskId },
    /// → [`Instance`], as it is then
    Do { dag: DagId, act: InstanceAct, actor: String },
}

/// What an operator does to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceAct {
    Retry,
    Rollback,
    Pause,
    Resume,
    Abort,
    RetryStep(SubTaskId),
    SkipStep(SubTaskId),
    CancelStep(SubTaskId),
}

impl InstanceAct {
    /// The step it is about.
    pub fn step(self) -> Option<SubTaskId> {
        match self {
            Self::RetryStep(step) | Self::SkipStep(step) | Self::CancelStep(step) => Some(step),
            Self::Retry | Self::Rollback | Self::Pause | Self::Resume | Self::Abort => None,
        }
    }
}

/// The main tasks of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// How many fit.
    pub total: usize,
    pub instances: Vec<Instance>,
}

/// The record of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLog {
    pub step: InstanceStep,
    pub lines: Vec<StepLine>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Of which execution.
    pub attempt: u32,
    pub at: Timestamp,
    pub level: crate::engine::port::Level,
    pub text: String,
}

impl From<LogRow> for StepLine {
    fn from(row: LogRow) -> Self {
        Self { attempt: row.attempt, at: row.at, level: row.level, text: row.text }
    }
}

//! A task in OCP's three shapes: as the page of each call has it, and as the pages of the task queries have it
//! (`ocp-v2.md` §1.4, §2).
//!
//! Invariant: a step is a sub-task of the real graph, with the state that is stored; the steps of a node are upstreams of all
//! steps of the next. Fields of the other shape that do not clash are there too.
//!
//! A task that waits for an operator is FAILED here, as in v1, and so is one that was paused: nothing of it goes on until
//! somebody asks. Its own member `obpilot` tells them apart.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::class_names::class_name;
use super::context::{Context, Over, maps};
use crate::engine::port::Level;
use crate::engine::{Heading, Operator, SubTaskState};
use crate::flow::instance::{Instance, InstanceNode, InstanceStep, StepLog};
use crate::flow::roll::Verb;
use crate::model::{GenericId, InstanceId, Timestamp, in_millis};

/// Which page a task is rendered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `tasks`, printed context, creator as an object.
    Older,
    /// `subtasks`, context as an object, creator as a name.
    Newer,
    /// Of the task queries: `subtasks`, no context, creator and cluster as objects.
    Query,
}

impl Shape {
    /// Of the page of the call that made it.
    pub fn of_page(instance: &Instance) -> Self {
        let verb = instance.order.as_ref().map(|order| order.verb);
        match (Over::of(&instance.name), verb) {
            (Some(Over::Server), Some(Verb::Restart)) | (Some(Over::Zone), _) => Self::Newer,
            (Some(Over::Server | Over::Cluster), _) | (None, _) => Self::Older,
        }
    }
}

/// What a task does not know of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Number of its owner's server.
    pub server: i64,
    /// `None` before there is one.
    pub cluster: Option<ClusterRef>,
    pub shape: Shape,
}

/// A task of the v2 API. Members that do not belong to the shape that was asked for, or that have no value yet, are absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The same through any agent, below 2^53.
    pub id: i64,
    pub name: String,
    /// `RUNNING`, `FAILED` or `SUCCESSFUL`.
    pub status: String,
    pub create_time: String,
    pub start_time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<i64>,
    /// Of orders over one server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    pub creator: Creator,
    /// IP address of the agent that owns the task.
    pub executor: String,
    /// What was asked for last: `EXECUTE`, `RETRY`, `ROLLBACK`, `SKIP` or `CANCEL`.
    pub operation: String,
    /// `MANUAL`
    pub r#type: String,
    /// -1: made by a person.
    pub task_definition_id: i64,
    /// It may not be rolled back, because something has run that cannot be undone.
    pub prohibit_rollback: bool,
    /// Steps in topological order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<Step>>,
    /// The same steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtasks: Option<Vec<Step>>,
    pub obpilot: TaskMore,
}

/// What an operation answers: the task that was made, or with `plan=true` what it would be.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum TaskOrPlanV2 {
    Task(Box<Task>),
    Plan(Box<crate::wire::Plan>),
}

/// Ours: the task as it is inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskMore {
    /// Its id in v1, for `forcePassDag` and `obpilot task`.
    pub dag: String,
    /// `ready`, `running`, `cancelling`, `waiting`, `failed`, `succeeded`, `rolled_back` or `passed`.
    pub state: String,
    /// `PAUSE` or `ABORT`, asked for and done at the next safe point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// It was paused before this step, and waits to be resumed.
    #[serde(rename = "pausedBefore", default, skip_serializing_if = "Option::is_none")]
    pub paused_before: Option<String>,
    /// What an operator may ask for now, in words of v1.
    pub operators: Vec<String>,
    /// In the answer that has just made it: what its caller should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    pub id: i64,
    pub name: String,
    pub ob_cluster_id: i64,
    /// `PRIMARY`; only in queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
}

/// Who asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Creator {
    /// Accounts have no numbers here: this one follows from the name.
    User {
        id: i64,
        name: String,
    },
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub id: i64,
    pub name: String,
    /// The name again.
    pub description: String,
    /// `PENDING`, `READY`, `RUNNING`, `CANCELING`, `FAILED` or `SUCCESSFUL`.
    pub status: String,
    /// `EXECUTE`, `RETRY`, `ROLLBACK`, `SKIP` or `CANCEL`.
    pub operation: String,
    pub upstreams: Vec<i64>,
    pub downstreams: Vec<i64>,
    /// Decoration; in the newer shape, where it is documented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// `JAVA_TASK`, as everywhere.
    pub node_type: String,
    /// Place in the list, from 0.
    pub series_id: i64,
    /// Place among the copies of a split step, from 0; -1 for others.
    pub parallel_idx: i64,
    /// Seconds.
    pub timeout: u64,
    /// Executions, this one included.
    pub run_time: u32,
    pub prohibit_rollback: bool,
    pub prohibit_skip: bool,
    pub task_id: i64,
    /// IP address of the agent that does it.
    pub executor: String,
    pub create_time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<String>,
}

/// A task in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskItem {
    pub id: i64,
    pub name: String,
    /// `RUNNING`, `FAILED` or `SUCCESSFUL`.
    pub status: String,
    pub start_time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterRef>,
    pub creator: Creator,
    pub subtasks: Vec<StepItem>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepItem {
    pub id: i64,
    pub name: String,
    pub description: String,
    pub status: String,
    pub operation: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    pub contents: Vec<TaskItem>,
    pub page: super::PageInfo,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StepLogView {
    /// Lines of all executions, each begun by `############{EXECUTE}{time}############`.
    pub log: String,
}

fn status(state: SubTaskState, is_due: bool) -> &'static str {
    match state {
        SubTaskState::Pending if is_due => "READY",
        SubTaskState::Pending | SubTaskState::Undone => "PENDING",
        SubTaskState::Running | SubTaskState::Undoing => "RUNNING",
        SubTaskState::Cancelling | SubTaskState::UndoCancelling => "CANCELING",
        SubTaskState::Waiting | SubTaskState::Failed | SubTaskState::UndoFailed => "FAILED",
        SubTaskState::Succeeded | SubTaskState::Passed => "SUCCESSFUL",
    }
}

/// In words of OCP; what runs again after a RETRY says so.
fn operation(operator: Operator, was_retried: bool) -> &'static str {
    match operator {
        Operator::Run if was_retried => "RETRY",
        Operator::Run => "EXECUTE",
        Operator::Retry => "RETRY",
        Operator::Rollback => "ROLLBACK",
        Operator::Cancel => "CANCEL",
        Operator::Pass => "SKIP",
    }
}

fn was_retried(step: &InstanceStep) -> bool {
    step.execute_times > 1
}

/// A retry counts twice in what is stored (`task-engine.md` §10.4).
fn run_time(execute_times: u32) -> u32 {
    execute_times.div_ceil(2).max(1)
}

/// 32-bit FNV-1a of the name.
fn creator_number(name: &str) -> i64 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(hash)
}

/// The account in a line such as `root@sys from 10.0.0.5 via 10.0.0.1:2886`.
fn creator_name(actor: &str) -> String {
    let name = actor.split(" from ").next().unwrap_or_default();
    let name = name.strip_suffix("@sys").unwrap_or(name);
    if name.is_empty() { "engine".to_owned() } else { name.to_owned() }
}

fn user(actor: &str) -> Creator {
    let name = creator_name(actor);
    Creator::User { id: creator_number(&name), name }
}

/// Every number that can be stored fits.
fn step_id(server: i64, step: &InstanceStep) -> i64 {
    InstanceId::of_sub_task(server, step.id).map_or(0, InstanceId::get)
}

fn task_id(server: i64, instance: &Instance) -> i64 {
    InstanceId::of_dag(server, instance.dag).map_or(0, InstanceId::get)
}

fn time(moment: Option<Timestamp>) -> Option<String> {
    moment.map(in_millis)
}

/// See [`Task`].
pub fn render_task(instance: &Instance, frame: &Frame) -> Task {
    let steps = steps(instance, frame);
    let is_query = frame.shape == Shape::Query;
    let context = match frame.shape {
        Shape::Older => Some(Context::Printed(maps(instance).printed())),
        Shape::Newer => Some(Context::Object(maps(instance))),
        Shape::Query => None,
    };
    let creator = match frame.shape {
        Shape::Newer => Creator::Name(creator_name(&instance.actor)),
        Shape::Older | Shape::Query => user(&instance.actor),
    };
    let all = || instance.nodes.iter().flat_map(|node| &node.steps);
    let state = serde_json::to_value(instance.state).ok().and_then(|s| s.as_str().map(str::to_owned));
    Task {
        id: task_id(frame.server, instance),
        name: instance.name.clone(),
        status: instance.progress().text().to_owned(),
        create_time: in_millis(instance.created_at),
        start_time: in_millis(instance.started_at.unwrap_or(instance.created_at)),
        finish_time: time(instance.ended_at),
        cluster: cluster_of(frame),
        cluster_id: frame.cluster.as_ref().map(|cluster| cluster.id),
        host_id: host_of(instance),
        context,
        creator,
        executor: instance.owner.ip.to_string(),
        operation: operation(
            instance.operator,
            all().any(was_retried) && instance.heading == Heading::Forward,
        )
        .to_owned(),
        r#type: "MANUAL".to_owned(),
        task_definition_id: -1,
        prohibit_rollback: instance.prohibits_rollback,
        tasks: (!is_query).then(|| steps.clone()),
        subtasks: Some(steps),
        obpilot: TaskMore {
            dag: GenericId::agent(instance.owner, instance.dag.0).to_string(),
            state: state.unwrap_or_default(),
            asked: instance.asked.clone(),
            paused_before: instance.paused_before.clone(),
            operators: instance.allowed.clone(),
            notes: Vec::new(),
        },
    }
}

fn cluster_of(frame: &Frame) -> Option<ClusterRef> {
    let kind = (frame.shape == Shape::Query).then(|| "PRIMARY".to_owned());
    frame.cluster.clone().map(|cluster| ClusterRef { r#type: kind, ..cluster })
}

fn host_of(instance: &Instance) -> Option<i64> {
    let order = instance.order.as_ref().filter(|_| Over::of(&instance.name) == Some(Over::Server))?;
    order.hands().next()?.id
}

fn steps(instance: &Instance, frame: &Frame) -> Vec<Step> {
    let ids: Vec<Vec<i64>> = instance
        .nodes
        .iter()
        .map(|node| node.steps.iter().map(|step| step_id(frame.server, step)).collect())
        .collect();
    let mut steps = Vec::new();
    for (at, node) in instance.nodes.iter().enumerate() {
        let upstreams: Vec<i64> = node.upstreams.iter().flat_map(|up| ids[*up].clone()).collect();
        let after = instance.nodes.iter().zip(&ids).filter(|(other, _)| other.upstreams.contains(&at));
        let downstreams: Vec<i64> = after.flat_map(|(_, ids)| ids.clone()).collect();
        for (index, step) in node.steps.iter().enumerate() {
            let series_id = number(steps.len());
            let parallel_idx = if node.is_split { number(index) } else { -1 };
            steps.push(Step {
                upstreams: upstreams.clone(),
                downstreams: downstreams.clone(),
                series_id,
                parallel_idx,
                ..one_step(instance, node, step, frame)
            });
        }
    }
    steps
}

fn number(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

/// Without its place in the graph.
fn one_step(instance: &Instance, node: &InstanceNode, step: &InstanceStep, frame: &Frame) -> Step {
    Step {
        id: step_id(frame.server, step),
        name: node.name.clone(),
        description: node.name.clone(),
        status: status(step.state, step.is_due).to_owned(),
        operation: operation(step.operator, was_retried(step)).to_owned(),
        upstreams: Vec::new(),
        downstreams: Vec::new(),
        class_name: (frame.shape == Shape::Newer).then(|| class_name(&node.name)).flatten(),
        node_type: "JAVA_TASK".to_owned(),
        series_id: 0,
        parallel_idx: -1,
        timeout: node.deadline_secs,
        run_time: run_time(step.execute_times),
        prohibit_rollback: !node.can_rollback,
        prohibit_skip: !node.can_pass,
        task_id: task_id(frame.server, instance),
        executor: step.agent.ip.to_string(),
        create_time: in_millis(instance.created_at),
        start_time: time(step.started_at),
        finish_time: time(step.ended_at.filter(|_| !step.state.is_active())),
    }
}

/// One step of a task, by its number; `None` when it is none of it.
pub fn render_step(instance: &Instance, id: i64, frame: &Frame) -> Option<Step> {
    steps(instance, frame).into_iter().find(|step| step.id == id)
}

/// A task as a list shows it.
pub fn render_item(instance: &Instance, frame: &Frame) -> TaskItem {
    let task = render_task(instance, &Frame { shape: Shape::Query, ..frame.clone() });
    let item = |step: Step| StepItem {
        id: step.id,
        name: step.name,
        description: step.description,
        status: step.status,
        operation: step.operation,
    };
    TaskItem {
        id: task.id,
        name: task.name,
        status: task.status,
        start_time: task.start_time,
        finish_time: task.finish_time,
        cluster: task.cluster,
        creator: task.creator,
        subtasks: task.subtasks.into_iter().flatten().map(item).collect(),
    }
}

/// The record of a step in one text.
pub fn render_log(log: &StepLog) -> StepLogView {
    let mut lines = Vec::new();
    let mut attempt = None;
    for line in &log.lines {
        if attempt != Some(line.attempt) {
            attempt = Some(line.attempt);
            lines.push(header(log, line.attempt, line.at));
        }
        let level = match line.level {
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        };
        lines.push(format!("{} {level} {}", in_millis(line.at), line.text));
    }
    // Whoever failed without a word has said why it failed.
    if let (Some(failure), true) = (&log.step.failure, lines.is_empty()) {
        lines.push(format!("ERROR [{}] {}", failure.code, failure.text));
    }
    StepLogView { log: lines.join("\n") }
}

fn header(log: &StepLog, attempt: u32, at: Timestamp) -> String {
    let is_last = attempt == log.step.execute_times;
    let word = match log.step.operator {
        Operator::Rollback if is_last => "ROLLBACK",
        Operator::Run | Operator::Retry | Operator::Rollback | Operator::Cancel | Operator::Pass => {
            if attempt > 1 { "RETRY" } else { "EXECUTE" }
        }
    };
    format!("############{{{word}}}{{{}}}############", in_millis(at))
}

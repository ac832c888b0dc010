//! DAGs, nodes, sub-tasks and their records, as v1 clients read them (`http-api.md` §5, `task-engine.md` §1.10, §10).
//!
//! The one disguise of this house: what waits for an operator inside is FAILED here, because clients of v1 know only
//! five states.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::agent::AgentInfo;
use crate::engine::port::{Detail, Level, LogRow, Record};
use crate::engine::{DagState, Node, NodeState, Operator, Snapshot, SubTask, SubTaskState, Wish, wishes};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, GenericId, Timestamp, on_wire};

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DagDetail {
    /// Generic id: the one that every route takes.
    pub id: String,
    /// Its number in the store.
    pub dag_id: i64,
    pub name: String,
    /// Number of the current node, from 1.
    pub stage: usize,
    /// How many nodes there are.
    pub max_stage: usize,
    /// 1 none, 2 the agent's lock.
    pub maintenance_type: u8,
    pub maintenance_key: String,
    /// `READY`, `RUNNING`, `FAILED` or `SUCCEED`.
    pub state: String,
    /// `RUN`, `RETRY`, `ROLLBACK`, `CANCEL` or `PASS`.
    pub operator: String,
    pub start_time: String,
    /// Before the end: the creation. Not a sign of being finished.
    pub end_time: String,
    #[schema(value_type = Option<Object>)]
    pub additional_data: Option<Value>,
    /// `null` without details, and in the answer that has just created the task.
    pub nodes: Option<Vec<NodeDetail>>,
    /// Ours: what v1 has no word for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obpilot: Option<Box<TaskView>>,
    /// Ours: the number of a main task in the v2 API, when it is known.
    #[serde(rename = "taskInstanceId", default, skip_serializing_if = "Option::is_none")]
    pub task_instance_id: Option<i64>,
    /// Ours, in the answer that has just created the task: what its caller should know, such as ids in `forcePassDag` that
    /// hold nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Ours: the DAG as it is inside.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// `ready`, `running`, `cancelling`, `waiting`, `failed`, `succeeded`, `rolled_back`, `passed`.
    pub state: String,
    /// Pass it as `watch` to be answered when something has changed.
    pub version: i64,
    /// What an operator may ask for now.
    pub operators: Vec<String>,
    pub holds_lock: bool,
    /// Nothing is left to be done about it.
    pub finished: bool,
    /// The task that this one is an agent's part of.
    #[serde(rename = "partOf", default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// `PAUSE` or `ABORT`: asked for, and not taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// Name of the node that a paused task stands before; its state is `waiting`, and RESUME lets it go on.
    #[serde(rename = "pausedBefore", default, skip_serializing_if = "Option::is_none")]
    pub paused_before: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeDetail {
    pub id: String,
    pub node_id: i64,
    pub name: String,
    pub state: String,
    pub operator: String,
    pub start_time: String,
    pub end_time: String,
    #[schema(value_type = Option<Object>)]
    pub additional_data: Option<Value>,
    pub sub_tasks: Option<Vec<SubTaskDetail>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SubTaskDetail {
    pub id: String,
    pub task_id: i64,
    pub name: String,
    pub state: String,
    pub operator: String,
    pub start_time: String,
    pub end_time: String,
    #[schema(value_type = Option<Object>)]
    pub additional_data: Option<Value>,
    pub execute_times: u32,
    pub execute_agent: AgentInfo,
    pub task_logs: Option<Vec<String>>,
    /// Ours: why it failed, with the facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    pub code: String,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub diagnosis: Option<Value>,
}

/// A row of `GET /task/sub_task/{id}/logs`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    pub id: i64,
    pub sub_task_id: i64,
    pub execute_times: u32,
    pub log_content: String,
    pub is_sync: bool,
    pub create_time: String,
    pub update_time: String,
}

/// The body of an operator on a DAG or node. An `id` that is not the path's is refused (H16).
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct OperatorBody {
    /// `RETRY`, `ROLLBACK`, `CANCEL` or `PASS`, in any case; for a task also `PAUSE`, `RESUME` or `ABORT` (ours).
    #[serde(default)]
    #[schema(required = true)]
    pub operator: String,
    #[serde(default)]
    pub id: Option<String>,
}

impl OperatorBody {
    pub const MEMBERS: &[&str] = &["operator", "id"];
}

/// One event of `GET /task/events`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TaskEvent {
    pub id: i64,
    pub time: String,
    /// A transition such as `claimed`, `succeeded`, `ended`; or `log`, `audit`, `agent_changed`, `server_exited`.
    pub kind: String,
    pub actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execute_times: Option<u32>,
    #[schema(value_type = Object)]
    pub body: Value,
}

const OPERATORS: &str = "RETRY, ROLLBACK, CANCEL, PASS, PAUSE, RESUME or ABORT";

/// # Errors
/// `Common.BindJsonFailed` when there is none, `Task.Dag.Operator.NotSupport` (or the given code) for an unknown one.
pub fn operator_body(body: &OperatorBody, path_id: &str, unknown: Code) -> Result<Wish> {
    if body.id.as_deref().is_some_and(|id| id != path_id) {
        let text = format!("the body names another task than the path ({path_id}); leave id out of the body");
        return Err(Error::new(Code::IllegalArgument, text));
    }
    if body.operator.is_empty() {
        let text = format!("operator is missing; use {OPERATORS}");
        return Err(Error::new(Code::BindJsonFailed, text));
    }
    let wish = Wish::parse(&body.operator).filter(|wish| *wish != Wish::Operate(Operator::Run));
    wish.ok_or_else(|| {
        let text = format!("'{}' is not an operator; use {OPERATORS}", body.operator);
        Error::new(unknown, text)
    })
}

fn dag_state(state: DagState) -> &'static str {
    match state {
        DagState::Ready => "READY",
        DagState::Running | DagState::Cancelling => "RUNNING",
        DagState::Waiting | DagState::Failed => "FAILED",
        DagState::Succeeded | DagState::RolledBack | DagState::Passed => "SUCCEED",
    }
}

fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Pending => "PENDING",
        NodeState::Running => "RUNNING",
        NodeState::Waiting | NodeState::Failed => "FAILED",
        NodeState::Succeeded | NodeState::Undone | NodeState::Passed => "SUCCEED",
    }
}

fn sub_task_state(state: SubTaskState) -> &'static str {
    match state {
        SubTaskState::Pending => "PENDING",
        SubTaskState::Running
        | SubTaskState::Cancelling
        | SubTaskState::Undoing
        | SubTaskState::UndoCancelling => "RUNNING",
        SubTaskState::Waiting | SubTaskState::Failed | SubTaskState::UndoFailed => "FAILED",
        SubTaskState::Succeeded | SubTaskState::Undone | SubTaskState::Passed => "SUCCEED",
    }
}

/// A DAG; with its nodes, their sub-tasks and lines when `with_details`.
pub fn dag_detail(own: AgentAddr, detail: &Detail, with_details: bool) -> DagDetail {
    let snapshot = &detail.snapshot;
    let nodes = (0..snapshot.nodes.len()).map(|index| node(own, detail, index, false));
    DagDetail {
        obpilot: Some(Box::new(task_view(detail))),
        additional_data: with_details.then(|| dag_additional(snapshot)).flatten(),
        nodes: with_details.then(|| nodes.collect()),
        ..created(own, snapshot)
    }
}

/// The answer to a request that has just created it: READY, no nodes, nothing but what was stored.
pub fn created(own: AgentAddr, snapshot: &Snapshot) -> DagDetail {
    created_with(own, snapshot, Vec::new())
}

/// The same, with what its caller should know.
pub fn created_with(own: AgentAddr, snapshot: &Snapshot, notes: Vec<String>) -> DagDetail {
    let ended = snapshot.ended_at.filter(|_| snapshot.state.is_at_rest());
    DagDetail {
        id: GenericId::agent(own, snapshot.id.0).to_string(),
        dag_id: snapshot.id.0,
        name: snapshot.definition.name.clone(),
        stage: snapshot.stage(),
        max_stage: snapshot.max_stage(),
        maintenance_type: if snapshot.definition.lock.is_some() { 2 } else { 1 },
        maintenance_key: String::new(),
        state: dag_state(snapshot.state).to_owned(),
        operator: snapshot.operator.text().to_owned(),
        start_time: on_wire(snapshot.started_at.unwrap_or(snapshot.created_at)),
        end_time: on_wire(ended.unwrap_or(snapshot.created_at)),
        additional_data: None,
        nodes: None,
        obpilot: None,
        task_instance_id: None,
        notes,
    }
}

fn task_view(detail: &Detail) -> TaskView {
    let snapshot = &detail.snapshot;
    let state = serde_json::to_value(snapshot.state).ok().and_then(|s| s.as_str().map(str::to_owned));
    TaskView {
        state: state.unwrap_or_default(),
        version: detail.version.0,
        operators: wishes(snapshot).into_iter().map(|wish| wish.text().to_owned()).collect(),
        holds_lock: snapshot.holds_lock,
        finished: snapshot.is_finished(),
        part_of: snapshot.definition.main_dag.clone(),
        asked: snapshot.steer().filter(|_| !snapshot.state.is_final()).map(|asked| asked.text().to_owned()),
        paused_before: snapshot.paused_before().map(|node| snapshot.definition_of(node).name.clone()),
    }
}

/// One node; `additional_data` only on the entity that was asked for (`task-engine.md` §1.7).
pub fn node_detail(own: AgentAddr, detail: &Detail, index: usize, with_details: bool) -> NodeDetail {
    let mut view = node(own, detail, index, true);
    if !with_details {
        view.sub_tasks = None;
    }
    view
}

fn node(own: AgentAddr, detail: &Detail, index: usize, is_asked_for: bool) -> NodeDetail {
    let (snapshot, node) = (&detail.snapshot, &detail.snapshot.nodes[index]);
    let (start, end) = node_times(snapshot, node);
    let sub_tasks = node.sub_tasks.iter().map(|sub| sub_task(own, detail, index, sub, false));
    NodeDetail {
        id: GenericId::agent(own, node.id.0).to_string(),
        node_id: node.id.0,
        name: snapshot.definition_of(index).name.clone(),
        state: node_state(node.state()).to_owned(),
        operator: node.operator.text().to_owned(),
        start_time: on_wire(start),
        end_time: on_wire(end),
        additional_data: if is_asked_for { node_additional(node) } else { None },
        sub_tasks: Some(sub_tasks.collect()),
    }
}

fn node_times(snapshot: &Snapshot, node: &Node) -> (Timestamp, Timestamp) {
    let start = node.sub_tasks.iter().filter_map(|sub| sub.started_at).min();
    let end = node.sub_tasks.iter().filter_map(|sub| sub.ended_at).max().filter(|_| !node.is_active());
    let start = start.unwrap_or(snapshot.created_at);
    (start, end.unwrap_or(start))
}

/// One sub-task.
pub fn sub_task_detail(own: AgentAddr, detail: &Detail, node: usize, sub: usize) -> SubTaskDetail {
    sub_task(own, detail, node, &detail.snapshot.nodes[node].sub_tasks[sub], true)
}

fn sub_task(
    own: AgentAddr,
    detail: &Detail,
    node: usize,
    sub: &SubTask,
    is_asked_for: bool,
) -> SubTaskDetail {
    let created = detail.snapshot.created_at;
    let start = sub.started_at.unwrap_or(created);
    let failure = sub.failure.as_ref().map(|f| FailureView {
        code: f.code.clone(),
        text: f.text.clone(),
        diagnosis: f.diagnosis.clone(),
    });
    SubTaskDetail {
        id: GenericId::agent(own, sub.id.0).to_string(),
        task_id: sub.id.0,
        name: detail.snapshot.definition_of(node).name.clone(),
        state: sub_task_state(sub.state).to_owned(),
        operator: sub.operator.text().to_owned(),
        start_time: on_wire(start),
        end_time: on_wire(sub.ended_at.unwrap_or(start)),
        additional_data: if is_asked_for { sub_task_additional(sub) } else { None },
        execute_times: sub.execute_times,
        execute_agent: sub.agent.into(),
        task_logs: task_logs(detail, sub),
        failure,
    }
}

/// All attempts in order; `null` before the first. A FAILED one has a line at least: SDKs read the last one.
fn task_logs(detail: &Detail, sub: &SubTask) -> Option<Vec<String>> {
    let mut lines: Vec<String> =
        detail.logs.iter().filter(|row| row.sub_task == sub.id).map(text_of).collect();
    if lines.is_empty()
        && matches!(sub.state, SubTaskState::Failed | SubTaskState::UndoFailed | SubTaskState::Waiting)
    {
        lines.push(
            sub.failure.as_ref().map_or_else(|| "no log".to_owned(), |f| format!("[{}]: {}", f.code, f.text)),
        );
    }
    let is_untouched = sub.state == SubTaskState::Pending && sub.execute_times == 0;
    (!is_untouched).then_some(lines)
}

/// Prefixes as OBShell writes them (`task-engine.md` §1.8).
fn text_of(row: &LogRow) -> String {
    match row.level {
        Level::Info => row.text.clone(),
        Level::Warn => format!("WARN: {}", row.text),
        Level::Error => format!("ERROR: {}", row.text),
    }
}

pub fn log_line(row: &LogRow) -> LogLine {
    LogLine {
        id: row.id.0,
        sub_task_id: row.sub_task.0,
        execute_times: row.attempt,
        log_content: text_of(row),
        is_sync: true,
        create_time: on_wire(row.at),
        update_time: on_wire(row.at),
    }
}

pub fn event_view(own: AgentAddr, record: &Record) -> TaskEvent {
    let id = |number: i64| GenericId::agent(own, number).to_string();
    TaskEvent {
        id: record.id.0,
        time: on_wire(record.at),
        kind: record.kind.clone(),
        actor: record.actor.clone(),
        dag: record.dag.map(|d| id(d.0)),
        dag_name: record.dag_name.clone(),
        node: record.node.map(|n| id(n.0)),
        node_name: record.node_name.clone(),
        sub_task: record.sub_task.map(|s| id(s.0)),
        execute_times: record.attempt,
        // The definition and its parameters stay inside.
        body: if record.kind == "created" { Value::Null } else { record.body.clone() },
    }
}

fn dag_additional(snapshot: &Snapshot) -> Option<Value> {
    let nodes: Vec<_> = snapshot.nodes.iter().map(node_additional).collect();
    let mut merged = merge_all(nodes);
    if let Some(main) = &snapshot.definition.main_dag {
        let own = json!({ "main_dag_id": main });
        merged = Some(merge(merged.unwrap_or_else(|| json!({})), own));
    }
    merged
}

fn node_additional(node: &Node) -> Option<Value> {
    merge_all(node.sub_tasks.iter().map(sub_task_additional).collect())
}

fn sub_task_additional(sub: &SubTask) -> Option<Value> {
    let shown = sub.output.as_ref().map(|o| o.shown.clone()).filter(|shown| !shown.is_null());
    let diagnosis = sub.failure.as_ref().and_then(|f| f.diagnosis.clone());
    let diagnosis = diagnosis.map(|d| json!({ "diagnosis": d }));
    match (shown, diagnosis) {
        (Some(shown), Some(diagnosis)) => Some(merge(shown, diagnosis)),
        (shown, diagnosis) => shown.or(diagnosis),
    }
}

/// One child: its value as it is; several: an object, possibly empty.
fn merge_all(mut values: Vec<Option<Value>>) -> Option<Value> {
    if values.len() == 1 {
        return values.remove(0);
    }
    Some(values.into_iter().flatten().fold(Value::Object(Map::new()), merge))
}

/// Maps recursively, arrays one after the other, for anything else the later wins (W8: nothing crashes on a clash).
fn merge(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Object(mut left), Value::Object(right)) => {
            for (key, value) in right {
                let merged = match left.remove(&key) {
                    Some(before) => merge(before, value),
                    None => value,
                };
                left.insert(key, merged);
            }
            Value::Object(left)
        }
        (Value::Array(mut left), Value::Array(right)) => {
            left.extend(right);
            Value::Array(left)
        }
        (_, right) => right,
    }
}

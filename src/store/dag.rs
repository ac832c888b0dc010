//! Rows of a DAG ↔ its snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::group::Scope;
use super::records::{from_nanos, to_nanos};
use crate::engine::event::{At, Event};
use crate::engine::port::{Change, RequestKey};
use crate::engine::snapshot::{Node, Snapshot, SubTask};
use crate::engine::state::{DagState, Heading, Operator, SubTaskState};
use crate::engine::sub_tasks::SubTasks;
use crate::engine::template::Definition;
use crate::model::{DagId, EventId, NodeId, SubTaskId, Timestamp};

/// An enum from the text that it is stored as.
fn from_word<T: DeserializeOwned>(text: String) -> Result<T, StoreError> {
    Ok(serde_json::from_value(serde_json::Value::String(text))?)
}

fn json(value: &Option<impl Serialize>) -> Result<Option<String>, StoreError> {
    Ok(value.as_ref().map(serde_json::to_string).transpose()?)
}

fn from_json<T: DeserializeOwned>(text: Option<String>) -> Result<Option<T>, StoreError> {
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// Inserts a DAG as it is created, with the text of its definition, and returns its snapshot.
pub(super) fn insert(
    connection: &Connection,
    definition: Definition,
    text: &str,
    at: Timestamp,
    actor: &str,
    key: Option<&RequestKey>,
) -> Result<Snapshot, StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO dag (revision, last_event, name, flow, definition, main_dag, is_maintenance, state, heading,
             operator, holds_lock, signals, is_finished, created_at, actor, request_key, request_fingerprint)
         VALUES (0, 0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?5, '[]', 0, ?9, ?10, ?11, ?12)",
    )?;
    insert.execute(params![
        definition.name,
        definition.flow,
        text,
        definition.main_dag,
        definition.lock.is_some(),
        DagState::Ready.text(),
        Heading::Forward.text(),
        Operator::Run.text(),
        to_nanos(at),
        actor,
        key.map(|k| &k.key),
        key.map(|k| &k.fingerprint),
    ])?;
    let id = DagId(connection.last_insert_rowid());
    let mut nodes = Vec::with_capacity(definition.nodes.len());
    for (position, def) in definition.nodes.iter().enumerate() {
        let mut insert = connection
            .prepare_cached("INSERT INTO node (dag_id, position, name, operator) VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![id.0, position as i64, def.name, Operator::Run.text()])?;
        let node = NodeId(connection.last_insert_rowid());
        let mut sub_tasks = SubTasks::default();
        for (position, agent) in def.targets.iter().enumerate() {
            let mut insert = connection.prepare_cached(
                "INSERT INTO sub_task (node_id, dag_id, position, agent, state, operator, execute_times)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
            )?;
            let (state, operator) = (SubTaskState::Pending.text(), Operator::Run.text());
            insert.execute(params![node.0, id.0, position as i64, agent.to_string(), state, operator])?;
            sub_tasks.push(SubTask::new(SubTaskId(connection.last_insert_rowid()), *agent));
        }
        nodes.push(Node { id: node, operator: Operator::Run, sub_tasks });
    }
    Ok(Snapshot {
        id,
        revision: 0,
        holds_lock: definition.lock.is_some(),
        definition: Arc::new(definition),
        state: DagState::Ready,
        heading: Heading::Forward,
        operator: Operator::Run,
        signals: Vec::new(),
        nodes,
        created_at: at,
        started_at: None,
        ended_at: None,
    })
}

/// Its version, where nothing else of it changes.
pub(super) fn touch(connection: &Connection, id: DagId, last_event: EventId) -> Result<(), StoreError> {
    let mut touch = connection.prepare_cached("UPDATE dag SET last_event = ?2 WHERE id = ?1")?;
    touch.execute([id.0, last_event.0])?;
    Ok(())
}

/// The revision that is stored; nothing for an unknown DAG.
pub(super) fn revision(connection: &Connection, id: DagId) -> Result<Option<i64>, StoreError> {
    let mut select = connection.prepare_cached("SELECT revision FROM dag WHERE id = ?1")?;
    Ok(select.query_row([id.0], |row| row.get(0)).optional()?)
}

pub(super) const UPDATE: &str =
    "UPDATE dag SET revision = ?2, last_event = ?3, state = ?4, heading = ?5, operator = ?6, holds_lock = ?7,
         signals = ?8, started_at = ?9, is_finished = ?10, ended_at = ?11
     WHERE id = ?1 AND revision = ?12";

/// The same, with the same values, of one that runs on. It leaves alone what stands in indexes: SQLite would take it out of them and
/// put it in again.
pub(super) const UPDATE_RUNNING: &str =
    "UPDATE dag SET revision = ?2, last_event = ?3, state = ?4, heading = ?5, operator = ?6, holds_lock = ?7,
         signals = ?8, started_at = ?9
     WHERE id = ?1 AND revision = ?12 AND is_finished = ?10 AND ended_at IS ?11";

pub(super) const UPDATE_SUB_TASK: &str =
    "UPDATE sub_task SET state = ?2, operator = ?3, execute_times = ?4, started_at = ?5, ended_at = ?6,
         output = ?7, note = ?8, failure = ?9
     WHERE id = ?1";

/// What a change writes besides its events, spelled before the one writer has it, all of it in one place.
#[derive(Debug)]
pub(super) struct Rows {
    dag: DagValues,
    /// Those of which something else may have been asked, with what.
    nodes: Vec<(i64, &'static str)>,
    sub_tasks: Vec<SubTaskValues>,
}

#[derive(Debug)]
struct DagValues {
    id: i64,
    /// Before and after.
    revisions: (i64, i64),
    state: &'static str,
    heading: &'static str,
    operator: &'static str,
    holds_lock: bool,
    signals: String,
    started_at: Option<i64>,
    is_finished: bool,
    ended_at: Option<i64>,
}

#[derive(Debug)]
struct SubTaskValues {
    id: i64,
    state: &'static str,
    operator: &'static str,
    execute_times: u32,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    output: Option<String>,
    note: Option<String>,
    failure: Option<String>,
}

impl Rows {
    pub(super) fn of(change: &Change) -> Result<Self, StoreError> {
        let after = &*change.after;
        let touched = touched(after, &change.events);
        let nodes: BTreeSet<usize> = if change.events.iter().any(is_wish) {
            touched.iter().map(|at| at.node).collect()
        } else {
            BTreeSet::new()
        };
        let node = |node: usize| (after.nodes[node].id.0, after.nodes[node].operator.text());
        let sub_tasks = touched.into_iter().map(|at| SubTaskValues::of(after.sub_task(at)));
        Ok(Self {
            dag: DagValues::of(change.revision, after)?,
            nodes: nodes.into_iter().map(node).collect(),
            sub_tasks: sub_tasks.collect::<Result<_, _>>()?,
        })
    }
}

impl DagValues {
    fn of(revision: i64, after: &Snapshot) -> Result<Self, StoreError> {
        Ok(Self {
            id: after.id.0,
            revisions: (revision, after.revision),
            state: after.state.text(),
            heading: after.heading.text(),
            operator: after.operator.text(),
            holds_lock: after.holds_lock,
            signals: serde_json::to_string(&after.signals)?,
            started_at: after.started_at.map(to_nanos),
            is_finished: after.is_finished(),
            ended_at: after.ended_at.map(to_nanos),
        })
    }
}

impl SubTaskValues {
    fn of(sub: &SubTask) -> Result<Self, StoreError> {
        Ok(Self {
            id: sub.id.0,
            state: sub.state.text(),
            operator: sub.operator.text(),
            execute_times: sub.execute_times,
            started_at: sub.started_at.map(to_nanos),
            ended_at: sub.ended_at.map(to_nanos),
            output: json(&sub.output)?,
            note: json(&sub.note)?,
            failure: json(&sub.failure)?,
        })
    }
}

/// The row of the DAG as a change leaves it. False, and nothing is written, when it is unknown or the revision that the change was
/// planned on is not the stored one.
pub(super) fn update(scope: &mut Scope<'_>, rows: &Rows, last_event: EventId) -> Result<bool, StoreError> {
    let dag = &rows.dag;
    let (before, after) = dag.revisions;
    let values = params![
        dag.id,
        after,
        last_event.0,
        dag.state,
        dag.heading,
        dag.operator,
        dag.holds_lock,
        dag.signals,
        dag.started_at,
        dag.is_finished,
        dag.ended_at,
        before,
    ];
    if !dag.is_finished && scope.statements.running_dag.execute(values)? > 0 {
        return Ok(true);
    }
    Ok(scope.statements.dag.execute(values)? > 0)
}

/// The rows of its nodes and sub-tasks, those that have changed.
pub(super) fn update_parts(scope: &mut Scope<'_>, rows: &Rows) -> Result<(), StoreError> {
    for node in &rows.nodes {
        let mut update = scope.connection.prepare_cached("UPDATE node SET operator = ?2 WHERE id = ?1")?;
        update.execute(*node)?;
    }
    for sub in &rows.sub_tasks {
        scope.statements.sub_task.execute(params![
            sub.id,
            sub.state,
            sub.operator,
            sub.execute_times,
            sub.started_at,
            sub.ended_at,
            sub.output,
            sub.note,
            sub.failure,
        ])?;
    }
    Ok(())
}

/// What somebody wished, or what became of it: only these change what was asked of a node.
fn is_wish(event: &Event) -> bool {
    is_about_all(event) || matches!(event, Event::Skipped { .. } | Event::SubTaskCancelAsked { .. })
}

/// It may change any sub-task of its DAG, not only one that it names.
fn is_about_all(event: &Event) -> bool {
    match event {
        Event::CancelAsked
        | Event::RetryAsked
        | Event::RollbackAsked
        | Event::Passed
        | Event::NodePassed { .. }
        | Event::SubTaskRetryAsked { .. }
        | Event::SubTaskPassed { .. } => true,
        Event::Created { .. }
        | Event::Started
        | Event::Claimed { .. }
        | Event::Resumed { .. }
        | Event::Noted { .. }
        | Event::Succeeded { .. }
        | Event::Failed { .. }
        | Event::Waits { .. }
        | Event::Stopped { .. }
        | Event::Skipped { .. }
        | Event::SubTaskCancelAsked { .. }
        | Event::Signalled { .. }
        | Event::Ended { .. }
        | Event::LockTaken
        | Event::LockReleased { .. } => false,
    }
}

/// Sub-tasks whose rows may have changed: those the events name, or all after an event about the whole DAG.
fn touched(after: &Snapshot, events: &[Event]) -> BTreeSet<At> {
    if events.iter().any(is_about_all) {
        return after.sub_tasks().map(|(at, _)| at).collect();
    }
    events.iter().filter_map(Event::at).collect()
}

/// A DAG and its version (the number of the last event that concerned it).
pub(super) fn load(connection: &Connection, id: DagId) -> Result<Option<(Snapshot, EventId)>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT revision, last_event, definition, state, heading, operator, holds_lock, signals, created_at,
             started_at, ended_at
         FROM dag WHERE id = ?1",
    )?;
    let Some(row) = select.query_row([id.0], DagRow::read).optional()? else { return Ok(None) };
    let version = EventId(row.last_event);
    Ok(Some((row.into_snapshot(id, load_nodes(connection, id)?)?, version)))
}

struct DagRow {
    revision: i64,
    last_event: i64,
    definition: String,
    state: String,
    heading: String,
    operator: String,
    holds_lock: bool,
    signals: String,
    created_at: i64,
    started_at: Option<i64>,
    ended_at: Option<i64>,
}

impl DagRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            revision: row.get(0)?,
            last_event: row.get(1)?,
            definition: row.get(2)?,
            state: row.get(3)?,
            heading: row.get(4)?,
            operator: row.get(5)?,
            holds_lock: row.get(6)?,
            signals: row.get(7)?,
            created_at: row.get(8)?,
            started_at: row.get(9)?,
            ended_at: row.get(10)?,
        })
    }

    fn into_snapshot(self, id: DagId, nodes: Vec<Node>) -> Result<Snapshot, StoreError> {
        let definition: Definition = serde_json::from_str(&self.definition)?;
        if definition.nodes.len() != nodes.len() {
            return Err(StoreError::Value(format!("task {id} has lost nodes")));
        }
        Ok(Snapshot {
            id,
            revision: self.revision,
            definition: Arc::new(definition),
            state: from_word(self.state)?,
            heading: from_word(self.heading)?,
            operator: from_word(self.operator)?,
            holds_lock: self.holds_lock,
            signals: serde_json::from_str(&self.signals)?,
            nodes,
            created_at: from_nanos(self.created_at),
            started_at: self.started_at.map(from_nanos),
            ended_at: self.ended_at.map(from_nanos),
        })
    }
}

fn load_nodes(connection: &Connection, dag: DagId) -> Result<Vec<Node>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT id, operator FROM node WHERE dag_id = ?1 ORDER BY position")?;
    let rows = select.query_map([dag.0], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let mut nodes = Vec::new();
    for row in rows {
        let (id, operator) = row?;
        nodes.push(Node { id: NodeId(id), operator: from_word(operator)?, sub_tasks: SubTasks::default() });
    }
    let mut select = connection.prepare_cached(
        "SELECT node_id, id, agent, state, operator, execute_times, started_at, ended_at, output, note, failure
         FROM sub_task WHERE dag_id = ?1 ORDER BY node_id, position",
    )?;
    let mut rows = select.query([dag.0])?;
    while let Some(row) = rows.next()? {
        let owner = NodeId(row.get(0)?);
        let node = nodes.iter_mut().find(|node| node.id == owner);
        let node =
            node.ok_or_else(|| StoreError::Value(format!("a sub-task of task {dag} has lost its node")))?;
        node.sub_tasks.push(read_sub_task(row)?);
    }
    Ok(nodes)
}

fn read_sub_task(row: &Row<'_>) -> Result<SubTask, StoreError> {
    let agent: String = row.get(2)?;
    Ok(SubTask {
        id: SubTaskId(row.get(1)?),
        agent: agent.parse().map_err(|e: crate::model::AddrError| StoreError::Value(e.to_string()))?,
        state: from_word(row.get(3)?)?,
        operator: from_word(row.get(4)?)?,
        execute_times: row.get(5)?,
        started_at: row.get::<_, Option<i64>>(6)?.map(from_nanos),
        ended_at: row.get::<_, Option<i64>>(7)?.map(from_nanos),
        output: from_json(row.get(8)?)?,
        note: from_json(row.get(9)?)?,
        failure: from_json(row.get(10)?)?,
    })
}

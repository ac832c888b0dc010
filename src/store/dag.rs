//! Rows of a DAG ↔ its snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::records::{from_nanos, to_nanos};
use crate::engine::event::{At, Event};
use crate::engine::port::RequestKey;
use crate::engine::snapshot::{Node, Snapshot, SubTask};
use crate::engine::state::{DagState, Heading, Operator, SubTaskState};
use crate::engine::sub_tasks::SubTasks;
use crate::engine::template::Definition;
use crate::model::{DagId, EventId, NodeId, SubTaskId, Timestamp};

/// An enum as the plain text of its name on the wire of the store.
fn word(value: impl Serialize) -> Result<String, StoreError> {
    let mut text = serde_json::to_string(&value)?;
    let is_word = text.len() > 2 && text.starts_with('"') && text.pop() == Some('"');
    if !is_word {
        return Err(StoreError::Value(format!("{text} is no word")));
    }
    text.remove(0);
    Ok(text)
}

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
        word(DagState::Ready)?,
        word(Heading::Forward)?,
        word(Operator::Run)?,
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
        insert.execute(params![id.0, position as i64, def.name, word(Operator::Run)?])?;
        let node = NodeId(connection.last_insert_rowid());
        let mut sub_tasks = SubTasks::default();
        for (position, agent) in def.targets.iter().enumerate() {
            let mut insert = connection.prepare_cached(
                "INSERT INTO sub_task (node_id, dag_id, position, agent, state, operator, execute_times)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
            )?;
            let (state, operator) = (word(SubTaskState::Pending)?, word(Operator::Run)?);
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

/// Writes what the events have changed.
pub(super) fn update(
    connection: &Connection,
    after: &Snapshot,
    events: &[Event],
    last_event: EventId,
) -> Result<(), StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE dag SET revision = ?2, last_event = ?3, state = ?4, heading = ?5, operator = ?6, holds_lock = ?7,
             signals = ?8, is_finished = ?9, started_at = ?10, ended_at = ?11
         WHERE id = ?1",
    )?;
    update.execute(params![
        after.id.0,
        after.revision,
        last_event.0,
        word(after.state)?,
        word(after.heading)?,
        word(after.operator)?,
        after.holds_lock,
        serde_json::to_string(&after.signals)?,
        after.is_finished(),
        after.started_at.map(to_nanos),
        after.ended_at.map(to_nanos),
    ])?;
    let touched = touched(after, events);
    if events.iter().any(is_wish) {
        let nodes: BTreeSet<usize> = touched.iter().map(|at| at.node).collect();
        for node in nodes {
            let mut update = connection.prepare_cached("UPDATE node SET operator = ?2 WHERE id = ?1")?;
            update.execute(params![after.nodes[node].id.0, word(after.nodes[node].operator)?])?;
        }
    }
    for at in touched {
        update_sub_task(connection, after.sub_task(at))?;
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

fn update_sub_task(connection: &Connection, sub: &SubTask) -> Result<(), StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE sub_task SET state = ?2, operator = ?3, execute_times = ?4, started_at = ?5, ended_at = ?6,
             output = ?7, note = ?8, failure = ?9
         WHERE id = ?1",
    )?;
    update.execute(params![
        sub.id.0,
        word(sub.state)?,
        word(sub.operator)?,
        sub.execute_times,
        sub.started_at.map(to_nanos),
        sub.ended_at.map(to_nanos),
        json(&sub.output)?,
        json(&sub.note)?,
        json(&sub.failure)?,
    ])?;
    Ok(())
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

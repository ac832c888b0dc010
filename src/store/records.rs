//! The event table: appending and reading.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde_json::Value;

use super::error::StoreError;
use super::group::Scope;
use crate::engine::event::Event;
use crate::engine::port::{Change, Level, LogLine, Record, Stamp};
use crate::engine::run::ENGINE;
use crate::engine::snapshot::Snapshot;
use crate::model::{DagId, EventId, NodeId, SubTaskId, Timestamp};

pub(super) fn to_nanos(moment: Timestamp) -> i64 {
    i64::try_from(moment.as_nanosecond()).unwrap_or(i64::MAX)
}

pub(super) fn from_nanos(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Something that a group has appended; a record is made of it when somebody listens.
#[derive(Debug)]
pub(super) enum Told {
    Free(Box<Record>),
    Event { id: EventId, change: Arc<Change>, index: usize },
    Line { id: EventId, at: Timestamp, line: Arc<Line> },
}

/// A line of a task's record, with its body as it is stored.
#[derive(Debug)]
pub(super) struct Line {
    of: LogLine,
    body: String,
}

impl Line {
    pub(super) fn new(of: LogLine) -> Self {
        let body = serde_json::to_string(&Body::of(&of)).unwrap_or_default();
        Self { of, body }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    level: Level,
    text: &'a str,
    #[serde(skip_serializing_if = "Value::is_null")]
    fields: &'a Value,
}

impl<'a> Body<'a> {
    fn of(line: &'a LogLine) -> Self {
        Self { level: line.level, text: &line.text, fields: &line.fields }
    }
}

impl Told {
    pub(super) fn into_record(self) -> Record {
        match self {
            Self::Free(record) => *record,
            Self::Event { id, change, index } => {
                let event = &change.events[index];
                let body = serde_json::to_value(event).unwrap_or_default();
                event_record(id, &change.after, event, &change.stamp, body)
            }
            Self::Line { id, at, line } => Record {
                id,
                at,
                kind: "log".to_owned(),
                dag: Some(line.of.dag),
                dag_name: Some(line.of.dag_name.to_string()),
                node: Some(line.of.node),
                node_name: Some(line.of.node_name.to_string()),
                sub_task: Some(line.of.sub_task),
                attempt: Some(line.of.attempt),
                actor: ENGINE.to_owned(),
                body: serde_json::to_value(Body::of(&line.of)).unwrap_or_default(),
            },
        }
    }
}

fn event_record(id: EventId, dag: &Snapshot, event: &Event, stamp: &Stamp, body: Value) -> Record {
    let place = event.at();
    let sub_task = place.map(|at| dag.sub_task(at));
    Record {
        id,
        at: stamp.at,
        kind: event.kind().to_owned(),
        dag: Some(dag.id),
        dag_name: Some(dag.definition.name.clone()),
        node: place.map(|at| dag.nodes[at.node].id),
        node_name: place.map(|at| dag.definition_of(at.node).name.clone()),
        sub_task: sub_task.map(|sub| sub.id),
        attempt: event.attempt().or(sub_task.map(|sub| sub.execute_times)),
        actor: stamp.actor.clone(),
        body,
    }
}

pub(super) const INSERT: &str =
    "INSERT INTO event (at, kind, dag_id, node_id, sub_task_id, attempt, actor, body)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// Whether a sub-task is there. The line itself is a plain insert: for an `INSERT … SELECT` SQLite keeps what was on each page that
/// it changes, since it may fail half way.
pub(super) const IS_THERE: &str = "SELECT 1 FROM sub_task WHERE id = ?1";

/// A transition as it is stored. It has all that the one writer needs, which is not to look for it in what others are working on.
#[derive(Debug)]
pub(super) struct EventRow {
    kind: &'static str,
    node: Option<i64>,
    sub_task: Option<i64>,
    attempt: Option<u32>,
    body: String,
}

impl EventRow {
    /// Of one that is about no sub-task.
    pub(super) fn of_dag(event: &Event) -> Result<Self, StoreError> {
        let (kind, attempt, body) = (event.kind(), event.attempt(), serde_json::to_string(event)?);
        Ok(Self { kind, node: None, sub_task: None, attempt, body })
    }
}

/// The transitions of a change as they are stored.
pub(super) fn rows_of(change: &Change) -> Result<Vec<EventRow>, StoreError> {
    let dag = &change.after;
    let row = |event: &Event| -> Result<EventRow, StoreError> {
        let place = event.at();
        let sub_task = place.map(|at| dag.sub_task(at));
        Ok(EventRow {
            kind: event.kind(),
            node: place.map(|at| dag.nodes[at.node].id.0),
            sub_task: sub_task.map(|sub| sub.id.0),
            attempt: event.attempt().or(sub_task.map(|sub| sub.execute_times)),
            body: serde_json::to_string(event)?,
        })
    };
    change.events.iter().map(row).collect()
}

/// Appends the transitions of a change and returns the number of the last one.
pub(super) fn insert_change(
    scope: &mut Scope<'_>,
    change: &Arc<Change>,
    dag: DagId,
    rows: &[EventRow],
) -> Result<EventId, StoreError> {
    let (at, actor) = (to_nanos(change.stamp.at), change.stamp.actor.as_str());
    for (index, row) in rows.iter().enumerate() {
        let EventRow { kind, node, sub_task, attempt, body } = row;
        scope.statements.event.execute(params![at, kind, dag.0, node, sub_task, attempt, actor, body])?;
        let id = inserted(scope);
        scope.told.push(Told::Event { id, change: Arc::clone(change), index });
    }
    Ok(scope.newest)
}

/// The number of the event that was inserted just now.
fn inserted(scope: &mut Scope<'_>) -> EventId {
    scope.newest = EventId(scope.connection.last_insert_rowid());
    scope.newest
}

/// Appends a line of a task's record; the DAG's version moves with the end of the group. A line of a DAG that was pruned is
/// dropped: nobody can read it any more.
pub(super) fn insert_log(scope: &mut Scope<'_>, line: &Arc<Line>, now: Timestamp) -> Result<(), StoreError> {
    let of = &line.of;
    let is_there =
        scope.last_line == Some(of.sub_task) || scope.statements.is_there.exists([of.sub_task.0])?;
    scope.last_line = is_there.then_some(of.sub_task);
    if is_there {
        let (dag, node, sub_task) = (of.dag.0, of.node.0, of.sub_task.0);
        let values = params![to_nanos(now), "log", dag, node, sub_task, of.attempt, ENGINE, line.body];
        scope.statements.event.execute(values)?;
        let id = inserted(scope);
        scope.touched.insert(of.dag, id);
        scope.told.push(Told::Line { id, at: now, line: Arc::clone(line) });
    }
    Ok(())
}

/// Appends something that belongs to no DAG, or an audit entry that names one.
pub(super) fn insert_free(
    scope: &mut Scope<'_>,
    kind: &str,
    dag: Option<DagId>,
    stamp: &Stamp,
    body: Value,
) -> Result<EventId, StoreError> {
    let record = Record {
        id: EventId(0),
        at: stamp.at,
        kind: kind.to_owned(),
        dag,
        dag_name: None,
        node: None,
        node_name: None,
        sub_task: None,
        attempt: None,
        actor: stamp.actor.clone(),
        body,
    };
    insert(scope, record)
}

fn insert(scope: &mut Scope<'_>, mut record: Record) -> Result<EventId, StoreError> {
    scope.statements.event.execute(params![
        to_nanos(record.at),
        record.kind,
        record.dag.map(|d| d.0),
        record.node.map(|n| n.0),
        record.sub_task.map(|s| s.0),
        record.attempt,
        record.actor,
        record.body.to_string(),
    ])?;
    let id = inserted(scope);
    record.id = id;
    scope.told.push(Told::Free(Box::new(record)));
    Ok(id)
}

const SELECT: &str = "SELECT e.id, e.at, e.kind, e.dag_id, d.name, e.node_id, n.name, e.sub_task_id, e.attempt, e.actor, e.body
     FROM event e LEFT JOIN dag d ON d.id = e.dag_id LEFT JOIN node n ON n.id = e.node_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Record> {
    let body: String = row.get(10)?;
    Ok(Record {
        id: EventId(row.get(0)?),
        at: from_nanos(row.get(1)?),
        kind: row.get(2)?,
        dag: row.get::<_, Option<i64>>(3)?.map(DagId),
        dag_name: row.get(4)?,
        node: row.get::<_, Option<i64>>(5)?.map(NodeId),
        node_name: row.get(6)?,
        sub_task: row.get::<_, Option<i64>>(7)?.map(SubTaskId),
        attempt: row.get(8)?,
        actor: row.get(9)?,
        body: serde_json::from_str(&body).unwrap_or(Value::String(body)),
    })
}

/// Records after the given number, oldest first, at most `limit`; of one DAG or of all.
pub(super) fn after(
    connection: &Connection,
    dag: Option<DagId>,
    after: EventId,
    limit: u32,
) -> Result<Vec<Record>, StoreError> {
    let filter = if dag.is_some() { "e.dag_id = ?3 AND" } else { "?3 IS NULL AND" };
    let sql = format!("{SELECT} WHERE {filter} e.id > ?1 ORDER BY e.id LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![after.0, limit, dag.map(|d| d.0)], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Entries of the audit trail, oldest first: those after a number, or the newest.
pub(super) fn audit(
    connection: &Connection,
    after: Option<EventId>,
    limit: u32,
) -> Result<Vec<Record>, StoreError> {
    let (condition, order) = if after.is_some() { (">", "ASC") } else { (">=", "DESC") };
    let sql =
        format!("{SELECT} WHERE e.kind = 'audit' AND e.id {condition} ?1 ORDER BY e.id {order} LIMIT ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![after.map_or(0, |id| id.0), limit], from_row)?;
    let mut records = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    if after.is_none() {
        records.reverse();
    }
    Ok(records)
}

/// Transitions of one DAG in order, as events with their moments: what `store check` replays.
pub(super) fn events_of(connection: &Connection, dag: DagId) -> Result<Vec<(Timestamp, Event)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT at, body FROM event WHERE dag_id = ?1 AND kind NOT IN ('log', 'audit') ORDER BY id",
    )?;
    let rows = statement.query_map([dag.0], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let mut events = Vec::new();
    for row in rows {
        let (at, body) = row?;
        events.push((from_nanos(at), serde_json::from_str(&body)?));
    }
    Ok(events)
}

/// The newest number.
pub(super) fn newest(connection: &Connection) -> Result<EventId, StoreError> {
    let newest = connection.query_row("SELECT coalesce(max(id), 0) FROM event", [], |row| row.get(0))?;
    Ok(EventId(newest))
}

//! The event table: appending and reading.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::error::StoreError;
use super::writer::Scope;
use crate::engine::event::Event;
use crate::engine::port::{Change, LogLine, Record, Stamp};
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
        let body = line_body(&of).to_string();
        Self { of, body }
    }
}

fn line_body(line: &LogLine) -> Value {
    let mut body = json!({ "level": line.level, "text": line.text });
    if !line.fields.is_null() {
        body["fields"] = line.fields.clone();
    }
    body
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
                body: line_body(&line.of),
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

const INSERT: &str = "INSERT INTO event (at, kind, dag_id, node_id, sub_task_id, attempt, actor, body)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// Bodies of events as they are stored.
pub(super) fn bodies(events: &[Event]) -> Result<Vec<String>, StoreError> {
    Ok(events.iter().map(serde_json::to_string).collect::<Result<_, _>>()?)
}

/// Appends the transitions of a change and returns the number of the last one.
pub(super) fn insert_change(
    scope: &mut Scope<'_>,
    change: &Arc<Change>,
    bodies: &[String],
) -> Result<EventId, StoreError> {
    let mut statement = scope.connection.prepare_cached(INSERT)?;
    let (dag, at, mut id) = (&change.after, to_nanos(change.stamp.at), EventId(0));
    for (index, (event, body)) in change.events.iter().zip(bodies).enumerate() {
        let place = event.at();
        let sub_task = place.map(|at| dag.sub_task(at));
        statement.execute(params![
            at,
            event.kind(),
            dag.id.0,
            place.map(|at| dag.nodes[at.node].id.0),
            sub_task.map(|sub| sub.id.0),
            event.attempt().or(sub_task.map(|sub| sub.execute_times)),
            change.stamp.actor,
            body,
        ])?;
        id = EventId(scope.connection.last_insert_rowid());
        scope.told.push(Told::Event { id, change: Arc::clone(change), index });
    }
    Ok(id)
}

/// Appends a line of a task's record; the DAG's version moves with the end of the group. A line of a DAG that was pruned is
/// dropped: nobody can read it any more.
pub(super) fn insert_log(scope: &mut Scope<'_>, line: &Arc<Line>, now: Timestamp) -> Result<(), StoreError> {
    let mut statement = scope.connection.prepare_cached(
        "INSERT INTO event (at, kind, dag_id, node_id, sub_task_id, attempt, actor, body)
         SELECT ?1, 'log', dag_id, node_id, id, ?2, ?3, ?4 FROM sub_task WHERE id = ?5",
    )?;
    let of = &line.of;
    let inserted = statement.execute(params![to_nanos(now), of.attempt, ENGINE, line.body, of.sub_task.0])?;
    if inserted > 0 {
        let id = EventId(scope.connection.last_insert_rowid());
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
    let mut statement = scope.connection.prepare_cached(INSERT)?;
    statement.execute(params![
        to_nanos(record.at),
        record.kind,
        record.dag.map(|d| d.0),
        record.node.map(|n| n.0),
        record.sub_task.map(|s| s.0),
        record.attempt,
        record.actor,
        record.body.to_string(),
    ])?;
    record.id = EventId(scope.connection.last_insert_rowid());
    let id = record.id;
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

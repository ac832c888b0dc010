//! The event table: appending and reading.

use rusqlite::{Connection, Row, params};
use serde_json::{Value, json};

use super::error::StoreError;
use super::writer::Scope;
use crate::engine::event::Event;
use crate::engine::port::{LogLine, Record, Stamp};
use crate::engine::snapshot::Snapshot;
use crate::model::{DagId, EventId, NodeId, SubTaskId, Timestamp};

pub(super) fn to_nanos(moment: Timestamp) -> i64 {
    i64::try_from(moment.as_nanosecond()).unwrap_or(i64::MAX)
}

pub(super) fn from_nanos(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Appends a transition and returns its number.
pub(super) fn insert_event(
    scope: &mut Scope<'_>,
    dag: &Snapshot,
    event: &Event,
    stamp: &Stamp,
) -> Result<EventId, StoreError> {
    let place = event.at();
    let node = place.map(|at| &dag.nodes[at.node]);
    let sub_task = place.map(|at| dag.sub_task(at));
    let attempt = event.attempt().or(sub_task.map(|sub| sub.execute_times));
    let record = Record {
        id: EventId(0),
        at: stamp.at,
        kind: event.kind().to_owned(),
        dag: Some(dag.id),
        dag_name: Some(dag.definition.name.clone()),
        node: node.map(|node| node.id),
        node_name: place.map(|at| dag.definition_of(at.node).name.clone()),
        sub_task: sub_task.map(|sub| sub.id),
        attempt,
        actor: stamp.actor.clone(),
        body: serde_json::to_value(event)?,
    };
    insert(scope, record)
}

/// Appends a line of a task's record and moves the DAG's version.
pub(super) fn insert_log(scope: &mut Scope<'_>, line: &LogLine, now: Timestamp) -> Result<(), StoreError> {
    let mut body = json!({ "level": line.level, "text": line.text });
    if !line.fields.is_null() {
        body["fields"] = line.fields.clone();
    }
    let node: Option<i64> = scope
        .connection
        .prepare_cached("SELECT node_id FROM sub_task WHERE id = ?1")?
        .query_row([line.sub_task.0], |row| row.get(0))
        .map_or_else(
            |e| if e == rusqlite::Error::QueryReturnedNoRows { Ok(None) } else { Err(e) },
            |n| Ok(Some(n)),
        )?;
    if node.is_none() {
        // The DAG was pruned; nobody can read the line any more.
        return Ok(());
    }
    let record = Record {
        id: EventId(0),
        at: now,
        kind: "log".to_owned(),
        dag: Some(line.dag),
        dag_name: Some(line.dag_name.to_string()),
        node: node.map(NodeId),
        node_name: Some(line.node_name.to_string()),
        sub_task: Some(line.sub_task),
        attempt: Some(line.attempt),
        actor: crate::engine::run::ENGINE.to_owned(),
        body,
    };
    let id = insert(scope, record)?;
    let mut touch = scope.connection.prepare_cached("UPDATE dag SET last_event = ?2 WHERE id = ?1")?;
    touch.execute([line.dag.0, id.0])?;
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
    let mut statement = scope.connection.prepare_cached(
        "INSERT INTO event (at, kind, dag_id, node_id, sub_task_id, attempt, actor, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
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
    scope.records.push(record);
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

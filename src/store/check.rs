//! `obpilot store check`: is the file whole, and does what it says hold together?

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8Path;
use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use super::{dag, journal, migrate, open, records};
use crate::engine::event::Event;
use crate::engine::snapshot::{Node, Snapshot, SubTask};
use crate::engine::state::{DagState, Heading, Operator};
use crate::model::{DagId, Timestamp};

/// What was looked at and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    pub format: i64,
    pub dags: usize,
    pub events: i64,
    pub problems: Vec<String>,
}

/// Looks at a store file; changes nothing. The agent may be running.
///
/// # Errors
/// When the file cannot be opened as one of ours; what is wrong inside stands in the report.
pub fn check(path: &Utf8Path) -> Result<CheckReport, StoreError> {
    if !path.exists() {
        return Err(StoreError::Open { path: path.to_owned(), why: "there is no such file".to_owned() });
    }
    let connection = open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut report = CheckReport { format: migrate::format_of(&connection, path)?, ..CheckReport::default() };
    let transaction = connection.unchecked_transaction()?;
    integrity(&transaction, &mut report).map_err(|error| open::explain(path, &error))?;
    if report.problems.is_empty() {
        dags(&transaction, &mut report)?;
        locks(&transaction, &mut report)?;
    }
    Ok(report)
}

fn integrity(connection: &Connection, report: &mut CheckReport) -> rusqlite::Result<()> {
    for pragma in ["PRAGMA integrity_check", "PRAGMA foreign_key_check"] {
        let mut statement = connection.prepare(pragma)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            if text != "ok" {
                report.problems.push(format!("{pragma}: {text}"));
            }
        }
    }
    report.events = connection.query_row("SELECT count(*) FROM event", [], |row| row.get(0))?;
    Ok(())
}

/// Every DAG's rows are the sum of its events, and what must not be is not.
fn dags(connection: &Connection, report: &mut CheckReport) -> Result<(), StoreError> {
    let mut select = connection.prepare("SELECT id FROM dag ORDER BY id")?;
    let ids = select.query_map([], |row| row.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    report.dags = ids.len();
    for id in ids.into_iter().map(DagId) {
        let Some((stored, version)) = dag::load(connection, id)? else { continue };
        let newest: Option<i64> = connection.query_row(
            "SELECT max(id) FROM event WHERE dag_id = ?1 AND kind <> 'audit'",
            [id.0],
            |row| row.get(0),
        )?;
        if newest != Some(version.0) {
            report
                .problems
                .push(format!("task {id}: its version is {version}, its newest event is {newest:?}"));
        }
        if stored.state.is_final() && (stored.is_any_active() || stored.holds_lock) {
            report.problems.push(format!("task {id}: it has ended, but something of it runs or is locked"));
        }
        match replay(connection, &stored) {
            Ok(replayed) if replayed == stored => {}
            Ok(_) => report.problems.push(format!("task {id}: its rows are not the sum of its events")),
            Err(why) => report.problems.push(format!("task {id}: its events cannot be replayed: {why}")),
        }
    }
    Ok(())
}

/// The snapshot that the events alone lead to. Ids and the revision are not in them; they are taken over.
fn replay(connection: &Connection, stored: &Snapshot) -> Result<Snapshot, String> {
    let events = records::events_of(connection, stored.id).map_err(|e| e.to_string())?;
    let mut events = events.into_iter();
    let Some((created_at, Event::Created { definition })) = events.next() else {
        return Err("the first event is not its creation".to_owned());
    };
    let mut snapshot = blank(stored, *definition, created_at)?;
    for (at, event) in events {
        snapshot.apply(&event, at).map_err(|e| e.to_string())?;
    }
    Ok(snapshot)
}

fn blank(
    stored: &Snapshot,
    definition: crate::engine::template::Definition,
    created_at: Timestamp,
) -> Result<Snapshot, String> {
    if definition.nodes.len() != stored.nodes.len() {
        return Err("it was created with other nodes".to_owned());
    }
    let sub_task = |stored: &SubTask| SubTask::new(stored.id, stored.agent);
    let node = |stored: &Node| Node {
        id: stored.id,
        operator: Operator::Run,
        sub_tasks: stored.sub_tasks.iter().map(sub_task).collect(),
    };
    Ok(Snapshot {
        id: stored.id,
        revision: stored.revision,
        holds_lock: definition.lock.is_some(),
        definition: Arc::new(definition),
        state: DagState::Ready,
        heading: Heading::Forward,
        operator: Operator::Run,
        signals: Vec::new(),
        nodes: stored.nodes.iter().map(node).collect(),
        created_at,
        started_at: None,
        ended_at: None,
    })
}

/// A lock has a holder that holds it, and nobody else thinks to hold it.
fn locks(connection: &Connection, report: &mut CheckReport) -> Result<(), StoreError> {
    let mut select = connection.prepare("SELECT id, name FROM dag WHERE holds_lock = 1")?;
    let rows = select.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let mut believers: BTreeMap<i64, String> = rows.collect::<rusqlite::Result<_>>()?;
    if let Some(holder) = journal::holder(connection)?
        && believers.remove(&holder.dag.0).is_none()
    {
        report.problems.push(format!("the lock is held by task {}, which does not know it", holder.dag));
    }
    for (id, name) in believers {
        report.problems.push(format!("task {id} '{name}' believes to hold the lock and does not"));
    }
    Ok(())
}

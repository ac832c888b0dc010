//! The engine's journal on SQLite. Laws: `engine::port`.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::broadcast;

use super::error::StoreError;
use super::group::Scope;
use super::open::Store;
use super::records::{EventRow, from_nanos, to_nanos};
use super::{dag, records};
use crate::engine::event::Event;
use crate::engine::plan;
use crate::engine::port::{
    Change, Created, Holder, Journal, JournalError, LogLine, NewDag, Record, RequestKey, Stamp,
};
use crate::engine::snapshot::Snapshot;
use crate::engine::template::Definition;
use crate::model::{DagId, EventId};

/// The maintenance lock of this host.
pub(super) const AGENT_LOCK: &str = "agent";

impl From<StoreError> for JournalError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl Journal for Store {
    fn create(&self, new: NewDag) -> BoxFuture<'_, Result<Created, JournalError>> {
        // What can be done before is not done by the one writer.
        let spelled = Spelled::of(&new.definition);
        Box::pin(async move {
            let spelled = spelled?;
            self.inner.writer.write_clean(move |scope| create(scope, new, spelled)).await
        })
    }

    fn append(&self, change: Change) -> BoxFuture<'_, Result<(), JournalError>> {
        let next = Next::of(change);
        Box::pin(async move {
            let next = Arc::new(next?);
            // Freed here, not by the one writer.
            let kept = Arc::clone(&next);
            let appended = self.inner.writer.write_clean(move |scope| append(scope, &next)).await;
            drop(kept);
            appended
        })
    }

    fn log(&self, line: LogLine) {
        self.inner.writer.log(line);
    }

    fn load(&self, dag: DagId) -> BoxFuture<'_, Result<Option<Snapshot>, JournalError>> {
        Box::pin(async move {
            let loaded = self.read(move |connection| dag::load(connection, dag)).await?;
            Ok(loaded.map(|(snapshot, _)| snapshot))
        })
    }

    fn live(&self, after: DagId, limit: usize) -> BoxFuture<'_, Result<Vec<Snapshot>, JournalError>> {
        Box::pin(async move { Ok(self.read(move |connection| live(connection, after, limit)).await?) })
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Record>> {
        self.inner.feed.subscribe()
    }
}

/// A definition as it is stored, and the event that tells of it.
struct Spelled {
    definition: String,
    created: Arc<[Event]>,
    events: Vec<EventRow>,
}

impl Spelled {
    fn of(definition: &Definition) -> Result<Self, StoreError> {
        let created: Arc<[Event]> = Arc::new([Event::Created { definition: Box::new(definition.clone()) }]);
        let events = vec![EventRow::of_dag(&created[0])?];
        Ok(Self { definition: serde_json::to_string(definition)?, created, events })
    }
}

/// A change as it is stored.
struct Next {
    change: Arc<Change>,
    events: Vec<EventRow>,
    rows: dag::Rows,
}

impl Next {
    fn of(change: Change) -> Result<Self, StoreError> {
        let (events, rows) = (records::rows_of(&change)?, dag::Rows::of(&change)?);
        Ok(Self { change: Arc::new(change), events, rows })
    }
}

/// Refuses before anything is written: a savepoint around so many rows costs as much as writing them.
fn create(
    scope: &mut Scope<'_>,
    new: NewDag,
    spelled: Spelled,
) -> Result<Result<Created, JournalError>, StoreError> {
    let NewDag { definition, stamp, key, begins } = new;
    if let Some(key) = &key {
        match find_by_key(scope.connection, key)? {
            Ok(None) => {}
            Ok(Some(snapshot)) => return Ok(Ok(Created { snapshot, begun: None, is_new: false })),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    let is_locking = definition.lock.is_some();
    if is_locking && let Some(holder) = holder(scope.connection)? {
        return Ok(Err(JournalError::LockHeld(holder)));
    }
    let (at, text) = (stamp.at, &spelled.definition);
    let snapshot = dag::insert(scope.connection, definition, text, at, &stamp.actor, key.as_ref())?;
    if is_locking {
        insert_lock(scope.connection, &snapshot, &stamp)?;
    }
    let after = Arc::new(snapshot.clone());
    let creation = Arc::new(Change { revision: 0, events: spelled.created, stamp, after });
    let last = records::insert_change(scope, &creation, snapshot.id, &spelled.events)?;
    if begins {
        let first = Next::of(plan::begin(&snapshot, at))?;
        // Of what was made just now nothing can be refused; if it is all the same, nothing of it may stay.
        append(scope, &first)?.map_err(|error| StoreError::Value(error.to_string()))?;
        return Ok(Ok(Created { snapshot, begun: Some(Arc::clone(&first.change.after)), is_new: true }));
    }
    dag::touch(scope.connection, snapshot.id, last)?;
    Ok(Ok(Created { snapshot, begun: None, is_new: true }))
}

/// What a key has made; a key of another request is refused.
pub(super) fn find_by_key(
    connection: &Connection,
    key: &RequestKey,
) -> Result<Result<Option<Snapshot>, JournalError>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT id, request_fingerprint FROM dag WHERE request_key = ?1")?;
    let found = select.query_row([&key.key], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
    let Some((id, fingerprint)) = found.optional()? else { return Ok(Ok(None)) };
    if fingerprint != key.fingerprint {
        return Ok(Err(JournalError::KeyReused));
    }
    Ok(Ok(dag::load(connection, DagId(id))?.map(|(snapshot, _)| snapshot)))
}

/// Refuses before anything is written.
fn append(scope: &mut Scope<'_>, next: &Next) -> Result<Result<(), JournalError>, StoreError> {
    let Change { revision, events, stamp, after } = &*next.change;
    if events.contains(&Event::LockTaken) {
        // By an older change of its own, it may be.
        if dag::revision(scope.connection, after.id)? != Some(*revision) {
            return Ok(Err(JournalError::Stale));
        }
        if let Some(holder) = holder(scope.connection)? {
            return Ok(Err(JournalError::LockHeld(holder)));
        }
    }
    let last = EventId(scope.newest.0 + i64::try_from(events.len()).unwrap_or(i64::MAX));
    if !dag::update(scope, &next.rows, last)? {
        return Ok(Err(JournalError::Stale));
    }
    let inserted = records::insert_change(scope, &next.change, after.id, &next.events)?;
    if inserted != last {
        return Err(StoreError::Value(format!("event {inserted} should have been {last}")));
    }
    // Of both, the last one counts.
    let is_lock = |event: &&Event| matches!(event, Event::LockTaken | Event::LockReleased { .. });
    for event in events.iter().filter(is_lock) {
        if *event == Event::LockTaken {
            insert_lock(scope.connection, after, stamp)?;
        } else {
            release_lock(scope.connection, after.id)?;
        }
    }
    dag::update_parts(scope, &next.rows)?;
    // This is newer than any line of it.
    scope.touched.remove(&after.id);
    Ok(Ok(()))
}

fn insert_lock(connection: &Connection, dag: &Snapshot, stamp: &Stamp) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO lock (name, dag_id, dag_name, main_dag, since) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let definition = &dag.definition;
    insert.execute(params![
        AGENT_LOCK,
        dag.id.0,
        definition.name,
        definition.main_dag,
        to_nanos(stamp.at)
    ])?;
    Ok(())
}

/// Releasing what one does not hold is a no-op (W2).
fn release_lock(connection: &Connection, dag: DagId) -> Result<(), StoreError> {
    let mut delete = connection.prepare_cached("DELETE FROM lock WHERE name = ?1 AND dag_id = ?2")?;
    delete.execute(params![AGENT_LOCK, dag.0])?;
    Ok(())
}

pub(super) fn holder(connection: &Connection) -> Result<Option<Holder>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT dag_id, dag_name, main_dag, since FROM lock WHERE name = ?1")?;
    let holder = select.query_row([AGENT_LOCK], |row| {
        Ok(Holder {
            dag: DagId(row.get(0)?),
            name: row.get(1)?,
            main_dag: row.get(2)?,
            since: from_nanos(row.get(3)?),
        })
    });
    Ok(holder.optional()?)
}

/// DAGs that somebody must take up: not at rest, or at rest under a lease.
fn live(connection: &Connection, after: DagId, limit: usize) -> Result<Vec<Snapshot>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT id FROM dag WHERE is_finished = 0 AND id > ?1 ORDER BY id")?;
    let mut ids = select.query([after.0])?;
    let mut live = Vec::new();
    while live.len() < limit
        && let Some(row) = ids.next()?
    {
        let Some((snapshot, _)) = dag::load(connection, DagId(row.get(0)?))? else { continue };
        let has_lease = snapshot.definition.lock.is_some_and(|lock| lock.lease_secs.is_some());
        if !snapshot.state.is_at_rest() || has_lease {
            live.push(snapshot);
        }
    }
    Ok(live)
}

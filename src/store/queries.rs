//! Reads for the API: DAGs with their versions, logs, the event stream, audit entries.

use rusqlite::params;
use serde_json::Value;

use super::error::StoreError;
use super::journal;
use super::open::Store;
use super::records::{self, from_nanos};
use super::{dag, writer::Scope};
use crate::engine::port::{Holder, Level, Record, Stamp};
use crate::engine::snapshot::Snapshot;
use crate::error::Result;
use crate::model::{DagId, EventId, NodeId, SubTaskId, Timestamp};

/// Which DAGs to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DagFilter {
    All,
    Unfinished,
    /// The newest one that took the lock, even if it ended long ago.
    LastMaintenance,
}

/// A line of a sub-task's record.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRow {
    pub id: EventId,
    pub sub_task: SubTaskId,
    pub attempt: u32,
    pub at: Timestamp,
    pub level: Level,
    pub text: String,
    pub fields: Value,
}

/// A DAG as read in one moment, with the lines of its sub-tasks when asked for.
#[derive(Clone, Debug)]
pub struct Detail {
    pub snapshot: Snapshot,
    pub version: EventId,
    pub logs: Vec<LogRow>,
}

impl Store {
    /// # Errors
    /// When the store cannot be read.
    pub async fn dag(&self, id: DagId, with_logs: bool) -> Result<Option<Detail>> {
        let detail = self.read(move |connection| {
            let Some((snapshot, version)) = dag::load(connection, id)? else { return Ok(None) };
            let logs = if with_logs { logs_of_dag(connection, id)? } else { Vec::new() };
            Ok(Some(Detail { snapshot, version, logs }))
        });
        Ok(detail.await?)
    }

    /// By number, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn dags(&self, filter: DagFilter, with_logs: bool) -> Result<Vec<Detail>> {
        let details = self.read(move |connection| {
            let sql = match filter {
                DagFilter::All => "SELECT id FROM dag ORDER BY id",
                DagFilter::Unfinished => "SELECT id FROM dag WHERE is_finished = 0 ORDER BY id",
                DagFilter::LastMaintenance => {
                    "SELECT id FROM dag WHERE is_maintenance = 1 ORDER BY id DESC LIMIT 1"
                }
            };
            let mut select = connection.prepare_cached(sql)?;
            let ids =
                select.query_map([], |row| row.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
            let mut details = Vec::with_capacity(ids.len());
            for id in ids.into_iter().map(DagId) {
                let Some((snapshot, version)) = dag::load(connection, id)? else { continue };
                let logs = if with_logs { logs_of_dag(connection, id)? } else { Vec::new() };
                details.push(Detail { snapshot, version, logs });
            }
            Ok(details)
        });
        Ok(details.await?)
    }

    /// The DAG that a node belongs to.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn dag_of_node(&self, node: NodeId) -> Result<Option<DagId>> {
        self.owner("SELECT dag_id FROM node WHERE id = ?1", node.0).await
    }

    /// The DAG that a sub-task belongs to.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn dag_of_sub_task(&self, sub_task: SubTaskId) -> Result<Option<DagId>> {
        self.owner("SELECT dag_id FROM sub_task WHERE id = ?1", sub_task.0).await
    }

    async fn owner(&self, sql: &'static str, id: i64) -> Result<Option<DagId>> {
        let owner = self.read(move |connection| {
            let mut select = connection.prepare_cached(sql)?;
            let found = select.query_map([id], |row| row.get::<_, i64>(0))?.next().transpose()?;
            Ok(found.map(DagId))
        });
        Ok(owner.await?)
    }

    /// All attempts of a sub-task in order; empty for an unknown number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn logs(&self, sub_task: SubTaskId) -> Result<Vec<LogRow>> {
        let logs = self.read(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT id, sub_task_id, attempt, at, body FROM event WHERE sub_task_id = ?1 AND kind = 'log' ORDER BY id",
            )?;
            let rows = select.query([sub_task.0])?;
            read_logs(rows)
        });
        Ok(logs.await?)
    }

    /// Records after a number, oldest first; of one DAG or of all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn records(&self, dag: Option<DagId>, after: EventId, limit: u32) -> Result<Vec<Record>> {
        Ok(self.read(move |connection| records::after(connection, dag, after, limit)).await?)
    }

    /// The number of the newest record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn newest(&self) -> Result<EventId> {
        Ok(self.read(records::newest).await?)
    }

    /// Who holds the maintenance lock of this host.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn holder(&self) -> Result<Option<Holder>> {
        Ok(self.read(journal::holder).await?)
    }

    /// Records something that belongs to no transition: an audit entry, what was seen of the database process.
    /// Returns after the commit.
    ///
    /// # Errors
    /// When the store cannot keep it.
    pub async fn record(
        &self,
        kind: &'static str,
        dag: Option<DagId>,
        stamp: Stamp,
        body: Value,
    ) -> Result<EventId> {
        let write = move |scope: &mut Scope<'_>| -> std::result::Result<EventId, StoreError> {
            records::insert_free(scope, kind, dag, &stamp, body)
        };
        Ok(self.inner.writer.write(write).await?)
    }
}

fn logs_of_dag(
    connection: &rusqlite::Connection,
    dag: DagId,
) -> std::result::Result<Vec<LogRow>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT id, sub_task_id, attempt, at, body FROM event WHERE dag_id = ?1 AND kind = 'log' ORDER BY id",
    )?;
    let rows = select.query(params![dag.0])?;
    read_logs(rows)
}

fn read_logs(mut rows: rusqlite::Rows<'_>) -> std::result::Result<Vec<LogRow>, StoreError> {
    #[derive(serde::Deserialize)]
    struct Body {
        level: Level,
        text: String,
        #[serde(default)]
        fields: Value,
    }
    let mut logs = Vec::new();
    while let Some(row) = rows.next()? {
        let body: Body = serde_json::from_str(&row.get::<_, String>(4)?)?;
        logs.push(LogRow {
            id: EventId(row.get(0)?),
            sub_task: SubTaskId(row.get(1)?),
            attempt: row.get(2)?,
            at: from_nanos(row.get(3)?),
            level: body.level,
            text: body.text,
            fields: body.fields,
        });
    }
    Ok(logs)
}

//! Reads for the API: DAGs with their versions, logs, the event stream, audit entries.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rusqlite::{OptionalExtension, params, params_from_iter};
use serde_json::Value;
use tokio::sync::broadcast;

use super::error::StoreError;
use super::journal;
use super::open::Store;
use super::records::{self, from_nanos};
use super::{dag, group::Scope};
use crate::engine::Snapshot;
use crate::engine::port::{
    Archive, DagFilter, Detail, Holder, Level, LogRow, Look, Record, RequestKey, Stamp,
};
use crate::error::Result;
use crate::model::{DagId, EventId, NodeId, SubTaskId};

/// Unfinished DAGs that are kept for the next question: more are no agent that waits.
const KEPT_MAX: usize = 16;

impl Store {
    async fn owner(&self, sql: &'static str, id: i64) -> Result<Option<DagId>> {
        let owner = self.read(move |connection| {
            let mut select = connection.prepare_cached(sql)?;
            Ok(select.query_row([id], |row| row.get(0)).optional()?.map(DagId))
        });
        Ok(owner.await?)
    }
}

impl Archive for Store {
    fn dag(&self, id: DagId, with_logs: bool) -> BoxFuture<'_, Result<Option<Detail>>> {
        let detail = self.read(move |connection| detail(connection, id, with_logs));
        Box::pin(async move { Ok(detail.await?) })
    }

    fn dags(&self, filter: DagFilter, with_logs: bool) -> BoxFuture<'_, Result<Vec<Detail>>> {
        let is_kept = filter == DagFilter::Unfinished && !with_logs;
        let commits = self.inner.writer.commits();
        if let Some(kept) = is_kept.then(|| self.inner.unfinished.get(commits)).flatten() {
            return Box::pin(async move { Ok(kept) });
        }
        let details = self.read(move |connection| {
            let mut values = Vec::new();
            let sql = match filter {
                DagFilter::After(dag, limit) => {
                    values = vec![dag.0, i64::from(limit)];
                    "SELECT id FROM dag WHERE id > ?1 ORDER BY id LIMIT ?2".to_owned()
                }
                DagFilter::Unfinished => "SELECT id FROM dag WHERE is_finished = 0 ORDER BY id".to_owned(),
                DagFilter::LastMaintenance => {
                    "SELECT id FROM dag WHERE is_maintenance = 1 ORDER BY id DESC LIMIT 1".to_owned()
                }
                DagFilter::LastOf(flows) => format!(
                    "SELECT id FROM dag WHERE flow IN ('{}') AND is_maintenance = 1 ORDER BY id DESC LIMIT 1",
                    flows.join("', '")
                ),
            };
            let mut select = connection.prepare_cached(&sql)?;
            let ids = select.query_map(params_from_iter(values), |row| row.get::<_, i64>(0))?;
            let ids = ids.collect::<rusqlite::Result<Vec<_>>>()?;
            let details = ids.into_iter().map(|id| detail(connection, DagId(id), with_logs));
            Ok(details.collect::<std::result::Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        });
        Box::pin(async move {
            let details: Vec<Detail> = details.await?;
            if is_kept && details.len() <= KEPT_MAX {
                self.inner.unfinished.put(commits, details.clone());
            }
            Ok(details)
        })
    }

    fn dag_of_node(&self, node: NodeId) -> BoxFuture<'_, Result<Option<DagId>>> {
        Box::pin(self.owner("SELECT dag_id FROM node WHERE id = ?1", node.0))
    }

    fn dag_of_sub_task(&self, sub_task: SubTaskId) -> BoxFuture<'_, Result<Option<DagId>>> {
        Box::pin(self.owner("SELECT dag_id FROM sub_task WHERE id = ?1", sub_task.0))
    }

    fn logs(&self, sub_task: SubTaskId) -> BoxFuture<'_, Result<Vec<LogRow>>> {
        let logs = self.read(move |connection| {
            let mut select = connection.prepare_cached(
                "SELECT id, sub_task_id, attempt, at, body FROM event WHERE sub_task_id = ?1 AND kind = 'log' ORDER BY id",
            )?;
            let rows = select.query([sub_task.0])?;
            read_logs(rows)
        });
        Box::pin(async move { Ok(logs.await?) })
    }

    fn records(&self, dag: Option<DagId>, after: EventId, limit: u32) -> BoxFuture<'_, Result<Vec<Record>>> {
        let records = self.read(move |connection| records::after(connection, dag, after, limit));
        Box::pin(async move { Ok(records.await?) })
    }

    fn look(&self, id: DagId, after: EventId, limit: u32) -> BoxFuture<'_, Result<Option<Look>>> {
        let look = self.read(move |connection| {
            let Some((snapshot, _)) = dag::load(connection, id)? else { return Ok(None) };
            let records = records::after(connection, Some(id), after, limit)?;
            Ok(Some(Look { records, snapshot }))
        });
        Box::pin(async move { Ok(look.await?) })
    }

    fn newest(&self) -> BoxFuture<'_, Result<EventId>> {
        Box::pin(async move { Ok(self.read(records::newest).await?) })
    }

    fn holder(&self) -> BoxFuture<'_, Result<Option<Holder>>> {
        Box::pin(async move {
            let commits = self.inner.writer.commits();
            if let Some(kept) = self.inner.holder.get(commits) {
                return Ok(kept);
            }
            let holder = self.read(journal::holder).await?;
            self.inner.holder.put(commits, holder.clone());
            Ok(holder)
        })
    }

    fn coordinated_by<'a>(&'a self, main_dag: &'a str) -> BoxFuture<'a, Result<Option<DagId>>> {
        let main_dag = main_dag.to_owned();
        let found = self.read(move |connection| {
            let sql = "SELECT id FROM dag WHERE main_dag = ?1 ORDER BY id DESC LIMIT 1";
            let mut select = connection.prepare_cached(sql)?;
            Ok(select.query_row([main_dag], |row| row.get(0)).optional()?.map(DagId))
        });
        Box::pin(async move { Ok(found.await?) })
    }

    fn made_by<'a>(&'a self, key: &'a RequestKey) -> BoxFuture<'a, Result<Option<Snapshot>>> {
        let key = key.clone();
        let found = self.read(move |connection| journal::find_by_key(connection, &key));
        Box::pin(async move { Ok(found.await??) })
    }

    fn record(
        &self,
        kind: &'static str,
        dag: Option<DagId>,
        stamp: Stamp,
        body: Value,
    ) -> BoxFuture<'_, Result<EventId>> {
        let write = move |scope: &mut Scope<'_>| -> std::result::Result<EventId, StoreError> {
            records::insert_free(scope, kind, dag, &stamp, body)
        };
        Box::pin(async move { Ok(self.inner.writer.write(write).await?) })
    }

    fn note(&self, kind: &'static str, stamp: Stamp, body: Value) {
        self.inner.writer.post(move |scope| records::insert_free(scope, kind, None, &stamp, body).map(drop));
    }

    fn audit(&self, after: Option<EventId>, limit: u32) -> BoxFuture<'_, Result<Vec<Record>>> {
        let records = self.read(move |connection| records::audit(connection, after, limit));
        Box::pin(async move {
            // What was noted before this question is in its answer, if the store takes writes at all.
            drop(self.probe().await);
            Ok(records.await?)
        })
    }

    fn feed(&self) -> broadcast::Receiver<Arc<Record>> {
        self.inner.feed.subscribe()
    }
}

fn detail(
    connection: &rusqlite::Connection,
    id: DagId,
    with_logs: bool,
) -> std::result::Result<Option<Detail>, StoreError> {
    let Some((snapshot, version)) = dag::load(connection, id)? else { return Ok(None) };
    let logs = if with_logs { logs_of_dag(connection, id)? } else { Vec::new() };
    Ok(Some(Detail { snapshot, version, logs }))
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

//! Tasks: queries, operators, watching.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::context::{App, Caller};
use crate::engine::port::{DagFilter, Detail, LogRow, Record};
use crate::engine::{Operator, Wish};
use crate::error::{Code, Error, Result};
use crate::model::{DagId, EventId, GenericId, NodeId, Store, SubTaskId};

/// Lists of DAGs as the routes name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DagList {
    /// Unfinished ones of this agent's store.
    AgentUnfinished,
    /// Of the cluster's store.
    Cluster,
    ClusterUnfinished,
    /// Of both.
    Unfinished,
}

/// Tasks of a long list that are in memory together.
const READ_AT_ONCE: u32 = 64;

/// A wish to be answered when something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    pub since: EventId,
    pub wait: Duration,
}

/// Returns when there is news of a task, or may be; false when there will be none.
async fn changed(feed: &mut Receiver<Arc<Record>>, dag: DagId) -> bool {
    loop {
        match feed.recv().await {
            Ok(record) if record.dag == Some(dag) => return true,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return true,
            Err(RecvError::Closed) => return false,
        }
    }
}

impl App {
    /// The number in this agent's store. Ids of other stores are told apart from unknown ones.
    fn own_number(&self, id: &str) -> Result<i64> {
        let id: GenericId = id
            .parse()
            .map_err(|e: crate::model::IdError| Error::new(Code::GenericIdInvalid, e.to_string()))?;
        match id.store {
            Store::Agent(owner) if owner == self.own() => Ok(id.number),
            Store::Agent(owner) | Store::Proxy(owner) => {
                let text =
                    format!("task {id} belongs to {owner}, which is not in this cluster of {}", self.own());
                Err(Error::new(Code::TaskNotFound, text))
            }
            Store::Cluster => Err(Error::new(
                Code::TaskNotFound,
                format!("there is no cluster task {id}; this cluster has none"),
            )),
        }
    }

    /// `GET /task/dag/{id}`, at once or when it has changed.
    ///
    /// # Errors
    /// `Task.GenericID.Invalid`, `Task.NotFound`, or a failing store.
    pub async fn dag(&self, id: &str, with_logs: bool, watch: Option<Watch>) -> Result<Detail> {
        let dag = DagId(self.own_number(id)?);
        let mut feed = self.parts.archive.feed();
        let deadline = tokio::time::sleep(watch.map_or(Duration::ZERO, |w| w.wait));
        tokio::pin!(deadline);
        loop {
            let detail = self.parts.archive.dag(dag, with_logs).await?;
            let detail =
                detail.ok_or_else(|| Error::new(Code::TaskNotFound, format!("there is no task {id}")))?;
            if watch.is_none_or(|watch| detail.version > watch.since) {
                return Ok(detail);
            }
            tokio::select! {
                () = &mut deadline => return Ok(detail),
                () = self.parts.stopping.cancelled() => return Ok(detail),
                is_going_on = changed(&mut feed, dag) => if !is_going_on { return Ok(detail) },
            }
        }
    }

    /// Returns when a task has come to rest, or after this time.
    ///
    /// # Errors
    /// A failing store.
    pub(super) async fn until_at_rest(&self, dag: DagId, limit: Duration) -> Result<()> {
        let mut feed = self.parts.archive.feed();
        let is_at_rest = async {
            loop {
                let found = self.parts.archive.dag(dag, false).await?;
                let is_at_rest = found.is_none_or(|detail| detail.snapshot.state.is_at_rest());
                if is_at_rest || !changed(&mut feed, dag).await {
                    return Ok(());
                }
            }
        };
        tokio::select! {
            done = is_at_rest => done,
            () = tokio::time::sleep(limit) => Ok(()),
            () = self.parts.stopping.cancelled() => Ok(()),
        }
    }

    /// `GET /task/node/{id}`: the DAG it is in, and its position there.
    ///
    /// # Errors
    /// As [`App::dag`].
    pub async fn node(&self, id: &str) -> Result<(Detail, usize)> {
        let node = NodeId(self.own_number(id)?);
        let found = self.parts.archive.dag_of_node(node).await?;
        let detail = self.detail_of(found).await?;
        let index = detail.as_ref().and_then(|d| d.snapshot.nodes.iter().position(|n| n.id == node));
        detail.zip(index).ok_or_else(|| Error::new(Code::TaskNotFound, format!("there is no node {id}")))
    }

    /// `GET /task/sub_task/{id}`: the DAG it is in, and its place there.
    ///
    /// # Errors
    /// As [`App::dag`].
    pub async fn sub_task(&self, id: &str) -> Result<(Detail, crate::engine::event::At)> {
        let sub_task = SubTaskId(self.own_number(id)?);
        let found = self.parts.archive.dag_of_sub_task(sub_task).await?;
        let detail = self.detail_of(found).await?;
        let at = detail
            .as_ref()
            .and_then(|d| d.snapshot.sub_tasks().find(|(_, s)| s.id == sub_task))
            .map(|(at, _)| at);
        detail.zip(at).ok_or_else(|| Error::new(Code::TaskNotFound, format!("there is no sub-task {id}")))
    }

    async fn detail_of(&self, dag: Option<DagId>) -> Result<Option<Detail>> {
        match dag {
            Some(dag) => self.parts.archive.dag(dag, true).await,
            None => Ok(None),
        }
    }

    /// `GET /task/sub_task/{id}/logs`; empty for an unknown number.
    ///
    /// # Errors
    /// `Task.GenericID.Invalid`, or a failing store.
    pub async fn sub_task_logs(&self, id: &str) -> Result<Vec<LogRow>> {
        self.parts.archive.logs(SubTaskId(self.own_number(id)?)).await
    }

    /// # Errors
    /// The identity's refusal for lists of the cluster (H9), or a failing store.
    pub async fn dags(&self, list: DagList, with_logs: bool) -> Result<Vec<Detail>> {
        let filter = match list {
            DagList::Cluster | DagList::ClusterUnfinished if !self.is_cluster_agent() => {
                let text = format!(
                    "{} is {}, but only a CLUSTER AGENT has cluster tasks",
                    self.own(),
                    self.identity()
                );
                return Err(Error::new(Code::IdentityNotSupported, text));
            }
            // Every task is kept by the agent that was asked for it.
            DagList::Cluster | DagList::ClusterUnfinished => return Ok(Vec::new()),
            DagList::AgentUnfinished | DagList::Unfinished => DagFilter::Unfinished,
        };
        self.parts.archive.dags(filter, with_logs).await
    }

    /// Tasks of this agent by their numbers, those after one; a part of them, and none after the last.
    ///
    /// # Errors
    /// A failing store.
    pub async fn dags_after(&self, after: DagId, with_logs: bool) -> Result<Vec<Detail>> {
        self.parts.archive.dags(DagFilter::After(after, READ_AT_ONCE), with_logs).await
    }

    /// The newest task that took this agent's lock, even if it ended long ago.
    ///
    /// # Errors
    /// `Task.NotFound` when there never was one, or a failing store.
    pub async fn last_maintenance(&self, with_logs: bool) -> Result<Detail> {
        let found = self.parts.archive.dags(DagFilter::LastMaintenance, with_logs).await?;
        found.into_iter().next().ok_or_else(|| {
            Error::new(Code::TaskNotFound, format!("no task has ever taken the lock of {}", self.own()))
        })
    }

    /// The same; none is no error (H8).
    ///
    /// # Errors
    /// A failing store.
    pub async fn last_maintenances(&self, with_logs: bool) -> Result<Vec<Detail>> {
        self.parts.archive.dags(DagFilter::LastMaintenance, with_logs).await
    }

    /// Main DAGs whose parts still hold locks.
    ///
    /// # Errors
    /// A failing store.
    pub async fn main_dags(&self, with_logs: bool) -> Result<Vec<Detail>> {
        let mut mains = Vec::new();
        for part in self.last_maintenances(false).await? {
            let main = part.snapshot.definition.main_dag.clone().filter(|_| !part.snapshot.state.is_final());
            let Some(main) = main else { continue };
            match self.dag(&main, with_logs, None).await {
                Ok(detail) => mains.push(detail),
                Err(error) => tracing::debug!(%error, main, "a main DAG cannot be read"),
            }
        }
        Ok(mains)
    }

    /// The newest task of this agent that changed which servers the cluster has: those are cluster tasks with OBShell.
    ///
    /// # Errors
    /// A failing store.
    pub async fn last_cluster_maintenance(&self, with_logs: bool) -> Result<Option<Detail>> {
        let found = self.parts.archive.dags(DagFilter::LastOf(&["scale_out", "scale_in"]), with_logs).await?;
        Ok(found.into_iter().next())
    }

    /// `POST /task/dag/{id}`; returns when the new state can be read back.
    ///
    /// # Errors
    /// The refusals of the engine, `Task.NotFound`, a held lock, or a failing store.
    pub async fn operate_dag(&self, id: &str, wish: Wish, caller: &Caller) -> Result<()> {
        let dag = DagId(self.own_number(id)?);
        match wish {
            Wish::Operate(operator) => self.parts.engine.operate(dag, operator, &caller.actor).await,
            Wish::Steer(steer) => self.parts.engine.steer(dag, steer, &caller.actor).await,
        }
    }

    /// `POST /task/node/{id}`: PASS.
    ///
    /// # Errors
    /// As [`App::operate_dag`], and `Task.Node.Operator.NotSupport` for other operators.
    pub async fn operate_node(&self, id: &str, wish: Wish, caller: &Caller) -> Result<()> {
        if wish != Wish::Operate(Operator::Pass) {
            let text = format!("{} is not possible for a node, only PASS is", wish.text());
            return Err(Error::new(Code::NodeOperatorUnknown, text));
        }
        let (detail, index) = self.node(id).await?;
        let node = detail.snapshot.nodes[index].id;
        self.parts.engine.pass_node(detail.snapshot.id, node, &caller.actor).await
    }

    /// Records after a number, for a stream that goes on where it was cut.
    ///
    /// # Errors
    /// A failing store.
    pub async fn records(&self, after: EventId, limit: u32) -> Result<Vec<Record>> {
        self.parts.archive.records(None, after, limit).await
    }

    /// # Errors
    /// A failing store.
    pub async fn newest_record(&self) -> Result<EventId> {
        self.parts.archive.newest().await
    }

    pub fn feed(&self) -> tokio::sync::broadcast::Receiver<std::sync::Arc<Record>> {
        self.parts.archive.feed()
    }
}

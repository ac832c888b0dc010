//! Task routes.

use std::time::Duration;

use actix_web::web::Path;
use serde_json::Value;

use super::call::Call;
use super::reply::Outcome;
use crate::app::{Blocked, DagList, Watch};
use crate::engine::port::Detail;
use crate::error::{Code, Result};
use crate::model::{EventId, on_wire};
use crate::wire::{
    self, BlockedView, Contents, DagDetail, Envelope, LockView, LogLine, NodeDetail, NotReached,
    OperatorBody, SubTaskDetail, WaitView, operator_body,
};

/// One task, at once or when it has changed
#[utoipa::path(get, path = "/api/v1/task/dag/{id}", tag = "task",
    params(
        ("id" = String, Path, description = "Generic id"),
        ("show_details" = Option<bool>, Query, description = "With nodes; true by default"),
        ("watch" = Option<i64>, Query, description = "Answer when something has happened after this version"),
        ("wait" = Option<u64>, Query, description = "… or after so many seconds; 30 by default")),
    responses((status = 200, body = Envelope<DagDetail>)))]
pub(super) async fn dag(call: Call<()>, id: Path<String>) -> Outcome<DagDetail> {
    let found: Result<_> = async {
        let details = call.show_details()?;
        let watch = watch(&call)?;
        let detail = call.app.dag(&id, details, watch).await?;
        Ok(wire::dag_detail(call.app.own(), &detail, details))
    }
    .await;
    Outcome::data(found)
}

fn watch(call: &Call<()>) -> Result<Option<Watch>> {
    const WAIT_DEFAULT_SECS: u64 = 30;
    let Some(since) = call.number("watch", 0, i64::MAX as u64)? else { return Ok(None) };
    let most = call.door.watch_wait_max_secs();
    let wait = call.number("wait", 0, u64::MAX)?.unwrap_or(WAIT_DEFAULT_SECS).min(most);
    let since = EventId(i64::try_from(since).unwrap_or(i64::MAX));
    Ok(Some(Watch { since, wait: Duration::from_secs(wait) }))
}

/// One node of a task
#[utoipa::path(get, path = "/api/v1/task/node/{id}", tag = "task",
    params(("id" = String, Path, description = "Generic id of the node"), ("show_details" = Option<bool>, Query, description = "With sub-tasks; true by default")),
    responses((status = 200, body = Envelope<NodeDetail>)))]
pub(super) async fn node(call: Call<()>, id: Path<String>) -> Outcome<NodeDetail> {
    let found: Result<_> = async {
        let details = call.show_details()?;
        let (detail, index) = call.app.node(&id).await?;
        Ok(wire::node_detail(call.app.own(), &detail, index, details))
    }
    .await;
    Outcome::data(found)
}

/// One sub-task with its record
#[utoipa::path(get, path = "/api/v1/task/sub_task/{id}", tag = "task", params(("id" = String, Path, description = "Generic id of the sub-task")),
    responses((status = 200, body = Envelope<SubTaskDetail>)))]
pub(super) async fn sub_task(call: Call<()>, id: Path<String>) -> Outcome<SubTaskDetail> {
    let found = call.app.sub_task(&id).await;
    Outcome::data(found.map(|(detail, at)| wire::sub_task_detail(call.app.own(), &detail, at.node, at.sub)))
}

/// The lines of one sub-task, all attempts; empty for an unknown number
#[utoipa::path(get, path = "/api/v1/task/sub_task/{id}/logs", tag = "task", params(("id" = String, Path, description = "Generic id of the sub-task")),
    responses((status = 200, body = Envelope<Contents<LogLine>>)))]
pub(super) async fn sub_task_logs(call: Call<()>, id: Path<String>) -> Outcome<Contents<LogLine>> {
    let rows = call.app.sub_task_logs(&id).await;
    Outcome::list(rows.map(|rows| rows.iter().map(wire::log_line).collect()))
}

/// RETRY, ROLLBACK, CANCEL or PASS a task
///
/// `obpilot.operators` of the task tells which are possible now.
#[utoipa::path(post, path = "/api/v1/task/dag/{id}", tag = "task", params(("id" = String, Path, description = "Generic id of the task")),
    request_body = OperatorBody, responses((status = 200, description = "The new state can be read", body = Envelope<Value>)))]
pub(super) async fn operate_dag(call: Call<OperatorBody>, id: Path<String>) -> Outcome<Value> {
    let done: Result<()> = async {
        let operator = operator_body(&call.body, &id, Code::DagOperatorUnknown)?;
        call.app.operate_dag(&id, operator, &call.caller).await
    }
    .await;
    Outcome::nothing(done)
}

/// PASS a failed node; its task goes on with the next one
#[utoipa::path(post, path = "/api/v1/task/node/{id}", tag = "task", params(("id" = String, Path, description = "Generic id of the node")),
    request_body = OperatorBody, responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn operate_node(call: Call<OperatorBody>, id: Path<String>) -> Outcome<Value> {
    let done: Result<()> = async {
        let operator = operator_body(&call.body, &id, Code::NodeOperatorUnknown)?;
        call.app.operate_node(&id, operator, &call.caller).await
    }
    .await;
    Outcome::nothing(done)
}

async fn list(call: Call<()>, list: DagList) -> Outcome<Contents<DagDetail>> {
    let found: Result<_> = async {
        let details = call.show_details()?;
        Ok(render(&call, call.app.dags(list, details).await?, details))
    }
    .await;
    Outcome::list(found)
}

fn render(call: &Call<()>, dags: Vec<Detail>, details: bool) -> Vec<DagDetail> {
    dags.iter().map(|detail| wire::dag_detail(call.app.own(), detail, details)).collect()
}

/// All tasks of the cluster (only on a CLUSTER AGENT)
#[utoipa::path(get, path = "/api/v1/task/dags/ob", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<Contents<DagDetail>>)))]
pub(super) async fn dags_ob(call: Call<()>) -> Outcome<Contents<DagDetail>> {
    list(call, DagList::Cluster).await
}

/// All tasks of this agent, oldest first
#[utoipa::path(get, path = "/api/v1/task/dags/agent", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<Contents<DagDetail>>)))]
pub(super) async fn dags_agent(call: Call<()>) -> Outcome<Contents<DagDetail>> {
    list(call, DagList::Agent).await
}

/// What nobody has dealt with yet: tasks that run, and failed ones that took a lock
#[utoipa::path(get, path = "/api/v1/task/dag/unfinish", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<Contents<DagDetail>>)))]
pub(super) async fn unfinished(call: Call<()>) -> Outcome<Contents<DagDetail>> {
    list(call, DagList::Unfinished).await
}

/// The same of the cluster (only on a CLUSTER AGENT)
#[utoipa::path(get, path = "/api/v1/task/dag/ob/unfinish", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<Contents<DagDetail>>)))]
pub(super) async fn unfinished_ob(call: Call<()>) -> Outcome<Contents<DagDetail>> {
    list(call, DagList::ClusterUnfinished).await
}

/// The same of this agent
#[utoipa::path(get, path = "/api/v1/task/dag/agent/unfinish", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<Contents<DagDetail>>)))]
pub(super) async fn unfinished_agent(call: Call<()>) -> Outcome<Contents<DagDetail>> {
    list(call, DagList::AgentUnfinished).await
}

/// The newest task that took the lock of the cluster
#[utoipa::path(get, path = "/api/v1/task/dag/maintain/ob", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<DagDetail>)))]
pub(super) async fn maintain_ob(call: Call<()>) -> Outcome<DagDetail> {
    let found: Result<_> = async {
        let details = call.show_details()?;
        Ok(wire::dag_detail(call.app.own(), &call.app.last_cluster_maintenance()?, details))
    }
    .await;
    Outcome::data(found)
}

/// The newest task that took the lock of this agent, even if it ended long ago
#[utoipa::path(get, path = "/api/v1/task/dag/maintain/agent", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<DagDetail>)))]
pub(super) async fn maintain_agent(call: Call<()>) -> Outcome<DagDetail> {
    let found: Result<_> = async {
        let details = call.show_details()?;
        Ok(wire::dag_detail(call.app.own(), &call.app.last_maintenance(details).await?, details))
    }
    .await;
    Outcome::data(found)
}

/// The same of every agent that has one
#[utoipa::path(get, path = "/api/v1/task/dag/maintain/agents", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<Contents<DagDetail>>)))]
pub(super) async fn maintain_agents(call: Call<()>) -> Outcome<Contents<DagDetail>> {
    let found: Result<_> = async {
        let details = call.show_details()?;
        Ok(render(&call, call.app.last_maintenances(details).await?, details))
    }
    .await;
    Outcome::list(found)
}

/// Main tasks whose parts still hold locks
#[utoipa::path(get, path = "/api/v1/task/dag/agent/main_dags", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<Contents<DagDetail>>)))]
pub(super) async fn main_dags(call: Call<()>) -> Outcome<Contents<DagDetail>> {
    let found: Result<_> = async {
        let details = call.show_details()?;
        Ok(render(&call, call.app.main_dags(details).await?, details))
    }
    .await;
    Outcome::list(found)
}

/// Who holds what on which agent, since when, for what, until when; and what this agent's tasks wait for
#[utoipa::path(get, path = "/api/v1/task/blocked", tag = "task", responses((status = 200, body = Envelope<BlockedView>)))]
pub(super) async fn blocked(call: Call<()>) -> Outcome<BlockedView> {
    Outcome::data(call.app.blocked().await.map(render_blocked))
}

fn render_blocked(blocked: Blocked) -> BlockedView {
    let locks = blocked.locks.into_iter().map(|(agent, held)| LockView {
        agent: agent.to_string(),
        id: held.id,
        sub_dag: held.sub_dag,
        name: held.name,
        since: on_wire(held.since),
        doing: held.doing,
        until: held.until.map(on_wire),
        actor: held.actor,
    });
    let not_reached =
        blocked.not_reached.into_iter().map(|(agent, why)| NotReached { agent: agent.to_string(), why });
    let waits = blocked.waits.into_iter().map(|wait| WaitView {
        task: wait.task,
        name: wait.name,
        node: wait.node,
        agent: wait.agent.to_string(),
        what: wait.what,
        since: wait.since.map(on_wire),
        until: wait.until.map(on_wire),
    });
    BlockedView { locks: locks.collect(), not_reached: not_reached.collect(), waits: waits.collect() }
}

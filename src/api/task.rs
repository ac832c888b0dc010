//! Task routes.

use std::time::Duration;

use actix_web::web::Path;
use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::Call;
use super::info::ask;
use super::reply::Outcome;
use crate::app::{Blocked, DagList, Watch};
use crate::engine::port::Detail;
use crate::error::{Code, Error, Result};
use crate::model::{DagId, EventId, Identity, InstanceId, Timestamp, on_wire};
use crate::wire::{
    self, BlockedView, Contents, DagDetail, Envelope, LockView, LogLine, NodeDetail, NotReached,
    OperatorBody, SubTaskDetail, WaitView, operator_body,
};

/// For another agent to tell its tasks.
const OTHERS_LIMIT: Duration = Duration::from_secs(3);

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
        Ok(shown(&call, &detail, details))
    }
    .await;
    Outcome::data(found)
}

/// With its number in v2, as far as that is known without asking anybody.
fn shown(call: &Call<()>, detail: &Detail, details: bool) -> DagDetail {
    let own = call.app.own();
    let is_main = detail.snapshot.definition.main_dag.is_none();
    let server = call.app.known_numbers().of(own).filter(|_| is_main);
    let number = server.and_then(|server| InstanceId::of_dag(server, detail.snapshot.id));
    DagDetail { task_instance_id: number.map(InstanceId::get), ..wire::dag_detail(own, detail, details) }
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

/// RETRY, ROLLBACK, CANCEL or PASS a task; PAUSE, RESUME or ABORT one that has safe points
///
/// A pause or an abort is recorded when this answers, and takes effect before the next safe point.
/// `obpilot.operators` of the task tells which are possible now.
#[utoipa::path(post, path = "/api/v1/task/dag/{id}", tag = "task", params(("id" = String, Path, description = "Generic id of the task")),
    request_body = OperatorBody, responses((status = 200, description = "The new state can be read", body = Envelope<Value>)))]
pub(super) async fn operate_dag(call: Call<OperatorBody>, id: Path<String>) -> Outcome<Value> {
    let done: Result<()> = async {
        let wish = operator_body(&call.body, &id, Code::DagOperatorUnknown)?;
        call.app.operate_dag(&id, wish, &call.caller).await
    }
    .await;
    Outcome::nothing(done)
}

/// PASS a failed node; its task goes on with the next one
#[utoipa::path(post, path = "/api/v1/task/node/{id}", tag = "task", params(("id" = String, Path, description = "Generic id of the node")),
    request_body = OperatorBody, responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn operate_node(call: Call<OperatorBody>, id: Path<String>) -> Outcome<Value> {
    let done: Result<()> = async {
        let wish = operator_body(&call.body, &id, Code::NodeOperatorUnknown)?;
        call.app.operate_node(&id, wish, &call.caller).await
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
    dags.iter().map(|detail| shown(call, detail, details)).collect()
}

/// What the other agents answer, as many as do in time. Who is asked by another agent asks nobody.
async fn of_others<T: DeserializeOwned>(call: &Call<()>, target: &str, details: bool) -> Vec<T> {
    if call.peer.is_some() {
        return Vec::new();
    }
    let target = format!("{target}?show_details={details}");
    let others = call.app.agents().into_iter().filter(|agent| *agent != call.app.own());
    let answers = join_all(others.map(|agent| ask(call, agent, &target, OTHERS_LIMIT))).await;
    answers.into_iter().flatten().filter_map(|data| serde_json::from_value(data).ok()).collect()
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
    let found: Result<_> = async {
        let details = call.show_details()?;
        let (mut all, mut after) = (Vec::new(), DagId(0));
        loop {
            let some = call.app.dags_after(after, details).await?;
            let Some(last) = some.last() else { return Ok(all) };
            after = last.snapshot.id;
            all.extend(render(&call, some, details));
        }
    }
    .await;
    Outcome::list(found)
}

/// What nobody has dealt with yet: tasks that run, and failed ones that took a lock; in a cluster those of all its agents
#[utoipa::path(get, path = "/api/v1/task/dag/unfinish", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<Contents<DagDetail>>)))]
pub(super) async fn unfinished(call: Call<()>) -> Outcome<Contents<DagDetail>> {
    let found: Result<_> = async {
        let details = call.show_details()?;
        let mut all = render(&call, call.app.dags(DagList::Unfinished, details).await?, details);
        if call.app.ledger().state().identity == Identity::ClusterAgent {
            let target = "/api/v1/task/dag/agent/unfinish";
            let theirs = of_others::<Contents<DagDetail>>(&call, target, details).await;
            all.extend(theirs.into_iter().flat_map(|theirs| theirs.contents));
        }
        Ok(all)
    }
    .await;
    Outcome::list(found)
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

/// The newest task of any agent that changed which servers the cluster has
#[utoipa::path(get, path = "/api/v1/task/dag/maintain/ob", tag = "task", params(("show_details" = Option<bool>, Query, description = "With nodes; true by default")),
    responses((status = 200, body = Envelope<DagDetail>)))]
pub(super) async fn maintain_ob(call: Call<()>) -> Outcome<DagDetail> {
    let found: Result<_> = async {
        let details = call.show_details()?;
        let own = call.app.last_cluster_maintenance(details).await?;
        let own = own.map(|own| shown(&call, &own, details));
        let theirs = of_others::<DagDetail>(&call, "/api/v1/task/dag/maintain/ob", details).await;
        let begun = |dag: &DagDetail| dag.start_time.parse::<Timestamp>().ok();
        own.into_iter().chain(theirs).max_by_key(begun).ok_or_else(|| {
            Error::new(Code::TaskNotFound, "no task has ever changed which servers this cluster has")
        })
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
        Ok(shown(&call, &call.app.last_maintenance(details).await?, details))
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
        let mut all = render(&call, call.app.last_maintenances(details).await?, details);
        all.extend(of_others(&call, "/api/v1/task/dag/maintain/agent", details).await);
        Ok(all)
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

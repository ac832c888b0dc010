//! Tasks of the whole cluster, through any agent (`ocp-v2.md` §2).

use actix_web::web::Path;
use serde_json::Value;

use super::call::Call;
use super::cluster::cluster_ref;
use super::error::{About as _, Concern, OcpCode, Refusal};
use super::query::{Asked, number};
use super::reply::Outcome;
use crate::app::{App, Numbered, Page};
use crate::error::Error;
use crate::flow::instance::{InstanceAct, Progress, SortBy, Wanted};
use crate::wire::v2::{
    EnvelopeV2, Frame, PageInfo, Shape, Step, StepLogView, Task, TaskPage, render_item, render_log,
    render_step, render_task,
};

/// All tasks that are asked for are made by hand.
const MANUAL: &str = "MANUAL";

/// Tasks of all agents that answer, the newest first; parts of other tasks are none
#[utoipa::path(get, path = "/api/v2/tasks/instances", tag = "task",
    params(("name" = Option<String>, Query, description = "Part of the task's name, in any case"),
        ("status" = Option<String>, Query, description = "Comma list of RUNNING, FAILED, SUCCESSFUL"),
        ("type" = Option<String>, Query, description = "MANUAL; there are no others"),
        ("clusterName" = Option<String>, Query, description = "Name of the cluster; also spelled cluterName"),
        ("clusterId" = Option<i64>, Query, description = "Id of the cluster"),
        ("tenantName" = Option<String>, Query, description = "Needs clusterId; no task is about a tenant"),
        ("tenantId" = Option<i64>, Query, description = "No task is about a tenant"),
        ("hostId" = Option<i64>, Query, description = "Orders over exactly this server"),
        ("page" = Option<u32>, Query, description = "From 1"),
        ("size" = Option<u32>, Query, description = "1 to 2000; 10 by default"),
        ("sort" = Option<String>, Query, description = "id, name, status, startTime or finishTime, then ,asc or ,desc; startTime,desc by default")),
    responses((status = 200, body = EnvelopeV2<TaskPage>)))]
pub(super) async fn list(call: Call) -> Outcome<TaskPage> {
    let asked = Asked::of(&call.query);
    let listed = async {
        let (wanted, page) = (wanted(&asked)?, asked.page()?);
        if !is_about_us(&call.app, &asked)? {
            return Ok(task_page(&call.app, page, 0, &[]));
        }
        let listed = call.app.list_instances(&wanted, page).await;
        Ok(task_page(&call.app, page, listed.total, &listed.instances))
    };
    Outcome::data(listed.await)
}

fn wanted(asked: &Asked) -> Result<Wanted, Refusal> {
    let progress = Progress::ALL.map(|progress| (progress.text(), progress));
    let fields = [
        ("id", SortBy::Id),
        ("name", SortBy::Name),
        ("status", SortBy::Status),
        ("startTime", SortBy::StartTime),
        ("finishTime", SortBy::FinishTime),
    ];
    let (sort, is_ascending) = asked.sort(&fields)?.unwrap_or((SortBy::StartTime, false));
    Ok(Wanted {
        name: asked.text("name").map(str::to_owned),
        progress: asked.words("status", &progress)?,
        server: asked.number("hostId")?,
        sort,
        is_ascending,
    })
}

/// Whether any task of ours can be meant.
fn is_about_us(app: &App, asked: &Asked) -> Result<bool, Refusal> {
    let cluster = cluster_ref(app);
    let id = asked.number("clusterId")?;
    if asked.text("tenantName").is_some() && id.is_none() {
        let text = "tenantName needs clusterId: names of tenants are unique within a cluster only";
        return Err(Refusal::new(OcpCode::ParameterInvalid, text));
    }
    let is_of_tenant = asked.text("tenantName").is_some() || asked.number("tenantId")?.is_some();
    let name = asked.text("clusterName").or_else(|| asked.text("cluterName"));
    let is_ours = id.is_none_or(|id| cluster.as_ref().is_some_and(|known| known.id == id))
        && name.is_none_or(|name| cluster.as_ref().is_some_and(|known| known.name == name));
    let is_manual = asked.text("type").is_none_or(|kind| kind.eq_ignore_ascii_case(MANUAL));
    Ok(is_ours && is_manual && !is_of_tenant)
}

fn task_page(app: &App, page: Page, total: usize, instances: &[Numbered]) -> TaskPage {
    let item = |found: &Numbered| render_item(&found.instance, &frame(app, found, Shape::Query));
    TaskPage {
        contents: instances.iter().map(item).collect(),
        page: PageInfo::new(page.number, page.size, total),
    }
}

/// Everything around a task that it does not know itself.
pub(super) fn frame(app: &App, found: &Numbered, shape: Shape) -> Frame {
    Frame { server: found.server, cluster: cluster_ref(app), shape }
}

fn shown(app: &App, found: &Numbered) -> Task {
    render_task(&found.instance, &frame(app, found, Shape::Query))
}

/// One task
#[utoipa::path(get, path = "/api/v2/tasks/instances/{taskInstanceId}", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task")), responses((status = 200, body = EnvelopeV2<Task>)))]
pub(super) async fn one(call: Call, id: Path<String>) -> Outcome<Task> {
    let found = async {
        let found = call.app.instance(task_number(&id)?).await.about(Concern::Task)?;
        Ok(shown(&call.app, &found))
    };
    Outcome::data(found.await)
}

/// The same, as clients ask for it that leave `instances` out
#[utoipa::path(get, path = "/api/v2/tasks/{taskInstanceId}", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task")), responses((status = 200, body = EnvelopeV2<Task>)))]
pub(super) async fn one_by_alias(call: Call, id: Path<String>) -> Outcome<Task> {
    one(call, id).await
}

fn task_number(text: &str) -> Result<i64, Refusal> {
    number("taskInstanceId", text)
}

async fn act(call: Call, id: &str, act: InstanceAct) -> Outcome<Task> {
    let done = async {
        let id = task_number(id)?;
        let found = call.app.operate_instance(id, act, &call.caller).await.about(Concern::Task)?;
        Ok(shown(&call.app, &found))
    };
    Outcome::data(done.await)
}

/// Run every failed step again
#[utoipa::path(post, path = "/api/v2/tasks/instances/{taskInstanceId}/retry", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task")), responses((status = 200, body = EnvelopeV2<Task>)))]
pub(super) async fn retry(call: Call, id: Path<String>) -> Outcome<Task> {
    act(call, &id, InstanceAct::Retry).await
}

/// Undo, from the failed steps back to the first
#[utoipa::path(post, path = "/api/v2/tasks/instances/{taskInstanceId}/rollback", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task")), responses((status = 200, body = EnvelopeV2<Task>)))]
pub(super) async fn rollback(call: Call, id: Path<String>) -> Outcome<Task> {
    act(call, &id, InstanceAct::Rollback).await
}

/// Ours: stand still before the next zone
///
/// Until then it is RUNNING with `obpilot.asked`; then it is FAILED, as everything that waits for a person, with `obpilot.pausedBefore`.
#[utoipa::path(post, path = "/api/v2/tasks/instances/{taskInstanceId}/pause", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task")), responses((status = 200, body = EnvelopeV2<Task>)))]
pub(super) async fn pause(call: Call, id: Path<String>) -> Outcome<Task> {
    act(call, &id, InstanceAct::Pause).await
}

/// Ours: go on after a pause, or take a pause or an abort back
#[utoipa::path(post, path = "/api/v2/tasks/instances/{taskInstanceId}/resume", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task")), responses((status = 200, body = EnvelopeV2<Task>)))]
pub(super) async fn resume(call: Call, id: Path<String>) -> Outcome<Task> {
    act(call, &id, InstanceAct::Resume).await
}

/// Ours: end as failed before the next zone; what was done stays
#[utoipa::path(post, path = "/api/v2/tasks/instances/{taskInstanceId}/abort", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task")), responses((status = 200, body = EnvelopeV2<Task>)))]
pub(super) async fn abort(call: Call, id: Path<String>) -> Outcome<Task> {
    act(call, &id, InstanceAct::Abort).await
}

/// Task and step of a path.
type Ids = Path<(String, String)>;

fn step_number(text: &str) -> Result<i64, Refusal> {
    number("subtaskInstanceId", text)
}

/// Does something to a step; the step as it is then.
async fn act_on_step(
    call: &Call,
    ids: &Ids,
    what: impl FnOnce(crate::model::SubTaskId) -> InstanceAct,
) -> Result<Step, Refusal> {
    let (id, step) = (task_number(&ids.0)?, step_number(&ids.1)?);
    let act = what(call.app.step_of_instance(id, step).about(Concern::Task)?);
    let found = call.app.operate_instance(id, act, &call.caller).await.about(Concern::Task)?;
    let shown = render_step(&found.instance, step, &frame(&call.app, &found, Shape::Query));
    shown.ok_or_else(|| Error::unexpected("a step was operated that its task does not have").into())
}

/// Run one failed step again
#[utoipa::path(post, path = "/api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/retry", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task"), ("subtaskInstanceId" = i64, Path, description = "Id of the step")),
    responses((status = 200, body = EnvelopeV2<Step>)))]
pub(super) async fn retry_step(call: Call, ids: Ids) -> Outcome<Step> {
    Outcome::data(act_on_step(&call, &ids, InstanceAct::RetryStep).await)
}

/// Count a failed step as done
#[utoipa::path(post, path = "/api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/skip", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task"), ("subtaskInstanceId" = i64, Path, description = "Id of the step")),
    responses((status = 200, description = "Done; no data", body = EnvelopeV2<Value>)))]
pub(super) async fn skip_step(call: Call, ids: Ids) -> Outcome<Value> {
    Outcome::nothing(act_on_step(&call, &ids, InstanceAct::SkipStep).await.map(drop))
}

/// Interrupt a running step
#[utoipa::path(post, path = "/api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/cancel", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task"), ("subtaskInstanceId" = i64, Path, description = "Id of the step")),
    responses((status = 200, description = "It is being interrupted; no data", body = EnvelopeV2<Value>)))]
pub(super) async fn cancel_step(call: Call, ids: Ids) -> Outcome<Value> {
    Outcome::nothing(act_on_step(&call, &ids, InstanceAct::CancelStep).await.map(drop))
}

/// What a step has recorded so far
#[utoipa::path(get, path = "/api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/log", tag = "task",
    params(("taskInstanceId" = i64, Path, description = "Id of the task"), ("subtaskInstanceId" = i64, Path, description = "Id of the step")),
    responses((status = 200, body = EnvelopeV2<StepLogView>)))]
pub(super) async fn step_log(call: Call, ids: Ids) -> Outcome<StepLogView> {
    let read = async {
        let (id, step) = (task_number(&ids.0)?, step_number(&ids.1)?);
        call.app.step_log(id, step).await.map(|log| render_log(&log)).about(Concern::Task)
    };
    Outcome::data(read.await)
}

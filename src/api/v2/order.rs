//! The nine operations (`ocp-v2.md` §1): start, stop and restart of a server, a zone and the cluster.

use actix_web::Either;
use actix_web::web::Path;

use super::call::Call;
use super::cluster::{check_cluster, check_zone};
use super::error::{About as _, Concern, OcpCode, Refusal};
use super::query::{number, pairs};
use super::reply::Outcome;
use super::task::frame;
use crate::api::ob::render_plan;
use crate::app::{App, OrderRequest, OrderWish};
use crate::config::V2Shape;
use crate::flow::roll::Verb;
use crate::model::{AgentAddr, Scope};
use crate::wire::Plan;
use crate::wire::v2::{EnvelopeV2, OrderBody, Ordered, Shape, StopKind, Task, TaskOrPlanV2, render_task};

/// A task, or what it would be.
pub(super) type TaskOrPlan = Either<Outcome<Task>, Outcome<Plan>>;

/// What an operation is over, as its path says.
enum Target {
    Server(String),
    Zone(String),
    Cluster,
}

impl Target {
    fn concern(&self) -> Concern {
        match self {
            Self::Server(_) => Concern::Server,
            Self::Zone(_) => Concern::Zone,
            Self::Cluster => Concern::Cluster,
        }
    }

    async fn scope(&self, app: &App, ordered: &Ordered) -> Result<Scope, Refusal> {
        match self {
            Self::Server(id) => Ok(Scope::Server(vec![agent_of(app, id).await?])),
            Self::Zone(name) => Ok(Scope::Zone(vec![check_zone(app, name).await?])),
            Self::Cluster if ordered.zones.is_empty() => Ok(Scope::Global),
            Self::Cluster => {
                for zone in &ordered.zones {
                    check_zone(app, zone.as_str()).await?;
                }
                Ok(Scope::Zone(ordered.zones.clone()))
            }
        }
    }
}

/// The agent beside a server.
async fn agent_of(app: &App, id: &str) -> Result<AgentAddr, Refusal> {
    let id = number("serverId", id)?;
    let numbers = app.numbers().await;
    if let Some(agent) = numbers.agent(id) {
        return Ok(agent);
    }
    let text = match app.topology().await.by_id(id) {
        Some(known) => format!("no agent of this cluster is beside server {id} ({})", known.server),
        None => format!("there is no server {id}; see GET /api/v2/ob/clusters/{{id}}/servers"),
    };
    Err(Refusal::new(OcpCode::NoServer, text))
}

fn wish(verb: Verb, target: &Target, ordered: &Ordered) -> OrderWish {
    let ends = verb != Verb::Start;
    let is_cluster_restart = verb == Verb::Restart && matches!(target, Target::Cluster);
    let is_server_stop = verb == Verb::Stop && matches!(target, Target::Server(_));
    let is_forced = ends && ordered.is_forced;
    OrderWish {
        is_forced,
        // OCP's forced restart of a cluster takes all zones together.
        stops_the_world: is_cluster_restart && (ordered.stops_the_world || is_forced),
        freezes: ends && ordered.freezes,
        is_service_only: is_server_stop && ordered.kind == StopKind::StopService,
        order: ordered.order.clone(),
        at_most: ordered.at_most,
        pause_secs: ordered.pause_secs,
        server_deadline_secs: ordered.server_deadline_secs,
    }
}

async fn order(call: Call, cluster: &str, target: Target, verb: Verb) -> TaskOrPlan {
    let concern = target.concern();
    let wanted = async {
        check_cluster(&call.app, cluster)?;
        let mut ordered = Ordered::read(&pairs(&call.query), &call.body).about(concern)?;
        if !(verb == Verb::Restart && matches!(target, Target::Cluster)) {
            ordered.zones.clear();
        }
        for zone in &ordered.order {
            check_zone(&call.app, zone.as_str()).await?;
        }
        let request = OrderRequest {
            verb,
            scope: target.scope(&call.app, &ordered).await?,
            force_pass: ordered.force_pass.clone(),
            wish: wish(verb, &target, &ordered),
            plan_hash: ordered.plan_hash.clone(),
        };
        Ok((request, ordered.wants_plan))
    };
    match wanted.await {
        Err(refusal) => Either::Left(Outcome::data(Err(refusal))),
        Ok((request, true)) => {
            let plan = call.app.plan_order(&request, &call.caller).await;
            Either::Right(Outcome::data(plan.map(render_plan).about(concern)))
        }
        Ok((request, false)) => Either::Left(Outcome::data(make(&call, request, concern).await)),
    }
}

async fn make(call: &Call, wanted: OrderRequest, concern: Concern) -> Result<Task, Refusal> {
    // Nothing is made that could not be named afterwards.
    call.app.check_numbered().await.about(concern)?;
    let made = call.app.order(wanted, &call.caller, call.request()).await.about(concern)?;
    let found = call.app.made_instance(made.snapshot.id).await.about(concern)?;
    let shape = match call.door.limits().v2_shape {
        V2Shape::Page => Shape::of_page(&found.instance),
        V2Shape::Newer => Shape::Newer,
    };
    let mut task = render_task(&found.instance, &frame(&call.app, &found, shape));
    task.obpilot.notes = made.notes;
    Ok(task)
}

/// Start a server
#[utoipa::path(post, path = "/api/v2/ob/clusters/{id}/servers/{serverId}/start", tag = "cluster", request_body = Option<OrderBody>,
    params(("id" = i64, Path, description = "Id of the cluster"), ("serverId" = i64, Path, description = "Id of the server"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Start OB server`, in the older shape; with `plan=true` a plan", body = EnvelopeV2<TaskOrPlanV2>)))]
pub(super) async fn start_server(call: Call, ids: Path<(String, String)>) -> TaskOrPlan {
    let (cluster, server) = ids.into_inner();
    order(call, &cluster, Target::Server(server), Verb::Start).await
}

/// Stop a server
#[utoipa::path(post, path = "/api/v2/ob/clusters/{id}/servers/{serverId}/stop", tag = "cluster", request_body = Option<OrderBody>,
    params(("id" = i64, Path, description = "Id of the cluster"), ("serverId" = i64, Path, description = "Id of the server"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Stop OB server`, in the older shape; with `plan=true` a plan", body = EnvelopeV2<TaskOrPlanV2>)))]
pub(super) async fn stop_server(call: Call, ids: Path<(String, String)>) -> TaskOrPlan {
    let (cluster, server) = ids.into_inner();
    order(call, &cluster, Target::Server(server), Verb::Stop).await
}

/// Restart a server
#[utoipa::path(post, path = "/api/v2/ob/clusters/{id}/servers/{serverId}/restart", tag = "cluster", request_body = Option<OrderBody>,
    params(("id" = i64, Path, description = "Id of the cluster"), ("serverId" = i64, Path, description = "Id of the server"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Restart OB server`, in the newer shape; with `plan=true` a plan", body = EnvelopeV2<TaskOrPlanV2>)))]
pub(super) async fn restart_server(call: Call, ids: Path<(String, String)>) -> TaskOrPlan {
    let (cluster, server) = ids.into_inner();
    order(call, &cluster, Target::Server(server), Verb::Restart).await
}

/// Start a zone
#[utoipa::path(post, path = "/api/v2/ob/clusters/{id}/zones/{zoneName}/start", tag = "cluster", request_body = Option<OrderBody>,
    params(("id" = i64, Path, description = "Id of the cluster"), ("zoneName" = String, Path, description = "Name of the zone"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Start OB zone`, in the newer shape; with `plan=true` a plan", body = EnvelopeV2<TaskOrPlanV2>)))]
pub(super) async fn start_zone(call: Call, ids: Path<(String, String)>) -> TaskOrPlan {
    let (cluster, zone) = ids.into_inner();
    order(call, &cluster, Target::Zone(zone), Verb::Start).await
}

/// Stop a zone
#[utoipa::path(post, path = "/api/v2/ob/clusters/{id}/zones/{zoneName}/stop", tag = "cluster", request_body = Option<OrderBody>,
    params(("id" = i64, Path, description = "Id of the cluster"), ("zoneName" = String, Path, description = "Name of the zone"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Stop OB zone`, in the newer shape; with `plan=true` a plan", body = EnvelopeV2<TaskOrPlanV2>)))]
pub(super) async fn stop_zone(call: Call, ids: Path<(String, String)>) -> TaskOrPlan {
    let (cluster, zone) = ids.into_inner();
    order(call, &cluster, Target::Zone(zone), Verb::Stop).await
}

/// Restart a zone
#[utoipa::path(post, path = "/api/v2/ob/clusters/{id}/zones/{zoneName}/restart", tag = "cluster", request_body = Option<OrderBody>,
    params(("id" = i64, Path, description = "Id of the cluster"), ("zoneName" = String, Path, description = "Name of the zone"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Restart OB zone`, in the newer shape; with `plan=true` a plan", body = EnvelopeV2<TaskOrPlanV2>)))]
pub(super) async fn restart_zone(call: Call, ids: Path<(String, String)>) -> TaskOrPlan {
    let (cluster, zone) = ids.into_inner();
    order(call, &cluster, Target::Zone(zone), Verb::Restart).await
}

/// Start the cluster
#[utoipa::path(post, path = "/api/v2/ob/clusters/{id}/start", tag = "cluster", request_body = Option<OrderBody>,
    params(("id" = i64, Path, description = "Id of the cluster"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Start OB cluster`, in the older shape; with `plan=true` a plan", body = EnvelopeV2<TaskOrPlanV2>)))]
pub(super) async fn start_cluster(call: Call, id: Path<String>) -> TaskOrPlan {
    order(call, &id, Target::Cluster, Verb::Start).await
}

/// Stop the cluster
#[utoipa::path(post, path = "/api/v2/ob/clusters/{id}/stop", tag = "cluster", request_body = Option<OrderBody>,
    params(("id" = i64, Path, description = "Id of the cluster"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Stop OB cluster`, in the older shape; with `plan=true` a plan", body = EnvelopeV2<TaskOrPlanV2>)))]
pub(super) async fn stop_cluster(call: Call, id: Path<String>) -> TaskOrPlan {
    order(call, &id, Target::Cluster, Verb::Stop).await
}

/// Restart the cluster, zone by zone
#[utoipa::path(post, path = "/api/v2/ob/clusters/{id}/restart", tag = "cluster", request_body = Option<OrderBody>,
    params(("id" = i64, Path, description = "Id of the cluster"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Restart OB cluster`, in the older shape; with `plan=true` a plan", body = EnvelopeV2<TaskOrPlanV2>)))]
pub(super) async fn restart_cluster(call: Call, id: Path<String>) -> TaskOrPlan {
    order(call, &id, Target::Cluster, Verb::Restart).await
}

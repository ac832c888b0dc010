//! Routes that add servers to the cluster and remove them (`http-api.md` §7.9 to §7.11).

use actix_web::Either;
use actix_web::web::Path;

use super::call::Call;
use super::ob::{TaskOrPlan, render_plan};
use super::reply::Outcome;
use crate::app::{Plan, ScaleInRequest, ScaleOutRequest};
use crate::error::{Code, Error, Result};
use crate::model::ZoneName;
use crate::wire::{self, DagDetail, DeleteZoneBody, Envelope, ScaleInBody, ScaleOutBody};

/// Add a server on a new host to the cluster (only a CLUSTER AGENT; the new agent must be SINGLE)
#[utoipa::path(post, path = "/api/v1/ob/scale_out", tag = "cluster", request_body = ScaleOutBody,
    params(("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Cluster scale out`; with `plan=true` a `Plan` instead", body = Envelope<DagDetail>)))]
pub(super) async fn scale_out(call: Call<ScaleOutBody>) -> TaskOrPlan {
    let plans = call.wants_plan();
    let (request, caller, door) = (call.request(), call.caller.clone(), call.door.clone());
    let (app, body) = call.into_parts();
    let wanted = body.parts().map(|(target, zone, config)| ScaleOutRequest {
        target,
        zone,
        config,
        password: door.open_if_sealed(body.target_agent_password),
        plan_hash: body.plan_hash,
    });
    match (plans, wanted) {
        (Err(error), _) | (_, Err(error)) => refused(error),
        (Ok(true), Ok(wanted)) => planned(app.plan_scale_out(&wanted, &caller).await.map(Some)),
        (Ok(false), Ok(wanted)) => {
            let dag = app.scale_out(wanted, &caller, request).await;
            made(dag.map(|dag| Some(wire::created(app.own(), &dag))))
        }
    }
}

/// Remove a server and its agent from the cluster; 204 when the agent is no member
#[utoipa::path(post, path = "/api/v1/ob/scale_in", tag = "cluster", request_body = ScaleInBody,
    params(("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Cluster scale in`; with `plan=true` a `Plan` instead", body = Envelope<DagDetail>),
        (status = 204, description = "It is no member")))]
pub(super) async fn scale_in(call: Call<ScaleInBody>) -> TaskOrPlan {
    let plans = call.wants_plan();
    let (request, caller) = (call.request(), call.caller.clone());
    let (app, body) = call.into_parts();
    let target = body.agent_info.address("agent_info");
    let wanted =
        target.map(|target| ScaleInRequest { target, is_forced: body.force_kill, plan_hash: body.plan_hash });
    match (plans, wanted) {
        (Err(error), _) | (_, Err(error)) => refused(error),
        (Ok(true), Ok(wanted)) => planned(app.plan_scale_in(&wanted, &caller).await),
        (Ok(false), Ok(wanted)) => {
            let dag = app.scale_in(wanted, &caller, request).await;
            made(dag.map(|dag| dag.map(|dag| wire::created(app.own(), &dag))))
        }
    }
}

/// The same as POST /ob/scale_in
#[utoipa::path(delete, path = "/api/v1/observer", tag = "cluster", request_body = ScaleInBody,
    params(("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Cluster scale in`; with `plan=true` a `Plan` instead", body = Envelope<DagDetail>),
        (status = 204, description = "It is no member")))]
pub(super) async fn scale_in_by_delete(call: Call<ScaleInBody>) -> TaskOrPlan {
    scale_in(call).await
}

/// Remove a zone with its servers and agents; 204 when there is no such zone
#[utoipa::path(delete, path = "/api/v1/zone/{zone_name}", tag = "cluster", request_body = DeleteZoneBody,
    params(("zone_name" = String, Path, description = "The zone"),
        ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Delete zone`; with `plan=true` a `Plan` instead", body = Envelope<DagDetail>),
        (status = 204, description = "There is no such zone")))]
pub(super) async fn delete_zone(call: Call<DeleteZoneBody>, zone: Path<String>) -> TaskOrPlan {
    let plans = call.wants_plan();
    let zone = zone.parse::<ZoneName>().map_err(|e| Error::new(Code::IllegalArgument, e.to_string()));
    let (request, caller) = (call.request(), call.caller.clone());
    let (app, body) = call.into_parts();
    match (plans, zone) {
        (Err(error), _) | (_, Err(error)) => refused(error),
        (Ok(true), Ok(zone)) => planned(app.plan_delete_zone(&zone, &caller).await),
        (Ok(false), Ok(zone)) => {
            let dag = app.delete_zone(&zone, body.plan_hash.as_deref(), &caller, request).await;
            made(dag.map(|dag| dag.map(|dag| wire::created(app.own(), &dag))))
        }
    }
}

pub(super) fn refused(error: Error) -> TaskOrPlan {
    Either::Left(Outcome::data(Err(error)))
}

pub(super) fn planned(plan: Result<Option<Plan>>) -> TaskOrPlan {
    match plan {
        Ok(Some(plan)) => Either::Right(Outcome::data(Ok(render_plan(plan)))),
        Ok(None) => Either::Left(Outcome::no_content()),
        Err(error) => refused(error),
    }
}

pub(super) fn made(dag: Result<Option<DagDetail>>) -> TaskOrPlan {
    Either::Left(match dag {
        Ok(Some(dag)) => Outcome::data(Ok(dag)),
        Ok(None) => Outcome::no_content(),
        Err(error) => Outcome::data(Err(error)),
    })
}

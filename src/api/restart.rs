//! Restarts of servers, zones and the cluster.

use actix_web::Either;

use super::call::Call;
use super::ob::{TaskOrPlan, render_plan};
use super::reply::Outcome;
use crate::app::{OrderRequest, OrderWish};
use crate::error::Result;
use crate::flow::roll::Verb;
use crate::wire::{self, Envelope, RestartBody};

/// Restart servers; several zones one after another, so that business goes on
#[utoipa::path(post, path = "/api/v1/ob/restart", tag = "cluster", request_body = RestartBody,
    params(("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Restart OB cluster`, `Restart OB zone` or `Restart OB server`; with `plan=true` a `Plan` instead", body = Envelope<wire::TaskOrPlan>)))]
pub(super) async fn restart(call: Call<RestartBody>) -> TaskOrPlan {
    let (plans, request, caller) = (call.wants_plan(), call.request(), call.caller.clone());
    let (app, body) = call.into_parts();
    match (plans, wanted(body)) {
        (Err(error), _) | (_, Err(error)) => Either::Left(Outcome::data(Err(error))),
        (Ok(true), Ok(wanted)) => {
            Either::Right(Outcome::data(app.plan_order(&wanted, &caller).await.map(render_plan)))
        }
        (Ok(false), Ok(wanted)) => {
            let made = app.order(wanted, &caller, request).await;
            Either::Left(Outcome::data(
                made.map(|made| wire::created_with(app.own(), &made.snapshot, made.notes)),
            ))
        }
    }
}

fn wanted(body: RestartBody) -> Result<OrderRequest> {
    let wish = OrderWish {
        is_forced: body.force,
        stops_the_world: body.stop_the_world,
        freezes: body.freeze_server,
        is_service_only: false,
        order: body.zones()?,
        at_most: body.parallel,
        pause_secs: body.pause_seconds,
        server_deadline_secs: body.server_deadline_seconds,
    };
    Ok(OrderRequest {
        verb: Verb::Restart,
        scope: body.scope.parse()?,
        force_pass: body.force_pass_dag.ids()?,
        wish,
        plan_hash: body.plan_hash,
    })
}

//! Taking over a cluster that no agent of ours deployed.

use super::call::Call;
use super::door::Door;
use super::guess::counted;
use super::ob::TaskOrPlan;
use super::scale::{made, planned, refused};
use crate::app::{Caller, TakeOverRequest};
use crate::error::{Code, Result};
use crate::wire::{self, DagDetail, Envelope, TakeOverBody};

/// Manage a running cluster that was deployed by somebody else (only a MASTER, which every server's agent has joined)
#[utoipa::path(post, path = "/api/v1/ob/take_over", tag = "cluster", request_body = TakeOverBody,
    params(("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Take over`; with `plan=true` a `Plan` instead", body = Envelope<DagDetail>)))]
pub(super) async fn take_over(call: Call<TakeOverBody>) -> TaskOrPlan {
    let plans = call.wants_plan();
    let (request, caller, door) = (call.request(), call.caller.clone(), call.door.clone());
    let (app, mut body) = call.into_parts();
    let wanted = body.root_password().map(|password| TakeOverRequest {
        root_password: door.open_if_sealed(password),
        plan_hash: body.plan_hash,
    });
    match (plans, wanted) {
        (Err(error), _) | (_, Err(error)) => refused(error),
        (Ok(true), Ok(wanted)) => {
            let plan = guessed(&door, &caller, app.plan_take_over(&wanted, &caller)).await;
            planned(plan.map(Some))
        }
        (Ok(false), Ok(wanted)) => {
            let dag = guessed(&door, &caller, app.take_over(wanted, &caller, request)).await;
            made(dag.map(|dag| Some(wire::created(app.own(), &dag))))
        }
    }
}

async fn guessed<T>(door: &Door, caller: &Caller, tried: impl Future<Output = Result<T>>) -> Result<T> {
    counted(door, caller, tried, |tried| matches!(tried, Err(error) if error.code == Code::PasswordIncorrect))
        .await
}

//! Routes about this agent.

use actix_web::{Either, HttpRequest, HttpResponse, ResponseError};
use serde_json::Value;

use super::call::Call;
use super::elsewhere::hand_on;
use super::meta::Meta;
use super::reply::{Failure, Outcome, failure};
use crate::app::{App, JoinRequest};
use crate::error::Result;
use crate::host::facts;
use crate::model::{AgentAddr, Identity};
use crate::secure;
use crate::tasks::Tasks;
use crate::wire::{self, AgentInfo, Contents, DagDetail, Envelope, HostInfo, JoinBody, PasswordBody};

/// Become the master of a cluster to be, or a follower of one (only a SINGLE agent)
#[utoipa::path(post, path = "/api/v1/agent/join", tag = "agent", request_body = JoinBody,
    responses((status = 200, description = "The task `Join self` or `Join to master`", body = Envelope<DagDetail>)))]
pub(super) async fn join(call: Call<JoinBody>) -> Outcome<DagDetail> {
    let (request, caller) = (call.request(), call.caller.clone());
    let (app, body) = call.into_parts();
    let joined: Result<_> = async {
        let (target, zone, master_password) = body.into_parts()?;
        app.join(JoinRequest { target, zone, master_password }, &caller, request).await
    }
    .await;
    Outcome::data(joined.map(|dag| wire::created(app.own(), &dag)))
}

/// Leave a cluster that is not initialised, or let an agent leave it; 204 when there is nothing to do
#[utoipa::path(post, path = "/api/v1/agent/remove", tag = "agent", request_body = AgentInfo,
    responses((status = 200, description = "The task that removes it", body = Envelope<DagDetail>), (status = 204, description = "It is no member")))]
pub(super) async fn remove(
    call: Call<AgentInfo>,
    request: HttpRequest,
) -> Either<Outcome<DagDetail>, HttpResponse> {
    let target = match call.body.address("the body") {
        Ok(target) => target,
        Err(error) => return Either::Left(Outcome::data(Err(error))),
    };
    let state = call.app.ledger().state();
    let master = state.members.master().map(|member| member.agent);
    if let (Identity::Follower, Some(master), true) = (state.identity, master, target != call.app.own()) {
        return Either::Right(remove_by_master(&call, master, &request).await);
    }
    let removed = call.app.remove(target, &call.caller, call.request()).await;
    Either::Left(match removed {
        Ok(Some(dag)) => Outcome::data(Ok(wire::created(call.app.own(), &dag))),
        Ok(None) => Outcome::no_content(),
        Err(error) => Outcome::data(Err(error)),
    })
}

/// A follower has no say about others.
async fn remove_by_master(call: &Call<AgentInfo>, master: AgentAddr, request: &HttpRequest) -> HttpResponse {
    let body = serde_json::to_vec(&call.body).unwrap_or_default();
    match hand_on(&call.door, master, request, &call.caller, call.idempotency_key.clone(), body).await {
        Ok(answer) => Failure::Answered(Box::new(answer)).error_response(),
        Err(error) => failure(&Meta::of(request), &error),
    }
}

/// The same as POST /agent/remove
#[utoipa::path(delete, path = "/api/v1/agent", tag = "agent", request_body = AgentInfo,
    responses((status = 200, body = Envelope<DagDetail>), (status = 204, description = "It is no member")))]
pub(super) async fn remove_by_delete(
    call: Call<AgentInfo>,
    request: HttpRequest,
) -> Either<Outcome<DagDetail>, HttpResponse> {
    remove(call, request).await
}

/// Set or replace the password of this agent
#[utoipa::path(post, path = "/api/v1/agent/password", tag = "agent", request_body = PasswordBody,
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn password(call: Call<PasswordBody>) -> Outcome<Value> {
    let caller = call.caller.clone();
    let (app, body) = call.into_parts();
    Outcome::nothing(app.set_agent_password(body.password, &caller).await)
}

/// Processors, memory, disks, limits of this host
#[utoipa::path(get, path = "/api/v1/agent/host-info", tag = "agent",
    responses((status = 200, body = Envelope<HostInfo>)))]
pub(super) async fn host_info(call: Call<()>) -> Outcome<HostInfo> {
    Outcome::data(Ok(own_host(&call.app).await))
}

/// What this host is made of.
pub(super) async fn own_host(app: &App) -> HostInfo {
    let (ip, virtualization) = (app.own().ip, app.learned().virtualization);
    let facts = Tasks::blocking(move || facts::read(virtualization)).await;
    HostInfo::new(ip, &facts, secure::sha1_hex)
}

/// The agents of the cluster
#[utoipa::path(get, path = "/api/v1/ob/agents", tag = "agent",
    responses((status = 200, body = Envelope<Contents<AgentInfo>>)))]
pub(super) async fn agents(call: Call<()>) -> Outcome<Contents<AgentInfo>> {
    Outcome::list(Ok(call.app.agents().into_iter().map(AgentInfo::from).collect()))
}

//! Routes about this agent.

use serde_json::Value;

use super::call::Call;
use super::reply::Outcome;
use crate::error::Result;
use crate::host::facts;
use crate::secure;
use crate::tasks::Tasks;
use crate::wire::{self, AgentInfo, Contents, DagDetail, Envelope, HostInfo, JoinBody, PasswordBody};

/// Become the master of a cluster to be (only a SINGLE agent)
#[utoipa::path(post, path = "/api/v1/agent/join", tag = "agent", request_body = JoinBody,
    responses((status = 200, description = "The task `Join self`", body = Envelope<DagDetail>)))]
pub(super) async fn join(call: Call<JoinBody>) -> Outcome<DagDetail> {
    let (request, caller) = (call.request(), call.caller.clone());
    let (app, body) = call.into_parts();
    let joined: Result<_> = async {
        let (target, zone) = body.into_parts()?;
        app.join(target, zone, &caller, request).await
    }
    .await;
    Outcome::data(joined.map(|dag| wire::created(app.own(), &dag)))
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
    let (ip, virtualization) = (call.app.own().ip, call.app.learned().virtualization);
    let facts = Tasks::blocking(move || facts::read(virtualization)).await;
    Outcome::data(Ok(HostInfo::new(ip, &facts, secure::sha1_hex)))
}

/// The agents of the cluster
#[utoipa::path(get, path = "/api/v1/ob/agents", tag = "agent",
    responses((status = 200, body = Envelope<Contents<AgentInfo>>)))]
pub(super) async fn agents(call: Call<()>) -> Outcome<Contents<AgentInfo>> {
    Outcome::list(Ok(call.app.agents().into_iter().map(AgentInfo::from).collect()))
}

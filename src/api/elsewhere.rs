//! Requests that another agent answers: a follower's master, or the owner of a task (`http-api.md` §4.2, §8.2).
//!
//! Invariant: a request is handed on at most once, and only after its caller was let in here.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;

use super::door::Door;
use super::guess::counted_elsewhere;
use super::meta::Meta;
use super::route::is_for_the_master;
use crate::app::Caller;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, GenericId, Identity};
use crate::peer::{Forward, Forwarded};

/// Longer than the longest watch.
const LIMIT: Duration = Duration::from_secs(180);

/// Headers that mean something to whoever answers.
const TRAVELLING: [&str; 2] = ["Accept-Language", "X-OBSHELL-Trace-ID"];

/// Who shall answer instead of us.
///
/// # Errors
/// `Agent.NoMaster` when a follower does not know its own.
pub(super) fn elsewhere(door: &Door, request: &HttpRequest) -> Result<Option<AgentAddr>> {
    let state = door.app().ledger().state();
    let own = door.app().own();
    let master = || {
        let master = state.members.master().map(|member| member.agent).filter(|master| *master != own);
        master.ok_or_else(|| Error::new(Code::NoMaster, "this follower does not know its master"))
    };
    let is_follower = state.identity == Identity::Follower;
    if is_follower && is_for_the_master(request) {
        return master().map(Some);
    }
    let owner = owner_of(request).filter(|owner| *owner != own);
    match owner {
        Some(_) if is_follower => master().map(Some),
        Some(owner) if state.members.find(owner).is_some() => Ok(Some(owner)),
        // Not a member: the handler says so.
        Some(_) | None => Ok(None),
    }
}

/// The agent that owns the task in the path.
fn owner_of(request: &HttpRequest) -> Option<AgentAddr> {
    let pattern = request.match_pattern().filter(|pattern| pattern.starts_with("/api/v1/task/"))?;
    if !pattern.contains("{id}") {
        return None;
    }
    request.match_info().get("id")?.parse::<GenericId>().ok()?.owner()
}

/// Hands a request on, in the name of whom it was let in as.
///
/// # Errors
/// `Agent.RPC.RequestFailed`.
pub(super) async fn hand_on(
    door: &Door,
    to: AgentAddr,
    request: &HttpRequest,
    caller: &Caller,
    idempotency_key: Option<String>,
    body: Vec<u8>,
) -> Result<Forwarded> {
    let meta = Meta::of(request);
    let mut headers = travelling(request.headers());
    headers.extend(idempotency_key.map(|key| ("Idempotency-Key".to_owned(), key)));
    let forward = Forward {
        method: request.method().to_string(),
        target: meta.target.clone(),
        actor: format!("{} via {}", caller.actor, door.app().own()),
        body,
        headers,
        limit: LIMIT,
    };
    let route = request.match_pattern();
    counted_elsewhere(door, caller, route.as_deref(), door.peers().forward(to, &forward)).await
}

fn travelling(headers: &HeaderMap) -> Vec<(String, String)> {
    let found = TRAVELLING.iter().filter_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), value.to_owned()))
    });
    found.collect()
}

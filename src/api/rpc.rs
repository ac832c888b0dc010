//! Routes of other agents: a session begins, a message comes, an agent wants to follow us.

use actix_web::{HttpRequest, HttpResponse};

use super::audit;
use super::call::{Call, OpenBody};
use super::meta::Meta;
use super::reply::{Outcome, failure};
use crate::cluster::Members;
use crate::error::{Code, Error, Result};
use crate::flow::peers::Ask;
use crate::model::Member;
use crate::peer::PeerAnswer;
use crate::secure::{Hello, HelloAnswer, refusal};
use crate::wire::{AdmitBody, InviteBody};

/// The first half of an exchange of keys. Strangers get the one refusal.
pub(super) async fn hello(call: OpenBody, request: HttpRequest) -> Outcome<HelloAnswer> {
    let greeted = greet(&call);
    Outcome::data(greeted.inspect_err(|error| audit::refused(&call.open.door, &request, error)))
}

fn greet(call: &OpenBody) -> Result<HelloAnswer> {
    let door = &call.open.door;
    let hello: Hello = serde_json::from_slice(&call.body).map_err(|_| refusal())?;
    // A member is known by its key, however many strangers come from its address: no limit of failures stands before this.
    let state = call.open.app.ledger().state();
    let greeted = door.sessions().greet(&hello, call.open.app.own(), &state.members, door.now().as_second());
    if let (Err(error), Some(source)) = (&greeted, call.source)
        && error.code != Code::AuthExpired
    {
        tracing::info!(from = %hello.from, %source, "an agent that is no member of ours wants to speak to us");
        door.failed(source);
    }
    greeted
}

/// One message, sealed; its answer is sealed too.
pub(super) async fn message(call: Call<Ask>, request: HttpRequest) -> HttpResponse {
    answer(call).await.unwrap_or_else(|error| failure(&Meta::of(&request), &error))
}

async fn answer(call: Call<Ask>) -> Result<HttpResponse> {
    let peer = call.peer.clone().ok_or_else(refusal)?;
    let answered = call.app.answer(peer.from, &call.body).await;
    if let Err(error) = &answered {
        tracing::debug!(from = %peer.from, cause = %error.chain(), "a message of an agent was refused");
    }
    let plain = serde_json::to_vec(&PeerAnswer::from(answered))
        .map_err(|e| Error::unexpected("an answer cannot be written").with_source(e))?;
    Ok(HttpResponse::Ok().content_type("application/octet-stream").body(peer.answer(&plain)?))
}

/// An agent asks to be taken among our followers.
pub(super) async fn admit(call: Call<AdmitBody>) -> Outcome<Members> {
    let (request_caller, app) = (call.caller.clone(), call.app.clone());
    let AdmitBody { member, is_trial } = call.body;
    Outcome::data(app.admit(member, is_trial, &request_caller).await)
}

/// A member of a cluster adds us.
pub(super) async fn invite(call: Call<InviteBody>) -> Outcome<Member> {
    let (request_caller, app) = (call.caller.clone(), call.app.clone());
    let InviteBody { invitation, is_trial } = call.body;
    Outcome::data(app.be_added(invitation, is_trial, &request_caller).await)
}

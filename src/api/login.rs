//! Login and logout (`http-api.md` §6.2), and what of single sign-on there is: a clear answer.

use serde_json::Value;

use super::auth::Pass;
use super::call::{Call, Discretion, Open, Unread};
use super::reply::Outcome;
use crate::error::{Code, Error, Result};
use crate::secure::SessionId;
use crate::wire::{Envelope, LogoutBody};

/// A session instead of the password, for whoever shows one; honoured by a CLUSTER AGENT
#[utoipa::path(post, path = "/api/v1/login", tag = "session",
    responses((status = 200, description = "The id of the session, sealed under the keys of the request; under scheme v3 the whole answer is", body = Envelope<String>)))]
pub(super) async fn login(call: Call<Unread>) -> Outcome<String> {
    Outcome::data(begin(&call))
}

fn begin(call: &Call<Unread>) -> Result<String> {
    let no_keys = || {
        let text = "a session id is told under the keys of the request's header only, and there are none; seal a header with \
                    keys (the Unix socket needs no session)";
        Error::new(Code::AesKeyNotFound, text)
    };
    let (Pass::Header(by, worth), Some(source)) = (&call.pass, call.caller.source) else {
        return Err(no_keys());
    };
    if matches!(call.discretion, Discretion::None) {
        return Err(no_keys());
    }
    let id = call.door.user_sessions().begin(*by, source, worth.clone(), call.door.now().as_second())?;
    call.discretion.tell(id.expose()).ok_or_else(no_keys)
}

/// End a session: its own, or with a password any
#[utoipa::path(post, path = "/api/v1/logout", tag = "session", request_body = LogoutBody,
    responses((status = 200, description = "It is ended, or was none; another session than the caller's own is left alone", body = Envelope<Value>)))]
pub(super) async fn logout(call: Call<LogoutBody>) -> Outcome<Value> {
    Outcome::nothing(end(&call))
}

fn end(call: &Call<LogoutBody>) -> Result<()> {
    if call.body.session_id.is_empty() {
        return Err(Error::new(Code::BindJsonFailed, "session_id is missing or empty"));
    }
    let named = SessionId::of(call.body.session_id.expose());
    let is_allowed = match &call.pass {
        Pass::Session(own) => own.is(&named),
        Pass::Header(..) | Pass::Socket | Pass::Agent => true,
    };
    if is_allowed {
        call.door.user_sessions().end(&named);
    }
    Ok(())
}

fn no_single_sign_on() -> Outcome<Value> {
    let text = "single sign-on is not supported; log in with POST /api/v1/login";
    Outcome::nothing(Err(Error::new(Code::NotSupported, text)))
}

/// Single sign-on is not supported
#[utoipa::path(post, path = "/api/v1/sso/token", tag = "session",
    responses((status = 400, description = "Always", body = Envelope<Value>)))]
pub(super) async fn sso_token(_: Call<Unread>) -> Outcome<Value> {
    no_single_sign_on()
}

/// Single sign-on is not supported
#[utoipa::path(get, path = "/api/v1/sso/exchange", tag = "session",
    responses((status = 400, description = "Always", body = Envelope<Value>)))]
pub(super) async fn sso_exchange(_: Open) -> Outcome<Value> {
    no_single_sign_on()
}

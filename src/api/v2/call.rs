//! The key to the goods: a handler gets a [`Call`] only when its caller is known and may do what its row asks for.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpRequest};

use super::auth;
use super::error::{OcpCode, Refusal};
use super::reply::Refused;
use super::route::{Needs, needs_of};
use crate::api::audit;
use crate::api::call::{door_of, request_key};
use crate::api::door::Door;
use crate::api::meta::{Meta, Peer};
use crate::app::{App, Caller, Request};
use crate::engine::port::RequestKey;
use crate::error::{Code, Error};

/// A request of a known caller.
#[derive(Debug)]
pub(in crate::api) struct Call {
    pub(in crate::api) app: App,
    pub(in crate::api) door: Door,
    pub(in crate::api) caller: Caller,
    /// As it came; empty where there is none. Nobody has looked at it.
    pub(in crate::api) body: Vec<u8>,
    /// As it came, without its question mark.
    pub(in crate::api) query: String,
    key: Option<RequestKey>,
}

impl Call {
    pub(in crate::api) fn request(&self) -> Request {
        Request { key: self.key.clone() }
    }
}

impl FromRequest for Call {
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Refused>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let meta = Meta::of(&request);
            admit(&request, &meta, payload).await.map_err(|refusal| Refused { refusal, meta })
        })
    }
}

async fn admit(request: &HttpRequest, meta: &Rc<Meta>, payload: Payload) -> Result<Call, Refusal> {
    let door = door_of(request);
    let admitted = auth::admit(&door, meta, request, payload).await;
    let auth::Admitted { known, body } =
        admitted.inspect_err(|refusal| audit::refused(&door, request, &refusal.error))?;
    let auth::Known { user, role, caller } = known;
    if let Some(needed) = needs_of(request).role()
        && role < needed
    {
        let text = format!("{user} is {role}; this needs {needed}");
        let refusal = Refusal::new(OcpCode::NoPermission, text);
        audit::refused(&door, request, &refusal.error);
        return Err(refusal);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        // Set once: this is the only place.
        drop(meta.actor.set(caller.actor.clone()));
    }
    let key = request.headers().get("Idempotency-Key").map(|value| value.to_str().unwrap_or_default());
    let key = key.map(|key| request_key(key, request, meta, &body)).transpose()?;
    let (app, query) = (door.app().clone(), request.query_string().to_owned());
    Ok(Call { app, door, caller, body, query, key })
}

/// A request on an open route: only the socket's peer is looked at.
#[derive(Debug)]
pub(in crate::api) struct Open {
    pub(in crate::api) app: App,
}

impl FromRequest for Open {
    type Error = Refused;
    type Future = std::future::Ready<Result<Self, Refused>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let (meta, door) = (Meta::of(request), door_of(request));
        let is_allowed = match meta.peer {
            Peer::Unix { uid } => door.may_use_socket(uid),
            Peer::Tcp(_) => true,
            Peer::Unknown => false,
        };
        std::future::ready(if needs_of(request) == Needs::Open && is_allowed {
            Ok(Self { app: door.app().clone() })
        } else {
            let error = Error::new(Code::UserDenied, "this user may not use the socket");
            audit::refused(&door, request, &error);
            Err(Refused { refusal: error.into(), meta })
        })
    }
}

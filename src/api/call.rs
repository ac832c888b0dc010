//! The key to the goods: a handler gets a [`Call`] only when its caller was let in and its body was opened and parsed.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, web};
use futures_util::StreamExt;

use super::audit;
use super::auth::{self, Admitted, NotAdmitted, Pass, PeerSeal, Seal};
use super::door::Door;
use super::elsewhere::{elsewhere, hand_on};
use super::meta::Meta;
use super::public::form_value;
use super::reply::Failure;
use super::route::class_of;
use super::sealed::Answering;
use crate::app::{App, Caller, Request};
use crate::config::Api;
use crate::engine::port::RequestKey;
use crate::error::{Code, Error, Result};
use crate::flow::peers::Ask;
use crate::secure::{BodyKey, RouteClass, body_refusal};
use crate::wire::{
    AccountBody, AdmitBody, AgentInfo, BodyError, ClusterConfigBody, DeleteZoneBody, InitBody, InviteBody,
    IssueBody, JoinBody, KeyPairBody, LogoutBody, ObserverConfigBody, OperatorBody, PasswordBody,
    RestartBody, RootPwdBody, RotateBody, RotateCaBody, ScaleInBody, ScaleOutBody, SetParametersBody,
    StartBody, StopBody, StorageKeyBody, TakeOverBody, UpgradeBody, ZoneStopBody, parse,
};

/// A body as a route wants it.
pub(super) trait Body: Sized + 'static {
    /// A route without a body leaves it unread.
    const IS_READ: bool = true;

    fn read(bytes: &[u8]) -> std::result::Result<Self, BodyError>;
}

impl Body for () {
    const IS_READ: bool = false;

    fn read(_: &[u8]) -> std::result::Result<Self, BodyError> {
        Ok(())
    }
}

/// A body that is read and not looked at: nobody needs it, and it keeps to the limits all the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread;

impl Body for Unread {
    fn read(_: &[u8]) -> std::result::Result<Self, BodyError> {
        Ok(Self)
    }
}

/// A body that a handler judges after what comes before it, such as the identity.
#[derive(Debug)]
pub(super) struct Judged<B>(std::result::Result<B, BodyError>);

impl<B: Body> Body for Judged<B> {
    fn read(bytes: &[u8]) -> std::result::Result<Self, BodyError> {
        Ok(Self(B::read(bytes)))
    }
}

impl<B> Judged<B> {
    /// # Errors
    /// `Common.BindJsonFailed`.
    pub(super) fn get(self) -> Result<B> {
        self.0.map_err(|e| Error::new(Code::BindJsonFailed, e.0))
    }
}

macro_rules! bodies {
    ($($body:ident),*) => {
        $(impl Body for $body {
            fn read(bytes: &[u8]) -> std::result::Result<Self, BodyError> {
                parse(bytes, Self::MEMBERS)
            }
        })*
    };
}

impl Body for Ask {
    fn read(bytes: &[u8]) -> std::result::Result<Self, BodyError> {
        serde_json::from_slice(bytes).map_err(|e| BodyError(format!("no message of an agent: {e}")))
    }
}

impl Body for InviteBody {
    fn read(bytes: &[u8]) -> std::result::Result<Self, BodyError> {
        serde_json::from_slice(bytes).map_err(|e| BodyError(format!("no message of an agent: {e}")))
    }
}

bodies!(
    AccountBody,
    AdmitBody,
    AgentInfo,
    ClusterConfigBody,
    DeleteZoneBody,
    InitBody,
    IssueBody,
    JoinBody,
    KeyPairBody,
    LogoutBody,
    ObserverConfigBody,
    OperatorBody,
    PasswordBody,
    RestartBody,
    RootPwdBody,
    RotateBody,
    RotateCaBody,
    ScaleInBody,
    ScaleOutBody,
    SetParametersBody,
    StartBody,
    StopBody,
    StorageKeyBody,
    TakeOverBody,
    UpgradeBody,
    ZoneStopBody
);

/// How a caller can be told a secret, so that nobody else on the way learns it.
#[derive(Clone, Debug)]
pub(super) enum Discretion {
    /// Not at all.
    None,
    /// Under the keys of the request's header (scheme v2).
    Keys(BodyKey),
    /// As it is: the whole answer is sealed (scheme v3).
    Sealed,
}

impl Discretion {
    fn of(seal: &Seal) -> Self {
        match seal {
            Seal::Keys(Some(keys)) => Self::Keys(keys.clone()),
            Seal::V3(_) => Self::Sealed,
            Seal::Keys(None) | Seal::None | Seal::Peer(_) => Self::None,
        }
    }

    /// The secret as it is told; `None` when it cannot be.
    pub(super) fn tell(&self, secret: &str) -> Option<String> {
        match self {
            Self::None => None,
            Self::Keys(keys) => keys.seal(secret.as_bytes()).ok(),
            Self::Sealed => Some(secret.to_owned()),
        }
    }
}

/// A request that was let in.
#[derive(Debug)]
pub(super) struct Call<B> {
    pub(super) app: App,
    pub(super) door: Door,
    pub(super) caller: Caller,
    pub(super) body: B,
    /// Another agent asks.
    pub(super) peer: Option<PeerSeal>,
    /// As the caller gave it, for whom it is handed on to.
    pub(super) idempotency_key: Option<String>,
    /// By what the caller was let in.
    pub(super) pass: Pass,
    /// How the caller can be told a secret.
    pub(super) discretion: Discretion,
    query: String,
    key: Option<RequestKey>,
}

impl<B> Call<B> {
    pub(super) fn request(&self) -> Request {
        Request { key: self.key.clone() }
    }

    pub(super) fn into_parts(self) -> (App, B) {
        (self.app, self.body)
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(text) = form_value(&self.query, name) else { return Ok(default) };
        match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" | "" => Ok(false),
            other => {
                Err(Error::new(Code::QueryIllegal, format!("{name} is '{other}'; it must be true or false")))
            }
        }
    }

    /// True by default (`http-api.md` §1.4).
    pub(super) fn show_details(&self) -> Result<bool> {
        self.flag("show_details", true)
    }

    pub(super) fn wants_plan(&self) -> Result<bool> {
        self.flag("plan", false)
    }

    /// What the query says under a name.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        form_value(&self.query, name)
    }

    pub(super) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>> {
        let Some(text) = form_value(&self.query, name) else { return Ok(None) };
        let number = text.parse::<u64>().ok().filter(|n| (least..=most).contains(n));
        let number = number.ok_or_else(|| {
            Error::new(
                Code::QueryIllegal,
                format!("{name} is '{text}'; it must be a whole number from {least} to {most}"),
            )
        })?;
        Ok(Some(number))
    }
}

impl<B: Body> FromRequest for Call<B> {
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self, Failure>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let meta = Meta::of(&request);
            admit(&request, &meta, payload).await
        })
    }
}

pub(super) fn door_of(request: &HttpRequest) -> Door {
    let door = request.app_data::<web::Data<Door>>().expect("the door stands in every application");
    door.get_ref().clone()
}

async fn admit<B: Body>(
    request: &HttpRequest,
    meta: &Rc<Meta>,
    payload: Payload,
) -> std::result::Result<Call<B>, Failure> {
    let fail = |error| Failure::new(error, Rc::clone(meta));
    let door = door_of(request);
    let class = class_of(request);
    let admitted = auth::admit(&door, meta, class, request.method(), request.headers()).await;
    let Admitted { caller, pass, seal } = admitted.map_err(|why| {
        let (NotAdmitted::Refused(error) | NotAdmitted::UnknownSession(error)) = &why;
        audit::refused(&door, request, error);
        match why {
            NotAdmitted::Refused(error) => fail(error),
            NotAdmitted::UnknownSession(error) => Failure::UnknownSession(error, Rc::clone(meta)),
        }
    })?;
    if let Seal::V3(v3) = &seal {
        request.extensions_mut().insert(Answering(v3.exchange.clone()));
    }
    let (idempotency_key, discretion) = (idempotency_key(request, &seal), Discretion::of(&seal));
    let opened = open_body::<B>(&door, payload, seal).await;
    let (plain, peer) = opened
        .inspect_err(|error| {
            // A body of another agent is what lets it in.
            if matches!(pass, Pass::Agent) {
                audit::refused(&door, request, error);
            }
        })
        .map_err(fail)?;
    if class != RouteClass::Peer && !matches!(*request.method(), Method::GET | Method::HEAD) {
        // Set once: this is the only place.
        drop(meta.actor.set(caller.actor.clone()));
    }
    if peer.is_none()
        && let Some(to) = elsewhere(&door, request).map_err(fail)?
    {
        let answer = hand_on(&door, to, request, &caller, idempotency_key, plain).await.map_err(fail)?;
        return Err(Failure::Answered(Box::new(answer)));
    }
    let body = B::read(&plain).map_err(|e| fail(Error::new(Code::BindJsonFailed, e.0)))?;
    let key = idempotency_key.as_deref().map(|key| request_key(key, request, meta, &plain));
    let key = key.transpose().map_err(fail)?;
    let query = request.query_string().to_owned();
    let app = door.app().clone();
    Ok(Call { app, door, caller, body, peer, idempotency_key, pass, discretion, query, key })
}

/// The body in clear. A route without one leaves it unread, but for other agents: there it is what lets them in.
async fn open_body<B: Body>(
    door: &Door,
    payload: Payload,
    seal: Seal,
) -> Result<(Vec<u8>, Option<PeerSeal>)> {
    let is_read = B::IS_READ || matches!(seal, Seal::Peer(_));
    let body = if is_read { read_in_time(payload, door.limits()).await? } else { Vec::new() };
    match seal {
        Seal::Peer(peer) => Ok((peer.open(door, &body)?, Some(peer))),
        Seal::V3(_) if !is_read => Ok((body, None)),
        Seal::V3(v3) => Ok((v3.open(&body)?, None)),
        _ if body.is_empty() => Ok((body, None)),
        Seal::Keys(Some(keys)) => keys.open(&body).map(|plain| (plain, None)).ok_or_else(body_refusal),
        Seal::Keys(None) => Err(body_refusal()),
        Seal::None => Ok((body, None)),
    }
}

pub(super) async fn read_in_time(payload: Payload, limits: &Api) -> Result<Vec<u8>> {
    let limit = Duration::from_secs(limits.body_timeout_secs);
    tokio::time::timeout(limit, read(payload, limits.body_max_bytes)).await.unwrap_or_else(|_| {
        let text =
            format!("the body did not come within {} s (api.body_timeout_secs)", limits.body_timeout_secs);
        Err(Error::new(Code::BodyReadFailed, text))
    })
}

/// The whole body, up to the limit.
async fn read(mut payload: Payload, most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk
            .map_err(|e| Error::new(Code::BodyReadFailed, format!("the body could not be read: {e}")))?;
        if bytes.len() + chunk.len() > most {
            let text = format!("the body is larger than {most} bytes (api.body_max_bytes)");
            return Err(Error::new(Code::BodyTooLarge, text));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// As it came. Under scheme v3 it comes inside the seal, and the header is nobody's. What is no text is an empty key, which is
/// refused.
fn idempotency_key(request: &HttpRequest, seal: &Seal) -> Option<String> {
    match seal {
        Seal::V3(v3) => v3.idempotency_key.clone(),
        Seal::None | Seal::Keys(_) | Seal::Peer(_) => {
            let value = request.headers().get(IDEMPOTENCY_KEY)?;
            Some(value.to_str().unwrap_or_default().to_owned())
        }
    }
}

/// The key, with the fingerprint of what was asked: the same key for something else is refused.
pub(super) fn request_key(text: &str, request: &HttpRequest, meta: &Meta, body: &[u8]) -> Result<RequestKey> {
    const LEN_MAX: usize = 128;
    if !(1..=LEN_MAX).contains(&text.len()) || !text.bytes().all(|c| c.is_ascii_graphic() || c == b' ') {
        return Err(Error::new(
            Code::IllegalArgument,
            format!("{IDEMPOTENCY_KEY} must be 1 to {LEN_MAX} visible ASCII characters"),
        ));
    }
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in [request.method().as_str().as_bytes(), b" ", meta.target.as_bytes(), b" ", body] {
        digest.update(part);
    }
    let fingerprint = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(RequestKey { key: format!("client:{text}"), fingerprint })
}

/// A request on an open route: only the socket's peer is looked at.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) app: App,
    pub(super) door: Door,
}

impl FromRequest for Open {
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self, Failure>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let meta = Meta::of(&request);
            look_at(&request, &meta).await.map_err(|error| {
                audit::refused(&door_of(&request), &request, &error);
                Failure::new(error, meta)
            })
        })
    }
}

async fn look_at(request: &HttpRequest, meta: &Meta) -> Result<Open> {
    let door = door_of(request);
    let allowed = match meta.peer {
        super::meta::Peer::Unix { uid } => door.may_use_socket(uid),
        super::meta::Peer::Tcp(_) => true,
        super::meta::Peer::Unknown => false,
    };
    if class_of(request) != RouteClass::Open || !allowed {
        return Err(Error::new(Code::UserDenied, "this user may not use the socket"));
    }
    let sealing = auth::sealing_of_open(&door, meta, request.method(), request.headers()).await?;
    if let Some(exchange) = sealing {
        request.extensions_mut().insert(Answering(exchange));
    }
    Ok(Open { app: door.app().clone(), door })
}

/// A request on an open route with a short body, such as the beginning of a session.
#[derive(Debug)]
pub(super) struct OpenBody {
    pub(super) open: Open,
    pub(super) body: Vec<u8>,
    pub(super) source: Option<std::net::IpAddr>,
}

/// Longer ones are nobody's honest request.
const OPEN_BODY_MAX: usize = 4 << 10;

impl FromRequest for OpenBody {
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self, Failure>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (open, meta) = (Open::from_request(request, payload), Meta::of(request));
        let payload = payload.take();
        Box::pin(async move {
            let open = open.await?;
            let limits = Api { body_max_bytes: OPEN_BODY_MAX, ..open.door.limits().clone() };
            let source = match meta.peer {
                super::meta::Peer::Tcp(source) => Some(source),
                super::meta::Peer::Unix { .. } | super::meta::Peer::Unknown => None,
            };
            let body = read_in_time(payload, &limits).await.map_err(|error| Failure::new(error, meta))?;
            Ok(Self { open, body, source })
        })
    }
}

//! Who is asking: the socket's peer, another agent, or a sealed header and the decision table.
//!
//! Order (`security.md` §11): limits, open, decide, check the password; only a caller who is known by then is told that a
//! header is late or was made for another target. Everything before that is the one refusal.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::door::Door;
use super::meta::{Meta, Peer};
use super::user_session::Worth;
use crate::app::Caller;
use crate::error::{Code, Error, Result};
use crate::flow::peers::Credential;
use crate::flow::ports::Handed;
use crate::model::{AgentAddr, Identity};
use crate::secure::{
    AGENT_HEADER, BodyKey, Claims, ClaimsTo, DATABASE_HEADER, Exchange, Facts, Forward, HeaderKind, Opened,
    PEER_HEADER, RouteClass, Scheme, Session, SessionId, V1_HEADER, V3_HEADER, V3Mark, Verdict, Way,
    body_refusal, check_time, decide, is_same, opens, refusal,
};
use crate::tasks::Tasks;
use crate::wire::PeerMark;

/// A caller that was let in, or whose body has to open before it is.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) caller: Caller,
    pub(super) pass: Pass,
    pub(super) seal: Seal,
}

/// By what a caller was let in.
#[derive(Clone, Debug)]
pub(super) enum Pass {
    /// The password of a header, or a header where none is asked for; and what a session made with it is worth.
    Header(HeaderKind, Worth),
    Session(SessionId),
    /// Another agent.
    Agent,
    Socket,
}

/// How the body came.
#[derive(Debug)]
pub(super) enum Seal {
    /// As it is.
    None,
    /// Under the keys of the header; without keys there can be no body.
    Keys(Option<BodyKey>),
    /// From another agent: that the body opens is what lets it in.
    Peer(PeerSeal),
    /// Under scheme v3, as its answer.
    V3(Box<V3Seal>),
}

/// What opens the body of a request under scheme v3, and seals its answer.
#[derive(Clone, Debug)]
pub(super) struct V3Seal {
    pub(super) exchange: Exchange,
    pub(super) has_body: bool,
    pub(super) idempotency_key: Option<String>,
}

impl V3Seal {
    /// # Errors
    /// The refusal for bodies; also when one was left out or put in.
    pub(super) fn open(&self, body: &[u8]) -> Result<Vec<u8>> {
        match (self.has_body, body) {
            (true, sealed) => self.exchange.open_body(sealed).ok_or_else(body_refusal),
            (false, []) => Ok(Vec::new()),
            (false, _) => Err(body_refusal()),
        }
    }
}

/// What opens a message of another agent, and seals its answer.
#[derive(Clone, Debug)]
pub(super) struct PeerSeal {
    pub(super) from: AgentAddr,
    pub(super) session: Arc<Session>,
    mark: PeerMark,
    about: String,
}

impl PeerSeal {
    /// Opens the body, which counts from then on.
    ///
    /// # Errors
    /// The one refusal.
    pub(super) fn open(&self, door: &Door, body: &[u8]) -> Result<Vec<u8>> {
        let sealed = STANDARD.decode(body).map_err(|_| refusal())?;
        let plain = self.session.open(self.mark.counter, &self.about, &sealed).ok_or_else(refusal)?;
        door.sessions().count(&self.mark.session, self.mark.counter).map_err(|_| refusal())?;
        Ok(plain)
    }

    /// Seals the answer to this very message.
    ///
    /// # Errors
    /// Never for a session that exists.
    pub(super) fn answer(&self, plain: &[u8]) -> Result<Vec<u8>> {
        self.session.seal(self.mark.counter, "", plain).map_err(|e| Error::unexpected(e.to_string()))
    }
}

/// Why a caller was not let in.
#[derive(Debug)]
pub(super) enum NotAdmitted {
    Refused(Error),
    UnknownSession(Error),
}

impl From<Error> for NotAdmitted {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// # Errors
/// The refusal of the door.
pub(super) async fn admit(
    door: &Door,
    meta: &Meta,
    class: RouteClass,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Admitted, NotAdmitted> {
    match meta.peer {
        Peer::Tcp(_) if headers.contains_key(PEER_HEADER) && opens(Way::Mark, class) => {
            by_peer(door, meta, method, headers)
        }
        Peer::Tcp(_) if headers.contains_key(PEER_HEADER) => Err(refusal().into()),
        Peer::Unix { .. } if !opens(Way::Socket, class) => Err(refusal().into()),
        Peer::Tcp(source) if headers.contains_key(V3_HEADER) => {
            Ok(by_v3(door, meta, class, method, headers, source).await?)
        }
        Peer::Unix { uid } => Ok(by_socket(door, uid, headers).await?),
        // Beside a header of v2 it is not looked at: an SDK that has changed to v2 sends what it sent before along.
        Peer::Tcp(source) if headers.contains_key(V1_HEADER) && header(headers).is_none() => {
            Ok(by_v1(door, meta, class, method, headers, source).await?)
        }
        Peer::Tcp(source) => Ok(by_header(door, meta, class, method, headers, source).await?),
        Peer::Unknown => Err(refusal().into()),
    }
}

/// Another agent, by its session. Whether it is, the body shows.
fn by_peer(door: &Door, meta: &Meta, method: &Method, headers: &HeaderMap) -> Result<Admitted, NotAdmitted> {
    let text = headers.get(PEER_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mark = PeerMark::from_text(text).ok_or_else(refusal)?;
    let members = door.app().ledger().state().members.clone();
    let Some(found) = door.sessions().find(&mark.session, mark.from, &members) else {
        return Err(NotAdmitted::UnknownSession(refusal()));
    };
    let actor = if mark.actor.is_empty() { format!("agent {}", mark.from) } else { mark.actor.clone() };
    let about = PeerMark::about(method.as_str(), &meta.target, &mark.actor);
    let seal = PeerSeal { from: found.from, session: found.session, mark, about };
    let caller = Caller { actor, is_local: false, source: None };
    Ok(Admitted { caller, pass: Pass::Agent, seal: Seal::Peer(seal) })
}

/// Peer credentials are enough. A header is not needed; if there is one, its keys open the body.
async fn by_socket(door: &Door, uid: u32, headers: &HeaderMap) -> Result<Admitted> {
    if !door.may_use_socket(uid) {
        let text =
            format!("user {uid} may not use this socket; add it to socket.allow_uids, or use the TCP port");
        return Err(Error::new(Code::UserDenied, text));
    }
    let opened = match header(headers) {
        Some((_, value)) => Some(door.open(value).await.ok_or_else(refusal)?),
        None => None,
    };
    Ok(Admitted {
        caller: Caller { actor: format!("uid {uid} (socket)"), is_local: true, source: None },
        pass: Pass::Socket,
        seal: opened.map_or(Seal::None, |opened| Seal::Keys(opened.keys)),
    })
}

async fn by_header(
    door: &Door,
    meta: &Meta,
    class: RouteClass,
    method: &Method,
    headers: &HeaderMap,
    source: IpAddr,
) -> Result<Admitted> {
    let Some((kind, value)) = header(headers) else {
        if decide(&facts(door, class, source, None, None)) != Verdict::NoHeader {
            return Err(refusal());
        }
        return Err(Error::new(
            Code::HeaderNotFound,
            "this route needs a sealed header X-OCS-Header; its key is that of GET /api/v1/secret",
        ));
    };
    may_try(door, source)?;
    let opened = counted(door, meta, source, door.open(value).await.ok_or_else(refusal))?;
    let (opened, caller, pass) = let_in(door, meta, class, method, (kind, opened), source).await?;
    Ok(Admitted { caller, pass, seal: Seal::Keys(opened.keys) })
}

/// The same under scheme v1, where it is switched on and opens anything: a password, and a body in clear.
async fn by_v1(
    door: &Door,
    meta: &Meta,
    class: RouteClass,
    method: &Method,
    headers: &HeaderMap,
    source: IpAddr,
) -> Result<Admitted> {
    may_try(door, source)?;
    let may_open = door.takes_v1() && opens(Way::V1, class) && is_for_clients(&meta.target);
    let opened = match only(headers, V1_HEADER) {
        Some(value) if may_open => door.open_v1(value, meta.target.clone()).await,
        Some(_) | None => None,
    };
    let opened = counted(door, meta, source, opened.ok_or_else(refusal))?;
    let (_, caller, pass) = let_in(door, meta, class, method, (HeaderKind::Database, opened), source).await?;
    Ok(Admitted { caller, pass, seal: Seal::None })
}

/// The same under scheme v3. A wrong key id is told plainly: the right one is no secret.
async fn by_v3(
    door: &Door,
    meta: &Meta,
    class: RouteClass,
    method: &Method,
    headers: &HeaderMap,
    source: IpAddr,
) -> Result<Admitted> {
    may_try(door, source)?;
    let opened = open_v3(door, meta, method, headers).await?.ok_or_else(refusal);
    let (kind, opened, seal) = counted(door, meta, source, opened)?;
    let (_, caller, pass) = let_in(door, meta, class, method, (kind, opened), source).await?;
    Ok(Admitted { caller, pass, seal: Seal::V3(Box::new(seal)) })
}

/// What came under scheme v3, not yet judged; `None` when it was not made for this very request.
///
/// # Errors
/// Only that it was sealed with another key.
async fn open_v3(
    door: &Door,
    meta: &Meta,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<(HeaderKind, Opened, V3Seal)>> {
    let Some(mark) = v3_mark(headers) else { return Ok(None) };
    let Some(key) = door.v3_key_named(&mark.key_id) else {
        let text = format!("key {} is not the one of this agent; read GET /api/v1/secret again", mark.key_id);
        let known = serde_json::json!({ "keyId": door.v3_key().id() });
        return Err(Error::new(Code::KeyIdUnknown, text).with_data(known));
    };
    let (method, target) = (method.to_string(), meta.target.clone());
    let opened = Tasks::blocking(move || {
        let (claims, exchange) = key.open(&mark, &method, &target)?;
        let kind = match claims.claims_to {
            ClaimsTo::Root => HeaderKind::Database,
            ClaimsTo::Agent => HeaderKind::Agent,
        };
        let opened = Opened::of_v3(&claims, &mark, &target);
        let Claims { has_body, idempotency_key, .. } = claims;
        Some((kind, opened, V3Seal { exchange, has_body, idempotency_key }))
    });
    Ok(opened.await)
}

/// On an open route nobody has to be known; but whoever asks under scheme v3 wants an answer that is ours for certain.
///
/// # Errors
/// As on other routes, for what does not open.
pub(super) async fn sealing_of_open(
    door: &Door,
    meta: &Meta,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<Exchange>> {
    let Peer::Tcp(source) = meta.peer else { return Ok(None) };
    if !headers.contains_key(V3_HEADER) {
        return Ok(None);
    }
    may_try(door, source)?;
    let opened = open_v3(door, meta, method, headers).await?.ok_or_else(refusal);
    counted(door, meta, source, opened).map(|(_, _, seal)| Some(seal.exchange))
}

/// A header that comes twice, or beside one of another scheme, is nobody's honest request.
fn v3_mark(headers: &HeaderMap) -> Option<V3Mark> {
    let mut values = headers.get_all(V3_HEADER);
    let text = values.next()?.to_str().ok()?;
    let is_alone = values.next().is_none() && header(headers).is_none() && !headers.contains_key(V1_HEADER);
    V3Mark::from_text(text).filter(|_| is_alone)
}

/// Too many failures: nothing is tried any more for a while.
pub(super) fn may_try(door: &Door, source: IpAddr) -> Result<()> {
    if door.may_try(source) {
        return Ok(());
    }
    let text = format!("too many failed attempts from {source}; wait a minute");
    Err(Error::new(Code::TooManyRequests, text))
}

/// What fails is counted against its source.
pub(super) fn counted<T>(door: &Door, meta: &Meta, source: IpAddr, tried: Result<T>) -> Result<T> {
    // Whoever tries much at the same time learns no more than whoever tries one after another.
    may_try(door, source).inspect_err(|_| door.failed(source))?;
    tried.inspect_err(|error| {
        door.failed(source);
        tracing::info!(trace_id = %meta.trace_id, %source, target = %meta.target, code = error.code.name(), "a caller was not let in");
    })
}

/// Who an opened header lets in; each counts once.
async fn let_in(
    door: &Door,
    meta: &Meta,
    class: RouteClass,
    method: &Method,
    (kind, opened): (HeaderKind, Opened),
    source: IpAddr,
) -> Result<(Opened, Caller, Pass)> {
    let checked = check(door, meta, class, kind, opened, source).await;
    let (opened, who, pass) = counted(door, meta, source, checked)?;
    // A question may be asked again after a restart, under its own header; one of v1 is that of every request.
    let is_question =
        matches!(*method, Method::GET | Method::HEAD) && !matches!(opened.scheme, Scheme::V1 { .. });
    if !door.admit(&opened, opened.ts.unwrap_or_default(), !is_question) {
        door.failed(source);
        tracing::warn!(trace_id = %meta.trace_id, %source, target = %meta.target, "a header came for the second time");
        return Err(refusal());
    }
    if let Pass::Session(id) = &pass {
        door.user_sessions().used(id, meta.received_secs);
    }
    let by = match opened.scheme {
        // Whoever wants to switch v1 off sees who still needs it.
        Scheme::V1 { .. } => " (v1)",
        Scheme::V2 | Scheme::V3 => "",
    };
    let caller = Caller { actor: format!("{who}{by} from {source}"), is_local: false, source: Some(source) };
    Ok((opened, caller, pass))
}

fn facts(
    door: &Door,
    class: RouteClass,
    source: IpAddr,
    header: Option<HeaderKind>,
    opened: Option<&Opened>,
) -> Facts {
    let ledger = door.app().ledger();
    let secrets = ledger.secrets();
    Facts {
        class,
        identity: ledger.state().identity,
        has_agent_password: secrets.agent.is_some(),
        knows_root: secrets.root.is_some(),
        header,
        has_session: opened.is_some_and(|opened| !opened.session_id.is_empty()),
        forward: opened.map_or(Forward::No, |opened| opened.forward),
        may_claim: door.may_claim(source),
    }
}

/// The session that a header names, if its password would open this route now (W16).
fn session(door: &Door, facts: &Facts, opened: &Opened, now: i64) -> Option<(SessionId, &'static str)> {
    let worth = Worth::of(door.app().ledger());
    let found = door.user_sessions().find(opened.session_id.expose(), &worth, now)?;
    let password = Facts { header: Some(found.by), has_session: false, ..*facts };
    match decide(&password) {
        Verdict::CheckRoot if !door.app().is_root_refused() => Some((found.id, "root@sys (session)")),
        Verdict::CheckAgent => Some((found.id, "agent password (session)")),
        Verdict::CheckRoot
        | Verdict::Accept
        | Verdict::CheckAgentPlainOrSealed
        | Verdict::CheckSession
        | Verdict::CheckToken
        | Verdict::ToMaster
        | Verdict::NoHeader
        | Verdict::Refuse => None,
    }
}

/// The header that decides; the agent's wins.
fn header(headers: &HeaderMap) -> Option<(HeaderKind, String)> {
    let find = |name, kind| Some((kind, only(headers, name)?));
    find(AGENT_HEADER, HeaderKind::Agent).or_else(|| find(DATABASE_HEADER, HeaderKind::Database))
}

/// A header's value. One that is no text, or is repeated, is nobody's honest request: it is empty, and does not open.
fn only(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    let text = if values.next().is_some() { "" } else { first.to_str().unwrap_or_default() };
    Some(text.to_owned())
}

/// Whether a route is none of agents among themselves.
fn is_for_clients(target: &str) -> bool {
    target.starts_with("/api/")
}

async fn check(
    door: &Door,
    meta: &Meta,
    class: RouteClass,
    kind: HeaderKind,
    opened: Opened,
    source: IpAddr,
) -> Result<(Opened, String, Pass)> {
    let worth = Worth::of(door.app().ledger());
    let secrets = door.app().ledger().secrets();
    let facts = facts(door, class, source, Some(kind), Some(&opened));
    let verdict = decide(&facts);
    let mut pass = Pass::Header(kind, worth);
    let lifetime_max = match opened.scheme {
        // The Go SDK knows no end (`security.md` §2.8).
        Scheme::V1 { .. } => i64::MAX,
        Scheme::V2 | Scheme::V3 => door.header_lifetime_max_secs(),
    };
    let is_on_time = check_time(opened.ts, meta.received_secs, lifetime_max);
    let is_for_us = opened.uri == meta.target;
    let agent_password = secrets.agent.as_ref().map(|pw| pw.expose().to_owned()).unwrap_or_default();
    let fits_agent = |presented: &str| secrets.agent.is_some() && is_same(presented, &agent_password);
    let who = match verdict {
        // Nobody is known by this: what is late or for another target gets no reason.
        Verdict::Accept if is_on_time && is_for_us => {
            return Ok((opened, claimant(facts.identity).to_owned(), pass));
        }
        // A header without a readable time never belongs to a known caller (H13).
        _ if opened.ts.is_none() => return Err(refusal()),
        Verdict::CheckRoot if door.app().check_root(&opened.auth).await => {
            if let Some(worth) = Worth::of_root(door.app().ledger(), &opened.auth) {
                pass = Pass::Header(kind, worth);
            }
            "root@sys".to_owned()
        }
        Verdict::CheckAgent if fits_agent(opened.auth.expose()) => "agent password".to_owned(),
        Verdict::CheckAgentPlainOrSealed if fits_agent(opened.auth.expose()) => "agent password".to_owned(),
        Verdict::CheckAgentPlainOrSealed
            if door.open_value(opened.auth.expose()).is_some_and(|inner| fits_agent(inner.expose())) =>
        {
            "agent password".to_owned()
        }
        Verdict::CheckSession => {
            let (id, who) = session(door, &facts, &opened, meta.received_secs).ok_or_else(refusal)?;
            pass = Pass::Session(id);
            who.to_owned()
        }
        Verdict::ToMaster => {
            let credential = Credential {
                is_agent: kind == HeaderKind::Agent,
                password: Handed(opened.auth.clone()),
                may_claim: door.may_claim(source),
            };
            door.app().ask_master(credential).await.ok_or_else(refusal)?
        }
        // Agents of OBShell are no peers of ours: nobody has a token.
        Verdict::Accept
        | Verdict::CheckRoot
        | Verdict::CheckAgent
        | Verdict::CheckAgentPlainOrSealed
        | Verdict::CheckToken
        | Verdict::NoHeader
        | Verdict::Refuse => return Err(refusal()),
    };
    if !is_for_us {
        let text = format!("the header was made for another target than {}", meta.target);
        return Err(Error::new(Code::UriMismatch, text));
    }
    if !is_on_time {
        return Err(late(&opened, meta.received_secs));
    }
    Ok((opened, who, pass))
}

fn claimant(identity: Identity) -> &'static str {
    match identity {
        Identity::Single => "somebody (nobody has a password yet)",
        Identity::Master
        | Identity::Follower
        | Identity::ClusterAgent
        | Identity::TakeOverMaster
        | Identity::TakeOverFollower
        | Identity::ScalingOut
        | Identity::ScalingIn
        | Identity::Unidentified => "somebody (no password is set yet)",
    }
}

/// A known caller may learn that the clocks differ.
fn late(opened: &Opened, now: i64) -> Error {
    let ts = opened.ts.unwrap_or_default();
    if ts < now {
        let text = format!("the header expired {} s ago by this agent's clock; compare the clocks", now - ts);
        return Error::new(Code::AuthExpired, text);
    }
    let text =
        format!("the header is valid for another {} s, which is too long; compare the clocks", ts - now);
    Error::new(Code::AuthTimestamp, text)
}

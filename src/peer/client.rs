//! Messages to members, in sessions that last.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::{Method, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::cluster::Ledger;
use crate::error::{Code, Error, Result};
use crate::flow::peers::Ask;
use crate::model::AgentAddr;
use crate::secure::{HelloAnswer, PEER_HEADER, PeerIdentity, Session, Tls, begin};
use crate::tasks::Tasks;
use crate::wire::{ApiError, Envelope, PeerMark};

/// Where sessions begin, and where messages go.
const PEER_TARGET: &str = "/rpc/v1/peer";
const HELLO_TARGET: &str = "/rpc/v1/peer/hello";

/// A host that is there answers sooner.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Idle connections are kept for the next message. While there is one, the other agent has an HTTP service whose clock ticks.
const IDLE: Duration = Duration::from_secs(1);

/// A request of a client that another agent shall answer, in the name of whom it was let in as.
#[derive(Clone, Debug)]
pub struct Forward {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub actor: String,
    pub body: Vec<u8>,
    /// Headers that travel with it: language, trace, idempotency key.
    pub headers: Vec<(String, String)>,
    pub limit: Duration,
}

/// The other agent's answer, as the client gets it.
#[derive(Debug)]
pub struct Forwarded {
    pub status: u16,
    pub content_type: String,
    pub body: Bytes,
}

/// What goes over the wire to another agent.
struct Message<'a> {
    method: Method,
    /// Path and query.
    target: &'a str,
    actor: &'a str,
    body: &'a [u8],
    headers: &'a [(String, String)],
    limit: Duration,
    /// Whose certificate is taken over TLS.
    way: Way,
}

/// To whom a connection may be, where the agents have a CA of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Members show a certificate of the CA, and are shown one. Others are known by their key alone.
    Member,
    /// Anybody, who is shown none: for what leads to a certificate, and for who belongs to nobody. Who it is, the key tells.
    Open,
}

/// A session with its next counter.
#[derive(Debug)]
struct Line {
    session: Session,
    next: AtomicU64,
}

/// How an agent's port is spoken to. Agents need not all change at once: what one speaks is found by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn other(self) -> Self {
        match self {
            Self::Http => Self::Https,
            Self::Https => Self::Http,
        }
    }

    fn base(self, agent: AgentAddr) -> String {
        match self {
            Self::Http => format!("http://{agent}"),
            Self::Https => format!("https://{agent}"),
        }
    }
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    own: AgentAddr,
    identity: Arc<PeerIdentity>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    /// Takes any certificate: who is at the other end, its key tells.
    http: reqwest::Client,
    /// Takes those of our own CA; `None` where there is none.
    to_members: Option<(reqwest::Client, Tls)>,
    /// A connection is driven where its first request is sent, and kept for the next: on the runtime of the agent, for that of an
    /// HTTP worker ends while messages are still under way.
    tasks: Tasks,
    /// What is tried first: our own.
    first: Scheme,
    /// What each agent was last heard by.
    schemes: Mutex<HashMap<AgentAddr, Scheme>>,
    lines: Mutex<HashMap<AgentAddr, Arc<Line>>>,
    /// One begins a session with an agent, and who comes meanwhile shares it: an agent keeps few sessions of one member.
    greetings: Mutex<HashMap<AgentAddr, Arc<tokio::sync::Mutex<()>>>>,
}

/// Who is at the other end, its key tells, over TLS or not; TLS only keeps others from seeing who talks.
fn http(identity: Option<&[u8]>) -> std::result::Result<reqwest::Client, reqwest::Error> {
    let builder = builder().tls_danger_accept_invalid_certs(true);
    let builder = match identity {
        Some(pem) => builder.identity(reqwest::Identity::from_pem(pem)?),
        None => builder,
    };
    builder.build()
}

#[expect(clippy::disallowed_methods, reason = "the one place that makes clients to agents")]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
}

impl Client {
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(
        own: AgentAddr,
        identity: Arc<PeerIdentity>,
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        tls: Option<&Tls>,
        tasks: Tasks,
    ) -> Result<Self> {
        let broken =
            |e: &dyn std::fmt::Display| Error::unexpected(format!("no HTTP client can be made: {e}"));
        let pem = tls.map(Tls::identity_pem).transpose().map_err(|e| broken(&e))?.flatten();
        let http = http(pem.as_deref()).map_err(|e| broken(&e))?;
        let config = tls.map(Tls::to_members).transpose().map_err(|e| broken(&e))?.flatten();
        let to_members = config.map(|config| builder().tls_backend_preconfigured(config).build());
        let to_members = to_members.transpose().map_err(|e| broken(&e))?.zip(tls.cloned());
        let first = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        let lines = Mutex::default();
        let (schemes, greetings) = (Mutex::default(), Mutex::default());
        let inner =
            Inner { own, identity, ledger, clock, http, to_members, tasks, first, schemes, lines, greetings };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn schemes(&self) -> std::sync::MutexGuard<'_, HashMap<AgentAddr, Scheme>> {
        self.inner.schemes.lock().expect("no holder of this lock panics")
    }

    /// The client for this way to this agent. Whoever belongs to no cluster yet, or has left it, is held to no CA.
    fn http(&self, agent: AgentAddr, way: Way) -> &reqwest::Client {
        let Inner { http, to_members, ledger, .. } = &*self.inner;
        match (to_members, way) {
            (Some((strict, tls)), Way::Member)
                if tls.is_clusters() && ledger.state().members.find(agent).is_some() =>
            {
                strict
            }
            (Some(_) | None, Way::Member | Way::Open) => http,
        }
    }

    /// Sends by the scheme that the agent speaks: the one it was heard by, else ours, and then the other. What it did not
    /// understand it has not done.
    ///
    /// # Errors
    /// `Agent.RPC.RequestFailed`.
    pub(super) async fn reach(
        &self,
        agent: AgentAddr,
        way: Way,
        request: impl Fn(&reqwest::Client, &str) -> reqwest::RequestBuilder,
    ) -> Result<Response> {
        let http = self.http(agent, way);
        let known = self.schemes().get(&agent).copied();
        let first = known.unwrap_or(self.inner.first);
        let send = |scheme: Scheme| self.inner.tasks.for_caller(request(http, &scheme.base(agent)).send());
        let failed = match send(first).await {
            Ok(response) => {
                self.schemes().insert(agent, first);
                return Ok(response);
            }
            Err(error) => error,
        };
        // Nobody there is nobody there by any scheme; and who was heard by one has hung up rather than changed.
        if failed.is_timeout() || is_refused(&failed) {
            return Err(unknown(agent, &failed));
        }
        match send(first.other()).await {
            Ok(response) => {
                self.schemes().insert(agent, first.other());
                Ok(response)
            }
            Err(_) => Err(unknown(agent, &failed)),
        }
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<AgentAddr, Arc<Line>>> {
        self.inner.lines.lock().expect("no holder of this lock panics")
    }

    fn known_line(&self, agent: AgentAddr) -> Option<Arc<Line>> {
        self.lines().get(&agent).map(Arc::clone)
    }

    fn greetings(&self) -> std::sync::MutexGuard<'_, HashMap<AgentAddr, Arc<tokio::sync::Mutex<()>>>> {
        self.inner.greetings.lock().expect("no holder of this lock panics")
    }

    /// The key that a member or a guest is known by.
    fn key_of(&self, agent: AgentAddr) -> Result<String> {
        let state = self.inner.ledger.state();
        let known = state.members.find(agent).or_else(|| state.guests.find(agent));
        let member = known.filter(|member| !member.peer_key.is_empty());
        member
            .map(|member| member.peer_key.clone())
            .ok_or_else(|| Error::new(Code::AgentNotExist, format!("{agent} is no agent of this cluster")))
    }

    async fn line(&self, agent: AgentAddr, way: Way, limit: Duration) -> Result<Arc<Line>> {
        // A member that was removed, or has another key by now, is not spoken to in an old session.
        let key = self.key_of(agent)?;
        if let Some(line) = self.known_line(agent) {
            return Ok(line);
        }
        let greeting = Arc::clone(self.greetings().entry(agent).or_default());
        let turn = tokio::time::timeout(limit, greeting.lock()).await;
        let _turn = turn.map_err(|_| {
            Error::new(
                Code::RpcRequestFailed,
                format!("{agent} does not answer the first message of a session"),
            )
        })?;
        match self.known_line(agent) {
            Some(line) => Ok(line),
            None => self.greet(agent, &key, way, limit).await,
        }
    }

    /// Begins a session.
    async fn greet(&self, agent: AgentAddr, key: &str, way: Way, limit: Duration) -> Result<Arc<Line>> {
        let begun = begin(&self.inner.identity, self.inner.own, agent, self.inner.clock.now_secs())
            .map_err(|e| Error::unexpected(e.to_string()))?;
        let hello = |http: &reqwest::Client, base: &str| {
            http.post(format!("{base}{HELLO_TARGET}")).json(&begun.hello).timeout(limit)
        };
        let response = self.reach(agent, way, hello).await?;
        let bytes = response.bytes().await.map_err(|e| unknown(agent, &e))?;
        let answer = said(agent, &bytes)?.map_err(|error| {
            // A member that cannot be spoken to as long as its clock is wrong is not reached; it has refused nothing.
            let is_clock = error.err_code == Code::AuthExpired.name();
            let code = if is_clock { Code::RpcRequestFailed } else { Code::RpcRequestError };
            Error::new(code, words(agent, &error))
        })?;
        let answer: HelloAnswer = serde_json::from_value(answer).map_err(|_| {
            Error::new(Code::RpcRequestFailed, format!("what answers at {agent} is no agent of ours"))
        })?;
        let session = begun.finish(&answer, key).map_err(|_| {
            let text =
                format!("what answers at {agent} does not have the key of the member that we know there");
            Error::new(Code::RpcRequestFailed, text)
        })?;
        let line = Arc::new(Line { session, next: AtomicU64::new(1) });
        self.lines().insert(agent, Arc::clone(&line));
        Ok(line)
    }

    fn hang_up(&self, agent: AgentAddr, line: &Arc<Line>) {
        let mut lines = self.lines();
        if lines.get(&agent).is_some_and(|known| Arc::ptr_eq(known, line)) {
            lines.remove(&agent);
        }
    }

    /// Sends a message, and brings its answer.
    ///
    /// # Errors
    /// The agent's refusal as it was, or `Agent.RPC.RequestFailed`.
    pub async fn ask(&self, agent: AgentAddr, ask: &Ask, limit: Duration) -> Result<Value> {
        let plain = serde_json::to_vec(ask)
            .map_err(|e| Error::unexpected("a message cannot be written").with_source(e))?;
        let message = Message {
            method: Method::POST,
            target: PEER_TARGET,
            actor: "",
            body: &plain,
            headers: &[],
            limit,
            // Who has no certificate yet, or one that has expired, can ask for one by nothing but its key.
            way: if matches!(ask, Ask::Certify { .. }) { Way::Open } else { Way::Member },
        };
        let (line, counter, response) = self.send(agent, &message).await?;
        let sealed = response.bytes().await.map_err(|e| unknown(agent, &e))?;
        let opened = line.session.open(counter, "", &sealed);
        let opened = opened.ok_or_else(|| {
            self.hang_up(agent, &line);
            Error::new(Code::RpcRequestFailed, format!("the answer of {agent} could not be opened"))
        })?;
        let answer: PeerAnswer = serde_json::from_slice(&opened).map_err(|e| {
            Error::new(Code::RpcRequestFailed, format!("the answer of {agent} cannot be read: {e}"))
        })?;
        answer.into_result()
    }

    /// Has another agent answer a client's request.
    ///
    /// # Errors
    /// `Agent.RPC.RequestFailed`; a refusal of the request itself is an answer.
    pub async fn forward(&self, agent: AgentAddr, request: &Forward) -> Result<Forwarded> {
        let method: Method =
            request.method.parse().map_err(|_| Error::unexpected("a method that is none"))?;
        let Forward { target, actor, body, headers, limit, .. } = request;
        let message = Message { method, target, actor, body, headers, limit: *limit, way: Way::Member };
        let (_, _, response) = self.send(agent, &message).await?;
        let status = response.status().as_u16();
        let content_type =
            response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or("application/json").to_owned();
        let body = response.bytes().await.map_err(|e| unknown(agent, &e))?;
        Ok(Forwarded { status, content_type, body })
    }

    /// Seals and sends, once more in a new session when the other side has forgotten ours.
    async fn send(&self, agent: AgentAddr, message: &Message<'_>) -> Result<(Arc<Line>, u64, Response)> {
        for _ in 0..2 {
            let line = self.line(agent, message.way, message.limit).await?;
            let counter = line.next.fetch_add(1, Ordering::Relaxed);
            let (mark, body) = self.sealed(&line, counter, message)?;
            let request = |http: &reqwest::Client, base: &str| {
                let request = http.request(message.method.clone(), format!("{base}{}", message.target));
                let request = message
                    .headers
                    .iter()
                    .fold(request, |request, (name, value)| request.header(name, value));
                request.header(PEER_HEADER, &mark).body(body.clone()).timeout(message.limit)
            };
            let response = self.reach(agent, message.way, request).await?;
            if response.headers().get(PEER_HEADER).is_some_and(|said| said == PeerMark::UNKNOWN_SESSION) {
                self.hang_up(agent, &line);
                continue;
            }
            return Ok((line, counter, response));
        }
        Err(Error::new(
            Code::RpcRequestFailed,
            format!("{agent} does not know this agent; is it still a member there?"),
        ))
    }

    /// Mark and body.
    fn sealed(&self, line: &Line, counter: u64, message: &Message<'_>) -> Result<(String, Bytes)> {
        let Message { method, target, actor, body, .. } = message;
        let about = PeerMark::about(method.as_str(), target, actor);
        let seal = line.session.seal(counter, &about, body).map_err(|e| Error::unexpected(e.to_string()))?;
        let mark = PeerMark {
            from: self.inner.own,
            session: line.session.name.clone(),
            counter,
            actor: (*actor).to_owned(),
        };
        Ok((mark.to_text(), STANDARD.encode(seal).into()))
    }
}

/// Nobody listens there.
fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let io = cause.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// What an agent answers to a message, inside the seal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerAnswer {
    #[serde(default)]
    data: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Refusal {
    code: String,
    text: String,
    #[serde(default)]
    data: Value,
}

impl From<Result<Value>> for PeerAnswer {
    fn from(result: Result<Value>) -> Self {
        match result {
            Ok(data) => Self { data, refusal: None },
            Err(error) => Self {
                data: Value::Null,
                refusal: Some(Refusal {
                    code: error.code.name().to_owned(),
                    text: error.text().to_owned(),
                    data: error.data().cloned().unwrap_or(Value::Null),
                }),
            },
        }
    }
}

impl PeerAnswer {
    /// A peer's code is passed on as it is (H22).
    fn into_result(self) -> Result<Value> {
        let Some(Refusal { code, text, data }) = self.refusal else { return Ok(self.data) };
        let code = Code::by_name(&code).unwrap_or(Code::RpcRequestError);
        let error = Error::new(code, text);
        Err(if data.is_null() { error } else { error.with_data(data) })
    }
}

/// The data of an answer's envelope, or its error.
pub(super) async fn envelope(agent: AgentAddr, response: Response) -> Result<Value> {
    let bytes = response.bytes().await.map_err(|e| unknown(agent, &e))?;
    data_of(agent, &bytes)
}

pub(super) fn data_of(agent: AgentAddr, bytes: &[u8]) -> Result<Value> {
    said(agent, bytes)?.map_err(|error| Error::new(Code::RpcRequestError, words(agent, &error)))
}

fn words(agent: AgentAddr, error: &ApiError) -> String {
    format!("{agent} refused: {} [{}]", error.message, error.err_code)
}

/// What an agent answers in clear: data, or its error as it is.
fn said(agent: AgentAddr, bytes: &[u8]) -> Result<std::result::Result<Value, ApiError>> {
    let envelope: Envelope<Value> = serde_json::from_slice(bytes).map_err(|_| {
        Error::new(Code::RpcRequestFailed, format!("what answers at {agent} is not an agent"))
    })?;
    Ok(match envelope.error {
        Some(error) => Err(error),
        None => Ok(envelope.data.unwrap_or(Value::Null)),
    })
}

/// Not known what became of it.
pub(super) fn unknown(agent: AgentAddr, error: &reqwest::Error) -> Error {
    let why = if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        cause.to_string()
    };
    Error::new(Code::RpcRequestFailed, format!("{agent} does not answer: {why}"))
}

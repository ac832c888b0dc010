//! Requests to an agent: over its Unix socket, or over TCP with a sealed header.

use std::time::Duration;

use camino::Utf8PathBuf;
use reqwest::header::HeaderValue;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::Global;
use super::exit::{Ending, Exit};
use super::password;
use crate::config::STATE_DIR;
use crate::model::{AgentAddr, Password};
use crate::secure::{BodyKey, DATABASE_HEADER, PublicKey, SealedRequest, seal_request};
use crate::wire::{Envelope, Secret};

/// For one request that is answered at once.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a sealed header is valid; clocks of two hosts may differ by less.
const HEADER_LIFETIME_SECS: i64 = 60;

/// A way to the agent.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    /// What is said when nobody answers.
    place: String,
    sealing: Option<Sealing>,
}

#[derive(Debug)]
struct Sealing {
    key: PublicKey,
    password: Password,
}

#[expect(clippy::disallowed_methods, reason = "the one place that makes HTTP clients")]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5))
}

fn broken(error: impl std::error::Error) -> Ending {
    Ending::new(Exit::Failed, format!("no HTTP client can be made: {error}"))
}

/// Where the socket of a home is, unless the agent's configuration says otherwise.
pub(super) fn socket_of(global: &Global) -> Result<Utf8PathBuf, Ending> {
    if let Some(socket) = &global.socket {
        return Ok(socket.clone());
    }
    Ok(home_of(global)?.join("run/obpilot.sock"))
}

/// The home that was named, or the current directory when an agent lives there.
pub(super) fn home_of(global: &Global) -> Result<Utf8PathBuf, Ending> {
    if let Some(home) = &global.home {
        return Ok(home.clone());
    }
    let here = std::env::current_dir().ok().and_then(|dir| Utf8PathBuf::from_path_buf(dir).ok());
    here.filter(|dir| dir.join(STATE_DIR).is_dir()).ok_or_else(|| {
        Ending::usage("which agent? There is none in the current directory")
            .with_hint("name its home with --home DIR or OBPILOT_HOME, or its address with --host IP:PORT")
    })
}

impl Client {
    /// # Errors
    /// A usage error, or that the agent cannot be reached.
    pub(super) async fn connect(global: &Global) -> Result<Self, Ending> {
        match &global.host {
            None => Self::over_socket(global),
            Some(host) => Self::over_tcp(host, global).await,
        }
    }

    fn over_socket(global: &Global) -> Result<Self, Ending> {
        let socket = socket_of(global)?;
        let http = builder().unix_socket(socket.as_str()).build().map_err(broken)?;
        Ok(Self {
            http,
            base: "http://localhost".to_owned(),
            place: format!("socket {socket}"),
            sealing: None,
        })
    }

    async fn over_tcp(host: &str, global: &Global) -> Result<Self, Ending> {
        let addr: AgentAddr = host.parse().map_err(|e| Ending::usage(format!("--host: {e}")))?;
        Self::sealed(addr, || password::for_host(global, &addr.to_string())).await
    }

    /// An agent on another host, with the password of its cluster.
    ///
    /// # Errors
    /// That it cannot be reached.
    pub(super) async fn over_tcp_with(host: AgentAddr, password: Password) -> Result<Self, Ending> {
        Self::sealed(host, || Ok(password)).await
    }

    async fn sealed(
        addr: AgentAddr,
        password: impl FnOnce() -> Result<Password, Ending>,
    ) -> Result<Self, Ending> {
        let http = builder().build().map_err(broken)?;
        let mut client =
            Self { http, base: format!("http://{addr}"), place: addr.to_string(), sealing: None };
        let secret: Secret = client.get("/api/v1/secret").await?;
        let key = PublicKey::from_wire(&secret.public_key)
            .map_err(|e| Ending::new(Exit::Failed, format!("the key of {addr} cannot be used: {e}")))?;
        client.sealing = Some(Sealing { key, password: password()? });
        Ok(client)
    }

    /// Waits at most so long for the answer.
    pub(super) async fn get_within<T: DeserializeOwned>(
        &self,
        target: &str,
        limit: Duration,
    ) -> Result<T, Ending> {
        self.data(reqwest::Method::GET, target, None, limit).await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, Ending> {
        self.data(reqwest::Method::GET, target, None, LIMIT).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, target: &str, body: &Value) -> Result<T, Ending> {
        self.data(reqwest::Method::POST, target, Some(body), LIMIT).await
    }

    /// A POST that may find nothing to do.
    pub(super) async fn post_maybe<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &Value,
    ) -> Result<Option<T>, Ending> {
        self.send_maybe(reqwest::Method::POST, target, Some(body)).await
    }

    /// A request that may find nothing to do.
    pub(super) async fn send_maybe<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Option<T>, Ending> {
        let request = self.request(method, target, body)?.timeout(LIMIT);
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status() == reqwest::StatusCode::NO_CONTENT {
            return Ok(None);
        }
        self.read(target, response).await.map(|envelope| envelope.data)
    }

    /// A POST whose answer carries no data.
    pub(super) async fn post_only(&self, target: &str, body: &Value) -> Result<(), Ending> {
        self.envelope::<Value>(reqwest::Method::POST, target, Some(body), LIMIT).await.map(|_| ())
    }

    async fn data<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        target: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<T, Ending> {
        let envelope = self.envelope(method, target, body, limit).await?;
        envelope
            .data
            .ok_or_else(|| Ending::new(Exit::Failed, format!("the agent's answer to {target} holds no data")))
    }

    async fn envelope<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        target: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Envelope<T>, Ending> {
        let request = self.request(method, target, body)?.timeout(limit);
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        self.read(target, response).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        target: &str,
        response: reqwest::Response,
    ) -> Result<Envelope<T>, Ending> {
        let bytes = response.bytes().await.map_err(|e| self.unreachable(&e))?;
        let envelope: Envelope<Value> = serde_json::from_slice(&bytes).map_err(|_| {
            Ending::new(Exit::Failed, format!("the answer of {} is not an agent's", self.place))
        })?;
        if let Some(error) = envelope.error {
            return Err(refused(envelope.status, &error.err_code, &error.message, envelope.data.as_ref()));
        }
        let data = envelope.data.map(serde_json::from_value).transpose();
        let data = data.map_err(|e| {
            Ending::new(Exit::Failed, format!("the agent's answer to {target} cannot be read: {e}"))
        })?;
        let Envelope { successful, timestamp, duration, status, trace_id, data: _, error: _ } = envelope;
        Ok(Envelope { successful, timestamp, duration, status, trace_id, data, error: None })
    }

    fn request(
        &self,
        method: reqwest::Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<reqwest::RequestBuilder, Ending> {
        let request = self.http.request(method, format!("{}{target}", self.base));
        let text = body.map(Value::to_string);
        let Some(sealing) = &self.sealing else {
            return Ok(match text {
                Some(text) => request.header("Content-Type", "application/json").body(text),
                None => request,
            });
        };
        let ts = crate::clock::system().now_secs() + HEADER_LIFETIME_SECS;
        let keys = BodyKey::generate().map_err(broken)?;
        let sealed = seal_request(
            DATABASE_HEADER,
            &sealing.key,
            &sealing.password,
            ts,
            target,
            &keys,
            text.as_deref().map(str::as_bytes),
        );
        let SealedRequest { header_name, header_value, body } = sealed.map_err(broken)?;
        let value = HeaderValue::from_str(&header_value).map_err(broken)?;
        let request = request.header(header_name, value).header("Content-Type", "application/json");
        Ok(match body {
            Some(body) => request.body(body),
            None => request,
        })
    }

    /// The event stream after an event, as raw bytes.
    pub(super) async fn events(&self, after: i64) -> Result<reqwest::Response, Ending> {
        let target = format!("/api/v1/task/events?after={after}");
        let response = self.request(reqwest::Method::GET, &target, None)?.send().await;
        let response = response.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(Ending::new(
            Exit::Failed,
            format!("the event stream was refused with status {}", response.status()),
        ))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Ending {
        if error.is_timeout() {
            return Ending::new(
                Exit::Unreachable,
                format!("the agent at {} did not answer in time", self.place),
            );
        }
        let cause =
            std::error::Error::source(error).map_or_else(|| error.to_string(), |e| innermost(e).to_string());
        Ending::new(Exit::Unreachable, format!("no agent answers at {}: {cause}", self.place))
            .with_hint("is it running? `obpilot agent status`; start it with `obpilot agent start`")
    }
}

fn innermost<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// The agent's refusal, with its code for scripts and what would unlock it for people.
fn refused(status: u16, code: &str, message: &str, data: Option<&Value>) -> Ending {
    let exit = match status {
        401 | 429 => Exit::Denied,
        400 | 404 | 409 => Exit::Refused,
        _ if code.starts_with("Agent.UnderMaintenance") => Exit::Refused,
        _ => Exit::Failed,
    };
    let ending = Ending::new(exit, format!("{message} [{code}]"));
    let ids = data.and_then(|d| d.pointer("/id")).and_then(Value::as_array);
    let ids: Vec<_> =
        ids.into_iter().flatten().filter_map(Value::as_str).filter(|id| !id.is_empty()).collect();
    match ids.first() {
        Some(first) => ending.with_hint(format!(
            "look at it with `obpilot task show {first}` or `obpilot why-blocked`; to push aside what is in the way, repeat the \
             command with --id {}",
            ids.join(",")
        )),
        None => ending,
    }
}

//! Requests to an agent: over its Unix socket, or over TCP with a sealed header.

use std::time::Duration;

use camino::Utf8PathBuf;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::Global;
use super::exit::{Ending, Exit};
use super::sealing::{Cut, Incoming, Sealing};
use super::{known, password};
use crate::config::STATE_DIR;
use crate::model::{AgentAddr, Password};
use crate::secure::Exchange;
use crate::wire::{Envelope, Secret};

/// For one request that is answered at once.
const LIMIT: Duration = Duration::from_secs(30);

/// The status of an answer without a body, and what it means.
const NO_CONTENT: u16 = 204;
const NOTHING: &str = r#"{"successful":true,"timestamp":"","duration":0,"status":204,"traceId":""}"#;

/// A way to the agent.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    /// What is said when nobody answers.
    place: String,
    sealing: Option<Sealing>,
}

#[expect(clippy::disallowed_methods, reason = "the one place that makes HTTP clients")]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5))
}

/// Whom the system trusts, or only the roots of `--ca`.
fn over_tls(global: &Global) -> Result<reqwest::Client, Ending> {
    let read = |path: &Utf8PathBuf| std::fs::read(path).map_err(|e| Ending::usage(format!("{path}: {e}")));
    let mut building = builder();
    if let Some(path) = &global.ca {
        let roots = reqwest::Certificate::from_pem_bundle(&read(path)?);
        let roots = roots.map_err(|e| Ending::usage(format!("{path} holds no certificates in PEM: {e}")))?;
        building = building.tls_certs_only(roots);
    }
    if let Some(path) = &global.client_cert {
        let identity = reqwest::Identity::from_pem(&read(path)?);
        let why = |e| Ending::usage(format!("{path} does not hold a certificate and its key in PEM: {e}"));
        building = building.identity(identity.map_err(why)?);
    }
    building.build().map_err(broken)
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
        let http = builder().tls_certs_only([]).unix_socket(socket.as_str()).build().map_err(broken)?;
        Ok(Self {
            http,
            base: "http://localhost".to_owned(),
            place: format!("socket {socket}"),
            sealing: None,
        })
    }

    async fn over_tcp(host: &str, global: &Global) -> Result<Self, Ending> {
        let (scheme, addr) = host.split_once("://").unwrap_or(("http", host));
        let addr: AgentAddr = addr.parse().map_err(|e| Ending::usage(format!("--host: {e}")))?;
        Self::sealed(scheme, addr, global, || password::for_host(global, &addr.to_string())).await
    }

    /// An agent on another host, with the password of its cluster; it speaks what the one of `--host` would.
    ///
    /// # Errors
    /// That it cannot be reached.
    pub(super) async fn over_tcp_with(
        host: AgentAddr,
        global: &Global,
        password: Password,
    ) -> Result<Self, Ending> {
        let is_https = global.ca.is_some() || global.client_cert.is_some();
        Self::sealed(if is_https { "https" } else { "http" }, host, global, || Ok(password)).await
    }

    async fn sealed(
        scheme: &str,
        addr: AgentAddr,
        global: &Global,
        password: impl FnOnce() -> Result<Password, Ending>,
    ) -> Result<Self, Ending> {
        let http = match scheme {
            "http" => builder().tls_certs_only([]).build().map_err(broken)?,
            "https" => over_tls(global)?,
            other => return Err(Ending::usage(format!("--host: '{other}' is neither http nor https"))),
        };
        let mut client =
            Self { http, base: format!("{scheme}://{addr}"), place: addr.to_string(), sealing: None };
        let secret: Secret = client.get("/api/v1/secret").await?;
        let key_id = secret.auth_schemes.as_ref().map(|schemes| schemes.v3.key_id.as_str());
        known::check(&client.place, key_id, global)?;
        client.sealing = Some(Sealing::new(&client.place, &secret, password()?)?);
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

    /// A request without a body.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        target: &str,
    ) -> Result<T, Ending> {
        self.data(method, target, None, LIMIT).await
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
        self.envelope(method, target, body, LIMIT).await.map(|envelope| envelope.data)
    }

    /// A POST whose answer carries no data.
    pub(super) async fn post_only(&self, target: &str, body: &Value) -> Result<(), Ending> {
        self.envelope::<Value>(reqwest::Method::POST, target, Some(body), LIMIT).await.map(|_| ())
    }

    /// The same for a PATCH.
    pub(super) async fn patch_only(&self, target: &str, body: &Value) -> Result<(), Ending> {
        self.envelope::<Value>(reqwest::Method::PATCH, target, Some(body), LIMIT).await.map(|_| ())
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
        let (request, exchange) = self.request(method, target, body)?;
        let response = request.timeout(limit).send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status().as_u16();
        let bytes = Incoming::new(response, exchange).whole().await.map_err(|cut| self.cut(cut))?;
        let is_nothing = bytes.is_empty() && status == NO_CONTENT;
        self.read(target, if is_nothing { NOTHING.as_bytes() } else { &bytes })
    }

    fn read<T: DeserializeOwned>(&self, target: &str, bytes: &[u8]) -> Result<Envelope<T>, Ending> {
        let answer: Value = serde_json::from_slice(bytes).map_err(|_| self.nobody())?;
        let envelope: Envelope<Value> = serde_json::from_value(as_v1(answer)).map_err(|_| self.nobody())?;
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
    ) -> Result<(reqwest::RequestBuilder, Option<Exchange>), Ending> {
        let request = self.http.request(method.clone(), format!("{}{target}", self.base));
        let text = body.map(Value::to_string);
        match (&self.sealing, text) {
            (Some(sealing), text) => {
                sealing.seal(request, &method, target, text.as_deref().map(str::as_bytes))
            }
            (None, Some(text)) => Ok((request.header("Content-Type", "application/json").body(text), None)),
            (None, None) => Ok((request, None)),
        }
    }

    /// The event stream after an event, as raw bytes.
    pub(super) async fn events(&self, after: i64) -> Result<Incoming, Ending> {
        let target = format!("/api/v1/task/events?after={after}");
        let (request, exchange) = self.request(reqwest::Method::GET, &target, None)?;
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        if response.status().is_success() {
            return Ok(Incoming::new(response, exchange));
        }
        Err(Ending::new(
            Exit::Failed,
            format!("the event stream was refused with status {}", response.status()),
        ))
    }

    fn cut(&self, cut: Cut) -> Ending {
        match cut {
            Cut::Connection(Some(error)) => self.unreachable(&error),
            Cut::Connection(None) => {
                Ending::new(Exit::Unreachable, format!("the answer of {} was cut off", self.place))
            }
            Cut::NotAnAnswer => self.nobody(),
        }
    }

    fn nobody(&self) -> Ending {
        Ending::new(Exit::Failed, format!("the answer of {} is not an agent's", self.place))
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
            .with_hint(if self.base.starts_with("https") || self.place.starts_with("socket") {
                "is it running? `obpilot agent status`; start it with `obpilot agent start`"
            } else {
                "is it running? `obpilot agent status` there; does it serve HTTPS? then --host https://IP:PORT"
            })
    }
}

/// A refusal of v2 has its code, a text, where v1 has a number of old clients.
fn as_v1(mut answer: Value) -> Value {
    if let Some(error) = answer.get_mut("error").and_then(Value::as_object_mut)
        && error.get("code").is_some_and(Value::is_string)
        && let Some(code) = error.remove("code")
    {
        error.insert("errCode".to_owned(), code);
    }
    answer
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

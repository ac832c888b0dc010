//! One login, with its limits; and the server's refusals as ours.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use mysql_async::{Conn, OptsBuilder};

use crate::error::{Code, Error, Result};
use crate::flow::ports::Login;
use crate::model::Password;

/// From the first packet to the end of the handshake. A stopped process accepts TCP and never greets.
const LOGIN_LIMIT: Duration = Duration::from_secs(3);

/// For one statement that should be instant.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(10);

/// `Access denied` (`seekdb-engine.md` §11).
const ACCESS_DENIED: u16 = 1045;

/// Where the local server's MySQL protocol is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
}

impl Endpoint {
    pub fn loopback(port: u16) -> Self {
        Self { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port }
    }
}

/// Why a login gave no connection.
#[derive(Debug)]
pub(super) enum NoLogin {
    Refused,
    NoAnswer(String),
}

/// `root@sys` with a password, no database.
pub(super) async fn login(endpoint: Endpoint, password: &Password) -> std::result::Result<Conn, NoLogin> {
    let opts = OptsBuilder::default()
        .ip_or_hostname(endpoint.ip.to_string())
        .tcp_port(endpoint.port)
        .user(Some("root@sys"))
        .pass(Some(password.expose()))
        // The driver would leave TCP for the server's socket path, which is relative to another directory.
        .prefer_socket(false)
        .tcp_nodelay(true);
    match tokio::time::timeout(LOGIN_LIMIT, Conn::new(opts)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(mysql_async::Error::Server(server))) if server.code == ACCESS_DENIED => Err(NoLogin::Refused),
        Ok(Err(error)) => Err(NoLogin::NoAnswer(error.to_string())),
        Err(_) => Err(NoLogin::NoAnswer(format!("no greeting within {} s", LOGIN_LIMIT.as_secs()))),
    }
}

/// The same, with refusals as errors with codes.
pub(super) async fn connect(endpoint: Endpoint, password: &Password) -> Result<Conn> {
    login(endpoint, password).await.map_err(|why| not_let_in(endpoint, &why))
}

/// What a login tells of its password.
pub(super) async fn outcome_of(tried: std::result::Result<Conn, NoLogin>) -> Login {
    match tried {
        Ok(connection) => {
            bye(connection).await;
            Login::Accepted
        }
        Err(NoLogin::Refused) => Login::Refused,
        Err(NoLogin::NoAnswer(_)) => Login::NoAnswer,
    }
}

pub(super) fn not_let_in(endpoint: Endpoint, why: &NoLogin) -> Error {
    match why {
        NoLogin::Refused => Error::new(
            Code::PasswordIncorrect,
            "the database refuses the password of root@sys that the agent knows; give the new one with \
             `obpilot cluster password`",
        ),
        NoLogin::NoAnswer(why) => useless(endpoint, why),
    }
}

pub(super) fn useless(endpoint: Endpoint, why: &str) -> Error {
    let text = format!("the database on port {} does not answer: {why}", endpoint.port);
    Error::new(Code::DatabaseUseless, text)
}

/// A statement's failure: the server's words with its number, or that it did not answer.
pub(super) fn statement_error(endpoint: Endpoint, what: &str, error: &mysql_async::Error) -> Error {
    if let mysql_async::Error::Server(server) = error {
        let text = format!("{what} was refused: {} ({})", server.message, server.code);
        return Error::new(Code::MysqlError, text).with_data(serde_json::json!({ "number": server.code }));
    }
    useless(endpoint, &format!("{what}: {error}"))
}

/// The number of the database's own refusal.
pub(super) fn number_of(error: &Error) -> Option<u16> {
    if error.code != Code::MysqlError {
        return None;
    }
    let number = error.data()?.get("number")?.as_u64()?;
    u16::try_from(number).ok()
}

/// Says goodbye; a server that does not listen any more needs none.
pub(super) async fn bye(connection: Conn) {
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), connection.disconnect()).await {
        tracing::trace!(%error, "a connection was dropped without goodbye");
    }
}

/// Runs one statement's future under a limit.
pub(super) async fn limited<T>(
    endpoint: Endpoint,
    what: &str,
    limit: Duration,
    work: impl Future<Output = mysql_async::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(statement_error(endpoint, what, &error)),
        Err(_) => Err(useless(endpoint, &format!("{what}: no answer within {} s", limit.as_secs()))),
    }
}

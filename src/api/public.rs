//! Open routes: what a client must know before it can authenticate. They answer whatever the database does.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse};

use super::call::Open;
use super::meta::Meta;
use super::reply::{Outcome, failure};
use super::v2;
use crate::app::StatusView;
use crate::clock;
use crate::error::{Code, Error, Result};
use crate::model::{API_VERSION, AgentAddr, PRODUCT, PRODUCT_VERSION, on_wire};
use crate::wire::{
    AuthSchemes, CredentialView, GitInfo, Info, LastExitView, LockHolder, Obpilot, SchemeV3, Secret,
    ServerView, Status, StatusAgent,
};

/// Longest probe of the database that `ob_query_timeout` may ask for; its unit is microseconds.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// The time of this host
#[utoipa::path(get, path = "/api/v1/time", tag = "open", responses((status = 200, description = "Now", body = crate::wire::Envelope<String>)))]
pub(super) async fn time(_: Open) -> Outcome<String> {
    Outcome::data(Ok(on_wire(clock::system().now())))
}

/// Who this agent is, and which authentication it takes
#[utoipa::path(get, path = "/api/v1/info", tag = "open", responses((status = 200, body = crate::wire::Envelope<Info>)))]
pub(super) async fn info(open: Open) -> Outcome<Info> {
    let view = open.app.info();
    let AgentAddr { ip, port } = view.state.addr;
    Outcome::data(Ok(Info {
        pid: std::process::id(),
        state: view.run_state,
        start_at: nanos(view.started_at),
        home_path: view.home,
        ob_version: view.ob_version.unwrap_or_default(),
        architecture: std::env::consts::ARCH.to_owned(),
        ip: ip.to_string(),
        port: i64::from(port),
        zone: view.state.zone.as_ref().map(ToString::to_string).unwrap_or_default(),
        identity: view.state.identity.text().to_owned(),
        version: API_VERSION.to_owned(),
        is_obproxy_agent: false,
        security: view.has_agent_password,
        supported_auth: supported_auth(open.door.takes_v1()),
        product: PRODUCT.to_owned(),
        product_version: PRODUCT_VERSION.to_owned(),
        engine: view.engine.name().to_owned(),
        auth_schemes: auth_schemes(&open),
    }))
}

/// v2 first, always: SDKs take the first one that they know (`security.md` §10).
fn supported_auth(takes_v1: bool) -> Vec<String> {
    let schemes = if takes_v1 { &["v2", "v1"][..] } else { &["v2"] };
    schemes.iter().map(|scheme| (*scheme).to_owned()).collect()
}

fn auth_schemes(open: &Open) -> Option<AuthSchemes> {
    let key = open.door.v3_key();
    let (key_id, public_key) = (key.id().to_owned(), key.public_on_wire().to_owned());
    Some(AuthSchemes { v3: SchemeV3 { key_id, public_key } })
}

fn nanos(moment: crate::model::Timestamp) -> i64 {
    i64::try_from(moment.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Commit and time of the build, where the build knew them
#[utoipa::path(get, path = "/api/v1/git-info", tag = "open", responses((status = 200, body = crate::wire::Envelope<GitInfo>)))]
pub(super) async fn git_info(_: Open) -> Outcome<GitInfo> {
    let commit = option_env!("OBPILOT_COMMIT").unwrap_or_default();
    Outcome::data(Ok(GitInfo {
        branch: option_env!("OBPILOT_BRANCH").unwrap_or_default().to_owned(),
        commit_id: commit.to_owned(),
        short_commit_id: commit.chars().take(7).collect(),
        commit_time: option_env!("OBPILOT_COMMIT_TIME").unwrap_or_default().to_owned(),
    }))
}

/// The public key that headers are sealed with
#[utoipa::path(get, path = "/api/v1/secret", tag = "open", responses((status = 200, body = crate::wire::Envelope<Secret>)))]
pub(super) async fn secret(open: Open) -> Outcome<Secret> {
    let AgentAddr { ip, port } = open.app.own();
    let public_key = open.door.public_key();
    Outcome::data(Ok(Secret {
        ip: ip.to_string(),
        port: i64::from(port),
        public_key,
        auth_schemes: auth_schemes(&open),
    }))
}

/// The truth of now: agent, database process, lock
#[utoipa::path(get, path = "/api/v1/status", tag = "open",
    params(("ob_query_timeout" = Option<u64>, Query, description = "Bound of the database probe in microseconds, 1 to 60000000; 10 s by default, and at most")),
    responses((status = 200, body = crate::wire::Envelope<Status>)))]
pub(super) async fn status(open: Open, request: HttpRequest) -> Outcome<Status> {
    let limit = match probe_limit(request.query_string()) {
        Ok(limit) => limit,
        Err(error) => return Outcome::data(Err(error)),
    };
    Outcome::data(open.app.status(limit).await.map(render_status))
}

/// The same answer as GET
#[utoipa::path(post, path = "/api/v1/status", tag = "open",
    params(("ob_query_timeout" = Option<u64>, Query, description = "As for GET")),
    responses((status = 200, body = crate::wire::Envelope<Status>)))]
pub(super) async fn status_by_post(open: Open, request: HttpRequest) -> Outcome<Status> {
    status(open, request).await
}

/// W46: a number within bounds, never a part of a statement.
fn probe_limit(query: &str) -> Result<Duration> {
    let given = form_value(query, "ob_query_timeout");
    let Some(text) = given.filter(|t| !t.is_empty()) else { return Ok(PROBE_LIMIT) };
    let micros = text.parse::<u64>().ok().filter(|us| (1..=60_000_000).contains(us));
    let micros = micros.ok_or_else(|| {
        let text =
            format!("ob_query_timeout is '{text}'; it must be a number of microseconds from 1 to 60000000");
        Error::new(Code::QueryIllegal, text)
    })?;
    Ok(Duration::from_micros(micros).min(PROBE_LIMIT))
}

/// The last value of a name in a query string, decoded.
pub(super) fn form_value(query: &str, name: &str) -> Option<String> {
    let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(query).ok()?;
    pairs.into_inner().into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
}

pub(super) fn render_status(view: StatusView) -> Status {
    let AgentAddr { ip, port } = view.state.addr;
    let health = &view.health;
    let server = &view.state.server;
    let held_by = view.holder.as_ref().zip(view.held_by.clone()).map(|(holder, id)| LockHolder {
        id,
        name: holder.name.clone(),
        since: on_wire(holder.since),
    });
    Status {
        agent: StatusAgent {
            ip: ip.to_string(),
            port: i64::from(port),
            identity: view.state.identity.text().to_owned(),
        },
        state: view.run_state,
        version: API_VERSION.to_owned(),
        pid: std::process::id(),
        start_at: nanos(view.started_at),
        port: i64::from(port),
        ob_state: health.ob_state(),
        sql_port: server.sql_port,
        under_maintenance: view.holder.is_some(),
        obpilot: Obpilot {
            server: ServerView {
                state: health.word().to_owned(),
                pid: health.process.as_ref().map(|p| p.pid),
                started_at: health.process.as_ref().map(|p| on_wire(p.started_at)),
                why: health.why(),
                last_exit: server.last_exit.as_ref().map(|exit| LastExitView {
                    pid: exit.pid,
                    how: exit.exit.to_string(),
                    at: on_wire(exit.at),
                    unexpected: exit.is_unexpected,
                }),
                policy: health.policy.clone(),
            },
            credential: credential(&view),
            held_by,
            safe_to_stop: view.stop_risks.clone().map(Into::into),
        },
    }
}

fn credential(view: &StatusView) -> CredentialView {
    use crate::app::health::{Sql, password_hint};
    let (state, hint) = match (&view.health.process, &view.health.sql) {
        (Some(_), Sql::Serving | Sql::Restricted(_)) => ("ACCEPTED", None),
        (Some(_), Sql::Refused) => ("REFUSED", Some(password_hint(view.state.identity).to_owned())),
        (None, _) | (Some(_), Sql::Unknown | Sql::Silent(_)) => ("UNKNOWN", None),
    };
    let since = (state != "UNKNOWN").then(|| on_wire(view.health.sql_since));
    CredentialView { state: state.to_owned(), since, hint }
}

/// Unknown paths and methods: 404, never 405 (`http-api.md` §1.2), but for v2.
pub(super) async fn not_found(request: HttpRequest) -> HttpResponse {
    if v2::is_ours(request.path()) {
        return v2::not_found(&request);
    }
    let text = format!("there is no {} {}", request.method(), request.path());
    failure(&Meta::of(&request), &Error::new(Code::NotFound, text))
}

//! Small calls that clients make before anything else, and what matches no route.

use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::call::{Call, Open};
use super::error::{OcpCode, Refusal};
use super::reply::failure;
use super::route::methods_of;
use crate::api::meta::Meta;
use crate::app::RunState;
use crate::clock;
use crate::error::{Code, Error};
use crate::model::{API_VERSION, PRODUCT, PRODUCT_VERSION, in_millis};
use crate::telemetry::PAGE_TYPE;

const PLAIN: &str = "text/plain; charset=utf-8";

/// The time of this host, as plain text
#[utoipa::path(get, path = "/api/v2/time", tag = "open",
    responses((status = 200, description = "ISO 8601 with milliseconds and offset", body = String, content_type = "text/plain")))]
pub(super) async fn time(_: Open) -> HttpResponse {
    HttpResponse::Ok().content_type(PLAIN).body(in_millis(clock::system().now()))
}

/// Whether this agent is up, as plain text: okay or bad
#[utoipa::path(get, path = "/api/status", tag = "open",
    responses((status = 200, description = "okay, or bad while the agent starts or stops", body = String, content_type = "text/plain")))]
pub(super) async fn status(open: Open) -> HttpResponse {
    let is_up = open.app.info().run_state == RunState::RUNNING;
    HttpResponse::Ok().content_type(PLAIN).body(if is_up { "okay" } else { "bad" })
}

/// `GET /api/v2/info`, without an envelope.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct InfoV2 {
    name: &'static str,
    group: &'static str,
    artifact: &'static str,
    /// Where the build knew it, else empty.
    #[serde(rename = "buildTime")]
    build_time: &'static str,
    #[serde(rename = "buildVersion")]
    build_version: &'static str,
    /// There is no Java here: empty.
    #[serde(rename = "buildJavaVersion")]
    build_java_version: &'static str,
    /// Nor Spring Boot: empty.
    #[serde(rename = "springBootVersion")]
    spring_boot_version: &'static str,
    /// Ours: level of the v1 API.
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
}

/// What answers here
#[utoipa::path(get, path = "/api/v2/info", tag = "open",
    responses((status = 200, description = "A bare object", body = InfoV2)))]
pub(super) async fn info(_: Call) -> HttpResponse {
    HttpResponse::Ok().json(InfoV2 {
        name: PRODUCT,
        group: PRODUCT,
        artifact: PRODUCT,
        build_time: option_env!("OBPILOT_COMMIT_TIME").unwrap_or_default(),
        build_version: PRODUCT_VERSION,
        build_java_version: "",
        spring_boot_version: "",
        api_version: API_VERSION,
    })
}

/// What this agent has done and how long it took, in the OpenMetrics text format
#[utoipa::path(get, path = "/api/v2/metrics", tag = "open",
    responses((status = 200, description = "A page for a scraper of Prometheus", body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(call: Call) -> HttpResponse {
    HttpResponse::Ok().content_type(PAGE_TYPE).body(call.door.page().text())
}

/// No such route is 400 here, another method of one that exists 405 (`ocp-v2.md` §4.4).
pub(in crate::api) fn not_found(request: &HttpRequest) -> HttpResponse {
    let meta = Meta::of(request);
    let methods = methods_of(request.path());
    let (method, path) = (request.method(), request.path());
    if methods.is_empty() {
        let text = format!("there is no {method} {path}");
        let error = Error::new(Code::NotFound, text);
        return failure(&meta, &Refusal { code: OcpCode::InvalidRequest, error });
    }
    let methods = methods.join(", ");
    let text = format!("{path} is not served for {method}; it is for {methods}");
    let mut response = failure(&meta, &Refusal::new(OcpCode::MethodNotSupported, text));
    if let Ok(value) = HeaderValue::from_str(&methods) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

//! The OpenAPI document of v2, from the handlers and the wire's types. `proto/openapi-v2.json` is the same under review.

use serde_json::Value;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Spec};
use utoipa::{Modify, OpenApi};

use super::route::{Needs, ROUTES, Route};
use super::{cluster, open, order, task};
use crate::api::openapi::{describe, operation_at};
use crate::wire::v2::{EnvelopeV2, ErrorV2};

#[derive(OpenApi)]
#[openapi(
    modifiers(&FromRoutes),
    components(schemas(EnvelopeV2<Value>, ErrorV2)),
    info(
        title = "obpilot API v2",
        description = "The part of OCP's v2 API that obpilot answers, as OCP answers it. Every answer under /api/v2 is an envelope, \
                       but for the time, the info and the metrics; every error has a code of ocp-errors.json and a message that says what to do. \
                       Callers are users with a password (Basic) or key pairs that sign (docs/api.md, The v2 API), over HTTPS or \
                       from the agent's own host; on the Unix socket the kernel tells who asks.",
        version = "2.0.0",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "open", description = "Small calls that clients make before anything else"),
        (name = "cluster", description = "The cluster, its zones and servers: read, started, stopped and restarted"),
        (name = "task", description = "Tasks of all agents, under one set of numbers")
    ),
    paths(
        open::time, open::status, open::info, open::metrics,
        order::start_server, order::stop_server, order::restart_server, order::start_zone, order::stop_zone,
        order::restart_zone, order::start_cluster, order::stop_cluster, order::restart_cluster,
        cluster::clusters, cluster::cluster, cluster::zones, cluster::servers, cluster::servers_of_zone,
        cluster::servers_of_zone_by_alias,
        task::list, task::one, task::one_by_alias, task::retry, task::rollback, task::pause, task::resume, task::abort,
        task::retry_step, task::skip_step, task::cancel_step, task::step_log
    )
)]
struct Document;

/// The document as text, as it stands in `proto/openapi-v2.json`.
pub fn document() -> String {
    let json = Document::openapi().to_pretty_json();
    json.expect("the document is made of texts and numbers")
}

/// Name of the schema of an envelope without data of its own.
const REFUSAL: &str = "EnvelopeV2_Value";

const BASIC: &str = "basic";
const SIGNATURE: &str = "signature";

/// What the route table knows and the handlers do not: who may, and that every route may refuse.
struct FromRoutes;

impl Modify for FromRoutes {
    fn modify(&self, spec: &mut Spec) {
        let components = spec.components.get_or_insert_with(Components::new);
        let mut basic = Http::new(HttpAuthScheme::Basic);
        basic.description =
            Some("root with the password of the database, or an account of this cluster".to_owned());
        components.add_security_scheme(BASIC, SecurityScheme::Http(basic));
        let text = "OCP-ACCESS-KEY-HMACSHA1 and a signature of the request (docs/api.md, The v2 API)";
        let key = ApiKeyValue::with_description("Authorization", text);
        components.add_security_scheme(SIGNATURE, SecurityScheme::ApiKey(ApiKey::Header(key)));
        for route in ROUTES {
            if let Some(operation) = operation_at(spec, route.method, route.path) {
                complete(operation, route);
            }
        }
    }
}

fn complete(operation: &mut Operation, route: &Route) {
    operation.operation_id = Some(operation_id(route));
    let is_protected = route.needs != Needs::Open;
    let is_of_something = route.path.contains('{');
    let refusals = [
        (
            route.path.starts_with("/api/v2/"),
            "default",
            "A refusal; code is one of ocp-errors.json, and its status stands there",
        ),
        (is_protected, "400", "Refused: the request, a state, or a rule"),
        (is_protected, "401", "Not let in: nothing was shown, or one and the same answer whatever was wrong"),
        (
            is_protected,
            "403",
            "The role does not allow it, or what was shown came over plain HTTP from another host",
        ),
        (is_of_something, "404", "There is no such cluster, zone, server or task"),
        (is_of_something && route.method != "GET", "409", "Another task is not finished"),
        (
            is_protected,
            "429",
            "Too many failed attempts from this address; RateLimit-Reset says how long to wait",
        ),
    ];
    let ways: &[&str] = if is_protected { &[BASIC, SIGNATURE] } else { &[] };
    describe(operation, &refusals, REFUSAL, ways);
}

/// Method and path in words.
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/api/").replace(['/', '-'], "_");
    format!("{}_{}", route.method.to_lowercase(), path.replace('{', "by_").replace('}', ""))
}

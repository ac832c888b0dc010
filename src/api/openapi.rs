//! The OpenAPI document of v1, from the handlers and the wire's types. `proto/openapi.json` is the same under review.

use serde_json::Value;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Spec, Ref, RefOr, Response, content::ContentBuilder};
use utoipa::{Modify, OpenApi};

use super::route::{ROUTES, Route};
use super::{
    accounts, agent, audit, events, info, keys, login, ob, parameters, public, reading, restart, scale,
    take_over, task, upgrade,
};
use crate::secure::{AGENT_HEADER, DATABASE_HEADER, RouteClass};
use crate::wire::{Envelope, Plan};

#[derive(OpenApi)]
#[openapi(
    modifiers(&FromRoutes),
    components(schemas(Envelope<Value>, Plan)),
    info(
        title = "obpilot API v1",
        description = "OBShell's v1 API as obpilot answers it. Every answer is an envelope; every error has an errCode of \
                       errors.json and a message that says what to do. Protected routes take a sealed header (docs/api.md) \
                       on TCP, their bodies are sealed with it; on the Unix socket the kernel tells who asks. In bodies, \
                       names match in any case, null is as good as absent, and unknown members are ignored. A request with \
                       an Idempotency-Key gives the same task however often it comes.",
        version = "4.5.0.0",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "open", description = "Answer anybody"),
        (name = "session", description = "Sessions instead of passwords"),
        (name = "security", description = "Who did what from where"),
        (name = "agent", description = "This agent"),
        (name = "cluster", description = "The cluster and its servers"),
        (name = "upgrade", description = "Upgrades and packages: not supported yet, and each of them says so"),
        (name = "task", description = "Tasks, their records, and the event stream")
    ),
    paths(
        public::time, public::info, public::git_info, public::secret, public::status, public::status_by_post,
        login::login, login::logout, login::sso_token, login::sso_exchange, audit::trail,
        agent::join, agent::remove, agent::remove_by_delete, agent::password, agent::host_info, agent::agents,
        info::agents_status, info::ob_info, info::cluster_info, info::topology, info::observer_info,
        ob::cluster_config, ob::cluster_config_by_put, ob::root_password, ob::observer_config,
        ob::observer_config_by_put, ob::init, ob::start, ob::stop, ob::stop_zone, ob::check_zone_stop,
        accounts::list, accounts::add, accounts::remove, accounts::add_pair, accounts::remove_pair,
        keys::show, keys::rotate, keys::issue, keys::rotate_ca,
        parameters::list, parameters::set, reading::charsets, reading::statistics, reading::unit_config_limit, reading::license,
        reading::validate_key, reading::save_key, upgrade::check_agent, upgrade::agent, upgrade::check_database,
        upgrade::database, upgrade::upload, upgrade::upload_plain, upgrade::packages, upgrade::delete_package,
        upgrade::backup_parameters, upgrade::restore_parameters, upgrade::check_environment,
        scale::scale_out, scale::scale_in, scale::scale_in_by_delete, scale::delete_zone,
        restart::restart,
        take_over::take_over,
        events::events, task::dags_ob, task::dags_agent, task::unfinished, task::unfinished_ob, task::unfinished_agent,
        task::main_dags, task::maintain_ob, task::maintain_agent, task::maintain_agents, task::dag, task::operate_dag,
        task::node, task::operate_node, task::sub_task, task::sub_task_logs, task::blocked
    )
)]
struct Document;

/// Name of the schema of an envelope without data of its own.
const REFUSAL: &str = "Envelope_Value";

/// What the route table knows and the handlers do not: who must show what, and that every route may refuse.
struct FromRoutes;

impl Modify for FromRoutes {
    fn modify(&self, spec: &mut Spec) {
        let components = spec.components.get_or_insert_with(Components::new);
        for (name, header, whose) in [
            ("rootPassword", DATABASE_HEADER, "the password of root@sys"),
            ("agentPassword", AGENT_HEADER, "the password of the agent"),
        ] {
            let text = format!(
                "A sealed header with {whose} (docs/api.md, Sealed requests). Not needed on the Unix socket."
            );
            let key = ApiKeyValue::with_description(header, &text);
            components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(key)));
        }
        for route in ROUTES {
            if let Some(operation) = operation_at(spec, route.method, route.path) {
                complete(operation, route);
            }
        }
    }
}

fn complete(operation: &mut Operation, route: &Route) {
    operation.operation_id = Some(operation_id(route));
    let is_protected = route.class != RouteClass::Open;
    let is_of_tasks = route.path.starts_with("/api/v1/task/");
    let names_a_task = is_of_tasks && (route.path.contains("{id}") || route.path.contains("/maintain/"));
    let refusals = [
        (true, "default", "A refusal; errCode is one of errors.json, and its status stands there"),
        (
            is_protected,
            "400",
            "Refused: the request, the identity, or a rule; without a header Request.Header.NotFound",
        ),
        (
            is_protected,
            "401",
            "Not let in: one and the same answer whatever was wrong, unless the password was right",
        ),
        (names_a_task, "404", "There is no such task"),
        (route.method != "GET" && is_protected, "413", "The body is larger than api.body_max_bytes"),
        (
            is_protected,
            "429",
            "Too many failed attempts from this address; Retry-After says how long to wait",
        ),
    ];
    let ways: &[&str] = if is_protected { &["rootPassword", "agentPassword"] } else { &[] };
    describe(operation, &refusals, REFUSAL, ways);
}

/// The operation of a route, where the document has it.
pub(super) fn operation_at<'a>(spec: &'a mut Spec, method: &str, path: &str) -> Option<&'a mut Operation> {
    let item = spec.paths.paths.get_mut(path)?;
    let operation = match method {
        "GET" => &mut item.get,
        "PUT" => &mut item.put,
        "DELETE" => &mut item.delete,
        "PATCH" => &mut item.patch,
        _ => &mut item.post,
    };
    operation.as_mut()
}

/// Its refusals (those that apply, by status, in the shape of this name) and the ways of being let in; none for an open one.
pub(super) fn describe(
    operation: &mut Operation,
    refusals: &[(bool, &str, &str)],
    shape: &str,
    ways: &[&str],
) {
    // The first line about the operation is what a success means, where the handler says no more.
    if let Some(RefOr::T(success)) = operation.responses.responses.get_mut("200")
        && success.description.is_empty()
    {
        success.description = operation.summary.clone().unwrap_or_default();
    }
    for (_, status, about) in refusals.iter().filter(|(applies, _, _)| *applies) {
        operation.responses.responses.insert((*status).to_owned(), RefOr::T(refusal(about, shape)));
    }
    if !ways.is_empty() {
        let scopes: [&str; 0] = [];
        operation.security = Some(ways.iter().map(|way| SecurityRequirement::new(*way, scopes)).collect());
    }
}

/// Method and path in words: handlers of two rooms may have the same name, operations of one document may not.
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_start_matches("/api/v1/").replace(['/', '-'], "_");
    format!("{}_{path}", route.method.to_lowercase())
        .replace("{id}", "by_id")
        .replace("{zone_name}", "by_name")
}

fn refusal(about: &str, shape: &str) -> Response {
    let mut refusal = Response::new(about);
    let schema = RefOr::Ref(Ref::from_schema_name(shape));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    refusal.content.insert("application/json".to_owned(), content.into());
    refusal
}

/// The document as text, as it stands in `proto/openapi.json`.
pub fn document() -> String {
    let json = Document::openapi().to_pretty_json();
    json.expect("the document is made of texts and numbers")
}

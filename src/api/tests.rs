//! The documents under review in `proto/`, against the code.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ROUTES, document};
use crate::error::{Code, table_as_json};
use crate::secure::RouteClass;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_openapi_document_under_review_is_what_the_code_says() {
    let reviewed = include_str!("../../proto/openapi.json");
    assert!(
        parsed(reviewed) == parsed(&document()),
        "proto/openapi.json is out of date: `make proto`, and look at the diff"
    );
}

#[test]
fn the_table_of_errors_under_review_is_what_the_code_says() {
    let reviewed = include_str!("../../proto/errors.json");
    assert!(
        parsed(reviewed) == table_as_json(),
        "proto/errors.json is out of date: `make proto`, and look at the diff"
    );
}

#[test]
fn every_route_is_documented_and_nothing_else() {
    let document = parsed(&document());
    let paths = document["paths"].as_object().unwrap();
    let documented = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .keys()
            .map(|method| format!("{} {path}", method.to_uppercase()))
            .collect::<Vec<_>>()
    });
    // The older spelling of join; one operation under two paths is one too many for generated clients.
    // What agents say to each other is not for clients (docs/api.md, Agents among themselves).
    let is_alias = |route: &str| route == "POST /api/v1/agent" || route.contains("/rpc/");
    let routes = ROUTES
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .filter(|route| !is_alias(route));
    assert_eq!(documented.collect::<BTreeSet<_>>(), routes.collect::<BTreeSet<_>>());
}

#[test]
fn protected_routes_are_documented_as_such() {
    let document = parsed(&document());
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        if operation.is_null() {
            continue;
        }
        assert_eq!(
            operation["security"].is_null(),
            route.class == RouteClass::Open,
            "{} {}",
            route.method,
            route.path
        );
        assert!(operation["responses"]["default"].is_object(), "{} {}", route.method, route.path);
    }
}

/// What a generator of clients stumbles over.
#[test]
fn operations_have_ids_of_their_own_and_everything_is_described() {
    let document = parsed(&document());
    let mut ids = BTreeSet::new();
    let items = document["paths"].as_object().unwrap().values();
    for operation in items.flat_map(|item| item.as_object().unwrap().values()) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} stands twice");
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{id} has no summary");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let responses = operation["responses"].as_object().unwrap().values();
        for part in parameters.chain(responses) {
            assert!(!part["description"].as_str().unwrap_or_default().is_empty(), "{id}: {part}");
        }
    }
}

/// A defect is an envelope like any other answer, with its own time and trace, and tells nothing of the inside.
#[actix_web::test]
async fn h19_a_panic_becomes_an_envelope() {
    use actix_web::{App, HttpResponse, test, web};
    async fn handler() -> HttpResponse {
        panic!("the innermost secret")
    }
    let in_flight = super::drain::InFlight::new();
    let app = App::new().route("/api/v1/time", web::get().to(handler)).wrap_fn(move |request, service| {
        super::serve::guard(request, service, [127, 0, 0, 1].into(), 0, &in_flight)
    });
    let app = test::init_service(app).await;
    let request = test::TestRequest::get().uri("/api/v1/time").insert_header(("X-OBSHELL-Trace-ID", "mine"));
    let error = test::try_call_service(&app, request.to_request()).await.unwrap_err();
    let response = error.error_response();
    assert_eq!(response.status(), 500);
    let bytes = actix_web::body::to_bytes(response.into_body()).await.unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let json = parsed(text);
    assert_eq!(
        (&json["successful"], &json["error"]["errCode"], &json["traceId"]),
        (&Value::from(false), &Value::from("Common.Unexpected"), &Value::from("mine"))
    );
    assert!(!text.contains("innermost"), "{text}");
}

#[test]
fn codes_and_titles_are_one_of_a_kind() {
    let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    for code in Code::ALL {
        assert!((400..=599).contains(&code.status()), "{}", code.name());
        assert!(!code.title_en().is_empty() && !code.title_zh().is_empty(), "{}", code.name());
        assert_eq!(Code::by_name(code.name()), Some(*code));
    }
}

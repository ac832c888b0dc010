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
    let is_alias = |route: &str| route == "POST /api/v1/agent";
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

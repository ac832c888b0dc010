//! The documents of v2 under review in `proto/`, against the code.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Needs, ROUTES, document, table_as_json};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_openapi_document_of_v2_under_review_is_what_the_code_says() {
    let reviewed = include_str!("../../../proto/openapi-v2.json");
    assert!(
        parsed(reviewed) == parsed(&document()),
        "proto/openapi-v2.json is out of date: `make proto`, and look at the diff"
    );
}

#[test]
fn the_table_of_ocps_errors_under_review_is_what_the_code_says() {
    let reviewed = include_str!("../../../proto/ocp-errors.json");
    assert!(
        parsed(reviewed) == table_as_json(),
        "proto/ocp-errors.json is out of date: `make proto`, and look at the diff"
    );
}

#[test]
fn every_route_of_v2_is_documented_and_nothing_else() {
    let document = parsed(&document());
    let paths = document["paths"].as_object().unwrap();
    let documented = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(|method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
    });
    let routes = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path));
    assert_eq!(documented.collect::<BTreeSet<_>>(), routes.collect::<BTreeSet<_>>());
}

#[test]
fn operations_of_v2_are_described_and_say_who_may() {
    let document = parsed(&document());
    let mut ids = BTreeSet::new();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} stands twice");
        assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{id} has no summary");
        assert_eq!(operation["security"].is_null(), route.needs == Needs::Open, "{id}");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        for part in parameters.chain(operation["responses"].as_object().unwrap().values()) {
            assert!(!part["description"].as_str().unwrap_or_default().is_empty(), "{id}: {part}");
        }
    }
}

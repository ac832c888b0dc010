//! Bodies of orders to a cluster: of whom, and how.

use serde_json::{Value, json};

pub fn global() -> Value {
    json!({ "scope": { "type": "GLOBAL" } })
}

pub fn zone(name: &str) -> Value {
    json!({ "scope": { "type": "ZONE", "target": [name] } })
}

pub fn server(address: &str) -> Value {
    json!({ "scope": { "type": "SERVER", "target": [address] } })
}

pub fn with(mut body: Value, key: &str, value: impl Into<Value>) -> Value {
    body[key] = value.into();
    body
}

pub fn terminate(body: Value) -> Value {
    with(body, "terminate", true)
}

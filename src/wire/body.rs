//! Reading request bodies as OBShell's clients write them (`http-api.md` §1.4): names match without regard to case (the
//! Go SDK sends `AgentInfo`), `null` is the default, unknown members are ignored, an empty body is `{}`.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Members whose content is the caller's own map: its names are left as they are.
const VERBATIM: [&str; 2] = ["observerConfig", "obConfigs"];

/// Why a body was refused. The text names the member where one is to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(pub String);

/// Parses a body into a shape whose members are all spelled as documented and all have defaults.
///
/// # Errors
/// Not JSON, not an object, or a member of the wrong type.
pub fn parse<T: DeserializeOwned>(body: &[u8], members: &[&str]) -> Result<T, BodyError> {
    let trimmed = body.trim_ascii();
    let value: Value = if trimmed.is_empty() {
        Value::Object(Map::new())
    } else {
        serde_json::from_slice(trimmed).map_err(|e| BodyError(format!("the body is not JSON: {e}")))?
    };
    let object = match value {
        Value::Object(object) => object,
        Value::Null => Map::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(BodyError("the body must be a JSON object".to_owned()));
        }
    };
    let normal = normalise(object, members);
    serde_json::from_value(Value::Object(normal.clone())).map_err(|error| {
        let culprit =
            culprit::<T>(&normal).map_or("the body".to_owned(), |name| format!("'{name}' in the body"));
        BodyError(format!("{culprit} does not fit: {error}"))
    })
}

/// The first member that does not fit when it comes alone: all have defaults.
fn culprit<T: DeserializeOwned>(object: &Map<String, Value>) -> Option<&str> {
    let is_wrong = |name: &str, value: &Value| {
        let alone = Map::from_iter([(name.to_owned(), value.clone())]);
        serde_json::from_value::<T>(Value::Object(alone)).is_err()
    };
    object.iter().find(|(name, value)| is_wrong(name, value)).map(|(name, _)| name.as_str())
}

/// Known members under their documented names (an exact match wins over another case), without `null`s at any depth.
fn normalise(object: Map<String, Value>, members: &[&str]) -> Map<String, Value> {
    let mut normal = Map::new();
    for (key, value) in object {
        let exact = members.iter().find(|name| **name == key);
        let name = exact.or_else(|| members.iter().find(|name| name.eq_ignore_ascii_case(&key)));
        let is_verbatim = name.is_some_and(|name| VERBATIM.contains(name)) && !value.is_null();
        let value = if is_verbatim { Some(value) } else { without_nulls(value, members) };
        let (Some(value), name) = (value, name.map_or(key.clone(), |name| (*name).to_owned())) else {
            continue;
        };
        if exact.is_some() {
            normal.insert(name, value);
        } else {
            normal.entry(name).or_insert(value);
        }
    }
    normal
}

fn without_nulls(value: Value, members: &[&str]) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(object) => Some(Value::Object(normalise(object, members))),
        Value::Array(items) => {
            // What stands in a list keeps its place.
            let item = |item| without_nulls(item, members).unwrap_or(Value::Null);
            Some(Value::Array(items.into_iter().map(item).collect()))
        }
        other @ (Value::Bool(_) | Value::Number(_) | Value::String(_)) => Some(other),
    }
}

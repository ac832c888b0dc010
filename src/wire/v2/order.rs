//! Parameters of the nine operations: in the query, in a JSON body, or both (`ocp-v2.md` §1.2).
//!
//! Invariant: what is said in two places means the same in both, or is refused. Names that nobody knows are nobody's business.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::error::{Code, Error, Result};
use crate::model::{GenericId, ZoneName};

/// What a stop of a server ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StopKind {
    /// It serves nobody any more, and its process goes on.
    StopService,
    #[default]
    StopProcess,
}

/// The body of an operation; every member can stand in the query too, lists separated by commas there. All are optional, and
/// members that an operation has no use for are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(example = json!({ "freezeServer": true }))]
pub struct OrderBody {
    /// Stops and restarts: without checks, and without waiting for leaders to move. Of a cluster: all zones at once.
    pub force: Option<bool>,
    /// Stops and restarts: a minor freeze before processes end.
    pub freeze_server: Option<bool>,
    /// Stop of a server: what is stopped.
    pub r#type: Option<StopKind>,
    /// Ours, restart of a cluster: only these zones.
    pub zone_names: Option<Vec<String>>,
    /// Ours: zones in the order in which they go; others come after them.
    pub order: Option<Vec<String>>,
    /// Ours: servers of a zone at a time, 1 or more.
    #[schema(minimum = 1)]
    pub parallel: Option<u64>,
    /// Ours: seconds between two zones.
    pub pause_seconds: Option<u64>,
    /// Ours: seconds for one server to stop, and to start; 1 or more.
    #[schema(minimum = 1)]
    pub server_deadline_seconds: Option<u64>,
    /// Ours, restart of a cluster: all zones at once, business stops.
    pub stop_the_world: Option<bool>,
    /// Ours: of the plan that was shown; exactly that is done, or nothing.
    pub plan_hash: Option<String>,
    /// Ours: ids of tasks, as v1 has them, that may be pushed aside; or an object with them under `id`.
    pub force_pass_dag: Option<Vec<String>>,
}

/// What was asked for, read and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordered {
    pub is_forced: bool,
    pub freezes: bool,
    pub kind: StopKind,
    /// Empty: all.
    pub zones: Vec<ZoneName>,
    pub order: Vec<ZoneName>,
    pub at_most: Option<usize>,
    pub pause_secs: Option<u64>,
    pub server_deadline_secs: Option<u64>,
    pub stops_the_world: bool,
    pub plan_hash: Option<String>,
    pub force_pass: Vec<String>,
    /// Answer what it would do, and change nothing.
    pub wants_plan: bool,
}

/// Longest time that may be asked for: a day.
const SECS_MAX: u64 = 86_400;

/// Most servers at a time that may be asked for.
const PARALLEL_MAX: u64 = 10_000;

impl Ordered {
    /// Query pairs as they came, decoded; the body as it came, empty or a JSON object.
    ///
    /// # Errors
    /// `Common.IllegalArgument` naming the parameter.
    pub fn read(query: &[(String, String)], body: &[u8]) -> Result<Self> {
        let given = Given { query, body: object(body)? };
        let kind = given.one("type", stop_kind)?;
        let at_most = given.one("parallel", |value| number(value, 1, PARALLEL_MAX))?;
        Ok(Self {
            is_forced: given.one("force", flag)?.unwrap_or(false),
            freezes: given.one("freezeServer", flag)?.unwrap_or(false),
            kind: kind.unwrap_or_default(),
            zones: given.one("zoneNames", zones)?.unwrap_or_default(),
            order: given.one("order", zones)?.unwrap_or_default(),
            at_most: at_most.and_then(|most| usize::try_from(most).ok()),
            pause_secs: given.one("pauseSeconds", |value| number(value, 0, SECS_MAX))?,
            server_deadline_secs: given.one("serverDeadlineSeconds", |value| number(value, 1, SECS_MAX))?,
            stops_the_world: given.one("stopTheWorld", flag)?.unwrap_or(false),
            plan_hash: given.one("planHash", text)?,
            force_pass: given.one("forcePassDag", ids)?.unwrap_or_default(),
            wants_plan: given.one("plan", flag)?.unwrap_or(false),
        })
    }
}

fn illegal(text: String) -> Error {
    Error::new(Code::IllegalArgument, text)
}

fn object(body: &[u8]) -> Result<Map<String, Value>> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Ok(Map::new());
    }
    let value = serde_json::from_slice(body).map_err(|e| illegal(format!("the body is not JSON: {e}")))?;
    match value {
        Value::Object(object) => Ok(object),
        Value::Null => Ok(Map::new()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(illegal("the body must be a JSON object, or empty".to_owned()))
        }
    }
}

struct Given<'a> {
    query: &'a [(String, String)],
    body: Map<String, Value>,
}

impl Given<'_> {
    /// A parameter wherever it stands; `None` where it stands nowhere.
    fn one<T: PartialEq>(
        &self,
        name: &str,
        read: impl Fn(&Value) -> std::result::Result<T, String>,
    ) -> Result<Option<T>> {
        let in_query = self.query.iter().filter(|(key, _)| key == name);
        let in_query = in_query.map(|(_, text)| Value::String(text.clone()));
        let in_body = self.body.get(name).filter(|value| !value.is_null()).cloned();
        let mut found: Option<T> = None;
        for value in in_query.chain(in_body) {
            let value = read(&value).map_err(|why| illegal(format!("{name} {why}")))?;
            if found.as_ref().is_some_and(|other| *other != value) {
                let text = format!("{name} is given more than once with different values; give it once");
                return Err(illegal(text));
            }
            found = Some(value);
        }
        Ok(found)
    }
}

type Read<T> = std::result::Result<T, String>;

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    };
    text.chars().take(80).collect()
}

/// In any letter case: clients print `False`.
fn flag(value: &Value) -> Read<bool> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("is '{}'; it must be true or false", shown(value)))
        }
    }
}

fn number(value: &Value, least: u64, most: u64) -> Read<u64> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("is '{}'; it must be a whole number from {least} to {most}", shown(value)))
}

fn text(value: &Value) -> Read<String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| format!("is '{}'; it must be a text", shown(value)))
}

fn stop_kind(value: &Value) -> Read<StopKind> {
    match value.as_str() {
        Some("STOP_SERVICE") => Ok(StopKind::StopService),
        Some("STOP_PROCESS") => Ok(StopKind::StopProcess),
        Some(_) | None => Err(format!("is '{}'; it must be STOP_SERVICE or STOP_PROCESS", shown(value))),
    }
}

/// A list, or a text with commas.
fn texts(value: &Value) -> Read<Vec<String>> {
    let refuse = || format!("is '{}'; it must be a list of texts", shown(value));
    let all = match value {
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Value::String(text) => Some(text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    };
    all.filter(|all: &Vec<String>| all.iter().all(|text| !text.is_empty())).ok_or_else(refuse)
}

fn zones(value: &Value) -> Read<Vec<ZoneName>> {
    let mut zones: Vec<ZoneName> = Vec::new();
    for name in texts(value)? {
        let zone = name.parse::<ZoneName>().map_err(|e| format!("is wrong: {e}"))?;
        if zones.contains(&zone) {
            return Err(format!("names zone '{zone}' more than once"));
        }
        zones.push(zone);
    }
    Ok(zones)
}

/// As v1 takes them: a list, or an object with one under `id`.
fn ids(value: &Value) -> Read<Vec<String>> {
    let list = value.as_object().map_or(Some(value), |object| object.get("id"));
    let all = list.map_or(Ok(Vec::new()), texts)?;
    for id in &all {
        id.parse::<GenericId>().map_err(|e| format!("is wrong: {e}"))?;
    }
    Ok(all)
}

//! The documented graphs of the v2 API (`ocp-graphs/*.json`), expanded for a cluster, and held against a task by names and edges.
//! Shared by the tests of the rendering and those of real agents.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// What an operation is over: servers per zone, in the order in which zones go. A server or a zone alone is one zone.
pub(crate) type Layout<'a> = &'a [(&'a str, usize)];

/// A documented graph.
pub(crate) fn fixture(operation: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/agent/ocp-graphs/{operation}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A stage of the expanded chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) name: String,
    pub(crate) is_split: bool,
    pub(crate) copies: usize,
    pub(crate) timeout: Option<u64>,
    pub(crate) class_name: Option<String>,
}

/// The chain of a fixture for a layout: every split step once per element, the block of a zone once per zone, and what is ours
/// where several zones roll (`ocp-v2.md` §5.4).
pub(crate) fn expand(fixture: &Value, layout: Layout<'_>) -> Vec<Stage> {
    let nodes = fixture["nodes"].as_array().unwrap();
    let stage = |node: &Value, zones: Layout<'_>| {
        let split = node["split"].as_str();
        Stage {
            name: node["name"].as_str().unwrap().to_owned(),
            is_split: split.is_some(),
            copies: match split {
                None => 1,
                Some("zones") => zones.len(),
                Some(_) => zones.iter().map(|(_, servers)| servers).sum(),
            },
            timeout: node["timeoutSeconds"].as_u64(),
            class_name: node["className"].as_str().map(str::to_owned),
        }
    };
    let Some(block) = fixture.get("perZoneBlock") else {
        return nodes.iter().map(|node| stage(node, layout)).collect();
    };
    let (first, last) = (block["firstPosition"].as_u64().unwrap(), block["lastPosition"].as_u64().unwrap());
    let position = |node: &Value| node["position"].as_u64().unwrap();
    let mut chain: Vec<Stage> =
        nodes.iter().filter(|node| position(node) < first).map(|node| stage(node, layout)).collect();
    for zone in layout {
        for node in nodes.iter().filter(|node| (first..=last).contains(&position(node))) {
            chain.push(stage(node, std::slice::from_ref(zone)));
            if layout.len() > 1 && node["name"] == "Prepare restart OB zone" {
                let (name, is_split) = ("Stop zone".to_owned(), false);
                chain.push(Stage { name, is_split, copies: 1, timeout: None, class_name: None });
            }
        }
    }
    chain.extend(nodes.iter().filter(|node| position(node) > last).map(|node| stage(node, layout)));
    chain
}

fn ids(value: &Value) -> Vec<i64> {
    let mut ids: Vec<_> = value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// Holds the steps of a task (`tasks` or `subtasks`) against a chain: every stage has as many steps of its name as it must, each
/// with all steps of the stage before as upstreams and all of the stage after as downstreams. Nothing else is there.
pub(crate) fn compare(chain: &[Stage], steps: &Value) -> Result<(), String> {
    let steps = steps.as_array().ok_or("no list of steps")?;
    let mut by_upstreams: BTreeMap<Vec<i64>, Vec<&Value>> = BTreeMap::new();
    for step in steps {
        by_upstreams.entry(ids(&step["upstreams"])).or_default().push(step);
    }
    let mut before = Vec::new();
    let mut stages = Vec::new();
    for (at, stage) in chain.iter().enumerate() {
        let here =
            by_upstreams.remove(&before).ok_or_else(|| format!("nothing follows stage {at}: {chain:?}"))?;
        if here.len() != stage.copies || here.iter().any(|step| step["name"] != stage.name.as_str()) {
            return Err(format!("stage {} is {here:?} and should be {stage:?}", at + 1));
        }
        let mut places: Vec<_> = here.iter().map(|step| step["parallelIdx"].as_i64()).collect();
        places.sort_unstable();
        let wanted: Vec<_> = (0..stage.copies)
            .map(|place| if stage.is_split { i64::try_from(place).ok() } else { Some(-1) })
            .collect();
        if places != wanted {
            return Err(format!("stage {} '{}' has parallelIdx {places:?}", at + 1, stage.name));
        }
        before = here.iter().map(|step| step["id"].as_i64().unwrap()).collect();
        before.sort_unstable();
        stages.push(here);
    }
    if !by_upstreams.is_empty() {
        return Err(format!("more than the chain: {by_upstreams:?}"));
    }
    for (at, here) in stages.iter().enumerate() {
        let mut after: Vec<_> =
            stages.get(at + 1).into_iter().flatten().map(|step| step["id"].as_i64().unwrap()).collect();
        after.sort_unstable();
        if let Some(wrong) = here.iter().find(|step| ids(&step["downstreams"]) != after) {
            return Err(format!("downstreams of {wrong} should be {after:?}"));
        }
    }
    Ok(())
}

/// Whether everything that a sample has is there, of the same JSON type. Of a list, its elements are held against the sample's
/// first. Returns what differs.
pub(crate) fn misfits(sample: &Value, ours: &Value, path: &str) -> Vec<String> {
    match (sample, ours) {
        (Value::Object(sample), Value::Object(ours)) => sample
            .iter()
            .flat_map(|(key, value)| match ours.get(key) {
                Some(mine) => misfits(value, mine, &format!("{path}.{key}")),
                None => vec![format!("{path}.{key} is missing")],
            })
            .collect(),
        (Value::Array(sample), Value::Array(ours)) => {
            let Some(first) = sample.first() else { return Vec::new() };
            ours.iter().flat_map(|mine| misfits(first, mine, &format!("{path}[]"))).collect()
        }
        (Value::Null, Value::Null)
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_)) => Vec::new(),
        _ => vec![format!("{path} is {ours} and was {sample}")],
    }
}

//! The context of a task, as OCP shows it: texts by name, printed or as an object (`ocp-v2.md` §1.4).
//!
//! A record of what was ordered, filled from the task's own parameters; nothing is read back from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::flow::instance::Instance;
use crate::flow::roll::{Block, Hand, Params, Verb};

/// What the older shape prints in one text, and the newer shows as an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Context {
    /// `Context(parallelIdx=-1, stringMap={k=v}, listMap={k=[v]})`
    Printed(String),
    Object(ContextMaps),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextMaps {
    #[serde(rename = "listMap")]
    pub lists: BTreeMap<String, Vec<String>>,
    pub parallel: bool,
    #[serde(rename = "parallelIdx")]
    pub parallel_index: i64,
    #[serde(rename = "stringMap")]
    pub texts: BTreeMap<String, String>,
}

/// The nine calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Server,
    Zone,
    Cluster,
}

impl Over {
    /// What a task is over, by its documented name.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "Start OB server" | "Stop OB server" | "Restart OB server" => Some(Self::Server),
            "Start OB zone" | "Stop OB zone" | "Restart OB zone" => Some(Self::Zone),
            "Start OB cluster" | "Stop OB cluster" | "Restart OB cluster" => Some(Self::Cluster),
            _ => None,
        }
    }
}

/// What every sample has, and what our answer to them is.
const RUNNING: &str = "RUNNING";
const AGENT_SERVICE: &str = "agent";

fn numbers<'a>(hands: impl IntoIterator<Item = &'a Hand>) -> Vec<String> {
    hands.into_iter().filter_map(|hand| hand.id).map(|id| id.to_string()).collect()
}

/// Nothing for tasks that OCP does not know.
pub(super) fn maps(instance: &Instance) -> ContextMaps {
    let mut maps =
        ContextMaps { lists: BTreeMap::new(), parallel: false, parallel_index: -1, texts: BTreeMap::new() };
    if let Some((order, over)) = instance.order.as_ref().zip(Over::of(&instance.name)) {
        maps.texts = texts(order, over, instance.prohibits_rollback);
        maps.lists = lists(order, over);
    }
    maps
}

/// As the page of each call has them, and no others.
fn texts(order: &Params, over: Over, prohibits_rollback: bool) -> BTreeMap<String, String> {
    let is_stop = order.verb == Verb::Stop;
    let former = &order.former_cluster_status;
    // What is started runs afterwards, and so does what holds it; a stop leaves what is around it as it was.
    let target = |former: &str| if is_stop { former.to_owned() } else { RUNNING.to_owned() };
    let zone = || order.zones().next().map(ToString::to_string).unwrap_or_default();
    let mut texts = BTreeMap::from([("cluster_id".to_owned(), order.cluster_id.to_string())]);
    let mut put = |name: &str, value: String| drop(texts.insert(name.to_owned(), value));
    let tells_the_name = !(is_stop && over == Over::Server);
    if tells_the_name {
        put("cluster_name", order.cluster_name.clone());
    }
    if tells_the_name && !(is_stop && over == Over::Cluster) {
        put("ocpagent_service_name", AGENT_SERVICE.to_owned());
    }
    if over != Over::Cluster || order.verb != Verb::Start {
        put("former_cluster_status", former.clone());
    }
    if over != Over::Cluster {
        put("target_cluster_status", target(former));
        put("zone_name", zone());
    }
    if over == Over::Zone || over == Over::Server && order.verb == Verb::Restart {
        put("prohibit_rollback", prohibits_rollback.to_string());
    }
    if over == Over::Server {
        let former = order.former_zone_status.clone().unwrap_or_else(|| RUNNING.to_owned());
        put("target_zone_status", target(&former));
        put("former_zone_status", former);
        put("server_id", numbers(order.hands().take(1)).pop().unwrap_or_default());
    }
    texts
}

fn lists(order: &Params, over: Over) -> BTreeMap<String, Vec<String>> {
    let zones = || order.zones().map(ToString::to_string).collect::<Vec<_>>();
    let all = || numbers(order.hands());
    let lists = match (over, order.verb) {
        (Over::Server | Over::Zone, _) => vec![("server_ids".to_owned(), all())],
        (Over::Cluster, Verb::Start) => vec![
            ("server_ids".to_owned(), all()),
            ("host_ids".to_owned(), all()),
            ("zone_names".to_owned(), zones()),
        ],
        (Over::Cluster, Verb::Stop) => {
            vec![("server_ids".to_owned(), all()), ("zone_names".to_owned(), zones())]
        }
        (Over::Cluster, Verb::Restart) => {
            let of_blocks = order.blocks.iter().flat_map(|block| of_zones(order.cluster_id, block));
            std::iter::once(("zone_names".to_owned(), zones())).chain(of_blocks).collect()
        }
    };
    lists.into_iter().collect()
}

/// A host has one server, and its number.
fn of_zones(cluster: i64, block: &Block) -> Vec<(String, Vec<String>)> {
    let of_zone = |zone: &crate::model::ZoneName| {
        let ids = numbers(block.hands.iter().filter(|hand| hand.zone == *zone));
        let named = |what: &str| format!("{cluster}.{zone}.{what}");
        [(named("server_ids"), ids.clone()), (named("host_ids"), ids)]
    };
    block.zones.iter().flat_map(of_zone).collect()
}

impl ContextMaps {
    pub(super) fn printed(&self) -> String {
        let texts: Vec<_> = self.texts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let lists: Vec<_> =
            self.lists.iter().map(|(name, values)| format!("{name}=[{}]", values.join(", "))).collect();
        let (texts, lists) = (texts.join(", "), lists.join(", "));
        format!("Context(parallelIdx={}, stringMap={{{texts}}}, listMap={{{lists}}})", self.parallel_index)
    }
}

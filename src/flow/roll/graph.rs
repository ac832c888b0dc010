//! The chains of tasks: names, order and seconds are those of `ocp-v2.md` §1.7, §1.8 and its fixtures; a test compares them.

use std::time::Duration;

use serde_json::json;

use super::params::{Block, Isolation, Params, Verb};
use crate::engine::Template;
use crate::model::{AgentAddr, Scope, ZoneName};

/// One task of a chain: its name, its step, what it is done for, seconds.
type Row = (&'static str, &'static str, Spread, u64);

/// How often a task stands in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// Once, for everything.
    Whole,
    /// Once, for the block; once per zone where a block has several.
    Block,
    /// Once per zone, shown as such also for one.
    Zones,
    /// Once per server.
    Servers,
    /// The same, a limited number at a time.
    Paced,
}

use Spread::{Block as B, Paced as P, Servers as S, Whole as W, Zones as Z};

const START_SERVER: &[Row] = &[
    ("Prepare start observer", "roll.prepare_server", B, 300),
    ("Start observer process", "roll.start_process", B, 1_200),
    ("Wait observer active", "roll.wait_active", B, 1_800),
    ("Start ocp agent service", "roll.agent", B, 1_800),
    ("Start server", "roll.start_server", B, 300),
    ("Update observer status", "roll.server_status", B, 300),
    ("Update zone status", "roll.zone_status", B, 1_800),
    SYNC,
    CLUSTER,
];

const STOP_SERVER: &[Row] = &[
    ("Prepare stop observer", "roll.prepare_server", B, 300),
    ("Stop server", "roll.stop_server", B, 300),
    ("Stop observer process", "roll.stop_process", B, 1_200),
    ("Wait observer stop", "roll.wait_stopped", B, 300),
    ("Update observer status", "roll.server_status", B, 300),
    ("Update zone status", "roll.zone_status", B, 1_800),
    SYNC,
    CLUSTER,
];

const RESTART_SERVER: &[Row] = &[
    ("Prepare restart observer", "roll.prepare_server", B, 300),
    ("Stop server", "roll.stop_server", B, 300),
    ("Stop observer process", "roll.stop_process", B, 1_200),
    ("Start observer process", "roll.start_process", B, 1_200),
    ("Wait observer active", "roll.wait_active", B, 1_800),
    ("Start ocp agent service", "roll.agent", B, 1_800),
    ("Start server", "roll.start_server", B, 300),
    ("Update observer status", "roll.server_status", B, 300),
    ("Update zone status", "roll.zone_status", B, 1_800),
    SYNC,
    CLUSTER,
];

const START_ZONE: &[Row] = &[
    ("Prepare start OB zone", "roll.prepare_zone", B, 1_800),
    ("Prepare start observer", "roll.prepare_server", S, 300),
    JOIN,
    ("Start observer process", "roll.start_process", P, 1_200),
    ("Wait observer active", "roll.wait_active", B, 1_800),
    ("Start ocp agent service", "roll.agent", S, 1_800),
    JOIN,
    ("Update observer status", "roll.server_status", S, 300),
    ("Start zone", "roll.start_zone", B, 1_800),
    ("Update zone status", "roll.zone_status", B, 1_800),
    SYNC,
    CLUSTER,
];

const STOP_ZONE: &[Row] = &[
    ("Prepare stop OB zone", "roll.prepare_zone", B, 1_800),
    ("Stop zone", "roll.stop_zone", B, 1_800),
    ("Prepare stop observer", "roll.prepare_server", S, 300),
    JOIN,
    ("Stop observer process", "roll.stop_process", P, 1_200),
    JOIN,
    ("Update observer status", "roll.server_status", S, 300),
    ("Update zone status", "roll.zone_status", B, 1_800),
    SYNC,
    CLUSTER,
];

const RESTART_ZONE: &[Row] = &[
    ("Prepare restart OB zone", "roll.prepare_zone", B, 1_800),
    ("Stop zone", "roll.stop_zone", B, 1_800),
    ("Prepare restart observer", "roll.prepare_server", S, 300),
    JOIN,
    ("Stop observer process", "roll.stop_process", P, 1_200),
    JOIN,
    ("Start observer process", "roll.start_process", P, 1_200),
    ("Wait observer active", "roll.wait_active", B, 1_800),
    ("Start ocp agent service", "roll.agent", S, 1_800),
    JOIN,
    ("Update observer status", "roll.server_status", S, 300),
    ("Start zone", "roll.start_zone", B, 1_800),
    ("Update zone status", "roll.zone_status", B, 1_800),
    SYNC,
    CLUSTER,
];

const START_CLUSTER: &[Row] = &[
    ("Prepare start cluster", "roll.prepare", W, 1_800),
    ("Prepare start OB zone", "roll.prepare_zone", Z, 1_800),
    JOIN,
    ("Prepare start observer", "roll.prepare_server", S, 300),
    JOIN,
    ("Start observer process", "roll.start_process", P, 1_200),
    ("Wait observer accessible", "roll.wait_accessible", W, 1_800),
    ("Start ocp agent service", "roll.agent", S, 1_800),
    JOIN,
    ("Start server", "roll.start_server", S, 300),
    JOIN,
    ("Start zone", "roll.start_zone", Z, 1_800),
    JOIN,
    ("Update observer status", "roll.server_status", S, 300),
    JOIN,
    ("Update zone status", "roll.zone_status", Z, 1_800),
    TENANTS,
    CLUSTER,
];

const STOP_CLUSTER: &[Row] = &[
    ("Prepare stop cluster", "roll.prepare", W, 1_800),
    ("Prepare stop OB zone", "roll.prepare_zone", Z, 1_800),
    JOIN,
    ("Prepare stop observer", "roll.prepare_server", S, 300),
    JOIN,
    ("Stop observer process", "roll.stop_process", P, 1_200),
    JOIN,
    ("Update observer status", "roll.server_status", S, 300),
    JOIN,
    ("Update zone status", "roll.zone_status", Z, 1_800),
    CLUSTER,
];

/// Of a restart of several zones, or of everything.
const ROLL_HEAD: &[Row] = &[("Prepare restart cluster", "roll.prepare", W, 1_800)];

const ROLL_BLOCK: &[Row] = &[
    ("Set zone context", "roll.context", B, 1_800),
    ("Prepare restart OB zone", "roll.prepare_zone", B, 1_800),
    ("Prepare restart observer", "roll.prepare_server", S, 300),
    JOIN_BLOCK,
    ("Stop observer process", "roll.stop_process", P, 1_200),
    JOIN_BLOCK,
    ("Start observer process", "roll.start_process", P, 1_200),
    ("Wait observer accessible", "roll.wait_accessible", B, 1_800),
    ("Start ocp agent service", "roll.agent", S, 1_800),
    JOIN_BLOCK,
    ("Start server", "roll.start_server", S, 300),
    JOIN_BLOCK,
    ("Update observer status", "roll.server_status", S, 300),
    ("Start zone", "roll.start_zone", B, 1_800),
    ("Update zone status", "roll.zone_status", B, 1_800),
];

const ROLL_TAIL: &[Row] = &[SYNC, TENANTS, CLUSTER];

const JOIN: Row = ("Wait node", "roll.join", W, 30);
const JOIN_BLOCK: Row = ("Wait node", "roll.join", B, 30);
const SYNC: Row = ("Sync cluster info", "roll.sync", W, 30);
const TENANTS: Row = ("Sync all tenant information", "roll.tenants", W, 30);
const CLUSTER: Row = ("Update OB cluster status", "roll.cluster_status", W, 30);

/// These have no place in the chains that OCP shows; they stand in ours where more than one zone is there to be left, and
/// where a freeze was asked for.
const STOP_ZONE_ROW: Row = ("Stop zone", "roll.stop_zone", B, 1_800);
const STOP_SERVERS_ROW: Row = ("Stop server", "roll.stop_server", S, 300);
const FREEZE_ROW: Row = ("Minor freeze", "roll.freeze", B, 1_200);

/// `Restart OB cluster`; a restart that is neither one server's, nor one zone's, nor the cluster's is `Restart OB`.
pub fn name(params: &Params) -> String {
    let verb = params.verb.text();
    match &params.scope {
        Scope::Global => format!("{verb} OB cluster"),
        Scope::Zone(zones) if zones.len() == 1 => format!("{verb} OB zone"),
        Scope::Server(servers) if servers.len() == 1 => format!("{verb} OB server"),
        Scope::Zone(_) | Scope::Server(_) => format!("{verb} OB"),
    }
}

/// The task of an order, coordinated here.
pub fn template(own: AgentAddr, params: &Params) -> Template {
    let mut template = Template::new(super::FLOW, name(params), json!(params));
    let single = match (&params.scope, params.verb) {
        (Scope::Server(servers), verb) if servers.len() == 1 => Some(match verb {
            Verb::Start => START_SERVER,
            Verb::Stop => STOP_SERVER,
            Verb::Restart => RESTART_SERVER,
        }),
        (Scope::Zone(zones), verb) if zones.len() == 1 => Some(match verb {
            Verb::Start => START_ZONE,
            Verb::Stop => STOP_ZONE,
            Verb::Restart => RESTART_ZONE,
        }),
        (Scope::Server(_) | Scope::Zone(_) | Scope::Global, Verb::Restart) => None,
        (Scope::Server(_) | Scope::Zone(_) | Scope::Global, Verb::Start) => Some(START_CLUSTER),
        (Scope::Server(_) | Scope::Zone(_) | Scope::Global, Verb::Stop) => Some(STOP_CLUSTER),
    };
    match single {
        Some(rows) => {
            let all = Block {
                zones: params.zones().cloned().collect(),
                hands: params.hands().cloned().collect(),
                isolation: params.blocks.first().map_or(Isolation::None, |block| block.isolation),
            };
            template = chain(template, own, params, &all, &with_freeze(params, rows.to_vec()));
        }
        None => {
            template = chain(template, own, params, &EMPTY, ROLL_HEAD);
            for block in &params.blocks {
                template = chain(template, own, params, block, &block_rows(params, block));
            }
            template = chain(template, own, params, &EMPTY, ROLL_TAIL);
        }
    }
    template.finally("roll.end", "Inform all agents to end the task", own)
}

const EMPTY: Block = Block { zones: Vec::new(), hands: Vec::new(), isolation: Isolation::None };

/// A zone's block; how it leaves service comes right after it was found that it may.
fn block_rows(params: &Params, block: &Block) -> Vec<Row> {
    let mut rows = ROLL_BLOCK.to_vec();
    let isolating = match block.isolation {
        Isolation::Zone => Some(STOP_ZONE_ROW),
        Isolation::Servers => Some(STOP_SERVERS_ROW),
        Isolation::None => None,
    };
    let after = rows.iter().position(|row| row.1 == "roll.prepare_zone").map_or(0, |at| at + 1);
    rows.splice(after..after, isolating);
    with_freeze(params, rows)
}

/// A freeze comes when the servers have left service, else right before their processes end.
fn with_freeze(params: &Params, mut rows: Vec<Row>) -> Vec<Row> {
    if params.options.is_service_only {
        rows.retain(|row| !matches!(row.1, "roll.stop_process" | "roll.wait_stopped"));
    }
    if params.options.freezes {
        let isolated = rows.iter().position(|row| matches!(row.1, "roll.stop_zone" | "roll.stop_server"));
        let stopping = || rows.iter().position(|row| row.1 == "roll.stop_process");
        if let Some(at) = isolated.map(|at| at + 1).or_else(stopping) {
            rows.insert(at, FREEZE_ROW);
        }
    }
    rows
}

fn chain(mut template: Template, own: AgentAddr, params: &Params, block: &Block, rows: &[Row]) -> Template {
    let servers: Vec<_> = block.hands.iter().map(|hand| hand.agent).collect();
    // A zone is named by the first of its agents.
    let of_zone = |zone: &ZoneName| block.hands.iter().find(|hand| hand.zone == *zone).map(|hand| hand.agent);
    let zones: Vec<_> = block.zones.iter().filter_map(of_zone).collect();
    let first = servers.first().copied().unwrap_or(own);
    for (name, step, spread, secs) in rows.iter().copied() {
        template = match spread {
            Spread::Whole => template.then(step, name, own),
            Spread::Block if zones.len() < 2 || step == "roll.context" || step == "roll.join" => {
                template.then(step, name, first)
            }
            Spread::Block | Spread::Zones => template.then_split(step, name, &zones, None),
            Spread::Servers => template.then_split(step, name, &servers, None),
            Spread::Paced => template.then_split(step, name, &servers, Some(params.options.at_most)),
        };
        template = template.within(seconds(params, step, secs));
        if matches!(step, "roll.context" | "roll.prepare_zone") {
            template = template.safe_point();
        }
    }
    template
}

fn seconds(params: &Params, step: &str, secs: u64) -> Duration {
    let is_servers = matches!(
        step,
        "roll.stop_process" | "roll.start_process" | "roll.wait_active" | "roll.wait_accessible"
    );
    let asked = params.options.server_deadline_secs.filter(|_| is_servers);
    // A pause between two zones is no work; it comes on top.
    let pause = if step == "roll.context" { params.options.pause_secs } else { 0 };
    Duration::from_secs(asked.unwrap_or(secs) + pause)
}

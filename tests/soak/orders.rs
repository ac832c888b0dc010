//! Orders at random: what is asked for, over which hosts, and what its success promises.

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::rig::zone;
use crate::world::World;

/// What SUCCEED says of every server in scope: at some moment between the order and the end of the task …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// … it served.
    Serving,
    /// … it did not run.
    Stopped,
    /// … it was out of service.
    OutOfService,
    /// … a new process of it began and served.
    Restarted,
}

/// A request that makes a task.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) kind: &'static str,
    pub(crate) target: String,
    pub(crate) body: Value,
    pub(crate) promise: Promise,
    pub(crate) hosts: Vec<usize>,
}

/// Which hosts, and how v1 calls them.
fn scope(chance: &mut Chance, world: &World, weights: [usize; 3]) -> (&'static str, Vec<usize>, Value) {
    let host = chance.below(world.addresses.len());
    let kind = chance.weighted(&[(weights[0], "GLOBAL"), (weights[1], "ZONE"), (weights[2], "SERVER")]);
    match kind {
        "GLOBAL" => (kind, (0..world.addresses.len()).collect(), json!({ "type": kind })),
        "ZONE" => (kind, vec![host], json!({ "type": kind, "target": [zone(host)] })),
        _ => (kind, vec![host], json!({ "type": kind, "target": [world.addresses[host]] })),
    }
}

impl Order {
    pub(crate) fn random(chance: &mut Chance, world: &World) -> Self {
        match chance.below(10) {
            0..=2 => Self::start(chance, world),
            3..=5 => Self::stop(chance, world),
            6..=7 => Self::restart(chance, world),
            _ => Self::of_v2(chance, world),
        }
    }

    fn start(chance: &mut Chance, world: &World) -> Self {
        let (kind, hosts, scope) = scope(chance, world, [3, 2, 3]);
        let kind = ["start all", "start zone", "start server"][place(kind)];
        Self {
            kind,
            target: "/api/v1/ob/start".to_owned(),
            body: json!({ "scope": scope }),
            promise: Promise::Serving,
            hosts,
        }
    }

    fn stop(chance: &mut Chance, world: &World) -> Self {
        if chance.percent(12) {
            let host = chance.below(world.addresses.len());
            let target = format!("/api/v1/ob/zone/{}/stop", zone(host));
            let body = json!({ "freeze_server": chance.percent(50) });
            let hosts = vec![host];
            return Self { kind: "stop zone by its route", target, body, promise: Promise::Stopped, hosts };
        }
        let (kind, hosts, scope) = scope(chance, world, [1, 3, 5]);
        let kind = ["stop all", "stop zone", "stop server"][place(kind)];
        let mut body = json!({ "scope": scope });
        let promise = match chance.weighted(&[(4, "force"), (4, "terminate"), (2, "")]) {
            "" => Promise::OutOfService,
            how => {
                body[how] = true.into();
                Promise::Stopped
            }
        };
        Self { kind, target: "/api/v1/ob/stop".to_owned(), body, promise, hosts }
    }

    fn restart(chance: &mut Chance, world: &World) -> Self {
        let (kind, hosts, scope) = scope(chance, world, [3, 2, 3]);
        let kind = ["restart all", "restart zone", "restart server"][place(kind)];
        let mut body = json!({ "scope": scope });
        for (percent, key) in
            [(20, "force"), (20, "freezeServer"), (if hosts.len() > 1 { 15 } else { 0 }, "stopTheWorld")]
        {
            if chance.percent(percent) {
                body[key] = true.into();
            }
        }
        if hosts.len() > 1 && chance.percent(40) {
            body["pauseSeconds"] = (1 + chance.below(4)).into();
        }
        body["serverDeadlineSeconds"] = 60.into();
        Self { kind, target: "/api/v1/ob/restart".to_owned(), body, promise: Promise::Restarted, hosts }
    }

    fn of_v2(chance: &mut Chance, world: &World) -> Self {
        let (_, hosts, _) = scope(chance, world, [0, 0, 1]);
        let all = (0..world.addresses.len()).collect();
        let (verb, promise) = *chance.pick(&[
            ("start", Promise::Serving),
            ("stop", Promise::Stopped),
            ("restart", Promise::Restarted),
        ]);
        let (kind, path, hosts) = match chance.below(4) {
            0 => ("v2 order of the cluster", String::new(), all),
            1 => ("v2 order of a zone", format!("/zones/{}", zone(hosts[0])), hosts),
            _ => ("v2 order of a server", format!("/servers/{}", world.numbers[hosts[0]]), hosts),
        };
        let body = if chance.percent(30) { json!({ "force": true }) } else { json!({}) };
        Self { kind, target: format!("/api/v2/ob/clusters/7{path}/{verb}"), body, promise, hosts }
    }

    pub(crate) fn is_v2(&self) -> bool {
        self.target.starts_with("/api/v2")
    }

    /// The id of the task that an answer tells of.
    pub(crate) fn id(&self, answer: &Value) -> Option<String> {
        let id = if self.is_v2() { &answer["data"]["obpilot"]["dag"] } else { &answer["data"]["id"] };
        id.as_str().map(str::to_owned)
    }
}

fn place(kind: &str) -> usize {
    ["GLOBAL", "ZONE", "SERVER"].iter().position(|one| *one == kind).unwrap_or(2)
}

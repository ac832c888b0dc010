//! Several operators at once, each with chances of his own: orders, what may be wished of tasks, questions.

use std::time::Duration;

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::orders::Order;
use crate::rig::Door;
use crate::world::{Made, World};

/// Questions; `{task}` is a task of late.
const QUESTIONS: [&str; 20] = [
    "/api/v1/status",
    "/api/v1/info",
    "/api/v1/ob/info",
    "/api/v1/ob/agents",
    "/api/v1/obcluster/info",
    "/api/v1/obcluster/parameters",
    "/api/v1/observer/info",
    "/api/v1/agents/status",
    "/api/v1/task/blocked",
    "/api/v1/task/dag/unfinish",
    "/api/v1/task/dags/agent?show_details=false",
    "/api/v1/task/dag/maintain/agents",
    "/api/v1/task/dag/{task}?show_details=true",
    "/api/v1/task/dag/{task}?show_details=false",
    "/api/v1/security/audit?limit=50",
    "/api/v2/ob/clusters",
    "/api/v2/ob/clusters/7",
    "/api/v2/ob/clusters/7/servers",
    "/api/v2/tasks/instances",
    "/api/v1/time",
];

/// Until every one of them is through with what he wants.
pub(crate) async fn all(world: &World, seed: u64, burst: u64) {
    let count = 1 + Chance::of(seed, burst, 99).below(4);
    let each = (1..=count).map(|number| one(world, Chance::of(seed, burst, number as u64)));
    futures_util::future::join_all(each).await;
}

async fn one(world: &World, mut chance: Chance) {
    for _ in 0..1 + chance.below(5) {
        let chance = &mut chance;
        match chance.below(20) {
            0..=8 => order(world, chance).await,
            9..=12 => wish(world, chance).await,
            13 => plan(world, chance).await,
            14 => parameter(world, chance).await,
            15 => stream(world, chance).await,
            16 => command_line(world, chance).await,
            _ => questions(world, chance).await,
        }
        // A person needs a moment before the next thing.
        tokio::time::sleep(chance.millis(0, 1_200)).await;
    }
}

/// Mostly by the socket. What is sealed is none of the v2 API's.
fn door<'a>(world: &'a World, chance: &mut Chance, target: &str) -> &'a Door {
    let host = chance.below(world.doors.len());
    let is_sealed = chance.percent(30) && !target.starts_with("/api/v2");
    if is_sealed { &world.sealed[host] } else { &world.doors[host] }
}

/// What came of an order.
enum Sent {
    Task(String),
    /// Refused: these tasks are in its way.
    Held(Vec<String>),
    Refused,
}

/// An order; what is in its way is pushed aside by some, its end is waited for by some, and some repeat it.
async fn order(world: &World, chance: &mut Chance) {
    let mut order = Order::random(chance, world);
    let door = door(world, chance, &order.target);
    let key = chance.percent(25).then(|| format!("soak-{}-{}", world.burst(), chance.below(1 << 30)));
    let (pushes, patience) = (chance.percent(35), chance.millis(100, 8_000));
    let (repeats, follows) = (chance.percent(50), chance.percent(60));
    let mut sent = send(world, door, &order, key.as_deref()).await;
    if let Some(Sent::Held(ids)) = &sent
        && pushes
    {
        order.body["forcePassDag"] = json!(ids);
        sent = send(world, door, &order, None).await;
        world.count("forcePassDag", if matches!(sent, Some(Sent::Task(_))) { "done" } else { "refused" });
    } else if let (Some(key), Some(Sent::Task(id)), true) = (&key, &sent, repeats) {
        let again = send(world, door, &order, Some(key)).await;
        if let Some(Sent::Task(again)) = again
            && again != *id
        {
            world.violate(format!("one key, two tasks: {id} and {again} of {order:?}"));
        }
    }
    if let (Some(Sent::Task(id)), true) = (sent, follows) {
        follow(world, door, &id, patience).await;
    }
}

async fn send(world: &World, door: &Door, order: &Order, key: Option<&str>) -> Option<Sent> {
    let asked = jiff::Timestamp::now();
    let answer = world.ask_once(order.kind, door, "POST", &order.target, Some(&order.body), key).await?;
    let json: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    if answer.status >= 300 {
        let data = if order.is_v2() { &json["error"]["details"] } else { &json["data"] };
        let ids = data["id"].as_array().into_iter().flatten();
        let ids: Vec<_> = ids.filter_map(|id| id.as_str().map(str::to_owned)).collect();
        return Some(if ids.is_empty() { Sent::Refused } else { Sent::Held(ids) });
    }
    let Some(id) = order.id(&json) else {
        world.violate(format!("no task in the answer to {order:?}: {}", answer.text));
        return None;
    };
    world.made(Made {
        id: id.clone(),
        burst: world.burst(),
        asked,
        promise: order.promise,
        hosts: order.hosts.clone(),
        words: format!("{} {}", order.target, order.body),
    });
    Some(Sent::Task(id))
}

/// Watches a task for a while.
async fn follow(world: &World, door: &Door, id: &str, patience: Duration) {
    let watch = async {
        let mut version = 0;
        while let Some(dag) = world.task(door, id, &format!("watch={version}&wait=5")).await {
            if !matches!(dag["obpilot"]["state"].as_str(), Some("ready" | "running" | "cancelling")) {
                return;
            }
            version = dag["obpilot"]["version"].as_i64().unwrap_or_default();
        }
    };
    drop(tokio::time::timeout(patience, watch).await);
}

/// Operates a task of late through any agent: mostly what it allows, sometimes anything.
async fn wish(world: &World, chance: &mut Chance) {
    let recent = world.recent(8);
    let (door, any) = (door(world, chance, "/api/v1"), chance.percent(20));
    if recent.is_empty() {
        return;
    }
    let id = &chance.pick(&recent).id;
    let Some(dag) = world.task(door, id, "show_details=true").await else { return };
    let all = ["RETRY", "ROLLBACK", "CANCEL", "PASS", "PAUSE", "RESUME", "ABORT"].map(str::to_owned);
    let allowed: Vec<_> = dag["obpilot"]["operators"].as_array().into_iter().flatten().collect();
    let allowed: Vec<_> = allowed.into_iter().filter_map(|one| one.as_str().map(str::to_owned)).collect();
    let wish =
        if any || allowed.is_empty() { chance.pick(&all).clone() } else { chance.pick(&allowed).clone() };
    let number = dag["taskInstanceId"].as_i64();
    if let (true, Some(number)) = (chance.percent(25), number) {
        let verb = *chance.pick(&["retry", "rollback", "pause", "resume", "abort"]);
        let target = format!("/api/v2/tasks/instances/{number}/{verb}");
        let door = self::door(world, chance, &target);
        drop(world.ask(&format!("v2 {verb}"), door, "POST", &target, None).await);
        return;
    }
    let body = json!({ "operator": wish });
    let node = dag["nodes"].as_array().into_iter().flatten().find(|node| node["state"] == "FAILED");
    if let (true, Some(node)) = (wish == "PASS", node) {
        let target = format!("/api/v1/task/node/{}", node["id"].as_str().unwrap());
        drop(world.ask("PASS of a node", door, "POST", &target, Some(&body)).await);
        return;
    }
    drop(world.ask(&wish, door, "POST", &format!("/api/v1/task/dag/{id}"), Some(&body)).await);
}

/// An order that is planned first, and then is what was shown or nothing.
async fn plan(world: &World, chance: &mut Chance) {
    let mut order = Order::random(chance, world);
    let door = door(world, chance, &order.target);
    let target = format!("{}?plan=true", order.target);
    let Some(shown) = world.ask("plan", door, "POST", &target, Some(&order.body)).await else { return };
    if order.is_v2() || shown.status >= 300 || chance.percent(40) {
        return;
    }
    if order.target.contains("/zone/") {
        return;
    }
    order.body["planHash"] = shown.json()["data"]["planHash"].clone();
    drop(send(world, door, &order, None).await);
}

async fn parameter(world: &World, chance: &mut Chance) {
    let level = *chance.pick(&["INFO", "WDIAG", "TRACE"]);
    let body = json!({ "params": [{ "name": "syslog_level", "value": level, "scope": "CLUSTER" }] });
    let door = door(world, chance, "/api/v1");
    drop(world.ask("parameter", door, "PATCH", "/api/v1/obcluster/parameters", Some(&body)).await);
}

/// Subscribes to events for a moment, and goes without a word.
async fn stream(world: &World, chance: &mut Chance) {
    let (door, moment) = (door(world, chance, "/api/v1"), chance.millis(50, 3_000));
    let request = door.request("GET", "/api/v1/task/events", None);
    let listen = async {
        let Ok(mut events) = request.send().await else { return "not reached" };
        while let Ok(Some(_)) = events.chunk().await {}
        "ended by the agent"
    };
    let outcome = tokio::time::timeout(moment, listen).await.unwrap_or("heard");
    world.count("event stream", outcome);
}

/// The command line, at one host.
async fn command_line(world: &World, chance: &mut Chance) {
    let home = chance.pick(&world.homes).clone();
    let lines = ["why-blocked", "cluster show -d", "task list", "--output json agent status"];
    let words: Vec<_> = chance.pick(&lines).split(' ').collect();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_obpilot"));
    command.arg("--home").arg(&home).args(&words).env("NO_COLOR", "1").kill_on_drop(true);
    command.env("XDG_STATE_HOME", home.with_file_name("state"));
    let ended = tokio::time::timeout(crate::world::PATIENCE, command.output()).await;
    let outcome = match ended {
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if said.contains("panicked") || output.status.code().is_none() {
                world.violate(format!("obpilot {words:?} ended with {:?}: {said}", output.status));
            }
            format!("exit {}", output.status.code().unwrap_or(-1))
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    world.count("command line", &outcome);
}

/// Several questions in a row.
async fn questions(world: &World, chance: &mut Chance) {
    let recent = world.recent(20);
    for _ in 0..2 + chance.below(8) {
        let mut target = (*chance.pick(&QUESTIONS)).to_owned();
        let door = door(world, chance, &target);
        if target.contains("{task}") {
            if recent.is_empty() {
                continue;
            }
            target = target.replace("{task}", &chance.pick(&recent).id);
        }
        drop(world.ask("question", door, "GET", &target, None).await);
    }
}

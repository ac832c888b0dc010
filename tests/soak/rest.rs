//! The cluster comes to rest: what goes on by itself is waited for, then an operator ends it; and everything is started again.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::rig::told;
use crate::world::World;

/// What goes on by itself has so long to end: longer than a lease and than the short limits of the run.
const BY_ITSELF: Duration = Duration::from_secs(50);

/// What was told to end has so long after that.
const TOLD_TO_END: Duration = Duration::from_secs(60);

/// A task that goes on at a host: it runs, or is a part that has not let go.
struct Moving {
    host: usize,
    id: String,
    version: i64,
    is_part: bool,
}

async fn unfinished(world: &World, host: usize) -> Vec<Value> {
    let target = "/api/v1/task/dag/agent/unfinish?show_details=false";
    let answer = world.ask("look", &world.doors[host], "GET", target, None).await;
    let data = answer.filter(|answer| answer.status == 200).map(|answer| answer.json()["data"].clone());
    data.and_then(|data| data["contents"].as_array().cloned()).unwrap_or_default()
}

async fn moving(world: &World) -> Vec<Moving> {
    let mut all = Vec::new();
    for host in 0..world.doors.len() {
        for dag in unfinished(world, host).await {
            let is_part = dag["obpilot"]["partOf"].is_string();
            let state = dag["obpilot"]["state"].as_str().unwrap_or_default();
            if is_part || !matches!(state, "waiting" | "failed") {
                let id = dag["id"].as_str().unwrap_or_default().to_owned();
                let version = dag["obpilot"]["version"].as_i64().unwrap_or_default();
                all.push(Moving { host, id, version, is_part });
            }
        }
    }
    all
}

/// What goes on, with its parts and what they said.
async fn texts(world: &World, moving: &[Moving]) -> String {
    let mut texts = Vec::new();
    for one in moving {
        let dag = world.task(&world.doors[one.host], &one.id, "show_details=true").await;
        texts.push(format!("at host {}: {}", one.host + 1, told(&dag.unwrap_or_default())));
    }
    texts.join("\n")
}

/// Returns when nothing goes on at any agent; false when something goes on whatever is done.
pub(crate) async fn settle(world: &World) -> bool {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        let moving = moving(world).await;
        let Some(first) = moving.first() else {
            world.count("rest", if is_told { "after CANCEL" } else { "by itself" });
            return true;
        };
        if begun.elapsed() > BY_ITSELF + TOLD_TO_END {
            let texts = texts(world, &moving).await;
            world.violate(format!("{} tasks do not end, CANCEL or not:\n{texts}", moving.len()));
            return false;
        }
        if begun.elapsed() > BY_ITSELF && !is_told {
            is_told = true;
            println!("burst {}: what is cancelled at rest:\n{}", world.burst(), texts(world, &moving).await);
            for main in moving.iter().filter(|one| !one.is_part) {
                let (target, body) =
                    (format!("/api/v1/task/dag/{}", main.id), json!({ "operator": "CANCEL" }));
                drop(
                    world.ask("CANCEL at rest", &world.doors[main.host], "POST", &target, Some(&body)).await,
                );
            }
        }
        let more = format!("watch={}&wait=3", first.version);
        drop(world.task(&world.doors[first.host], &first.id, &more).await);
    }
}

/// Starts everything; that must succeed, whatever happened before. What holds a lock is pushed aside.
pub(crate) async fn start_all(world: &World, chance: &mut Chance) {
    let host = chance.below(world.doors.len());
    let door = &world.doors[host];
    let mut body = json!({ "scope": { "type": "GLOBAL" } });
    for _ in 0..3 {
        let Some(answer) = world.ask("start at rest", door, "POST", "/api/v1/ob/start", Some(&body)).await
        else {
            world.violate(format!("host {} does not answer to a start at rest", host + 1));
            return;
        };
        let json = answer.json();
        if answer.status >= 300 {
            body["forcePassDag"] = json["data"]["id"].clone();
            if body["forcePassDag"].is_array() {
                continue;
            }
            world.violate(format!("a start at rest is refused: {}", answer.text));
            return;
        }
        let id = json["data"]["id"].as_str().unwrap_or_default();
        let ended = ended(world, host, id).await;
        if ended["obpilot"]["state"] != "succeeded" {
            world.violate(format!("a start of everything at rest does not succeed: {}", told(&ended)));
        }
        return;
    }
    world.violate(format!("a start of everything at rest is refused, whatever it pushes aside: {body}"));
}

/// The task once it does not go on, or after two minutes.
async fn ended(world: &World, host: usize, id: &str) -> Value {
    let begun = Instant::now();
    let mut version = 0;
    loop {
        let more = format!("show_details=true&watch={version}&wait=5");
        let Some(dag) = world.task(&world.doors[host], id, &more).await else { return Value::Null };
        let state = dag["obpilot"]["state"].as_str().unwrap_or_default();
        if !matches!(state, "ready" | "running" | "cancelling") || begun.elapsed() > Duration::from_secs(120)
        {
            return dag;
        }
        version = dag["obpilot"]["version"].as_i64().unwrap_or_default();
    }
}

/// Ends what waits for an operator, as somebody might who cleans up. What is left after that nobody can end.
pub(crate) async fn clean_up(world: &World, chance: &mut Chance) {
    let mut left = Vec::new();
    for _ in 0..4 {
        left.clear();
        for host in 0..world.doors.len() {
            let all = unfinished(world, host).await;
            left.extend(all.into_iter().map(|dag| (host, dag)));
        }
        if left.is_empty() {
            return;
        }
        for (host, dag) in &left {
            let allowed: Vec<_> = dag["obpilot"]["operators"].as_array().into_iter().flatten().collect();
            let ends = ["CANCEL", "ROLLBACK", "PASS", "ABORT", "RETRY"];
            let mut ways: Vec<_> =
                ends.into_iter().filter(|way| allowed.iter().any(|one| **one == json!(way))).collect();
            ways.truncate(2);
            if ways.is_empty() {
                continue;
            }
            let body = json!({ "operator": *chance.pick(&ways) });
            let target = format!("/api/v1/task/dag/{}", dag["id"].as_str().unwrap_or_default());
            let kind = format!("{} in cleaning up", body["operator"].as_str().unwrap_or_default());
            drop(world.ask(&kind, &world.doors[*host], "POST", &target, Some(&body)).await);
        }
        if !settle(world).await {
            return;
        }
    }
    let texts: Vec<_> =
        left.iter().map(|(host, dag)| format!("at host {}: {}", host + 1, told(dag))).collect();
    world.violate(format!("unfinished, and nobody can end it:\n{}", texts.join("\n")));
}

/// What waits for an operator says what may be asked for.
pub(crate) async fn waits_for_somebody(world: &World) {
    for host in 0..world.doors.len() {
        for dag in unfinished(world, host).await {
            let operators = dag["obpilot"]["operators"].as_array().map_or(0, Vec::len);
            if operators == 0 {
                world.violate(format!(
                    "unfinished at host {}, and no operator is possible: {}",
                    host + 1,
                    told(&dag)
                ));
            }
        }
    }
}

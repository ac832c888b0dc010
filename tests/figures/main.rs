//! What the release binary costs on this machine, measured now. `make figures`; no number here is a criterion.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures and prints"
)]

mod clusters;
mod refusals;
#[path = "../rig/mod.rs"]
mod rig;
mod seed;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use rig::{Agent, Home};

const STARTS: usize = 5;
const COLD_STARTS: usize = 5;
const SEEDED_DAGS: usize = 10_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(all());
}

fn row(what: &str, value: impl std::fmt::Display) {
    println!("  {what:<72} {value}");
}

async fn all() {
    println!(
        "\nfigures of {} on {} CPUs",
        env!("CARGO_BIN_EXE_obpilot"),
        std::thread::available_parallelism().unwrap()
    );
    row("binary size", mib(std::fs::metadata(env!("CARGO_BIN_EXE_obpilot")).unwrap().len()));
    clusters::starts().await;
    cold_start().await;
    starts().await;
    refusals::times().await;
    println!("lines per room (code, tests)");
    for (room, (code, tests)) in lines_per_room() {
        println!("  {room:<12} {code:>6} {tests:>6}");
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

/// `VmRSS` of the agent.
fn resident(agent: &Agent) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    mib(kib * 1024)
}

/// From the exec of the agent to its first answer.
async fn first_answer(home: &Home) -> (Duration, Agent) {
    let begun = Instant::now();
    let agent = home.start();
    agent.door.get("/api/v1/time").await.data();
    (begun.elapsed(), agent)
}

async fn cold_start() {
    let home = Home::new();
    let (first, mut agent) = first_answer(&home).await;
    row("first start in an empty home to first answer (makes a key pair)", millis(first));
    row("resident, idle, fresh", resident(&agent));
    agent.terminate();
    let mut empty = Vec::new();
    for _ in 0..COLD_STARTS {
        let (took, mut agent) = first_answer(&home).await;
        empty.push(took);
        agent.terminate();
    }
    row("start to first answer, empty store (median)", millis(median(empty)));
    let begun = Instant::now();
    let events = seed::seed(&home.path.join(".obpilot"), home.port, SEEDED_DAGS).await;
    let store = std::fs::metadata(home.path.join(".obpilot/store.db")).unwrap().len();
    row(
        &format!("{SEEDED_DAGS} finished DAGs written in"),
        format!("{:.1} s, {events} events, store {}", begun.elapsed().as_secs_f64(), mib(store)),
    );
    let mut full = Vec::new();
    for number in 0..COLD_STARTS {
        let (took, mut agent) = first_answer(&home).await;
        full.push(took);
        if number + 1 == COLD_STARTS {
            row("resident, idle, with them", resident(&agent));
        }
        agent.terminate();
    }
    row(&format!("start to first answer, {SEEDED_DAGS} DAGs (median)"), millis(median(full)));
}

/// A start through the API, whole and without the engine's own time.
async fn starts() {
    let home = Home::new();
    let agent = home.start();
    home.initialise(&agent).await;
    let global = json!({ "scope": { "type": "GLOBAL", "target": [] } });
    let stop = json!({ "scope": { "type": "GLOBAL", "target": [] }, "force": true });
    let (mut wholes, mut engines, mut overheads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        run(&agent, "/api/v1/ob/stop", &stop).await;
        let (whole, dag) = run(&agent, "/api/v1/ob/start", &global).await;
        let engine = engine_time(&agent, &dag).await;
        wholes.push(whole);
        engines.push(engine);
        overheads.push(whole.saturating_sub(engine));
    }
    row(&format!("GLOBAL start, request to SUCCEED (median of {STARTS})"), millis(median(wholes)));
    row("  of it the engine itself, from its spawn until it listens", millis(median(engines)));
    row("  without the engine", millis(median(overheads)));
    row("resident, idle, after all that", resident(&agent));
    row("threads", std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().count());
    row("open descriptors", std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count());
}

async fn run(agent: &Agent, target: &str, body: &Value) -> (Duration, Value) {
    let begun = Instant::now();
    let dag = agent.door.post(target, body.clone()).await.data();
    let done = agent.door.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
    (begun.elapsed(), done)
}

/// Between two lines of the agent's own record: the process exists, it listens.
async fn engine_time(agent: &Agent, main: &Value) -> Duration {
    let main_id = main["id"].as_str().unwrap();
    let records = agent.door.get("/api/v1/task/dags/agent?show_details=true").await.data();
    let parts = records["contents"].as_array().unwrap();
    let part = parts.iter().find(|dag| {
        dag["additional_data"]["main_dag"] == json!(main_id) || dag["obpilot"]["partOf"] == json!(main_id)
    });
    let part = part.unwrap_or_else(|| panic!("no part of {main_id} in {}", parts.last().unwrap()));
    let nodes = part["nodes"].as_array().unwrap();
    let sub = nodes.iter().find(|node| node["name"] == "Start observer").unwrap()["sub_tasks"][0]["id"]
        .as_str()
        .unwrap();
    let logs = agent.door.get(&format!("/api/v1/task/sub_task/{sub}/logs")).await.data();
    let lines = logs["contents"].as_array().unwrap();
    let at = |part: &str| -> jiff::Timestamp {
        let line = lines.iter().find(|line| line["log_content"].as_str().unwrap().contains(part));
        line.unwrap_or_else(|| panic!("no '{part}' in {logs:#}"))["create_time"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    at("it listens").duration_since(at("it runs as pid")).try_into().unwrap()
}

/// Lines of code and of tests in each room of `src`.
fn lines_per_room() -> BTreeMap<String, (usize, usize)> {
    let mut rooms = BTreeMap::new();
    count(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), None, &mut rooms);
    rooms
}

fn count(dir: &Path, room: Option<&str>, rooms: &mut BTreeMap<String, (usize, usize)>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let room = room.unwrap_or(name.trim_end_matches(".rs"));
        if path.is_dir() {
            count(&path, Some(room), rooms);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let is_test = path.components().any(|part| part.as_os_str() == "tests") || name == "tests.rs";
            let code = if is_test { "" } else { text.split("\n#[cfg(test)]\nmod tests {").next().unwrap() };
            let code = code.lines().count();
            let sum = rooms.entry(room.to_owned()).or_default();
            *sum = (sum.0 + code, sum.1 + text.lines().count() - code);
        }
    }
}

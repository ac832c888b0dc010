//! One host with the real engine: a start through the API, whole and without the engine's own time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Effort;
use crate::measure::median;
use crate::rig::{Agent, Home};
use crate::table::{Line, Table};

pub(crate) async fn measure(effort: Effort, table: &mut Table) {
    table.section("one host, the real engine");
    let starts = effort.pick(1, 5);
    let home = Home::new();
    let agent = home.start();
    home.initialise(&agent).await;
    let global = json!({ "scope": { "type": "GLOBAL", "target": [] } });
    let stop = json!({ "scope": { "type": "GLOBAL", "target": [] }, "force": true });
    let (mut wholes, mut engines, mut overheads) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..starts {
        run(&agent, "/api/v1/ob/stop", &stop).await;
        let (whole, dag) = run(&agent, "/api/v1/ob/start", &global).await;
        let engine = engine_time(&agent, &dag).await;
        wholes.push(whole);
        engines.push(engine);
        overheads.push(whole.saturating_sub(engine));
    }
    table.line(Line::time("GLOBAL start, request to SUCCEED", median(wholes)));
    table.line(Line::time("  of it the engine itself, from its spawn until it listens", median(engines)));
    table.line(Line::time("  without the engine", median(overheads)));
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

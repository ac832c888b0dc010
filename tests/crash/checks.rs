//! What must be true after a flow, killed or not.

use serde_json::{Value, json};

use crate::flows::Request;
use crate::rig::{Agent, Door, PASSWORD};
use crate::trial::Trial;

/// The record of a step that was interrupted and went on says so in these words.
const TOLD: &str = "the agent ended while this step ran";

pub(crate) fn has_ended(dag: &Value) -> bool {
    dag["obpilot"]["finished"] == json!(true) || dag["state"] == "FAILED"
}

/// Names of the main tasks in the store.
pub(crate) async fn tasks(door: &Door) -> Vec<String> {
    let mut names = Vec::new();
    for list in ["/api/v1/task/dags/agent", "/api/v1/task/dags/ob"] {
        let answer = door.get(&format!("{list}?show_details=false")).await;
        // Only an agent of a cluster has cluster tasks.
        if answer.status == 400 {
            continue;
        }
        let dags = answer.data()["contents"].as_array().unwrap().clone();
        names.extend(dags.iter().map(|dag| dag["id"].as_str().unwrap().to_owned()));
    }
    names.sort();
    names.dedup();
    names
}

pub(crate) async fn everything(
    trial: &Trial,
    agent: &Agent,
    request: &Request,
    dag: &Value,
    before: &[String],
) {
    let (flow, end, home) = (trial.flow(), trial.flow().end(), trial.home());
    assert_eq!(dag["state"], "SUCCEED", "{dag:#}");
    assert_eq!(dag["operator"], end.operator, "{dag:#}");

    // Nothing is held, nothing goes on.
    let settled =
        |status: &Value| status["obpilot"]["heldBy"].is_null() && status["underMaintenance"] == json!(false);
    let status = agent.door.until_status(settled).await;
    let unfinished = agent.door.get("/api/v1/task/dag/unfinish").await.data();
    let unfinished = unfinished["contents"].as_array().map_or(0, Vec::len);
    assert_eq!(unfinished, 0, "something is left unfinished: {status:#}");

    // The agent is what it should be, and so is the database.
    let info = agent.door.get("/api/v1/info").await.data();
    assert_eq!(info["identity"], end.identity);
    let running = home.database_pids().len();
    assert_eq!(running, usize::from(end.is_running), "processes of the database");
    if end.is_running && end.identity == "CLUSTER AGENT" {
        let tcp = home.tcp(PASSWORD).await;
        let answer = tcp.get("/api/v1/ob/info").await;
        assert_eq!(answer.status, 200, "the root password is the one that was set: {}", answer.text);
    }

    // Once: one task for the request and its repetition, one spawn, one change of the password.
    let made = tasks(&agent.door).await.into_iter().filter(|id| !before.contains(id)).collect::<Vec<_>>();
    let of_this_name = made_of(&agent.door, &made, &dag["name"]).await;
    assert_eq!(of_this_name, usize::from(request.on.is_none()), "tasks named {} among {made:?}", dag["name"]);
    let reached = trial.reached();
    let count = |point: &str| reached.iter().filter(|reached| *reached == point).count();
    assert!(count("after-spawn") <= end.spawns_max, "{flow:?} spawned {} times", count("after-spawn"));
    assert!(
        count("after-sql") <= end.statements_max,
        "{flow:?} changed the database {} times",
        count("after-sql")
    );

    // The store holds together, down to the replay of every task's events.
    let check = home.cli(&["store", "check"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));

    tells_every_step(dag);
}

pub(crate) async fn made_of(door: &Door, ids: &[String], name: &Value) -> usize {
    let mut count = 0;
    for id in ids {
        let dag = door.get(&format!("/api/v1/task/dag/{id}?show_details=false")).await.data();
        count += usize::from(dag["name"] == *name);
    }
    count
}

/// Every sub-task that ran has lines of its own.
pub(crate) fn tells_every_step(dag: &Value) {
    for node in dag["nodes"].as_array().unwrap() {
        for sub in node["sub_tasks"].as_array().unwrap() {
            let lines = sub["task_logs"].as_array().map_or(0, Vec::len);
            let has_run = sub["execute_times"].as_i64() > Some(0);
            assert!(lines > 0 || !has_run, "{} left no word in the record: {dag:#}", node["name"]);
        }
    }
}

/// Whether the task's record, or that of one of its parts, tells of an interruption.
pub(crate) async fn tells_of_the_kill(door: &Door, dag: &Value) -> bool {
    if dag.to_string().contains(TOLD) {
        return true;
    }
    let all = door.get("/api/v1/task/dags/agent?show_details=true").await.data();
    let parts = all["contents"].as_array().unwrap().iter();
    parts.filter(|part| part["obpilot"]["partOf"] == dag["id"]).any(|part| part.to_string().contains(TOLD))
}

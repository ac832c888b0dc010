//! What goes wrong with a real database, and how it is put right.

use serde_json::{Value, json};

use crate::rig::body::{global, with};
use crate::rig::{Agent, Door, Home, PASSWORD};

fn stop(how: &str) -> Value {
    with(global(), how, true)
}

async fn task(door: &Door, target: &str, body: Value) -> Value {
    let dag = door.post(target, body).await.data();
    door.finished(dag["id"].as_str().unwrap()).await.data()
}

async fn done(door: &Door, target: &str, body: Value) -> Value {
    let dag = task(door, target, body).await;
    assert_eq!(dag["state"], "SUCCEED", "{dag:#}");
    dag
}

async fn operate(door: &Door, dag: &Value, operator: &str) -> Value {
    let id = dag["id"].as_str().unwrap();
    let answer = door.operate(id, operator).await;
    assert!(answer.status < 300, "{operator}: {}", answer.text);
    door.until(id, |dag| {
        matches!(dag["obpilot"]["state"].as_str(), Some("failed" | "succeeded" | "rolled_back" | "passed"))
    })
    .await
    .data()
}

async fn initialised() -> (Home, Agent) {
    let home = Home::new();
    let agent = home.start();
    home.initialise(&agent).await;
    agent.door.until_status(|status| server_state(status) == "SERVING").await;
    (home, agent)
}

fn server_state(status: &Value) -> &str {
    status["obpilot"]["server"]["state"].as_str().unwrap_or_default()
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The database outlives its agent, is found again, and an unexpected end is seen at once; by default nobody restarts it.
#[tokio::test]
async fn the_database_outlives_the_agent_and_its_death_is_seen() {
    let (home, mut agent) = initialised().await;
    let pid = home.database();
    agent.kill();
    assert_eq!(home.database(), pid);
    let agent = home.start();
    let status = agent.door.until_status(|status| server_state(status) == "SERVING").await;
    assert_eq!(status["obpilot"]["server"]["pid"], json!(pid));
    let again = done(&agent.door, "/api/v1/ob/start", global()).await;
    assert!(again.to_string().contains("already running"), "{again:#}");
    assert_eq!(home.database(), pid);

    home.kill_database();
    let status = agent.door.until_status(|status| server_state(status) == "STOPPED").await;
    let last = &status["obpilot"]["server"]["lastExit"];
    assert_eq!((&last["pid"], &last["unexpected"]), (&json!(pid), &json!(true)), "{status:#}");
    assert!(last["how"].as_str().unwrap().contains("SIGKILL"), "{last}");
    let again = done(&agent.door, "/api/v1/ob/stop", stop("force")).await;
    assert!(again.to_string().contains("already stopped"), "{again:#}");
    done(&agent.door, "/api/v1/ob/start", global()).await;
    assert_ne!(home.database(), pid);
}

/// An agent that is stopped in the middle of a start leaves it to the next one.
#[tokio::test]
async fn a_start_survives_the_stop_of_its_agent() {
    let (home, mut agent) = initialised().await;
    done(&agent.door, "/api/v1/ob/stop", stop("force")).await;
    let dag = agent.door.post("/api/v1/ob/start", global()).await.data();
    let id = dag["id"].as_str().unwrap();
    agent.door.until(id, |dag| dag.to_string().contains("it runs as pid")).await;
    let pid = home.database();
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(home.database(), pid);
    let agent = home.start();
    agent.door.finished(id).await.expect_succeeded();
    assert_eq!(home.database(), pid, "the same process, not another one");
}

#[tokio::test]
async fn a_policy_starts_again_what_died_and_leaves_alone_what_was_stopped() {
    let mut home = Home::new();
    home.configure("[engine]\nrestart = \"on-failure\"\nrestart_backoff_secs = 1\n");
    let agent = home.start();
    home.initialise(&agent).await;
    let first = home.database();
    home.kill_database();
    let is_back = |status: &Value| {
        let is_free = status["underMaintenance"] == json!(false);
        server_state(status) == "SERVING" && status["obpilot"]["server"]["pid"] != json!(first) && is_free
    };
    agent.door.until_status(is_back).await;
    let dags = agent.door.get("/api/v1/task/dags/agent?show_details=false").await.data();
    let dags = dags["contents"].as_array().unwrap();
    assert_eq!(dags.iter().filter(|dag| dag["name"] == "Start local observer").count(), 1, "{dags:?}");
    done(&agent.door, "/api/v1/ob/stop", stop("force")).await;
    let status = agent.door.until_status(|status| server_state(status) == "STOPPED").await;
    assert!(status["obpilot"]["server"]["policy"].is_null(), "it was stopped on purpose: {status:#}");
}

/// A start that fails tells why, in the task, in the terminal, and as data; it holds nothing, and the next one succeeds.
#[tokio::test]
async fn a_start_that_fails_explains_itself_and_holds_nothing() {
    let (home, agent) = initialised().await;
    let door = &agent.door;
    done(door, "/api/v1/ob/stop", stop("force")).await;
    let needed = home.path.join("store/sstable");
    let aside = home.path.with_extension("aside");
    std::fs::rename(&needed, &aside).unwrap();
    let failed = task(door, "/api/v1/ob/start", global()).await;
    assert_eq!(failed["state"], "FAILED", "{failed:#}");
    assert_eq!(failed["obpilot"]["holds_lock"], json!(false));
    let status = door.get("/api/v1/status").await.data();
    assert_eq!(status["underMaintenance"], json!(false), "{status:#}");
    let text = failed.to_string();
    assert!(text.contains("diagnosis"), "{failed:#}");
    let shown = home.cli(&["task", "show", failed["id"].as_str().unwrap(), "--show_detail"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("store/sstable/meta.db is missing"), "{shown}");
    let by_cli = home.cli(&["cluster", "start", "--all"]);
    assert_eq!(by_cli.status.code(), Some(1), "{}", String::from_utf8_lossy(&by_cli.stderr));
    let said = String::from_utf8_lossy(&by_cli.stderr).into_owned();
    assert!(said.contains("repeat the command"), "what to do next is said: {said}");

    drop(std::fs::remove_dir_all(&needed));
    std::fs::rename(&aside, &needed).unwrap();
    done(door, "/api/v1/ob/start", global()).await;
    assert_eq!(home.database_pids().len(), 1);
}

/// CANCEL stops nothing that runs; what else is possible is told; RETRY finishes it.
#[tokio::test]
async fn a_hanging_stop_is_cancelled_and_retried() {
    let (home, agent) = initialised().await;
    let door = &agent.door;
    let pid = home.database();
    signal(pid, rustix::process::Signal::STOP);
    door.until_status(|status| server_state(status) == "NOT_SERVING").await;
    let hanging = door.post("/api/v1/ob/stop", stop("terminate")).await;
    // A freeze needs SQL, and a database that hangs has none.
    let dag = match hanging.status {
        200 => hanging.data(),
        _ => {
            assert_eq!(hanging.code(), "OB.Cluster.ForceStopRequired", "{}", hanging.text);
            signal(pid, rustix::process::Signal::CONT);
            door.until_status(|status| server_state(status) == "SERVING").await;
            signal(pid, rustix::process::Signal::STOP);
            door.post("/api/v1/ob/stop", stop("terminate")).await.data()
        }
    };
    let id = dag["id"].as_str().unwrap();
    door.until(id, |dag| dag.to_string().contains("waiting for the checkpoint")).await;
    let refused = door.post("/api/v1/ob/start", global()).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (500, "Agent.UnderMaintenanceDag"),
        "{}",
        refused.text
    );
    assert_eq!(refused.json()["data"]["id"], json!([id]));

    let cancelled = operate(door, &dag, "CANCEL").await;
    assert_eq!(cancelled["state"], "FAILED");
    door.until_status(|status| status["underMaintenance"] == json!(false)).await;
    let pass = door.post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "PASS" })).await;
    assert_eq!(pass.code(), "Task.Dag.Operator.PassNotAllowed");
    assert!(pass.message().contains("possible now: RETRY"), "{}", pass.message());
    signal(pid, rustix::process::Signal::CONT);
    door.until_status(|status| server_state(status) == "SERVING").await;
    assert_eq!(home.database(), pid, "a cancelled stop stops nothing");
    let retried = operate(door, &dag, "RETRY").await;
    assert_eq!(retried["state"], "SUCCEED", "{retried:#}");
    assert!(home.database_pids().is_empty());
}

/// A step that cannot succeed is passed, and the operation goes on without it.
#[tokio::test]
async fn a_node_that_failed_is_passed() {
    let (home, agent) = initialised().await;
    let door = &agent.door;
    signal(home.database(), rustix::process::Signal::STOP);
    let dag = door.post("/api/v1/ob/stop", stop("terminate")).await.data();
    let id = dag["id"].as_str().unwrap();
    door.until(id, |dag| dag.to_string().contains("waiting for the checkpoint")).await;
    home.kill_database();
    let failed = door.finished(id).await.data();
    assert_eq!(failed["state"], "FAILED", "{failed:#}");
    let freeze = &failed["nodes"][2];
    assert_eq!(
        (&freeze["name"], &freeze["state"]),
        (&json!("Minor freeze before stop server"), &json!("FAILED"))
    );
    let node = freeze["id"].as_str().unwrap();
    let passed = door.post(&format!("/api/v1/task/node/{node}"), json!({ "operator": "PASS" })).await;
    assert!(passed.status < 300, "{}", passed.text);
    let retried = door.finished(id).await.expect_succeeded();
    assert_eq!(
        retried["nodes"][2]["sub_tasks"][0]["execute_times"],
        json!(1),
        "the passed node did not run again"
    );
}

/// `forcePassDag`: the holder is named, pushed aside, and the audit trail knows by whom.
#[tokio::test]
async fn a_named_holder_is_pushed_aside_and_the_trail_tells() {
    let (home, agent) = initialised().await;
    let door = &agent.door;
    signal(home.database(), rustix::process::Signal::STOP);
    let holder = door.post("/api/v1/ob/stop", stop("terminate")).await.data();
    let holder = holder["id"].as_str().unwrap();
    door.until(holder, |dag| dag.to_string().contains("waiting for the checkpoint")).await;
    let mut body = stop("force");
    body["forcePassDag"] = json!(["1230000000000000001"]);
    let refused = door.post("/api/v1/ob/stop", body.clone()).await;
    assert_eq!(
        refused.code(),
        "Agent.UnderMaintenanceDag",
        "an id that holds nothing opens nothing: {}",
        refused.text
    );
    body["forcePassDag"] = json!({ "id": [holder] });
    done(door, "/api/v1/ob/stop", body).await;
    assert!(home.database_pids().is_empty());
    let pushed = door.get(&format!("/api/v1/task/dag/{holder}")).await.data();
    assert_eq!(pushed["obpilot"]["finished"], json!(true), "{pushed:#}");
    let is_force = |event: &Value| event["kind"] == "audit" && event["body"]["action"] == "forcePassDag";
    let trail = events_until(door, 0, is_force).await;
    let audit = trail.last().unwrap();
    assert!(audit["actor"].as_str().unwrap().starts_with("uid "), "{audit}");
    assert!(audit["body"].to_string().contains(holder), "{audit}");
}

/// The password was changed elsewhere: a state, and one call cures it. What needs no SQL goes on.
#[tokio::test]
async fn a_password_that_was_changed_elsewhere_is_a_state_and_is_cured_by_one_call() {
    let mut home = Home::new();
    home.configure("[engine]\nprobe_interval_secs = 1\nprobe_refused_interval_secs = 5\n");
    let agent = home.start();
    home.initialise(&agent).await;
    let door = &agent.door;
    let options = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(home.mysql_port)
        .user(Some("root"))
        .pass(Some(PASSWORD));
    let mut sql = mysql_async::Conn::new(options).await.unwrap();
    mysql_async::prelude::Queryable::query_drop(
        &mut sql,
        "ALTER USER root IDENTIFIED BY 'changed elsewhere'",
    )
    .await
    .unwrap();
    sql.disconnect().await.unwrap();
    let refused = door.until_status(|status| status["obpilot"]["credential"]["state"] == "REFUSED").await;
    assert!(refused["obpilot"]["credential"]["hint"].as_str().unwrap().contains("cluster password"));

    // What needs no SQL goes on, and a start of what runs is a success that says so.
    door.get("/api/v1/ob/info").await.data();
    done(door, "/api/v1/ob/start", global()).await;
    let wrong = door.post("/api/v1/obcluster/password", json!({ "rootPwd": "nonsense" })).await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (400, "OB.Cluster.Password.Incorrect"),
        "{}",
        wrong.text
    );
    door.post("/api/v1/obcluster/password", json!({ "rootPwd": "changed elsewhere" })).await.data();
    door.until_status(|status| status["obpilot"]["credential"]["state"] == "ACCEPTED").await;
    let tcp = home.tcp("changed elsewhere").await;
    assert_eq!(tcp.get("/api/v1/ob/info").await.status, 200);
    let tcp = home.tcp(PASSWORD).await;
    assert_eq!(tcp.get("/api/v1/ob/info").await.status, 401);
}

/// An init that fails is rolled back, and another init leads to a database.
#[tokio::test]
async fn an_init_that_fails_is_rolled_back_and_made_anew() {
    let home = Home::new();
    let agent = home.start();
    let door = &agent.door;
    home.join(door).await;
    home.settings(door).await;
    let broken = json!({ "observerConfig": { "datafile_size": "abc" }, "scope": { "type": "GLOBAL" } });
    done(door, "/api/v1/observer/config", broken).await;
    let failed = task(door, "/api/v1/ob/init", json!({})).await;
    assert_eq!(failed["state"], "FAILED", "{failed:#}");
    assert!(failed.to_string().contains("datafile_size"), "{failed:#}");
    let undone = operate(door, &failed, "ROLLBACK").await;
    assert_eq!(undone["obpilot"]["state"], "rolled_back", "{undone:#}");
    assert!(home.database_pids().is_empty());
    home.settings(door).await;
    done(door, "/api/v1/ob/init", json!({})).await;
    assert_eq!(home.database_pids().len(), 1);
}

/// Reads the stream after an event until one is as wanted; returns all of them.
pub(crate) async fn events_until(door: &Door, after: i64, is_wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let target = format!("/api/v1/task/events?after={after}");
    let mut stream = door.request("GET", &target, None).send().await.unwrap();
    let (mut text, mut events) = (String::new(), Vec::new());
    loop {
        let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            let parsed = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
            text = rest.to_owned();
            let Some(event) = parsed else { continue };
            events.push(event);
            if is_wanted(events.last().unwrap()) {
                return events;
            }
        }
    }
}

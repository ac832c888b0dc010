//! Restarts across hosts, as real processes over real sockets: server, zone, and the whole cluster zone by zone, under clients
//! that go on writing; what halts a roll, and how it goes on.

use serde_json::{Value, json};

use crate::rig::body::{global, server, terminate, with, zone};
use crate::rig::{Cluster, told};

const RESTART: &str = "/api/v1/ob/restart";

/// Elections, leases and catching up take a fifth of what they take in earnest.
async fn formed(hosts: usize) -> Cluster {
    formed_at(hosts, 0.2).await
}

/// Half of it where clients write: an election that was not spared them is longer than they wait.
async fn formed_under_clients() -> Cluster {
    formed_at(3, 0.5).await
}

async fn formed_at(hosts: usize, factor: f64) -> Cluster {
    let cluster = Cluster::new(hosts);
    (0..hosts).for_each(|host| cluster.set(host, &json!({ "factor": factor })));
    cluster.form().await;
    cluster
}

fn pids(cluster: &Cluster) -> Vec<Vec<i32>> {
    (0..cluster.homes.len()).map(|host| cluster.database_pids(host)).collect()
}

/// Where each node of a name stands, with its times.
fn nodes<'a>(dag: &'a Value, name: &str) -> Vec<&'a Value> {
    dag["nodes"].as_array().unwrap().iter().filter(|node| node["name"] == name).collect()
}

fn moment(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

/// The statements that took zones out of service and back, in the order in which they came.
fn services(cluster: &Cluster, since: u64) -> Vec<String> {
    let told = cluster.journal_since(since);
    let statements = told.iter().filter(|entry| entry["kind"] == "statement");
    let texts = statements.map(|entry| entry["sql"].as_str().unwrap_or_default().to_uppercase());
    let changes = texts.filter(|text| text.contains("STOP ZONE") || text.contains("START ZONE"));
    changes.map(|text| text.replace("ALTER SYSTEM ", "").replace('\'', "").to_lowercase()).collect()
}

/// The task once it rests like this, with its record.
async fn ended(cluster: &Cluster, id: &str, state: &str) -> Value {
    let rests = |dag: &Value| {
        let state = dag["obpilot"]["state"].as_str();
        matches!(state, Some("failed" | "succeeded" | "rolled_back" | "passed" | "waiting"))
    };
    let dag = cluster.door(0).until(id, rests).await.data();
    assert_eq!(dag["obpilot"]["state"], state, "{}", told(&dag));
    dag
}

/// Clients are connected to every zone and go on writing. Whoever is not connected to the zone whose turn it is sees nothing.
#[tokio::test]
async fn a_cluster_restarts_zone_by_zone_and_only_its_own_zone_sees_it() {
    let cluster = formed_under_clients().await;
    let before = pids(&cluster);
    let mut writers = Vec::new();
    for host in 0..3 {
        writers.push(cluster.writer(host).await);
    }
    let proxied = cluster.proxied_writer().await;
    let journal = cluster.journal_length();
    let done = cluster.done(1, RESTART, global()).await;
    assert_eq!(done["name"], "Restart OB cluster");
    let written = proxied.finish().await;
    written.assert_undisturbed();
    println!("client of all zones, as through a proxy: {} writes, 0 refused", written.attempts);
    let after = pids(&cluster);
    assert!(before.iter().zip(&after).all(|(before, after)| before != after && after.len() == 1));
    let order: Vec<_> = ["zone2", "zone3", "zone1"]
        .iter()
        .flat_map(|zone| [format!("stop zone {zone}"), format!("start zone {zone}")])
        .collect();
    assert_eq!(services(&cluster, journal), order, "the root service is in zone1, so that comes last");
    // Each zone from its stop to its start.
    let turns: Vec<_> = nodes(&done, "Stop zone")
        .iter()
        .zip(nodes(&done, "Update zone status"))
        .map(|(stop, settled)| (moment(&stop["start_time"]), moment(&settled["end_time"])))
        .collect();
    for (host, writer) in writers.into_iter().enumerate() {
        let turn = [2, 0, 1][host];
        let (from, until) = turns[turn];
        let written = writer.finish().await;
        let elsewhere = written.errors.iter().filter(|failed| {
            let time = |text: &String| -> jiff::Timestamp { text.parse().unwrap() };
            time(&failed.at) < from || time(&failed.began) > until
        });
        let elsewhere: Vec<_> = elsewhere.collect();
        assert!(elsewhere.is_empty(), "zone{}: {elsewhere:#?}", host + 1);
        assert!(written.acknowledged > 50, "{written:?}");
        println!(
            "client of zone{}: {} writes, {} refused while its own server was away, 0 otherwise",
            host + 1,
            written.attempts,
            written.errors.len()
        );
    }
    cluster.assert_free().await;
}

#[tokio::test]
async fn one_zone_and_one_server_restart() {
    let cluster = formed_under_clients().await;
    let before = pids(&cluster);
    let writer = cluster.writer(0).await;
    let done = cluster.done(1, RESTART, zone("zone2")).await;
    assert_eq!((&done["name"], &done["max_stage"]), (&json!("Restart OB zone"), &json!(16)));
    let done = cluster.done(1, RESTART, server(&cluster.address(2))).await;
    assert_eq!((&done["name"], &done["max_stage"]), (&json!("Restart OB server"), &json!(12)));
    writer.finish().await.assert_undisturbed();
    let after = pids(&cluster);
    let is_new: Vec<_> = before.iter().zip(&after).map(|(before, after)| before != after).collect();
    assert_eq!(is_new, [false, true, true]);
    assert_eq!(cluster.running(), [true; 3]);
    cluster.assert_free().await;
}

/// A replica that has not caught up is no replica to rely on: the next zone waits for it.
#[tokio::test]
async fn the_next_zone_waits_until_the_last_one_has_caught_up() {
    let cluster = formed(3).await;
    cluster.set(1, &json!({ "factor": 0.2, "faults": { "catch_up_ms": 2_500 } }));
    let done = cluster.done(0, RESTART, global()).await;
    let record = done.to_string();
    assert!(record.contains("not yet: has not caught up: tenant sys (1) log stream 1"), "{record}");
    let settled = moment(&nodes(&done, "Update zone status")[0]["end_time"]);
    let next = moment(&nodes(&done, "Stop zone")[1]["start_time"]);
    assert!(settled <= next);
}

/// What does not start again halts the roll with the reason; the zones that have not had their turn are untouched, nobody's
/// lock is held; RETRY goes on where it stands.
#[tokio::test]
async fn a_server_that_does_not_start_halts_the_roll_and_a_retry_goes_on() {
    let cluster = formed(3).await;
    let before = pids(&cluster);
    let writer = cluster.writer(0).await;
    cluster.set(1, &json!({ "factor": 0.2, "faults": { "exit_before_fork": 96 } }));
    let made = cluster.door(0).post(RESTART, global()).await.data();
    let id = made["id"].as_str().unwrap();
    let halted = ended(&cluster, id, "failed").await;
    let failed = &nodes(&halted, "Start observer process")[0];
    assert_eq!(failed["state"], "FAILED", "{halted:#}");
    assert!(failed.to_string().contains("exited with status 96"), "{failed:#}");
    assert_eq!(
        (pids(&cluster)[0].clone(), pids(&cluster)[2].clone()),
        (before[0].clone(), before[2].clone())
    );
    cluster.assert_free().await;
    // Two zones without one more: refused, with the reason.
    let refused = cluster.door(2).post(RESTART, zone("zone3")).await;
    assert_eq!(refused.code(), "OB.Cluster.Tenant.Replica.Invalid", "{}", refused.text);
    cluster.set(1, &json!({ "factor": 0.2 }));
    cluster.door(1).operate(id, "RETRY").await.data();
    ended(&cluster, id, "succeeded").await;
    assert_eq!(cluster.running(), [true; 3]);
    let written = writer.finish().await;
    assert!(written.acknowledged > 0);
    cluster.assert_free().await;
}

/// ROLLBACK starts what was stopped, and goes no further.
#[tokio::test]
async fn a_rollback_of_a_halted_roll_starts_what_was_stopped() {
    let cluster = formed(3).await;
    let before = pids(&cluster);
    cluster.set(1, &json!({ "factor": 0.2, "faults": { "exit_before_fork": 96 } }));
    let made = cluster.door(0).post(RESTART, global()).await.data();
    let id = made["id"].as_str().unwrap();
    ended(&cluster, id, "failed").await;
    cluster.set(1, &json!({ "factor": 0.2 }));
    let journal = cluster.journal_length();
    cluster.door(2).operate(id, "ROLLBACK").await.data();
    ended(&cluster, id, "rolled_back").await;
    assert_eq!(cluster.running(), [true; 3]);
    assert_eq!(services(&cluster, journal), ["start zone zone2"]);
    assert_eq!((&pids(&cluster)[0], &pids(&cluster)[2]), (&before[0], &before[2]));
    cluster.assert_free().await;
}

/// A RETRY may come when the world has changed: what has failed elsewhere since keeps a process from being ended.
#[tokio::test]
async fn a_retry_looks_again_before_it_ends_a_process() {
    let cluster = formed(3).await;
    let before = pids(&cluster);
    let set = |faults: Value| {
        (0..3).for_each(|host| cluster.set(host, &json!({ "factor": 0.2, "faults": faults })))
    };
    set(json!({ "freeze_never": true }));
    let body = with(server(&cluster.address(1)), "freezeServer", true);
    let made = cluster.door(0).post(RESTART, body).await.data();
    let id = made["id"].as_str().unwrap();
    let freezes = |dag: &Value| dag.to_string().contains("waiting for the checkpoint");
    cluster.door(0).until(id, freezes).await;
    cluster.door(0).operate(id, "CANCEL").await.data();
    ended(&cluster, id, "failed").await;
    set(json!({}));
    cluster.homes[2].kill_database();
    cluster.door(0).operate(id, "RETRY").await.data();
    let waits = |dag: &Value| {
        let is_over = dag["obpilot"]["state"] == "succeeded";
        is_over || dag.to_string().contains("would not keep their majority")
    };
    let halted = cluster.door(0).until(id, waits).await.data();
    assert_ne!(halted["obpilot"]["state"], "succeeded", "{}", told(&halted));
    assert_eq!(pids(&cluster)[1], before[1]);
    cluster.done(0, "/api/v1/ob/start", server(&cluster.address(2))).await;
    ended(&cluster, id, "succeeded").await;
    assert_eq!(cluster.running(), [true; 3]);
    cluster.assert_free().await;
}

/// A pause takes effect before the next zone, and holds nothing; a resume goes on; an abort ends it there.
#[tokio::test]
async fn a_roll_is_paused_resumed_and_aborted_between_two_zones() {
    let cluster = formed(3).await;
    let before = pids(&cluster);
    let body = with(with(global(), "pauseSeconds", 600), "order", json!(["zone3", "zone2", "zone1"]));
    let made = cluster.door(0).post(RESTART, body).await.data();
    let id = made["id"].as_str().unwrap();
    let door = cluster.door(1);
    // The pause between the first zone and the second has begun.
    let text = "waiting for the pause between two zones to end";
    cluster.door(0).until(id, |dag| dag.to_string().contains(text)).await;
    assert_ne!(pids(&cluster)[2], before[2]);
    door.operate(id, "PAUSE").await.data();
    let paused = ended(&cluster, id, "waiting").await;
    assert_eq!(paused["obpilot"]["pausedBefore"], "Prepare restart OB zone", "{paused:#}");
    assert_eq!(pids(&cluster)[..2], before[..2]);
    door.operate(id, "RESUME").await.data();
    // The second zone, then the next pause; there it ends.
    let is_second_pause = |dag: &Value| dag.to_string().matches(text).count() >= 2;
    cluster.door(0).until(id, is_second_pause).await;
    assert_ne!(pids(&cluster)[1], before[1]);
    door.operate(id, "ABORT").await.data();
    let aborted = ended(&cluster, id, "failed").await;
    assert_eq!(aborted["operator"], "CANCEL", "{aborted:#}");
    assert_eq!(pids(&cluster)[0], before[0], "the last zone was not touched");
    assert_eq!(cluster.running(), [true; 3]);
    cluster.assert_free().await;
}

/// Nothing is begun that would cost a majority, or that goes on only while everything else serves.
#[tokio::test]
async fn what_would_interrupt_business_is_refused_before_anything_happens() {
    let cluster = formed(3).await;
    cluster.done(0, "/api/v1/ob/stop", terminate(server(&cluster.address(2)))).await;
    let before = pids(&cluster);
    for body in [global(), zone("zone2"), server(&cluster.address(0))] {
        let plan = cluster.door(1).post(&format!("{RESTART}?plan=true"), body.clone()).await.data();
        let refused = cluster.door(1).post(RESTART, body).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert_eq!(refused.code(), "OB.Cluster.Tenant.Replica.Invalid");
        assert!(plan["obstacles"].to_string().contains("2 needed"), "{plan:#}");
    }
    assert_eq!(pids(&cluster), before);
    // What is down already may restart: that starts it.
    cluster.done(0, RESTART, server(&cluster.address(2))).await;
    assert_eq!(cluster.running(), [true; 3]);
    for (body, code) in [
        (with(global(), "parallel", 0), "Common.IllegalArgument"),
        (with(global(), "serverDeadlineSeconds", 1), "Common.IllegalArgument"),
        (with(global(), "pauseSeconds", 100_000), "Common.IllegalArgument"),
        (with(global(), "order", json!(["zone9"])), "OB.Zone.NotExist"),
        (with(global(), "order", json!(["zone1", "zone1"])), "Common.IllegalArgument"),
        (json!({ "scope": { "type": "ZONE", "target": ["zone9"] } }), "OB.Zone.NotExist"),
    ] {
        let refused = cluster.door(0).post(RESTART, body).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{}", refused.text);
    }
}

/// Two zones cannot go one after another; all at once must be asked for, and then is done.
#[tokio::test]
async fn two_zones_restart_only_all_at_once() {
    let cluster = formed(2).await;
    let refused = cluster.door(0).post(RESTART, global()).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "OB.Zone.TooFew"), "{}", refused.text);
    assert!(refused.text.contains("stopTheWorld"), "{}", refused.text);
    let before = pids(&cluster);
    let journal = cluster.journal_length();
    let done = cluster.done(1, RESTART, with(global(), "stopTheWorld", true)).await;
    assert!(done.to_string().contains("business stops meanwhile"));
    assert!(before.iter().zip(&pids(&cluster)).all(|(before, after)| before != after));
    assert_eq!(services(&cluster, journal), Vec::<String>::new());
    cluster.assert_free().await;
}

/// The plan says which server when, and what becomes of the log streams; given back, exactly that is done, or nothing.
#[tokio::test]
async fn a_plan_names_every_zone_in_its_turn_and_binds() {
    let cluster = formed(3).await;
    let plan = cluster.door(0).post(&format!("{RESTART}?plan=true"), global()).await.data();
    let turns: Vec<_> = plan["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|server| (server["zone"].as_str().unwrap().to_owned(), server["group"].as_u64().unwrap()))
        .collect();
    let named = |zone: &str, turn| (zone.to_owned(), turn);
    assert_eq!(turns, [named("zone2", 1), named("zone3", 2), named("zone1", 3)]);
    let consequences = plan["consequences"].to_string();
    assert!(consequences.contains("zone by zone: zone2, then zone3, then zone1"), "{consequences}");
    assert!(consequences.contains("without zone1 every log stream keeps its majority"), "{consequences}");
    assert_eq!(plan["obstacles"], json!([]));
    let hash = plan["planHash"].as_str().unwrap();
    cluster.done(0, "/api/v1/ob/stop", terminate(server(&cluster.address(2)))).await;
    let refused = cluster.door(0).post(RESTART, with(global(), "planHash", hash)).await;
    assert_eq!(refused.code(), "OB.Plan.Changed", "{}", refused.text);
}

//! Five hosts in three zones: the operations that a small cluster cannot show, from whichever agent is asked.

use serde_json::json;

use crate::rig::body::{global, server, terminate, zone};
use crate::rig::{Cluster, Door, PASSWORD, told};

const HOSTS: usize = 5;

async fn formed() -> Cluster {
    let cluster = Cluster::new(HOSTS);
    cluster.form().await;
    cluster
}

/// A zone with two servers, then everything, stopped and started; each time from another agent.
#[tokio::test]
async fn zones_of_two_servers_stop_and_start_as_one() {
    let cluster = formed().await;
    // zone1 and zone2 have two servers each, zone3 has one.
    cluster.done(4, "/api/v1/ob/stop", terminate(zone("zone1"))).await;
    assert_eq!(cluster.running(), [false, true, true, false, true]);
    let refused = cluster.door(1).post("/api/v1/ob/stop", terminate(zone("zone2"))).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert_eq!(cluster.running(), [false, true, true, false, true]);
    cluster.done(3, "/api/v1/ob/start", zone("zone1")).await;
    assert_eq!(cluster.running(), [true; HOSTS]);
    cluster.done(2, "/api/v1/ob/stop", terminate(global())).await;
    assert_eq!(cluster.running(), [false; HOSTS]);
    let started = cluster.start_all(4).await;
    assert_eq!(started["max_stage"], 6);
    assert_eq!(cluster.running(), [true; HOSTS]);
    cluster.assert_free().await;
}

/// Server by server, as an upgrade does it: before each stop a majority is proven, after it the cluster still serves.
#[tokio::test]
async fn a_rolling_restart_keeps_a_majority_at_every_step() {
    let cluster = formed().await;
    // Over the network, by the fifth agent, whatever is asked of whom.
    let fifth = Door::sealed(&cluster.address(4), PASSWORD).await;
    for host in 0..HOSTS {
        let before = cluster.database_pids(host);
        let stop = terminate(server(&cluster.address(host)));
        let plan = fifth.post("/api/v1/ob/stop?plan=true", stop.clone()).await.data();
        assert_eq!(plan["obstacles"], json!([]), "{plan:#}");
        let streams = plan["streams"].as_array().unwrap();
        assert!(
            !streams.is_empty() && streams.iter().all(|stream| stream["keepsMajority"] == true),
            "{plan:#}"
        );
        let made = fifth.post("/api/v1/ob/stop", stop).await.data();
        fifth.finished(made["id"].as_str().unwrap()).await.expect_succeeded();

        let others: Vec<_> = (0..HOSTS).filter(|other| *other != host).collect();
        assert_eq!(cluster.running(), (0..HOSTS).map(|other| other != host).collect::<Vec<_>>());
        for other in others {
            let status = cluster.agent(other).status().await;
            assert_eq!(status["obState"], 3, "without host {host}, host {other}: {status:#}");
        }
        let made = fifth.post("/api/v1/ob/start", server(&cluster.address(host))).await.data();
        fifth.finished(made["id"].as_str().unwrap()).await.expect_succeeded();
        let after = cluster.database_pids(host);
        assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
    }
    let starts = cluster.journal().into_iter().filter(|entry| entry["kind"] == "start").count();
    assert_eq!(starts, 2 * HOSTS);
    cluster.assert_free().await;
}

/// C33: its own server is down, so another one is asked; a server in the own zone is stopped and started all the same.
#[tokio::test]
async fn c33_other_servers_are_asked_while_the_own_one_is_down() {
    let cluster = formed().await;
    cluster.homes[0].kill_database();
    let beside = server(&cluster.address(3));
    let plan = cluster.door(0).post("/api/v1/ob/stop?plan=true", terminate(beside.clone())).await.data();
    assert_eq!(plan["obstacles"], json!([]), "{plan:#}");
    cluster.done(0, "/api/v1/ob/stop", terminate(beside.clone())).await;
    assert_eq!(cluster.running(), [false, true, true, false, true]);
    cluster.done(0, "/api/v1/ob/start", beside).await;
    assert_eq!(cluster.running(), [false, true, true, true, true]);
    // What would take a majority is known there as well.
    let refused = cluster.door(0).post("/api/v1/ob/stop", terminate(zone("zone2"))).await;
    assert_eq!(refused.code(), "OB.Cluster.Tenant.Replica.Invalid", "{}", refused.text);
    assert_eq!(cluster.running(), [false, true, true, true, true]);
}

/// The fifth agent shows and operates what others coordinate: a task of the first is read, and cancelled, through it.
#[tokio::test]
async fn the_fifth_agent_passes_on_what_belongs_to_the_first() {
    let cluster = formed().await;
    cluster.homes[2].kill_database();
    cluster.set(2, &json!({ "faults": { "never_listen": true } }));
    let made = cluster.door(0).post("/api/v1/ob/start", server(&cluster.address(2))).await.data();
    let id = made["id"].as_str().unwrap().to_owned();
    let line = format!("{}: waiting for process", cluster.address(2));
    let fifth = Door::sealed(&cluster.address(4), PASSWORD).await;
    let seen = fifth.until(&id, |dag| dag.to_string().contains(&line)).await.data();
    assert_eq!(seen["state"], "RUNNING", "{}", told(&seen));
    let cancel = fifth.post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "CANCEL" })).await;
    assert!(cancel.status < 300, "{}", cancel.text);
    let ended = cluster.door(0).finished(&id).await.data();
    assert_eq!(ended["state"], "FAILED", "{}", told(&ended));
    cluster.assert_free().await;
    cluster.set(2, &json!({}));
    let mut forced = server(&cluster.address(2));
    forced["force"] = true.into();
    cluster.done(4, "/api/v1/ob/stop", forced).await;
    cluster.start_all(4).await;
    assert_eq!(cluster.running(), [true; HOSTS]);
}

/// W20 over five hosts: a start that hangs on the third, begun by the second, is named to the fourth, which pushes it aside.
#[tokio::test]
async fn w20_the_fourth_agent_pushes_a_stuck_start_aside() {
    let cluster = formed().await;
    cluster.kill_servers();
    cluster.set(2, &json!({ "faults": { "never_listen": true } }));
    let made = cluster.door(1).post("/api/v1/ob/start", global()).await.data();
    let stuck = made["id"].as_str().unwrap().to_owned();
    let line = format!("{}: waiting for process", cluster.address(2));
    cluster.door(1).until(&stuck, |dag| dag.to_string().contains(&line)).await;
    let refused = cluster.door(3).post("/api/v1/ob/start", global()).await;
    assert_eq!(refused.code(), "Agent.UnderMaintenanceDag", "{}", refused.text);
    assert_eq!(refused.json()["data"]["id"], json!([stuck]), "{}", refused.text);

    let mut forced = global();
    (forced["force"], forced["forcePassDag"]) = (true.into(), json!([stuck]));
    cluster.done(3, "/api/v1/ob/stop", forced).await;
    assert_eq!(cluster.running(), [false; HOSTS]);
    let old = cluster.door(1).finished(&stuck).await.data();
    assert_eq!(old["state"], "FAILED", "{}", told(&old));
    cluster.assert_free().await;
    cluster.set(2, &json!({}));
    cluster.start_all(3).await;
    assert_eq!(cluster.running(), [true; HOSTS]);
}

//! Start and stop across hosts, as real processes over real sockets: scopes, plans, majorities, locks, and everything that can
//! be away.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::body::{global, server, terminate, with, zone};
use crate::rig::{Cluster, Door, PASSWORD, told};

async fn formed(hosts: usize) -> Cluster {
    let cluster = Cluster::new(hosts);
    cluster.form().await;
    cluster
}

fn names(dag: &Value) -> Vec<String> {
    let nodes = dag["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

/// The seed's example: GLOBAL start, `Start OB`, six stages; from any agent, shown by any other.
#[tokio::test]
async fn all_servers_stop_and_start_from_any_agent() {
    let cluster = formed(3).await;
    let stopped = cluster.done(1, "/api/v1/ob/stop", terminate(global())).await;
    assert_eq!((&stopped["name"], &stopped["max_stage"]), (&json!("Stop OB"), &json!(6)));
    assert_eq!(cluster.running(), [false; 3]);
    let started = cluster.start_all(2).await;
    assert_eq!((&started["name"], &started["max_stage"]), (&json!("Start OB"), &json!(6)));
    assert_eq!(cluster.running(), [true; 3]);
    let other =
        cluster.door(0).get(&format!("/api/v1/task/dag/{}", started["id"].as_str().unwrap())).await.data();
    assert_eq!(other["id"], started["id"]);
    // Host by host what happened, in the main task's own record.
    let record = other.to_string();
    for address in cluster.addresses() {
        assert!(record.contains(&format!("{address}: it serves")), "{record}");
    }
    let killed = cluster.done(0, "/api/v1/ob/stop", with(global(), "force", true)).await;
    assert_eq!(killed["max_stage"], 5);
    assert_eq!(cluster.running(), [false; 3]);
    cluster.assert_free().await;
}

/// Each wrong scope has its own clear error, at every agent, before anything happens.
#[tokio::test]
async fn wrong_scopes_are_told_before_anything_happens() {
    let cluster = formed(3).await;
    let port = cluster.homes[0].port;
    let own = cluster.address(0);
    for (scope, code) in [
        (json!({ "type": "EVERYTHING" }), "OB.Cluster.Scope.Invalid"),
        (json!({}), "OB.Cluster.Scope.Invalid"),
        (json!({ "type": "GLOBAL", "target": ["zone1"] }), "Common.IllegalArgument"),
        (json!({ "type": "ZONE", "target": [] }), "Common.IllegalArgument"),
        (json!({ "type": "ZONE" }), "Common.IllegalArgument"),
        (json!({ "type": "ZONE", "target": ["zone9"] }), "OB.Zone.NotExist"),
        (json!({ "type": "ZONE", "target": ["zone1", "zone1"] }), "Common.IllegalArgument"),
        (json!({ "type": "SERVER", "target": [] }), "Common.IllegalArgument"),
        (json!({ "type": "SERVER", "target": [own, own] }), "Common.IllegalArgument"),
        (json!({ "type": "SERVER", "target": [format!("127.0.0.99:{port}")] }), "Agent.NotExist"),
        (json!({ "type": "SERVER", "target": ["nowhere"] }), "Common.InvalidIp"),
        (json!({ "type": "SERVER", "target": "zone1" }), "Common.BindJsonFailed"),
    ] {
        for target in ["/api/v1/ob/start", "/api/v1/ob/stop"] {
            let body = json!({ "scope": scope, "force": true });
            let answer = cluster.door(1).post(target, body).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, code),
                "{target} {scope}: {}",
                answer.text
            );
        }
    }
    assert_eq!(cluster.running(), [true; 3]);
}

/// One server, one zone; what would cost the majority is refused with the list, and with it nothing happens. Force does it and
/// says what it did.
#[tokio::test]
async fn w30_a_stop_that_would_lose_a_majority_is_refused_with_the_list() {
    let cluster = formed(3).await;
    let one = cluster.done(0, "/api/v1/ob/stop", terminate(server(&cluster.address(2)))).await;
    assert!(names(&one).contains(&"Minor freeze before stop server".to_owned()));
    assert_eq!(cluster.running(), [true, true, false]);
    let (stop, freeze) = (position(&cluster, "STOP SERVER"), position(&cluster, "MINOR FREEZE"));
    assert!(stop < freeze, "out of service first, then the freeze");

    for body in [server(&cluster.address(1)), zone("zone2")] {
        let refused = cluster.door(0).post("/api/v1/ob/stop", terminate(body)).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(
            matches!(
                refused.code().as_str(),
                "OB.Server.StoppedInMultiZone" | "OB.Cluster.Tenant.Replica.Invalid"
            ),
            "{}",
            refused.text
        );
    }
    let plan = terminate(server(&cluster.address(1)));
    let plan = cluster.door(0).post("/api/v1/ob/stop?plan=true", plan).await.data();
    assert!(!plan["obstacles"].as_array().unwrap().is_empty(), "{plan:#}");
    assert!(
        plan["streams"].as_array().unwrap().iter().any(|stream| stream["keepsMajority"] == false),
        "{plan:#}"
    );
    assert_eq!(cluster.running(), [true, true, false]);

    let forced = cluster.done(0, "/api/v1/ob/stop", with(server(&cluster.address(1)), "force", true)).await;
    assert!(forced.to_string().contains("forced although tenant sys (1) log stream 1"), "{forced:#}");
    assert_eq!(cluster.running(), [true, false, false]);
    cluster.start_all(0).await;
    // What was stopped by SQL is back in service, too.
    let info = cluster.door(0).get("/api/v1/obcluster/info").await.data();
    let servers =
        info["zones"].as_array().unwrap().iter().flat_map(|zone| zone["servers"].as_array().unwrap());
    for server in servers {
        assert_eq!(
            (&server["status"], &server["stop_time"]),
            (&json!("RUNNING"), &Value::Null),
            "{server:#}"
        );
    }
}

/// Where a statement stands in the journal.
fn position(cluster: &Cluster, text: &str) -> usize {
    let journal = cluster.journal();
    let found =
        journal.iter().position(|entry| entry["kind"] == "statement" && entry.to_string().contains(text));
    found.unwrap_or_else(|| panic!("no statement holds {text}"))
}

/// Without force and terminate servers leave service by SQL, and their processes stay; of one zone only.
#[tokio::test]
async fn w28_a_plain_stop_takes_servers_out_of_service_and_leaves_their_processes() {
    let cluster = formed(3).await;
    let all = cluster.door(0).post("/api/v1/ob/stop", global()).await;
    assert_eq!(all.code(), "OB.Cluster.ForceStopOrTerminateRequired");
    let two = json!({ "scope": { "type": "SERVER", "target": [cluster.address(0), cluster.address(1)] } });
    let two = cluster.door(0).post("/api/v1/ob/stop", two).await;
    assert_eq!(two.code(), "OB.Server.StoppedInMultiZone", "{}", two.text);
    // Its own server need not run for it: any server of the cluster will do.
    cluster.homes[1].kill_database();
    cluster.done(1, "/api/v1/ob/start", server(&cluster.address(1))).await;
    let plain = cluster.done(0, "/api/v1/ob/stop", zone("zone2")).await;
    assert_eq!(plain["max_stage"], 6);
    assert!(names(&plain).contains(&"Execute stop sql".to_owned()));
    assert_eq!(cluster.running(), [true; 3]);
    let info = cluster.door(2).get("/api/v1/obcluster/topology/info").await.data();
    let zone2 =
        info["zones"].as_array().unwrap().iter().find(|zone| zone["name"] == "zone2").unwrap().clone();
    assert_eq!(
        (&zone2["status"], &zone2["inner_status"]),
        (&json!("STOPPED"), &json!("INACTIVE")),
        "{zone2:#}"
    );
    cluster.done(0, "/api/v1/ob/start", zone("zone2")).await;
    let other = terminate(zone("zone3"));
    cluster.done(0, "/api/v1/ob/stop", other).await;
    assert_eq!(cluster.running(), [true, true, false]);
}

/// `POST /ob/zone/{zone}/stop`: out of service, then the processes; its check changes nothing.
#[tokio::test]
async fn a_zone_is_stopped_by_its_own_route() {
    let cluster = formed(3).await;
    let check = cluster.door(1).post("/api/v1/ob/zone/zone2/stop/check", json!({})).await;
    assert_eq!(check.status, 200, "{}", check.text);
    let unknown = cluster.door(1).post("/api/v1/ob/zone/nowhere/stop", json!({})).await;
    assert_eq!(unknown.code(), "OB.Zone.NotExist");
    let done = cluster.done(1, "/api/v1/ob/zone/zone2/stop", json!({ "freeze_server": true })).await;
    assert_eq!(
        names(&done),
        [
            "Inform all agents to prepare to stop observer",
            "Make sure all agents are ready",
            "Execute stop sql",
            "Minor freeze before stop server",
            "Advance agents to execute the task",
            "Wait for all agents to execute tasks successfully",
            "Inform all agents to end the task",
        ]
    );
    assert_eq!(cluster.running(), [true, false, true]);
    let refused = cluster.door(0).post("/api/v1/ob/zone/zone1/stop/check", json!({})).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
}

/// A plan holds or it does not: given its hash, the operation does exactly that, or refuses with what has changed.
#[tokio::test]
async fn p8_an_operation_does_what_its_plan_showed_or_nothing() {
    let cluster = formed(3).await;
    let body = terminate(server(&cluster.address(2)));
    let plan = cluster.door(0).post("/api/v1/ob/stop?plan=true", body.clone()).await.data();
    assert_eq!(plan["servers"].as_array().unwrap().len(), 1);
    assert!(plan["obstacles"].as_array().unwrap().is_empty(), "{plan:#}");
    assert!(plan["pointOfNoReturn"].as_str().unwrap().contains("Minor freeze"), "{plan:#}");
    let again = cluster.door(0).post("/api/v1/ob/stop?plan=true", body.clone()).await.data();
    assert_eq!(again["planHash"], plan["planHash"], "nothing has changed");
    // The world changes.
    cluster.homes[1].kill_database();
    let hash = plan["planHash"].as_str().unwrap();
    let refused = cluster.door(0).post("/api/v1/ob/stop", with(body.clone(), "planHash", hash)).await;
    assert_eq!(refused.code(), "OB.Plan.Changed", "{}", refused.text);
    assert!(refused.message().contains("is:"), "{}", refused.text);
    cluster.start_all(0).await;
    let plan = cluster.door(0).post("/api/v1/ob/stop?plan=true", body.clone()).await.data();
    let hash = plan["planHash"].as_str().unwrap();
    cluster.done(0, "/api/v1/ob/stop", with(body, "planHash", hash)).await;
    assert_eq!(cluster.running(), [true, true, false]);
}

/// P7: the whole cluster is down, and one host is gone. Everything that is reached is started, without the database, and the
/// rest is named.
#[tokio::test]
async fn p7_an_emergency_start_needs_no_database_and_no_seed() {
    let mut cluster = Cluster::configured(3, "[peers]\nprepare_timeout_secs = 2\nquorum_wait_secs = 5\n");
    cluster.form().await;
    cluster.kill_servers();
    // From any agent, with everybody there.
    cluster.start_all(2).await;
    assert_eq!(cluster.running(), [true; 3]);
    cluster.kill_servers();
    cluster.kill(0);
    let plan = cluster.door(1).post("/api/v1/ob/start?plan=true", global()).await.data();
    assert!(plan.to_string().contains("is left out, and named"), "{plan:#}");
    let made = cluster.door(1).post("/api/v1/ob/start", global()).await.data();
    let ended = cluster.door(1).finished(made["id"].as_str().unwrap()).await.data();
    assert_eq!(ended["state"], "FAILED", "the goal is not true everywhere: {}", told(&ended));
    assert!(ended.to_string().contains(&format!("left out: {}", cluster.address(0))), "{}", told(&ended));
    assert_eq!(cluster.running(), [false, true, true]);
    cluster.assert_free().await;
    let status = cluster.agent(1).status().await;
    assert_eq!(status["obState"], 3, "two of three are a majority: {status:#}");
    // Two hosts away: one server is started; it says what it lacks.
    cluster.kill_servers();
    cluster.kill(2);
    let made = cluster.door(1).post("/api/v1/ob/start", global()).await.data();
    let ended = cluster.door(1).finished(made["id"].as_str().unwrap()).await.data();
    assert_eq!(ended["state"], "FAILED", "{}", told(&ended));
    assert!(ended.to_string().contains("as soon as the majority of its cluster runs"), "{}", told(&ended));
    assert_eq!(cluster.running(), [false, true, false]);
    cluster.start(0);
    cluster.start(2);
    cluster.start_all(0).await;
    assert_eq!(cluster.running(), [true; 3]);
}

/// W17: what happens on one host needs no other; a host in scope that is away fails the operation, names itself, and locks
/// nobody.
#[tokio::test]
async fn w17_only_agents_in_scope_have_to_be_there() {
    let mut cluster = Cluster::configured(3, "[peers]\nprepare_timeout_secs = 2\n");
    cluster.form().await;
    cluster.kill(2);
    cluster.homes[1].kill_database();
    cluster.done(0, "/api/v1/ob/start", server(&cluster.address(1))).await;
    assert_eq!(cluster.running(), [true; 3]);
    let made = cluster.door(0).post("/api/v1/ob/start", global()).await.data();
    let failed = cluster.door(0).finished(made["id"].as_str().unwrap()).await.data();
    assert_eq!((&failed["state"], &failed["stage"]), (&json!("FAILED"), &json!(1)), "{}", told(&failed));
    assert!(
        failed.to_string().contains(&format!("{} does not answer", cluster.address(2))),
        "{}",
        told(&failed)
    );
    cluster.assert_free().await;
    // Information is true within a second, also now; and who is away is not there.
    let began = std::time::Instant::now();
    let statuses = cluster.door(0).get("/api/v1/agents/status").await.data();
    assert_eq!(statuses.as_object().unwrap().len(), 2, "{statuses:#}");
    let info = cluster.door(1).get("/api/v1/obcluster/info").await.data();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let away = info["zones"][2]["servers"][0].clone();
    assert_eq!(
        (&away["status"], &away["obpilot"]["agentReached"]),
        (&json!("RUNNING"), &json!(false)),
        "{away:#}"
    );
}

/// A stuck operation is named with every id, why-blocked tells who and why, and `forcePassDag` from another agent unlocks it.
#[tokio::test]
async fn w20_a_stuck_operation_is_named_and_pushed_aside_from_another_agent() {
    let cluster = formed(3).await;
    cluster.kill_servers();
    cluster.set(2, &json!({ "faults": { "never_listen": true } }));
    let stuck = cluster.door(1).post("/api/v1/ob/start", global()).await.data();
    let stuck = stuck["id"].as_str().unwrap().to_owned();
    cluster
        .door(1)
        .until(&stuck, |dag| {
            dag.to_string().contains(&format!("{}: waiting for process", cluster.address(2)))
        })
        .await;
    let refused = cluster.door(0).post("/api/v1/ob/stop", with(global(), "force", true)).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (500, "Agent.UnderMaintenanceDag"),
        "{}",
        refused.text
    );
    assert_eq!(refused.json()["data"]["id"], json!([stuck]), "{}", refused.text);

    let blocked = cluster.door(0).get("/api/v1/task/blocked").await.data();
    let locks = blocked["locks"].as_array().unwrap();
    assert_eq!(locks.len(), 3, "{blocked:#}");
    assert!(locks.iter().all(|lock| lock["id"] == json!(stuck)), "{blocked:#}");
    let third = locks.iter().find(|lock| lock["agent"] == json!(cluster.address(2))).unwrap();
    assert!(
        third["doing"].as_str().unwrap().contains("to listen") && third["until"].is_string(),
        "{third:#}"
    );
    let words = cluster.homes[0].cli(&["why-blocked"]);
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    assert!(words.contains(&stuck) && words.contains("to push it aside"), "{words}");

    let nothing = format!("{}9", stuck);
    let mut forced = with(global(), "force", true);
    forced["forcePassDag"] = json!([stuck, nothing]);
    let made = cluster.door(0).post("/api/v1/ob/stop", forced).await.data();
    assert_eq!(made["notes"], json!([format!("task {nothing} in forcePassDag holds nothing")]), "{made:#}");
    cluster.door(0).finished(made["id"].as_str().unwrap()).await.expect_succeeded();
    assert_eq!(cluster.running(), [false; 3]);
    let old = cluster.door(0).finished(&stuck).await.data();
    assert_eq!(old["state"], "FAILED", "{old:#}");
    cluster.assert_free().await;
}

/// Our own server lets in and answers no look: the statements go through another one, and the time is not spent on ours.
#[tokio::test]
async fn w28_a_sick_server_beside_the_coordinator_is_not_the_only_one_asked() {
    let cluster = formed(3).await;
    cluster.set(0, &json!({ "faults": { "hang_on": "DBA_OB_" } }));
    let stopped = cluster.done(0, "/api/v1/ob/zone/zone3/stop", json!({})).await;
    assert_eq!(stopped["state"], "SUCCEED", "{}", told(&stopped));
    assert_eq!(cluster.running(), [true, true, false]);
    cluster.set(0, &json!({}));
    cluster.start_all(1).await;
    cluster.assert_free().await;
}

/// A server that does not report its log streams to one query is not taken for one without any.
#[tokio::test]
async fn w32_log_streams_that_do_not_report_are_named_by_the_freeze() {
    let cluster = formed(3).await;
    cluster.set(1, &json!({ "faults": { "silent_streams": cluster.server(2) } }));
    let stopped = cluster.done(1, "/api/v1/ob/stop", terminate(global())).await;
    let named =
        format!("known, but not reported, so not waited for: {} tenant 1 log stream 1", cluster.server(2));
    assert!(stopped.to_string().contains(&named), "{}", told(&stopped));
    assert_eq!(cluster.running(), [false; 3]);
}

/// The coordinator is killed in mid-start and comes back: it re-attaches and ends what it began.
#[tokio::test]
async fn w19_a_coordinator_that_comes_back_goes_on() {
    let mut cluster = Cluster::new(3);
    cluster.form().await;
    cluster.kill_servers();
    cluster.set(2, &json!({ "faults": { "listen_after_ms": 3000 } }));
    let made = cluster.door(0).post("/api/v1/ob/start", global()).await.data();
    let id = made["id"].as_str().unwrap().to_owned();
    cluster.door(0).until(&id, |dag| dag["stage"] == json!(4)).await;
    cluster.kill(0);
    cluster.start(0);
    let ended = cluster.door(1).finished(&id).await.expect_succeeded();
    assert_eq!(ended["stage"], 6);
    assert_eq!(cluster.running(), [true; 3]);
    cluster.assert_free().await;
    let starts = cluster.journal().into_iter().filter(|entry| entry["kind"] == "start").count();
    assert_eq!(starts, 6, "no server was started twice");
}

/// Another agent is killed in mid-start and comes back.
#[tokio::test]
async fn a_participant_that_comes_back_goes_on() {
    let mut cluster = Cluster::new(3);
    cluster.form().await;
    cluster.kill_servers();
    cluster.set(2, &json!({ "faults": { "listen_after_ms": 3000 } }));
    let made = cluster.door(0).post("/api/v1/ob/start", global()).await.data();
    let id = made["id"].as_str().unwrap().to_owned();
    cluster.door(0).until(&id, |dag| dag["stage"] == json!(4)).await;
    cluster.kill(2);
    cluster.start(2);
    cluster.door(0).finished(&id).await.expect_succeeded();
    assert_eq!(cluster.running(), [true; 3]);
    cluster.assert_free().await;
}

/// W41: two coordinators at once, over TCP, from two hosts: one wins, the other is told who.
#[tokio::test]
async fn w41_of_two_real_coordinators_one_wins() {
    let cluster = formed(3).await;
    cluster.kill_servers();
    let (left, right) = (
        Door::sealed(&cluster.address(0), PASSWORD).await,
        Door::sealed(&cluster.address(2), PASSWORD).await,
    );
    let (one, two) =
        tokio::join!(left.post("/api/v1/ob/start", global()), right.post("/api/v1/ob/start", global()));
    let mut won = 0;
    for (door, answer) in [(&left, one), (&right, two)] {
        if answer.status != 200 {
            assert_eq!(answer.code(), "Agent.UnderMaintenanceDag", "{}", answer.text);
            continue;
        }
        let ended = door.finished(answer.data()["id"].as_str().unwrap()).await.data();
        if ended["state"] == "SUCCEED" {
            won += 1;
        } else {
            assert!(ended.to_string().contains("is busy with task"), "{}", told(&ended));
        }
    }
    // The later one may have found everything done already.
    assert!(won >= 1);
    assert_eq!(cluster.running(), [true; 3]);
    cluster.assert_free().await;
}

/// The same request twice, with the same key, is one task; also when the answer to the first was lost.
#[tokio::test]
async fn w41_the_same_key_is_the_same_task() {
    let cluster = formed(3).await;
    let door = cluster.door(1);
    let send = || async {
        let request = door.request("POST", "/api/v1/ob/start", Some(&global().to_string()));
        let answer = request.header("Idempotency-Key", "once").send().await.unwrap();
        answer.json::<Value>().await.unwrap()["data"]["id"].clone()
    };
    let (first, second) = tokio::join!(send(), send());
    assert_eq!((&first, &send().await), (&second, &first));
    door.finished(first.as_str().unwrap()).await.expect_succeeded();
}

/// P5: what is not reached, not running, hung, or serving, are four different things.
#[tokio::test]
async fn a_server_that_dies_is_shown_at_once_and_a_majority_decides_what_is_safe() {
    let cluster = formed(3).await;
    cluster.homes[2].kill_database();
    let status = cluster.door(2).until_status(|status| status["obState"] == json!(0)).await;
    assert_eq!(status["obpilot"]["server"]["state"], "STOPPED");
    let survivor = cluster.agent(0).status().await;
    assert_eq!(survivor["obpilot"]["safeToStop"]["safe"], json!(false), "{survivor:#}");
    assert!(survivor["obpilot"]["safeToStop"]["why"].to_string().contains("tenant sys"), "{survivor:#}");
    let show = cluster.homes[0].cli(&["cluster", "show", "-d"]);
    let show = String::from_utf8_lossy(&show.stdout).into_owned();
    assert!(show.contains("STOPPED") && show.contains("should not be stopped now"), "{show}");
    let info = cluster.door(0).get("/api/v1/observer/info").await.data();
    assert_eq!((&info["status"], &info["ip"]), (&json!("RUNNING"), &json!("127.0.0.1")), "{info:#}");
}

/// Within the lease the cluster's row of a server that was killed is that of the life before. No start takes it for the life that
/// it has begun, and the task says what it waits for.
#[tokio::test]
async fn a_row_of_the_life_before_is_not_taken_for_this_one() {
    let cluster = formed(3).await;
    cluster.unheard(&[2]);
    cluster.set(2, &json!({ "faults": { "never_serve": true } }));
    cluster.homes[2].kill_database();
    let length = cluster.journal_length();
    let made = cluster.door(0).post("/api/v1/ob/start", server(&cluster.address(2))).await.data();
    let id = made["id"].as_str().unwrap();
    let waits = "its cluster has not heard of it since it was started";
    let is_told = |dag: &Value| dag["obpilot"]["finished"] == true || dag.to_string().contains(waits);
    let dag = cluster.door(0).until(id, is_told).await.data();
    assert_eq!(dag["state"], "RUNNING", "{}", told(&dag));
    assert_eq!(cluster.agent(2).status().await["obState"], 2);

    cluster.set(2, &json!({ "faults": {} }));
    cluster.unheard(&[]);
    let dag = cluster.door(0).finished(id).await.expect_succeeded();
    let moment = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let journal = cluster.journal_since(length);
    let name = format!("phase of {}", cluster.server(2));
    let serving = journal.iter().find(|entry| entry["what"] == name.as_str() && entry["is"] == "serving");
    assert!(moment(&serving.unwrap()["at"]) <= moment(&dag["end_time"]), "{serving:?} {}", told(&dag));
}

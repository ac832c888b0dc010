//! Servers come and go while the cluster serves: scale-out, scale-in, the end of a zone; refused, taken back, interrupted.

use std::process::Command;

use serde_json::{Value, json};

use crate::rig::{Cluster, Door, PASSWORD, told};

const OUT: &str = "/api/v1/ob/scale_out";
const IN: &str = "/api/v1/ob/scale_in";

/// So many hosts with agents, of which the first three are a cluster.
async fn three_of(hosts: usize) -> Cluster {
    let cluster = Cluster::new(hosts);
    cluster.form_first(3).await;
    cluster
}

fn agent(cluster: &Cluster, host: usize) -> Value {
    json!({ "ip": cluster.homes[host].ip, "port": cluster.homes[host].port })
}

fn out(cluster: &Cluster, host: usize, zone: &str) -> Value {
    json!({ "agentInfo": agent(cluster, host), "zone": zone, "obConfigs": cluster.ports(host) })
}

fn leave(cluster: &Cluster, host: usize, force: bool) -> Value {
    json!({ "agent_info": agent(cluster, host), "force_kill": force })
}

fn names(dag: &Value) -> Vec<String> {
    let nodes = dag["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

async fn identity(cluster: &Cluster, host: usize) -> String {
    let info = cluster.door(host).get("/api/v1/info").await.data();
    info["identity"].as_str().unwrap().to_owned()
}

/// The agents that a host's agent knows.
async fn known(cluster: &Cluster, host: usize) -> Vec<String> {
    let info = cluster.door(host).get("/api/v1/ob/info").await.data();
    let agents = info["agent_info"].as_array().unwrap().iter();
    agents
        .map(|agent| format!("{} {}", agent["ip"].as_str().unwrap(), agent["identity"].as_str().unwrap()))
        .collect()
}

/// Server and zone status of every server that the database has.
async fn servers(cluster: &Cluster) -> Vec<(String, String)> {
    let info = cluster.door(0).get("/api/v1/obcluster/info").await.data();
    let zones = info["zones"].as_array().unwrap();
    let rows = zones.iter().flat_map(|zone| {
        let zone_name = zone["name"].as_str().unwrap().to_owned();
        let servers = zone["servers"].as_array().cloned().unwrap_or_default();
        servers.into_iter().map(move |server| (zone_name.clone(), server["ip"].as_str().unwrap().to_owned()))
    });
    rows.collect()
}

/// What an agent tells of the cluster may be half a second old.
async fn until_servers(cluster: &Cluster, is_so: impl Fn(&[(String, String)]) -> bool) {
    let look = async { while !is_so(&servers(cluster).await) {} };
    tokio::time::timeout(crate::rig::LIMIT, look).await.expect("the database's servers are as wanted");
}

/// Host 3 is added, and then leaves by a scale-in that the database does not come to an end with. Returns its id.
async fn leaving_for_ever(cluster: &Cluster) -> String {
    cluster.set(3, &json!({ "faults": { "delete_never": true } }));
    cluster.done(0, OUT, out(cluster, 3, "zone1")).await;
    let made = cluster.door(0).post(IN, leave(cluster, 3, false)).await.data();
    let id = made["id"].as_str().unwrap().to_owned();
    cluster.door(0).until(&id, |dag| dag.to_string().contains("to take everything off")).await;
    id
}

/// To the end of a rollback.
async fn rolled_back(cluster: &Cluster, id: &str) -> Value {
    cluster.door(0).operate(id, "ROLLBACK").await.data();
    let is_over = |dag: &Value| matches!(dag["obpilot"]["state"].as_str(), Some("rolled_back" | "failed"));
    let dag = cluster.door(0).until(id, is_over).await.data();
    assert_eq!(dag["obpilot"]["state"], "rolled_back", "{}", told(&dag));
    dag
}

/// A host as it was before anybody wanted it.
async fn assert_untouched(cluster: &Cluster, host: usize) {
    assert_eq!(identity(cluster, host).await, "SINGLE");
    assert!(cluster.database_pids(host).is_empty());
    for made in ["store", "etc/observer.config.bin"] {
        assert!(!cluster.homes[host].path.join(made).exists(), "{made} is left at host {host}");
    }
    assert!(!known(cluster, 0).await.iter().any(|agent| agent.starts_with(&cluster.homes[host].ip)));
    let ip = &cluster.homes[host].ip;
    until_servers(cluster, |servers| !servers.iter().any(|(_, server)| server == ip)).await;
    cluster.assert_free().await;
}

/// Into a zone that is there and into one that is not; then out again, one by one and with its zone. Everybody knows it each
/// time, and the new ones are members like any other.
#[tokio::test]
async fn servers_come_into_zones_old_and_new_and_leave_again() {
    let cluster = three_of(5).await;
    let added = cluster.done(1, OUT, out(&cluster, 3, "zone1")).await;
    assert_eq!(added["name"], "Cluster scale out");
    assert_eq!(
        names(&added),
        [
            "Integrate server config",
            "Create local scale out dag",
            "Wait scale out ready",
            "Wait remote deploy finish",
            "Wait remote start finish",
            "Prev check for scale_out",
            "Add server for scale_out",
            "Add agent for scale_out",
            "Check cluster scale_out whether finished",
        ]
    );
    let added = cluster.done(0, OUT, out(&cluster, 4, "zone4")).await;
    assert_eq!(names(&added)[6..8], ["Add new zone for scale_out", "Start new zone for scale_out"]);
    assert!(!added.to_string().contains("4 horses"), "the root password stands in no record");
    assert_eq!(cluster.running(), [true; 5]);
    cluster.assert_free().await;
    for host in 0..5 {
        assert_eq!(identity(&cluster, host).await, "CLUSTER AGENT");
        assert_eq!(known(&cluster, host).await.len(), 5, "as host {host} knows");
        let tcp = Door::sealed(&cluster.address(host), PASSWORD).await;
        assert_eq!(tcp.get("/api/v1/ob/info").await.status, 200, "its password at host {host}");
    }
    until_servers(&cluster, |servers| servers.len() == 5).await;

    // The new ones coordinate, and are stopped and started with the others.
    let stop = json!({ "scope": { "type": "GLOBAL" }, "terminate": true });
    cluster.done(4, "/api/v1/ob/stop", stop).await;
    assert_eq!(cluster.running(), [false; 5]);
    cluster.start_all(3).await;
    assert_eq!(cluster.running(), [true; 5]);

    leave_again(&cluster).await;
}

/// The other half.
async fn leave_again(cluster: &Cluster) {
    let left = cluster.done(2, IN, leave(cluster, 3, false)).await;
    assert_eq!(left["name"], "Cluster scale in");
    assert_eq!(
        names(&left),
        [
            "Delete observer",
            "Set agent to 'SCALING IN'",
            "Wait delete observer success",
            "Delete agent",
            "Try to inform to kill observer",
        ]
    );
    let ended = cluster.door(2).send("DELETE", "/api/v1/zone/zone4", None).await.data();
    let ended = cluster.door(2).finished(ended["id"].as_str().unwrap()).await.expect_succeeded();
    assert_eq!(ended["name"], "Delete zone");
    assert_eq!(
        names(&ended),
        [
            "Set agent to 'SCALING IN'",
            "Stop zone zone4",
            "Delete observer",
            "Wait delete observer success",
            "Delete zone zone4",
            "Delete agent",
            "Try to inform to kill observers",
        ]
    );
    assert_eq!(cluster.running(), [true, true, true, false, false]);
    for host in [3, 4] {
        assert_eq!(identity(cluster, host).await, "SINGLE");
        assert!(cluster.homes[host].path.join("store").exists(), "its directories stay");
    }
    for host in 0..3 {
        assert_eq!(known(cluster, host).await.len(), 3, "as host {host} knows");
    }
    until_servers(cluster, |servers| servers.iter().all(|(zone, _)| zone != "zone4")).await;
    // The root password went with the cluster.
    let former = Door::sealed(&cluster.address(3), PASSWORD).await;
    assert_eq!(former.get("/api/v1/ob/info").await.status, 200, "a SINGLE agent knows no password");
    cluster.assert_free().await;

    // Gone is gone.
    assert_eq!(cluster.door(1).post(IN, leave(cluster, 3, false)).await.status, 204);
    let alias = cluster.door(1).send("DELETE", "/api/v1/observer", Some(leave(cluster, 4, true).to_string()));
    assert_eq!(alias.await.status, 204);
    assert_eq!(cluster.door(1).send("DELETE", "/api/v1/zone/zone4", None).await.status, 204);
    // Its home is not empty, so it is not added again.
    let again = cluster.door(0).post(OUT, out(cluster, 3, "zone1")).await;
    assert_eq!(again.code(), "Agent.RPC.RequestError", "{}", again.text);
    assert!(again.message().contains("holds a database already"), "{}", again.text);
}

/// Everything that cannot be is told before anything happens, with its code.
#[tokio::test]
async fn what_cannot_be_added_is_refused_before_anything_happens() {
    let cluster = three_of(5).await;
    cluster.door(3).post("/api/v1/agent/password", json!({ "password": "Host-4" })).await.data();
    cluster.join(4, 4, "elsewhere").await;
    let with = |key: &str, value: Value| {
        let mut body = out(&cluster, 3, "zone1");
        body["targetAgentPassword"] = "Host-4".into();
        body[key] = value;
        body
    };
    let setting = |key: &str, value: &str| with("obConfigs", json!({ key: value }));
    let same_server = json!({ "mysql_port": "3000", "rpc_port": cluster.rpc_ports[0].to_string() });
    let nobody = json!({ "ip": "127.0.0.99", "port": cluster.homes[3].port });
    for (body, status, code) in [
        (with("obConfigs", Value::Null), 400, "Common.BindJsonFailed"),
        (with("agentInfo", Value::Null), 400, "Common.BindJsonFailed"),
        (with("zone", "".into()), 400, "Common.BindJsonFailed"),
        (with("zone", "z'; DROP".into()), 400, "Common.IllegalArgument"),
        (setting("rpcPort", "70000"), 400, "Common.InvalidPort"),
        (setting("cluster_id", "8"), 400, "Common.IllegalArgument"),
        (setting("rootservice_list", "x"), 400, "Common.IllegalArgument"),
        (setting("zone", "zone2"), 400, "Common.IllegalArgument"),
        (setting("a b", "x"), 400, "Common.IllegalArgument"),
        (with("agentInfo", nobody), 500, "Agent.RPC.RequestFailed"),
        (with("agentInfo", agent(&cluster, 4)), 400, "Agent.Identify.NotSupportOperation"),
        (with("agentInfo", agent(&cluster, 0)), 500, "Agent.AlreadyExists"),
        (with("agentInfo", agent(&cluster, 1)), 500, "Agent.AlreadyExists"),
        (with("targetAgentPassword", "wrong".into()), 500, "Agent.RPC.RequestError"),
        (with("targetAgentPassword", "".into()), 500, "Agent.RPC.RequestError"),
        (with("planHash", "0000".into()), 400, "OB.Plan.Changed"),
    ] {
        let answer = cluster.door(0).post(OUT, body.clone()).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}: {}", answer.text);
    }
    // Two servers may not have one name.
    let mut twin = out(&cluster, 3, "zone1");
    twin["agentInfo"]["ip"] = cluster.homes[0].ip.clone().into();
    twin["obConfigs"] = same_server;
    twin["agentInfo"]["port"] = 9.into();
    assert_eq!(cluster.door(1).post(OUT, twin).await.code(), "Agent.AlreadyExists");
    // Whoever is no member of a cluster adds nobody.
    let single = cluster.door(3).post(OUT, out(&cluster, 3, "zone1")).await;
    assert_eq!(single.code(), "Agent.Identify.NotSupportOperation");
    assert_untouched(&cluster, 3).await;
    assert_eq!(cluster.statements("ADD SERVER"), 0);
}

/// Databases of one cluster have one version.
#[tokio::test]
async fn another_version_of_the_database_is_not_added() {
    let mut cluster = three_of(4).await;
    cluster.set(3, &json!({ "version": "4.2.5.1" }));
    // It asks its executable when it starts.
    cluster.kill(3);
    cluster.start(3);
    let answer = cluster.door(0).post(OUT, out(&cluster, 3, "zone1")).await;
    if answer.status >= 300 {
        // The agent has asked its executable already.
        assert_eq!(answer.code(), "Agent.OB.Version.Inconsistent", "{}", answer.text);
    } else {
        let id = answer.data()["id"].as_str().unwrap().to_owned();
        let failed = cluster.door(0).finished(&id).await.data();
        assert_eq!(failed["state"], "FAILED", "{}", told(&failed));
        assert!(told(&failed).contains("must be of one version"), "{}", told(&failed));
        rolled_back(&cluster, &id).await;
    }
    assert_untouched(&cluster, 3).await;
}

/// A plan changes nothing, and its hash is a promise.
#[tokio::test]
async fn plans_of_scaling_tell_what_would_happen() {
    let cluster = three_of(4).await;
    cluster.door(3).post("/api/v1/agent/password", json!({ "password": "Host-4" })).await.data();
    let out = |cluster: &Cluster, host: usize, zone: &str| {
        let mut body = out(cluster, host, zone);
        body["targetAgentPassword"] = "Host-4".into();
        body
    };
    let target = format!("{OUT}?plan=true");
    let plan = cluster.door(0).post(&target, out(&cluster, 3, "zone4")).await.data();
    assert_eq!(plan["name"], "Cluster scale out");
    assert_eq!(
        (&plan["stages"].as_array().unwrap().len(), &plan["obstacles"]),
        (&11, &json!([])),
        "{plan:#}"
    );
    assert!(plan["consequences"].to_string().contains("zone zone4 is made"), "{plan:#}");
    let mut body = out(&cluster, 3, "zone1");
    body["planHash"] = plan["planHash"].clone();
    assert_eq!(cluster.door(0).post(OUT, body).await.code(), "OB.Plan.Changed", "it was for another zone");
    let mut body = out(&cluster, 3, "zone4");
    body["planHash"] = plan["planHash"].clone();
    cluster.done(0, OUT, body).await;

    let plan = cluster.door(0).post(&format!("{IN}?plan=true"), leave(&cluster, 1, true)).await.data();
    let streams = plan["streams"].as_array().unwrap();
    assert!(streams.iter().all(|stream| stream["keepsMajority"] == true), "{plan:#}");
    assert!(plan["consequences"].to_string().contains("its directories stay"), "{plan:#}");
    let zone = cluster.door(0).send("DELETE", "/api/v1/zone/zone4?plan=true", None).await.data();
    assert_eq!((&zone["scope"], &zone["obstacles"]), (&json!("ZONE zone4"), &json!([])), "{zone:#}");
    // Units of tenants are in its way.
    let zone = cluster.door(0).send("DELETE", "/api/v1/zone/zone2?plan=true", None).await.data();
    assert!(zone["obstacles"].to_string().contains("units of tenants"), "{zone:#}");
    let none = cluster.door(0).send("DELETE", "/api/v1/zone/nowhere?plan=true", None).await;
    assert_eq!(none.status, 204);
    assert_eq!(cluster.running(), [true; 4]);
    cluster.assert_free().await;
}

/// A first start that fails leaves nothing locked; rolled back, the host is as it was, and can be added anew.
#[tokio::test]
async fn a_scale_out_that_fails_is_taken_back() {
    let cluster = three_of(4).await;
    cluster.set(3, &json!({ "faults": { "exit_before_fork": 96 } }));
    let made = cluster.door(0).post(OUT, out(&cluster, 3, "zone4")).await.data();
    let id = made["id"].as_str().unwrap();
    let failed = cluster.door(0).finished(id).await.data();
    assert_eq!((&failed["state"], &failed["stage"]), (&json!("FAILED"), &json!(5)), "{}", told(&failed));
    assert!(failed.to_string().contains("96"), "the reason of the new host: {}", told(&failed));
    cluster.assert_free().await;
    assert_eq!(identity(&cluster, 3).await, "SCALING OUT");
    // Nobody else takes it meanwhile, and nobody counts it.
    let other = cluster.door(1).post(OUT, out(&cluster, 3, "zone1")).await;
    assert_eq!(other.code(), "Agent.Identify.NotSupportOperation", "{}", other.text);
    assert_eq!(cluster.door(0).post(OUT, out(&cluster, 3, "zone1")).await.code(), "Agent.AlreadyExists");
    assert_eq!(known(&cluster, 0).await.len(), 3);
    rolled_back(&cluster, id).await;
    assert_untouched(&cluster, 3).await;
    cluster.set(3, &json!({}));
    cluster.done(0, OUT, out(&cluster, 3, "zone4")).await;
    assert_eq!(cluster.running(), [true; 4]);
}

/// Cancelled while the new server is in and does not serve yet: server, zone, directories, everything goes again in order.
#[tokio::test]
async fn a_scale_out_is_cancelled_late_and_taken_back() {
    let cluster = three_of(4).await;
    cluster.set(3, &json!({ "faults": { "never_serve": true } }));
    let made = cluster.door(0).post(OUT, out(&cluster, 3, "zone4")).await.data();
    let id = made["id"].as_str().unwrap();
    cluster.door(0).until(id, |dag| dag.to_string().contains("to serve, at most")).await;
    until_servers(&cluster, |servers| servers.iter().any(|(zone, _)| zone == "zone4")).await;
    cluster.door(0).operate(id, "CANCEL").await.data();
    cluster.door(0).until(id, |dag| dag["state"] == "FAILED").await;
    cluster.assert_free().await;
    rolled_back(&cluster, id).await;
    assert_untouched(&cluster, 3).await;
    let gone = async {
        loop {
            let info = cluster.door(0).get("/api/v1/obcluster/info").await.data();
            if !info["zones"].to_string().contains("zone4") {
                return;
            }
        }
    };
    tokio::time::timeout(crate::rig::LIMIT, gone).await.expect("the zone that was made is gone");
    let order: Vec<_> = ["DELETE SERVER", "STOP ZONE", "DELETE ZONE"]
        .into_iter()
        .map(|text| {
            let journal = cluster.journal();
            let is_it = |entry: &Value| entry["kind"] == "statement" && entry.to_string().contains(text);
            journal.iter().position(is_it).unwrap_or_else(|| panic!("no {text}"))
        })
        .collect();
    assert!(order.is_sorted(), "{order:?}");
}

/// `forcePassDag`: the coordinator's lock is free for whoever names the scale-out, which can still be taken back.
#[tokio::test]
async fn a_scale_out_is_pushed_aside_by_its_id() {
    let cluster = three_of(4).await;
    cluster.set(3, &json!({ "faults": { "never_serve": true } }));
    let made = cluster.door(0).post(OUT, out(&cluster, 3, "zone1")).await.data();
    let id = made["id"].as_str().unwrap();
    cluster.door(0).until(id, |dag| dag.to_string().contains("to serve, at most")).await;
    let start = |force: Value| json!({ "scope": { "type": "SERVER", "target": [cluster.address(0)] }, "forcePassDag": force });
    let busy = cluster.door(1).post("/api/v1/ob/start", start(json!([]))).await;
    assert_eq!(busy.code(), "Agent.UnderMaintenanceDag", "{}", busy.text);
    cluster.done(1, "/api/v1/ob/start", start(json!([id]))).await;
    cluster.door(0).until(id, |dag| dag["state"] == "FAILED").await;
    rolled_back(&cluster, id).await;
    assert_untouched(&cluster, 3).await;
}

/// The coordinator dies while the new server comes, and goes on when it is back; the new host's agent likewise.
#[tokio::test]
async fn a_scale_out_survives_the_death_of_either_agent() {
    for (victim, fault, word) in [
        (0, "never_serve", "to serve, at most"),
        (3, "never_listen", "to listen"),
        (3, "never_serve", "to serve, at most"),
    ] {
        let mut cluster = three_of(4).await;
        cluster.set(3, &json!({ "faults": { fault: true } }));
        let made = cluster.door(0).post(OUT, out(&cluster, 3, "zone1")).await.data();
        let id = made["id"].as_str().unwrap();
        cluster.door(0).until(id, |dag| dag.to_string().contains(word)).await;
        cluster.kill(victim);
        cluster.start(victim);
        cluster.set(3, &json!({}));
        cluster.door(0).finished(id).await.expect_succeeded();
        assert_eq!(cluster.running(), [true; 4], "{victim} {fault}");
        for host in 0..4 {
            assert_eq!(known(&cluster, host).await.len(), 4, "{victim} {fault}, as host {host} knows");
        }
        assert_eq!(cluster.statements("ADD SERVER"), 1, "{victim} {fault}");
        cluster.assert_free().await;
    }
}

/// The coordinator is gone for good: the new host gives the whole thing up by itself, its server included.
#[tokio::test]
async fn a_host_whose_coordinator_is_gone_gives_the_scale_out_up() {
    let mut cluster = three_of(4).await;
    cluster.set(3, &json!({ "faults": { "never_serve": true } }));
    let made = cluster.door(2).post(OUT, out(&cluster, 3, "zone1")).await.data();
    cluster
        .door(2)
        .until(made["id"].as_str().unwrap(), |dag| dag.to_string().contains("to serve, at most"))
        .await;
    cluster.kill(2);
    cluster.set(3, &json!({}));
    let server = cluster.homes[3].ip.clone();
    cluster.door(3).until_status(|status| status["obState"] == 3).await;
    let given_up = cluster.done(3, "/api/v1/agent/remove", agent(&cluster, 3)).await;
    assert_eq!(given_up["name"], "Give up scale out");
    assert_eq!(identity(&cluster, 3).await, "SINGLE");
    assert!(!cluster.homes[3].path.join("store").exists());
    until_servers(&cluster, |servers| !servers.iter().any(|(_, ip)| *ip == server)).await;
    // Its coordinator finds nobody any more, and its rollback has nothing left to do.
    cluster.start(2);
    let id = made["id"].as_str().unwrap();
    let failed = cluster.door(2).finished(id).await.data();
    assert_eq!(failed["state"], "FAILED", "{}", told(&failed));
    cluster.door(2).operate(id, "ROLLBACK").await.data();
    cluster.door(2).until(id, |dag| dag["obpilot"]["state"] == "rolled_back").await;
    cluster.assert_free().await;
}

/// Forced, the majority decides, seen by our own count; then the server is killed at once, and the rest is as ever.
#[tokio::test]
async fn a_forced_scale_in_needs_a_majority_without_the_server() {
    let cluster = three_of(5).await;
    cluster.done(0, OUT, out(&cluster, 3, "zone2")).await;
    cluster.homes[2].kill_database();
    // Until the database itself knows, everybody's log says otherwise.
    let refused = async {
        loop {
            let answer = cluster.door(0).post(IN, leave(&cluster, 1, true)).await;
            let plan =
                cluster.door(0).post(&format!("{IN}?plan=true"), leave(&cluster, 1, true)).await.data();
            if answer.status == 400 && plan["obstacles"].as_array().is_some_and(|list| !list.is_empty()) {
                return answer;
            }
            assert!(answer.status >= 300, "it was not refused: {}", answer.text);
        }
    };
    let refused = tokio::time::timeout(crate::rig::LIMIT, refused).await.unwrap();
    assert_eq!(refused.code(), "OB.Cluster.MultiPaxosNotAlive", "{}", refused.text);
    assert!(refused.message().contains("tenant sys (1) log stream 1"), "{}", refused.text);
    assert_eq!(cluster.running(), [true, true, false, true, false]);
    cluster.start_all(0).await;

    let left = cluster.done(0, IN, leave(&cluster, 1, true)).await;
    assert_eq!(
        names(&left),
        [
            "Delete observer",
            "Set agent to 'SCALING IN'",
            "Check multi paxos member alive",
            "Try to inform to kill observer",
            "Wait delete observer success",
            "Delete agent",
        ]
    );
    assert_eq!(identity(&cluster, 1).await, "SINGLE");
    assert_eq!(cluster.running(), [true, false, true, true, false]);
    for host in [0, 2, 3] {
        assert_eq!(known(&cluster, host).await.len(), 3, "as host {host} knows");
    }
    cluster.assert_free().await;
}

/// Who may not leave, and which zones may not end.
#[tokio::test]
async fn what_may_not_leave_is_refused_before_anything_happens() {
    let cluster = three_of(4).await;
    let own = cluster.door(0).post(IN, leave(&cluster, 0, false)).await;
    assert_eq!((own.status, own.code().as_str()), (400, "OB.Server.DeleteSelf"));
    let nobody = cluster.door(3).post(IN, leave(&cluster, 1, false)).await;
    assert_eq!(nobody.code(), "Agent.Identify.NotSupportOperation");
    assert_eq!(cluster.door(3).post(IN, leave(&cluster, 3, false)).await.status, 204);
    assert_eq!(cluster.door(0).post(IN, leave(&cluster, 3, false)).await.status, 204);
    assert_eq!(cluster.door(0).post(IN, json!({})).await.code(), "Common.BindJsonFailed");

    let delete = async |host: usize, zone: &str| {
        cluster.door(host).send("DELETE", &format!("/api/v1/zone/{zone}"), None).await
    };
    assert_eq!(delete(3, "zone1").await.code(), "Agent.Identify.NotSupportOperation");
    assert_eq!(delete(0, "nowhere").await.status, 204);
    assert_eq!(delete(0, "z%27%20OR").await.code(), "Common.IllegalArgument");
    assert_eq!(delete(0, "zone2").await.code(), "OB.Zone.NotEmpty");
    cluster.done(0, OUT, out(&cluster, 3, "zone4")).await;
    assert_eq!(delete(3, "zone4").await.code(), "OB.Zone.DeleteSelf");
    cluster.done(0, "/api/v1/ob/zone/zone2/stop", json!({})).await;
    assert_eq!(delete(0, "zone4").await.code(), "OB.Server.StoppedInMultiZone");
    assert_eq!(cluster.running(), [true, false, true, true]);
    // Over TCP nobody deletes a zone without a password (OBShell lets everybody).
    let stranger = Door::open(&cluster.address(0)).send("DELETE", "/api/v1/zone/zone4", None).await;
    assert_eq!(stranger.code(), "Request.Header.NotFound", "{}", stranger.text);
    let wrong = Door::sealed(&cluster.address(0), "wrong").await;
    assert_eq!(wrong.send("DELETE", "/api/v1/zone/zone4", None).await.status, 401);
    // The database has no room for what the only server of a zone holds.
    cluster.start_all(0).await;
    let made = cluster.door(0).post(IN, leave(&cluster, 1, false)).await.data();
    let failed = cluster.door(0).finished(made["id"].as_str().unwrap()).await.data();
    assert_eq!(failed["state"], "FAILED", "{}", told(&failed));
    assert!(told(&failed).contains("4624"), "{}", told(&failed));
    cluster.door(0).operate(failed["id"].as_str().unwrap(), "ROLLBACK").await.data();
    cluster.agent(1).door.until_status(|status| status["underMaintenance"] == json!(false)).await;
    assert_eq!(identity(&cluster, 1).await, "CLUSTER AGENT");
}

/// A deletion takes what it takes. Cancelled, the server stays (CANCEL DELETE SERVER); meanwhile nobody stops it, and everybody
/// sees who holds it.
#[tokio::test]
async fn a_scale_in_is_cancelled_and_the_server_stays() {
    let cluster = three_of(4).await;
    let id = &leaving_for_ever(&cluster).await;
    let stop = json!({ "scope": { "type": "SERVER", "target": [cluster.address(3)] }, "terminate": true });
    let busy = cluster.door(1).post("/api/v1/ob/stop", stop).await;
    assert_eq!(busy.code(), "Agent.UnderMaintenanceDag", "{}", busy.text);
    assert!(busy.text.contains(id), "{}", busy.text);
    assert_eq!(cluster.door(1).post(IN, leave(&cluster, 3, false)).await.code(), "Agent.UnderMaintenanceDag");
    assert!(known(&cluster, 0).await.contains(&format!("{} SCALING IN", cluster.homes[3].ip)));
    cluster.door(0).operate(id, "CANCEL").await.data();
    cluster.door(0).until(id, |dag| dag["state"] == "FAILED").await;
    assert_eq!(cluster.statements("CANCEL DELETE SERVER"), 1);
    rolled_back(&cluster, id).await;
    cluster.assert_free().await;
    assert!(known(&cluster, 0).await.contains(&format!("{} CLUSTER AGENT", cluster.homes[3].ip)));
    assert_eq!(cluster.running(), [true; 4]);
    cluster.set(3, &json!({}));
    cluster.done(1, IN, leave(&cluster, 3, false)).await;
    assert_eq!(identity(&cluster, 3).await, "SINGLE");
}

/// `forcePassDag`: whoever names the scale-in gets the agent at once; the scale-in ends, and the server stays.
#[tokio::test]
async fn a_scale_in_is_pushed_aside_by_its_id() {
    let cluster = three_of(4).await;
    let id = &leaving_for_ever(&cluster).await;
    let scope = json!({ "type": "SERVER", "target": [cluster.address(3)] });
    let stop = json!({ "scope": scope, "terminate": true, "forcePassDag": [id] });
    cluster.done(1, "/api/v1/ob/stop", stop).await;
    assert_eq!(cluster.running(), [true, true, true, false]);
    let ended = cluster.door(0).until(id, |dag| dag["state"] == "FAILED").await.data();
    assert_eq!(cluster.statements("CANCEL DELETE SERVER"), 1, "{}", told(&ended));
    rolled_back(&cluster, id).await;
    cluster.start_all(2).await;
    assert_eq!(cluster.running(), [true; 4]);
    assert!(known(&cluster, 0).await.contains(&format!("{} CLUSTER AGENT", cluster.homes[3].ip)));
    cluster.assert_free().await;
}

/// The coordinator of a scale-in dies and comes back; the agent that leaves likewise.
#[tokio::test]
async fn a_scale_in_survives_the_death_of_either_agent() {
    let mut cluster = three_of(4).await;
    for victim in [0, 3] {
        let id = &leaving_for_ever(&cluster).await;
        cluster.kill(victim);
        cluster.start(victim);
        cluster.set(3, &json!({}));
        cluster.door(0).finished(id).await.expect_succeeded();
        assert_eq!(identity(&cluster, 3).await, "SINGLE", "victim {victim}");
        assert_eq!(cluster.running(), [true, true, true, false], "victim {victim}");
        cluster.assert_free().await;
        // An empty home for the next one.
        for left in ["store", "etc", "etc2", "etc3", "run/observer.pid"] {
            let left = cluster.homes[3].path.join(left);
            let removed =
                if left.is_dir() { std::fs::remove_dir_all(&left) } else { std::fs::remove_file(&left) };
            drop(removed);
        }
    }
}

/// A host that was away when it was removed learns it when both are back: its server ends, and it is SINGLE.
#[tokio::test]
async fn a_host_that_was_away_learns_that_it_was_removed() {
    let mut cluster = three_of(4).await;
    cluster.done(0, OUT, out(&cluster, 3, "zone1")).await;
    cluster.kill(3);
    let left = cluster.done(0, IN, leave(&cluster, 3, false)).await;
    assert!(told(&left).contains("is told"), "{}", told(&left));
    assert_eq!(cluster.running(), [true; 4], "nobody could end it");
    for host in 0..3 {
        assert_eq!(known(&cluster, host).await.len(), 3, "as host {host} knows");
    }
    cluster.start(3);
    assert_eq!(identity(&cluster, 3).await, "CLUSTER AGENT", "it does not know yet");
    // It looks after those that it has still to tell when it starts, and then every minute.
    cluster.kill(0);
    cluster.start(0);
    cluster.door(3).until_status(|status| status["agent"]["identity"] == "SINGLE").await;
    assert_eq!(cluster.running(), [true, true, true, false]);
    assert!(cluster.homes[3].path.join("store").exists());
}

/// By the command line: on the new host with a member named, and on a member with the new host named.
#[tokio::test]
async fn the_command_line_scales_out_and_in() {
    let cluster = three_of(5).await;
    let run = async |host: usize, args: &[&str]| {
        let mut command: Command = cluster.homes[host].cli_command(args);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    };
    let (member, new) = (cluster.address(1), cluster.address(4));
    let ports =
        |host: usize| [cluster.homes[host].mysql_port.to_string(), cluster.rpc_ports[host].to_string()];
    let [sql, rpc] = ports(3);
    let common = ["cluster", "scale-out", "-s", &member, "-z", "zone1", "-p", &sql, "-P", &rpc];
    let (code, text) = run(3, &[&common[..], &["--plan"]].concat()).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Cluster scale out") && text.contains("point of no return"), "{text}");
    let (code, text) = run(3, &common).await;
    assert_eq!(code, Some(10), "nobody can be asked: {text}");
    let (code, text) = run(3, &[&common[..], &["--yes"]].concat()).await;
    assert_eq!(code, Some(0), "{text}");
    let [sql, rpc] = ports(4);
    let (code, text) =
        run(0, &["cluster", "scale-out", "-s", &new, "-z", "zone4", "-p", &sql, "-P", &rpc, "-y"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(cluster.running(), [true; 5]);
    let gone = cluster.address(3);
    let (code, text) = run(0, &["cluster", "scale-in", "-s", &gone, "--yes"]).await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(0, &["cluster", "delete-zone", "-z", "zone4", "--plan"]).await;
    assert_eq!((code, text.contains("Delete zone zone4")), (Some(0), true), "{text}");
    let (code, text) = run(0, &["cluster", "scale-in", "-z", "zone4", "-y"]).await;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(cluster.running(), [true, true, true, false, false]);
    let (code, text) = run(0, &["cluster", "scale-in", "-s", &gone, "-y"]).await;
    assert_eq!((code, text.contains("nothing to do")), (Some(0), true), "{text}");
}

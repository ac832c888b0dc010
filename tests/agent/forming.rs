//! Forming a cluster: join, tokens of trust, remove, configuration with scopes, init over all hosts; the defects of
//! `lifecycle.md` §13 as what they are not here.

use serde_json::{Value, json};

use crate::rig::{Cluster, Door, PASSWORD, told, zone};

/// Everything at once: three hosts, by the calls an SDK makes; every agent knows every other, and so does the database.
#[tokio::test]
async fn three_hosts_become_a_cluster() {
    let cluster = Cluster::new(3);
    cluster.form().await;
    for host in 0..3 {
        let door = Door::sealed(&cluster.address(host), PASSWORD).await;
        let info = door.get("/api/v1/ob/info").await.data();
        let agents = info["agent_info"].as_array().unwrap();
        assert_eq!(agents.len(), 3, "{info:#}");
        assert!(agents.iter().all(|agent| agent["identity"] == "CLUSTER AGENT"), "{info:#}");
        assert_eq!(
            (&info["obcluster_info"]["id"], &info["obcluster_info"]["name"]),
            (&json!(7), &json!("pilot"))
        );
        let topology = info["obcluster_info"]["topology"].as_object().unwrap();
        assert_eq!(topology.keys().cloned().collect::<Vec<_>>(), ["zone1", "zone2", "zone3"]);
        assert_eq!(topology[&zone(host)][0]["status"], "ACTIVE", "{info:#}");
        let status = door.get("/api/v1/status").await.data();
        assert_eq!(status["obState"], 3, "{status:#}");
        assert_eq!(status["obpilot"]["safeToStop"]["safe"], json!(true), "{status:#}");
    }
    assert_eq!(cluster.running(), [true; 3]);
    assert_eq!(cluster.statements("BOOTSTRAP"), 1);
    cluster.assert_free().await;
    // One server per zone, our own zone first; every server was told the same list.
    let bootstrap = cluster
        .journal()
        .into_iter()
        .find(|entry| entry.to_string().contains("ALTER SYSTEM BOOTSTRAP"))
        .unwrap();
    let order: Vec<_> =
        ["zone1", "zone2", "zone3"].iter().map(|zone| bootstrap.to_string().find(zone).unwrap()).collect();
    assert!(order.is_sorted(), "{bootstrap:#}");
}

/// Further servers of a zone are added after the bootstrap; none twice.
#[tokio::test]
async fn five_hosts_in_three_zones_and_a_second_init_is_refused() {
    let cluster = Cluster::new(5);
    cluster.form().await;
    assert_eq!(cluster.running(), [true; 5]);
    assert_eq!(cluster.statements("ADD SERVER"), 2);
    let info = cluster.door(4).get("/api/v1/obcluster/info").await.data();
    let servers: usize =
        info["zones"].as_array().unwrap().iter().map(|zone| zone["servers"].as_array().unwrap().len()).sum();
    assert_eq!(servers, 5, "{info:#}");
    let again = cluster.door(0).post("/api/v1/ob/init", json!({})).await;
    assert_eq!(again.code(), "OB.Cluster.AlreadyInitialized");
}

/// W25: a join that fails leaves nothing locked and nothing half done, on neither side; repeated, it succeeds.
#[tokio::test]
async fn w25_a_failed_join_leaves_nothing_locked() {
    let cluster = Cluster::new(2);
    let join = |port: u16| json!({ "agentInfo": { "ip": "127.0.0.1", "port": port }, "zoneName": "zone2" });
    let port = cluster.homes[0].port;
    // Nobody there; no master there; then one whose password is wrong.
    let nobody = cluster.door(1).post("/api/v1/agent/join", join(9)).await;
    assert_eq!(nobody.code(), "Common.Unexpected", "{}", nobody.text);
    let no_master = cluster.door(1).post("/api/v1/agent/join", join(port)).await;
    assert_eq!(no_master.code(), "Agent.Identify.NotSupportOperation", "{}", no_master.text);
    cluster.join(0, 0, "zone1").await;
    cluster.door(0).post("/api/v1/agent/password", json!({ "password": "Master-1" })).await.data();
    let wrong = cluster.door(1).post("/api/v1/agent/join", join(port)).await;
    assert_eq!(wrong.code(), "Agent.RPC.RequestError", "{}", wrong.text);
    for host in 0..2 {
        cluster.assert_free().await;
        let identity = cluster.agent(host).status().await["agent"]["identity"].clone();
        assert_eq!(identity, if host == 0 { "MASTER" } else { "SINGLE" });
    }
    let mut right = join(port);
    right["masterPassword"] = "Master-1".into();
    cluster.done(1, "/api/v1/agent/join", right.clone()).await;
    assert_eq!(cluster.agent(1).status().await["agent"]["identity"], "FOLLOWER");
    // Who follows already does not join again.
    let again = cluster.door(1).post("/api/v1/agent/join", right).await;
    assert_eq!(again.code(), "Agent.Identify.NotSupportOperation");
}

/// W26, W27: both sides agree on a removal, and the last follower takes its own settings with it and nothing of the
/// master's: not its password, not the cluster's name.
#[tokio::test]
async fn w26_w27_a_removal_takes_its_own_and_both_sides_agree() {
    let cluster = Cluster::new(3);
    for host in 0..3 {
        cluster.join(host, 0, &zone(host)).await;
    }
    cluster.configure(0).await;
    let target = |host: usize| json!({ "ip": cluster.homes[host].ip, "port": cluster.homes[host].port });
    let dag = cluster.done(0, "/api/v1/agent/remove", target(1)).await;
    assert_eq!(dag["name"], format!("Remove follower agent {}", cluster.address(1)));
    let dag = cluster.done(2, "/api/v1/agent/remove", target(2)).await;
    assert_eq!(dag["name"], "Follower remove self");
    for host in [1, 2] {
        assert_eq!(cluster.agent(host).status().await["agent"]["identity"], "SINGLE", "host {host}");
    }
    let info = cluster.door(0).get("/api/v1/ob/info").await.data();
    assert_eq!(info["agent_info"].as_array().unwrap().len(), 1, "{info:#}");
    assert_eq!(info["obcluster_info"]["name"], "pilot");
    // The password that was configured still opens the master, and nothing else does.
    let tcp = Door::sealed(&cluster.address(0), PASSWORD).await;
    assert_eq!(tcp.get("/api/v1/ob/info").await.status, 200);
    let empty = Door::sealed(&cluster.address(0), "").await;
    assert_eq!(empty.get("/api/v1/ob/info").await.status, 401);
    // Gone is gone: nothing to do is 204.
    assert_eq!(cluster.door(0).post("/api/v1/agent/remove", target(1)).await.status, 204);
    cluster.assert_free().await;
}

/// W26: the master is away: the removal fails, and says what would override it. Nothing has changed.
#[tokio::test]
async fn w26_a_removal_that_the_master_does_not_hear_fails() {
    let mut cluster = Cluster::new(2);
    cluster.join(0, 0, "zone1").await;
    cluster.join(1, 0, "zone2").await;
    cluster.kill(0);
    let body = json!({ "ip": cluster.homes[1].ip, "port": cluster.homes[1].port });
    let made = cluster.door(1).post("/api/v1/agent/remove", body).await.data();
    let failed = cluster.door(1).finished(made["id"].as_str().unwrap()).await.data();
    assert_eq!(failed["state"], "FAILED", "{failed:#}");
    assert!(failed.to_string().contains("PASS leaves without telling it"), "{failed:#}");
    assert_eq!(cluster.agent(1).status().await["agent"]["identity"], "FOLLOWER");
    cluster.assert_free().await;
    // It leaves all the same; the master, which still has it in its list, knows it by its key when it comes back.
    let id = made["id"].as_str().unwrap();
    let node = failed["nodes"][0]["id"].as_str().unwrap();
    cluster.door(1).post(&format!("/api/v1/task/node/{node}"), json!({ "operator": "PASS" })).await.data();
    cluster.door(1).finished(id).await.expect_succeeded();
    assert_eq!(cluster.agent(1).status().await["agent"]["identity"], "SINGLE");
    cluster.start(0);
    cluster.join(1, 0, "zone3").await;
    let agents = cluster.door(0).get("/api/v1/ob/info").await.data()["agent_info"].clone();
    assert!(agents.to_string().contains("zone3") && !agents.to_string().contains("zone2"), "{agents:#}");
}

/// W22: SERVER over ZONE over GLOBAL, whatever was set last; and what a follower is asked reaches its master (H14, H15, W24:
/// with everything that was in the body).
#[tokio::test]
async fn w22_w24_settings_by_scope_through_a_follower() {
    let cluster = Cluster::new(3);
    for host in 0..3 {
        cluster.join(host, 0, &zone(host)).await;
    }
    // Through followers, over the socket and over TCP.
    cluster.configure(1).await;
    let tcp = Door::sealed(&cluster.address(2), PASSWORD).await;
    for (scope, value) in [
        (json!({ "type": "SERVER", "target": [cluster.address(2)] }), "4G"),
        (json!({ "type": "ZONE", "target": ["zone3"] }), "3G"),
        (json!({ "type": "ZONE", "target": ["zone2"] }), "2G"),
    ] {
        let mut config = json!({ "memory_limit": value });
        if scope["type"] == "SERVER" {
            // A call replaces what was set at its scope.
            config["mysql_port"] = json!(cluster.homes[2].mysql_port.to_string());
            config["rpc_port"] = json!(cluster.rpc_ports[2].to_string());
        }
        let body = json!({ "observerConfig": config, "scope": scope });
        let made = tcp.post("/api/v1/observer/config", body).await.data();
        // Its id names the master; a follower shows it all the same.
        tcp.finished(made["id"].as_str().unwrap()).await.expect_succeeded();
    }
    let global = json!({ "memory_limit": "1G" });
    cluster
        .done(
            0,
            "/api/v1/observer/config",
            json!({ "observerConfig": global, "scope": { "type": "GLOBAL" } }),
        )
        .await;
    let wrong = json!({ "observerConfig": { "a": "1" }, "scope": { "type": "ZONE", "target": ["nowhere"] } });
    let unknown = tcp.post("/api/v1/observer/config", wrong).await;
    assert_eq!(unknown.code(), "OB.Zone.NotExist", "{}", unknown.text);

    let init = json!({ "create_proxyro_user": true, "proxyro_password": "Proxy-1" });
    let made = tcp.post("/api/v1/ob/init", init).await.data();
    let done = tcp.finished(made["id"].as_str().unwrap()).await.expect_succeeded();
    assert_eq!(done["max_stage"], 12, "with the user that was asked for: {done:#}");
    assert_eq!(cluster.statements("proxyro"), 2);
    assert!(!cluster.agent(0).stderr().contains("Proxy-1") && !done.to_string().contains("Proxy-1"));
    let starts: Vec<_> = cluster.journal().into_iter().filter(|entry| entry["kind"] == "argv").collect();
    for (zone, memory) in [("zone1", "1G"), ("zone2", "2G"), ("zone3", "4G")] {
        let start = starts.iter().find(|entry| entry.to_string().contains(&format!("\"{zone}\""))).unwrap();
        assert!(start.to_string().contains(&format!("memory_limit={memory}")), "{start:#}");
    }
}

/// A wrong password over TCP at a follower is refused like anywhere, by the master's word.
#[tokio::test]
async fn a_follower_lets_in_whom_its_master_lets_in() {
    let cluster = Cluster::new(2);
    cluster.join(0, 0, "zone1").await;
    cluster.join(1, 0, "zone2").await;
    cluster.configure(0).await;
    let wrong = Door::sealed(&cluster.address(1), "wrong").await;
    let refused = wrong.get("/api/v1/ob/info").await;
    assert_eq!((refused.status, refused.code().as_str()), (401, "Common.Unauthorized"));
    let right = Door::sealed(&cluster.address(1), PASSWORD).await;
    assert_eq!(right.get("/api/v1/ob/info").await.data()["agent_info"].as_array().unwrap().len(), 2);
}

/// An SDK waits for a join at the master, from the moment at which it was answered.
#[tokio::test]
async fn a_join_is_known_to_the_master_when_it_is_answered() {
    let cluster = Cluster::new(3);
    cluster.join(0, 0, "zone1").await;
    let master = &cluster.homes[0];
    for host in [1, 2] {
        let body = json!({ "agentInfo": { "ip": master.ip, "port": master.port }, "zoneName": zone(host) });
        let made = cluster.door(host).post("/api/v1/agent/join", body).await.data();
        let target = format!("/api/v1/task/dag/{}", made["id"].as_str().unwrap());
        assert_eq!(cluster.door(0).get(&target).await.data()["name"], "Join to master");
    }
}

/// Every agent tells what all of them have been about, and the newest task that changed who is in the cluster.
#[tokio::test]
async fn tasks_of_all_agents_are_told_by_each() {
    let cluster = Cluster::new(4);
    cluster.form_first(3).await;
    let none = cluster.door(1).get("/api/v1/task/dag/maintain/ob").await;
    assert_eq!((none.status, none.code().as_str()), (404, "Task.NotFound"));
    let agent = json!({ "ip": cluster.homes[3].ip, "port": cluster.homes[3].port });
    let out = json!({ "agentInfo": agent, "zone": "zone1", "obConfigs": cluster.ports(3) });
    let added = cluster.done(2, "/api/v1/ob/scale_out", out).await;
    cluster.set(0, &json!({ "faults": { "freeze_never": true } }));
    let stop = json!({ "scope": { "type": "GLOBAL" }, "terminate": true });
    let stopping = cluster.door(0).post("/api/v1/ob/stop", stop).await.data();
    let id = stopping["id"].as_str().unwrap();
    cluster.door(0).until(id, |dag| dag.to_string().contains("checkpoint")).await;
    for host in 0..4 {
        let door = cluster.door(host);
        let names = async |target: &str| {
            let list = door.get(target).await.data()["contents"].clone();
            let mut names: Vec<_> = list.as_array().unwrap().iter().map(|dag| dag["name"].clone()).collect();
            names.sort_by_key(Value::to_string);
            names
        };
        assert_eq!(names("/api/v1/task/dag/maintain/agents").await, ["Stop observer"; 4], "host {host}");
        let unfinished = names("/api/v1/task/dag/unfinish").await;
        assert_eq!(
            unfinished,
            ["Stop OB", "Stop observer", "Stop observer", "Stop observer", "Stop observer"]
        );
        assert_eq!(door.get("/api/v1/task/dag/maintain/ob").await.data()["id"], added["id"], "host {host}");
    }
    let cancel = json!({ "operator": "CANCEL" });
    cluster.door(3).post(&format!("/api/v1/task/dag/{id}"), cancel).await.data();
}

/// W23: what any host would fail on is found before anything is made on any, all of it in one error.
#[tokio::test]
async fn w23_an_init_looks_at_every_host_before_it_makes_anything() {
    let cluster = Cluster::new(3);
    for host in 0..3 {
        cluster.join(host, 0, &zone(host)).await;
    }
    cluster.configure(0).await;
    let taken = std::net::TcpListener::bind((cluster.homes[2].ip.as_str(), cluster.rpc_ports[2])).unwrap();
    std::fs::remove_file(cluster.homes[1].path.join("bin/observer")).unwrap();
    let made = cluster.door(0).post("/api/v1/ob/init", json!({})).await.data();
    let failed = cluster.door(0).finished(made["id"].as_str().unwrap()).await.data();
    assert_eq!((&failed["state"], &failed["stage"]), (&json!("FAILED"), &json!(1)), "{failed:#}");
    let text = failed.to_string();
    assert!(text.contains(&format!("{}: binary", cluster.address(1))), "{text}");
    assert!(text.contains(&format!("{}: port", cluster.address(2))), "{text}");
    for home in &cluster.homes {
        assert!(!home.path.join("store").exists(), "nothing was made in {}", home.path.display());
    }
    drop(taken);
    std::fs::copy(crate::rig::simulator(), cluster.homes[1].path.join("bin/observer")).unwrap();
    cluster
        .door(0)
        .post(&format!("/api/v1/task/dag/{}", made["id"].as_str().unwrap()), json!({ "operator": "RETRY" }))
        .await
        .data();
    cluster.door(0).finished(made["id"].as_str().unwrap()).await.expect_succeeded();
}

/// W19: BOOTSTRAP is looked for before it is sent: an answer that was lost does not lead to a second one.
#[tokio::test]
async fn w19_a_bootstrap_whose_answer_was_lost_is_found_and_not_repeated() {
    let cluster = Cluster::new(3);
    for host in 0..3 {
        cluster.join(host, 0, &zone(host)).await;
    }
    cluster.configure(0).await;
    cluster.set(0, &json!({ "faults": { "drop_answer_of": "BOOTSTRAP" } }));
    let made = cluster.door(0).post("/api/v1/ob/init", json!({})).await.data();
    let id = made["id"].as_str().unwrap();
    let failed = cluster.door(0).finished(id).await.data();
    assert_eq!(failed["state"], "FAILED", "{failed:#}");
    cluster.set(0, &json!({}));
    cluster.door(0).post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "RETRY" })).await.data();
    cluster.door(0).finished(id).await.expect_succeeded();
    assert_eq!(cluster.statements("BOOTSTRAP"), 1);
}

/// A host that does not start fails the init; rolled back, nothing is left anywhere, and it can be made anew.
#[tokio::test]
async fn an_init_that_fails_on_one_host_is_taken_back_on_all() {
    let cluster = Cluster::new(3);
    for host in 0..3 {
        cluster.join(host, 0, &zone(host)).await;
    }
    cluster.configure(0).await;
    cluster.set(2, &json!({ "faults": { "exit_before_fork": 96 } }));
    let made = cluster.door(0).post("/api/v1/ob/init", json!({})).await.data();
    let id = made["id"].as_str().unwrap();
    let failed = cluster.door(0).finished(id).await.data();
    assert_eq!(failed["state"], "FAILED", "{failed:#}");
    assert!(failed.to_string().contains(&cluster.address(2)), "{failed:#}");
    cluster.door(0).post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "ROLLBACK" })).await.data();
    let undone = cluster.door(0).finished(id).await.data();
    assert_eq!(undone["obpilot"]["state"], "rolled_back", "{undone:#}");
    assert_eq!(cluster.running(), [false; 3]);
    for home in &cluster.homes {
        for made in ["store", "etc/observer.config.bin"] {
            assert!(!home.path.join(made).exists(), "{made} of {}: {}", home.ip, told(&undone));
        }
        assert!(home.path.join("log").exists(), "logs are kept");
    }
    cluster.assert_free().await;
    cluster.set(2, &json!({}));
    cluster.done(0, "/api/v1/ob/init", json!({})).await;
    assert_eq!(cluster.running(), [true; 3]);
}

/// An agent that was away while the others were told something learns it from the cluster's own database; and the local list
/// serves while that is down.
#[tokio::test]
async fn members_are_known_with_and_without_the_database() {
    let mut cluster = Cluster::new(3);
    cluster.form().await;
    cluster.kill(2);
    cluster.kill_servers();
    let info = cluster.door(0).get("/api/v1/ob/info").await.data();
    assert_eq!(info["agent_info"].as_array().unwrap().len(), 3, "{info:#}");
    cluster.start(2);
    let info = cluster.door(2).get("/api/v1/ob/info").await.data();
    assert_eq!(info["agent_info"].as_array().unwrap().len(), 3, "{info:#}");
    cluster.start_all(2).await;
    assert_eq!(cluster.running(), [true; 3]);
}

/// W48 and more: what agents say to each other is opened by members' keys only. Passwords, tokens and the socket do not help.
#[tokio::test]
async fn w48_nobody_but_members_speaks_to_agents_as_an_agent() {
    let cluster = Cluster::new(2);
    cluster.join(0, 0, "zone1").await;
    cluster.join(1, 0, "zone2").await;
    cluster.configure(0).await;
    let ask = json!({ "ask": "facts" });
    let root = Door::sealed(&cluster.address(0), PASSWORD).await;
    assert_eq!(root.post("/rpc/v1/peer", ask.clone()).await.status, 401);
    assert_eq!(cluster.door(0).post("/rpc/v1/peer", ask.clone()).await.status, 401);
    let open = Door::open(&cluster.address(0));
    for (target, header) in [
        ("/rpc/v1/peer", "v1 127.0.0.2:2886 0123456789abcdef 1 "),
        ("/api/v1/ob/stop", "v1 127.0.0.2:2886 0123456789abcdef 1 "),
        ("/api/v1/ob/stop", "rubbish"),
        ("/api/v1/ob/stop", ""),
    ] {
        let request = open.request("POST", target, Some("x")).header("X-Obpilot-Peer", header);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{target} {header}");
    }
    let hello = json!({ "from": cluster.address(1), "to": cluster.address(0), "at": 0, "ephemeral": "", "signature": "" });
    assert_eq!(open.post("/rpc/v1/peer/hello", hello).await.status, 401);
    assert_eq!(open.post("/rpc/v1/peer/hello", json!("x")).await.status, 401);
}

/// A server that runs without the majority of its cluster lets a built-in root in without a password. That opens no agent, and
/// takes the place of no password.
#[tokio::test]
async fn w48_the_root_of_a_server_without_accounts_is_nobody() {
    let cluster = Cluster::new(3);
    cluster.form().await;
    cluster.kill_servers();
    // Alone, it listens and does not serve.
    cluster.set(0, &json!({}));
    let body = json!({ "scope": { "type": "SERVER", "target": [cluster.address(0)] } });
    let made = cluster.door(0).post("/api/v1/ob/start", body).await.data();
    let id = made["id"].as_str().unwrap();
    cluster.door(0).until(id, |dag| dag.to_string().contains("it listens")).await;
    let stranger = Door::sealed(&cluster.address(0), "").await;
    assert_eq!(stranger.post("/api/v1/ob/stop", json!({})).await.status, 401);
    assert_eq!(stranger.get("/api/v1/ob/agents").await.status, 401);
    // The right one still is the right one.
    let door = Door::sealed(&cluster.address(0), PASSWORD).await;
    assert_eq!(door.get(&format!("/api/v1/task/dag/{id}")).await.data()["id"], made["id"]);
    let others = json!({ "scope": { "type": "SERVER", "target": [cluster.address(1), cluster.address(2)] } });
    cluster.done(1, "/api/v1/ob/start", others).await;
    cluster.door(0).finished(id).await.expect_succeeded();
}

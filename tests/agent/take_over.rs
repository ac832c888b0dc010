//! Clusters that somebody else deployed come under our agents: found, taken over, refused, taken back, interrupted.

use mysql_async::prelude::Queryable as _;
use serde_json::{Value, json};

use crate::rig::{Cluster, Home, PASSWORD, told, zone};

const TAKE_OVER: &str = "/api/v1/ob/take_over";

fn body() -> Value {
    json!({ "rootPwd": PASSWORD })
}

/// Three servers of somebody's, each with an agent in its home that has joined the first.
async fn found() -> Cluster {
    let cluster = Cluster::new(3);
    cluster.deploy_by_hand(&[0, 1, 2]).await;
    for host in 0..3 {
        cluster.join(host, 0, &zone(host)).await;
    }
    cluster.until_found(&[0, 1, 2]).await;
    cluster
}

fn pids(cluster: &Cluster) -> Vec<Vec<i32>> {
    (0..cluster.homes.len()).map(|host| cluster.database_pids(host)).collect()
}

async fn identities(cluster: &Cluster) -> Vec<String> {
    let mut all = Vec::new();
    for host in 0..cluster.homes.len() {
        let info = cluster.door(host).get("/api/v1/info").await.data();
        all.push(info["identity"].as_str().unwrap().to_owned());
    }
    all
}

/// Agents in the cluster's own table, with identity, zone and port between servers.
async fn rows(home: &Home) -> Vec<(String, String, String, u16)> {
    let mut sql = home.sql(PASSWORD).await;
    let all = "SELECT ip, identity, zone, rpc_port FROM ocs.all_agent";
    let mut rows: Vec<(String, String, String, u16)> = sql.query(all).await.unwrap_or_default();
    sql.disconnect().await.unwrap();
    rows.sort();
    rows
}

async fn plan(cluster: &Cluster, host: usize) -> Value {
    cluster.door(host).post(&format!("{TAKE_OVER}?plan=true"), body()).await.data()
}

/// No server notices; afterwards every agent is a member like any other, and knows where its server really is.
#[tokio::test]
async fn a_cluster_that_somebody_else_deployed_is_taken_over_as_it_runs() {
    let cluster = found().await;
    let before = pids(&cluster);
    let length = cluster.journal_length();
    let shown = plan(&cluster, 1).await;
    assert_eq!(shown["obstacles"], json!([]), "{shown:#}");
    assert!(shown["consequences"][0].as_str().unwrap().contains("theirs (id 11)"), "{shown:#}");

    let dag = cluster.done(0, TAKE_OVER, body()).await;
    let names: Vec<_> = dag["nodes"].as_array().unwrap().iter().map(|node| node["name"].clone()).collect();
    assert_eq!(
        names,
        [
            "Check servers of cluster",
            "Synchronize agent from cluster",
            "Migrate table",
            "Migrate data",
            "Convert follower to cluster agent",
            "Convert master to cluster agent",
        ]
    );
    assert_eq!(identities(&cluster).await, ["CLUSTER AGENT"; 3]);
    assert_eq!(pids(&cluster), before, "nothing was started or stopped");
    let wanted: Vec<_> = (0..3)
        .map(|n| (cluster.homes[n].ip.clone(), "CLUSTER AGENT".to_owned(), zone(n), cluster.rpc_ports[n]))
        .collect();
    assert_eq!(rows(&cluster.homes[2]).await, wanted);
    let since = cluster.journal_since(length);
    let system = since.iter().filter(|entry| entry.to_string().contains("ALTER SYSTEM")).count();
    assert_eq!(system, 0, "the cluster itself was not changed: {since:#?}");
    cluster.assert_free().await;

    // Its servers are watched like those that we have started.
    cluster.homes[1].kill_database();
    let is_stopped = |status: &Value| status["obpilot"]["server"]["state"] == "STOPPED";
    let status = cluster.door(1).until_status(is_stopped).await;
    let last = &status["obpilot"]["server"]["lastExit"];
    assert_eq!((&last["pid"], &last["unexpected"]), (&json!(before[1][0]), &json!(true)), "{status:#}");

    // Members like any other: an operation from an agent that followed, over all of them.
    let info = cluster.door(2).get("/api/v1/ob/info").await.data();
    assert_eq!(info["obcluster_info"]["name"], "theirs", "{info:#}");
    cluster.done(2, "/api/v1/ob/stop", json!({ "scope": { "type": "GLOBAL" }, "force": true })).await;
    assert_eq!(cluster.running(), [false; 3]);
    cluster.start_all(1).await;
    assert_eq!(cluster.running(), [true; 3]);
}

/// What stands in the way is told of every host at once, and nothing is changed by asking.
#[tokio::test]
async fn a_take_over_is_refused_with_everything_that_is_missing() {
    let cluster = Cluster::new(4);
    cluster.deploy_by_hand(&[0, 1, 2]).await;
    // Host 2's agent did not come; host 4 has one and no server.
    for host in [0, 2, 3] {
        cluster.join(host, 0, "zone9").await;
    }
    cluster.until_found(&[0, 2]).await;
    let shown = plan(&cluster, 0).await;
    let obstacles = shown["obstacles"].to_string();
    for missing in [
        format!("{}: its home holds no database", cluster.address(3)),
        format!("server {} of zone zone2 has no agent", cluster.server(1)),
    ] {
        assert!(obstacles.contains(&missing), "{missing}: {obstacles}");
    }
    assert!(shown["consequences"].to_string().contains("joined for zone zone9"), "{shown:#}");
    let refused = cluster.door(0).post(TAKE_OVER, body()).await;
    assert_eq!((refused.status, refused.code().as_str()), (500, "OB.Server.Unavailable"), "{}", refused.text);

    for (sent, code) in [
        (json!({ "rootPwd": "wrong" }), "OB.Cluster.Password.Incorrect"),
        (json!({}), "Common.BindJsonFailed"),
        (json!({ "rootPwd": PASSWORD, "force": true }), "Common.BindJsonFailed"),
        (json!({ "rootPwd": PASSWORD, "planHash": "of another" }), "OB.Plan.Changed"),
    ] {
        let refused = cluster.door(0).post(TAKE_OVER, sent).await;
        assert_eq!(refused.code(), code, "{}", refused.text);
    }
    assert_eq!(identities(&cluster).await, ["MASTER", "SINGLE", "FOLLOWER", "FOLLOWER"]);
    let alone = cluster.door(1).post(TAKE_OVER, body()).await;
    assert_eq!(alone.code(), "Agent.Identify.NotSupportOperation", "{}", alone.text);
    let written = ["INSERT", "CREATE"].map(|verb| cluster.statements(&format!("\"sql\":\"{verb}")));
    assert_eq!(written, [0, 0], "nothing was written");
    cluster.assert_free().await;
}

/// An agent of OBShell, which was stopped, had the address of host 2's agent.
async fn obshells_row(cluster: &Cluster) -> (String, String, String, u16) {
    let (ip, port) = (cluster.homes[1].ip.clone(), cluster.homes[1].port);
    let mut sql = cluster.homes[0].sql(PASSWORD).await;
    for statement in [
        "CREATE DATABASE ocs READ WRITE".to_owned(),
        "CREATE TABLE ocs.all_agent (ip varchar(64) NOT NULL, port int NOT NULL, identity varchar(18) NOT NULL, version \
         varchar(32), os varchar(32), architecture varchar(32), zone varchar(128), mysql_port int, rpc_port int, home_path \
         varchar(1024), public_key text, PRIMARY KEY (ip, port))"
            .to_owned(),
        format!(
            "INSERT INTO ocs.all_agent (ip, port, identity, zone, mysql_port, rpc_port, home_path, public_key) \
             VALUES ('{ip}', {port}, 'CLUSTER AGENT', 'theirs', 4881, 4882, '/home/theirs', 'a key')"
        ),
    ] {
        sql.query_drop(statement).await.unwrap();
    }
    sql.disconnect().await.unwrap();
    (ip, "CLUSTER AGENT".to_owned(), "theirs".to_owned(), 4882)
}

/// One agent's server does not tell of its cluster, after others were told already; the task fails there, and goes back whole.
#[tokio::test]
async fn a_take_over_that_fails_is_taken_back_on_all_hosts() {
    let cluster = found().await;
    let before = pids(&cluster);
    let theirs = obshells_row(&cluster).await;
    cluster.set(
        2,
        &json!({ "faults": { "error_on": { "match": "DBA_OB_TENANTS", "code": 1146, "text": "none" } } }),
    );
    let made = cluster.door(0).post(TAKE_OVER, body()).await.data();
    let id = made["id"].as_str().unwrap().to_owned();
    let failed = cluster.door(0).until(&id, |dag| dag["obpilot"]["state"] == "failed").await.data();
    assert!(told(&failed).contains("reading the tenants was refused"), "{}", told(&failed));
    assert_eq!(identities(&cluster).await, ["MASTER", "CLUSTER AGENT", "FOLLOWER"]);
    cluster.assert_free().await;
    let second = cluster.door(0).post(TAKE_OVER, body()).await;
    assert!(second.code() == "Common.BadRequest" && second.message().contains(&id), "{}", second.text);
    let (ip, port) = (&cluster.homes[2].ip, cluster.homes[2].port);
    let removed = cluster.door(0).post("/api/v1/agent/remove", json!({ "ip": ip, "port": port })).await;
    assert!(removed.code() == "Common.BadRequest" && removed.message().contains(&id), "{}", removed.text);
    cluster.set(2, &json!({}));
    cluster.door(0).operate(&id, "ROLLBACK").await.data();
    let is_over = |dag: &Value| matches!(dag["obpilot"]["state"].as_str(), Some("rolled_back" | "failed"));
    let dag = cluster.door(0).until(&id, is_over).await.data();
    assert_eq!(dag["obpilot"]["state"], "rolled_back", "{}", told(&dag));
    assert_eq!(identities(&cluster).await, ["MASTER", "FOLLOWER", "FOLLOWER"]);
    assert_eq!(rows(&cluster.homes[0]).await, [theirs], "of somebody else's agent, as before");
    assert_eq!(pids(&cluster), before, "nothing was started or stopped");
    cluster.assert_free().await;

    // From a follower, whose master's task is followed line by line.
    let file = cluster.homes[1].path.join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let file = file.to_str().unwrap();
    let done = cluster.homes[1].cli(&["cluster", "take-over", "--rootpassword-file", file, "--yes"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    let lines = (0..3).map(|host| {
        format!("{}: server {}, zone {}\n", cluster.address(host), cluster.server(host), zone(host))
    });
    for line in lines.chain(["3 agents are in ocs.all_agent\n".to_owned()]) {
        assert_eq!(said.matches(&line).count(), 1, "{line}: {said}");
    }
    assert_eq!(identities(&cluster).await, ["CLUSTER AGENT"; 3]);
    assert_eq!(pids(&cluster), before);
}

/// Agents whose stores were lost come back to their own cluster; a living agent that has it already is not pushed out.
#[tokio::test]
async fn a_lost_store_is_a_cluster_to_be_taken_over_and_a_living_agent_is_an_obstacle() {
    let mut cluster = Cluster::new(2);
    cluster.form().await;
    let before = pids(&cluster);
    cluster.lose_store(0);
    cluster.join(0, 0, "zone1").await;
    cluster.until_found(&[0]).await;
    let obstacles = plan(&cluster, 0).await["obstacles"].to_string();
    assert!(
        obstacles.contains(&format!("{} manages this cluster already", cluster.address(1))),
        "{obstacles}"
    );
    let refused = cluster.door(0).post(TAKE_OVER, body()).await;
    assert_eq!(refused.code(), "Agent.NotExist", "{}", refused.text);

    cluster.lose_store(1);
    // A row of an agent that is nowhere any more.
    let mut sql = cluster.homes[0].sql(PASSWORD).await;
    let stale = "INSERT INTO ocs.all_agent (ip, port, identity, zone, mysql_port, rpc_port) \
                 VALUES ('127.0.0.77', 1, 'CLUSTER AGENT', 'zone1', 2881, 2882)";
    sql.query_drop(stale).await.unwrap();
    sql.disconnect().await.unwrap();
    cluster.join(1, 0, "zone2").await;
    cluster.until_found(&[1]).await;
    let shown = plan(&cluster, 0).await;
    assert!(shown["consequences"].to_string().contains("127.0.0.77:1 does not answer"), "{shown:#}");
    cluster.done(0, TAKE_OVER, body()).await;
    assert_eq!(pids(&cluster), before);
    let ips: Vec<_> = rows(&cluster.homes[1]).await.into_iter().map(|row| row.0).collect();
    assert_eq!(ips, ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(identities(&cluster).await, ["CLUSTER AGENT"; 2]);
}

/// Who may claim an agent may not guess the password of its database without an end.
#[tokio::test]
async fn guesses_at_a_take_over_are_counted() {
    let cluster = Cluster::configured(1, "[auth]\nfailures_per_minute_max = 3\n");
    cluster.deploy_by_hand(&[0]).await;
    cluster.join(0, 0, "zone1").await;
    cluster.until_found(&[0]).await;
    let stranger = cluster.homes[0].tcp("").await;
    for _ in 0..3 {
        let guess = stranger.post(TAKE_OVER, json!({ "rootPwd": "guess" })).await;
        assert_eq!(guess.code(), "OB.Cluster.Password.Incorrect", "{}", guess.text);
    }
    let more = stranger.post(TAKE_OVER, body()).await;
    assert_eq!((more.status, more.code().as_str()), (429, "Request.TooMany"), "{}", more.text);
    // Whoever is on the host is nobody's guess.
    cluster.done(0, TAKE_OVER, body()).await;
}

/// Nor by a follower, which hands the guess on; and not by guessing much at the same time.
#[tokio::test]
async fn guesses_at_a_take_over_are_counted_where_they_come_in() {
    let cluster = Cluster::configured(2, "[auth]\nfailures_per_minute_max = 3\n");
    cluster.deploy_by_hand(&[0, 1]).await;
    for host in 0..2 {
        cluster.join(host, 0, &zone(host)).await;
    }
    cluster.until_found(&[0, 1]).await;
    for host in 0..2 {
        let stranger = cluster.homes[host].tcp("").await;
        let wrong = || json!({ "rootPwd": "guess" });
        let guesses = (0..12).map(|n| {
            let target = if n % 2 == 0 { TAKE_OVER.to_owned() } else { format!("{TAKE_OVER}?plan=true") };
            let stranger = &stranger;
            async move { stranger.post(&target, wrong()).await.code() }
        });
        let told = futures_util::future::join_all(guesses).await;
        let learned = told.iter().filter(|code| *code == "OB.Cluster.Password.Incorrect").count();
        assert_eq!(learned, 3, "host {host}: {told:?}\n{}", cluster.agent(host).stderr());
        let more = stranger.post(TAKE_OVER, body()).await;
        assert_eq!((more.status, more.code().as_str()), (429, "Request.TooMany"), "{}", more.text);
    }
    cluster.done(0, TAKE_OVER, body()).await;
}

/// What a take-over goes by stays as it was until it goes on, or back: nobody comes, nothing is set or made.
#[tokio::test]
async fn a_take_over_that_failed_goes_on_with_whom_it_began() {
    let cluster = Cluster::new(4);
    cluster.deploy_by_hand(&[0, 1, 2]).await;
    for host in 0..3 {
        cluster.join(host, 0, &zone(host)).await;
    }
    cluster.door(0).post("/api/v1/agent/password", json!({ "password": "agent" })).await.data();
    cluster.until_found(&[0, 1, 2]).await;
    cluster.set(
        2,
        &json!({ "faults": { "error_on": { "match": "DBA_OB_TENANTS", "code": 1146, "text": "none" } } }),
    );
    let made = cluster.door(0).post(TAKE_OVER, body()).await.data();
    let id = made["id"].as_str().unwrap().to_owned();
    cluster.door(0).until(&id, |dag| dag["obpilot"]["state"] == "failed").await.data();

    let master = &cluster.homes[0];
    let join = json!({ "agentInfo": { "ip": master.ip, "port": master.port }, "zoneName": "zone3",
                       "masterPassword": "agent" });
    let cluster_settings = json!({ "clusterName": "other", "clusterId": 7, "rootPwd": "other" });
    let scope = json!({ "type": "SERVER", "target": [cluster.address(1)] });
    let settings = json!({ "observerConfig": cluster.ports(3), "scope": scope });
    for (host, target, sent) in [
        (3, "/api/v1/agent/join", join),
        (0, "/api/v1/obcluster/config", cluster_settings),
        (0, "/api/v1/observer/config", settings),
        (0, "/api/v1/ob/init", json!({})),
    ] {
        let refused = cluster.door(host).post(target, sent).await;
        assert!(refused.message().contains(&id), "{target}: {}", refused.text);
    }
    cluster.set(2, &json!({}));
    cluster.door(0).operate(&id, "RETRY").await.data();
    cluster.door(0).finished(&id).await.expect_succeeded();
    assert_eq!(identities(&cluster).await, ["CLUSTER AGENT", "CLUSTER AGENT", "CLUSTER AGENT", "SINGLE"]);
}

/// The single-node engine, started by somebody else, in a home whose agent knows nothing.
#[tokio::test]
async fn a_database_of_one_server_is_taken_over_by_the_command_line() {
    let mut home = Home::new();
    let mut agent = home.start();
    home.initialise(&agent).await;
    let pid = home.database();
    agent.terminate();
    std::fs::remove_dir_all(home.path.join(".obpilot")).unwrap();
    home.configure("");
    let agent = home.start();
    home.join(&agent.door).await;
    agent.door.until_status(|status| !status["obpilot"]["server"]["pid"].is_null()).await;
    let password = home.path.join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let file = password.to_str().unwrap();
    let planned = home.cli(&["cluster", "take-over", "--rootpassword-file", file, "--plan"]);
    let text = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert!(planned.status.success() && text.contains("Take over"), "{text}");
    let done = home.cli(&["cluster", "take-over", "--rootpassword-file", file, "--yes"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let info = agent.door.get("/api/v1/info").await.data();
    assert_eq!(info["identity"], "CLUSTER AGENT");
    assert_eq!(home.database(), pid, "it goes on as it was");
    let again = home.cli(&["cluster", "take-over", "--rootpassword-file", file, "--yes"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && said.contains("initialised already"), "{said}");
}

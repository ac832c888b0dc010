//! What must be true of a cluster after a flow, killed or not.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::HOSTS;
use super::flows::{COORDINATOR, Flow};
use crate::checks::{made_of, tasks, tells_every_step};
use crate::rig::{Cluster, PASSWORD, told};

/// What was there before.
pub(super) struct Before {
    tasks: Vec<String>,
    journal: u64,
}

impl Before {
    pub(super) async fn of(cluster: &Cluster) -> Self {
        Self { tasks: tasks(cluster.door(COORDINATOR)).await, journal: cluster.journal_length() }
    }
}

pub(super) async fn everything(cluster: &Cluster, flow: Flow, dag: &Value, before: &Before, is_anew: bool) {
    assert_eq!(dag["state"], "SUCCEED", "{}", told(dag));
    tells_every_step(dag);
    nothing_is_held(cluster).await;
    one_task_and_one_record(cluster, dag, before, is_anew, flow.members()).await;
    servers(cluster, flow, before);
    if matches!(flow, Flow::Init | Flow::ScaleOut | Flow::TakeOver) {
        one_cluster(cluster).await;
    }
    if flow == Flow::ScaleIn {
        one_less(cluster).await;
    }
    if flow.is_restart() {
        one_zone_at_a_time(cluster, before);
        everything_serves(cluster);
    }
}

/// By what the stand-ins have written down, each in a zone of its own: one goes down when every other serves again.
fn one_zone_at_a_time(cluster: &Cluster, before: &Before) {
    let mut down: Vec<String> = Vec::new();
    let journal = cluster.journal_since(before.journal);
    for (server, phase) in journal.iter().filter_map(|entry| told_of(entry, "phase of ")) {
        match phase {
            "serving" => down.retain(|other| other != server),
            "grace" | "stopping" if !down.iter().any(|other| other == server) => down.push(server.to_owned()),
            _ => {}
        }
        assert!(down.len() < 2, "{} are down at a time: {journal:#?}", down.join(" and "));
    }
    assert!(down.is_empty(), "{} does not serve: {journal:#?}", down.join(", "));
}

/// Every server and every zone is in service, as the cluster has told last.
fn everything_serves(cluster: &Cluster) {
    let journal = cluster.journal();
    for (kind, wanted) in [("server ", "ACTIVE serving"), ("zone ", "ACTIVE")] {
        let last: HashMap<_, _> = journal.iter().filter_map(|entry| told_of(entry, kind)).collect();
        assert_eq!(last.len(), HOSTS, "{last:?}");
        assert!(last.values().all(|is| *is == wanted), "{last:?}");
    }
}

/// What an entry of the journal tells of one object of a kind.
fn told_of<'a>(entry: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let is_state = entry["kind"] == "state";
    Some((entry["what"].as_str().filter(|_| is_state)?.strip_prefix(kind)?, entry["is"].as_str()?))
}

/// The last host is nobody's, and the others know it.
async fn one_less(cluster: &Cluster) {
    for host in 0..HOSTS {
        let info = cluster.door(host).get("/api/v1/info").await.data();
        let wanted = if host + 1 == HOSTS { "SINGLE" } else { "CLUSTER AGENT" };
        assert_eq!(info["identity"], wanted, "host {host}");
    }
    for host in 0..HOSTS - 1 {
        let known = cluster.door(host).get("/api/v1/ob/info").await.data()["agent_info"].clone();
        assert_eq!(known.as_array().map(Vec::len), Some(HOSTS - 1), "as host {host} tells it: {known:#}");
    }
}

/// No lock, and nothing that goes on, at any agent.
async fn nothing_is_held(cluster: &Cluster) {
    cluster.assert_free().await;
    for host in 0..HOSTS {
        let status = cluster.agent(host).status().await;
        assert!(status["obpilot"]["heldBy"].is_null(), "{status:#}");
        let unfinished = cluster.door(host).get("/api/v1/task/dag/unfinish").await.data();
        let unfinished = unfinished["contents"].as_array().map_or(0, Vec::len);
        assert_eq!(unfinished, 0, "something is left unfinished at host {host}: {status:#}");
    }
}

/// The request and its repetition are one task, which everybody shows alike.
async fn one_task_and_one_record(
    cluster: &Cluster,
    dag: &Value,
    before: &Before,
    is_anew: bool,
    members: usize,
) {
    let door = cluster.door(COORDINATOR);
    let made = tasks(door).await.into_iter().filter(|id| !before.tasks.contains(id)).collect::<Vec<_>>();
    let named = made_of(door, &made, &dag["name"]).await;
    assert_eq!(named, 1 + usize::from(is_anew), "tasks named {} among {made:?}", dag["name"]);
    let target = format!("/api/v1/task/dag/{}?show_details=true", dag["id"].as_str().unwrap());
    let shown = door.get(&target).await.data();
    for host in 1..members {
        assert_eq!(cluster.door(host).get(&target).await.data(), shown, "as host {host} shows it");
    }
}

/// The servers that should run do, and each was started as often as it must be: by nobody's mistake twice.
fn servers(cluster: &Cluster, flow: Flow, before: &Before) {
    assert_eq!(cluster.running(), flow.running(), "servers that run");
    let journal = cluster.journal_since(before.journal);
    for (host, home) in cluster.homes.iter().enumerate() {
        let started =
            journal.iter().filter(|entry| entry["kind"] == "start" && entry["home"] == json!(home.path));
        let pids: Vec<_> = started.map(|entry| entry["pid"].clone()).collect();
        assert_eq!(pids.len(), flow.starts(host), "starts of the server of host {host}: {pids:?}");
        if let Some(pid) = pids.last() {
            assert_eq!(*pid, json!(home.database()), "it is the one that was started");
        }
    }
}

/// Bootstrapped once; every agent belongs to it and knows its password.
async fn one_cluster(cluster: &Cluster) {
    let journal = cluster.journal();
    let bootstraps = journal.iter().filter(|entry| {
        let is_bootstrap = entry["sql"].as_str().is_some_and(|sql| sql.contains("BOOTSTRAP"));
        entry["kind"] == "statement" && is_bootstrap && entry["error"].is_null()
    });
    assert_eq!(bootstraps.count(), 1, "it is bootstrapped once");
    for (host, home) in cluster.homes.iter().enumerate() {
        let info = cluster.door(host).get("/api/v1/info").await.data();
        assert_eq!(info["identity"], "CLUSTER AGENT", "host {host}");
        let answer = home.tcp(PASSWORD).await.get("/api/v1/ob/info").await;
        assert_eq!(answer.status, 200, "the root password at host {host}: {}", answer.text);
        let data = answer.data();
        let agents = data["agent_info"].as_array().unwrap();
        let joined = agents.iter().filter(|agent| agent["identity"] == "CLUSTER AGENT").count();
        let zones = data["obcluster_info"]["topology"].as_object().unwrap();
        let active = zones.values().filter(|servers| servers[0]["status"] == "ACTIVE").count();
        assert_eq!((joined, active), (HOSTS, HOSTS), "as host {host} tells it: {data:#}");
    }
}

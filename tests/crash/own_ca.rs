//! Two hosts with a CA of their own: one leads, one follows. Either is killed at every commit it makes on the way, among them
//! those between the making of the CA, the handing out of a certificate, and its taking up.
//!
//! In the end both go by one CA, and by the one that the master had from the first.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::checks::has_ended;
use crate::rig::{Agent, Cluster, LIMIT, zone};
use crate::trial::{Kill, ask_once};

const MUTUAL: &str = "[tls]\nmode = \"mutual\"\nown_ca = true\n";

const MASTER: usize = 0;
const FOLLOWER: usize = 1;

#[test]
fn joins_under_an_own_ca_whose_master_dies() {
    run_matrix(MASTER);
}

#[test]
fn joins_under_an_own_ca_whose_follower_dies() {
    run_matrix(FOLLOWER);
}

/// Every commit; what is done to the world besides (messages, files) lies between two of them.
fn run_matrix(victim: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut kills = runtime.block_on(trial(victim, None));
    kills.retain(|kill| kill.point() == "after-commit");
    assert!(kills.len() > 3, "{kills:?}: the feature is off, or nothing happens");
    for kill in &kills {
        println!("host {victim} dies at {kill}");
        runtime.block_on(trial(victim, Some(kill)));
    }
    println!("host {victim}: {} kills", kills.len());
}

fn root(cluster: &Cluster, host: usize) -> String {
    let output = cluster.homes[host].cli(&["security", "ca"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Both join, whoever dies meanwhile. Returns the points that the victim has reached.
async fn trial(victim: usize, kill: Option<&Kill>) -> Vec<Kill> {
    let mut cluster = Cluster::at_rest(2, MUTUAL, |host| format!("127.0.0.{}", host + 1));
    let beside = |name: &str| cluster.homes[victim].path.with_extension(name);
    let (armed, trace) = (beside("armed"), beside("trace"));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let mut env = vec![
        ("OBPILOT_CRASH_ARM".to_owned(), text(&armed)),
        ("OBPILOT_CRASH_TRACE".to_owned(), text(&trace)),
    ];
    env.extend(kill.map(|kill| ("OBPILOT_CRASH".to_owned(), kill.to_string())));
    cluster.homes[victim].env = env;
    (MASTER..=FOLLOWER).for_each(|host| cluster.start(host));
    cluster.homes[victim].env.clear();
    let first = root(&cluster, MASTER);
    std::fs::write(&armed, "").unwrap();
    let joining = async {
        joined(&mut cluster, MASTER, victim).await;
        joined(&mut cluster, FOLLOWER, victim).await;
    };
    tokio::time::timeout(LIMIT, joining).await.expect("both have joined");
    // What is done in the background comes to its end too: a follower is spoken to through its certificate.
    let through = async {
        while !is_answered(&cluster, FOLLOWER, "/api/v1/ob/info").await {
            revive(&mut cluster, victim);
        }
        std::fs::remove_file(&armed).unwrap();
        while !is_answered(&cluster, victim, "/api/v1/ob/info").await {
            revive(&mut cluster, victim);
        }
    };
    tokio::time::timeout(LIMIT, through).await.expect("it speaks to its master");
    for host in [MASTER, FOLLOWER] {
        assert_eq!(root(&cluster, host), first, "host {host}, {kill:?}");
        let check = cluster.homes[host].cli(&["store", "check"]);
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    }
    Kill::all_of(&std::fs::read_to_string(&trace).unwrap_or_default())
}

/// A new life for who has died, of the kill and of nothing else.
fn revive(cluster: &mut Cluster, victim: usize) {
    if cluster.agents[victim].as_mut().is_some_and(Agent::is_dead) {
        let ended = cluster.agents[victim].as_mut().unwrap().wait();
        assert_eq!(ended.signal, Some(9), "it may die of the kill only: {}", ended.stderr);
        cluster.start(victim);
    }
}

/// Asks until it has joined: a lost answer is asked for again, a join that was taken back is asked for anew.
async fn joined(cluster: &mut Cluster, host: usize, victim: usize) {
    for round in 0.. {
        let home = &cluster.homes[MASTER];
        let body = json!({ "agentInfo": { "ip": home.ip, "port": home.port }, "zoneName": zone(host) });
        let key = format!("join-{host}-{round}");
        let state = loop {
            revive(cluster, victim);
            let asked = ask_once(cluster.door(host), "/api/v1/agent/join", &body, &key).await;
            let Some(id) = asked.and_then(|answer| Some(answer.json()["data"]["id"].as_str()?.to_owned()))
            else {
                if is_joined(cluster, host).await {
                    return;
                }
                continue;
            };
            let state = Mutex::default();
            let ended = |dag: &Value| {
                *state.lock().unwrap() = dag["state"].clone();
                has_ended(dag)
            };
            let is_over = tokio::select! {
                is_over = cluster.door(host).until_gone_or(&id, ended) => is_over,
                () = cluster.agent(victim).until_dead() => false,
            };
            if is_over {
                break state.into_inner().unwrap();
            }
            cluster.agent(victim).until_dead().await;
        };
        if state == "SUCCEED" {
            return;
        }
    }
}

async fn is_answered(cluster: &Cluster, host: usize, target: &str) -> bool {
    let asked = cluster.door(host).request("GET", target, None).send().await;
    asked.is_ok_and(|answer| answer.status() == 200)
}

async fn is_joined(cluster: &Cluster, host: usize) -> bool {
    let info = cluster.door(host).request("GET", "/api/v1/info", None).send().await;
    let Ok(info) = info else { return false };
    let wanted = if host == MASTER { "MASTER" } else { "FOLLOWER" };
    info.text().await.is_ok_and(|text| text.contains(&format!("\"identity\":\"{wanted}\"")))
}

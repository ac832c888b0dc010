//! The nine operations of the v2 API on real agents: graphs, shapes, statuses, and what becomes of servers.

use serde_json::{Value, json};

use crate::graphs::{Layout, compare, expand, fixture, misfits};
use crate::rig::{Cluster, Door, told};

const CLUSTER: &str = "/api/v2/ob/clusters/7";

async fn formed(hosts: usize) -> Cluster {
    let cluster = Cluster::new(hosts);
    cluster.form().await;
    cluster
}

/// Number of a host's server.
async fn number(cluster: &Cluster, host: usize) -> i64 {
    let servers = cluster.door(host).get(&format!("{CLUSTER}/servers")).await.data();
    let own = cluster.server(host);
    let is_it = |server: &&Value| format!("{}:{}", server["ip"].as_str().unwrap(), server["port"]) == own;
    servers["contents"].as_array().unwrap().iter().find(is_it).unwrap()["id"].as_i64().unwrap()
}

/// Asks for an operation, holds the answer and the ended task against the documented graph; returns the task as it ended.
async fn ordered(door: &Door, operation: &str, path: &str, layout: Layout<'_>) -> Value {
    let documented = fixture(operation);
    let chain = expand(&documented, layout);
    let answer = door.send("POST", &format!("{CLUSTER}{path}"), None).await;
    let made = answer.data();
    assert_eq!(made["name"], documented["taskName"], "{made:#}");
    let list = documented["taskArray"].as_str().unwrap();
    compare(&chain, &made[list]).unwrap_or_else(|e| panic!("{operation}: {e}"));
    if let Some(sample) = fixture("samples").get(operation) {
        let wrong = misfits(sample, &answer.json(), operation);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    let dag = made["obpilot"]["dag"].as_str().unwrap();
    let in_v1 = door.finished(dag).await.data();
    assert_eq!(in_v1["taskInstanceId"], made["id"], "{in_v1:#}");
    let ended = door.get(&format!("/api/v2/tasks/instances/{}", made["id"])).await.data();
    assert_eq!(ended["status"], "SUCCESSFUL", "{}", told(&in_v1));
    compare(&chain, &ended["subtasks"]).unwrap_or_else(|e| panic!("{operation}: {e}"));
    let steps = ended["subtasks"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["status"] == "SUCCESSFUL"), "{}", told(&in_v1));
    ended
}

async fn statuses(door: &Door) -> (String, Vec<String>, Vec<String>) {
    let one = door.get(CLUSTER).await.data();
    let word = |value: &Value| value["status"].as_str().unwrap().to_owned();
    let zones = one["zones"].as_array().unwrap();
    let servers = zones.iter().flat_map(|zone| zone["servers"].as_array().unwrap());
    (word(&one), zones.iter().map(word).collect(), servers.map(word).collect())
}

fn all(word: &str, count: usize) -> (String, Vec<String>, Vec<String>) {
    (word.to_owned(), vec![word.to_owned(); count], vec![word.to_owned(); count])
}

const ONE: Layout<'static> = &[("zone1", 1)];

/// One zone with one server: every graph as documented, step for step.
#[tokio::test]
async fn one_server_is_restarted_stopped_and_started_by_the_documented_graphs() {
    let cluster = formed(1).await;
    let door = cluster.door(0);
    let id = number(&cluster, 0).await;
    assert_eq!(statuses(door).await, all("RUNNING", 1));
    let before = cluster.database_pids(0);
    ordered(door, "restart_server", &format!("/servers/{id}/restart"), ONE).await;
    assert_ne!(cluster.database_pids(0), before);
    ordered(door, "restart_zone", "/zones/zone1/restart", ONE).await;
    ordered(door, "restart_cluster", "/restart", ONE).await;
    let only = door.send("POST", &format!("{CLUSTER}/servers/{id}/stop"), None).await;
    assert_eq!((only.status, &only.json()["error"]["code"]), (400, &json!("OBE19020")), "{}", only.text);
    ordered(door, "stop_cluster", "/stop", ONE).await;
    assert_eq!(cluster.running(), [false]);
    // Ids hold while the database is down.
    assert_eq!(number(&cluster, 0).await, id);
    assert_eq!(statuses(door).await, all("STOPPED", 1));
    ordered(door, "start_server", &format!("/servers/{id}/start"), ONE).await;
    ordered(door, "stop_cluster", "/stop", ONE).await;
    ordered(door, "start_zone", "/zones/zone1/start", ONE).await;
    ordered(door, "stop_cluster", "/stop", ONE).await;
    ordered(door, "start_cluster", "/start", ONE).await;
    assert_eq!(statuses(door).await, all("RUNNING", 1));
    cluster.assert_free().await;
}

/// Three zones: any agent is asked, one server and one zone come and go, and the roll has the block of each zone.
#[tokio::test]
async fn three_zones_are_operated_from_any_agent_by_the_documented_graphs() {
    let cluster = formed(3).await;
    let id = number(&cluster, 2).await;
    ordered(cluster.door(0), "stop_server", &format!("/servers/{id}/stop"), &[("zone3", 1)]).await;
    assert_eq!(cluster.running(), [true, true, false]);
    ordered(cluster.door(1), "start_server", &format!("/servers/{id}/start"), &[("zone3", 1)]).await;
    ordered(cluster.door(2), "restart_server", &format!("/servers/{id}/restart"), &[("zone3", 1)]).await;
    ordered(cluster.door(0), "stop_zone", "/zones/zone2/stop", &[("zone2", 1)]).await;
    assert_eq!(cluster.running(), [true, false, true]);
    ordered(cluster.door(1), "start_zone", "/zones/zone2/start", &[("zone2", 1)]).await;
    ordered(cluster.door(2), "restart_zone", "/zones/zone2/restart", &[("zone2", 1)]).await;
    let zones: Layout<'_> = &[("zone1", 1), ("zone2", 1), ("zone3", 1)];
    ordered(cluster.door(1), "restart_cluster", "/restart", zones).await;
    assert_eq!(statuses(cluster.door(0)).await, all("RUNNING", 3));
    cluster.assert_free().await;
}

/// Zones of two servers: a split step has a copy for each, at most so many at a time as was asked for.
#[tokio::test]
async fn a_zone_of_two_servers_has_a_step_for_each() {
    let cluster = formed(5).await;
    let zones: Layout<'_> = &[("zone2", 2), ("zone3", 1), ("zone1", 2)];
    let ended = ordered(cluster.door(4), "restart_cluster", "/restart?parallel=1", zones).await;
    let stops =
        ended["subtasks"].as_array().unwrap().iter().filter(|step| step["name"] == "Stop observer process");
    let moment = |step: &Value, name: &str| step[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let mut stops: Vec<_> =
        stops.map(|step| (moment(step, "startTime"), moment(step, "finishTime"))).collect();
    stops.sort();
    assert_eq!(stops.len(), 5);
    assert!(stops.windows(2).all(|pair| pair[0].1 <= pair[1].0), "one at a time: {stops:?}");
    ordered(cluster.door(3), "stop_zone", "/zones/zone1/stop", &[("zone1", 2)]).await;
    ordered(cluster.door(0), "start_zone", "/zones/zone1/start", &[("zone1", 2)]).await;
    assert_eq!(cluster.running(), [true; 5]);
}

/// A step that fails can be read, is taken back through another agent, and its task ends with every step as it began.
#[tokio::test]
async fn a_failed_restart_is_read_and_rolled_back() {
    let cluster = formed(3).await;
    let id = number(&cluster, 2).await;
    cluster.set(2, &json!({ "faults": { "exit_before_fork": 96 } }));
    let made = cluster.door(0).send("POST", &format!("{CLUSTER}/servers/{id}/restart"), None).await.data();
    let (task, dag) = (made["id"].clone(), made["obpilot"]["dag"].as_str().unwrap());
    let path = format!("/api/v2/tasks/instances/{task}");
    cluster.door(0).finished(dag).await;
    let failed = cluster.door(1).get(&path).await.data();
    assert_eq!((&failed["status"], &failed["operation"]), (&json!("FAILED"), &json!("EXECUTE")));
    let steps = failed["subtasks"].as_array().unwrap();
    let step = steps.iter().find(|step| step["status"] == "FAILED").unwrap();
    assert_eq!(step["name"], "Start observer process");
    let log = cluster.door(2).get(&format!("{path}/subtasks/{}/log", step["id"])).await.data();
    let log = log["log"].as_str().unwrap();
    assert!(log.contains("############{EXECUTE}") && log.contains("returned 96"), "{log}");
    // What is there is said: nothing is under way any more.
    let (cluster_word, zones, _) = statuses(cluster.door(1)).await;
    assert_eq!((cluster_word.as_str(), zones[0].as_str()), ("RUNNING", "RUNNING"));
    cluster.set(2, &json!({}));
    let rolling = cluster.door(1).send("POST", &format!("{path}/rollback"), None).await.data();
    assert_eq!(rolling["operation"], "ROLLBACK");
    let is_back = |dag: &Value| dag["obpilot"]["state"] == "rolled_back";
    cluster.door(0).until(dag, is_back).await;
    let back = cluster.door(2).get(&path).await.data();
    assert_eq!(back["status"], "SUCCESSFUL");
    assert!(back["subtasks"].as_array().unwrap().iter().all(|step| step["status"] == "PENDING"), "{back:#}");
    assert_eq!(statuses(cluster.door(0)).await, all("RUNNING", 3));
    cluster.assert_free().await;
}

//! Tasks, clusters, zones and servers by the v2 API: the same from every agent, under one set of numbers.

use serde_json::{Value, json};

use crate::rig::{Answer, Cluster, Door};

const CLUSTERS: &str = "/api/v2/ob/clusters";
const TASKS: &str = "/api/v2/tasks/instances";

async fn formed(hosts: usize) -> Cluster {
    let cluster = Cluster::new(hosts);
    cluster.form().await;
    cluster
}

fn contents(data: &Value) -> Vec<Value> {
    data["contents"].as_array().unwrap_or_else(|| panic!("{data:#}")).clone()
}

async fn refused(door: &Door, method: &str, target: &str, status: u16, code: &str) -> Answer {
    let answer = door.send(method, target, None).await;
    let json = answer.json();
    assert_eq!(
        (answer.status, json["error"]["code"].as_str()),
        (status, Some(code)),
        "{method} {target}: {}",
        answer.text
    );
    assert!(
        json["error"]["message"].as_str().unwrap().len() > 8 && json.get("data").is_none(),
        "{}",
        answer.text
    );
    answer
}

/// All tasks, without what a moment changes.
async fn tasks(door: &Door, query: &str) -> Vec<Value> {
    contents(&door.get(&format!("{TASKS}?size=2000{query}")).await.data())
}

/// Of a server, by where it is.
fn id_of(servers: &[Value], address: &str) -> i64 {
    let is_it = |server: &&Value| format!("{}:{}", server["ip"].as_str().unwrap(), server["port"]) == address;
    servers.iter().find(is_it).unwrap()["id"].as_i64().unwrap()
}

#[tokio::test]
async fn every_agent_of_three_shows_the_same_cluster() {
    let cluster = formed(3).await;
    let mut seen = Vec::new();
    for host in 0..3 {
        let door = cluster.door(host);
        let page = door.get(CLUSTERS).await.data();
        assert_eq!(page["page"], json!({ "number": 1, "size": 10, "totalElements": 1, "totalPages": 1 }));
        let one = door.get(&format!("{CLUSTERS}/7")).await.data();
        assert_eq!((&one["id"], &one["obClusterId"], &one["name"]), (&json!(7), &json!(7), &json!("pilot")));
        assert_eq!((&one["type"], &one["serverCount"]), (&json!("PRIMARY"), &json!(3)), "{one:#}");
        assert!(one["status"].is_string() && one["fullVersion"].is_string(), "{one:#}");
        assert!(!one["rootServers"].as_array().unwrap().is_empty(), "{one:#}");
        let zones = contents(&door.get(&format!("{CLUSTERS}/7/zones")).await.data());
        let names: Vec<_> = zones.iter().map(|zone| zone["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, ["zone1", "zone2", "zone3"]);
        assert!(
            zones.iter().all(|zone| zone["innerStatus"] == "ACTIVE" && zone["clusterId"] == 7),
            "{zones:#?}"
        );
        let servers = contents(&door.get(&format!("{CLUSTERS}/7/servers")).await.data());
        let mut ids: Vec<_> = servers.iter().map(|server| server["id"].as_i64().unwrap()).collect();
        seen.push((0..3).map(|at| id_of(&servers, &cluster.server(at))).collect::<Vec<_>>());
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == 3 && ids[0] >= 1, "{servers:#?}");
        for server in &servers {
            assert_eq!(server["hostId"], server["id"]);
            assert_eq!(server["withRootserver"], server["withRootServer"]);
            assert_eq!(server["stopTime"], "1970-01-01T00:00:00Z", "{server:#}");
        }
        for target in
            [format!("{CLUSTERS}/7/zones/zone2/servers"), "/api/v2/clusters/7/zones/zone2/servers".to_owned()]
        {
            let of_zone = contents(&door.get(&target).await.data());
            assert_eq!(of_zone.len(), 1, "{of_zone:#?}");
            assert_eq!(of_zone[0]["zoneName"], "zone2");
        }
        assert!(
            contents(&door.get(&format!("{CLUSTERS}/7/servers?regionName=moon")).await.data()).is_empty()
        );
        assert!(contents(&door.get(&format!("{CLUSTERS}?name=nobody")).await.data()).is_empty());
        assert_eq!(contents(&door.get(&format!("{CLUSTERS}?name=PIL&sort=name,desc")).await.data()).len(), 1);
    }
    assert!(seen.iter().all(|ids| *ids == seen[0]), "{seen:?}");

    let door = cluster.door(1);
    for (method, target, status, code) in [
        ("GET", format!("{CLUSTERS}/8"), 404, "OBE11001"),
        ("GET", format!("{CLUSTERS}/8/zones"), 404, "OBE11001"),
        ("GET", format!("{CLUSTERS}/x"), 400, "COM10001"),
        ("GET", format!("{CLUSTERS}/7/zones/moon/servers"), 404, "OBE18002"),
        ("GET", format!("{CLUSTERS}?size=0"), 400, "COM10001"),
        ("GET", format!("{CLUSTERS}?sort=age"), 400, "COM10011"),
        ("GET", format!("{CLUSTERS}?status=BROKEN"), 400, "COM10001"),
        ("POST", format!("{CLUSTERS}/8/restart"), 404, "OBE11001"),
        ("POST", format!("{CLUSTERS}/7/zones/moon/stop"), 404, "OBE18002"),
        ("POST", format!("{CLUSTERS}/7/servers/99/start"), 404, "OBE19001"),
        ("POST", format!("{CLUSTERS}/7/servers/x/start"), 400, "COM10001"),
        ("POST", format!("{CLUSTERS}/7/restart?zoneNames=moon"), 404, "OBE18002"),
        ("POST", format!("{CLUSTERS}/7/stop?force=perhaps"), 400, "COM10001"),
        ("POST", format!("{CLUSTERS}/7/stop?force=true&force=False"), 400, "COM10001"),
    ] {
        refused(door, method, &target, status, code).await;
    }
    let both = door.post(&format!("{CLUSTERS}/7/restart?force=False"), json!({ "force": true })).await;
    assert_eq!((both.status, &both.json()["error"]["code"]), (400, &json!("COM10001")), "{}", both.text);
    assert_eq!(cluster.running(), [true; 3]);
}

#[tokio::test]
async fn tasks_of_all_agents_are_listed_by_each_and_looked_at_through_any() {
    let mut cluster = formed(3).await;
    let global = |how: &str| json!({ "scope": { "type": "GLOBAL" }, how: true });
    cluster.done(1, "/api/v1/ob/stop", global("force")).await;
    let started = cluster.start_all(2).await;
    let servers = contents(&cluster.door(0).get(&format!("{CLUSTERS}/7/servers")).await.data());
    let all = tasks(cluster.door(0), "").await;
    for host in 1..3 {
        assert_eq!(tasks(cluster.door(host), "").await, all, "host {host}");
    }
    // Parts of the stop and of the start are none, on whichever host.
    for name in ["Stop OB", "Start OB"] {
        assert_eq!(all.iter().filter(|task| task["name"] == name).count(), 1, "{all:#?}");
    }
    let start = all.iter().find(|task| task["name"] == "Start OB").unwrap();
    let id = start["id"].as_i64().unwrap();
    assert_eq!(id >> 32, id_of(&servers, &cluster.server(2)), "the number is of its owner's server");
    assert!(id < 1 << 53);
    assert_eq!(all[0]["name"], "Start OB", "the newest comes first");

    // v1 and v2 show the same task.
    let in_v1 =
        cluster.door(0).get(&format!("/api/v1/task/dag/{}", started["id"].as_str().unwrap())).await.data();
    assert_eq!(in_v1["taskInstanceId"], json!(id), "{in_v1:#}");
    let told = cluster.door(0).get(&format!("{TASKS}/{id}")).await.data();
    assert_eq!(
        (&told["status"], &told["obpilot"]["dag"]),
        (&json!("SUCCESSFUL"), &started["id"]),
        "{told:#}"
    );
    assert_eq!(cluster.door(1).get(&format!("/api/v2/tasks/{id}")).await.data(), told);
    assert_eq!(told["cluster"], json!({ "id": 7, "name": "pilot", "obClusterId": 7, "type": "PRIMARY" }));
    let steps = told["subtasks"].as_array().unwrap();
    let nodes = in_v1["nodes"].as_array().unwrap();
    assert_eq!(
        steps.len(),
        nodes.iter().map(|node| node["sub_tasks"].as_array().unwrap().len()).sum::<usize>()
    );
    assert!(steps.iter().all(|step| step["status"] == "SUCCESSFUL"), "{told:#}");
    let step = steps
        .iter()
        .find(|step| step["name"] == "Wait for all agents to execute the task")
        .unwrap_or(&steps[1]);
    let step_target = format!("{TASKS}/{id}/subtasks/{}", step["id"]);
    let log = cluster.door(0).get(&format!("{step_target}/log")).await.data();
    assert!(log["log"].as_str().unwrap().starts_with("############{EXECUTE}{20"), "{log:#}");

    // Parts of the list.
    let door = cluster.door(1);
    let page = door.get(&format!("{TASKS}?size=2&page=2&sort=id,asc")).await.data();
    let mut by_id = all.clone();
    by_id.sort_by_key(|task| task["id"].as_i64());
    assert_eq!(contents(&page), &by_id[2..4]);
    assert_eq!(page["page"]["totalElements"], json!(all.len()));
    assert_eq!(
        tasks(door, "&name=start%20ob&status=SUCCESSFUL&clusterId=7&cluterName=pilot&type=MANUAL")
            .await
            .len(),
        1
    );
    for nothing in
        ["&status=RUNNING", "&clusterId=8", "&type=SCHEDULED", "&tenantId=1", "&hostId=1", "&clusterName=x"]
    {
        assert!(tasks(door, nothing).await.is_empty(), "{nothing}");
    }
    refuse_what_is_wrong(door, id, step["id"].as_i64().unwrap()).await;

    // Who is away is left out of lists, and named when it is asked for.
    cluster.kill(2);
    let left = tasks(cluster.door(0), "").await;
    assert!(
        !left.is_empty() && left.iter().all(|task| task["id"].as_i64().unwrap() >> 32 != id >> 32),
        "{left:#?}"
    );
    let away = refused(cluster.door(0), "GET", &format!("{TASKS}/{id}"), 500, "CMP10001").await;
    assert!(away.text.contains(&cluster.address(2)), "{}", away.text);
}

async fn refuse_what_is_wrong(door: &Door, id: i64, step: i64) {
    let unknown = id + 100_000;
    for (method, target, status, code) in [
        ("GET", format!("{TASKS}/{unknown}"), 404, "TSK10001"),
        ("GET", format!("{TASKS}/1"), 404, "TSK10001"),
        ("GET", format!("{TASKS}/{}", 99i64 << 32 | 1), 404, "TSK10001"),
        ("GET", format!("{TASKS}/x"), 400, "COM10001"),
        ("GET", format!("{TASKS}/{id}/subtasks/{unknown}/log"), 404, "TSK10001"),
        ("GET", format!("{TASKS}/{id}/subtasks/7/log"), 404, "TSK10001"),
        ("GET", format!("{TASKS}?sort=age,asc"), 400, "COM10011"),
        ("GET", format!("{TASKS}?status=DONE"), 400, "COM10001"),
        ("GET", format!("{TASKS}?size=2001"), 400, "COM10001"),
        ("GET", format!("{TASKS}?tenantName=shop"), 400, "COM10001"),
        ("POST", format!("{TASKS}/{id}/retry"), 400, "TSK10016"),
        ("POST", format!("{TASKS}/{id}/rollback"), 400, "TSK10016"),
        ("POST", format!("{TASKS}/{id}/pause"), 400, "TSK10007"),
        ("POST", format!("{TASKS}/{id}/resume"), 400, "TSK10007"),
        ("POST", format!("{TASKS}/{id}/abort"), 400, "TSK10007"),
        ("POST", format!("{TASKS}/{unknown}/retry"), 404, "TSK10001"),
        ("POST", format!("{TASKS}/{id}/subtasks/{step}/retry"), 400, "TSK10016"),
        ("POST", format!("{TASKS}/{id}/subtasks/{step}/skip"), 400, "TSK10016"),
        ("POST", format!("{TASKS}/{id}/subtasks/{step}/cancel"), 400, "TSK10007"),
        ("POST", format!("{TASKS}/{id}/subtasks/{unknown}/cancel"), 404, "TSK10001"),
        ("DELETE", format!("{TASKS}/{id}"), 405, "COM10008"),
    ] {
        refused(door, method, &target, status, code).await;
    }
}

/// What one agent coordinates is interrupted step by step through another; v1 sees the same act, and who did it.
#[tokio::test]
async fn a_running_step_is_interrupted_through_another_agent() {
    let cluster = formed(3).await;
    // From then on the first knows the number of its server.
    assert!(!tasks(cluster.door(0), "").await.is_empty());
    cluster.homes[2].kill_database();
    cluster.set(2, &json!({ "faults": { "never_listen": true } }));
    let scope = json!({ "scope": { "type": "SERVER", "target": [cluster.address(2)] } });
    let made = cluster.door(0).post("/api/v1/ob/start", scope).await.data();
    let dag = made["id"].as_str().unwrap().to_owned();
    let line = format!("{}: waiting for process", cluster.address(2));
    let seen = cluster.door(0).until(&dag, |dag| dag.to_string().contains(&line)).await.data();
    let id = seen["taskInstanceId"].as_i64().unwrap_or_else(|| panic!("{seen:#}"));
    let other = cluster.door(1);
    let task = other.get(&format!("{TASKS}/{id}")).await.data();
    assert_eq!(task["status"], "RUNNING", "{task:#}");
    let steps = task["subtasks"].as_array().unwrap();
    let running = steps.iter().find(|step| step["status"] == "RUNNING").unwrap_or_else(|| panic!("{task:#}"));
    let target = format!("{TASKS}/{id}/subtasks/{}", running["id"]);
    refused(other, "POST", &format!("{target}/skip"), 400, "TSK10016").await;
    let done = other.send("POST", &format!("{target}/cancel"), None).await;
    assert_eq!((done.status, done.json().get("data")), (200, None), "{}", done.text);
    let ended = cluster.door(0).finished(&dag).await.data();
    assert_eq!(ended["state"], "FAILED", "{ended:#}");
    let task = other.get(&format!("{TASKS}/{id}")).await.data();
    let step = task["subtasks"].as_array().unwrap().iter().find(|step| step["id"] == running["id"]).unwrap();
    assert_eq!((&task["status"], &step["status"]), (&json!("FAILED"), &json!("FAILED")), "{task:#}");
    assert_eq!(step["operation"], "CANCEL", "{step:#}");
    // After the go the host does its part, and nobody waits for it any more: the step cannot run again, and who wants the
    // host names the task.
    refused(other, "POST", &format!("{target}/retry"), 400, "TSK10007").await;
    let mut stop = json!({ "scope": { "type": "SERVER", "target": [cluster.address(2)] }, "force": true });
    stop["forcePassDag"] = json!([dag]);
    cluster.done(1, "/api/v1/ob/stop", stop).await;
    cluster.assert_free().await;
}

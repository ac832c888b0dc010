//! What the database tells of itself, and setting its parameters: a cluster of three with stand-ins, every agent asked.

use mysql_async::prelude::Queryable as _;
use serde_json::{Value, json};

use crate::rig::{Agent, Cluster, Door, Home, PASSWORD};

const PARAMETERS: &str = "/api/v1/obcluster/parameters";

async fn formed() -> Cluster {
    let cluster = Cluster::new(3);
    cluster.form().await;
    cluster
}

async fn patch(door: &Door, params: Value) -> crate::rig::Answer {
    door.send("PATCH", PARAMETERS, Some(json!({ "params": params }).to_string())).await
}

/// A parameter with its values, as the agent of a host lists it.
async fn listed(cluster: &Cluster, host: usize, name: &str) -> Value {
    let all = cluster.door(host).get(PARAMETERS).await.data();
    let found = all["contents"].as_array().unwrap().iter().find(|parameter| parameter["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not listed")).clone()
}

/// Statements that set something, as the servers have got them.
fn set_statements(cluster: &Cluster) -> Vec<String> {
    let statements = cluster.journal().into_iter().filter(|entry| entry["kind"] == "statement");
    let sql = statements.filter_map(|entry| entry["sql"].as_str().map(str::to_owned));
    sql.filter(|sql| sql.starts_with("ALTER SYSTEM SET")).collect()
}

/// SQL to a host's server, as a client of the database sends it.
async fn sql(cluster: &Cluster, host: usize, statement: &str) {
    let mut connection = cluster.homes[host].sql(PASSWORD).await;
    connection.query_drop(statement).await.unwrap();
    connection.disconnect().await.unwrap();
}

/// Listed by any agent, set by any agent for what is named, seen by every other.
#[tokio::test]
async fn parameters_are_listed_and_set_by_any_agent() {
    let cluster = formed().await;
    let cpu = listed(&cluster, 1, "cpu_count").await;
    let servers: Vec<_> = cpu["ob_parameters"].as_array().unwrap().iter().collect();
    assert_eq!(servers.len(), 3, "{cpu:#}");
    let first =
        json!({ "svr_ip": "127.0.0.1", "svr_port": cluster.rpc_ports[0], "zone": "zone1", "value": "0" });
    assert!(servers.contains(&&first), "{cpu:#}");
    assert_eq!(
        (&cpu["scope"], &cpu["data_type"], &cpu["values"], &cpu["is_single_value"]),
        (&json!("CLUSTER"), &json!("INT"), &json!(["0"]), &json!(true))
    );
    assert!(cpu.get("tenant_value").is_none(), "{cpu:#}");
    let all = cluster.door(0).get(PARAMETERS).await.text;
    assert!(!all.contains("\"_lcl_op_interval\""), "hidden ones are left out");

    sql(&cluster, 0, &format!("ALTER SYSTEM SIM ADD TENANT 1002 't1' SERVERS '{}'", cluster.server(0))).await;
    let params = json!([
        { "name": "cpu_count", "value": "8", "scope": "CLUSTER", "zones": null, "servers": [], "tenants": [] },
        { "Name": "CPU_COUNT", "value": "16", "scope": "CLUSTER", "servers": [cluster.server(1)] },
        { "name": "cpu_count", "value": "4", "scope": "CLUSTER", "zones": ["zone3"] },
        { "name": "undo_retention", "value": "60", "scope": "TENANT", "all_user_tenant": true },
    ]);
    let set = patch(cluster.door(2), params).await;
    assert_eq!((set.status, set.json().get("data")), (200, None), "{}", set.text);
    let values = listed(&cluster, 0, "cpu_count").await;
    let mut by_zone: Vec<_> = values["ob_parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| (value["zone"].as_str().unwrap(), value["value"].as_str().unwrap()))
        .collect();
    by_zone.sort_unstable();
    assert_eq!(by_zone, [("zone1", "8"), ("zone2", "16"), ("zone3", "4")], "{values:#}");
    assert_eq!(values["is_single_value"], json!(false));
    let retention = listed(&cluster, 1, "undo_retention").await;
    let of = |name: &str| {
        let told = retention["tenant_value"].as_array().unwrap();
        told.iter().find(|value| value["tenant_name"] == name).map(|value| value["value"].clone())
    };
    assert_eq!((of("t1"), of("sys")), (Some(json!("60")), Some(json!("1800"))), "{retention:#}");
    // An empty list is nothing to do.
    assert_eq!(patch(cluster.door(0), json!([])).await.status, 200);

    // A server that is down is no obstacle: another one answers.
    cluster.homes[1].kill_database();
    listed(&cluster, 1, "cpu_count").await;
    assert_eq!(
        patch(cluster.door(1), json!([{ "name": "cpu_count", "value": "2", "scope": "CLUSTER" }]))
            .await
            .status,
        200
    );
    assert_eq!(listed(&cluster, 1, "cpu_count").await["values"], json!(["2"]));
}

/// All are checked before any is set; each wrong one is told with its code.
#[tokio::test]
async fn a_wrong_parameter_among_right_ones_sets_nothing() {
    let cluster = formed().await;
    let (bind, illegal) = ("Common.BindJsonFailed", "Common.IllegalArgument");
    let right = json!({ "name": "cpu_count", "value": "8", "scope": "CLUSTER" });
    let with = |more: Value| {
        let mut wrong = right.clone();
        wrong.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        wrong
    };
    for (wrong, code) in [
        (with(json!({ "scope": "cluster" })), "OB.Parameter.Scope.Invalid"),
        (with(json!({ "scope": null })), "OB.Parameter.Scope.Invalid"),
        (with(json!({ "zones": ["zone1"], "servers": [cluster.server(0)] })), illegal),
        (with(json!({ "tenants": ["sys"] })), illegal),
        (with(json!({ "scope": "TENANT", "tenants": ["sys"], "all_user_tenant": true })), illegal),
        (with(json!({ "scope": "TENANT", "tenants": ["nobody"] })), illegal),
        (with(json!({ "zones": ["zone9"] })), "OB.Zone.NotExist"),
        (with(json!({ "servers": ["127.0.0.1"] })), "Common.InvalidAddress"),
        (with(json!({ "servers": ["127.0.0.99:2882"] })), "OB.Server.NotExist"),
        (with(json!({ "name": "no_such" })), illegal),
        (with(json!({ "name": "zone" })), illegal),
        (with(json!({ "value": 8 })), bind),
        (with(json!({ "zones": "zone1" })), bind),
        (json!("cpu_count"), bind),
        (Value::Null, bind),
    ] {
        let refused = patch(cluster.door(1), json!([right, wrong])).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{wrong}: {}", refused.text);
    }
    for body in ["{}", "{\"params\":null}", "{\"params\":{}}", "[]"] {
        let refused = cluster.door(0).send("PATCH", PARAMETERS, Some(body.to_owned())).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, bind), "{body}");
    }
    assert_eq!(set_statements(&cluster), Vec::<String>::new());
}

/// H21: the database refuses one in the middle. What was set is named, for people and for programs; what was not, too.
#[tokio::test]
async fn h21_what_was_set_before_a_failure_is_named() {
    let cluster = formed().await;
    let set = |name: &str, value: &str| json!({ "name": name, "value": value, "scope": "CLUSTER" });
    let params = json!([set("syslog_level", "INFO"), set("cpu_count", "many"), set("lease_time", "20s")]);
    let refused = patch(cluster.door(0), params).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "MySQL.Error"), "{}", refused.text);
    let data = refused.json()["data"].clone();
    assert_eq!(
        data,
        json!({ "set": ["syslog_level"], "failed": "cpu_count", "notTried": ["lease_time"] }),
        "{}",
        refused.text
    );
    assert!(refused.message().contains("Invalid config (4147)"), "{}", refused.message());
    assert!(refused.message().contains("Set before it: syslog_level. Not tried: lease_time"));
    assert_eq!(listed(&cluster, 0, "syslog_level").await["values"], json!(["INFO"]));
    assert_eq!(listed(&cluster, 0, "lease_time").await["values"], json!(["10s"]));
}

/// Whatever a request holds: it is a value, or it is refused. Nothing of it becomes a statement.
#[tokio::test]
async fn nothing_in_a_request_about_parameters_becomes_sql() {
    let cluster = formed().await;
    let evil = [
        "'; ALTER USER root IDENTIFIED BY 'x'; -- ",
        "\\'; DROP DATABASE ocs; -- ",
        "1' ZONE = 'zone1",
        "1, cpu_count = 99",
        "`",
        "\" OR 1=1",
        "/* */ 1",
        "a\u{0}b\n\r\u{1a}",
        "☃ 密码",
    ];
    for text in evil {
        // A value arrives as it was given.
        let set =
            patch(cluster.door(0), json!([{ "name": "syslog_level", "value": text, "scope": "CLUSTER" }]))
                .await;
        assert_eq!(set.status, 200, "{text:?}: {}", set.text);
        assert_eq!(listed(&cluster, 0, "syslog_level").await["values"], json!([text]), "{text:?}");
        // Names are those that are known, or nothing.
        for wrong in [
            json!({ "name": text, "value": "1", "scope": "CLUSTER" }),
            json!({ "name": format!("cpu_count{text}"), "value": "1", "scope": "CLUSTER" }),
            json!({ "name": "cpu_count", "value": "1", "scope": "CLUSTER", "zones": [text] }),
            json!({ "name": "cpu_count", "value": "1", "scope": "CLUSTER", "servers": [text] }),
            json!({ "name": "undo_retention", "value": "1", "scope": "TENANT", "tenants": [text] }),
            json!({ "name": "cpu_count", "value": "1", "scope": text }),
        ] {
            let refused = patch(cluster.door(1), json!([wrong])).await;
            assert_eq!(refused.status, 400, "{wrong}: {}", refused.text);
        }
    }
    let statements = set_statements(&cluster);
    assert_eq!(statements.len(), evil.len(), "{statements:#?}");
    assert!(
        statements.iter().all(|sql| sql.starts_with("ALTER SYSTEM SET syslog_level = '")),
        "{statements:#?}"
    );
    assert_eq!(listed(&cluster, 2, "cpu_count").await["values"], json!(["0"]));
    // The password is what it was, and so are the members.
    cluster.homes[0].tcp(PASSWORD).await.get("/api/v1/ob/info").await.data();
    assert_eq!(
        cluster.door(0).get("/api/v1/ob/agents").await.data()["contents"].as_array().unwrap().len(),
        3
    );
}

/// The members of `obcluster/info` that the database alone can tell, in their shapes.
#[tokio::test]
async fn the_cluster_is_told_with_its_room_and_its_tenants() {
    let cluster = formed().await;
    let servers = format!("{},{}", cluster.server(0), cluster.server(1));
    sql(&cluster, 0, &format!("ALTER SYSTEM SIM ADD TENANT 1002 't1' SERVERS '{servers}'")).await;
    let info = cluster.door(2).get("/api/v1/obcluster/info").await.data();
    assert_eq!(
        (&info["cluster_name"], &info["cluster_id"], &info["startup_mode"], &info["is_community_edition"]),
        (&json!("pilot"), &json!(7), &json!("NORMAL"), &json!(true))
    );
    assert_eq!((&info["dead_lock_detection_enabled"], &info["is_standalone"]), (&json!(true), &json!(false)));
    assert!(info.get("license").is_none() && info.get("shared_storage_info").is_none(), "{info:#}");
    let stats = &info["stats"];
    assert_eq!(
        (&stats["cpu_core_total"], &stats["cpu_core_assigned"], &stats["memory_total"]),
        (&json!(48.0), &json!(10.0), &json!("192.00GB")),
        "{stats:#}"
    );
    let zone = &info["zones"][0];
    let server = &zone["servers"][0];
    assert_eq!(
        (&server["stats"]["ip"], &server["stats"]["zone"], &server["stats"]["memory_in_bytes_assigned"]),
        (&json!("127.0.0.1"), &json!("zone1"), &json!(4_i64 << 30)),
        "{server:#}"
    );
    assert!(server["start_time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{server:#}");
    let roles: Vec<_> = (0..3).map(|zone| &info["zones"][zone]["root_server"]["role"]).collect();
    assert_eq!(roles.iter().filter(|role| **role == "LEADER").count(), 1, "{roles:?}");
    assert_eq!(roles.iter().filter(|role| **role == "FOLLOWER").count(), 2, "{roles:?}");

    let tenants = info["tenants"].as_array().unwrap();
    let names: Vec<_> = tenants.iter().map(|tenant| tenant["tenant_name"].as_str().unwrap()).collect();
    assert_eq!(names, ["sys", "t1"], "meta tenants are left out");
    let user = &tenants[1];
    assert_eq!(
        (&user["mode"], &user["charset"], &user["collation"], &user["whitelist"], &user["read_only"]),
        (&json!("MYSQL"), &json!("utf8mb4"), &json!("utf8mb4_general_ci"), &json!("%"), &json!(false)),
        "{user:#}"
    );
    let pool = &user["pools"][0];
    assert_eq!(
        (&pool["zone_list"], &pool["unit_config"]["max_cpu"], &user["connection_strings"]),
        (&json!("zone1;zone2"), &json!(2.0), &json!([])),
        "{user:#}"
    );
    assert_eq!(pool["observer_list"], json!(servers.replace(',', ";")));
    let usage = &info["tenant_stats"][1];
    assert_eq!(
        (
            &usage["tenant_id"],
            &usage["cpu_used_percent"],
            &usage["memory_used_percent"],
            &usage["cpu_core_total"]
        ),
        (&json!(1002), &json!(25.0), &json!(50.0), &json!(4.0)),
        "{usage:#}"
    );
    let own = cluster.door(1).get("/api/v1/observer/info").await.data();
    assert_eq!((&own["stats"]["cpu_core_total"], &own["stats"]["zone"]), (&json!(16.0), &json!("zone2")));

    let limit = cluster.door(0).get("/api/v1/obcluster/unit-config-limit").await.data();
    assert_eq!(limit, json!({ "min_memory": 2.0, "min_cpu": 1 }));
    let statistics = cluster.door(1).get("/api/v1/obcluster/statistics").await.data();
    assert_eq!(
        (&statistics["clusterId"], &statistics["telemetryEnabled"], &statistics["telemetryVersion"]),
        (&json!("7"), &json!(false), &json!(1))
    );
    assert_eq!(statistics["hosts"].as_array().unwrap().len(), 3, "{statistics:#}");
    let instance = &statistics["instances"][0];
    assert_eq!(
        (&instance["type"], &instance["version"], &instance["revision"], &instance["cpuCount"]),
        (&json!("oceanbase-ce"), &json!("4.3.5.1"), &json!("101000042024121211"), &json!(0)),
        "{instance:#}"
    );
}

/// A task that covers the whole cluster stands at the cluster; one of a server stands there alone.
#[tokio::test]
async fn a_task_under_way_is_told_where_it_works() {
    let cluster = formed().await;
    cluster.set(1, &json!({ "faults": { "never_serve": true } }));
    cluster.homes[1].kill_database();
    for (scope, at_cluster) in [
        (json!({ "type": "GLOBAL" }), true),
        (json!({ "type": "SERVER", "target": [cluster.address(1)] }), false),
    ] {
        let made = cluster.door(0).post("/api/v1/ob/start", json!({ "scope": scope })).await.data();
        let id = made["id"].as_str().unwrap();
        let info = cluster.door(0).get("/api/v1/obcluster/info").await.data();
        let server = &info["zones"][1]["servers"][0];
        assert_eq!(server["local_task_id"], json!(id), "{server:#}");
        assert_eq!(info.get("local_task_id"), at_cluster.then(|| json!(id)).as_ref(), "{info:#}");
        assert_eq!(info["zones"][1].get("local_task_id").is_some(), at_cluster, "{info:#}");
        let cancelled =
            cluster.door(0).post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "CANCEL" })).await;
        assert_eq!(cancelled.status, 200, "{}", cancelled.text);
        cluster.door(0).finished(id).await.data();
    }
}

/// W56: a version that does not have a parameter is told as the documentation says of it, and nothing fails.
#[tokio::test]
async fn w56_a_database_without_a_parameter_is_told_all_the_same() {
    let cluster = Cluster::new(1);
    cluster.form().await;
    cluster.set(0, &json!({ "faults": { "no_startup_mode": true } }));
    let all = cluster.door(0).get(PARAMETERS).await;
    assert!(!all.text.contains("ob_startup_mode"), "{}", all.text);
    let info = cluster.door(0).get("/api/v1/obcluster/info").await.data();
    assert_eq!(
        (&info["startup_mode"], &info["is_shared_storage"]),
        (&json!("NORMAL"), &json!(false)),
        "{info:#}"
    );
}

/// Names of the character sets of a mode, with what stands under one of them.
#[tokio::test]
async fn character_sets_are_those_of_the_mode() {
    let cluster = formed().await;
    let names = async |query: &str| {
        let all = cluster.door(1).get(&format!("/api/v1/obcluster/charsets{query}")).await.data();
        let all = all["contents"].as_array().unwrap().clone();
        all.into_iter().map(|charset| charset["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = names("").await;
    assert!(all.contains(&"utf16".to_owned()) && all.contains(&"binary".to_owned()), "{all:?}");
    assert_eq!(names("?tenant_mode=").await, all);
    let mysql = names("?tenant_mode=MySQL").await;
    assert!(!mysql.contains(&"utf16".to_owned()) && mysql.contains(&"binary".to_owned()), "{mysql:?}");
    let oracle = names("?tenant_mode=oracle").await;
    assert!(!oracle.contains(&"binary".to_owned()) && oracle.contains(&"gbk".to_owned()), "{oracle:?}");
    let wrong = cluster.door(1).get("/api/v1/obcluster/charsets?tenant_mode=x%27").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "Request.Query.Param.Illegal"));
    let gbk = cluster.door(0).get("/api/v1/obcluster/charsets").await.data();
    let gbk =
        gbk["contents"].as_array().unwrap().iter().find(|charset| charset["name"] == "gbk").unwrap().clone();
    assert_eq!(
        gbk,
        json!({ "name": "gbk", "description": "GBK Simplified Chinese", "maxlen": 2, "collations": [
            { "is_default": true, "name": "gbk_chinese_ci" }, { "is_default": false, "name": "gbk_bin" } ] })
    );
}

/// The standalone edition has a licence, another has none, and says so; without a database nothing is known, and nothing invented.
#[tokio::test]
async fn editions_and_silence_are_told_apart() {
    let cluster = formed().await;
    let license = "/api/v1/obcluster/license";
    let none = cluster.door(0).get(license).await;
    assert_eq!((none.status, none.code().as_str()), (400, "Common.BadRequest"), "{}", none.text);
    for host in 0..3 {
        cluster.set(host, &json!({ "ce": false, "faults": { "license": true } }));
    }
    // Another agent: the first one may still know what it has just read.
    let told = cluster.door(1).get(license).await.data();
    assert_eq!((&told["product_type"], &told["node_num"]), (&json!("SE"), &json!(1)), "{told:#}");
    assert!(told["expired_time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{told:#}");
    let info = cluster.door(1).get("/api/v1/obcluster/info").await.data();
    assert_eq!(
        (&info["is_standalone"], &info["is_community_edition"], &info["license"]),
        (&json!(true), &json!(false), &told)
    );

    cluster.kill_servers();
    for (path, code) in [
        (PARAMETERS, "Agent.OceanBase.Useless"),
        (license, "Agent.OceanBase.Useless"),
        ("/api/v1/obcluster/charsets", "Agent.OceanBase.Useless"),
    ] {
        let silent = cluster.door(0).get(path).await;
        assert_eq!((silent.status, silent.code().as_str()), (500, code), "{path}: {}", silent.text);
    }
    let limit = cluster.door(0).get("/api/v1/obcluster/unit-config-limit").await;
    assert_eq!((limit.status, &limit.json()["data"]), (200, &Value::Null), "{}", limit.text);
    let info = cluster.door(0).get("/api/v1/obcluster/info").await.data();
    assert_eq!((&info["tenants"], &info["tenant_stats"]), (&json!([]), &json!([])));
    assert_eq!(
        (&info["stats"]["cpu_core_assigned_percent"], &info["stats"]["memory_total"]),
        (&json!(0.0), &json!("0B"))
    );
    assert_eq!(info["zones"][0]["root_server"]["ip"], json!(""));
    let statistics = cluster.door(0).get("/api/v1/obcluster/statistics").await.data();
    assert_eq!(statistics["instances"].as_array().unwrap().len(), 3, "{statistics:#}");
}

/// Upgrades, packages, keys of shared storage: each says that it is not supported, whatever it is given, and of whom.
#[tokio::test]
async fn w47_what_is_not_supported_says_so_behind_the_door() {
    let cluster = formed().await;
    let upgrade = json!({ "version": "4.5.1.0", "release": "12026090101.el7", "mode": "ROLLING" });
    let key = json!({ "access_key": "a", "secret_key": "s", "path": "p", "endpoint": "e" });
    let sealed = cluster.homes[0].tcp(PASSWORD).await;
    let stranger = Door::open(&cluster.address(0));
    for (method, path, body, code) in [
        ("POST", "/api/v1/ob/upgrade/check", upgrade.to_string(), "Common.BadRequest"),
        ("POST", "/api/v1/ob/upgrade", upgrade.to_string(), "Common.BadRequest"),
        ("POST", "/api/v1/agent/upgrade/check", upgrade.to_string(), "Common.BadRequest"),
        ("POST", "/api/v1/agent/upgrade", upgrade.to_string(), "Common.BadRequest"),
        ("POST", "/api/v1/upgrade/package", "a package".to_owned(), "Common.BadRequest"),
        ("POST", "/api/v1/package", "a package".to_owned(), "Common.BadRequest"),
        ("DELETE", "/api/v1/upgrade/package/1", String::new(), "Common.BadRequest"),
        ("POST", "/api/v1/upgrade/params/backup", "{}".to_owned(), "Common.BadRequest"),
        ("POST", "/api/v1/upgrade/params/restore", "{\"params\":[]}".to_owned(), "Common.BadRequest"),
        ("POST", "/api/v1/upgrade/env/check", "{}".to_owned(), "Common.BadRequest"),
        (
            "POST",
            "/api/v1/obcluster/shared-storage/validate-key",
            key.to_string(),
            "SharedStorage.NotSupported",
        ),
        ("POST", "/api/v1/obcluster/shared-storage/save-key", key.to_string(), "SharedStorage.NotSupported"),
    ] {
        for door in [cluster.door(1), &sealed] {
            let refused = door.send(method, path, Some(body.clone())).await;
            assert_eq!((refused.status, refused.code().as_str()), (400, code), "{path}: {}", refused.text);
            assert!(refused.message().contains("not supported yet"), "{path}: {}", refused.message());
        }
        let unknown = stranger.send(method, path, Some(body)).await;
        assert_eq!(unknown.code(), "Request.Header.NotFound", "{path}");
    }
    let packages = sealed.get("/api/v1/upgrade/package/info").await;
    assert_eq!((packages.status, packages.code().as_str()), (400, "Common.BadRequest"));
    // What is missing is told first.
    for (path, body, missing) in [
        ("/api/v1/ob/upgrade", json!({ "version": "4.5.1.0", "release": "1.el7" }), "mode"),
        ("/api/v1/agent/upgrade", json!({ "version": "4.5.1.0" }), "release"),
        ("/api/v1/obcluster/shared-storage/save-key", json!({ "access_key": "a" }), "secret_key"),
    ] {
        let refused = cluster.door(0).post(path, body).await;
        assert_eq!(refused.code(), "Common.BindJsonFailed", "{}", refused.text);
        assert!(refused.message().contains(missing), "{}", refused.message());
    }
}

/// What only a cluster has is refused of an agent alone, with its identity; what any agent can tell is told.
#[tokio::test]
async fn an_agent_alone_says_that_it_has_no_cluster() {
    let home = Home::new();
    let agent: Agent = home.start();
    for path in [
        PARAMETERS,
        "/api/v1/obcluster/charsets?tenant_mode=nonsense",
        "/api/v1/obcluster/unit-config-limit",
        "/api/v1/obcluster/license",
        "/api/v1/upgrade/package/info",
    ] {
        let refused = agent.door.get(path).await;
        let told = (refused.status, refused.code());
        assert_eq!(told, (400, "Agent.Identify.NotSupportOperation".to_owned()), "{path}: {}", refused.text);
    }
    // The identity comes before the body.
    let refused = agent.door.send("PATCH", PARAMETERS, Some("{".to_owned())).await;
    assert_eq!(refused.code(), "Agent.Identify.NotSupportOperation");
    let statistics = agent.door.get("/api/v1/obcluster/statistics").await.data();
    assert_eq!((&statistics["clusterId"], &statistics["instances"]), (&json!(""), &json!([])));
    assert_eq!(statistics["hosts"].as_array().unwrap().len(), 1);
}

/// `obpilot cluster parameter`: what people type.
#[tokio::test]
async fn the_command_line_shows_and_sets_parameters() {
    let cluster = formed().await;
    let run = |args: &[&str]| {
        let output = cluster.homes[0].cli(&[&["cluster", "parameter"], args].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run(&["show", "syslog"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("syslog_level") && out.contains("WDIAG") && !out.contains("cpu_count"), "{out}");
    let (code, _, err) = run(&["set", "syslog_level=INFO", "cpu_count=8", "undo_retention=60"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = run(&["set", "cpu_count=9", "--server", &cluster.server(1)]);
    assert_eq!(code, Some(0), "{err}");
    let (_, out, _) = run(&["show", "cpu_count", "-d"]);
    assert!(out.contains(&cluster.server(1)) && out.contains('9') && out.contains('8'), "{out}");
    let (_, json, _) = run(&["show", "undo", "--output", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["values"], json!(["60"]), "{json:#}");
    let (code, _, err) = run(&["set", "no_such=1"]);
    assert!(code != Some(0) && err.contains("knows no parameter 'no_such'"), "{err}");
    let (code, _, err) = run(&["show", "no_such"]);
    assert!(code != Some(0) && err.contains("no parameter"), "{code:?} {err}");
}

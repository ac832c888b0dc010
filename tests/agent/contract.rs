//! Every route and every kind of wrong request: each answer is an envelope with a code of the table, and says what to do.

use obpilot::api::ROUTES;
use obpilot::error::Code;
use obpilot::secure::RouteClass;
use serde_json::{Value, json};

use crate::rig::{Agent, Answer, Cluster, Door, Home};

/// The shape that `http-api.md` §2 gives every answer.
fn check_envelope(answer: &Answer, what: &str) {
    let json = answer.json();
    assert_eq!(json["status"], json!(answer.status), "{what}: {}", answer.text);
    assert_eq!(json["successful"], json!(answer.status < 400), "{what}: {}", answer.text);
    assert!(json["duration"].is_number(), "{what}: {}", answer.text);
    json["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(answer.headers["content-type"], "application/json", "{what}");
    if answer.status >= 400 {
        let code = answer.code();
        let known = Code::by_name(&code).unwrap_or_else(|| panic!("{what}: unknown code {code}"));
        assert_eq!(known.status(), answer.status, "{what}: {}", answer.text);
        assert!(answer.message().len() > 8, "{what}: says nothing: {}", answer.text);
    }
}

/// The ways in: the socket, sealed TCP, and the same by HTTP/2.
pub(crate) async fn doors(home: &Home, agent: &Agent) -> [Door; 3] {
    let tcp = home.tcp("").await;
    let http =
        reqwest::Client::builder().no_proxy().tls_certs_only([]).http2_prior_knowledge().build().unwrap();
    let mut http2 = tcp.clone();
    http2.http = http;
    [agent.door.clone(), tcp, http2]
}

/// A refusal of the request, never a defect of ours.
fn check_refused(answer: &Answer, what: &str) {
    check_envelope(answer, what);
    assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text);
}

fn target(path: &str) -> String {
    path.replace("{id}", "1")
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_in_the_envelope() {
    let home = Home::new();
    let agent = home.start();
    for door in doors(&home, &agent).await {
        for path in [
            "/",
            "/rpc/v1/agent",
            "/api/v1/TIME",
            "/api/v1/task/dag",
            "/x/api/v1/time",
            "/api",
            "/api/v1/nothing",
            "/api/v1/ob/starting",
            "/api/v1/time/x",
            "/api/v9/time",
            "/api/v1/timeout",
        ] {
            let answer = door.get(path).await;
            check_refused(&answer, path);
            assert_eq!((answer.status, answer.code().as_str()), (404, "Common.NotFound"), "{path}");
        }
        for path in ROUTES.iter().map(|route| route.path) {
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                if ROUTES.iter().any(|route| route.path == path && route.method == method) {
                    continue;
                }
                let what = format!("{method} {path}");
                let answer = door.send(method, &target(path), None).await;
                check_envelope(&answer, &what);
                // A parameter takes the place of a fixed word, and then it is no id.
                assert!(matches!(answer.status, 400 | 404), "{what}: {}", answer.text);
            }
        }
    }
}

/// Bodies that no route takes.
const NO_BODIES: [&str; 12] = [
    "",
    "{",
    "null",
    "[]",
    "5",
    "\"text\"",
    "{} {}",
    "{\"a\":1}x",
    "\u{feff}{}",
    "{\"scope\":5}",
    "{'a':1}",
    "\u{0}",
];

#[tokio::test]
async fn every_route_with_a_body_refuses_what_is_no_body() {
    let home = Home::new();
    let agent = home.start();
    let doors = doors(&home, &agent).await;
    for route in ROUTES.iter().filter(|route| matches!(route.method, "POST" | "PUT" | "PATCH")) {
        for body in NO_BODIES {
            let what = format!("{} {} with {body:?}", route.method, route.path);
            for door in &doors {
                let answer = door.send(route.method, &target(route.path), Some(body.to_owned())).await;
                check_envelope(&answer, &what);
                // The status is asked for with any body, and a login reads none.
                if route.path != "/api/v1/status" && route.class != RouteClass::Login {
                    check_refused(&answer, &what);
                }
            }
        }
    }
    let dags = agent.door.get("/api/v1/task/dags/agent").await.data();
    assert_eq!(dags["contents"].as_array().unwrap().len(), 0, "something was made: {dags}");
}

/// Members of wrong type or value, route by route, with the code that tells it.
#[tokio::test]
async fn wrong_members_are_named() {
    let home = Home::new();
    let agent = home.start();
    let own = json!({ "ip": "127.0.0.1", "port": home.port });
    let join = "/api/v1/agent/join";
    let bind = "Common.BindJsonFailed";
    let on_single = [
        (join, json!({ "agentInfo": 5 }), bind),
        (join, json!({ "agentInfo": { "ip": "127.0.0.1" }, "zoneName": "z" }), bind),
        (join, json!({ "agentInfo": own }), bind),
        (join, json!({ "agentInfo": own, "zoneName": 5 }), bind),
        (join, json!({ "agentInfo": { "ip": "127.0.0.1", "port": 2886.5 }, "zoneName": "z" }), bind),
        (join, json!({ "agentInfo": { "ip": 5 } }), bind),
        (join, json!({ "agentInfo": { "ip": "nowhere", "port": 1 }, "zoneName": "z" }), "Common.InvalidIp"),
        (join, json!({ "agentInfo": { "ip": "127.0.0.1", "port": 0 }, "zoneName": "z" }), bind),
        (
            join,
            json!({ "agentInfo": { "ip": "127.0.0.1", "port": 70000 }, "zoneName": "z" }),
            "Common.InvalidPort",
        ),
        (join, json!({ "agentInfo": own, "zoneName": "" }), bind),
        (join, json!({ "agentInfo": own, "zoneName": "a b; DROP" }), "Common.IllegalArgument"),
        (
            join,
            json!({ "agentInfo": { "ip": "10.9.9.9", "port": 2886 }, "zoneName": "z" }),
            "Common.BadRequest",
        ),
        ("/api/v1/agent/password", json!({ "password": "" }), bind),
        ("/api/v1/agent/password", json!({ "password": 5 }), bind),
        ("/api/v1/agent/password", json!({}), bind),
        ("/api/v1/obcluster/password", json!({ "rootPwd": 5 }), bind),
        ("/api/v1/obcluster/password", json!({ "rootPassword": "x" }), bind),
        ("/api/v1/obcluster/config", json!({}), "OB.Cluster.Id.Invalid"),
        ("/api/v1/obcluster/config", json!({ "clusterId": 1 }), "OB.Cluster.Name.Empty"),
        (
            "/api/v1/obcluster/config",
            json!({ "clusterId": 1, "clusterName": "c" }),
            "Agent.Identify.NotSupportOperation",
        ),
        ("/api/v1/observer/config", json!({}), "Common.IllegalArgument"),
        ("/api/v1/observer/config", json!({ "observerConfig": { "mysql_port": 2881 } }), bind),
        ("/api/v1/ob/init", json!({ "import_script": "yes" }), bind),
        ("/api/v1/ob/start", json!({}), "OB.Cluster.Scope.Invalid"),
        (
            "/api/v1/ob/start?plan=maybe",
            json!({ "scope": { "type": "GLOBAL" } }),
            "Request.Query.Param.Illegal",
        ),
        ("/api/v1/ob/init", json!({}), "Agent.Identify.NotSupportOperation"),
        (
            "/api/v1/observer/config",
            json!({ "observerConfig": { "a": "b" }, "scope": { "type": "GLOBAL" } }),
            "Agent.Identify.NotSupportOperation",
        ),
        ("/api/v1/ob/start", json!({ "scope": { "type": "GLOBAL" } }), "OB.Cluster.NotInitialized"),
        (
            "/api/v1/ob/stop",
            json!({ "scope": { "type": "GLOBAL" }, "force": true }),
            "Agent.Identify.NotSupportOperation",
        ),
    ];
    for door in doors(&home, &agent).await {
        refused(&door, &on_single).await;
    }
}

#[tokio::test]
async fn wrong_members_are_named_to_a_master_too() {
    let home = Home::new();
    let agent = home.start();
    let own = json!({ "ip": "127.0.0.1", "port": home.port });
    let (join, bind) = ("/api/v1/agent/join", "Common.BindJsonFailed");
    home.join(&agent.door).await;
    let (server, cluster, start, stop) =
        ("/api/v1/observer/config", "/api/v1/obcluster/config", "/api/v1/ob/start", "/api/v1/ob/stop");
    let global = json!({ "type": "GLOBAL" });
    let on_master = [
        (join, json!({ "agentInfo": own, "zoneName": "zone1" }), "Agent.Identify.NotSupportOperation"),
        (server, json!({ "observerConfig": {}, "scope": global }), "Common.IllegalArgument"),
        (
            server,
            json!({ "observerConfig": { "mysql_port": "70000" }, "scope": global }),
            "Common.InvalidPort",
        ),
        (server, json!({ "observerConfig": { "mysql_port": "" }, "scope": global }), "Common.InvalidPort"),
        (server, json!({ "observerConfig": { "a b": "c" }, "scope": global }), "Common.IllegalArgument"),
        (
            server,
            json!({ "observerConfig": { "a": "b" }, "scope": { "type": "PLANET" } }),
            "OB.Cluster.Scope.Invalid",
        ),
        (server, json!({ "observerConfig": { "a": "b" } }), "OB.Cluster.Scope.Invalid"),
        (
            server,
            json!({ "observerConfig": { "a": "b" }, "scope": { "type": "ZONE", "target": ["nowhere"] } }),
            "OB.Zone.NotExist",
        ),
        (cluster, json!({ "clusterName": "", "clusterId": 1 }), "OB.Cluster.Name.Empty"),
        (cluster, json!({ "clusterName": "c", "clusterId": 0 }), "OB.Cluster.Id.Invalid"),
        (cluster, json!({ "clusterName": "c", "clusterId": "1" }), bind),
        ("/api/v1/ob/init", json!({}), "Common.BadRequest"),
        (start, json!({ "scope": { "type": "ZONE" } }), "Common.IllegalArgument"),
        (
            start,
            json!({ "scope": { "type": "ZONE", "target": ["zone1", "zone1"] } }),
            "Common.IllegalArgument",
        ),
        (start, json!({ "scope": { "type": "SERVER", "target": ["127.0.0.1:"] } }), "Common.InvalidPort"),
        (start, json!({ "scope": { "type": "SERVER", "target": ["300.0.0.1:1"] } }), "Common.InvalidIp"),
        (start, json!({ "scope": { "type": "SERVER", "target": ["10.1.1.1:2886"] } }), "Agent.NotExist"),
        (start, json!({ "scope": { "type": "GLOBAL", "target": ["zone1"] } }), "Common.IllegalArgument"),
        (start, json!({ "scope": global, "forcePassDag": 5 }), bind),
        (start, json!({ "scope": global, "forcePassDag": ["x"] }), "Task.GenericID.Invalid"),
        (stop, json!({ "scope": global, "force": "yes" }), bind),
        ("/api/v1/obcluster/password", json!({}), "Agent.Identify.NotSupportOperation"),
    ];
    for door in doors(&home, &agent).await {
        refused(&door, &on_master).await;
    }
}

async fn refused(door: &Door, table: &[(&str, Value, &str)]) {
    let mut wrong = Vec::new();
    for (path, body, code) in table {
        let what = format!("{path} with {body}");
        let answer = door.post(path, body.clone()).await;
        check_refused(&answer, &what);
        if answer.code() != *code {
            wrong.push(format!("{what}: {} instead of {code}: {}", answer.code(), answer.message()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn unknown_ids_queries_and_operators_are_told() {
    let home = Home::new();
    let agent = home.start();
    home.join(&agent.door).await;
    let door = &agent.door;
    let dags = door.get("/api/v1/task/dags/agent").await.data();
    let dag = dags["contents"][0]["id"].as_str().unwrap().to_owned();
    for kind in ["dag", "node", "sub_task"] {
        for id in ["x", "-1", "0x1", "99999999999999999999999999", "%00", "1%2f2"] {
            let answer = door.get(&format!("/api/v1/task/{kind}/{id}")).await;
            check_refused(&answer, &format!("{kind} {id}"));
        }
        let mut unknown = dag.clone();
        unknown.pop();
        let answer = door.get(&format!("/api/v1/task/{kind}/{unknown}98765")).await;
        check_refused(&answer, kind);
        assert_eq!(answer.status, 404, "{}", answer.text);
    }
    for query in ["show_details=maybe", "watch=x", "watch=-1", "watch=1&wait=x"] {
        let answer = door.get(&format!("/api/v1/task/dag/{dag}?{query}")).await;
        check_refused(&answer, query);
        assert_eq!(answer.code(), "Request.Query.Param.Illegal", "{query}");
    }
    let operate = format!("/api/v1/task/dag/{dag}");
    let ended = [
        ("RETRY", "Task.Dag.Operator.RetryNotFailedDag"),
        ("ROLLBACK", "Task.Dag.Operator.RollbackNotFailedDag"),
        ("CANCEL", "Task.Dag.Operator.CancelFinishedDag"),
        ("PASS", "Task.Dag.Operator.PassNotFailedDag"),
        ("EXPLODE", "Task.Dag.Operator.NotSupport"),
        ("", "Common.BindJsonFailed"),
    ];
    for (operator, code) in ended {
        let answer = door.post(&operate, json!({ "operator": operator })).await;
        check_refused(&answer, operator);
        assert_eq!(answer.code(), code);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let home = Home::new();
    let agent = home.start();
    let large = format!("{{\"zoneName\":\"{}\"}}", "z".repeat(2 << 20));
    let answer = agent.door.send("POST", "/api/v1/agent/join", Some(large)).await;
    check_envelope(&answer, "2 MiB");
    assert_eq!((answer.status, answer.code().as_str()), (413, "Request.Body.TooLarge"));
    agent.door.get("/api/v1/time").await.data();
}

/// What every route answers when all is well, as far as that is possible without a database.
#[tokio::test]
async fn every_question_has_an_answer() {
    let home = Home::new();
    let agent = home.start();
    home.join(&agent.door).await;
    let dags = agent.door.get("/api/v1/task/dags/agent").await.data();
    let (dag, node) = (&dags["contents"][0], &dags["contents"][0]["nodes"][0]);
    for route in ROUTES.iter().filter(|route| route.method == "GET" && !route.path.ends_with("/events")) {
        let id = match route.path {
            path if path.contains("/node/") => node["id"].as_str().unwrap(),
            path if path.contains("/sub_task/") => node["sub_tasks"][0]["id"].as_str().unwrap(),
            _ => dag["id"].as_str().unwrap(),
        };
        for door in doors(&home, &agent).await {
            let answer = door.get(&route.path.replace("{id}", id)).await;
            check_envelope(&answer, route.path);
            // Cluster tasks are those of a cluster; single sign-on is not supported.
            let is_for_clusters = route.path.starts_with("/api/v1/sso/")
                || route.path.ends_with("/ob")
                || route.path.contains("/ob/unfinish")
                || route.path.contains("/package/")
                || route.path.starts_with("/api/v1/obcluster/") && !route.path.ends_with("/statistics");
            if is_for_clusters {
                check_refused(&answer, route.path);
            } else {
                assert!(!answer.data().is_null(), "{}: {}", route.path, answer.text);
            }
        }
    }
}

/// The stream and the watch answer forever; a client of HTTP/2 may have many on one connection.
#[tokio::test]
async fn http_2_carries_many_requests_on_one_connection() {
    let home = Home::new();
    let _agent = home.start();
    let http =
        reqwest::Client::builder().no_proxy().tls_certs_only([]).http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/api/v1/time", home.address());
    let many = (0..64).map(|_| http.get(&url).send());
    for response in futures_util::future::join_all(many).await {
        let response = response.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, reqwest::Version::HTTP_2));
    }
    let response = http.get(format!("http://{}/nothing", home.address())).send().await.unwrap();
    assert_eq!(response.status(), 404);
}

/// Whoever has no header gets one clear answer, on every protected route alike.
#[tokio::test]
async fn protected_routes_want_a_header_and_open_ones_none() {
    let home = Home::new();
    let _agent = home.start();
    let door = Door::open(&home.address());
    for route in ROUTES {
        let body = (route.method != "GET").then(|| "{}".to_owned());
        let answer = door.send(route.method, &target(route.path), body).await;
        let what = format!("{} {}", route.method, route.path);
        check_envelope(&answer, &what);
        match route.class {
            // Agents among themselves are known by their keys, and show nothing to others.
            RouteClass::Peer => {
                assert_eq!((answer.status, answer.code().as_str()), (401, "Common.Unauthorized"), "{what}")
            }
            RouteClass::Open if route.path.starts_with("/rpc/") => assert_eq!(answer.status, 401, "{what}"),
            RouteClass::Open if route.path.starts_with("/api/v1/sso/") => {
                assert_eq!(answer.code(), "Common.NotSupported", "{what}");
            }
            RouteClass::Open => assert_eq!(answer.status, 200, "{what}"),
            RouteClass::Protected | RouteClass::BeAdded | RouteClass::SetPassword | RouteClass::Login => {
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (400, "Request.Header.NotFound"),
                    "{what}"
                );
            }
        }
    }
}

/// A way to an agent for clients that know no Unix sockets: what comes to a port of the loopback goes to the socket, and back.
async fn port_of(socket: std::path::PathBuf) -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let Ok(mut agent) = tokio::net::UnixStream::connect(&socket).await else { return };
            tokio::spawn(async move {
                drop(tokio::io::copy_bidirectional(&mut client, &mut agent).await);
            });
        }
    });
    port
}

/// Schemathesis asks a running cluster what the document allows, and what it does not: no answer contradicts the document, and
/// none is a defect. What it is told about this API, and what is left out, stands in `schema_hooks.py`.
#[tokio::test]
async fn no_answer_of_a_running_cluster_contradicts_the_document() {
    schemathesis("proto/openapi.json", 25).await;
}

/// The same of the v2 API, through the socket: whoever stands there is an admin.
#[tokio::test]
async fn no_answer_of_v2_contradicts_its_document() {
    schemathesis("proto/openapi-v2.json", 15).await;
}

/// At least so many operations have to do something.
async fn schemathesis(document: &str, least: usize) {
    let cluster = Cluster::new(1);
    cluster.form().await;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join("build/schemathesis");
    assert!(packages.join("schemathesis").exists(), "{} is missing; `make schema`", packages.display());
    let port = port_of(cluster.homes[0].socket()).await;
    // Its own notes stay with the test.
    let dir = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new("python3");
    command.args(["-m", "schema_hooks", "run"]).arg(root.join(document));
    command.args(["--url", &format!("http://127.0.0.1:{port}"), "--exclude-path", "/api/v1/task/events"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "2886"]);
    command.args(["--generation-database", "none", "--generation-with-security-parameters", "false"]);
    command.args(["--workers", "1", "--request-timeout", "20", "--warnings", "off", "--no-color"]);
    let checks = "status_code_conformance,content_type_conformance,response_schema_conformance,no_defect";
    command.args(["--checks", checks]).current_dir(dir.path()).kill_on_drop(true);
    command.env("PYTHONPATH", format!("{}:{}", packages.display(), root.join("tests/agent").display()));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let ended = tokio::time::timeout(std::time::Duration::from_secs(120), command.output()).await;
    let output = ended.expect("it ends within two minutes").unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{}", cluster.agent(0).stderr());
    // It was let in, and came far: who gets no answer finds nothing wrong.
    let did = text
        .lines()
        .find_map(|line| line.strip_prefix("operations that did something: ")?.parse::<usize>().ok());
    assert!(did.is_some_and(|did| did >= least), "{text}");
}

//! What lies under the API: connections that survive a refusal, limits, names in odd spelling, language and trace.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use obpilot::api::{ROUTES, Route};
use serde_json::{Value, json};

use crate::contract::doors;
use crate::rig::{Door, Home, LIMIT};

/// Writes all requests before it reads; the last one asks for the end of the connection.
fn pipelined(home: &Home, requests: &[String]) -> Vec<(u16, Value)> {
    let mut stream = TcpStream::connect(home.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(requests.concat().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    answers(&text)
}

/// Answers one after the other, each of the length that its head tells.
fn answers(mut text: &str) -> Vec<(u16, Value)> {
    let mut found = Vec::new();
    while let Some((head, rest)) = text.split_once("\r\n\r\n") {
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let (body, rest) = rest.split_at(length.unwrap_or(0));
        found.push((status, serde_json::from_str(body).unwrap_or(Value::Null)));
        text = rest;
    }
    found
}

fn request(line: &str, body: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: agent\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_order_whatever_was_wrong_with_one() {
    let home = Home::new();
    let _agent = home.start();
    let answers = pipelined(
        &home,
        &[
            request("GET /api/v1/time", ""),
            request("GET /api/v1/nothing", ""),
            request("POST /api/v1/agent/join", "{ no json"),
            request("GET /api/v1/status?ob_query_timeout=never", ""),
            request("DELETE /api/v1/time", "a body that nobody reads"),
            request("GET /api/v1/info", ""),
        ],
    );
    let statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    // The second body is never looked at: nobody has said who he is.
    assert_eq!(statuses, [200, 404, 400, 400, 404, 200], "{answers:?}");
    assert!(answers[0].1["data"].is_string() && answers[5].1["data"]["identity"] == "SINGLE", "{answers:?}");
}

#[tokio::test]
async fn a_connection_is_used_again_after_every_kind_of_refusal() {
    let home = Home::new();
    let agent = home.start();
    for door in doors(&home, &agent).await {
        for route in ROUTES.iter().filter(|route| route.method != "GET" && !is_for_agents(route)) {
            let target = route.path.replace("{id}", "1").replace("{zone_name}", "zone1");
            let refused = door.send(route.method, &target, Some("{ no json".to_owned())).await;
            assert!(refused.status < 500, "{target}: {}", refused.text);
            assert_eq!(refused.headers.get("connection"), None, "{target} closes the connection");
            door.get("/api/v1/time").await.data();
        }
    }
}

/// Agents among themselves are known by their keys; nobody else has a body there that is worth reading.
fn is_for_agents(route: &Route) -> bool {
    route.path.starts_with("/rpc/v1/peer")
}

/// Whoever sends too much is told so, on every route that reads a body, sealed or not.
#[tokio::test]
async fn every_body_has_a_limit_that_the_refusal_names() {
    let mut home = Home::new();
    home.configure("[api]\nbody_max_bytes = 4096\n");
    let agent = home.start();
    let large = json!({ "password": "x".repeat(8192) }).to_string();
    for door in doors(&home, &agent).await {
        let reads = |r: &&Route| r.method != "GET" && r.path != "/api/v1/status" && !is_for_agents(r);
        for route in ROUTES.iter().filter(reads) {
            let target = route.path.replace("{id}", "1").replace("{zone_name}", "zone1");
            let answer = door.send(route.method, &target, Some(large.clone())).await;
            assert_eq!((answer.status, answer.code().as_str()), (413, "Request.Body.TooLarge"), "{target}");
            assert!(answer.message().contains("4096"), "{}", answer.message());
            door.get("/api/v1/time").await.data();
        }
    }
    // What fits is judged by what it says.
    let fits = agent.door.post("/api/v1/agent/password", json!({ "passwort": "x".repeat(2048) })).await;
    assert_eq!(fits.code(), "Common.BindJsonFailed");
}

/// `http-api.md` H6: a slash at the end is answered directly.
#[tokio::test]
async fn h6_a_slash_at_the_end_is_no_other_path() {
    let home = Home::new();
    let agent = home.start();
    assert_eq!(agent.door.get("/api/v1/time/").await.status, 200);
    // Bytes that are no text, and texts that are no id, are refused like any wrong id.
    for path in ["/api/v1/task/dag/%FF", "/api/v1/task/node/a%20b", "/api/v1/task/sub_task/%C3%A4"] {
        let answer = agent.door.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "Task.GenericID.Invalid"), "{path}");
    }
    let query = agent.door.get("/api/v1/status?ob_query_timeout=%FF").await;
    assert_eq!((query.status, query.code().as_str()), (400, "Request.Query.Param.Illegal"));
}

/// HEAD and OPTIONS are no methods of this API: 404, never 405.
#[tokio::test]
async fn other_methods_are_unknown() {
    let home = Home::new();
    let agent = home.start();
    for method in ["HEAD", "OPTIONS", "TRACE", "PROPFIND"] {
        assert_eq!(agent.door.send(method, "/api/v1/time", None).await.status, 404, "{method}");
    }
}

async fn with_header(door: &Door, target: &str, header: (&str, &str)) -> Value {
    let response = door.request("GET", target, None).header(header.0, header.1).send().await.unwrap();
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_caller_chooses_language_and_trace() {
    let home = Home::new();
    let agent = home.start();
    let door = &agent.door;
    let chinese = with_header(door, "/api/v1/nothing", ("Accept-Language", "zh-CN,zh;q=0.9")).await;
    assert!(chinese["error"]["message"].as_str().unwrap().starts_with("路由不存在"), "{chinese}");
    assert_eq!(chinese["error"]["errCode"], "Common.NotFound");
    let traced = with_header(door, "/api/v1/nothing", ("X-OBSHELL-Trace-ID", "abc-1")).await;
    assert_eq!(traced["traceId"], "abc-1");
    let status = with_header(door, "/api/v1/status", ("X-OBSHELL-Trace-ID", "abc-1")).await;
    assert_eq!(status["traceId"], "", "the status is never traced");
}

/// `http-api.md` §2.1: no other member stands beside these, because the Go SDK reads both levels at once.
#[tokio::test]
async fn an_envelope_has_the_members_of_the_contract_and_no_others() {
    let home = Home::new();
    let agent = home.start();
    let names = |json: &Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let all = ["successful", "timestamp", "duration", "status", "traceId"];
    let good = agent.door.get("/api/v1/info").await.json();
    assert_eq!(names(&good), [&all[..], &["data"]].concat());
    let nothing = agent.door.post("/api/v1/agent/password", json!({ "password": "a password" })).await.json();
    assert_eq!(names(&nothing), all);
    let bad = agent.door.get("/api/v1/nothing").await.json();
    assert_eq!(names(&bad), [&all[..], &["error"]].concat());
    assert_eq!(names(&bad["error"]), ["errCode", "message"]);
    let denied =
        Door::open(&home.address()).request("GET", "/api/v1/ob/info", None).header("X-OCS-Header", "x");
    let denied: Value = serde_json::from_str(&denied.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(names(&denied["error"]), ["code", "errCode", "message"]);
}

/// `Idempotency-Key`: asked again, also after the end and by another door, it is the same task; for anything else it is refused.
#[tokio::test]
async fn a_request_with_a_key_makes_one_task() {
    let home = Home::new();
    let agent = home.start();
    let join =
        json!({ "agentInfo": { "ip": "127.0.0.1", "port": home.port }, "zoneName": "zone1" }).to_string();
    let ask = async |door: &Door, key: &str, body: &str| {
        let request = door.request("POST", "/api/v1/agent/join", Some(body)).header("Idempotency-Key", key);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), serde_json::from_str::<Value>(&response.text().await.unwrap()).unwrap())
    };
    let (status, first) = ask(&agent.door, "one", &join).await;
    assert_eq!(status, 200, "{first}");
    let id = first["data"]["id"].as_str().unwrap();
    agent.door.finished(id).await.expect_succeeded();
    for door in doors(&home, &agent).await {
        // The agent is a MASTER by now and would refuse another join.
        let (status, again) = ask(&door, "one", &join).await;
        assert_eq!((status, &again["data"]["id"]), (200, &json!(id)), "{again}");
        let (status, other) = ask(&door, "two", &join).await;
        assert_eq!((status, &other["error"]["errCode"]), (400, &json!("Agent.Identify.NotSupportOperation")));
        let (status, reused) = ask(&door, "one", &join.replace("zone1", "zone2")).await;
        assert_eq!(status, 400, "{reused}");
        assert!(reused["error"]["message"].as_str().unwrap().contains("new key"), "{reused}");
        let (status, unusable) = ask(&door, &"k".repeat(129), &join).await;
        assert_eq!((status, &unusable["error"]["errCode"]), (400, &json!("Common.IllegalArgument")));
    }
    let dags = agent.door.get("/api/v1/task/dags/agent").await.data();
    assert_eq!(dags["contents"].as_array().unwrap().len(), 1, "{dags:#}");
}

/// What is no HTTP has no envelope: a bare status, the end of that connection, and nobody else notices.
#[tokio::test]
async fn heads_that_are_none_end_their_own_connection_only() {
    let mut home = Home::new();
    home.configure("[api]\nhead_timeout_secs = 1\n");
    let agent = home.start();
    let long = format!("GET /api/v1/time HTTP/1.1\r\nHost: agent\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    let cases = [
        ("GARBAGE\r\n\r\n", "400"),
        ("GET /api/v1/time HTTP/9.9\r\nHost: agent\r\n\r\n", "400"),
        ("GET /api/v1/time HTTP/1.1\r\nHost: agent\r\nno colon\r\n\r\n", "400"),
        ("GET /api/v1/time HTTP/1.1\r\nHost: agent\r\nContent-Length: many\r\n\r\n", "400"),
        (
            "POST /api/v1/agent/join HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (&long, "431"),
        // Never finished.
        ("GET /api/v1/ti", "408"),
    ];
    for (head, status) in cases {
        let mut stream = TcpStream::connect(home.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // It may be refused before all of it was written.
        drop(stream.write_all(head.as_bytes()));
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        let case = head.get(..60).unwrap_or(head);
        assert_eq!(std::str::from_utf8(&start).unwrap(), format!("HTTP/1.1 {status}"), "{case}");
        agent.door.get("/api/v1/time").await.data();
    }
}

/// A body that never ends ends its request, on the socket as well as over TCP.
#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_so_long_and_no_longer() {
    let mut home = Home::new();
    home.configure("[api]\nbody_timeout_secs = 1\n");
    let agent = home.start();
    let head = "POST /api/v1/agent/join HTTP/1.1\r\nHost: agent\r\nContent-Length: 9\r\n\r\n{";
    let mut stream = std::os::unix::net::UnixStream::connect(home.socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 400");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("Request.Body.ReadFailed") && rest.contains("api.body_timeout_secs"), "{rest}");
    agent.door.get("/api/v1/time").await.data();
}

/// It listens where it was told to, and nowhere else.
#[tokio::test]
async fn w49_it_listens_on_its_own_address_only() {
    let mut home = Home::new();
    let agent = home.start();
    assert!(TcpStream::connect(home.address()).is_ok());
    let other = format!("127.0.0.2:{}", home.port);
    let refused = TcpStream::connect(&other).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    drop(agent);

    home.configure(&format!("[agent]\nlisten = [\"{}\", \"{other}\"]\n", home.address()));
    let _agent = home.start();
    for address in [home.address(), other] {
        assert!(TcpStream::connect(&address).is_ok(), "{address}");
    }
}

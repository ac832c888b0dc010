//! Who gets in as what: the callers of each identity at the TCP door, and tricks with sealed headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obpilot::secure::{AGENT_HEADER, DATABASE_HEADER};
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

use crate::door::{master, visible, with_many_failures};
use crate::rig::{Agent, Answer, Door, Home, LIMIT, PASSWORD};

const JOIN: &str = "/api/v1/agent/join";
const INFO: &str = "/api/v1/ob/info";

/// Where SDKs cut, whatever the key.
const SDK_CUT: usize = 53;

fn now() -> i64 {
    obpilot::clock::system().now_secs()
}

async fn public_key(home: &Home) -> rsa::RsaPublicKey {
    let secret = Door::open(&home.address()).get("/api/v1/secret").await.data();
    let der = STANDARD.decode(secret["public_key"].as_str().unwrap()).unwrap();
    rsa::RsaPublicKey::from_pkcs1_der(&der).unwrap()
}

/// The blocks of a text, cut as wanted.
fn blocks(key: &rsa::RsaPublicKey, text: &str, cut: usize) -> Vec<Vec<u8>> {
    let seal = |part: &[u8]| key.encrypt(&mut rsa::rand_core::OsRng, rsa::Pkcs1v15Encrypt, part).unwrap();
    text.as_bytes().chunks(cut).map(seal).collect()
}

async fn seal(home: &Home, header: &Value) -> String {
    STANDARD.encode(blocks(&public_key(home).await, &header.to_string(), SDK_CUT).concat())
}

/// Of an honest caller.
fn header(auth: &str, uri: &str) -> Value {
    json!({ "auth": auth, "ts": (now() + 60).to_string(), "uri": uri })
}

async fn send(home: &Home, method: &str, target: &str, name: &str, value: &str) -> Answer {
    let door = Door::open(&home.address());
    let response = door.request(method, target, None).header(name, value).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

/// An honest question under one of the two headers.
async fn ask(home: &Home, name: &str, auth: &str) -> Answer {
    let value = seal(home, &header(auth, INFO)).await;
    send(home, "GET", INFO, name, &value).await
}

async fn count_tasks(agent: &Agent) -> usize {
    agent.door.get("/api/v1/task/dags/agent").await.data()["contents"].as_array().unwrap().len()
}

/// Nobody has a password for a fresh agent; what is late, for another target, or not for this key is refused all the same.
#[tokio::test]
async fn a_fresh_agent_takes_any_password_but_no_bad_header() {
    let mut home = Home::new();
    with_many_failures(&mut home);
    let agent = home.start();
    let other = Home::new();
    let _other = other.start();
    let honest = header("whatever", JOIN);
    let with = |member: &str, value: Value| {
        let mut header = honest.clone();
        header[member] = value;
        header
    };
    let twice = honest.to_string().replacen('{', "{\"TS\":\"1\",", 1);
    let bad = [
        ("no base64", "garbage".to_owned()),
        ("another agent's key", seal(&other, &honest).await),
        ("expired", seal(&home, &with("ts", json!((now() - 2).to_string()))).await),
        ("for ever", seal(&home, &with("ts", json!("99999999999"))).await),
        ("no time", seal(&home, &with("ts", json!(null))).await),
        ("a time that is a number", seal(&home, &with("ts", json!(now() + 60))).await),
        ("another target", seal(&home, &with("uri", json!("/api/v1/ob/init"))).await),
        ("a target with a query", seal(&home, &with("uri", json!(format!("{JOIN}?a=b")))).await),
        ("keys of a wrong length", seal(&home, &with("keys", json!(STANDARD.encode([0; 16])))).await),
        ("an unknown way of forwarding", seal(&home, &with("forwardtype", json!(7))).await),
        ("a member twice", STANDARD.encode(blocks(&public_key(&home).await, &twice, SDK_CUT).concat())),
        ("no object", STANDARD.encode(blocks(&public_key(&home).await, "[]", SDK_CUT).concat())),
    ];
    let mut first = None;
    for (what, value) in bad {
        let answer = send(&home, "POST", JOIN, DATABASE_HEADER, &value).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        let expected = first.get_or_insert_with(|| visible(&answer));
        assert_eq!(&visible(&answer), expected, "{what}");
    }
    assert_eq!(count_tasks(&agent).await, 0, "a refused request made a task");
    // An honest one may come with any password, and comes once.
    let value = seal(&home, &honest).await;
    let accepted = send(&home, "POST", JOIN, DATABASE_HEADER, &value).await;
    assert_eq!(accepted.code(), "Common.BindJsonFailed", "let in, and told about its body");
    let repeated = send(&home, "POST", JOIN, DATABASE_HEADER, &value).await;
    assert_eq!(Some(visible(&repeated)), first, "a header comes once");
}

/// `security.md` §3.4.1 and §3.4.4 for a SINGLE with a password of its own.
#[tokio::test]
async fn an_agent_password_closes_a_fresh_agent() {
    let mut home = Home::new();
    with_many_failures(&mut home);
    let agent = home.start();
    agent.door.post("/api/v1/agent/password", json!({ "password": "agent's own" })).await;
    assert_eq!(agent.door.get("/api/v1/info").await.data()["security"], json!(true));
    let stranger = visible(&send(&home, "GET", INFO, DATABASE_HEADER, "garbage").await);
    for (name, auth) in
        [(DATABASE_HEADER, "agent's own"), (DATABASE_HEADER, ""), (AGENT_HEADER, "wrong"), (AGENT_HEADER, "")]
    {
        assert_eq!(visible(&ask(&home, name, auth).await), stranger, "{name} {auth:?}");
    }
    assert_eq!(ask(&home, AGENT_HEADER, "agent's own").await.status, 200);
    // Scale-out sends the password sealed with our own key inside the header.
    let inner = STANDARD.encode(blocks(&public_key(&home).await, "agent's own", SDK_CUT).concat());
    assert_eq!(ask(&home, AGENT_HEADER, &inner).await.status, 200);
    // Nobody without it sets another one.
    let target = "/api/v1/agent/password";
    let value = seal(&home, &header("wrong", target)).await;
    for name in [DATABASE_HEADER, AGENT_HEADER] {
        assert_eq!(visible(&send(&home, "POST", target, name, &value).await), stranger, "{name}");
    }
    assert_eq!(ask(&home, AGENT_HEADER, "agent's own").await.status, 200, "it is still the one");
}

/// W1: whoever calls himself an agent has to show its token, and an empty one is none.
#[tokio::test]
async fn w1_a_forwarded_request_without_a_token_opens_nothing() {
    let mut home = Home::new();
    with_many_failures(&mut home);
    let agent = master(&home).await;
    let before = count_tasks(&agent).await;
    let stranger = visible(&send(&home, "POST", JOIN, DATABASE_HEADER, "garbage").await);
    for (kind, token) in [(2, json!("")), (2, json!(null)), (2, json!("guessed")), (1, json!(""))] {
        let mut forwarded = header("", JOIN);
        forwarded["forwardtype"] = json!(kind);
        forwarded["token"] = token;
        forwarded["forwardagent"] = json!({ "ip": "10.0.0.9", "port": 2886 });
        let value = seal(&home, &forwarded).await;
        for name in [DATABASE_HEADER, AGENT_HEADER] {
            let answer = send(&home, "POST", JOIN, name, &value).await;
            assert_eq!(visible(&answer), stranger, "{name} {forwarded}");
        }
    }
    assert_eq!(count_tasks(&agent).await, before);
}

/// W2: a block of a request that was seen goes into no other header, neither with a member twice nor cut to fit.
#[tokio::test]
async fn w2_blocks_of_a_seen_header_are_worth_nothing() {
    let mut home = Home::new();
    with_many_failures(&mut home);
    let _agent = master(&home).await;
    let stranger = visible(&send(&home, "POST", JOIN, DATABASE_HEADER, "garbage").await);
    let key = public_key(&home).await;
    let password = json!(PASSWORD).to_string();
    // Cut so that the first block ends where a thief would like it to: after the password and the time.
    let secret_part = format!("{{\"auth\":{password},\"ts\":\"{}\",", now() + 60);
    let mut seen = blocks(&key, &secret_part, key.size() - 11);
    let stolen = seen.clone();
    seen.extend(blocks(&key, &format!("\"uri\":\"{INFO}\"}}"), SDK_CUT));
    let honest = send(&home, "GET", INFO, DATABASE_HEADER, &STANDARD.encode(seen.concat())).await;
    assert_eq!(honest.status, 200, "{}", honest.text);
    let keys = STANDARD.encode([7; 32]);
    for forged in [
        format!("\"uri\":\"{JOIN}\"}}"),
        format!("\"uri\":\"{JOIN}\",\"keys\":\"{keys}\"}}"),
        format!("\"uri\":\"{INFO}\",\"uri\":\"{JOIN}\"}}"),
        format!("\"ts\":\"{}\",\"uri\":\"{JOIN}\"}}", now() + 3000),
    ] {
        let mut spliced = stolen.clone();
        spliced.extend(blocks(&key, &forged, SDK_CUT));
        let answer = send(&home, "POST", JOIN, DATABASE_HEADER, &STANDARD.encode(spliced.concat())).await;
        assert_eq!(visible(&answer), stranger, "{forged}");
    }
    // The whole of it in another order, or with a piece of itself, is no header either.
    let (first, last) = (&seen[0], &seen[seen.len() - 1]);
    for order in [vec![last, first], vec![first, first, last]] {
        let value = STANDARD.encode(order.into_iter().flatten().copied().collect::<Vec<_>>());
        assert_eq!(visible(&send(&home, "POST", JOIN, DATABASE_HEADER, &value).await), stranger);
    }
}

/// W8: a key under which too much failed is replaced, for good; whoever knows the password reads the new one.
#[tokio::test]
async fn w8_a_key_that_was_tried_too_often_is_replaced() {
    let mut home = Home::new();
    home.configure("[auth]\nfailures_per_minute_max = 100000\nfailed_openings_max = 16\n");
    let mut agent = master(&home).await;
    let old = public_key(&home).await;
    let sealed_before = seal(&home, &header(PASSWORD, INFO)).await;
    for _ in 0..17 {
        assert_eq!(send(&home, "GET", INFO, DATABASE_HEADER, "AAAA").await.status, 401);
    }
    let replaced = async {
        while public_key(&home).await == old {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, replaced).await.expect("the key is replaced");
    let refused = send(&home, "GET", INFO, DATABASE_HEADER, &sealed_before).await;
    // 10008 is what makes an SDK read the key again.
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (401, &json!(10008)));
    assert_eq!(ask(&home, DATABASE_HEADER, PASSWORD).await.status, 200);
    let new = public_key(&home).await;
    agent.terminate();
    let _agent = home.start();
    assert_eq!(public_key(&home).await, new, "the new key survives a restart");
    assert_eq!(ask(&home, DATABASE_HEADER, PASSWORD).await.status, 200);
}

/// Failures are counted by address: one stranger does not lock out the others.
#[tokio::test]
async fn failures_of_one_address_are_not_those_of_another() {
    let mut home = Home::new();
    home.configure("[auth]\nfailures_per_minute_max = 3\n");
    let _agent = master(&home).await;
    for _ in 0..3 {
        assert_eq!(ask(&home, DATABASE_HEADER, "wrong").await.status, 401);
    }
    let limited = ask(&home, DATABASE_HEADER, PASSWORD).await;
    assert_eq!(
        (limited.status, limited.code().as_str()),
        (429, "Request.TooMany"),
        "even with the right one"
    );
    assert_eq!(limited.headers["retry-after"], "60");
    let elsewhere = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .local_address(Some([127, 0, 0, 2].into()))
        .build();
    let value = seal(&home, &header(PASSWORD, INFO)).await;
    let request = elsewhere.unwrap().get(format!("http://{}{INFO}", home.address()));
    let answer = request.header(DATABASE_HEADER, value).send().await.unwrap();
    assert_eq!(answer.status(), 200, "another address is not concerned");
}

/// A database runs and its password is the agent's: who may, what is refused by whom, also while the database is stopped.
#[tokio::test]
async fn a_cluster_agent_is_opened_by_the_password_of_its_database() {
    let mut home = Home::new();
    with_many_failures(&mut home);
    let agent = home.start();
    home.initialise(&agent).await;
    let stranger = visible(&send(&home, "GET", INFO, DATABASE_HEADER, "garbage").await);
    for (name, auth) in
        [(DATABASE_HEADER, "wrong"), (DATABASE_HEADER, ""), (AGENT_HEADER, PASSWORD), (AGENT_HEADER, "")]
    {
        assert_eq!(visible(&ask(&home, name, auth).await), stranger, "{name} {auth:?}");
    }
    assert_eq!(ask(&home, DATABASE_HEADER, PASSWORD).await.status, 200);
    let mut late = header(PASSWORD, INFO);
    late["ts"] = json!((now() - 3).to_string());
    let late = send(&home, "GET", INFO, DATABASE_HEADER, &seal(&home, &late).await).await;
    assert_eq!(late.code(), "Security.Authentication.Expired", "a known caller is told");

    // A password of the agent opens beside that of the database.
    let tcp = home.tcp(PASSWORD).await;
    assert_eq!(tcp.post("/api/v1/agent/password", json!({ "password": "agent's own" })).await.status, 200);
    assert_eq!(ask(&home, AGENT_HEADER, "agent's own").await.status, 200);
    assert_eq!(visible(&ask(&home, AGENT_HEADER, PASSWORD).await), stranger);
    assert_eq!(ask(&home, DATABASE_HEADER, PASSWORD).await.status, 200);

    what_a_cluster_agent_refuses(&home, &tcp).await;

    let stop = json!({ "scope": { "type": "GLOBAL", "target": [] }, "terminate": true });
    let dag = tcp.post("/api/v1/ob/stop", stop).await.data();
    tcp.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
    assert_eq!(ask(&home, DATABASE_HEADER, PASSWORD).await.status, 200, "the known one needs no database");
    assert_eq!(visible(&ask(&home, DATABASE_HEADER, "wrong").await), stranger);
}

async fn what_a_cluster_agent_refuses(home: &Home, door: &Door) {
    let own = json!({ "ip": "127.0.0.1", "port": home.port });
    let global = json!({ "type": "GLOBAL" });
    let config = json!({ "observerConfig": { "a": "b" }, "scope": global });
    let again = json!({ "clusterName": "c", "clusterId": 1 });
    let table = [
        (JOIN, json!({ "agentInfo": own, "zoneName": "z" }), "Agent.Identify.NotSupportOperation"),
        ("/api/v1/obcluster/config", again, "OB.Cluster.AlreadyInitialized"),
        ("/api/v1/observer/config", config, "OB.Cluster.AlreadyInitialized"),
        ("/api/v1/ob/init", json!({}), "OB.Cluster.AlreadyInitialized"),
        ("/api/v1/ob/stop", json!({ "scope": global }), "OB.Cluster.ForceStopOrTerminateRequired"),
        (
            "/api/v1/ob/stop",
            json!({ "scope": global, "force": true, "terminate": true }),
            "OB.Cluster.StopModeConflict",
        ),
        ("/api/v1/obcluster/password", json!({ "rootPwd": "not it" }), "OB.Cluster.Password.Incorrect"),
    ];
    for (target, body, code) in table {
        let answer = door.post(target, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{target}: {}", answer.text);
    }
    for target in ["/api/v1/task/dags/ob", "/api/v1/task/dag/ob/unfinish"] {
        assert_eq!(door.get(target).await.data(), json!({ "contents": [] }), "{target}");
    }
    let plan =
        door.post("/api/v1/ob/stop?plan=true", json!({ "scope": global, "terminate": true })).await.data();
    assert_eq!((&plan["name"], &plan["obstacles"]), (&json!("Stop OB"), &json!([])), "{plan:#}");
    assert_eq!(home.database_pids().len(), 1, "a plan stops nothing");
}

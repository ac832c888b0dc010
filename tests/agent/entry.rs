//! Sessions of clients, what guessing costs, and the trail that all of it leaves.

use obpilot::secure::{AGENT_HEADER, DATABASE_HEADER};
use serde_json::{Value, json};

use crate::door::visible;
use crate::forge::{Forge, NO_SESSION, honest, now};
use crate::rig::{Answer, Cluster, Door, Home, LIMIT, PASSWORD};

const INFO: &str = "/api/v1/ob/info";
const LOGOUT: &str = "/api/v1/logout";
const AGENT_PASSWORD: &str = "an agent's own";

const PATIENT: &str = "[auth]\nfailures_per_minute_max = 100000\n";

/// One host with a cluster of its own.
async fn cluster(toml: &str) -> (Cluster, Forge) {
    let cluster = Cluster::configured(1, toml);
    cluster.form().await;
    let forge = Forge::of(&cluster.address(0)).await;
    (cluster, forge)
}

async fn by_session(forge: &Forge, id: &str) -> Answer {
    forge.ask("GET", INFO, DATABASE_HEADER, json!({ "session_id": id })).await
}

async fn stranger(forge: &Forge) -> (u16, Vec<(String, String)>, Value) {
    let seen = visible(&forge.send("GET", INFO, &[(DATABASE_HEADER, "garbage".to_owned())], None).await);
    assert_eq!(seen.0, 401);
    seen
}

/// Logs out by a session or a password; the id of whom is another question.
async fn logout(forge: &Forge, shown: Value, id: &str) -> Answer {
    use base64::Engine as _;
    let keys = [7; 32];
    let mut header = honest(LOGOUT, shown);
    header["keys"] = json!(base64::engine::general_purpose::STANDARD.encode(keys));
    let body = sealed_body(keys, &json!({ "session_id": id }).to_string());
    forge.send("POST", LOGOUT, &[(DATABASE_HEADER, forge.seal(&header))], Some(&body)).await
}

fn sealed_body(keys: [u8; 32], text: &str) -> String {
    use aws_lc_rs::cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
    use base64::Engine as _;
    let (key, iv) = keys.split_at(16);
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_128, key).unwrap()).unwrap();
    let iv: [u8; 16] = iv.try_into().unwrap();
    let mut buffer = text.as_bytes().to_vec();
    key.less_safe_encrypt(&mut buffer, EncryptionContext::Iv128(iv.into())).unwrap();
    base64::engine::general_purpose::STANDARD.encode(buffer)
}

#[tokio::test]
async fn a_session_stands_for_its_password_until_it_is_ended() {
    let (cluster, forge) = cluster(PATIENT).await;
    let stranger = stranger(&forge).await;
    let [first, second, third] = [(); 3].map(|()| forge.login(DATABASE_HEADER, PASSWORD));
    let (first, second, third) = (first.await.unwrap(), second.await.unwrap(), third.await.unwrap());
    assert!(first.len() == 64 && first != second, "{first} {second}");
    for name in [DATABASE_HEADER, AGENT_HEADER] {
        let answer = forge.ask("GET", INFO, name, json!({ "session_id": first })).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
    }
    // What its holder does wrong is told; a session is no reason to accept a header twice.
    let late = json!({ "session_id": first, "ts": (now() - 9).to_string() });
    let late = forge.ask("GET", INFO, DATABASE_HEADER, late).await;
    assert_eq!(late.code(), "Security.Authentication.Expired");
    let twice = [(DATABASE_HEADER, forge.seal(&honest(INFO, json!({ "session_id": first }))))];
    assert_eq!(forge.send("GET", INFO, &twice, None).await.status, 200);
    assert_eq!(visible(&forge.send("GET", INFO, &twice, None).await), stranger);
    // A session does not get another, and sets no password.
    for target in ["/api/v1/login", "/api/v1/sso/token", "/api/v1/agent/password"] {
        let answer = forge.ask("POST", target, DATABASE_HEADER, json!({ "session_id": first })).await;
        assert_eq!(visible(&answer), stranger, "{target}");
    }
    // By itself it ends itself only; another id is left alone, without a word.
    assert_eq!(logout(&forge, json!({ "session_id": first }), &second).await.status, 200);
    assert_eq!(by_session(&forge, &second).await.status, 200);
    assert_eq!(logout(&forge, json!({ "session_id": first }), &first).await.status, 200);
    assert_eq!(visible(&by_session(&forge, &first).await), stranger);
    // By a password any is ended, and one that is none too.
    assert_eq!(logout(&forge, json!({ "auth": PASSWORD }), &second).await.status, 200);
    assert_eq!(logout(&forge, json!({ "auth": PASSWORD }), NO_SESSION).await.status, 200);
    assert_eq!(visible(&by_session(&forge, &second).await), stranger);
    assert_eq!(by_session(&forge, &third).await.status, 200, "nobody has ended this one");
    let empty = logout(&forge, json!({ "auth": PASSWORD }), "").await;
    assert_eq!((empty.status, empty.code().as_str()), (400, "Common.BindJsonFailed"));
    let by_socket = cluster.door(0).post(LOGOUT, json!({ "session_id": third })).await;
    assert_eq!(by_socket.status, 200, "{}", by_socket.text);
    assert_eq!(visible(&by_session(&forge, &third).await), stranger);
}

#[tokio::test]
async fn a_login_without_keys_or_by_the_socket_is_told_what_it_needs() {
    let home = Home::new();
    let agent = home.start();
    let forge = Forge::of(&home.address()).await;
    let no_keys = forge.ask("POST", "/api/v1/login", DATABASE_HEADER, json!({ "auth": "" })).await;
    let by_socket = agent.door.post("/api/v1/login", json!({})).await;
    for answer in [no_keys, by_socket] {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "Request.AESKey.NotFound"),
            "{}",
            answer.text
        );
        assert!(answer.message().contains("keys"), "{}", answer.text);
    }
    for (method, target) in [("POST", "/api/v1/sso/token"), ("GET", "/api/v1/sso/exchange")] {
        let answer = agent.door.send(method, target, None).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "Common.NotSupported"), "{}", answer.text);
    }
}

/// W16: what was worth nothing when it was made is worth nothing later.
#[tokio::test]
async fn w16_a_session_from_before_init_opens_nothing_after_it() {
    let cluster = Cluster::configured(1, PATIENT);
    let forge = Forge::of(&cluster.address(0)).await;
    // Anybody may claim a fresh agent, and so log in.
    let single = forge.login(DATABASE_HEADER, "whatever").await.unwrap();
    cluster.join(0, 0, "zone1").await;
    cluster.configure(0).await;
    let master = forge.login(DATABASE_HEADER, PASSWORD).await.unwrap();
    cluster.done(0, "/api/v1/ob/init", json!({})).await;
    let stranger = stranger(&forge).await;
    for id in [&single, &master] {
        assert_eq!(visible(&by_session(&forge, id).await), stranger);
    }
    let own = forge.login(DATABASE_HEADER, PASSWORD).await.unwrap();
    assert_eq!(by_session(&forge, &own).await.status, 200);
}

/// Whoever has changed the password because it was stolen has ended the thief's sessions too.
#[tokio::test]
async fn w16_a_change_of_a_password_ends_every_session() {
    let (cluster, forge) = cluster(PATIENT).await;
    let stranger = stranger(&forge).await;
    let root = forge.login(DATABASE_HEADER, PASSWORD).await.unwrap();
    let set = json!({ "password": AGENT_PASSWORD });
    assert_eq!(cluster.door(0).post("/api/v1/agent/password", set).await.status, 200);
    assert_eq!(visible(&by_session(&forge, &root).await), stranger, "the agent's was changed");
    let sessions = [
        forge.login(DATABASE_HEADER, PASSWORD).await.unwrap(),
        forge.login(AGENT_HEADER, AGENT_PASSWORD).await.unwrap(),
    ];
    for id in &sessions {
        assert_eq!(by_session(&forge, id).await.status, 200);
    }
    alter_root(&cluster, "another one").await;
    let given = cluster.door(0).post("/api/v1/obcluster/password", json!({ "rootPwd": "another one" })).await;
    assert_eq!(given.status, 200, "{}", given.text);
    for id in &sessions {
        assert_eq!(visible(&by_session(&forge, id).await), stranger, "the database's was changed");
    }
}

/// W13: nobody has told the agent, but its watcher has seen it.
#[tokio::test]
async fn w13_a_session_does_not_outlive_a_password_that_was_changed_elsewhere() {
    let probes = "[engine]\nprobe_interval_secs = 1\nprobe_refused_interval_secs = 5\n";
    let (cluster, forge) = cluster(&format!("{PATIENT}{probes}")).await;
    let id = forge.login(DATABASE_HEADER, PASSWORD).await.unwrap();
    assert_eq!(by_session(&forge, &id).await.status, 200);
    alter_root(&cluster, "another one").await;
    cluster.door(0).until_status(|status| status["obpilot"]["credential"]["state"] == "REFUSED").await;
    assert_eq!(visible(&by_session(&forge, &id).await), stranger(&forge).await);
}

/// As somebody else would: in the database, past the agent.
pub(crate) async fn alter_root(cluster: &Cluster, password: &str) {
    let mut connection = cluster.homes[0].sql(PASSWORD).await;
    let statement = format!("ALTER USER root IDENTIFIED BY '{password}'");
    mysql_async::prelude::Queryable::query_drop(&mut connection, statement).await.unwrap();
    drop(connection.disconnect().await);
}

/// Returns when the agent's own clock says so.
async fn until_second(door: &Door, second: i64) {
    let wait = async {
        loop {
            let time = door.get("/api/v1/time").await.data();
            if time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second() >= second {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("time goes by");
}

#[tokio::test]
async fn a_session_that_is_not_used_ends_by_itself() {
    let (cluster, forge) = cluster(&format!("{PATIENT}session_lifetime_secs = 4\n")).await;
    let (used, unused) = (
        forge.login(DATABASE_HEADER, PASSWORD).await.unwrap(),
        forge.login(DATABASE_HEADER, PASSWORD).await.unwrap(),
    );
    let begun = now();
    for second in 1..=6 {
        until_second(cluster.door(0), begun + second).await;
        assert_eq!(by_session(&forge, &used).await.status, 200, "after {second} s");
    }
    assert_eq!(by_session(&forge, &unused).await.status, 401);
}

/// Guessing costs the same wherever one guesses, and guessing at once buys nothing.
#[tokio::test]
async fn guesses_at_login_session_and_join_are_counted_together() {
    for (method, target, name, shown) in [
        ("POST", "/api/v1/login", DATABASE_HEADER, json!({ "auth": "guess" })),
        ("GET", INFO, DATABASE_HEADER, json!({ "session_id": NO_SESSION })),
        ("POST", LOGOUT, DATABASE_HEADER, json!({ "session_id": NO_SESSION })),
        ("POST", "/rpc/v1/agent", AGENT_HEADER, json!({ "auth": "guess" })),
    ] {
        let mut home = Home::new();
        home.configure("[auth]\nfailures_per_minute_max = 3\n");
        let _agent = crate::door::master(&home).await;
        let forge = Forge::of(&home.address()).await;
        for attempt in 1..=3 {
            let answer = forge.ask(method, target, name, shown.clone()).await;
            assert_eq!(answer.status, 401, "{target} {attempt}: {}", answer.text);
        }
        let right = forge.ask("GET", INFO, DATABASE_HEADER, json!({ "auth": PASSWORD })).await;
        assert_eq!((right.status, right.code().as_str()), (429, "Request.TooMany"), "{target}");
    }
}

/// A hello is answered to members only, counts as a failure for others, and is not stopped by them.
#[tokio::test]
async fn hellos_of_strangers_are_counted() {
    let mut home = Home::new();
    home.configure("[auth]\nfailures_per_minute_max = 3\n");
    let _agent = crate::door::master(&home).await;
    let forge = Forge::of(&home.address()).await;
    let hello = json!({ "from": "10.0.0.9:2886", "to": home.address(), "at": now(), "ephemeral": "", "signature": "" });
    for _ in 0..5 {
        let answer = forge.send("POST", "/rpc/v1/peer/hello", &[], Some(&hello.to_string())).await;
        assert_eq!(answer.status, 401, "{}", answer.text);
    }
    let right = forge.ask("GET", INFO, DATABASE_HEADER, json!({ "auth": PASSWORD })).await;
    assert_eq!(right.status, 429, "the address has used its attempts up");
}

#[tokio::test]
async fn many_guesses_at_the_same_time_are_no_more_than_a_few() {
    let mut home = Home::new();
    home.configure("[auth]\nfailures_per_minute_max = 3\n");
    let _agent = crate::door::master(&home).await;
    let forge = Forge::of(&home.address()).await;
    let guess = || forge.ask("GET", INFO, DATABASE_HEADER, json!({ "auth": "guess" }));
    let answers = futures_util::future::join_all((0..40).map(|_| guess())).await;
    let told = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!(answers.iter().filter(|answer| answer.status == 429).count(), 40 - told);
    // Two threads serve: the third failure may be told twice.
    assert!((3..=4).contains(&told), "{told} of 40 guesses were answered");
}

async fn trail(door: &Door, query: &str) -> Vec<Value> {
    let answer = door.get(&format!("/api/v1/security/audit{query}")).await.data();
    answer["contents"].as_array().unwrap().clone()
}

fn entry<'a>(trail: &'a [Value], actor: &str, request: &str) -> &'a Value {
    let is_it = |entry: &&Value| {
        entry["actor"].as_str().unwrap().starts_with(actor) && entry["details"]["request"] == json!(request)
    };
    trail.iter().find(is_it).unwrap_or_else(|| panic!("no {request} by {actor} in {trail:#?}"))
}

/// Whoever asks and does not wait for the answer is in the trail like everybody else.
#[tokio::test]
async fn a_caller_who_goes_is_recorded_all_the_same() {
    use std::io::Write as _;
    let cluster = Cluster::configured(1, "");
    // Takes connections and never answers: a join asks it who it is.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let body = json!({ "agentInfo": { "ip": "127.0.0.1", "port": port }, "zoneName": "zone1" }).to_string();
    let head =
        format!("POST /api/v1/agent/join HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut caller = std::os::unix::net::UnixStream::connect(cluster.homes[0].socket()).unwrap();
    caller.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let asked = silent.accept().unwrap();
    drop(caller);
    let is_it = |event: &Value| event["body"]["request"] == json!("POST /api/v1/agent/join");
    let events = crate::recovery::events_until(cluster.door(0), 0, is_it).await;
    let entry = events.last().unwrap();
    assert!(entry["kind"] == "audit" && entry["actor"].as_str().unwrap().starts_with("uid "), "{entry}");
    drop(asked);
}

/// Who did what from where, with its end; and who was refused, in a few entries however often.
#[tokio::test]
async fn the_trail_tells_who_did_what_and_who_was_refused() {
    let mut home = Home::new();
    home.configure(PATIENT);
    let mut agent = crate::door::master(&home).await;
    let forge = Forge::of(&home.address()).await;
    for _ in 0..20 {
        let guess = json!({ "auth": "guess" });
        assert_eq!(forge.ask("POST", "/api/v1/login", DATABASE_HEADER, guess).await.status, 401);
    }
    let query = "/api/v1/ob/stop?secret=in-a-query";
    let refused = forge.ask("POST", query, DATABASE_HEADER, json!({ "auth": PASSWORD })).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    let whole = trail(&agent.door, "?limit=1000").await;
    let join = entry(&whole, "uid ", "POST /api/v1/agent/join");
    assert_eq!((&join["action"], &join["details"]["status"]), (&json!("request"), &json!(200)), "{join}");
    assert!(join["details"]["traceId"].is_string(), "{join}");
    let stop = entry(&whole, "root@sys from 127.0.0.1", "POST /api/v1/ob/stop");
    assert_eq!(stop["details"]["code"], json!(refused.code()), "{stop}");
    let refusals: Vec<_> = whole.iter().filter(|entry| entry["action"] == "refused").collect();
    let count: u64 = refusals.iter().map(|entry| entry["details"]["count"].as_u64().unwrap()).sum();
    assert_eq!((refusals.len(), count), (2, 20), "{refusals:#?}");
    assert_eq!(refusals[0]["actor"], json!("somebody from 127.0.0.1"));
    assert_eq!(refusals[1]["details"]["code"], json!("Common.Unauthorized"));
    // Questions change nothing, and no query stands there.
    let text = Value::from(whole.clone()).to_string();
    assert!(!text.contains("GET ") && !text.contains("in-a-query"), "{text}");

    // Page by page it is the same, also after a restart.
    agent.terminate();
    let agent = home.start();
    let mut pages = Vec::new();
    let mut after = 0;
    loop {
        let page = trail(&agent.door, &format!("?after={after}&limit=2")).await;
        let Some(last) = page.last() else { break };
        after = last["id"].as_i64().unwrap();
        pages.extend(page);
    }
    assert_eq!(pages, whole);
    assert_eq!(trail(&agent.door, "?limit=1").await, whole[whole.len() - 1..]);
    for query in ["?limit=0", "?limit=1001", "?limit=x", "?after=-1"] {
        let answer = agent.door.get(&format!("/api/v1/security/audit{query}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "Request.Query.Param.Illegal"), "{query}");
    }
    let shown = home.cli(&["security", "audit", "--last", "1000"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(text.contains("refused x19") && text.contains("POST /api/v1/agent/join"), "{text}");
    let json = home.cli(&["security", "audit", "--output", "json", "--after", "0"]);
    let json: Vec<Value> = serde_json::from_slice(&json.stdout).unwrap();
    assert!(!json.is_empty() && json.iter().all(|entry| whole.contains(entry)), "{json:#?}");
}

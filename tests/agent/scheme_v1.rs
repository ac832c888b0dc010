//! Scheme v1 at the TCP door: off unless it is switched on, and then what it opens, what it does not, and how often.

use obpilot::api::ROUTES;
use obpilot::secure::{AGENT_HEADER, DATABASE_HEADER, RouteClass, V1_HEADER};
use serde_json::{Value, json};

use crate::door::{master, visible};
use crate::forge::{Forge, honest, now};
use crate::rig::{Agent, Answer, Cluster, Home, LIMIT, PASSWORD};
use crate::sdk::drive_with_args;

/// Whoever may choose tries as often as it likes.
pub(crate) const ON: &str = "[auth]\nv1 = true\nfailures_per_minute_max = 100000\n";
pub(crate) const OFF: &str = "[auth]\nfailures_per_minute_max = 100000\n";

const INFO: &str = "/api/v1/ob/info";
const CONFIG: &str = "/api/v1/observer/config";

/// Where the Go SDK cuts, whatever the key; the Python SDK does not cut.
const GO_CUT: usize = 53;

/// What the Go SDK adds to the time: nanoseconds, where seconds were meant.
const GO_LIFETIME: i64 = 60_000_000_000;

fn header(password: &str, ts: i64) -> String {
    json!({ "password": password, "ts": ts }).to_string()
}

/// As the Python SDK seals it.
pub(crate) fn python(forge: &Forge, password: &str) -> String {
    sealed(forge, &header(password, now() + 60), usize::MAX)
}

/// As the Go SDK seals it: in more than one block, and for centuries.
fn go(forge: &Forge, password: &str) -> String {
    sealed(forge, &header(password, now() + GO_LIFETIME), GO_CUT)
}

fn cut(forge: &Forge, text: &str, cut: usize) -> Vec<Vec<u8>> {
    text.as_bytes().chunks(cut).flat_map(|part| forge.blocks(part)).collect()
}

pub(crate) fn sealed(forge: &Forge, text: &str, at: usize) -> String {
    joined(&cut(forge, text, at))
}

fn joined(blocks: &[Vec<u8>]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(blocks.concat())
}

async fn send(forge: &Forge, method: &str, target: &str, value: &str, body: Option<&str>) -> Answer {
    forge.send(method, target, &[(V1_HEADER, value.to_owned())], body).await
}

async fn ask(forge: &Forge, value: &str) -> Answer {
    send(forge, "GET", INFO, value, None).await
}

/// What nobody's header hears.
async fn stranger(forge: &Forge) -> (u16, Vec<(String, String)>, Value) {
    let answer = forge.send("GET", INFO, &[(DATABASE_HEADER, "garbage".to_owned())], None).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!(10008)));
    visible(&answer)
}

/// A MASTER with a root password.
async fn started(toml: &str) -> (Home, Agent, Forge) {
    let mut home = Home::new();
    home.configure(toml);
    let agent = master(&home).await;
    let forge = Forge::of(&home.address()).await;
    (home, agent, forge)
}

async fn tasks(agent: &Agent) -> usize {
    agent.door.get("/api/v1/task/dags/agent").await.data()["contents"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_sdk_from_pypi_speaks_v1_where_it_is_switched_on() {
    let (home, agent, _) = started(ON).await;
    drive_with_args("sdk_v1.py", &home, &agent, &[PASSWORD, "on"]);
    assert!(agent.stderr().contains("auth.v1 is on and tls.mode is off"), "{}", agent.stderr());
}

#[tokio::test]
async fn v1_is_off_unless_it_is_switched_on() {
    let (home, agent, forge) = started(OFF).await;
    drive_with_args("sdk_v1.py", &home, &agent, &[PASSWORD, "off"]);
    assert!(!agent.stderr().contains("auth.v1"), "{}", agent.stderr());
    let stranger = stranger(&forge).await;
    for value in [python(&forge, PASSWORD), go(&forge, PASSWORD), String::new()] {
        assert_eq!(visible(&ask(&forge, &value).await), stranger);
        assert_eq!(visible(&send(&forge, "POST", CONFIG, &value, Some("{}")).await), stranger);
    }
    // Where nobody is asked, nobody is refused.
    let open = send(&forge, "GET", "/api/v1/status", &python(&forge, "wrong"), None).await;
    assert_eq!(open.status, 200, "{}", open.text);
}

/// Both clients, questions and bodies; who comes late is told, who does not know the password is not.
#[tokio::test]
async fn a_header_of_v1_is_a_password_and_its_body_is_in_clear() {
    let (_home, agent, forge) = started(ON).await;
    let stranger = stranger(&forge).await;
    let made = tasks(&agent).await;
    let body = json!({ "observerConfig": { "cpu_count": "4" }, "scope": { "type": "GLOBAL", "target": [] } });
    for (client, seal) in [("Python", python as fn(&Forge, &str) -> String), ("Go", go)] {
        assert_eq!(ask(&forge, &seal(&forge, PASSWORD)).await.status, 200, "{client}");
        let query = format!("{INFO}?a=b%20c&d=%C3%BC");
        assert_eq!(send(&forge, "GET", &query, &seal(&forge, PASSWORD), None).await.status, 200, "{client}");
        let posted = send(&forge, "POST", CONFIG, &seal(&forge, PASSWORD), Some(&body.to_string())).await;
        let id = posted.data()["id"].as_str().unwrap().to_owned();
        agent.door.finished(&id).await.expect_succeeded();
        let no_body = send(&forge, "POST", CONFIG, &seal(&forge, PASSWORD), Some("c2VhbGVk")).await;
        assert_eq!(no_body.code(), "Common.BindJsonFailed", "{client}: nothing opens a body");
        for wrong in ["wrong", "", &PASSWORD.to_uppercase()] {
            assert_eq!(visible(&ask(&forge, &seal(&forge, wrong)).await), stranger, "{client} {wrong}");
        }
    }
    assert_eq!(tasks(&agent).await, made + 2);
    let late = |password| sealed(&forge, &header(password, now() - 2), GO_CUT);
    assert_eq!(ask(&forge, &late(PASSWORD)).await.code(), "Security.Authentication.Expired");
    assert_eq!(visible(&ask(&forge, &late("wrong")).await), stranger);
    let twice = [(V1_HEADER, python(&forge, PASSWORD)), (V1_HEADER, python(&forge, PASSWORD))];
    assert_eq!(visible(&forge.send("GET", INFO, &twice, None).await), stranger);
    let trail = agent.door.get("/api/v1/security/audit").await.text;
    assert!(trail.contains("root@sys (v1) from 127.0.0.1"), "{trail}");
}

/// It is bound to no request, so the same header could be every one: it is accepted once, whatever it was for, as long as its
/// key.
#[tokio::test]
async fn w10_a_header_of_v1_is_accepted_once_also_after_a_restart() {
    let (home, mut agent, forge) = started(ON).await;
    let refused = stranger(&forge).await;
    let values = [python(&forge, PASSWORD), go(&forge, PASSWORD)];
    for value in &values {
        assert_eq!(ask(&forge, value).await.status, 200);
        assert_eq!(visible(&ask(&forge, value).await), refused);
        assert_eq!(visible(&send(&forge, "POST", CONFIG, value, Some("{}")).await), refused);
    }
    agent.terminate();
    let agent = home.start();
    let forge = Forge::of(&home.address()).await;
    for value in &values {
        assert_eq!(visible(&send(&forge, "POST", CONFIG, value, Some("{}")).await), refused);
        assert_eq!(visible(&ask(&forge, value).await), refused);
    }
    assert_eq!(ask(&forge, &go(&forge, PASSWORD)).await.status, 200);
    // A new key is the end of every header before.
    let unused = go(&forge, PASSWORD);
    assert_eq!(
        agent.door.post("/api/v1/security/keys/rotate", json!({ "schemes": ["v2"] })).await.status,
        200
    );
    let forge = Forge::of(&home.address()).await;
    for value in values.iter().chain([&unused]) {
        assert_eq!(visible(&ask(&forge, value).await), refused);
    }
    assert_eq!(ask(&forge, &go(&forge, PASSWORD)).await.status, 200);
}

/// W2: neither with another end, nor twice, nor under the other scheme.
#[tokio::test]
async fn w2_blocks_of_a_header_of_v1_are_worth_nothing_elsewhere() {
    let (_home, _agent, forge) = started(ON).await;
    let stranger = stranger(&forge).await;
    // Cut where a thief would like it: after the password.
    let stolen = forge.blocks(format!("{{\"password\":{},", json!(PASSWORD)).as_bytes());
    let of_end = |ts: i64| forge.blocks(format!("\"ts\":{ts}}}").as_bytes());
    let seen = [stolen.clone(), of_end(now() + 60)].concat();
    assert_eq!(ask(&forge, &joined(&seen)).await.status, 200);
    for end in [now() + 50, now() + GO_LIFETIME] {
        assert_eq!(visible(&ask(&forge, &joined(&[stolen.clone(), of_end(end)].concat())).await), stranger);
    }
    let (first, last) = (seen[0].clone(), seen[seen.len() - 1].clone());
    for order in [vec![last.clone(), first.clone()], vec![first.clone(), first, last]] {
        assert_eq!(visible(&ask(&forge, &joined(&order)).await), stranger);
    }
    for (name, value) in [(DATABASE_HEADER, python(&forge, PASSWORD)), (AGENT_HEADER, go(&forge, PASSWORD))] {
        assert_eq!(visible(&forge.send("GET", INFO, &[(name, value)], None).await), stranger, "{name}");
    }
    let of_v2 = forge.seal(&honest(INFO, json!({ "auth": PASSWORD })));
    assert_eq!(visible(&ask(&forge, &of_v2).await), stranger);
}

/// No session, no other password, nothing among agents, nothing beside another scheme.
#[tokio::test]
async fn v1_opens_what_clients_need_and_nothing_else() {
    let (home, agent, forge) = started(ON).await;
    let stranger = stranger(&forge).await;
    let made = tasks(&agent).await;
    for route in ROUTES.iter().filter(|route| route.class != RouteClass::Open) {
        let target = route.path.replace("{id}", "1").replace("{zone_name}", "zone1");
        // No body of anybody: whoever is let in changes nothing.
        let body = (route.method != "GET").then_some("no body");
        let answer = send(&forge, route.method, &target, &python(&forge, PASSWORD), body).await;
        let is_open = route.class == RouteClass::Protected && route.path.starts_with("/api/v1/");
        let is_refused = answer.status == 401;
        assert_eq!(is_refused, !is_open, "{} {target}: {} {}", route.method, answer.status, answer.text);
        assert!(is_open || visible(&answer) == stranger, "{target}: {}", answer.text);
    }
    assert_eq!(tasks(&agent).await, made);
    // An SDK that has learnt v2 sends its header of v1 along when it asks again: that of v2 decides.
    let v2 = |auth: &str| forge.seal(&honest(INFO, json!({ "auth": auth })));
    let both = [(V1_HEADER, "stale".to_owned()), (DATABASE_HEADER, v2(PASSWORD))];
    assert_eq!(forge.send("GET", INFO, &both, None).await.status, 200);
    for name in [DATABASE_HEADER, AGENT_HEADER] {
        let both = [(V1_HEADER, python(&forge, PASSWORD)), (name, v2("wrong"))];
        assert_eq!(visible(&forge.send("GET", INFO, &both, None).await), stranger, "{name}");
    }
    drop(home);
}

/// Of the same table as `X-OCS-Header`: nobody's agent is claimed, the agent password is another one's, a FOLLOWER asks its
/// master.
#[tokio::test]
async fn v1_shows_the_root_password_and_no_other() {
    const AGENT_PASSWORD: &str = "an agent's own";
    let mut home = Home::new();
    home.configure(ON);
    let agent = home.start();
    let forge = Forge::of(&home.address()).await;
    let stranger = stranger(&forge).await;
    assert_eq!(ask(&forge, &python(&forge, "")).await.status, 200, "nobody has a password yet");
    let no_time = sealed(&forge, &header("", now() - 1), GO_CUT);
    assert_eq!(visible(&ask(&forge, &no_time).await), stranger, "but time counts");
    agent.door.post("/api/v1/agent/password", json!({ "password": AGENT_PASSWORD })).await;
    for password in [AGENT_PASSWORD, ""] {
        assert_eq!(visible(&ask(&forge, &python(&forge, password)).await), stranger, "{password}");
    }

    let cluster = Cluster::configured(2, ON);
    cluster.join(0, 0, "zone1").await;
    cluster.join(1, 0, "zone2").await;
    cluster.configure(0).await;
    let follower = Forge::of(&cluster.address(1)).await;
    assert_eq!(ask(&follower, &go(&follower, PASSWORD)).await.status, 200);
    assert_eq!(visible(&ask(&follower, &go(&follower, "wrong")).await), stranger);
    cluster.done(0, "/api/v1/ob/init", json!({})).await;
    for host in 0..2 {
        let forge = Forge::of(&cluster.address(host)).await;
        assert_eq!(ask(&forge, &go(&forge, PASSWORD)).await.status, 200, "{host}");
        assert_eq!(visible(&ask(&forge, &go(&forge, "wrong")).await), stranger, "{host}");
    }
}

#[tokio::test]
async fn guesses_under_v1_are_counted_whether_it_is_on_or_off() {
    for is_on in [true, false] {
        let toml = format!("[auth]\nfailures_per_minute_max = 3\nv1 = {is_on}\n");
        let (_home, _agent, forge) = started(&toml).await;
        for _ in 0..3 {
            assert_eq!(ask(&forge, &python(&forge, "guess")).await.status, 401);
        }
        let right = forge.ask("GET", INFO, DATABASE_HEADER, json!({ "auth": PASSWORD })).await;
        assert_eq!((right.status, right.code().as_str()), (429, "Request.TooMany"), "{is_on}");
    }
}

/// What does not end is remembered as long as its key; when there is no room, a new key ends all of it, and nothing that still
/// opens is forgotten.
#[tokio::test]
async fn w10_when_there_is_no_room_for_lasting_headers_the_key_is_replaced() {
    let (home, mut agent, forge) = started(ON).await;
    let stranger = stranger(&forge).await;
    let old = go(&forge, PASSWORD);
    assert_eq!(ask(&forge, &old).await.status, 200);
    agent.terminate();
    let store = home.path.join(".obpilot/store.db");
    let lasting = || {
        const COUNT: &str = "SELECT count(*) FROM seen_block WHERE expires_at > 9000000000000000000";
        let database = rusqlite::Connection::open(&store).unwrap();
        database.query_row(COUNT, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let blocks = lasting();
    assert!(blocks >= 2, "{blocks}");
    // All but one of the 100,000 that there is room for.
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                INSERT INTO seen_block SELECT CAST(printf('%032d', i) AS BLOB), 9223372036854775807 FROM n";
    rusqlite::Connection::open(&store).unwrap().execute(fill, [99_999 - blocks]).unwrap();
    assert_eq!(lasting(), 99_999);
    let _agent = home.start();
    let forge = Forge::of(&home.address()).await;
    assert_eq!(visible(&ask(&forge, &old).await), stranger, "still known");
    let before = forge.door.get("/api/v1/secret").await.data()["public_key"].clone();
    assert_eq!(ask(&forge, &go(&forge, PASSWORD)).await.status, 200, "the last that there is room for");
    let replaced = async {
        while forge.door.get("/api/v1/secret").await.data()["public_key"] == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, replaced).await.expect("the key is replaced");
    let forge = Forge::of(&home.address()).await;
    assert_eq!(visible(&ask(&forge, &old).await), stranger, "nothing opens it");
    assert_eq!(ask(&forge, &go(&forge, PASSWORD)).await.status, 200);
    let forgotten = async {
        while lasting() != blocks {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, forgotten).await.expect("the store keeps the last one only");
}

//! The TCP door: who gets in, and what those hear who do not.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use obpilot::model::Password;
use obpilot::secure::{AGENT_HEADER, AgentKey, BodyKey, DATABASE_HEADER, PublicKey, seal_request};
use serde_json::{Value, json};

use crate::rig::{Answer, Door, Home, PASSWORD};

/// A request whose every part can be wrong.
#[derive(Clone)]
struct Forged {
    header: &'static str,
    key: Vec<u8>,
    password: String,
    ts: i64,
    uri: String,
    target: String,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Sealed(&'static str),
    Plain(&'static str),
    /// Sealed with keys that the header does not name.
    Foreign(&'static str),
}

const JOIN: &str = "/api/v1/agent/join";

fn now() -> i64 {
    obpilot::clock::system().now_secs()
}

async fn key_of(home: &Home) -> Vec<u8> {
    let secret = Door::open(&home.address()).get("/api/v1/secret").await.data();
    secret["public_key"].as_str().unwrap().as_bytes().to_vec()
}

impl Forged {
    async fn honest(home: &Home, password: &str) -> Self {
        Self {
            header: DATABASE_HEADER,
            key: key_of(home).await,
            password: password.to_owned(),
            ts: now() + 60,
            uri: JOIN.to_owned(),
            target: JOIN.to_owned(),
            body: Body::Sealed("{\"zoneName\":\"\"}"),
        }
    }

    /// Header value and body as they go on the wire.
    fn sealed(&self) -> (String, String) {
        let key = PublicKey::from_wire(std::str::from_utf8(&self.key).unwrap()).unwrap();
        let (keys, foreign) = (BodyKey::generate().unwrap(), BodyKey::generate().unwrap());
        let password = Password::new(self.password.as_str());
        let sealed = seal_request(DATABASE_HEADER, &key, &password, self.ts, &self.uri, &keys, None).unwrap();
        let body = match &self.body {
            Body::Sealed(text) => keys.seal(text.as_bytes()).unwrap(),
            Body::Foreign(text) => foreign.seal(text.as_bytes()).unwrap(),
            Body::Plain(text) => (*text).to_owned(),
        };
        (sealed.header_value, body)
    }

    async fn send(&self, home: &Home) -> Answer {
        let (value, body) = self.sealed();
        send(home, &self.target, self.header, &value, body).await
    }
}

async fn send(home: &Home, target: &str, header: &str, value: &str, body: String) -> Answer {
    let door = Door::open(&home.address());
    let request = door.http.post(format!("{}{target}", door.base)).header(header, value).body(body);
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

/// What a stranger can tell from an answer: everything but times and the trace.
pub(crate) fn visible(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let mut json = answer.json();
    for member in ["timestamp", "duration", "traceId"] {
        json.as_object_mut().unwrap().remove(member);
    }
    // The length follows the digits of the timestamp; whether the connection closes follows how much of the body had come
    // when the answer went out.
    let is_told = |name: &str| !matches!(name, "date" | "content-length" | "connection");
    let headers = answer.headers.iter().filter(|(name, _)| is_told(name.as_str()));
    let mut headers: Vec<_> =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.retain(|(name, _)| !name.to_lowercase().contains("trace"));
    (answer.status, headers, json)
}

/// An agent with a root password: a MASTER whose settings are made.
pub(crate) async fn master(home: &Home) -> crate::rig::Agent {
    let agent = home.start();
    home.join(&agent.door).await;
    home.settings(&agent.door).await;
    agent
}

pub(crate) fn with_many_failures(home: &mut Home) {
    home.configure("[auth]\nfailures_per_minute_max = 100000\n");
}

/// `security.md` W8: nobody can tell by the answer why it was refused.
#[tokio::test]
async fn w8_every_stranger_hears_the_same() {
    let mut home = Home::new();
    with_many_failures(&mut home);
    let _agent = master(&home).await;
    let honest = Forged::honest(&home, PASSWORD).await;
    let stranger = AgentKey::generate().unwrap().public_on_wire().to_owned();
    let (value, body) = honest.sealed();
    let bytes = value.as_bytes();
    let flipped = |at: usize| {
        let mut text = bytes.to_vec();
        text[at] = if text[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(text).unwrap()
    };
    let half: String = value.chars().take(value.len() / 2).collect();
    let headers = [
        "".to_owned(),
        "x".to_owned(),
        "====".to_owned(),
        "a".repeat(20_000),
        flipped(0),
        flipped(bytes.len() / 2),
        half,
        format!("{value}{value}"),
    ];
    let mut answers = Vec::new();
    for header in headers {
        let what = format!("header {}", header.get(..20).unwrap_or(&header));
        answers.push((what, send(&home, JOIN, DATABASE_HEADER, &header, body.clone()).await));
    }
    let forged = [
        ("another agent's key", Forged { key: stranger.into_bytes(), ..honest.clone() }),
        ("wrong password", Forged { password: "wrong".into(), ..honest.clone() }),
        ("no password", Forged { password: String::new(), ..honest.clone() }),
        ("a longer password", Forged { password: format!("{PASSWORD}x"), ..honest.clone() }),
        ("agent header, no agent password", Forged { header: AGENT_HEADER, ..honest.clone() }),
        ("wrong password and expired", Forged { password: "x".into(), ts: now() - 10, ..honest.clone() }),
        (
            "wrong password and another target",
            Forged { password: "x".into(), uri: "/api/v1/ob/stop".into(), ..honest.clone() },
        ),
        (
            "wrong password and a foreign body",
            Forged { password: "x".into(), body: Body::Foreign("{}"), ..honest.clone() },
        ),
    ];
    for (what, forged) in forged {
        answers.push((what.to_owned(), forged.send(&home).await));
    }
    let expected = visible(&answers[0].1);
    assert_eq!(expected.0, 401);
    assert_eq!(expected.2["error"]["code"], json!(10008));
    for (what, answer) in &answers {
        assert_eq!(visible(answer), expected, "{what}");
    }
    let trusted = honest.send(&home).await;
    assert_eq!(trusted.status, 400, "the honest one comes through to its body: {}", trusted.text);
}

/// Who is known may hear what was wrong.
#[tokio::test]
async fn a_known_caller_is_told_about_clock_target_and_body() {
    let mut home = Home::new();
    with_many_failures(&mut home);
    let _agent = master(&home).await;
    let honest = Forged::honest(&home, PASSWORD).await;
    let table = [
        ("expired", Forged { ts: now() - 5, ..honest.clone() }, "Security.Authentication.Expired"),
        (
            "too far ahead",
            Forged { ts: now() + 100_000, ..honest.clone() },
            "Security.Authentication.Timestamp.Invalid",
        ),
        (
            "another target",
            Forged { uri: "/api/v1/ob/init".into(), ..honest.clone() },
            "Security.Authentication.Header.UriMismatch",
        ),
        (
            "a query that was not sealed",
            Forged { target: format!("{JOIN}?a=b"), ..honest.clone() },
            "Security.Authentication.Header.UriMismatch",
        ),
        ("a foreign body", Forged { body: Body::Foreign("{}"), ..honest.clone() }, "Common.BindJsonFailed"),
        (
            "an open body",
            Forged { body: Body::Plain("{\"zoneName\":\"\"}"), ..honest.clone() },
            "Common.BindJsonFailed",
        ),
        (
            "a sealed query",
            Forged { uri: format!("{JOIN}?a=b"), target: format!("{JOIN}?a=b"), ..honest.clone() },
            "Agent.Identify.NotSupportOperation",
        ),
    ];
    for (what, forged, code) in table {
        let answer = forged.send(&home).await;
        let is_sealed_query = what == "a sealed query";
        if is_sealed_query {
            assert_eq!(answer.status, 400, "{what}: {}", answer.text);
            continue;
        }
        assert_eq!(answer.code(), code, "{what}: {}", answer.text);
    }
}

/// A changing request is accepted once; a question may be repeated (SDKs do).
#[tokio::test]
async fn a_replayed_request_is_refused_also_after_a_restart() {
    let mut home = Home::new();
    with_many_failures(&mut home);
    let mut agent = master(&home).await;
    let honest = Forged::honest(&home, PASSWORD).await;
    let (value, body) = honest.sealed();
    let first = send(&home, JOIN, DATABASE_HEADER, &value, body.clone()).await;
    assert_eq!(first.status, 400, "{}", first.text);
    let second = send(&home, JOIN, DATABASE_HEADER, &value, body.clone()).await;
    assert_eq!(
        (second.status, second.json()["error"]["code"].clone()),
        (401, json!(10008)),
        "{}",
        second.text
    );
    agent.terminate();
    let _agent = home.start();
    let third = send(&home, JOIN, DATABASE_HEADER, &value, body).await;
    assert_eq!(third.status, 401, "{}", third.text);
}

#[tokio::test]
async fn whoever_fails_too_often_has_to_wait_and_others_do_not() {
    let mut home = Home::new();
    home.configure("[auth]\nfailures_per_minute_max = 3\n");
    let agent = master(&home).await;
    let wrong = Forged { password: "wrong".into(), ..Forged::honest(&home, PASSWORD).await };
    for _ in 0..3 {
        assert_eq!(wrong.send(&home).await.status, 401);
    }
    let limited = wrong.send(&home).await;
    assert_eq!((limited.status, limited.code().as_str()), (429, "Request.TooMany"));
    // Open routes and the socket are not concerned.
    Door::open(&home.address()).get("/api/v1/status").await.data();
    agent.door.get("/api/v1/task/dags/agent").await.data();
}

/// A fresh agent may be claimed from where the configuration says, and from nowhere else.
#[tokio::test]
async fn a_fresh_agent_is_claimed_only_by_those_who_may() {
    let mut home = Home::new();
    home.configure("[bootstrap]\nallow = [\"10.1.2.0/24\"]\n");
    let _agent = home.start();
    let claim = Forged::honest(&home, "").await.send(&home).await;
    assert_eq!(claim.status, 401, "{}", claim.text);
    let other = Home::new();
    let _other = other.start();
    let claim = Forged::honest(&other, "").await.send(&other).await;
    assert_eq!(claim.code(), "Common.BindJsonFailed", "let in, and told about its body");
}

/// Opens the directories of a home to everybody: the socket alone is the question then.
fn open_to_everybody(home: &Home, paths: &[&std::path::Path]) {
    use std::os::unix::fs::PermissionsExt as _;
    let (run, dir) = (home.path.join("run"), home.path.parent().unwrap());
    for path in [dir, &home.path, &run].iter().chain(paths) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
}

const TASKS: &str = "/api/v1/task/dags/agent";

/// What the socket answers to a process of another user.
fn asked_by(uid: u32, target: &str, home: &Home) -> String {
    let script = "import http.client, socket, sys\n\
                  c = http.client.HTTPConnection('localhost')\n\
                  c.sock = socket.socket(socket.AF_UNIX)\n\
                  c.sock.connect(sys.argv[1])\n\
                  c.request('GET', sys.argv[2])\n\
                  print(c.getresponse().read().decode())";
    let mut python = Command::new("/usr/bin/env");
    python.args(["python3", "-c", script]).arg(home.socket()).arg(target);
    let output = python.uid(uid).current_dir("/").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The socket knows its callers by their uid. As another user there is nobody to be here, this is left out by name.
#[tokio::test]
async fn the_socket_refuses_other_users() {
    let home = Home::new();
    let _agent = home.start();
    if !rustix::process::geteuid().is_root() {
        // The summary of `make test` names it.
        return;
    }
    open_to_everybody(&home, &[&home.socket()]);
    assert!(asked_by(0, TASKS, &home).contains("\"successful\":true"), "{}", asked_by(0, TASKS, &home));
    let stranger = asked_by(65_534, TASKS, &home);
    assert!(stranger.contains("Security.User.PermissionDenied"), "{stranger}");
    assert!(stranger.contains("65534") && stranger.contains("socket.allow_uids"), "{stranger}");
    let trail = asked_by(0, "/api/v1/security/audit", &home);
    assert!(trail.contains("uid 65534 (socket)") && trail.contains("refused"), "{trail}");
}

/// A user that the configuration names may come, without anybody changing a mode; another one may still not.
#[tokio::test]
async fn the_socket_takes_the_users_of_the_configuration() {
    let mut home = Home::new();
    home.configure("[socket]\nallow_uids = [12345]\n");
    let _agent = home.start();
    if !rustix::process::geteuid().is_root() {
        println!("left out, needs root: the socket and the users it is shared with");
        return;
    }
    open_to_everybody(&home, &[]);
    assert!(
        asked_by(12_345, TASKS, &home).contains("\"successful\":true"),
        "{}",
        asked_by(12_345, TASKS, &home)
    );
    assert!(asked_by(65_534, TASKS, &home).contains("Security.User.PermissionDenied"));
}

//! Scheme v3 over the real door: its client in Python, and requests of which one thing is wrong.

use std::collections::BTreeSet;

use obpilot::model::Password;
use obpilot::secure::{Claims, ClaimsTo, DATABASE_HEADER, Exchange, V3_HEADER, V3PublicKey, V3Request};
use serde_json::{Value, json};

use crate::rig::{Cluster, Door, Home, PASSWORD, python};

const OWN: &str = "an agent's own";
const TARGET: &str = "/api/v1/agent/password";

fn now() -> i64 {
    obpilot::clock::system().now_secs()
}

async fn key_of(home: &Home) -> V3PublicKey {
    let secret = Door::open(&home.address()).get("/api/v1/secret").await.data();
    V3PublicKey::from_wire(secret["authSchemes"]["v3"]["publicKey"].as_str().unwrap()).unwrap()
}

/// A request that changes something, and may be wrong in every part.
struct Forged {
    claims: Claims,
    sealed_for: (&'static str, &'static str),
    sent_to: (&'static str, &'static str),
    expires: i64,
    id: String,
    header: fn(String) -> Vec<(&'static str, String)>,
    body: fn(Option<Vec<u8>>) -> Option<Vec<u8>>,
}

struct Came {
    status: u16,
    is_sealed: bool,
    text: String,
}

impl Forged {
    fn honest(id: &str) -> Self {
        let claims = Claims { claims_to: ClaimsTo::Agent, password: Password::new(OWN), ..Claims::default() };
        Self {
            claims,
            sealed_for: ("POST", TARGET),
            sent_to: ("POST", TARGET),
            expires: now() + 60,
            id: id.to_owned(),
            header: |value| vec![(V3_HEADER, value)],
            body: |body| body,
        }
    }

    async fn send(&self, home: &Home) -> Came {
        let key = key_of(home).await;
        let body = json!({ "password": OWN }).to_string();
        let (method, target) = self.sealed_for;
        let sealed =
            key.seal(method, target, self.expires, &self.id, self.claims.clone(), Some(body.as_bytes()));
        let V3Request { header_value, body, exchange } = sealed.unwrap();
        self.send_as(home, header_value, body, &exchange).await
    }

    async fn send_as(&self, home: &Home, value: String, body: Option<Vec<u8>>, exchange: &Exchange) -> Came {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let (method, target) = self.sent_to;
        let mut request = http.request(method.parse().unwrap(), format!("http://{}{target}", home.address()));
        for (name, value) in (self.header)(value) {
            request = request.header(name, value);
        }
        if let Some(body) = (self.body)(body) {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let mut bytes = response.bytes().await.unwrap().to_vec();
        match exchange.open_answer(0, &mut bytes) {
            Ok(Some(piece)) => {
                Came { status, is_sealed: true, text: String::from_utf8(piece.plain).unwrap() }
            }
            Ok(None) | Err(_) => Came { status, is_sealed: false, text: String::from_utf8(bytes).unwrap() },
        }
    }
}

/// What differs from one refusal to the next by its nature.
fn without_trace(text: &str) -> Value {
    let mut envelope: Value = serde_json::from_str(text).unwrap();
    for name in ["timestamp", "duration", "traceId"] {
        envelope[name] = Value::Null;
    }
    envelope
}

async fn owned() -> (Home, crate::rig::Agent) {
    let mut home = Home::new();
    home.configure("[auth]\nfailures_per_minute_max = 1000\n");
    let agent = home.start();
    assert_eq!(agent.door.post(TARGET, json!({ "password": OWN })).await.status, 200);
    (home, agent)
}

#[tokio::test]
async fn the_client_in_python_speaks_it() {
    let (home, agent) = owned().await;
    let mut command = python();
    let root = env!("CARGO_MANIFEST_DIR");
    let path = format!("{root}/build/python:{root}/docs");
    command.env("PYTHONPATH", path);
    command.args([&format!("{root}/tests/agent/v3_client.py"), "127.0.0.1", &home.port.to_string(), OWN]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("does what it says"), "{text}\n{}", agent.stderr());
}

/// W2, W10, W11: whatever is not this very request, once, in time, is refused; and all refusals are the same.
#[tokio::test]
async fn w2_w10_whatever_was_changed_is_refused_and_tells_nothing() {
    let (home, _agent) = owned().await;
    let accepted = Forged::honest("first").send(&home).await;
    assert!(accepted.status == 200 && accepted.is_sealed, "{} {}", accepted.status, accepted.text);

    let forged = |id: &str, change: fn(&mut Forged)| {
        let mut forged = Forged::honest(id);
        change(&mut forged);
        forged
    };
    let strangers = [
        ("the same id again", Forged::honest("first")),
        ("another method", forged("a", |f| f.sealed_for.0 = "PUT")),
        ("another target", forged("b", |f| f.sealed_for.1 = "/api/v1/ob/stop")),
        ("a query", forged("c", |f| f.sent_to.1 = "/api/v1/agent/password?plan=true")),
        ("a wrong password", forged("d", |f| f.claims.password = Password::new("wrong"))),
        ("the password of somebody else", forged("e", |f| f.claims.claims_to = ClaimsTo::Root)),
        ("no password", forged("f", |f| f.claims.password = Password::default())),
        ("twice the header", forged("g", |f| f.header = |v| vec![(V3_HEADER, v.clone()), (V3_HEADER, v)])),
        (
            "a header of v2 beside",
            forged("h", |f| {
                f.header = |v| vec![(V3_HEADER, v), (DATABASE_HEADER, "AAAA".to_owned())];
            }),
        ),
        (
            "a header cut short",
            forged("i", |f| f.header = |v| vec![(V3_HEADER, v.chars().take(v.len() - 8).collect())]),
        ),
        ("no header in it", forged("j", |f| f.header = |_| vec![(V3_HEADER, String::new())])),
        (
            "a wrong password, late",
            forged("k", |f| {
                f.claims.password = Password::new("wrong");
                f.expires = now() - 1;
            }),
        ),
    ];
    let mut said = BTreeSet::new();
    for (what, forged) in &strangers {
        let came = forged.send(&home).await;
        assert!(came.status == 401 && !came.is_sealed, "{what}: {} {}", came.status, came.text);
        said.insert(without_trace(&came.text).to_string());
    }
    assert_eq!(said.len(), 1, "{said:#?}");
}

/// A known caller may learn that the clocks differ; and no body is taken but the one that was sealed with the claims.
#[tokio::test]
async fn w11_a_known_caller_hears_what_is_wrong() {
    let (home, _agent) = owned().await;
    for (expires, code) in [
        (now() - 1, "Security.Authentication.Expired"),
        (now() + 7_200, "Security.Authentication.Timestamp.Invalid"),
    ] {
        let mut late = Forged::honest(&format!("late-{expires}"));
        late.expires = expires;
        let came = late.send(&home).await;
        assert!(came.status == 401 && came.text.contains(code), "{}", came.text);
    }

    for (what, body) in [
        (
            "changed",
            (|body| {
                body.map(|mut body: Vec<u8>| {
                    body[0] ^= 1;
                    body
                })
            }) as fn(Option<Vec<u8>>) -> Option<Vec<u8>>,
        ),
        ("left out", |_| None),
        ("in clear", |_| Some(br#"{"password":"x"}"#.to_vec())),
    ] {
        let mut forged = Forged::honest(&format!("body-{}", what.replace(' ', "-")));
        forged.body = body;
        let came = forged.send(&home).await;
        assert!(came.status == 400 && came.is_sealed, "{what}: {} {}", came.status, came.text);
        assert!(came.text.contains("does not open"), "{what}: {}", came.text);
    }
    let key = key_of(&home).await;
    let honest = Forged::honest("nothing");
    let empty = key.seal("POST", TARGET, honest.expires, "put-in", honest.claims.clone(), None).unwrap();
    let came = honest.send_as(&home, empty.header_value, Some(b"{}".to_vec()), &empty.exchange).await;
    assert!(came.is_sealed && came.text.contains("does not open"), "{} {}", came.status, came.text);
}

/// The same id is known over a restart.
#[tokio::test]
async fn w10_a_request_that_was_done_is_not_done_again_after_a_restart() {
    let (home, mut agent) = owned().await;
    assert_eq!(Forged::honest("once").send(&home).await.status, 200);
    agent.kill();
    let _agent = home.start();
    assert_eq!(Forged::honest("once").send(&home).await.status, 401);
    assert_eq!(Forged::honest("twice").send(&home).await.status, 200);
}

/// Failures are limited per source.
#[tokio::test]
async fn failures_under_it_are_limited_too() {
    let mut home = Home::new();
    home.configure("[auth]\nfailures_per_minute_max = 3\n");
    let agent = home.start();
    assert_eq!(agent.door.post(TARGET, json!({ "password": OWN })).await.status, 200);
    for number in 0..3 {
        let mut wrong = Forged::honest(&format!("wrong-{number}"));
        wrong.claims.password = Password::new("wrong");
        assert_eq!(wrong.send(&home).await.status, 401);
    }
    assert_eq!(Forged::honest("right").send(&home).await.status, 429);
}

/// The command line speaks it, the event stream of its live progress included.
#[tokio::test]
async fn the_command_line_speaks_it() {
    let cluster = Cluster::new(1);
    cluster.form().await;
    for args in [&["cluster", "stop", "--all", "--force", "--yes"][..], &["cluster", "start", "--all"]] {
        let mut command = cluster.homes[0].cli_command(&[&["--host", &cluster.address(0)], args].concat());
        let output = command.env("OBPILOT_PASSWORD", PASSWORD).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("succeeded"), "{said}");
    }
    let mut wrong = cluster.homes[0].cli_command(&["--host", &cluster.address(0), "cluster", "show"]);
    let output = wrong.env("OBPILOT_PASSWORD", "wrong").output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}

/// W4: a key that is not the one of last time is not given the password; new keys interrupt nobody who goes on.
#[tokio::test]
async fn w4_another_key_than_last_time_is_asked_nothing() {
    let (home, agent) = owned().await;
    let show = |more: &[&str]| {
        let address = home.address();
        let mut command = home.cli_command(&[&["--host", &address, "task", "list"], more].concat());
        let output = command.env("OBPILOT_PASSWORD", "wrong").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = show(&[]);
    assert!(code == Some(7) && said.contains("first contact with"), "{said}");
    let before = agent.door.get("/api/v1/security/keys").await.data();
    let id = before["v3"]["keyId"].as_str().unwrap();
    let known = home.state().join("obpilot/known_agents");
    assert_eq!(std::fs::read_to_string(&known).unwrap(), format!("{} {id}\n", home.address()));
    let (_, said) = show(&[]);
    assert!(!said.contains("first contact") && said.contains("not authorised"), "{said}");

    // What was sealed for the old key a moment ago still opens; whoever asks again uses the new one.
    let honest = Forged::honest("before");
    let old = key_of(&home).await;
    let body = json!({ "password": OWN }).to_string();
    let seal = |id: &str| {
        old.seal("POST", TARGET, now() + 60, id, honest.claims.clone(), Some(body.as_bytes())).unwrap()
    };
    let rotated = home.cli(&["security", "rotate", "--yes", "--output", "json"]);
    let after: Value = serde_json::from_slice(&rotated.stdout).unwrap();
    assert_ne!(after["v3"], before["v3"]);
    assert_ne!(after["v2"], before["v2"]);
    assert_eq!(after["peer"], before["peer"]);
    let V3Request { header_value, body, exchange } = seal("in-flight");
    assert_eq!(honest.send_as(&home, header_value, body, &exchange).await.status, 200);
    assert_eq!(Forged::honest("after").send(&home).await.status, 200);

    let (code, said) = show(&[]);
    assert!(
        code == Some(7) && said.contains("nothing was sent") && said.contains("--accept-new-key"),
        "{said}"
    );
    let (_, said) = show(&["--accept-new-key"]);
    assert!(said.contains("from now on") && said.contains("not authorised"), "{said}");
    let (_, said) = show(&[]);
    assert!(!said.contains("nothing was sent"), "{said}");

    // The old one ends with the life of the agent.
    drop(agent);
    let _agent = home.start();
    let V3Request { header_value, body, exchange } = seal("too-late");
    let came = honest.send_as(&home, header_value, body, &exchange).await;
    assert!(came.status == 401 && came.text.contains("KeyId.Unknown"), "{}", came.text);
}

//! What is told and what is never told: the event stream, and where no secret may stand.

use std::path::Path;

use serde_json::{Value, json};

use crate::recovery::events_until;
use crate::rig::{Door, Home, PASSWORD};

fn ids(events: &[Value]) -> Vec<i64> {
    events.iter().map(|event| event["id"].as_i64().unwrap()).collect()
}

fn is_end_of(event: &Value, id: &str) -> bool {
    event["kind"] == "ended" && event["dag"] == json!(id)
}

/// Nothing is left out and nothing comes twice, also across a restart of the agent.
#[tokio::test]
async fn the_event_stream_resumes_where_it_was_left() {
    let home = Home::new();
    let mut agent = home.start();
    home.join(&agent.door).await;
    let own = agent.door.get("/api/v1/task/dags/agent").await.data();
    let join = own["contents"][0]["id"].as_str().unwrap().to_owned();
    let whole = events_until(&agent.door, 0, |event| is_end_of(event, &join)).await;
    let numbers = ids(&whole);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    for kind in ["created", "claimed", "log", "succeeded", "ended"] {
        assert!(whole.iter().any(|event| event["kind"] == kind), "no {kind} in {whole:#?}");
    }
    agent.terminate();
    let agent = home.start();
    let middle = numbers[numbers.len() / 2];
    let rest = events_until(&agent.door, middle, |event| is_end_of(event, &join)).await;
    assert_eq!(ids(&rest), numbers.iter().copied().filter(|id| *id > middle).collect::<Vec<_>>());

    // What happens now comes through the open stream.
    let later = *numbers.last().unwrap();
    let door = agent.door.clone();
    let listening = tokio::spawn(async move {
        events_until(&door, later, |event| {
            event["dag_name"] == "Update observer config" && event["kind"] == "ended"
        })
        .await
    });
    home.settings(&agent.door).await;
    let live = listening.await.unwrap();
    let numbers = ids(&live);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers[0] > later, "{numbers:?}");
}

/// A watch answers at the change, and at its limit when there is none.
#[tokio::test]
async fn a_watch_answers_at_its_limit_when_nothing_happens() {
    let home = Home::new();
    let agent = home.start();
    home.join(&agent.door).await;
    let dags = agent.door.get("/api/v1/task/dags/agent").await.data();
    let (id, version) =
        (dags["contents"][0]["id"].as_str().unwrap(), &dags["contents"][0]["obpilot"]["version"]);
    let answer = agent.door.get(&format!("/api/v1/task/dag/{id}?watch={version}&wait=1")).await.data();
    assert_eq!(answer["obpilot"]["version"], *version);
    let older = version.as_i64().unwrap() - 1;
    let answer = agent.door.get(&format!("/api/v1/task/dag/{id}?watch={older}&wait=100")).await.data();
    assert_eq!(answer["obpilot"]["version"], *version);
}

/// A task that fails without a database: the own server alone, which was never initialised.
async fn failing_task(door: &Door, home: &Home) -> String {
    let own = json!({ "scope": { "type": "SERVER", "target": [home.address()] } });
    let dag = door.post("/api/v1/ob/start", own).await.data();
    let id = dag["id"].as_str().unwrap().to_owned();
    assert_eq!(door.finished(&id).await.data()["state"], "FAILED");
    id
}

/// A watch that waits is answered by the change, long before its limit; so is everybody else who waits.
#[tokio::test]
async fn a_watch_answers_when_something_happens() {
    let home = Home::new();
    let agent = home.start();
    let id = failing_task(&agent.door, &home).await;
    let before = agent.door.get(&format!("/api/v1/task/dag/{id}")).await.data();
    let version = before["obpilot"]["version"].clone();
    let target = format!("/api/v1/task/dag/{id}?watch={version}&wait=100");
    // On one connection of HTTP/2 requests arrive in order: once the one behind them is answered, the watchers wait.
    let mut http2 = home.tcp("").await;
    http2.http =
        reqwest::Client::builder().no_proxy().tls_certs_only([]).http2_prior_knowledge().build().unwrap();
    http2.get("/api/v1/time").await.data();
    let watchers: Vec<_> = (0..5)
        .map(|_| {
            let (door, target) = (http2.clone(), target.clone());
            tokio::spawn(async move { door.get(&target).await.data() })
        })
        .collect();
    http2.get("/api/v1/time").await.data();
    let began = std::time::Instant::now();
    agent.door.post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "RETRY" })).await;
    for watcher in watchers {
        let seen = watcher.await.unwrap();
        assert!(seen["obpilot"]["version"].as_i64() > version.as_i64(), "{seen:#}");
    }
    assert!(began.elapsed().as_secs() < 50, "answered by the change, not by the limit");
}

/// What the stream tells is what is recorded: each line of the task once, each transition of it once, in order.
#[tokio::test]
async fn the_event_stream_tells_every_line_and_transition_once() {
    let home = Home::new();
    let mut agent = home.start();
    let id = failing_task(&agent.door, &home).await;
    agent.door.post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "RETRY" })).await;
    agent.door.finished(&id).await;
    let ends = std::cell::Cell::new(0);
    let whole = events_until(&agent.door, 0, |event| {
        ends.set(ends.get() + i32::from(is_end_of(event, &id)));
        ends.get() == 2
    })
    .await;
    let dag = agent.door.get(&format!("/api/v1/task/dag/{id}")).await.data();
    for sub_task in
        dag["nodes"].as_array().unwrap().iter().flat_map(|node| node["sub_tasks"].as_array().unwrap())
    {
        let sub = sub_task["id"].as_str().unwrap();
        let logs = agent.door.get(&format!("/api/v1/task/sub_task/{sub}/logs")).await.data();
        let recorded: Vec<_> =
            logs["contents"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
        let of_it = |event: &&Value| event["sub_task"] == json!(sub);
        let told = whole.iter().filter(of_it).filter(|event| event["kind"] == "log");
        assert_eq!(told.map(|event| event["id"].clone()).collect::<Vec<_>>(), recorded, "{sub}");
        // Every attempt begins once and ends once. (A retry counts for two: so clients know it.)
        let attempts = |kinds: &[&str]| {
            let told =
                whole.iter().filter(of_it).filter(|event| kinds.contains(&event["kind"].as_str().unwrap()));
            told.map(|event| event["execute_times"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        let begun = attempts(&["claimed"]);
        assert_eq!(begun, attempts(&["succeeded", "failed"]), "{sub}");
        assert!(begun.windows(2).all(|pair| pair[0] < pair[1]), "{sub}: {begun:?}");
        assert_eq!(json!(begun.last().unwrap_or(&0)), sub_task["execute_times"], "{sub}");
    }
    // Cut at every place, also across a restart: head and rest are the whole.
    agent.terminate();
    let agent = home.start();
    let numbers = ids(&whole);
    for cut in 1..numbers.len() {
        let last = *numbers.last().unwrap();
        let rest = events_until(&agent.door, numbers[cut - 1], |event| event["id"] == json!(last)).await;
        assert_eq!(ids(&rest), numbers[cut..], "after {}", numbers[cut - 1]);
    }
}

/// The header of the standard, and the same as a query for those who cannot set it; neither takes what is no number.
#[tokio::test]
async fn a_stream_is_resumed_by_header_and_by_query() {
    let home = Home::new();
    let agent = home.start();
    failing_task(&agent.door, &home).await;
    let first = |header: Option<&'static str>, target: &'static str| {
        let request = agent.door.request("GET", target, None);
        let request = header.map_or(request.try_clone().unwrap(), |id| request.header("Last-Event-ID", id));
        async move {
            let mut response = request.send().await.unwrap();
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            let mut text = String::new();
            while !text.contains("\n\n") {
                text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
            }
            text.lines().next().unwrap().to_owned()
        }
    };
    assert_eq!(first(Some("3"), "/api/v1/task/events").await, "id: 4");
    assert_eq!(first(None, "/api/v1/task/events?after=3").await, "id: 4");
    assert_eq!(first(Some("5"), "/api/v1/task/events?after=3").await, "id: 6", "the header is newer");
    for target in ["/api/v1/task/events?after=x", "/api/v1/task/events?after=-1"] {
        let refused = agent.door.get(target).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "Request.Query.Param.Illegal"));
    }
}

const AGENT_PASSWORD: &str = "an agent's password, long enough";

/// The forms in which a secret may slip out.
pub(crate) fn forms(secret: &str) -> Vec<String> {
    use base64::Engine as _;
    let json = json!(secret).to_string();
    let percent: String = secret
        .bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    vec![
        secret.to_owned(),
        json.trim_matches('"').to_owned(),
        base64::engine::general_purpose::STANDARD.encode(secret),
        percent,
    ]
}

/// Files that the agent wrote; what the database wrote is its own affair.
pub(crate) fn written_by_the_agent(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let is_of_the_database = ["store", "log", "etc", "audit"]
            .iter()
            .any(|name| path.file_name().is_some_and(|file| file == *name));
        if path.is_dir() && !is_of_the_database {
            written_by_the_agent(&path, files);
        } else if path.is_file() {
            files.push(path);
        }
    }
}

#[tokio::test]
async fn no_secret_stands_anywhere_in_the_open() {
    let mut home = Home::new();
    home.args.extend(["--log".to_owned(), "trace".to_owned()]);
    let agent = home.start();
    home.initialise(&agent).await;
    agent.door.post("/api/v1/agent/password", json!({ "password": AGENT_PASSWORD })).await.data();
    let stop = json!({ "scope": { "type": "GLOBAL", "target": [] }, "force": true });
    let dag = agent.door.post("/api/v1/ob/stop", stop).await.data();
    agent.door.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
    let start = json!({ "scope": { "type": "GLOBAL", "target": [] } });
    let dag = agent.door.post("/api/v1/ob/start", start).await.data();
    agent.door.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
    let wrong = home.tcp("not the password at all").await;
    assert_eq!(wrong.get("/api/v1/ob/info").await.status, 401);

    let mut haystacks: Vec<(String, Vec<u8>)> = Vec::new();
    for list in ["dags/agent", "dags/ob", "dag/unfinish"] {
        let answer = agent.door.get(&format!("/api/v1/task/{list}?show_details=true")).await;
        haystacks.push((list.to_owned(), answer.text.into_bytes()));
    }
    let events = events_until(&agent.door, 0, |event| is_end_of(event, dag["id"].as_str().unwrap())).await;
    haystacks.push(("events".to_owned(), Value::from(events).to_string().into_bytes()));
    for pid in home.database_pids().into_iter().chain([agent.pid()]) {
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{pid}/{file}");
            haystacks.push((path.clone(), std::fs::read(path).unwrap()));
        }
    }
    haystacks.push(("the agent's log".to_owned(), agent.stderr().into_bytes()));
    let mut files = Vec::new();
    written_by_the_agent(&home.path, &mut files);
    assert!(
        files.iter().any(|file| file.ends_with("store.db-wal") || file.ends_with("store.db")),
        "{files:?}"
    );
    for file in files {
        haystacks.push((file.display().to_string(), std::fs::read(&file).unwrap()));
    }
    let mut found = Vec::new();
    for secret in [PASSWORD, AGENT_PASSWORD, "not the password at all"] {
        for form in forms(secret) {
            for (place, bytes) in &haystacks {
                if bytes.windows(form.len()).any(|window| window == form.as_bytes()) {
                    found.push(format!("{form:?} in {place}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

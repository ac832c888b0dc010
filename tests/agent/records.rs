//! What is told and what is never told: the event stream, and where no secret may stand.

use std::path::Path;

use serde_json::{Value, json};

use crate::recovery::events_until;
use crate::rig::{Home, PASSWORD};

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

const AGENT_PASSWORD: &str = "an agent's password, long enough";

/// The forms in which a secret may slip out.
fn forms(secret: &str) -> Vec<String> {
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
fn written_by_the_agent(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
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

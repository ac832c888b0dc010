//! What operators, trouble and checks share: ways to the agents, the tasks that were made, what was counted, what was wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::orders::Promise;
use crate::rig::{Answer, Cluster, Door, PASSWORD};

/// A client that hears nothing for so long gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// A task that an operator has made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) burst: u64,
    /// When it was asked for: the start that its agent shows is that of the last attempt.
    pub(crate) asked: Timestamp,
    pub(crate) promise: Promise,
    /// The hosts in its scope.
    pub(crate) hosts: Vec<usize>,
    /// As it was asked for.
    pub(crate) words: String,
}

#[derive(Debug, Default)]
struct Shared {
    burst: u64,
    made: Vec<Made>,
    counts: BTreeMap<(String, String), u64>,
    violations: Vec<String>,
    /// Which servers were killed, and when.
    killed: Vec<(usize, Timestamp)>,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The agents by their sockets, and by their ports with sealed headers.
    pub(crate) doors: Vec<Door>,
    pub(crate) sealed: Vec<Door>,
    pub(crate) addresses: Vec<String>,
    pub(crate) homes: Vec<PathBuf>,
    /// Numbers of the servers in the v2 API.
    pub(crate) numbers: Vec<i64>,
    /// The host whose agent is never ended: its memory is followed from the first burst to the last.
    pub(crate) spared: usize,
    shared: Arc<Mutex<Shared>>,
}

impl World {
    pub(crate) async fn of(cluster: &Cluster, seed: u64) -> Self {
        let hosts = 0..cluster.homes.len();
        let mut sealed = Vec::new();
        for host in hosts.clone() {
            sealed.push(Door::sealed(&cluster.address(host), PASSWORD).await);
        }
        let servers = cluster.door(0).get("/api/v2/ob/clusters/7/servers").await.data();
        let number = |host: usize| {
            let own = cluster.server(host);
            let mut all = servers["contents"].as_array().unwrap().iter();
            let found =
                all.find(|server| format!("{}:{}", server["ip"].as_str().unwrap(), server["port"]) == own);
            found.unwrap()["id"].as_i64().unwrap()
        };
        println!("soak: hosts in {}, seed {seed}", cluster.homes[0].path.parent().unwrap().display());
        Self {
            doors: hosts.clone().map(|host| Door::socket(&cluster.homes[host].socket())).collect(),
            sealed,
            addresses: cluster.addresses(),
            homes: cluster.homes.iter().map(|home| home.path.clone()).collect(),
            numbers: hosts.map(number).collect(),
            spared: (seed % 3) as usize,
            shared: Arc::default(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    pub(crate) fn begin(&self, burst: u64) {
        self.shared().burst = burst;
    }

    pub(crate) fn burst(&self) -> u64 {
        self.shared().burst
    }

    /// By us, just now.
    pub(crate) fn killed(&self, host: usize) {
        self.shared().killed.push((host, Timestamp::now()));
    }

    /// What was killed since it was asked last.
    pub(crate) fn take_killed(&self) -> Vec<(usize, Timestamp)> {
        std::mem::take(&mut self.shared().killed)
    }

    pub(crate) fn count(&self, kind: &str, outcome: &str) {
        *self.shared().counts.entry((kind.to_owned(), outcome.to_owned())).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<(String, String), u64> {
        self.shared().counts.clone()
    }

    pub(crate) fn violate(&self, text: String) {
        let burst = self.burst();
        println!("VIOLATION in burst {burst}: {text}");
        self.shared().violations.push(format!("burst {burst}: {text}"));
    }

    pub(crate) fn violations(&self) -> usize {
        self.shared().violations.len()
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        self.shared().violations.clone()
    }

    /// Notes a task once; a repetition of a request answers with the same one.
    pub(crate) fn made(&self, made: Made) {
        let mut shared = self.shared();
        if !shared.made.iter().any(|known| known.id == made.id) {
            shared.made.push(made);
        }
    }

    /// The newest tasks, oldest first.
    pub(crate) fn recent(&self, count: usize) -> Vec<Made> {
        let shared = self.shared();
        shared.made.iter().skip(shared.made.len().saturating_sub(count)).cloned().collect()
    }

    /// Those of one burst.
    pub(crate) fn of_burst(&self, burst: u64) -> Vec<Made> {
        self.shared().made.iter().filter(|made| made.burst == burst).cloned().collect()
    }

    pub(crate) fn tasks(&self) -> usize {
        self.shared().made.len()
    }

    /// Asks, and counts what came of it. Nothing when nobody answered.
    pub(crate) async fn ask(
        &self,
        kind: &str,
        door: &Door,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> Option<Answer> {
        self.ask_once(kind, door, method, target, body, None).await
    }

    /// The same with a key, under which it counts once.
    pub(crate) async fn ask_once(
        &self,
        kind: &str,
        door: &Door,
        method: &str,
        target: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Option<Answer> {
        let text = body.map(Value::to_string);
        let mut request = door.request(method, target, text.as_deref()).timeout(PATIENCE);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answered = async {
            let response = request.send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok::<_, reqwest::Error>(Answer { status, headers, text: response.text().await? })
        };
        match answered.await {
            Ok(answer) => {
                let outcome = outcome(&answer);
                if outcome == "no envelope" || outcome == "Common.Unexpected" {
                    self.violate(format!(
                        "{method} {target} {text:?} answers {} {}",
                        answer.status, answer.text
                    ));
                }
                self.count(kind, &outcome);
                Some(answer)
            }
            Err(error) => {
                self.count(kind, if error.is_timeout() { "no answer in time" } else { "not reached" });
                None
            }
        }
    }

    /// What an agent holds of memory, as its page of numbers tells; nothing when it does not answer.
    pub(crate) async fn held(&self, host: usize) -> Option<u64> {
        let page = self.ask("look", &self.doors[host], "GET", "/api/v2/metrics", None).await?;
        let line = page.text.lines().find_map(|line| line.strip_prefix("obpilot_heap_held_bytes "));
        line.and_then(|line| line.parse::<f64>().ok()).map(|bytes| bytes as u64)
    }

    /// A task with or without its details, by one agent. Nothing when it does not answer or does not know it.
    pub(crate) async fn task(&self, door: &Door, id: &str, more: &str) -> Option<Value> {
        let target = format!("/api/v1/task/dag/{id}?{more}");
        let answer = self.ask("look", door, "GET", &target, None).await?;
        (answer.status == 200).then(|| answer.json()["data"].clone())
    }
}

/// What an answer comes to, in a word.
fn outcome(answer: &Answer) -> String {
    if answer.status < 300 {
        return "done".to_owned();
    }
    let json: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let code = json["error"]["errCode"].as_str().or_else(|| json["error"]["code"].as_str());
    code.unwrap_or("no envelope").to_owned()
}

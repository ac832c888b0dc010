//! The flows: the state they begin in, the request, the end that must be reached.

use serde_json::{Value, json};

use crate::rig::{Agent, Home};
use crate::trial::Kill;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Join,
    ServerSettings,
    ClusterSettings,
    Init,
    InitRollback,
    Start,
    StopForce,
    StopTerminate,
    ForcePass,
    EmergencyStart,
    EmergencyStop,
    Restart,
}

/// What must be true at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) identity: &'static str,
    pub(crate) is_running: bool,
    /// `operator` of the finished DAG.
    pub(crate) operator: &'static str,
    pub(crate) spawns_max: usize,
    pub(crate) statements_max: usize,
}

/// A request that makes a task.
pub(crate) struct Request {
    pub(crate) target: String,
    pub(crate) body: Value,
    /// It works on this task instead of making one.
    pub(crate) on: Option<String>,
}

fn global() -> Value {
    json!({ "type": "GLOBAL", "target": [] })
}

impl Flow {
    /// A home serves one trial only: the flow happens once in its life.
    pub(crate) fn is_once(self) -> bool {
        matches!(
            self,
            Self::Join | Self::ServerSettings | Self::ClusterSettings | Self::Init | Self::InitRollback
        )
    }

    /// The points at which it is tried: all, but of a restart, which has many, every third commit only.
    pub(crate) fn chosen(self, kills: Vec<Kill>) -> Vec<Kill> {
        let mut commits = 0;
        let is_tried = |kill: &Kill| {
            let is_commit = kill.point() == "after-commit";
            commits += usize::from(is_commit);
            !is_commit || self != Self::Restart || commits % 3 == 0
        };
        kills.into_iter().filter(is_tried).collect()
    }

    /// Brings an empty home to what the first agent of its trials finds.
    pub(crate) async fn furnish(self, home: &Home) {
        if matches!(self, Self::EmergencyStart | Self::EmergencyStop) {
            lost_store(home).await;
        }
    }

    pub(crate) fn end(self) -> End {
        let base = End {
            identity: "CLUSTER AGENT",
            is_running: false,
            operator: "RUN",
            spawns_max: 0,
            statements_max: 0,
        };
        match self {
            Self::Join | Self::ServerSettings | Self::ClusterSettings => End { identity: "MASTER", ..base },
            Self::Init => End { is_running: true, spawns_max: 1, statements_max: 1, ..base },
            Self::InitRollback => End { identity: "MASTER", operator: "ROLLBACK", ..base },
            Self::Start | Self::Restart => End { is_running: true, spawns_max: 1, ..base },
            Self::StopForce | Self::ForcePass => base,
            Self::EmergencyStart => End { identity: "SINGLE", is_running: true, spawns_max: 1, ..base },
            Self::EmergencyStop => End { identity: "SINGLE", ..base },
            // A freeze may be repeated: the second one freezes what little came in between.
            Self::StopTerminate => End { statements_max: 2, ..base },
        }
    }

    /// Brings a home to the state in which the flow begins, and says what to ask for.
    pub(crate) async fn prepare(self, home: &Home, agent: &Agent) -> Request {
        let door = &agent.door;
        let plain = |target: &str, body| Request { target: target.to_owned(), body, on: None };
        match self {
            Self::Join => {
                let body =
                    json!({ "agentInfo": { "ip": "127.0.0.1", "port": home.port }, "zoneName": "zone1" });
                plain("/api/v1/agent/join", body)
            }
            Self::ServerSettings => {
                home.join(door).await;
                plain(
                    "/api/v1/observer/config",
                    json!({ "observerConfig": { "memory_limit": "2G" }, "scope": global() }),
                )
            }
            Self::ClusterSettings => {
                home.join(door).await;
                plain(
                    "/api/v1/obcluster/config",
                    json!({ "clusterName": "pilot", "clusterId": 1, "rootPwd": "x" }),
                )
            }
            Self::Init => {
                home.join(door).await;
                home.settings(door).await;
                plain("/api/v1/ob/init", json!({}))
            }
            Self::InitRollback => cancelled_init(home, agent).await,
            Self::Start => {
                running(home, agent).await;
                do_now(agent, "/api/v1/ob/stop", json!({ "scope": global(), "force": true })).await;
                plain("/api/v1/ob/start", json!({ "scope": global() }))
            }
            Self::StopForce => {
                running(home, agent).await;
                plain("/api/v1/ob/stop", json!({ "scope": global(), "force": true }))
            }
            Self::Restart => {
                running(home, agent).await;
                plain("/api/v1/ob/restart", json!({ "scope": own(home) }))
            }
            Self::StopTerminate => {
                running(home, agent).await;
                plain("/api/v1/ob/stop", json!({ "scope": global(), "terminate": true }))
            }
            Self::ForcePass => {
                running(home, agent).await;
                let holder = hanging_stop(home, agent).await;
                let body = json!({ "scope": global(), "force": true, "forcePassDag": { "id": [holder] } });
                plain("/api/v1/ob/stop", body)
            }
            Self::EmergencyStart => {
                if !home.database_pids().is_empty() {
                    do_now(agent, "/api/v1/ob/stop", json!({ "scope": own(home), "force": true })).await;
                }
                plain("/api/v1/ob/start", json!({ "scope": own(home) }))
            }
            Self::EmergencyStop => {
                if home.database_pids().is_empty() {
                    do_now(agent, "/api/v1/ob/start", json!({ "scope": own(home) })).await;
                }
                plain("/api/v1/ob/stop", json!({ "scope": own(home), "force": true }))
            }
        }
    }
}

fn own(home: &Home) -> Value {
    json!({ "type": "SERVER", "target": [home.address()] })
}

/// A database that was initialised once, and an agent that knows nothing of it: the store is gone.
async fn lost_store(home: &Home) {
    let mut agent = home.start();
    home.initialise(&agent).await;
    home.kill_database();
    agent.terminate();
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        let removed = std::fs::remove_file(home.path.join(".obpilot").join(file));
        assert!(removed.is_ok() || file != "store.db", "{removed:?}");
    }
}

async fn do_now(agent: &Agent, target: &str, body: Value) {
    let dag = agent.door.post(target, body).await.data();
    agent.door.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
}

/// An initialised home whose database runs.
async fn running(home: &Home, agent: &Agent) {
    let info = agent.door.get("/api/v1/info").await.data();
    if info["identity"] != "CLUSTER AGENT" {
        home.initialise(agent).await;
    } else if home.database_pids().is_empty() {
        do_now(agent, "/api/v1/ob/start", json!({ "scope": global() })).await;
    }
    agent.door.until_status(|status| status["obpilot"]["server"]["state"] == "SERVING").await;
}

/// An init that was cancelled while the engine started for the first time, and can be rolled back.
async fn cancelled_init(home: &Home, agent: &Agent) -> Request {
    let door = &agent.door;
    home.join(door).await;
    home.settings(door).await;
    let dag = door.post("/api/v1/ob/init", json!({})).await.data();
    let id = dag["id"].as_str().unwrap().to_owned();
    door.until(&id, |dag| dag["stage"].as_i64() >= Some(3) && !home.database_pids().is_empty()).await;
    let cancelled = door.post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "CANCEL" })).await;
    assert!(cancelled.status < 300, "{}", cancelled.text);
    door.until(&id, |dag| dag["state"] == "FAILED").await;
    Request {
        target: format!("/api/v1/task/dag/{id}"),
        body: json!({ "operator": "ROLLBACK" }),
        on: Some(id),
    }
}

/// A stop that holds the lock and hangs, because the database does.
async fn hanging_stop(home: &Home, agent: &Agent) -> String {
    use rustix::process::{Pid, Signal, kill_process};
    kill_process(Pid::from_raw(home.database()).unwrap(), Signal::STOP).unwrap();
    let body = json!({ "scope": global(), "terminate": true });
    let dag = agent.door.post("/api/v1/ob/stop", body).await.data();
    let id = dag["id"].as_str().unwrap().to_owned();
    agent.door.until(&id, |dag| dag.to_string().contains("waiting for the checkpoint")).await;
    id
}

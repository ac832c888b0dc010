//! One database through its life, by the calls an SDK makes.

use serde_json::json;

use crate::rig::{Home, PASSWORD};

/// Join, configure, init, stop, start; every record kept.
#[tokio::test]
async fn from_nothing_to_a_database_and_back() {
    let home = Home::new();
    let agent = home.start();
    home.initialise(&agent).await;
    let first = home.database();

    let tcp = home.tcp(PASSWORD).await;
    let global = json!({ "scope": { "type": "GLOBAL", "target": [] }, "terminate": true });
    let dag = tcp.post("/api/v1/ob/stop", global).await.data();
    let stopped = tcp.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
    assert_eq!(stopped["name"], "Stop OB");
    assert!(home.database_pids().is_empty());

    let global = json!({ "scope": { "type": "GLOBAL", "target": [] } });
    let dag = tcp.post("/api/v1/ob/start", global).await.data();
    let started = tcp.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
    assert_eq!((&started["name"], &started["max_stage"]), (&json!("Start OB"), &json!(6)));
    assert_ne!(home.database(), first);
}

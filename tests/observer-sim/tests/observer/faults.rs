//! Faults that a test switches on, as a client meets them.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use serde_json::json;

use crate::rig::{Rig, refusal, wait_until};

const SHORT: Duration = Duration::from_millis(300);

fn first_bytes(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.set_read_timeout(Some(SHORT)).unwrap();
    stream.read(&mut [0; 512])
}

#[tokio::test]
async fn half_open_ports() {
    let rig = Rig::new();
    let node = rig.node(1);
    node.start(&node.first_options());
    drop(node.connect("").await);
    let kinds = |error: std::io::Error| error.kind();
    node.faults(json!({ "half_open": "silent" }));
    let mut stream = TcpStream::connect(node.sql_addr()).unwrap();
    assert_eq!(first_bytes(&mut stream).map_err(kinds), Err(std::io::ErrorKind::WouldBlock));
    node.faults(json!({ "half_open": "greet" }));
    let greeted = tokio::time::timeout(SHORT, node.try_connect("")).await;
    assert!(greeted.is_err());
    let mut stream = TcpStream::connect(node.sql_addr()).unwrap();
    assert!(first_bytes(&mut stream).unwrap() > 60);
    node.faults(json!({ "half_open": "close" }));
    let mut stream = TcpStream::connect(node.sql_addr()).unwrap();
    let half = first_bytes(&mut stream).unwrap();
    assert!(half > 4 && half < 60, "{half}");
    assert_eq!(first_bytes(&mut stream).unwrap(), 0);
    node.faults(json!({ "half_open": "reset" }));
    let mut stream = TcpStream::connect(node.sql_addr()).unwrap();
    assert_eq!(first_bytes(&mut stream).map_err(kinds), Err(std::io::ErrorKind::ConnectionReset));
    node.faults(json!({}));
    drop(node.connect("").await);
}

#[tokio::test]
async fn statements_that_hang_fail_or_lose_their_answer() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let node = &nodes[0];
    let mut connection = node.connect("").await;
    node.faults(json!({ "error_on": { "match": "start zone", "code": 4550, "times": 1 } }));
    let (code, text) = refusal(connection.query_drop("ALTER SYSTEM START ZONE z1").await);
    assert_eq!((code, text.as_str()), (4550, "rootservice is shutdown"));
    assert_eq!(refusal(connection.query_drop("ALTER SYSTEM START ZONE z1").await).0, 4633);
    node.faults(json!({ "drop_answer_of": "STOP ZONE" }));
    assert!(connection.query_drop("ALTER SYSTEM STOP ZONE z1").await.is_err());
    node.faults(json!({}));
    node.await_value("SELECT STATUS FROM oceanbase.DBA_OB_ZONES WHERE ZONE = 'z1'", "INACTIVE").await;
    let mut connection = node.connect("").await;
    connection.query_drop("ALTER SYSTEM SIM FAULT hang_on = '\"START ZONE\"'").await.unwrap();
    let hanging = tokio::time::timeout(SHORT, connection.query_drop("ALTER SYSTEM START ZONE z1")).await;
    assert!(hanging.is_err());
    let journal = rig.journal();
    let last = journal.iter().rfind(|line| line["kind"] == "arrival").unwrap();
    assert_eq!(last["sql"], "ALTER SYSTEM START ZONE z1");
}

#[tokio::test]
async fn logins_that_are_refused_for_a_while() {
    let rig = Rig::new();
    let node = rig.node_with(1, json!({ "initializing_ms": 3_600_000 }));
    node.start(&node.first_options());
    wait_until("the port is open", || TcpStream::connect(node.sql_addr()).is_ok());
    assert_eq!(refusal(node.try_connect("").await), (8001, "Server is initializing".to_owned()));
    node.faults(json!({ "refuse_login": true }));
    assert_eq!(refusal(node.try_connect("").await).0, 1045);
    node.faults(json!({}));
    drop(node.connect("").await);
}

#[tokio::test]
async fn starts_that_take_their_time() {
    let rig = Rig::new();
    let node = rig.node_with(1, json!({ "never_listen": true }));
    node.start(&node.first_options());
    wait_until("it is there", || rig.journal().iter().any(|line| line["kind"] == "start"));
    assert!(TcpStream::connect(node.sql_addr()).is_err());
    node.faults(json!({ "never_serve": true }));
    let mut connection = node.connect("").await;
    connection.query_drop(crate::rig::bootstrap(&[&node])).await.unwrap();
    let started = "SELECT count(*) FROM oceanbase.DBA_OB_SERVERS WHERE START_SERVICE_TIME IS NOT NULL";
    assert_eq!(connection.query_first::<i64, _>(started).await.unwrap(), Some(0));
    node.faults(json!({}));
    node.await_value(&started.replace("count(*)", "CAST(count(*) AS CHAR)"), "1").await;
    node.faults(json!({ "no_leader": true }));
    assert_eq!(refusal(connection.query_drop(started).await).0, 4012);
}

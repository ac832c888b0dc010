//! A client that writes through one server while others go and come back.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::cluster::{COUNT_SERVING, refused};
use crate::rig::{Node, Rig, refusal};
use crate::writer::{Writer, at};

const NOT_IN_SYNC: &str = "SELECT CAST(count(*) AS CHAR) FROM oceanbase.GV$OB_LOG_STAT WHERE IN_SYNC = 'NO'";

const IN_SYNC: &str = "SELECT CAST(count(*) AS CHAR) FROM oceanbase.GV$OB_LOG_STAT WHERE IN_SYNC = 'YES'";

fn row(node: &Node<'_>) -> String {
    format!("oceanbase.DBA_OB_SERVERS WHERE SVR_IP = '{}'", node.ip())
}

async fn writer(node: &Node<'_>) -> Writer {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_observer-sim-client"));
    Writer::start(program, &at(&node.ip().to_string(), node.sql_addr().port()), "").await
}

fn scale(nodes: &[Node<'_>], factor: f64) {
    for node in nodes {
        node.set(json!({ "factor": factor }));
    }
}

#[tokio::test]
async fn a_zone_that_is_stopped_first_is_missed_by_nobody() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    scale(&nodes, 0.1);
    let writer = writer(&nodes[1]).await;
    let mut connection = nodes[1].connect("").await;
    // The first leads when it begins.
    for node in [&nodes[0], &nodes[2], &nodes[0]] {
        connection.query_drop(format!("ALTER SYSTEM STOP ZONE {}", node.zone())).await.unwrap();
        let served = format!("SELECT CAST(START_SERVICE_TIME AS CHAR) FROM {}", row(node));
        let before: String = connection.query_first(served).await.unwrap().unwrap();
        node.kill();
        writer.until_written(20).await;
        node.start(&[]);
        // Within the lease the row tells of the life before, and a dead server has no replica that lags.
        let again = format!("SELECT CAST(START_SERVICE_TIME > '{before}' AS CHAR) FROM {}", row(node));
        nodes[1].await_value(&again, "1").await;
        nodes[1].await_value(IN_SYNC, "3").await;
        connection.query_drop(format!("ALTER SYSTEM START ZONE {}", node.zone())).await.unwrap();
        writer.until_written(20).await;
    }
    let written = writer.finish().await;
    written.assert_undisturbed();
    assert_eq!((written.acknowledged, written.rows_found), (written.attempts, written.attempts));
}

#[tokio::test]
async fn a_leader_that_dies_where_it_led_is_missed_by_all() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    scale(&nodes, 0.3);
    let writer = writer(&nodes[1]).await;
    writer.until_written(10).await;
    let begin = jiff::Timestamp::now();
    nodes[0].kill();
    writer.until_failed(1).await;
    // The lease is over, and somebody else leads.
    writer.until_written(10).await;
    let written = writer.finish().await;
    assert!(!written.errors.is_empty() && written.attempts > 20, "{written:?}");
    let moment = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    for error in &written.errors {
        assert!(moment(&error.began) <= moment(&error.at), "{error:?}");
        assert!(error.text.starts_with("4012 Timeout, query has reached"), "{error:?}");
        assert!(error.at.parse::<jiff::Timestamp>().is_ok_and(|at| at >= begin), "{error:?}");
    }
}

#[tokio::test]
async fn who_writes_through_a_server_that_dies_loses_the_connection() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let (through, beside) = (writer(&nodes[2]).await, writer(&nodes[1]).await);
    nodes[2].kill();
    through.until_failed(3).await;
    beside.until_written(10).await;
    nodes[2].start(&[]);
    through.until_written(10).await;
    let written = through.finish().await;
    assert!(written.errors.iter().any(|error| error.text.contains("refused")), "{written:?}");
    beside.finish().await.assert_undisturbed();
}

#[tokio::test]
async fn who_came_back_is_not_in_sync_until_it_caught_up() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let writer = writer(&nodes[1]).await;
    let mut connection = nodes[1].connect("").await;
    nodes[2].kill();
    nodes[2].faults(json!({ "catch_up_ms": 3_600_000 }));
    nodes[2].start(&[]);
    nodes[1].await_value(COUNT_SERVING, "3").await;
    nodes[1].await_value(NOT_IN_SYNC, "1").await;
    assert_eq!(
        refused(&mut connection, "ALTER SYSTEM STOP ZONE z1").await,
        (4179, "Tenant(1) LS(1) log not sync, stop zone not allowed".to_owned())
    );
    writer.until_written(10).await;
    // Whoever does not wait for it leaves a single replica that has everything, and that is no majority.
    connection.query_drop("ALTER SYSTEM FORCE STOP ZONE z1").await.unwrap();
    let undisturbed = writer.finish().await;
    undisturbed.assert_undisturbed();
    nodes[0].kill();
    connection.query_drop("CREATE TABLE IF NOT EXISTS test.t (n INT)").await.unwrap_err();
    let insert = "INSERT INTO test.t VALUES (1)";
    assert_eq!(refused(&mut connection, insert).await.0, 4012);
    nodes[2].faults(json!({}));
    nodes[1].await_value(NOT_IN_SYNC, "0").await;
    connection.query_drop("CREATE TABLE IF NOT EXISTS test.t (n INT)").await.unwrap();
    connection.query_drop(insert).await.unwrap();
}

#[tokio::test]
async fn what_was_missed_is_caught_up_a_moment_after_serving() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    nodes[2].kill();
    scale(&nodes, 0.1);
    nodes[2].start(&[]);
    nodes[1].await_value(NOT_IN_SYNC, "1").await;
    nodes[1].await_value(NOT_IN_SYNC, "0").await;
}

#[tokio::test]
async fn a_tenant_writes_to_its_own_log_stream() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[1].connect("").await;
    let servers: Vec<String> = nodes.iter().map(|node| node.addr().to_string()).collect();
    connection
        .query_drop(format!("ALTER SYSTEM SIM ADD TENANT 1002 't1' SERVERS '{}'", servers.join(",")))
        .await
        .unwrap();
    let status = "SELECT count(*) FROM oceanbase.DBA_OB_TENANTS WHERE STATUS = 'NORMAL'";
    assert_eq!(connection.query_first::<i64, _>(status).await.unwrap(), Some(3));
    let mut own = Conn::new(Opts::from(nodes[2].options("").user(Some("root@t1")))).await.unwrap();
    own.query_drop("CREATE DATABASE test").await.unwrap();
    own.query_drop("CREATE TABLE test.t (n INT)").await.unwrap();
    // Without a server of its own it has nobody to write to; others have.
    connection.query_drop("ALTER SYSTEM SIM DROP TENANT 1002").await.unwrap();
    assert_eq!(refusal(own.query_drop("INSERT INTO test.t VALUES (1)").await).0, 4012);
    connection.query_drop("INSERT INTO test.t VALUES (1)").await.unwrap();
}

#[tokio::test]
async fn a_stopped_zone_stays_stopped_over_restarts() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[1].connect("").await;
    connection.query_drop("ALTER SYSTEM STOP ZONE z1").await.unwrap();
    nodes[0].kill();
    nodes[0].faults(json!({ "never_serve": true }));
    nodes[0].start(&[]);
    let first = "SELECT CONCAT(STATUS, ' ', START_SERVICE_TIME IS NULL, ' ', STOP_TIME IS NULL) FROM \
                 oceanbase.DBA_OB_SERVERS WHERE ID = 1";
    nodes[1].await_value(first, "ACTIVE 1 1").await;
    nodes[0].faults(json!({}));
    nodes[1].await_value(first, "ACTIVE 0 1").await;
    let zone = "SELECT STATUS FROM oceanbase.DBA_OB_ZONES WHERE ZONE = 'z1'";
    nodes[1].await_value(zone, "INACTIVE").await;
    let elsewhere = (4660, "cannot stop server or stop zone in multiple zones".to_owned());
    assert_eq!(refused(&mut connection, "ALTER SYSTEM STOP ZONE z2").await, elsewhere);
    let server = format!("ALTER SYSTEM STOP SERVER '{}'", nodes[2].addr());
    assert_eq!(refused(&mut connection, &server).await, elsewhere);
    connection.query_drop("ALTER SYSTEM START ZONE z1").await.unwrap();
    nodes[1].await_value(zone, "ACTIVE").await;
    // One that is down counts as lost, whatever zone is to be stopped.
    nodes[2].kill();
    nodes[1].await_value("SELECT STATUS FROM oceanbase.DBA_OB_SERVERS WHERE ID = 3", "INACTIVE").await;
    assert_eq!(
        refused(&mut connection, "ALTER SYSTEM STOP ZONE z1").await,
        (
            4179,
            "Tenant(1) LS(1) has no enough valid paxos member after stop zone, stop zone not allowed"
                .to_owned()
        )
    );
}

/// As a shell uses it.
#[tokio::test]
async fn the_client_tells_its_counts_when_it_is_asked_to_end() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    nodes[0].connect("").await.query_drop("ALTER USER root IDENTIFIED BY 'p'").await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_observer-sim-client"));
    command.args(["write", "--ip", "127.0.0.2", "--table", "t", "--port", &rig.sql.to_string()]);
    command.args(["--password-env", "OF_ROOT"]).env("OF_ROOT", "p").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let begun = format!("writing through 127.0.0.2:{}, table test.t", rig.sql);
    assert_eq!(lines.next(), Some(begun));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let counts = lines.next().unwrap();
    assert!(child.wait().unwrap().success(), "{counts}");
    let numbers: Vec<u64> = counts.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [writes, acknowledged, 0, rows] = numbers[..] else { panic!("{counts}") };
    assert!(writes > 0 && writes == acknowledged && acknowledged == rows, "{counts}");
}

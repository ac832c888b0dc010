//! Bootstrap, statuses, statements on servers and zones, quorum.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::rig::{Node, Rig, bootstrap, refusal, wait_until};

pub(crate) const COUNT_SERVING: &str = "SELECT CAST(count(*) AS CHAR) FROM oceanbase.DBA_OB_SERVERS WHERE status = 'active' AND START_SERVICE_TIME IS NOT NULL";

pub(crate) async fn refused(connection: &mut Conn, sql: &str) -> (u16, String) {
    refusal(connection.query_drop(sql).await)
}

fn status_of(node: &Node<'_>) -> String {
    format!("SELECT STATUS FROM oceanbase.DBA_OB_SERVERS WHERE SVR_IP = '{}'", node.ip())
}

fn stop(verb: &str, node: &Node<'_>) -> String {
    format!("ALTER SYSTEM {verb} SERVER '{}'", node.addr())
}

#[tokio::test]
async fn before_the_bootstrap_little_is_answered() {
    let rig = Rig::new();
    let node = rig.node(1);
    node.start(&node.first_options());
    let mut connection = node.connect("").await;
    connection.query_drop("SELECT 1").await.unwrap();
    connection.query_drop("SET SESSION ob_query_timeout = 1000000").await.unwrap();
    connection.query_drop("SHOW VARIABLES LIKE 'version%'").await.unwrap();
    assert_eq!(refused(&mut connection, "SELECT * FROM oceanbase.DBA_OB_SERVERS").await.0, 1146);
    assert_eq!(refused(&mut connection, &stop("STOP", &node)).await.0, 4012);
    let (code, text) = refusal(node.try_connect("wrong").await);
    assert_eq!(code, 1045);
    assert_eq!(text, "Access denied for user 'root'@'xxx.xxx.xxx.xxx' (using password: YES)");
    let with_database = node.options("").db_name(Some("oceanbase"));
    assert_eq!(refusal(Conn::new(with_database).await), (1049, "Unknown database 'oceanbase'".to_owned()));
    let of_tenant = node.options("").user(Some("root@t1"));
    assert_eq!(refusal(Conn::new(of_tenant).await).0, 8001);
}

#[tokio::test]
async fn three_servers_become_a_cluster() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[1].connect("").await;
    assert_eq!(connection.query_first::<String, _>(COUNT_SERVING).await.unwrap().as_deref(), Some("3"));
    let first: Row =
        connection.query_first("SELECT * FROM oceanbase.dba_ob_servers ORDER BY id").await.unwrap().unwrap();
    assert_eq!(first.get::<String, _>("WITH_ROOTSERVER").as_deref(), Some("YES"));
    assert_eq!(first.get::<i64, _>("SQL_PORT"), Some(i64::from(rig.sql)));
    assert_eq!(first.get::<Option<String>, _>("STOP_TIME"), Some(None));
    assert!(first.get::<String, _>("BUILD_VERSION").unwrap().starts_with("4.3.5.1_1010"));
    assert_eq!(
        connection.query_first::<String, _>("SELECT ob_version()").await.unwrap().as_deref(),
        Some("4.3.5.1")
    );
    let edition = r"select version() REGEXP 'OceanBase[\s_]CE'";
    assert_eq!(connection.query_first::<i64, _>(edition).await.unwrap(), Some(1));
    assert!(nodes.iter().all(|node| node.home.join("store/clog/tenant_1/1/log").exists()));
    // The privilege went with the built-in root.
    let again = bootstrap(&nodes.iter().collect::<Vec<_>>());
    assert_eq!(refused(&mut connection, &again).await.0, 1227);
    let leaders =
        "SELECT count(*) FROM oceanbase.GV$OB_LOG_STAT WHERE ROLE = 'LEADER' AND PAXOS_REPLICA_NUM = 3";
    assert_eq!(connection.query_first::<i64, _>(leaders).await.unwrap(), Some(1));
    for node in &nodes {
        let config = node.home.join("etc/observer.config.bin");
        let list = format!("{},{},{}", nodes[0].addr(), nodes[1].addr(), nodes[2].addr());
        wait_until("the list is saved", || {
            String::from_utf8_lossy(&std::fs::read(&config).unwrap()).contains(&list)
        });
    }
}

#[tokio::test]
async fn a_bootstrap_is_refused_for_its_reason() {
    let rig = Rig::new();
    let (one, two) = (rig.node(1), rig.node(2));
    one.start(&one.first_options());
    let mut connection = one.connect("").await;
    let twice = format!("ALTER SYSTEM BOOTSTRAP ZONE 'z1' SERVER '{0}', ZONE 'z1' SERVER '{0}'", one.addr());
    assert_eq!(refused(&mut connection, &twice).await.0, 4640);
    assert_eq!(refused(&mut connection, &bootstrap(&[&one, &two])).await.0, 4012);
    two.start(&two.first_options());
    drop(two.connect("").await);
    one.faults(json!({ "bootstrap_fails": 4622 }));
    assert_eq!(
        refused(&mut connection, &bootstrap(&[&one, &two])).await,
        (4622, "wait all rs online timeout".to_owned())
    );
    one.faults(json!({}));
    // Half done: no server is empty any more.
    assert_eq!(refused(&mut connection, &bootstrap(&[&one])).await, (4015, "System error".to_owned()));
    one.kill();
    std::fs::remove_dir_all(one.home.join("store/clog/tenant_1")).unwrap();
    one.start(&[]);
    let mut connection = one.connect("").await;
    assert_eq!(refused(&mut connection, &bootstrap(&[&one, &two])).await.0, 4005);
    one.faults(json!({ "exit_during_bootstrap": true }));
    assert!(connection.query_drop(bootstrap(&[&one])).await.is_err());
    one.await_death();
}

#[tokio::test]
async fn a_password_is_set_and_asked_for() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    connection.query_drop("ALTER USER root IDENTIFIED BY \"it's\"").await.unwrap();
    for node in &nodes {
        drop(node.connect("it's").await);
        assert_eq!(refusal(node.try_connect("").await).0, 1045);
    }
    connection.query_drop("CREATE USER IF NOT EXISTS `proxyro`@`%` IDENTIFIED BY 'p'").await.unwrap();
    connection.query_drop("GRANT SELECT ON oceanbase.* TO proxyro").await.unwrap();
    let other = nodes[2].options("p").user(Some("proxyro@sys#demo"));
    let mut other = Conn::new(other).await.unwrap();
    assert_eq!(refused(&mut other, &stop("STOP", &nodes[2])).await.0, 1227);
}

#[tokio::test]
async fn a_death_is_seen_and_a_return_too() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    nodes[0].kill();
    nodes[1].await_value(&status_of(&nodes[0]), "INACTIVE").await;
    let mut connection = nodes[1].connect("").await;
    let row: Row =
        connection.query_first("SELECT * FROM oceanbase.DBA_OB_SERVERS ORDER BY ID").await.unwrap().unwrap();
    assert_eq!(row.get::<Option<String>, _>("START_SERVICE_TIME"), Some(None));
    assert!(row.get::<Option<String>, _>("LAST_OFFLINE_TIME").unwrap().is_some());
    assert_eq!(row.get::<String, _>("WITH_ROOTSERVER").as_deref(), Some("NO"));
    let live = "SELECT CAST(count(*) AS CHAR) FROM oceanbase.GV$OB_SERVERS";
    nodes[1].await_value(live, "2").await;
    nodes[0].faults(json!({ "version_after_restart": "4.3.5.2" }));
    nodes[0].start(&[]);
    nodes[1].await_value(COUNT_SERVING, "3").await;
    let build = "SELECT BUILD_VERSION LIKE '4.3.5.2\\_%' FROM oceanbase.DBA_OB_SERVERS WHERE ID = 1";
    assert_eq!(connection.query_first::<i64, _>(build).await.unwrap(), Some(1));
    assert!(nodes[0].log().contains("observer start service"));
}

#[tokio::test]
async fn servers_are_stopped_and_started() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[1].connect("").await;
    assert_eq!(refused(&mut connection, "ALTER SYSTEM STOP SERVER '127.0.0.9:2882'").await.0, 4018);
    assert_eq!(
        refused(&mut connection, "ALTER SYSTEM START SERVER '127.0.0.9:2882'").await,
        (4630, "server not in server white list".to_owned())
    );
    let both = format!("ALTER SYSTEM STOP SERVER '{}', '{}'", nodes[0].addr(), nodes[1].addr());
    assert_eq!(refused(&mut connection, &both).await.0, 4660);
    connection.query_drop(stop("STOP", &nodes[0])).await.unwrap();
    let led = "SELECT CAST(count(*) AS CHAR) FROM oceanbase.GV$OB_LOG_STAT WHERE ROLE = 'LEADER' AND SVR_IP = '127.0.0.1'";
    assert_eq!(connection.query_first::<String, _>(led).await.unwrap().as_deref(), Some("0"));
    let stopped =
        "SELECT count(*) FROM oceanbase.DBA_OB_SERVERS WHERE STOP_TIME IS NOT NULL AND STATUS = 'ACTIVE'";
    assert_eq!(connection.query_first::<i64, _>(stopped).await.unwrap(), Some(1));
    connection.query_drop(stop("STOP", &nodes[0])).await.unwrap();
    assert_eq!(
        refused(&mut connection, &stop("STOP", &nodes[1])).await,
        (4660, "cannot stop server or stop zone in multiple zones".to_owned())
    );
    // It stays stopped over a restart.
    nodes[0].kill();
    nodes[0].start(&[]);
    nodes[1].await_value(COUNT_SERVING, "3").await;
    assert_eq!(connection.query_first::<i64, _>(stopped).await.unwrap(), Some(1));
    connection.query_drop(stop("START", &nodes[0])).await.unwrap();
    connection.query_drop(stop("START", &nodes[0])).await.unwrap();
    assert_eq!(connection.query_first::<i64, _>(stopped).await.unwrap(), Some(0));
    nodes[2].kill();
    nodes[1].await_value(&status_of(&nodes[2]), "INACTIVE").await;
    assert_eq!(
        refused(&mut connection, &stop("STOP", &nodes[0])).await,
        (
            4179,
            "Tenant(1) LS(1) has no enough valid paxos member after stop server, stop server not allowed"
                .to_owned()
        )
    );
}

#[tokio::test]
async fn lagging_logs_and_leaders_that_stay() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[1].connect("").await;
    let servers: Vec<String> = nodes.iter().map(|node| node.addr().to_string()).collect();
    let tenant = format!("ALTER SYSTEM SIM ADD TENANT 1002 't1' SERVERS '{}'", servers.join(","));
    connection.query_drop(tenant).await.unwrap();
    let users = "SELECT TENANT_NAME FROM oceanbase.DBA_OB_TENANTS WHERE TENANT_TYPE = 'USER'";
    assert_eq!(connection.query_first::<String, _>(users).await.unwrap().as_deref(), Some("t1"));
    connection.query_drop(format!("ALTER SYSTEM SIM SYNC '{}' NO", nodes[2].addr())).await.unwrap();
    assert_eq!(
        refused(&mut connection, &stop("STOP", &nodes[0])).await,
        (4179, "Tenant(1) LS(1) log not sync, stop server not allowed".to_owned())
    );
    let lag = "select count(*) from oceanbase.GV$OB_LOG_STAT where in_sync = 'NO'";
    assert_eq!(connection.query_first::<i64, _>(lag).await.unwrap(), Some(4));
    connection.query_drop(format!("ALTER SYSTEM SIM SYNC '{}' YES", nodes[2].addr())).await.unwrap();
    nodes[0].faults(json!({ "stop_server_blocks": true }));
    wait_until("the fault is seen", || {
        let card = rig.cluster_dir().join(format!("servers/127.0.0.1_{}.json", rig.rpc));
        std::fs::read_to_string(card).unwrap().contains("\"keeps_leaders\":true")
    });
    assert_eq!(
        refused(&mut connection, &stop("STOP", &nodes[0])).await,
        (4652, "wait leader switch timeout".to_owned())
    );
    let stopped = "SELECT count(*) FROM oceanbase.DBA_OB_SERVERS WHERE STOP_TIME > 0";
    assert_eq!(connection.query_first::<i64, _>(stopped).await.unwrap(), Some(1));
    connection.query_drop("ALTER SYSTEM SIM DROP TENANT 1002").await.unwrap();
}

#[tokio::test]
async fn zones_are_stopped_started_and_deleted() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    let unknown = refused(&mut connection, "ALTER SYSTEM STOP ZONE z9").await;
    assert_eq!(unknown, (4018, "zone not exist".to_owned()));
    let active = (4633, "zone status not match".to_owned());
    assert_eq!(refused(&mut connection, "ALTER SYSTEM START ZONE 'z1'").await, active);
    connection.query_drop("ALTER SYSTEM STOP ZONE 'z1'").await.unwrap();
    connection.query_drop("ALTER SYSTEM STOP ZONE 'z1'").await.unwrap();
    assert_eq!(refused(&mut connection, "ALTER SYSTEM STOP ZONE 'z2'").await.0, 4660);
    let inactive = "SELECT count(*) FROM oceanbase.DBA_OB_ZONES WHERE STATUS = 'INACTIVE' AND ZONE = 'z1'";
    assert_eq!(connection.query_first::<i64, _>(inactive).await.unwrap(), Some(1));
    assert_eq!(
        refused(&mut connection, "ALTER SYSTEM DELETE ZONE z1").await,
        (
            4668,
            "The zone is not empty and can not be deleted. You should delete the servers of the zone. There are 1 servers \
             alive and 0 not alive."
                .to_owned()
        )
    );
    connection.query_drop("ALTER SYSTEM START ZONE 'z1'").await.unwrap();
    connection.query_drop("alter system add zone 'z4' region 'r'").await.unwrap();
    assert_eq!(refused(&mut connection, "alter system add zone 'z4'").await.0, 4017);
    connection.query_drop("ALTER SYSTEM START ZONE 'z4'").await.unwrap();
    assert_eq!(refused(&mut connection, "ALTER SYSTEM DELETE ZONE z4").await.0, 4633);
    connection.query_drop("ALTER SYSTEM STOP ZONE 'z4'").await.unwrap();
    connection.query_drop("ALTER SYSTEM DELETE ZONE z4").await.unwrap();
    assert_eq!(refused(&mut connection, "ALTER SYSTEM DELETE ZONE z4").await.0, 4018);
}

#[tokio::test]
async fn servers_are_added_and_deleted() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    let fourth = rig.node(4);
    let add = format!("ALTER SYSTEM ADD SERVER '{}' ZONE 'z4'", fourth.addr());
    assert_eq!(refused(&mut connection, &add).await.0, 4012);
    fourth.start(&fourth.first_options());
    drop(fourth.connect("").await);
    assert_eq!(refused(&mut connection, &add.replace("'z4'", "'z1'")).await.0, 4631);
    assert_eq!(refused(&mut connection, &add).await.0, 4018);
    connection.query_drop("ALTER SYSTEM ADD ZONE 'z4'").await.unwrap();
    assert_eq!(refused(&mut connection, &add).await, (4655, "zone not active".to_owned()));
    connection.query_drop("ALTER SYSTEM START ZONE 'z4'").await.unwrap();
    connection.query_drop(&add).await.unwrap();
    let (code, text) = refused(&mut connection, &add).await;
    assert_eq!((code, text), (4179, format!("add non-empty server \"{}\" not allowed", fourth.addr())));
    fourth.await_value(COUNT_SERVING, "4").await;
    assert!(fourth.home.join("store/clog/tenant_1/1/log").exists());
    // A member cannot go: nobody in its zone could take its replicas.
    assert_eq!(refused(&mut connection, &stop("DELETE", &nodes[0])).await.0, 4624);
    assert_eq!(refused(&mut connection, &stop("CANCEL DELETE", &fourth)).await.0, 4629);
    fourth.faults(json!({ "delete_never": true }));
    wait_until("the fault is seen", || {
        let card = rig.cluster_dir().join(format!("servers/127.0.0.4_{}.json", rig.rpc));
        std::fs::read_to_string(card).unwrap().contains("\"never_leaves\":true")
    });
    connection.query_drop(stop("DELETE", &fourth)).await.unwrap();
    assert_eq!(refused(&mut connection, &stop("DELETE", &fourth)).await.0, 4628);
    nodes[0].await_value(&status_of(&fourth), "DELETING").await;
    connection.query_drop(stop("CANCEL DELETE", &fourth)).await.unwrap();
    nodes[0].await_value(&status_of(&fourth), "ACTIVE").await;
    fourth.faults(json!({}));
    connection.query_drop(stop("DELETE", &fourth)).await.unwrap();
    let rows = "SELECT CAST(count(*) AS CHAR) FROM oceanbase.DBA_OB_SERVERS";
    nodes[0].await_value(rows, "3").await;
    assert_eq!(refused(&mut connection, &stop("DELETE", &fourth)).await.0, 4630);
}

#[tokio::test]
async fn without_a_majority_only_the_local_answers() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[2].connect("").await;
    connection.query_drop("ALTER USER root IDENTIFIED BY 'p'").await.unwrap();
    nodes[0].kill();
    nodes[1].kill();
    connection.query_drop("SET SESSION ob_query_timeout = 2000000").await.unwrap();
    let (code, text) = refused(&mut connection, COUNT_SERVING).await;
    assert_eq!(code, 4012);
    assert!(text.contains("maximum query timeout: 2000000(us)"), "{text}");
    let hinted = "select /*+ QUERY_TIMEOUT(100000) */ count(*) from oceanbase.__ALL_DATABASE limit 1";
    assert!(refused(&mut connection, hinted).await.1.contains("100000(us)"));
    assert_eq!(connection.query_first::<i64, _>("SELECT 1").await.unwrap(), Some(1));
    let own = "SELECT count(*) FROM oceanbase.V$OB_LOG_STAT";
    assert_eq!(connection.query_first::<i64, _>(own).await.unwrap(), Some(1));
    assert_eq!(refused(&mut connection, &stop("STOP", &nodes[2])).await.0, 4012);
    nodes[2].faults(json!({ "alter_without_rs": 4638 }));
    assert_eq!(
        refused(&mut connection, &stop("STOP", &nodes[2])).await,
        (4638, "The RootServer is not the master".to_owned())
    );
    nodes[2].faults(json!({}));
    // The schema is known in this life, so the password is; one that starts now knows the built-in root alone.
    drop(nodes[2].connect("p").await);
    nodes[2].kill();
    nodes[2].start(&[]);
    let mut early = nodes[2].connect("").await;
    assert_eq!(refusal(nodes[2].try_connect("p").await).0, 1045);
    assert_eq!(refused(&mut early, COUNT_SERVING).await.0, 4012);
    nodes[0].start(&[]);
    drop(nodes[2].connect("p").await);
    early.query_drop(COUNT_SERVING).await.unwrap();
    nodes[1].start(&[]);
}

/// A tenth of the real spans.
#[tokio::test]
async fn spans_are_kept_in_proportion() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    for node in &nodes {
        node.set(json!({ "factor": 0.1 }));
    }
    let mut connection = nodes[1].connect("").await;
    let begin = Instant::now();
    nodes[2].kill();
    let status = connection.query_first::<String, _>(status_of(&nodes[2])).await.unwrap();
    assert_eq!(status.as_deref(), Some("ACTIVE"));
    nodes[1].await_value(&status_of(&nodes[2]), "INACTIVE").await;
    assert!(begin.elapsed() >= Duration::from_millis(950), "the lease is 1 s: {:?}", begin.elapsed());
    // Without a leader a statement waits for its limit; so does a refusal that is retried.
    nodes[2].start(&[]);
    nodes[1].await_value(COUNT_SERVING, "3").await;
    connection.query_drop(format!("ALTER SYSTEM SIM SYNC '{}' NO", nodes[2].addr())).await.unwrap();
    let begin = Instant::now();
    assert_eq!(refused(&mut connection, &stop("STOP", &nodes[0])).await.0, 4179);
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    nodes[0].kill();
    nodes[2].kill();
    let begin = Instant::now();
    assert_eq!(refused(&mut connection, COUNT_SERVING).await.0, 4012);
    assert!(begin.elapsed() >= Duration::from_millis(950), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_stopped_process_is_dead_for_the_cluster() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    nodes[0].signal(Signal::SIGSTOP);
    nodes[1].await_value(&status_of(&nodes[0]), "INACTIVE").await;
    nodes[0].signal(Signal::SIGCONT);
    nodes[1].await_value(&status_of(&nodes[0]), "ACTIVE").await;
}

#[tokio::test]
async fn a_partition_separates() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let groups = json!({ "groups": [[nodes[0].addr()], [nodes[1].addr(), nodes[2].addr()]] });
    std::fs::write(rig.cluster_dir().join("network.json"), groups.to_string()).unwrap();
    nodes[1].await_value(&status_of(&nodes[0]), "INACTIVE").await;
    let mut alone = nodes[0].connect("").await;
    assert_eq!(refused(&mut alone, COUNT_SERVING).await.0, 4012);
    std::fs::remove_file(rig.cluster_dir().join("network.json")).unwrap();
    nodes[0].await_value(COUNT_SERVING, "3").await;
}

/// Within the lease the row of a server that was killed tells of the life that it had.
#[tokio::test]
async fn a_row_without_heartbeats_stays_as_it_was() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let file = rig.cluster_dir().join("network.json");
    std::fs::write(&file, json!({ "unheard": [nodes[2].addr()] }).to_string()).unwrap();
    let started = format!(
        "SELECT CAST(START_SERVICE_TIME AS CHAR) FROM oceanbase.DBA_OB_SERVERS WHERE SVR_IP = '{}'",
        nodes[2].ip()
    );
    let mut connection = nodes[0].connect("").await;
    let before: Option<Option<String>> = connection.query_first(&started).await.unwrap();
    nodes[2].kill();
    let after: Option<Option<String>> = connection.query_first(&started).await.unwrap();
    assert!(before == after && before.flatten().is_some(), "{after:?}");
    nodes[0].await_value(&status_of(&nodes[2]), "ACTIVE").await;
    std::fs::remove_file(file).unwrap();
    nodes[0].await_value(&status_of(&nodes[2]), "INACTIVE").await;
}

#[tokio::test]
async fn freezes_move_checkpoints() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    let end = format!("SELECT max(END_SCN) FROM oceanbase.GV$OB_LOG_STAT WHERE SVR_IP = '{}'", nodes[1].ip());
    let end: i64 = connection.query_first(end).await.unwrap().unwrap();
    let passed = format!(
        "SELECT CAST(checkpoint_scn >= {end} AS CHAR) FROM oceanbase.__all_virtual_ls_info WHERE svr_ip = '{}'",
        nodes[1].ip()
    );
    nodes[0].await_value(&passed, "0").await;
    connection
        .query_drop(format!("alter system minor freeze server = ('{}');", nodes[1].addr()))
        .await
        .unwrap();
    nodes[0].await_value(&passed, "1").await;
    assert_eq!(refused(&mut connection, "alter system minor freeze server = ('127.0.0.9:1')").await.0, 4018);
}

#[tokio::test]
async fn parameters_are_set_and_kept() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    assert_eq!(
        refused(&mut connection, "ALTER SYSTEM SET no_such = 1").await,
        (5099, "System config unknown".to_owned())
    );
    connection.query_drop("ALTER SYSTEM SET cpu_count = '16'").await.unwrap();
    connection
        .query_drop(format!("ALTER SYSTEM SET `cpu_count` = \"4\" SERVER = '{}'", nodes[1].addr()))
        .await
        .unwrap();
    let values = "SELECT VALUE FROM oceanbase.GV$OB_PARAMETERS WHERE NAME = 'cpu_count' ORDER BY SVR_IP";
    assert_eq!(connection.query::<String, _>(values).await.unwrap(), ["16", "4", "16"]);
    let cluster = "SELECT value FROM oceanbase.V$OB_PARAMETERS WHERE name = 'cluster_id'";
    assert_eq!(connection.query::<String, _>(cluster).await.unwrap(), ["7"]);
    let shown: Vec<Row> = connection.query("SHOW PARAMETERS LIKE 'cpu\\_count'").await.unwrap();
    assert_eq!(shown.len(), 3);
    let config = nodes[1].home.join("etc/observer.config.bin");
    wait_until("the value is saved", || {
        String::from_utf8_lossy(&std::fs::read(&config).unwrap()).contains("cpu_count=4\n")
    });
}

//! Schema `ocs`: what a stock client may do with its own tables.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Row, TxOpts, params};

use crate::rig::{Rig, refusal};

const AGENTS: &str = "CREATE TABLE IF NOT EXISTS ocs.all_agent (ip varchar(64) NOT NULL, port int NOT NULL, identity varchar(18) \
                      NOT NULL, PRIMARY KEY (ip, port)) DEFAULT CHARSET = utf8mb4";

const UPSERT: &str = "INSERT INTO ocs.all_agent (ip, port, identity) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE identity = VALUES(identity)";

#[tokio::test]
async fn tables_of_clients() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let in_ocs = || nodes[1].options("").db_name(Some("ocs"));
    assert_eq!(refusal(Conn::new(in_ocs()).await).0, 1049);
    let mut connection = nodes[0].connect("").await;
    connection.query_drop("CREATE DATABASE IF NOT EXISTS ocs READ WRITE").await.unwrap();
    connection.query_drop("CREATE DATABASE IF NOT EXISTS ocs").await.unwrap();
    assert_eq!(refusal(connection.query_drop("CREATE DATABASE ocs").await).0, 1007);
    connection.query_drop(AGENTS).await.unwrap();
    for (identity, affected) in [("MASTER", 1), ("it's \\ \"x\"", 2), ("it's \\ \"x\"", 0)] {
        connection.exec_drop(UPSERT, ("10.0.0.1", 2886, identity)).await.unwrap();
        assert_eq!(connection.affected_rows(), affected, "{identity}");
    }
    let again = "INSERT INTO ocs.all_agent VALUES ('10.0.0.1', 2886, 'x')";
    assert_eq!(refusal(connection.query_drop(again).await).0, 1062);
    let mut other = Conn::new(in_ocs()).await.unwrap();
    let found: Row = other
        .exec_first("SELECT * FROM all_agent WHERE ip = ? AND port = ?", ("10.0.0.1", 2886))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.get::<String, _>("identity").as_deref(), Some("it's \\ \"x\""));
    assert_eq!(found.get::<u16, _>("port"), Some(2886));
    other.query_drop("UPDATE all_agent SET identity = 'A' WHERE port = 2886").await.unwrap();
    assert_eq!(other.affected_rows(), 1);
    other.query_drop("UPDATE all_agent SET identity = 'A' WHERE port = 2886").await.unwrap();
    assert_eq!(other.affected_rows(), 0);
    let joined = "SELECT b.ip FROM oceanbase.DBA_OB_SERVERS a JOIN ocs.all_agent b ON b.port = 2886 WHERE a.status = 'ACTIVE'";
    assert_eq!(other.query::<String, _>(joined).await.unwrap().len(), 3);
    assert_eq!(other.query_first::<String, _>("SELECT DATABASE()").await.unwrap().as_deref(), Some("ocs"));
    assert!(other.query::<String, _>("SHOW DATABASES").await.unwrap().contains(&"ocs".to_owned()));
    assert_eq!(other.query::<String, _>("SHOW TABLES").await.unwrap(), ["all_agent"]);
    other.query_drop("DELETE FROM all_agent WHERE 1=1").await.unwrap();
    assert_eq!(other.affected_rows(), 1);
}

#[tokio::test]
async fn refusals_have_their_numbers() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    connection.query_drop("CREATE DATABASE ocs").await.unwrap();
    for (sql, code) in [
        ("SELECT * FROM ocs.nowhere", 1146),
        ("SELECT * FROM nowhere.t", 1049),
        ("SELECT * FROM oceanbase.DBA_OB_LICENSE", 1146),
        ("SELEC 1", 1064),
        ("SELECT 'open", 1064),
        ("SELECT no_column FROM oceanbase.DBA_OB_ZONES", 1054),
        ("CREATE TABLE t (a int)", 1046),
        ("SELECT @@no_such", 1193),
        ("USE nowhere", 1049),
        ("SELECT no_such(1)", 1305),
    ] {
        let (found, text) = refusal(connection.query_drop(sql).await);
        assert_eq!(found, code, "{sql}: {text}");
    }
    connection.query_drop("USE ocs").await.unwrap();
    connection.query_drop("CREATE TABLE t (a int NOT NULL)").await.unwrap();
    assert_eq!(refusal(connection.query_drop("CREATE TABLE t (a int)").await).0, 1050);
    assert_eq!(refusal(connection.query_drop("ALTER TABLE t ADD COLUMN a int").await).0, 1060);
    assert_eq!(refusal(connection.query_drop("INSERT INTO t VALUES (NULL)").await).0, 1048);
}

#[tokio::test]
async fn transactions_are_seen_when_they_end() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    connection.query_drop("CREATE DATABASE ocs").await.unwrap();
    connection.query_drop("USE ocs").await.unwrap();
    connection.query_drop("CREATE TABLE cluster_status (id int PRIMARY KEY, status int)").await.unwrap();
    let mut other = Conn::new(nodes[1].options("").db_name(Some("ocs"))).await.unwrap();
    other.query_drop("SET SESSION ob_query_timeout = 100000").await.unwrap();
    let mut open = connection.start_transaction(TxOpts::default()).await.unwrap();
    open.query_drop("INSERT INTO cluster_status (id, status) VALUES (0, 0) ON DUPLICATE KEY UPDATE id=id")
        .await
        .unwrap();
    open.query_drop("SELECT * FROM cluster_status WHERE id = 0 FOR UPDATE").await.unwrap();
    let count = "SELECT count(*) FROM cluster_status";
    assert_eq!(other.query_first::<i64, _>(count).await.unwrap(), Some(0));
    assert_eq!(refusal(other.query_drop("INSERT INTO cluster_status VALUES (1, 1)").await).0, 1205);
    open.commit().await.unwrap();
    assert_eq!(other.query_first::<i64, _>(count).await.unwrap(), Some(1));
    let mut open = connection.start_transaction(TxOpts::default()).await.unwrap();
    open.query_drop("DELETE FROM cluster_status").await.unwrap();
    open.rollback().await.unwrap();
    assert_eq!(other.query_first::<i64, _>(count).await.unwrap(), Some(1));
}

#[tokio::test]
async fn counters_times_and_bytes() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    connection.query_drop("CREATE DATABASE ocs").await.unwrap();
    let table = "CREATE TABLE ocs.chunk (id bigint AUTO_INCREMENT, data mediumblob, at datetime(6) DEFAULT \
                 CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), PRIMARY KEY (id))";
    connection.query_drop(table).await.unwrap();
    let bytes: Vec<u8> = (0..=255u8).cycle().take(12 << 20).collect();
    connection
        .exec_drop("INSERT INTO ocs.chunk (data) VALUES (:data)", params! { "data" => bytes.clone() })
        .await
        .unwrap();
    assert_eq!(connection.last_insert_id(), Some(1));
    let (back, first): (Vec<u8>, mysql_async::Value) =
        connection.exec_first("SELECT data, at FROM ocs.chunk WHERE id = ?", (1,)).await.unwrap().unwrap();
    assert!(back == bytes);
    assert!(matches!(first, mysql_async::Value::Date(2025.., ..)), "{first:?}");
    connection.query_drop("UPDATE ocs.chunk SET data = 'x' WHERE id = 1").await.unwrap();
    let second: mysql_async::Value =
        connection.exec_first("SELECT at FROM ocs.chunk", ()).await.unwrap().unwrap();
    assert_ne!(first, second);
    let gap = "SELECT TimeStampDiff(Microsecond, at, now(6)) >= 0 FROM ocs.chunk";
    assert_eq!(connection.query_first::<i64, _>(gap).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_cluster_tells_of_itself() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    let charsets: Vec<(String, String, String, i64)> = connection.query("SHOW CHARACTER SET").await.unwrap();
    assert!(charsets.contains(&("utf8mb4".into(), "UTF-8 Unicode".into(), "utf8mb4_general_ci".into(), 4)));
    let default =
        "SELECT COLLATION_NAME FROM information_schema.collations WHERE ID = 45 AND IS_DEFAULT = 'Yes'";
    assert_eq!(
        connection.query_first::<String, _>(default).await.unwrap().as_deref(),
        Some("utf8mb4_general_ci")
    );
    let variable = "SELECT VALUE FROM oceanbase.CDB_OB_SYS_VARIABLES WHERE TENANT_ID = 1 AND NAME = 'character_set_server'";
    assert_eq!(connection.query_first::<String, _>(variable).await.unwrap().as_deref(), Some("45"));
    // A quarter of what its units may use, summed over them.
    let usage = "SELECT STAT_ID, CAST(sum(VALUE) AS CHAR) FROM oceanbase.GV$sysstat WHERE CON_ID = 1 AND \
                 STAT_ID IN (140006, 140005) GROUP BY STAT_ID ORDER BY STAT_ID";
    let usage: Vec<(i64, String)> = connection.query(usage).await.unwrap();
    assert_eq!(usage, [(140_005, "600".to_owned()), (140_006, "150".to_owned())]);
    // A session may want its times in another zone.
    let created = "SELECT CAST(UNIX_TIMESTAMP(CREATE_TIME) AS CHAR), CREATE_TIME FROM oceanbase.DBA_OB_ZONES";
    connection.query_drop("SET SESSION ob_query_timeout = 1000000, time_zone = '+00:00'").await.unwrap();
    let (seconds, told): (i64, mysql_async::Value) = connection.query_first(created).await.unwrap().unwrap();
    let mysql_async::Value::Bytes(told) = told else { panic!("{told:?}") };
    let told = String::from_utf8(told).unwrap().replace(' ', "T") + "Z";
    assert_eq!(told.parse::<jiff::Timestamp>().unwrap().as_second(), seconds);
}

#[tokio::test]
async fn parameters_are_set_for_what_is_there() {
    let rig = Rig::new();
    let nodes = rig.three().await;
    let mut connection = nodes[0].connect("").await;
    for (sql, code) in [
        ("ALTER SYSTEM SET no_such = '1'", 5099),
        ("ALTER SYSTEM SET cpu_count = 'many'", 4147),
        ("ALTER SYSTEM SET cpu_count = '4' ZONE = 'nowhere'", 4018),
        ("ALTER SYSTEM SET cpu_count = '4' SERVER = '10.9.9.9:2882'", 4018),
        ("ALTER SYSTEM SET undo_retention = '4' TENANT = 'nobody'", 4018),
        ("ALTER SYSTEM SET cpu_count = '4'; DROP USER root", 1064),
    ] {
        assert_eq!(refusal(connection.query_drop(sql).await).0, code, "{sql}");
    }
    connection.query_drop("ALTER SYSTEM SET cpu_count = '4' ZONE = 'z1'").await.unwrap();
    connection.query_drop("ALTER SYSTEM SET undo_retention = '60' TENANT = 'sys'").await.unwrap();
    let count = |name: &str, value: &str| {
        format!("SELECT count(*) FROM oceanbase.GV$OB_PARAMETERS WHERE NAME = '{name}' AND VALUE = '{value}'")
    };
    assert_eq!(connection.query_first::<i64, _>(count("cpu_count", "4")).await.unwrap(), Some(1));
    assert_eq!(connection.query_first::<i64, _>(count("undo_retention", "60")).await.unwrap(), Some(3));
}

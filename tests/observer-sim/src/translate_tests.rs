//! What SQLite is given, and that it takes it.

use super::*;
use crate::token::read;

fn translated(sql: &str) -> Translated {
    translate(&read(sql).unwrap(), Some("ocs"), false).unwrap_or_else(|why| panic!("{sql}: {}", why.text))
}

fn text(sql: &str) -> String {
    translated(sql).text
}

#[test]
fn literals_names_and_functions() {
    assert_eq!(text(r#"select "a'b", `c d`, x'41' from dual"#), r#"select 'a''b', "c d", x'41'"#);
    assert_eq!(
        text("select now(6), current_timestamp, CURRENT_TIMESTAMP(6)"),
        "select now(6), now(), now(6)"
    );
    assert_eq!(text("select @@version, count(*)"), "select ob_variable('@@version'), count(*)");
    assert_eq!(
        text("select TimeStampDiff(Microsecond, a, now(6)) from t for update"),
        "select timestampdiff('microsecond', a, now(6)) from t"
    );
    assert_eq!(text("SELECT /*+ QUERY_TIMEOUT(1) */ 1;"), "SELECT 1");
    assert_eq!(translated("select ?, ?").text, "select ?1, ?2");
    assert_eq!(translated("select ?, ?").parameters, 2);
}

#[test]
fn writes() {
    assert_eq!(
        text("INSERT INTO t (a, b) VALUES (?, ?) ON DUPLICATE KEY UPDATE b = VALUES(b), a=a"),
        "INSERT INTO t (a, b) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET b = excluded.b, a =a WHERE ( b IS NOT ( \
         excluded.b ) OR a IS NOT (a ) )"
    );
    assert_eq!(text("insert ignore into t values (1)"), "insert OR IGNORE into t values (1)");
    assert_eq!(text("INSERT t SET a = 1, `b` = ?"), "INSERT INTO t (a, \"b\") VALUES (1, ?1)");
    assert_eq!(
        text("UPDATE t SET t.a = ? WHERE b = ? OR c = 1 LIMIT 1"),
        "UPDATE t SET a = ?1 WHERE ( b = ?2 OR c = 1 ) AND ( a IS NOT ( ?1 ) )"
    );
    let found = translate(&read("UPDATE t SET a = 1").unwrap(), None, true).unwrap();
    assert_eq!(found.text, "UPDATE t SET a = 1");
    assert_eq!(text("DELETE FROM t WHERE a = 1 LIMIT 5"), "DELETE FROM t WHERE a = 1");
}

#[test]
fn tables() {
    let sql = "CREATE TABLE IF NOT EXISTS `t` (id bigint NOT NULL AUTO_INCREMENT, name varchar(64) CHARACTER SET utf8mb4 NOT NULL \
               DEFAULT '' COMMENT 'x', n int unsigned DEFAULT -1, at datetime(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE \
               CURRENT_TIMESTAMP(6), PRIMARY KEY (id), UNIQUE KEY `u` (name, n), KEY k (n)) DEFAULT CHARSET = utf8mb4";
    let made = translated(sql);
    assert_eq!(
        made.text,
        "CREATE TABLE IF NOT EXISTS \"ocs\".\"t\" (\"id\" INTEGER PRIMARY KEY AUTOINCREMENT, \"name\" VARCHAR(64) NOT NULL \
         DEFAULT ('') COLLATE NOCASE, \"n\" INT DEFAULT (-1), \"at\" DATETIME(6) DEFAULT (now(6)), UNIQUE (id), UNIQUE (name, n))"
    );
    assert_eq!(made.more.len(), 1);
    assert_eq!(text("TRUNCATE TABLE a.b"), "DELETE FROM \"a\".\"b\"");
    assert_eq!(text("DROP TABLE IF EXISTS b"), "DROP TABLE IF EXISTS \"ocs\".\"b\"");
    assert_eq!(text("CREATE UNIQUE INDEX i ON t (a)"), "CREATE UNIQUE INDEX \"ocs\".i ON \"t\" (a)");
    assert_eq!(
        text("ALTER TABLE t ADD COLUMN c varchar(10) NULL AFTER b"),
        "ALTER TABLE \"ocs\".\"t\" ADD COLUMN \"c\" VARCHAR(10) COLLATE NOCASE"
    );
    let nowhere = translate(&read("CREATE TABLE t (a int)").unwrap(), None, false);
    assert_eq!(nowhere.unwrap_err().code, 1046);
}

//! Against the real engine: passwords of every kind, and what an answer means.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::SeekdbSql;
use crate::clock;
use crate::cluster::figures::Edition;
use crate::cluster::parameters::Setting;
use crate::config::EngineKind;
use crate::error::Code;
use crate::flow::ports::{ClusterSql as _, Login, ObSql as _, Process as _, Silent, SqlAct};
use crate::host::ports::free::free_port;
use crate::model::{Launch, Password, ServerProcess, StopHow};
use crate::process::{Control, Settings};
use crate::tasks::Tasks;

/// A database that serves, in a home of its own; killed when dropped.
struct Rig {
    control: Control,
    server: ServerProcess,
    sql: SeekdbSql,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let binary = std::env::var("OBPILOT_TEST_ENGINE").map_or_else(
            |_| Utf8PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/build/engine/pylibseekdb/seekdb")),
            Utf8PathBuf::from,
        );
        assert!(binary.is_file(), "{binary} is missing: `make engine`");
        let dir = tempfile::Builder::new().prefix("obpilot-sql-").tempdir().unwrap();
        let home = Utf8Path::from_path(dir.path()).unwrap().canonicalize_utf8().unwrap().join("home");
        let settings = Settings {
            kind: EngineKind::Seekdb,
            binary,
            home,
            disk_reserve_bytes: 1 << 20,
            has_systemd_scope: false,
        };
        let control = Control::new(settings, clock::system(), Tasks::new().0);
        let port = free_port();
        let sizes =
            ["memory_limit", "datafile_size", "log_disk_size"].map(|key| (key.to_owned(), "2G".to_owned()));
        let options = sizes.into_iter().chain([("mysql_port".to_owned(), port.to_string())]).collect();
        let launch = Launch { is_first: true, options };
        control.prepare_dirs(&launch).await.unwrap();
        let server = control.spawn(&launch, &Silent).await.unwrap();
        let ready = tokio::time::timeout(Duration::from_secs(120), control.ready(&server, &Silent));
        ready.await.expect("it listens in time").unwrap();
        Self { control, server, sql: SeekdbSql::new(move || port), _dir: dir }
    }

    async fn stop(&self) {
        self.control.stop(&self.server, StopHow::Kill, &Silent).await.unwrap();
    }
}

impl Drop for Rig {
    /// Also when a test fails.
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.server.pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

/// Whatever a password is made of, it is a value: set exactly so, and no other one opens.
#[tokio::test]
async fn passwords_are_values_whatever_they_are_made_of() {
    let rig = Rig::new().await;
    let mut current = Password::default();
    for text in [
        "simple",
        "with 'single' quotes",
        "with \"double\" quotes",
        "back\\slash\\",
        "\\' OR 1=1 -- ",
        "'; DROP USER root; -- ",
        "per%cent_under",
        "semi;colon",
        "tab\tnewline\nreturn\r",
        "ünïcödé 密码 🐎",
        "`backtick`",
        "/* comment */ # --",
        &"x".repeat(64),
        "",
    ] {
        let wanted = Password::new(text);
        rig.sql.set_root_password(&current, &wanted).await.unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!(rig.sql.login(&wanted).await, Login::Accepted, "{text:?}");
        assert_eq!(rig.sql.login(&Password::new(format!("{text}x"))).await, Login::Refused, "{text:?}");
        rig.sql.serving(&wanted).await.unwrap();
        current = wanted;
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_password_is_told_from_no_answer() {
    let rig = Rig::new().await;
    let (none, wrong) = (Password::default(), Password::new("wrong"));
    assert_eq!(rig.sql.login(&wrong).await, Login::Refused);
    assert_eq!(rig.sql.serving(&wrong).await.unwrap_err().code, Code::PasswordIncorrect);
    let refused = rig.sql.set_root_password(&wrong, &Password::new("Zebra-77")).await.unwrap_err();
    assert!(!refused.text().contains("Zebra"), "no secret in an error: {refused}");
    assert!(rig.sql.version(&none).await.unwrap().starts_with(|c: char| c.is_ascii_digit()));
    let names = rig.sql.parameter_names(&none).await.unwrap();
    assert!(names.iter().any(|name| name == "memory_limit"), "{} parameters", names.len());
    rig.sql.minor_freeze(&none, &Silent).await.unwrap();
    rig.stop().await;
    assert_eq!(rig.sql.login(&none).await, Login::NoAnswer);
    assert_eq!(rig.sql.serving(&none).await.unwrap_err().code, Code::DatabaseUseless);
}

/// One server that is the whole database: its parameters with their scopes, its room, its character sets; and a parameter that is
/// set is set, for whatever was asked.
#[tokio::test]
async fn one_server_tells_of_itself_and_takes_parameters() {
    const LIMIT: Duration = Duration::from_secs(10);
    let rig = Rig::new().await;
    let none = Password::default();
    let ask = async |act: SqlAct| rig.sql.act(&none, &act, LIMIT, &Silent).await;
    let all = ask(SqlAct::Parameters).await.unwrap().parameters().unwrap();
    let row = |name: &str| all.rows.iter().find(|row| row.name == name).unwrap().clone();
    assert_eq!((row("memory_limit").value.as_str(), row("memory_limit").is_of_tenant()), ("2G", false));
    assert!(
        all.rows.len() > 100 && all.rows.iter().all(|row| !row.edit_level.is_empty()),
        "{}",
        all.rows.len()
    );
    let setting = |name: &str, value: &str| Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        scope: "CLUSTER".to_owned(),
        ..Setting::default()
    };
    for assignment in
        all.assignments(&[setting("syslog_level", "INFO"), setting("MAX_SYSLOG_FILE_COUNT", "7")]).unwrap()
    {
        ask(SqlAct::SetParameter(assignment)).await.unwrap();
    }
    let wrong = all.assignments(&[setting("max_syslog_file_count", "'; DROP USER root")]).unwrap();
    let refused = ask(SqlAct::SetParameter(wrong[0].clone())).await.unwrap_err();
    assert_eq!(refused.code, Code::MysqlError, "{refused}");
    let again = ask(SqlAct::Parameters).await.unwrap().parameters().unwrap();
    let value = |name: &str| again.rows.iter().find(|row| row.name == name).unwrap().value.clone();
    assert_eq!((value("syslog_level").as_str(), value("max_syslog_file_count").as_str()), ("INFO", "7"));

    let figures = ask(SqlAct::Figures).await.unwrap().figures().unwrap();
    assert_eq!((figures.edition, figures.servers.len()), (Edition::Seekdb, 1));
    let room = figures.servers[0].room;
    assert!(room.cpu_total > 0.0 && room.memory_total > 0 && room.disk_total > 0, "{room:?}");
    let charsets = ask(SqlAct::Charsets).await.unwrap().charsets().unwrap();
    let utf8 = charsets.iter().find(|charset| charset.name == "utf8mb4").unwrap();
    assert!(utf8.collations.contains(&("utf8mb4_general_ci".to_owned(), true)), "{utf8:?}");
    assert_eq!(ask(SqlAct::View).await.unwrap_err().code, Code::MysqlError);
    rig.stop().await;
}

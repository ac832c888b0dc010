//! Against the real engine: passwords of every kind, and what an answer means.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::SeekdbSql;
use crate::clock;
use crate::config::EngineKind;
use crate::error::Code;
use crate::flow::ports::{Login, ObSql as _, Process as _, Silent};
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

//! The command line as scripts see it: exit codes, what goes to stdout, and JSON.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::rig::{Home, PASSWORD, free_port};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn obpilot(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_obpilot"));
    command.args(args).env_remove("OBPILOT_HOME").current_dir("/").stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn a_wrong_command_line_is_code_2_and_says_what_is_right() {
    for args in [
        &["nothing"][..],
        &["cluster", "stop", "--all", "--zone", "z"],
        &["task", "show", "--id", "1", "2"],
        &["task", "retry"],
        &["agent", "status"],
        &["cluster", "show", "--host", "nowhere"],
        &["config", "check", "/nowhere.toml"],
    ] {
        let output = obpilot(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{args:?}: {}", stdout(&output));
        assert!(stderr(&output).len() > 20, "{args:?}");
    }
}

#[test]
fn help_and_version_and_completions_go_to_stdout() {
    for (args, part) in [
        (&["--help"][..], "Exit codes"),
        (&["cluster", "stop", "--help"], "--terminate"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["completions", "bash"], "_obpilot"),
        (&["completions", "zsh"], "#compdef obpilot"),
    ] {
        let output = obpilot(args);
        assert_eq!(code(&output), 0, "{args:?}");
        assert!(stdout(&output).contains(part), "{args:?}: {}", stdout(&output));
    }
}

#[test]
fn nobody_there_is_code_6() {
    let home = Home::new();
    for args in [&["agent", "status"][..], &["cluster", "show"], &["task", "list"]] {
        let output = home.cli(args);
        assert_eq!(code(&output), 6, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("agent start"), "{}", stderr(&output));
    }
    let host = format!("127.0.0.1:{}", free_port());
    assert_eq!(code(&home.cli(&["cluster", "show", "--host", &host])), 6);
}

#[tokio::test]
async fn refusals_are_code_3_and_wrong_passwords_code_7() {
    let home = Home::new();
    let agent = home.start();
    assert_eq!(code(&home.cli(&["cluster", "start", "--all"])), 3);
    assert_eq!(code(&home.cli(&["cluster", "init"])), 3);
    assert_eq!(code(&home.cli(&["task", "show", "1"])), 3);
    assert_eq!(code(&home.cli(&["cluster", "join", "--zone", "zone1"])), 0);
    assert_eq!(code(&home.cli(&["cluster", "join", "--zone", "zone1"])), 3);
    home.settings(&agent.door).await;
    let asked = |password: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obpilot"));
        command.args(["task", "list", "--host", &home.address()]).env("OBPILOT_PASSWORD", password);
        command.stdin(Stdio::null()).output().unwrap()
    };
    assert_eq!(code(&asked("wrong")), 7, "{}", stderr(&asked("wrong")));
    assert_eq!(code(&asked(PASSWORD)), 0, "{}", stderr(&asked(PASSWORD)));
    let file = home.path.with_extension("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let from_file =
        home.cli(&["task", "list", "--host", &home.address(), "--password-file", file.to_str().unwrap()]);
    assert_eq!(code(&from_file), 0, "{}", stderr(&from_file));
}

#[tokio::test]
async fn json_is_one_document_on_stdout() {
    let home = Home::new();
    let _agent = home.start();
    let commands: [&[&str]; 6] = [
        &["agent", "status"],
        &["cluster", "show"],
        &["cluster", "join", "--zone", "zone1"],
        &["task", "list"],
        &["task", "show"],
        &["store", "check"],
    ];
    for command in commands {
        let output = home.cli(&[command, &["--output", "json"]].concat());
        assert_eq!(code(&output), 0, "{command:?}: {}", stderr(&output));
        let parsed: Result<Value, _> = serde_json::from_str(&stdout(&output));
        parsed.unwrap_or_else(|e| panic!("{command:?}: {e}: {}", stdout(&output)));
    }
}

/// The daily life of an agent, by its commands alone.
#[test]
fn start_status_backup_restart_stop() {
    let home = Home::new();
    let port = home.port.to_string();
    let engine = crate::rig::engine();
    let started = home.cli(&[
        "agent",
        "start",
        "--ip",
        "127.0.0.1",
        "--port",
        &port,
        "--engine",
        "seekdb",
        "--engine-bin",
        engine.to_str().unwrap(),
    ]);
    assert_eq!(code(&started), 0, "{}", stderr(&started));
    let again = home.cli(&["agent", "start"]);
    assert!(matches!(code(&again), 0 | 8), "{}", stderr(&again));
    let status = stdout(&home.cli(&["agent", "status"]));
    assert!(status.contains("SINGLE") && status.contains("STOPPED"), "{status}");
    let backup = home.cli(&["store", "backup"]);
    assert_eq!(code(&backup), 0, "{}", stderr(&backup));
    let backups: Vec<_> = std::fs::read_dir(home.path.join(".obpilot/backup")).unwrap().flatten().collect();
    assert_eq!(backups.len(), 1);
    let copy = backups[0].path();
    assert_eq!(code(&home.cli(&["store", "check", copy.to_str().unwrap()])), 0);
    let restarted = home.cli(&["agent", "restart"]);
    assert_eq!(code(&restarted), 0, "{}", stderr(&restarted));
    assert_eq!(code(&home.cli(&["agent", "stop"])), 0);
    assert_eq!(code(&home.cli(&["agent", "status"])), 6);
    // Stopped already is success.
    assert_eq!(code(&home.cli(&["agent", "stop"])), 0);
}

#[test]
fn a_configuration_is_checked_as_the_agent_would() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        obpilot(&["config", "check", file.to_str().unwrap()])
    };
    assert_eq!(code(&check(include_str!("../../config.example.toml"))), 0);
    let wrong = check("[engine]\nrestart = \"sometimes\"\n");
    assert_eq!(code(&wrong), 2);
    assert!(stderr(&wrong).contains("restart"), "{}", stderr(&wrong));
    let unknown = check("[engine]\nrestrat = \"never\"\n");
    assert_eq!(code(&unknown), 2);
    assert!(stderr(&unknown).contains("restrat"), "{}", stderr(&unknown));
}

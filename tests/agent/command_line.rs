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

/// A reader that has gone is none of our business (`… | head`); what could not be written is never called done.
#[test]
fn output_that_nobody_takes_is_no_error_and_output_that_is_lost_is_one() {
    let run = |args: &[&str], stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obpilot"));
        command
            .args(args)
            .env_remove("OBPILOT_HOME")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped());
        command.spawn().unwrap().wait_with_output().unwrap()
    };
    for args in [&["completions", "bash"][..], &["debug", "openapi"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let gone = run(args, writer.into());
        assert_eq!((code(&gone), stderr(&gone).as_str()), (0, ""), "{args:?}");
    }
    for args in [&["completions", "bash"][..], &["debug", "openapi"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let lost = run(args, full.into());
        assert_eq!(code(&lost), 1, "{args:?}");
        assert!(stderr(&lost).contains("could not be written"), "{args:?}: {}", stderr(&lost));
    }
}

/// The top of the tree as people see it. A change of it is a change of the interface.
#[test]
fn the_short_help_is_as_it_was_agreed() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_obpilot"));
    let output = command.arg("-h").env("COLUMNS", "100").env_remove("OBPILOT_HOME").output().unwrap();
    insta::assert_snapshot!(stdout(&output));
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
    let done = json(&home, &["task", "list"])[0]["id"].as_str().unwrap().to_owned();
    for operator in ["retry", "rollback", "cancel", "pass"] {
        let refused = home.cli(&["task", operator, &done, "--yes"]);
        assert_eq!(code(&refused), 3, "{operator}: {}", stderr(&refused));
    }
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

/// Runs a command that has to succeed, and reads the one document it writes.
fn json(home: &Home, command: &[&str]) -> Value {
    let output = home.cli(&[command, &["--output", "json"]].concat());
    assert_eq!(code(&output), 0, "{command:?}: {}", stderr(&output));
    let parsed: Result<Value, _> = serde_json::from_str(&stdout(&output));
    parsed.unwrap_or_else(|e| panic!("{command:?}: {e}: {}", stdout(&output)))
}

#[tokio::test]
async fn json_is_one_document_on_stdout() {
    let home = Home::new();
    let agent = home.start();
    let joined = json(&home, &["cluster", "join", "--zone", "zone1", "-p", "2881"]);
    assert_eq!((&joined["name"], &joined["state"]), (&"Update observer config".into(), &"SUCCEED".into()));
    let id = joined["id"].as_str().unwrap();
    let config = ["cluster", "config", "-n", "pilot", "-o", "memory_limit=2G", "--no-wait"];
    assert_eq!(json(&home, &config)["name"], "Update observer config");
    let file = format!("{}/config.example.toml", env!("CARGO_MANIFEST_DIR"));
    let commands: [(&[&str], &str); 9] = [
        (&["agent", "status"], "info"),
        (&["agent", "start"], "pid"),
        (&["cluster", "show"], "status"),
        (&["task", "show", id], "id"),
        (&["task", "watch", id], "id"),
        (&["task", "list"], "0"),
        (&["store", "check"], "problems"),
        (&["store", "backup"], "path"),
        (&["config", "check", &file], "valid"),
    ];
    for (command, member) in commands {
        let value = json(&home, command);
        let found = if member == "0" { &value[0] } else { &value[member] };
        assert!(!found.is_null(), "{command:?} tells no {member}: {value:#}");
    }
    assert_eq!(json(&home, &["agent", "start"])["pid"], agent.pid());
    assert_eq!(json(&home, &["agent", "stop"])["stopped"], true);
    assert_eq!(json(&home, &["agent", "stop"])["stopped"], false);
}

/// A refusal leaves stdout empty: nobody mistakes it for data.
#[test]
fn what_was_refused_is_no_data() {
    let home = Home::new();
    let _agent = home.start();
    for command in [&["task", "show", "1"][..], &["cluster", "start", "--all"], &["cluster", "init"]] {
        let output = home.cli(&[command, &["--output", "json"]].concat());
        assert_eq!((code(&output), stdout(&output).as_str()), (3, ""), "{command:?}");
        assert!(stderr(&output).contains('['), "{command:?} names no code: {}", stderr(&output));
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
    assert_eq!(code(&again), 0, "what was asked for is true: {}", stderr(&again));
    assert!(stderr(&again).contains("runs already"), "{}", stderr(&again));
    let second = home.cli(&["agent", "run"]);
    assert_eq!(code(&second), 8, "{}", stderr(&second));
    let pid = json(&home, &["agent", "status"])["info"]["pid"].to_string();
    // Ctrl-C in the terminal that started it is not for it.
    let daemon = rustix::process::Pid::from_raw(pid.parse().unwrap());
    assert_eq!(rustix::process::getsid(daemon).unwrap(), daemon.unwrap(), "it leads a session of its own");
    assert!(stderr(&second).contains(&pid), "{} does not name process {pid}", stderr(&second));
    let status = stdout(&home.cli(&["agent", "status"]));
    assert!(status.contains("SINGLE") && status.contains("STOPPED"), "{status}");
    let backup = home.cli(&["store", "backup"]);
    assert_eq!(code(&backup), 0, "{}", stderr(&backup));
    let backups: Vec<_> = std::fs::read_dir(home.path.join(".obpilot/backup")).unwrap().flatten().collect();
    assert_eq!(backups.len(), 1);
    let copy = backups[0].path();
    assert_eq!(code(&home.cli(&["store", "check", copy.to_str().unwrap()])), 0);
    let restarted = json(&home, &["agent", "restart"]);
    assert_ne!(restarted["pid"].to_string(), pid, "another process");
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

/// A store that is damaged is told by every command that reads it, and by the agent that does not start on it.
#[test]
fn a_damaged_store_is_code_9() {
    let home = Home::new();
    home.start().terminate();
    let file = home.path.join(".obpilot/store.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let from = bytes.len() / 2;
    bytes[from..].fill(0xA5);
    std::fs::write(&file, bytes).unwrap();
    let checked = home.cli(&["store", "check"]);
    assert_eq!(code(&checked), 9, "{}", stderr(&checked));
    let run = home.command().output().unwrap();
    assert_eq!(code(&run), 9, "{}", stderr(&run));
    assert!(stderr(&run).contains("store.db"), "{}", stderr(&run));
    let started = home.cli(&["agent", "start", "--ip", "127.0.0.1", "--engine", "seekdb"]);
    assert_eq!(code(&started), 9, "the code of the agent itself: {}", stderr(&started));
}

/// Paths are meant from where the command is given, though the agent works elsewhere.
#[test]
fn paths_on_the_command_line_are_from_here() {
    let home = Home::new();
    let here = home.path.parent().unwrap();
    std::fs::write(here.join("config.toml"), "[log]\n").unwrap();
    std::os::unix::fs::symlink(crate::rig::engine(), here.join("engine")).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obpilot"));
        command.args(args).args(["--home", "home"]).env_remove("OBPILOT_HOME").current_dir(here);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let port = home.port.to_string();
    let started = run(&[
        "agent",
        "start",
        "--ip",
        "127.0.0.1",
        "--port",
        &port,
        "--engine",
        "seekdb",
        "--engine-bin",
        "./engine",
        "--config",
        "config.toml",
    ]);
    assert_eq!(code(&started), 0, "{}", stderr(&started));
    assert!(home.path.join(".obpilot/store.db").exists());
    let status = run(&["agent", "status", "--output", "json"]);
    let status: Value = serde_json::from_str(&stdout(&status)).unwrap();
    assert_eq!(status["info"]["homePath"], home.path.to_str().unwrap());
    assert_eq!(code(&run(&["agent", "stop"])), 0);
}

/// The password of root@sys may be in the environment for every command; only those that set one take it as a wish.
#[tokio::test]
async fn a_password_in_the_environment_is_no_wish_to_set_one() {
    let home = Home::new();
    let _agent = home.start();
    assert_eq!(code(&home.cli(&["cluster", "join", "-z", "zone1"])), 0);
    // `cli` has it in the environment.
    let options = home.cli(&["cluster", "config", "-o", "memory_limit=2G"]);
    assert_eq!(code(&options), 0, "{}", stderr(&options));
    let denied = |password: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obpilot"));
        command.args(["task", "list", "--host", &home.address()]).env("OBPILOT_PASSWORD", password);
        code(&command.stdin(Stdio::null()).output().unwrap()) == 7
    };
    assert!(!denied("anything"), "nobody has a password yet");
    let file = home.path.with_extension("root");
    std::fs::write(&file, "from a file\nnot this\n").unwrap();
    let named = ["cluster", "config", "-n", "pilot", "--rootpassword-file", file.to_str().unwrap()];
    let named = home.cli(&named);
    assert_eq!(code(&named), 0, "a file goes before the environment: {}", stderr(&named));
    assert!(denied(PASSWORD) && !denied("from a file"));
}

/// Whoever is to be asked and cannot be asked is told how to answer beforehand.
#[test]
fn questions_that_nobody_can_answer_are_code_10_and_2() {
    let home = Home::new();
    let _agent = home.start();
    assert_eq!(code(&home.cli(&["cluster", "join", "-z", "zone1"])), 0);
    let own = home.address();
    let stop = home.cli(&["cluster", "stop", "--server", &own, "--force"]);
    assert_eq!(code(&stop), 10, "{}", stderr(&stop));
    assert!(stderr(&stop).contains("--yes"), "{}", stderr(&stop));
    let mut asked = Command::new(env!("CARGO_BIN_EXE_obpilot"));
    asked.args(["task", "list", "--host", &own]).env_remove("OBPILOT_PASSWORD").stdin(Stdio::null());
    let asked = asked.output().unwrap();
    assert_eq!(code(&asked), 2, "{}", stderr(&asked));
    assert!(stderr(&asked).contains("environment"), "{}", stderr(&asked));
}

/// A stop whose database does not move: who stops waiting knows that it goes on, and who watched until it was cancelled
/// knows that.
#[tokio::test]
async fn what_goes_on_is_code_5_and_what_is_cancelled_is_code_4() {
    use rustix::process::{Pid, Signal, kill_process};
    let home = Home::new();
    let agent = home.start();
    home.initialise(&agent).await;
    agent.door.until_status(|status| status["obpilot"]["server"]["state"] == "SERVING").await;
    let stop = home.cli(&["cluster", "stop", "--all", "--terminate", "--yes", "--no-wait"]);
    assert_eq!(code(&stop), 0, "{}", stderr(&stop));
    kill_process(Pid::from_raw(home.database()).unwrap(), Signal::STOP).unwrap();
    let id = stdout(&stop).trim().to_owned();
    let left = home.cli(&["task", "watch", &id, "--wait-timeout", "1"]);
    assert_eq!(code(&left), 5, "{}", stderr(&left));
    assert!(stderr(&left).contains(&format!("obpilot task watch {id}")), "{}", stderr(&left));
    // Without a terminal: a line per event, under its stage.
    assert!(
        stderr(&left).contains("[1/6] Inform all agents to prepare to stop observer"),
        "{}",
        stderr(&left)
    );
    assert!(stderr(&left).contains("is ready"), "{}", stderr(&left));
    let mut watch = home.cli_command(&["task", "watch", &id]);
    let watching = watch.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let cancel = home.cli(&["task", "cancel", &id, "--yes"]);
    assert_eq!(code(&cancel), 0, "{}", stderr(&cancel));
    let watched = watching.wait_with_output().unwrap();
    assert_eq!(code(&watched), 4, "{}", stderr(&watched));
    home.kill_database();
}

/// What failed is code 1 with its reason.
#[test]
fn a_task_that_fails_is_code_1_and_explains_itself() {
    let home = Home::new();
    let _agent = home.start();
    // Before any cluster, the own server alone may be started through the socket; there is no database to be started.
    let failed = home.cli(&["cluster", "start", "--output", "json"]);
    assert_eq!(code(&failed), 1, "{}", stderr(&failed));
    let dag: Value = serde_json::from_str(&stdout(&failed)).unwrap();
    assert_eq!((&dag["name"], &dag["state"]), (&"Start local observer".into(), &"FAILED".into()));
    let text = stderr(&failed);
    for part in ["no database was ever started", "OB.Cluster.NotInitialized", "obpilot task show -d"] {
        assert!(text.contains(part), "says nothing of {part}: {text}");
    }
    let id = dag["id"].as_str().unwrap();
    assert_eq!(code(&home.cli(&["task", "watch", id])), 1, "watching it tells the same");
    let quiet = home.cli(&["task", "watch", id, "--quiet"]);
    assert!(stderr(&quiet).contains("OB.Cluster.NotInitialized"), "a failure is never silent");
}

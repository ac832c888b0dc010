//! What is left of the specification's checklist for the door (`security.md`, appendix D): the work that a refusal costs, keys
//! that are tried too often, passwords that were changed elsewhere, modes of files.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obpilot::secure::DATABASE_HEADER;
use serde_json::{Value, json};

use crate::door::{master, visible};
use crate::entry::alter_root;
use crate::forge::{Forge, honest, now};
use crate::rig::{Agent, Cluster, Door, Home, PASSWORD};
use crate::sdk::drive_with_args;

const INFO: &str = "/api/v1/ob/info";

const PATIENT: &str = "[auth]\nfailures_per_minute_max = 100000\n";

/// Item 5: whether a block does not open, nothing of it is a header, or the password is wrong, all blocks were opened. The header is
/// long, so that a block that is left out would be seen on any machine.
#[tokio::test]
async fn w8_every_refusal_costs_the_same_work() {
    const ROUNDS: usize = 15;
    let mut home = Home::new();
    home.configure(PATIENT);
    let _agent = master(&home).await;
    let forge = Forge::of(&home.address()).await;
    let target = format!("{INFO}?q={}", "a".repeat(2_000));
    // As SDKs cut: some 40 blocks.
    let blocks = |text: &str| -> Vec<Vec<u8>> {
        text.as_bytes().chunks(53).flat_map(|part| forge.blocks(part)).collect()
    };
    let header = |shown: Value| honest(&target, shown).to_string();
    let late = (now() - 9).to_string();
    let replayed = blocks(&header(json!({ "auth": PASSWORD })));
    let get = async |blocks: &[Vec<u8>]| {
        let headers = [(DATABASE_HEADER, STANDARD.encode(blocks.concat()))];
        let begun = Instant::now();
        let answer = forge.send("GET", &target, &headers, None).await;
        (answer, begun.elapsed())
    };
    assert_eq!(get(&replayed).await.0.status, 200);
    let mut spent: Vec<(&str, Vec<Duration>)> = Vec::new();
    for _ in 0..ROUNDS {
        let wrong = blocks(&header(json!({ "auth": "wrong" })));
        let broken = |at: usize| {
            let mut broken = wrong.clone();
            broken[at][100] ^= 1;
            broken
        };
        let no_json = blocks(&header(json!({ "auth": "wrong" })).replace('{', "["));
        let wrong_and_late = blocks(&header(json!({ "auth": "wrong", "ts": late })));
        let kinds = [
            ("the first block is broken", broken(0)),
            ("the last block is broken", broken(wrong.len() - 1)),
            ("no JSON", no_json),
            ("expired with a wrong password", wrong_and_late),
            ("a replay", replayed.clone()),
            ("a wrong password", wrong),
        ];
        for (at, (what, blocks)) in kinds.into_iter().enumerate() {
            let (answer, elapsed) = get(&blocks).await;
            assert_eq!(answer.status, 401, "{what}");
            if spent.len() <= at {
                spent.push((what, Vec::new()));
            }
            spent[at].1.push(elapsed);
        }
    }
    // What else the machine does only adds to it.
    let least: Vec<_> =
        spent.into_iter().map(|(what, times)| (what, times.into_iter().min().unwrap())).collect();
    let (quick, slow) = least
        .iter()
        .map(|(_, time)| *time)
        .fold((Duration::MAX, Duration::ZERO), |(quick, slow), time| (quick.min(time), slow.max(time)));
    assert!(slow < quick * 2, "{least:?}");
}

/// Item 6: with the 4,097th opening that fails the key is replaced; OBShell's own client goes on, and what it asked for then is
/// done once.
#[tokio::test]
async fn w8_the_sdk_survives_a_key_that_was_tried_too_often() {
    let mut home = Home::new();
    home.configure(PATIENT);
    let agent = master(&home).await;
    let made = tasks(&agent).await;
    drive_with_args("sdk_new_key.py", &home, &agent, &[PASSWORD]);
    assert_eq!(tasks(&agent).await, made + 2, "one before, one after");
}

async fn tasks(agent: &Agent) -> usize {
    agent.door.get("/api/v1/task/dags/agent").await.data()["contents"].as_array().unwrap().len()
}

/// Item 7: nobody has told the agent, and nothing else would have made it look.
#[tokio::test]
async fn w13_an_old_password_is_refused_within_the_time_of_the_recheck() {
    const RECHECK: i64 = 2;
    let toml = format!("{PATIENT}recheck_password_secs = {RECHECK}\n[engine]\nprobe_interval_secs = 3600\n");
    let cluster = Cluster::configured(1, &toml);
    cluster.form().await;
    let forge = Forge::of(&cluster.address(0)).await;
    // A question that the database is not asked for.
    const TRAIL: &str = "/api/v1/security/audit";
    let ask = |password: &'static str| forge.ask("GET", TRAIL, DATABASE_HEADER, json!({ "auth": password }));
    assert_eq!(ask(PASSWORD).await.status, 200);
    alter_root(&cluster, "another one").await;
    let changed = now();
    let stranger = visible(&forge.send("GET", TRAIL, &[(DATABASE_HEADER, "x".into())], None).await);
    loop {
        let answer = ask(PASSWORD).await;
        if answer.status == 401 {
            assert_eq!(visible(&answer), stranger);
            break;
        }
        // A login of the watcher may take a while on a busy machine.
        assert!(now() <= changed + RECHECK + 20, "the old password opens after {} s", now() - changed);
    }
    assert_eq!(ask("another one").await.status, 200);
    assert_eq!(visible(&ask(PASSWORD).await), stranger);
}

/// Item 8: whatever the umask lets through, nobody else reads what the agent writes, or gets to its socket.
#[tokio::test]
async fn w6_files_and_sockets_are_closed_to_others_whatever_the_umask() {
    let home = Home::new();
    let command = home.command();
    let args = command.get_args().map(|arg| if arg == "run" { "start".into() } else { arg.to_owned() });
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(command.get_program()).args(args);
    let started = shell.current_dir(home.path.parent().unwrap()).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    let door = Door::socket(&home.socket());
    door.post("/api/v1/agent/password", json!({ "password": "an agent's own" })).await.data();
    home.join(&door).await;
    home.settings(&door).await;
    let made = door.post("/api/v1/ob/init", json!({})).await.data();
    door.finished(made["id"].as_str().unwrap()).await.expect_succeeded();
    assert!(home.cli(&["store", "backup"]).status.success());
    let mut found = Vec::new();
    everything(&home.path.join(".obpilot"), &mut found);
    let names: Vec<_> = found.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    for name in ["store.db", "store.db-wal", "vault.key", "agent.log", "backup"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    found.extend([home.path.join(".obpilot"), home.socket()]);
    let open: Vec<_> = found.iter().filter(|path| mode(path) & 0o077 != 0).collect();
    assert!(open.is_empty(), "{open:?}");
    // Whoever can write here can put a socket of his own in the place of ours.
    for dir in [&home.path, &home.path.join("run")] {
        assert_eq!(mode(dir) & 0o022, 0, "{}: {:o}", dir.display(), mode(dir));
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn everything(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.symlink_metadata().unwrap().is_dir() {
            everything(&path, found);
        }
        assert_eq!(path.symlink_metadata().unwrap().uid(), rustix::process::geteuid().as_raw());
        found.push(path);
    }
}

//! One agent per home, and a home that is not as it should be.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::rig::{Ended, Home, LIMIT};

fn refused(home: &Home) -> Ended {
    let mut agent = home.spawn();
    match agent.until_ready() {
        Ok(()) => panic!("the agent started"),
        Err(ended) => ended,
    }
}

#[tokio::test]
async fn a_second_agent_is_refused_with_the_pid_of_the_first() {
    let home = Home::new();
    let first = home.start();
    let ended = refused(&home);
    assert_eq!(ended.code, Some(8), "{}", ended.stderr);
    assert!(ended.stderr.contains(&first.pid().to_string()), "{}", ended.stderr);
    // The first has noticed nothing, and its socket is still its own.
    first.door.get("/api/v1/time").await.data();
}

#[tokio::test]
async fn a_killed_agent_leaves_no_lock_behind() {
    let home = Home::new();
    let mut first = home.start();
    assert_eq!(first.kill().signal, Some(9));
    let second = home.start();
    second.door.get("/api/v1/time").await.data();
}

#[test]
fn a_taken_port_is_named_and_nothing_is_left_running() {
    let home = Home::new();
    let _holder = std::net::TcpListener::bind(home.address()).unwrap();
    let ended = refused(&home);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains(&home.address()), "{}", ended.stderr);
    assert!(ended.stderr.contains("in use"), "{}", ended.stderr);
}

#[test]
fn what_is_missing_at_the_first_start_is_asked_for() {
    let home = Home::new();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obpilot"));
        command.args(["agent", "run", "--home"]).arg(&home.path).args(args);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--ip"), "{text}");
    let (code, text) = run(&["--ip", "127.0.0.1"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--engine"), "{text}");
    let (code, text) = run(&["--ip", "0.0.0.0", "--engine", "seekdb", "--engine-bin", "/bin/true"]);
    assert_eq!(code, Some(2), "{text}");
}

#[tokio::test]
async fn a_damaged_store_is_told_and_left_as_it_is() {
    let home = Home::new();
    let mut agent = home.start();
    home.join(&agent.door).await;
    agent.terminate();
    let store = home.path.join(".obpilot/store.db");
    for log in ["store.db-wal", "store.db-shm"] {
        drop(std::fs::remove_file(home.path.join(".obpilot").join(log)));
    }
    let mut bytes = std::fs::read(&store).unwrap();
    for byte in bytes.iter_mut().skip(4_096).step_by(7) {
        *byte ^= 0x5a;
    }
    std::fs::write(&store, &bytes).unwrap();
    let ended = refused(&home);
    assert_eq!(ended.code, Some(9), "{}", ended.stderr);
    assert!(ended.stderr.contains("store.db"), "{}", ended.stderr);
    assert_eq!(std::fs::read(&store).unwrap(), bytes, "nobody touched it");
    let check = home.cli(&["store", "check"]);
    assert_eq!(check.status.code(), Some(9));
}

#[test]
fn a_file_that_is_no_store_is_not_touched() {
    let home = Home::new();
    std::fs::create_dir_all(home.path.join(".obpilot")).unwrap();
    std::fs::set_permissions(home.path.join(".obpilot"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let store = home.path.join(".obpilot/store.db");
    std::fs::write(&store, "these are the accounts of somebody else").unwrap();
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ended = refused(&home);
    assert_eq!(ended.code, Some(9), "{}", ended.stderr);
    assert_eq!(std::fs::read_to_string(&store).unwrap(), "these are the accounts of somebody else");
}

/// A file system of a few MiB in a file. It needs root; without, this is left out by name.
struct Small {
    at: std::path::PathBuf,
}

impl Small {
    fn mount(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", options, "obpilot-test"]).arg(at).output().unwrap();
        assert!(mounted.status.success(), "{}", String::from_utf8_lossy(&mounted.stderr));
        Some(Self { at: at.to_owned() })
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.at.join("ballast")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.at).output());
    }
}

#[tokio::test]
async fn a_full_disk_is_told_at_the_start_and_nothing_is_half_made() {
    let dir = tempfile::Builder::new().prefix("obpilot-full-").tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap().join("disk");
    let Some(disk) = Small::mount(&at, "size=2m") else {
        // The summary of `make test` names it.
        return;
    };
    let home = Home::at(at.join("home"));
    std::fs::create_dir_all(&home.path).unwrap();
    disk.fill();
    let mut agent = home.spawn_logging(&dir.path().join("agent.log"));
    let ended = agent.until_ready().unwrap_err();
    assert!(matches!(ended.code, Some(1 | 2 | 9)), "{ended:?}");
    assert!(ended.stderr.contains("No space left") || ended.stderr.contains("full"), "{}", ended.stderr);
    std::fs::remove_file(at.join("ballast")).unwrap();
    let mut agent = home.spawn_logging(&dir.path().join("agent.log"));
    agent.until_ready().unwrap();
    home.join(&agent.door).await;
    agent.terminate();
}

/// The disk fills while the agent runs: what cannot be recorded is refused, and once there is room all is well.
#[tokio::test]
async fn a_disk_that_fills_up_refuses_work_and_recovers() {
    let dir = tempfile::Builder::new().prefix("obpilot-full-").tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap().join("disk");
    let Some(disk) = Small::mount(&at, "size=4m") else {
        // The summary of `make test` names it.
        return;
    };
    let home = Home::at(at.join("home"));
    let mut agent = home.spawn_logging(&dir.path().join("agent.log"));
    agent.until_ready().unwrap();
    disk.fill();
    let own = serde_json::json!({ "ip": "127.0.0.1", "port": home.port });
    let body = serde_json::json!({ "agentInfo": own, "zoneName": "zone1" });
    let mut answer = agent.door.post("/api/v1/agent/join", body.clone()).await;
    // What the write-ahead log has room for is still accepted.
    for _ in 0..200 {
        if answer.status == 500 {
            break;
        }
        answer = agent
            .door
            .post("/api/v1/agent/password", serde_json::json!({ "password": "x".repeat(2_000) }))
            .await;
    }
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert!(answer.message().contains("full"), "{}", answer.text);
    agent.door.get("/api/v1/status").await.data();
    std::fs::remove_file(at.join("ballast")).unwrap();
    agent.door.post("/api/v1/agent/password", serde_json::json!({ "password": "y" })).await.data();
    agent.terminate();
    let check = home.cli(&["store", "check"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

/// What is in flight is answered. On one connection of HTTP/2 requests arrive in order: once the second is answered, the
/// first one waits.
#[tokio::test]
async fn an_agent_that_is_told_to_stop_answers_those_who_wait() {
    let mut home = Home::new();
    // A grace that no test would survive: clients keep their connections, and nobody waits for those.
    home.configure("[api]\nshutdown_grace_secs = 600\n");
    let mut agent = home.start();
    let _silent = TcpStream::connect(home.address()).unwrap();
    home.join(&agent.door).await;
    let dags = agent.door.get("/api/v1/task/dags/agent").await.data();
    let (id, version) = (&dags["contents"][0]["id"], &dags["contents"][0]["obpilot"]["version"]);
    let target = format!("/api/v1/task/dag/{}?watch={version}&wait=60", id.as_str().unwrap());
    let mut door = home.tcp("").await;
    door.http =
        reqwest::Client::builder().no_proxy().tls_certs_only([]).http2_prior_knowledge().build().unwrap();
    door.get("/api/v1/time").await.data();
    let waiting = tokio::spawn({
        let door = door.clone();
        async move { door.get(&target).await }
    });
    tokio::task::yield_now().await;
    door.get("/api/v1/time").await.data();
    let ended = tokio::task::spawn_blocking(move || agent.terminate()).await.unwrap();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(waiting.await.unwrap().data()["id"], *id);
}

/// Told twice, it drops what it still owes: here the answer to a request whose body never comes.
#[tokio::test]
async fn an_agent_that_is_told_twice_waits_for_nobody() {
    let mut home = Home::new();
    home.configure("[api]\nshutdown_grace_secs = 600\n");
    let mut agent = home.start();
    let mut slow = TcpStream::connect(home.address()).unwrap();
    slow.set_read_timeout(Some(LIMIT)).unwrap();
    let head = "POST /api/v1/agent/join HTTP/1.1\r\nHost: agent\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).unwrap();
    // The agent wants the body: it is at work on this request.
    let mut continues = [0; 25];
    slow.read_exact(&mut continues).unwrap();
    assert_eq!(&continues, b"HTTP/1.1 100 Continue\r\n\r\n");
    agent.ask_to_stop();
    agent.until_stopping();
    let ended = agent.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("asked again"), "{}", ended.stderr);
}

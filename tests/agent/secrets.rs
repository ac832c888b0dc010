//! Where no secret may stand: two hosts through their lives, and then a look at everything that was left behind.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use obpilot::secure::{AGENT_HEADER, DATABASE_HEADER};
use serde_json::{Value, json};

use crate::entry::alter_root;
use crate::forge::Forge;
use crate::records::{forms, written_by_the_agent};
use crate::recovery::events_until;
use crate::rig::{Cluster, Door, Home, LIMIT, PASSWORD, zone};

const OF_MASTER: &str = "master's \"own\" password ü";
const OF_FOLLOWER: &str = "follower's own \\ password";
const OF_PROXY: &str = "proxy <user> & password";
const OF_ACCOUNT: &str = "an account's own \"word\" é";
const LATER_ROOT: &str = "root password, the later one";
const WRONG: [&str; 3] = ["a guess at the login", "a guess at the join", "a guess at the new one"];

/// Everything that takes a secret, once. Returns the secrets that were made on the way.
async fn live(cluster: &Cluster) -> Vec<String> {
    let set = json!({ "password": OF_MASTER });
    cluster.door(0).post("/api/v1/agent/password", set).await;
    cluster.join(0, 0, "zone1").await;
    let own = &cluster.homes[0];
    for (password, is_right) in [(WRONG[1], false), (OF_MASTER, true)] {
        let body = json!({
            "agentInfo": { "ip": own.ip, "port": own.port }, "zoneName": "zone2", "masterPassword": password,
        });
        let answer = cluster.door(1).post("/api/v1/agent/join", body).await;
        assert_eq!(answer.status == 200, is_right, "{}", answer.text);
        if is_right {
            cluster.door(1).finished(answer.data()["id"].as_str().unwrap()).await.expect_succeeded();
        }
    }
    cluster.configure(0).await;
    let init = json!({ "create_proxyro_user": true, "proxyro_password": OF_PROXY });
    cluster.done(0, "/api/v1/ob/init", init).await;
    cluster.door(1).post("/api/v1/agent/password", json!({ "password": OF_FOLLOWER })).await;
    let account = json!({ "name": "reader", "role": "viewer", "password": OF_ACCOUNT });
    assert_eq!(cluster.door(0).post("/api/v1/security/accounts", account).await.status, 200);
    let pair = cluster.door(1).post("/api/v1/security/key-pairs", json!({ "role": "admin" })).await.data();
    let http = &Door::open(&cluster.address(0)).http;
    for (password, status) in [(OF_ACCOUNT, 200), (WRONG[0], 401)] {
        let request = http.get(format!("http://{}/api/v2/info", cluster.address(0)));
        let answer = request.basic_auth("reader", Some(password)).send().await.unwrap();
        assert_eq!(answer.status(), status);
    }

    let forge = Forge::of(&cluster.address(0)).await;
    let mut made = vec![pair["secretKey"].as_str().unwrap().to_owned()];
    for (name, password) in [(DATABASE_HEADER, PASSWORD), (AGENT_HEADER, OF_MASTER)] {
        let id = forge.login(name, password).await.unwrap();
        let answer = forge.ask("GET", "/api/v1/ob/info", name, json!({ "session_id": id })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        made.push(id);
    }
    assert_eq!(forge.login(DATABASE_HEADER, WRONG[0]).await.unwrap_err().status, 401);
    let logout = json!({ "session_id": made[1] });
    assert_eq!(cluster.door(0).post("/api/v1/logout", logout).await.status, 200);

    cluster.done(0, "/api/v1/ob/stop", json!({ "scope": { "type": "GLOBAL" }, "force": true })).await;
    cluster.start_all(1).await;
    alter_root(cluster, LATER_ROOT).await;
    for (password, status) in [(WRONG[2], 400), (LATER_ROOT, 200)] {
        let answer = cluster.door(0).post("/api/v1/obcluster/password", json!({ "rootPwd": password })).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    made
}

/// Everything that was told, written, or can be read of a process.
async fn left_behind(cluster: &Cluster) -> Vec<(String, Vec<u8>)> {
    let mut haystacks = Vec::new();
    for host in 0..cluster.homes.len() {
        let (home, door) = (&cluster.homes[host], cluster.door(host));
        for target in [
            "task/dags/agent",
            "task/dags/ob",
            "task/dag/unfinish",
            "security/audit?limit=1000",
            "status",
            "info",
            "ob/info",
            "obcluster/info",
            "task/blocked",
        ] {
            let target = format!("/api/v1/{target}");
            haystacks.push((format!("{host} {target}"), door.get(&target).await.text.into_bytes()));
        }
        // An entry of the trail that comes last: everything before it was told.
        let last = json!({ "session_id": "the last" });
        assert_eq!(door.post("/api/v1/logout", last).await.status, 200);
        let trail = door.get("/api/v1/security/audit?limit=1").await.data()["contents"][0]["id"].clone();
        let events = events_until(door, 0, |event| event["id"].as_i64() >= trail.as_i64()).await;
        assert!(events.len() > 20, "{events:?}");
        haystacks.push((format!("{host} events"), Value::from(events).to_string().into_bytes()));
        let servers = cluster.database_pids(host);
        assert_eq!(servers.len(), 1);
        for pid in servers.into_iter().chain([cluster.agent(host).pid()]) {
            for file in ["cmdline", "environ"] {
                let path = format!("/proc/{pid}/{file}");
                haystacks.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
        haystacks.push((format!("{host} log"), cluster.agent(host).stderr().into_bytes()));
        let mut files = Vec::new();
        written_by_the_agent(&home.path, &mut files);
        assert!(files.iter().any(|file| file.ends_with("store.db")), "{files:?}");
        assert!(files.iter().any(|file| file.ends_with("vault.key")), "{files:?}");
        for file in files {
            haystacks.push((file.display().to_string(), std::fs::read(&file).unwrap()));
        }
    }
    haystacks
}

async fn assert_nothing_is_left(cluster: &Cluster, secrets: &[&str]) {
    let haystacks = left_behind(cluster).await;
    let mut found = Vec::new();
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        for (place, bytes) in &haystacks {
            if contains(bytes, form.as_bytes()) {
                found.push(format!("{form:?} in {place}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Agents that log whatever they can.
fn talkative(hosts: usize) -> Cluster {
    let mut cluster = Cluster::at_rest(hosts, "", |n| format!("127.0.0.{}", n + 1));
    for host in 0..hosts {
        cluster.homes[host].args.extend(["--log".to_owned(), "trace".to_owned()]);
        cluster.start(host);
    }
    cluster
}

/// The password of a cluster that somebody else has deployed is told once, and stays with the agents.
#[tokio::test]
async fn a_take_over_leaves_no_password_behind() {
    let cluster = talkative(2);
    cluster.deploy_by_hand(&[0, 1]).await;
    for host in 0..2 {
        cluster.join(host, 0, &zone(host)).await;
    }
    cluster.until_found(&[0, 1]).await;
    let take_over = "/api/v1/ob/take_over";
    let guess = cluster.door(1).post(take_over, json!({ "rootPwd": WRONG[0] })).await;
    assert_eq!(guess.code(), "OB.Cluster.Password.Incorrect", "{}", guess.text);
    cluster.done(1, take_over, json!({ "rootPwd": PASSWORD })).await;
    assert_nothing_is_left(&cluster, &[PASSWORD, WRONG[0]]).await;
}

#[tokio::test]
async fn no_secret_is_left_behind_by_a_cluster() {
    let cluster = talkative(2);
    let made = live(&cluster).await;
    let mut secrets: Vec<&str> = vec![PASSWORD, OF_MASTER, OF_FOLLOWER, OF_PROXY, OF_ACCOUNT, LATER_ROOT];
    secrets.extend(WRONG);
    secrets.extend(made.iter().map(String::as_str));
    assert_nothing_is_left(&cluster, &secrets).await;
    // The servers may leave cores behind, if the host lets them: that is not ours to forbid.
    let limit = |pid: i32| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned()
    };
    assert_eq!(limit(cluster.database_pids(0)[0]), limit(cluster.agent(0).pid()));
}

fn contains(bytes: &[u8], form: &[u8]) -> bool {
    let first = form[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(form) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// A process that may leave a core as large as it likes in this directory.
fn with_cores(command: &Command, dir: &Path) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "ulimit -c unlimited || exit 7; exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

fn abort(mut child: Child) -> bool {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    child.wait().unwrap().core_dumped()
}

/// What the agent has in its memory does not become a file when it crashes; other programs are asked first whether they would
/// leave one here.
#[test]
fn a_crash_leaves_no_core_of_the_agent() {
    let home = Home::new();
    let dir = home.path.parent().unwrap();
    let mut sleeper = with_cores(Command::new("/bin/sh").args(["-c", "echo; exec sleep 1000"]), dir);
    let mut sleeper = sleeper.stdout(Stdio::piped()).spawn().unwrap();
    // The line says that the limit is set.
    let mut line = [0];
    let is_set = std::io::Read::read(sleeper.stdout.as_mut().unwrap(), &mut line).unwrap() == 1;
    if !is_set || !abort(sleeper) {
        println!("left out: no program leaves a core on this host");
        return;
    }
    let notify = UnixDatagram::bind(dir.join("notify")).unwrap();
    notify.set_read_timeout(Some(LIMIT)).unwrap();
    let mut agent = with_cores(&home.command(), dir);
    let agent = agent.env("NOTIFY_SOCKET", dir.join("notify")).spawn().unwrap();
    let mut text = [0; 4096];
    loop {
        let length = notify.recv(&mut text).unwrap();
        if String::from_utf8_lossy(&text[..length]).contains("READY=1") {
            break;
        }
    }
    assert!(!abort(agent), "the agent has left its memory in {}", dir.display());
}

//! Starting, files, stopping.

use std::os::unix::fs::PermissionsExt as _;

use mysql_async::prelude::Queryable as _;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::rig::{Rig, refusal, wait_until};

#[tokio::test]
async fn a_first_start_leaves_its_files() {
    let rig = Rig::new();
    let node = rig.node(1);
    let output = node.run(&node.first_options());
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("zone: z1\n") && said.contains(&format!("mysql port: {}\n", rig.sql)), "{said}");
    let mut connection = node.connect("").await;
    assert_eq!(connection.query_first::<i64, _>("SELECT 1").await.unwrap(), Some(1));
    let pid_file = std::fs::metadata(node.home.join("run/observer.pid")).unwrap();
    assert_eq!(pid_file.permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_link(format!("/proc/{}/cwd", node.pid())).unwrap(), node.home);
    for file in [
        "etc/observer.config.bin",
        "etc2/observer.conf.bin",
        "etc3/observer.conf.bin",
        "store/sstable/block_file",
        "store/slog/server",
        "store/clog/log_pool/meta",
        "run/sql.sock",
        "log/rootservice.log",
    ] {
        wait_until(file, || node.home.join(file).exists());
    }
    assert!(!node.home.join("store/clog/tenant_1").exists());
    let config = String::from_utf8_lossy(&std::fs::read(node.home.join("etc/observer.config.bin")).unwrap())
        .into_owned();
    for line in ["zone=z1\n", "cluster=demo\n", "cluster_id=7\n", "local_ip=127.0.0.1\n", "memory_limit=8G\n"]
    {
        assert!(config.contains(line), "{line}");
    }
    assert!(config.contains(&format!("all_server_list={}\n", node.addr())));
}

#[tokio::test]
async fn a_second_start_is_refused_and_a_later_one_needs_no_option() {
    let rig = Rig::new();
    let node = rig.node(1);
    node.start(&node.first_options());
    drop(node.connect("").await);
    let second = node.run(&[]);
    assert_eq!(second.status.code(), Some(96));
    assert!(String::from_utf8_lossy(&second.stderr).contains("pid already exists"));
    assert_eq!(node.lock_holder(), Some(node.pid()));
    node.kill();
    // A truncated file: a copy is taken.
    std::fs::write(node.home.join("etc/observer.config.bin"), b"x").unwrap();
    node.start(&[]);
    drop(node.connect("").await);
}

#[test]
fn what_is_wrong_before_the_fork_is_the_exit_status() {
    let rig = Rig::new();
    let node = rig.node(1);
    let status = |options: &[&str]| {
        node.run(&options.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).status.code()
    };
    assert_eq!(status(&["-p", "80"]), Some(1));
    assert_eq!(status(&["--what"]), Some(1));
    assert_eq!(status(&["-h"]), Some(1));
    assert_eq!(status(&["-V"]), Some(0));
    node.faults(json!({ "exit_before_fork": 94 }));
    assert_eq!(status(&[]), Some(94));
    node.faults(json!({}));
    std::fs::create_dir_all(node.home.join("etc")).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(node.home.join("etc"), Some(12_345), None).unwrap();
        assert_eq!(status(&[]), Some(164));
    }
}

#[test]
fn what_is_wrong_after_the_fork_stands_in_the_log() {
    let rig = Rig::new();
    let node = rig.node(1);
    for (options, code, words) in [
        (vec!["-c", "1"], -4147, "config zone cannot be empty"),
        (vec!["-z", "z1"], -4147, "invalid cluster id"),
        (
            vec!["-z", "z1", "-c", "1", "-I", "192.0.2.1"],
            -4393,
            "local_ip is not a valid IP for this machine",
        ),
        (vec!["-z", "z1", "-c", "1", "-o", "memory_limit=1M"], -4147, "memory_limit with unexpected value"),
    ] {
        drop(std::fs::remove_file(node.home.join("log/observer.log")));
        let output = node.run(&options.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert!(output.status.success());
        wait_until(words, || node.log().contains("observer init() has failure"));
        let log = node.log();
        let is_it = |line: &str| {
            line.contains("] ERROR [SERVER]")
                && line.contains(&format!("[errcode={code}]"))
                && line.contains(words)
        };
        assert!(log.lines().any(is_it), "{log}");
        node.await_death();
    }
    // In front, the number is the exit status.
    let output = node.run(&["-z", "z1", "-c", "1", "-I", "192.0.2.1", "-N"].map(str::to_owned));
    assert_eq!(output.status.code(), Some(215));
}

#[tokio::test]
async fn a_taken_port_ends_it() {
    let rig = Rig::new();
    let node = rig.node(1);
    let _taken = std::net::TcpListener::bind(node.sql_addr()).unwrap();
    let output = node.run(&node.first_options());
    assert!(output.status.success());
    node.await_death();
    assert!(node.log().contains("sql nio bind listen fd failed"), "{}", node.log());
}

#[tokio::test]
async fn the_newer_convention() {
    let rig = Rig::new();
    let node = rig.node(1);
    node.start(&node.first_options());
    drop(node.connect("").await);
    assert_eq!(node.mask("SigBlk") & (1 << 9), 1 << 9);
    assert_eq!(node.mask("SigBlk") & (1 << 14), 1 << 14);
    node.signal(Signal::SIGUSR1);
    node.await_death();
    assert!(node.home.join("run/observer.pid").exists());
    let signal = rig.journal().into_iter().find(|line| line["kind"] == "signal").unwrap();
    assert_eq!((&signal["signal"], &signal["si_pid"]), (&json!(10), &json!(std::process::id())));
    assert_eq!(rig.journal().last().unwrap()["kind"], "exit");
    node.start(&[]);
    drop(node.connect("").await);
    node.signal(Signal::SIGTERM);
    node.await_death();
    assert_ne!(rig.journal().last().unwrap()["kind"], "exit");
}

#[tokio::test]
async fn the_older_convention() {
    let rig = Rig::new();
    let node = rig.node(1);
    node.set(json!({ "signals": "older" }));
    node.start(&node.first_options());
    drop(node.connect("").await);
    assert_eq!(node.mask("SigBlk") & (1 << 9), 0);
    assert_eq!(node.mask("SigBlk") & (1 << 14), 1 << 14);
    assert!(node.home.join("run/mysql.sock").exists());
    node.signal(Signal::SIGTERM);
    node.await_death();
    assert!(!node.home.join("run/observer.pid").exists());
    node.start(&[]);
    drop(node.connect("").await);
    node.signal(Signal::SIGUSR1);
    node.await_death();
    assert!(node.home.join("run/observer.pid").exists());
}

#[tokio::test]
async fn a_grace_and_its_end() {
    let rig = Rig::new();
    let node = rig.node_with(1, json!({ "stuck_shutdown": true }));
    node.set(json!({ "factor": 0.02 }));
    node.start(&node.first_options());
    let mut connection = node.connect("").await;
    node.signal(Signal::SIGUSR1);
    // SQL goes on in the grace, then nobody comes in.
    assert_eq!(connection.query_first::<i64, _>("SELECT 1").await.unwrap(), Some(1));
    let begin = std::time::Instant::now();
    let stopping = loop {
        match node.try_connect("").await {
            Err(mysql_async::Error::Server(error)) => break error,
            Ok(_) | Err(_) => assert!(begin.elapsed() < crate::rig::DEADLINE),
        }
    };
    assert_eq!((stopping.code, stopping.state.as_str()), (8002, "08004"));
    assert!(connection.query_drop("SELECT 1").await.is_err());
    node.signal(Signal::SIGTERM);
    node.signal(Signal::SIGUSR1);
    assert!(node.is_alive());
    node.kill();
}

#[tokio::test]
async fn a_signal_without_effect() {
    let rig = Rig::new();
    let node = rig.node_with(1, json!({ "ignore_graceful": true }));
    node.start(&node.first_options());
    drop(node.connect("").await);
    node.signal(Signal::SIGUSR1);
    wait_until("the signal is written down", || rig.journal().iter().any(|line| line["ignored"] == true));
    assert!(node.is_alive());
    node.faults(json!({}));
    node.signal(Signal::SIGUSR1);
    node.await_death();
}

#[tokio::test]
async fn what_a_start_was_given_is_written_down() {
    let rig = Rig::new();
    let node = rig.node(1);
    node.start(&node.first_options());
    let mut connection = node.connect("").await;
    connection.query_drop("SELECT 1").await.unwrap();
    assert_eq!(refusal(connection.query_drop("SELECT nonsense FROM").await).0, 1064);
    let journal = rig.journal();
    let argv = &journal[0];
    assert_eq!(argv["kind"], "argv");
    assert_eq!(argv["cwd"], json!(node.home));
    assert_eq!(argv["argv"][2], "demo");
    assert!(argv["env"].as_object().unwrap().contains_key("PATH"));
    assert!(argv["fds"].as_object().unwrap().contains_key("0"));
    assert!(journal.iter().any(|line| line["kind"] == "start" && line["pid"] == json!(node.pid())));
    let of =
        |sql: &str| journal.iter().find(|line| line["kind"] == "statement" && line["sql"] == sql).unwrap();
    assert!(of("SELECT 1")["error"].is_null());
    assert!(of("SELECT 1")["answered"].as_str() >= of("SELECT 1")["arrived"].as_str());
    assert_eq!(of("SELECT nonsense FROM")["error"], 1064);
}

/// The socket speaks the same protocol, and IPv6 is an address like others.
#[tokio::test]
async fn sockets_and_ipv6() {
    let rig = Rig::new();
    let node = rig.node(1);
    if std::net::TcpListener::bind(("::1", rig.sql)).is_err() {
        return;
    }
    let mut options = node.first_options();
    let at = options.iter().position(|word| word == "127.0.0.1").unwrap();
    options[at] = "::1".to_owned();
    options.push("--ipv6".to_owned());
    node.start(&options);
    let socket = node.home.join("run/sql.sock");
    // It is there a moment before anybody listens.
    wait_until("the socket listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let through = node.options("").socket(socket.to_str());
    let mut connection = mysql_async::Conn::new(through).await.unwrap();
    let bootstrap = format!("ALTER SYSTEM BOOTSTRAP ZONE 'z1' SERVER '[::1]:{}'", rig.rpc);
    connection.query_drop(bootstrap).await.unwrap();
    let members = "SELECT PAXOS_MEMBER_LIST FROM oceanbase.GV$OB_LOG_STAT WHERE SVR_IP = '::1'";
    let list: Option<String> = connection.query_first(members).await.unwrap();
    assert_eq!(list, Some(format!("[::1]:{}:1", rig.rpc)));
}

#[tokio::test]
async fn a_death_with_a_last_word() {
    let rig = Rig::new();
    let node =
        rig.node_with(1, json!({ "die_after_ms": 1, "die_log": "no space for the log", "die_signal": 9 }));
    node.start(&node.first_options());
    node.await_death();
    assert!(node.log().contains("[errcode=-4016] no space for the log"));
}

//! Homes, processes and connections for the tests.
//!
//! Invariant: what a test starts is killed by its own pid when the test ends. Nothing sleeps a fixed time: what is waited for
//! is looked at until a deadline.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Below the range from which the kernel takes ports of outgoing connections.
fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(997);
    loop {
        let number = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let Ok(port) = u16::try_from(11_000 + number) else { continue };
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// One cluster's directory and the ports that all its servers share.
pub(crate) struct Rig {
    dir: tempfile::TempDir,
    pub(crate) sql: u16,
    pub(crate) rpc: u16,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), sql: free_port(), rpc: free_port() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn cluster_dir(&self) -> PathBuf {
        self.path().join("cluster")
    }

    /// A home with the executable, its settings, and the directories that a server does not make itself.
    pub(crate) fn node(&self, number: u8) -> Node<'_> {
        self.node_with(number, json!({}))
    }

    pub(crate) fn node_with(&self, number: u8, faults: Value) -> Node<'_> {
        let home = self.path().join(format!("node{number}"));
        for dir in ["bin", "store/clog", "store/slog", "store/sstable"] {
            std::fs::create_dir_all(home.join(dir)).unwrap();
        }
        let program = home.join("bin/observer");
        if std::fs::hard_link(env!("CARGO_BIN_EXE_observer-sim"), &program).is_err() {
            std::fs::copy(env!("CARGO_BIN_EXE_observer-sim"), &program).unwrap();
        }
        let node = Node { rig: self, home, number, pids: Mutex::default() };
        node.set(json!({ "cluster": self.cluster_dir(), "faults": faults }));
        node
    }

    pub(crate) fn journal(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.cluster_dir().join("journal.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Three nodes that run, wait, and are made a cluster.
    pub(crate) async fn three(&self) -> Vec<Node<'_>> {
        let nodes: Vec<Node<'_>> = (1..=3).map(|number| self.node(number)).collect();
        for node in &nodes {
            node.start(&node.first_options());
            drop(node.connect("").await);
        }
        let mut connection = nodes[0].connect("").await;
        connection.query_drop(bootstrap(&nodes.iter().collect::<Vec<_>>())).await.unwrap();
        nodes
    }
}

pub(crate) fn bootstrap(nodes: &[&Node<'_>]) -> String {
    let items: Vec<String> =
        nodes.iter().map(|node| format!("ZONE '{}' SERVER '{}'", node.zone(), node.addr())).collect();
    format!("ALTER SYSTEM BOOTSTRAP {}", items.join(", "))
}

pub(crate) struct Node<'a> {
    rig: &'a Rig,
    pub(crate) home: PathBuf,
    number: u8,
    pids: Mutex<Vec<i32>>,
}

impl Node<'_> {
    pub(crate) fn ip(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, self.number))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.rig.rpc)
    }

    pub(crate) fn sql_addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.rig.sql)
    }

    pub(crate) fn zone(&self) -> String {
        format!("z{}", self.number)
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.home.join("bin/observer-sim.json")
    }

    /// Replaces what stands in the settings under the given names.
    pub(crate) fn set(&self, new: Value) {
        let path = self.settings();
        let mut all: Value = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_else(|| json!({}));
        for (name, value) in new.as_object().unwrap() {
            all[name] = value.clone();
        }
        let whole = path.with_extension("next");
        std::fs::write(&whole, all.to_string()).unwrap();
        std::fs::rename(&whole, &path).unwrap();
    }

    pub(crate) fn faults(&self, faults: Value) {
        self.set(json!({ "faults": faults }));
    }

    pub(crate) fn first_options(&self) -> Vec<String> {
        let (sql, rpc) = (self.rig.sql.to_string(), self.rig.rpc.to_string());
        let (ip, zone) = (self.ip().to_string(), self.zone());
        let options = [
            "-n",
            "demo",
            "-c",
            "7",
            "-z",
            &zone,
            "-I",
            &ip,
            "-p",
            &sql,
            "-P",
            &rpc,
            "-o",
            "memory_limit=8G",
        ];
        options.map(str::to_owned).to_vec()
    }

    pub(crate) fn run(&self, options: &[String]) -> Output {
        let program = self.home.join("bin/observer");
        let output = Command::new(program).args(options).current_dir(&self.home).output().unwrap();
        let begin = Instant::now();
        // The file is filled a moment after the parent ended; until then it may name an earlier life.
        while output.status.success() && begin.elapsed() < Duration::from_secs(2) {
            let mut pids = self.pids.lock().unwrap();
            if let Some(pid) = self.pid_file().filter(|pid| !pids.contains(pid)) {
                pids.push(pid);
                break;
            }
        }
        output
    }

    pub(crate) fn start(&self, options: &[String]) {
        let output = self.run(options);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(self.pid_file(), Some(self.pid()));
    }

    pub(crate) fn pid_file(&self) -> Option<i32> {
        std::fs::read_to_string(self.home.join("run/observer.pid")).ok()?.parse().ok()
    }

    pub(crate) fn pid(&self) -> i32 {
        *self.pids.lock().unwrap().last().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub(crate) fn is_alive(&self) -> bool {
        is_alive(self.pid())
    }

    pub(crate) fn await_death(&self) {
        wait_until("the process ends", || !self.is_alive());
        // Locks and ports are free a moment later.
        wait_until("the lock is free", || self.lock_holder().is_none());
        wait_until("the port is free", || TcpListener::bind(self.addr()).is_ok());
    }

    /// Who holds the lock on the pid file.
    pub(crate) fn lock_holder(&self) -> Option<i32> {
        let file = std::fs::File::open(self.home.join("run/observer.pid")).ok()?;
        let kind = i16::try_from(libc::F_WRLCK).unwrap();
        let mut lock = libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETLK(&mut lock)).unwrap();
        (lock.l_pid != 0).then_some(lock.l_pid)
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.await_death();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log/observer.log")).unwrap_or_default()
    }

    /// The mask of a process in /proc, by its name there.
    pub(crate) fn mask(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    }

    pub(crate) fn options(&self, password: &str) -> OptsBuilder {
        OptsBuilder::default()
            .ip_or_hostname(self.ip().to_string())
            .tcp_port(self.rig.sql)
            .user(Some("root@sys"))
            .pass(Some(password))
            .prefer_socket(false)
    }

    pub(crate) async fn try_connect(&self, password: &str) -> mysql_async::Result<Conn> {
        Conn::new(Opts::from(self.options(password))).await
    }

    pub(crate) async fn connect(&self, password: &str) -> Conn {
        let begin = Instant::now();
        loop {
            match self.try_connect(password).await {
                Ok(connection) => return connection,
                Err(error) if begin.elapsed() > DEADLINE => panic!("no connection: {error}; {}", self.log()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// One value by a fresh connection, asked for until it is as wanted.
    pub(crate) async fn await_value(&self, sql: &str, wanted: &str) {
        let begin = Instant::now();
        let mut connection = self.connect("").await;
        loop {
            let found = connection.query_first::<Option<String>, _>(sql).await;
            if matches!(&found, Ok(Some(Some(value))) if value == wanted) {
                return;
            }
            assert!(begin.elapsed() < DEADLINE, "{sql}: {found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        for pid in self.pids.lock().unwrap().iter().filter(|pid| is_alive(**pid)) {
            // A pid that was given to somebody else has another directory.
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
            if cwd.is_ok_and(|cwd| cwd == self.home) {
                kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
            }
        }
    }
}

/// One that nobody has waited for is dead.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Number and text of a refusal.
pub(crate) fn refusal<T>(result: mysql_async::Result<T>) -> (u16, String) {
    match result {
        Err(mysql_async::Error::Server(error)) => (error.code, error.message),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

//! Homes and the agents in them.

use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Door, LIMIT, PASSWORD, free_port};

/// The real engine. `make engine` fetches it.
pub fn engine() -> PathBuf {
    let path = std::env::var_os("OBPILOT_TEST_ENGINE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("build/engine/pylibseekdb/seekdb"),
        PathBuf::from,
    );
    assert!(path.is_file(), "{} is missing: these tests need a real seekdb; `make engine`", path.display());
    path
}

/// A home that an agent lives in, and a database in turn.
#[derive(Debug)]
pub struct Home {
    pub path: PathBuf,
    pub ip: String,
    pub port: u16,
    pub mysql_port: u16,
    /// The stand-in for a cluster's server lives here, not the real engine.
    pub is_member: bool,
    /// The file of the network namespace that everything here runs in, where the test made one.
    pub namespace: Option<String>,
    /// Appended to the command line of every agent that is started here.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    _dir: Option<tempfile::TempDir>,
}

impl Home {
    pub fn new() -> Self {
        // Not the default prefix: it is `.tmp`, and the engine cannot live under that.
        let dir = tempfile::Builder::new().prefix("obpilot-agent-").tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("home");
        let mut home = Self::at(path);
        home._dir = Some(dir);
        home
    }

    /// At a place that the test made.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            ip: "127.0.0.1".to_owned(),
            port: free_port(),
            mysql_port: free_port(),
            is_member: false,
            namespace: None,
            args: Vec::new(),
            env: Vec::new(),
            _dir: None,
        }
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.ip, self.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.path.join("run/obpilot.sock")
    }

    /// Writes a configuration and uses it for every agent of this home.
    pub fn configure(&mut self, toml: &str) {
        let file = self.path.with_extension("toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, toml).unwrap();
        self.args.extend(["--config".to_owned(), file.to_str().unwrap().to_owned()]);
    }

    /// The command of `obpilot agent run`.
    pub fn command(&self) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(env!("CARGO_BIN_EXE_obpilot")),
            Some(file) => {
                // It becomes what it starts: the process stays the child of the test.
                let mut inside = Command::new("nsenter");
                inside.arg(format!("--net={file}")).arg(env!("CARGO_BIN_EXE_obpilot"));
                inside
            }
        };
        command.args(["agent", "run", "--ip", &self.ip, "--port"]).arg(self.port.to_string());
        command.arg("--home").arg(&self.path);
        if self.is_member {
            command.args(["--engine", "observer"]);
        } else {
            command.args(["--engine", "seekdb", "--engine-bin"]).arg(engine());
        }
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null());
        command
    }

    /// An agent that answers.
    pub fn start(&self) -> Agent {
        let mut agent = self.spawn();
        match agent.until_ready() {
            Ok(()) => agent,
            Err(ended) => panic!("the agent ended at its start with {ended:?}"),
        }
    }

    /// An agent that was just started.
    pub fn spawn(&self) -> Agent {
        self.spawn_logging(&self.path.with_extension("log"))
    }

    /// The same, with its log elsewhere than beside the home.
    pub fn spawn_logging(&self, log: &Path) -> Agent {
        let (notify, log) = (Notify::new(), log.to_owned());
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = self.command();
        command.env("NOTIFY_SOCKET", &notify.path).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().unwrap();
        Agent { child, notify, log, door: Door::socket(&self.socket()), ended: None }
    }

    /// Runs a command of the CLI on this home to its end.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.cli_command(args).output().unwrap()
    }

    /// Where the CLI of this home remembers the keys of agents.
    pub fn state(&self) -> PathBuf {
        self.path.with_file_name("state")
    }

    /// A command of the CLI on this home, not yet running.
    pub fn cli_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_obpilot"));
        command.arg("--home").arg(&self.path).args(args).stdin(Stdio::null());
        command.env("OBPILOT_ROOT_PASSWORD", PASSWORD).env("NO_COLOR", "1");
        command.env("XDG_STATE_HOME", self.state());
        command
    }

    /// Over TCP, sealed with a password.
    pub async fn tcp(&self, password: &str) -> Door {
        Door::sealed(&self.address(), password).await
    }

    /// From nothing to a running database with [`PASSWORD`], by the calls an SDK makes.
    pub async fn initialise(&self, agent: &Agent) {
        let door = &agent.door;
        self.join(door).await;
        self.settings(door).await;
        let dag = door.post("/api/v1/ob/init", json!({})).await.data();
        door.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
    }

    pub async fn join(&self, door: &Door) {
        let body = json!({ "agentInfo": { "ip": "127.0.0.1", "port": self.port }, "zoneName": "zone1" });
        let dag = door.post("/api/v1/agent/join", body).await.data();
        door.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
    }

    pub async fn settings(&self, door: &Door) {
        let server = json!({
            "observerConfig": { "mysql_port": self.mysql_port.to_string(), "memory_limit": "2G", "datafile_size": "2G",
                                "log_disk_size": "2G" },
            "scope": { "type": "GLOBAL", "target": [] },
        });
        let dag = door.post("/api/v1/observer/config", server).await.data();
        door.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
        let cluster = json!({ "clusterName": "pilot", "clusterId": 1, "rootPwd": PASSWORD });
        let dag = door.post("/api/v1/obcluster/config", cluster).await.data();
        door.finished(dag["id"].as_str().unwrap()).await.expect_succeeded();
    }

    /// SQL to its server as root@sys, as soon as that lets in.
    pub async fn sql(&self, password: &str) -> mysql_async::Conn {
        let options = mysql_async::OptsBuilder::default()
            .ip_or_hostname(self.ip.clone())
            .tcp_port(self.mysql_port)
            .user(Some("root@sys"))
            .pass(Some(password))
            .prefer_socket(false);
        let let_in = async {
            loop {
                if let Ok(connection) = mysql_async::Conn::new(options.clone()).await {
                    return connection;
                }
            }
        };
        tokio::time::timeout(super::LIMIT, let_in).await.expect("its server lets in")
    }

    /// Processes whose working directory is this home: the database, whoever started it.
    pub fn database_pids(&self) -> Vec<i32> {
        let Ok(home) = self.path.canonicalize() else { return Vec::new() };
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_here = |pid: &i32| {
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
            let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
            cwd.is_ok_and(|cwd| cwd.starts_with(&home))
                && exe.is_ok_and(|exe| {
                    exe.file_name().is_some_and(|name| {
                        let name = name.to_string_lossy();
                        name.contains("seekdb") || name.contains("observer")
                    })
                })
        };
        pids.filter(is_here).collect()
    }

    /// The one database of this home.
    pub fn database(&self) -> i32 {
        let pids = self.database_pids();
        assert_eq!(pids.len(), 1, "one database runs in this home: {pids:?}");
        pids[0]
    }

    /// SIGKILL to the database, and waits until it is gone.
    pub fn kill_database(&self) {
        for pid in self.database_pids() {
            kill_and_wait(pid);
        }
    }
}

impl Drop for Home {
    /// An agent that was started in the background has nobody else to end it when a test fails.
    fn drop(&mut self) {
        let home = camino::Utf8Path::from_path(&self.path);
        if let Some(Ok(Some(agent))) = home.map(obpilot::host::lock::holder) {
            kill_and_wait(agent.pid);
        }
        self.kill_database();
    }
}

/// Through a pidfd, so that the end is an event.
fn kill_and_wait(pid: i32) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::retry_on_intr;
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Ok(fd) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { return };
    if pidfd_send_signal(&fd, Signal::KILL).is_err() {
        return;
    }
    let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
    let ready = retry_on_intr(|| poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit))).unwrap();
    assert_eq!(ready, 1, "process {pid} outlives SIGKILL");
}

/// How an agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stderr: String,
}

/// A running `obpilot agent run`.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    notify: Notify,
    log: PathBuf,
    /// Its Unix socket.
    pub door: Door,
    ended: Option<Ended>,
}

impl Agent {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Returns when it answers, or how it ended.
    pub fn until_ready(&mut self) -> Result<(), Ended> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if self.notify.hears(b"READY=1", Duration::from_millis(20)) {
                return Ok(());
            }
            if self.child.try_wait().unwrap().is_some() {
                return Err(self.wait());
            }
        }
        panic!("the agent was not ready in time; {}", self.stderr());
    }

    /// What it has written so far.
    pub fn stderr(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.log).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Ended {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let status = self.child.wait().unwrap();
        let ended = Ended { code: status.code(), signal: status.signal(), stderr: self.stderr() };
        self.ended.insert(ended).clone()
    }

    /// Whether it has ended.
    pub fn is_dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Returns when it has ended.
    pub async fn until_dead(&self) {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let fd = pidfd_open(Pid::from_raw(self.pid()).unwrap(), PidfdFlags::empty()).unwrap();
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may change their descriptor; OwnedFd cannot"
        )]
        let fd = tokio::io::unix::AsyncFd::with_interest(fd, tokio::io::Interest::READABLE).unwrap();
        drop(fd.readable().await.unwrap());
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) -> Ended {
        drop(self.child.kill());
        self.wait()
    }

    /// SIGTERM.
    pub fn ask_to_stop(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        kill_process(Pid::from_raw(self.pid()).unwrap(), Signal::TERM).unwrap();
    }

    /// Returns when it has heard that it should stop.
    pub fn until_stopping(&self) {
        assert!(self.notify.hears(b"STOPPING=1", LIMIT), "the agent did not stop in time; {}", self.stderr());
    }

    /// SIGTERM, and waits until it is gone.
    pub fn terminate(&mut self) -> Ended {
        self.ask_to_stop();
        self.wait()
    }

    /// A shortcut.
    pub async fn status(&self) -> Value {
        self.door.get("/api/v1/status").await.data()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.ended.is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Stands in for systemd: hears what the agent says of itself.
#[derive(Debug)]
struct Notify {
    path: PathBuf,
    socket: UnixDatagram,
    _dir: tempfile::TempDir,
}

impl Notify {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { path, socket, _dir: dir }
    }

    /// Whether this line comes within the time; others are passed over.
    fn hears(&self, wanted: &[u8], wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut text = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).unwrap();
            let Ok(length) = self.socket.recv(&mut text) else { return false };
            if text[..length].split(|b| *b == b'\n').any(|line| line == wanted) {
                return true;
            }
        }
    }
}

//! Clusters on one machine: an agent and a stand-in for `observer` per host, each host an address of the loopback network.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Agent, Door, Home, PASSWORD, Writer, at, free_port};

/// The stand-in, built beside the agent (`tests/observer-sim`).
pub fn simulator() -> PathBuf {
    beside_the_agent("observer-sim")
}

fn beside_the_agent(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_obpilot")).with_file_name(name);
    assert!(path.is_file(), "{} is missing: cargo build -p observer-sim", path.display());
    path
}

/// Hosts, with agents that run or not.
#[derive(Debug)]
pub struct Cluster {
    pub homes: Vec<Home>,
    pub agents: Vec<Option<Agent>>,
    pub rpc_ports: Vec<u16>,
    dir: tempfile::TempDir,
}

impl Cluster {
    /// So many hosts with agents that answer; nothing is joined yet.
    pub fn new(hosts: usize) -> Self {
        Self::configured(hosts, "")
    }

    /// The same, with a configuration of the agents.
    pub fn configured(hosts: usize, toml: &str) -> Self {
        let mut cluster = Self::at_rest(hosts, toml, |n| format!("127.0.0.{}", n + 1));
        for host in 0..hosts {
            cluster.start(host);
        }
        cluster
    }

    /// Homes only.
    pub fn at_rest(hosts: usize, toml: &str, ip: impl Fn(usize) -> String) -> Self {
        let dir = tempfile::Builder::new().prefix("obpilot-cluster-").tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let port = free_port();
        let mut homes = Vec::new();
        for host in 0..hosts {
            let mut home = Home::at(root.join(format!("host{}", host + 1)));
            home.ip = ip(host);
            (home.port, home.is_member) = (port, true);
            std::fs::create_dir_all(home.path.join("bin")).unwrap();
            // A copy: the agent knows its server by the file that it runs.
            std::fs::copy(simulator(), home.path.join("bin/observer")).unwrap();
            if !toml.is_empty() {
                home.configure(toml);
            }
            homes.push(home);
        }
        let agents = (0..hosts).map(|_| None).collect();
        // Of their own: a server listens on every address of the machine.
        let rpc_ports = (0..hosts).map(|_| free_port()).collect();
        let cluster = Self { homes, agents, rpc_ports, dir };
        for host in 0..hosts {
            cluster.set(host, &json!({}));
        }
        cluster
    }

    /// What the stand-in of a host is told beside where its cluster is: `faults`, `factor`, `signals`, `version`.
    pub fn set(&self, host: usize, more: &Value) {
        let mut settings = json!({ "cluster": self.dir.path().join("cluster") });
        for (key, value) in more.as_object().unwrap() {
            settings[key] = value.clone();
        }
        let file = self.homes[host].path.join("bin/observer-sim.json");
        std::fs::write(file, settings.to_string()).unwrap();
    }

    /// Which servers hear each other; those of different groups do not. Without groups all do.
    pub fn split_servers(&self, groups: &[&[usize]]) {
        let groups: Vec<Vec<String>> = groups.iter().map(|group| self.servers(group)).collect();
        self.network("groups", json!(groups));
    }

    /// Servers whose rows stay as they are, as within the lease, whether they end, come back or serve.
    pub fn unheard(&self, hosts: &[usize]) {
        self.network("unheard", json!(self.servers(hosts)));
    }

    fn servers(&self, hosts: &[usize]) -> Vec<String> {
        hosts.iter().map(|host| self.server(*host)).collect()
    }

    fn network(&self, what: &str, is: Value) {
        let file = self.dir.path().join("cluster/network.json");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let known = std::fs::read(&file).ok();
        let mut network = known.map_or_else(|| json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
        network[what] = is;
        // In one piece: a server that reads half of it sees nothing of it.
        std::fs::write(file.with_extension("new"), network.to_string()).unwrap();
        std::fs::rename(file.with_extension("new"), file).unwrap();
    }

    /// What the stand-ins have written down: starts, signals, statements.
    pub fn journal(&self) -> Vec<Value> {
        self.journal_since(0)
    }

    fn journal_file(&self) -> PathBuf {
        self.dir.path().join("cluster/journal.jsonl")
    }

    /// How long the journal is, for [`Cluster::journal_since`].
    pub fn journal_length(&self) -> u64 {
        std::fs::metadata(self.journal_file()).map_or(0, |file| file.len())
    }

    /// What was written down after it was so long.
    pub fn journal_since(&self, length: u64) -> Vec<Value> {
        let text = std::fs::read(self.journal_file()).unwrap_or_default();
        let text = text.get(usize::try_from(length).unwrap()..).unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// How many statements of the journal hold this text.
    pub fn statements(&self, text: &str) -> usize {
        let found = self.journal();
        found.iter().filter(|entry| entry["kind"] == "statement" && entry.to_string().contains(text)).count()
    }

    pub fn start(&mut self, host: usize) {
        self.agents[host] = Some(self.homes[host].start());
    }

    pub fn kill(&mut self, host: usize) {
        if let Some(mut agent) = self.agents[host].take() {
            agent.kill();
        }
    }

    /// Ends the agents and notes what they leave, for [`Cluster::rewind`]. No server has run yet.
    pub fn keep(&mut self) {
        for mut agent in self.agents.iter_mut().filter_map(Option::take) {
            agent.terminate();
        }
        for home in &self.homes {
            let kept = home.path.with_extension("kept");
            copy(&home.path, &kept);
            // The executable stays where it is.
            std::fs::remove_dir_all(kept.join("bin")).unwrap();
        }
    }

    /// Ends everything, lays back what was kept, and starts the agents.
    pub fn rewind(&mut self) {
        for host in 0..self.homes.len() {
            self.kill(host);
        }
        self.kill_servers();
        drop(std::fs::remove_dir_all(self.dir.path().join("cluster")));
        for host in 0..self.homes.len() {
            let home = &self.homes[host].path;
            for entry in std::fs::read_dir(home).unwrap().flatten().filter(|entry| entry.file_name() != "bin")
            {
                let is_dir = entry.file_type().unwrap().is_dir();
                let remove = if is_dir { std::fs::remove_dir_all } else { std::fs::remove_file };
                remove(entry.path()).unwrap();
            }
            copy(&home.with_extension("kept").join("."), home);
            self.start(host);
        }
    }

    pub fn agent(&self, host: usize) -> &Agent {
        self.agents[host].as_ref().expect("its agent runs")
    }

    /// The socket of a host's agent.
    pub fn door(&self, host: usize) -> &Door {
        &self.agent(host).door
    }

    pub fn address(&self, host: usize) -> String {
        self.homes[host].address()
    }

    /// The server of a host, as the cluster calls it.
    pub fn server(&self, host: usize) -> String {
        format!("{}:{}", self.homes[host].ip, self.rpc_ports[host])
    }

    pub fn addresses(&self) -> Vec<String> {
        self.homes.iter().map(Home::address).collect()
    }

    /// Does something that becomes a task, and waits for its success.
    pub async fn done(&self, host: usize, target: &str, body: Value) -> Value {
        let made = self.door(host).post(target, body).await.data();
        self.door(host).finished(made["id"].as_str().unwrap()).await.expect_succeeded()
    }

    pub async fn join(&self, host: usize, master: usize, zone: &str) -> Value {
        let home = &self.homes[master];
        let body = json!({ "agentInfo": { "ip": home.ip, "port": home.port }, "zoneName": zone });
        self.done(host, "/api/v1/agent/join", body).await
    }

    /// The ports of a host's server, as settings.
    pub fn ports(&self, host: usize) -> Value {
        let (sql, rpc) = (self.homes[host].mysql_port.to_string(), self.rpc_ports[host].to_string());
        json!({ "mysql_port": sql, "rpc_port": rpc })
    }

    pub async fn configure(&self, host: usize) {
        self.configure_first(self.homes.len(), host).await;
    }

    /// Through one of them, so many hosts that have joined.
    async fn configure_first(&self, hosts: usize, host: usize) {
        for of in 0..hosts {
            let scope = json!({ "type": "SERVER", "target": [self.address(of)] });
            let server = json!({ "observerConfig": self.ports(of), "scope": scope });
            self.done(host, "/api/v1/observer/config", server).await;
        }
        let cluster = json!({ "clusterName": "pilot", "clusterId": 7, "rootPwd": PASSWORD });
        self.done(host, "/api/v1/obcluster/config", cluster).await;
    }

    /// A cluster that serves: a zone per host, up to three; further hosts go into them in turn.
    pub async fn form(&self) {
        self.form_first(self.homes.len()).await;
    }

    /// The same of the first so many hosts; the agents of the others belong to nobody.
    pub async fn form_first(&self, hosts: usize) {
        for host in 0..hosts {
            self.join(host, 0, &zone(host)).await;
        }
        self.configure_first(hosts, 0).await;
        self.done(0, "/api/v1/ob/init", json!({})).await;
    }

    /// A cluster of these hosts as somebody else deploys one: servers by their command lines, BOOTSTRAP and the password by
    /// SQL. No agent takes part in it.
    pub async fn deploy_by_hand(&self, hosts: &[usize]) {
        let list: Vec<_> = hosts
            .iter()
            .map(|host| format!("{}:{}", self.server(*host), self.homes[*host].mysql_port))
            .collect();
        for host in hosts {
            self.run_by_hand(*host, &list.join(";"));
        }
        let first = &self.homes[hosts[0]];
        let mut sql = first.sql("").await;
        let servers: Vec<_> = hosts
            .iter()
            .map(|host| format!("ZONE '{}' SERVER '{}'", zone(*host), self.server(*host)))
            .collect();
        let statements = [
            format!("ALTER SYSTEM BOOTSTRAP {}", servers.join(", ")),
            format!("ALTER USER root IDENTIFIED BY '{}'", PASSWORD.replace('\\', "\\\\").replace('\'', "''")),
        ];
        for statement in statements {
            mysql_async::prelude::Queryable::query_drop(&mut sql, statement).await.unwrap();
        }
        sql.disconnect().await.unwrap();
    }

    /// The agents of these hosts have found the servers in their homes.
    pub async fn until_found(&self, hosts: &[usize]) {
        for host in hosts {
            self.door(*host).until_status(|status| !status["obpilot"]["server"]["pid"].is_null()).await;
        }
    }

    /// A host's agent begins anew, and knows nothing.
    pub fn lose_store(&mut self, host: usize) {
        self.kill(host);
        std::fs::remove_dir_all(self.homes[host].path.join(".obpilot")).unwrap();
        self.start(host);
    }

    /// The first start of a host's server, until its parent has ended.
    fn run_by_hand(&self, host: usize, list: &str) {
        let home = &self.homes[host];
        for dir in ["store/sstable", "store/clog", "store/slog", "etc", "log", "run"] {
            std::fs::create_dir_all(home.path.join(dir)).unwrap();
        }
        let mut command = std::process::Command::new(home.path.join("bin/observer"));
        command.current_dir(&home.path).args(["-n", "theirs", "-c", "11", "-z", &zone(host)]);
        command.arg("-d").arg(home.path.join("store")).args(["-I", &home.ip, "-r", list]);
        command.args(["-p", &home.mysql_port.to_string(), "-P", &self.rpc_ports[host].to_string()]);
        let ended = command.stdin(std::process::Stdio::null()).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }

    /// A client that goes on writing through a host's server, which serves and has [`PASSWORD`].
    pub async fn writer(&self, host: usize) -> Writer {
        let home = &self.homes[host];
        self.writer_to(at(&home.ip, home.mysql_port)).await
    }

    /// The same through all of them, as a proxy does: a server whose zone is out of service is left.
    pub async fn proxied_writer(&self) -> Writer {
        let via = |(host, home): (usize, &Home)| {
            ["--via".to_owned(), format!("{}@{}:{}", zone(host), home.ip, home.mysql_port)]
        };
        self.writer_to(self.homes.iter().enumerate().flat_map(via).collect()).await
    }

    /// It waits longer than a busy machine makes it wait, and less than an election takes at half the time.
    async fn writer_to(&self, mut servers: Vec<String>) -> Writer {
        servers.extend(["--timeout".to_owned(), "3000".to_owned()]);
        Writer::start(&beside_the_agent("observer-sim-client"), &servers, PASSWORD).await
    }

    pub fn database_pids(&self, host: usize) -> Vec<i32> {
        self.homes[host].database_pids()
    }

    /// Which servers run.
    pub fn running(&self) -> Vec<bool> {
        (0..self.homes.len()).map(|host| self.database_pids(host).len() == 1).collect()
    }

    pub fn kill_servers(&self) {
        self.homes.iter().for_each(Home::kill_database);
    }

    pub async fn start_all(&self, host: usize) -> Value {
        self.done(host, "/api/v1/ob/start", json!({ "scope": { "type": "GLOBAL" } })).await
    }

    /// Nobody holds a lock.
    pub async fn assert_free(&self) {
        for agent in self.agents.iter().flatten() {
            let status = agent.status().await;
            assert_eq!(status["underMaintenance"], json!(false), "{status:#}");
        }
    }
}

/// With everything that files have beside what is in them.
fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{} to {}", from.display(), to.display());
}

/// Three zones, whatever the number of hosts.
pub fn zone(host: usize) -> String {
    format!("zone{}", host % 3 + 1)
}

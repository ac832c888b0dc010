//! Every public method of OBShell's own client from PyPI, unpatched, in the worlds that it meets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::rig::{Agent, Cluster, Home, PASSWORD, python};
use crate::tls::{Authority, mutual, server};

/// Runs one of the scripts that are about one thing only on an agent.
pub(crate) fn drive_with_args(script: &str, home: &Home, agent: &Agent, args: &[&str]) {
    let script = format!("{}/tests/agent/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = python();
    command.args([&script, &home.ip, &home.port.to_string(), &home.mysql_port.to_string()]).args(args);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{}", agent.stderr());
    assert!(text.contains(DONE), "{text}");
}

/// A script's last line.
const DONE: &str = "everything the SDK was asked to do is done";

/// How the listener of every agent is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Http,
    Https,
    Mutual,
}

/// Where the SDK is driven, by one of the scripts beside this file.
struct World {
    name: &'static str,
    script: &'static str,
    /// Members; one more comes and goes. None is one host with the real engine.
    hosts: Option<usize>,
    /// Whom the SDK asks; the first one is the master.
    at: usize,
    transport: Transport,
    password: &'static str,
    has_agent_passwords: bool,
    /// How the cluster comes into being: `init_sync` (steps), a RETRY of an init that failed, `agg_create_cluster`.
    form: &'static str,
    asks_outside: bool,
}

/// Of which the others differ.
const PLAIN: World = World {
    name: "one host",
    script: "sdk_life.py",
    hosts: Some(1),
    at: 0,
    transport: Transport::Http,
    password: PASSWORD,
    has_agent_passwords: false,
    form: "steps",
    asks_outside: false,
};

static WORLDS: [World; 10] = [
    World { name: "one host", asks_outside: true, ..PLAIN },
    World { name: "one host, the real engine", hosts: None, form: "retry", ..PLAIN },
    World { name: "one host, no password", password: "", form: "retry", ..PLAIN },
    World { name: "one host, mutual TLS", transport: Transport::Mutual, form: "aggregate", ..PLAIN },
    World { name: "three hosts", hosts: Some(3), form: "aggregate", ..PLAIN },
    World { name: "three hosts, through a follower", hosts: Some(3), at: 1, form: "steps", ..PLAIN },
    World { name: "three hosts, HTTPS", hosts: Some(3), transport: Transport::Https, form: "retry", ..PLAIN },
    World {
        name: "three hosts, agent passwords",
        hosts: Some(3),
        has_agent_passwords: true,
        form: "aggregate",
        asks_outside: true,
        ..PLAIN
    },
    World {
        name: "three hosts through a follower, mutual TLS, agent passwords",
        hosts: Some(3),
        at: 2,
        transport: Transport::Mutual,
        has_agent_passwords: true,
        ..PLAIN
    },
    World { name: "wrong passwords", script: "sdk_refused.py", hosts: Some(2), ..PLAIN },
];

/// What lives in a world, until the script has ended.
enum Life {
    StandIn(Cluster),
    Real(Box<(Home, Agent)>),
}

impl World {
    /// Agents that answer, and the file that describes them.
    fn begin(&self, dir: &Path, number: usize, authority: &Authority) -> (Life, PathBuf) {
        let signed = authority.sign(&format!("agent{number}"));
        let mut toml = match self.transport {
            Transport::Http => String::new(),
            Transport::Https => server(&signed),
            Transport::Mutual => mutual(&signed, authority),
        };
        if self.script == "sdk_refused.py" {
            toml.push_str("[auth]\nfailures_per_minute_max = 100000\nfailed_openings_max = 1000000\n");
        }
        let (life, hosts) = match self.hosts {
            Some(members) => {
                let cluster = Cluster::configured(members + 1, &toml);
                let hosts = cluster.homes.iter().zip(&cluster.rpc_ports);
                let hosts: Vec<_> = hosts.map(|(home, rpc_port)| told(home, *rpc_port)).collect();
                (Life::StandIn(cluster), hosts)
            }
            None => {
                let home = Home::new();
                let (agent, host) = (home.start(), told(&home, 0));
                (Life::Real(Box::new((home, agent))), vec![host])
            }
        };
        let client = authority.sign(&format!("client{number}"));
        let world = json!({
            "name": self.name,
            "hosts": hosts,
            "at": self.at,
            "root": (self.transport != Transport::Http).then(|| authority.root()),
            "own": (self.transport == Transport::Mutual).then_some([client.certificate, client.key]),
            "password": self.password,
            "has_agent_passwords": self.has_agent_passwords,
            "form": self.form,
            "is_real": self.hosts.is_none(),
            "asks_outside": self.asks_outside,
        });
        let file = dir.join(format!("world{number}.json"));
        std::fs::write(&file, world.to_string()).unwrap();
        (life, file)
    }

    /// Drives the SDK to the end; what it was asked and what came of that, or how it failed.
    fn drive(&self, dir: &Path, number: usize, authority: &Authority) -> Result<Driven, String> {
        let (life, file) = self.begin(dir, number, authority);
        let script = format!("{}/tests/agent/{}", env!("CARGO_MANIFEST_DIR"), self.script);
        let output = python().arg(script).arg(file).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || !text.contains(DONE) {
            let log = match &life {
                Life::StandIn(cluster) => cluster.agent(self.at).stderr(),
                Life::Real(real) => real.1.stderr(),
            };
            return Err(format!("{}\n{text}{}\n{log}", self.name, String::from_utf8_lossy(&output.stderr)));
        }
        let rows = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let mut driven = Driven::default();
        for cells in rows {
            match cells[..] {
                ["lifecycle", count] => driven.lifecycle = count.parse().unwrap(),
                ["public", count] => driven.public = count.parse().unwrap(),
                ["row", method, about, result] => {
                    driven.rows.push([method, about, result].map(str::to_owned));
                }
                _ => {}
            }
        }
        Ok(driven)
    }
}

/// What a script says of itself.
#[derive(Default)]
struct Driven {
    /// How many methods of the lifecycle there are.
    lifecycle: usize,
    /// How many public methods the SDK has.
    public: usize,
    /// Method, what it was asked for, what came of it.
    rows: Vec<[String; 3]>,
}

fn told(home: &Home, rpc_port: u16) -> Value {
    json!({
        "ip": home.ip,
        "port": home.port,
        "mysql_port": home.mysql_port,
        "rpc_port": rpc_port,
        "home": home.path,
    })
}

/// For each method what came of it in which worlds; methods outside the lifecycle are told by the reason.
type Table = BTreeMap<(String, String), BTreeSet<usize>>;

/// `1-3 7` for 1, 2, 3, 7.
fn spans(numbers: &BTreeSet<usize>) -> String {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => spans.push((*number, *number)),
        }
    }
    let told = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    spans.into_iter().map(told).collect::<Vec<_>>().join(" ")
}

fn shown(table: &Table, lifecycle: &BTreeSet<String>) -> String {
    let mut lines = vec![format!("the SDK in {} worlds:", WORLDS.len())];
    lines
        .extend(WORLDS.iter().enumerate().map(|(number, world)| format!("{:>3} {}", number + 1, world.name)));
    lines.push(format!("{:<45} {:<12} result", "method", "worlds"));
    for ((method, result), worlds) in table {
        let worlds = spans(worlds);
        let place = if lifecycle.contains(method) { "" } else { " (outside the lifecycle)" };
        lines.push(format!("{method:<45} {worlds:<12} {result}{place}"));
    }
    lines.join("\n")
}

/// Most of a call that waits is the SDK's pause between two looks, so all worlds go on at the same time.
#[test]
fn every_method_of_the_sdk_does_what_it_does_with_obshell() {
    let dir = tempfile::Builder::new().prefix("obpilot-sdk-").tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ours");
    let driven: Vec<Driven> = std::thread::scope(|scope| {
        let (dir, authority) = (dir.path(), &authority);
        let begin = |(number, world): (usize, &'static World)| {
            scope.spawn(move || world.drive(dir, number + 1, authority))
        };
        let threads: Vec<_> = WORLDS.iter().enumerate().map(begin).collect();
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err().cloned()).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
        outcomes.into_iter().flatten().collect()
    });
    let methods = |driven: &Driven| driven.rows.iter().map(|[method, ..]| method.clone()).collect();
    // The last world asks nothing else.
    let lifecycle: BTreeSet<String> = methods(&driven[WORLDS.len() - 1]);
    assert_eq!(lifecycle.len(), driven[0].lifecycle);
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let mut table = Table::new();
    for (number, world) in driven.iter().enumerate() {
        let here: BTreeSet<String> = methods(world);
        assert!(here.is_superset(&lifecycle), "{}: {:?}", WORLDS[number].name, &lifecycle - &here);
        asked.extend(here);
        for [method, about, result] in &world.rows {
            let key = if lifecycle.contains(method) { method } else { about };
            table.entry((key.clone(), result.clone())).or_default().insert(number + 1);
        }
    }
    assert_eq!(asked.len(), driven[0].public, "methods of the SDK without a row");
    println!("{}", shown(&table, &lifecycle));
}

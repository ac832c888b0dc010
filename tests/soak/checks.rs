//! What must be true of a cluster at rest, whatever was done to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::figures::{Figures, slope_per_minute};
use crate::journal::Journal;
use crate::leftovers;
use crate::logs::Logs;
use crate::promises;
use crate::rest;
use crate::rig::Cluster;
use crate::world::World;

/// What an agent sees of its server it has seen after so long.
const SEEN: Duration = Duration::from_secs(20);

/// How many copies of homes are kept.
const KEPT_MAX: usize = 3;

/// What SQLite keeps of pages fills up with the store, most of it in the first minutes: they are not judged.
const WARM: Duration = Duration::from_secs(8 * 60);

/// More of it in the end than in the middle of the run is a leak.
const HELD_MORE: u64 = 1 << 20;

/// Fewer looks than these say nothing about what is usual.
const LOOKS_MIN: usize = 30;

/// An agent at rest takes no more than this, ever; what it maps of its executable is not counted.
const ANONYMOUS_MAX: u64 = 48 << 20;
/// Nor holds more; the rest is kept by its allocator.
const HELD_MAX: u64 = 16 << 20;
const DESCRIPTORS_MAX: usize = 160;
const THREADS_MAX: usize = 40;
/// Of one task with its parts, on the average: what a retried order of three zones may need, with room.
const EVENTS_PER_TASK_MAX: i64 = 1_500;

#[derive(Debug)]
pub(crate) struct Checker {
    seed: u64,
    begun: Instant,
    journal: Journal,
    logs: Logs,
    /// By host, one for each rest.
    figures: Vec<Vec<Figures>>,
    /// By host: it was told.
    is_too_much: Vec<bool>,
    files: leftovers::Names,
    copies: usize,
    told: usize,
    passed: usize,
}

impl Checker {
    pub(crate) fn new(cluster: &Cluster, seed: u64) -> Self {
        let logs = cluster.homes.iter().map(|home| home.path.with_extension("log")).collect();
        Self {
            seed,
            begun: Instant::now(),
            journal: Journal::of(cluster),
            logs: Logs::of(logs),
            figures: vec![Vec::new(); cluster.homes.len()],
            is_too_much: vec![false; cluster.homes.len()],
            files: leftovers::names(cluster),
            copies: 0,
            told: 0,
            passed: 0,
        }
    }

    pub(crate) fn last(&self) -> Vec<Figures> {
        self.figures.iter().filter_map(|all| all.last().copied()).collect()
    }

    pub(crate) fn kept(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("build/soak/seed-{}", self.seed))
    }

    /// After a burst.
    pub(crate) async fn at_rest(&mut self, cluster: &Cluster, world: &World, chance: &mut Chance) {
        let is_settled = rest::settle(world).await;
        self.everywhere(cluster, world).await;
        if is_settled {
            rest::waits_for_somebody(world).await;
        }
        self.promises(world).await;
        if chance.percent(75) || !is_settled {
            rest::start_all(world, chance).await;
            rest::settle(world).await;
            everything_serves(cluster, world).await;
            if world.burst().is_multiple_of(4) {
                rest::clean_up(world, chance).await;
                rest::start_all(world, chance).await;
                everything_serves(cluster, world).await;
            }
            self.everywhere(cluster, world).await;
        }
        self.look(cluster, world).await;
        self.keep(world);
    }

    async fn everywhere(&mut self, cluster: &Cluster, world: &World) {
        for host in 0..cluster.homes.len() {
            one_lock_one_holder(world, host).await;
            one_server(cluster, world, host).await;
        }
        for line in self.logs.unexplained() {
            world.violate(line);
        }
    }

    /// The tasks of this burst, as everybody shows them, and what became of what they promised.
    async fn promises(&mut self, world: &World) {
        self.journal.read_on();
        for (host, at) in world.take_killed() {
            self.journal.killed(host, at);
        }
        for made in world.of_burst(world.burst()) {
            let mut shown = Vec::new();
            for door in &world.doors {
                shown.push(world.task(door, &made.id, "show_details=true").await);
            }
            let Some(dag) = shown[0].clone() else {
                world.violate(format!("{} is not known at host 1: {}", made.id, made.words));
                continue;
            };
            for (host, other) in shown.iter().enumerate().filter(|(_, other)| **other != shown[0]) {
                let other = other.as_ref().map(Value::to_string);
                world.violate(format!("shown otherwise at host {}:\n{dag}\n{other:?}", host + 1));
            }
            world.count("tasks ended as", dag["obpilot"]["state"].as_str().unwrap_or("?"));
            if let Some(text) = promises::broken(&self.journal, &made, &dag) {
                world.violate(format!("{text}\n{}", crate::rig::told(&dag)));
            }
            self.passed += 1;
        }
    }

    /// Figures, and stores that hold together.
    async fn look(&mut self, cluster: &Cluster, world: &World) {
        for (host, home) in cluster.homes.iter().enumerate() {
            let Some(held) = world.held(host).await else {
                world.violate(format!("host {} does not tell what it holds", host + 1));
                continue;
            };
            let figures = Figures::of(self.begun.elapsed(), cluster.agent(host).pid(), held, &home.path);
            self.figures[host].push(figures);
            let is_too_much = figures.anonymous > ANONYMOUS_MAX
                || figures.held > HELD_MAX
                || figures.descriptors > DESCRIPTORS_MAX
                || figures.threads > THREADS_MAX
                || figures.events > (figures.tasks + 10) * EVENTS_PER_TASK_MAX;
            // Once a host: what is not given back is too much the next time as well.
            if is_too_much && !std::mem::replace(&mut self.is_too_much[host], true) {
                world.violate(format!("host {} takes {figures:?}", host + 1));
            }
        }
        let host = world.burst() as usize % cluster.homes.len();
        let check = tokio::task::block_in_place(|| cluster.homes[host].cli(&["store", "check"]));
        world.count("store check", if check.status.success() { "done" } else { "failed" });
        if !check.status.success() {
            world.violate(format!(
                "store check of host {}: {}",
                host + 1,
                String::from_utf8_lossy(&check.stderr)
            ));
        }
    }

    /// The homes as they are now, when something new is wrong.
    fn keep(&mut self, world: &World) {
        if world.violations() == self.told || self.copies == KEPT_MAX {
            return;
        }
        (self.told, self.copies) = (world.violations(), self.copies + 1);
        let root = world.homes[0].parent().unwrap();
        std::fs::create_dir_all(self.kept()).unwrap();
        let to = self.kept().join(format!("burst-{}", world.burst()));
        let copied = std::process::Command::new("cp").arg("-a").arg(root).arg(&to).status().unwrap();
        println!("kept in {} ({copied})", to.display());
    }

    /// Everything is stopped, and nothing is left.
    pub(crate) async fn at_the_end(&mut self, cluster: &mut Cluster, world: &World) {
        self.growth(world);
        let mut chance = Chance::of(self.seed, u64::MAX, 0);
        rest::clean_up(world, &mut chance).await;
        rest::start_all(world, &mut chance).await;
        rest::settle(world).await;
        // Pruning comes with a start of the agent: what is kept then is what the setting says.
        for host in 0..cluster.homes.len() {
            leftovers::ends_well(cluster, world, host);
            tokio::task::block_in_place(|| cluster.start(host));
        }
        leftovers::pruned(cluster, world).await;
        let body = json!({ "scope": { "type": "GLOBAL" }, "terminate": true });
        let made =
            world.ask("stop at the end", &world.doors[0], "POST", "/api/v1/ob/stop", Some(&body)).await;
        if made.is_none_or(|answer| answer.status >= 300) || !rest::settle(world).await {
            world.violate("not everything was stopped at the end".to_owned());
        }
        for host in 0..cluster.homes.len() {
            leftovers::ends_well(cluster, world, host);
        }
        leftovers::nothing(cluster, world, &self.files);
        for line in self.logs.unexplained() {
            world.violate(line);
        }
        self.keep(world);
    }

    /// Whether the agent that was never ended takes more and more.
    fn growth(&self, world: &World) {
        let points: Vec<_> = self.measured(world.spared).collect();
        if points.len() < LOOKS_MIN {
            println!("too short to tell whether the agent that was never ended takes more and more");
            return;
        }
        // The least of the first and of the last third: connections and requests come and go.
        let third = points.len() / 3;
        for (name, more, value) in [
            ("bytes held", HELD_MORE, (|one| one.held) as fn(&Figures) -> u64),
            ("descriptors", 3, |one| one.descriptors as u64),
            ("threads", 3, |one| one.threads as u64),
        ] {
            let least = |part: &[Figures]| part.iter().map(value).min().unwrap_or(0);
            let (first, last) = (least(&points[..third]), least(&points[points.len() - third..]));
            println!("{name} at rest, the least: {first} in the beginning, {last} in the end");
            if last > first + more {
                world.violate(format!("{name} at rest: {first} in the beginning, {last} in the end"));
            }
        }
    }

    /// Of a host, when it is warm.
    fn measured(&self, host: usize) -> impl Iterator<Item = Figures> + '_ {
        self.figures[host].iter().copied().filter(|one| one.at > WARM)
    }

    /// The figures of all hosts in the end, and what the logs warned of.
    pub(crate) fn told(&self) {
        println!(
            "\n{:<6} {:>9} {:>9} {:>10} {:>10} {:>9} {:>8} {:>5} {:>8} {:>10} {:>7} {:>8}",
            "host",
            "rss last",
            "rss max",
            "anon first",
            "anon last",
            "held last",
            "KiB/min",
            "fds",
            "threads",
            "store KiB",
            "tasks",
            "events"
        );
        for (host, all) in self.figures.iter().enumerate() {
            let (Some(first), Some(last)) = (all.first(), all.last()) else { continue };
            let points: Vec<_> =
                self.measured(host).map(|one| (one.at.as_secs_f64(), one.held as f64)).collect();
            let slope = if points.len() > 2 { slope_per_minute(&points) / 1024.0 } else { 0.0 };
            println!(
                "{:<6} {:>9} {:>9} {:>10} {:>10} {:>9} {:>8.1} {:>5} {:>8} {:>10} {:>7} {:>8}",
                host + 1,
                last.resident >> 10,
                all.iter().map(|one| one.resident).max().unwrap_or(0) >> 10,
                first.anonymous >> 10,
                last.anonymous >> 10,
                last.held >> 10,
                slope,
                last.descriptors,
                last.threads,
                last.store >> 10,
                last.tasks,
                last.events
            );
        }
        println!(
            "\n{} tasks were looked at on all hosts; journal of the stand-ins {} KiB, {} lives of servers",
            self.passed,
            self.journal.bytes() >> 10,
            self.journal.lives.len()
        );
        for (words, times) in &self.logs.said {
            println!("{times:>7}  {words}");
        }
    }
}

/// An agent answers; whoever holds its lock is there and is not over.
async fn one_lock_one_holder(world: &World, host: usize) {
    let door = &world.doors[host];
    let answer = world.ask("look", door, "GET", "/api/v1/status", None).await;
    let Some(answer) = answer.filter(|answer| answer.status == 200) else {
        world.violate(format!("host {} does not answer at rest", host + 1));
        return;
    };
    if world
        .ask("look", &world.sealed[host], "GET", "/api/v1/ob/info", None)
        .await
        .is_none_or(|a| a.status != 200)
    {
        world.violate(format!("host {} does not let in who knows the password", host + 1));
    }
    let status = answer.json()["data"].clone();
    let holder = status["obpilot"]["heldBy"]["id"].as_str();
    if status["underMaintenance"] != json!(holder.is_some()) {
        world.violate(format!("host {} is held by nobody: {status}", host + 1));
    }
    let Some(holder) = holder else { return };
    match world.task(door, holder, "show_details=false").await {
        None => world.violate(format!("host {} is held by {holder}, which nobody knows", host + 1)),
        Some(dag) if dag["obpilot"]["finished"] == json!(true) => {
            world.violate(format!("host {} is held by what is over: {dag}", host + 1));
        }
        Some(_) => {}
    }
}

/// One process at most, and the one that the agent knows.
async fn one_server(cluster: &Cluster, world: &World, host: usize) {
    let begun = Instant::now();
    loop {
        let pids = cluster.database_pids(host);
        if pids.len() > 1 {
            world.violate(format!("host {} has several servers: {pids:?}", host + 1));
            return;
        }
        let answer = world.ask("look", &world.doors[host], "GET", "/api/v1/status", None).await;
        let server =
            answer.map(|answer| answer.json()["data"]["obpilot"]["server"].clone()).unwrap_or_default();
        if server["pid"].as_i64() == pids.first().map(|pid| i64::from(*pid)) {
            return;
        }
        if begun.elapsed() > SEEN {
            world.violate(format!("host {} runs {pids:?} and its agent knows {server}", host + 1));
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// After a start of everything: every server runs, and is in service.
async fn everything_serves(cluster: &Cluster, world: &World) {
    let begun = Instant::now();
    loop {
        let running = cluster.running();
        let answer = world.ask("look", &world.doors[0], "GET", "/api/v1/obcluster/info", None).await;
        let info = answer.map(|answer| answer.json()["data"].clone()).unwrap_or_default();
        let zones = info["zones"].as_array().into_iter().flatten();
        let servers: Vec<_> = zones
            .flat_map(|zone| zone["servers"].as_array().into_iter().flatten())
            .map(|server| {
                (server["status"].as_str().unwrap_or("?").to_owned(), server["stop_time"].to_string())
            })
            .collect();
        let all_serve = servers.len() == running.len()
            && servers.iter().all(|(status, stopped)| status == "RUNNING" && stopped == "null");
        if all_serve && running.iter().all(|runs| *runs) {
            return;
        }
        if begun.elapsed() > SEEN {
            world.violate(format!(
                "after a start of everything {running:?} run, and the cluster says {servers:?}"
            ));
            return;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

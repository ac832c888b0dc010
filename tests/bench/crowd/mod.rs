//! Many agents in one process: each with its own store on the disk, its own engine and participant; servers that start at
//! once; messages that are handed over in memory. One of them coordinates a GLOBAL start of all.
//!
//! The process is one, the parts are told apart by threads: the coordinating agent has a runtime and a writer of its own, all
//! others share another runtime. Its CPU time is that of its threads; memory is that of the whole process.

mod bare;
mod host;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use futures_util::future::{BoxFuture, join_all};
use obpilot::clock;
use obpilot::cluster::{AgentState, Change, Keep, Ledger, Members, Secrets, Wanted};
use obpilot::config::EngineKind;
use obpilot::engine::port::{Archive as _, Stamp};
use obpilot::engine::{DagState, Handle, Submission};
use obpilot::error::{Code, Error, Result};
use obpilot::flow::catalog::{About, Limits, Ports, register_all};
use obpilot::flow::handshake::Params;
use obpilot::flow::keeper::Keeper;
use obpilot::flow::participant::Participant;
use obpilot::flow::peers::{Ask, Operation, Peers};
use obpilot::flow::start;
use obpilot::flow::trust::NoTrust;
use obpilot::model::{AgentAddr, Identity, Member, Scope};
use obpilot::store::{Store, Written};
use obpilot::tasks::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use self::host::{Host, Shut};
use crate::measure::{Watched, median};
use crate::table::{Budget, Figure, Line, Table};
use crate::{Effort, share};

const COORDINATOR: &str = "coordinator";

/// What the other process is told, and what it tells.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    agents: usize,
    starts: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Told {
    starts: Vec<Start>,
    /// The process with all agents, idle, before the first start; and the most of it until the last one.
    resident_idle: u64,
    resident_most: u64,
    threads: usize,
}

/// One start.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Start {
    micros: u64,
    bare_micros: u64,
    coordinator_cpu_micros: u64,
    coordinator_commits: u64,
    coordinator_writes: u64,
    commits: u64,
    messages: u64,
    /// Name and time of each stage of the main DAG.
    stages: Vec<(String, u64)>,
}

pub(crate) async fn measure(effort: Effort, table: &mut Table) {
    table.section("many agents in one process");
    let counts: &[usize] = effort.pick(&[10, 30, 100, 300], &[10, 30, 100, 300, 1_000]);
    let mut points = Vec::new();
    for agents in counts {
        let told: Told = share::of("crowd", Job { agents: *agents, starts: effort.pick(3, 5) }).await;
        let of = |part: fn(&Start) -> u64| {
            median(told.starts.iter().map(|start| Duration::from_micros(part(start))).collect())
        };
        let number = |part: fn(&Start) -> u64| u64::try_from(of(part).as_micros()).unwrap();
        let whole = of(|start| start.micros);
        let line = Line::time(format!("{agents} agents: GLOBAL start, submitted to SUCCEED"), whole)
            .beside(Figure::Time(of(|start| start.bare_micros)));
        let budget = Budget::AtMost(Figure::Time(Duration::from_secs(1)));
        table.line(if *agents == 100 { line.within(budget) } else { line });
        for (at, (name, _)) in told.starts[0].stages.iter().enumerate() {
            let times = told.starts.iter().map(|start| Duration::from_micros(start.stages[at].1));
            table.line(Line::time(format!("    {name}"), median(times.collect())));
        }
        table.line(Line::time("  CPU of the coordinator", of(|start| start.coordinator_cpu_micros)));
        let writes = number(|start| start.coordinator_writes);
        let commits = number(|start| start.coordinator_commits);
        table.line(Line::of("  commits of the coordinator", Figure::Count(commits)));
        table.line(Line::of("  writes and lines in them", Figure::Count(writes)));
        let all = number(|start| start.commits) as f64;
        table.line(Line::of("  commits per agent", Figure::Plain(all / *agents as f64)));
        let messages = number(|start| start.messages) as f64;
        table.line(Line::of("  messages per agent", Figure::Plain(messages / *agents as f64)));
        table.line(Line::of("  memory of the process, idle", Figure::Bytes(told.resident_idle)));
        table.line(Line::of("  the most of it during the starts", Figure::Bytes(told.resident_most)));
        points.push((*agents as f64, whole, of(|start| start.coordinator_cpu_micros)));
    }
    growth(&points, table);
}

/// Linear growth is seen as that within what the exponents of several runs scatter.
const SCATTER: f64 = 1.15;

fn growth(points: &[(f64, Duration, Duration)], table: &mut Table) {
    let slope = |of: fn(&(f64, Duration, Duration)) -> Duration| {
        let logs: Vec<_> = points.iter().map(|point| (point.0.ln(), of(point).as_secs_f64().ln())).collect();
        let count = logs.len() as f64;
        let (x, y) = logs.iter().fold((0.0, 0.0), |sum, log| (sum.0 + log.0 / count, sum.1 + log.1 / count));
        let above: f64 = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum();
        let below: f64 = logs.iter().map(|log| (log.0 - x).powi(2)).sum();
        Figure::Plain(above / below)
    };
    let mut exponent = |what: &str, slope: Figure| {
        let linear = Figure::Plain(1.0);
        let line = Line::of(format!("growth of {what}, exponent, beside a linear one"), slope);
        table.line(line.beside(linear).within(Budget::RatioAtMost(SCATTER)));
    };
    exponent("the whole", slope(|point| point.1));
    exponent("the coordinator's CPU", slope(|point| point.2));
    let ends = [points[0], points[points.len() - 1]];
    let more = ends[1].1.saturating_sub(ends[0].1).div_f64(ends[1].0 - ends[0].0);
    table.line(Line::time("each agent more", more));
}

/// The process that has them all.
pub(crate) async fn share(job: Value) -> Value {
    let Job { agents, starts } = serde_json::from_value(job).unwrap();
    let told = tokio::task::spawn_blocking(move || Crowd::new(agents).told(starts)).await.unwrap();
    json!(told)
}

/// All agents, the coordinator first.
struct Crowd {
    agents: Vec<Arc<Agent>>,
    coordinating: Runtime,
    others: Runtime,
    /// Ids of the threads that the coordinator's store has started.
    writers: Vec<String>,
    messages: Arc<AtomicU64>,
    folder: tempfile::TempDir,
}

struct Agent {
    own: AgentAddr,
    host: Host,
    store: Store,
    ledger: Ledger,
    engine: Handle,
    participant: Participant,
}

impl Crowd {
    fn new(count: usize) -> Self {
        allow_many_files();
        let runtime = |name: &str| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().thread_name(name).build().unwrap()
        };
        let (coordinating, others) = (runtime(COORDINATOR), runtime("others"));
        let folder = crate::engine::folder();
        let members: Members = (0..count).map(member).collect();
        let (messages, wires) = (Arc::<AtomicU64>::default(), Arc::<OnceLock<Wires>>::default());
        let before = threads();
        let mut agents: Vec<Arc<Agent>> = Vec::with_capacity(count);
        let mut writers = Vec::new();
        for own in members.agents() {
            let dir = folder.path().join(agents.len().to_string());
            std::fs::create_dir(&dir).unwrap();
            let runtime = if agents.is_empty() { &coordinating } else { &others };
            let _inside = runtime.enter();
            agents.push(Arc::new(Agent::new(
                own,
                &members,
                Utf8Path::from_path(&dir).unwrap(),
                &messages,
                &wires,
            )));
            if agents.len() == 1 {
                writers = threads().into_iter().filter(|id| !before.contains(id)).collect();
            }
        }
        let ends = agents.iter().map(|agent| {
            let is_first = agent.own == agents[0].own;
            let runtime = if is_first { coordinating.handle() } else { others.handle() };
            (agent.own, (Arc::clone(agent), runtime.clone()))
        });
        assert!(wires.set(ends.collect()).is_ok(), "it was empty");
        Self { agents, coordinating, others, writers, messages, folder }
    }

    fn told(self, starts: usize) -> Told {
        let own = Watched::own();
        let resident_idle = own.resident();
        let mut done: Vec<Start> = Vec::new();
        for _ in 0..starts {
            done.push(self.start());
        }
        let (resident_most, threads) = (own.most_resident(), own.threads());
        for start in &mut done {
            let dir = Utf8Path::from_path(self.folder.path()).unwrap();
            let each = (start.commits - start.coordinator_commits).div_ceil(self.agents.len() as u64 - 1);
            let (count, messages) = (self.agents.len(), start.messages);
            let took = bare::run(dir, &self.others, count, start.coordinator_commits, each, messages);
            start.bare_micros = micros(took);
        }
        for agent in &self.agents {
            self.others.block_on(agent.store.close());
        }
        self.coordinating.shutdown_background();
        self.others.shutdown_background();
        Told { starts: done, resident_idle, resident_most, threads }
    }

    /// Everything stopped, then started.
    fn start(&self) -> Start {
        self.others.block_on(join_all(self.agents.iter().map(|agent| agent.be_stopped())));
        let coordinator = Arc::clone(&self.agents[0]);
        let before = self.written();
        let cpu = self.coordinator_cpu();
        let messages = self.messages.load(Ordering::Relaxed);
        let agents: Vec<_> = self.agents.iter().map(|agent| agent.own).collect();
        let begun = Instant::now();
        let ended = self.coordinating.block_on(self.coordinating.spawn(async move {
            let params = Params {
                operation: Operation::Start,
                scope: Scope::Global,
                agents,
                force: Vec::new(),
                actor: "bench".to_owned(),
                is_emergency: false,
                is_zone_stop: false,
                remarks: Vec::new(),
            };
            let template = start::template(coordinator.own, &params);
            let submission = Submission { template, actor: "bench".to_owned(), key: None };
            let dag = coordinator.engine.submit(submission).await.unwrap();
            coordinator.engine.until(dag.id, |snapshot| snapshot.state.is_at_rest()).await.unwrap()
        }));
        let took = begun.elapsed();
        let ended = ended.unwrap();
        assert_eq!(ended.state, DagState::Succeeded, "{ended:?}");
        assert!(self.agents.iter().all(|agent| agent.host.is_running()), "all were started");
        let coordinator_cpu = self.coordinator_cpu().saturating_sub(cpu);
        let after = self.written();
        let stages = ended.nodes.iter().zip(&ended.definition.nodes).map(|(node, def)| {
            let begun = node.sub_tasks.iter().filter_map(|sub| sub.started_at).min().unwrap();
            let ended = node.sub_tasks.iter().filter_map(|sub| sub.ended_at).max().unwrap();
            (def.name.clone(), micros(ended.duration_since(begun).try_into().unwrap()))
        });
        let all = |written: &[Written]| written.iter().map(|written| written.groups).sum::<u64>();
        Start {
            micros: micros(took),
            bare_micros: 0,
            coordinator_cpu_micros: micros(coordinator_cpu),
            coordinator_commits: after[0].groups - before[0].groups,
            coordinator_writes: after[0].writes - before[0].writes,
            commits: all(&after) - all(&before),
            messages: self.messages.load(Ordering::Relaxed) - messages,
            stages: stages.collect(),
        }
    }

    fn written(&self) -> Vec<Written> {
        self.agents.iter().map(|agent| agent.store.written()).collect()
    }

    /// Of its runtime's threads, those for reads included, and of its writer.
    fn coordinator_cpu(&self) -> Duration {
        let is_its = |id: &String| {
            let name = std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
            name.trim() == COORDINATOR || self.writers.contains(id)
        };
        let of = |id: String| -> u64 {
            let text = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).unwrap_or_default();
            text.split_whitespace().next().map_or(0, |nanos| nanos.parse().unwrap())
        };
        Duration::from_nanos(threads().into_iter().filter(is_its).map(of).sum())
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros().try_into().unwrap()
}

fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.map(|task| task.unwrap().file_name().into_string().unwrap()).collect()
}

/// A store has three files open, and as many for each of its readers.
fn allow_many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// Three zones, as clusters have them.
fn member(number: usize) -> Member {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    Member {
        agent: AgentAddr::new([10, 0, high, low].into(), 2886),
        zone: format!("zone{}", number % 3 + 1).parse().unwrap(),
        identity: Identity::ClusterAgent,
        version: String::new(),
        os: String::new(),
        architecture: String::new(),
        home_path: "/home/admin/obpilot".to_owned(),
        sql_port: 2881,
        rpc_port: 2882,
        public_key: String::new(),
        peer_key: String::new(),
    }
}

const LIMITS: Limits = Limits {
    start: Duration::from_secs(120),
    stop_grace: Duration::from_secs(10),
    freeze: Duration::from_secs(60),
    quorum: Duration::from_secs(120),
    prepare: Duration::from_secs(60),
    silence: Duration::from_secs(60),
    parallel: 10,
};

impl Agent {
    fn new(
        own: AgentAddr,
        members: &Members,
        dir: &Utf8Path,
        messages: &Arc<AtomicU64>,
        wires: &Arc<OnceLock<Wires>>,
    ) -> Self {
        let (clock, (tasks, _failures)) = (clock::system(), Tasks::new());
        let store = Store::open(dir, Arc::clone(&clock), 1).unwrap();
        let archive = Arc::new(store.clone());
        let participant = Participant::new(own, archive.clone(), Arc::clone(&clock));
        let peers: Arc<dyn Peers> =
            Arc::new(Sender { messages: Arc::clone(messages), wires: Arc::clone(wires) });
        let mut state = AgentState::new(own, EngineKind::Observer, "/bin/observer".into());
        state.identity = Identity::ClusterAgent;
        state.zone = members.zone_of(own).cloned();
        state.members = members.clone();
        let keep = Arc::new(Paper(store.clone()));
        let ledger = Ledger::new(keep, Arc::clone(&clock), state, Secrets::default());
        let host = Host::new(members.clone());
        let ports = Ports {
            own,
            engine: EngineKind::Observer,
            process: Arc::new(host.clone()),
            sql: Arc::new(host.clone()),
            cluster: Arc::new(host.clone()),
            peers: Arc::clone(&peers),
            gate: Arc::new(Shut),
            sealer: Arc::new(Shut),
            trust: Arc::new(NoTrust),
            ledger: ledger.clone(),
            clock: Arc::clone(&clock),
            keeper: Keeper::new(peers, tasks.clone()),
            limits: LIMITS,
            about: About::default(),
        };
        let engine = Handle::new(own, archive, register_all(&ports), tasks, clock);
        participant.attach(engine.clone());
        Self { own, host, store, ledger, engine, participant }
    }

    /// As a stop leaves it.
    async fn be_stopped(&self) {
        self.host.stop_at_once();
        self.ledger.change(Change::ServerWanted(Wanted::Stopped), "bench").await.unwrap();
        assert!(self.store.holder().await.unwrap().is_none(), "no lock is left");
    }
}

/// The agent's document in its store, as an agent keeps it.
#[derive(Debug)]
struct Paper(Store);

impl Keep for Paper {
    fn save<'a>(
        &'a self,
        before: Option<&'a AgentState>,
        state: &'a AgentState,
        _: &'a Secrets,
        stamp: Stamp,
        what: Value,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let papers = state.papers(before)?;
            self.0.save_documents(papers, Vec::new(), stamp, what).await
        })
    }
}

/// Every agent, and where its messages are answered.
type Wires = HashMap<AgentAddr, (Arc<Agent>, tokio::runtime::Handle)>;

/// The way to all.
struct Sender {
    messages: Arc<AtomicU64>,
    wires: Arc<OnceLock<Wires>>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl Peers for Sender {
    fn ask<'a>(&'a self, agent: AgentAddr, ask: &'a Ask, limit: Duration) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            self.messages.fetch_add(1, Ordering::Relaxed);
            let (receiver, runtime) = self.wires.get().unwrap().get(&agent).unwrap();
            let (receiver, ask) = (Arc::clone(receiver), ask.clone());
            let (reply, answer) = oneshot::channel();
            let _served = runtime.spawn(async move {
                drop(reply.send(receiver.participant.answer(&ask).await));
            });
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer.unwrap().expect("parts are all that is asked for"),
                Err(_) => Err(Error::new(Code::RpcRequestFailed, format!("{agent} does not answer in time"))),
            }
        })
    }
}

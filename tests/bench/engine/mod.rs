//! The engine and its store alone: durable transitions per second, beside a plain loop that writes the same rows; and how
//! long a start takes that finds many DAGs.
//!
//! A DAG here has six nodes of one step each; a step writes one or two lines and is done. A transition is an event of the
//! record (created, claimed, succeeded, …); lines are written beside them and not counted.

mod bare;
mod recovery;

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use obpilot::clock;
use obpilot::engine::port::Level;
use obpilot::engine::{Caps, Handle, Outcome, Registry, Step, StepCtx, StepSpec, Submission, Template};
use obpilot::error::Result;
use obpilot::model::AgentAddr;
use obpilot::store::{Store, Written};
use obpilot::tasks::Tasks;
use serde_json::json;
use tempfile::TempDir;

use crate::Effort;
use crate::table::{Budget, Figure, Line, Table};

pub(crate) use recovery::share;

const NODES: usize = 6;

#[derive(Debug)]
struct Quick;

impl Step for Quick {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "bench.quick", caps: Caps::of("TCBPX"), deadline: Duration::from_secs(600) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            ctx.log(Level::Info, "looked whether anything was to be done");
            if ctx.node() % 2 == 1 {
                ctx.log(Level::Info, "nothing was to be done, and nothing was done");
            }
            Outcome::with(json!({ "node": ctx.node() }))
        })
    }
}

pub(crate) async fn measure(effort: Effort, table: &mut Table) {
    table.section("the engine and its store");
    for (at_once, dags) in
        [(1, effort.pick(40, 200)), (10, effort.pick(400, 2_000)), (1_000, effort.pick(4_000, 20_000))]
    {
        transitions(at_once, dags, effort.pick(3, 5), table).await;
    }
    recovery::measure(effort, table).await;
}

/// What one run did, and in what time.
#[derive(Clone, Copy, Debug)]
struct Run {
    events: u64,
    written: Written,
    took: Duration,
    cpu: Duration,
    bare: Duration,
    bare_cpu: Duration,
}

impl Run {
    /// Of the rate of the bare loop.
    fn share(&self) -> f64 {
        self.bare.as_secs_f64() / self.took.as_secs_f64()
    }
}

/// At least so much of what the bare loop does.
const SHARE: f64 = 0.6;

/// Rounds at most, where the first few say that it is less: half a round may have had the machine for itself, and the other half not.
const ROUNDS_MAX: usize = 9;

async fn transitions(at_once: usize, dags: usize, rounds: usize, table: &mut Table) {
    let is_judged = at_once > 1;
    let mut runs = Vec::new();
    while runs.len() < rounds {
        runs.push(round(at_once, dags).await);
    }
    // By two, so that there is a middle.
    while is_judged && runs.len() < ROUNDS_MAX && middle(&mut runs).share() < SHARE {
        runs.push(round(at_once, dags).await);
        runs.push(round(at_once, dags).await);
    }
    let run = middle(&mut runs);
    let rate = |took: Duration| Figure::PerSecond(run.events as f64 / took.as_secs_f64());
    let each = |took: Duration| Figure::Time(took.div_f64(run.events as f64));
    let name =
        if at_once == 1 { "one DAG after another".to_owned() } else { format!("{at_once} DAGs at once") };
    let line = Line::of(format!("{name}: durable transitions"), rate(run.took)).beside(rate(run.bare));
    table.line(if is_judged { line.within(Budget::RatioAtLeast(SHARE)) } else { line });
    let group = run.written.writes as f64 / run.written.groups as f64;
    table.line(Line::of("  writes and lines in one commit", Figure::Plain(group)));
    table.line(Line::of("  CPU per transition", each(run.cpu)).beside(each(run.bare_cpu)));
}

/// The round whose share is the median. Its two halves were measured one after the other, so what slows the machine for longer
/// slows both.
fn middle(runs: &mut [Run]) -> Run {
    runs.sort_by(|one, other| one.share().total_cmp(&other.share()));
    runs[runs.len() / 2]
}

/// Ours, then the same rows by a plain loop, each in a new folder of the same disk.
async fn round(at_once: usize, dags: usize) -> Run {
    let (ours, plain) = (folder(), folder());
    let before = cpu();
    let (events, written, took) = run(path(&ours), at_once, dags).await;
    let cpu = cpu().saturating_sub(before);
    let group = written.writes.div_ceil(written.groups);
    let (bare, bare_cpu) = bare::run(path(&ours), path(&plain), usize::try_from(group).unwrap()).await;
    Run { events, written, took, cpu, bare, bare_cpu }
}

async fn run(dir: &Utf8Path, at_once: usize, dags: usize) -> (u64, Written, Duration) {
    let agent = Agent::new(dir, Quick);
    let begun = Instant::now();
    let one = |_| async {
        let dag = agent.engine.submit(submission("bench.quick")).await.unwrap();
        agent.engine.until(dag.id, |snapshot| snapshot.state.is_final()).await.unwrap();
    };
    stream::iter(0..dags).map(one).buffer_unordered(at_once).collect::<Vec<()>>().await;
    let took = begun.elapsed();
    let written = agent.store.written();
    agent.end().await;
    (count(dir, "SELECT count(*) FROM event WHERE kind <> 'log'"), written, took)
}

fn submission(step: &'static str) -> Submission {
    let mut template = Template::new("bench", "Do something", json!({ "what": "nothing" }));
    for stage in 1..=NODES {
        template = template.then(step, format!("Stage {stage}"), own());
    }
    Submission { template, actor: "bench".to_owned(), key: None }
}

fn own() -> AgentAddr {
    AgentAddr::new([127, 0, 0, 1].into(), 2886)
}

/// Store and engine, as an agent has them.
struct Agent {
    engine: Handle,
    store: Store,
    tasks: Tasks,
}

impl Agent {
    fn new(dir: &Utf8Path, step: impl Step + 'static) -> Self {
        let (clock, (tasks, _failures)) = (clock::system(), Tasks::new());
        let store = Store::open(dir, Arc::clone(&clock), 1).unwrap();
        let mut registry = Registry::default();
        registry.add(step);
        let engine = Handle::new(own(), Arc::new(store.clone()), registry, tasks.clone(), clock);
        Self { engine, store, tasks }
    }

    async fn end(self) {
        self.tasks.stop(Duration::from_secs(10)).await;
        self.store.close().await;
    }
}

/// How the names of folders begin.
pub(crate) const FOLDER: &str = "bench-";

pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix(FOLDER).tempdir_in(crate::build()).unwrap()
}

fn path(folder: &TempDir) -> &Utf8Path {
    Utf8Path::from_path(folder.path()).unwrap()
}

fn count(dir: &Utf8Path, sql: &str) -> u64 {
    let connection = rusqlite::Connection::open(dir.join("store.db")).unwrap();
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
}

/// Of this process, ended threads included.
fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()).try_into().unwrap())
    };
    micros(usage.user_time()) + micros(usage.system_time())
}

/// Rows and what is in them, as text that a plain loop can bind.
type Row = Vec<rusqlite::types::Value>;

fn rows(connection: &rusqlite::Connection, sql: &str) -> Vec<Row> {
    let mut select = connection.prepare(sql).unwrap();
    let columns = select.column_count();
    let found = select.query_map([], |row| (0..columns).map(|at| row.get(at)).collect()).unwrap();
    found.map(Result::unwrap).collect()
}

//! A start that finds many DAGs: the store is opened, and the engine takes up what is unfinished.
//!
//! The DAGs are copies, row by row, of one that the engine has made. Each start is a process of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use camino::Utf8Path;
use futures_util::future::BoxFuture;
use obpilot::engine::{Caps, Outcome, Step, StepCtx, StepSpec};
use obpilot::error::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Agent, Quick, folder, path, submission};
use crate::Effort;
use crate::measure::Watched;
use crate::share;
use crate::table::{Figure, Line, Table};

/// A step that runs until its agent ends, and tells that it has begun.
#[derive(Clone, Debug, Default)]
struct Endless {
    began: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

impl Step for Endless {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "bench.endless", caps: Caps::of("TCBPX"), deadline: Duration::from_secs(600) }
    }

    fn run<'a>(&'a self, _: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            self.began.fetch_add(1, Ordering::SeqCst);
            self.changed.notify_one();
            std::future::pending().await
        })
    }
}

impl Endless {
    async fn until_running(&self, count: usize) {
        while self.began.load(Ordering::SeqCst) < count {
            self.changed.notified().await;
        }
    }
}

/// What the other process is told, and what it tells.
#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    dir: String,
    unfinished: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Told {
    open_micros: u64,
    running_micros: u64,
    resident: u64,
}

pub(super) async fn measure(effort: Effort, table: &mut Table) {
    let counts: &[usize] = effort.pick(&[10, 1_000, 10_000], &[10, 1_000, 100_000]);
    for is_finished in [false, true] {
        for count in counts {
            let found = folder();
            make(path(&found), *count, is_finished).await;
            let unfinished = if is_finished { 0 } else { *count };
            let told: Told = share::of("engine", Ask { dir: path(&found).to_string(), unfinished }).await;
            let kind = if is_finished { "finished" } else { "unfinished" };
            let open = Duration::from_micros(told.open_micros);
            let running = Duration::from_micros(told.running_micros);
            table.line(Line::time(format!("start that finds {count} {kind} DAGs"), open + running));
            table.line(Line::time("  of it until the store is open", open));
            table.line(Line::of("  memory of the process then", Figure::Bytes(told.resident)));
        }
    }
}

/// The process that finds them.
pub(crate) async fn share(ask: Value) -> Value {
    let Ask { dir, unfinished } = serde_json::from_value(ask).unwrap();
    let step = Endless::default();
    let begun = Instant::now();
    let agent = Agent::new(Utf8Path::new(&dir), step.clone());
    let open = begun.elapsed();
    let taken = agent.engine.recover().await.unwrap();
    assert_eq!(taken, unfinished, "every unfinished DAG is taken up, and no other");
    step.until_running(unfinished).await;
    let running = begun.elapsed() - open;
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap();
    let resident = Watched::own().resident();
    json!(Told { open_micros: micros(open), running_micros: micros(running), resident })
}

async fn make(dir: &Utf8Path, count: usize, is_finished: bool) {
    if is_finished {
        let agent = Agent::new(dir, Quick);
        let dag = agent.engine.submit(submission("bench.quick")).await.unwrap();
        agent.engine.until(dag.id, |snapshot| snapshot.state.is_final()).await.unwrap();
        agent.end().await;
    } else {
        let step = Endless::default();
        let agent = Agent::new(dir, step.clone());
        agent.engine.submit(submission("bench.endless")).await.unwrap();
        step.until_running(1).await;
        agent.end().await;
    }
    multiply(dir, count);
}

/// So many of the one that is there.
fn multiply(dir: &Utf8Path, count: usize) {
    let connection = rusqlite::Connection::open(dir.join("store.db")).unwrap();
    let most = |table: &str| -> i64 {
        connection.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    let [dags, nodes, sub_tasks, events] = ["dag", "node", "sub_task", "event"].map(most);
    assert_eq!(dags, 1, "one is copied");
    let copies = |table: &str, columns: &str, changed: &str| {
        let sql = format!(
            "WITH RECURSIVE copy (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n + 1 < {count})
             INSERT INTO {table} ({columns}) SELECT {changed} FROM copy, {table} ORDER BY n, id"
        );
        connection.execute(&sql, []).unwrap();
    };
    connection.execute_batch("PRAGMA foreign_keys = OFF; BEGIN").unwrap();
    let dag = "revision, name, flow, definition, main_dag, is_maintenance, state, heading, operator, holds_lock, signals,
               is_finished, created_at, started_at, ended_at, actor";
    copies("dag", &format!("id, last_event, {dag}"), &format!("id + n, last_event + n * {events}, {dag}"));
    copies(
        "node",
        "id, dag_id, position, name, operator",
        &format!("id + n * {nodes}, dag_id + n, position, name, operator"),
    );
    let sub_task =
        "position, agent, state, operator, execute_times, started_at, ended_at, output, note, failure";
    copies(
        "sub_task",
        &format!("id, node_id, dag_id, {sub_task}"),
        &format!("id + n * {sub_tasks}, node_id + n * {nodes}, dag_id + n, {sub_task}"),
    );
    copies(
        "event",
        "id, dag_id, node_id, sub_task_id, at, kind, attempt, actor, body",
        &format!(
            "id + n * {events}, dag_id + n, node_id + n * {nodes}, sub_task_id + n * {sub_tasks}, at, kind, attempt, actor, body"
        ),
    );
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}

//! What it costs to operate many hosts: real agents and stand-ins of `observer`, all on this machine.
//!
//! The promise is about the whole, from the request to SUCCEED. What is left of it when no server was on its way stands beside
//! its floor ([`crate::floor`]): a server is on its way from its spawn until it serves (in a roll until it listens), and from the
//! signal until it has ended.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Effort;
use crate::floor::{self, Launch, Unit};
use crate::measure::median;
use crate::rig::Cluster;
use crate::spent::{Spent, Tally};
use crate::table::{Budget, Figure, Line, Table};

const HOSTS: [usize; 4] = [1, 3, 5, 15];

/// Of `decisions.md` §10, for three agents.
const START_BUDGET: Duration = Duration::from_millis(150);

/// One operation, from the request to SUCCEED.
#[derive(Debug)]
struct Run {
    whole: Duration,
    /// While a server was on its way.
    servers: Duration,
    spent: Spent,
    dag: Value,
}

impl Run {
    fn rest(&self) -> Duration {
        self.whole.saturating_sub(self.servers)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Start,
    Stop,
    Roll,
}

impl Operation {
    fn request(self, hosts: usize) -> (&'static str, Value) {
        let scope = json!({ "type": "GLOBAL" });
        match self {
            Self::Start => ("/api/v1/ob/start", json!({ "scope": scope })),
            Self::Stop => ("/api/v1/ob/stop", json!({ "scope": scope, "force": true })),
            // One zone has nobody to go on without it.
            Self::Roll => ("/api/v1/ob/restart", json!({ "scope": scope, "stopTheWorld": hosts < 3 })),
        }
    }

    fn name(self, hosts: usize) -> &'static str {
        match self {
            Self::Start => "GLOBAL start",
            Self::Stop => "GLOBAL stop",
            Self::Roll if hosts < 3 => "GLOBAL restart, all at once",
            Self::Roll => "rolling restart",
        }
    }

    /// When its servers are on their way, by the lines of their agents' records.
    fn servers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Start => &[("it runs as pid", "it serves")],
            Self::Stop => &[("killing process", "was killed by")],
            Self::Roll => &[("stopping process", "exited with"), ("starting:", "it listens")],
        }
    }

    async fn run(self, cluster: &Cluster) -> Run {
        let (target, body) = self.request(cluster.homes.len());
        let before = Tally::of(cluster).await;
        let begun = Instant::now();
        let dag = cluster.done(0, target, body).await;
        let whole = begun.elapsed();
        let spent = before.until(&Tally::of(cluster).await);
        let mut spans = Vec::new();
        for lines in self.servers() {
            spans.extend(spans_of(cluster, &dag, *lines).await);
        }
        Run { whole, servers: covered(spans), spent, dag }
    }
}

pub(crate) async fn measure(effort: Effort, table: &mut Table) {
    let rounds = effort.pick(3, 7);
    for hosts in HOSTS.into_iter().take(effort.pick(2, 4)) {
        table.section(&format!("orchestration, {hosts} agents"));
        let cluster = Cluster::new(hosts);
        let begun = Instant::now();
        cluster.form().await;
        table.line(Line::time("join, configure, init", begun.elapsed()));
        let launches = Launch::all_of(&cluster);
        let (mut starts, mut stops, mut rolls) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            stops.push(Operation::Stop.run(&cluster).await);
            starts.push(Operation::Start.run(&cluster).await);
            rolls.push(Operation::Roll.run(&cluster).await);
        }
        let unit = Unit::measured(folder(&cluster));
        for (operation, runs) in
            [(Operation::Start, &starts), (Operation::Stop, &stops), (Operation::Roll, &rolls)]
        {
            report(&cluster, operation, runs, unit, table);
        }
        stages(&starts, table);
        // The last thing that is done with this cluster: nobody's agent has started these.
        Operation::Stop.run(&cluster).await;
        let bare = tokio::task::spawn_blocking(move || floor::starts(&launches)).await.unwrap();
        let servers = median(starts.iter().map(|run| run.servers).collect());
        let line = Line::time("servers on their way in a start, beside the same started by nobody", servers);
        table.line(line.beside(Figure::Time(bare)));
        cluster.homes.iter().for_each(crate::rig::Home::kill_database);
    }
}

fn folder(cluster: &Cluster) -> &std::path::Path {
    cluster.homes[0].path.parent().unwrap()
}

fn report(cluster: &Cluster, operation: Operation, runs: &[Run], unit: Unit, table: &mut Table) {
    let of = |part: fn(&Run) -> Duration| median(runs.iter().map(part).collect());
    let hosts = cluster.homes.len();
    let whole = Line::time(format!("{}, request to SUCCEED", operation.name(hosts)), of(|run| run.whole));
    let is_budgeted = operation == Operation::Start && hosts == 3;
    table.line(if is_budgeted { whole.within(Budget::AtMost(Figure::Time(START_BUDGET))) } else { whole });
    table.line(Line::time("  of it while servers were on their way", of(|run| run.servers)));
    let middle = middle(runs);
    let floors = (0..3).map(|_| floor::work(folder(cluster), &middle.spent.agents)).collect();
    let rest = Line::time("  the rest, beside all its commits and messages", of(Run::rest));
    table.line(rest.beside(Figure::Time(median(floors))));
    let Spent { in_commits, in_messages, messages, in_sql, statements, cpu, .. } = middle.spent;
    let commits = middle.spent.commits();
    let times = |unit: Duration, count: u64| Figure::Time(unit * u32::try_from(count).unwrap());
    table.line(
        Line::time(format!("    {commits} commits of all agents"), in_commits)
            .beside(times(unit.commit, commits)),
    );
    table.line(
        Line::time(
            format!("    {messages} messages of all agents, not counting watches and SQL for others"),
            in_messages,
        )
        .beside(times(unit.message, messages)),
    );
    table.line(Line::of(
        format!("    {messages} messages sealed and opened, reckoned"),
        times(unit.sealing, messages),
    ));
    table.line(Line::time(format!("    {statements} times SQL of all agents"), in_sql));
    table.line(Line::time("    CPU of all agents", cpu));
}

/// The run whose rest is in the middle.
fn middle(runs: &[Run]) -> &Run {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    sorted.sort_by_key(|run| run.rest());
    sorted[sorted.len() / 2]
}

fn stages(starts: &[Run], table: &mut Table) {
    let took = |node: &Value| {
        let at = |name: &str| -> jiff::Timestamp { node[name].as_str().unwrap().parse().unwrap() };
        between(at("start_time"), at("end_time"))
    };
    let nodes = |run: &Run| run.dag["nodes"].as_array().unwrap().clone();
    for (number, node) in nodes(&starts[0]).iter().enumerate() {
        let times = starts.iter().map(|run| took(&nodes(run)[number])).collect();
        table.line(Line::time(format!("  start: {}", node["name"].as_str().unwrap()), median(times)));
    }
}

/// The time that some spans cover, each moment once.
fn covered(mut spans: Vec<(jiff::Timestamp, jiff::Timestamp)>) -> Duration {
    spans.sort();
    let mut until = jiff::Timestamp::MIN;
    let mut all = Duration::ZERO;
    for (begin, end) in spans {
        all += between(begin.max(until), end.max(until));
        until = until.max(end);
    }
    all
}

fn between(begin: jiff::Timestamp, end: jiff::Timestamp) -> Duration {
    end.duration_since(begin).try_into().unwrap_or_default()
}

/// Of every host that took part: when the two lines were written.
async fn spans_of(
    cluster: &Cluster,
    main: &Value,
    (begin, end): (&str, &str),
) -> Vec<(jiff::Timestamp, jiff::Timestamp)> {
    let mut spans = Vec::new();
    for host in 0..cluster.homes.len() {
        let Some(lines) = lines_of(cluster, host, main).await else { continue };
        spans.push((time_of(&lines, begin), time_of(&lines, end)));
    }
    assert!(!spans.is_empty(), "no part of {} anywhere", main["id"]);
    spans
}

/// A host's own record of its part in a task, line by line; nothing when it had none.
async fn lines_of(cluster: &Cluster, host: usize, main: &Value) -> Option<Vec<Value>> {
    let records = cluster.door(host).get("/api/v1/task/dags/agent?show_details=true").await.data();
    let is_part = |dag: &&Value| {
        dag["additional_data"]["main_dag"] == main["id"] || dag["obpilot"]["partOf"] == main["id"]
    };
    let part = records["contents"].as_array().unwrap().iter().find(is_part).cloned()?;
    let mut lines = Vec::new();
    for node in part["nodes"].as_array().unwrap() {
        let sub_task = node["sub_tasks"][0]["id"].as_str().unwrap();
        let logs = cluster.door(host).get(&format!("/api/v1/task/sub_task/{sub_task}/logs")).await.data();
        lines.extend(logs["contents"].as_array().unwrap().clone());
    }
    Some(lines)
}

/// When the first line with this text was written. Their clocks are one clock here.
fn time_of(lines: &[Value], text: &str) -> jiff::Timestamp {
    let line = lines.iter().find(|line| line["log_content"].as_str().unwrap().contains(text));
    let line = line.unwrap_or_else(|| panic!("no '{text}' in {lines:?}"));
    line["create_time"].as_str().unwrap().parse().unwrap()
}

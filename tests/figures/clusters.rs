//! What it costs to operate many hosts: agents and stand-ins of `observer`, all on this machine.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{STARTS, median, millis, row};
use crate::rig::Cluster;

const HOSTS: [usize; 4] = [1, 3, 5, 15];

/// Where the time of one start went.
#[derive(Debug)]
struct Start {
    whole: Duration,
    /// From the first spawn of a stand-in until the last one that serves.
    servers: Duration,
    /// Name and time of each stage.
    stages: Vec<(String, Duration)>,
}

pub(super) async fn starts() {
    for hosts in HOSTS {
        let cluster = Cluster::new(hosts);
        let begun = Instant::now();
        cluster.form().await;
        row(&format!("{hosts} agents: join, configure, init with a stand-in"), millis(begun.elapsed()));
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            stop(&cluster).await;
            starts.push(start(&cluster).await);
        }
        report(hosts, &starts);
    }
}

fn report(hosts: usize, starts: &[Start]) {
    let of = |part: fn(&Start) -> Duration| millis(median(starts.iter().map(part).collect()));
    row(
        &format!("{hosts} agents: GLOBAL start, request to SUCCEED (median of {STARTS})"),
        of(|start| start.whole),
    );
    row("  of it the stand-ins, from the first spawn until the last one serves", of(|start| start.servers));
    row("  without them", of(|start| start.whole.saturating_sub(start.servers)));
    for (number, (name, _)) in starts[0].stages.iter().enumerate() {
        let times = starts.iter().map(|start| start.stages[number].1).collect();
        row(&format!("    {name}"), millis(median(times)));
    }
}

async fn stop(cluster: &Cluster) {
    let body = json!({ "scope": { "type": "GLOBAL" }, "force": true });
    cluster.done(0, "/api/v1/ob/stop", body).await;
}

async fn start(cluster: &Cluster) -> Start {
    let begun = Instant::now();
    let dag = cluster.start_all(0).await;
    let whole = begun.elapsed();
    let at = |value: &Value| -> jiff::Timestamp { value.as_str().unwrap().parse().unwrap() };
    let stages = dag["nodes"].as_array().unwrap().iter().map(|node| {
        let took = at(&node["end_time"]).duration_since(at(&node["start_time"]));
        (node["name"].as_str().unwrap().to_owned(), took.try_into().unwrap())
    });
    Start { whole, servers: servers_time(cluster, &dag).await, stages: stages.collect() }
}

/// From the agents' own records; their clocks are one clock here.
async fn servers_time(cluster: &Cluster, main: &Value) -> Duration {
    let mut span: Option<(jiff::Timestamp, jiff::Timestamp)> = None;
    for host in 0..cluster.homes.len() {
        let records = cluster.door(host).get("/api/v1/task/dags/agent?show_details=true").await.data();
        let is_part = |dag: &&Value| {
            dag["additional_data"]["main_dag"] == main["id"] || dag["obpilot"]["partOf"] == main["id"]
        };
        let Some(part) = records["contents"].as_array().unwrap().iter().find(is_part).cloned() else {
            continue;
        };
        let mut lines = Vec::new();
        for node in part["nodes"].as_array().unwrap() {
            let sub_task = node["sub_tasks"][0]["id"].as_str().unwrap();
            let logs = cluster.door(host).get(&format!("/api/v1/task/sub_task/{sub_task}/logs")).await.data();
            lines.extend(logs["contents"].as_array().unwrap().clone());
        }
        let time_of = |text: &str| -> jiff::Timestamp {
            let line = lines.iter().find(|line| line["log_content"].as_str().unwrap().contains(text));
            let line = line.unwrap_or_else(|| panic!("no '{text}' in {lines:?}"));
            line["create_time"].as_str().unwrap().parse().unwrap()
        };
        let (begin, end) = (time_of("it runs as pid"), time_of("it serves"));
        span = Some(span.map_or((begin, end), |(first, last)| (first.min(begin), last.max(end))));
    }
    let (first, last) = span.unwrap_or_else(|| panic!("no part of {} anywhere", main["id"]));
    last.duration_since(first).try_into().unwrap()
}

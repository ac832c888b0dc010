//! One agent: how quickly it is there, what it costs while it waits, and what work and listeners leave behind.

mod listeners;
mod rest;

use std::time::{Duration, Instant};

use crate::Effort;
use crate::measure::{Watched, median};
use crate::rig::{Agent, Cluster, Door, Home};
use crate::seed;
use crate::table::{Budget, Figure, Line, Table};

const COLD_STARTS: usize = 5;

const MEMORY: Budget = Budget::AtMost(Figure::Bytes(20 << 20));

pub(crate) async fn measure(effort: Effort, table: &mut Table) {
    table.section("one agent");
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_obpilot")).unwrap().len();
    table.line(Line::of("size of the executable", Figure::Bytes(size)));
    cold_start(effort, table).await;
    member(effort, table).await;
    listeners::measure(effort, table).await;
}

/// From the exec of the agent to its first answer.
async fn first_answer(home: &Home) -> (Duration, Agent) {
    let begun = Instant::now();
    let agent = home.start();
    // By a client that goes: one that keeps its connection keeps a server.
    Door::socket(&home.socket()).get("/api/v1/time").await.data();
    (begun.elapsed(), agent)
}

async fn cold_start(effort: Effort, table: &mut Table) {
    let home = Home::new();
    let (first, mut agent) = first_answer(&home).await;
    table.line(Line::time("first start in an empty home to first answer (makes key pairs)", first));
    rest::of("fresh", &[Watched(agent.pid())], effort, table).await;
    agent.terminate();
    table.line(Line::time("start to first answer, empty store", starts(&home).await));
    let dags = 10_000;
    let begun = Instant::now();
    let events = seed::seed(&home.path.join(".obpilot"), home.port, dags).await;
    let store = std::fs::metadata(home.path.join(".obpilot/store.db")).unwrap().len();
    table.note(format!(
        "{dags} finished DAGs written in {:.1} s, {events} events, store {}",
        begun.elapsed().as_secs_f64(),
        Figure::Bytes(store)
    ));
    let line = Line::time(format!("start to first answer, {dags} finished DAGs"), starts(&home).await);
    table.line(line.within(Budget::AtMost(Figure::Time(Duration::from_millis(100)))));
    let (_, mut agent) = first_answer(&home).await;
    rest::of("idle, with them", &[Watched(agent.pid())], effort, table).await;
    agent.terminate();
}

/// The median of several.
async fn starts(home: &Home) -> Duration {
    let mut times = Vec::new();
    for _ in 0..COLD_STARTS {
        let (took, mut agent) = first_answer(home).await;
        times.push(took);
        agent.terminate();
    }
    median(times)
}

/// Three agents of a cluster whose servers run: at rest, and after work.
async fn member(effort: Effort, table: &mut Table) {
    let mut cluster = Cluster::new(3);
    cluster.form().await;
    for host in 0..3 {
        cluster.agents[host].as_mut().unwrap().terminate();
        cluster.start(host);
    }
    for host in 0..3 {
        let door = Door::socket(&cluster.homes[host].socket());
        door.until_status(|status| status["obState"] == 3).await;
    }
    let agents = [0, 1, 2].map(|host| Watched(cluster.agent(host).pid()));
    rest::of("CLUSTER AGENT, one of three", &agents, effort, table).await;
    let starts = effort.pick(5, 100);
    let before = agents.map(Watched::cpu);
    let (woken, begun) = (agents[0].wake_ups(), Instant::now());
    for _ in 0..starts {
        let stop = serde_json::json!({ "scope": { "type": "GLOBAL" }, "force": true });
        cluster.done(0, "/api/v1/ob/stop", stop).await;
        cluster.start_all(0).await;
    }
    let cpu = |agent: usize| (agents[agent].cpu() - before[agent]) / u32::try_from(starts).unwrap();
    table.line(Line::time("a GLOBAL stop and start of three: CPU of the agent that coordinates", cpu(0)));
    table.line(Line::time("  CPU of another", cpu(1)));
    let (woken, took) = (agents[0].wake_ups().saturating_sub(woken), begun.elapsed());
    let busy = (agents[0].cpu() - before[0]).mul_f64(3_600.0 / took.as_secs_f64());
    table.line(Line::time("one after another without a pause, the one that coordinates: CPU per hour", busy));
    table.line(Line::of("  wake-ups per second", Figure::Plain(woken as f64 / took.as_secs_f64())));
    let most = agents.map(Watched::most_resident).into_iter().max().unwrap();
    table.line(Line::of("  the most that one of the three ever had resident", Figure::Bytes(most)));
    let resident = agents.map(Watched::resident).into_iter().max().unwrap();
    let what = format!("resident after {starts} of them, the largest of three");
    table.line(Line::of(what, Figure::Bytes(resident)));
    // An exact number: what work has opened is closed, or held for good.
    table.line(Line::of("  descriptors", Figure::Count(agents[0].descriptors() as u64)));
}

//! What happens to hosts: agents that are killed, asked to stop, or stand still; servers that are killed, or have faults.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::rig::Cluster;
use crate::world::World;

/// The speed of the stand-ins: elections, leases and catching up take a twentieth of what they take in earnest.
fn settings(faults: &Value) -> Value {
    json!({ "factor": 0.05, "faults": faults })
}

/// Some trouble, one after another, while operators work.
pub(crate) async fn some(cluster: &mut Cluster, world: &World, chance: &mut Chance) {
    for _ in 0..chance.below(4) {
        tokio::time::sleep(chance.millis(0, 2_500)).await;
        let host = chance.below(cluster.homes.len());
        match chance.below(10) {
            0..=2 => kill_agent(cluster, world, chance, host).await,
            3 => stop_agent(cluster, world, chance, host).await,
            4..=5 => stand_still(cluster, world, chance, host).await,
            6..=7 => kill_server(cluster, world, host),
            _ => fault(cluster, world, chance, host),
        }
    }
}

/// Everything that was done to them ends: agents run, servers have no faults.
pub(crate) fn end(cluster: &mut Cluster, world: &World) {
    for host in 0..cluster.homes.len() {
        cluster.set(host, &settings(&json!({})));
        if cluster.agents[host].is_none() {
            start(cluster, host);
        }
    }
    world.count("trouble", "over");
}

fn start(cluster: &mut Cluster, host: usize) {
    tokio::task::block_in_place(|| cluster.start(host));
}

async fn kill_agent(cluster: &mut Cluster, world: &World, chance: &mut Chance, host: usize) {
    let host = if host == world.spared { (host + 1) % cluster.homes.len() } else { host };
    tokio::task::block_in_place(|| cluster.kill(host));
    world.count("kill -9 of an agent", "done");
    // It is away for a moment, for seconds, or until the burst ends.
    match chance.below(4) {
        0 => start(cluster, host),
        1..=2 => {
            tokio::time::sleep(chance.millis(100, 6_000)).await;
            start(cluster, host);
        }
        _ => {}
    }
}

async fn stop_agent(cluster: &mut Cluster, world: &World, chance: &mut Chance, host: usize) {
    let host = if host == world.spared { (host + 1) % cluster.homes.len() } else { host };
    let Some(mut agent) = cluster.agents[host].take() else { return };
    let ended = tokio::task::block_in_place(|| agent.terminate());
    if ended.code != Some(0) {
        world.violate(format!(
            "the agent of host {} was asked to stop and ended with {:?} {:?}",
            host + 1,
            ended.code,
            ended.signal
        ));
    }
    world.count("an agent is asked to stop", "done");
    tokio::time::sleep(chance.millis(0, 2_000)).await;
    start(cluster, host);
}

/// SIGSTOP for seconds; sometimes for longer than its leases.
async fn stand_still(cluster: &mut Cluster, world: &World, chance: &mut Chance, host: usize) {
    let Some(agent) = &cluster.agents[host] else { return };
    let pid = Pid::from_raw(agent.pid()).unwrap();
    let (span, word) = if chance.percent(8) {
        (Duration::from_secs(36), "longer than a lease")
    } else {
        (chance.millis(300, 7_000), "seconds")
    };
    kill_process(pid, Signal::STOP).unwrap();
    tokio::time::sleep(span).await;
    kill_process(pid, Signal::CONT).unwrap();
    world.count("an agent stands still", word);
}

fn kill_server(cluster: &mut Cluster, world: &World, host: usize) {
    let runs = !cluster.database_pids(host).is_empty();
    tokio::task::block_in_place(|| cluster.homes[host].kill_database());
    world.killed(host);
    world.count("kill -9 of a server", if runs { "done" } else { "none ran" });
}

/// Until the burst ends.
fn fault(cluster: &mut Cluster, world: &World, chance: &mut Chance, host: usize) {
    let faults = [
        ("listen_after_ms", json!(2_000)),
        ("catch_up_ms", json!(2_500)),
        ("exit_before_fork", json!(96)),
        ("never_listen", json!(true)),
        ("freeze_never", json!(true)),
        ("ignore_graceful", json!(true)),
        ("die_after_ms", json!(700)),
        ("initializing_ms", json!(1_500)),
    ];
    let (name, value) = chance.pick(&faults).clone();
    let mut faults = json!({});
    faults[name] = value;
    cluster.set(host, &settings(&faults));
    world.count("a server's fault", name);
}

//! Endurance: three real agents with stand-ins of `observer`, operated at random by several people at once, while agents and
//! servers die. `make soak MINUTES=30 SEED=7`; without SEED one is chosen and printed.
//!
//! The run is a row of bursts. In a burst operators send orders and operators of tasks, ask questions, and hosts get into
//! trouble ([`trouble`]). Then everything that was done to agents and servers ends, the cluster comes to rest, and what must be
//! true is looked at ([`checks`], [`promises`], [`figures`]). Most bursts end with a start of everything, which must succeed.
//!
//! A seed decides what is asked of whom and what happens to whom; how these meet in time is the machine's business, so a run
//! can be repeated only as far as real processes allow. This is a program, no test: its own cadence is by timers, its waits for
//! agents are watches of theirs, with limits.
//!
//! Whatever is not as it must be is told at once, counted, and the homes with stores and logs are kept in `build/soak`; the run
//! goes on, up to [`VIOLATIONS_MAX`] of them, and ends with status 1.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "it starts processes, measures and prints"
)]

mod chance;
mod checks;
mod figures;
mod journal;
mod leftovers;
mod logs;
mod operators;
mod orders;
mod promises;
mod report;
mod rest;
#[path = "../rig/mod.rs"]
mod rig;
mod trouble;
mod world;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use chance::Chance;
use checks::Checker;
use report::Report;
use rig::Cluster;
use world::World;

/// After so many the run ends.
const VIOLATIONS_MAX: usize = 12;

/// Short limits, so that what waits in vain ends within a burst or its rest; few finished tasks are kept.
const SETTINGS: &str = "[engine]\nstart_timeout_secs = 20\nstop_grace_secs = 3\nfreeze_timeout_secs = 10\nprobe_interval_secs = 3\n\
    [peers]\nprepare_timeout_secs = 5\nsilence_limit_secs = 20\nquorum_wait_secs = 5\n\
    [store]\nkeep_finished_count = 150\n";

fn main() -> ExitCode {
    let minutes = asked("MINUTES").unwrap_or(30.0);
    let seed = asked("SEED").unwrap_or_else(Chance::fresh);
    println!("soak: SEED={seed}, {minutes} min");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if runtime.block_on(soak(seed, Duration::from_secs_f64(minutes * 60.0))) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What the environment says; nothing where it says nothing.
fn asked<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Whether everything was as it must be.
async fn soak(seed: u64, span: Duration) -> bool {
    let mut cluster = Cluster::configured(3, SETTINGS);
    for host in 0..cluster.homes.len() {
        cluster.set(host, &serde_json::json!({ "factor": 0.05 }));
    }
    cluster.form().await;
    let world = World::of(&cluster, seed).await;
    let mut checker = Checker::new(&cluster, seed);
    let mut report = Report::new(seed, span);
    let (begun, mut burst) = (Instant::now(), 0);
    while begun.elapsed() < span && world.violations() < VIOLATIONS_MAX {
        burst += 1;
        world.begin(burst);
        let mut chance = Chance::of(seed, burst, 0);
        let operators = operators::all(&world, seed, burst);
        tokio::join!(operators, trouble::some(&mut cluster, &world, &mut chance));
        trouble::end(&mut cluster, &world);
        checker.at_rest(&cluster, &world, &mut chance).await;
        report.minute(&world, &checker);
    }
    checker.at_the_end(&mut cluster, &world).await;
    report.end(&world, &checker, burst)
}

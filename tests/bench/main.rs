//! What obpilot costs on this machine, measured now, beside the same work done bare. `make bench`; `docs/performance.md` says how
//! to read it.
//!
//! `QUICK=1` measures less of everything, in under three minutes. `ONLY=engine` measures that section alone; several are
//! separated by commas.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures and prints"
)]

mod agent;
mod api;
mod crowd;
mod engine;
mod floor;
mod measure;
mod one_host;
mod orchestration;
mod refusals;
#[path = "../rig/mod.rs"]
mod rig;
mod seed;
mod share;
mod spent;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use table::Table;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) is_quick: bool,
}

impl Effort {
    /// One of two amounts.
    pub(crate) fn pick<T>(self, quick: T, whole: T) -> T {
        if self.is_quick { quick } else { whole }
    }
}

/// The sections, in the order of the table.
const SECTIONS: [&str; 7] = ["engine", "crowd", "orchestration", "api", "agent", "refusals", "one_host"];

fn main() -> ExitCode {
    if let Some(share) = share::asked() {
        share::answer(&share);
        return ExitCode::SUCCESS;
    }
    let effort = Effort { is_quick: is_set("QUICK") };
    let only = std::env::var("ONLY").unwrap_or_default();
    let chosen = |name: &str| only.is_empty() || only.split(',').any(|wanted| wanted == name);
    if let Some(unknown) = only.split(',').find(|name| !name.is_empty() && !SECTIONS.contains(name)) {
        println!("ONLY={unknown}: the sections are {}", SECTIONS.join(", "));
        return ExitCode::FAILURE;
    }
    if ["api", "agent"].into_iter().any(chosen) && !rustix::process::geteuid().is_root() {
        println!(
            "api and agent count an agent's descriptors, which the kernel shows to root alone; run it as root or without them (ONLY=)"
        );
        return ExitCode::FAILURE;
    }
    let machine = machine();
    println!("obpilot on {}", machine["words"].as_str().unwrap());
    sweep();
    let run = json!({
        "machine": machine,
        "commit": option_env!("OBPILOT_COMMIT"),
        "at": jiff::Timestamp::now(),
        "isQuick": effort.is_quick,
        "only": only,
        "isWhole": false,
    });
    let mut table = Table::new(run, build().join("bench.json"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sections = async {
        for name in SECTIONS.into_iter().filter(|name| chosen(name)) {
            measure_section(name, effort, &mut table).await;
        }
    };
    if !uninterrupted(runtime, sections) {
        return ExitCode::from(130);
    }
    match table.end() {
        Ok(()) => ExitCode::SUCCESS,
        Err(broken) => {
            println!("\nbeyond its budget, measured in one run:\n{broken}");
            ExitCode::FAILURE
        }
    }
}

/// False after Ctrl-C: agents, servers and folders of what was being measured are gone then.
fn uninterrupted(runtime: Runtime, work: impl Future<Output = ()>) -> bool {
    let is_whole = runtime.block_on(async {
        tokio::select! {
            () = work => true,
            _ = tokio::signal::ctrl_c() => false,
        }
    });
    runtime.shutdown_background();
    sweep();
    is_whole
}

/// Folders of a run that was killed.
fn sweep() {
    for entry in std::fs::read_dir(build()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with(engine::FOLDER) {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

async fn measure_section(name: &str, effort: Effort, table: &mut Table) {
    match name {
        "engine" => engine::measure(effort, table).await,
        "crowd" => crowd::measure(effort, table).await,
        "orchestration" => orchestration::measure(effort, table).await,
        "api" => api::measure(effort, table).await,
        "agent" => agent::measure(effort, table).await,
        "refusals" => refusals::measure(effort, table).await,
        "one_host" => one_host::measure(effort, table).await,
        other => unreachable!("{other} is no section"),
    }
}

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// The project's own folder for what is made: `/tmp` may be no disk at all.
pub(crate) fn build() -> PathBuf {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/build"));
    std::fs::create_dir_all(folder).unwrap();
    folder.to_owned()
}

/// What it was measured on.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("?", |(_, name)| name);
    let cpus = std::thread::available_parallelism().unwrap().get();
    let memory =
        read("/proc/meminfo").split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
            >> 20;
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let words = format!("{cpus} CPUs ({model}), {memory} GiB, Linux {kernel}");
    json!({ "words": words, "cpus": cpus, "model": model, "memoryGib": memory, "kernel": kernel })
}

//! What comes from outside, torn in every way: nothing of it panics, hangs, or opens into what it is not.
//!
//! Each target takes inputs made from its corpus (`corpus/TARGET`, kept small) by a generator that is seeded with the input's
//! number: with the same corpus the same number is the same input, everywhere. `cargo test --test fuzz` runs each target for a share of 20 seconds;
//! `OBPILOT_FUZZ_SECS=3600` so long, `OBPILOT_FUZZ_FROM=1000000` from another number on, `OBPILOT_FUZZ=header` that target alone,
//! `OBPILOT_FUZZ=header:17` that one input. A finding prints its target and number.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test measures and prints"
)]

mod generator;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use generator::Corpus;
use targets::{TARGETS, Target};

/// One input never takes so long, also not on a busy machine without optimisation.
const SLOW: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::var("OBPILOT_FUZZ").unwrap_or_default();
    let (name, number) = wanted.split_once(':').unwrap_or((&wanted, ""));
    let chosen: Vec<_> = TARGETS.iter().filter(|target| name.is_empty() || target.name == name).collect();
    assert!(!chosen.is_empty(), "there is no target '{name}'");
    if let Ok(number) = number.parse() {
        let input = Corpus::of(chosen[0].name).input(number);
        println!("{}: {}", wanted, String::from_utf8_lossy(&input));
        return if run(chosen[0], number, &input) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let number_of = |variable: &str, default| {
        std::env::var(variable)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
    };
    let (secs, from) = (number_of("OBPILOT_FUZZ_SECS", 20), number_of("OBPILOT_FUZZ_FROM", 0));
    let share = Duration::from_secs(secs) / u32::try_from(chosen.len()).unwrap();
    let mut count = 0;
    for target in chosen {
        let (corpus, begun) = (Corpus::of(target.name), Instant::now());
        let mut number = from;
        while begun.elapsed() < share {
            if !run(target, number, &corpus.input(number)) {
                return ExitCode::FAILURE;
            }
            number += 1;
        }
        println!("fuzz {:<10} {:>9} inputs, {} in the corpus", target.name, number - from, corpus.len());
        count += number - from;
    }
    println!("fuzz: {count} inputs, no finding");
    ExitCode::SUCCESS
}

fn run(target: &Target, number: u64, input: &[u8]) -> bool {
    let begun = Instant::now();
    let is_well = catch_unwind(AssertUnwindSafe(|| (target.check)(input))).is_ok() && begun.elapsed() < SLOW;
    if !is_well {
        let name = target.name;
        println!(
            "fuzz: a finding in {:?}: OBPILOT_FUZZ={name}:{number} cargo test --test fuzz",
            begun.elapsed()
        );
        println!("{}", String::from_utf8_lossy(input));
    }
    is_well
}

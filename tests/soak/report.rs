//! A line per minute, and the table at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::checks::Checker;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Report {
    seed: u64,
    span: Duration,
    begun: Instant,
    told: u64,
    before: BTreeMap<(String, String), u64>,
}

const KIB: u64 = 1 << 10;

impl Report {
    pub(crate) fn new(seed: u64, span: Duration) -> Self {
        Self { seed, span, begun: Instant::now(), told: 0, before: BTreeMap::new() }
    }

    /// Tells of the minute that is over, if one is.
    pub(crate) fn minute(&mut self, world: &World, checker: &Checker) {
        let minute = self.begun.elapsed().as_secs() / 60;
        if minute == self.told {
            return;
        }
        self.told = minute;
        let counts = world.counts();
        let mut by_kind: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
        for ((kind, outcome), count) in &counts {
            let new = count - self.before.get(&(kind.clone(), outcome.clone())).unwrap_or(&0);
            let sums = by_kind.entry(kind).or_default();
            match outcome.as_str() {
                "not reached" | "no answer in time" => sums.2 += new,
                text if text.contains('.') || text.starts_with("OBE") || text.starts_with("COM") => {
                    sums.1 += new
                }
                _ => sums.0 += new,
            }
        }
        let kinds: Vec<_> = by_kind
            .iter()
            .filter(|(_, sums)| sums.0 + sums.1 + sums.2 > 0)
            .map(|(kind, (done, refused, away))| format!("{kind} {done}/{refused}/{away}"))
            .collect();
        let figures: Vec<_> = checker
            .last()
            .iter()
            .map(|one| {
                format!(
                    "{} KiB rss, {} anonymous, {} held, {} fds, {} threads, store {} KiB",
                    one.resident / KIB,
                    one.anonymous / KIB,
                    one.held / KIB,
                    one.descriptors,
                    one.threads,
                    one.store / KIB
                )
            })
            .collect();
        println!(
            "minute {minute}, burst {}, {} tasks, {} violations | {} | done/refused/away: {}",
            world.burst(),
            world.tasks(),
            world.violations(),
            figures.join("; "),
            kinds.join(", ")
        );
        self.before = counts;
    }

    /// The table of the whole run; whether all was well.
    pub(crate) fn end(&self, world: &World, checker: &Checker, bursts: u64) -> bool {
        println!("\n{:<28} {:<44} {:>8}", "operation", "outcome", "times");
        for ((kind, outcome), count) in world.counts() {
            println!("{kind:<28} {outcome:<44} {count:>8}");
        }
        checker.told();
        let wrong = world.wrong();
        println!(
            "\nSEED={} MINUTES={:.0}: {bursts} bursts, {} tasks, {} violations",
            self.seed,
            self.span.as_secs_f64() / 60.0,
            world.tasks(),
            wrong.len()
        );
        for one in &wrong {
            println!("- {}", one.lines().next().unwrap_or_default());
        }
        if !wrong.is_empty() {
            println!("homes, stores and logs are kept in {}", checker.kept().display());
        }
        wrong.is_empty()
    }
}

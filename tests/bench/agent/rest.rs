//! An agent that has nothing to do.

use std::time::Duration;

use super::MEMORY;
use crate::Effort;
use crate::measure::Watched;
use crate::table::{Budget, Figure, Line, Table};

/// What work has left ends by itself when it had nothing to do for so long: threads after ten seconds, connections between agents
/// after one, the HTTP service that they were to one later; that the client of an event stream is gone is noticed by the next word
/// to it, fifteen seconds later at most. What only a start needs is gone ten seconds after it.
pub(super) const CALM: Duration = Duration::from_secs(18);

/// The most of each figure among some agents.
pub(super) async fn of(what: &str, agents: &[Watched], effort: Effort, table: &mut Table) {
    tokio::time::sleep(CALM).await;
    let window = Duration::from_secs(effort.pick(5, 60));
    let before: Vec<_> = agents.iter().map(|agent| (agent.wake_ups(), agent.cpu())).collect();
    tokio::time::sleep(window).await;
    let after: Vec<_> = agents.iter().map(|agent| (agent.wake_ups(), agent.cpu())).collect();
    let wakes =
        before.iter().zip(&after).map(|(before, after)| after.0.saturating_sub(before.0)).max().unwrap();
    let cpu =
        before.iter().zip(&after).map(|(before, after)| after.1.saturating_sub(before.1)).max().unwrap();
    let hour = Duration::from_secs(3_600);
    let most = |of: fn(Watched) -> u64| agents.iter().map(|agent| of(*agent)).max().unwrap();
    table.line(Line::of(format!("{what}: resident"), Figure::Bytes(most(Watched::resident))).within(MEMORY));
    table.line(Line::of("  of it its own, not files", Figure::Bytes(most(Watched::anonymous))));
    let rate = Line::of("  wake-ups per second", Figure::Plain(wakes as f64 / window.as_secs_f64()));
    // A few seconds show one moment of what is done every fifteen, or none.
    table.line(if effort.is_quick { rate } else { rate.within(Budget::AtMost(Figure::Plain(2.0))) });
    table.line(Line::time("  CPU per hour", cpu.mul_f64(hour.as_secs_f64() / window.as_secs_f64())));
    table.line(Line::of("  threads", Figure::Count(most(|agent| agent.threads() as u64))));
    table.line(Line::of("  descriptors", Figure::Count(most(|agent| agent.descriptors() as u64))));
}

//! A task as lines: its stages, their sub-tasks, and under them the parts that agents play. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::model::Timestamp;
use crate::wire::{DagDetail, NodeDetail, SubTaskDetail};

/// What a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Pending,
    Running,
    Waiting,
    Done,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) indent: usize,
    pub(super) mark: Mark,
    pub(super) text: String,
    pub(super) took: Option<Duration>,
    /// The last thing it said, while it runs or after it failed.
    pub(super) note: Option<String>,
}

/// A task with the sub-DAGs that were found for it, by their ids.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) main: DagDetail,
    pub(super) parts: BTreeMap<String, DagDetail>,
}

impl Seen {
    /// Ids of the parts, by agent.
    pub(super) fn part_ids(&self) -> BTreeMap<String, String> {
        let subs = self
            .main
            .additional_data
            .as_ref()
            .and_then(|data| data.get("sub_dags"))
            .and_then(Value::as_object);
        let entries = subs.into_iter().flatten();
        entries.filter_map(|(agent, id)| Some((agent.clone(), id.as_str()?.to_owned()))).collect()
    }

    /// The whole tree as of a moment.
    pub(super) fn lines(&self, now: Timestamp) -> Vec<Line> {
        let parts = self.part_ids();
        let mut lines = Vec::new();
        for (number, node) in self.main.nodes.iter().flatten().enumerate() {
            let is_current = mark(&node.state) == Mark::Running;
            let subs = node.sub_tasks.as_deref().unwrap_or_default();
            let note = if subs.len() == 1 { note(&subs[0]) } else { None };
            let text = format!("{} {}", number + 1, node.name);
            lines.push(Line { indent: 0, mark: mark(&node.state), text, took: took(node, now), note });
            if subs.len() > 1 {
                lines.extend(subs.iter().map(|sub| sub_line(sub, now)));
            }
            // Parts are shown under the stage that waits for them, and go when it is done.
            if is_current && node.name.starts_with("Wait for all") {
                for sub in subs {
                    let agent = agent_of(sub);
                    let part = parts.get(&agent).and_then(|id| self.parts.get(id));
                    lines.extend(part.into_iter().flat_map(|part| part_lines(part, now)));
                }
            }
        }
        lines
    }
}

/// So many lines around what happens now; what is left out is counted.
pub(super) fn window(lines: Vec<Line>, rows: usize) -> Vec<Line> {
    if lines.len() <= rows {
        return lines;
    }
    let is_now = |line: &Line| matches!(line.mark, Mark::Running | Mark::Failed | Mark::Waiting);
    let now =
        lines.iter().position(is_now).or_else(|| lines.iter().position(|line| line.mark == Mark::Pending));
    let now = now.unwrap_or(lines.len() - 1);
    // Two rows are for what is left out above and below.
    let room = rows.saturating_sub(2).max(1);
    let first = now.saturating_sub(room / 3).min(lines.len() - room);
    let rest = lines.len() - first - room;
    let told = |mark, text| Line { indent: 0, mark, text, took: None, note: None };
    let mut shown = Vec::with_capacity(rows);
    if first > 0 {
        shown.push(told(Mark::Done, format!("… {first} above")));
    }
    shown.extend(lines.into_iter().skip(first).take(room));
    if rest > 0 {
        shown.push(told(Mark::Pending, format!("… {rest} more")));
    }
    shown
}

/// Names of stages with their numbers; where a row of them repeats, as once per zone, it stands once.
pub(super) fn folded(stages: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < stages.len() {
        let (length, times) = repeats(&stages[at..]);
        lines.extend(
            stages[at..at + length].iter().enumerate().map(|(i, name)| format!("{} {name}", at + i + 1)),
        );
        if times > 1 {
            lines.push(format!("… {} to {} again, {times} times in all", at + 1, at + length));
        }
        at += length * times;
    }
    lines
}

/// How long the row is that repeats right from here, and how often; a single one once.
fn repeats(stages: &[String]) -> (usize, usize) {
    // Shorter rows that repeat, such as a wait between two steps, are read easily.
    for length in 5..=stages.len() / 2 {
        let times = stages.chunks_exact(length).take_while(|row| *row == &stages[..length]).count();
        if times > 1 {
            return (length, times);
        }
    }
    (1, 1)
}

fn part_lines(part: &DagDetail, now: Timestamp) -> Vec<Line> {
    let nodes = part.nodes.iter().flatten().filter(|node| mark(&node.state) != Mark::Pending);
    let line = |node: &NodeDetail| Line {
        indent: 2,
        mark: waiting_or(part, node),
        text: node.name.clone(),
        took: took(node, now),
        note: node.sub_tasks.iter().flatten().next().and_then(note),
    };
    nodes.map(line).collect()
}

/// What v1 calls FAILED may be a part that waits for its coordinator.
fn waiting_or(part: &DagDetail, node: &NodeDetail) -> Mark {
    let is_waiting = part.obpilot.as_ref().is_some_and(|ours| ours.state == "waiting");
    match mark(&node.state) {
        Mark::Failed if is_waiting => Mark::Waiting,
        other @ (Mark::Failed | Mark::Pending | Mark::Running | Mark::Waiting | Mark::Done) => other,
    }
}

fn sub_line(sub: &SubTaskDetail, now: Timestamp) -> Line {
    let took = span(&sub.start_time, &sub.end_time, &sub.state, now);
    Line { indent: 1, mark: mark(&sub.state), text: agent_of(sub), took, note: note(sub) }
}

pub(super) fn agent_of(sub: &SubTaskDetail) -> String {
    let agent = &sub.execute_agent;
    if agent.ip.contains(':') {
        format!("[{}]:{}", agent.ip, agent.port)
    } else {
        format!("{}:{}", agent.ip, agent.port)
    }
}

pub(super) fn mark(state: &str) -> Mark {
    match state {
        "SUCCEED" => Mark::Done,
        "FAILED" => Mark::Failed,
        "RUNNING" | "READY" => Mark::Running,
        _ => Mark::Pending,
    }
}

fn note(sub: &SubTaskDetail) -> Option<String> {
    if !matches!(mark(&sub.state), Mark::Running | Mark::Failed) {
        return None;
    }
    sub.task_logs.as_ref().and_then(|logs| logs.last().cloned())
}

fn took(node: &NodeDetail, now: Timestamp) -> Option<Duration> {
    span(&node.start_time, &node.end_time, &node.state, now)
}

fn span(start: &str, end: &str, state: &str, now: Timestamp) -> Option<Duration> {
    let start: Timestamp = start.parse().ok()?;
    let end = match mark(state) {
        Mark::Pending => return None,
        Mark::Running | Mark::Waiting => now,
        Mark::Done | Mark::Failed => end.parse().ok()?,
    };
    Duration::try_from(end.duration_since(start)).ok()
}

/// `4 ms`, `1.3 s`, `2 min 05 s`, `3 h 07 min`, `12 d 04 h`.
pub(super) fn human(span: Duration) -> String {
    let millis = span.as_millis();
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", millis / 60_000, millis / 1_000 % 60),
        3_600_000..86_400_000 => format!("{} h {:02} min", millis / 3_600_000, millis / 60_000 % 60),
        _ => format!("{} d {:02} h", millis / 86_400_000, millis / 3_600_000 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_row_that_repeats_stands_once() {
        let folded = folded(&words("p a b c d e a b c d e a b c d e q r"));
        let wanted =
            ["1 p", "2 a", "3 b", "4 c", "5 d", "6 e", "… 2 to 6 again, 3 times in all", "17 q", "18 r"];
        assert_eq!(folded, wanted);
        assert_eq!(super::folded(&words("a b a b")), ["1 a", "2 b", "3 a", "4 b"]);
    }

    #[test]
    fn a_long_tree_is_shown_where_it_happens() {
        let line =
            |mark, text: usize| Line { indent: 0, mark, text: text.to_string(), took: None, note: None };
        let lines = || {
            let mark = |at| match at {
                0..30 => Mark::Done,
                30 => Mark::Running,
                _ => Mark::Pending,
            };
            (0..50).map(|at| line(mark(at), at)).collect::<Vec<_>>()
        };
        let shown: Vec<_> = window(lines(), 11).into_iter().map(|line| line.text).collect();
        assert_eq!(shown.len(), 11);
        assert_eq!((shown[0].as_str(), shown[10].as_str()), ("… 27 above", "… 14 more"));
        assert!(shown.contains(&"30".to_owned()));
        assert_eq!(window(lines(), 50).len(), 50);
        let ended = window((0..50).map(|at| line(Mark::Done, at)).collect(), 11);
        assert_eq!(ended.last().map(|line| line.text.as_str()), Some("49"));
    }
}

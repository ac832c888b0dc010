//! `obpilot task graph`: the graph of a task, as `GET /api/v2/tasks/instances/{id}` tells it, drawn top down.
//!
//! Invariant: a line per step, and nothing that the answer does not hold. Steps that may run side by side stand in a fan; a
//! step that waits for others than all of the lines right above says for which. The drawing is pure.
//!
//! Not here: the steps of v1 (`tree`).

use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::args::{Global, GraphArgs, Output};
use super::client::Client;
use super::exit::Ending;
use super::render;
use super::tree::{Mark, human};
use crate::clock;
use crate::model::Timestamp;
use crate::wire::DagDetail;

/// Ids of v2 are exact in JavaScript too; those of v1 are all larger.
const INSTANCES_END: u64 = 1 << 53;

/// Longer names are cut, so that a line with its time fits a terminal of 80 columns.
const NAME_MAX: usize = 50;

/// # Errors
/// The id is none of v2, the agent cannot be reached, or it knows no such task.
pub(super) async fn show(client: &Client, global: &Global, args: &GraphArgs) -> Result<(), Ending> {
    let given = args.id.get();
    let id = match instance_of(&given)? {
        Some(id) => id,
        None => known_in_v1(client, &given).await?,
    };
    let told: Value = client.get(&format!("/api/v2/tasks/instances/{id}")).await?;
    if global.output == Output::Json {
        render::json(&told);
        return Ok(());
    }
    let task: Task = serde_json::from_value(told).map_err(|why| {
        Ending::new(super::exit::Exit::Failed, format!("the agent's answer is not that of a task: {why}"))
    })?;
    render::out(&task.draw(clock::system().now(), Pen::of_terminal()));
    Ok(())
}

/// The number under which v2 knows a task; nothing for an id of v1.
fn instance_of(id: &str) -> Result<Option<u64>, Ending> {
    let number = id.parse::<u64>().map_err(|_| Ending::usage(format!("'{id}' is not the id of a task")))?;
    Ok((number < INSTANCES_END).then_some(number))
}

async fn known_in_v1(client: &Client, id: &str) -> Result<u64, Ending> {
    let dag: DagDetail = client.get(&format!("/api/v1/task/dag/{id}")).await?;
    let number = dag.task_instance_id.and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| {
        Ending::usage(format!(
            "task {id} has no graph: it is a part of another task, or the servers' numbers are not known yet"
        ))
        .with_hint(format!("`obpilot task show {id}` shows it"))
    })
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    id: u64,
    name: String,
    status: String,
    start_time: Option<String>,
    finish_time: Option<String>,
    /// In the order that it is drawn in, as far as the edges allow.
    #[serde(alias = "tasks")]
    subtasks: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    id: u64,
    name: String,
    status: String,
    #[serde(default)]
    operation: String,
    /// Which copy of a split step, from 0; negative or absent for one that is not split.
    #[serde(default = "not_split")]
    parallel_idx: i64,
    upstreams: Vec<u64>,
    start_time: Option<String>,
    finish_time: Option<String>,
}

fn not_split() -> i64 {
    -1
}

/// What lines and marks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pen {
    Unicode,
    /// For terminals that say they know nothing else.
    Ascii,
}

impl Pen {
    fn of_terminal() -> Self {
        let value = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        Self::of_locale(["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(value).as_deref())
    }

    /// By the locale that rules. Where nothing is set, as everywhere else in the command line.
    fn of_locale(locale: Option<&str>) -> Self {
        let is_utf8 = |locale: &str| {
            let charset = locale.to_lowercase();
            charset.contains("utf-8") || charset.contains("utf8")
        };
        if locale.is_none_or(is_utf8) { Self::Unicode } else { Self::Ascii }
    }

    /// Colour and sign.
    fn mark(self, mark: Mark) -> String {
        let (colour, unicode, ascii) = match mark {
            Mark::Done => (render::GREEN, "✓", "v"),
            Mark::Running | Mark::Waiting => (render::YELLOW, "●", "*"),
            Mark::Pending => (render::DIM, "○", "."),
            Mark::Failed => (render::RED, "✗", "x"),
        };
        render::paint(if self == Self::Unicode { unicode } else { ascii }, colour)
    }

    /// The line that a step hangs on: where its row stands among all rows, and the step among those of its row.
    fn gutter(self, (row, rows): (usize, usize), (step, steps): (usize, usize)) -> String {
        let (is_first, is_last) = (row == 0, row + 1 == rows);
        let stem = match (step, steps) {
            _ if is_first && is_last => " ",
            (0, _) if is_first => "┌",
            (0, _) if is_last => "└",
            (0, 1) => "│",
            (0, _) => "├",
            _ if is_last => " ",
            _ => "│",
        };
        let arm = match (step, steps) {
            (_, 1) => "",
            (0, _) => "─┬─",
            _ if step + 1 == steps => " └─",
            _ => " ├─",
        };
        let text = format!("{stem}{arm} ");
        match self {
            Self::Unicode => text,
            Self::Ascii => text.replace('│', "|").replace('─', "-").replace(['┌', '└', '├', '┬'], "+"),
        }
    }
}

impl Task {
    fn draw(&self, now: Timestamp, pen: Pen) -> String {
        let rows = rows(&self.subtasks);
        let mut lines: Vec<Line> = Vec::new();
        let mut before: Vec<u64> = Vec::new();
        // Steps are numbered as they stand here, and named by that.
        let order: Vec<u64> = rows.iter().flatten().map(|step| step.id).collect();
        for (at, row) in rows.iter().enumerate() {
            for (side, step) in row.iter().enumerate() {
                let gutter = pen.gutter((at, rows.len()), (side, row.len()));
                let number = lines.len() + 1;
                let after = (!is_same(&step.upstreams, &before)).then(|| step.after(&order));
                lines.push(step.line(gutter, number, after, now, pen));
            }
            before = row.iter().map(|step| step.id).collect();
        }
        let width = lines.iter().map(|line| line.width).max().unwrap_or_default();
        self.head(now) + "\n" + &lines.iter().map(|line| line.text(width)).collect::<String>()
    }

    fn head(&self, now: Timestamp) -> String {
        let done = self.subtasks.iter().filter(|step| step.mark() == Mark::Done).count();
        let took = took(self.start_time.as_ref(), self.finish_time.as_ref(), now);
        let took = took.map_or(String::new(), |took| format!(", {}", human(took)));
        let (state, all) = (self.status.to_lowercase(), self.subtasks.len());
        format!("{}  {}  {state}, {done} of {all} steps done{took}", self.name, self.id)
    }
}

/// Before its columns are aligned.
struct Line {
    /// Up to the end of the name, with colours.
    name: String,
    /// Of that, as it is seen.
    width: usize,
    rest: String,
}

impl Line {
    fn text(&self, width: usize) -> String {
        let gap = " ".repeat(width - self.width);
        format!("{}{gap}{}", self.name, self.rest).trim_end().to_owned() + "\n"
    }
}

impl Step {
    fn mark(&self) -> Mark {
        match self.status.as_str() {
            "SUCCESSFUL" => Mark::Done,
            "FAILED" => Mark::Failed,
            "READY" | "RUNNING" | "CANCELING" => Mark::Running,
            _ => Mark::Pending,
        }
    }

    fn title(&self) -> String {
        let mut name: String = self.name.chars().take(NAME_MAX).collect();
        if name.len() < self.name.len() {
            name.pop();
            name.push('…');
        }
        if self.parallel_idx < 0 { name } else { format!("{name} [{}]", self.parallel_idx) }
    }

    /// Which steps it waits for, by their numbers in the drawing.
    fn after(&self, order: &[u64]) -> String {
        let numbers = self.upstreams.iter().filter_map(|id| order.iter().position(|other| other == id));
        let numbers: Vec<String> = numbers.map(|at| (at + 1).to_string()).collect();
        if numbers.is_empty() { "at once".to_owned() } else { format!("after {}", numbers.join(", ")) }
    }

    fn line(&self, gutter: String, number: usize, after: Option<String>, now: Timestamp, pen: Pen) -> Line {
        let (mark, title) = (self.mark(), self.title());
        // A mark is one column.
        let width = gutter.chars().count() + 1 + format!(" {number:>2} {title}").chars().count();
        let name = format!("{gutter}{} {number:>2} {title}", pen.mark(mark));
        let mut rest = String::new();
        if let Some(took) = (mark != Mark::Pending)
            .then(|| took(self.start_time.as_ref(), self.finish_time.as_ref(), now))
            .flatten()
        {
            write!(rest, "  {}", render::paint(&human(took), render::DIM)).expect("writing to a string");
        }
        // That it is carried out goes without saying.
        let operation =
            (!matches!(self.operation.as_str(), "" | "EXECUTE")).then(|| self.operation.to_lowercase());
        for note in operation.into_iter().chain(after) {
            write!(rest, "  {}", render::paint(&note, render::DIM)).expect("writing to a string");
        }
        Line { name, width, rest }
    }
}

fn took(start: Option<&String>, finish: Option<&String>, now: Timestamp) -> Option<Duration> {
    let start: Timestamp = start?.parse().ok()?;
    let end = finish.map_or(Some(now), |finish| finish.parse().ok())?;
    Duration::try_from(end.duration_since(start)).ok()
}

fn is_same(some: &[u64], others: &[u64]) -> bool {
    some.len() == others.len() && some.iter().all(|id| others.contains(id))
}

/// Steps side by side: each as far down as its longest way from the top.
fn rows(steps: &[Step]) -> Vec<Vec<&Step>> {
    let mut depth = vec![0; steps.len()];
    // The list is in order, so one turn is enough; more of them for one that is not, as many as a way can be long.
    for _ in steps {
        let before = depth.clone();
        for (at, step) in steps.iter().enumerate() {
            let above = steps.iter().zip(&depth).filter(|(other, _)| step.upstreams.contains(&other.id));
            let deepest = above.map(|(_, depth)| depth + 1).max().unwrap_or(0);
            if let Some(own) = depth.get_mut(at) {
                *own = deepest.min(steps.len());
            }
        }
        if depth == before {
            break;
        }
    }
    let mut rows: Vec<Vec<&Step>> = Vec::new();
    for wanted in 0..=depth.iter().copied().max().unwrap_or(0) {
        let row = steps.iter().zip(&depth).filter(|(_, depth)| **depth == wanted).map(|(step, _)| step);
        rows.push(row.collect());
    }
    rows.retain(|row| !row.is_empty());
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Steps of a number of copies each; `0` is a step that is not split. Edges from all copies to all copies.
    fn task(steps: &[(&str, u64, &str)]) -> Value {
        let mut subtasks: Vec<Value> = Vec::new();
        let mut above: Vec<u64> = Vec::new();
        for (name, copies, status) in steps {
            let mut row = Vec::new();
            for copy in 0..(*copies).max(1) {
                let id = subtasks.len() as u64 + 101;
                let index = if *copies == 0 { -1 } else { i64::try_from(copy).unwrap() };
                let mut step = json!({ "id": id, "name": name, "status": status, "operation": "EXECUTE",
                    "parallelIdx": index, "upstreams": above, "downstreams": [] });
                if *status != "PENDING" {
                    step["startTime"] = json!("2026-01-02T03:04:05.5Z");
                }
                if matches!(*status, "SUCCESSFUL" | "FAILED") {
                    step["finishTime"] = json!(format!("2026-01-02T03:04:{:02}+00:00", 6 + copy));
                }
                subtasks.push(step);
                row.push(id);
            }
            above = row;
        }
        json!({ "id": 42, "name": "Restart OB cluster", "status": "RUNNING", "operation": "EXECUTE",
            "startTime": "2026-01-02T03:04:05Z", "subtasks": subtasks })
    }

    fn drawn(task: Value, pen: Pen) -> String {
        let task: Task = serde_json::from_value(task).unwrap();
        let text = task.draw("2026-01-02T03:05:07Z".parse().unwrap(), pen);
        anstream::adapter::strip_str(&text).to_string()
    }

    const ROLL: [(&str, u64, &str); 6] = [
        ("Prepare restart cluster", 0, "SUCCESSFUL"),
        ("Stop observer process", 3, "SUCCESSFUL"),
        ("Wait node", 0, "SUCCESSFUL"),
        ("Start observer process", 2, "RUNNING"),
        ("Wait node", 0, "PENDING"),
        ("Update OB cluster status", 0, "PENDING"),
    ];

    #[test]
    fn a_chain_with_fans() {
        let wanted = "\
Restart OB cluster  42  running, 5 of 9 steps done, 1 min 02 s
┌ ✓  1 Prepare restart cluster        500 ms
├─┬─ ✓  2 Stop observer process [0]   500 ms
│ ├─ ✓  3 Stop observer process [1]   1.5 s
│ └─ ✓  4 Stop observer process [2]   2.5 s
│ ✓  5 Wait node                      500 ms
├─┬─ ●  6 Start observer process [0]  1 min 01 s
│ └─ ●  7 Start observer process [1]  1 min 01 s
│ ○  8 Wait node
└ ○  9 Update OB cluster status
";
        assert_eq!(drawn(task(&ROLL), Pen::Unicode), wanted);
    }

    #[test]
    fn a_terminal_without_unicode() {
        let steps = [("Prepare", 2, "SUCCESSFUL"), ("Wait", 0, "FAILED"), ("Stop", 3, "PENDING")];
        let wanted = "\
Restart OB cluster  42  running, 2 of 6 steps done, 1 min 02 s
+-+- v  1 Prepare [0]  500 ms
| +- v  2 Prepare [1]  1.5 s
| x  3 Wait            500 ms
+-+- .  4 Stop [0]
  +- .  5 Stop [1]
  +- .  6 Stop [2]
";
        assert_eq!(drawn(task(&steps), Pen::Ascii), wanted);
        assert_eq!(Pen::of_locale(Some("de_DE.utf8")), Pen::Unicode);
        assert_eq!(Pen::of_locale(None), Pen::Unicode);
        assert_eq!(Pen::of_locale(Some("POSIX")), Pen::Ascii);
    }

    #[test]
    fn what_is_not_said_by_the_rows_is_said_in_words() {
        let mut task = task(&[("A", 0, "FAILED"), ("B", 0, "SUCCESSFUL"), ("C", 0, "PENDING")]);
        // In the older shape, out of order, with an edge past a row, and a step beside the first.
        let steps = task["subtasks"].as_array_mut().unwrap();
        steps[1]["operation"] = json!("SKIP");
        steps[2]["upstreams"] = json!([101, 102]);
        let beside = json!({ "id": 7, "name": "D", "status": "READY", "upstreams": [], "downstreams": [] });
        steps.insert(0, beside);
        steps.reverse();
        let object = task.as_object_mut().unwrap();
        let steps = object.remove("subtasks").unwrap();
        object.insert("tasks".to_owned(), steps);
        let wanted = "\
Restart OB cluster  42  running, 1 of 4 steps done, 1 min 02 s
┌─┬─ ✗  1 A  500 ms
│ └─ ●  2 D
│ ✓  3 B     500 ms  skip  after 1
└ ○  4 C     after 1, 3
";
        assert_eq!(drawn(task, Pen::Unicode), wanted);
    }

    #[test]
    fn wide_graphs_fit_eighty_columns() {
        let long = "A step with a name that is much longer than any that is known today";
        let mut steps = vec![(long, 0, "SUCCESSFUL"); 13];
        steps.insert(6, (long, 10, "RUNNING"));
        let text = drawn(task(&steps), Pen::Unicode);
        assert_eq!(text.lines().count(), 24);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("├─┬─ ●  7 A step with a name that is much longer than any t… [0]"), "{text}");
        // A circle is no graph of ours, and draws all the same.
        let mut circle = task(&[("A", 0, "PENDING"), ("B", 0, "PENDING")]);
        circle["subtasks"][0]["upstreams"] = json!([102]);
        assert_eq!(drawn(circle, Pen::Unicode).lines().count(), 3);
        assert_eq!(
            drawn(task(&[("A", 0, "READY")]), Pen::Unicode).lines().nth(1),
            Some("  ●  1 A  1 min 01 s")
        );
    }

    #[test]
    fn ids_of_v2_are_numbers_that_javascript_keeps() {
        assert_eq!(instance_of("9007199254740991").unwrap(), Some(9_007_199_254_740_991));
        assert_eq!(instance_of("22130706433028861").unwrap(), None);
        for id in ["-1", "x", ""] {
            assert!(instance_of(id).is_err(), "{id}");
        }
    }
}

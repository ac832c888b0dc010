//! Following a task to its end by the event stream: a live tree on a terminal, a line per event without one.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::{Output, WaitArgs};
use super::client::Client;
use super::exit::{Ending, Exit};
use super::render;
use super::tree::{self, Seen};
use crate::clock::{self, Stopwatch};
use crate::model::{AgentAddr, GenericId};
use crate::wire::{DagDetail, Info, TaskEvent};

/// Between two drawings: for the spinner and the running times.
const TICK: Duration = Duration::from_millis(120);

/// A change of another agent's task is waited for so long, then asked for again.
const CHANGE_SECS: u64 = 20;
const CHANGE_LIMIT: Duration = Duration::from_secs(CHANGE_SECS + 10);

/// How long an agent that has gone is waited for: the time of a restart, generously.
const COMEBACK: Duration = Duration::from_secs(60);

/// Between two tries to reach it again.
const COMEBACK_TRY: Duration = Duration::from_millis(500);

/// How a task that was followed has to end for the command to have succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Succeeded, rolled back after ROLLBACK, or passed.
    Done,
    /// Cancelled or aborted.
    Cancelled,
    /// Standing before a safe point.
    Paused,
}

/// Follows and reports; the task's last state goes to stdout as JSON where that was asked for.
///
/// # Errors
/// The task failed, was cancelled, or goes on beyond what was waited for.
pub(super) async fn follow(
    client: &Client,
    id: &str,
    wanted: Wanted,
    wait: &WaitArgs,
    output: Output,
    quiet: bool,
) -> Result<(), Ending> {
    if wait.no_wait {
        return detached(client, id, output).await;
    }
    let limit = wait.wait_timeout.map(Duration::from_secs);
    let mut follower = Follower::begin(client, id, quiet).await?;
    let followed = tokio::select! {
        followed = follower.run() => followed,
        () = interrupted() => Err(unknown(id, "stopped watching")),
        () = sleep(limit) => Err(unknown(id, "stopped waiting")),
    };
    let dag = match followed {
        Ok(dag) => dag,
        Err(ending) => {
            follower.screen.leave();
            return Err(ending);
        }
    };
    follower.screen.clear();
    if output == Output::Json {
        render::json(&dag);
    }
    conclude(&dag, wanted, quiet)
}

async fn detached(client: &Client, id: &str, output: Output) -> Result<(), Ending> {
    match output {
        Output::Text => render::out(id),
        Output::Json => render::json(&client.get::<DagDetail>(&format!("/api/v1/task/dag/{id}")).await?),
    }
    Ok(())
}

async fn sleep(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Ctrl-C leaves the task running: it belongs to the agent, not to this terminal.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn unknown(id: &str, what: &str) -> Ending {
    Ending::new(Exit::Unknown, format!("{what}; the task goes on")).with_hint(format!(
        "attach again with `obpilot task watch {id}`, or stop it with `obpilot task cancel {id}`"
    ))
}

fn conclude(dag: &DagDetail, wanted: Wanted, quiet: bool) -> Result<(), Ending> {
    let state = dag.obpilot.as_ref().map(|ours| ours.state.as_str()).unwrap_or_default();
    let is_cancelled = state == "failed" && dag.operator == "CANCEL";
    let is_done = matches!(state, "succeeded" | "rolled_back" | "passed");
    let paused = render::paused(dag);
    let is_as_wanted = match wanted {
        Wanted::Done => is_done,
        Wanted::Cancelled => is_cancelled,
        Wanted::Paused => paused.is_some(),
    };
    if is_as_wanted {
        if !quiet {
            render::say(&render::closing(dag));
            paused.iter().for_each(|paused| render::say(paused));
        }
        return Ok(());
    }
    render::say(&render::closing(dag));
    if is_cancelled {
        return Err(Ending::new(Exit::Cancelled, format!("'{}' was cancelled", dag.name)));
    }
    if is_done {
        let what = if wanted == Wanted::Paused { "paused" } else { "cancelled" };
        return Err(Ending::new(Exit::Refused, format!("the task had ended before it could be {what}")));
    }
    if let Some(paused) = paused {
        return Err(Ending::new(Exit::Unknown, format!("the task is {paused}")));
    }
    if state == "waiting" {
        return Err(Ending::new(Exit::Unknown, "the task waits for its coordinator or an operator"));
    }
    render::say(&render::failure(dag));
    Err(Ending::new(
        Exit::Failed,
        format!("'{}' failed at stage {} of {}", dag.name, dag.stage, dag.max_stage),
    ))
}

struct Follower<'a> {
    client: &'a Client,
    id: String,
    seen: Seen,
    /// The last event that is shown.
    after: i64,
    /// Another agent's task: its events are not in this agent's stream, so its changes are waited for.
    is_elsewhere: bool,
    screen: Screen,
    /// Lines that are shown, by sub-task.
    told: HashMap<String, usize>,
}

impl<'a> Follower<'a> {
    async fn begin(client: &'a Client, id: &str, quiet: bool) -> Result<Self, Ending> {
        let main: DagDetail = client.get(&format!("/api/v1/task/dag/{id}")).await?;
        let own: Info = client.get("/api/v1/info").await?;
        let own = AgentAddr::from_parts(&own.ip, own.port).ok();
        let owner = id.parse::<GenericId>().ok().and_then(|id| id.owner());
        let screen = Screen::new(quiet);
        screen.begin(&main);
        let mut follower = Self {
            client,
            id: id.to_owned(),
            after: main.obpilot.as_ref().map_or(0, |ours| ours.version),
            seen: Seen { main, parts: BTreeMap::new() },
            is_elsewhere: owner.is_some() && owner != own,
            screen,
            told: HashMap::new(),
        };
        follower.screen.unseen(&follower.seen.main, &mut follower.told);
        follower.read().await?;
        Ok(follower)
    }

    fn is_at_rest(&self) -> bool {
        let ours = self.seen.main.obpilot.as_ref();
        ours.is_none_or(|ours| !matches!(ours.state.as_str(), "ready" | "running" | "cancelling"))
    }

    /// At rest, and everything shown that happened until then.
    fn is_over(&self) -> bool {
        let version = self.seen.main.obpilot.as_ref().map_or(0, |ours| ours.version);
        self.is_at_rest() && self.after >= version
    }

    async fn run(&mut self) -> Result<DagDetail, Ending> {
        while !self.is_over() {
            let followed =
                if self.is_elsewhere { self.wait_for_changes().await } else { self.stream().await };
            match followed {
                Ok(()) => {}
                Err(ending) if ending.exit == Exit::Unreachable => self.come_back().await?,
                Err(refused) => return Err(refused),
            }
        }
        Ok(self.seen.main.clone())
    }

    /// Reads events until the task rests or the stream ends.
    async fn stream(&mut self) -> Result<(), Ending> {
        let mut events = self.client.events(self.after).await?;
        let mut buffer = Vec::new();
        let mut ticks = tokio::time::interval(TICK);
        self.read().await?;
        while !self.is_over() {
            tokio::select! {
                chunk = events.chunk() => {
                    let chunk = chunk.ok().flatten();
                    let chunk = chunk.ok_or_else(|| Ending::new(Exit::Unreachable, "the event stream has ended"))?;
                    buffer.extend_from_slice(&chunk);
                    if self.take(&mut buffer) {
                        self.read().await?;
                    }
                }
                _ = ticks.tick() => self.screen.draw(&self.seen),
            }
        }
        Ok(())
    }

    /// Waits for one change after another, and shows what is new in the record.
    async fn wait_for_changes(&mut self) -> Result<(), Ending> {
        while !self.is_over() {
            let target = format!("/api/v1/task/dag/{}?watch={}&wait={CHANGE_SECS}", self.id, self.after);
            let next = self.client.get_within::<DagDetail>(&target, CHANGE_LIMIT);
            tokio::pin!(next);
            let mut ticks = tokio::time::interval(TICK);
            let changed = loop {
                tokio::select! {
                    changed = &mut next => break changed?,
                    _ = ticks.tick() => self.screen.draw(&self.seen),
                }
            };
            self.after = changed.obpilot.as_ref().map_or(self.after, |ours| ours.version);
            self.read().await?;
        }
        Ok(())
    }

    /// Takes whole events out of the buffer; true when one of them concerns this task.
    fn take(&mut self, buffer: &mut Vec<u8>) -> bool {
        let mut is_concerned = false;
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = buffer.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&block);
            let data = text.lines().find_map(|line| line.strip_prefix("data: "));
            let Some(event) = data.and_then(|data| serde_json::from_str::<TaskEvent>(data).ok()) else {
                continue;
            };
            self.after = self.after.max(event.id);
            let parts = self.seen.part_ids();
            let dag = event.dag.as_deref().unwrap_or_default();
            if dag == self.id {
                self.screen.event(&self.seen.main, &event);
            }
            is_concerned |= dag == self.id || parts.values().any(|part| part == dag);
        }
        is_concerned
    }

    /// The task and its parts as they are now.
    async fn read(&mut self) -> Result<(), Ending> {
        self.seen.main = self.client.get(&format!("/api/v1/task/dag/{}", self.id)).await?;
        if self.is_elsewhere {
            self.screen.unseen(&self.seen.main, &mut self.told);
        }
        for id in self.seen.part_ids().into_values() {
            // A part that cannot be read now is shown as it was.
            if let Ok(part) = self.client.get::<DagDetail>(&format!("/api/v1/task/dag/{id}")).await {
                self.seen.parts.insert(id, part);
            }
        }
        self.screen.draw(&self.seen);
        Ok(())
    }

    /// The agent has gone. Its tasks go on when it is back.
    async fn come_back(&mut self) -> Result<(), Ending> {
        self.screen.note("the agent does not answer; the task goes on when it is back");
        let waited = Stopwatch::start();
        loop {
            match self.read().await {
                Ok(()) => {
                    self.screen.note("the agent is back");
                    return Ok(());
                }
                Err(ending) if ending.exit != Exit::Unreachable => return Err(ending),
                Err(_) if waited.elapsed() > COMEBACK => {
                    return Err(unknown(&self.id, "the agent did not come back"));
                }
                // Nothing announces a socket that is not there yet.
                Err(_) => tokio::time::sleep(COMEBACK_TRY).await,
            }
        }
    }
}

/// Of the screen, kept for what stands above and below the tree.
const SPARE_ROWS: usize = 4;

/// Of the terminal; plenty where it does not say.
fn rows() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(200, |size| usize::from(size.ws_row)).max(10)
}

/// Where progress is shown: a tree that is redrawn, lines, or nowhere.
enum Screen {
    Tree {
        bars: MultiProgress,
        lines: Vec<ProgressBar>,
        foot: ProgressBar,
        tick: usize,
    },
    /// Id of the stage that the last line belongs to.
    Lines(String),
    Nothing,
}

impl Screen {
    fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Nothing;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(String::new());
        }
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20));
        let foot = bars.add(bar("{msg}").with_message("Ctrl-C stops watching, not the task"));
        Self::Tree { bars, lines: Vec::new(), foot, tick: 0 }
    }

    fn begin(&self, dag: &DagDetail) {
        if !matches!(self, Self::Nothing) {
            render::say(&format!("{} (task {})", dag.name, dag.id));
        }
    }

    /// What the record says beyond what was told.
    fn unseen(&mut self, dag: &DagDetail, told: &mut HashMap<String, usize>) {
        for node in dag.nodes.iter().flatten() {
            for sub in node.sub_tasks.iter().flatten() {
                let count = told.entry(sub.id.clone()).or_default();
                for text in sub.task_logs.iter().flatten().skip(*count) {
                    self.line(dag, &node.id, Some(text));
                    *count += 1;
                }
            }
        }
    }

    /// A line under the name of its stage, which is said once.
    fn line(&mut self, dag: &DagDetail, node: &str, text: Option<&str>) {
        let Self::Lines(last) = self else { return };
        if last != node {
            node.clone_into(last);
            // Names repeat: a roll has one row of tasks for each zone.
            let found = dag.nodes.iter().flatten().enumerate().find(|(_, found)| found.id == node);
            let (number, name) = found.map_or((0, node), |(at, found)| (at + 1, found.name.as_str()));
            render::say(&format!("{} [{number}/{}] {name}", stamp(), dag.max_stage));
        }
        if let Some(text) = text {
            render::say(&format!("{}       {text}", stamp()));
        }
    }

    fn draw(&mut self, seen: &Seen) {
        let Self::Tree { bars, lines, foot, tick } = self else { return };
        *tick += 1;
        let all = seen.lines(clock::system().now());
        // What does not fit the screen could not be drawn again in its place.
        let shown = tree::window(all, rows().saturating_sub(SPARE_ROWS));
        let texts: Vec<_> = shown.iter().map(|line| render::line(line, *tick)).collect();
        while lines.len() < texts.len() {
            lines.push(bars.insert_before(foot, bar("{wide_msg}")));
        }
        for extra in lines.drain(texts.len()..) {
            bars.remove(&extra);
        }
        for (bar, text) in lines.iter().zip(texts) {
            bar.set_message(render::for_terminal(&text));
        }
        foot.tick();
    }

    fn event(&mut self, dag: &DagDetail, event: &TaskEvent) {
        let Some(node) = event.node.as_deref() else { return };
        match event.kind.as_str() {
            "log" => {
                let text = event.body.get("text").and_then(|t| t.as_str()).unwrap_or_default();
                let level = event.body.get("level").and_then(|l| l.as_str()).unwrap_or("info");
                let prefix =
                    if level == "info" { String::new() } else { format!("{}: ", level.to_uppercase()) };
                self.line(dag, node, Some(&format!("{prefix}{text}")));
            }
            "claimed" => self.line(dag, node, None),
            _ => {}
        }
    }

    fn note(&self, text: &str) {
        match self {
            Self::Tree { bars, .. } => drop(bars.println(text)),
            Self::Lines(_) => render::say(&format!("{} {text}", stamp())),
            Self::Nothing => {}
        }
    }

    /// Leaves the tree as it stands. (It could not be taken away: the `^C` that the terminal shows has moved the cursor.)
    fn leave(&mut self) {
        if let Self::Tree { bars, lines, .. } = self {
            bars.set_draw_target(ProgressDrawTarget::hidden());
            lines.clear();
            render::say("");
        }
    }

    /// Takes the tree off the screen: what follows tells how it ended. A bar that is dropped before would leave its line.
    fn clear(&mut self) {
        if let Self::Tree { bars, lines, .. } = self {
            drop(bars.clear());
            bars.set_draw_target(ProgressDrawTarget::hidden());
            lines.clear();
        }
    }
}

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style)
}

fn stamp() -> String {
    let text = render::moment(&crate::model::on_wire(clock::system().now()));
    text.get(11..).unwrap_or_default().to_owned()
}

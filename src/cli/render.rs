//! Text for people: tables, a task, a failure that explains itself. Data to stdout, the rest to stderr.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::args::Output;
use super::exit::Ending;
use super::tree::{self, Line, Mark, Seen, agent_of, human};
use crate::clock;
use crate::model::Timestamp;
use crate::wire::{
    BlockedView, ClusterParameter, DagDetail, FailureView, Info, LockHolder, ObInfo, Plan, Status,
    SubTaskDetail,
};

/// Why data did not reach stdout, if it did not.
static LOST: OnceLock<String> = OnceLock::new();

/// Data. A reader that has gone is no error; a full disk behind stdout is, and [`lost`] tells of it.
pub(super) fn out(text: &str) {
    let mut stdout = anstream::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => drop(LOST.set(error.to_string())),
        Ok(()) | Err(_) => {}
    }
}

pub(super) fn lost() -> Option<&'static String> {
    LOST.get()
}

/// Everything else.
pub(super) fn say(text: &str) {
    drop(writeln!(anstream::stderr().lock(), "{}", text.trim_end()));
}

pub(super) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => out(&text),
        Err(error) => say(&format!("the answer cannot be printed: {error}")),
    }
}

/// The end of a command that has no data of its own: a sentence for people, an object for scripts.
pub(super) fn done(output: Output, text: &str, value: &Value) {
    say(text);
    if output == Output::Json {
        json(value);
    }
}

/// `error: …` and `hint: …`, the last words of a command that did not end well.
pub(super) fn ending(ending: &Ending) {
    say(&format!("{} {}", paint("error:", RED), ending.text));
    if let Some(hint) = &ending.hint {
        say(&format!("{} {hint}", paint("hint:", CYAN)));
    }
}

pub(super) const RED: &str = "31";
pub(super) const GREEN: &str = "32";
pub(super) const YELLOW: &str = "33";
const CYAN: &str = "36";
pub(super) const DIM: &str = "2";

/// Colour; the streams leave it out where there is no terminal, or NO_COLOR is set.
pub(super) fn paint(text: &str, colour: &str) -> String {
    format!("\u{1b}[{colour}m{text}\u{1b}[0m")
}

/// A line for the redrawn tree, which is written past our streams.
pub(super) fn for_terminal(text: &str) -> String {
    match anstream::AutoStream::choice(&std::io::stderr()) {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string(),
        anstream::ColorChoice::Auto | anstream::ColorChoice::AlwaysAnsi | anstream::ColorChoice::Always => {
            text.to_owned()
        }
    }
}

/// A moment of the API in the terminal's own time zone, to the second.
pub(super) fn moment(on_wire: &str) -> String {
    let local = |at: Timestamp| at.to_zoned(TimeZone::system()).strftime("%F %T").to_string();
    on_wire.parse().map_or_else(|_| on_wire.to_owned(), local)
}

/// The same, with how long ago that was.
fn since(on_wire: &str) -> String {
    let ago =
        on_wire.parse().ok().and_then(|at| Duration::try_from(clock::system().now().duration_since(at)).ok());
    match ago {
        Some(ago) => format!("{}, {} ago", moment(on_wire), human(ago)),
        None => moment(on_wire),
    }
}

/// Rows under a header, columns as wide as they need to be.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One line of a task's tree.
pub(super) fn line(line: &Line, tick: usize) -> String {
    const SPINNER: [&str; 4] = ["◐", "◓", "◑", "◒"];
    let mark = match line.mark {
        Mark::Pending => paint("·", DIM),
        Mark::Running => paint(SPINNER[tick % SPINNER.len()], YELLOW),
        Mark::Waiting => paint("‖", YELLOW),
        Mark::Done => paint("✔", GREEN),
        Mark::Failed => paint("✘", RED),
    };
    let mut text = format!("{}{mark} {}", "    ".repeat(line.indent), line.text);
    if let Some(took) = line.took {
        write!(text, "  {}", paint(&human(took), DIM)).expect("writing to a string");
    }
    if let Some(note) = &line.note {
        write!(text, "  {}", paint(note, DIM)).expect("writing to a string");
    }
    text
}

pub(super) fn tree(seen: &Seen) -> String {
    let now = clock::system().now();
    seen.lines(now).iter().map(|l| line(l, 0) + "\n").collect()
}

/// In words of ours. A part that its coordinator ended was not passed by a human.
fn state(dag: &DagDetail) -> String {
    let Some(ours) = &dag.obpilot else { return dag.state.clone() };
    match ours.state.as_str() {
        "passed" if ours.part_of.is_some() => "released".to_owned(),
        "waiting" if ours.paused_before.is_some() => "paused".to_owned(),
        state => state.replace('_', " "),
    }
}

/// Where a paused task stands, and how it goes on.
pub(super) fn paused(dag: &DagDetail) -> Option<String> {
    let node = dag.obpilot.as_ref()?.paused_before.as_ref()?;
    Some(format!("paused before '{node}'; resume with obpilot task resume {}", dag.id))
}

/// What was asked of a task that has not come to its safe point yet.
fn asked(dag: &DagDetail) -> Option<&'static str> {
    let ours = dag.obpilot.as_ref()?;
    let is_under_way = matches!(ours.state.as_str(), "ready" | "running");
    match ours.asked.as_deref().filter(|_| is_under_way)? {
        "PAUSE" => Some("pauses before its next safe point"),
        "ABORT" => Some("ends before its next safe point"),
        _ => None,
    }
}

/// The head of a task: what, which, how far, since when.
pub(super) fn dag_head(dag: &DagDetail) -> String {
    let ours = dag.obpilot.as_ref();
    let mut text =
        format!("{}  {}  {}, stage {} of {}", dag.name, dag.id, state(dag), dag.stage, dag.max_stage);
    if dag.operator != "RUN" {
        write!(text, ", {}", dag.operator).expect("writing to a string");
    }
    if ours.is_some_and(|ours| ours.holds_lock) {
        text.push_str(", holds the lock");
    }
    if let Some(asked) = asked(dag) {
        write!(text, ", {asked}").expect("writing to a string");
    }
    if let Some(paused) = paused(dag) {
        write!(text, "\n  {paused}").expect("writing to a string");
    }
    write!(text, "\n  since {}", since(&dag.start_time)).expect("writing to a string");
    text
}

/// A whole task with every line of its record.
pub(super) fn dag_in_full(seen: &Seen, with_records: bool) -> String {
    let mut text = dag_head(&seen.main) + "\n" + &tree(seen);
    for node in seen.main.nodes.iter().flatten().filter(|_| with_records) {
        for sub in node.sub_tasks.iter().flatten().filter(|sub| sub.task_logs.is_some()) {
            writeln!(text, "\n{} on {}{}", node.name, agent_of(sub), executed(sub.execute_times))
                .expect("writing to a string");
            for log in sub.task_logs.iter().flatten() {
                writeln!(text, "  {log}").expect("writing to a string");
            }
        }
    }
    if let Some(main) = seen.main.obpilot.as_ref().and_then(|ours| ours.part_of.as_ref()) {
        writeln!(text, "\npart of task {main}").expect("writing to a string");
    }
    for (agent, id) in seen.part_ids() {
        writeln!(text, "\npart on {agent}: task {id}").expect("writing to a string");
    }
    text + &next_commands(&seen.main)
}

/// Worth a word when it was more than once.
fn executed(times: u32) -> String {
    if times > 1 { format!(", executed {times} times") } else { String::new() }
}

pub(super) fn dag_list(dags: &[DagDetail]) -> String {
    let rows: Vec<_> = dags
        .iter()
        .map(|dag| {
            let stage = format!("{}/{}", dag.stage, dag.max_stage);
            vec![dag.id.clone(), dag.name.clone(), state(dag), stage, moment(&dag.start_time)]
        })
        .collect();
    table(&["ID", "NAME", "STATE", "STAGE", "SINCE"], &rows)
}

/// What an operator may ask for, as commands.
fn next_commands(dag: &DagDetail) -> String {
    let operators = dag.obpilot.as_ref().map(|o| o.operators.clone()).unwrap_or_default();
    if operators.is_empty() {
        return String::new();
    }
    let mut text = String::from("\nnext:\n");
    for operator in operators {
        let meaning = match operator.as_str() {
            "RETRY" => "run again what failed",
            "ROLLBACK" => "undo what was done",
            "CANCEL" => "stop it; what was done stays",
            "PASS" => "call it done as it is, and free its lock",
            "PAUSE" => "let it stand still before its next safe point",
            "RESUME" => "let it go on",
            "ABORT" => "end it before its next safe point; what was done stays",
            _ => "",
        };
        writeln!(text, "  obpilot task {} {}    {meaning}", operator.to_lowercase(), dag.id)
            .expect("writing to a string");
    }
    text
}

/// The failing sub-tasks of a task with everything that was found out about them.
pub(super) fn failure(dag: &DagDetail) -> String {
    let mut text = String::new();
    for node in dag.nodes.iter().flatten().filter(|node| node.state == "FAILED") {
        for sub in node.sub_tasks.iter().flatten().filter(|sub| sub.state == "FAILED") {
            writeln!(text, "  {}, {}:", node.name, agent_of(sub)).expect("writing to a string");
            text.push_str(&sub_failure(sub));
        }
    }
    let mut hints = next_commands(dag);
    if hints.is_empty() {
        hints.push_str(
            "\nnext: it holds nothing and is done with; repeat the command once the cause is gone\n",
        );
    }
    writeln!(hints, "  obpilot task show -d {}    its whole record", dag.id).expect("writing to a string");
    text + &hints
}

fn sub_failure(sub: &SubTaskDetail) -> String {
    let mut text = String::new();
    match &sub.failure {
        Some(FailureView { code, text: why, diagnosis }) => {
            writeln!(text, "    {why} [{code}]").expect("writing to a string");
            if let Some(diagnosis) = diagnosis {
                text.push_str(&facts(diagnosis));
            }
        }
        None => {
            let last = sub.task_logs.as_ref().and_then(|logs| logs.last().cloned());
            writeln!(text, "    {}", last.unwrap_or_else(|| "no log".to_owned()))
                .expect("writing to a string");
        }
    }
    text
}

/// A diagnosis in its own order; what is empty is left out.
fn facts(diagnosis: &Value) -> String {
    let mut text = String::new();
    let mut fact =
        |name: &str, value: &str| writeln!(text, "    {name}: {value}").expect("writing to a string");
    for (key, name) in [("exit", "it"), ("oom", "memory"), ("core", "core file"), ("log_file", "its log")] {
        if let Some(value) = diagnosis.get(key).and_then(Value::as_str) {
            fact(name, value);
        }
    }
    for (key, name) in [("launcher_output", "it printed"), ("log_lines", "log"), ("limits", "limit")] {
        for value in
            diagnosis.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            fact(name, value);
        }
    }
    let each = |key: &str| diagnosis.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let member =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    for cause in each("causes") {
        fact("cause", &format!("{} ({})", member(&cause, "evidence"), member(&cause, "name")));
        fact("to do", &member(&cause, "advice"));
    }
    for finding in each("findings") {
        fact("found", &format!("{}: {}", member(&finding, "check"), member(&finding, "problem")));
        fact("to do", &member(&finding, "remedy"));
    }
    text
}

pub(super) fn status(info: &Info, status: &Status) -> String {
    let server = &status.obpilot.server;
    let mut rows = vec![
        (
            "agent",
            format!("{}:{}, process {}, obpilot {}", info.ip, info.port, info.pid, info.product_version),
        ),
        ("home", info.home_path.clone()),
        ("identity", info.identity.clone()),
    ];
    if !info.zone.is_empty() {
        rows.push(("zone", info.zone.clone()));
    }
    let pid = server.pid.map_or(String::new(), |pid| format!(", process {pid}"));
    let started = server.started_at.as_ref().map_or(String::new(), |at| format!(" since {}", since(at)));
    rows.push((info.engine.as_str(), format!("{}{pid}{started}", server.state)));
    if !info.ob_version.is_empty() {
        rows.push(("version", info.ob_version.clone()));
    }
    if let Some(port) = status.sql_port {
        rows.push(("sql port", port.to_string()));
    }
    if let Some(why) = &server.why {
        rows.push(("why", why.clone()));
    }
    if let Some(exit) = &server.last_exit {
        let asked = if exit.unexpected { ", nobody had asked for it" } else { "" };
        rows.push(("last exit", format!("process {} {} at {}{asked}", exit.pid, exit.how, moment(&exit.at))));
    }
    if let Some(policy) = &server.policy {
        rows.push(("policy", policy.clone()));
    }
    let credential = &status.obpilot.credential;
    if info.identity != "SINGLE" {
        let known = match credential.state.as_str() {
            "UNKNOWN" => "not known while the database does not answer".to_owned(),
            state => state.to_lowercase(),
        };
        rows.push(("password", known));
    }
    if let Some(hint) = &credential.hint {
        rows.push(("", hint.clone()));
    }
    let held = |by: &LockHolder| format!("held by '{}', task {}, since {}", by.name, by.id, since(&by.since));
    if let Some(safe) = &status.obpilot.safe_to_stop {
        let words = if safe.safe { "yes".to_owned() } else { format!("no: {}", safe.why.join("; ")) };
        rows.push(("safe stop", words));
    }
    rows.push(("lock", status.obpilot.held_by.as_ref().map_or("free".to_owned(), held)));
    rows.into_iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect()
}

/// `agents` are the statuses of those that answered.
pub(super) fn cluster(info: &ObInfo, agents: &BTreeMap<String, Status>, with_detail: bool) -> String {
    let cluster = &info.obcluster_info;
    let or_none = |text: &str| if text.is_empty() { "N/A".to_owned() } else { text.to_owned() };
    let mut text = format!(
        "cluster {}, id {}, version {}\n",
        or_none(&cluster.name),
        cluster.id,
        or_none(&cluster.version)
    );
    let mut header = vec![
        "ZONE",
        "IP",
        "OPT PORT",
        "IDENTITY",
        "SQL PORT",
        "SVR PORT",
        "STATUS",
        "ROOT SERVER",
        "PROCESS",
    ];
    header.push("SAFE TO STOP");
    if with_detail {
        header.extend(["MAINTENANCE", "OB STATE"]);
    }
    let mut rows = Vec::new();
    let mut reasons = String::new();
    for agent in &info.agent_info {
        let servers = cluster.topology.as_ref().and_then(|zones| zones.get(&agent.zone));
        let is_it =
            |s: &&crate::wire::TopologyServer| s.svr_ip == agent.ip && i64::from(s.agent_port) == agent.port;
        let server = servers.into_iter().flatten().find(is_it);
        let cell = |value: Option<String>| value.unwrap_or_else(|| "N/A".to_owned());
        let address = if agent.ip.contains(':') {
            format!("[{}]:{}", agent.ip, agent.port)
        } else {
            format!("{}:{}", agent.ip, agent.port)
        };
        let status = agents.get(&address);
        let safe = status.and_then(|status| status.obpilot.safe_to_stop.as_ref());
        let mut row = vec![
            or_none(&agent.zone),
            agent.ip.clone(),
            agent.port.to_string(),
            agent.identity.clone(),
            cell(server.map(|s| s.sql_port.to_string())),
            cell(server.map(|s| s.svr_port.to_string())),
            cell(server.map(|s| s.status.clone())),
            cell(server.map(|s| s.with_rootserver.clone())),
            status.map_or("agent not reached".to_owned(), |status| status.obpilot.server.state.clone()),
            safe.map_or("N/A", |safe| if safe.safe { "YES" } else { "NO" }).to_owned(),
        ];
        for why in safe.into_iter().flat_map(|safe| &safe.why) {
            writeln!(reasons, "  {} {address} should not be stopped now: {why}", paint("!", YELLOW))
                .expect("writing to a string");
        }
        if with_detail {
            row.push(cell(status.map(|s| if s.under_maintenance { "TRUE" } else { "FALSE" }.to_owned())));
            row.push(cell(status.map(|s| ob_state(s.ob_state).to_owned())));
        }
        rows.push(row);
    }
    text.push_str(&table(&header, &rows));
    if with_detail {
        text.push_str(&reasons);
    }
    text
}

/// A line per parameter, or per value where they differ.
pub(super) fn parameters(all: &[ClusterParameter], with_detail: bool) -> String {
    let mut rows = Vec::new();
    for parameter in all {
        let row = |value: String, whose: String| {
            vec![
                parameter.name.clone(),
                value,
                whose,
                parameter.default_value.clone(),
                parameter.edit_level.clone(),
                if with_detail { parameter.info.clone() } else { String::new() },
            ]
        };
        if parameter.is_single_value || !with_detail {
            rows.push(row(parameter.values.join(" | "), String::new()));
            continue;
        }
        for value in &parameter.ob_parameters {
            let server = crate::model::AgentAddr::from_parts(&value.svr_ip, i64::from(value.svr_port));
            let server = server.map_or_else(|_| value.svr_ip.clone(), |server| server.to_string());
            let tenant = value.tenant_name.as_ref().map(|tenant| format!(" {tenant}")).unwrap_or_default();
            rows.push(row(value.value.clone(), format!("{server}{tenant}")));
        }
    }
    let header = ["NAME", "VALUE", "OF", "DEFAULT", "EDIT LEVEL", "ABOUT"];
    if with_detail {
        return table(&header, &rows);
    }
    let brief = rows.into_iter().map(|row| [0, 1, 3, 4].map(|at| row[at].clone()).to_vec());
    table(&["NAME", "VALUE", "DEFAULT", "EDIT LEVEL"], &brief.collect::<Vec<_>>())
}

/// Who holds what; for one task also what it does or why it failed.
pub(super) fn blocked(blocked: &BlockedView, task: Option<&DagDetail>) -> String {
    let mut text = String::new();
    let mut line = |words: String| writeln!(text, "{words}").expect("writing to a string");
    if let Some(task) = task {
        let state =
            task.obpilot.as_ref().map_or_else(|| task.state.clone(), |ours| ours.state.replace('_', " "));
        line(format!("task {} '{}' is {state}", task.id, task.name));
        for sub in task.nodes.iter().flatten().flat_map(|node| node.sub_tasks.iter().flatten()) {
            if let Some(failure) = &sub.failure {
                line(format!("  {} {}: {}", paint("✘", RED), sub.name, failure.text));
            }
        }
    }
    let is_meant = |wait: &&crate::wire::WaitView| task.is_none_or(|task| task.id == wait.task);
    for wait in blocked.waits.iter().filter(is_meant) {
        let since_when = wait.since.as_ref().map_or(String::new(), |at| format!(", since {}", since(at)));
        let until = wait.until.as_ref().map_or(String::new(), |at| format!(", at most until {}", moment(at)));
        line(format!(
            "  {} {} on {}: {}{since_when}{until}",
            paint("…", YELLOW),
            wait.node,
            wait.agent,
            wait.what
        ));
    }
    if blocked.locks.is_empty() {
        line("no agent that was reached is locked".to_owned());
    }
    for lock in &blocked.locks {
        line(format!(
            "{} is held by task {} '{}', since {}",
            lock.agent,
            lock.id,
            lock.name,
            since(&lock.since)
        ));
        if !lock.doing.is_empty() {
            let until =
                lock.until.as_ref().map_or(String::new(), |at| format!(", at most until {}", moment(at)));
            line(format!("  {}{until}", lock.doing));
        }
        if !lock.actor.is_empty() {
            line(format!("  asked for by {}", lock.actor));
        }
        line(format!("  to push it aside: --id {}", lock.id));
    }
    for missing in &blocked.not_reached {
        line(format!("{} was not reached: {}", missing.agent, missing.why));
    }
    text
}

fn ob_state(state: u8) -> &'static str {
    match state {
        0 => "NOT RUNNING",
        1 => "RUNNING",
        2 => "RESTRICTED",
        3 => "AVAILABLE",
        _ => "UNKNOWN",
    }
}

pub(super) fn plan(plan: &Plan) -> String {
    let mut text = format!("{}, {}\n", plan.name, plan.scope);
    for server in &plan.servers {
        writeln!(text, "  {} ({}): {} → {}", server.agent, server.zone, server.now, server.then)
            .expect("writing to a string");
    }
    for stream in &plan.streams {
        let fate = if stream.keeps_majority {
            paint("keeps its majority", GREEN)
        } else {
            paint("loses its majority", RED)
        };
        let leader = if stream.leader_moves { ", its leader moves" } else { "" };
        let missing = if stream.missing.is_empty() {
            String::new()
        } else {
            format!(" ({})", stream.missing.join(", "))
        };
        writeln!(
            text,
            "  tenant {} ({}) log stream {}: {fate}, {} of {} replicas left, {} needed{leader}{missing}",
            stream.tenant, stream.tenant_id, stream.stream, stream.left, stream.replicas, stream.needed
        )
        .expect("writing to a string");
    }
    for stage in super::tree::folded(&plan.stages) {
        writeln!(text, "  {stage}").expect("writing to a string");
    }
    for consequence in &plan.consequences {
        writeln!(text, "  {} {consequence}", paint("!", YELLOW)).expect("writing to a string");
    }
    for obstacle in &plan.obstacles {
        writeln!(text, "  {} {obstacle}", paint("✘", RED)).expect("writing to a string");
    }
    writeln!(text, "  point of no return: {}", plan.no_return).expect("writing to a string");
    text
}

/// The closing line of a task that was followed to its end.
pub(super) fn closing(dag: &DagDetail) -> String {
    let span = dag.start_time.parse::<crate::model::Timestamp>().ok().zip(dag.end_time.parse().ok());
    let took = span.and_then(|(start, end): (crate::model::Timestamp, crate::model::Timestamp)| {
        std::time::Duration::try_from(end.duration_since(start)).ok()
    });
    let took = took.map_or(String::new(), |took| format!(" in {}", human(took)));
    let state = dag.obpilot.as_ref().map_or_else(|| dag.state.clone(), |ours| ours.state.replace('_', " "));
    let (mark, state) = match paused(dag) {
        Some(_) => (Mark::Waiting, "paused".to_owned()),
        None => (tree::mark(&dag.state), state),
    };
    let (mark, colour) = match mark {
        Mark::Done => ("✔", GREEN),
        Mark::Failed => ("✘", RED),
        Mark::Pending | Mark::Running | Mark::Waiting => ("…", YELLOW),
    };
    format!("{} {} {state}{took} (task {})", paint(mark, colour), dag.name, dag.id)
}

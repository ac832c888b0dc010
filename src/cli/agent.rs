//! `obpilot agent start|stop|restart|status`: the agent as a background process. Under systemd these are systemctl's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::args::{Global, Output, RunArgs, StopAgentArgs};
use super::client::{Client, home_of};
use super::exit::{Ending, Exit};
use super::render;
use crate::clock::Stopwatch;
use crate::config::STATE_DIR;
use crate::host::files;
use crate::host::lock::{self, Holder};
use crate::wire::{Info, Status};

/// Between two looks whether the agent answers; nothing announces a socket that is not there yet.
const LOOK: Duration = Duration::from_millis(50);

/// A log that is larger at a start is kept as `agent.log.1`, and a new one is begun.
const LOG_LEN_MAX: u64 = 16 << 20;

pub(super) async fn status(global: &Global) -> Result<(), Ending> {
    let client = Client::connect(global).await?;
    let info: Info = client.get("/api/v1/info").await?;
    let status: Status = client.get("/api/v1/status").await?;
    match global.output {
        Output::Json => render::json(&json!({ "info": info, "status": status })),
        Output::Text => render::out(&render::status(&info, &status)),
    }
    Ok(())
}

pub(super) async fn start(args: &RunArgs, global: &Global) -> Result<(), Ending> {
    let home = home_of(global)?;
    if let Some(Holder { pid, .. }) = holder(&home)? {
        let text = format!("the agent of {home} runs already, process {pid}");
        if args.ip.is_some() || args.port.is_some() || args.engine_bin.is_some() {
            render::say(
                "it keeps its settings; `obpilot agent restart` with the same options gives it the new ones",
            );
        }
        render::done(global.output, &text, &json!({ "pid": pid, "started": false }));
        return Ok(());
    }
    let log = AgentLog::open(&home)?;
    let mut child = spawn(&home, args, global, &log)?;
    let AgentLog { path: log, file: mut logged, from } = log;
    let waited = Stopwatch::start();
    let client = Client::connect(global).await?;
    loop {
        if let Ok(info) = client.get::<Info>("/api/v1/info").await {
            let Info { ip, port, pid, .. } = info;
            let millis = waited.elapsed().as_millis();
            let text = format!(
                "the agent answers at {ip}:{port} after {millis} ms, process {pid}; it logs to {log}"
            );
            let value = json!({ "pid": pid, "ip": ip, "port": port, "log": log, "started": true });
            render::done(global.output, &text, &value);
            return Ok(());
        }
        if let Ok(Some(exit)) = child.try_wait() {
            let exit = exit_of(exit.code());
            return Err(Ending::new(
                exit,
                format!("the agent did not start: {}", last_words(&mut logged, from, &log)),
            ));
        }
        if waited.elapsed() > Duration::from_secs(args.timeout) {
            let text = format!("the agent does not answer after {} s, process {}", args.timeout, child.id());
            return Err(Ending::new(Exit::Unknown, text).with_hint(format!("look at {log}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The exit code the agent itself ended with, where it is one of ours.
fn exit_of(code: Option<i32>) -> Exit {
    let found = Exit::ALL.into_iter().find(|exit| Some(i32::from(exit.code())) == code);
    found.filter(|exit| *exit != Exit::Done).unwrap_or(Exit::Failed)
}

/// Where an agent in the background writes. It grows over the agent's lives, so that the last words of one that died are
/// still there when the next one runs.
struct AgentLog {
    path: Utf8PathBuf,
    file: File,
    /// What comes after belongs to the life that begins now.
    from: u64,
}

impl AgentLog {
    fn open(home: &Utf8Path) -> Result<Self, Ending> {
        lock::make_state_dir(home).map_err(|e| Ending::usage(format!("{home}: {e}")))?;
        let path = home.join(STATE_DIR).join("agent.log");
        let failed = |e: &dyn std::fmt::Display| {
            Ending::new(Exit::Failed, format!("the agent's log {path} cannot be opened: {e}"))
        };
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > LOG_LEN_MAX) {
            files::rename(&path, &home.join(STATE_DIR).join("agent.log.1")).map_err(|e| failed(&e))?;
        }
        let file = File::options().create(true).append(true).read(true).mode(0o600).open(&path);
        let file = file.map_err(|e| failed(&e))?;
        let from = file.metadata().map_err(|e| failed(&e))?.len();
        Ok(Self { path, file, from })
    }
}

fn last_words(logged: &mut File, from: u64, log: &Utf8Path) -> String {
    let mut text = String::new();
    let read = logged.seek(SeekFrom::Start(from)).and_then(|_| logged.read_to_string(&mut text));
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    match (read, last) {
        (Ok(_), Some(last)) => last.to_owned(),
        _ => format!("look at {log}"),
    }
}

/// It takes itself a session of its own (`--detached`): neither this terminal's Ctrl-C nor its end concerns the agent (C17,
/// C19). It could not if it led a process group already.
fn spawn(
    home: &Utf8Path,
    args: &RunArgs,
    global: &Global,
    log: &AgentLog,
) -> Result<std::process::Child, Ending> {
    let failed =
        |e: std::io::Error| Ending::new(Exit::Failed, format!("the agent could not be started: {e}"));
    let binary = std::env::current_exe().map_err(failed)?;
    #[expect(clippy::disallowed_methods, reason = "the agent itself, with its own argument vector")]
    let mut command = std::process::Command::new(binary);
    command.args(["agent", "run", "--detached", "--home", home.as_str()]);
    for (flag, value) in [
        ("--ip", args.ip.map(|v| v.to_string())),
        ("--port", args.port.map(|v| v.to_string())),
        ("--engine", args.engine.map(|v| v.name().to_owned())),
        ("--engine-bin", args.engine_bin.as_ref().map(ToString::to_string)),
        ("--config", args.config.as_ref().map(ToString::to_string)),
        ("--log", args.log.clone()),
        ("--socket", global.socket.as_ref().map(ToString::to_string)),
    ] {
        if let Some(value) = value {
            command.args([flag, &value]);
        }
    }
    let (out, err) = (log.file.try_clone().map_err(failed)?, log.file.try_clone().map_err(failed)?);
    command.stdin(Stdio::null()).stdout(out).stderr(err).current_dir("/");
    command.spawn().map_err(failed)
}

fn holder(home: &Utf8Path) -> Result<Option<Holder>, Ending> {
    lock::holder(home)
        .map_err(|e| Ending::new(Exit::Failed, format!("the lock of {home} cannot be read: {e}")))
}

/// `output` is the form of what this stop itself says: of a restart only the start has data.
pub(super) async fn stop(args: &StopAgentArgs, global: &Global, output: Output) -> Result<(), Ending> {
    let home = home_of(global)?;
    let Some(holder) = holder(&home)? else {
        render::done(output, &format!("no agent runs on {home}"), &json!({ "pid": null, "stopped": false }));
        return Ok(());
    };
    if let Some(unit) = &holder.unit {
        let text = format!(
            "the agent, process {}, is run by systemd, which would start it again at once",
            holder.pid
        );
        return Err(Ending::new(Exit::Refused, text)
            .with_hint(format!("`systemctl stop {unit}`, or `systemctl restart {unit}`")));
    }
    let limit = Duration::from_secs(args.timeout);
    match holder.end(limit).await {
        Ok(true) => {
            let pid = holder.pid;
            let text = format!("the agent has ended, process {pid}; the database goes on");
            render::done(output, &text, &json!({ "pid": pid, "stopped": true }));
            Ok(())
        }
        Ok(false) => {
            let text = format!("the agent, process {}, has not ended after {} s", holder.pid, args.timeout);
            Err(Ending::new(Exit::Unknown, text).with_hint("it may be finishing requests; ask again"))
        }
        Err(error) => Err(Ending::new(Exit::Failed, format!("process {}: {error}", holder.pid))),
    }
}

//! Waiting until it listens.
//!
//! Purpose: seekdb binds its SQL socket in `run` when its TCP port is open (measured: 6 ms after it), so the moment is
//! an event of that directory. An observer may have no socket there; then its port is looked for in the kernel's table.
//!
//! Invariant: what listens must be the process that was asked about: the kernel tells the pid behind a socket. An event
//! only wakes; what counts is the look after it. A lost event costs one second.
//!
//! Not here: a deadline (the caller drops the future), logging in (`sql`).

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nix::libc;
use tokio::net::UnixStream;

use super::control::Shared;
use super::engine::Options;
use super::life::Life;
use super::log;
use crate::clock::Stopwatch;
use crate::flow::ports::Progress;
use crate::host::events::Events;
use crate::host::ports;
use crate::model::Exit;
use crate::tasks::Tasks;

/// The longest pause: survives a lost event.
const FALLBACK: Duration = Duration::from_secs(1);
/// A TCP port opens without an event. The pauses grow with the time waited, so that little is lost of it: at most this part.
const PART_LOST: u32 = 8;
/// A socket is bound before it listens, by microseconds.
const SOON: Duration = Duration::from_millis(2);
/// How often the waiting person is told how far it has come.
const TELL_SECS: u64 = 10;

/// How the waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Listening,
    Ended(Exit),
}

/// Returns when the process listens or has ended.
pub(super) async fn wait(
    shared: &Shared,
    life: &Life,
    options: &Options,
    progress: &dyn Progress,
) -> Outcome {
    let probe = Probe::new(shared, life.ident.pid, options);
    // Without events (the kernel's number of them is exhausted) the fallback does it.
    let events = Events::new(&shared.instance.home().join("run")).ok();
    let (watch, mut told) = (Stopwatch::start(), 0);
    let mut woken_at = watch.elapsed();
    loop {
        if let Some(exit) = life.exit() {
            return Outcome::Ended(exit);
        }
        if probe.is_listening().await {
            return Outcome::Listening;
        }
        let waited = watch.elapsed().as_secs();
        if waited / TELL_SECS > told {
            told = waited / TELL_SECS;
            tell(shared, waited, progress).await;
        }
        let pause = ((watch.elapsed() - woken_at) / PART_LOST).clamp(SOON, FALLBACK);
        tokio::select! {
            exit = life.exited() => return Outcome::Ended(exit),
            () = next(events.as_ref()) => woken_at = watch.elapsed(),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn tell(shared: &Shared, waited_secs: u64, progress: &dyn Progress) {
    let path = shared.instance.log_path();
    let step = Tasks::blocking(move || log::last_step(&path)).await;
    let step = step.unwrap_or_else(|| "its log shows no step yet".to_owned());
    progress.info(&format!("waiting for it to listen since {waited_secs} s: {step}"));
}

async fn next(events: Option<&Events>) {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Whether one process listens.
pub(super) struct Probe {
    pid: i32,
    sockets: Vec<Utf8PathBuf>,
    port: Option<u16>,
}

impl Probe {
    pub(super) fn new(shared: &Shared, pid: i32, options: &Options) -> Self {
        let instance = &shared.instance;
        let ports = instance.engine.ports(instance.home(), &instance.known_options(options));
        let port = ports.iter().find(|(key, _)| *key == "mysql_port").map(|(_, port)| *port);
        Self { pid, sockets: instance.sockets(), port }
    }

    pub(super) async fn is_listening(&self) -> bool {
        for socket in &self.sockets {
            if answers(socket, self.pid).await {
                return true;
            }
        }
        let (pid, port) = (self.pid, self.port);
        match port {
            Some(port) => Tasks::blocking(move || ports::is_listening(pid, port)).await,
            None => false,
        }
    }
}

/// Whether this very process accepts connections on the socket.
async fn answers(socket: &Utf8Path, pid: i32) -> bool {
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else { return false };
    // A path of a socket has 107 bytes at most and homes may be deep: go through the open directory.
    let Ok(dir) =
        std::fs::File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(dir)
    else {
        return false;
    };
    use std::os::fd::AsRawFd as _;
    let path = format!("/proc/self/fd/{}/{name}", dir.as_raw_fd());
    match tokio::time::timeout(FALLBACK, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => stream.peer_cred().is_ok_and(|peer| peer.pid() == Some(pid)),
        Ok(Err(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_answers_for_its_own_process_only() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let deep = dir.join("d".repeat(120));
        crate::host::files::create_dirs(&deep, 0o755).unwrap();
        let own = std::process::id().cast_signed();
        assert!(!answers(&deep.join("none.sock"), own).await);
        let short = dir.join("sql.sock");
        let listener = tokio::net::UnixListener::bind(&short).unwrap();
        let path = deep.join("sql.sock");
        #[expect(clippy::disallowed_methods, reason = "a socket cannot be bound by a path of this length")]
        std::fs::rename(&short, &path).unwrap();
        assert!(answers(&path, own).await, "a path too long for a socket address");
        assert!(!answers(&path, 1).await);
        drop(listener);
        assert!(!answers(&path, own).await, "a stale socket");
    }
}

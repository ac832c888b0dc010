//! Stopping: gracefully by the way this build understands, SIGKILL past the grace period or when told.
//!
//! Invariant: every signal goes through the pidfd after another look at who that is. A first start is not killed while
//! it initialises: that ruins its directory (`seekdb-engine.md` fact 6); it is asked, or waited for, and what the wait
//! is for stands in the task's log. Escalation goes straight to SIGKILL: a server in its ordered shutdown no longer
//! listens to anything else.
//!
//! Not here: stopping by SQL and the checkpoint before (`flow`).

use std::time::Duration;

use nix::libc::{SIGTERM, SIGUSR1};
use rustix::process::Signal;

use super::control::Shared;
use super::engine::Options;
use super::identity;
use super::layout::FirstStart;
use super::life::{Life, NotSent};
use super::ready::{self, Probe};
use crate::clock::Stopwatch;
use crate::error::{Code, Error, Result};
use crate::flow::ports::Progress;
use crate::model::{Exit, StopHow, StopReport};

/// A first start takes a second or two; on a slow disk with a large data file, a minute. What is killed after that is begun
/// afresh by the next start, so the price of impatience is time, not data.
const FIRST_START_PATIENCE: Duration = Duration::from_secs(120);
/// From SIGKILL to the end: the kernel frees hundreds of GB in seconds; more is a process stuck in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(90);
/// The mask of a process is no event; it is set in its first milliseconds.
const MASK_PAUSE: Duration = Duration::from_millis(50);
/// A process that was gone at the last look is reported by its pidfd at once.
const GONE_LIMIT: Duration = Duration::from_secs(5);

/// The signal that this build takes as "shut down in good order", by the signals it blocks in order to handle them
/// (`observer-model.md` §5.1). `None`: too early in its start to tell.
fn graceful_signal(blocked: u64) -> Option<Signal> {
    let blocks = |signal: i32| blocked & (1 << (signal - 1)) != 0;
    if blocks(SIGUSR1) {
        Some(Signal::USR1)
    } else if blocks(SIGTERM) {
        Some(Signal::TERM)
    } else {
        None
    }
}

struct Stop<'a> {
    shared: &'a Shared,
    life: &'a Life,
    progress: &'a dyn Progress,
    signals: Vec<String>,
}

/// See `Process::stop`.
pub(super) async fn stop(
    shared: &Shared,
    life: &Life,
    how: StopHow,
    progress: &dyn Progress,
) -> Result<StopReport> {
    let watch = Stopwatch::start();
    let mut stop = Stop { shared, life, progress, signals: Vec::new() };
    let exit = match how {
        StopHow::Kill => None,
        StopHow::Graceful { grace_secs } => stop.ask(Duration::from_secs(grace_secs)).await?,
    };
    let exit = match exit {
        Some(exit) => exit,
        None => stop.kill().await?,
    };
    progress.info(&format!("it {exit}"));
    let took_millis = watch.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    Ok(StopReport { signals: stop.signals, exit, took_millis })
}

impl Stop<'_> {
    /// The graceful signal, then waiting. `None`: it lives on.
    async fn ask(&mut self, grace: Duration) -> Result<Option<Exit>> {
        if self.is_stopped_by_signal() {
            self.progress.warn("it stands still (SIGSTOP): it cannot react before it is continued");
        }
        let asked = tokio::time::timeout(grace, async {
            let signal = self.decide().await?;
            let name = name(signal);
            self.progress.info(&format!("{name}: asking it to shut down, at most {} s", grace.as_secs()));
            self.send(signal).await
        });
        match asked.await {
            Ok(Some(Err(error))) => return Err(error),
            Ok(Some(Ok(()))) => {}
            // It has ended by itself.
            Ok(None) => return Ok(Some(self.life.exited().await)),
            Err(_) => {
                self.progress.warn("it is too early in its start to understand a graceful signal");
                return Ok(None);
            }
        }
        let left = tokio::time::timeout(grace, self.life.exited()).await;
        if left.is_err() {
            let text = format!("it did not end within {} s", grace.as_secs());
            self.progress.warn(&text);
        }
        Ok(left.ok())
    }

    /// Waits until the mask tells; `None` when it ends before.
    async fn decide(&self) -> Option<Signal> {
        loop {
            if let Some(signal) = identity::blocked_signals(self.life.ident).and_then(graceful_signal) {
                return Some(signal);
            }
            tokio::select! {
                _ = self.life.exited() => return None,
                () = tokio::time::sleep(MASK_PAUSE) => {}
            }
        }
    }

    async fn kill(&mut self) -> Result<Exit> {
        if let Some(exit) = self.spare_first_start().await {
            return Ok(exit);
        }
        self.progress.info("SIGKILL");
        if let Some(sent) = self.send(Signal::KILL).await {
            sent?;
        }
        match tokio::time::timeout(KILL_LIMIT, self.life.exited()).await {
            Ok(exit) => Ok(exit),
            Err(_) => Err(Error::new(
                Code::StopFailed,
                format!(
                    "pid {} lives on {} s after SIGKILL: {}; the kernel waits for a device, look at `dmesg` and the disks",
                    self.life.ident.pid,
                    KILL_LIMIT.as_secs(),
                    self.held_by()
                ),
            )),
        }
    }

    /// Waits for an initialising first start, at most its patience. `Some` when it ended meanwhile.
    async fn spare_first_start(&self) -> Option<Exit> {
        if !FirstStart::is_marked(&self.shared.instance.state_dir()) {
            return None;
        }
        let options = Options::new();
        if Probe::new(self.shared, self.life.ident.pid, &options).is_listening().await {
            self.keep_data().await;
            return None;
        }
        self.progress.warn(&format!(
            "this is its first start and it initialises its data; killing it now would ruin the directory. Waiting until \
             it listens, at most {} s",
            FIRST_START_PATIENCE.as_secs()
        ));
        let waiting = ready::wait(self.shared, self.life, &options, self.progress);
        match tokio::time::timeout(FIRST_START_PATIENCE, waiting).await {
            Ok(ready::Outcome::Listening) => {
                self.keep_data().await;
                None
            }
            Ok(ready::Outcome::Ended(exit)) => Some(exit),
            Err(_) => {
                self.progress.warn(
                    "it did not become ready: it is killed, and the next start removes what this one made",
                );
                None
            }
        }
    }

    /// It has listened: its log may not reach the disk before the kill, so the fact is recorded here.
    async fn keep_data(&self) {
        if !self.shared.instance.engine.listening_is_ready() {
            return;
        }
        if let Err(error) = self.shared.end_first_start(self.life).await {
            self.progress.warn(&format!("cannot record that its first start is over: {error}"));
        }
    }

    /// `None` when it has ended and there was nobody to send to.
    async fn send(&mut self, signal: Signal) -> Option<Result<()>> {
        let instance = &self.shared.instance;
        match self.life.signal(signal, &instance.expected(), &instance.pid_files()) {
            Ok(()) => {
                self.signals.push(name(signal).to_owned());
                Some(Ok(()))
            }
            Err(error) => {
                // The usual reason is that it has just ended.
                if tokio::time::timeout(GONE_LIMIT, self.life.exited()).await.is_ok() {
                    return None;
                }
                let code = match error {
                    NotSent::NotOurs(_) => Code::ProcessCheckFailed,
                    NotSent::Refused(_) => Code::StopFailed,
                };
                Some(
                    Err(Error::new(code, format!("pid {}: {error}", self.life.ident.pid)).with_source(error)),
                )
            }
        }
    }

    fn is_stopped_by_signal(&self) -> bool {
        self.stat().is_some_and(|stat| matches!(stat.state, 'T' | 't'))
    }

    /// What the kernel lets it wait for.
    fn held_by(&self) -> String {
        let state = self.stat().map_or('?', |stat| stat.state);
        let process = procfs::process::Process::new(self.life.ident.pid);
        let place = process.and_then(|process| process.wchan()).unwrap_or_default();
        format!("state {state}, waiting in {}", if place.is_empty() { "an unknown place" } else { &place })
    }

    fn stat(&self) -> Option<procfs::process::Stat> {
        let stat =
            procfs::process::Process::new(self.life.ident.pid).and_then(|process| process.stat()).ok()?;
        (identity::Ident::of(&stat) == self.life.ident).then_some(stat)
    }
}

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::USR1 => "SIGUSR1",
        Signal::TERM => "SIGTERM",
        _ => "SIGKILL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_graceful_signal_follows_from_the_mask() {
        assert_eq!(graceful_signal(0xeddf_ff80_0000_5200), Some(Signal::USR1), "seekdb 1.4, measured");
        assert_eq!(graceful_signal(1 << (SIGTERM - 1)), Some(Signal::TERM), "the older convention");
        assert_eq!(graceful_signal(0), None, "too early");
        assert_eq!(graceful_signal(1 << (SIGUSR1 - 1)), Some(Signal::USR1));
        assert_eq!(graceful_signal(!(1 << (SIGUSR1 - 1) | 1 << (SIGTERM - 1))), None);
    }
}

//! The only file that spawns.
//!
//! Purpose: every long-running part of the agent says, when it is spawned, what its failure means and how it
//! stops; stopping the agent is then one call that waits for those who must finish and drops the rest.
//!
//! Invariant: nothing outlives [`Tasks::stop`] but OS processes that are meant to (the database).
//!
//! Not here: the order in which parts stop (`daemon::run`); the steps' own cancellation (`engine::run`).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a panic or error of a task means for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Logged; the rest goes on.
    Log,
    /// The agent cannot keep its promises without this part: it exits non-zero and is started again.
    StopAgent,
}

/// What happens to a task when the agent stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// Waited for; it listens to the token.
    Wait,
    /// Dropped at its next await; everything durable is in the store already.
    Drop,
}

/// Name, for logs, and the two policies.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub name: &'static str,
    pub on_failure: OnFailure,
    pub on_stop: OnStop,
}

impl Kind {
    pub const fn part(name: &'static str) -> Self {
        Self { name, on_failure: OnFailure::StopAgent, on_stop: OnStop::Wait }
    }

    pub const fn helper(name: &'static str) -> Self {
        Self { name, on_failure: OnFailure::Log, on_stop: OnStop::Drop }
    }
}

/// Cheap handle; all clones belong to one agent.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
    failed: mpsc::UnboundedSender<String>,
}

impl Tasks {
    /// The receiver yields the name and reason of the first part without which the agent cannot go on.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (failed, failures) = mpsc::unbounded_channel();
        (Self { tracker: TaskTracker::new(), token: CancellationToken::new(), failed }, failures)
    }

    /// Cancelled when the agent stops.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    pub fn spawn<F>(&self, kind: Kind, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (token, failed) = (self.token.clone(), self.failed.clone());
        let guarded = async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            let outcome = match kind.on_stop {
                OnStop::Wait => work.await,
                OnStop::Drop => match token.run_until_cancelled(work).await {
                    Some(outcome) => outcome,
                    None => return,
                },
            };
            if let Err(panic) = outcome {
                let reason = format!("{} panicked: {}", kind.name, panic_text(&*panic));
                tracing::error!(task = kind.name, "{reason}");
                if kind.on_failure == OnFailure::StopAgent && failed.send(reason).is_err() {
                    tracing::debug!(task = kind.name, "nobody waits for failures any more");
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        let _detached = tokio::spawn(self.tracker.track_future(guarded));
    }

    /// Runs blocking work (crypto, file walks) off the async threads.
    ///
    /// # Panics
    /// When the work panics: the caller's task then fails by its own policy.
    pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
            Err(_) => std::future::pending().await,
        }
    }

    /// Cancels the token and waits for everybody at most `grace`; true when all ended by themselves.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// Starts a named OS thread for work that blocks for the life of the agent (the store's writer).
///
/// # Errors
/// When the OS refuses another thread.
pub fn thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// The message of a panic, as far as it is text.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no message".to_owned())
}

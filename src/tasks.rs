//! The only file that spawns.
//!
//! Purpose: every long-running part of the agent says, when it is spawned, what its failure means and how it
//! stops; stopping the agent is then one call that waits for those who must finish and drops the rest.
//!
//! Invariants: nothing outlives [`Tasks::stop`] but OS processes that are meant to (the database); what is spawned runs on the
//! runtime of the agent, never on that of the HTTP worker whose request began it.
//!
//! Not here: the order in which parts stop (`daemon::run`); the steps' own cancellation (`engine::run`).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

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
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    tracker: TaskTracker,
    token: CancellationToken,
    failed: mpsc::UnboundedSender<String>,
}

impl Tasks {
    /// Everything runs on the runtime that this is called on. The receiver yields the name and reason of the first part without
    /// which the agent cannot go on.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (failed, failures) = mpsc::unbounded_channel();
        let (runtime, tracker, token) = (Handle::current(), TaskTracker::new(), CancellationToken::new());
        (Self(Arc::new(Inner { runtime, tracker, token, failed })), failures)
    }

    /// Cancelled when the agent stops.
    pub fn token(&self) -> &CancellationToken {
        &self.0.token
    }

    pub fn spawn<F>(&self, kind: Kind, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // One count for all that it needs: a token has a mutex around its own.
        let own = Arc::clone(&self.0);
        let guarded = async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            let outcome = match kind.on_stop {
                OnStop::Wait => work.await,
                OnStop::Drop => match own.token.run_until_cancelled(work).await {
                    Some(outcome) => outcome,
                    None => return,
                },
            };
            if let Err(panic) = outcome {
                let reason = format!("{} panicked: {}", kind.name, panic_text(&*panic));
                tracing::error!(task = kind.name, "{reason}");
                if kind.on_failure == OnFailure::StopAgent && own.failed.send(reason).is_err() {
                    tracing::debug!(task = kind.name, "nobody waits for failures any more");
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        let _detached = self.0.runtime.spawn(self.0.tracker.track_future(guarded));
    }

    /// Work that is done to its end, or to the agent's, though its caller may go.
    ///
    /// # Panics
    /// When the work does.
    pub async fn to_its_end<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (done, answer) = oneshot::channel();
        self.spawn(kind, async move {
            if done.send(work.await).is_err() {
                tracing::debug!(task = kind.name, "a caller has gone before its answer");
            }
        });
        match answer.await {
            Ok(value) => value,
            // The agent stops, and this caller with it.
            Err(_) if self.0.token.is_cancelled() => std::future::pending().await,
            Err(_) => panic!("{} panicked, see the line before", kind.name),
        }
    }

    /// Work that goes when its caller does, and that does not run on its caller's runtime: what the work leaves there for others
    /// (a connection that is kept) stays.
    ///
    /// # Panics
    /// When the work does.
    pub async fn for_caller<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        let spawned = self.0.runtime.spawn(self.0.tracker.track_future(work));
        joined(AbortOnDropHandle::new(spawned).await).await
    }

    /// Runs blocking work (crypto, file walks) off the async threads.
    ///
    /// # Panics
    /// When the work panics: the caller's task then fails by its own policy.
    pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        joined(tokio::task::spawn_blocking(work).await).await
    }

    /// Cancels the token and waits for everybody at most `grace`; true when all ended by themselves.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.0.token.cancel();
        self.0.tracker.close();
        tokio::time::timeout(grace, self.0.tracker.wait()).await.is_ok()
    }
}

/// What the work came to. A runtime that ends takes those with it that wait for its work.
async fn joined<T>(outcome: Result<T, JoinError>) -> T {
    match outcome {
        Ok(value) => value,
        Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// Where a thread of its own has short work done: on the runtime that it was started from, or at once where there is none.
#[derive(Clone, Debug)]
pub struct Aside(Option<Handle>);

impl Aside {
    pub fn here() -> Self {
        Self(Handle::try_current().ok())
    }

    /// Work that a runtime which ends meanwhile drops.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "the one file that spawns")]
            Some(runtime) => drop(runtime.spawn(async move { work() })),
            None => work(),
        }
    }

    /// The same for work that blocks, which gets a thread.
    pub fn blocking(&self, work: impl FnOnce() + Send + 'static) {
        match &self.0 {
            Some(runtime) => drop(runtime.spawn_blocking(work)),
            None => work(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An HTTP worker's runtime, which ends while the agent goes on.
    fn elsewhere<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
        let worker = thread("elsewhere", || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
        });
        worker.unwrap().join().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    #[expect(clippy::disallowed_methods, reason = "as a library does that spawns where it is called")]
    async fn what_the_work_of_a_caller_leaves_outlives_the_callers_runtime() {
        let (tasks, _failures) = Tasks::new();
        let (end, ended) = oneshot::channel::<()>();
        let work = async move { Some(tokio::spawn(ended)) };
        let left = tokio::task::block_in_place(|| elsewhere(async move { tasks.for_caller(work).await }));
        end.send(()).unwrap();
        assert_eq!(left.unwrap().await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn the_work_of_a_caller_goes_with_it() {
        let (tasks, _failures) = Tasks::new();
        let (held, gone) = oneshot::channel::<()>();
        let mut waiting = Box::pin(tasks.for_caller(async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        assert!(gone.await.is_err());
    }
}

//! The one writer: a thread that puts whatever is waiting into one transaction (`group`).
//!
//! Invariant: a write is answered after its transaction is durable. A write that refuses (lock held, stale) takes
//! back its own part and nothing of its neighbours'. When the commit itself fails, all writes of the group fail and
//! nothing of them is stored; log lines, which have no caller to tell, are kept and tried with the next group.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use camino::Utf8Path;
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::checkpoint::Checkpoints;
use super::error::StoreError;
use super::group::{Batch, Job, Op, Ran, Scope};
use super::records::{Line, Told};
use crate::clock::{Clock, Stopwatch};
use crate::engine::port::{LogLine, Record};
use crate::tasks::Aside;
use crate::telemetry::Meter;

/// Writes in one transaction at most: bounds the time until the first of them is answered.
const GROUP_MAX: usize = 512;

/// Writes that may wait before new ones are refused as busy; log lines are never refused.
const WAITING_MAX: usize = 10_000;

/// Lines kept over failing commits; beyond that the oldest give way (and the loss is logged).
const KEPT_LINES_MAX: usize = 10_000;

/// A group of so many writes is one of many tasks at once.
pub(super) const MANY: usize = 128;

/// Pages that are kept in memory between groups: of a few tasks, as SQLite has it, and of a thousand that change again and again.
const PAGES_KIB: i64 = 2_000;
const PAGES_OF_MANY_KIB: i64 = 8_192;

/// Groups of few, after one of many, until the many are taken to be done.
pub(super) const FEW_FOR: u32 = 64;

/// Callers that the thread tells itself, after a commit. To tell more of them would keep the next group waiting.
const TOLD_AT_ONCE: usize = 32;

/// Groups with a savepoint around every write, after one that has failed.
const CAREFUL_FOR: u32 = 1_000;

/// What the writer has committed since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Transactions: one sync of the disk each.
    pub groups: u64,
    /// Writes and log lines in them.
    pub writes: u64,
}

#[derive(Debug, Default)]
struct Counts {
    /// Transactions that were tried, whatever became of them.
    commits: AtomicU64,
    groups: AtomicU64,
    writes: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::UnboundedSender<Op>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    /// From the first write of a group until it is durable.
    pub(super) times: Meter,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

pub(super) fn start(
    mut connection: Connection,
    path: &Utf8Path,
    feed: broadcast::Sender<Arc<Record>>,
    clock: Arc<dyn Clock>,
) -> Result<Writer, StoreError> {
    let aside = Aside::here();
    let checkpoints = Checkpoints::of(&mut connection, path, aside.clone())?;
    let (queue, ops) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let (counts, times) = (Arc::<Counts>::default(), Meter::default());
    let state = Thread {
        connection,
        feed,
        clock,
        waiting: Arc::clone(&waiting),
        counts: Arc::clone(&counts),
        times: times.clone(),
        aside,
        checkpoints,
        kept: Vec::new(),
        careful: 0,
        few: FEW_FOR,
    };
    let thread = crate::tasks::thread("store-writer", move || state.run(ops))
        .map_err(|e| StoreError::Open { path: path.to_owned(), why: e.to_string() })?;
    Ok(Writer { queue, waiting, counts, times, thread: Mutex::new(Some(thread)) })
}

impl Writer {
    /// Runs `work` inside the next group and answers after its commit. An `Err` of `work` takes back what it wrote.
    pub(super) async fn write<T, E>(
        &self,
        work: impl FnOnce(&mut Scope<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.ask(Op::Write, move |scope| (work(scope), None)).await
    }

    /// The same for work that refuses before it writes (its inner result), which spares it a savepoint. Its outer `Err` fails
    /// the group.
    pub(super) async fn write_clean<T, E>(
        &self,
        work: impl FnOnce(&mut Scope<'_>) -> Result<Result<T, E>, StoreError> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let split = move |scope: &mut Scope<'_>| match work(scope) {
            Ok(result) => (result, None),
            Err(error) => (Err(error.clone().into()), Some(error)),
        };
        self.ask(Op::Clean, split).await
    }

    /// Queues work of a kind and waits for its answer. Work that fails the group says why beside its result.
    async fn ask<T, E>(
        &self,
        kind: fn(Box<dyn Job>) -> Op,
        work: impl FnOnce(&mut Scope<'_>) -> (Result<T, E>, Option<StoreError>) + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting > WAITING_MAX {
            return Err(StoreError::Busy(waiting).into());
        }
        let (reply, answer) = oneshot::channel();
        self.send(kind(Box::new(Asked { work: Some(work), result: None, reply })))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unanswered.into()))
    }

    /// Queues work that nobody waits for; it is committed no later than any write queued after it, or not at all.
    pub(super) fn post(&self, work: impl FnOnce(&mut Scope<'_>) -> Result<(), StoreError> + Send + 'static) {
        if self.send(Op::Write(Box::new(Posted(Some(work))))).is_err() {
            tracing::debug!("a write came after the store was closed");
        }
    }

    /// Queues a line; it is committed no later than any write queued after it.
    pub(super) fn log(&self, line: LogLine) {
        if self.send(Op::Log(Arc::new(Line::new(line)))).is_err() {
            tracing::debug!("a log line came after the store was closed");
        }
    }

    /// How many transactions there were so far: what was read after as many is still so.
    pub(super) fn commits(&self) -> u64 {
        self.counts.commits.load(Ordering::Acquire)
    }

    pub(super) fn written(&self) -> Written {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Written { groups: read(&self.counts.groups), writes: read(&self.counts.writes) }
    }

    pub(super) async fn ended(&self) {
        self.queue.closed().await;
    }

    pub(super) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.send(Op::Close(reply)).is_ok() {
            // Both ways of ending the wait mean that the thread is done with the file.
            drop(done.await);
        }
        let thread = self.thread.lock().expect("no holder of this lock panics").take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer ended by a panic");
        }
    }

    fn send(&self, op: Op) -> Result<(), StoreError> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.queue.send(op).map_err(|_| StoreError::Closing)
    }
}

/// Work whose caller waits.
struct Asked<W, T, E> {
    work: Option<W>,
    /// Nothing until it was done.
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<W, T, E> Job for Asked<W, T, E>
where
    W: FnOnce(&mut Scope<'_>) -> (Result<T, E>, Option<StoreError>) + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, scope: &mut Scope<'_>) -> Ran {
        let work = self.work.take().expect("the writer runs it once");
        let (result, failure) = work(scope);
        let is_kept = result.is_ok();
        self.result = Some(result);
        Ran { is_kept, failure }
    }

    /// Its own result, or why the group was not committed.
    fn answer(self: Box<Self>, committed: Result<(), &StoreError>) {
        // Also a refusal: it may rest on what a neighbour wrote, which is not there.
        let result = match (committed, self.result) {
            (Err(error), _) => Err(error.clone().into()),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Unanswered.into()),
        };
        // A caller that has gone does not unmake the commit.
        drop(self.reply.send(result));
    }
}

/// Work that nobody waits for.
struct Posted<W>(Option<W>);

impl<W: FnOnce(&mut Scope<'_>) -> Result<(), StoreError> + Send> Job for Posted<W> {
    fn run(&mut self, scope: &mut Scope<'_>) -> Ran {
        let work = self.0.take().expect("the writer runs it once");
        let result = work(scope);
        if let Err(error) = &result {
            tracing::warn!(cause = %error, "a write that nobody waits for failed");
        }
        Ran { is_kept: result.is_ok(), failure: None }
    }

    fn answer(self: Box<Self>, _: Result<(), &StoreError>) {}
}

struct Thread {
    connection: Connection,
    feed: broadcast::Sender<Arc<Record>>,
    clock: Arc<dyn Clock>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    times: Meter,
    aside: Aside,
    checkpoints: Checkpoints,
    /// Log lines of groups whose commit failed.
    kept: Vec<Arc<Line>>,
    /// So many groups more with a savepoint around every write: a group has failed, and if one of its writes was the reason, the
    /// others are not to fail with it for ever.
    careful: u32,
    /// Groups of few since one of many.
    few: u32,
}

impl Thread {
    fn run(mut self, mut ops: mpsc::UnboundedReceiver<Op>) {
        while let Some(first) = ops.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = ops.try_recv()
            {
                group.push(next);
            }
            self.waiting.fetch_sub(group.len(), Ordering::Relaxed);
            self.fit_pages(group.len());
            if let Some(closing) = self.commit(group) {
                self.checkpoints.finish(&self.connection);
                // Nobody may be waiting any more.
                let _gone = closing.send(());
                return;
            }
        }
    }

    /// Memory for the pages of many tasks, while there are many.
    fn fit_pages(&mut self, writes: usize) {
        let before = self.few;
        self.few = if writes < MANY { before.saturating_add(1).min(FEW_FOR) } else { 0 };
        let kib = match (before, self.few) {
            (FEW_FOR, 0) => PAGES_OF_MANY_KIB,
            (before, FEW_FOR) if before < FEW_FOR => PAGES_KIB,
            _ => return,
        };
        if let Err(error) = self.connection.pragma_update(None, "cache_size", -kib) {
            tracing::debug!(%error, "the store keeps as many pages as before");
        }
    }

    /// One transaction; then publishes and answers.
    fn commit(&mut self, group: Vec<Op>) -> Option<oneshot::Sender<()>> {
        let mut batch = Batch::new(std::mem::take(&mut self.kept), self.careful > 0);
        self.careful = self.careful.saturating_sub(1);
        let writes = group.len() as u64;
        let begun = Stopwatch::start();
        let result = batch.store(&mut self.connection, group, self.clock.now());
        self.times.took(begun.elapsed());
        // Before anybody is told. A commit that failed may have changed the file all the same.
        self.counts.commits.fetch_add(1, Ordering::Release);
        let Batch { mut lines, jobs, closing, .. } = batch;
        let failure = match result {
            Ok(told) => {
                self.counts.groups.fetch_add(1, Ordering::Relaxed);
                self.counts.writes.fetch_add(writes, Ordering::Relaxed);
                self.publish(told);
                None
            }
            Err(error) => {
                tracing::error!(cause = %error, "a group of writes could not be committed");
                self.careful = CAREFUL_FOR;
                self.keep(std::mem::take(&mut lines));
                Some(error)
            }
        };
        // The last ones are told before the end of the store is: who waits for that ends the runtime.
        let is_many = jobs.len() > TOLD_AT_ONCE && closing.is_none();
        let tell = move || {
            for job in jobs {
                job.answer(failure.as_ref().map_or(Ok(()), Err));
            }
            // To free them is work, too.
            drop(lines);
        };
        if is_many {
            self.aside.run(tell)
        } else {
            tell()
        }
        closing
    }

    fn publish(&self, told: Vec<Told>) {
        // Whoever listens from now on reads in the store what was committed before.
        if self.feed.receiver_count() == 0 {
            return;
        }
        for told in told {
            drop(self.feed.send(Arc::new(told.into_record())));
        }
    }

    fn keep(&mut self, mut lines: Vec<Arc<Line>>) {
        if let Some(excess) = lines.len().checked_sub(KEPT_LINES_MAX).filter(|n| *n > 0) {
            tracing::error!(
                lost = excess,
                "log lines of tasks were lost: the store has refused commits for long"
            );
            lines.drain(..excess);
        }
        self.kept = lines;
    }
}

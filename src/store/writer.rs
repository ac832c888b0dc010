//! The one writer: a thread that puts whatever is waiting into one transaction.
//!
//! Invariant: a write is answered after its transaction is durable. A write that refuses (lock held, stale) takes
//! back its own part and nothing of its neighbours'. When the commit itself fails, all writes of the group fail and
//! nothing of them is stored; log lines, which have no caller to tell, are kept and tried with the next group.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::dag;
use super::error::StoreError;
use super::records::{self, Line, Told};
use crate::clock::{Clock, Stopwatch};
use crate::crash::{self, Point};
use crate::engine::port::{LogLine, Record};
use crate::model::{DagId, EventId, Timestamp};
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

/// Groups with a savepoint around every write, after one that has failed.
const CAREFUL_FOR: u32 = 1_000;

/// What a write sees: the connection inside the group's transaction, and where to put what must be published.
pub(super) struct Scope<'a> {
    pub(super) connection: &'a Connection,
    pub(super) told: Vec<Told>,
    /// DAGs of which lines were appended, with the number of the last one.
    pub(super) touched: BTreeMap<DagId, EventId>,
}

/// Tells the caller, once it is known whether the group was committed.
type Notify = Box<dyn FnOnce(Result<(), &StoreError>) + Send>;
type Write = Box<dyn FnOnce(&mut Scope<'_>) -> Done + Send>;

struct Done {
    is_kept: bool,
    /// Of a clean write: it failed half way.
    failure: Option<StoreError>,
    notify: Notify,
}

enum Op {
    Write(Write),
    /// One that has written nothing when it refuses.
    Clean(Write),
    Log(Arc<Line>),
    Close(oneshot::Sender<()>),
}

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

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Op")
    }
}

pub(super) fn start(
    connection: Connection,
    feed: broadcast::Sender<Arc<Record>>,
    clock: Arc<dyn Clock>,
) -> std::io::Result<Writer> {
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
        kept: Vec::new(),
        careful: 0,
        few: FEW_FOR,
    };
    let thread = crate::tasks::thread("store-writer", move || state.run(ops))?;
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
        kind: fn(Write) -> Op,
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
        let write: Write = Box::new(move |scope| {
            let (result, failure) = work(scope);
            Done { is_kept: result.is_ok(), failure, notify: notify(result, reply) }
        });
        self.send(kind(write))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unanswered.into()))
    }

    /// Queues work that nobody waits for; it is committed no later than any write queued after it, or not at all.
    pub(super) fn post(&self, work: impl FnOnce(&mut Scope<'_>) -> Result<(), StoreError> + Send + 'static) {
        let write: Write = Box::new(move |scope| {
            let result = work(scope);
            if let Err(error) = &result {
                tracing::warn!(cause = %error, "a write that nobody waits for failed");
            }
            Done { is_kept: result.is_ok(), failure: None, notify: Box::new(|_| ()) }
        });
        if self.send(Op::Write(write)).is_err() {
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

/// Tells a caller its own result, or why the group was not committed.
fn notify<T, E>(result: Result<T, E>, reply: oneshot::Sender<Result<T, E>>) -> Notify
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    Box::new(move |committed| {
        let result = result.and_then(|value| match committed {
            Ok(()) => Ok(value),
            Err(error) => Err(error.clone().into()),
        });
        // A caller that has gone does not unmake the commit.
        drop(reply.send(result));
    })
}

struct Thread {
    connection: Connection,
    feed: broadcast::Sender<Arc<Record>>,
    clock: Arc<dyn Clock>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    times: Meter,
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
                self.checkpoint();
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
        let mut batch = Batch {
            lines: std::mem::take(&mut self.kept),
            notifies: Vec::new(),
            closing: None,
            is_careful: self.careful > 0,
        };
        self.careful = self.careful.saturating_sub(1);
        let writes = group.len() as u64;
        let begun = Stopwatch::start();
        let result = batch.store(&mut self.connection, group, self.clock.now());
        self.times.took(begun.elapsed());
        // Before anybody is told. A commit that failed may have changed the file all the same.
        self.counts.commits.fetch_add(1, Ordering::Release);
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
                self.keep(batch.lines);
                Some(error)
            }
        };
        for notify in batch.notifies {
            notify(failure.as_ref().map_or(Ok(()), Err));
        }
        batch.closing
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

    /// Leaves a single file behind, for whoever copies it.
    fn checkpoint(&self) {
        let done =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        if let Err(error) = done {
            tracing::debug!(%error, "the last checkpoint was left to the next start");
        }
    }
}

/// What one group leaves behind, committed or not.
struct Batch {
    lines: Vec<Arc<Line>>,
    notifies: Vec<Notify>,
    closing: Option<oneshot::Sender<()>>,
    is_careful: bool,
}

impl Batch {
    fn store(
        &mut self,
        connection: &mut Connection,
        group: Vec<Op>,
        now: Timestamp,
    ) -> Result<Vec<Told>, StoreError> {
        let mut group = group.into_iter();
        let result = self.store_all(connection, &mut group, now);
        // After a failure the rest is not tried: its callers learn by the dropped reply, its lines are kept.
        for op in group {
            match op {
                Op::Log(line) => self.lines.push(line),
                Op::Close(reply) => self.closing = Some(reply),
                Op::Write(_) | Op::Clean(_) => {}
            }
        }
        result
    }

    fn store_all(
        &mut self,
        connection: &mut Connection,
        group: &mut impl Iterator<Item = Op>,
        now: Timestamp,
    ) -> Result<Vec<Told>, StoreError> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut scope = Scope { connection: &transaction, told: Vec::new(), touched: BTreeMap::new() };
        for line in &self.lines {
            records::insert_log(&mut scope, line, now)?;
        }
        for op in group {
            match op {
                Op::Log(line) => {
                    let stored = records::insert_log(&mut scope, &line, now);
                    self.lines.push(line);
                    stored?;
                }
                Op::Write(write) => {
                    let notify = apart(&mut scope, write)?;
                    self.notifies.push(notify);
                }
                Op::Clean(write) if self.is_careful => {
                    let notify = apart(&mut scope, write)?;
                    self.notifies.push(notify);
                }
                Op::Clean(write) => {
                    let done = write(&mut scope);
                    self.notifies.push(done.notify);
                    if let Some(failure) = done.failure {
                        return Err(failure);
                    }
                }
                Op::Close(reply) => self.closing = Some(reply),
            }
        }
        for (dag, last) in std::mem::take(&mut scope.touched) {
            dag::touch(scope.connection, dag, last)?;
        }
        let told = std::mem::take(&mut scope.told);
        transaction.commit()?;
        crash::point(Point::AfterCommit);
        Ok(told)
    }
}

/// Runs one write so that its refusal takes back nothing but its own part. A failure around it ends the group (SQLite
/// rolls the whole transaction back when the disk is full).
fn apart(scope: &mut Scope<'_>, write: Write) -> Result<Notify, StoreError> {
    scope.connection.prepare_cached("SAVEPOINT one")?.execute([])?;
    let published = scope.told.len();
    let done = write(scope);
    match settle(scope, done.is_kept, published) {
        Ok(()) => Ok(done.notify),
        Err(error) => {
            (done.notify)(Err(&error));
            Err(error)
        }
    }
}

fn settle(scope: &mut Scope<'_>, is_kept: bool, published: usize) -> Result<(), StoreError> {
    if !is_kept {
        scope.connection.prepare_cached("ROLLBACK TO one")?.execute([])?;
        scope.told.truncate(published);
    }
    scope.connection.prepare_cached("RELEASE one")?.execute([])?;
    Ok(())
}

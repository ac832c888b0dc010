//! The one writer: a thread that puts whatever is waiting into one transaction.
//!
//! Invariant: a write is answered after its transaction is durable. A write that refuses (lock held, stale) takes
//! back its own part and nothing of its neighbours'. When the commit itself fails, all writes of the group fail and
//! nothing of them is stored; log lines, which have no caller to tell, are kept and tried with the next group.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::error::StoreError;
use super::records;
use crate::clock::Clock;
use crate::crash::{self, Point};
use crate::engine::port::{LogLine, Record};
use crate::model::Timestamp;

/// Writes in one transaction at most: bounds the time until the first of them is answered.
const GROUP_MAX: usize = 512;

/// Writes that may wait before new ones are refused as busy; log lines are never refused.
const WAITING_MAX: usize = 10_000;

/// Lines kept over failing commits; beyond that the oldest give way (and the loss is logged).
const KEPT_LINES_MAX: usize = 10_000;

/// What a write sees: the connection inside the group's transaction, and where to put what must be published.
pub(super) struct Scope<'a> {
    pub(super) connection: &'a Connection,
    pub(super) records: Vec<Record>,
}

/// Tells the caller, once it is known whether the group was committed.
type Notify = Box<dyn FnOnce(Result<(), &StoreError>) + Send>;
type Write = Box<dyn FnOnce(&mut Scope<'_>) -> Done + Send>;

struct Done {
    is_kept: bool,
    notify: Notify,
}

enum Op {
    Write(Write),
    Log(LogLine),
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::UnboundedSender<Op>,
    waiting: Arc<AtomicUsize>,
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
    let state = Thread { connection, feed, clock, waiting: Arc::clone(&waiting), kept: Vec::new() };
    let thread = crate::tasks::thread("store-writer", move || state.run(ops))?;
    Ok(Writer { queue, waiting, thread: Mutex::new(Some(thread)) })
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
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting > WAITING_MAX {
            return Err(StoreError::Busy(waiting).into());
        }
        let (reply, answer) = oneshot::channel();
        let write: Write = Box::new(move |scope| {
            let result = work(scope);
            let is_kept = result.is_ok();
            let notify: Notify = Box::new(move |committed| {
                let result = result.and_then(|value| match committed {
                    Ok(()) => Ok(value),
                    Err(error) => Err(error.clone().into()),
                });
                // A caller that has gone does not unmake the commit.
                drop(reply.send(result));
            });
            Done { is_kept, notify }
        });
        self.send(Op::Write(write)).map_err(E::from)?;
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unanswered.into()),
        }
    }

    /// Queues work that nobody waits for; it is committed no later than any write queued after it, or not at all.
    pub(super) fn post(&self, work: impl FnOnce(&mut Scope<'_>) -> Result<(), StoreError> + Send + 'static) {
        let write: Write = Box::new(move |scope| {
            let result = work(scope);
            if let Err(error) = &result {
                tracing::warn!(cause = %error, "a write that nobody waits for failed");
            }
            Done { is_kept: result.is_ok(), notify: Box::new(|_| ()) }
        });
        if self.send(Op::Write(write)).is_err() {
            tracing::debug!("a write came after the store was closed");
        }
    }

    /// Queues a line; it is committed no later than any write queued after it.
    pub(super) fn log(&self, line: LogLine) {
        if self.send(Op::Log(line)).is_err() {
            tracing::debug!("a log line came after the store was closed");
        }
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

struct Thread {
    connection: Connection,
    feed: broadcast::Sender<Arc<Record>>,
    clock: Arc<dyn Clock>,
    waiting: Arc<AtomicUsize>,
    /// Log lines of groups whose commit failed.
    kept: Vec<LogLine>,
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
            if let Some(closing) = self.commit(group) {
                self.checkpoint();
                // Nobody may be waiting any more.
                let _gone = closing.send(());
                return;
            }
        }
    }

    /// One transaction; then publishes and answers.
    fn commit(&mut self, group: Vec<Op>) -> Option<oneshot::Sender<()>> {
        let mut batch = Batch { lines: std::mem::take(&mut self.kept), notifies: Vec::new(), closing: None };
        let result = batch.store(&mut self.connection, group, self.clock.now());
        match &result {
            Ok(records) => self.publish(records),
            Err(error) => {
                tracing::error!(cause = %error, "a group of writes could not be committed");
                self.keep(batch.lines);
            }
        }
        let outcome = result.as_ref().map(|_| ());
        for notify in batch.notifies {
            notify(outcome);
        }
        batch.closing
    }

    fn publish(&self, records: &[Record]) {
        for record in records {
            // Without a subscriber there is nobody to tell.
            drop(self.feed.send(Arc::new(record.clone())));
        }
    }

    fn keep(&mut self, mut lines: Vec<LogLine>) {
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
    lines: Vec<LogLine>,
    notifies: Vec<Notify>,
    closing: Option<oneshot::Sender<()>>,
}

impl Batch {
    fn store(
        &mut self,
        connection: &mut Connection,
        group: Vec<Op>,
        now: Timestamp,
    ) -> Result<Vec<Record>, StoreError> {
        let mut group = group.into_iter();
        let result = self.store_all(connection, &mut group, now);
        // After a failure the rest is not tried: its callers learn by the dropped reply, its lines are kept.
        for op in group {
            match op {
                Op::Log(line) => self.lines.push(line),
                Op::Close(reply) => self.closing = Some(reply),
                Op::Write(_) => {}
            }
        }
        result
    }

    fn store_all(
        &mut self,
        connection: &mut Connection,
        group: &mut impl Iterator<Item = Op>,
        now: Timestamp,
    ) -> Result<Vec<Record>, StoreError> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut scope = Scope { connection: &transaction, records: Vec::new() };
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
                Op::Close(reply) => self.closing = Some(reply),
            }
        }
        let records = std::mem::take(&mut scope.records);
        transaction.commit()?;
        crash::point(Point::AfterCommit);
        Ok(records)
    }
}

/// Runs one write so that its refusal takes back nothing but its own part. A failure around it ends the group (SQLite
/// rolls the whole transaction back when the disk is full).
fn apart(scope: &mut Scope<'_>, write: Write) -> Result<Notify, StoreError> {
    scope.connection.prepare_cached("SAVEPOINT one")?.execute([])?;
    let published = scope.records.len();
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
        scope.records.truncate(published);
    }
    scope.connection.prepare_cached("RELEASE one")?.execute([])?;
    Ok(())
}

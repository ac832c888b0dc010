//! Opening: every setting spelled out, in one place.

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{Semaphore, broadcast};

use super::error::StoreError;
use super::memo::Memo;
use super::migrate;
use super::writer::{self, Writer, Written};
use crate::clock::Clock;
use crate::engine::port::{Detail, Holder, Record};
use crate::telemetry::Meter;

/// `obpi`: tells our files from others of SQLite.
pub(super) const APPLICATION_ID: i64 = 0x6f62_7069;

/// How long a reader or writer waits for the other processes that may hold the file (a backup, an operator's shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Records a subscriber may be behind before it has to read the store instead: a second of a very busy agent.
const FEED_DEPTH: usize = 4_096;

/// Connections that read at the same time, and are kept; whoever comes next waits for one of them. Without an end an agent that
/// was asked much at once would have as many descriptors ever after: SQLite keeps that of a connection which is closed while
/// others are open.
pub(super) const READERS: usize = 4;

/// Pages that a reader keeps in memory: those above the leaves, and of a small task. The kernel has the others.
const READER_CACHE_KIB: i64 = 128;

/// The open store. Cheap to clone; the last clone's `close` ends the writer.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) path: Utf8PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) writer: Writer,
    pub(super) feed: broadcast::Sender<Arc<Record>>,
    readers: Mutex<Vec<Connection>>,
    reading: Arc<Semaphore>,
    /// For the pollers: who holds the lock, and what is unfinished where that is little.
    pub(super) holder: Memo<Option<Holder>>,
    pub(super) unfinished: Memo<Vec<Detail>>,
}

impl Store {
    /// Opens or creates `dir/store.db`, backs it up and migrates it when its format is older, and starts the writer.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed unless the file is ours and whole.
    pub fn open(dir: &Utf8Path, clock: Arc<dyn Clock>, keep_backups: u32) -> Result<Self, StoreError> {
        let path = dir.join("store.db");
        create_private(&path)?;
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        migrate::prepare(&mut connection, &path, clock.now(), keep_backups)?;
        let (feed, _) = broadcast::channel(FEED_DEPTH);
        let writer = writer::start(connection, &path, feed.clone(), Arc::clone(&clock))?;
        let (readers, reading) = (Mutex::default(), Arc::new(Semaphore::new(READERS)));
        let (holder, unfinished) = (Memo::default(), Memo::default());
        let inner = Inner { path, clock, writer, feed, readers, reading, holder, unfinished };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn path(&self) -> &Utf8Path {
        &self.inner.path
    }

    /// How long its groups of writes take until they are durable.
    pub fn commit_times(&self) -> &Meter {
        &self.inner.writer.times
    }

    /// Returns once a write has gone through: the writer lives and the file takes it.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.inner.writer.write(|_| Ok(())).await
    }

    /// What was committed since it was opened.
    pub fn written(&self) -> Written {
        self.inner.writer.written()
    }

    /// Returns when the writer has ended, whyever: nothing can be recorded any more.
    pub async fn ended(&self) {
        self.inner.writer.ended().await;
    }

    /// Lets the writer finish what is queued, checkpoint and end. Later writes are refused.
    pub async fn close(&self) {
        self.inner.writer.close().await;
    }

    /// Runs a read-only query off the async threads, in one transaction: everything it sees is of one moment (W8).
    ///
    /// # Errors
    /// What the query returns, or that no reader could be opened.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let turn = Arc::clone(&inner.reading).acquire_owned().await.expect("it is never closed");
        // The turn ends with the work, also when nobody waits for it any more.
        let work = move || {
            let _turn = turn;
            inner.read(query)
        };
        crate::tasks::Tasks::blocking(work).await
    }
}

impl Inner {
    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let kept = self.readers.lock().expect("no holder of this lock panics").pop();
        let connection = match kept {
            Some(connection) => connection,
            None => connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?,
        };
        let transaction = connection.unchecked_transaction()?;
        let result = query(&transaction);
        transaction.finish()?;
        self.readers.lock().expect("no holder of this lock panics").push(connection);
        result
    }
}

/// The file exists with its final mode before SQLite opens it; `-wal` and `-shm` inherit it.
fn create_private(path: &Utf8Path) -> Result<(), StoreError> {
    let fail = |why: String| StoreError::Open { path: path.to_owned(), why };
    let file = std::fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    let file = file.map_err(|e| fail(e.to_string()))?;
    let mode = file.metadata().map_err(|e| fail(e.to_string()))?.mode();
    if mode & 0o077 != 0 {
        return Err(fail(format!(
            "its mode is {:o}, others may read it; run: chmod 600 {path}",
            mode & 0o777
        )));
    }
    Ok(())
}

/// One connection with our settings.
pub(super) fn connect(path: &Utf8Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[expect(clippy::disallowed_methods, reason = "the one place that opens the store")]
    let opened = Connection::open_with_flags(path, flags);
    let connection = opened.map_err(|e| explain(path, &e))?;
    configure(&connection, access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE))
        .map_err(|e| explain(path, &e))?;
    Ok(connection)
}

fn configure(connection: &Connection, is_writer: bool) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    if is_writer {
        // FULL: in WAL mode NORMAL may lose the last commits at a power failure, and ours are promises (W33).
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", 32 << 20)?;
        // What a savepoint would take back is kept in memory, not in a file.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
    } else {
        connection.pragma_update(None, "query_only", true)?;
        // There are several, and the kernel has the pages too.
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    }
    Ok(())
}

/// The one setting that stays in the file; only for a file that is known to be ours.
pub(super) fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)).map(|_| ())
}

/// SQLite's words about a file, as ours.
pub(super) fn explain(path: &Utf8Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged {
            path: path.to_owned(),
            why: error.to_string(),
            backups: super::backup::dir_of(path),
        },
        _ => StoreError::Open { path: path.to_owned(), why: error.to_string() },
    }
}

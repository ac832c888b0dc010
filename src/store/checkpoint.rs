//! Checkpoints: what stands in the log is copied into the file.
//!
//! It is done beside the writer, by a connection of its own, so that no write waits for it. The log begins anew when all of it is
//! copied and nobody has written meanwhile; under a load that never pauses this does not happen by itself, so the writer
//! copies what is left when the log has become long.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use super::open;
use crate::tasks::Aside;

/// Pages that come to the log until they are copied: SQLite's own default.
const BESIDE: i32 = 1_000;

/// Pages in the log (16 MiB) at which the writer copies what is left.
const AT_LAST: i32 = 4_000;

/// How long the end of the store waits for whoever copies beside: some pages and two syncs.
const LAST_LIMIT: Duration = Duration::from_secs(5);

/// Of one store. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints {
    path: Utf8PathBuf,
    aside: Aside,
    turn: Arc<Turn>,
}

/// Whether somebody copies beside.
#[derive(Debug, Default)]
struct Turn {
    is_taken: Mutex<bool>,
    ended: Condvar,
}

/// Gives the turn back, also when what should have been done is dropped by a runtime that ends.
struct Taken(Arc<Turn>);

impl Taken {
    fn of(turn: &Arc<Turn>) -> Option<Self> {
        let mut is_taken = turn.is_taken.lock().expect("no holder of this lock panics");
        let is_free = !std::mem::replace(&mut *is_taken, true);
        is_free.then(|| Self(Arc::clone(turn)))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.0.is_taken.lock().expect("no holder of this lock panics") = false;
        self.0.ended.notify_all();
    }
}

impl Checkpoints {
    /// Takes over from the writer's connection, which would copy by itself after every thousandth page.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(super) fn of(writer: &mut Connection, path: &Utf8Path, aside: Aside) -> Result<Self, StoreError> {
        let checkpoints = Self { path: path.to_owned(), aside, turn: Arc::default() };
        let (own, mut asked_at) = (checkpoints.clone(), 0);
        // It is called in the commit, which has succeeded: nothing in here may fail it.
        writer.wal_hook(Some(move |log: &mut Wal, pages| {
            // Less than before: it has begun anew.
            let since = if pages < asked_at { pages } else { pages - asked_at };
            if since >= BESIDE && own.copy(log, pages) {
                asked_at = pages;
            }
            Ok(())
        }))?;
        Ok(checkpoints)
    }

    /// False while somebody copies already: the next commit asks again.
    fn copy(&self, log: &mut Wal, pages: i32) -> bool {
        if pages >= AT_LAST {
            // Whoever copies beside holds SQLite's own lock on it, and only as long as it does.
            return tell(log.checkpoint());
        }
        let Some(taken) = Taken::of(&self.turn) else { return false };
        let path = self.path.clone();
        self.aside.blocking(move || {
            let copied = open::connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
                .and_then(|connection| Ok(copy(&connection, "PASSIVE")?));
            tell(copied);
            drop(taken);
        });
        true
    }

    /// Leaves nothing in the log, for whoever copies the file. It blocks.
    pub(super) fn finish(&self, writer: &Connection) {
        let is_taken = self.turn.is_taken.lock().expect("no holder of this lock panics");
        drop(self.turn.ended.wait_timeout_while(is_taken, LAST_LIMIT, |is_taken| *is_taken));
        // What fails is left to the next start.
        tell(copy(writer, "TRUNCATE"));
    }
}

fn copy(connection: &Connection, how: &str) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
}

fn tell(copied: Result<(), impl std::fmt::Display>) -> bool {
    if let Err(error) = &copied {
        tracing::debug!(%error, "the store's log was not copied into its file");
    }
    copied.is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::clock;
    use crate::engine::port::Stamp;
    use crate::store::Store;

    const PAGE: u64 = 4_096;

    struct Rig {
        dir: tempfile::TempDir,
        store: Store,
    }

    impl Rig {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(Utf8Path::from_path(dir.path()).unwrap(), clock::system(), 1).unwrap();
            Self { dir, store }
        }

        /// So many pages at least, in one commit.
        async fn write(&self, pages: i32) {
            let text = json!("x".repeat(usize::try_from(pages).unwrap() * 4_096)).to_string();
            let stamp = Stamp { at: clock::system().now(), actor: "test".to_owned() };
            self.store.save_documents(vec![("long", text)], Vec::new(), stamp, json!("long")).await.unwrap();
        }

        fn pages_of(&self, file: &str) -> u64 {
            std::fs::metadata(self.dir.path().join(file)).unwrap().len() / PAGE
        }
    }

    #[tokio::test]
    async fn what_was_written_is_copied_beside_the_writer() {
        let rig = Rig::new();
        let empty = rig.pages_of("store.db");
        rig.write(BESIDE - 100).await;
        assert_eq!(rig.pages_of("store.db"), empty, "a short log is left alone");
        rig.write(200).await;
        let is_copied = async {
            while rig.pages_of("store.db") < empty + 800 {
                rig.store.probe().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), is_copied).await.expect("it is copied");
        rig.store.close().await;
        let left = std::fs::metadata(rig.dir.path().join("store.db-wal")).map_or(0, |log| log.len());
        assert_eq!(left, 0, "nothing is left in the log");
    }

    /// As under a load that never pauses, or where the file cannot be opened once more.
    #[test]
    fn what_nobody_could_copy_is_copied_by_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let mut writer = open::connect(&dir.join("some.db"), OpenFlags::default()).unwrap();
        open::use_wal(&writer).unwrap();
        let _checkpoints = Checkpoints::of(&mut writer, &dir.join("none/some.db"), Aside::here()).unwrap();
        writer.execute_batch("CREATE TABLE long (text TEXT)").unwrap();
        let text = "x".repeat(usize::try_from(BESIDE).unwrap() * 4_096);
        for _ in 0..20 {
            writer.execute("INSERT INTO long VALUES (?1)", [&text]).unwrap();
        }
        let pages = std::fs::metadata(dir.join("some.db-wal")).unwrap().len() / PAGE;
        assert!(
            pages < u64::try_from(AT_LAST + 2 * BESIDE).unwrap(),
            "{pages} of 20,000 are still in the log"
        );
    }
}

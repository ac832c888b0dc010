//! Checkpoints: what stands in the log is copied into the file.
//!
//! It is done beside the writer, by a connection of its own, so that no write waits for it. The log begins anew when all of it is
//! copied and nobody has written meanwhile; under a load that never pauses this does not happen by itself, so the writer
//! copies what is left when the log has become long.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Mutex;

use super::error::StoreError;
use super::open;
use crate::tasks::Aside;

/// Pages that come to the log until they are copied: SQLite's own default.
const BESIDE: i32 = 1_000;

/// Pages in the log at which the writer copies what is left: 16 MiB, half of what the log's file may keep.
const AT_LAST: i32 = 4_000;

/// Of one store. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints {
    path: Utf8PathBuf,
    aside: Aside,
    /// Held while somebody copies.
    turn: Arc<Mutex<()>>,
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
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else { return false };
        if pages >= AT_LAST {
            tell(log.checkpoint());
            return true;
        }
        let path = self.path.clone();
        self.aside.blocking(move || {
            let copied = open::connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
                .and_then(|connection| Ok(copy(&connection, "PASSIVE")?));
            tell(copied);
            drop(turn);
        });
        true
    }

    /// Leaves a single file behind, for whoever copies it. Not to be called where a runtime waits.
    pub(super) fn finish(&self, writer: &Connection) {
        let _turn = self.turn.blocking_lock();
        // What fails is left to the next start.
        tell(copy(writer, "TRUNCATE"));
    }
}

fn copy(connection: &Connection, how: &str) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
}

fn tell(copied: Result<(), impl std::fmt::Display>) {
    if let Err(error) = copied {
        tracing::debug!(%error, "the store's log was not copied into its file");
    }
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
        assert!(!rig.dir.path().join("store.db-wal").exists(), "a single file is left behind");
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

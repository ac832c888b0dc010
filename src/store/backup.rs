//! Copies of the store: before a new format, and whenever the operator wants one. SQLite's own backup, so a copy
//! taken while the agent works is whole.

use camino::{Utf8Path, Utf8PathBuf};
use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use super::open::{self, Store};
use crate::error::Result;
use crate::model::Timestamp;

/// Pages copied at a time; between two steps writers go on.
const PAGES_PER_STEP: std::os::raw::c_int = 1_024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    pub path: Utf8PathBuf,
    pub bytes: u64,
}

/// Where the backups of a store lie.
pub(super) fn dir_of(store: &Utf8Path) -> Utf8PathBuf {
    store.parent().unwrap_or(Utf8Path::new(".")).join("backup")
}

/// Takes a backup of a store file; the agent may be running.
///
/// # Errors
/// When the file is not ours or not whole, or the copy cannot be written whole; then no file is left.
pub fn backup(store: &Utf8Path, now: Timestamp, keep: u32) -> std::result::Result<BackupReport, StoreError> {
    if !store.exists() {
        return Err(StoreError::Open { path: store.to_owned(), why: "there is no such file".to_owned() });
    }
    let connection = open::connect(store, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    super::migrate::format_of(&connection, store)?;
    take(&connection, store, now, keep)
}

impl Store {
    /// Takes a backup now and keeps the newest `keep` of them.
    ///
    /// # Errors
    /// When it cannot be written whole; then no file is left.
    pub async fn backup(&self, keep: u32) -> Result<BackupReport> {
        let (path, now) = (self.inner.path.clone(), self.inner.clock.now());
        Ok(self.read(move |connection| take(connection, &path, now, keep)).await?)
    }
}

pub(super) fn take(
    connection: &Connection,
    store: &Utf8Path,
    now: Timestamp,
    keep: u32,
) -> std::result::Result<BackupReport, StoreError> {
    let dir = dir_of(store);
    let fail =
        |path: &Utf8Path, e: &std::io::Error| StoreError::Open { path: path.to_owned(), why: e.to_string() };
    make_private_dir(&dir).map_err(|e| fail(&dir, &e))?;
    let path = dir.join(format!("store-{}.db", now.strftime("%Y%m%dT%H%M%S%.6fZ")));
    let partial = path.with_extension("partial");
    let copied = copy(connection, &partial);
    if let Err(error) = copied.and_then(|()| publish(&partial, &path).map_err(|e| fail(&path, &e))) {
        // Nothing half written is left; that it could not be removed does not matter beside the cause.
        drop(std::fs::remove_file(&partial));
        return Err(error);
    }
    forget_old(&dir, keep);
    let bytes = std::fs::metadata(&path).map_err(|e| fail(&path, &e))?.len();
    Ok(BackupReport { path, bytes })
}

fn copy(from: &Connection, partial: &Utf8Path) -> std::result::Result<(), StoreError> {
    let mut into = open::connect(partial, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let backup = rusqlite::backup::Backup::new(from, &mut into)?;
    backup.run_to_completion(PAGES_PER_STEP, std::time::Duration::ZERO, None)?;
    drop(backup);
    // A backup is one file: nobody should have to copy a log with it.
    into.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))?;
    Ok(())
}

/// Durable under its final name.
fn publish(partial: &Utf8Path, path: &Utf8Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let file = std::fs::File::open(partial)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.sync_all()?;
    crate::crash::point(crate::crash::Point::BeforeFile);
    #[expect(clippy::disallowed_methods, reason = "the temporary file is SQLite's; synced before and after")]
    std::fs::rename(partial, path)?;
    std::fs::File::open(path.parent().unwrap_or(Utf8Path::new(".")))?.sync_all()
}

fn make_private_dir(dir: &Utf8Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn forget_old(dir: &Utf8Path, keep: u32) {
    let Ok(entries) = dir.read_dir_utf8() else { return };
    let is_backup = |name: &str| name.starts_with("store-") && name.ends_with(".db");
    let mut backups: Vec<_> =
        entries.flatten().filter(|e| is_backup(e.file_name())).map(|e| e.path().to_owned()).collect();
    backups.sort();
    let excess = backups.len().saturating_sub(keep.max(1) as usize);
    for old in backups.into_iter().take(excess) {
        if let Err(error) = std::fs::remove_file(&old) {
            tracing::warn!(path = %old, %error, "an old backup could not be removed");
        }
    }
}

//! Formats: numbered, each made from the one before, each in one transaction, after a backup.

use camino::Utf8Path;
use rusqlite::Connection;

use super::backup;
use super::error::StoreError;
use super::open::{APPLICATION_ID, explain, use_wal};
use crate::model::Timestamp;

/// One step per format, in order; number 1 makes the first tables.
const STEPS: [&str; 3] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_audit.sql"),
    include_str!("migrations/0003_others.sql"),
];

/// The newest format this agent knows.
pub(super) const FORMAT: i64 = STEPS.len() as i64;

/// Makes the file ours and current.
pub(super) fn prepare(
    connection: &mut Connection,
    path: &Utf8Path,
    now: Timestamp,
    keep_backups: u32,
) -> Result<(), StoreError> {
    let found = format_of(connection, path)?;
    use_wal(connection).map_err(|e| explain(path, &e))?;
    if found == FORMAT {
        return Ok(());
    }
    if found > 0 {
        let report = backup::take(connection, path, now, keep_backups)?;
        tracing::info!(from = found, to = FORMAT, backup = %report.path, "the store is migrated to a new format");
    }
    for (index, step) in STEPS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let number = index + 1;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number as i64)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
    }
    Ok(())
}

/// The format of a file, 0 for a new one.
///
/// # Errors
/// `Foreign`, `TooNew`, `Damaged`.
pub(super) fn format_of(connection: &Connection, path: &Utf8Path) -> Result<i64, StoreError> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let found = number("user_version").map_err(|e| explain(path, &e))?;
    let application = number("application_id").map_err(|e| explain(path, &e))?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|e| explain(path, &e))?;
    if application != APPLICATION_ID && (application != 0 || tables > 0) {
        return Err(StoreError::Foreign { path: path.to_owned(), found: application });
    }
    if found > FORMAT {
        return Err(StoreError::TooNew { path: path.to_owned(), found, known: FORMAT });
    }
    Ok(found)
}

//! Forgetting what is finished, old and beyond the configured count. What is unfinished is never touched.

use rusqlite::params;

use super::error::StoreError;
use super::group::Scope;
use super::open::Store;
use super::records::to_nanos;
use crate::error::Result;
use crate::model::Timestamp;

/// DAGs removed in one transaction: other writes wait for it.
const STEP: u32 = 200;

/// How long finished DAGs stay. 0 means for ever, or any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub days: u32,
    pub count: u32,
    /// Entries of the audit trail, those of DAGs included.
    pub audit_count: u32,
}

impl Store {
    /// Removes finished DAGs beyond the retention with all their records, and records of no DAG beyond its days.
    /// Returns how many DAGs were removed.
    ///
    /// # Errors
    /// When the store fails; what was removed until then stays removed.
    pub async fn prune(&self, retention: Retention, now: Timestamp) -> Result<u32> {
        let mut removed = 0;
        loop {
            let step =
                self.inner.writer.write(move |scope: &mut Scope<'_>| step(scope, retention, now)).await?;
            removed += step;
            if step < STEP {
                return Ok(removed);
            }
        }
    }
}

fn step(scope: &mut Scope<'_>, retention: Retention, now: Timestamp) -> std::result::Result<u32, StoreError> {
    let connection = scope.connection;
    // Its sub-task may go.
    scope.last_line = None;
    // A moment before anything that was ever stored, when days do not count.
    let oldest = if retention.days == 0 {
        i64::MIN
    } else {
        to_nanos(now - std::time::Duration::from_secs(u64::from(retention.days) * 86_400))
    };
    let count = if retention.count == 0 { i64::MAX } else { i64::from(retention.count) };
    let doomed: Vec<i64> = {
        let mut select = connection.prepare_cached(
            "SELECT id FROM dag WHERE is_finished = 1 AND (coalesce(ended_at, created_at) < ?1
                 OR id <= (SELECT id FROM dag WHERE is_finished = 1 ORDER BY id DESC LIMIT 1 OFFSET ?2))
             ORDER BY id LIMIT ?3",
        )?;
        let rows = select.query_map(params![oldest, count, STEP], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    for dag in &doomed {
        connection.prepare_cached("DELETE FROM event WHERE dag_id = ?1")?.execute([dag])?;
        connection.prepare_cached("DELETE FROM dag WHERE id = ?1")?.execute([dag])?;
    }
    connection.prepare_cached("DELETE FROM event WHERE dag_id IS NULL AND at < ?1")?.execute([oldest])?;
    let mut delete = connection.prepare_cached(
        "DELETE FROM event WHERE kind = 'audit' AND dag_id IS NULL
             AND id <= (SELECT id FROM event WHERE kind = 'audit' ORDER BY id DESC LIMIT 1 OFFSET ?1)",
    )?;
    delete.execute([if retention.audit_count == 0 { i64::MAX } else { i64::from(retention.audit_count) }])?;
    Ok(u32::try_from(doomed.len()).unwrap_or(STEP))
}

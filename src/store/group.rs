//! One group: whatever was waiting, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::dag;
use super::error::StoreError;
use super::records::{self, Line, Told};
use crate::crash::{self, Point};
use crate::model::{DagId, EventId, SubTaskId, Timestamp};

/// What a write sees: the connection inside the group's transaction, and where to put what must be published.
pub(super) struct Scope<'a> {
    pub(super) connection: &'a Connection,
    pub(super) statements: Statements<'a>,
    pub(super) told: Vec<Told>,
    /// DAGs of which lines were appended, with the number of the last one.
    pub(super) touched: BTreeMap<DagId, EventId>,
    /// The number of the newest event, of this group or from before.
    pub(super) newest: EventId,
    /// The sub-task of the newest line: the next one is of the same more often than not.
    pub(super) last_line: Option<SubTaskId>,
}

/// What a group does again and again, prepared once for all of it.
pub(super) struct Statements<'a> {
    pub(super) event: CachedStatement<'a>,
    pub(super) is_there: CachedStatement<'a>,
    pub(super) dag: CachedStatement<'a>,
    pub(super) running_dag: CachedStatement<'a>,
    pub(super) sub_task: CachedStatement<'a>,
}

impl<'a> Scope<'a> {
    fn new(connection: &'a Connection) -> Result<Self, StoreError> {
        // As SQLite counts them itself.
        let mut newest = connection.prepare_cached(
            "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0),
                        coalesce((SELECT max(id) FROM event), 0))",
        )?;
        let newest = newest.query_row([], |row| row.get(0))?;
        let statements = Statements {
            event: connection.prepare_cached(records::INSERT)?,
            is_there: connection.prepare_cached(records::IS_THERE)?,
            dag: connection.prepare_cached(dag::UPDATE)?,
            running_dag: connection.prepare_cached(dag::UPDATE_RUNNING)?,
            sub_task: connection.prepare_cached(dag::UPDATE_SUB_TASK)?,
        };
        let (told, touched) = (Vec::new(), BTreeMap::new());
        Ok(Self { connection, statements, told, touched, newest: EventId(newest), last_line: None })
    }
}

/// Work for the writer, and whoever waits for it.
pub(super) trait Job: Send {
    /// Once, inside the group's transaction.
    fn run(&mut self, scope: &mut Scope<'_>) -> Ran;

    /// When it is known whether the group was committed; also of one that was not run because the group had failed before.
    fn answer(self: Box<Self>, committed: Result<(), &StoreError>);
}

/// What became of work.
pub(super) struct Ran {
    pub(super) is_kept: bool,
    /// Of a clean write: it failed half way.
    pub(super) failure: Option<StoreError>,
}

pub(super) enum Op {
    Write(Box<dyn Job>),
    /// One that has written nothing when it refuses.
    Clean(Box<dyn Job>),
    Log(Arc<Line>),
    Close(oneshot::Sender<()>),
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Op")
    }
}

/// What one group leaves behind, committed or not.
pub(super) struct Batch {
    pub(super) lines: Vec<Arc<Line>>,
    /// All of the group, run or not.
    pub(super) jobs: Vec<Box<dyn Job>>,
    pub(super) closing: Option<oneshot::Sender<()>>,
    is_careful: bool,
}

impl Batch {
    /// With lines that are left of groups before; `is_careful` puts a savepoint around every write.
    pub(super) fn new(lines: Vec<Arc<Line>>, is_careful: bool) -> Self {
        Self { lines, jobs: Vec::new(), closing: None, is_careful }
    }

    /// Returns what was written, to be published.
    pub(super) fn store(
        &mut self,
        connection: &mut Connection,
        group: Vec<Op>,
        now: Timestamp,
    ) -> Result<Vec<Told>, StoreError> {
        let mut group = group.into_iter();
        let result = self.store_all(connection, &mut group, now);
        // After a failure the rest is not tried: its callers are told why, its lines are kept.
        for op in group {
            match op {
                Op::Log(line) => self.lines.push(line),
                Op::Close(reply) => self.closing = Some(reply),
                Op::Write(job) | Op::Clean(job) => self.jobs.push(job),
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
        let mut scope = Scope::new(&transaction)?;
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
                Op::Write(mut job) => {
                    let stored = apart(&mut scope, &mut *job);
                    self.jobs.push(job);
                    stored?;
                }
                Op::Clean(mut job) => {
                    let stored = if self.is_careful {
                        apart(&mut scope, &mut *job)
                    } else {
                        plain(&mut scope, &mut *job)
                    };
                    self.jobs.push(job);
                    stored?;
                }
                Op::Close(reply) => self.closing = Some(reply),
            }
        }
        for (dag, last) in std::mem::take(&mut scope.touched) {
            dag::touch(scope.connection, dag, last)?;
        }
        let told = std::mem::take(&mut scope.told);
        drop(scope);
        transaction.commit()?;
        crash::point(Point::AfterCommit);
        Ok(told)
    }
}

fn plain(scope: &mut Scope<'_>, job: &mut dyn Job) -> Result<(), StoreError> {
    if let Some(failure) = job.run(scope).failure {
        return Err(failure);
    }
    // What came after it would be committed one by one.
    let is_over = scope.connection.is_autocommit();
    if is_over {
        Err(StoreError::Value("the transaction has ended before its commit".to_owned()))
    } else {
        Ok(())
    }
}

/// Runs one write so that its refusal takes back nothing but its own part. A failure around it ends the group (SQLite
/// rolls the whole transaction back when the disk is full).
fn apart(scope: &mut Scope<'_>, job: &mut dyn Job) -> Result<(), StoreError> {
    scope.connection.prepare_cached("SAVEPOINT one")?.execute([])?;
    let (published, newest) = (scope.told.len(), scope.newest);
    if !job.run(scope).is_kept {
        scope.connection.prepare_cached("ROLLBACK TO one")?.execute([])?;
        scope.told.truncate(published);
        scope.newest = newest;
    }
    scope.connection.prepare_cached("RELEASE one")?.execute([])?;
    Ok(())
}

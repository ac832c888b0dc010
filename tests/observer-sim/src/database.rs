//! The SQLite connection of one session.
//!
//! Purpose: clients join, filter and count as they like, over tables that are filled at the moment of the question; and `ocs`
//! is a real small store that all servers share.
//!
//! Invariant: schema `oceanbase` is in memory and never written by clients; every other schema is the file `<name>.db` in the
//! cluster's directory. Transactions take the write lock at their begin, so `FOR UPDATE` holds what it says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::hooks::Action;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use crate::functions::{self, Facts};
use crate::protocol::{Answer, Column, Kind, Rows};
use crate::refusal::Refusal;
use crate::rows;
use crate::server::Sight;
use crate::settings::hold;
use crate::state::Addr;
use crate::tables::{Row, Table};
use crate::token::{Piece, Token};
use crate::translate::Translated;

const INTERNAL: [&str; 2] = ["oceanbase", "information_schema"];

#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    dir: PathBuf,
    attached: BTreeSet<String>,
    counts: Arc<Mutex<Counts>>,
    pub(crate) facts: Arc<Mutex<Facts>>,
}

/// Rows that one statement touched.
#[derive(Debug, Default)]
struct Counts {
    inserted: u64,
    updated: BTreeSet<i64>,
}

/// Names of the schemas that were made.
pub(crate) fn made_databases(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = files
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".db").map(str::to_owned))
        .collect();
    names.sort();
    names
}

pub(crate) fn database_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{}.db", name.to_lowercase()))
}

pub(crate) fn create_database(dir: &Path, name: &str, is_quiet: bool) -> Result<(), Refusal> {
    let path = database_file(dir, name);
    if path.exists() || INTERNAL.contains(&name.to_lowercase().as_str()) {
        let exists = || Refusal::new(1007, format!("Can't create database '{name}'; database exists"));
        return if is_quiet { Ok(()) } else { Err(exists()) };
    }
    let made = Connection::open(&path).and_then(|connection| {
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        // Without content the file stays empty, and the mode is not kept.
        connection.execute_batch("PRAGMA user_version = 1")
    });
    made.map_err(|error| Refusal::new(4016, format!("Internal error: {error}")))
}

pub(crate) fn drop_database(dir: &Path, name: &str, is_quiet: bool) -> Result<(), Refusal> {
    let path = database_file(dir, name);
    if std::fs::remove_file(&path).is_err() && !is_quiet {
        return Err(Refusal::new(1008, format!("Can't drop database '{name}'; database doesn't exist")));
    }
    for end in ["db-wal", "db-shm"] {
        drop(std::fs::remove_file(path.with_extension(end)));
    }
    Ok(())
}

impl Database {
    pub(crate) fn open(dir: &Path, facts: Facts) -> anyhow::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        connection
            .execute_batch("ATTACH ':memory:' AS oceanbase; ATTACH ':memory:' AS information_schema")?;
        let facts = Arc::new(Mutex::new(facts));
        functions::register(&connection, &facts)?;
        let counts = Arc::new(Mutex::new(Counts::default()));
        let counted = Arc::clone(&counts);
        connection.update_hook(Some(move |action: Action, database: &str, _: &str, row: i64| {
            if INTERNAL.contains(&database) {
                return;
            }
            let mut counts = hold(&counted);
            match action {
                Action::SQLITE_INSERT => counts.inserted += 1,
                Action::SQLITE_UPDATE => _ = counts.updated.insert(row),
                _ => {}
            }
        }))?;
        Ok(Self { connection, dir: dir.to_owned(), attached: BTreeSet::new(), counts, facts })
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Schemas appear and go by statements of other sessions and servers.
    pub(crate) fn attach(&mut self) -> Result<(), Refusal> {
        if self.is_in_transaction() {
            return Ok(());
        }
        let there: BTreeSet<String> = made_databases(&self.dir).into_iter().collect();
        for gone in self.attached.clone().difference(&there) {
            self.batch(&format!("DETACH \"{gone}\""))?;
            self.attached.remove(gone);
        }
        for new in &there {
            if self.attached.contains(new) {
                continue;
            }
            let path = database_file(&self.dir, new);
            let sql = format!("ATTACH ?1 AS \"{new}\"");
            self.connection
                .execute(&sql, [path.to_string_lossy()])
                .and_then(|_| self.connection.execute_batch(&format!("PRAGMA \"{new}\".synchronous = OFF")))
                .map_err(|error| refusal(&error, None))?;
            self.attached.insert(new.clone());
        }
        Ok(())
    }

    fn batch(&self, sql: &str) -> Result<(), Refusal> {
        self.connection.execute_batch(sql).map_err(|error| refusal(&error, None))
    }

    pub(crate) fn begin(&mut self, limit: Duration) -> Result<(), Refusal> {
        self.commit()?;
        self.attach()?;
        self.wait_at_most(limit)?;
        self.batch("BEGIN IMMEDIATE")
    }

    pub(crate) fn commit(&self) -> Result<(), Refusal> {
        if self.is_in_transaction() { self.batch("COMMIT") } else { Ok(()) }
    }

    pub(crate) fn rollback(&self) -> Result<(), Refusal> {
        if self.is_in_transaction() { self.batch("ROLLBACK") } else { Ok(()) }
    }

    fn wait_at_most(&self, limit: Duration) -> Result<(), Refusal> {
        self.connection.busy_timeout(limit).map_err(|error| refusal(&error, None))
    }

    /// Fills the tables that a statement names.
    pub(crate) fn fill(&self, named: &[&'static Table], sight: &Sight, own: Addr) -> Result<(), Refusal> {
        let databases = made_databases(&self.dir);
        let facts = rows::Facts { sight, own, databases: &databases };
        for table in named {
            self.refill(table, &(table.rows)(&facts)).map_err(|error| refusal(&error, None))?;
        }
        Ok(())
    }

    fn refill(&self, table: &Table, rows: &[Row]) -> rusqlite::Result<()> {
        self.connection.execute_batch(&format!("DROP TABLE IF EXISTS oceanbase.\"{}\"", table.name))?;
        self.connection.execute_batch(&table.definition())?;
        let places: Vec<&str> = (0..table.width()).map(|_| "?").collect();
        let sql = format!("INSERT INTO oceanbase.\"{}\" VALUES ({})", table.name, places.join(", "));
        let mut insert = self.connection.prepare(&sql)?;
        for row in rows {
            insert.execute(params_from_iter(row))?;
        }
        Ok(())
    }

    /// A small part of the schema that describes the others.
    pub(crate) fn fill_information(&self) -> Result<(), Refusal> {
        let mut sql = String::from(
            "DROP TABLE IF EXISTS information_schema.SCHEMATA; DROP TABLE IF EXISTS information_schema.TABLES;
             DROP TABLE IF EXISTS information_schema.COLLATIONS;
             CREATE TABLE information_schema.SCHEMATA (CATALOG_NAME VARCHAR(64), SCHEMA_NAME VARCHAR(64) COLLATE NOCASE,
                DEFAULT_CHARACTER_SET_NAME VARCHAR(64));
             CREATE TABLE information_schema.TABLES (TABLE_CATALOG VARCHAR(64), TABLE_SCHEMA VARCHAR(64) COLLATE NOCASE,
                TABLE_NAME VARCHAR(64) COLLATE NOCASE, TABLE_TYPE VARCHAR(64));
             CREATE TABLE information_schema.COLLATIONS (COLLATION_NAME VARCHAR(64), CHARACTER_SET_NAME VARCHAR(64), ID BIGINT,
                IS_DEFAULT VARCHAR(4));",
        );
        sql +=
            &format!("INSERT INTO information_schema.COLLATIONS VALUES {};", crate::show::collation_values());
        for name in INTERNAL.iter().map(|name| (*name).to_owned()).chain(self.attached.iter().cloned()) {
            sql += &format!("INSERT INTO information_schema.SCHEMATA VALUES ('def', '{name}', 'utf8mb4');");
            if self.attached.contains(&name) {
                sql += &format!(
                    "INSERT INTO information_schema.TABLES SELECT 'def', '{name}', name, 'BASE TABLE'
                     FROM \"{name}\".sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%';"
                );
            }
        }
        self.batch(&sql)
    }

    /// Runs a statement; a definition commits what is open, as in MySQL.
    pub(crate) fn run(
        &mut self,
        translated: &Translated,
        values: &[Value],
        is_definition: bool,
        limit: Duration,
    ) -> Result<Answer, Refusal> {
        let database = hold(&self.facts).database.clone();
        let known = self.attached.clone();
        let explain = |error: &rusqlite::Error| in_known(refusal(error, database.as_deref()), &known);
        if is_definition {
            self.commit()?;
        }
        self.wait_at_most(limit)?;
        *hold(&self.counts) = Counts::default();
        let before = self.connection.total_changes();
        let answer = self.execute(&translated.text, values).map_err(|error| explain(&error))?;
        for more in &translated.more {
            self.connection.execute_batch(more).map_err(|error| explain(&error))?;
        }
        if let Some(rows) = answer {
            return Ok(Answer::Rows(rows));
        }
        let counts = hold(&self.counts);
        let changed = self.connection.changes();
        let affected = if is_definition || self.connection.total_changes() == before {
            0
        } else if translated.is_upsert {
            counts.inserted + 2 * counts.updated.len() as u64
        } else {
            changed
        };
        let id = if counts.inserted > 0 { self.connection.last_insert_rowid() } else { 0 };
        if id != 0 {
            hold(&self.facts).last_insert_id = id;
        }
        Ok(Answer::Done { affected, id: u64::try_from(id).unwrap_or_default() })
    }

    /// `None` for what returns no rows.
    fn execute(&self, sql: &str, values: &[Value]) -> rusqlite::Result<Option<Rows>> {
        let mut statement = self.connection.prepare(sql)?;
        if statement.column_count() == 0 {
            statement.execute(params_from_iter(values))?;
            return Ok(None);
        }
        let columns: Vec<(String, Option<Kind>)> = statement
            .columns()
            .map(|column| (shown_name(column.name()), column.decl_type().map(kind_of)))
            .collect();
        let mut found = statement.query(params_from_iter(values))?;
        let mut rows: Vec<Row> = Vec::new();
        while let Some(row) = found.next()? {
            rows.push((0..columns.len()).map(|at| row.get::<_, Value>(at)).collect::<Result<_, _>>()?);
        }
        let columns = columns.into_iter().enumerate().map(|(at, (name, declared))| Column {
            name,
            kind: fitting_kind(declared, rows.iter().filter_map(|row| row.get(at))),
        });
        Ok(Some(Rows { columns: columns.collect(), rows }))
    }

    /// Columns of a statement that is only prepared; nothing where it cannot be told yet.
    pub(crate) fn columns_of(&self, translated: &Translated) -> Vec<Column> {
        let Ok(statement) = self.connection.prepare(&translated.text) else { return Vec::new() };
        let column = |column: &rusqlite::Column<'_>| Column {
            name: shown_name(column.name()),
            kind: column.decl_type().map_or(Kind::Text, kind_of),
        };
        statement.columns().map(|found| column(&found)).collect()
    }
}

/// Tables of schema `oceanbase` that a statement names.
pub(crate) fn named_tables(pieces: &[Piece], settings: &crate::settings::Settings) -> Vec<&'static Table> {
    let mut named: Vec<&'static Table> = Vec::new();
    for piece in pieces {
        let (Token::Word(name) | Token::Name(name)) = &piece.token else { continue };
        if let Some(table) = crate::tables::find(name, settings)
            && !named.iter().any(|other| other.name == table.name)
        {
            named.push(table);
        }
    }
    named
}

/// A variable is called as it was written.
fn shown_name(name: &str) -> String {
    name.strip_prefix("ob_variable('").and_then(|rest| rest.strip_suffix("')")).unwrap_or(name).to_owned()
}

fn kind_of(declared: &str) -> Kind {
    let declared = declared.to_ascii_uppercase();
    let has = |part: &str| declared.contains(part);
    if has("TIMESTAMP") || has("DATETIME") {
        Kind::Time
    } else if has("INT") {
        Kind::Integer
    } else if has("BLOB") || has("BINARY") {
        Kind::Bytes
    } else if has("DOUBLE") || has("FLOAT") {
        Kind::Real
    } else {
        Kind::Text
    }
}

/// SQLite stores what it is given: a kind that does not fit all values is text.
fn fitting_kind<'a>(declared: Option<Kind>, values: impl Iterator<Item = &'a Value>) -> Kind {
    let mut kind = declared;
    for value in values {
        let own = match value {
            Value::Null => continue,
            Value::Integer(_) => Kind::Integer,
            Value::Real(_) => Kind::Real,
            Value::Blob(_) => Kind::Bytes,
            Value::Text(_) => Kind::Text,
        };
        kind = match kind {
            None => Some(own),
            Some(kind) if kind == own => Some(kind),
            Some(Kind::Real) if own == Kind::Integer => Some(Kind::Real),
            Some(Kind::Bytes) if own == Kind::Text => Some(Kind::Bytes),
            Some(Kind::Time) if own == Kind::Text && crate::protocol::is_time(value) => Some(Kind::Time),
            Some(_) => return Kind::Text,
        };
    }
    kind.unwrap_or(Kind::Text)
}

/// A table of a schema that does not exist.
fn in_known(why: Refusal, known: &BTreeSet<String>) -> Refusal {
    let name = why.text.split(['\'', '.']).nth(1).unwrap_or_default().to_lowercase();
    let is_known = known.contains(&name) || INTERNAL.contains(&name.as_str());
    if why.code == 1146 && !is_known { Refusal::no_database(&name) } else { why }
}

fn refusal(error: &rusqlite::Error, database: Option<&str>) -> Refusal {
    let text = error.to_string();
    let after = |mark: &str| {
        text.split_once(mark).map(|(_, rest)| rest.split([' ', ',']).next().unwrap_or(rest).to_owned())
    };
    if let rusqlite::Error::SqliteFailure(failure, _) = error {
        match failure.extended_code {
            rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
            | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            | rusqlite::ffi::SQLITE_CONSTRAINT_ROWID => {
                let key = after("failed: ").unwrap_or_default();
                return Refusal::new(1062, format!("Duplicate entry for key '{key}'"));
            }
            rusqlite::ffi::SQLITE_CONSTRAINT_NOTNULL => {
                let column = after("failed: ").unwrap_or_default();
                let column = column.rsplit('.').next().unwrap_or_default();
                return Refusal::new(1048, format!("Column '{column}' cannot be null"));
            }
            _ => {}
        }
        if matches!(failure.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) {
            return Refusal::new(1205, "Lock wait timeout exceeded; try restarting transaction");
        }
    }
    if let Some(table) = after("no such table: ") {
        let (database, table) = table
            .split_once('.')
            .map_or((database.unwrap_or("oceanbase").to_owned(), table.clone()), |(d, t)| {
                (d.to_owned(), t.to_owned())
            });
        return Refusal::no_table(&database, &table);
    }
    if let Some(database) = after("unknown database ") {
        return Refusal::no_database(&database);
    }
    if let Some(column) = after("no such column: ").or_else(|| after("has no column named ")) {
        return Refusal::new(1054, format!("Unknown column '{column}' in 'field list'"));
    }
    if let Some(column) = after("duplicate column name: ") {
        return Refusal::new(1060, format!("Duplicate column name '{column}'"));
    }
    if text.contains("already exists") {
        let table = after("table ").unwrap_or_default().replace('"', "");
        return Refusal::new(1050, format!("Table '{table}' already exists"));
    }
    if let Some(function) = after("no such function: ") {
        return Refusal::new(1305, format!("FUNCTION {function} does not exist"));
    }
    if let Some((_, name)) = text.split_once(functions::UNKNOWN_VARIABLE) {
        return Refusal::new(1193, format!("{}{name}", functions::UNKNOWN_VARIABLE));
    }
    Refusal::syntax(&text)
}

//! The floor of a run: the rows that it wrote, written again by a plain loop.
//!
//! One connection in the same folder with the same settings and tables, statements prepared once, values at hand before the
//! clock starts. As many writes in a transaction as the run had in one on the average; one sync of the disk each. What is
//! written, and nothing else is:
//! - a new DAG: the rows of the DAG, of its nodes and of their sub-tasks, and an event; and its first change;
//! - a change: its events, the row of the DAG, and the row of each sub-task that an event names;
//! - a line: an event.
//!
//! Each time as it was then, not as it is in the end: SQLite writes no page for a row that is already so. A row that was not final is
//! told from the final one: a DAG runs until it has ended, with the revision and the last event of that change; a sub-task
//! runs from its claim on. Columns that stand in indexes are set with the end only, as the store does it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use obpilot::clock;
use obpilot::store::Store;
use rusqlite::types::Value;
use rusqlite::{Connection, Statement, params_from_iter};

use super::{Row, cpu, rows};

/// One write of the store's writer, in rows.
#[derive(Debug, Default)]
struct Write {
    dag: Option<Row>,
    nodes: Vec<Row>,
    sub_tasks: Vec<Row>,
    events: Vec<Row>,
    running_dag: Option<Row>,
    ended_dag: Option<Row>,
    changed_sub_tasks: Vec<Row>,
}

/// Time and CPU time.
pub(super) async fn run(ours: &Utf8Path, dir: &Utf8Path, group: usize) -> (Duration, Duration) {
    let writes = writes(&Connection::open(ours.join("store.db")).unwrap());
    Store::open(dir, clock::system(), 1).unwrap().close().await;
    let mut connection = Connection::open(dir.join("store.db")).unwrap();
    for (pragma, value) in [
        ("foreign_keys", "ON"),
        ("synchronous", "FULL"),
        ("journal_size_limit", "33554432"),
        ("cache_size", "-8192"),
        ("temp_store", "MEMORY"),
    ] {
        connection.pragma_update(None, pragma, value).unwrap();
    }
    let (begun, cpu_before) = (Instant::now(), cpu());
    // The statements outlive the transactions, which therefore are statements too.
    let connection = &mut connection;
    let mut plain = Plain::new(connection);
    for group in writes.chunks(group) {
        plain.begin.execute([]).unwrap();
        for write in group {
            plain.write(write);
        }
        plain.commit.execute([]).unwrap();
    }
    let spent = (begun.elapsed(), cpu().saturating_sub(cpu_before));
    drop(plain);
    let ends = |connection: &Connection| {
        let dags = rows(connection, &format!("SELECT {ENDED_DAG} FROM dag ORDER BY id"));
        (dags, rows(connection, &format!("SELECT {CHANGED_SUB_TASK} FROM sub_task ORDER BY id")))
    };
    let has_same = ends(connection) == ends(&Connection::open(ours.join("store.db")).unwrap());
    assert!(has_same, "the loop has led where the run did");
    spent
}

struct Plain<'a> {
    begin: Statement<'a>,
    commit: Statement<'a>,
    dag: Statement<'a>,
    node: Statement<'a>,
    sub_task: Statement<'a>,
    event: Statement<'a>,
    run_dag: Statement<'a>,
    end_dag: Statement<'a>,
    change_sub_task: Statement<'a>,
}

const DAG: &str =
    "revision, last_event, name, flow, definition, main_dag, is_maintenance, state, heading, operator,
     holds_lock, signals, is_finished, created_at, actor, request_key, request_fingerprint";
const NODE: &str = "dag_id, position, name, operator";
const SUB_TASK: &str = "node_id, dag_id, position, agent, state, operator, execute_times";
const EVENT: &str = "at, kind, dag_id, node_id, sub_task_id, attempt, actor, body";
const RUNNING_DAG: &str = "revision, last_event, state, heading, operator, holds_lock, signals, started_at";
const ENDED_DAG: &str =
    "revision, last_event, state, heading, operator, holds_lock, signals, started_at, is_finished, ended_at";
const CHANGED_SUB_TASK: &str = "state, operator, execute_times, started_at, ended_at, output, note, failure";

impl<'a> Plain<'a> {
    fn new(connection: &'a Connection) -> Self {
        let prepare = |sql: &str| connection.prepare(sql).unwrap();
        let insert = |table: &str, columns: &str| {
            let places = vec!["?"; columns.split(',').count()].join(", ");
            prepare(&format!("INSERT INTO {table} ({columns}) VALUES ({places})"))
        };
        let update = |table: &str, columns: &str| {
            let sets: Vec<_> = columns.split(',').map(|column| format!("{} = ?", column.trim())).collect();
            prepare(&format!("UPDATE {table} SET {} WHERE id = ?", sets.join(", ")))
        };
        Self {
            begin: prepare("BEGIN IMMEDIATE"),
            commit: prepare("COMMIT"),
            dag: insert("dag", DAG),
            node: insert("node", NODE),
            sub_task: insert("sub_task", SUB_TASK),
            event: insert("event", EVENT),
            run_dag: update("dag", RUNNING_DAG),
            end_dag: update("dag", ENDED_DAG),
            change_sub_task: update("sub_task", CHANGED_SUB_TASK),
        }
    }

    fn write(&mut self, write: &Write) {
        let steps = [
            (&mut self.dag, write.dag.as_slice()),
            (&mut self.node, &write.nodes),
            (&mut self.sub_task, &write.sub_tasks),
            (&mut self.event, &write.events),
            (&mut self.run_dag, write.running_dag.as_slice()),
            (&mut self.end_dag, write.ended_dag.as_slice()),
            (&mut self.change_sub_task, &write.changed_sub_tasks),
        ];
        for (statement, rows) in steps {
            for row in rows {
                assert_eq!(statement.execute(params_from_iter(row)).unwrap(), 1, "a row is written once");
            }
        }
    }
}

/// The rows by the number in their last column, without it.
fn by_number(connection: &Connection, table: &str, columns: &str, number: &str) -> HashMap<i64, Vec<Row>> {
    let mut found: HashMap<i64, Vec<Row>> = HashMap::new();
    for mut row in rows(connection, &format!("SELECT {columns}, {number} FROM {table} ORDER BY id")) {
        let Some(Value::Integer(number)) = row.pop() else { panic!("a number") };
        found.entry(number).or_default().push(row);
    }
    found
}

/// What the store's writer wrote, in order. Events of one DAG with one moment were one write.
fn writes(connection: &Connection) -> Vec<Write> {
    let mut dags = by_number(connection, "dag", DAG, "id");
    let mut nodes = by_number(connection, "node", NODE, "dag_id");
    let mut sub_tasks = by_number(connection, "sub_task", SUB_TASK, "dag_id");
    let ended_dags = by_number(connection, "dag", &format!("{ENDED_DAG}, id"), "id");
    let changed_sub_tasks = by_number(connection, "sub_task", &format!("{CHANGED_SUB_TASK}, id"), "id");
    let mut revisions: HashMap<i64, i64> = HashMap::new();
    let mut writes: Vec<Write> = Vec::new();
    let mut last = None;
    for mut event in rows(connection, &format!("SELECT {EVENT}, id FROM event ORDER BY id")) {
        let (id, at, dag) =
            (integer(event.pop()), integer(event.first().cloned()), integer(event.get(2).cloned()));
        let Some(Value::Text(kind)) = event.get(1).cloned() else { panic!("an event has a kind") };
        let is_known =
            ["log", "created", "started", "claimed", "succeeded", "ended"].contains(&kind.as_str());
        assert!(is_known, "what a row was before '{kind}' is not told here");
        let sub_task = if let Value::Integer(id) = &event[4] { Some(*id) } else { None };
        let is_line = kind == "log";
        if is_line || last != Some((at, dag)) {
            writes.push(Write::default());
            if !is_line && kind != "created" {
                *revisions.entry(dag).or_default() += 1;
            }
        }
        last = (!is_line).then_some((at, dag));
        let write = writes.last_mut().unwrap();
        write.events.push(event);
        if is_line {
            continue;
        }
        if kind == "created" {
            write.dag = dags.remove(&dag).and_then(|mut rows| rows.pop()).map(created);
            write.nodes = nodes.remove(&dag).unwrap();
            write.sub_tasks = sub_tasks.remove(&dag).unwrap().into_iter().map(pending).collect();
            // Its first change is of the same write.
            revisions.insert(dag, 1);
            continue;
        }
        let ended = &ended_dags[&dag][0];
        if kind == "ended" {
            (write.running_dag, write.ended_dag) = (None, Some(ended.clone()));
        } else if write.ended_dag.is_none() {
            write.running_dag = Some(running(ended, revisions[&dag], id));
        }
        if let Some(id) = sub_task {
            let row = changed_sub_tasks[&id][0].clone();
            write.changed_sub_tasks.push(if kind == "claimed" { claimed(row) } else { row });
        }
    }
    writes
}

fn integer(value: Option<Value>) -> i64 {
    let Some(Value::Integer(number)) = value else { panic!("a number") };
    number
}

fn text(word: &str) -> Value {
    Value::Text(word.to_owned())
}

/// A row of [`DAG`] as it was inserted.
fn created(mut row: Row) -> Row {
    (row[0], row[1], row[7], row[12]) =
        (Value::Integer(0), Value::Integer(0), text("ready"), Value::Integer(0));
    row
}

/// A row of [`SUB_TASK`] as it was inserted.
fn pending(mut row: Row) -> Row {
    (row[4], row[6]) = (text("pending"), Value::Integer(0));
    row
}

/// A row of [`RUNNING_DAG`] with its number, from one of [`ENDED_DAG`] with its number.
fn running(ended: &Row, revision: i64, last_event: i64) -> Row {
    let mut row = ended[..8].to_vec();
    (row[0], row[1], row[2]) = (Value::Integer(revision), Value::Integer(last_event), text("running"));
    row.push(ended[10].clone());
    row
}

/// A row of [`CHANGED_SUB_TASK`] while its step runs.
fn claimed(mut row: Row) -> Row {
    (row[0], row[4], row[5]) = (text("running"), Value::Null, Value::Null);
    row
}

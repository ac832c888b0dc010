//! What an agent takes, looked at when nothing is to be done: memory, descriptors, threads, store.

use std::path::Path;
use std::time::Duration;

use rusqlite::OpenFlags;

/// One look at one agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Since the beginning of the run.
    pub(crate) at: Duration,
    pub(crate) resident: u64,
    /// Of it what is no file's.
    pub(crate) anonymous: u64,
    /// What it says it holds; its allocator keeps more than that.
    pub(crate) held: u64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    /// Database and write-ahead log.
    pub(crate) store: u64,
    pub(crate) tasks: i64,
    pub(crate) events: i64,
}

impl Figures {
    pub(crate) fn of(at: Duration, pid: i32, held: u64, home: &Path) -> Self {
        let folder = home.join(".obpilot");
        let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |file| file.len());
        let store =
            rusqlite::Connection::open_with_flags(folder.join("store.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)
                .unwrap();
        let count = |sql: &str| store.query_row(sql, [], |row| row.get(0)).unwrap();
        let entries = |name: &str| std::fs::read_dir(format!("/proc/{pid}/{name}")).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        Self {
            at,
            resident: kib("VmRSS:") << 10,
            anonymous: kib("RssAnon:") << 10,
            held,
            descriptors: entries("fd"),
            threads: entries("task"),
            store: size("store.db") + size("store.db-wal"),
            tasks: count("SELECT count(*) FROM dag"),
            events: count("SELECT count(*) FROM event"),
        }
    }
}

/// The line through points of seconds and values, by least squares: what it grows by in a minute.
pub(crate) fn slope_per_minute(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let middle = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (middle(|p| p.0), middle(|p| p.1));
    let above: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let below: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if below == 0.0 { 0.0 } else { above / below * 60.0 }
}

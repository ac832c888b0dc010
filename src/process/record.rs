//! What a later look at a process needs and only its start knew, kept in the agent's state directory.
//!
//! Purpose: after a restart of the agent the diagnosis still quotes this life's log, knows its options, and compares
//! the kernel's counters with those from before the start.
//!
//! Invariant: written before the spawn (without a pid) and again after it. A record whose pid and start time are not
//! those of the process asked about says nothing about that process. No secret stands in it.
//!
//! Not here: what must not be lost (the store keeps the task's state); without this file a diagnosis is poorer.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::engine::{NEVER_PASSED, Options};
use super::identity::Ident;
use crate::host::files;
use crate::host::memory::OomCounts;
use crate::model::{LogMark, Timestamp};

const FILE: &str = "launch.json";

/// The last start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// When the start began.
    pub begun_at: Timestamp,
    pub pid: Option<i32>,
    pub start_ticks: Option<u64>,
    pub is_first: bool,
    pub options: Options,
    pub log_from: LogMark,
    pub oom_before: OomCounts,
    /// First lines of what the launcher printed.
    pub output: Vec<String>,
}

impl Record {
    /// The process that came of it.
    pub(super) fn ident(&self) -> Option<Ident> {
        Some(Ident { pid: self.pid?, start_ticks: self.start_ticks? })
    }

    /// Whether it is about this process. An agent that died between the launcher's return and the second writing has left
    /// a record without a pid; then the process is the one that started after it (start times are whole seconds plus
    /// ticks, so two seconds are allowed for).
    pub(super) fn is_about(&self, ident: Ident, started_at: Timestamp) -> bool {
        match self.ident() {
            Some(own) => own == ident,
            None => started_at + jiff::SignedDuration::from_secs(2) >= self.begun_at,
        }
    }

    /// Replaces the record.
    pub(super) fn save(&self, state_dir: &Utf8Path) -> files::Result<()> {
        let mut clean = self.clone();
        clean.options.retain(|key, _| !NEVER_PASSED.contains(&key.as_str()));
        let text = serde_json::to_vec_pretty(&clean).unwrap_or_default();
        files::write_atomic(&state_dir.join(FILE), &text, 0o600)
    }

    /// The last start, if any was recorded and can be read.
    pub(super) fn load(state_dir: &Utf8Path) -> Option<Self> {
        let bytes = std::fs::read(state_dir.join(FILE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_without_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(Record::load(dir), None);
        let mut record = Record { pid: Some(7), start_ticks: Some(9), ..Record::default() };
        record.options.insert("mysql_port".to_owned(), "1".to_owned());
        let mut written = record.clone();
        written.options.insert("rootPwd".to_owned(), "hunter2".to_owned());
        written.save(dir).unwrap();
        assert_eq!(Record::load(dir), Some(record.clone()));
        let (then, later) = (Timestamp::UNIX_EPOCH, "2026-11-20T00:00:00Z".parse().unwrap());
        assert!(record.is_about(Ident { pid: 7, start_ticks: 9 }, then));
        assert!(!record.is_about(Ident { pid: 7, start_ticks: 10 }, then));
        let unfinished = Record { pid: None, begun_at: later, ..record };
        assert!(unfinished.is_about(Ident { pid: 8, start_ticks: 1 }, later));
        assert!(!unfinished.is_about(Ident { pid: 8, start_ticks: 1 }, then), "an earlier process");
        files::write_atomic(&dir.join(FILE), b"{", 0o600).unwrap();
        assert_eq!(Record::load(dir), None);
    }
}

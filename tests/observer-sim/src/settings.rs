//! `observer-sim.json`: what kind of server is played, how fast, and with which faults.
//!
//! Purpose: an agent passes its server no environment, so the settings lie beside the executable as it was started; the
//! variable OBSERVER_SIM names another file and wins.
//!
//! Invariant: the file is read again at every decision. While it is being replaced, what was read last holds.
//!
//! Faults, by name (value): a switch is on unless it is `false`, `null` or 0.
//!
//! - start: `exit_before_fork` (status), `listen_after_ms`, `never_listen`, `serve_after_ms`, `never_serve`, `no_pid_file`,
//!   `version_after_restart` (version), `die_after_ms` with `die_log` (a whole line if it begins with `[`), `die_code`,
//!   `die_signal`;
//! - end: `ignore_graceful`, `stuck_shutdown`;
//! - login: `initializing_ms` (8001), `refuse_login` (1045), `half_open` (`silent`, `greet`, `close`, `reset`);
//! - statements, as text that they contain, as object with `match` and `times`, or as list of such: `hang_on` (never answers),
//!   `drop_answer_of` (done, then cut), `error_on` (object with `code` and `text`);
//! - cluster: `no_leader` (seen from this server), `alter_without_rs` (number instead of 4012), `bootstrap_fails` (number),
//!   `exit_during_bootstrap`, `silent_streams` (`ip:port` whose rows this server does not get in GV$OB_LOG_STAT), `stop_server_blocks` (leaders stay here), `catch_up_ms` (replicas are not in sync for so long after the start),
//!   `freeze_never`, `delete_never`;
//! - faces: `license` (DBA_OB_LICENSE is there), `no_startup_mode` (no such parameter).
//!
//! Not here: what a fault does; each is looked up where it strikes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const FILE: &str = "observer-sim.json";
const VARIABLE: &str = "OBSERVER_SIM";

/// Which signal stops in good order (`observer-model.md` §5.1).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Convention {
    /// USR1 is graceful, TERM kills.
    #[default]
    Newer,
    /// TERM is graceful, USR1 is not handled.
    Older,
}

/// The file's content.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// Directory that all servers of the cluster share.
    pub(crate) cluster: PathBuf,
    /// Scales every span of `observer-model.md` §15.4; 0 waits for nothing.
    pub(crate) factor: f64,
    pub(crate) signals: Convention,
    pub(crate) version: String,
    pub(crate) revision: String,
    /// Community edition.
    pub(crate) ce: bool,
    pub(crate) faults: Map<String, Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: PathBuf::new(),
            factor: 0.0,
            signals: Convention::Newer,
            version: "4.3.5.1".to_owned(),
            revision: "101000042024121211-abcdef".to_owned(),
            ce: true,
            faults: Map::new(),
        }
    }
}

impl Settings {
    pub(crate) fn span(&self, seconds: f64) -> Duration {
        Duration::try_from_secs_f64(seconds * self.factor).unwrap_or_default()
    }

    /// A time limit of a statement, scaled; short enough and long enough to be seen.
    pub(crate) fn patience(&self, limit: Duration) -> Duration {
        self.span(limit.as_secs_f64()).max(Duration::from_millis(50))
    }

    /// Whether a switch is on: anything but `false`, `null` and 0.
    pub(crate) fn has(&self, fault: &str) -> bool {
        match self.faults.get(fault) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(_) => true,
        }
    }

    pub(crate) fn number(&self, fault: &str) -> Option<i64> {
        self.faults.get(fault)?.as_i64()
    }

    pub(crate) fn text(&self, fault: &str) -> Option<&str> {
        self.faults.get(fault)?.as_str()
    }

    pub(crate) fn millis(&self, fault: &str) -> Option<Duration> {
        u64::try_from(self.number(fault)?).ok().map(Duration::from_millis)
    }

    /// As `ob_version()` and `BUILD_VERSION` have it, in a life that may be a restart.
    pub(crate) fn version(&self, is_restart: bool) -> &str {
        self.text("version_after_restart").filter(|_| is_restart).unwrap_or(&self.version)
    }

    pub(crate) fn product(&self) -> &'static str {
        if self.ce { "OceanBase_CE" } else { "OceanBase" }
    }

    /// Text of `version()` and of the greeting.
    pub(crate) fn mysql_version(&self, is_restart: bool) -> String {
        format!("5.7.25-{}-v{}", self.product(), self.version(is_restart))
    }

    pub(crate) fn build_version(&self, is_restart: bool) -> String {
        format!("{}_{}(Dec 12 2024 11:25:20)", self.version(is_restart), self.revision)
    }
}

/// Where the settings come from.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    last: Mutex<Settings>,
    /// How often a trap with `times` has struck, by its text.
    spent: Mutex<HashMap<String, u64>>,
}

impl Source {
    /// `program` is the first word of the command line.
    pub(crate) fn find(program: &str, cwd: &Path) -> Self {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let beside = |path: &Path| path.parent().map(|dir| dir.join(FILE));
        let started = || program.contains('/').then(|| beside(&cwd.join(program))).flatten();
        let real = || std::env::current_exe().ok().and_then(|path| beside(&path));
        let path = named
            .map(|path| cwd.join(path))
            .or_else(|| started().filter(|path| path.exists()))
            .or_else(real)
            .unwrap_or_else(|| cwd.join(FILE));
        Self::at(path)
    }

    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, last: Mutex::default(), spent: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read(&self) -> Settings {
        let found = std::fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut last = hold(&self.last);
        if let Some(settings) = found {
            *last = settings;
        }
        last.clone()
    }

    /// Writes one fault into the file; `null` takes it out.
    pub(crate) fn set_fault(&self, name: &str, value: Value) -> Result<()> {
        let bytes = std::fs::read(&self.path).context("cannot read the settings")?;
        let mut whole: Map<String, Value> =
            serde_json::from_slice(&bytes).context("the settings are no JSON")?;
        let faults = whole.entry("faults").or_insert_with(|| json!({}));
        if let Some(faults) = faults.as_object_mut() {
            if value.is_null() {
                faults.remove(name);
            } else {
                faults.insert(name.to_owned(), value);
            }
        }
        let new = self.path.with_extension("json.new");
        std::fs::write(&new, serde_json::to_vec_pretty(&whole)?).context("cannot write the settings")?;
        std::fs::rename(&new, &self.path).context("cannot replace the settings")
    }

    /// The trap of this name that a statement falls into. A trap is the text that the statement contains, or an object with
    /// `match` and how many `times` it strikes, or a list of such.
    pub(crate) fn trap(&self, settings: &Settings, fault: &str, sql: &str) -> Option<Value> {
        let mut spent = hold(&self.spent);
        let Some(value) = settings.faults.get(fault).filter(|value| !value.is_null()) else {
            // Taken out and put back it strikes anew.
            spent.retain(|key, _| !key.starts_with(&format!("{fault} ")));
            return None;
        };
        let traps = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        let sql = sql.to_lowercase();
        for trap in traps {
            let wanted = trap.as_str().or_else(|| trap.get("match")?.as_str()).unwrap_or_default();
            if wanted.is_empty() || !sql.contains(&wanted.to_lowercase()) {
                continue;
            }
            let count = spent.entry(format!("{fault} {trap}")).or_default();
            if trap.get("times").and_then(Value::as_u64).is_some_and(|times| *count >= times) {
                continue;
            }
            *count += 1;
            return Some(trap.clone());
        }
        None
    }
}

/// A thread that ended in the middle of a change leaves nothing half done here.
pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> (tempfile::TempDir, Source) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        std::fs::write(&path, text).unwrap();
        (dir, Source::at(path))
    }

    #[test]
    fn the_last_good_file_holds() {
        let (_dir, source) = source(r#"{"cluster":"/c","factor":0.5,"signals":"older"}"#);
        assert_eq!(source.read().signals, Convention::Older);
        std::fs::write(source.path(), "{").unwrap();
        let settings = source.read();
        assert_eq!(settings.cluster, Path::new("/c"));
        assert_eq!(settings.span(2.0), Duration::from_secs(1));
        assert_eq!(settings.mysql_version(false), "5.7.25-OceanBase_CE-v4.3.5.1");
    }

    #[test]
    fn faults_are_written_and_taken_out() {
        let (_dir, source) = source(r#"{"cluster":"/c"}"#);
        source.set_fault("freeze_never", json!(true)).unwrap();
        assert!(source.read().has("freeze_never"));
        source.set_fault("freeze_never", Value::Null).unwrap();
        assert!(!source.read().has("freeze_never"));
    }

    #[test]
    fn a_trap_strikes_as_often_as_it_says() {
        let (_dir, source) =
            source(r#"{"cluster":"/c","faults":{"error_on":[{"match":"STOP","times":1},"zone"]}}"#);
        let settings = source.read();
        assert!(source.trap(&settings, "error_on", "alter system stop server").is_some());
        assert!(source.trap(&settings, "error_on", "alter system stop server").is_none());
        assert!(source.trap(&settings, "error_on", "START ZONE").is_some());
        assert!(source.trap(&settings, "error_on", "START ZONE").is_some());
        assert!(source.trap(&settings, "hang_on", "START ZONE").is_none());
    }
}

//! The database process as the rest of the house speaks of it: which one, how it ended, why it did not start.
//!
//! Not here: how any of this is found out (`process`, `host`), and what is done about it (`flow`).

use std::collections::BTreeMap;
use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::Timestamp;

/// One life of the database process. Pid and start in clock ticks together name it: a recycled pid has another start. The other
/// fields describe it and do not decide whether two values are the same life: the wall time of a start moves when the clock of
/// the host is set, and where its log began is forgotten with the record of the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerProcess {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start_ticks: u64,
    pub started_at: Timestamp,
    /// Where its log began, so that a diagnosis quotes this life and no earlier one.
    pub log_from: LogMark,
}

impl PartialEq for ServerProcess {
    fn eq(&self, other: &Self) -> bool {
        self.pid == other.pid && self.start_ticks == other.start_ticks
    }
}

impl Eq for ServerProcess {}

/// A place in the database's own log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMark {
    pub inode: u64,
    pub offset: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It was not our child any more and this kernel does not tell (before Linux 6.15).
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "was killed by {name}"),
                Err(_) => write!(f, "was killed by signal {signal}"),
            },
            Self::Unknown => f.write_str("ended; how is not known, this kernel does not tell"),
        }
    }
}

/// What a start is given. Option names are the configuration keys of `observerConfig`
/// (`mysql_port`, `data_dir`, `syslog_level`, any parameter).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The data directory is not initialised yet: `options` decide how it will be. Later starts pass none
    /// of the options that the engine has saved.
    pub is_first: bool,
    pub options: BTreeMap<String, String>,
}

/// One thing that a check before the start found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable name: `binary`, `port`, `home`, `disk`, `memory`, `limits`, `owner`, `clock`.
    pub check: String,
    /// The start cannot work; otherwise a warning.
    pub is_fatal: bool,
    /// What is wrong, with the values seen.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.check, self.problem, self.remedy)
    }
}

/// How hard to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopHow {
    /// The engine's graceful signal, SIGKILL after the grace period.
    Graceful { grace_secs: u64 },
    /// SIGKILL at once.
    Kill,
}

/// What a stop did, for the task's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopReport {
    /// Name of each signal sent, in order; empty when the process had ended by itself.
    pub signals: Vec<String>,
    pub exit: Exit,
    pub took_millis: u64,
}

/// Why a process did not start or did not stay: what was seen, what it may mean, what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// In words, [`Exit`] as text.
    pub exit: Option<String>,
    /// What the launcher itself printed before it returned, first lines.
    pub launcher_output: Vec<String>,
    /// Evidence that the kernel killed it for memory.
    pub oom: Option<String>,
    /// The core file, where one was written and can be found.
    pub core: Option<Utf8PathBuf>,
    /// The first fatal lines of this life's log.
    pub log_lines: Vec<String>,
    /// Where these lines stand.
    pub log_file: Option<Utf8PathBuf>,
    /// A limit that was hit or is suspiciously low, with its value.
    pub limits: Vec<String>,
    /// Known causes that fit, most certain first.
    pub causes: Vec<Cause>,
}

/// A known cause with its evidence and its cure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Stable name such as `port-taken`.
    pub name: String,
    pub evidence: String,
    pub advice: String,
}

impl Diagnosis {
    /// One sentence for the closing line of a failed step: the most certain cause, else the exit and the first
    /// fatal line.
    pub fn headline(&self) -> String {
        if let Some(cause) = self.causes.first() {
            return format!("{}; {}", cause.evidence, cause.advice);
        }
        let exit = self.exit.clone().unwrap_or_else(|| "no exit was seen".to_owned());
        match self.log_lines.first() {
            Some(line) => format!("it {exit}; its log says: {line}"),
            None => format!("it {exit}; its log has no fatal line"),
        }
    }
}

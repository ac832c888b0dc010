//! What differs between the engines, behind one trait.
//!
//! Purpose: the rest of this room speaks of "the engine". How it is started, where it keeps what, and how one sees
//! that it is there, is said once per engine, in [`super::seekdb`] and [`super::observer`].
//!
//! Invariant: implementations only describe; they touch nothing but files below the home that they read.
//!
//! Not here: SQL, and how an engine is asked to stop: which signal is the graceful one follows from the mask of the
//! running process and not from its kind (`stop`).

use std::collections::BTreeMap;
use std::fmt::Debug;

use camino::{Utf8Path, Utf8PathBuf};

use super::log::LifeLog;
use super::observer::Observer;
use super::seekdb::Seekdb;
use crate::config::EngineKind;

/// Options of a launch by configuration key.
pub(super) type Options = BTreeMap<String, String>;

/// Keys that never reach a command line: secrets, and what is for the agent itself.
pub(super) const NEVER_PASSED: [&str; 1] = ["rootPwd"];

/// Directories and traces of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Made before a first start, in this order; each must be absent or empty then.
    pub data: Vec<Utf8PathBuf>,
    /// Links (at, target) made before a first start.
    pub links: Vec<(Utf8PathBuf, Utf8PathBuf)>,
    /// Files that the engine writes at its first start into directories that are not ours to remove.
    pub traces: Vec<Utf8PathBuf>,
    /// Made when missing, with every start, and never removed.
    pub kept: Vec<Utf8PathBuf>,
}

/// Disk that a first start allocates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub at: Utf8PathBuf,
    pub bytes: u64,
    /// Which option says so, for the message.
    pub because: String,
}

/// One kind of database process.
pub(super) trait Engine: Debug + Send + Sync {
    /// For messages.
    fn name(&self) -> &'static str;

    /// File names of its executable, old and new.
    fn process_names(&self) -> &'static [&'static str];

    /// Arguments in a fixed order.
    ///
    /// # Errors
    /// Which option cannot be passed, and why.
    fn arguments(&self, home: &Utf8Path, options: &Options, is_first: bool) -> Result<Vec<String>, String>;

    /// Where its libraries lie, if it does not find them itself.
    fn library_dir(&self, home: &Utf8Path) -> Option<Utf8PathBuf>;

    /// Relative to the home. It carries a POSIX write lock for the life of the process; its content proves nothing.
    fn pid_files(&self) -> &'static [&'static str];

    /// SQL sockets, relative to the home; whichever this version has appears when the engine listens.
    fn sockets(&self) -> &'static [&'static str];

    /// Its own log, relative to the home.
    fn log_file(&self) -> &'static str;

    /// Files of which one at least exists once the engine was started here, relative to the home.
    fn data_marks(&self) -> &'static [&'static str];

    /// Files that all exist in every home that was ready once, relative to it; without one of them a later start fails, and
    /// says nothing.
    fn lasting_files(&self) -> &'static [&'static str];

    /// Ports that it will listen on, with the key that sets each.
    fn ports(&self, home: &Utf8Path, options: &Options) -> Vec<(&'static str, u16)>;

    /// See [`Places`].
    fn places(&self, home: &Utf8Path, options: &Options) -> Places;

    /// Why this engine cannot live under a path that is otherwise fine.
    fn path_problem(&self, path: &Utf8Path) -> Option<String>;

    /// What a first start with these options allocates.
    fn needs(&self, home: &Utf8Path, options: &Options) -> Vec<Need>;

    /// Options with which a first start cannot work whatever the host has: name of the known cause, and what is wrong.
    fn option_problems(&self, options: &Options) -> Vec<(&'static str, String)>;

    /// Words of its log that are written when it is ready; empty where the log does not tell.
    fn ready_words(&self) -> &'static [&'static str];

    /// Whether a life whose log this is held data that somebody may rely on.
    fn was_in_use(&self, home: &Utf8Path, log: &LifeLog) -> bool;

    /// Listening means that clients may have written: the first start is over then. False where a listening server
    /// still has to join a cluster.
    fn listening_is_ready(&self) -> bool;

    /// The version that wrote the data, where the data says so.
    fn data_version(&self, home: &Utf8Path) -> Option<String>;
}

/// The engine of this kind.
pub(super) fn of(kind: EngineKind) -> &'static dyn Engine {
    match kind {
        EngineKind::Observer => &Observer,
        EngineKind::Seekdb => &Seekdb,
    }
}

/// Value of an option, if given and not empty.
pub(super) fn option<'a>(options: &'a Options, key: &str) -> Option<&'a str> {
    options.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

/// A port among the options.
pub(super) fn port(options: &Options, key: &str) -> Option<u16> {
    option(options, key)?.parse().ok()
}

/// A size such as `2G`, `512MB` or `1024k`; `None` where it is not understood.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_uppercase();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = text.strip_prefix(digits.as_str())?.trim();
    let shift = match unit.strip_suffix('B').unwrap_or(unit) {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        // A bare number means different units for different parameters.
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A size among the options.
pub(super) fn size_option(options: &Options, key: &str) -> Option<u64> {
    size(option(options, key)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_understood_or_left_alone() {
        for (text, bytes) in [
            ("2G", Some(2 << 30)),
            ("512mb", Some(512 << 20)),
            (" 64 K ", Some(64 << 10)),
            ("1T", Some(1 << 40)),
            ("900", None),
            ("abc", None),
            ("-1G", None),
            ("", None),
            ("99999999999P", None),
            ("1GG", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}

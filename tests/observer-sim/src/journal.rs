//! `journal.jsonl` of the cluster's directory: what happened to whom, for tests to assert (`observer-model.md` §15.6).
//!
//! Invariant: one line is one write at the end of the file, so lines of several processes stay whole and in order. Kinds:
//! `argv` (each invocation, with environment, directory and inherited descriptors), `start`, `signal`, `arrival` (a statement
//! came), `statement` (the same statement was answered), `state` (something changed), `exit`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::clock;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    path: PathBuf,
}

impl Journal {
    pub(crate) fn new(cluster: &Path) -> Self {
        Self { path: cluster.join("journal.jsonl") }
    }

    /// `more` is an object. A journal that cannot be written is no reason to behave differently.
    pub(crate) fn write(&self, server: &str, kind: &str, more: Value) {
        let mut line = Map::new();
        line.insert("at".to_owned(), clock::stamp(clock::wall_us()).into());
        line.insert("server".to_owned(), server.into());
        line.insert("kind".to_owned(), kind.into());
        line.insert("pid".to_owned(), std::process::id().into());
        if let Value::Object(more) = more {
            line.extend(more);
        }
        let text = format!("{}\n", Value::Object(line));
        let file = File::options().append(true).create(true).open(&self.path);
        drop(file.and_then(|mut file| file.write_all(text.as_bytes())));
    }
}

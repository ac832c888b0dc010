//! `log/observer.log`, in the engine's form.
//!
//! Invariant: level and error number stand where the real one puts them; the rest of the line's head is constant.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::clock;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: PathBuf,
}

impl Log {
    /// Its twins stay empty.
    pub(crate) fn new(home: &Path) -> Self {
        let dir = home.join("log");
        for twin in ["rootservice.log", "election.log", "trace.log"] {
            drop(File::options().append(true).create(true).open(dir.join(twin)));
        }
        Self { path: dir.join("observer.log") }
    }

    pub(crate) fn info(&self, text: &str) {
        self.raw(&format!("{} INFO  [SERVER] start (ob_server.cpp:1001) {} {text}", time(), origin()));
    }

    /// `code` is the kernel's number, negative.
    pub(crate) fn error(&self, function: &str, code: i32, text: &str) {
        let place = format!("{function} (ob_server.cpp:100)");
        self.raw(&format!("{} ERROR [SERVER] {place} {}[errcode={code}] {text}", time(), origin()));
    }

    pub(crate) fn diagnosis(&self, code: i32, text: &str) {
        let place = "main (main.cpp:590)";
        self.raw(&format!("{} EDIAG [SERVER] {place} {}[errcode={code}] {text}", time(), origin()));
    }

    pub(crate) fn raw(&self, line: &str) {
        let file = File::options().append(true).create(true).open(&self.path);
        drop(file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())));
    }
}

fn time() -> String {
    format!("[{}]", clock::text(clock::wall_us(), 6))
}

fn origin() -> String {
    format!("[{}][observer][T0][Y0-0000000000000000-0-0] [lt=1]", std::process::id())
}

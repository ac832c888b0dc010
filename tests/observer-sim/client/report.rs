//! What is said of the writes: one by one for programs, in sum for people.

use std::collections::BTreeSet;
use std::io::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::options::Options;

/// Counts, and errors with their times.
#[derive(Debug)]
pub(crate) struct Report {
    is_json: bool,
    place: String,
    acknowledged: BTreeSet<u64>,
    errors: Vec<Failed>,
    /// Rows that were there at the end; `None` until somebody looked.
    found: Option<BTreeSet<u64>>,
}

/// An attempt that was not acknowledged.
#[derive(Debug)]
struct Failed {
    began: Timestamp,
    at: Timestamp,
    text: String,
}

impl Failed {
    fn json(&self) -> Value {
        json!({ "began": self.began.to_string(), "at": self.at.to_string(), "text": self.text })
    }
}

/// A reader that has gone does not end the writing.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    drop(writeln!(stdout, "{text}").and_then(|()| stdout.flush()));
}

impl Report {
    pub(crate) fn new(options: &Options) -> Self {
        let servers: Vec<_> = options.places().iter().map(ToString::to_string).collect();
        Self {
            is_json: options.json,
            place: format!("{}, table test.{}", servers.join(" and "), options.table),
            acknowledged: BTreeSet::new(),
            errors: Vec::new(),
            found: None,
        }
    }

    pub(crate) fn written(&mut self, number: u64) {
        if self.is_json {
            say(&json!({ "written": number }).to_string());
        } else if self.acknowledged.is_empty() {
            say(&format!("writing through {}", self.place));
        }
        self.acknowledged.insert(number);
    }

    pub(crate) fn failed(&mut self, number: u64, began: Timestamp, text: String) {
        let failed = Failed { began, at: Timestamp::now(), text };
        if self.is_json {
            let mut told = failed.json();
            told["failed"] = number.into();
            say(&told.to_string());
        }
        self.errors.push(failed);
    }

    pub(crate) fn found(&mut self, rows: BTreeSet<u64>) {
        self.found = Some(rows);
    }

    /// The last words; whether every acknowledged row is there.
    pub(crate) fn end(&self) -> bool {
        let found = self.found.clone().unwrap_or_default();
        let missing: Vec<u64> = self.acknowledged.difference(&found).copied().collect();
        let (written, failed) = (self.acknowledged.len(), self.errors.len());
        if self.is_json {
            let errors: Vec<Value> = self.errors.iter().map(Failed::json).collect();
            let whole = json!({
                "attempts": written + failed,
                "acknowledged": written,
                "errors": errors,
                "rows_found": found.len(),
                "missing": missing,
            });
            say(&whole.to_string());
        } else {
            let of = if missing.is_empty() { String::new() } else { format!(", {} MISSING", missing.len()) };
            say(&format!(
                "{} writes: {written} acknowledged, {failed} failed; {} rows found{of}",
                written + failed,
                found.len()
            ));
            self.tell_errors();
        }
        self.found.is_some() && missing.is_empty()
    }

    /// Each text once, with how often it came and when first.
    fn tell_errors(&self) {
        let mut told: Vec<&str> = Vec::new();
        for Failed { at, text, .. } in &self.errors {
            if !told.contains(&text.as_str()) {
                let count = self.errors.iter().filter(|other| other.text == *text).count();
                say(&format!("  {count} × {text} (first at {at:.3})"));
                told.push(text);
            }
        }
    }
}

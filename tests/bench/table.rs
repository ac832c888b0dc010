//! What was measured, line by line: printed while it is measured, kept for the file that a program reads.
//!
//! A line may stand beside its floor, which is the same amount of the same work done bare, in the same run. Only the ratio of
//! the two can fail a run: a slow machine is slow at both.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

/// What was measured, in its unit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    Time(Duration),
    Bytes(u64),
    Count(u64),
    PerSecond(f64),
    /// Of nothing: an exponent, a ratio, a share.
    Plain(f64),
}

impl Figure {
    /// The number and its unit, as the file has them.
    fn parts(self) -> (f64, &'static str) {
        match self {
            Self::Time(time) => (time.as_secs_f64() * 1e3, "ms"),
            Self::Bytes(bytes) => (bytes as f64 / f64::from(1 << 20), "MiB"),
            Self::Count(count) => (count as f64, ""),
            Self::PerSecond(rate) => (rate, "/s"),
            Self::Plain(number) => (number, ""),
        }
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Time(time) if time < Duration::from_millis(1) => {
                write!(f, "{:.1} µs", time.as_secs_f64() * 1e6)
            }
            Self::Time(time) if time < Duration::from_secs(10) => {
                write!(f, "{:.1} ms", time.as_secs_f64() * 1e3)
            }
            Self::Time(time) => write!(f, "{:.1} s", time.as_secs_f64()),
            Self::Bytes(bytes) if bytes < 1 << 20 => write!(f, "{:.1} KiB", bytes as f64 / 1024.0),
            Self::Bytes(bytes) => write!(f, "{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
            Self::Count(count) => write!(f, "{count}"),
            Self::PerSecond(rate) => write!(f, "{rate:.0} /s"),
            Self::Plain(number) => write!(f, "{number:.2}"),
        }
    }
}

/// A promise of `docs/performance.md`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// Told beside the figure. It depends on the machine, so it fails nothing.
    AtMost(Figure),
    /// Figure by floor, both of this run: beyond it the run fails.
    RatioAtMost(f64),
    /// As before, the other way round: of rates, where more is better.
    RatioAtLeast(f64),
}

/// One line.
#[derive(Debug)]
pub(crate) struct Line {
    what: String,
    figure: Figure,
    floor: Option<Figure>,
    budget: Option<Budget>,
}

impl Line {
    pub(crate) fn of(what: impl Into<String>, figure: Figure) -> Self {
        Self { what: what.into(), figure, floor: None, budget: None }
    }

    pub(crate) fn time(what: impl Into<String>, time: Duration) -> Self {
        Self::of(what, Figure::Time(time))
    }

    /// The same work done bare, in the same unit.
    pub(crate) fn beside(mut self, floor: Figure) -> Self {
        self.floor = Some(floor);
        self
    }

    pub(crate) fn within(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    fn ratio(&self) -> Option<f64> {
        let (floor, _) = self.floor?.parts();
        (floor > 0.0).then(|| self.figure.parts().0 / floor)
    }

    /// Whether it is within its budget; nothing where there is none.
    fn is_met(&self) -> Option<bool> {
        Some(match (self.budget?, self.ratio()) {
            (Budget::AtMost(most), _) => self.figure.parts().0 <= most.parts().0,
            (Budget::RatioAtMost(most), Some(ratio)) => ratio <= most,
            (Budget::RatioAtLeast(least), Some(ratio)) => ratio >= least,
            (Budget::RatioAtMost(_) | Budget::RatioAtLeast(_), None) => false,
        })
    }

    fn is_broken(&self) -> bool {
        !matches!(self.budget, Some(Budget::AtMost(_))) && self.is_met() == Some(false)
    }

    fn verdict(&self) -> String {
        let wanted = match self.budget {
            None => return String::new(),
            Some(Budget::AtMost(most)) => format!("at most {most}"),
            Some(Budget::RatioAtMost(most)) => format!("at most {most:.2} of bare"),
            Some(Budget::RatioAtLeast(least)) => format!("at least {least:.2} of bare"),
        };
        format!("{wanted}: {}", if self.is_met() == Some(true) { "met" } else { "NOT MET" })
    }

    fn to_json(&self, section: &str, of: Option<&str>) -> Value {
        let (number, unit) = self.figure.parts();
        json!({
            "section": section,
            "of": of,
            "what": self.what.trim(),
            "value": number,
            "unit": unit,
            "floor": self.floor.map(|floor| floor.parts().0),
            "ratio": self.ratio(),
            "budget": self.budget.map(|_| self.verdict()),
            "isMet": self.is_met(),
        })
    }
}

/// All lines of a run.
#[derive(Debug)]
pub(crate) struct Table {
    file: PathBuf,
    run: Value,
    section: String,
    /// The last line that is not indented: those below it are about the same.
    above: Option<String>,
    lines: Vec<Value>,
    broken: Vec<String>,
}

impl Table {
    /// What was measured before is gone from the file: a run that breaks off leaves nothing that could be taken for its own.
    pub(crate) fn new(run: Value, file: PathBuf) -> Self {
        let table =
            Self { file, run, section: String::new(), above: None, lines: Vec::new(), broken: Vec::new() };
        table.write();
        table
    }

    pub(crate) fn section(&mut self, name: &str) {
        self.write();
        name.clone_into(&mut self.section);
        self.above = None;
        println!("\n{name:<74} {:>12} {:>12} {:>7}", "measured", "bare", "ratio");
    }

    pub(crate) fn line(&mut self, line: Line) {
        let floor = line.floor.map(|floor| floor.to_string()).unwrap_or_default();
        let ratio = line.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let text = format!(
            "  {:<72} {:>12} {floor:>12} {ratio:>7}  {}",
            line.what,
            line.figure.to_string(),
            line.verdict()
        );
        println!("{}", text.trim_end());
        if line.is_broken() {
            self.broken.push(format!("{}: {}", self.section, text.trim()));
        }
        if line.what.starts_with(' ') {
            self.lines.push(line.to_json(&self.section, self.above.as_deref()));
        } else {
            self.lines.push(line.to_json(&self.section, None));
            self.above = Some(line.what);
        }
    }

    /// A line that is only told.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        println!("    {text}");
    }

    /// All that was measured until now.
    fn write(&self) {
        let all = json!({ "run": self.run, "lines": self.lines, "broken": self.broken });
        std::fs::write(&self.file, serde_json::to_string_pretty(&all).unwrap()).unwrap();
    }

    /// Tells what has failed.
    pub(crate) fn end(mut self) -> Result<(), String> {
        self.run["isWhole"] = json!(true);
        self.write();
        println!("\n{} lines, also in {}", self.lines.len(), self.file.display());
        if self.broken.is_empty() { Ok(()) } else { Err(self.broken.join("\n")) }
    }
}

//! Exit codes: one table, shown by `obpilot --help`.

use std::fmt;

/// How a command ended. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is true.
    Done = 0,
    /// A task failed, or the agent met something unexpected.
    Failed = 1,
    /// The command line or a configuration is wrong; nothing was asked of the agent.
    Usage = 2,
    /// The agent refused: a rule, an identity, a held lock. Nothing was done.
    Refused = 3,
    /// The task was cancelled.
    Cancelled = 4,
    /// Not known yet: the task goes on, the command stopped watching. `task watch` attaches again.
    Unknown = 5,
    /// The agent cannot be reached.
    Unreachable = 6,
    /// The password or the user was not accepted.
    Denied = 7,
    /// Another agent runs on this home.
    Taken = 8,
    /// The store or the vault is damaged, full, or not ours.
    Store = 9,
    /// A question was answered with no.
    Declined = 10,
}

impl Exit {
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Refused,
        Self::Cancelled,
        Self::Unknown,
        Self::Unreachable,
        Self::Denied,
        Self::Taken,
        Self::Store,
        Self::Declined,
    ];

    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done: what was asked for is true",
            Self::Failed => "a task failed, or something unexpected happened",
            Self::Usage => "wrong command line or configuration; nothing was asked of the agent",
            Self::Refused => "the agent refused: a rule, an identity, a held lock; nothing was done",
            Self::Cancelled => "the task was cancelled",
            Self::Unknown => "not known yet: the task goes on; attach again with `obpilot task watch ID`",
            Self::Unreachable => "the agent cannot be reached",
            Self::Denied => "the password or the user was not accepted",
            Self::Taken => "another agent runs on this home",
            Self::Store => "the store or the vault is damaged, full, or not ours",
            Self::Declined => "a question was answered with no",
        }
    }
}

/// A command's bad end: its code, what happened, and what to do next.
#[derive(Debug)]
pub struct Ending {
    pub exit: Exit,
    pub text: String,
    pub hint: Option<String>,
}

impl Ending {
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), hint: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text)
    }
}

/// The table for `--help`.
pub fn table() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        text.push_str(&format!("  {:>2}  {}\n", exit.code(), exit.meaning()));
    }
    text
}

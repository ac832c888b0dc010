//! States, events and the two transition tables. Nothing else decides whether a change is legal.

use serde::{Deserialize, Serialize};

/// What a user asked for last; the five words of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operator {
    Run,
    Retry,
    Rollback,
    Cancel,
    Pass,
}

impl Operator {
    pub const ALL: [Self; 5] = [Self::Run, Self::Retry, Self::Rollback, Self::Cancel, Self::Pass];

    pub fn text(self) -> &'static str {
        match self {
            Self::Run => "RUN",
            Self::Retry => "RETRY",
            Self::Rollback => "ROLLBACK",
            Self::Cancel => "CANCEL",
            Self::Pass => "PASS",
        }
    }

    /// Any case, as clients send it.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.text().eq_ignore_ascii_case(text))
    }
}

/// What a user asks of a DAG that runs, to be done at its next safe point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Steer {
    /// Stand still before the next safe point.
    Pause,
    /// Go on: neither of the others is asked for any more.
    Resume,
    /// End as failed before the next safe point; what was done stays.
    Abort,
}

impl Steer {
    pub const ALL: [Self; 3] = [Self::Pause, Self::Resume, Self::Abort];

    pub fn text(self) -> &'static str {
        match self {
            Self::Pause => "PAUSE",
            Self::Resume => "RESUME",
            Self::Abort => "ABORT",
        }
    }

    /// The signal that records it. No coordinator's signal begins like that.
    pub fn signal(self) -> &'static str {
        match self {
            Self::Pause => "@pause",
            Self::Resume => "@resume",
            Self::Abort => "@abort",
        }
    }

    /// The wish that a signal records, if it records one.
    pub fn of_signal(signal: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|steer| steer.signal() == signal)
    }

    /// Any case, as clients send it.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|steer| steer.text().eq_ignore_ascii_case(text))
    }
}

/// Everything that a user may ask of a whole DAG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wish {
    Operate(Operator),
    Steer(Steer),
}

impl Wish {
    pub fn text(self) -> &'static str {
        match self {
            Self::Operate(operator) => operator.text(),
            Self::Steer(steer) => steer.text(),
        }
    }

    /// Any case, as clients send it.
    pub fn parse(text: &str) -> Option<Self> {
        Operator::parse(text).map(Self::Operate).or_else(|| Steer::parse(text).map(Self::Steer))
    }
}

/// Whether a DAG does or undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Heading {
    Forward,
    Backward,
}

impl Heading {
    pub const ALL: [Self; 2] = [Self::Forward, Self::Backward];

    /// As it is stored, and as `serde` spells it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DagState {
    /// Created, or told to go on; nothing of this round has begun.
    Ready,
    Running,
    /// CANCEL was accepted; code still runs.
    Cancelling,
    /// A step waits for an operator; nothing runs.
    Waiting,
    /// A node failed or was cancelled; nothing runs.
    Failed,
    Succeeded,
    RolledBack,
    Passed,
}

impl DagState {
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Running,
        Self::Cancelling,
        Self::Waiting,
        Self::Failed,
        Self::Succeeded,
        Self::RolledBack,
        Self::Passed,
    ];

    /// As it is stored, and as `serde` spells it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled_back",
            Self::Passed => "passed",
        }
    }

    /// Nothing can change any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Succeeded | Self::RolledBack | Self::Passed => true,
            Self::Ready | Self::Running | Self::Cancelling | Self::Waiting | Self::Failed => false,
        }
    }

    /// No code of it runs and none will without an operator.
    pub fn is_at_rest(self) -> bool {
        match self {
            Self::Waiting | Self::Failed => true,
            Self::Ready | Self::Running | Self::Cancelling => false,
            Self::Succeeded | Self::RolledBack | Self::Passed => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DagEvent {
    Start,
    AskCancel,
    Wait,
    Fail,
    Succeed,
    RollBackDone,
    AskRetry,
    AskRollback,
    Pass,
    PassNode,
}

impl DagEvent {
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::AskCancel,
        Self::Wait,
        Self::Fail,
        Self::Succeed,
        Self::RollBackDone,
        Self::AskRetry,
        Self::AskRollback,
        Self::Pass,
        Self::PassNode,
    ];
}

/// A change that the table does not know. It means a defect of ours: nothing is stored because of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} in state {state} cannot take {event}")]
pub struct Illegal {
    pub what: &'static str,
    pub state: String,
    pub event: String,
}

impl Illegal {
    fn new(what: &'static str, state: impl std::fmt::Debug, event: impl std::fmt::Debug) -> Self {
        Self { what, state: format!("{state:?}"), event: format!("{event:?}") }
    }
}

/// The transition table of a DAG.
///
/// # Errors
/// [`Illegal`] for every pair that is not in it.
pub fn next_dag(state: DagState, heading: Heading, event: DagEvent) -> Result<DagState, Illegal> {
    use DagEvent as E;
    use DagState as S;
    use Heading::{Backward, Forward};
    match (state, heading, event) {
        (S::Ready, _, E::Start) => Ok(S::Running),
        (S::Ready | S::Running, _, E::AskCancel) => Ok(S::Cancelling),
        (S::Running, Forward, E::Wait) => Ok(S::Waiting),
        (S::Running | S::Cancelling, _, E::Fail) => Ok(S::Failed),
        // A cancel that came too late: everything had succeeded.
        (S::Running | S::Cancelling, Forward, E::Succeed) => Ok(S::Succeeded),
        (S::Running | S::Cancelling, Backward, E::RollBackDone) => Ok(S::RolledBack),
        (S::Failed | S::Waiting, Forward, E::AskRetry) => Ok(S::Ready),
        // Waiting: it was paused, and nothing of it waits.
        (S::Failed, _, E::AskRollback) | (S::Waiting, Forward, E::AskRollback) => Ok(S::Ready),
        (S::Failed, _, E::Pass) => Ok(S::Passed),
        (S::Waiting, Forward, E::Pass) => Ok(S::Passed),
        (S::Failed, Forward, E::PassNode) => Ok(S::Ready),
        (
            S::Ready
            | S::Running
            | S::Cancelling
            | S::Waiting
            | S::Failed
            | S::Succeeded
            | S::RolledBack
            | S::Passed,
            _,
            _,
        ) => Err(Illegal::new("a DAG", (state, heading), event)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubTaskState {
    Pending,
    Running,
    Cancelling,
    Waiting,
    Succeeded,
    /// Failed, or cancelled (then its operator is CANCEL).
    Failed,
    Undoing,
    UndoCancelling,
    UndoFailed,
    Undone,
    Passed,
}

impl SubTaskState {
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Running,
        Self::Cancelling,
        Self::Waiting,
        Self::Succeeded,
        Self::Failed,
        Self::Undoing,
        Self::UndoCancelling,
        Self::UndoFailed,
        Self::Undone,
        Self::Passed,
    ];

    /// As it is stored, and as `serde` spells it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Undoing => "undoing",
            Self::UndoCancelling => "undo_cancelling",
            Self::UndoFailed => "undo_failed",
            Self::Undone => "undone",
            Self::Passed => "passed",
        }
    }

    /// Code of it runs, as far as the store knows.
    pub fn is_active(self) -> bool {
        match self {
            Self::Running | Self::Cancelling | Self::Undoing | Self::UndoCancelling => true,
            Self::Pending
            | Self::Waiting
            | Self::Succeeded
            | Self::Failed
            | Self::UndoFailed
            | Self::Undone
            | Self::Passed => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubTaskEvent {
    Claim,
    Undo,
    Resume,
    Succeed,
    Fail,
    Wait,
    AskCancel,
    /// The code has stopped because it was told to.
    Stop,
    /// Cancelled before its turn came.
    Skip,
    Reset,
    Pass,
    /// Counts as undone, although its undo failed.
    PassUndo,
}

impl SubTaskEvent {
    pub const ALL: [Self; 12] = [
        Self::Claim,
        Self::Undo,
        Self::Resume,
        Self::Succeed,
        Self::Fail,
        Self::Wait,
        Self::AskCancel,
        Self::Stop,
        Self::Skip,
        Self::Reset,
        Self::Pass,
        Self::PassUndo,
    ];
}

/// The transition table of a sub-task.
///
/// # Errors
/// [`Illegal`] for every pair that is not in it.
pub fn next_sub_task(state: SubTaskState, event: SubTaskEvent) -> Result<SubTaskState, Illegal> {
    use SubTaskEvent as E;
    use SubTaskState as S;
    match (state, event) {
        (S::Pending, E::Claim) => Ok(S::Running),
        (S::Running | S::Undoing, E::Resume) => Ok(state),
        (S::Running | S::Cancelling, E::Succeed) => Ok(S::Succeeded),
        (S::Running | S::Cancelling, E::Fail) => Ok(S::Failed),
        (S::Running, E::Wait) => Ok(S::Waiting),
        (S::Running, E::AskCancel) => Ok(S::Cancelling),
        // A step that wants to wait while it is being cancelled has stopped.
        (S::Cancelling, E::Stop | E::Wait) => Ok(S::Failed),
        (S::Undoing | S::UndoCancelling, E::Succeed) => Ok(S::Undone),
        (S::Undoing | S::UndoCancelling, E::Fail) => Ok(S::UndoFailed),
        (S::Undoing, E::AskCancel) => Ok(S::UndoCancelling),
        (S::UndoCancelling, E::Stop) => Ok(S::UndoFailed),
        // Pending and Waiting: it ran in an earlier round, or before another branch failed.
        (S::Pending | S::Waiting | S::Succeeded | S::Failed | S::Passed, E::Undo) => Ok(S::Undoing),
        (S::Pending | S::Waiting, E::Skip) => Ok(S::Failed),
        (S::Succeeded | S::Failed | S::Passed, E::Skip) => Ok(S::UndoFailed),
        // Succeeded: a node that runs always runs again after a retry.
        (S::Waiting | S::Failed | S::Succeeded, E::Reset) => Ok(S::Pending),
        // To be undone again.
        (S::UndoFailed, E::Reset) => Ok(S::Failed),
        (S::Pending | S::Waiting | S::Failed | S::UndoFailed, E::Pass) => Ok(S::Passed),
        (S::UndoFailed, E::PassUndo) => Ok(S::Undone),
        (
            S::Pending
            | S::Running
            | S::Cancelling
            | S::Waiting
            | S::Succeeded
            | S::Failed
            | S::Undoing
            | S::UndoCancelling
            | S::UndoFailed
            | S::Undone
            | S::Passed,
            _,
        ) => Err(Illegal::new("a sub-task", state, event)),
    }
}

/// What the sub-tasks of a node add up to. Derived, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeState {
    Pending,
    Running,
    Waiting,
    Failed,
    Succeeded,
    Undone,
    Passed,
}

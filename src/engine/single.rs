//! Operators on one sub-task: the events that grant them, or a refusal.
//!
//! Rules: `ocp-v2.md` §2.4 for single steps. The others of its DAG stay as they are: what has failed stays failed, what runs
//! runs on, and nothing new begins while one of them has failed.

use super::event::{At, Event};
use super::operate::{Check, Refused, describe, go_on, possible};
use super::snapshot::{Snapshot, SubTask};
use super::state::{DagState, Heading, SubTaskState};
use super::template::NodeDef;
use crate::error::Code;

/// What may be asked of one sub-task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single {
    Retry,
    Pass,
    Cancel,
}

impl Single {
    pub const ALL: [Self; 3] = [Self::Retry, Self::Pass, Self::Cancel];

    fn text(self) -> &'static str {
        match self {
            Self::Retry => "RETRY",
            Self::Pass => "PASS",
            Self::Cancel => "CANCEL",
        }
    }
}

/// The events of an operator on one sub-task. Empty when it is granted already (CANCEL twice).
///
/// # Errors
/// [`Refused`] with the code of the same operator on a DAG, or of PASS on a node.
pub fn single(snapshot: &Snapshot, wish: Single, at: At) -> Result<Vec<Event>, Refused> {
    let checked = match wish {
        Single::Retry => check_retry(snapshot, at),
        Single::Pass => check_pass(snapshot, at),
        Single::Cancel => check_cancel(snapshot, at),
    };
    checked.map_err(|(code, why)| {
        let (what, name) = (wish.text(), &snapshot.definition_of(at.node).name);
        let agent = snapshot.sub_task(at).agent;
        let possible = possible(snapshot);
        let text = format!(
            "{what} of '{name}' on {agent} alone is not possible: {why}; for the whole task: {possible}"
        );
        Refused { code, text }
    })?;
    Ok(match wish {
        Single::Retry => retry(snapshot, at),
        Single::Pass => go_on(snapshot, Event::SubTaskPassed { at }),
        Single::Cancel if is_stopping(snapshot.sub_task(at)) => Vec::new(),
        Single::Cancel => vec![Event::SubTaskCancelAsked { at }],
    })
}

/// It is claimed here, because `plan` claims nothing beside a failure.
fn retry(snapshot: &Snapshot, at: At) -> Vec<Event> {
    let mut events = go_on(snapshot, Event::SubTaskRetryAsked { at });
    events.push(Event::Started);
    // One more for the reset: a retry counts two.
    let attempt = snapshot.sub_task(at).execute_times + 2;
    events.push(Event::Claimed { at, heading: Heading::Forward, attempt });
    events
}

fn check_retry(snapshot: &Snapshot, at: At) -> Check {
    if snapshot.heading == Heading::Backward {
        let why = "the task is being undone; going forward again would build on what was undone";
        return Err((Code::RetryNotAllowed, why.to_owned()));
    }
    if snapshot.state != DagState::Failed {
        return Err((Code::RetryNotFailed, format!("the task is {}", describe(snapshot))));
    }
    if snapshot.sub_task(at).state != SubTaskState::Failed {
        return Err((Code::RetryNotFailed, "it has not failed".to_owned()));
    }
    let node = snapshot.definition_of(at.node);
    able(node.caps.can_retry, node, Code::RetryNotAllowed, "cannot be retried")
}

fn check_pass(snapshot: &Snapshot, at: At) -> Check {
    if snapshot.state != DagState::Failed {
        return Err((Code::NodePassNotFailedDag, format!("the task is {}", describe(snapshot))));
    }
    let failed = match snapshot.heading {
        Heading::Forward => SubTaskState::Failed,
        Heading::Backward => SubTaskState::UndoFailed,
    };
    if snapshot.sub_task(at).state != failed {
        return Err((Code::NodePassNotFailed, "it has not failed".to_owned()));
    }
    let node = snapshot.definition_of(at.node);
    able(node.caps.can_pass, node, Code::NodePassNotAllowed, "cannot be passed")
}

fn check_cancel(snapshot: &Snapshot, at: At) -> Check {
    let sub = snapshot.sub_task(at);
    if is_stopping(sub) {
        return Ok(());
    }
    if snapshot.state.is_at_rest() {
        return Err((Code::CancelFinished, format!("the task is {}", describe(snapshot))));
    }
    if !sub.state.is_active() {
        return Err((Code::CancelNotAllowed, "it does not run".to_owned()));
    }
    let node = snapshot.definition_of(at.node);
    if node.is_always {
        let why = "it releases what the task holds and ends by itself".to_owned();
        return Err((Code::CancelNotAllowed, why));
    }
    able(node.caps.can_cancel, node, Code::CancelNotAllowed, "cannot be interrupted; it ends by itself")
}

fn is_stopping(sub: &SubTask) -> bool {
    matches!(sub.state, SubTaskState::Cancelling | SubTaskState::UndoCancelling)
}

fn able(is_able: bool, node: &NodeDef, code: Code, otherwise: &str) -> Check {
    if is_able { Ok(()) } else { Err((code, format!("node '{}' {otherwise}", node.name))) }
}

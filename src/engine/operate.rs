//! An operator's wish: the events that grant it, or a refusal that says what would be possible instead.
//!
//! Rules: `task-engine.md` §2.4, with its weaknesses closed: after a failed rollback only ROLLBACK and PASS are
//! possible (W3); CANCEL needs the running nodes to be cancellable, not the finished ones.
//!
//! Whoever lets a DAG go on takes back the pause or the abort that was asked for before.
//!
//! Not here: PAUSE, RESUME and ABORT (`steer`), operators on one sub-task (`single`).

use super::event::Event;
use super::run::LEASE_OVER;
use super::snapshot::{Snapshot, SubTask};
use super::state::{DagState, Heading, NodeState, Operator, Steer, SubTaskState, Wish};
use super::steer::steerable;
use crate::error::{Code, Error};

/// Why an operator does not apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    pub code: Code,
    pub text: String,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::new(refused.code, refused.text)
    }
}

/// What a user may ask for now. RUN is never among them: a DAG runs by itself.
pub fn allowed(snapshot: &Snapshot) -> Vec<Operator> {
    let user = [Operator::Retry, Operator::Rollback, Operator::Cancel, Operator::Pass];
    user.into_iter().filter(|op| check(snapshot, *op).is_ok()).collect()
}

/// The same with what a DAG can be steered by.
pub fn wishes(snapshot: &Snapshot) -> Vec<Wish> {
    let operators = allowed(snapshot).into_iter().map(Wish::Operate);
    operators.chain(steerable(snapshot).into_iter().map(Wish::Steer)).collect()
}

/// The events of an operator. Empty when it is granted already (CANCEL twice).
///
/// # Errors
/// [`Refused`] with the code of `task-engine.md` §2.4.
pub fn operate(snapshot: &Snapshot, operator: Operator) -> Result<Vec<Event>, Refused> {
    check(snapshot, operator).map_err(|(code, why)| refuse(snapshot, operator, code, &why))?;
    Ok(match operator {
        Operator::Run => Vec::new(),
        Operator::Cancel if snapshot.state == DagState::Cancelling => Vec::new(),
        Operator::Cancel => vec![Event::CancelAsked],
        Operator::Retry => go_on(snapshot, Event::RetryAsked),
        Operator::Rollback => go_on(snapshot, Event::RollbackAsked),
        Operator::Pass => with_release(snapshot, Event::Passed),
    })
}

/// The events of PASS on one node.
///
/// # Errors
/// [`Refused`] with the code of `task-engine.md` §2.4, last paragraph.
pub fn pass_node(snapshot: &Snapshot, node: usize) -> Result<Vec<Event>, Refused> {
    let name = &snapshot.definition_of(node).name;
    let (code, why) = if snapshot.state != DagState::Failed || snapshot.heading == Heading::Backward {
        (
            Code::NodePassNotFailedDag,
            format!("the task is {}, not failed on its way forward", describe(snapshot)),
        )
    } else if snapshot.nodes[node].state() != NodeState::Failed {
        (Code::NodePassNotFailed, format!("node '{name}' has not failed"))
    } else if !snapshot.definition_of(node).caps.can_pass {
        (
            Code::NodePassNotAllowed,
            format!("node '{name}' cannot be passed: what comes after it needs its result"),
        )
    } else {
        return Ok(go_on(snapshot, Event::NodePassed { node }));
    };
    Err(Refused { code, text: format!("{why}; {}", possible(snapshot)) })
}

/// Nobody has renewed the lease of a DAG that rests: it goes on where its node says so, and is ended where it waits else.
pub fn lease_over(snapshot: &Snapshot) -> Vec<Event> {
    let mut events = Vec::new();
    if snapshot.state == DagState::Waiting {
        if !snapshot.has_signal(LEASE_OVER) {
            events.push(Event::Signalled { signal: LEASE_OVER.to_owned() });
        }
        let mut waiting =
            snapshot.sub_tasks().filter(|(_, sub)| sub.state == SubTaskState::Waiting).peekable();
        if waiting.peek().is_some() && waiting.all(|(at, _)| snapshot.definition_of(at.node).goes_on_by_lease)
        {
            // A pause would have nobody who ends it.
            events.extend(go_on(snapshot, Event::RetryAsked));
            return events;
        }
        events.push(Event::Passed);
    }
    events.push(Event::LockReleased { reason: "its coordinator did not renew the lease".to_owned() });
    events
}

/// A lock that was given back is taken again before anything runs, and what the DAG was steered by does not hold any more.
pub(super) fn go_on(snapshot: &Snapshot, event: Event) -> Vec<Event> {
    let mut events = Vec::new();
    if snapshot.definition.lock.is_some() && !snapshot.holds_lock {
        events.push(Event::LockTaken);
    }
    if snapshot.steer().is_some() {
        events.push(Event::Signalled { signal: Steer::Resume.signal().to_owned() });
    }
    events.push(event);
    events
}

fn with_release(snapshot: &Snapshot, event: Event) -> Vec<Event> {
    if snapshot.holds_lock {
        return vec![event, Event::LockReleased { reason: "the task was passed".to_owned() }];
    }
    vec![event]
}

pub(super) type Check = Result<(), (Code, String)>;

fn check(snapshot: &Snapshot, operator: Operator) -> Check {
    match operator {
        Operator::Run => {
            Err((Code::DagOperatorUnknown, "a task runs by itself, nobody asks for RUN".to_owned()))
        }
        Operator::Retry => check_retry(snapshot),
        Operator::Rollback => check_rollback(snapshot),
        Operator::Cancel => check_cancel(snapshot),
        Operator::Pass => check_pass(snapshot),
    }
}

pub(super) fn check_retry(snapshot: &Snapshot) -> Check {
    match (snapshot.state, snapshot.heading) {
        (DagState::Failed | DagState::Waiting, Heading::Forward) => {}
        (DagState::Failed, Heading::Backward) => {
            let why =
                "its rollback failed half way; going forward again would build on what was undone".to_owned();
            return Err((Code::RetryNotAllowed, why));
        }
        _ => return Err((Code::RetryNotFailed, format!("the task is {}", describe(snapshot)))),
    }
    let is_halted = |state| matches!(state, NodeState::Failed | NodeState::Waiting);
    every(snapshot, is_halted, |caps| caps.can_retry, Code::RetryNotAllowed, "cannot be retried")
}

fn check_rollback(snapshot: &Snapshot) -> Check {
    if snapshot.state != DagState::Failed && snapshot.paused_before().is_none() {
        return Err((Code::RollbackNotFailed, format!("the task is {}", describe(snapshot))));
    }
    for (node, def) in snapshot.nodes.iter().zip(&snapshot.definition.nodes) {
        let has_effect = node.sub_tasks.iter().any(SubTask::is_left_to_undo);
        // A node that only releases has nothing to undo.
        if has_effect && !def.caps.can_rollback && !def.is_always {
            return Err((Code::RollbackNotAllowed, format!("node '{}' cannot be rolled back", def.name)));
        }
    }
    Ok(())
}

fn check_cancel(snapshot: &Snapshot) -> Check {
    match snapshot.state {
        DagState::Cancelling => return Ok(()),
        DagState::Ready | DagState::Running => {}
        DagState::Waiting
        | DagState::Failed
        | DagState::Succeeded
        | DagState::RolledBack
        | DagState::Passed => {
            return Err((Code::CancelFinished, format!("the task is {}", describe(snapshot))));
        }
    }
    let nodes = snapshot.nodes.iter().zip(&snapshot.definition.nodes);
    let mut active = nodes.filter(|(node, _)| node.is_active()).peekable();
    if active.peek().is_none() {
        return Ok(());
    }
    for (_, def) in active {
        if def.is_always {
            let why =
                format!("only '{}' is left, which releases what the task holds and ends by itself", def.name);
            return Err((Code::CancelNotAllowed, why));
        }
        if !def.caps.can_cancel {
            let why = format!("node '{}' cannot be interrupted; it ends by itself", def.name);
            return Err((Code::CancelNotAllowed, why));
        }
    }
    Ok(())
}

fn check_pass(snapshot: &Snapshot) -> Check {
    if !matches!(snapshot.state, DagState::Failed | DagState::Waiting) {
        return Err((Code::PassNotFailed, format!("the task is {}", describe(snapshot))));
    }
    let is_open = |state| !matches!(state, NodeState::Succeeded | NodeState::Passed | NodeState::Undone);
    every(snapshot, is_open, |caps| caps.can_pass, Code::PassNotAllowed, "cannot be passed")
}

fn every(
    snapshot: &Snapshot,
    concerned: impl Fn(NodeState) -> bool,
    able: impl Fn(super::template::Caps) -> bool,
    code: Code,
    otherwise: &str,
) -> Check {
    let mut nodes = snapshot.nodes.iter().zip(&snapshot.definition.nodes);
    match nodes.find(|(node, def)| concerned(node.state()) && !able(def.caps)) {
        None => Ok(()),
        Some((_, def)) => Err((code, format!("node '{}' {otherwise}", def.name))),
    }
}

fn refuse(snapshot: &Snapshot, operator: Operator, code: Code, why: &str) -> Refused {
    Refused { code, text: format!("{} is not possible: {why}; {}", operator.text(), possible(snapshot)) }
}

/// What may be asked instead, for the end of a refusal.
pub(super) fn possible(snapshot: &Snapshot) -> String {
    let operators: Vec<_> = wishes(snapshot).into_iter().map(Wish::text).collect();
    match operators.as_slice() {
        [] if snapshot.state.is_final() => "the task has ended, nothing is left to do".to_owned(),
        [] if snapshot.state.is_at_rest() => "nothing else is possible either; start a new task".to_owned(),
        [] => "wait for it to end".to_owned(),
        some => format!("possible now: {}", some.join(", ")),
    }
}

pub(super) fn describe(snapshot: &Snapshot) -> &'static str {
    if snapshot.paused_before().is_some() {
        return "paused";
    }
    match snapshot.state {
        DagState::Ready => "about to run",
        DagState::Running => "running",
        DagState::Cancelling => "being cancelled",
        DagState::Waiting => "waiting for its coordinator or an operator",
        DagState::Failed => "failed",
        DagState::Succeeded => "finished successfully",
        DagState::RolledBack => "rolled back",
        DagState::Passed => "passed",
    }
}

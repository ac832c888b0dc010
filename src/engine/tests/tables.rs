//! Every state × every event of both machines, as text that a reviewer can read.

use std::fmt::Debug;
use std::fmt::Write as _;

use super::super::state::{
    DagEvent, DagState, Heading, Illegal, Operator, SubTaskEvent, SubTaskState, next_dag, next_sub_task,
};

fn rows<S: Debug + Copy, E: Debug + Copy>(
    states: &[S],
    events: &[E],
    next: impl Fn(S, E) -> Result<S, Illegal>,
) -> String {
    let mut text = String::new();
    for state in states {
        write!(text, "{state:?}:").unwrap();
        for event in events {
            if let Ok(to) = next(*state, *event) {
                write!(text, " {event:?}→{to:?}").unwrap();
            }
        }
        text.push('\n');
    }
    text
}

/// The store writes them by their text, and reads them by `serde`.
#[test]
fn a_state_is_called_what_serde_calls_it() {
    fn named<T: serde::Serialize>(all: &[T], text: impl Fn(&T) -> &'static str) {
        for one in all {
            assert_eq!(serde_json::to_value(one).unwrap(), text(one));
        }
    }
    named(&DagState::ALL, |state| state.text());
    named(&SubTaskState::ALL, |state| state.text());
    named(&Heading::ALL, |heading| heading.text());
    named(&Operator::ALL, |operator| operator.text());
}

/// What is not listed is refused.
#[test]
fn the_sub_task_table() {
    let expected = "\
Pending: Claim→Running Undo→Undoing Skip→Failed Pass→Passed
Running: Resume→Running Succeed→Succeeded Fail→Failed Wait→Waiting AskCancel→Cancelling
Cancelling: Succeed→Succeeded Fail→Failed Wait→Failed Stop→Failed
Waiting: Undo→Undoing Skip→Failed Reset→Pending Pass→Passed
Succeeded: Undo→Undoing Skip→UndoFailed Reset→Pending
Failed: Undo→Undoing Skip→UndoFailed Reset→Pending Pass→Passed
Undoing: Resume→Undoing Succeed→Undone Fail→UndoFailed AskCancel→UndoCancelling
UndoCancelling: Succeed→Undone Fail→UndoFailed Stop→UndoFailed
UndoFailed: Reset→Failed Pass→Passed PassUndo→Undone
Undone:
Passed: Undo→Undoing Skip→UndoFailed
";
    assert_eq!(rows(&SubTaskState::ALL, &SubTaskEvent::ALL, next_sub_task), expected);
}

#[test]
fn the_dag_table_forward() {
    let expected = "\
Ready: Start→Running AskCancel→Cancelling
Running: AskCancel→Cancelling Wait→Waiting Fail→Failed Succeed→Succeeded
Cancelling: Fail→Failed Succeed→Succeeded
Waiting: AskRetry→Ready AskRollback→Ready Pass→Passed
Failed: AskRetry→Ready AskRollback→Ready Pass→Passed PassNode→Ready
Succeeded:
RolledBack:
Passed:
";
    assert_eq!(rows(&DagState::ALL, &DagEvent::ALL, |s, e| next_dag(s, Heading::Forward, e)), expected);
}

/// W3: a failed rollback can be rolled back again or passed, and nothing turns it forward.
#[test]
fn w3_the_dag_table_backward() {
    let expected = "\
Ready: Start→Running AskCancel→Cancelling
Running: AskCancel→Cancelling Fail→Failed RollBackDone→RolledBack
Cancelling: Fail→Failed RollBackDone→RolledBack
Waiting:
Failed: AskRollback→Ready Pass→Passed
Succeeded:
RolledBack:
Passed:
";
    assert_eq!(rows(&DagState::ALL, &DagEvent::ALL, |s, e| next_dag(s, Heading::Backward, e)), expected);
}

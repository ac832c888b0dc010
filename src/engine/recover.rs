//! What a DAG that was left running becomes when the agent starts again.
//!
//! Invariant: afterwards every active sub-task of the snapshot either has a `Resumed` here, and code is started for
//! it, or is not active any more. Recovery is a query and these events; any number of sub-tasks (W9).

use super::event::{Event, Failure};
use super::snapshot::Snapshot;
use super::state::SubTaskState;
use super::template::Interruption;
use crate::error::Code;

/// The events that put a snapshot found at start on its feet.
pub fn recover(snapshot: &Snapshot) -> Vec<Event> {
    let mut events = Vec::new();
    for (at, sub) in snapshot.sub_tasks() {
        let attempt = sub.execute_times;
        match (sub.state, snapshot.definition_of(at.node).on_interruption) {
            (SubTaskState::Running, Interruption::Rerun) => events.push(Event::Resumed { at }),
            (SubTaskState::Running, Interruption::Fail) => {
                events.push(Event::Failed { at, attempt, failure: interrupted() });
            }
            // Every undo is safe to run twice.
            (SubTaskState::Undoing, _) => events.push(Event::Resumed { at }),
            (SubTaskState::Cancelling | SubTaskState::UndoCancelling, _) => {
                events.push(Event::Stopped { at, attempt });
            }
            (
                SubTaskState::Pending
                | SubTaskState::Waiting
                | SubTaskState::Succeeded
                | SubTaskState::Failed
                | SubTaskState::UndoFailed
                | SubTaskState::Undone
                | SubTaskState::Passed,
                _,
            ) => {}
        }
    }
    events
}

fn interrupted() -> Failure {
    Failure {
        code: Code::Unexpected.name().to_owned(),
        text: "the agent stopped while this step ran, and the step cannot tell how far it came; look at what it \
               did, then RETRY, ROLLBACK or PASS"
            .to_owned(),
        diagnosis: None,
    }
}

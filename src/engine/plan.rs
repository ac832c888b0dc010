//! What comes next for a DAG. Pure: looks at a snapshot, reads no clock, touches nothing.

use super::event::{At, Event};
use super::snapshot::Snapshot;
use super::state::{DagState, Heading, NodeState, SubTaskState};
use crate::model::Timestamp;

/// Events that happen now without anybody asking, in order; empty when the DAG waits for a step or an operator.
/// A `Claimed` among them means: once committed, run it.
///
/// The same snapshot always gives the same answer, and after the answer is applied there is nothing more to say
/// until something happens.
pub fn plan(snapshot: &Snapshot) -> Vec<Event> {
    let mut working = snapshot.clone();
    let mut events = Vec::new();
    loop {
        let next = next(&working);
        if next.is_empty() {
            return events;
        }
        for event in next {
            working
                .apply(&event, Timestamp::UNIX_EPOCH)
                .expect("a planned event is legal where it was planned");
            events.push(event);
        }
    }
}

fn next(snapshot: &Snapshot) -> Vec<Event> {
    match (snapshot.state, snapshot.heading) {
        (DagState::Ready, _) => vec![Event::Started],
        (DagState::Running | DagState::Cancelling, Heading::Forward) => forward(snapshot),
        (DagState::Running | DagState::Cancelling, Heading::Backward) => backward(snapshot),
        (
            DagState::Waiting
            | DagState::Failed
            | DagState::Succeeded
            | DagState::RolledBack
            | DagState::Passed,
            _,
        ) => Vec::new(),
    }
}

fn forward(snapshot: &Snapshot) -> Vec<Event> {
    let has_failed = has_node(snapshot, NodeState::Failed);
    if snapshot.state == DagState::Running && !has_failed {
        let claims = claims(snapshot, |node| is_due(snapshot, node));
        if !claims.is_empty() {
            return claims;
        }
    }
    if snapshot.is_any_active() {
        return Vec::new();
    }
    if snapshot.state == DagState::Cancelling && !has_failed {
        let skipped = skip_next(snapshot);
        if !skipped.is_empty() {
            return skipped;
        }
    }
    // Also after a cancel that found everything done but this.
    let is_left = |node: usize| {
        let is_pending = snapshot.nodes[node].state() == NodeState::Pending;
        snapshot.definition_of(node).is_always && is_pending && (has_failed || is_due(snapshot, node))
    };
    let claims = claims(snapshot, is_left);
    if !claims.is_empty() {
        return claims;
    }
    if has_failed {
        return end_failed(snapshot);
    }
    if has_node(snapshot, NodeState::Waiting) {
        return vec![Event::Ended { state: DagState::Waiting }];
    }
    end_well(snapshot, DagState::Succeeded)
}

fn backward(snapshot: &Snapshot) -> Vec<Event> {
    let has_failed = snapshot.sub_tasks().any(|(_, sub)| sub.state == SubTaskState::UndoFailed);
    if snapshot.state == DagState::Running && !has_failed {
        let undos = undos(snapshot);
        if !undos.is_empty() {
            return undos;
        }
    }
    if snapshot.is_any_active() {
        return Vec::new();
    }
    if has_failed {
        return end_failed(snapshot);
    }
    if snapshot.state == DagState::Cancelling {
        let left = snapshot.sub_tasks().find(|(_, sub)| sub.is_left_to_undo());
        if let Some((at, _)) = left {
            return vec![Event::Skipped { at }];
        }
    }
    end_well(snapshot, DagState::RolledBack)
}

fn has_node(snapshot: &Snapshot, state: NodeState) -> bool {
    snapshot.nodes.iter().any(|node| node.state() == state)
}

/// Its turn has come: not begun, and everything before it is done.
fn is_due(snapshot: &Snapshot, node: usize) -> bool {
    let is_done =
        |up: &usize| matches!(snapshot.nodes[*up].state(), NodeState::Succeeded | NodeState::Passed);
    snapshot.nodes[node].state() == NodeState::Pending
        && snapshot.definition_of(node).upstreams.iter().all(is_done)
}

fn claims(snapshot: &Snapshot, wanted: impl Fn(usize) -> bool) -> Vec<Event> {
    let pending =
        snapshot.sub_tasks().filter(|(at, sub)| sub.state == SubTaskState::Pending && wanted(at.node));
    pending
        .map(|(at, sub)| Event::Claimed { at, heading: Heading::Forward, attempt: sub.execute_times + 1 })
        .collect()
}

/// A node is undone when nothing after it is left to undo or being undone.
fn undos(snapshot: &Snapshot) -> Vec<Event> {
    let is_settled = |node: usize| {
        snapshot.nodes[node].sub_tasks.iter().all(|sub| !sub.is_left_to_undo() && !sub.state.is_active())
    };
    // All that follow, not only the next: between two nodes that ran may stand one that was passed without running.
    let is_due = |at: At| snapshot.definition.descendants(at.node).into_iter().all(is_settled);
    let left = snapshot.sub_tasks().filter(|(at, sub)| sub.is_left_to_undo() && is_due(*at));
    left.map(|(at, sub)| Event::Claimed { at, heading: Heading::Backward, attempt: sub.execute_times + 1 })
        .collect()
}

/// A cancel that found nothing running: the next node is the one that was cancelled.
fn skip_next(snapshot: &Snapshot) -> Vec<Event> {
    let waits = |at: &At| snapshot.sub_task(*at).state == SubTaskState::Waiting;
    let is_due = |at: &At| {
        let node = snapshot.definition_of(at.node);
        !node.is_always && snapshot.sub_task(*at).state == SubTaskState::Pending && is_due(snapshot, at.node)
    };
    let places = snapshot.sub_tasks().map(|(at, _)| at).filter(|at| waits(at) || is_due(at));
    places.map(|at| Event::Skipped { at }).collect()
}

fn end_failed(snapshot: &Snapshot) -> Vec<Event> {
    let mut events = vec![Event::Ended { state: DagState::Failed }];
    let is_releasing = snapshot
        .nodes
        .iter()
        .zip(&snapshot.definition.nodes)
        .any(|(node, def)| node.state() == NodeState::Failed && def.releases_lock_on_failure);
    if snapshot.holds_lock && is_releasing {
        events.push(Event::LockReleased { reason: "the failure left nothing half done".to_owned() });
    }
    events
}

fn end_well(snapshot: &Snapshot, state: DagState) -> Vec<Event> {
    let mut events = vec![Event::Ended { state }];
    if snapshot.holds_lock {
        events.push(Event::LockReleased { reason: "the task has ended".to_owned() });
    }
    events
}

//! What comes next for a DAG. Pure: looks at a snapshot, reads no clock, touches nothing.

use std::sync::Arc;

use super::event::{At, Event};
use super::port::{Change, Stamp};
use super::run::ENGINE;
use super::snapshot::{Snapshot, SubTask};
use super::state::{DagState, Heading, NodeState, Steer, SubTaskState};
use crate::model::Timestamp;

/// Events that happen now without anybody asking, in order; empty when the DAG waits for a step or an operator.
/// A `Claimed` among them means: once committed, run it.
///
/// The same snapshot always gives the same answer, and after the answer is applied there is nothing more to say
/// until something happens.
pub fn plan(snapshot: &Snapshot) -> Vec<Event> {
    follow(&mut snapshot.clone(), Timestamp::UNIX_EPOCH)
}

/// The first change of a DAG that has just been created: what a journal commits with the creation.
pub fn begin(created: &Snapshot, at: Timestamp) -> Change {
    let mut after = created.clone();
    let events = follow(&mut after, at);
    after.revision += 1;
    let stamp = Stamp { at, actor: ENGINE.to_owned() };
    Change { revision: created.revision, events: events.into(), stamp, after: Arc::new(after) }
}

/// What [`plan`] says, and the snapshot is led there.
pub(super) fn follow(working: &mut Snapshot, at: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let next = next(working);
        if next.is_empty() {
            return events;
        }
        for event in next {
            working.apply(&event, at).expect("a planned event is legal where it was planned");
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
    let has_failed = has_sub_task(snapshot, SubTaskState::Failed);
    // What is being cancelled will most likely have failed, and nothing begins after a failure.
    let is_going_on = snapshot.state == DagState::Running
        && !has_failed
        && !has_sub_task(snapshot, SubTaskState::Cancelling);
    if is_going_on {
        let claims = claims(snapshot, |node| snapshot.is_due(node) && !is_held(snapshot, node));
        if !claims.is_empty() {
            return claims;
        }
    }
    if snapshot.is_any_active() {
        return Vec::new();
    }
    if !has_failed {
        let halted = halt(snapshot);
        if !halted.is_empty() {
            return halted;
        }
    }
    // Also after a cancel that found everything done but this.
    let is_left =
        |node: usize| snapshot.definition_of(node).is_always && (has_failed || snapshot.is_due(node));
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
    let has_failed = has_sub_task(snapshot, SubTaskState::UndoFailed);
    let is_stopping = has_sub_task(snapshot, SubTaskState::UndoCancelling);
    if snapshot.state == DagState::Running && !has_failed && !is_stopping {
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

fn has_sub_task(snapshot: &Snapshot, state: SubTaskState) -> bool {
    snapshot.sub_tasks().any(|(_, sub)| sub.state == state)
}

/// A pause or an abort was asked for, and takes effect before this node.
fn is_held(snapshot: &Snapshot, node: usize) -> bool {
    snapshot.steer().is_some() && snapshot.is_safe_point_ahead(node)
}

fn claims(snapshot: &Snapshot, wanted: impl Fn(usize) -> bool) -> Vec<Event> {
    with_room(snapshot, Heading::Forward, |sub| sub.state == SubTaskState::Pending, wanted)
}

/// Claims of what is ready, in each node that is wanted no more than it has room for. Whether a node is wanted is asked once,
/// and only where something is ready.
fn with_room(
    snapshot: &Snapshot,
    heading: Heading,
    is_ready: impl Fn(&SubTask) -> bool,
    wanted: impl Fn(usize) -> bool,
) -> Vec<Event> {
    let mut claims = Vec::new();
    for (node, found) in snapshot.nodes.iter().enumerate() {
        let ready = || found.sub_tasks.iter().enumerate().filter(|(_, sub)| is_ready(sub));
        if ready().next().is_none() || !wanted(node) {
            continue;
        }
        let room = snapshot.definition_of(node).at_most.map_or(usize::MAX, |most| {
            most.saturating_sub(found.sub_tasks.iter().filter(|sub| sub.state.is_active()).count())
        });
        claims.extend(ready().take(room).map(|(sub, ready)| Event::Claimed {
            at: At { node, sub },
            heading,
            attempt: ready.execute_times + 1,
        }));
    }
    claims
}

/// A node is undone when nothing after it is left to undo or being undone.
fn undos(snapshot: &Snapshot) -> Vec<Event> {
    let is_settled = |node: usize| {
        snapshot.nodes[node].sub_tasks.iter().all(|sub| !sub.is_left_to_undo() && !sub.state.is_active())
    };
    // All that follow, not only the next: between two nodes that ran may stand one that was passed without running.
    let is_due = |node: usize| snapshot.definition.descendants(node).into_iter().all(is_settled);
    with_room(snapshot, Heading::Backward, SubTask::is_left_to_undo, is_due)
}

/// Nothing runs and nothing has failed: how somebody's cancel, abort or pause takes effect.
fn halt(snapshot: &Snapshot) -> Vec<Event> {
    if snapshot.state == DagState::Cancelling {
        return skip_next(snapshot);
    }
    let is_held = |node: &usize| snapshot.is_due(*node) && is_held(snapshot, *node);
    let nodes = (0..snapshot.nodes.len()).filter(is_held);
    let held: Vec<At> = nodes
        .flat_map(|node| (0..snapshot.nodes[node].sub_tasks.len()).map(move |sub| At { node, sub }))
        .collect();
    match snapshot.steer() {
        Some(Steer::Abort) => held.into_iter().map(|at| Event::Skipped { at }).collect(),
        Some(Steer::Pause) if !held.is_empty() => vec![Event::Ended { state: DagState::Waiting }],
        Some(Steer::Pause | Steer::Resume) | None => Vec::new(),
    }
}

/// A cancel that found nothing running: the next node is the one that was cancelled.
fn skip_next(snapshot: &Snapshot) -> Vec<Event> {
    let mut skipped = Vec::new();
    for (node, found) in snapshot.nodes.iter().enumerate() {
        let is_next = !snapshot.definition_of(node).is_always && snapshot.is_due(node);
        let is_meant = |sub: &SubTask| {
            sub.state == SubTaskState::Waiting || (is_next && sub.state == SubTaskState::Pending)
        };
        let meant = found.sub_tasks.iter().enumerate().filter(|(_, sub)| is_meant(sub));
        skipped.extend(meant.map(|(sub, _)| Event::Skipped { at: At { node, sub } }));
    }
    skipped
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

//! PAUSE, RESUME and ABORT: the events that grant them, or a refusal that says what would be possible instead.
//!
//! A wish is recorded as a signal of the engine's own, and the last one counts ([`Snapshot::steer`]). `plan` obeys it where
//! a node says that it is a safe point; what runs meanwhile is left alone. A cancel is something else: it stops what runs.

use super::event::Event;
use super::operate::{Refused, check_retry, describe, go_on, possible};
use super::snapshot::Snapshot;
use super::state::{DagState, Heading, Steer};
use crate::error::Code;

/// What would change something now.
pub fn steerable(snapshot: &Snapshot) -> Vec<Steer> {
    let would_change = |wish: &Steer| snapshot.steer() != Some(*wish) && check(snapshot, *wish).is_ok();
    Steer::ALL.into_iter().filter(would_change).collect()
}

/// The events of a wish. Empty when it is granted already (PAUSE twice).
///
/// # Errors
/// [`Refused`] with `Task.Dag.Operator.SteerNotAllowed`.
pub fn steer(snapshot: &Snapshot, wish: Steer) -> Result<Vec<Event>, Refused> {
    check(snapshot, wish).map_err(|why| Refused {
        code: Code::SteerNotAllowed,
        text: format!("{} is not possible: {why}; {}", wish.text(), possible(snapshot)),
    })?;
    if snapshot.steer() == Some(wish) {
        return Ok(Vec::new());
    }
    let recorded = Event::Signalled { signal: wish.signal().to_owned() };
    Ok(match (wish, snapshot.state) {
        (Steer::Resume, DagState::Waiting) => go_on(snapshot, Event::RetryAsked),
        // A new turn, in which the node that it stands before is cancelled.
        (Steer::Abort, DagState::Waiting) => vec![recorded, Event::RetryAsked],
        (Steer::Pause | Steer::Resume | Steer::Abort, _) => vec![recorded],
    })
}

fn check(snapshot: &Snapshot, wish: Steer) -> Result<(), String> {
    let is_paused = snapshot.paused_before().is_some();
    let is_under_way = matches!(snapshot.state, DagState::Ready | DagState::Running);
    match wish {
        Steer::Pause | Steer::Abort if is_paused => Ok(()),
        Steer::Pause | Steer::Abort if !is_under_way => Err(format!("the task is {}", describe(snapshot))),
        Steer::Pause | Steer::Abort => check_ahead(snapshot),
        Steer::Resume if is_paused => check_retry(snapshot).map_err(|(_, why)| why),
        Steer::Resume if is_under_way && snapshot.steer().is_some() => Ok(()),
        Steer::Resume if is_under_way => Err("nobody has asked for a pause or an abort".to_owned()),
        Steer::Resume => Err(format!("the task is {}", describe(snapshot))),
    }
}

fn check_ahead(snapshot: &Snapshot) -> Result<(), String> {
    if snapshot.heading == Heading::Backward {
        return Err("the task is being rolled back, which stops nowhere by itself".to_owned());
    }
    let is_any_ahead = (0..snapshot.nodes.len()).any(|node| snapshot.is_safe_point_ahead(node));
    if is_any_ahead { Ok(()) } else { Err("no safe point lies ahead of the task".to_owned()) }
}

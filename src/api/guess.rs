//! Passwords of the database in the bodies of requests: a wrong one counts as at the door.
//!
//! Invariant: one is tried after another, so that whoever tries much at the same time learns no more. It is counted where it
//! comes in, also when another agent looks at it.

use super::auth::may_try;
use super::door::Door;
use crate::app::Caller;
use crate::error::{Code, Result};
use crate::peer::Forwarded;
use crate::wire::{ApiError, Envelope};

/// Where whoever may claim an agent without a password could guess that of a database.
const GUESSABLE: [&str; 1] = ["/api/v1/ob/take_over"];

/// Tries, unless its source has failed too often. Whoever is on the host, or was let in by another agent, is not counted here.
pub(super) async fn counted<T>(
    door: &Door,
    caller: &Caller,
    tried: impl Future<Output = Result<T>>,
    is_wrong: impl FnOnce(&Result<T>) -> bool,
) -> Result<T> {
    let Some(source) = caller.source else { return tried.await };
    let _turn = door.turn_to_guess().await;
    may_try(door, source)?;
    let result = tried.await;
    if is_wrong(&result) {
        door.failed(source);
    }
    result
}

/// The same of a request that another agent answers.
pub(super) async fn counted_elsewhere(
    door: &Door,
    caller: &Caller,
    route: Option<&str>,
    answered: impl Future<Output = Result<Forwarded>>,
) -> Result<Forwarded> {
    let is_guessable = route.is_some_and(|route| GUESSABLE.contains(&route));
    if is_guessable { counted(door, caller, answered, is_refused).await } else { answered.await }
}

fn is_refused(answered: &Result<Forwarded>) -> bool {
    let Ok(answer) = answered else { return false };
    let envelope = serde_json::from_slice::<Envelope<serde_json::Value>>(&answer.body);
    let error: Option<ApiError> = envelope.ok().and_then(|envelope| envelope.error);
    error.is_some_and(|error| error.err_code == Code::PasswordIncorrect.name())
}

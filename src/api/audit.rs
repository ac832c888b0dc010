//! The audit trail: who changed what from where, and who was refused at the door.
//!
//! Invariant: an entry holds a method, a path, an outcome and a name, never a query, a header or a body. A request that was let in
//! is recorded whether its caller waits for the answer or not. Refusals are told once per address and minute with their number,
//! for so many addresses at a time: strangers cannot fill the disk.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use serde_json::{Value, json};

use super::call::Call;
use super::door::Door;
use super::meta::{Meta, Peer};
use super::reply::Outcome;
use crate::error::{Code, Error, Result};
use crate::model::EventId;
use crate::tasks::{Kind, OnFailure, OnStop};
use crate::wire::{AuditEntry, Contents, Envelope};

/// Refusals of one address are told once in so many seconds.
const WINDOW_SECS: i64 = 60;

/// Addresses that are told apart within a window; the others are one.
const APART_MAX: usize = 8;

/// Longest path that is kept.
const PATH_LEN_MAX: usize = 200;

/// Entries of one answer unless the caller asks for another number, and at most.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// Flushes what was counted, also when the agent stops.
const FLUSH: Kind = Kind { name: "audit", on_failure: OnFailure::Log, on_stop: OnStop::Wait };

/// What was refused, as far as it may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    who: String,
    what: String,
    code: &'static str,
    count: u64,
}

/// Counts refusals. Pure; time is a parameter.
#[derive(Debug, Default)]
struct Tally {
    since: i64,
    apart: BTreeMap<String, Refused>,
    others: u64,
}

impl Tally {
    /// Counts one. Returns what is to be recorded now: what the last window has left, and the first of each address.
    fn note(&mut self, who: &str, what: &str, code: &'static str, now: i64) -> Vec<Refused> {
        let mut told = Vec::new();
        if now - self.since >= WINDOW_SECS || now < self.since {
            told = self.close();
            self.since = now;
        }
        let refused = |count| Refused { who: who.to_owned(), what: what.to_owned(), code, count };
        if let Some(known) = self.apart.get_mut(who) {
            let count = known.count + 1;
            *known = refused(count);
        } else if self.apart.len() < APART_MAX {
            self.apart.insert(who.to_owned(), refused(0));
            told.push(refused(1));
        } else {
            self.others += 1;
        }
        told
    }

    /// What was counted and not told, each by its last.
    fn close(&mut self) -> Vec<Refused> {
        let apart = std::mem::take(&mut self.apart);
        let mut told: Vec<_> = apart.into_values().filter(|refused| refused.count > 0).collect();
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            told.push(Refused {
                who: "somebody from other addresses".to_owned(),
                what: String::new(),
                code: Code::Unauthorized.name(),
                count: others,
            });
        }
        told
    }

    fn is_empty(&self) -> bool {
        self.apart.is_empty() && self.others == 0
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Audit {
    tally: Mutex<Tally>,
}

impl Audit {
    fn with<T>(&self, work: impl FnOnce(&mut Tally) -> T) -> T {
        work(&mut self.tally.lock().expect("no holder of this lock panics"))
    }
}

fn record(door: &Door, refused: Vec<Refused>) {
    for Refused { who, what, code, count } in refused {
        let mut body = json!({ "action": "refused", "code": code, "count": count });
        if !what.is_empty() {
            body["request"] = Value::from(what);
        }
        door.app().witness(&who, body);
    }
}

/// A caller was not let in, or an agent is none of ours.
pub(super) fn refused(door: &Door, request: &HttpRequest, error: &Error) {
    let meta = Meta::of(request);
    let who = match meta.peer {
        Peer::Tcp(source) => format!("somebody from {source}"),
        Peer::Unix { uid } => format!("uid {uid} (socket)"),
        Peer::Unknown => "somebody from nowhere".to_owned(),
    };
    // The route, not the path: a stranger writes nothing of his own into the trail.
    let what = format!("{} {}", request.method(), request.match_pattern().unwrap_or_default());
    let now = door.now().as_second();
    let (told, is_first) = door.audit().with(|tally| {
        let was_empty = tally.is_empty();
        (tally.note(&who, &what, error.code.name(), now), was_empty)
    });
    record(door, told);
    if is_first {
        flush_later(door);
    }
}

/// What is counted and not told is told when the window is over, or the agent stops.
fn flush_later(door: &Door) {
    // Told before the server that this runs on is gone.
    let (later, stop) = (door.clone(), door.stopping());
    door.tasks().spawn(FLUSH, async move {
        let window = Duration::from_secs(WINDOW_SECS.unsigned_abs());
        // Both ends of the wait mean the same.
        drop(tokio::time::timeout(window, stop.cancelled()).await);
        flush(&later);
    });
}

fn flush(door: &Door) {
    let told = door.audit().with(Tally::close);
    record(door, told);
}

/// A request that was let in, and is recorded when it ends or its caller goes.
struct Witness {
    door: Door,
    meta: Rc<Meta>,
    method: String,
    outcome: Option<(u16, Option<Code>)>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        let Some(actor) = self.meta.actor.get() else { return };
        let path = self.meta.target.split('?').next().unwrap_or_default();
        let path: String = path.chars().take(PATH_LEN_MAX).collect();
        let mut body = json!({ "action": "request", "request": format!("{} {path}", self.method) });
        match self.outcome {
            Some((status, code)) => {
                body["status"] = Value::from(status);
                if let Some(code) = code {
                    body["code"] = Value::from(code.name());
                }
            }
            None => body["note"] = Value::from("not answered: its caller went, or the agent hit a defect"),
        }
        if !self.meta.trace_id.is_empty() {
            body["traceId"] = Value::from(self.meta.trace_id.clone());
        }
        self.door.app().witness(actor, body);
    }
}

/// The layer that sees every request to its end.
pub(super) fn witness<S, B>(
    request: ServiceRequest,
    service: &S,
    door: Door,
) -> impl Future<Output = Result<ServiceResponse<B>, actix_web::Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
{
    let meta = Meta::of(request.request());
    let witness = Witness { door, meta, method: request.method().to_string(), outcome: None };
    let work = service.call(request);
    async move {
        // The whole of it moves in, and is dropped with the request.
        let mut witness = witness;
        let answer = work.await;
        if let Ok(response) = &answer {
            let code = response.response().extensions().get::<Code>().copied();
            witness.outcome = Some((response.status().as_u16(), code));
        }
        answer
    }
}

/// Who changed what from where, and who was refused; the newest, or what came after an entry
#[utoipa::path(get, path = "/api/v1/security/audit", tag = "security",
    params(
        ("after" = Option<u64>, Query, description = "Entries after this one, oldest first; without it the newest ones"),
        ("limit" = Option<u32>, Query, description = "So many at most: 1 to 1000, 100 by default")),
    responses((status = 200, description = "Entries of this agent, oldest first", body = Envelope<Contents<AuditEntry>>)))]
pub(super) async fn trail(call: Call<()>) -> Outcome<Contents<AuditEntry>> {
    Outcome::list(read(&call).await)
}

async fn read(call: &Call<()>) -> Result<Vec<AuditEntry>> {
    const ID_MAX: u64 = i64::MAX.unsigned_abs();
    let after = call.number("after", 0, ID_MAX)?.and_then(|id| i64::try_from(id).ok()).map(EventId);
    let limit = call.number("limit", 1, u64::from(LIMIT_MAX))?;
    let limit = limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(LIMIT);
    flush(&call.door);
    let records = call.app.audit(after, limit).await?;
    let own = call.app.own();
    Ok(records.iter().map(|record| AuditEntry::new(own, record)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "Common.Unauthorized";

    fn counts(told: &[Refused]) -> Vec<(&str, u64)> {
        told.iter().map(|refused| (refused.who.as_str(), refused.count)).collect()
    }

    #[test]
    fn refusals_of_one_address_are_two_entries_a_minute_however_many_they_are() {
        let mut tally = Tally::default();
        let mut note = |who: &str, now| tally.note(who, "POST /x", CODE, now);
        assert_eq!(counts(&note("a", 1_000)), [("a", 1)], "the first is told at once");
        for _ in 0..500 {
            assert_eq!(note("a", 1_059), []);
        }
        assert_eq!(counts(&note("b", 1_059)), [("b", 1)]);
        assert_eq!(counts(&note("b", 1_060)), [("a", 500), ("b", 1)]);
        assert_eq!(tally.close(), [], "what is told is told");
    }

    #[test]
    fn refusals_of_many_addresses_are_a_few_entries() {
        let mut tally = Tally::default();
        let mut told = Vec::new();
        for number in 0..10_000 {
            told.extend(tally.note(&format!("address {number:05}"), "GET /x", CODE, 1_000));
        }
        told.extend(tally.close());
        assert_eq!(told.len(), APART_MAX + 1);
        assert_eq!(told.iter().map(|refused| refused.count).sum::<u64>(), 10_000, "none is forgotten");
        // A clock that goes back begins a new window.
        assert_eq!(tally.note("a", "GET /x", CODE, 2_000).len(), 1);
        assert_eq!(tally.note("a", "GET /x", CODE, 5).len(), 1);
    }
}

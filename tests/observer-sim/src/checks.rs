//! What RootService asks before it obeys (`observer-model.md` §11), in the stated order.
//!
//! Invariant: pure functions; nothing is changed here.
//!
//! Simplified: no locality ever changes, so those two details of the majority check never come up.

use std::collections::BTreeSet;

use crate::refusal::Refusal;
use crate::rules::{self, View};
use crate::state::{Addr, ServerStatus, State, Stream, ZoneStatus};

/// `STOP`, `FORCE STOP` or `ISOLATE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    Stop,
    Force,
    Isolate,
}

/// `Ok(false)`: there is nothing to do.
pub(crate) fn stop_server(
    state: &State,
    view: &View,
    servers: &[Addr],
    strength: Strength,
) -> Result<bool, Refusal> {
    let rows: Vec<_> = servers
        .iter()
        .map(|addr| state.server(*addr).ok_or_else(|| Refusal::plain(4018)))
        .collect::<Result<_, _>>()?;
    if strength == Strength::Isolate {
        return primary_region(state, |addr, _| servers.contains(&addr)).map(|()| true);
    }
    let zones: BTreeSet<&str> = rows.iter().map(|row| row.zone.as_str()).collect();
    let elsewhere = zones.first().is_some_and(|zone| is_stopped_elsewhere(state, zone));
    if rows.iter().all(|row| row.stop_time != 0) {
        return if elsewhere { Err(Refusal::plain(4660)) } else { Ok(false) };
    }
    if zones.len() > 1 || elsewhere {
        return Err(Refusal::plain(4660));
    }
    majority(state, view, servers, "stop server", strength)?;
    Ok(true)
}

/// `Ok(false)`: there is nothing to do.
pub(crate) fn stop_zone(state: &State, view: &View, name: &str, strength: Strength) -> Result<bool, Refusal> {
    let zone = state.zone(name).ok_or_else(|| Refusal::new(4018, "zone not exist"))?;
    if zone.status == ZoneStatus::Inactive {
        return Ok(false);
    }
    if strength == Strength::Isolate {
        return primary_region(state, |_, row_zone| row_zone == zone.name).map(|()| true);
    }
    if is_stopped_elsewhere(state, &zone.name) {
        return Err(Refusal::plain(4660));
    }
    let servers: Vec<Addr> =
        state.servers.iter().filter(|row| row.zone == zone.name).map(|row| row.addr).collect();
    if !servers.is_empty() {
        majority(state, view, &servers, "stop zone", strength)?;
    }
    if state.zones.iter().filter(|zone| zone.status == ZoneStatus::Active).count() < 2 {
        return Err(Refusal::not_allowed("stop the last active zone"));
    }
    Ok(true)
}

fn is_stopped_elsewhere(state: &State, zone: &str) -> bool {
    state.servers.iter().any(|row| row.zone != zone && row.stop_time != 0)
        || state.zones.iter().any(|other| other.name != zone && other.status == ZoneStatus::Inactive)
}

fn primary_region(state: &State, is_meant: impl Fn(Addr, &str) -> bool) -> Result<(), Refusal> {
    let is_any_left =
        state.servers.iter().any(|row| !state.is_stopped(row.addr) && !is_meant(row.addr, &row.zone));
    if is_any_left { Ok(()) } else { Err(Refusal::not_allowed("Stop all servers in primary region is")) }
}

/// Whether every log stream keeps a majority without these servers.
fn majority(
    state: &State,
    view: &View,
    servers: &[Addr],
    operation: &str,
    strength: Strength,
) -> Result<(), Refusal> {
    for stream in &state.streams {
        let refuse = |detail: &str| {
            Refusal::not_allowed(&format!(
                "Tenant({}) LS({}) {detail}, {operation}",
                stream.tenant, stream.id
            ))
        };
        let Some(leader) = stream.leader() else { return Err(refuse("has no leader").retried()) };
        let reached = stream.members.iter().filter(|member| is_alive(view, leader, **member)).count();
        if reached < stream.majority() {
            return Err(refuse("has no enough paxos member").retried());
        }
        let valid = valid_members(state, view, stream, servers);
        if valid.len() < stream.majority() {
            return Err(refuse(&format!("has no enough valid paxos member after {operation}")));
        }
        let in_sync = valid.iter().filter(|addr| rules::lag(stream, view, **addr).is_none()).count();
        if strength == Strength::Stop && in_sync < stream.majority() {
            return Err(refuse("log not sync").retried());
        }
    }
    Ok(())
}

fn is_alive(view: &View, from: Addr, member: Addr) -> bool {
    view.live.contains_key(&member) && view.sees(from, member)
}

fn valid_members(state: &State, view: &View, stream: &Stream, servers: &[Addr]) -> Vec<Addr> {
    let is_serving = |addr: Addr| {
        state
            .server(addr)
            .is_some_and(|row| row.status == ServerStatus::Active && row.start_service_time != 0)
    };
    stream
        .members
        .iter()
        .copied()
        .filter(|addr| !servers.contains(addr) && !state.is_stopped(*addr) && is_serving(*addr))
        .filter(|addr| stream.leader().is_some_and(|leader| is_alive(view, leader, *addr)))
        .collect()
}

pub(crate) fn delete_server(
    state: &State,
    view: &View,
    addr: Addr,
    zone: Option<&str>,
) -> Result<(), Refusal> {
    let row = state.server(addr).ok_or_else(|| Refusal::plain(4630))?;
    same_zone(&row.zone, zone)?;
    let mut replicas = state.streams.iter().filter(|stream| stream.members.contains(&addr)).peekable();
    if replicas.peek().is_some() && rules::heir(state, view, addr).is_none() {
        return Err(Refusal::plain(4624));
    }
    if let Some(stream) = state.streams.iter().find(|stream| stream.leader.is_none()) {
        let detail = format!("Tenant({}) LS({}) has no leader, delete server", stream.tenant, stream.id);
        return Err(Refusal::not_allowed(&detail));
    }
    if row.status == ServerStatus::Deleting {
        return Err(Refusal::plain(4628));
    }
    Ok(())
}

pub(crate) fn same_zone(zone: &str, wanted: Option<&str>) -> Result<(), Refusal> {
    if wanted.is_some_and(|wanted| wanted != zone) { Err(Refusal::plain(4631)) } else { Ok(()) }
}

pub(crate) fn add_server(
    state: &State,
    view: &View,
    root: Addr,
    addr: Addr,
    zone: Option<&str>,
) -> Result<(), Refusal> {
    let card = view.live.get(&addr).filter(|_| view.sees(root, addr));
    let card = card.ok_or_else(|| Refusal::plain(4012))?;
    if card.has_data {
        return Err(Refusal::not_allowed(&format!("add non-empty server \"{addr}\"")));
    }
    same_zone(&card.zone, zone)?;
    match state.zone(&card.zone) {
        None => return Err(Refusal::plain(4018)),
        Some(zone) if zone.status == ZoneStatus::Inactive => return Err(Refusal::plain(4655)),
        Some(_) => {}
    }
    if state.server(addr).is_some() {
        return Err(Refusal::plain(4017));
    }
    if is_newer(&card.version, &state.version) {
        return Err(Refusal::new(1235, "add server with a newer data version not supported"));
    }
    Ok(())
}

fn is_newer(version: &str, than: &str) -> bool {
    let numbers = |text: &str| text.split('.').map(|n| n.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    numbers(version) > numbers(than)
}

pub(crate) fn delete_zone(state: &State, view: &View, name: &str) -> Result<(), Refusal> {
    let inside: Vec<_> = state.servers.iter().filter(|row| row.zone.eq_ignore_ascii_case(name)).collect();
    if !inside.is_empty() {
        let alive = inside.iter().filter(|row| view.live.contains_key(&row.addr)).count();
        return Err(Refusal::new(
            4668,
            format!(
                "The zone is not empty and can not be deleted. You should delete the servers of the zone. There are {alive} \
                 servers alive and {} not alive.",
                inside.len() - alive
            ),
        ));
    }
    let zone = state.zone(name).ok_or_else(|| Refusal::plain(4018))?;
    if zone.status == ZoneStatus::Active { Err(Refusal::plain(4633)) } else { Ok(()) }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;

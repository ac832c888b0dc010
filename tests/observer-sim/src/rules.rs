//! How the cluster moves by itself: leaders, RootService, heartbeats, checkpoints, deletion (`observer-model.md` §10, §12,
//! §13, §15.3).
//!
//! Invariant: pure functions of what is stored, who lives, and the time. Nothing changes where nothing happened, so that any
//! process may settle the state at any time and find it settled.
//!
//! Not here: what statements check and change (`checks`, `alter`); reading who lives (`cluster`).
//!
//! Simplified: a leader that lost its majority loses its role at once and not with its lease; a successor comes 6 s (× factor)
//! after the loss. A leader that goes elsewhere in good order leaves no gap. All replicas of a server that came back catch up
//! together, whatever was written meanwhile (`server` says when); none of them is chosen before one that has everything.

use std::collections::BTreeMap;

use crate::clock;
use crate::state::{Addr, Card, Leader, RootService, ServerStatus, State, Stream};

const SECOND: f64 = 1e9;

/// What is known of the outside at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Nanoseconds since the host was started.
    pub(crate) now: u64,
    /// Microseconds of wall time.
    pub(crate) wall: i64,
    pub(crate) factor: f64,
    pub(crate) live: BTreeMap<Addr, Card>,
    /// Servers of different groups do not reach each other. No groups: all do.
    pub(crate) groups: Vec<Vec<Addr>>,
    /// Servers that no heartbeat tells of, neither of their end nor of a new life: their rows stay as they are.
    pub(crate) unheard: Vec<Addr>,
}

impl View {
    fn group(&self, addr: Addr) -> Option<usize> {
        self.groups.iter().position(|group| group.contains(&addr))
    }

    pub(crate) fn sees(&self, one: Addr, other: Addr) -> bool {
        one == other || self.group(one) == self.group(other)
    }

    /// Whether a span that began at `since` is over.
    pub(crate) fn is_over(&self, since: u64, seconds: f64) -> bool {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "spans are positive and short against 500 years"
        )]
        let span = (seconds * self.factor * SECOND) as u64;
        self.now >= since.saturating_add(span)
    }

    pub(crate) fn reached(&self, from: Addr) -> impl Iterator<Item = (&Addr, &Card)> {
        self.live.iter().filter(move |(addr, _)| self.sees(from, **addr))
    }
}

/// Everything that has become due.
pub(crate) fn settle(state: &mut State, view: &View) {
    if !state.is_bootstrapped {
        return;
    }
    elect_all(state, view);
    move_root_service(state, view);
    if let Some(root) = root_service(state, view) {
        heartbeats(state, view, root);
        finish_deletions(state, view);
    }
    finish_freezes(state, view);
}

/// Where RootService answers, if it does.
pub(crate) fn root_service(state: &State, view: &View) -> Option<Addr> {
    const TAKE_OVER: f64 = 2.0;
    let root = state.root_service.as_ref()?;
    (root.is_first || view.is_over(root.since, TAKE_OVER)).then_some(root.addr)
}

/// The leader of the system's log stream, as far as `from` reaches it.
pub(crate) fn system_leader(state: &State, view: &View, from: Addr) -> Option<Addr> {
    state.system_stream()?.leader().filter(|leader| view.sees(from, *leader))
}

/// The SCN at which a replica stands that is behind its leader; `None` for one that is in sync.
pub(crate) fn lag(stream: &Stream, view: &View, addr: Addr) -> Option<i64> {
    let catches_up = || {
        let card = view.live.get(&addr).filter(|card| card.behind_since != 0)?;
        (stream.leader() != Some(addr)).then(|| clock::scn(card.behind_since))
    };
    stream.lagging.get(&addr).copied().or_else(catches_up)
}

/// Whether what is written through `from` is kept: by a leader that serves, and by a majority that has what it has.
pub(crate) fn takes_writes(stream: &Stream, view: &View, from: Addr) -> bool {
    let Some(leader) = stream.leader().filter(|leader| view.sees(from, *leader)) else { return false };
    let serves = view.live.get(&leader).is_some_and(|card| card.serving_since != 0);
    let has_all = |(addr, _): &(Addr, &Card)| lag(stream, view, *addr).is_none();
    serves && voters(stream, view, leader).filter(has_all).count() >= stream.majority()
}

fn elect_all(state: &mut State, view: &View) {
    let mut streams = std::mem::take(&mut state.streams);
    for stream in &mut streams {
        elect(stream, state, view);
    }
    state.streams = streams;
}

fn elect(stream: &mut Stream, state: &State, view: &View) {
    const LEASE_AND_ELECTION: f64 = 6.0;
    let is_valid = stream.leader.as_ref().is_some_and(|leader| {
        view.live.get(&leader.addr).is_some_and(|card| card.spawn == leader.spawn)
            && voters(stream, view, leader.addr).count() >= stream.majority()
    });
    if is_valid {
        leave(stream, state, view);
        return;
    }
    stream.leader = None;
    stream.leaving_at = None;
    let lost_at = *stream.lost_at.get_or_insert(view.now);
    if view.is_over(lost_at, LEASE_AND_ELECTION)
        && let Some(addr) = candidates(stream, state, view).first().copied()
    {
        crown(stream, view, addr);
    }
}

/// A leader on a server that is stopped, or about to end, goes elsewhere if it can.
fn leave(stream: &mut Stream, state: &State, view: &View) {
    const MOVE: f64 = 1.0;
    let Some(addr) = stream.leader() else { return };
    // A switch in good order goes to a replica that has everything.
    let is_fit = |other: &Addr| !should_leave(state, view, *other) && lag(stream, view, *other).is_none();
    let target = candidates(stream, state, view).into_iter().find(is_fit);
    let keeps = view.live.get(&addr).is_some_and(|card| card.keeps_leaders);
    let (Some(target), true, false) = (target, should_leave(state, view, addr), keeps) else {
        stream.leaving_at = None;
        return;
    };
    let since = *stream.leaving_at.get_or_insert(view.now);
    if view.is_over(since, MOVE) {
        crown(stream, view, target);
    }
}

pub(crate) fn crown(stream: &mut Stream, view: &View, addr: Addr) {
    let Some(card) = view.live.get(&addr) else { return };
    stream.leader = Some(Leader { addr, spawn: card.spawn });
    stream.reported = Some(addr);
    stream.proposal += 1;
    stream.lost_at = None;
    stream.leaving_at = None;
}

fn should_leave(state: &State, view: &View, addr: Addr) -> bool {
    state.is_stopped(addr) || view.live.get(&addr).is_some_and(|card| card.is_leaving)
}

/// Members with data that `from` reaches.
fn voters<'a>(stream: &'a Stream, view: &'a View, from: Addr) -> impl Iterator<Item = (Addr, &'a Card)> {
    stream
        .members
        .iter()
        .filter(move |member| view.sees(from, **member))
        .filter_map(|member| Some((*member, view.live.get(member)?)))
        .filter(|(_, card)| card.has_data)
}

/// Who could be elected, best first. An acceptor ignores votes for a while after its start.
fn candidates(stream: &Stream, state: &State, view: &View) -> Vec<Addr> {
    const SILENCE: f64 = 10.0;
    let speaks = |card: &Card| view.is_over(card.spawn, SILENCE);
    let mut able: Vec<Addr> = stream
        .members
        .iter()
        .copied()
        .filter(|member| view.live.get(member).is_some_and(|card| card.has_data && speaks(card)))
        .filter(|member| {
            voters(stream, view, *member).filter(|(_, card)| speaks(card)).count() >= stream.majority()
        })
        .collect();
    able.sort_by_key(|addr| {
        let is_behind = lag(stream, view, *addr).is_some();
        (is_behind, should_leave(state, view, *addr), state.server(*addr).map_or(i64::MAX, |row| row.id))
    });
    able
}

fn move_root_service(state: &mut State, view: &View) {
    let Some(leader) = state.system_stream().and_then(Stream::leader) else {
        state.root_service = None;
        return;
    };
    if state.root_service.as_ref().is_none_or(|root| root.addr != leader) {
        state.root_service = Some(RootService { addr: leader, since: view.now, is_first: false });
        for server in &mut state.servers {
            // The new one counts from its own first look.
            server.lost_at = None;
        }
    }
}

fn heartbeats(state: &mut State, view: &View, root: Addr) {
    const HEARTBEAT: f64 = 2.0;
    const LEASE: f64 = 10.0;
    let mut lost = Vec::new();
    for server in state.servers.iter_mut().filter(|server| !view.unheard.contains(&server.addr)) {
        let card = view.live.get(&server.addr).filter(|_| view.sees(root, server.addr));
        // A server that comes back as another one is not heard.
        let card = card.filter(|card| card.zone == server.zone && card.sql_port == server.sql_port);
        let Some(card) = card else {
            let since = *server.lost_at.get_or_insert(view.now);
            server.news_at = None;
            let is_gone = server.start_service_time == 0 && server.last_offline_time != 0;
            if view.is_over(since, LEASE) && !is_gone {
                server.start_service_time = 0;
                server.last_offline_time = view.wall;
                server.modified = view.wall;
                if server.status == ServerStatus::Active {
                    server.status = ServerStatus::Inactive;
                }
                lost.push(server.addr);
            }
            continue;
        };
        server.lost_at = None;
        let status =
            if server.status == ServerStatus::Deleting { server.status } else { ServerStatus::Active };
        let is_known = server.status == status
            && server.start_service_time == card.serving_since
            && server.last_offline_time == 0
            && server.build_version == card.build_version;
        if is_known {
            server.news_at = None;
            continue;
        }
        let since = *server.news_at.get_or_insert(view.now);
        if view.is_over(since, HEARTBEAT) {
            server.status = status;
            server.start_service_time = card.serving_since;
            server.last_offline_time = 0;
            server.build_version.clone_from(&card.build_version);
            server.modified = view.wall;
            server.news_at = None;
        }
    }
    for addr in lost {
        for event in ["last_offline_time set", "lease_expire"] {
            note(state, view, "server", event, &addr.to_string());
        }
    }
}

pub(crate) fn note(state: &mut State, view: &View, module: &str, event: &str, server: &str) {
    state.events.push(crate::state::Event {
        at: view.wall,
        module: module.to_owned(),
        event: event.to_owned(),
        name: "server".to_owned(),
        value: server.to_owned(),
    });
}

/// A server that is being deleted hands its replicas to another of its zone and is then forgotten.
fn finish_deletions(state: &mut State, view: &View) {
    const MIGRATION: f64 = 2.0;
    let due: Vec<Addr> = state
        .servers
        .iter()
        .filter(|row| row.status == ServerStatus::Deleting)
        .filter(|row| row.deleting_since.is_some_and(|since| view.is_over(since, MIGRATION)))
        .filter(|row| !view.live.get(&row.addr).is_some_and(|card| card.never_leaves))
        .map(|row| row.addr)
        .collect();
    for addr in due {
        let heir = heir(state, view, addr);
        let has_replica = state.streams.iter().any(|stream| stream.members.contains(&addr));
        if has_replica && heir.is_none() {
            continue;
        }
        for stream in &mut state.streams {
            if let Some(member) = stream.members.iter_mut().find(|member| **member == addr) {
                *member = heir.unwrap_or(addr);
                if stream.leader() == Some(addr) {
                    stream.leader = None;
                }
                let checkpoint = stream.checkpoints.remove(&addr);
                if let (Some(heir), Some(scn)) = (heir, checkpoint) {
                    stream.checkpoints.insert(heir, scn);
                }
            }
        }
        state.servers.retain(|row| row.addr != addr);
        for job in state.jobs.iter_mut().filter(|job| job.server == addr) {
            job.status = "SUCCESS".to_owned();
        }
        note(state, view, "server", "finish_delete_server", &addr.to_string());
    }
}

/// Who can take the replicas of a server: a live one of its zone that has none of them.
pub(crate) fn heir(state: &State, view: &View, addr: Addr) -> Option<Addr> {
    let zone = &state.server(addr)?.zone;
    let is_free = |other: Addr| {
        state
            .streams
            .iter()
            .all(|stream| !(stream.members.contains(&addr) && stream.members.contains(&other)))
    };
    state
        .servers
        .iter()
        .filter(|row| row.addr != addr && row.zone == *zone && row.status == ServerStatus::Active)
        .map(|row| row.addr)
        .find(|other| view.live.contains_key(other) && is_free(*other))
}

fn finish_freezes(state: &mut State, view: &View) {
    const DUMP: f64 = 1.0;
    for stream in &mut state.streams {
        let is_due = |freeze: &crate::state::Freeze| {
            view.is_over(freeze.since, DUMP)
                && view.live.get(&freeze.addr).is_some_and(|card| !card.never_freezes)
        };
        for freeze in stream.freezes.extract_if(.., |freeze| is_due(freeze)) {
            let checkpoint = stream.checkpoints.entry(freeze.addr).or_default();
            *checkpoint = (*checkpoint).max(freeze.scn);
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
pub(crate) mod tests;

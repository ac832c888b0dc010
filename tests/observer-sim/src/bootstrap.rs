//! BOOTSTRAP (`observer-model.md` §7): empty servers become a cluster.
//!
//! Invariant: the checks come in the stated order. A bootstrap that failed after them leaves the servers used: only emptied
//! stores can be tried again.
//!
//! Simplified: it answers when every listed server serves, or after 40 s (× factor, at least 2 s) all the same. A state that
//! is left of servers whose stores were all emptied is forgotten.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::alter::{new_row, new_stream, new_zone};
use crate::process;
use crate::refusal::Refusal;
use crate::rules::View;
use crate::server::Server;
use crate::state::{Addr, Card, RootService, State, Tenant, TenantKind, ZoneStatus};
use crate::system::Listed;

pub(crate) fn run(server: &Server, listed: &[Listed], limit_us: u64) -> Result<(), Refusal> {
    const WORK: f64 = 5.0;
    let cards = check(server, listed, limit_us)?;
    for card in &cards {
        process::make_streams(&card.data_dir).map_err(anyhow::Error::from)?;
    }
    let settings = server.settings();
    if settings.has("exit_during_bootstrap") {
        server.cluster.note("exit", json!({ "code": 1, "fault": "exit_during_bootstrap" }));
        std::process::exit(1);
    }
    if let Some(code) = settings.number("bootstrap_fails") {
        return Err(Refusal::plain(u16::try_from(code).unwrap_or(4016)));
    }
    std::thread::sleep(settings.span(WORK));
    server.cluster.change(settings.factor, |state, view| {
        *state = new_state(server, view, listed);
        Ok(())
    })?;
    await_all(server, listed)
}

fn check(server: &Server, listed: &[Listed], limit_us: u64) -> Result<Vec<Card>, Refusal> {
    const REACH: Duration = Duration::from_secs(9);
    if process::has_streams(&server.data_dir) || !listed.iter().any(|one| one.server == server.addr) {
        return Err(Refusal::plain(4015));
    }
    let zones: BTreeSet<&str> = listed.iter().map(|one| one.zone.as_str()).collect();
    if zones.len() < listed.len() {
        return Err(Refusal::plain(4640));
    }
    let settings = server.settings();
    let deadline = Instant::now() + settings.patience(Duration::from_micros(limit_us).min(REACH));
    let cards = loop {
        let view = server.cluster.look(settings.factor);
        if let Some(cards) = reachable(server.addr, &view, listed) {
            break cards;
        }
        if Instant::now() >= deadline {
            return Err(Refusal::timeout(limit_us));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if listed.iter().zip(&cards).any(|(one, card)| one.zone != card.zone) {
        return Err(Refusal::plain(4631));
    }
    if cards.iter().any(|card| card.has_data) {
        return Err(Refusal::plain(4005));
    }
    Ok(cards)
}

fn reachable(own: Addr, view: &View, listed: &[Listed]) -> Option<Vec<Card>> {
    let card = |one: &Listed| view.live.get(&one.server).filter(|_| view.sees(own, one.server)).cloned();
    listed.iter().map(card).collect()
}

fn new_state(server: &Server, view: &View, listed: &[Listed]) -> State {
    let config = server.config();
    let value = |name: &str| config.get(name).cloned().unwrap_or_default();
    let mut state = State {
        is_bootstrapped: true,
        cluster: value("cluster"),
        cluster_id: value("cluster_id"),
        version: view.live.get(&server.addr).map(|card| card.version.clone()).unwrap_or_default(),
        ..State::default()
    };
    for one in listed {
        let Some(card) = view.live.get(&one.server) else { continue };
        state.last_server_id += 1;
        state.servers.push(new_row(&state, view, one.server, card));
        state.zones.push(new_zone(view, &one.zone, &one.region, ZoneStatus::Active));
    }
    state.tenants.push(Tenant { id: 1, name: "sys".to_owned(), kind: TenantKind::Sys, created: view.wall });
    let members: Vec<Addr> = listed.iter().map(|one| one.server).collect();
    let stream = new_stream(&state, view, 1, 1, &members);
    state.root_service = stream.leader().map(|addr| RootService { addr, since: view.now, is_first: true });
    state.streams.push(stream);
    crate::rules::note(&mut state, view, "bootstrap", "bootstrap_succeed", &server.addr.to_string());
    state
}

fn await_all(server: &Server, listed: &[Listed]) -> Result<(), Refusal> {
    const ONLINE: f64 = 40.0;
    let span = server.settings().span(ONLINE).max(Duration::from_secs(2));
    let deadline = Instant::now() + span;
    loop {
        let state = server.sight()?.state;
        let is_serving = |addr| state.server(addr).is_some_and(|row| row.start_service_time != 0);
        if listed.iter().all(|one| is_serving(one.server)) || Instant::now() >= deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

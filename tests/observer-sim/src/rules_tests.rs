//! Leaders, heartbeats, deletion and checkpoints, by the clock.

use super::*;
use crate::state::{Freeze, Server, Stream, Tenant, TenantKind, Zone, ZoneStatus};

pub(crate) fn addr(number: u8) -> Addr {
    format!("10.0.0.{number}:2882").parse().unwrap()
}

pub(crate) const SEC: u64 = 1_000_000_000;

/// One server per zone, all alive since long and serving; the first leads.
pub(crate) fn cluster(count: u8, factor: f64) -> (State, View) {
    let mut state = State { is_bootstrapped: true, version: "4.3.5.1".to_owned(), ..State::default() };
    let mut view = View { now: 1000 * SEC, wall: 1, factor, ..View::default() };
    for number in 1..=count {
        let zone = format!("z{number}");
        let card = Card {
            zone: zone.clone(),
            serving_since: 5,
            has_data: true,
            version: "4.3.5.1".to_owned(),
            ..Card::default()
        };
        view.live.insert(addr(number), card);
        state.servers.push(Server {
            addr: addr(number),
            id: i64::from(number),
            zone: zone.clone(),
            sql_port: 0,
            status: ServerStatus::Active,
            start_service_time: 5,
            stop_time: 0,
            last_offline_time: 0,
            build_version: String::new(),
            created: 1,
            modified: 1,
            lost_at: None,
            news_at: None,
            deleting_since: None,
        });
        state.zones.push(Zone {
            name: zone,
            status: ZoneStatus::Active,
            region: "r".to_owned(),
            idc: String::new(),
            kind: String::new(),
            created: 1,
            modified: 1,
        });
    }
    let members: Vec<Addr> = (1..=count).map(addr).collect();
    state.tenants.push(Tenant { id: 1, name: "sys".to_owned(), kind: TenantKind::Sys, created: 1 });
    state.streams.push(crate::alter::new_stream(&state, &view, 1, 1, &members));
    state.root_service = Some(RootService { addr: addr(1), since: view.now, is_first: true });
    settle(&mut state, &view);
    (state, view)
}

fn leader(state: &State) -> Option<Addr> {
    state.system_stream().and_then(Stream::leader)
}

fn row(state: &State, number: u8) -> &Server {
    state.server(addr(number)).unwrap()
}

#[test]
fn nothing_changes_where_nothing_happened() {
    let (state, mut view) = cluster(3, 1.0);
    view.now += 3600 * SEC;
    let mut later = state.clone();
    settle(&mut later, &view);
    assert_eq!(later, state);
    assert_eq!(leader(&state), Some(addr(1)));
}

#[test]
fn a_leader_is_replaced_after_its_lease() {
    let (mut state, mut view) = cluster(3, 1.0);
    view.live.remove(&addr(1));
    settle(&mut state, &view);
    assert_eq!((leader(&state), root_service(&state, &view)), (None, None));
    view.now += 5 * SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), None);
    view.now += SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(2)));
    // RootService takes a while more, and then counts the lease from its own first look.
    assert_eq!(root_service(&state, &view), None);
    view.now += 2 * SEC;
    settle(&mut state, &view);
    assert_eq!(root_service(&state, &view), Some(addr(2)));
    view.now += 9 * SEC;
    settle(&mut state, &view);
    assert_eq!(row(&state, 1).status, ServerStatus::Active);
    view.now += SEC;
    settle(&mut state, &view);
    assert_eq!(row(&state, 1).status, ServerStatus::Inactive);
    assert_eq!((row(&state, 1).start_service_time, row(&state, 1).last_offline_time), (0, 1));
    assert!(state.events.iter().any(|event| event.event == "lease_expire"));
}

#[test]
fn a_new_life_is_no_leader_and_silent_at_first() {
    let (mut state, mut view) = cluster(1, 1.0);
    view.live.get_mut(&addr(1)).unwrap().spawn = view.now;
    settle(&mut state, &view);
    assert_eq!(leader(&state), None);
    view.now += 9 * SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), None);
    view.now += SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(1)));
}

#[test]
fn without_a_majority_nobody_leads() {
    let (mut state, mut view) = cluster(3, 0.0);
    view.live.remove(&addr(1));
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(2)));
    view.live.get_mut(&addr(2)).unwrap().has_data = false;
    settle(&mut state, &view);
    assert_eq!(leader(&state), None);
    // The row still says what was last known.
    assert_eq!(row(&state, 2).status, ServerStatus::Active);
}

#[test]
fn leaders_leave_what_is_stopped_or_ends() {
    let (mut state, mut view) = cluster(3, 1.0);
    state.server_mut(addr(1)).unwrap().stop_time = 1;
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(1)));
    view.now += SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(2)));
    view.live.get_mut(&addr(2)).unwrap().is_leaving = true;
    view.live.get_mut(&addr(2)).unwrap().keeps_leaders = true;
    view.now += 2 * SEC;
    settle(&mut state, &view);
    view.now += 2 * SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(2)));
    view.live.get_mut(&addr(2)).unwrap().keeps_leaders = false;
    settle(&mut state, &view);
    view.now += SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(3)));
    // Where everybody is stopped, somebody leads all the same.
    state.zone_mut("z3").unwrap().status = ZoneStatus::Inactive;
    view.now += 2 * SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(3)));
}

#[test]
fn a_write_needs_a_leader_that_serves_and_a_majority_in_sync() {
    let (mut state, mut view) = cluster(3, 1.0);
    let takes =
        |state: &State, view: &View, from: u8| takes_writes(state.system_stream().unwrap(), view, addr(from));
    assert!(takes(&state, &view, 3));
    // One that catches up does not count, and is no heir to a leader that leaves in good order.
    view.live.get_mut(&addr(2)).unwrap().behind_since = 7;
    assert_eq!(lag(&state.streams[0], &view, addr(2)), Some(7000));
    assert!(takes(&state, &view, 2));
    view.live.get_mut(&addr(3)).unwrap().behind_since = 7;
    assert!(!takes(&state, &view, 1));
    state.server_mut(addr(1)).unwrap().stop_time = 1;
    settle(&mut state, &view);
    view.now += SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(1)));
    view.live.get_mut(&addr(3)).unwrap().behind_since = 0;
    settle(&mut state, &view);
    view.now += SEC;
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(3)));
    view.live.get_mut(&addr(1)).unwrap().behind_since = 7;
    assert!(!takes(&state, &view, 1));
    view.live.get_mut(&addr(2)).unwrap().behind_since = 0;
    assert!(takes(&state, &view, 1));
    view.live.get_mut(&addr(3)).unwrap().serving_since = 0;
    assert!(!takes(&state, &view, 1));
    view.live.get_mut(&addr(3)).unwrap().serving_since = 9;
    view.groups = vec![vec![addr(1)], vec![addr(2), addr(3)]];
    assert!(!takes(&state, &view, 1) && takes(&state, &view, 2));
    // Where all have come back, one of them leads; it has everything by that.
    view.groups.clear();
    for number in 1..=3 {
        let card = view.live.get_mut(&addr(number)).unwrap();
        (card.behind_since, card.spawn) = (7, view.now);
    }
    settle(&mut state, &view);
    assert!(!takes(&state, &view, 1));
    view.now += 10 * SEC;
    settle(&mut state, &view);
    let first = leader(&state).unwrap();
    assert_eq!(lag(&state.streams[0], &view, first), None);
}

#[test]
fn a_server_comes_back_in_two_steps() {
    let (mut state, mut view) = cluster(3, 1.0);
    let mut card = view.live.remove(&addr(3)).unwrap();
    settle(&mut state, &view);
    view.now += 10 * SEC;
    settle(&mut state, &view);
    assert_eq!(row(&state, 3).status, ServerStatus::Inactive);
    card.serving_since = 0;
    view.live.insert(addr(3), card);
    settle(&mut state, &view);
    view.now += 2 * SEC;
    settle(&mut state, &view);
    assert_eq!((row(&state, 3).status, row(&state, 3).start_service_time), (ServerStatus::Active, 0));
    view.live.get_mut(&addr(3)).unwrap().serving_since = 9;
    settle(&mut state, &view);
    view.now += 2 * SEC;
    settle(&mut state, &view);
    assert_eq!(row(&state, 3).start_service_time, 9);
    // As another one it is not heard.
    view.live.get_mut(&addr(3)).unwrap().zone = "z9".to_owned();
    settle(&mut state, &view);
    view.now += 10 * SEC;
    settle(&mut state, &view);
    assert_eq!(row(&state, 3).status, ServerStatus::Inactive);
}

#[test]
fn partitions_decide_who_sees_whom() {
    let (mut state, mut view) = cluster(3, 0.0);
    view.groups = vec![vec![addr(1)], vec![addr(2), addr(3)]];
    settle(&mut state, &view);
    assert_eq!(leader(&state), Some(addr(2)));
    assert_eq!(system_leader(&state, &view, addr(1)), None);
    assert_eq!(system_leader(&state, &view, addr(3)), Some(addr(2)));
    assert_eq!(row(&state, 1).status, ServerStatus::Inactive);
}

#[test]
fn a_deleted_server_hands_over_and_goes() {
    let (mut state, mut view) = cluster(3, 1.0);
    let heir = addr(4);
    let mut other = row(&state, 3).clone();
    other.addr = heir;
    other.id = 4;
    state.servers.push(other);
    view.live.insert(heir, view.live[&addr(3)].clone());
    let deleted = state.server_mut(addr(3)).unwrap();
    deleted.status = ServerStatus::Deleting;
    deleted.deleting_since = Some(view.now);
    settle(&mut state, &view);
    assert!(state.server(addr(3)).is_some());
    view.now += 2 * SEC;
    settle(&mut state, &view);
    assert!(state.server(addr(3)).is_none());
    assert_eq!(state.system_stream().unwrap().members, [addr(1), addr(2), heir]);
    // One without an heir stays.
    let deleted = state.server_mut(addr(2)).unwrap();
    deleted.status = ServerStatus::Deleting;
    deleted.deleting_since = Some(view.now);
    view.now += 60 * SEC;
    settle(&mut state, &view);
    assert!(state.server(addr(2)).is_some());
}

#[test]
fn checkpoints_follow_a_freeze() {
    let (mut state, mut view) = cluster(1, 1.0);
    view.live.get_mut(&addr(1)).unwrap().never_freezes = true;
    state.streams[0].freezes.push(Freeze { addr: addr(1), since: view.now, scn: 1_000_000 });
    let checkpoint = |state: &State| state.streams[0].checkpoints[&addr(1)];
    let before = checkpoint(&state);
    view.now += 2 * SEC;
    settle(&mut state, &view);
    assert_eq!(checkpoint(&state), before);
    view.live.get_mut(&addr(1)).unwrap().never_freezes = false;
    settle(&mut state, &view);
    assert_eq!(checkpoint(&state), 1_000_000);
    assert!(state.streams[0].freezes.is_empty());
}

//! Refusals, one after the other as they are stated.

use super::*;
use crate::rules::settle;
use crate::rules::tests::{addr, cluster};
use crate::state::Card;

fn said<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (u16, String) {
    let why = result.unwrap_err();
    (why.code, why.text)
}

fn stop(state: &State, view: &View, numbers: &[u8]) -> Result<bool, Refusal> {
    stop_server(state, view, &numbers.iter().map(|number| addr(*number)).collect::<Vec<_>>(), Strength::Stop)
}

const NOT_ENOUGH: &str =
    "Tenant(1) LS(1) has no enough valid paxos member after stop server, stop server not allowed";

#[test]
fn stop_server_in_the_stated_order() {
    let (mut state, view) = cluster(3, 0.0);
    assert_eq!(said(stop(&state, &view, &[9])).0, 4018);
    assert_eq!(said(stop(&state, &view, &[1, 2])).0, 4660);
    assert_eq!(stop(&state, &view, &[1]), Ok(true));
    state.server_mut(addr(1)).unwrap().stop_time = 1;
    assert_eq!(stop(&state, &view, &[1]), Ok(false));
    assert_eq!(said(stop(&state, &view, &[2])).0, 4660);
    state.zone_mut("z2").unwrap().status = ZoneStatus::Inactive;
    assert_eq!(said(stop(&state, &view, &[1])).0, 4660);
}

#[test]
fn a_majority_has_to_be_left() {
    for count in [1, 2] {
        let (state, view) = cluster(count, 0.0);
        assert_eq!(said(stop(&state, &view, &[1])), (4179, NOT_ENOUGH.to_owned()), "{count}");
    }
    let (mut state, mut view) = cluster(3, 0.0);
    view.live.remove(&addr(3));
    settle(&mut state, &view);
    assert_eq!(said(stop(&state, &view, &[1])), (4179, NOT_ENOUGH.to_owned()));
    // The one that is down anyway may be stopped.
    assert_eq!(stop(&state, &view, &[3]), Ok(true));
    view.live.remove(&addr(2));
    settle(&mut state, &view);
    let why = stop(&state, &view, &[1]).unwrap_err();
    assert_eq!(why.text, "Tenant(1) LS(1) has no leader, stop server not allowed");
    assert!(why.is_retried);
}

#[test]
fn logs_have_to_be_in_sync_unless_it_is_forced() {
    let (mut state, view) = cluster(3, 0.0);
    state.streams[0].lagging.insert(addr(2), 1);
    let why = stop(&state, &view, &[1]).unwrap_err();
    assert_eq!(why.text, "Tenant(1) LS(1) log not sync, stop server not allowed");
    assert!(why.is_retried);
    assert_eq!(stop_server(&state, &view, &[addr(1)], Strength::Force), Ok(true));
    assert_eq!(stop(&state, &view, &[2]), Ok(true));
}

#[test]
fn isolation_asks_for_the_region_only() {
    let (mut state, view) = cluster(2, 0.0);
    let isolate = |state: &State, number| stop_server(state, &view, &[addr(number)], Strength::Isolate);
    assert_eq!(isolate(&state, 1), Ok(true));
    state.server_mut(addr(1)).unwrap().stop_time = 1;
    assert_eq!(
        said(isolate(&state, 2)),
        (4179, "Stop all servers in primary region is not allowed".to_owned())
    );
    assert_eq!(said(stop_zone(&state, &view, "z2", Strength::Isolate)).0, 4179);
}

#[test]
fn zones() {
    let (mut state, view) = cluster(3, 0.0);
    assert_eq!(said(stop_zone(&state, &view, "z9", Strength::Stop)), (4018, "zone not exist".to_owned()));
    assert_eq!(stop_zone(&state, &view, "z1", Strength::Stop), Ok(true));
    state.zone_mut("z1").unwrap().status = ZoneStatus::Inactive;
    assert_eq!(stop_zone(&state, &view, "z1", Strength::Stop), Ok(false));
    assert_eq!(said(stop_zone(&state, &view, "z2", Strength::Stop)).0, 4660);
    assert_eq!(said(delete_zone(&state, &view, "z1")).0, 4668);
    state.servers.retain(|row| row.zone != "z1");
    assert_eq!(delete_zone(&state, &view, "z1"), Ok(()));
    let (state, view) = cluster(1, 0.0);
    let of_zone = said(stop_zone(&state, &view, "z1", Strength::Stop));
    assert_eq!(
        of_zone.1,
        "Tenant(1) LS(1) has no enough valid paxos member after stop zone, stop zone not allowed"
    );
}

#[test]
fn servers_come_and_go() {
    let (mut state, mut view) = cluster(3, 0.0);
    let root = addr(1);
    let add = |state: &State, view: &View, zone| add_server(state, view, root, addr(4), zone);
    assert_eq!(said(add(&state, &view, None)).0, 4012);
    let empty = Card { zone: "z3".to_owned(), version: "4.3.5.1".to_owned(), ..Card::default() };
    view.live.insert(addr(4), Card { has_data: true, ..empty.clone() });
    assert_eq!(
        said(add(&state, &view, None)),
        (4179, "add non-empty server \"10.0.0.4:2882\" not allowed".to_owned())
    );
    view.live.insert(addr(4), empty.clone());
    assert_eq!(said(add(&state, &view, Some("z1"))).0, 4631);
    assert_eq!(add(&state, &view, Some("z3")), Ok(()));
    state.zone_mut("z3").unwrap().status = ZoneStatus::Inactive;
    assert_eq!(said(add(&state, &view, None)).0, 4655);
    state.zone_mut("z3").unwrap().status = ZoneStatus::Active;
    view.live.insert(addr(4), Card { version: "4.4.0.0".to_owned(), ..empty });
    assert_eq!(said(add(&state, &view, None)).0, 1235);
    assert_eq!(said(delete_server(&state, &view, addr(9), None)).0, 4630);
    assert_eq!(said(delete_server(&state, &view, addr(1), Some("z2"))).0, 4631);
    assert_eq!(said(delete_server(&state, &view, addr(1), None)).0, 4624);
}

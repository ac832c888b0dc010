//! Restarts of a server, a zone and the cluster zone by zone: what halts them, what takes them on and back, and what becomes of
//! a server that was stopped in order to be started.

use std::time::Duration;

use super::failures::running;
use super::fakes::own;
use super::world::chance::Chance;
use super::world::{Effect, World, addr, simulate};
use crate::config::EngineKind;
use crate::engine::{DagState, Operator, Steer, Template};
use crate::error::Code;
use crate::flow::handshake;
use crate::flow::participant::LEASE;
use crate::flow::peers::Operation;
use crate::flow::roll::{Block, Hand, Isolation, Options, Params, Verb, template};
use crate::flow::start;
use crate::model::{AgentAddr, DagId, Finding, Scope, ServerAddr, StopHow, ZoneName};

/// Longer than every limit and the lease together.
const SOON: Duration = Duration::from_secs(300);

/// Well within a lease: nobody waits for its end.
const AT_ONCE: Duration = Duration::from_secs(5);

fn zone(n: u8) -> ZoneName {
    format!("zone{n}").parse().unwrap()
}

/// The server of an agent of a world, each in a zone of its own.
fn hand(agent: AgentAddr, zone: ZoneName) -> Hand {
    Hand { agent, server: ServerAddr::new(agent.ip, 2882), zone, id: None }
}

fn block(agent: AgentAddr, zone: ZoneName, isolation: Isolation) -> Block {
    Block { zones: vec![zone.clone()], hands: vec![hand(agent, zone)], isolation }
}

/// A restart, as the application makes its parameters.
fn restart_of(scope: Scope, blocks: Vec<Block>) -> Params {
    Params {
        verb: Verb::Restart,
        scope,
        cluster_name: "c".to_owned(),
        cluster_id: 1,
        blocks,
        options: Options {
            is_forced: false,
            freezes: false,
            is_service_only: false,
            how: StopHow::Graceful { grace_secs: 10 },
            at_most: 10,
            pause_secs: 0,
            server_deadline_secs: None,
        },
        former_cluster_status: "RUNNING".to_owned(),
        former_zone_status: None,
        is_whole: false,
        force_pass: Vec::new(),
        actor: "test".to_owned(),
        remarks: Vec::new(),
    }
}

pub(super) fn restart_of_server(agent: AgentAddr, zone: ZoneName) -> Params {
    restart_of(Scope::Server(vec![agent]), vec![block(agent, zone, Isolation::Servers)])
}

pub(super) fn restart_of_zone(agent: AgentAddr, zone: ZoneName) -> Params {
    restart_of(Scope::Zone(vec![zone.clone()]), vec![block(agent, zone, Isolation::Zone)])
}

/// Zone by zone.
pub(super) fn restart_of_all(world: &World) -> Params {
    let blocks = world.zones().into_iter().map(|(agent, zone)| block(agent, zone, Isolation::Zone));
    restart_of(Scope::Global, blocks.collect())
}

/// Everything at once, by force: a world takes no offence at zones that are down together.
fn restart_at_once(world: &World) -> Params {
    let (agents, zones): (Vec<_>, Vec<_>) = world.zones().into_iter().unzip();
    let hands = agents.into_iter().zip(zones.clone()).map(|(agent, zone)| hand(agent, zone)).collect();
    let block = Block { zones, hands, isolation: Isolation::None };
    let mut params = Params { is_whole: true, ..restart_of(Scope::Global, vec![block]) };
    params.options.how = StopHow::Kill;
    params
}

/// The server of the rig.
pub(super) fn restart_of_own() -> Template {
    let block = block(own(), zone(1), Isolation::None);
    let params = Params { is_whole: true, ..restart_of(Scope::Server(vec![own()]), vec![block]) };
    template(own(), &params)
}

fn start_of(agents: &[AgentAddr], force: Vec<String>) -> handshake::Params {
    handshake::Params {
        operation: Operation::Start,
        scope: Scope::Server(agents.to_vec()),
        agents: agents.to_vec(),
        force,
        actor: "test".to_owned(),
        is_emergency: false,
        is_zone_stop: false,
        remarks: Vec::new(),
    }
}

/// Three hosts whose servers run.
async fn serving() -> World {
    let world = World::new(3, Chance::calm()).await;
    let dag = world.submit(addr(1), start::template(addr(1), &start_of(&world.agents(), Vec::new()))).await;
    let dag = dag.unwrap();
    assert_eq!(world.rest(addr(1), dag).await.state, DagState::Succeeded);
    free(&world).await;
    world
}

async fn begin(world: &World, params: &Params) -> DagId {
    world.submit(addr(1), template(addr(1), params)).await.unwrap()
}

async fn free(world: &World) {
    world.until(SOON, "no lock is left", || !world.is_locked()).await;
}

/// How often each server was stopped.
fn stops(world: &World) -> Vec<usize> {
    let stops = |agent| world.host(agent).history().iter().filter(|is_start| !**is_start).count();
    world.agents().into_iter().map(stops).collect()
}

fn runs(world: &World, n: u8) -> bool {
    world.host(addr(n)).running().is_some()
}

/// Every server runs and is in service, and nobody holds anything.
async fn whole(world: &World) {
    free(world).await;
    for n in 1..=3 {
        assert!(runs(world, n), "server {n} is down");
    }
    assert_eq!(world.cluster.out_of_service(), []);
    world.chance.check();
}

#[test]
fn a_roll_restarts_every_server_once_and_one_zone_at_a_time() {
    simulate(async {
        let world = serving().await;
        for (params, expected) in [
            (restart_of_all(&world), [1, 1, 1]),
            (restart_of_zone(addr(2), zone(2)), [1, 2, 1]),
            (restart_of_server(addr(3), zone(3)), [1, 2, 2]),
            (restart_at_once(&world), [2, 3, 3]),
        ] {
            let dag = begin(&world, &params).await;
            let ended = world.rest(addr(1), dag).await;
            assert_eq!(ended.state, DagState::Succeeded, "{}", world.story(addr(1), dag).await);
            assert_eq!(stops(&world), expected);
            let is_free = world.is_so(AT_ONCE, || !world.is_locked()).await;
            assert!(is_free, "the end frees everything, not the lease");
            whole(&world).await;
        }
    });
}

/// A roll whose second server does not start: it has halted, says why, holds nothing, and the third was not touched.
async fn halted() -> (World, DagId) {
    let world = serving().await;
    world.host(addr(2)).fail_next(1);
    let dag = begin(&world, &restart_of_all(&world)).await;
    let ended = world.rest(addr(1), dag).await;
    let story = world.story(addr(1), dag).await;
    assert_eq!(ended.state, DagState::Failed, "{story}");
    assert!(story.contains(&format!("{}: it ended at once", addr(2))), "{story}");
    assert_eq!(stops(&world), [1, 1, 0]);
    assert!(runs(&world, 1) && !runs(&world, 2) && runs(&world, 3));
    free(&world).await;
    (world, dag)
}

/// Also after a day, when every part was released long ago.
#[test]
fn a_roll_whose_server_does_not_start_halts_and_goes_on_by_retry() {
    for later in [1, 24 * 3_600] {
        simulate(async move {
            let (world, dag) = halted().await;
            tokio::time::sleep(Duration::from_secs(later)).await;
            world.operate(addr(1), dag, Operator::Retry).await.unwrap();
            let ended = world.rest(addr(1), dag).await;
            assert_eq!(ended.state, DagState::Succeeded, "{}", world.story(addr(1), dag).await);
            assert_eq!(stops(&world), [1, 1, 1]);
            whole(&world).await;
        });
    }
}

#[test]
fn a_halted_roll_that_is_rolled_back_has_started_what_it_stopped() {
    simulate(async {
        let (world, dag) = halted().await;
        assert_ne!(world.cluster.out_of_service(), [], "its zone is stopped");
        world.operate(addr(1), dag, Operator::Rollback).await.unwrap();
        let ended = world.rest(addr(1), dag).await;
        assert_eq!(ended.state, DagState::RolledBack, "{}", world.story(addr(1), dag).await);
        assert_eq!(stops(&world), [1, 1, 0]);
        whole(&world).await;
    });
}

/// The coordinator dies when it would tell a stopped part to go on, and comes back within the lease, after it, or never.
#[test]
fn a_part_that_has_lost_its_coordinator_starts_by_itself_when_the_lease_ends() {
    let lease = LEASE.as_secs();
    for away in [Some(lease / 2), Some(lease + 5), Some(300), None] {
        simulate(async move {
            let world = serving().await;
            world.rule(addr(3), "go_on", Effect::KillSender, 1);
            let dag = begin(&world, &restart_of_zone(addr(3), zone(3))).await;
            world.until(SOON, "the coordinator dies", || world.agent(addr(1)).is_none()).await;
            assert!(!runs(&world, 3), "it waits to be told");
            let waits = away.unwrap_or(lease + 5).min(lease + 5);
            tokio::time::sleep(Duration::from_secs(waits.min(lease - 2))).await;
            assert!(!runs(&world, 3), "the lease has not ended");
            if let Some(left) = waits.checked_sub(lease - 2) {
                tokio::time::sleep(Duration::from_secs(left)).await;
                assert!(runs(&world, 3), "the lease has ended");
            }
            let Some(away) = away else {
                world.until(SOON, "it frees itself", || world.disk(addr(3)).holder().is_none()).await;
                return;
            };
            tokio::time::sleep(Duration::from_secs(away - waits)).await;
            world.start(addr(1)).await;
            let ended = world.rest(addr(1), dag).await;
            assert_eq!(ended.state, DagState::Succeeded, "{away:?}: {}", world.story(addr(1), dag).await);
            assert_eq!(stops(&world), [0, 0, 1], "{away:?}");
            whole(&world).await;
        });
    }
}

/// Everything at once, and one of them hangs while the others wait for it: cancelled, or failed because it was lost.
#[test]
fn parts_halfway_are_told_to_start_when_their_task_ends() {
    for is_cancelled in [true, false] {
        simulate(async move {
            let world = serving().await;
            world.host(addr(3)).hang(true);
            let dag = begin(&world, &restart_at_once(&world)).await;
            world.until(SOON, "two are stopped", || !runs(&world, 1) && !runs(&world, 2)).await;
            if is_cancelled {
                world.operate(addr(1), dag, Operator::Cancel).await.unwrap();
            } else {
                world.isolate(addr(3));
            }
            assert_eq!(world.rest(addr(1), dag).await.state, DagState::Failed);
            let both = world.is_so(AT_ONCE, || runs(&world, 1) && runs(&world, 2)).await;
            let story = world.story(addr(1), dag).await;
            assert!(both, "they wait for the lease: {story}");
            assert!(story.contains("it starts again"), "{story}");
            // The one that hangs stops in the end, and starts: told to, or at the end of its lease.
            world.host(addr(3)).hang(false);
            let is_back = || stops(&world) == [1, 1, 1] && runs(&world, 3);
            world.until(SOON, "it has stopped and started", is_back).await;
            world.mend();
            free(&world).await;
            world.chance.check();
        });
    }
}

/// While a roll pauses between two zones, somebody takes an agent of a later one by force, and its coordinator does not hear of
/// it: it finds that when it gets there, and does not take the agent back by itself.
#[test]
fn a_part_that_was_pushed_aside_is_not_taken_back_without_a_retry() {
    simulate(async {
        let world = serving().await;
        let mut params = restart_of_all(&world);
        params.options.pause_secs = 300;
        let dag = begin(&world, &params).await;
        world.until(SOON, "the first zone is done", || stops(&world)[0] == 1 && runs(&world, 1)).await;
        tokio::time::sleep(AT_ONCE).await;
        world.cut(addr(1), addr(3));
        let force = vec![world.reference(addr(1), dag)];
        let theirs = start::template(addr(3), &start_of(&[addr(3)], force));
        let theirs = world.submit(addr(3), theirs).await.unwrap();
        let done = world.rest(addr(3), theirs).await;
        assert_eq!(done.state, DagState::Succeeded, "{}", world.story(addr(3), theirs).await);
        world.mend();
        let ended = world.rest(addr(1), dag).await;
        let story = world.story(addr(1), dag).await;
        assert_eq!(ended.state, DagState::Failed, "{story}");
        assert!(story.contains("was pushed aside (forcePassDag)"), "{story}");
        assert_eq!(stops(&world), [1, 1, 0], "{story}");
        whole(&world).await;
        world.operate(addr(1), dag, Operator::Retry).await.unwrap();
        let ended = world.rest(addr(1), dag).await;
        assert_eq!(ended.state, DagState::Succeeded, "{}", world.story(addr(1), dag).await);
        assert_eq!(stops(&world), [1, 1, 1]);
        whole(&world).await;
    });
}

/// A wish that comes while the first zone is worked on takes effect before the second.
#[test]
fn a_roll_is_paused_or_aborted_between_two_zones() {
    for (wish, away) in [(Steer::Pause, 5), (Steer::Pause, 3_600), (Steer::Abort, 5)] {
        simulate(async move {
            let world = serving().await;
            world.host(addr(1)).hang(true);
            let dag = begin(&world, &restart_of_all(&world)).await;
            let is_stopping = || world.cluster.out_of_service().len() == 1;
            world.until(SOON, "the first is out of service", is_stopping).await;
            world.steer(addr(1), dag, wish).await.unwrap();
            world.host(addr(1)).hang(false);
            let held = world.rest(addr(1), dag).await;
            let story = world.story(addr(1), dag).await;
            assert_eq!(stops(&world), [1, 0, 0], "{wish:?}: {story}");
            // Paused or over: nobody is kept from anything for longer than a lease.
            whole(&world).await;
            let expected = if wish == Steer::Pause { DagState::Waiting } else { DagState::Failed };
            assert_eq!(held.state, expected, "{wish:?}: {story}");
            tokio::time::sleep(Duration::from_secs(away)).await;
            if wish == Steer::Pause {
                world.steer(addr(1), dag, Steer::Resume).await.unwrap();
            } else {
                world.operate(addr(1), dag, Operator::Retry).await.unwrap();
            }
            let ended = world.rest(addr(1), dag).await;
            let story = world.story(addr(1), dag).await;
            assert_eq!(ended.state, DagState::Succeeded, "{wish:?}, {away} s: {story}");
            assert_eq!(stops(&world), [1, 1, 1]);
            whole(&world).await;
        });
    }
}

/// Its agent is held for the roll, so nobody would start it for as long as the roll waits for it.
#[test]
fn a_roll_does_not_wait_for_a_server_that_it_keeps_down() {
    simulate(async {
        let world = serving().await;
        let mut params = restart_of_all(&world);
        params.options.pause_secs = 30;
        let dag = begin(&world, &params).await;
        world.until(SOON, "the first zone is done", || stops(&world)[0] == 1 && runs(&world, 1)).await;
        tokio::time::sleep(AT_ONCE).await;
        world.host(addr(1)).die();
        let is_free = world.is_so(Duration::from_secs(90), || !world.is_locked()).await;
        let story = world.story(addr(1), dag).await;
        assert!(is_free, "its agent is held, and nobody starts it: {story}");
        assert_eq!(world.rest(addr(1), dag).await.state, DagState::Failed, "{story}");
        assert!(story.contains("has ended, and nobody starts it while"), "{story}");
        assert_eq!(stops(&world), [2, 0, 0], "{story}");
        world.host(addr(1)).grow();
        world.operate(addr(1), dag, Operator::Retry).await.unwrap();
        let ended = world.rest(addr(1), dag).await;
        assert_eq!(ended.state, DagState::Succeeded, "{}", world.story(addr(1), dag).await);
        assert_eq!(stops(&world), [2, 1, 1]);
        whole(&world).await;
    });
}

/// Whether its zone is active is no business of a stop of one server; who could tell may be gone by then.
#[test]
fn a_stop_of_a_server_does_not_wait_for_others_that_are_down() {
    simulate(async {
        let world = serving().await;
        let params = Params { verb: Verb::Stop, ..restart_of_server(addr(3), zone(3)) };
        world.host(addr(3)).hang(true);
        let dag = begin(&world, &params).await;
        let is_stopping = || !world.cluster.out_of_service().is_empty();
        world.until(SOON, "it is out of service", is_stopping).await;
        tokio::time::sleep(AT_ONCE).await;
        world.host(addr(1)).die();
        world.host(addr(2)).die();
        world.host(addr(3)).hang(false);
        let is_free = world.is_so(Duration::from_secs(90), || !world.is_locked()).await;
        let story = world.story(addr(1), dag).await;
        assert!(is_free && !runs(&world, 3), "{story}");
        assert!(!story.contains("waiting for the zone to be stopped"), "{story}");
    });
}

#[test]
fn a_zone_whose_servers_are_needed_for_a_majority_is_not_touched() {
    simulate(async {
        let world = serving().await;
        world.host(addr(2)).die();
        let params = restart_of_zone(addr(3), zone(3));
        let dag = begin(&world, &params).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!((stops(&world)[2], world.cluster.out_of_service()), (0, Vec::new()));
        // What is missing comes back: it goes on by itself.
        world.host(addr(2)).grow();
        let ended = world.rest(addr(1), dag).await;
        let story = world.story(addr(1), dag).await;
        assert_eq!(ended.state, DagState::Succeeded, "{story}");
        assert!(story.contains("not yet: these log streams would not keep their majority"), "{story}");
        whole(&world).await;
    });
}

#[tokio::test]
async fn one_host_restarts_its_server() {
    let rig = running().await;
    assert_eq!(rig.ports.engine, EngineKind::Seekdb);
    let before = rig.host.running();
    let done = rig.run(restart_of_own()).await;
    assert_eq!(done.state, DagState::Succeeded, "{}", rig.lines(done.id).await);
    assert!(rig.host.running().is_some() && rig.host.running() != before);
    assert!(!rig.is_locked().await);
}

/// Each hand fails once. The server of a restart that was rolled back runs.
#[tokio::test]
async fn a_restart_of_one_host_that_fails_goes_on_by_retry_and_is_undone_by_rollback() {
    for hand in ["stop", "spawn", "ready"] {
        for operator in [Operator::Retry, Operator::Rollback] {
            let rig = running().await;
            rig.host.fail(hand);
            let failed = rig.run(restart_of_own()).await;
            assert_eq!(failed.state, DagState::Failed, "{hand}");
            assert!(!rig.is_locked().await, "{hand} leaves a lock");
            let failures: Vec<_> = failed.sub_tasks().filter_map(|(_, sub)| sub.failure.clone()).collect();
            assert!(!failures.is_empty(), "{hand}: the record does not say why");
            rig.host.heal();
            let ended = rig.operate(failed.id, operator).await;
            let expected =
                if operator == Operator::Retry { DagState::Succeeded } else { DagState::RolledBack };
            assert_eq!(ended.state, expected, "{hand}: {}", rig.lines(failed.id).await);
            assert!(rig.host.running().is_some(), "{hand}, {operator:?}");
            assert!(!rig.is_locked().await, "{hand}, {operator:?}");
        }
    }
}

#[tokio::test]
async fn what_would_not_start_again_is_not_stopped_for_a_restart() {
    let rig = running().await;
    let before = rig.host.running();
    rig.host.find_wrong(vec![Finding {
        check: "disk".to_owned(),
        is_fatal: true,
        problem: "the disk is wrong".to_owned(),
        remedy: "mend it".to_owned(),
    }]);
    let failed = rig.run(restart_of_own()).await;
    let failure = failed.sub_tasks().find_map(|(_, sub)| sub.failure.clone()).unwrap();
    assert_eq!((failed.state, failure.code.as_str()), (DagState::Failed, Code::PreflightFailed.name()));
    assert!(failure.text.contains("the disk is wrong"), "{}", failure.text);
    assert_eq!(rig.host.running(), before);
    assert!(!rig.is_locked().await);
}

/// The agent ends in every hand, and goes on when it is back: the server is stopped once and started once.
#[tokio::test]
async fn an_agent_that_ends_in_a_restart_goes_on_when_it_is_back() {
    for hand in ["stop", "spawn", "ready"] {
        let rig = running().await;
        rig.host.hang(hand);
        let dag = rig.submit(restart_of_own()).await;
        rig.host.until_it_hangs().await;
        rig.host.heal();
        let rig = rig.restarted().await;
        let ended = rig.rest(dag).await;
        assert_eq!(ended.state, DagState::Succeeded, "{hand}: {}", rig.lines(dag).await);
        assert_eq!((rig.host.times("stop"), rig.host.times("spawn")), (1, 2), "{hand}");
        assert!(rig.host.running().is_some() && !rig.is_locked().await, "{hand}");
    }
}

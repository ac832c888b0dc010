//! A restart and a stop of one server, on one host: whatever comes between, a rollback leaves it running.

use super::failures::running;
use super::fakes::{Rig, own};
use crate::cluster::ClusterView;
use crate::cluster::tests::view;
use crate::engine::{DagState, Operator, Template};
use crate::error::Code;
use crate::flow::roll::{self, Block, Hand, Isolation, Options, Params, Verb};
use crate::model::{Scope, ServerAddr, StopHow};

fn order(verb: Verb) -> Template {
    let zone = "zone1".parse().unwrap();
    let server = ServerAddr::new([10, 0, 0, 1].into(), 2882);
    let hand = Hand { agent: own(), server, zone, id: Some(1) };
    let block = Block { zones: vec![hand.zone.clone()], hands: vec![hand], isolation: Isolation::None };
    let options = Options {
        is_forced: false,
        freezes: false,
        is_service_only: false,
        how: StopHow::Graceful { grace_secs: 5 },
        at_most: 1,
        pause_secs: 0,
        server_deadline_secs: Some(20),
    };
    let params = Params {
        verb,
        scope: Scope::Server(vec![own()]),
        cluster_name: "c".to_owned(),
        cluster_id: 1,
        blocks: vec![block],
        options,
        former_cluster_status: "RUNNING".to_owned(),
        former_zone_status: Some("RUNNING".to_owned()),
        is_whole: true,
        force_pass: Vec::new(),
        actor: "test".to_owned(),
        remarks: Vec::new(),
    };
    roll::template(own(), &params)
}

async fn rolled_back(rig: &Rig, dag: crate::model::DagId) {
    let rest = rig.operate(dag, Operator::Rollback).await;
    assert_eq!(rest.state, DagState::RolledBack, "{}", rig.lines(dag).await);
    assert!(rig.host.running().is_some(), "{}", rig.lines(dag).await);
    assert!(!rig.is_locked().await);
}

/// The stop fails, and the process ends all the same; the RETRY finds it ended, and the start fails.
#[tokio::test]
async fn a_rollback_starts_what_an_earlier_execution_has_stopped() {
    let rig = running().await;
    rig.host.fail("stop");
    let failed = rig.run(order(Verb::Restart)).await;
    assert_eq!(failed.state, DagState::Failed);
    rig.host.heal();
    rig.host.die();
    rig.host.fail("spawn");
    let again = rig.operate(failed.id, Operator::Retry).await;
    assert_eq!(again.state, DagState::Failed, "{}", rig.lines(failed.id).await);
    assert!(rig.host.running().is_none());
    rig.host.heal();
    rolled_back(&rig, failed.id).await;
}

/// What was signalled ends some time, whoever cancels: a rollback that took it for one that runs would leave it down.
#[tokio::test]
async fn a_stop_that_is_cancelled_is_seen_through_before_it_is_taken_back() {
    let rig = running().await;
    let before = rig.host.running();
    rig.host.hang("stop");
    let dag = rig.submit(order(Verb::Stop)).await;
    rig.host.until_it_hangs().await;
    let cancelled = rig.operate(dag, Operator::Cancel).await;
    assert_eq!(cancelled.state, DagState::Failed, "{}", rig.lines(dag).await);
    rig.host.release();
    rolled_back(&rig, dag).await;
    assert_ne!(rig.host.running(), before, "{}", rig.lines(dag).await);
}

/// What cannot be judged is no reason to go on.
#[test]
fn a_block_that_is_not_known_is_not_taken_away() {
    let server = |last: u8| ServerAddr::new([10, 0, 0, last].into(), 2882);
    let block = |zone: &str, isolation| {
        let hand = Hand { agent: own(), server: server(3), zone: zone.parse().unwrap(), id: None };
        Block { zones: vec![hand.zone.clone()], hands: vec![hand], isolation }
    };
    let code = |view: &ClusterView, block: &Block| roll::dangers(view, block, true).map(|danger| danger.code);
    assert_eq!(code(&view(), &block("z3", Isolation::Zone)), None);
    assert_eq!(code(&view(), &block("z9", Isolation::Zone)), Some(Code::ServerNotExist), "another zone");
    let mut blind = view();
    blind.replicas.clear();
    blind.tenants.clear();
    assert_eq!(code(&blind, &block("z3", Isolation::Zone)), Some(Code::ForceStopRequired));
    let mut gone = view();
    gone.servers.retain(|row| row.server != server(3));
    gone.replicas.iter_mut().for_each(|row| row.members.retain(|member| *member != server(3)));
    assert_eq!(code(&gone, &block("z3", Isolation::Zone)), Some(Code::ServerNotExist), "not listed");
    // The second has no agent and lies in the zone that is stopped.
    let mut beside = view();
    beside.servers[1].zone = "z3".parse().unwrap();
    assert_eq!(code(&beside, &block("z3", Isolation::Zone)), Some(Code::ReplicaInvalid));
    assert_eq!(code(&beside, &block("z3", Isolation::Servers)), None);
}

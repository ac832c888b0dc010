//! Each hand fails once: nothing stays locked, the record says why, and the operation can be had again.

use super::fakes::Rig;
use super::shapes::{
    GRACEFUL, KILL, cluster_template, init_template, join_template, observer_template, start_template,
    stop_template,
};
use crate::engine::{DagState, Operator, Template};
use crate::model::{Finding, Identity};

/// A MASTER with everything that an init needs.
pub(crate) async fn configured() -> Rig {
    let rig = Rig::new();
    for template in [join_template(), observer_template(), cluster_template("pw")] {
        assert_eq!(rig.run(template).await.state, DagState::Succeeded);
    }
    rig
}

/// A CLUSTER AGENT whose database runs.
pub(crate) async fn running() -> Rig {
    let rig = configured().await;
    assert_eq!(rig.run(init_template()).await.state, DagState::Succeeded);
    rig
}

/// A CLUSTER AGENT whose database is down.
pub(crate) async fn stopped() -> Rig {
    let rig = running().await;
    assert_eq!(rig.run(stop_template(KILL)).await.state, DagState::Succeeded);
    rig
}

#[tokio::test]
async fn the_whole_life_without_failures() {
    let rig = running().await;
    assert_eq!(rig.ledger.state().identity, Identity::ClusterAgent);
    assert_eq!(rig.host.password(), "pw");
    let stop = rig.run(stop_template(GRACEFUL)).await;
    assert_eq!(stop.state, DagState::Succeeded);
    assert!(rig.host.running().is_none() && rig.host.times("minor_freeze") == 1);
    let start = rig.run(start_template()).await;
    assert_eq!(start.state, DagState::Succeeded);
    assert_eq!((rig.host.times("spawn"), rig.is_locked().await), (2, false));
    // Already done is success, and says so.
    let again = rig.run(start_template()).await;
    assert_eq!(again.state, DagState::Succeeded);
    assert!(rig.lines(again.id).await.contains("already running"));
    assert_eq!(rig.host.times("spawn"), 2);
}

/// The operation fails, holds nothing, says why; healed, a new one succeeds.
async fn fails_and_can_be_had_again(rig: &Rig, hand: &'static str, template: impl Fn() -> Template) {
    rig.host.fail(hand);
    let failed = rig.run(template()).await;
    assert_eq!(failed.state, DagState::Failed, "{hand}");
    assert!(!rig.is_locked().await, "{hand} leaves a lock");
    let record = rig.lines(failed.id).await;
    let failures: Vec<_> = failed.sub_tasks().filter_map(|(_, sub)| sub.failure.clone()).collect();
    let is_told = record.contains(hand) || failures.iter().any(|failure| failure.text.contains(hand));
    assert!(is_told, "{hand}: {record} {failures:?}");
    rig.host.heal();
    assert_eq!(rig.run(template()).await.state, DagState::Succeeded, "{hand}");
    assert!(!rig.is_locked().await);
}

#[tokio::test]
async fn a_start_that_fails_holds_nothing() {
    for hand in ["find", "spawn", "ready"] {
        let rig = stopped().await;
        fails_and_can_be_had_again(&rig, hand, start_template).await;
        assert!(rig.host.running().is_some());
    }
}

#[tokio::test]
async fn a_stop_that_fails_holds_nothing() {
    for hand in ["find", "stop", "minor_freeze"] {
        let rig = running().await;
        fails_and_can_be_had_again(&rig, hand, || stop_template(GRACEFUL)).await;
        assert!(rig.host.running().is_none());
    }
}

/// An init keeps what it has reached: RETRY goes on, ROLLBACK takes everything back, and then it can be made anew.
#[tokio::test]
async fn an_init_that_fails_goes_on_by_retry() {
    for hand in ["prepare_dirs", "spawn", "ready", "set_root_password"] {
        let rig = configured().await;
        rig.host.fail(hand);
        let failed = rig.run(init_template()).await;
        assert_eq!(failed.state, DagState::Failed, "{hand}");
        rig.host.heal();
        let retried = rig.operate(failed.id, Operator::Retry).await;
        assert_eq!(retried.state, DagState::Succeeded, "{hand}: {}", rig.lines(failed.id).await);
        assert_eq!((rig.host.times("prepare_dirs"), rig.host.password().as_str()), (1, "pw"), "{hand}");
        assert_eq!(rig.ledger.state().identity, Identity::ClusterAgent);
        assert!(!rig.is_locked().await);
    }
}

#[tokio::test]
async fn an_init_that_fails_is_taken_back_by_rollback() {
    for hand in ["spawn", "ready", "set_root_password"] {
        let rig = configured().await;
        rig.host.fail(hand);
        let failed = rig.run(init_template()).await;
        rig.host.heal();
        let undone = rig.operate(failed.id, Operator::Rollback).await;
        assert_eq!(undone.state, DagState::RolledBack, "{hand}: {}", rig.lines(failed.id).await);
        assert!(rig.host.running().is_none() && !rig.host.is_initialised(), "{hand}");
        assert_eq!((rig.host.times("remove_dirs"), rig.host.password().as_str()), (1, ""), "{hand}");
        assert_eq!(rig.ledger.state().identity, Identity::Master);
        assert!(!rig.is_locked().await);
        assert_eq!(rig.run(init_template()).await.state, DagState::Succeeded, "{hand}");
    }
}

/// Everything that is wrong is told at once, and nothing is started.
#[tokio::test]
async fn what_a_start_would_fail_on_is_told_whole_and_first() {
    let rig = stopped().await;
    let wrong = |check: &str| Finding {
        check: check.to_owned(),
        is_fatal: true,
        problem: format!("{check} is wrong"),
        remedy: "mend it".to_owned(),
    };
    rig.host.find_wrong(vec![wrong("port"), wrong("disk")]);
    let spawns = rig.host.times("spawn");
    let failed = rig.run(start_template()).await;
    let failure = failed.sub_tasks().find_map(|(_, sub)| sub.failure.clone()).unwrap();
    assert!(
        failure.text.contains("port is wrong") && failure.text.contains("disk is wrong"),
        "{}",
        failure.text
    );
    assert_eq!(rig.host.times("spawn"), spawns);
    // What would not start again is warned of before it is stopped.
    rig.host.find_wrong(Vec::new());
    rig.run(start_template()).await;
    rig.host.find_wrong(vec![wrong("binary")]);
    let stop = rig.run(stop_template(KILL)).await;
    assert_eq!(stop.state, DagState::Succeeded);
    assert!(rig.lines(stop.id).await.contains("would not start again: binary"));
}

/// A cancel ends what waits, at once and with the lock.
#[tokio::test]
async fn a_cancel_frees_the_lock_wherever_it_comes() {
    for (hand, is_start) in [("spawn", true), ("ready", true), ("minor_freeze", false), ("stop", false)] {
        let rig = if is_start { stopped().await } else { running().await };
        rig.host.hang(hand);
        let dag = rig.submit(if is_start { start_template() } else { stop_template(GRACEFUL) }).await;
        rig.host.until_it_hangs().await;
        assert!(rig.is_locked().await);
        let cancelled = rig.operate(dag, Operator::Cancel).await;
        assert_eq!(cancelled.state, DagState::Failed, "{hand}");
        assert!(!rig.is_locked().await, "{hand}: {}", rig.lines(dag).await);
        rig.host.heal();
        let other = if is_start { start_template() } else { stop_template(GRACEFUL) };
        assert_eq!(rig.run(other).await.state, DagState::Succeeded, "{hand}");
    }
}

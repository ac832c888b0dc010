//! The agent ends in every step and comes back; requests come twice; somebody is in the way.

use super::failures::{configured, running, stopped};
use super::fakes::own;
use super::shapes::{GRACEFUL, KILL, init_template, params, start_template, stop_template};
use crate::engine::port::Archive as _;
use crate::engine::{DagState, Operator};
use crate::error::Code;
use crate::flow::peers::{Operation, PartKey, Prepare, Progressed};
use crate::flow::stop;
use crate::model::{EventId, GenericId, Scope};

/// Each step is interrupted once while its hand hangs; nothing is done twice.
#[tokio::test]
async fn a_restart_in_any_step_leads_to_the_same_end() {
    for (hand, is_start) in [("spawn", true), ("ready", true), ("minor_freeze", false), ("stop", false)] {
        let rig = if is_start { stopped().await } else { running().await };
        let spawns = rig.host.times("spawn");
        rig.host.hang(hand);
        let dag = rig.submit(if is_start { start_template() } else { stop_template(GRACEFUL) }).await;
        rig.host.until_it_hangs().await;
        rig.host.heal();
        let rig = rig.restarted().await;
        let ended = rig.rest(dag).await;
        assert_eq!(ended.state, DagState::Succeeded, "{hand}: {}", rig.lines(dag).await);
        assert_eq!(rig.host.running().is_some(), is_start, "{hand}");
        assert_eq!(rig.host.times("spawn"), spawns + usize::from(is_start), "{hand}");
        assert!(!rig.is_locked().await, "{hand}");
        assert!(rig.lines(dag).await.contains("the agent ended while this step ran"), "{hand}");
    }
}

/// Killed in the middle of a spawn, the agent comes back while the launcher still runs: that is not the database.
#[tokio::test]
async fn a_launcher_is_followed_to_the_database() {
    let rig = stopped().await;
    rig.host.launch();
    let launcher = rig.host.running().unwrap();
    let start = rig.run(start_template()).await;
    assert_eq!(start.state, DagState::Succeeded, "{}", rig.lines(start.id).await);
    let database = rig.host.running().unwrap();
    assert_ne!(database, launcher);
    assert_eq!(rig.ledger.state().server.process, Some(database));

    let rig = stopped().await;
    rig.host.launch();
    let stop = rig.run(stop_template(KILL)).await;
    assert_eq!(stop.state, DagState::Succeeded, "{}", rig.lines(stop.id).await);
    assert!(rig.host.running().is_none());
}

/// The engine goes by the port it has saved, which need not be the one we know of: we speak to where it listens.
#[tokio::test]
async fn sql_goes_to_the_port_that_the_process_listens_on() {
    let rig = stopped().await;
    let known = rig.ledger.state().server.sql_port.unwrap();
    rig.host.listen_on(known + 1);
    rig.run(start_template()).await;
    assert_eq!(rig.ledger.state().server.sql_port, Some(known + 1));
}

#[tokio::test]
async fn a_restart_in_any_step_of_an_init_leads_to_the_same_end() {
    for hand in ["prepare_dirs", "spawn", "ready", "set_root_password"] {
        let rig = configured().await;
        rig.host.hang(hand);
        let dag = rig.submit(init_template()).await;
        rig.host.until_it_hangs().await;
        rig.host.heal();
        let rig = rig.restarted().await;
        assert_eq!(rig.rest(dag).await.state, DagState::Succeeded, "{hand}: {}", rig.lines(dag).await);
        let times = ["prepare_dirs", "spawn", "set_root_password"].map(|hand| rig.host.times(hand));
        assert_eq!(times, [1, 1, 1], "{hand}");
    }
}

pub(super) fn prepare(main: &str, round: u32) -> Prepare {
    Prepare {
        key: PartKey::of(main),
        main_name: "Start OB".to_owned(),
        round,
        operation: Operation::Start,
        force: Vec::new(),
        actor: "test".to_owned(),
    }
}

/// W18, W36: one part per main DAG, and it moves only when its own main DAG says so.
#[tokio::test]
async fn w18_w36_a_part_is_prepared_once_and_goes_only_for_its_own() {
    let rig = stopped().await;
    let peers = &rig.ports.peers;
    let mains = [GenericId::agent(own(), 900).to_string(), GenericId::agent(own(), 901).to_string()];
    let first = peers.prepare(own(), &prepare(&mains[0], 0)).await.unwrap();
    let again = peers.prepare(own(), &prepare(&mains[0], 0)).await.unwrap();
    assert_eq!(first, again);
    let refused = peers.prepare(own(), &prepare(&mains[1], 0)).await.unwrap_err();
    assert_eq!(refused.code, Code::UnderMaintenanceDag);
    assert!(refused.text().contains(&mains[0]), "{refused}");
    assert_eq!(peers.go(own(), &PartKey::of(&mains[1])).await.unwrap_err().code, Code::TaskNotFound);
    let view =
        peers.watch(own(), &PartKey::of(&mains[0]), EventId(0), std::time::Duration::ZERO).await.unwrap();
    assert!(matches!(view.progressed, Progressed::Preparing | Progressed::Prepared), "{view:?}");
    assert_eq!(rig.host.times("spawn"), 1, "only the init has spawned");
    peers.go(own(), &PartKey::of(&mains[0])).await.unwrap();
    peers.go(own(), &PartKey::of(&mains[0])).await.unwrap();
    let mut since = EventId(0);
    loop {
        let view = peers
            .watch(own(), &PartKey::of(&mains[0]), since, std::time::Duration::from_secs(20))
            .await
            .unwrap();
        since = view.version;
        if view.progressed == Progressed::Done {
            break;
        }
        assert_ne!(view.progressed, Progressed::Failed, "{view:?}");
    }
    assert!(rig.is_locked().await, "the end frees it, not before");
    assert!(peers.end(own(), &PartKey::of(&mains[0]), "test").await.unwrap());
    assert!(peers.end(own(), &PartKey::of(&mains[0]), "test").await.unwrap(), "ending twice is harmless");
    assert!(!peers.end(own(), &PartKey::of(&mains[1]), "test").await.unwrap());
    assert!(!rig.is_locked().await);
}

/// W20, W43: who is in the way is named; named, it is cancelled and passed, and who did it is on record.
#[tokio::test]
async fn w20_w43_a_holder_is_pushed_aside_only_when_it_is_named() {
    let rig = running().await;
    rig.host.hang("minor_freeze");
    let holder = rig.submit(stop_template(GRACEFUL)).await;
    rig.host.until_it_hangs().await;
    let holder_id = GenericId::agent(own(), holder.0).to_string();

    let refused = rig.run(stop_template(KILL)).await;
    assert_eq!(refused.state, DagState::Failed);
    assert!(rig.lines(refused.id).await.contains(&holder_id) || format!("{refused:?}").contains(&holder_id));
    assert!(rig.host.running().is_some());

    let mut named = params(KILL, Scope::Global);
    named.force = vec![holder_id.clone()];
    let done = rig.run(stop::template(own(), &named)).await;
    assert_eq!(done.state, DagState::Succeeded, "{}", rig.lines(done.id).await);
    assert!(rig.host.running().is_none() && !rig.is_locked().await);
    assert_eq!(rig.engine.load(holder).await.unwrap().state, DagState::Failed);
    let trail = rig.store.records(None, EventId(0), 10_000).await.unwrap();
    let audit = trail.iter().find(|record| record.kind == "audit").unwrap();
    assert_eq!(audit.actor, "test");
    assert!(audit.body.to_string().contains(&holder_id), "{:?}", audit.body);
}

/// A cancel that comes twice is granted twice and done once.
#[tokio::test]
async fn a_cancel_may_come_twice() {
    let rig = running().await;
    rig.host.hang("stop");
    let dag = rig.submit(stop_template(KILL)).await;
    rig.host.until_it_hangs().await;
    rig.engine.operate(dag, Operator::Cancel, "test").await.unwrap();
    match rig.engine.operate(dag, Operator::Cancel, "test").await {
        Ok(()) => {}
        Err(error) => assert_eq!(error.code, Code::CancelFinished),
    }
    assert_eq!(rig.rest(dag).await.state, DagState::Failed);
    assert!(!rig.is_locked().await);
}

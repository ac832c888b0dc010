//! The watcher: unexpected ends, the restart policy, a password that is refused.

use std::time::Duration;

use super::{Agent, local, remote};
use crate::app::health::{Health, Sql};
use crate::cluster::{Change, LastExit};
use crate::config::{Engine, RestartPolicy};
use crate::engine::port::Archive as _;
use crate::error::Code;
use crate::flow::tests::running;
use crate::model::{EventId, Password};

fn on_failure() -> Engine {
    Engine { restart: RestartPolicy::OnFailure, restart_backoff_secs: 1, ..Engine::default() }
}

async fn kinds(agent: &Agent) -> Vec<String> {
    let records = agent.rig.store.records(None, EventId(0), 10_000).await.unwrap();
    records.into_iter().map(|record| record.kind).collect()
}

#[tokio::test]
async fn an_end_that_nobody_asked_for_is_recorded_and_by_default_nothing_follows() {
    let agent = Agent::on(running().await, Engine::default());
    agent.until(Health::is_serving).await;
    agent.rig.host.die();
    agent.until(|health| health.process.is_none()).await;
    let mut ledger = agent.rig.ledger.watch();
    let exit =
        ledger.wait_for(|state| state.server.last_exit.is_some()).await.unwrap().server.last_exit.clone();
    assert!(exit.unwrap().is_unexpected);
    // The record comes after the ledger; a question is answered after both.
    agent.app.status(Duration::from_secs(10)).await.unwrap();
    assert!(kinds(&agent).await.contains(&"server_exited".to_owned()));
    assert_eq!(agent.watch.now().policy, None);
    assert_eq!(agent.rig.host.times("spawn"), 1);
}

/// Facts decide whether a cluster is down. A server that has ended is not running, though the watcher has not heard of it yet.
#[tokio::test]
async fn facts_know_of_an_end_before_the_watcher_does() {
    let agent = Agent::on(running().await, Engine::default());
    agent.until(Health::is_serving).await;
    agent.rig.host.die();
    let facts = agent.app.own_facts().await.unwrap();
    assert_eq!((facts.process, facts.ob_state), (None, 0));
}

/// Questions about the status come in between, and do not put the restart off.
#[tokio::test]
async fn the_policy_restarts_also_while_everybody_asks() {
    let agent = Agent::on(running().await, on_failure());
    agent.until(Health::is_serving).await;
    agent.rig.host.die();
    agent.until(|health| health.policy.is_some()).await;
    let asking = async {
        loop {
            agent.app.status(Duration::from_secs(1)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = asking => {}
        _ = agent.until(Health::is_serving) => {}
    }
    assert_eq!(agent.rig.host.times("spawn"), 2);
}

/// The kernel counts a start from the boot; as wall time it moves with the clock of the host. It is the same life all the same.
#[tokio::test]
async fn a_clock_that_was_set_while_no_agent_ran_ends_no_life() {
    let rig = running().await;
    rig.host.set_clock();
    let agent = Agent::on(rig, on_failure());
    agent.until(Health::is_serving).await;
    assert!(!kinds(&agent).await.contains(&"server_exited".to_owned()));
    assert_eq!(agent.rig.ledger.state().server.last_exit, None);
}

/// The end is on record, and the agent that was about to restart it has ended: the next one does.
#[tokio::test]
async fn the_policy_is_taken_up_by_the_next_agent() {
    let rig = running().await;
    let pid = rig.host.running().unwrap().pid;
    rig.host.die();
    let at = crate::clock::system().now();
    let exit = LastExit { pid, exit: crate::model::Exit::Signal(9), at, is_unexpected: true };
    rig.ledger.change(Change::ServerExited(exit), "watcher").await.unwrap();
    let agent = Agent::on(rig, on_failure());
    agent.until(Health::is_serving).await;
    assert_eq!(agent.rig.host.times("spawn"), 2);
}

#[tokio::test]
async fn what_was_stopped_on_purpose_stays_down() {
    let agent = Agent::on(running().await, on_failure());
    agent.until(Health::is_serving).await;
    let stop = crate::app::OperateRequest {
        scope: crate::model::Scope::Global,
        force: Vec::new(),
        wish: crate::app::Wish::Stop(crate::app::StopMode { is_forced: true, terminates: false }),
        plan_hash: None,
    };
    let dag = agent.app.operate(stop, &remote(), crate::app::Request::default()).await.unwrap();
    agent.rig.rest(dag.snapshot.id).await;
    let health = agent.until(|health| health.process.is_none()).await;
    assert_eq!(health.policy, None);
    assert!(!kinds(&agent).await.contains(&"server_exited".to_owned()));
}

/// W13, P4: a state, seen by the slow probe; the known password opens nothing any more; one call cures it.
#[tokio::test]
async fn w13_a_refused_password_is_a_state_and_one_call_cures_it() {
    let agent = Agent::on(running().await, Engine::default());
    agent.until(Health::is_serving).await;
    let (old, new) = (Password::new("pw"), Password::new("new"));
    assert!(agent.app.check_root(&old).await);
    agent.rig.host.change_password("new");
    // Something changes, so the watcher looks anew.
    agent.rig.ledger.change(Change::ServerVersion("4.3.5.4".to_owned()), "test").await.unwrap();
    agent.until(|health| health.sql == Sql::Refused).await;
    assert!(!agent.app.check_root(&old).await);
    let wrong = agent.app.give_root_password(Password::new("x"), &local()).await.unwrap_err();
    assert_eq!(wrong.code, Code::PasswordIncorrect);
    agent.app.give_root_password(new.clone(), &local()).await.unwrap();
    agent.until(Health::is_serving).await;
    assert!(agent.app.check_root(&new).await);
    assert!(!agent.app.check_root(&old).await);
    let kinds = kinds(&agent).await;
    assert!(
        kinds.contains(&"credential_refused".to_owned()) && kinds.contains(&"credential_accepted".to_owned())
    );
}

/// While the database is down nobody can tell whether a password is right; the known one opens, others do not.
#[tokio::test]
async fn while_it_is_down_only_the_known_password_opens() {
    let agent = Agent::on(running().await, Engine::default());
    agent.until(Health::is_serving).await;
    agent.rig.host.die();
    agent.until(|health| health.process.is_none()).await;
    assert!(agent.app.check_root(&Password::new("pw")).await);
    assert!(!agent.app.check_root(&Password::new("other")).await);
    let untold = agent.app.give_root_password(Password::new("other"), &local()).await.unwrap_err();
    assert_eq!(untold.code, Code::DatabaseUseless);
}

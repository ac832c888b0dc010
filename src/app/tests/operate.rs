//! Start and stop: what is refused, with which code, before anything is made; and what is made once.

use super::{Agent, local, remote};
use crate::app::{Caller, OperateRequest, Request, StopMode, Wish};
use crate::config;
use crate::engine::port::{Archive as _, DagFilter, RequestKey};
use crate::error::{Code, Result};
use crate::flow::tests::fakes::{Rig, own};
use crate::flow::tests::{configured, running, stopped};
use crate::model::{AgentAddr, Scope};

const FORCE: StopMode = StopMode { is_forced: true, terminates: false };
const TERMINATE: StopMode = StopMode { is_forced: false, terminates: true };

fn agent(rig: Rig) -> Agent {
    Agent::on(rig, config::Engine::default())
}

fn wanted(scope: Scope, stop: Option<StopMode>) -> OperateRequest {
    let wish = stop.map_or(Wish::Start, Wish::Stop);
    OperateRequest { scope, force: Vec::new(), wish, plan_hash: None }
}

async fn code(agent: &Agent, wanted: OperateRequest, caller: &Caller) -> Result<String, Code> {
    let made = agent.app.operate(wanted, caller, Request::default()).await;
    made.map(|made| made.snapshot.definition.name.clone()).map_err(|error| error.code)
}

/// Tasks in the store.
async fn count(agent: &Agent) -> usize {
    agent.rig.store.dags(DagFilter::ALL, false).await.unwrap().len()
}

fn stranger() -> AgentAddr {
    "10.9.9.9:2886".parse().unwrap()
}

#[tokio::test]
async fn each_wrong_wish_has_its_code_and_makes_nothing() {
    let zone = |name: &str| Scope::Zone(vec![name.parse().unwrap()]);
    let both = StopMode { is_forced: true, terminates: true };
    let fresh = agent(Rig::new());
    assert_eq!(code(&fresh, wanted(Scope::Global, None), &remote()).await, Err(Code::NotInitialized));
    assert_eq!(
        code(&fresh, wanted(Scope::Global, Some(FORCE)), &remote()).await,
        Err(Code::IdentityNotSupported)
    );
    let master = agent(configured().await);
    assert_eq!(code(&master, wanted(Scope::Global, None), &remote()).await, Err(Code::NotInitialized));
    let agent = agent(running().await);
    agent.until(crate::app::health::Health::is_serving).await;
    let table = [
        (wanted(zone("nowhere"), None), Code::ZoneNotExist),
        (wanted(Scope::Server(vec![stranger()]), None), Code::AgentNotExist),
        (wanted(Scope::Server(vec![own(), stranger()]), Some(FORCE)), Code::AgentNotExist),
        (wanted(Scope::Global, Some(both)), Code::StopModeConflict),
        (wanted(Scope::Global, Some(StopMode::default())), Code::StopModeRequired),
    ];
    let before = count(&agent).await;
    for (wish, wrong) in table {
        assert_eq!(code(&agent, wish.clone(), &remote()).await, Err(wrong), "{wish:?}");
    }
    assert_eq!(count(&agent).await, before);
    assert_eq!(code(&agent, wanted(zone("zone1"), None), &remote()).await.as_deref(), Ok("Start OB"));
}

/// A graceful stop freezes first, and that needs SQL; force does not.
#[tokio::test]
async fn a_stop_that_needs_sql_is_refused_while_there_is_none() {
    let agent = agent(running().await);
    agent.rig.host.change_password("changed elsewhere");
    agent.until(|health| health.sql == crate::app::health::Sql::Refused).await;
    assert_eq!(
        code(&agent, wanted(Scope::Global, Some(TERMINATE)), &remote()).await,
        Err(Code::ForceStopRequired)
    );
    assert_eq!(code(&agent, wanted(Scope::Global, Some(FORCE)), &remote()).await.as_deref(), Ok("Stop OB"));
}

/// `lifecycle.md` §5.7: before there is a cluster, its own server alone, by the socket alone, a stop only with force.
#[tokio::test]
async fn an_emergency_is_local_and_alone() {
    let rig = stopped().await;
    rig.ledger.change(crate::cluster::Change::BecameSingle, "test").await.unwrap();
    let agent = agent(rig);
    let own = || Scope::Server(vec![own()]);
    assert!(code(&agent, wanted(own(), None), &remote()).await.is_err());
    assert!(code(&agent, wanted(Scope::Global, None), &local()).await.is_err());
    assert_eq!(code(&agent, wanted(own(), None), &local()).await.as_deref(), Ok("Start local observer"));
    agent.until(|health| health.process.is_some()).await;
    let dags = agent.rig.store.dags(DagFilter::ALL, false).await.unwrap();
    agent.rig.rest(dags.last().unwrap().snapshot.id).await;
    assert!(code(&agent, wanted(own(), Some(TERMINATE)), &local()).await.is_err());
    assert_eq!(
        code(&agent, wanted(own(), Some(FORCE)), &local()).await.as_deref(),
        Ok("Stop local observer")
    );
}

/// The same key finds the same task, also while that task holds the lock, and also when it has changed what is allowed.
#[tokio::test]
async fn the_same_key_finds_its_task_before_any_check() {
    let agent = agent(stopped().await);
    agent.rig.host.hang("spawn");
    let keyed = |fingerprint: &str| Request {
        key: Some(RequestKey { key: "k".to_owned(), fingerprint: fingerprint.to_owned() }),
    };
    let first = agent.app.operate(wanted(Scope::Global, None), &remote(), keyed("a")).await.unwrap();
    agent.rig.host.until_it_hangs().await;
    let again = agent.app.operate(wanted(Scope::Global, None), &remote(), keyed("a")).await.unwrap();
    assert_eq!(again.snapshot.id, first.snapshot.id);
    let other = agent.app.operate(wanted(Scope::Global, None), &remote(), keyed("b")).await.unwrap_err();
    assert_eq!(other.code, Code::IllegalArgument);
    let without = code(&agent, wanted(Scope::Global, None), &remote()).await;
    assert_eq!(without, Err(Code::UnderMaintenanceDag));
}

#[tokio::test]
async fn a_plan_tells_and_changes_nothing() {
    let agent = agent(running().await);
    agent.until(crate::app::health::Health::is_serving).await;
    let before = count(&agent).await;
    let plan = agent.app.plan(&wanted(Scope::Global, Some(FORCE)), &remote()).await.unwrap();
    assert_eq!((plan.name.as_str(), plan.stages.len(), plan.servers.len()), ("Stop OB", 5, 1));
    assert!(plan.obstacles.is_empty(), "{plan:?}");
    assert_eq!(count(&agent).await, before);
    assert!(agent.rig.host.running().is_some());
}

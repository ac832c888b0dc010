//! What other agents ask: every part, on an agent of every identity that it may meet.

use std::collections::BTreeMap;

use super::Agent;
use crate::cluster::{Change, ClusterConfig, Members};
use crate::config;
use crate::engine::port::{Archive as _, DagFilter};
use crate::error::{Code, Result};
use crate::flow::instance::{InstanceAct, InstanceAsk};
use crate::flow::peers::{Ask, Operation, PartKey, Prepare};
use crate::flow::tests::fakes::{Rig, own};
use crate::model::{AgentAddr, Identity, Launch, Member, StopHow, ZoneName};

fn master() -> AgentAddr {
    "10.0.0.9:2886".parse().unwrap()
}

fn zone() -> ZoneName {
    "zone1".parse().unwrap()
}

fn member(agent: AgentAddr, identity: Identity) -> Member {
    Member { home_path: "/home".to_owned(), ..Member::sample(agent, "zone1", identity) }
}

/// An agent of this identity; another one leads.
async fn agent(identity: Identity) -> Agent {
    let agent = Agent::on(Rig::new(), config::Engine::default());
    let members = Members::default().with(member(master(), Identity::Master)).with(member(own(), identity));
    let (zone, config) = (zone(), BTreeMap::new());
    let changes = match identity {
        Identity::Single => vec![],
        Identity::Master => vec![Change::BecameMaster { own: member(own(), Identity::Master) }],
        Identity::Follower => vec![Change::BecameFollower { zone, members }],
        Identity::ScalingOut => vec![Change::BecameScalingOut { zone, members, config }],
        Identity::ClusterAgent => {
            vec![Change::BecameFollower { zone, members }, Change::BecameClusterAgent]
        }
        Identity::TakeOverMaster
        | Identity::TakeOverFollower
        | Identity::ScalingIn
        | Identity::Unidentified => panic!("no agent of ours is {identity}"),
    };
    for change in changes {
        agent.rig.ledger.change(change, "test").await.unwrap();
    }
    assert_eq!(agent.app.identity(), identity);
    agent
}

/// Each operation with the identities that it is for.
fn operations() -> Vec<(Operation, &'static [Identity])> {
    use Identity::{ClusterAgent, Follower, ScalingOut, Single};
    let (how, members) = (StopHow::Kill, Members::default());
    let launch = || Launch { is_first: true, options: BTreeMap::new() };
    let adopt = Operation::Adopt { members: members.clone(), cluster: ClusterConfig::default() };
    vec![
        (Operation::Start, &[ClusterAgent]),
        (Operation::Stop { how }, &[ClusterAgent]),
        (Operation::Stand, &[ClusterAgent]),
        (Operation::Retire { how }, &[ClusterAgent]),
        (Operation::Deploy { launch: launch() }, &[Follower, ScalingOut]),
        (Operation::Undeploy, &[Follower, ScalingOut]),
        (Operation::StartFirst { launch: launch() }, &[Follower, ScalingOut]),
        (Operation::UndoStart, &[Follower, ScalingOut]),
        (adopt, &[Follower, ScalingOut, ClusterAgent]),
        (Operation::Unadopt { zone: zone(), members }, &[ScalingOut, ClusterAgent]),
        (Operation::Leave, &[Single, Follower, ScalingOut]),
    ]
}

async fn prepare(agent: &Agent, from: AgentAddr, operation: Operation) -> Result<serde_json::Value> {
    let key = PartKey::of("0123456789abcdef0123456789abcdef");
    let (main_name, actor) = ("a main task".to_owned(), "test".to_owned());
    let request = Prepare { key, main_name, round: 0, operation, force: Vec::new(), actor };
    agent.app.answer(from, &Ask::Prepare(Box::new(request))).await
}

async fn parts(agent: &Agent) -> usize {
    agent.rig.store.dags(DagFilter::ALL, false).await.unwrap().len()
}

/// What is for a member of a cluster never acts on a host that belongs to nobody yet, and the other way round.
#[tokio::test]
async fn w39_a_part_is_made_by_agents_of_its_identity_only() {
    use Identity::{ClusterAgent, Follower, Master, ScalingOut, Single};
    for identity in [Single, Master, Follower, ScalingOut, ClusterAgent] {
        let refusing = agent(identity).await;
        for (operation, wanted) in operations() {
            let what = format!("{operation:?} on {identity}");
            if wanted.contains(&identity) {
                let made = prepare(&agent(identity).await, master(), operation).await;
                assert!(!matches!(&made, Err(error) if error.code == Code::IdentityNotSupported), "{what}");
                continue;
            }
            let refused = prepare(&refusing, master(), operation).await.expect_err(&what);
            assert_eq!(refused.code, Code::IdentityNotSupported, "{what}");
            assert!(refused.text().contains("must be"), "{what}: {}", refused.text());
        }
        assert_eq!(parts(&refusing).await, 0, "{identity}: what was refused has made something");
    }
    // A FOLLOWER has one master.
    let follower = agent(Follower).await;
    let another = "10.0.0.8:2886".parse().unwrap();
    let refused = prepare(&follower, another, Operation::Undeploy).await.unwrap_err();
    assert_eq!(refused.code, Code::IdentityNotSupported);
    assert!(refused.text().contains("not the master"), "{}", refused.text());
    assert_eq!(parts(&follower).await, 0);
    assert!(prepare(&follower, master(), Operation::Undeploy).await.is_ok());
    assert_eq!(parts(&follower).await, 1);
}

/// Who is being added speaks to its coordinator, and has no say in what the cluster does.
#[tokio::test]
async fn a_guest_operates_no_task_and_numbers_no_server() {
    let agent = agent(Identity::ClusterAgent).await;
    let guest: AgentAddr = "10.0.0.7:2886".parse().unwrap();
    let known = Change::GuestKnown(member(guest, Identity::ScalingOut));
    agent.rig.ledger.change(known, "test").await.unwrap();
    let (dag, actor) = (crate::model::DagId(1), "root".to_owned());
    let what = InstanceAsk::Do { dag, act: InstanceAct::Rollback, actor };
    let refused = agent.app.answer(guest, &Ask::Instance { what: Box::new(what.clone()) }).await.unwrap_err();
    assert_eq!(refused.code, Code::AgentNotExist);
    let topology = crate::cluster::topology::Topology::default();
    let refused = agent.app.answer(guest, &Ask::Topology { topology }).await.unwrap_err();
    assert_eq!(refused.code, Code::AgentNotExist);
    let answered = agent.app.answer(master(), &Ask::Instance { what: Box::new(what) }).await.unwrap_err();
    assert_eq!(answered.code, Code::TaskNotFound);
}

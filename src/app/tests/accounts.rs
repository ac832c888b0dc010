//! Who is told of users when, by members that speak to each other in memory.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Agent, local};
use crate::app::accounts;
use crate::cluster::{Accounts, Change, Members};
use crate::config;
use crate::error::{Code, Error, Result};
use crate::flow::peers::{Ask, Peers};
use crate::flow::tests::fakes::{Rig, own};
use crate::model::{AgentAddr, Identity, Member, Password, Role};
use crate::tasks::Kind;

/// The other members: some are silent, and one never answers.
#[derive(Debug)]
struct Wire {
    silent: Mutex<BTreeSet<AgentAddr>>,
    asked: mpsc::UnboundedSender<AgentAddr>,
}

const HANGS: u8 = 9;

/// Less than the minute between rounds.
const LIMIT: Duration = Duration::from_secs(30);

impl Peers for Wire {
    fn ask<'a>(&'a self, agent: AgentAddr, ask: &'a Ask, _: Duration) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            assert!(matches!(ask, Ask::Accounts { .. }), "nothing else is asked here");
            self.asked.send(agent).unwrap();
            if agent == addr(HANGS) {
                std::future::pending::<()>().await;
            }
            if self.silent.lock().unwrap().contains(&agent) {
                return Err(Error::new(Code::RpcRequestFailed, "silence"));
            }
            Ok(json!(Accounts::default()))
        })
    }
}

fn addr(last: u8) -> AgentAddr {
    AgentAddr::new([10, 0, 0, last].into(), 2886)
}

fn member(agent: AgentAddr) -> Member {
    Member::sample(agent, "zone1", Identity::ClusterAgent)
}

struct World {
    agent: Agent,
    wire: Arc<Wire>,
    asked: mpsc::UnboundedReceiver<AgentAddr>,
}

impl World {
    /// One member of an initialised cluster, beside these.
    async fn with(others: &[u8]) -> Self {
        let mut rig = Rig::new();
        let (sender, asked) = mpsc::unbounded_channel();
        let wire = Arc::new(Wire { silent: Mutex::default(), asked: sender });
        rig.ports.peers = Arc::clone(&wire) as Arc<dyn Peers>;
        let change = async |change| rig.ledger.change(change, "test").await.unwrap();
        change(Change::BecameMaster { own: member(own()) }).await;
        let members: Members = others.iter().map(|last| member(addr(*last))).chain([member(own())]).collect();
        change(Change::MembersKnown(members)).await;
        change(Change::BecameClusterAgent).await;
        Self { agent: Agent::on(rig, config::Engine::default()), wire, asked }
    }

    fn silence(&self, agents: &[u8]) {
        *self.wire.silent.lock().unwrap() = agents.iter().map(|last| addr(*last)).collect();
    }

    fn untold(&self) -> Vec<AgentAddr> {
        self.agent.app.parts.memory.untold.agents().iter().copied().collect()
    }

    async fn add(&self, name: &str) -> Vec<AgentAddr> {
        let password = Password::new("long enough");
        self.agent.app.set_account(name, Role::Viewer, password, &local()).await.unwrap()
    }

    /// The next that are asked, in any order.
    async fn next<const N: usize>(&mut self) -> BTreeSet<AgentAddr> {
        let mut next = BTreeSet::new();
        for _ in 0..N {
            let asked = tokio::time::timeout(LIMIT, self.asked.recv()).await;
            next.insert(asked.expect("somebody is asked in time").unwrap());
        }
        next
    }
}

fn all(agents: &[u8]) -> BTreeSet<AgentAddr> {
    agents.iter().map(|last| addr(*last)).collect()
}

/// Who was missed is named to the caller, and is in every round until it is reached.
#[tokio::test]
async fn who_was_missed_is_told_in_the_next_round() {
    let mut world = World::with(&[2, 3, 4]).await;
    world.silence(&[3]);
    assert_eq!(world.add("reader").await, [addr(3)]);
    assert_eq!(world.next::<3>().await, all(&[2, 3, 4]));
    assert_eq!(world.untold(), [addr(3)]);

    let memory = &world.agent.app.parts.memory;
    let due = memory.untold.due(&[addr(2), addr(3), addr(4)], 0);
    assert_eq!(due, [addr(2), addr(3)]);
    world.silence(&[]);
    assert!(world.agent.app.swap_with(due).await.is_empty());
    assert_eq!(world.untold(), []);
}

/// A caller that goes away in the middle takes nobody's news with it.
#[tokio::test]
async fn a_change_whose_caller_is_gone_is_told_all_the_same() {
    let mut world = World::with(&[2, HANGS]).await;
    let app = world.agent.app.clone();
    let caller = local();
    let adding = app.set_account("reader", Role::Viewer, Password::new("long enough"), &caller);
    tokio::select! {
        biased;
        _ = adding => panic!("one of them never answers"),
        () = async {
            world.next::<2>().await;
        } => {}
    }
    assert!(world.untold().contains(&addr(HANGS)), "{:?}", world.untold());
}

/// At the start everybody; then newcomers, and who was missed, at once and not when a minute is over.
#[tokio::test]
async fn the_keeper_begins_with_all_and_goes_on_with_news() {
    let mut world = World::with(&[2, 3, 4]).await;
    let tasks = world.agent.rig.tasks.clone();
    let app = world.agent.app.clone();
    tasks.spawn(Kind::part("accounts"), accounts::keep(app.clone(), tasks.token().clone()));
    assert_eq!(world.next::<3>().await, all(&[2, 3, 4]));
    world.agent.rig.ledger.change(Change::MemberKnown(member(addr(5))), "test").await.unwrap();
    let round = world.next::<2>().await;
    assert!(round.contains(&addr(5)), "{round:?}");

    world.silence(&[2, 3]);
    world.add("reader").await;
    assert_eq!(world.next::<4>().await, all(&[2, 3, 4, 5]));
    assert_eq!(world.next::<2>().await, all(&[2, 3]), "whose turn it is comes after them");
}

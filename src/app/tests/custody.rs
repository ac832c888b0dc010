//! Who holds what of the CA when: agents that speak to each other in memory, on a clock that the test moves.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::app::custody::{Custody, KeepHolding, Parts};
use crate::app::holding::{Step, Subject};
use crate::clock::{Clock, ManualClock};
use crate::cluster::{AgentState, Change, Keep, Ledger, Members, Secrets};
use crate::config::EngineKind;
use crate::engine::port::Stamp;
use crate::error::{Code, Error, Result};
use crate::flow::peers::{Ask, Peers};
use crate::flow::trust::{Grant, Trust as _};
use crate::model::{AgentAddr, Identity, Member, Timestamp};
use crate::secure::{Holding, Tls, check_holding};

const LIFETIME: Duration = Duration::from_secs(900);

/// What an agent answers.
#[derive(Clone, Debug)]
enum There {
    HasOne(Custody),
    HasNone,
    IsSilent,
}

type World = Arc<Mutex<HashMap<AgentAddr, There>>>;

#[derive(Debug)]
struct Wire {
    own: AgentAddr,
    world: World,
}

impl Peers for Wire {
    fn ask<'a>(&'a self, agent: AgentAddr, ask: &'a Ask, _: Duration) -> BoxFuture<'a, Result<Value>> {
        let there = self.world.lock().unwrap().get(&agent).cloned().unwrap_or(There::IsSilent);
        Box::pin(async move {
            match (there, ask) {
                (There::HasOne(custody), Ask::Certify { public_key }) => {
                    custody.certify(self.own, public_key).await.map(|grant| json!(grant))
                }
                (There::HasOne(custody), Ask::TakeAuthority { grant }) => {
                    custody.take(self.own, grant).await.map(|()| Value::Null)
                }
                (There::HasOne(_) | There::HasNone, _) => Err(Error::new(Code::NotSupported, "no CA")),
                (There::IsSilent, _) => Err(Error::new(Code::RpcRequestFailed, "silence")),
            }
        })
    }
}

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Holding>>);

impl KeepHolding for Kept {
    fn save_holding<'a>(&'a self, holding: &'a Holding, _: Stamp, _: Value) -> BoxFuture<'a, Result<()>> {
        self.0.lock().unwrap().push(holding.clone());
        Box::pin(async { Ok(()) })
    }
}

impl Keep for Kept {
    fn save<'a>(
        &'a self,
        _: Option<&'a AgentState>,
        _: &'a AgentState,
        _: &'a Secrets,
        _: Stamp,
        _: Value,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

fn addr(last: u8) -> AgentAddr {
    AgentAddr::new([10, 0, 0, last].into(), 2886)
}

fn member(last: u8, identity: Identity) -> Member {
    Member { peer_key: "key".to_owned(), ..Member::sample(addr(last), "zone1", identity) }
}

/// An agent with a CA of its own.
struct Host {
    custody: Custody,
    ledger: Ledger,
    kept: Arc<Kept>,
    tls: Tls,
    clock: Arc<ManualClock>,
}

fn host(last: u8, world: &World, clock: &Arc<ManualClock>) -> Host {
    let own = addr(last);
    let names: Vec<IpAddr> = vec![own.ip];
    let subject = Subject { own, names, lifetime: LIFETIME };
    let holding = subject.on_its_own(clock.now()).unwrap();
    let tls = Tls::own(&holding, true).unwrap();
    let kept = Arc::new(Kept::default());
    let state = AgentState::new(own, EngineKind::Observer, "/bin/observer".into());
    let time: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    let ledger =
        Ledger::new(Arc::clone(&kept) as Arc<dyn Keep>, Arc::clone(&time), state, Secrets::default());
    let custody = Custody::new(Parts {
        subject,
        tls: tls.clone(),
        keep: Arc::clone(&kept) as Arc<dyn KeepHolding>,
        peers: Arc::new(Wire { own, world: Arc::clone(world) }),
        ledger: ledger.clone(),
        clock: time,
        holding,
    });
    world.lock().unwrap().insert(own, There::HasOne(custody.clone()));
    Host { custody, ledger, kept, tls, clock: Arc::clone(clock) }
}

fn hosts<const N: usize>() -> (World, [Host; N]) {
    let (world, clock) = (World::default(), ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap()));
    let mut last = 0;
    let made = [(); N].map(|()| {
        last += 1;
        host(last, &world, &clock)
    });
    (world, made)
}

impl Host {
    async fn is(&self, change: Change) {
        self.ledger.change(change, "test").await.unwrap();
    }

    async fn settled(&self) -> Arc<Holding> {
        self.custody.settle().await.unwrap();
        self.held()
    }

    /// What is held was kept, and is shown.
    fn held(&self) -> Arc<Holding> {
        let held = self.custody.holding();
        if let Some(kept) = self.kept.0.lock().unwrap().last() {
            assert_eq!((&kept.certificate, &kept.roots), (&held.certificate, &held.roots));
        }
        assert_eq!(self.tls.fingerprint(), held.certificate.fingerprint);
        held
    }

    /// Whether what it shows is taken by who trusts these roots.
    fn is_taken_by(&self, other: &Holding) -> bool {
        let shown = Holding { certificate: self.held().certificate.clone(), ..other.clone() };
        check_holding(&shown, self.clock.now_secs().unsigned_abs()).is_ok()
    }
}

fn all(lasts: &[u8]) -> Members {
    lasts.iter().map(|last| member(*last, Identity::ClusterAgent)).collect()
}

/// The first leads, the second follows; then both are members of an initialised cluster.
async fn joined(master: &Host, follower: &Host) {
    master.is(Change::BecameMaster { own: member(1, Identity::Master) }).await;
    master.is(Change::MemberKnown(member(2, Identity::Follower))).await;
    let members = [member(1, Identity::Master), member(2, Identity::Follower)].into_iter().collect();
    follower.is(Change::BecameFollower { zone: "zone1".parse().unwrap(), members }).await;
}

async fn initialised(hosts: &[&Host], members: Members) {
    for host in hosts {
        host.is(Change::MembersKnown(members.clone())).await;
        host.is(Change::BecameClusterAgent).await;
    }
}

#[tokio::test]
async fn a_follower_is_certified_and_a_member_holds_the_key() {
    let (_, [master, follower]) = hosts();
    let before = master.held();
    joined(&master, &follower).await;
    let said = follower.custody.be_certified(addr(1)).await.unwrap().unwrap();
    assert!(said.contains("has certified"), "{said}");
    let (leads, follows) = (master.settled().await, follower.settled().await);
    assert_eq!(leads.roots, before.roots, "what was its own is the cluster's");
    assert!(leads.is_clusters && follows.is_clusters && follows.authority.is_none());
    assert_eq!(follows.roots, leads.roots);
    assert!(follower.is_taken_by(&leads) && master.is_taken_by(&follows));

    initialised(&[&follower, &master], all(&[1, 2])).await;
    let holds = follower.settled().await;
    let public = |holding: &Holding| holding.authority.as_ref().unwrap().public_on_wire();
    assert_eq!(public(&holds), public(&leads));
    assert_eq!(holds.key.public_on_wire(), follows.key.public_on_wire(), "its own key stays where it is");
}

#[tokio::test]
async fn nobody_makes_a_second_ca_while_somebody_is_silent() {
    let (world, [first, second]) = hosts();
    initialised(&[&first, &second], all(&[1, 2, 3])).await;
    let before = first.held();
    for there in [There::IsSilent, There::HasNone] {
        world.lock().unwrap().insert(addr(3), there.clone());
        assert!(second.custody.settle().await.is_err(), "it is not the first: {there:?}");
        let settled = first.custody.settle().await;
        assert_eq!(settled.is_ok(), matches!(there, There::HasNone), "{there:?}");
    }
    let made = first.held();
    assert!(made.is_clusters && made.roots == before.roots);
    assert_eq!(second.settled().await.roots, made.roots);
}

/// The only one that held the key is gone for good. What it has issued is trusted on, so nobody is cut off.
#[tokio::test]
async fn a_key_that_is_lost_is_replaced_and_the_old_root_is_trusted_on() {
    let (world, [gone, first, second]) = hosts();
    gone.is(Change::BecameMaster { own: member(1, Identity::Master) }).await;
    for (host, last) in [(&first, 2), (&second, 3)] {
        gone.is(Change::MemberKnown(member(last, Identity::Follower))).await;
        let members = [member(1, Identity::Master), member(last, Identity::Follower)].into_iter().collect();
        host.is(Change::BecameFollower { zone: "zone1".parse().unwrap(), members }).await;
        host.settled().await;
    }
    world.lock().unwrap().insert(addr(1), There::IsSilent);
    initialised(&[&first, &second], all(&[2, 3])).await;
    let old = first.held();
    let made = first.settled().await;
    assert_eq!(made.roots.len(), 2);
    assert_eq!(made.roots[1..], old.roots[..]);
    assert!(second.is_taken_by(&made), "it has not heard of it yet");
    let taken = second.settled().await;
    assert_eq!(taken.roots, made.roots);
    assert!(taken.authority.is_some() && second.is_taken_by(&made) && first.is_taken_by(&taken));
}

#[tokio::test]
async fn who_leaves_forgets_the_key_at_once_and_the_certificate_a_moment_later() {
    let (_, [host]) = hosts();
    host.is(Change::BecameMaster { own: member(1, Identity::Master) }).await;
    let led = host.settled().await;
    host.is(Change::BecameSingle).await;
    let left = host.settled().await;
    assert!(left.authority.is_none(), "the key");
    assert_eq!(left.certificate, led.certificate);
    host.clock.advance(Duration::from_secs(119));
    assert_eq!(host.settled().await.certificate, led.certificate);
    host.clock.advance(Duration::from_secs(2));
    let own = host.settled().await;
    assert!(!own.is_clusters && own.authority.is_some());
    assert_ne!(own.roots, led.roots);
    // Whoever leads again does not wait for that.
    host.is(Change::BecameMaster { own: member(1, Identity::Master) }).await;
    assert!(host.settled().await.is_clusters);
}

/// A take-over or an init that is taken back leaves no key where it does not belong.
#[tokio::test]
async fn who_follows_again_gives_the_key_back_and_stays_certified() {
    let (_, [master, follower]) = hosts();
    joined(&master, &follower).await;
    master.settled().await;
    follower.custody.be_certified(addr(1)).await.unwrap();
    let members: Members =
        [member(1, Identity::ClusterAgent), member(2, Identity::ClusterAgent)].into_iter().collect();
    initialised(&[&master, &follower], members).await;
    assert!(follower.settled().await.authority.is_some());
    let members = [member(1, Identity::Master), member(2, Identity::Follower)].into_iter().collect();
    follower.is(Change::BecameFollower { zone: "zone1".parse().unwrap(), members }).await;
    let held = follower.settled().await;
    assert!(held.authority.is_none() && held.next.is_none());
    assert!(held.is_clusters && held.left_at.is_none() && held.roots == master.held().roots);
}

/// The CA of the cluster that it has left is nobody's there: it would never reach its new master again.
#[tokio::test]
async fn who_joins_others_without_a_ca_is_not_held_to_the_one_that_it_left() {
    for is_noticed in [true, false] {
        let (world, [master, follower]) = hosts();
        world.lock().unwrap().insert(addr(3), There::HasNone);
        joined(&master, &follower).await;
        let before = follower.settled().await;
        assert!(follower.tls.is_clusters());
        follower.is(Change::BecameSingle).await;
        if is_noticed {
            follower.settled().await;
        }
        let members = [member(3, Identity::Master), member(2, Identity::Follower)].into_iter().collect();
        follower.is(Change::BecameFollower { zone: "zone1".parse().unwrap(), members }).await;
        let said = follower.custody.be_certified(addr(3)).await.unwrap().unwrap();
        assert!(said.contains("has no CA"), "{said}");
        assert!(!follower.tls.is_clusters(), "noticed: {is_noticed}");
        follower.clock.advance(Duration::from_secs(121));
        let own = follower.settled().await;
        assert!(!own.is_clusters && own.authority.is_some() && own.roots != before.roots);
    }
}

#[tokio::test]
async fn certificates_are_renewed_at_two_thirds_of_their_life() {
    let (world, [master, follower]) = hosts();
    joined(&master, &follower).await;
    let first = follower.settled().await;
    master.settled().await;
    follower.clock.advance(Duration::from_secs(599));
    assert_eq!(follower.settled().await.certificate, first.certificate);
    follower.clock.advance(Duration::from_secs(2));
    world.lock().unwrap().insert(addr(1), There::IsSilent);
    assert!(follower.custody.settle().await.is_err(), "its master is away: asked again");
    assert_eq!(follower.held().certificate, first.certificate, "a third of its life is left");
    world.lock().unwrap().insert(addr(1), There::HasOne(master.custody.clone()));
    let renewed = follower.settled().await;
    assert_ne!(renewed.certificate, first.certificate);
    assert_eq!(renewed.roots, first.roots);
    let own = master.held();
    assert_ne!(master.settled().await.certificate, own.certificate, "it needs nobody");
}

#[tokio::test]
async fn only_who_is_being_added_takes_a_ca_from_others() {
    let (_, [coordinator, newcomer]) = hosts();
    initialised(&[&coordinator], all(&[1])).await;
    let held = coordinator.settled().await;
    let before = newcomer.held();
    assert!(coordinator.custody.hand_to(addr(2)).await.is_err(), "it belongs to nobody");
    assert_eq!(newcomer.held().certificate, before.certificate);
    let members = [member(1, Identity::ClusterAgent), member(2, Identity::ScalingOut)].into_iter().collect();
    let zone = "zone1".parse().unwrap();
    newcomer.is(Change::BecameScalingOut { zone, members, config: std::collections::BTreeMap::new() }).await;
    coordinator.custody.hand_to(addr(2)).await.unwrap();
    let taken = newcomer.held();
    assert!(taken.authority.is_some() && taken.roots == held.roots && newcomer.is_taken_by(&held));
    // One whose parts do not fit changes nothing.
    let other = newcomer.custody.holding();
    let stranger = hosts::<1>().1;
    let foreign = stranger[0].held();
    for grant in [
        Grant { certificate: None, roots: Vec::new(), authority: None, next: None },
        Grant { certificate: None, roots: held.roots.clone(), authority: None, next: None },
        Grant {
            certificate: Some(foreign.certificate.clone()),
            roots: held.roots.clone(),
            authority: None,
            next: None,
        },
    ] {
        let refused = newcomer.custody.take(addr(1), &grant).await.unwrap_err();
        assert_eq!(refused.code, Code::IllegalArgument, "{refused}");
        assert_eq!(newcomer.held().certificate, other.certificate);
    }
}

#[tokio::test]
async fn only_members_are_certified_and_only_for_their_own_address() {
    let (_, [master, other]) = hosts();
    let key = other.held().key.public_on_wire();
    let asked = |from| master.custody.certify(from, &key);
    assert_eq!(asked(addr(2)).await.unwrap_err().code, Code::NotSupported, "there is no cluster");
    joined(&master, &other).await;
    let grant = asked(addr(2)).await.unwrap();
    assert_eq!(grant.certificate.unwrap().names, [IpAddr::from([10, 0, 0, 2])]);
    assert!(grant.authority.is_none(), "before init the key is the master's alone");
    assert_eq!(asked(addr(3)).await.unwrap_err().code, Code::AgentNotExist);
}

/// Who is missed is named, and the step is repeated; at no moment does one of them show what another does not take.
#[tokio::test]
async fn a_root_is_replaced_step_by_step_with_all_members() {
    let (world, [first, second]) = hosts();
    initialised(&[&first, &second], all(&[1, 2])).await;
    // Each has one of its own until it has asked.
    world.lock().unwrap().insert(addr(2), There::HasNone);
    let old = first.settled().await;
    world.lock().unwrap().insert(addr(2), There::HasOne(second.custody.clone()));
    assert_eq!(second.settled().await.roots, old.roots);
    let are_friends = || {
        let (one, other) = (first.held(), second.held());
        assert!(first.is_taken_by(&other) && second.is_taken_by(&one));
    };
    let refused = async |step| first.custody.replace_root(step, "test").await.unwrap_err();
    assert_eq!(refused(Step::Switch).await.code, Code::BadRequest, "nothing was announced");
    for (step, roots) in [(Step::Announce, 2), (Step::Switch, 2), (Step::Finish, 1)] {
        world.lock().unwrap().insert(addr(2), There::IsSilent);
        let missed = refused(step).await;
        assert!(missed.code == Code::RpcRequestFailed && missed.to_string().contains("10.0.0.2"), "{missed}");
        are_friends();
        world.lock().unwrap().insert(addr(2), There::HasOne(second.custody.clone()));
        first.custody.replace_root(step, "test").await.unwrap();
        are_friends();
        let (one, other) = (first.held(), second.held());
        assert_eq!((one.roots.len(), &one.roots), (roots, &other.roots), "{step:?}");
        let unlike = if step == Step::Announce { Step::Finish } else { Step::Announce };
        let is_too_early = second.custody.replace_root(unlike, "test").await.is_err();
        assert_eq!(is_too_early, step != Step::Finish, "{step:?}");
        if step == Step::Finish {
            assert_ne!(one.roots, old.roots);
            assert!(!first.is_taken_by(&old) && !second.is_taken_by(&old));
        }
    }
    // The last of the loop was an announcement, by the other one: they go by one again.
    assert_eq!(first.held().roots, second.held().roots);
    are_friends();
}

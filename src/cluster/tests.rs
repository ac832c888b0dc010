//! Tables of identities and configuration, and the ledger's promise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;

use super::papers::Paper;
use super::*;
use crate::clock;
use crate::config::EngineKind;
use crate::engine::port::Stamp;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity, Member, Password, Scope, ServerAddr};

fn addr(last: u8) -> AgentAddr {
    AgentAddr::new([10, 0, 0, last].into(), 2886)
}

fn state() -> AgentState {
    AgentState::new(addr(1), EngineKind::Seekdb, "/bin/seekdb".into())
}

fn member(last: u8, zone: &str) -> Member {
    Member::sample(addr(last), zone, Identity::Single)
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Every act × every identity.
#[test]
fn the_identity_table() {
    for act in Act::ALL {
        for identity in Identity::ALL {
            let is_allowed = may(act, addr(1), identity).is_ok();
            let expected = match act {
                Act::Join | Act::BeAdded => identity == Identity::Single,
                Act::Admit => identity == Identity::Master,
                Act::Leave => matches!(identity, Identity::Master | Identity::Follower),
                Act::Configure | Act::Init => matches!(identity, Identity::Master | Identity::Follower),
                Act::Operate | Act::Scale => identity == Identity::ClusterAgent,
                Act::OperateLocally => identity != Identity::ClusterAgent,
            };
            assert_eq!(is_allowed, expected, "{act:?} as {identity}");
        }
    }
    let error = may(Act::Init, addr(1), Identity::ClusterAgent).unwrap_err();
    assert_eq!(error.code, Code::AlreadyInitialized);
    let error = may(Act::Operate, addr(1), Identity::Single).unwrap_err();
    assert_eq!(error.code, Code::IdentityNotSupported);
    assert_eq!(error.text(), "10.0.0.1:2886 is SINGLE, but must be CLUSTER AGENT for this");
}

#[test]
fn w22_the_most_specific_setting_wins_whatever_was_set_last() {
    let own = Scope::Server(vec![addr(1)]);
    let zone = Scope::Zone(vec!["z1".parse().unwrap()]);
    let set = |scope: &Scope, pairs: &[(&str, &str)]| Change::ObserverConfigured {
        scope: scope.clone(),
        config: map(pairs),
    };
    let state = state()
        .after(&Change::BecameMaster { own: member(1, "z1") })
        .after(&Change::MemberKnown(member(2, "z1")))
        .after(&set(&own, &[("a", "server")]))
        .after(&set(&zone, &[("a", "zone"), ("b", "zone")]))
        .after(&set(&Scope::Global, &[("a", "global"), ("b", "global"), ("c", "global")]));
    assert_eq!(effective(&state, addr(1)), map(&[("a", "server"), ("b", "zone"), ("c", "global")]));
    assert_eq!(effective(&state, addr(2)), map(&[("a", "zone"), ("b", "zone"), ("c", "global")]));
    // Each call replaces what was set at its scope.
    let state = state.after(&set(&Scope::Global, &[("d", "1")]));
    assert_eq!(effective(&state, addr(1)), map(&[("a", "server"), ("b", "zone"), ("d", "1")]));
}

#[test]
fn keys_are_renamed_and_refused() {
    assert_eq!(tidy_keys(map(&[("mysqlPort", "3000")])), Ok(map(&[("mysql_port", "3000")])));
    assert_eq!(
        tidy_keys(map(&[("rpcPort", "3000"), ("rpc_port", "3000")])),
        Ok(map(&[("rpc_port", "3000")]))
    );
    for (given, expected) in [
        (map(&[]), ConfigError::Empty),
        (map(&[("zone", "z")]), ConfigError::Denied("zone".into())),
        (map(&[("a;b", "1")]), ConfigError::Name("a;b".into())),
        (
            map(&[("mysqlPort", "3000"), ("mysql_port", "3001")]),
            ConfigError::Twice { old: "mysqlPort", new: "mysql_port" },
        ),
        (map(&[("mysql_port", "80")]), ConfigError::Port { key: "mysql_port", value: "80".into() }),
        (map(&[("rpc_port", "x")]), ConfigError::Port { key: "rpc_port", value: "x".into() }),
    ] {
        assert_eq!(tidy_keys(given), Err(expected));
    }
}

#[test]
fn changes_are_idempotent_and_their_records_show_no_secret() {
    let password = || Password::new("hush-hush");
    for change in [
        Change::BecameMaster { own: member(1, "z1") },
        Change::BecameFollower {
            zone: "z1".parse().unwrap(),
            members: [member(1, "z1")].into_iter().collect(),
        },
        Change::MemberKnown(member(2, "z2")),
        Change::MemberLeft(addr(2)),
        Change::MembersKnown([member(1, "z1"), member(3, "z2")].into_iter().collect()),
        Change::BecameClusterAgent,
        Change::Adopted { members: [member(1, "z1"), member(3, "z2")].into_iter().collect() },
        Change::BecameSingle,
        Change::ClusterConfigured { config: ClusterConfig::default(), root_password: Some(password()) },
        Change::ObserverConfigured { scope: Scope::Global, config: map(&[("a", "1")]) },
        Change::RootPassword(password()),
        Change::AgentPassword(password()),
        Change::ServerWanted(Wanted::Running),
        Change::ServerVersion("4.3".into()),
    ] {
        let once = state().after(&change);
        assert_eq!(once.after(&change), once, "{change:?}");
        let record = format!("{} {change:?}", change.describe());
        assert!(!record.contains("hush"), "{record}");
    }
}

/// A follower does not know its own rpc port; a CLUSTER AGENT that did not would write the default over the right one in the
/// cluster's database, at the first look at it.
#[test]
fn who_is_adopted_has_its_ports_from_the_first_moment_on() {
    let told = Member { identity: Identity::ClusterAgent, rpc_port: 17_882, ..member(1, "z3") };
    let members: Members = [told.clone(), member(3, "z2")].into_iter().collect();
    let follower = state().after(&Change::BecameFollower {
        zone: "z3".parse().unwrap(),
        members: [member(1, "z3")].into_iter().collect(),
    });
    let adopted = follower.after(&Change::Adopted { members: members.clone() });
    assert_eq!(
        (adopted.identity, adopted.own_member(), &adopted.members),
        (told.identity, Some(&told), &members)
    );
}

/// What it knows of others is written when it is another, and with the first document.
#[test]
fn the_document_is_read_as_it_was_written_and_others_are_written_when_they_change() {
    let read = |papers: &[Paper]| -> BTreeMap<&str, serde_json::Value> {
        papers.iter().map(|(name, text)| (*name, serde_json::from_str(text).unwrap())).collect()
    };
    let names = |papers: &[Paper]| papers.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let member_known = state().after(&Change::MemberKnown(member(2, "z2")));
    let papers = member_known.papers(Some(&state())).unwrap();
    assert_eq!(names(&papers), ["agent", "others"]);
    let mut papers = read(&papers);
    let (agent, others) = (papers.remove("agent").unwrap(), papers.remove("others"));
    assert_eq!(AgentState::of_papers(agent.clone(), others).unwrap(), member_known);
    assert!(AgentState::of_papers(agent, None).unwrap().members.is_empty());
    let wanted = member_known.after(&Change::ServerWanted(Wanted::Running));
    assert_eq!(names(&wanted.papers(Some(&member_known)).unwrap()), ["agent"]);
    assert_eq!(names(&wanted.papers(None).unwrap()), ["agent", "others"]);
}

#[derive(Debug, Default)]
struct FakeKeep {
    is_full: AtomicBool,
    /// Of each save.
    was_known: std::sync::Mutex<Vec<bool>>,
}

impl Keep for FakeKeep {
    fn save<'a>(
        &'a self,
        before: Option<&'a AgentState>,
        _: &'a AgentState,
        _: &'a Secrets,
        _: Stamp,
        _: serde_json::Value,
    ) -> BoxFuture<'a, Result<()>> {
        self.was_known.lock().unwrap().push(before.is_some());
        Box::pin(async {
            if self.is_full.load(Ordering::SeqCst) { Err(Error::unexpected("full")) } else { Ok(()) }
        })
    }
}

#[tokio::test]
async fn nobody_sees_a_change_that_was_not_committed() {
    let keep = Arc::new(FakeKeep::default());
    let ledger =
        Ledger::new(Arc::clone(&keep) as Arc<dyn Keep>, clock::system(), state(), Secrets::default());
    let config = ClusterConfig { id: Some(1), name: Some("c".into()), rs_list: None };
    let change =
        || Change::ClusterConfigured { config: config.clone(), root_password: Some(Password::new("pw")) };
    keep.is_full.store(true, Ordering::SeqCst);
    assert!(ledger.change(change(), "test").await.is_err());
    assert_eq!(*ledger.state(), state());
    assert!(ledger.secrets().root.is_none());
    keep.is_full.store(false, Ordering::SeqCst);
    ledger.change(change(), "test").await.unwrap();
    assert_eq!(ledger.state().cluster, config);
    assert_eq!(ledger.root_password().expose(), "pw");
    ledger.change(Change::BecameSingle, "test").await.unwrap();
    assert!(ledger.secrets().root.is_none());
}

/// A save that failed may have been committed: then the parts that seem unchanged are not known to be what is kept.
#[tokio::test]
async fn after_a_save_that_nobody_saw_succeed_everything_is_saved() {
    let keep = Arc::new(FakeKeep::default());
    let ledger =
        Ledger::new(Arc::clone(&keep) as Arc<dyn Keep>, clock::system(), state(), Secrets::default());
    let known = |last: u8| ledger.change(Change::MemberKnown(member(last, "z1")), "test");
    known(1).await.unwrap();
    keep.is_full.store(true, Ordering::SeqCst);
    assert!(known(2).await.is_err());
    assert!(known(3).await.is_err());
    keep.is_full.store(false, Ordering::SeqCst);
    known(4).await.unwrap();
    known(5).await.unwrap();
    assert_eq!(*keep.was_known.lock().unwrap(), [true, true, false, false, true]);
}

/// W27: a follower that leaves takes what is its own, and its zone's only when nobody else is in it.
#[test]
fn w27_a_removal_takes_its_own_rows_only() {
    let set = |scope: Scope, value: &str| Change::ObserverConfigured { scope, config: map(&[("a", value)]) };
    let zone = |name: &str| Scope::Zone(vec![name.parse().unwrap()]);
    let state = state()
        .after(&Change::BecameMaster { own: member(1, "z1") })
        .after(&Change::MemberKnown(member(2, "z2")))
        .after(&Change::MemberKnown(member(3, "z2")))
        .after(&set(Scope::Server(vec![addr(2)]), "server"))
        .after(&set(zone("z2"), "zone"))
        .after(&set(Scope::Global, "global"))
        .after(&Change::ClusterConfigured {
            config: ClusterConfig { id: Some(7), name: Some("c".into()), rs_list: None },
            root_password: None,
        });
    let one_left = state.after(&Change::MemberLeft(addr(2)));
    assert_eq!(one_left.observer.servers.len(), 0);
    assert_eq!(effective(&one_left, addr(3)), map(&[("a", "zone")]));
    let none_left = one_left.after(&Change::MemberLeft(addr(3)));
    assert_eq!(none_left.observer.zones.len(), 0);
    assert_eq!((none_left.cluster.id, none_left.members.len()), (Some(7), 1));
    assert_eq!(effective(&none_left, addr(1)), map(&[("a", "global")]));
    // What is configured for an agent that was never there changes nothing.
    assert_eq!(none_left.after(&Change::MemberLeft(addr(9))), none_left);
}

#[test]
fn scopes_are_resolved_by_membership() {
    let members: Members = [member(3, "z2"), member(1, "z1"), member(2, "z2")].into_iter().collect();
    let agents = |scope: &Scope| members.in_scope(scope).map_err(|error| error.code);
    assert_eq!(agents(&Scope::Global), Ok(vec![addr(1), addr(2), addr(3)]));
    assert_eq!(agents(&Scope::Zone(vec!["z2".parse().unwrap()])), Ok(vec![addr(2), addr(3)]));
    assert_eq!(agents(&Scope::Server(vec![addr(3), addr(1)])), Ok(vec![addr(1), addr(3)]));
    assert_eq!(agents(&Scope::Zone(vec!["z9".parse().unwrap()])), Err(Code::ZoneNotExist));
    assert_eq!(agents(&Scope::Server(vec![addr(1), addr(9)])), Err(Code::AgentNotExist));
}

fn server(last: u8) -> ServerAddr {
    ServerAddr::new([10, 0, 0, last].into(), 2882)
}

/// Three servers in three zones, one tenant with a log stream on each, led by the first.
pub(crate) fn view() -> ClusterView {
    let row = |last: u8| ServerRow {
        id: i64::from(last),
        server: server(last),
        zone: format!("z{last}").parse().unwrap(),
        sql_port: 2881,
        has_root: last == 1,
        status: "ACTIVE".to_owned(),
        started: Some("2026-01-01 00:00:00".to_owned()),
        stopped: None,
        build_version: String::new(),
    };
    let zone = |last: u8| ZoneRow {
        zone: format!("z{last}").parse().unwrap(),
        status: "ACTIVE".to_owned(),
        region: String::new(),
        idc: String::new(),
    };
    let replica = |last: u8| ReplicaRow {
        tenant: 1,
        stream: 1,
        server: server(last),
        is_leader: last == 1,
        members: [1, 2, 3].map(server).to_vec(),
        replicas: 3,
        is_in_sync: true,
    };
    ClusterView {
        servers: [1, 2, 3].map(row).to_vec(),
        zones: [1, 2, 3].map(zone).to_vec(),
        replicas: [1, 2, 3].map(replica).to_vec(),
        tenants: [(1, "sys".to_owned())].into(),
        version: String::new(),
    }
}

/// W30: every log stream counts, whosever it is; what cannot be seen is not counted.
#[test]
fn w30_a_majority_is_of_members_that_are_well() {
    let keeps = |view: &ClusterView, stopping: &[u8]| {
        let stopping: Vec<_> = stopping.iter().copied().map(server).collect();
        let fates = view.without(&stopping);
        (fates.iter().all(Fate::keeps_majority), fates[0].left, fates[0].leader_moves)
    };
    assert_eq!(keeps(&view(), &[]), (true, 3, false));
    assert_eq!(keeps(&view(), &[1]), (true, 2, true));
    assert_eq!(keeps(&view(), &[2, 3]), (false, 1, false));
    type Break = fn(&mut ClusterView);
    let broken: [(&str, Break); 7] = [
        ("does not answer", |v| v.replicas.retain(|row| row.server != server(3))),
        ("is not in sync", |v| v.replicas[2].is_in_sync = false),
        ("is not active", |v| v.servers[2].status = "INACTIVE".to_owned()),
        ("is stopped", |v| v.servers[2].stopped = Some("now".to_owned())),
        ("does not serve yet", |v| v.servers[2].started = None),
        ("is in a stopped zone", |v| v.zones[2].status = "INACTIVE".to_owned()),
        ("is no server of the cluster", |v| v.servers.retain(|row| row.server != server(3))),
    ];
    for (why, change) in broken {
        let mut view = view();
        change(&mut view);
        assert_eq!(keeps(&view, &[2]), (false, 1, false), "{why}");
        let words = view.without(&[server(2)])[0].in_words();
        assert!(words.contains(why) && words.contains("tenant sys (1) log stream 1"), "{why}: {words}");
    }
    let mut torn = view();
    torn.replicas[2].is_leader = true;
    assert!(!keeps(&torn, &[]).0, "two leaders");
    let mut silent = view();
    silent.tenants.insert(1002, "shop".to_owned());
    let lost = silent.without(&[]).into_iter().find(|fate| !fate.keeps_majority());
    assert_eq!(lost.map(|fate| fate.tenant), Some(1002), "nobody of it answers");
    let mut headless = view();
    headless.replicas[0].is_leader = false;
    assert!(!keeps(&headless, &[]).0);
    assert_eq!(view().stopped_elsewhere(&[]), Vec::<String>::new());
    let mut stopped = view();
    stopped.servers[0].stopped = Some("now".to_owned());
    stopped.zones[1].status = "INACTIVE".to_owned();
    assert_eq!(stopped.stopped_elsewhere(&["z1".parse().unwrap()]), ["zone z2"]);
    assert_eq!(stopped.stopped_elsewhere(&["z3".parse().unwrap()]).len(), 2);
}

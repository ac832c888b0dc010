//! Tables of identities and configuration, and the ledger's promise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;

use super::*;
use crate::clock;
use crate::config::EngineKind;
use crate::engine::port::Stamp;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity, Password, Scope};

fn addr(last: u8) -> AgentAddr {
    AgentAddr::new([10, 0, 0, last].into(), 2886)
}

fn state() -> AgentState {
    AgentState::new(addr(1), EngineKind::Seekdb, "/bin/seekdb".into())
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
                Act::Join => identity == Identity::Single,
                Act::Configure | Act::Init => matches!(identity, Identity::Master | Identity::Follower),
                Act::Operate => identity == Identity::ClusterAgent,
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
        .after(&Change::BecameMaster { zone: "z1".parse().unwrap() })
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
        Change::BecameMaster { zone: "z1".parse().unwrap() },
        Change::BecameClusterAgent,
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
    let document = serde_json::to_value(state()).unwrap();
    assert_eq!(serde_json::from_value::<AgentState>(document).unwrap(), state());
}

#[derive(Debug, Default)]
struct FakeKeep {
    is_full: AtomicBool,
}

impl Keep for FakeKeep {
    fn save<'a>(
        &'a self,
        _: &'a AgentState,
        _: &'a Secrets,
        _: Stamp,
        _: serde_json::Value,
    ) -> BoxFuture<'a, Result<()>> {
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

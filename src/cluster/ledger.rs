//! The one holder of the document: readers see what is committed, writers come one after another.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, watch};

use super::accounts::Accounts;
use super::state::{AgentState, Change};
use crate::clock::Clock;
use crate::engine::port::Stamp;
use crate::error::Result;
use crate::model::Password;

/// What opens the cluster and the agent. `None` = never set; an empty root password is a set one.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    pub root: Option<Password>,
    pub agent: Option<Password>,
    pub accounts: Arc<Accounts>,
    /// Another one whenever a password is another.
    pub era: Arc<()>,
}

/// Where the document and the secrets are kept. Law: it returns after the commit, all or nothing.
pub trait Keep: Send + Sync + Debug {
    /// The document; `before` is what was kept last, nothing where that is not known.
    ///
    /// # Errors
    /// When it cannot be kept; then nothing of it is.
    fn save<'a>(
        &'a self,
        before: Option<&'a AgentState>,
        state: &'a AgentState,
        secrets: &'a Secrets,
        stamp: Stamp,
        what: serde_json::Value,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Cheap handle to the agent's own document.
#[derive(Clone, Debug)]
pub struct Ledger {
    keep: Arc<dyn Keep>,
    clock: Arc<dyn Clock>,
    state: Arc<watch::Sender<Arc<AgentState>>>,
    secrets: Arc<watch::Sender<Arc<Secrets>>>,
    /// One change at a time; held over the commit. Whether what is seen is what is kept: a save that failed, or whose caller went,
    /// may have been committed all the same.
    turn: Arc<Mutex<bool>>,
}

impl Ledger {
    pub fn new(keep: Arc<dyn Keep>, clock: Arc<dyn Clock>, state: AgentState, secrets: Secrets) -> Self {
        Self {
            keep,
            clock,
            state: Arc::new(watch::Sender::new(Arc::new(state))),
            secrets: Arc::new(watch::Sender::new(Arc::new(secrets))),
            turn: Arc::new(Mutex::new(true)),
        }
    }

    /// The document as committed last.
    pub fn state(&self) -> Arc<AgentState> {
        Arc::clone(&self.state.borrow())
    }

    pub fn secrets(&self) -> Arc<Secrets> {
        Arc::clone(&self.secrets.borrow())
    }

    /// The root password to use now: what is known, else the empty one of a fresh database.
    pub fn root_password(&self) -> Password {
        self.secrets().root.clone().unwrap_or_default()
    }

    /// Tells of every committed change.
    pub fn watch(&self) -> watch::Receiver<Arc<AgentState>> {
        self.state.subscribe()
    }

    /// Commits a change; afterwards everybody sees it.
    ///
    /// # Errors
    /// When it cannot be kept; then nothing has changed.
    pub async fn change(&self, change: Change, actor: &str) -> Result<()> {
        let mut is_kept = self.turn.lock().await;
        let before = self.state();
        let after = before.after(&change);
        let secrets = self.secrets();
        let new_secrets = secrets_after(&secrets, &change);
        if after == *before && new_secrets.is_none() {
            return Ok(());
        }
        let stamp = Stamp { at: self.clock.now(), actor: actor.to_owned() };
        let secrets = new_secrets.as_ref().unwrap_or(&secrets);
        let known = std::mem::replace(&mut *is_kept, false).then_some(&*before);
        self.keep.save(known, &after, secrets, stamp, change.describe()).await?;
        *is_kept = true;
        if let Some(secrets) = new_secrets {
            self.secrets.send_replace(Arc::new(secrets));
        }
        self.state.send_replace(Arc::new(after));
        Ok(())
    }
}

/// `None` when the change does not concern them.
fn secrets_after(secrets: &Secrets, change: &Change) -> Option<Secrets> {
    let era = Arc::default();
    let root = |root: Option<Password>| Secrets { root, era, ..secrets.clone() };
    let accounts = |accounts: Accounts| {
        (accounts != *secrets.accounts).then(|| Secrets { accounts: Arc::new(accounts), ..secrets.clone() })
    };
    match change {
        Change::ClusterConfigured { root_password: Some(password), .. } | Change::RootPassword(password) => {
            let is_known = secrets.root.as_ref().is_some_and(|known| known.expose() == password.expose());
            (!is_known).then(|| root(Some(password.clone())))
        }
        Change::AgentPassword(password) => {
            Some(Secrets { agent: Some(password.clone()), era: Arc::default(), ..secrets.clone() })
        }
        Change::BecameSingle if secrets.root.is_some() => {
            Some(Secrets { accounts: Arc::default(), ..root(None) })
        }
        // Users are those of a cluster: who belongs to none, or to another, has none of them.
        Change::BecameSingle
        | Change::BecameMaster { .. }
        | Change::BecameFollower { .. }
        | Change::BecameScalingOut { .. } => accounts(Accounts::default()),
        Change::AccountSet { name, account } => {
            accounts(secrets.accounts.with_account(name, account.clone()))
        }
        Change::KeyPairSet { access_key, pair } => {
            accounts(secrets.accounts.with_key_pair(access_key, pair.clone()))
        }
        Change::AccountsKnown(known) => accounts(secrets.accounts.merged(known)),
        Change::ClusterConfigured { root_password: None, .. }
        | Change::MemberKnown(_)
        | Change::MemberLeft(_)
        | Change::MemberRetired(_)
        | Change::GuestKnown(_)
        | Change::GuestLeft(_)
        | Change::MembersKnown(_)
        | Change::BecameClusterAgent
        | Change::Adopted { .. }
        | Change::ObserverConfigured { .. }
        | Change::ServerWanted(_)
        | Change::ServerStarted { .. }
        | Change::SqlPort(_)
        | Change::ServerVersion(_)
        | Change::ServerExited(_)
        | Change::TopologyKnown(_) => None,
    }
}

//! Users of the v2 API: made and removed on one agent, known to all.
//!
//! Purpose: a change is committed here, and told to every member; a member that was away takes what it has missed when it is back,
//! and a new one when it becomes a member. Each minute two members compare what they have, another two each time: what was told to
//! some and not to all gets around, and what an agent does at rest does not grow with its cluster.
//!
//! Invariant: only members of an initialised cluster have users, and only they tell each other. What a change returns is
//! committed here, whoever was not reached.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::context::{App, Caller};
use crate::cluster::{Accounts, Act, AgentState, Change, may};
use crate::error::{Code, Error, Result};
use crate::model::{Account, AgentAddr, Identity, KeyPair, Password, Role, SecretKey};
use crate::secure;
use crate::tasks::Tasks;

/// Longest name of an account.
const NAME_LEN_MAX: usize = 64;

/// A password that can be tried from outside is not a short one.
const PASSWORD_LEN_MIN: usize = 8;
const PASSWORD_LEN_MAX: usize = 256;

/// Accounts, and key pairs, at most: agents tell each other all of them.
const COUNT_MAX: usize = 500;

/// Names of root itself, in any letter case.
const ROOTS: [&str; 2] = ["root", "root@sys"];

/// Nothing announces a host that is back, or a network.
const INTERVAL: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Who this is in the records.
const KEEPER: &str = "accounts";

/// Members that a swap has failed with, or goes on with, and those that are new to us.
#[derive(Clone, Debug, Default)]
pub(super) struct Untold(Arc<(Mutex<BTreeSet<AgentAddr>>, Notify)>);

impl Untold {
    pub(super) fn agents(&self) -> MutexGuard<'_, BTreeSet<AgentAddr>> {
        self.0.0.lock().expect("no holder of this lock panics")
    }

    /// Who has to be spoken to now: those, and one of the others, which is another one in each round. Who is no member any more
    /// is forgotten.
    pub(super) fn due(&self, others: &[AgentAddr], round: usize) -> Vec<AgentAddr> {
        let mut untold = self.agents();
        untold.retain(|agent| others.contains(agent));
        let turn = round.checked_rem(others.len());
        let is_due = |(at, agent): &(usize, &AgentAddr)| Some(*at) == turn || untold.contains(agent);
        others.iter().enumerate().filter(is_due).map(|(_, agent)| *agent).collect()
    }

    /// Somebody was missed: whoever keeps users alike tries soon again, and not only when its minute is over.
    fn hurry(&self) {
        self.0.1.notify_one();
    }

    async fn hurried(&self) {
        self.0.1.notified().await;
    }
}

/// A key pair, told once.
#[derive(Clone, Debug)]
pub struct NewKeyPair {
    pub access_key: String,
    pub secret: Password,
    /// Members that were not reached; they take it when they are back.
    pub missed: Vec<AgentAddr>,
}

fn illegal(text: impl Into<String>) -> Error {
    Error::new(Code::IllegalArgument, text)
}

fn check_name(name: &str) -> Result<()> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(is_letter) {
        let text = format!("a name of an account has 1 to {NAME_LEN_MAX} letters, digits, '.', '_' and '-'");
        return Err(illegal(text));
    }
    if ROOTS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(illegal("root is an admin already, with the password of the database"));
    }
    Ok(())
}

fn check_password(password: &Password) -> Result<()> {
    let length = password.expose().len();
    if (PASSWORD_LEN_MIN..=PASSWORD_LEN_MAX).contains(&length) {
        return Ok(());
    }
    Err(illegal(format!("a password has {PASSWORD_LEN_MIN} to {PASSWORD_LEN_MAX} bytes")))
}

fn no_randomness() -> Error {
    Error::unexpected("the system has no randomness")
}

impl App {
    /// Users of the cluster, root apart.
    pub fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.parts.ledger.secrets().accounts)
    }

    /// Makes an account, or gives the one of this name another role and password. Returns the members that were not reached.
    ///
    /// # Errors
    /// Not a member of a cluster; a name or a password that cannot be.
    pub async fn set_account(
        &self,
        name: &str,
        role: Role,
        password: Password,
        caller: &Caller,
    ) -> Result<Vec<AgentAddr>> {
        may(Act::Operate, self.own(), self.identity())?;
        check_name(name)?;
        check_password(&password)?;
        let known = self.accounts();
        if known.account(name).is_none() && known.accounts().count() >= COUNT_MAX {
            return Err(illegal(format!("there are {COUNT_MAX} accounts already; remove one first")));
        }
        let hash = Tasks::blocking(move || secure::hash_password(&password)).await;
        let account = Account { role, password: hash.map_err(|_| no_randomness())? };
        let change = Change::AccountSet { name: name.to_owned(), account: Some(account) };
        self.change_accounts(change, caller).await
    }

    /// Removes an account and its key pairs. Returns the members that were not reached.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn remove_account(&self, name: &str, caller: &Caller) -> Result<Vec<AgentAddr>> {
        may(Act::Operate, self.own(), self.identity())?;
        if self.accounts().account(name).is_none() {
            return Err(illegal(format!("there is no account '{name}'")));
        }
        self.change_accounts(Change::AccountSet { name: name.to_owned(), account: None }, caller).await
    }

    /// # Errors
    /// Not a member of a cluster, or there is no such account.
    pub async fn add_key_pair(
        &self,
        role: Role,
        account: Option<String>,
        caller: &Caller,
    ) -> Result<NewKeyPair> {
        may(Act::Operate, self.own(), self.identity())?;
        let known = self.accounts();
        if let Some(name) = account.as_deref()
            && known.account(name).is_none()
        {
            return Err(illegal(format!("there is no account '{name}'")));
        }
        if known.key_pairs().count() >= COUNT_MAX {
            return Err(illegal(format!("there are {COUNT_MAX} key pairs already; remove one first")));
        }
        let (access_key, secret) = secure::new_key_pair().map_err(|_| no_randomness())?;
        let pair = KeyPair { role, account, secret: SecretKey(secret.clone()) };
        let change = Change::KeyPairSet { access_key: access_key.clone(), pair: Some(pair) };
        let missed = self.change_accounts(change, caller).await?;
        Ok(NewKeyPair { access_key, secret, missed })
    }

    /// Returns the members that were not reached.
    ///
    /// # Errors
    /// There is none with this access key.
    pub async fn remove_key_pair(&self, access_key: &str, caller: &Caller) -> Result<Vec<AgentAddr>> {
        may(Act::Operate, self.own(), self.identity())?;
        if !self.accounts().key_pairs().any(|(known, _)| known == access_key) {
            return Err(illegal(format!("there is no key pair '{access_key}'")));
        }
        let change = Change::KeyPairSet { access_key: access_key.to_owned(), pair: None };
        self.change_accounts(change, caller).await
    }

    async fn change_accounts(&self, change: Change, caller: &Caller) -> Result<Vec<AgentAddr>> {
        self.parts.ledger.change(change, &caller.actor).await?;
        let missed = self.swap_with(others(&self.parts.ledger.state(), self.own())).await;
        if !missed.is_empty() {
            self.parts.memory.untold.hurry();
        }
        Ok(missed)
    }

    /// Brings members what we have, and takes what they have. Returns who was not reached. Dropped half way, nobody counts as
    /// reached who has not answered.
    pub(super) async fn swap_with(&self, agents: Vec<AgentAddr>) -> Vec<AgentAddr> {
        let untold = &self.parts.memory.untold;
        untold.agents().extend(&agents);
        let told = join_all(agents.into_iter().map(|agent| async move {
            let accounts = self.accounts();
            let swapped = self.parts.ports.peers.swap_accounts(agent, &accounts).await;
            let taken = match swapped {
                Ok(theirs) => self.parts.ledger.change(Change::AccountsKnown(theirs), KEEPER).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &taken {
                tracing::debug!(%agent, cause = %error.chain(), "accounts were not brought");
                return Some(agent);
            }
            untold.agents().remove(&agent);
            None
        }));
        told.await.into_iter().flatten().collect()
    }

    /// A member brings what it has. Returns what we have then.
    ///
    /// # Errors
    /// One of us is no member of an initialised cluster.
    pub(super) async fn swap_accounts(&self, from: AgentAddr, accounts: &Accounts) -> Result<Accounts> {
        let state = self.parts.ledger.state();
        let sender = state.members.find(from).map(|member| member.identity);
        if state.identity != Identity::ClusterAgent || sender != Some(Identity::ClusterAgent) {
            let text =
                format!("{from} may not bring accounts to {}, which is {}", self.own(), state.identity);
            return Err(Error::new(Code::IdentityNotSupported, text));
        }
        let change = Change::AccountsKnown(accounts.clone());
        self.parts.ledger.change(change, &format!("agent {from}")).await?;
        Ok((*self.accounts()).clone())
    }
}

/// The other members, the one after us first: in the same round no two of us go to the same one.
fn others(state: &AgentState, own: AgentAddr) -> Vec<AgentAddr> {
    let mut agents = state.members.agents();
    let after = agents.iter().position(|agent| *agent == own).map_or(0, |at| at + 1);
    agents.rotate_left(after);
    agents.retain(|agent| *agent != own);
    agents
}

/// Runs as long as the agent: when it starts, when it or somebody else becomes a member, and now and then.
pub async fn keep(app: App, token: CancellationToken) {
    let mut changes = app.parts.ledger.watch();
    let place = |state: &AgentState| (state.identity, others(state, app.own()));
    let mut known = (Identity::Single, Vec::new());
    let mut pause = FIRST_PAUSE;
    for round in 0.. {
        let here = place(&changes.borrow_and_update());
        if here != known {
            let is_new = |agent: &&AgentAddr| here.0 != known.0 || !known.1.contains(agent);
            app.parts.memory.untold.agents().extend(here.1.iter().filter(is_new));
            pause = FIRST_PAUSE;
        }
        let is_done = here.0 != Identity::ClusterAgent
            || app.swap_with(app.parts.memory.untold.due(&here.1, round)).await.is_empty();
        pause = if is_done { INTERVAL } else { (pause * 2).min(INTERVAL) };
        let elsewhere = changes.wait_for(|state| place(state) != here);
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            changed = elsewhere => if changed.is_err() { return },
            () = app.parts.memory.untold.hurried() => pause = FIRST_PAUSE,
            () = tokio::time::sleep(pause) => {}
        }
        known = here;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody is left out of the rounds, who was missed is in each of them, and who has left in none.
    #[test]
    fn each_round_is_with_another_member() {
        let agent = |last: u8| AgentAddr::new([10, 0, 0, last].into(), 2886);
        let others = [2, 3, 4].map(agent);
        let untold = Untold::default();
        let round = |round| untold.due(&others, round);
        assert_eq!([0, 1, 2, 3].map(round), [[agent(2)], [agent(3)], [agent(4)], [agent(2)]]);
        untold.agents().extend([agent(4), agent(9)]);
        assert_eq!(untold.due(&others, 0), [agent(2), agent(4)]);
        assert_eq!(untold.due(&others, 2), [agent(4)]);
        assert_eq!(*untold.agents(), [agent(4)].into());
        assert_eq!(untold.due(&[], 5), []);
    }

    #[test]
    fn names_and_passwords_that_cannot_be_are_refused() {
        let long = "x".repeat(NAME_LEN_MAX + 1);
        for name in ["", "root", "ROOT", "root@sys", "a:b", "a b", "ä", &long] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["a", "ocp-reader", "x.y_z", "rooty"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        assert!(check_password(&Password::new("1234567")).is_err());
        assert!(check_password(&Password::new("12345678")).is_ok());
        assert!(check_password(&Password::new("x".repeat(PASSWORD_LEN_MAX + 1))).is_err());
    }
}

//! Users of the v2 API, as every agent of the cluster knows them.
//!
//! Purpose: an account that is made on one agent works on all. Agents bring each other what they have, and each takes what is newer.
//!
//! Invariant: every entry has a version of its own, and what was removed leaves its version behind. So two agents that have heard of
//! each other have the same, in whatever order they heard: a change of one entry never undoes that of another, and of two
//! changes of one entry at the same time, removal wins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Account, KeyPair, Role};

/// One account or key pair; without a value it was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry<T> {
    version: u64,
    value: Option<T>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    #[serde(default = "BTreeMap::new")]
    accounts: BTreeMap<String, Entry<Account>>,
    /// By access key.
    #[serde(default = "BTreeMap::new")]
    key_pairs: BTreeMap<String, Entry<KeyPair>>,
}

impl Accounts {
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.key_pairs.is_empty()
    }

    pub fn account(&self, name: &str) -> Option<&Account> {
        self.accounts.get(name)?.value.as_ref()
    }

    /// A key pair and what it may do now. That of an account which is gone is gone too.
    pub fn key_pair(&self, access_key: &str) -> Option<(&KeyPair, Role)> {
        let pair = self.key_pairs.get(access_key)?.value.as_ref()?;
        match &pair.account {
            None => Some((pair, pair.role)),
            Some(name) => Some((pair, pair.role.min(self.account(name)?.role))),
        }
    }

    /// By name.
    pub fn accounts(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.accounts.iter().filter_map(|(name, entry)| Some((name.as_str(), entry.value.as_ref()?)))
    }

    /// By access key.
    pub fn key_pairs(&self) -> impl Iterator<Item = (&str, &KeyPair)> {
        self.key_pairs.iter().filter_map(|(key, entry)| Some((key.as_str(), entry.value.as_ref()?)))
    }

    /// With this account, or without it and its key pairs.
    #[must_use]
    pub fn with_account(&self, name: &str, account: Option<Account>) -> Self {
        let mut accounts = self.clone();
        if account.is_none() {
            let is_its = |pair: &KeyPair| pair.account.as_deref() == Some(name);
            for entry in accounts.key_pairs.values_mut() {
                if entry.value.as_ref().is_some_and(is_its) {
                    *entry = Entry { version: entry.version + 1, value: None };
                }
            }
        }
        set(&mut accounts.accounts, name, account);
        accounts
    }

    #[must_use]
    pub fn with_key_pair(&self, access_key: &str, pair: Option<KeyPair>) -> Self {
        let mut accounts = self.clone();
        set(&mut accounts.key_pairs, access_key, pair);
        accounts
    }

    /// Of each entry the newer one.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut accounts = self.clone();
        take_newer(&mut accounts.accounts, &other.accounts);
        take_newer(&mut accounts.key_pairs, &other.key_pairs);
        accounts
    }
}

fn set<T: PartialEq>(entries: &mut BTreeMap<String, Entry<T>>, name: &str, value: Option<T>) {
    let before = entries.get(name);
    if before.map_or(value.is_none(), |entry| entry.value == value) {
        return;
    }
    let version = before.map_or(1, |entry| entry.version + 1);
    entries.insert(name.to_owned(), Entry { version, value });
}

fn take_newer<T: Clone + Serialize>(
    ours: &mut BTreeMap<String, Entry<T>>,
    theirs: &BTreeMap<String, Entry<T>>,
) {
    for (name, entry) in theirs {
        if ours.get(name).is_none_or(|known| rank(entry) > rank(known)) {
            ours.insert(name.clone(), entry.clone());
        }
    }
}

/// Higher is newer. Between two that were made at the same time any order will do, as long as all agents have the same.
fn rank<T: Serialize>(entry: &Entry<T>) -> (u64, bool, String) {
    let text = serde_json::to_string(&entry.value).unwrap_or_default();
    (entry.version, entry.value.is_none(), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Password, PasswordHash, SecretKey};

    fn account(role: Role, hash: &str) -> Account {
        let password = PasswordHash { iterations: 1, salt: String::new(), hash: hash.to_owned() };
        Account { role, password }
    }

    fn pair(role: Role, account: Option<&str>) -> KeyPair {
        let secret = SecretKey(Password::new("hush-hush"));
        KeyPair { role, account: account.map(str::to_owned), secret }
    }

    /// Whatever happened where, and whoever hears of it first.
    #[test]
    fn all_have_the_same_in_the_end() {
        let start = Accounts::default()
            .with_account("a", Some(account(Role::Viewer, "1")))
            .with_account("b", Some(account(Role::Viewer, "1")));
        let variants = [
            start.clone(),
            start.with_account("a", None),
            start.with_account("a", Some(account(Role::Admin, "2"))),
            start.with_account("b", Some(account(Role::Admin, "2"))).with_account("b", None),
            start.with_account("c", Some(account(Role::Operator, "3"))),
            start.with_key_pair("K", Some(pair(Role::Admin, Some("a")))),
            Accounts::default(),
        ];
        let all = variants.iter().fold(Accounts::default(), |all, one| all.merged(one));
        for left in &variants {
            assert_eq!(left.merged(left), *left);
            for right in &variants {
                assert_eq!(left.merged(right), right.merged(left));
            }
            let back = variants.iter().rev().fold(left.clone(), |all, one| all.merged(one));
            assert_eq!(back, all);
        }
        assert!(all.account("a").is_none(), "removal wins over a change at the same time");
        assert!(all.account("b").is_none(), "what is newer wins");
        assert_eq!(all.account("c").unwrap().role, Role::Operator, "others stay");
    }

    #[test]
    fn a_key_pair_may_no_more_than_its_account_and_goes_with_it() {
        let accounts = Accounts::default()
            .with_account("a", Some(account(Role::Operator, "1")))
            .with_key_pair("ITS", Some(pair(Role::Admin, Some("a"))))
            .with_key_pair("OWN", Some(pair(Role::Viewer, None)));
        assert_eq!(accounts.key_pair("ITS").unwrap().1, Role::Operator);
        assert_eq!(accounts.key_pair("OWN").unwrap().1, Role::Viewer);
        let without = accounts.with_account("a", None);
        assert!(without.key_pair("ITS").is_none());
        let again = without.with_account("a", Some(account(Role::Operator, "1")));
        assert!(again.key_pair("ITS").is_none(), "another account of the same name is another");
        assert!(accounts.merged(&again).key_pair("ITS").is_none());
        assert!(again.key_pair("OWN").is_some());
    }

    #[test]
    fn nothing_of_it_is_shown_and_all_of_it_is_kept() {
        let accounts = Accounts::default().with_key_pair("K", Some(pair(Role::Admin, None)));
        assert!(!format!("{accounts:?}").contains("hush"));
        let text = serde_json::to_string(&accounts).unwrap();
        assert_eq!(serde_json::from_str::<Accounts>(&text).unwrap(), accounts);
    }
}

//! Passwords of accounts that were right a moment ago: a slow hash is for whoever guesses, not for every request of a client.
//!
//! Invariant: what is kept opens nothing: a keyed digest under a key of this process. It counts as long as the hash that it was
//! compared with is the account's.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::model::{Account, Password, PasswordHash};
use crate::secure::{RecallKey, is_password};
use crate::tasks::Tasks;

/// Accounts that are remembered; beyond that it begins anew, which only costs time.
const COUNT_MAX: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::api) struct Known {
    key: RecallKey,
    digests: Mutex<HashMap<String, ([u8; 32], PasswordHash)>>,
    /// One after another: whoever tries much at the same time has one core of the host, not all.
    turn: tokio::sync::Mutex<()>,
}

impl Known {
    /// Whether this is the password of this account; of none it never is, after the same work. Who may not try any more when its
    /// turn comes, because those before it were wrong, costs no hash.
    pub(super) async fn is(
        &self,
        name: &str,
        password: &Password,
        account: Option<&Account>,
        may_try: impl Fn() -> bool,
    ) -> bool {
        let digest = self.key.digest(name, password);
        if account.is_some_and(|account| self.recalls(name, &digest, &account.password)) {
            return true;
        }
        let _turn = self.turn.lock().await;
        if !may_try() {
            return false;
        }
        let (hash, given) = (account.map(|account| account.password.clone()), password.clone());
        let (is_it, hash) = Tasks::blocking(move || (is_password(hash.as_ref(), &given), hash)).await;
        if let Some(hash) = hash.filter(|_| is_it) {
            let mut digests = self.digests.lock().expect("no holder of this lock panics");
            if digests.len() >= COUNT_MAX {
                digests.clear();
            }
            digests.insert(name.to_owned(), (digest, hash));
        }
        is_it
    }

    fn recalls(&self, name: &str, digest: &[u8; 32], hash: &PasswordHash) -> bool {
        let digests = self.digests.lock().expect("no holder of this lock panics");
        digests.get(name).is_some_and(|(known, of)| known == digest && of == hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role;
    use crate::secure::hash_password;

    #[tokio::test]
    async fn a_password_is_recalled_until_the_account_has_another() {
        let known = Known::default();
        let account = |password: &str| Account {
            role: Role::Viewer,
            password: hash_password(&Password::new(password)).unwrap(),
        };
        let (first, second) = (account("first one"), account("second one"));
        let right = Password::new("first one");
        assert!(!known.is("a", &right, Some(&first), || false).await, "too many were wrong meanwhile");
        assert!(known.is("a", &right, Some(&first), || true).await);
        assert!(known.recalls("a", &known.key.digest("a", &right), &first.password));
        assert!(known.is("a", &right, Some(&first), || true).await);
        assert!(!known.is("a", &right, Some(&second), || true).await, "it has another password");
        assert!(!known.is("b", &right, Some(&second), || true).await);
        assert!(!known.is("a", &right, None, || true).await, "it is gone");
        assert!(!known.is("a", &Password::new("first onf"), Some(&first), || true).await);
    }
}

//! Sessions of clients (`http-api.md` §3.6, `security.md` §6): made by a login, used instead of a password.
//!
//! Invariant: a session is worth what its password was worth when it was made: another identity of the agent, another root or
//! agent password, and every session is nobody's. Ids are kept as digests, in memory only. Time is a parameter.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::cluster::Ledger;
use crate::config::Auth;
use crate::error::{Error, Result};
use crate::model::{Identity, Password};
use crate::secure::{HeaderKind, SessionId, is_same};

/// What has to stay as it is.
#[derive(Clone, Debug)]
pub(super) struct Worth {
    identity: Identity,
    /// Of the passwords.
    era: Weak<()>,
}

impl Worth {
    pub(super) fn of(ledger: &Ledger) -> Self {
        Self { identity: ledger.state().identity, era: Arc::downgrade(&ledger.secrets().era) }
    }

    /// The same, of secrets that this root password is one of: it was not known before its caller came with it.
    pub(super) fn of_root(ledger: &Ledger, root: &Password) -> Option<Self> {
        let (identity, secrets) = (ledger.state().identity, ledger.secrets());
        let is_it = secrets.root.as_ref().is_some_and(|known| is_same(known.expose(), root.expose()));
        is_it.then(|| Self { identity, era: Arc::downgrade(&secrets.era) })
    }

    fn is(&self, other: &Self) -> bool {
        self.identity == other.identity && self.era.ptr_eq(&other.era)
    }
}

#[derive(Debug)]
struct Kept {
    id: SessionId,
    by: HeaderKind,
    source: IpAddr,
    worth: Worth,
    used_at: i64,
}

/// A session that a header names.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: SessionId,
    /// The password that it was made with.
    pub(super) by: HeaderKind,
}

/// See the module.
#[derive(Debug)]
pub(super) struct UserSessions {
    lifetime_secs: i64,
    most: usize,
    most_of_source: usize,
    /// Least recently used first.
    kept: Mutex<Vec<Kept>>,
}

impl UserSessions {
    pub(super) fn new(auth: &Auth) -> Self {
        Self {
            lifetime_secs: i64::from(auth.session_lifetime_secs),
            most: auth.sessions_max,
            most_of_source: auth.sessions_per_source_max,
            kept: Mutex::default(),
        }
    }

    /// Those that may still be worth something.
    fn kept(&self, now: i64) -> MutexGuard<'_, Vec<Kept>> {
        let mut kept = self.kept.lock().expect("no holder of this lock panics");
        kept.retain(|session| {
            now - session.used_at <= self.lifetime_secs && session.worth.era.strong_count() > 0
        });
        kept
    }

    /// Makes a session for a caller who has just shown a password. Where there are as many as may be, the one that was not used
    /// for longest gives way: one of the same address, if that has its share.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn begin(&self, by: HeaderKind, source: IpAddr, worth: Worth, now: i64) -> Result<Password> {
        let (told, id) =
            SessionId::generate().map_err(|e| Error::unexpected("no session can be made").with_source(e))?;
        let mut kept = self.kept(now);
        if kept.iter().filter(|session| session.source == source).count() >= self.most_of_source
            && let Some(oldest) = kept.iter().position(|session| session.source == source)
        {
            kept.remove(oldest);
        }
        if kept.len() >= self.most {
            kept.remove(0);
        }
        kept.push(Kept { id, by, source, worth, used_at: now });
        Ok(told)
    }

    /// The session of a presented id. Every kept one is compared, in constant time.
    pub(super) fn find(&self, presented: &str, worth: &Worth, now: i64) -> Option<Found> {
        let presented = SessionId::of(presented);
        let mut kept = self.kept(now);
        let at = kept
            .iter()
            .enumerate()
            .fold(None, |found, (at, session)| if session.id.is(&presented) { Some(at) } else { found })?;
        let session = kept.get(at).filter(|session| session.worth.is(worth));
        let found = session.map(|session| Found { id: session.id.clone(), by: session.by });
        if found.is_none() {
            // What it stood for is not true any more, and never again.
            kept.remove(at);
        }
        found
    }

    /// It was used: its lifetime begins anew.
    pub(super) fn used(&self, id: &SessionId, now: i64) {
        let mut kept = self.kept.lock().expect("no holder of this lock panics");
        if let Some(at) = kept.iter().position(|session| session.id.is(id)) {
            let session = kept.remove(at);
            kept.push(Kept { used_at: now, ..session });
        }
    }

    /// Ends one; ending what is not there is no error.
    pub(super) fn end(&self, id: &SessionId) {
        self.kept.lock().expect("no holder of this lock panics").retain(|session| !session.id.is(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Secrets;

    const ROOT: HeaderKind = HeaderKind::Database;

    fn sessions(most: usize, most_of_source: usize) -> UserSessions {
        let auth = Auth {
            session_lifetime_secs: 100,
            sessions_max: most,
            sessions_per_source_max: most_of_source,
            ..Auth::default()
        };
        UserSessions::new(&auth)
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn worth(identity: Identity, secrets: &Arc<Secrets>) -> Worth {
        Worth { identity, era: Arc::downgrade(&secrets.era) }
    }

    #[test]
    fn a_session_lives_as_long_as_it_is_used() {
        let (sessions, secrets) = (sessions(9, 9), Arc::new(Secrets::default()));
        let worth = worth(Identity::ClusterAgent, &secrets);
        let id = sessions.begin(ROOT, ip(1), worth.clone(), 1_000).unwrap();
        let is_there = |now| sessions.find(id.expose(), &worth, now);
        // Looking is not using: a header that is refused later keeps nothing alive.
        let found = is_there(1_100).unwrap();
        assert_eq!(found.by, ROOT);
        sessions.used(&found.id, 1_100);
        assert!(is_there(1_200).is_some() && is_there(1_201).is_none());
        assert!(is_there(1_100).is_none(), "what is over does not come back with another clock");
    }

    #[test]
    fn w16_a_session_is_worth_nothing_after_a_change_of_password_or_identity() {
        let sessions = sessions(9, 9);
        let (before, after) = (Arc::new(Secrets::default()), Arc::new(Secrets::default()));
        let master = worth(Identity::Master, &before);
        let id = sessions.begin(ROOT, ip(1), master.clone(), 0).unwrap();
        assert!(sessions.find(id.expose(), &master, 0).is_some());
        assert!(sessions.find(id.expose(), &worth(Identity::ClusterAgent, &before), 0).is_none());
        let id = sessions.begin(ROOT, ip(1), master.clone(), 0).unwrap();
        assert!(sessions.find(id.expose(), &worth(Identity::Master, &after), 0).is_none());
        assert!(sessions.find(id.expose(), &master, 0).is_none(), "it does not come back with the old one");
    }

    #[test]
    fn sessions_are_limited_by_address_and_in_all() {
        let (sessions, secrets) = (sessions(4, 2), Arc::new(Secrets::default()));
        let worth = worth(Identity::ClusterAgent, &secrets);
        let mut now = 0;
        let mut begin = |last| {
            now += 1;
            sessions.begin(ROOT, ip(last), worth.clone(), now).unwrap()
        };
        let is_there = |id: &Password| sessions.find(id.expose(), &worth, 9).is_some();
        let mine = [begin(1), begin(1), begin(1)];
        assert_eq!([is_there(&mine[0]), is_there(&mine[1]), is_there(&mine[2])], [false, true, true]);
        let others = [begin(2), begin(3)];
        assert!(is_there(&mine[1]), "four are there");
        // The second was used since, so the third is the one that gives way.
        sessions.used(&SessionId::of(mine[1].expose()), 9);
        let last = begin(4);
        assert!(!is_there(&mine[2]) && is_there(&mine[1]) && is_there(&last));
        assert!(others.iter().all(is_there));
    }

    #[test]
    fn a_session_that_was_ended_is_gone_and_others_are_not() {
        let (sessions, secrets) = (sessions(9, 9), Arc::new(Secrets::default()));
        let worth = worth(Identity::ClusterAgent, &secrets);
        let [first, second] = [1, 2].map(|last| sessions.begin(ROOT, ip(last), worth.clone(), 0).unwrap());
        sessions.end(&SessionId::of("unknown"));
        sessions.end(&SessionId::of(first.expose()));
        assert!(sessions.find(first.expose(), &worth, 0).is_none());
        assert!(sessions.find(second.expose(), &worth, 0).is_some());
        for wrong in ["", "x", &first.expose().to_uppercase(), &second.expose().replace('0', "O")] {
            let is_right = wrong == second.expose();
            assert_eq!(sessions.find(wrong, &worth, 0).is_some(), is_right, "{wrong}");
        }
        assert!(!format!("{sessions:?}").contains(second.expose()), "ids are not kept");
    }
}

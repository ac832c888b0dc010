//! Sessions in which other agents ask us.
//!
//! Invariant: a session belongs to a member with the key it had when the session began; when the member goes or its key
//! changes, the session is nobody's. A message counts once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::cluster::Members;
use crate::error::{Code, Error, Result};
use crate::model::AgentAddr;
use crate::secure::{Counters, Hello, HelloAnswer, PeerIdentity, Session, answer, refusal};

/// Sessions kept per member: one of its present life, and some of lives that have just ended.
const PER_MEMBER: usize = 4;

#[derive(Debug)]
struct Served {
    from: AgentAddr,
    key: String,
    session: Arc<Session>,
    counters: Counters,
    began: u64,
}

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<String, Served>,
    /// Hellos that were answered, until they are too old to be answered again.
    hellos: HashMap<String, i64>,
    count: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sessions {
    identity: Arc<PeerIdentity>,
    table: Mutex<Table>,
}

/// A message that was recognised by its mark and is not opened yet.
#[derive(Debug)]
pub(super) struct Recognised {
    pub(super) from: AgentAddr,
    pub(super) session: Arc<Session>,
}

impl Sessions {
    pub(super) fn new(identity: Arc<PeerIdentity>) -> Self {
        Self { identity, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no holder of this lock panics")
    }

    /// Answers the first half of an exchange.
    ///
    /// # Errors
    /// The one refusal, for whoever is no member or has not its key; a member whose clock differs is told so.
    pub(super) fn greet(
        &self,
        hello: &Hello,
        own: AgentAddr,
        members: &Members,
        now: i64,
    ) -> Result<HelloAnswer> {
        let member = members.find(hello.from).filter(|member| !member.peer_key.is_empty());
        let key = member.map(|member| member.peer_key.clone()).ok_or_else(refusal)?;
        if !hello.is_from(&key, own) {
            return Err(refusal());
        }
        if !hello.is_fresh(now) {
            let text = format!(
                "the clocks of {} and {own} are {} s apart; set them right (at most {} s)",
                hello.from,
                hello.at.abs_diff(now),
                Hello::LIFETIME_SECS
            );
            return Err(Error::new(Code::AuthExpired, text));
        }
        let mut table = self.table();
        table.hellos.retain(|_, at| at.abs_diff(now) <= Hello::LIFETIME_SECS.unsigned_abs());
        if table.hellos.insert(hello.signature.clone(), hello.at).is_some() {
            return Err(refusal());
        }
        let name = uuid::Uuid::new_v4().simple().to_string();
        let (said, session) = answer(&self.identity, hello, name.clone()).map_err(|_| refusal())?;
        table.count += 1;
        let began = table.count;
        let served = Served {
            from: hello.from,
            key,
            session: Arc::new(session),
            counters: Counters::default(),
            began,
        };
        table.sessions.insert(name, served);
        table.forget_oldest(hello.from);
        Ok(said)
    }

    /// The session of a message; `None` when there is no such one (any more).
    pub(super) fn find(&self, name: &str, from: AgentAddr, members: &Members) -> Option<Recognised> {
        let mut table = self.table();
        let served = table.sessions.get(name)?;
        let is_member = members.find(from).is_some_and(|member| member.peer_key == served.key);
        if served.from != from {
            return None;
        }
        if !is_member {
            table.sessions.remove(name);
            return None;
        }
        Some(Recognised { from, session: Arc::clone(&served.session) })
    }

    /// A message that has opened counts now, and never again.
    ///
    /// # Errors
    /// That it came before.
    pub(super) fn count(&self, name: &str, counter: u64) -> Result<()> {
        let mut table = self.table();
        let is_new = table.sessions.get_mut(name).is_some_and(|served| served.counters.admit(counter));
        if is_new { Ok(()) } else { Err(Error::new(Code::RpcRequestError, "the message came before")) }
    }
}

impl Table {
    fn forget_oldest(&mut self, from: AgentAddr) {
        let mut of_member: Vec<(u64, String)> = self
            .sessions
            .iter()
            .filter(|(_, served)| served.from == from)
            .map(|(name, served)| (served.began, name.clone()))
            .collect();
        of_member.sort();
        let surplus = of_member.len().saturating_sub(PER_MEMBER);
        for (_, name) in of_member.into_iter().take(surplus) {
            self.sessions.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identity, Member};
    use crate::secure::begin;

    fn addr(last: u8) -> AgentAddr {
        AgentAddr::new([10, 0, 0, last].into(), 2886)
    }

    fn member(agent: AgentAddr, key: &PeerIdentity) -> Member {
        Member { peer_key: key.public_on_wire(), ..Member::sample(agent, "zone1", Identity::ClusterAgent) }
    }

    /// Nobody shares a secret with whoever is no member any more, or is somebody else under its address.
    #[test]
    fn w14_the_session_of_a_removed_member_ends_with_it() {
        let (ours, theirs, another) = [(); 3].map(|()| PeerIdentity::generate().unwrap()).into();
        let members = Members::default().with(member(addr(2), &theirs));
        let replaced = Members::default().with(member(addr(2), &another));
        for others in [Members::default(), replaced] {
            let sessions = Sessions::new(Arc::new(PeerIdentity::from_pkcs8(ours.to_pkcs8()).unwrap()));
            let hello = begin(&theirs, addr(2), addr(1), 10_000).unwrap().hello;
            let name = sessions.greet(&hello, addr(1), &members, 10_000).unwrap().session;
            assert!(sessions.find(&name, addr(2), &members).is_some());
            assert!(sessions.find(&name, addr(3), &members).is_none(), "it is somebody else's");
            assert!(sessions.find(&name, addr(2), &others).is_none());
            assert!(sessions.find(&name, addr(2), &members).is_none(), "it does not come back");
        }
    }

    #[test]
    fn a_member_with_a_wrong_clock_is_told_and_a_stranger_is_not() {
        let (ours, theirs, nobody) = [(); 3].map(|()| PeerIdentity::generate().unwrap()).into();
        let members = Members::default().with(member(addr(2), &theirs));
        let sessions = Sessions::new(Arc::new(ours));
        let greeted = |key: &PeerIdentity, from: AgentAddr, at: i64| {
            let hello = begin(key, from, addr(1), at).unwrap().hello;
            sessions.greet(&hello, addr(1), &members, 10_000).map_err(|error| (error.code, error.to_string()))
        };
        assert!(greeted(&theirs, addr(2), 10_000).is_ok());
        for at in [10_400, 9_600] {
            let (code, text) = greeted(&theirs, addr(2), at).unwrap_err();
            assert_eq!(code, Code::AuthExpired);
            assert!(text.contains("are 400 s apart"), "{text}");
        }
        for at in [10_000, 10_400] {
            assert_eq!(greeted(&nobody, addr(2), at).unwrap_err().0, Code::Unauthorized);
            assert_eq!(greeted(&nobody, addr(3), at).unwrap_err().0, Code::Unauthorized);
        }
    }
}

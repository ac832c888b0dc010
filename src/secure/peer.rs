//! Agents among themselves: who is at the other end, and sealed messages to it.
//!
//! An agent has an Ed25519 key; members of a cluster know each other's public ones. Two agents agree on the keys of a
//! session by one exchange (X25519, fresh on both sides, each side's half signed with its key), and seal their messages with
//! AES-256-GCM. A removed member is a stranger at once: nobody shares a secret with it.
//!
//! Invariant: a message opens once, in its session, in its direction, for the method and target it was made for.
//!
//! Why not RSA as clients do: a private operation per block and message is what an orchestration of many hosts would
//! spend most of its time on. Why not TLS: the port speaks plain HTTP to OBShell's clients unless it is configured otherwise.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey as AgreementKey, X25519};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey as SignatureKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::derive::{Key, derive};
use crate::model::AgentAddr;

/// The header of a request that comes from an agent: session and counter. (In lower case, as header names are compared.)
pub const PEER_HEADER: &str = "x-obpilot-peer";

/// So many of the newest counters of a session are told apart; older ones are refused.
const WINDOW: u64 = 1_024;

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("the key of this agent for its peers cannot be used")]
    Identity,
    #[error("the other side's half of the exchange is not what its key has signed")]
    Signature,
    #[error("the exchange failed")]
    Exchange,
    #[error("a message could not be sealed")]
    Seal,
}

/// The key of this agent.
pub struct PeerIdentity {
    pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerIdentity({})", self.public_on_wire())
    }
}

impl PeerIdentity {
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, PeerError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| PeerError::Identity)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// # Errors
    /// When it is no such key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, PeerError> {
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| PeerError::Identity)?;
        Ok(Self { pair, pkcs8: Zeroizing::new(der.to_vec()) })
    }

    /// What the vault keeps.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// What members know.
    pub fn public_on_wire(&self) -> String {
        STANDARD.encode(self.pair.public_key().as_ref())
    }

    /// Proof that whoever sends this text has the key.
    pub fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.pair.sign(text.as_bytes()).as_ref())
    }
}

/// Whether a text was signed with the key of this public one.
pub fn is_signed(public_key: &str, text: &str, signature: &str) -> bool {
    let (Ok(key), Ok(signature)) = (STANDARD.decode(public_key), STANDARD.decode(signature)) else {
        return false;
    };
    SignatureKey::new(&ED25519, key).verify(text.as_bytes(), &signature).is_ok()
}

/// The first half of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub from: AgentAddr,
    pub to: AgentAddr,
    /// Unix seconds.
    pub at: i64,
    /// X25519 key of this exchange, base64.
    pub ephemeral: String,
    pub signature: String,
}

/// The second half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAnswer {
    /// Name of the session.
    pub session: String,
    pub ephemeral: String,
    pub signature: String,
}

impl Hello {
    /// One that is older or newer than this is refused; clocks of a cluster agree better than that.
    pub const LIFETIME_SECS: i64 = 300;

    fn signed_text(from: AgentAddr, to: AgentAddr, at: i64, ephemeral: &str) -> String {
        format!("obpilot peer hello\n{from}\n{to}\n{at}\n{ephemeral}")
    }

    /// Whether it was made by the holder of this key, for us.
    pub fn is_from(&self, public_key: &str, own: AgentAddr) -> bool {
        let text = Self::signed_text(self.from, self.to, self.at, &self.ephemeral);
        self.to == own && is_signed(public_key, &text, &self.signature)
    }

    /// Whether it was made now, as far as two clocks agree on that.
    pub fn is_fresh(&self, now: i64) -> bool {
        self.at.abs_diff(now) <= Self::LIFETIME_SECS.unsigned_abs()
    }
}

fn answer_text(hello: &Hello, session: &str, ephemeral: &str) -> String {
    format!("obpilot peer answer\n{}\n{session}\n{ephemeral}", hello.signature)
}

/// What the one who began keeps until the answer comes.
pub struct Begun {
    secret: EphemeralPrivateKey,
    pub hello: Hello,
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Begun({} to {})", self.hello.from, self.hello.to)
    }
}

fn fresh() -> Result<(EphemeralPrivateKey, String), PeerError> {
    let secret =
        EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(|_| PeerError::Exchange)?;
    let public = secret.compute_public_key().map_err(|_| PeerError::Exchange)?;
    Ok((secret, STANDARD.encode(public.as_ref())))
}

/// Begins an exchange with another agent.
///
/// # Errors
/// When the system has no randomness.
pub fn begin(identity: &PeerIdentity, from: AgentAddr, to: AgentAddr, now: i64) -> Result<Begun, PeerError> {
    let (secret, ephemeral) = fresh()?;
    let signature = identity.sign(&Hello::signed_text(from, to, now, &ephemeral));
    Ok(Begun { secret, hello: Hello { from, to, at: now, ephemeral, signature } })
}

/// Answers one that was judged by [`Hello::is_from`] and [`Hello::is_fresh`].
///
/// # Errors
/// When its half is no key.
pub fn answer(
    identity: &PeerIdentity,
    hello: &Hello,
    session: String,
) -> Result<(HelloAnswer, Session), PeerError> {
    let (secret, ephemeral) = fresh()?;
    let signature = identity.sign(&answer_text(hello, &session, &ephemeral));
    let keys = agree(secret, &hello.ephemeral, &answer_text(hello, &session, &ephemeral))?;
    let answer = HelloAnswer { session: session.clone(), ephemeral, signature };
    Ok((answer, Session::new(session, keys, Side::Answered)))
}

impl Begun {
    /// The session, if the answer was made by the holder of this key for this very exchange.
    ///
    /// # Errors
    /// When it was not.
    pub fn finish(self, answer: &HelloAnswer, public_key: &str) -> Result<Session, PeerError> {
        let text = answer_text(&self.hello, &answer.session, &answer.ephemeral);
        if !is_signed(public_key, &text, &answer.signature) {
            return Err(PeerError::Signature);
        }
        let keys = agree(self.secret, &answer.ephemeral, &text)?;
        Ok(Session::new(answer.session.clone(), keys, Side::Began))
    }
}

type Keys = [Key; 2];

/// One key per direction, bound to everything that was said.
fn agree(secret: EphemeralPrivateKey, other: &str, transcript: &str) -> Result<Keys, PeerError> {
    let other = STANDARD.decode(other).map_err(|_| PeerError::Exchange)?;
    let other = AgreementKey::new(&X25519, other);
    agreement::agree_ephemeral(secret, other, PeerError::Exchange, |shared| {
        derive(shared, transcript, ["asked", "answered"]).map_err(|_| PeerError::Exchange)
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Began,
    Answered,
}

/// Two agents that know each other. The one who began asks; the other answers.
pub struct Session {
    pub name: String,
    asking: Aes256Gcm,
    answering: Aes256Gcm,
    side: Side,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.name)
    }
}

impl Session {
    fn new(name: String, keys: Keys, side: Side) -> Self {
        let [asking, answering] = keys;
        let cipher = |key: &Key| Aes256Gcm::new(&(**key).into());
        Self { name, asking: cipher(&asking), answering: cipher(&answering), side }
    }

    fn outgoing(&self) -> &Aes256Gcm {
        if self.side == Side::Began { &self.asking } else { &self.answering }
    }

    fn incoming(&self) -> &Aes256Gcm {
        if self.side == Side::Began { &self.answering } else { &self.asking }
    }

    /// A message under its counter, which no other message of this direction may have. `about` is what it is bound to:
    /// method and target, or nothing for an answer.
    ///
    /// # Errors
    /// Never for a session that exists; the library's interface allows it.
    pub fn seal(&self, counter: u64, about: &str, plain: &[u8]) -> Result<Vec<u8>, PeerError> {
        let payload = Payload { msg: plain, aad: about.as_bytes() };
        self.outgoing().encrypt(&nonce(counter), payload).map_err(|_| PeerError::Seal)
    }

    /// `None` for what was not sealed by the other side under this counter, about this.
    pub fn open(&self, counter: u64, about: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.incoming().decrypt(&nonce(counter), Payload { msg: sealed, aad: about.as_bytes() }).ok()
    }
}

fn nonce(counter: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::from(bytes)
}

/// Counters of one session that were seen: each is accepted once.
#[derive(Debug, Default)]
pub struct Counters {
    highest: u64,
    seen: std::collections::BTreeSet<u64>,
}

impl Counters {
    /// True for a counter that comes for the first time and is not too old to tell.
    pub fn admit(&mut self, counter: u64) -> bool {
        let oldest = self.highest.saturating_sub(WINDOW);
        if counter <= oldest && self.highest >= WINDOW || !self.seen.insert(counter) {
            return false;
        }
        self.highest = self.highest.max(counter);
        let oldest = self.highest.saturating_sub(WINDOW);
        self.seen = self.seen.split_off(&oldest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> AgentAddr {
        AgentAddr::new([10, 0, 0, last].into(), 2886)
    }

    fn pair() -> (PeerIdentity, PeerIdentity) {
        (PeerIdentity::generate().unwrap(), PeerIdentity::generate().unwrap())
    }

    fn sessions() -> (Session, Session) {
        let (a, b) = pair();
        let begun = begin(&a, addr(1), addr(2), 1_000).unwrap();
        assert!(begun.hello.is_from(&a.public_on_wire(), addr(2)));
        let (said, of_b) = answer(&b, &begun.hello, "s1".to_owned()).unwrap();
        (begun.finish(&said, &b.public_on_wire()).unwrap(), of_b)
    }

    #[test]
    fn two_agents_understand_each_other_and_nobody_else() {
        let (a, b) = sessions();
        let sealed = a.seal(1, "POST /x", b"hello").unwrap();
        assert_eq!(b.open(1, "POST /x", &sealed).unwrap(), b"hello");
        let back = b.seal(1, "", b"yes").unwrap();
        assert_eq!(a.open(1, "", &back).unwrap(), b"yes");
        for (counter, about, message) in
            [(2, "POST /x", &sealed), (1, "POST /y", &sealed), (1, "GET /x", &sealed), (1, "POST /x", &back)]
        {
            assert!(b.open(counter, about, message).is_none(), "{counter} {about}");
        }
        // A message does not come back to its sender as an answer.
        assert!(a.open(1, "POST /x", &sealed).is_none());
        let (other, _) = sessions();
        assert!(other.open(1, "", &back).is_none());
        let mut broken = sealed.clone();
        broken[0] ^= 1;
        assert!(b.open(1, "POST /x", &broken).is_none());
    }

    #[test]
    fn a_hello_is_for_one_agent_at_one_time_by_one_key() {
        let (a, b) = pair();
        let hello = begin(&a, addr(1), addr(2), 1_000).unwrap().hello;
        let key = a.public_on_wire();
        assert!(hello.is_fresh(1_000 + Hello::LIFETIME_SECS) && hello.is_fresh(1_000 - Hello::LIFETIME_SECS));
        assert!(!hello.is_fresh(1_001 + Hello::LIFETIME_SECS) && !hello.is_fresh(999 - Hello::LIFETIME_SECS));
        assert!(hello.is_from(&key, addr(2)) && !hello.is_from(&key, addr(3)));
        assert!(!hello.is_from(&b.public_on_wire(), addr(2)));
        assert!(!hello.is_from("", addr(2)) && !hello.is_from("!", addr(2)));
        for changed in [
            Hello { from: addr(9), ..hello.clone() },
            Hello { at: 1_001, ..hello.clone() },
            Hello { ephemeral: fresh().unwrap().1, ..hello },
        ] {
            assert!(!changed.is_from(&key, addr(2)));
        }
    }

    #[test]
    fn an_answer_by_somebody_else_is_refused() {
        let (a, b) = pair();
        let begun = begin(&a, addr(1), addr(2), 1_000).unwrap();
        let stranger = PeerIdentity::generate().unwrap();
        let (said, _) = answer(&stranger, &begun.hello, "s".to_owned()).unwrap();
        assert!(begun.finish(&said, &b.public_on_wire()).is_err());
        let begun = begin(&a, addr(1), addr(2), 1_000).unwrap();
        let (said, _) = answer(&b, &begun.hello, "s".to_owned()).unwrap();
        let moved = HelloAnswer { session: "t".to_owned(), ..said };
        assert!(begun.finish(&moved, &b.public_on_wire()).is_err());
    }

    #[test]
    fn a_counter_counts_once() {
        let mut counters = Counters::default();
        for counter in [1, 3, 2, 5_000, 4_999] {
            assert!(counters.admit(counter), "{counter}");
            assert!(!counters.admit(counter), "{counter}");
        }
        assert!(!counters.admit(1) && !counters.admit(3_000));
        assert!(counters.admit(4_990));
    }

    #[test]
    fn the_key_is_kept() {
        let key = PeerIdentity::generate().unwrap();
        let again = PeerIdentity::from_pkcs8(key.to_pkcs8()).unwrap();
        assert!(is_signed(&key.public_on_wire(), "text", &again.sign("text")));
        assert!(!is_signed(&key.public_on_wire(), "other", &again.sign("text")));
    }
}

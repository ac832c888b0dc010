//! Scheme v3: one request and its answer under a key of their own (`docs/scheme-v3.md`, vectors in `proto/vectors/v3.json`).
//!
//! The client makes 32 random bytes, seals them with RSA-OAEP-SHA256 for the agent's v3 key, and derives from them one
//! AES-256-GCM key for the request and one for the answer. Both are derived over, and every part is bound to, method, target,
//! expiry, request id and key id; so nothing can be moved, spliced, replayed or read by somebody who only watches.
//!
//! Invariant: a part opens only as what it was sealed as: claims, body, the n-th or the last piece of the answer.
//!
//! The pair is not the one of scheme v2: whatever PKCS#1 v1.5 gives away there says nothing about this one.
//!
//! Not here: that a request id counts once (`replay`), who the claims let in (`decide`), HTTP (`api`).

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::compare::{hex, sha256_hex};
use super::derive::{Key, derive};
use super::header::{BlockHash, hash};
use super::keys::{KeyError, fresh_pkcs8, read_pkcs8};
use crate::model::Password;

/// The header of a request under this scheme.
pub const V3_HEADER: &str = "x-obpilot-auth";

/// The type of an answer under it.
pub const V3_CONTENT_TYPE: &str = "application/vnd.obpilot.v3";

/// What the header begins with, and what the scheme is announced as.
const SCHEME: &str = "v3";

/// Longest header that is looked at.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// Longest request id.
const ID_LEN_MAX: usize = 64;

/// Hexadecimal digits of a key id.
const KEY_ID_LEN: usize = 32;

const SECRET_BYTES: usize = 32;

/// The agent's pair for this scheme. The private key never leaves aws-lc-rs but as PKCS#8 on its way into the vault.
pub struct V3Key {
    private: OaepPrivateDecryptingKey,
    pkcs8: Zeroizing<Vec<u8>>,
    public_on_wire: String,
    id: String,
}

impl std::fmt::Debug for V3Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "V3Key({})", self.id)
    }
}

/// Names a public key by the first half of its SHA-256; under v3 that of the SubjectPublicKeyInfo.
pub fn key_id_of(key: &[u8]) -> String {
    sha256_hex(key).chars().take(KEY_ID_LEN).collect()
}

impl V3Key {
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_pkcs8(&fresh_pkcs8()?)
    }

    /// # Errors
    /// When it is no RSA key of 2048 bits or more.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let (key, spki) = read_pkcs8(der)?;
        let (public_on_wire, id) = (STANDARD.encode(&spki), key_id_of(&spki));
        let private = OaepPrivateDecryptingKey::new(key).map_err(|_| KeyError::Stored)?;
        Ok(Self { private, pkcs8: Zeroizing::new(der.to_vec()), public_on_wire, id })
    }

    /// What the vault keeps.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Base64 of the SubjectPublicKeyInfo.
    pub fn public_on_wire(&self) -> &str {
        &self.public_on_wire
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Opens a request's header. `None` for everything that an honest client would not have made for this very request.
    pub fn open(&self, mark: &V3Mark, method: &str, target: &str) -> Option<(Claims, Exchange)> {
        let mut secret = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let opened = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, &mark.sealed_key, &mut secret, None);
        // What does not open goes on with a key of nobody, so that both take the same way.
        let secret = opened.ok().and_then(|secret| <[u8; SECRET_BYTES]>::try_from(&*secret).ok());
        let is_opened = secret.is_some();
        let secret = Zeroizing::new(secret.unwrap_or_default());
        let exchange = Exchange::new(&secret, mark.about(method, target))?;
        let claims = exchange.open(Part::Claims, &mark.sealed_claims);
        let claims = serde_json::from_slice(&claims.filter(|_| is_opened)?).ok()?;
        Some((claims, exchange))
    }
}

/// A header as it came: read, not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V3Mark {
    pub key_id: String,
    /// Last second in which it is valid, Unix time.
    pub expires: i64,
    pub request_id: String,
    sealed_key: Vec<u8>,
    sealed_claims: Vec<u8>,
}

impl V3Mark {
    /// `v3;<key id>;<expires>;<request id>;<sealed key>;<sealed claims>`, the last two in base64.
    pub fn from_text(text: &str) -> Option<Self> {
        if text.len() > VALUE_BYTES_MAX {
            return None;
        }
        let parts: Vec<&str> = text.split(';').collect();
        let [SCHEME, key_id, expires, request_id, sealed_key, sealed_claims] = parts[..] else { return None };
        let is_id = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        let is_whole = (1..=ID_LEN_MAX).contains(&request_id.len()) && request_id.bytes().all(is_id);
        let seconds: i64 = expires.parse().ok().filter(|seconds| *seconds >= 0)?;
        // One text per number: it is bound as a number.
        if !is_whole || seconds.to_string() != expires {
            return None;
        }
        Some(Self {
            key_id: key_id.to_owned(),
            expires: seconds,
            request_id: request_id.to_owned(),
            sealed_key: STANDARD.decode(sealed_key).ok()?,
            sealed_claims: STANDARD.decode(sealed_claims).ok()?,
        })
    }

    fn to_text(&self) -> String {
        let Self { key_id, expires, request_id, sealed_key, sealed_claims } = self;
        let (sealed_key, sealed_claims) = (STANDARD.encode(sealed_key), STANDARD.encode(sealed_claims));
        format!("{SCHEME};{key_id};{expires};{request_id};{sealed_key};{sealed_claims}")
    }

    /// What every part is bound to.
    fn about(&self, method: &str, target: &str) -> String {
        let Self { key_id, expires, request_id, .. } = self;
        format!("obpilot v3\n{method} {target}\n{expires}\n{request_id}\n{key_id}")
    }

    /// By which a request id is remembered until it expires: it counts once.
    pub fn once(&self) -> BlockHash {
        hash(format!("obpilot v3 once\n{}\n{}", self.key_id, self.request_id).as_bytes())
    }
}

/// Whose password a claim holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimsTo {
    /// `root@sys`.
    #[default]
    Root,
    /// The agent password.
    Agent,
}

/// What a client says of itself, inside the seal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claims {
    #[serde(default, rename = "as")]
    pub claims_to: ClaimsTo,
    #[serde(default, serialize_with = "in_clear")]
    pub password: Password,
    /// Of a login, instead of a password.
    #[serde(default, serialize_with = "in_clear")]
    pub session_id: Password,
    /// A sealed body follows. It cannot be left out or put in by somebody else.
    #[serde(default)]
    pub has_body: bool,
    /// As the header of this name, which does not count here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// Only on its way into the seal.
fn in_clear<S: serde::Serializer>(password: &Password, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(password.expose())
}

/// What is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Claims,
    Body,
    /// The pieces of an answer are counted from 0, and the last one says so: none can be left out.
    Answer {
        number: u64,
        is_last: bool,
    },
}

impl Part {
    fn name(self) -> String {
        match self {
            Self::Claims => "claims".to_owned(),
            Self::Body => "body".to_owned(),
            Self::Answer { number, is_last } => {
                format!("answer {number} {}", if is_last { "last" } else { "more" })
            }
        }
    }

    fn nonce(self) -> Nonce<aes_gcm::aead::consts::U12> {
        let (kind, number) = match self {
            Self::Claims => (1, 0),
            Self::Body => (2, 0),
            Self::Answer { number, .. } => (3, number),
        };
        let mut bytes = [0; 12];
        bytes[0] = kind;
        bytes[4..].copy_from_slice(&number.to_be_bytes());
        Nonce::from(bytes)
    }
}

/// The keys of one request and its answer.
#[derive(Clone)]
pub struct Exchange {
    request: Aes256Gcm,
    answer: Aes256Gcm,
    about: String,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange(…)")
    }
}

impl Exchange {
    fn new(secret: &[u8; SECRET_BYTES], about: String) -> Option<Self> {
        let [request, answer] = derive(secret, &about, ["obpilot v3 request", "obpilot v3 answer"]).ok()?;
        let cipher = |key: &Key| Aes256Gcm::new(&(**key).into());
        Some(Self { request: cipher(&request), answer: cipher(&answer), about })
    }

    fn key_of(&self, part: Part) -> &Aes256Gcm {
        match part {
            Part::Claims | Part::Body => &self.request,
            Part::Answer { .. } => &self.answer,
        }
    }

    fn open(&self, part: Part, sealed: &[u8]) -> Option<Vec<u8>> {
        let about = format!("{}\n{}", self.about, part.name());
        self.key_of(part).decrypt(&part.nonce(), Payload { msg: sealed, aad: about.as_bytes() }).ok()
    }

    fn seal(&self, part: Part, plain: &[u8]) -> Option<Vec<u8>> {
        let about = format!("{}\n{}", self.about, part.name());
        self.key_of(part).encrypt(&part.nonce(), Payload { msg: plain, aad: about.as_bytes() }).ok()
    }

    /// The body of the request; `None` for whatever was not sealed as such.
    pub fn open_body(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.open(Part::Body, sealed)
    }

    /// A piece of the answer as it goes on the wire: 1 when it is the last, else 0; the length of what follows in 4 bytes,
    /// big end first; what was sealed.
    ///
    /// # Panics
    /// Never for a piece below 4 GiB.
    pub fn seal_answer(&self, number: u64, is_last: bool, plain: &[u8]) -> Vec<u8> {
        let sealed = self.seal(Part::Answer { number, is_last }, plain).expect("a piece is small enough");
        let length = u32::try_from(sealed.len()).expect("a piece is below 4 GiB");
        let mut piece = Vec::with_capacity(PIECE_HEAD + sealed.len());
        piece.push(u8::from(is_last));
        piece.extend_from_slice(&length.to_be_bytes());
        piece.extend_from_slice(&sealed);
        piece
    }

    /// An answer that has come whole, as one text. `Ok(None)` when its last piece is missing.
    ///
    /// # Errors
    /// When it is not the answer to this request.
    pub fn open_whole(&self, mut came: Vec<u8>) -> Result<Option<Vec<u8>>, NotAnAnswer> {
        let mut whole = Vec::new();
        for number in 0.. {
            let Some(piece) = self.open_answer(number, &mut came)? else { return Ok(None) };
            whole.extend_from_slice(&piece.plain);
            if piece.is_last {
                break;
            }
        }
        Ok(Some(whole))
    }

    /// Takes the first piece off what has come of an answer. `Ok(None)` when more has to come.
    ///
    /// # Errors
    /// When it is not the piece of this number.
    pub fn open_answer(&self, number: u64, came: &mut Vec<u8>) -> Result<Option<Piece>, NotAnAnswer> {
        let Some((head, rest)) = came.split_at_checked(PIECE_HEAD) else { return Ok(None) };
        let is_last = match head[0] {
            0 => false,
            1 => true,
            _ => return Err(NotAnAnswer),
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        if length as usize > PIECE_BYTES_MAX {
            return Err(NotAnAnswer);
        }
        let Some(sealed) = rest.get(..length as usize) else { return Ok(None) };
        let plain = self.open(Part::Answer { number, is_last }, sealed).ok_or(NotAnAnswer)?;
        came.drain(..PIECE_HEAD + length as usize);
        Ok(Some(Piece { plain, is_last }))
    }
}

/// Before every piece of an answer.
const PIECE_HEAD: usize = 5;

/// Longer ones are nobody's answer.
const PIECE_BYTES_MAX: usize = 256 << 20;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub plain: Vec<u8>,
    pub is_last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not one to this request")]
pub struct NotAnAnswer;

/// An agent's public key, as a client has it.
#[derive(Debug)]
pub struct V3PublicKey {
    key: OaepPublicEncryptingKey,
    id: String,
}

/// A request id that nobody has used.
///
/// # Errors
/// When the system has no randomness.
pub fn fresh_request_id() -> Result<String, V3Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| V3Error::Seal)?;
    Ok(hex(&bytes))
}

/// What goes on the wire, and what opens the answer.
#[derive(Debug)]
pub struct V3Request {
    pub header_value: String,
    pub body: Option<Vec<u8>>,
    pub exchange: Exchange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum V3Error {
    #[error("it is not the base64 of a SubjectPublicKeyInfo with an RSA key of 2048 bits or more")]
    PublicKey,
    #[error("the request cannot be sealed")]
    Seal,
}

impl V3PublicKey {
    /// From `authSchemes.v3.publicKey` of `GET /api/v1/secret`.
    ///
    /// # Errors
    /// When it is no such key.
    pub fn from_wire(text: &str) -> Result<Self, V3Error> {
        let spki = STANDARD.decode(text).map_err(|_| V3Error::PublicKey)?;
        let key = PublicEncryptingKey::from_der(&spki).map_err(|_| V3Error::PublicKey)?;
        let key = OaepPublicEncryptingKey::new(key).map_err(|_| V3Error::PublicKey)?;
        Ok(Self { key, id: key_id_of(&spki) })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a request. `request_id` is to be new ([`fresh_request_id`]); `claims.has_body` is set by what is given.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(
        &self,
        method: &str,
        target: &str,
        expires: i64,
        request_id: &str,
        claims: Claims,
        body: Option<&[u8]>,
    ) -> Result<V3Request, V3Error> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(secret.as_mut_slice()).map_err(|_| V3Error::Seal)?;
        let mut sealed_key = vec![0; self.key.ciphertext_size()];
        self.key
            .encrypt(&OAEP_SHA256_MGF1SHA256, secret.as_slice(), &mut sealed_key, None)
            .map_err(|_| V3Error::Seal)?;
        let (key_id, request_id) = (self.id.clone(), request_id.to_owned());
        let mut mark = V3Mark { key_id, expires, request_id, sealed_key, sealed_claims: Vec::new() };
        let exchange = Exchange::new(&secret, mark.about(method, target)).ok_or(V3Error::Seal)?;
        let claims = Claims { has_body: body.is_some(), ..claims };
        let claims = Zeroizing::new(serde_json::to_vec(&claims).map_err(|_| V3Error::Seal)?);
        mark.sealed_claims = exchange.seal(Part::Claims, &claims).ok_or(V3Error::Seal)?;
        let body = body.map(|body| exchange.seal(Part::Body, body).ok_or(V3Error::Seal)).transpose()?;
        Ok(V3Request { header_value: mark.to_text(), body, exchange })
    }
}

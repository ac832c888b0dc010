//! Opening a sealed header of scheme v2 on the server's side (`security.md` §2.2, §11), and what every scheme's becomes.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::body::BodyKey;
use super::decide::Forward;
use super::keys::AgentKey;
use super::strict::{self, RawHeader};
use super::v3::{Claims, V3Mark};
use crate::model::{AgentAddr, Password};

/// Longest header line that is looked at.
const VALUE_BYTES_MAX: usize = 32 << 10;

/// Blocks that are decrypted at most; the largest honest header seen has four.
const BLOCKS_MAX: usize = 64;

/// SHA-256 of one block of ciphertext: honest padding is random, so no honest block comes twice.
pub type BlockHash = [u8; 32];

/// By which scheme a header came, and so what bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// No target, no body, no latest `ts`: nothing but the key that opened it, by its id ([`super::key_id_of`]).
    V1 {
        key_id: String,
    },
    V2,
    V3,
}

/// A header that opened. Nothing in it is believed yet.
#[derive(Clone, Debug)]
pub struct Opened {
    pub scheme: Scheme,
    pub auth: Password,
    /// Last second in which it is valid; absent or unreadable is `None`.
    pub ts: Option<i64>,
    pub uri: String,
    pub keys: Option<BodyKey>,
    pub token: Password,
    pub session_id: Password,
    pub forward: Forward,
    pub forward_agent: Option<AgentAddr>,
    pub blocks: Vec<BlockHash>,
}

impl Opened {
    /// `None` for everything that an honest client would not have sealed with this key. All blocks are decrypted before
    /// anything is judged.
    pub fn open(key: &AgentKey, value: &str) -> Option<Self> {
        let (plain, blocks) = unseal(key, value)?;
        Self::from_plain(&plain, blocks)
    }

    /// What was opened under scheme v3. It was made for this very request, or it had not opened.
    pub fn of_v3(claims: &Claims, mark: &V3Mark, target: &str) -> Self {
        Self {
            scheme: Scheme::V3,
            auth: claims.password.clone(),
            ts: Some(mark.expires),
            uri: target.to_owned(),
            keys: None,
            token: Password::default(),
            session_id: claims.session_id.clone(),
            forward: Forward::No,
            forward_agent: None,
            blocks: vec![mark.once()],
        }
    }

    /// The same once it is decrypted.
    pub fn from_plain(json: &[u8], blocks: Vec<BlockHash>) -> Option<Self> {
        let raw = strict::read(json)?;
        let RawHeader { auth, ts, uri, keys, token, session_id, sso_token: _, forward_type, forward_agent } =
            raw;
        let keys = match keys.filter(|keys| !keys.is_empty()) {
            Some(keys) => Some(BodyKey::from_text(keys.expose())?),
            None => None,
        };
        let forward = match forward_type.unwrap_or(0) {
            0 => Forward::No,
            1 => Forward::Automatic,
            2 => Forward::Deliberate,
            _ => return None,
        };
        let forward_agent = forward_agent.and_then(|agent| AgentAddr::from_parts(&agent.ip, agent.port).ok());
        Some(Self {
            scheme: Scheme::V2,
            auth: auth.unwrap_or_default(),
            ts: ts.as_deref().and_then(read_ts),
            uri: uri.unwrap_or_default(),
            keys,
            token: token.unwrap_or_default(),
            session_id: session_id.unwrap_or_default(),
            forward,
            forward_agent,
            blocks,
        })
    }
}

/// The text of a header's value and its blocks; `None` when it is too long, or no blocks at all. Then nothing was decrypted.
pub(super) fn unseal(key: &AgentKey, value: &str) -> Option<(Zeroizing<Vec<u8>>, Vec<BlockHash>)> {
    if value.len() > VALUE_BYTES_MAX {
        return None;
    }
    let sealed = STANDARD.decode(value).ok()?;
    let size = key.block_bytes();
    if sealed.is_empty() || sealed.len() / size > BLOCKS_MAX {
        return None;
    }
    let blocks = sealed.chunks(size).map(hash).collect();
    // What does not open is parsed all the same: as an empty text, which is no header.
    let plain = key.open_blocks(sealed.chunks(size)).unwrap_or_default();
    Some((plain, blocks))
}

pub(super) fn hash(block: &[u8]) -> BlockHash {
    let digest = digest::digest(&digest::SHA256, block);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

fn read_ts(text: &str) -> Option<i64> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

/// Whether a header is valid at the second of its arrival: not past, and not further ahead than `lifetime_max` (W10).
pub fn check_time(ts: Option<i64>, received: i64, lifetime_max: i64) -> bool {
    ts.is_some_and(|ts| ts >= received && ts <= received.saturating_add(lifetime_max))
}

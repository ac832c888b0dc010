//! Scheme v1 on the server's side (`security.md` §2.8): a header with a password and a time, body and query in clear.
//!
//! Purpose: for clients that speak nothing else, where the configuration allows it (`auth.v1`).
//!
//! Invariant: what opens as v1 is nothing else: a member that v1 has not, or a `ts` that is no number, makes it nobody's header. So
//! blocks of a header of v2 never become one of v1, nor the other way round.
//!
//! Not here: what a v1 header opens (`decide`), how long it is remembered (`replay`), HTTP (`api`).

use serde::Deserialize;

use super::decide::Forward;
use super::header::{BlockHash, Opened, Scheme, unseal};
use super::keys::AgentKey;
use super::v3::key_id_of;
use crate::model::Password;

/// The header of a request under this scheme.
pub const V1_HEADER: &str = "X-OCS-Auth";

/// What clients write, and all that they write.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// The Python SDK writes `null` where it was given none.
    password: Option<Password>,
    /// Unix time in seconds. The Go SDK adds nanoseconds: the year 3928.
    ts: i64,
}

impl Opened {
    /// As [`Opened::open`], for a request to this target: a v1 header fits every one.
    pub fn open_v1(key: &AgentKey, value: &str, target: &str) -> Option<Self> {
        let (plain, blocks) = unseal(key, value)?;
        let key_id = key_id_of(key.public_on_wire().as_bytes());
        Self::of_v1(&plain, blocks, key_id, target)
    }

    /// The same once it is decrypted.
    pub fn of_v1(json: &[u8], blocks: Vec<BlockHash>, key_id: String, target: &str) -> Option<Self> {
        let text = std::str::from_utf8(json).ok()?;
        // A list would be read in the order of the members.
        let is_object = text.trim_ascii_start().starts_with('{');
        let Header { password, ts } = serde_json::from_str(text).ok().filter(|_| is_object)?;
        Some(Self {
            scheme: Scheme::V1 { key_id },
            auth: password.unwrap_or_default(),
            ts: Some(ts),
            uri: target.to_owned(),
            keys: None,
            token: Password::default(),
            session_id: Password::default(),
            forward: Forward::No,
            forward_agent: None,
            blocks,
        })
    }
}

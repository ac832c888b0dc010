//! A request on the client's side: header sealed with the receiver's key, body under fresh keys.

use serde::Serialize;

use super::body::BodyKey;
use super::public::{PublicKey, PublicKeyError};
use crate::model::Password;

/// The header that carries the password of `root@sys`.
pub const DATABASE_HEADER: &str = "X-OCS-Header";

/// The header that carries the agent password; it wins when both are sent.
pub const AGENT_HEADER: &str = "X-OCS-Agent-Header";

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the header could not be sealed")]
    Header(#[from] PublicKeyError),
    #[error("the body could not be sealed")]
    Body,
}

/// What goes on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRequest {
    pub header_name: &'static str,
    pub header_value: String,
    pub body: Option<String>,
}

#[derive(Serialize)]
struct Header<'a> {
    auth: &'a str,
    ts: String,
    uri: &'a str,
    keys: String,
}

/// Seals a request for one receiver and one target (path and query exactly as they will be sent), in the name of `root@sys`
/// ([`DATABASE_HEADER`]) or with the agent password ([`AGENT_HEADER`]).
///
/// # Errors
/// When the key is unusable.
pub fn seal_request(
    header_name: &'static str,
    key: &PublicKey,
    password: &Password,
    ts: i64,
    target: &str,
    keys: &BodyKey,
    body: Option<&[u8]>,
) -> Result<SealedRequest, SealError> {
    let header = Header { auth: password.expose(), ts: ts.to_string(), uri: target, keys: keys.to_text() };
    let json = serde_json::to_vec(&header).map_err(|_| SealError::Body)?;
    let body = body.map(|body| keys.seal(body)).transpose().map_err(|_| SealError::Body)?;
    Ok(SealedRequest { header_name, header_value: key.seal(&json)?, body })
}

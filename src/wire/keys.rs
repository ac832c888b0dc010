//! Bodies about the agent's own keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/security/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Keys {
    /// Of `public_key` in `GET /api/v1/secret`.
    pub v2: KeyView,
    pub v3: KeyView,
    /// By which other agents know this one.
    pub peer: KeyView,
}

/// A key by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// First 32 hexadecimal digits of the SHA-256 of the public key as it is published, base64 undone for v3.
    #[serde(rename = "keyId")]
    pub key_id: String,
}

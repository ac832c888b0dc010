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

/// `POST /api/v1/security/keys/rotate`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct RotateBody {
    /// Which keys are to be new: `v2`, `v3`.
    #[serde(default)]
    #[schema(required = true, example = json!(["v2", "v3"]))]
    pub schemes: Vec<String>,
}

impl RotateBody {
    pub const MEMBERS: &[&str] = &["schemes"];
}

/// A key by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// First 32 hexadecimal digits of the SHA-256 of the public key as it is published, base64 undone for v3.
    #[serde(rename = "keyId")]
    pub key_id: String,
}

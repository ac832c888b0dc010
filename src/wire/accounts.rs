//! Bodies about users of the v2 API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::Password;

/// `GET /api/v1/security/accounts`. Neither passwords nor secret keys are ever told again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountList {
    pub accounts: Vec<AccountView>,
    #[serde(rename = "keyPairs")]
    pub key_pairs: Vec<KeyPairView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyPairView {
    #[serde(rename = "accessKey")]
    pub access_key: String,
    /// `viewer`, `operator` or `admin`; never more than its account may.
    pub role: String,
    /// Whose it is; `null` for one of its own.
    pub account: Option<String>,
}

/// `POST /api/v1/security/accounts`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct AccountBody {
    /// 1 to 64 letters, digits, `.`, `_`, `-`; not root.
    #[serde(default)]
    #[schema(required = true, example = "reader")]
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    #[serde(default)]
    #[schema(required = true, example = "viewer")]
    pub role: String,
    /// 8 to 256 bytes.
    #[serde(default)]
    #[schema(required = true, value_type = String)]
    pub password: Password,
}

impl AccountBody {
    pub const MEMBERS: &[&str] = &["name", "role", "password"];
}

/// `POST /api/v1/security/key-pairs`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct KeyPairBody {
    /// `viewer`, `operator` or `admin`.
    #[serde(default)]
    #[schema(required = true, example = "operator")]
    pub role: String,
    /// Whose it is to be; without it, its own.
    #[serde(default)]
    pub account: Option<String>,
}

impl KeyPairBody {
    pub const MEMBERS: &[&str] = &["role", "account"];
}

/// What a change of users came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountsChanged {
    /// Members that were not reached; they take the change when they are back.
    #[serde(rename = "notReached")]
    pub not_reached: Vec<String>,
}

/// A new key pair. The secret key is told this once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyPairMade {
    #[serde(rename = "accessKey")]
    pub access_key: String,
    /// As it is on the Unix socket and under scheme v3; else sealed under the keys of the request's header.
    #[serde(rename = "secretKey")]
    pub secret_key: String,
    /// Members that were not reached; they take the key pair when they are back.
    #[serde(rename = "notReached")]
    pub not_reached: Vec<String>,
}

impl std::fmt::Debug for KeyPairMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPairMade").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

//! Users of the v2 API besides root: accounts with a password, and key pairs.

use serde::{Deserialize, Serialize, Serializer};

use super::role::Role;
use super::secret::Password;

/// What is kept of a password: enough to know it again, and nothing else (`secure::password`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    pub iterations: u32,
    /// Base64.
    pub salt: String,
    /// Base64.
    pub hash: String,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A user with a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub role: Role,
    pub password: PasswordHash,
}

/// The secret half of a key pair. It is written as it is: only into what is sealed, the vault and messages among members.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct SecretKey(pub Password);

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for SecretKey {}

impl Serialize for SecretKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.expose())
    }
}

/// A user with a signature. Its name is the access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    pub role: Role,
    /// Whose it is: it ends with that account, and may never do more.
    pub account: Option<String>,
    pub secret: SecretKey,
}

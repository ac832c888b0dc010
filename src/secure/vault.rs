//! Secrets at rest: AES-256-GCM under a key that is kept in a file of its own, apart from what it protects (W6; the
//! file is `daemon`'s).
//!
//! A sealed value is: version byte, nonce, ciphertext. The name it is kept under is associated data, so values cannot
//! change places.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("a vault's key has 32 bytes, this one has {0}")]
    Key(usize),
    #[error(
        "'{0}' does not open with this vault's key: the key file was replaced, or the store comes from another home; put \
         the key that belongs to the store in its place"
    )]
    WrongKey(String),
    #[error("the system has no randomness")]
    Random,
}

/// The agent's vault.
pub struct Vault {
    cipher: Aes256Gcm,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl Vault {
    /// A fresh key, for the first start.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new_key() -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut key).map_err(|_| VaultError::Random)?;
        Ok(key)
    }

    /// # Errors
    /// When it is not a key.
    pub fn from_key(key: &[u8]) -> Result<Self, VaultError> {
        let cipher = Aes256Gcm::new_from_slice(key).map_err(|_| VaultError::Key(key.len()))?;
        Ok(Self { cipher })
    }

    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| VaultError::Random)?;
        let payload = Payload { msg: secret, aad: name.as_bytes() };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| VaultError::Random)?;
        let mut value = Vec::with_capacity(1 + NONCE_BYTES + sealed.len());
        value.push(VERSION);
        value.extend_from_slice(&nonce);
        value.extend_from_slice(&sealed);
        Ok(value)
    }

    /// # Errors
    /// When it was sealed by another key, under another name, or was changed.
    pub fn open(&self, name: &str, value: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let wrong = || VaultError::WrongKey(name.to_owned());
        let (version, rest) = value.split_first().ok_or_else(wrong)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES).ok_or_else(wrong)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| wrong())?;
        if *version != VERSION {
            return Err(wrong());
        }
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        self.cipher.decrypt(&Nonce::from(nonce), payload).map(Zeroizing::new).map_err(|_| wrong())
    }

    /// A secret that is text.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_text(&self, name: &str, value: &[u8]) -> Result<String, VaultError> {
        let plain = self.open(name, value)?;
        std::str::from_utf8(&plain).map(str::to_owned).map_err(|_| VaultError::WrongKey(name.to_owned()))
    }

    /// Sealed into text, for JSON.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub fn seal_to_text(&self, name: &str, secret: &[u8]) -> Result<String, VaultError> {
        Ok(STANDARD.encode(self.seal(name, secret)?))
    }

    /// # Errors
    /// As [`Vault::open`].
    pub fn open_from_text(&self, name: &str, text: &str) -> Result<String, VaultError> {
        let value = STANDARD.decode(text).map_err(|_| VaultError::WrongKey(name.to_owned()))?;
        self.open_text(name, &value)
    }
}

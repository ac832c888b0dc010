//! The agent's own RSA pair. The private key never leaves aws-lc-rs but as PKCS#8 on its way into the vault.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, Pkcs1PrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::public::{PublicKey, PublicKeyError};
use crate::model::Password;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("a key pair could not be made")]
    Generate,
    #[error("the stored key is not a usable RSA key")]
    Stored,
    #[error("the public key cannot be encoded")]
    Public(#[from] PublicKeyError),
}

/// A new pair of 2048 bits.
pub(super) fn fresh_pkcs8() -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| KeyError::Generate)?;
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).map_err(|_| KeyError::Generate)?;
    Ok(Zeroizing::new(der.as_ref().to_vec()))
}

/// The private key, and the public one as SubjectPublicKeyInfo.
pub(super) fn read_pkcs8(der: &[u8]) -> Result<(PrivateDecryptingKey, Vec<u8>), KeyError> {
    let key = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| KeyError::Stored)?;
    let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(&key.public_key()).map_err(|_| KeyError::Stored)?;
    let spki = spki.as_ref().to_vec();
    Ok((key, spki))
}

/// 2048 bits: an SDK's header is three blocks, about 1.3 ms to open. OBShell has 1024, which is within reach of some.
pub struct AgentKey {
    private: Pkcs1PrivateDecryptingKey,
    pkcs8: Zeroizing<Vec<u8>>,
    public_on_wire: String,
    block_bytes: usize,
}

impl std::fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AgentKey({} bits)", self.block_bytes * 8)
    }
}

impl AgentKey {
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_pkcs8(&fresh_pkcs8()?)
    }

    /// # Errors
    /// When it is no RSA key of 2048 bits or more.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let (key, spki) = read_pkcs8(der)?;
        let public_on_wire = PublicKey::from_spki(&spki)?.to_wire()?;
        let block_bytes = key.key_size_bytes();
        let private = Pkcs1PrivateDecryptingKey::new(key).map_err(|_| KeyError::Stored)?;
        Ok(Self { private, pkcs8: Zeroizing::new(der.to_vec()), public_on_wire, block_bytes })
    }

    /// What the vault keeps.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// What `GET /api/v1/secret` shows.
    pub fn public_on_wire(&self) -> &str {
        &self.public_on_wire
    }

    pub(super) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Every block is decrypted whatever becomes of the others; `None` when one of them was not ours.
    pub(super) fn open_blocks<'a>(
        &self,
        blocks: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = Zeroizing::new(Vec::new());
        let mut is_whole = true;
        let mut buffer = Zeroizing::new(vec![0; self.block_bytes]);
        for block in blocks {
            match self.private.decrypt(block, &mut buffer) {
                Ok(opened) => plain.extend_from_slice(opened),
                Err(_) => is_whole = false,
            }
        }
        is_whole.then_some(plain)
    }

    /// OPEN (`security.md` §0): a value that was sealed for this agent, such as the nested password of a scale-out.
    /// `None` for anything else.
    pub fn open_value(&self, text: &str) -> Option<Password> {
        let sealed = STANDARD.decode(text).ok().filter(|sealed| !sealed.is_empty())?;
        let plain = self.open_blocks(sealed.chunks(self.block_bytes))?;
        std::str::from_utf8(&plain).ok().map(Password::new)
    }
}

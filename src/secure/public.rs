//! Public RSA keys: encodings, and encrypting to them. The only file that names crate `rsa`: RUSTSEC-2023-0071 is about
//! private keys, and aws-lc-rs refuses the sizes that peers of other programs have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1::{DecodeRsaPublicKey, EncodeRsaPublicKey};
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Encrypt, RsaPublicKey};

/// Smallest modulus in bits that a message can be sealed to at all.
const BITS_MIN: usize = 512;

/// Bytes that PKCS#1 v1.5 padding takes of a block at least.
const PADDING_MIN: usize = 11;

#[derive(Debug, thiserror::Error)]
pub enum PublicKeyError {
    #[error("it is not the base64 of a PKCS#1 RSAPublicKey")]
    Encoding,
    #[error("it has {0} bits; 512 or more are needed")]
    TooSmall(usize),
    #[error("nothing can be encrypted to it")]
    Encrypt,
}

/// Somebody's public key.
#[derive(Clone, Debug)]
pub struct PublicKey(RsaPublicKey);

impl PublicKey {
    /// From `public_key` of `GET /api/v1/secret`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_wire(text: &str) -> Result<Self, PublicKeyError> {
        let der = STANDARD.decode(text.trim()).map_err(|_| PublicKeyError::Encoding)?;
        let key = RsaPublicKey::from_pkcs1_der(&der).map_err(|_| PublicKeyError::Encoding)?;
        Self::check(key)
    }

    /// From a SubjectPublicKeyInfo.
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, PublicKeyError> {
        let key = RsaPublicKey::from_public_key_der(der).map_err(|_| PublicKeyError::Encoding)?;
        Self::check(key)
    }

    fn check(key: RsaPublicKey) -> Result<Self, PublicKeyError> {
        let bits = key.size() * 8;
        if bits < BITS_MIN { Err(PublicKeyError::TooSmall(bits)) } else { Ok(Self(key)) }
    }

    /// As `GET /api/v1/secret` publishes it: base64 of the PKCS#1 DER. (The Go SDK refuses any other form.)
    pub(super) fn to_wire(&self) -> Result<String, PublicKeyError> {
        let der = self.0.to_pkcs1_der().map_err(|_| PublicKeyError::Encoding)?;
        Ok(STANDARD.encode(der.as_bytes()))
    }

    /// SEAL (`security.md` §0): blocks of as much as fits, each encrypted, joined, base64. An empty message is one block
    /// that holds nothing.
    ///
    /// # Errors
    /// When the key is unusable.
    pub(super) fn seal(&self, message: &[u8]) -> Result<String, PublicKeyError> {
        let mut rng = rsa::rand_core::OsRng;
        let chunk = self.0.size() - PADDING_MIN;
        let blocks: Vec<&[u8]> = if message.is_empty() { vec![&[]] } else { message.chunks(chunk).collect() };
        let mut sealed = Vec::with_capacity(blocks.len() * self.0.size());
        for block in blocks {
            let encrypted =
                self.0.encrypt(&mut rng, Pkcs1v15Encrypt, block).map_err(|_| PublicKeyError::Encrypt)?;
            sealed.extend_from_slice(&encrypted);
        }
        Ok(STANDARD.encode(sealed))
    }
}

//! Bodies under the keys of their header: AES-128-CBC, PKCS#7, base64 in one line (`security.md` §0, §2.3).

use aws_lc_rs::cipher::{
    AES_128, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 16;
const IV_BYTES: usize = 16;

/// Key and IV of one request.
#[derive(Clone, PartialEq, Eq)]
pub struct BodyKey(Zeroizing<[u8; KEY_BYTES + IV_BYTES]>);

impl std::fmt::Debug for BodyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BodyKey(…)")
    }
}

impl BodyKey {
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES + IV_BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// From `keys`: base64 of exactly 32 bytes.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
        let exact: [u8; KEY_BYTES + IV_BYTES] = bytes.as_slice().try_into().ok()?;
        Some(Self(Zeroizing::new(exact)))
    }

    pub(super) fn to_text(&self) -> String {
        STANDARD.encode(self.0.as_slice())
    }

    fn parts(&self) -> (&[u8], FixedLength<IV_BYTES>) {
        let (key, iv) = self.0.split_at(KEY_BYTES);
        let mut fixed = [0; IV_BYTES];
        fixed.copy_from_slice(iv);
        (key, FixedLength::from(fixed))
    }

    /// AES-SEAL.
    ///
    /// # Errors
    /// Never for a key that exists; the library's interface allows it.
    pub fn seal(&self, plain: &[u8]) -> Result<String, aws_lc_rs::error::Unspecified> {
        let (key, iv) = self.parts();
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_128, key)?)?;
        let mut buffer = plain.to_vec();
        key.less_safe_encrypt(&mut buffer, EncryptionContext::Iv128(iv))?;
        Ok(STANDARD.encode(buffer))
    }

    /// AES-OPEN, with strict padding. `None` for whatever is not a body under this key.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = STANDARD.decode(sealed.trim_ascii()).ok()?;
        let (key, iv) = self.parts();
        let key = UnboundCipherKey::new(&AES_128, key).ok()?;
        let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
        let plain = key.decrypt(&mut buffer, DecryptionContext::Iv128(iv)).ok()?;
        Some(plain.to_vec())
    }
}

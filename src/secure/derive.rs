//! Keys from one secret, one per purpose (HKDF-SHA256).
//!
//! Invariant: the keys are bound to everything that was said: its digest is the salt.

use aws_lc_rs::{digest, hkdf};
use zeroize::Zeroizing;

/// An AES-256 key.
pub(super) const KEY_BYTES: usize = 32;

pub(super) type Key = Zeroizing<[u8; KEY_BYTES]>;

struct KeyLen;

impl hkdf::KeyType for KeyLen {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// One key for each label.
///
/// # Errors
/// Never for keys of this length; the library's interface allows it.
pub(super) fn derive<const N: usize>(
    secret: &[u8],
    said: &str,
    labels: [&'static str; N],
) -> Result<[Key; N], aws_lc_rs::error::Unspecified> {
    let said = digest::digest(&digest::SHA256, said.as_bytes());
    let base = hkdf::Salt::new(hkdf::HKDF_SHA256, said.as_ref()).extract(secret);
    let mut keys = [(); N].map(|()| Zeroizing::new([0; KEY_BYTES]));
    for (key, label) in keys.iter_mut().zip(labels) {
        base.expand(&[label.as_bytes()], KeyLen)?.fill(key.as_mut_slice())?;
    }
    Ok(keys)
}

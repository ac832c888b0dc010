//! Comparing texts: secrets in a time that tells nothing about them (W26), others by their digest.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use subtle::ConstantTimeEq;

/// Whether two secrets are the same text. The time depends on the lengths only.
pub fn is_same(left: &str, right: &str) -> bool {
    left.as_bytes().ct_eq(right.as_bytes()).into()
}

/// SHA-1 in hexadecimal, for names that `host-info` hides. It protects nothing.
pub fn sha1_hex(text: &str) -> String {
    digest_hex(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes())
}

/// SHA-256 in hexadecimal: the name of something by its content.
pub fn sha256_hex(content: impl AsRef<[u8]>) -> String {
    digest_hex(&SHA256, content.as_ref())
}

fn digest_hex(algorithm: &'static Algorithm, content: &[u8]) -> String {
    hex(digest(algorithm, content).as_ref())
}

/// Lower-case hexadecimal. Nothing of it is left behind in texts of its own: it may be a secret.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text
}

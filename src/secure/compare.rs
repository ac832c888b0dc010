//! Comparing secrets in a time that tells nothing about them (W26).

use subtle::ConstantTimeEq;

/// Whether two secrets are the same text. The time depends on the lengths only.
pub fn is_same(left: &str, right: &str) -> bool {
    left.as_bytes().ct_eq(right.as_bytes()).into()
}

//! What is kept of the password of an account: a slow hash with a salt of its own (PBKDF2 with HMAC-SHA-512).
//!
//! Invariant: to look at a password costs the same whether there is such an account or not.

use std::num::NonZeroU32;

use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::model::{Password, PasswordHash};

/// Some 60 ms of one core: too much for whoever has stolen a store and guesses, little for whoever logs on.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(210_000).expect("it is not zero");

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// # Errors
/// When the system has no randomness.
pub fn hash_password(password: &Password) -> Result<PasswordHash, aws_lc_rs::error::Unspecified> {
    let mut salt = [0; SALT_BYTES];
    aws_lc_rs::rand::fill(&mut salt)?;
    let mut hash = [0; HASH_BYTES];
    let text = password.expose().as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ITERATIONS, &salt, text, &mut hash);
    Ok(PasswordHash {
        iterations: ITERATIONS.get(),
        salt: STANDARD.encode(salt),
        hash: STANDARD.encode(hash),
    })
}

/// Whether this is the password. Of nobody it never is, after the same work.
pub fn is_password(kept: Option<&PasswordHash>, password: &Password) -> bool {
    let nobodys = PasswordHash { iterations: ITERATIONS.get(), salt: String::new(), hash: String::new() };
    let PasswordHash { iterations, salt, hash } = kept.unwrap_or(&nobodys);
    let iterations = NonZeroU32::new(*iterations).unwrap_or(ITERATIONS);
    let salt = STANDARD.decode(salt).unwrap_or_default();
    let hash = STANDARD.decode(hash).ok().filter(|hash| hash.len() == HASH_BYTES);
    let is_it = pbkdf2::verify(
        pbkdf2::PBKDF2_HMAC_SHA512,
        iterations,
        &salt,
        password.expose().as_bytes(),
        hash.as_deref().unwrap_or(&[0; HASH_BYTES]),
    );
    is_it.is_ok() && hash.is_some()
}

/// By which a process knows a password again that was right a moment ago. It is nowhere else, and ends with the process.
pub struct RecallKey(hmac::Key);

impl std::fmt::Debug for RecallKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecallKey(…)")
    }
}

impl Default for RecallKey {
    fn default() -> Self {
        let mut key = zeroize::Zeroizing::new([0; HASH_BYTES]);
        aws_lc_rs::rand::fill(key.as_mut_slice()).expect("a system without randomness starts no agent");
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
    }
}

impl RecallKey {
    /// 32 bytes that tell nothing of the password without the key.
    pub fn digest(&self, name: &str, password: &Password) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(name.as_bytes());
        context.update(&[0]);
        context.update(password.expose().as_bytes());
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_no_two_hashes_are_alike() {
        let (right, wrong) = (Password::new("correct horse"), Password::new("correct horsf"));
        let (first, second) = (hash_password(&right).unwrap(), hash_password(&right).unwrap());
        assert_ne!(first, second);
        assert!(is_password(Some(&first), &right) && is_password(Some(&second), &right));
        assert!(!is_password(Some(&first), &wrong));
        assert!(!is_password(None, &right));
        assert!(!format!("{first:?}").contains(&first.hash));
    }

    #[test]
    fn a_hash_that_is_none_lets_nobody_in() {
        let empty = PasswordHash { iterations: 1, salt: String::new(), hash: String::new() };
        for password in ["", "x"] {
            assert!(!is_password(Some(&empty), &Password::new(password)));
        }
    }
}

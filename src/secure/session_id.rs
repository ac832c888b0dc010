//! Ids of sessions (`security.md` §6): 32 random bytes as lower-case hexadecimal. Only their digests are kept.

use super::compare::{hex, is_same, sha256_hex};
use crate::model::Password;

const ID_BYTES: usize = 32;

/// The digest of a session's id: names the session and opens nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionId(String);

impl SessionId {
    /// A fresh id, to be told once, and its digest, to be kept.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<(Password, Self), aws_lc_rs::error::Unspecified> {
        let mut bytes = zeroize::Zeroizing::new([0; ID_BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice())?;
        let text = hex(bytes.as_slice());
        let kept = Self::of(&text);
        Ok((Password::new(text), kept))
    }

    /// Of an id that somebody presents, whatever it is.
    pub fn of(id: &str) -> Self {
        Self(sha256_hex(id))
    }

    /// In a time that tells nothing about either.
    pub fn is(&self, other: &Self) -> bool {
        is_same(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_digits_and_no_two_are_alike() {
        let (first, kept) = SessionId::generate().unwrap();
        let (second, other) = SessionId::generate().unwrap();
        assert_eq!(first.expose().len(), 64);
        assert!(first.expose().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_ne!(first.expose(), second.expose());
        assert!(kept.is(&SessionId::of(first.expose())) && !kept.is(&other));
        assert!(!kept.is(&SessionId::of(&first.expose().to_uppercase())));
        assert!(!format!("{kept:?}").contains(first.expose()), "what is kept does not hold the id");
    }
}

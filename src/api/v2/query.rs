//! What every list of v2 takes: page, size, sort, lists of words.
//!
//! Invariant: what cannot be read is refused by name, and nothing is guessed.

use actix_web::web::Query;

use super::error::{OcpCode, Refusal};
use crate::app::Page;

/// Of a list that says nothing (`ocp-v2.md` §3).
const SIZE_DEFAULT: usize = 10;
const SIZE_MAX: usize = 2_000;

/// Pages beyond that have nothing on them.
const PAGE_MAX: usize = 1_000_000;

/// The pairs of a query in their order, decoded.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    Query::<Vec<(String, String)>>::from_query(query).map(Query::into_inner).unwrap_or_default()
}

/// A query of a list.
#[derive(Debug)]
pub(super) struct Asked(Vec<(String, String)>);

impl Asked {
    pub(super) fn of(query: &str) -> Self {
        Self(pairs(query))
    }

    /// The last value of a name that is not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// `COM10001`
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        number(name, text).map(Some)
    }

    /// # Errors
    /// `COM10001`
    pub(super) fn page(&self) -> Result<Page, Refusal> {
        let within = |name: &str, default: usize, most: usize| match self.number(name)? {
            None => Ok(default),
            Some(given) => {
                let fits = usize::try_from(given).ok().filter(|given| (1..=most).contains(given));
                fits.ok_or_else(|| {
                    refused(format!("{name} is {given}; it must be a whole number from 1 to {most}"))
                })
            }
        };
        Ok(Page { number: within("page", 1, PAGE_MAX)?, size: within("size", SIZE_DEFAULT, SIZE_MAX)? })
    }

    /// Words separated by commas, each one of those that are known; empty when nothing was given.
    ///
    /// # Errors
    /// `COM10001`
    pub(super) fn words<T: Copy>(&self, name: &str, known: &[(&str, T)]) -> Result<Vec<T>, Refusal> {
        let given = self.text(name).into_iter().flat_map(|text| text.split(','));
        let words = given.map(str::trim).filter(|word| !word.is_empty()).map(|word| {
            let found = known.iter().find(|(text, _)| text.eq_ignore_ascii_case(word));
            found.map(|(_, value)| *value).ok_or_else(|| {
                let known: Vec<_> = known.iter().map(|(text, _)| *text).collect();
                refused(format!("{name} has '{word}'; known are {}", known.join(", ")))
            })
        });
        words.collect()
    }

    /// `field,asc` or `field,desc`; without a direction ascending.
    ///
    /// # Errors
    /// `COM10011`
    pub(super) fn sort<T: Copy>(&self, known: &[(&str, T)]) -> Result<Option<(T, bool)>, Refusal> {
        let Some(text) = self.text("sort") else { return Ok(None) };
        let (field, direction) = text.split_once(',').unwrap_or((text, "asc"));
        let is_ascending = match direction.trim().to_ascii_lowercase().as_str() {
            "asc" | "" => Some(true),
            "desc" => Some(false),
            _ => None,
        };
        let found = known.iter().find(|(name, _)| *name == field.trim()).map(|(_, value)| *value);
        found.zip(is_ascending).map(Some).ok_or_else(|| {
            let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            let text =
                format!("sort is '{text}'; it must be one of {}, then ,asc or ,desc", known.join(", "));
            Refusal::new(OcpCode::SortNotSupported, text)
        })
    }
}

fn refused(text: String) -> Refusal {
    Refusal::new(OcpCode::ParameterInvalid, text)
}

/// A number as it stands in a path or a query.
///
/// # Errors
/// `COM10001`
pub(super) fn number(name: &str, text: &str) -> Result<i64, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<i64>().ok().filter(|_| digits);
    number.ok_or_else(|| refused(format!("{name} is '{text}'; it must be a whole number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_sorts_are_read_or_refused() {
        let page = |query: &str| Asked::of(query).page().map(|page| (page.number, page.size));
        assert_eq!(page("").unwrap(), (1, 10));
        assert_eq!(page("page=3&size=2000").unwrap(), (3, 2000));
        for wrong in ["page=0", "size=0", "size=2001", "page=-1", "page=x", "size=1.5"] {
            assert_eq!(page(wrong).unwrap_err().code, OcpCode::ParameterInvalid, "{wrong}");
        }
        let sort = |query: &str| Asked::of(query).sort(&[("id", 1), ("name", 2)]);
        assert_eq!(sort("").unwrap(), None);
        assert_eq!(sort("sort=id").unwrap(), Some((1, true)));
        assert_eq!(sort("sort=name,desc").unwrap(), Some((2, false)));
        for wrong in ["sort=age", "sort=id,up", "sort=,asc"] {
            assert_eq!(sort(wrong).unwrap_err().code, OcpCode::SortNotSupported, "{wrong}");
        }
        let words = |query: &str| Asked::of(query).words("status", &[("RUNNING", 1), ("FAILED", 2)]);
        assert_eq!(words("status=running,FAILED").unwrap(), [1, 2]);
        assert_eq!(words("status=BROKEN").unwrap_err().code, OcpCode::ParameterInvalid);
    }
}

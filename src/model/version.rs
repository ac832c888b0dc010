//! Versions: the API level we speak, our own product version, and dotted versions compared as numbers.

use std::cmp::Ordering;

/// What `/api/v1/info` reports as `version`: the OBShell API level this agent speaks, with our release after the
/// dash. SDKs compare the four dotted numbers (`http-api.md` §10.1); who we are stands in `product`.
pub const API_VERSION: &str = concat!(
    "4.5.0.0-",
    env!("CARGO_PKG_VERSION_MAJOR"),
    env!("CARGO_PKG_VERSION_MINOR"),
    env!("CARGO_PKG_VERSION_PATCH")
);

pub const PRODUCT: &str = "obpilot";

pub const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Compares `4.3.10.0` and `4.3.3.0` by their numbers; what is not a number counts as 0, missing parts too.
pub fn compare_dotted(left: &str, right: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        let dotted = text.split('-').next().unwrap_or_default();
        dotted.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    let (mut left, mut right) = (numbers(left), numbers(right));
    let len = left.len().max(right.len());
    left.resize(len, 0);
    right.resize(len, 0);
    left.cmp(&right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w43_versions_compare_as_numbers() {
        assert_eq!(compare_dotted("4.3.10.0", "4.3.3.0"), Ordering::Greater);
        assert_eq!(compare_dotted("4.3.3.0-5", "4.3.3.0-9"), Ordering::Equal);
        assert_eq!(compare_dotted("4.3", "4.3.0.1"), Ordering::Less);
    }

    #[test]
    fn the_reported_version_satisfies_the_sdks() {
        assert_ne!(compare_dotted(API_VERSION, "4.2.4.0"), Ordering::Less);
        assert_eq!(API_VERSION.split('-').next().unwrap().split('.').count(), 4);
    }
}

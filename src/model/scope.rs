//! Which servers an operation is about.
//!
//! Invariant: a ZONE or SERVER scope names at least one target and none twice; order is the caller's.

use std::fmt;
use std::str::FromStr;

use super::{AddrError, AgentAddr};

/// The name of a zone as it may stand in a request and in SQL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ZoneName(String);

impl ZoneName {
    /// Longest name the database stores (`DBA_OB_ZONES.ZONE varchar(128)`).
    pub const LEN_MAX: usize = 128;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ZoneName> for String {
    fn from(name: ZoneName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ZoneName {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl FromStr for ZoneName {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let fits = !text.is_empty() && text.len() <= Self::LEN_MAX;
        let plain = text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if fits && plain { Ok(Self(text.to_owned())) } else { Err(ScopeError::Zone(text.to_owned())) }
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", content = "target", rename_all = "UPPERCASE")]
pub enum Scope {
    Global,
    Zone(Vec<ZoneName>),
    Server(Vec<AgentAddr>),
}

/// Why a scope cannot be. Each maps to the code that OBShell gives for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    #[error("scope type '{0}' is unknown; use GLOBAL, ZONE or SERVER")]
    Type(String),
    #[error("scope {0} needs at least one target")]
    NoTarget(&'static str),
    #[error("scope GLOBAL takes no target, but {0} given; leave target out, or use ZONE or SERVER")]
    TargetOfGlobal(usize),
    #[error("target '{0}' stands in the scope more than once")]
    Twice(String),
    #[error("'{0}' is not a zone name; letters, digits, '_', '-' and '.' are allowed, 128 bytes at most")]
    Zone(String),
    #[error(transparent)]
    Addr(#[from] AddrError),
}

impl Scope {
    /// From the two members of a request body. `kind` in any case (`http-api.md` §5.1).
    ///
    /// # Errors
    /// See [`ScopeError`]; nothing is guessed.
    pub fn parse(kind: &str, target: &[String]) -> Result<Self, ScopeError> {
        match kind.to_ascii_uppercase().as_str() {
            "GLOBAL" if target.is_empty() => Ok(Self::Global),
            "GLOBAL" => Err(ScopeError::TargetOfGlobal(target.len())),
            "ZONE" => Ok(Self::Zone(distinct("ZONE", target)?)),
            "SERVER" => Ok(Self::Server(distinct("SERVER", target)?)),
            _ => Err(ScopeError::Type(kind.to_owned())),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Global => "GLOBAL",
            Self::Zone(_) => "ZONE",
            Self::Server(_) => "SERVER",
        }
    }

    pub fn targets(&self) -> Vec<String> {
        match self {
            Self::Global => Vec::new(),
            Self::Zone(zones) => zones.iter().map(ToString::to_string).collect(),
            Self::Server(servers) => servers.iter().map(ToString::to_string).collect(),
        }
    }
}

fn distinct<T>(kind: &'static str, target: &[String]) -> Result<Vec<T>, ScopeError>
where
    T: FromStr + PartialEq,
    ScopeError: From<T::Err>,
{
    let mut found: Vec<T> = Vec::with_capacity(target.len());
    for text in target {
        let item = text.parse::<T>()?;
        if found.contains(&item) {
            return Err(ScopeError::Twice(text.clone()));
        }
        found.push(item);
    }
    if found.is_empty() { Err(ScopeError::NoTarget(kind)) } else { Ok(found) }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("GLOBAL"),
            Self::Zone(_) | Self::Server(_) => write!(f, "{} {}", self.kind(), self.targets().join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: &str, target: &[&str]) -> Result<Scope, ScopeError> {
        Scope::parse(kind, &target.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn any_case_of_the_type() {
        assert_eq!(parse("global", &[]), Ok(Scope::Global));
        assert_eq!(parse("Zone", &["z1"]).unwrap().to_string(), "ZONE z1");
        assert_eq!(parse("SERVER", &["10.0.0.1"]).unwrap().to_string(), "SERVER 10.0.0.1:2886");
    }

    #[test]
    fn every_wrong_scope_has_its_own_reason() {
        assert!(matches!(parse("", &[]), Err(ScopeError::Type(_))));
        assert!(matches!(parse("ALL", &[]), Err(ScopeError::Type(_))));
        assert!(matches!(parse("GLOBAL", &["z1"]), Err(ScopeError::TargetOfGlobal(1))));
        assert!(matches!(parse("ZONE", &[]), Err(ScopeError::NoTarget("ZONE"))));
        assert!(matches!(parse("ZONE", &["z1", "z1"]), Err(ScopeError::Twice(_))));
        assert!(matches!(parse("ZONE", &["z'1"]), Err(ScopeError::Zone(_))));
        assert!(matches!(parse("SERVER", &["10.0.0.1", "10.0.0.1:2886"]), Err(ScopeError::Twice(_))));
        assert!(matches!(parse("SERVER", &["nohost"]), Err(ScopeError::Addr(AddrError::Ip(_)))));
    }
}

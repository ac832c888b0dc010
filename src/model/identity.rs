//! What an agent is to its cluster. The texts are the wire's and the store's (`http-api.md` §4.1).

use std::fmt;
use std::str::FromStr;

/// The nine identities; SDKs refuse any other text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Identity {
    /// Belongs to nobody yet.
    Single,
    /// Leads a cluster that is not initialised yet.
    Master,
    /// Follows a master.
    Follower,
    /// Member of an initialised cluster.
    ClusterAgent,
    TakeOverMaster,
    TakeOverFollower,
    ScalingOut,
    ScalingIn,
    Unidentified,
}

impl Identity {
    pub const ALL: [Self; 9] = [
        Self::Single,
        Self::Master,
        Self::Follower,
        Self::ClusterAgent,
        Self::TakeOverMaster,
        Self::TakeOverFollower,
        Self::ScalingOut,
        Self::ScalingIn,
        Self::Unidentified,
    ];

    pub fn text(self) -> &'static str {
        match self {
            Self::Single => "SINGLE",
            Self::Master => "MASTER",
            Self::Follower => "FOLLOWER",
            Self::ClusterAgent => "CLUSTER AGENT",
            Self::TakeOverMaster => "TAKE OVER MASTER",
            Self::TakeOverFollower => "TAKE OVER FOLLOWER",
            Self::ScalingOut => "SCALING OUT",
            Self::ScalingIn => "SCALING IN",
            Self::Unidentified => "UNIDENTIFIED",
        }
    }
}

impl From<Identity> for &'static str {
    fn from(identity: Identity) -> Self {
        identity.text()
    }
}

impl TryFrom<String> for Identity {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|i| i.text() == text).ok_or_else(|| format!("'{text}' is not an identity"))
    }
}

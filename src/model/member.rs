//! An agent as its cluster knows it: a row of `all_agent` (`lifecycle.md` §11 Q100), and the key that peers know it by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AgentAddr, Identity, ServerAddr, ZoneName};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub agent: AgentAddr,
    pub zone: ZoneName,
    pub identity: Identity,
    /// API level and release of the agent.
    pub version: String,
    pub os: String,
    pub architecture: String,
    pub home_path: String,
    /// Port of the MySQL protocol of its server.
    pub sql_port: u16,
    /// Port between servers.
    pub rpc_port: u16,
    /// RSA key that clients seal their headers with; base64 of the PKCS#1 DER.
    pub public_key: String,
    /// Ed25519 key that other agents know it by; base64.
    pub peer_key: String,
}

impl Member {
    /// Its database server, as SQL names it.
    pub fn server(&self) -> ServerAddr {
        ServerAddr::new(self.agent.ip, self.rpc_port)
    }
}

#[cfg(test)]
impl Member {
    /// For tests: nothing is known of it but who and where it is, and the usual ports.
    pub fn sample(agent: AgentAddr, zone: &str, identity: Identity) -> Self {
        Self {
            agent,
            zone: zone.parse().expect("the name of a zone"),
            identity,
            version: String::new(),
            os: String::new(),
            architecture: String::new(),
            home_path: String::new(),
            sql_port: 2881,
            rpc_port: 2882,
            public_key: String::new(),
            peer_key: String::new(),
        }
    }
}

/// A member of a cluster wants to add an agent (`POST /rpc/v1/ob/scale_out`): what that one must know to know us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Whoever shows its key is the coordinator.
    pub coordinator: Member,
    pub zone: ZoneName,
    /// Settings of the server to be, by name.
    pub config: BTreeMap<String, String>,
}

//! Configuration of the database servers: which keys may be set, which value wins.

use std::collections::BTreeMap;

use super::state::AgentState;
use crate::model::AgentAddr;

/// Keys that the agent sets itself (`lifecycle.md` §3.2).
pub const DENIED_KEYS: [&str; 7] =
    ["cluster_id", "cluster", "rootPwd", "rootservice_list", "zone", "local_ip", "devname"];

pub const MYSQL_PORT_DEFAULT: u16 = 2881;
pub const RPC_PORT_DEFAULT: u16 = 2882;

/// Ports a server may be configured with.
const PORTS: std::ops::RangeInclusive<u16> = 1025..=65535;

/// Why a configuration cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("observerConfig is empty; name at least one setting")]
    Empty,
    #[error("'{0}' is set by the agent itself and cannot be configured")]
    Denied(String),
    #[error(
        "'{old}' is the old name of '{new}', and both are given with different values; leave '{old}' out"
    )]
    Twice { old: &'static str, new: &'static str },
    #[error("'{0}' is not the name of a setting; letters, digits and '_' are allowed")]
    Name(String),
    #[error("{key} = '{value}' is not a usable port; ports of a server go from 1025 to 65535")]
    Port { key: &'static str, value: String },
}

/// Old names replaced by new ones, and everything checked that can be checked without a server.
///
/// # Errors
/// The first thing that cannot be.
pub fn tidy_keys(given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ConfigError> {
    if given.is_empty() {
        return Err(ConfigError::Empty);
    }
    let mut tidy = BTreeMap::new();
    for (key, value) in given {
        if DENIED_KEYS.contains(&key.as_str()) {
            return Err(ConfigError::Denied(key));
        }
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(ConfigError::Name(key));
        }
        let renamed = match key.as_str() {
            "rpcPort" => Some(("rpcPort", "rpc_port")),
            "mysqlPort" => Some(("mysqlPort", "mysql_port")),
            _ => None,
        };
        let name = renamed.map_or(key.clone(), |(_, new)| new.to_owned());
        let before = tidy.insert(name, value.clone());
        if before.is_some_and(|before| before != value) {
            let (old, new) =
                if key.starts_with("rpc") { ("rpcPort", "rpc_port") } else { ("mysqlPort", "mysql_port") };
            return Err(ConfigError::Twice { old, new });
        }
    }
    port(&tidy, "mysql_port", MYSQL_PORT_DEFAULT)?;
    port(&tidy, "rpc_port", RPC_PORT_DEFAULT)?;
    Ok(tidy)
}

/// A port from a configuration, or the default.
///
/// # Errors
/// When it is out of range.
pub fn port(config: &BTreeMap<String, String>, key: &'static str, default: u16) -> Result<u16, ConfigError> {
    let Some(value) = config.get(key) else { return Ok(default) };
    let port = value.parse::<u16>().ok().filter(|port| PORTS.contains(port));
    port.ok_or_else(|| ConfigError::Port { key, value: value.clone() })
}

/// What holds for one server: SERVER over ZONE over GLOBAL (W22: the most specific wins, whatever was set last).
pub fn effective(state: &AgentState, server: AgentAddr) -> BTreeMap<String, String> {
    let mut merged = state.observer.global.clone();
    if let Some(zone) = state.members.zone_of(server).and_then(|zone| state.observer.zones.get(zone)) {
        merged.extend(zone.clone());
    }
    if let Some(own) = state.observer.servers.get(&server) {
        merged.extend(own.clone());
    }
    merged
}

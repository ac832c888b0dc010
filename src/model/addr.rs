//! Addresses of agents and of database servers: IP and port, printed `ip:port` or `[ipv6]:port`. The same shape, and two
//! types, so that the two are never mixed up.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The port an agent listens on when nobody says otherwise (`lifecycle.md` §1.3).
pub const DEFAULT_AGENT_PORT: u16 = 2886;

/// Where an agent's API is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AgentAddr {
    pub ip: IpAddr,
    pub port: u16,
}

/// Why a text is no address. The message is ready for a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddrError {
    #[error("'{0}' is not an IP address; write it as 10.0.0.1 or 2001:db8::1")]
    Ip(String),
    #[error("'{0}' is not a usable port; ports go from 1 to 65535")]
    Port(String),
    #[error("'{0}' is not an address; write ip, ip:port or [ipv6]:port")]
    Shape(String),
}

/// Where a database server is reached by other servers: its IP and rpc port, as SQL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ServerAddr {
    pub ip: IpAddr,
    pub port: u16,
}

impl ServerAddr {
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip: canonical(ip), port }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.ip, self.port).fmt(f)
    }
}

impl FromStr for ServerAddr {
    type Err = AddrError;

    /// `ip:port` or `[ipv6]:port`; the port is needed.
    fn from_str(text: &str) -> Result<Self, AddrError> {
        let socket = text.parse::<SocketAddr>().ok().filter(|socket| socket.port() != 0);
        socket.map(|s| Self::new(s.ip(), s.port())).ok_or_else(|| AddrError::Shape(text.to_owned()))
    }
}

impl From<ServerAddr> for String {
    fn from(addr: ServerAddr) -> Self {
        addr.to_string()
    }
}

impl TryFrom<String> for ServerAddr {
    type Error = AddrError;

    fn try_from(text: String) -> Result<Self, AddrError> {
        text.parse()
    }
}

impl AgentAddr {
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip: canonical(ip), port }
    }

    /// From the two members of an `AgentInfo` body.
    ///
    /// # Errors
    /// `AddrError::Ip` or `AddrError::Port` when one of them is out of range.
    pub fn from_parts(ip: &str, port: i64) -> Result<Self, AddrError> {
        let ip: IpAddr = ip.parse().map_err(|_| AddrError::Ip(ip.to_owned()))?;
        let usable = u16::try_from(port).ok().filter(|p| *p != 0);
        Ok(Self::new(ip, usable.ok_or_else(|| AddrError::Port(port.to_string()))?))
    }

    pub fn socket(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// An IPv4 address mapped into IPv6 is the IPv4 address (`task-engine.md` §5 counts it as such).
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

impl From<AgentAddr> for String {
    fn from(addr: AgentAddr) -> Self {
        addr.to_string()
    }
}

impl TryFrom<String> for AgentAddr {
    type Error = AddrError;

    fn try_from(text: String) -> Result<Self, AddrError> {
        text.parse()
    }
}

impl fmt::Display for AgentAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(f)
    }
}

impl FromStr for AgentAddr {
    type Err = AddrError;

    /// Accepts `ip`, `ip:port`, `[ipv6]` and `[ipv6]:port`; the port defaults to [`DEFAULT_AGENT_PORT`].
    fn from_str(text: &str) -> Result<Self, AddrError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::new(ip, DEFAULT_AGENT_PORT));
        }
        let (host, port) = split_port(text)?;
        let ip: IpAddr = host.parse().map_err(|_| AddrError::Ip(host.to_owned()))?;
        let port = match port {
            None => DEFAULT_AGENT_PORT,
            // A sign would be accepted by the number parser; no address has one.
            Some(p) if p.starts_with('+') => return Err(AddrError::Port(p.to_owned())),
            Some(p) => {
                p.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(|| AddrError::Port(p.to_owned()))?
            }
        };
        Ok(Self::new(ip, port))
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), AddrError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']').ok_or_else(|| AddrError::Shape(text.to_owned()))?;
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if tail.is_empty() => Ok((host, None)),
            None => Err(AddrError::Shape(text.to_owned())),
        };
    }
    text.split_once(':').map(|(host, port)| (host, Some(port))).ok_or_else(|| AddrError::Ip(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints_both_families() {
        for (text, printed) in [
            ("10.0.0.1", "10.0.0.1:2886"),
            ("10.0.0.1:3000", "10.0.0.1:3000"),
            ("2001:db8::1", "[2001:db8::1]:2886"),
            ("[2001:db8::1]", "[2001:db8::1]:2886"),
            ("[2001:db8::1]:7", "[2001:db8::1]:7"),
            ("::ffff:10.0.0.1", "10.0.0.1:2886"),
        ] {
            assert_eq!(text.parse::<AgentAddr>().unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            "host",
            "10.0.0.1:0",
            "10.0.0.1:+5",
            "10.0.0.1:65536",
            "[::1",
            "[::1]x",
            "10.0.0:1",
            "1.2.3.4:",
        ] {
            assert!(text.parse::<AgentAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_are_checked() {
        assert!(AgentAddr::from_parts("10.0.0.1", 2886).is_ok());
        assert!(matches!(AgentAddr::from_parts("x", 2886), Err(AddrError::Ip(_))));
        for port in [0, -1, 65_536, i64::MAX] {
            assert!(matches!(AgentAddr::from_parts("10.0.0.1", port), Err(AddrError::Port(_))), "{port}");
        }
    }
}

//! Ids: plain numbers inside one store, and the generic id under which a client finds a DAG, node or sub-task
//! through any agent (`task-engine.md` §5).
//!
//! Invariant: `decode(encode(x)) == x` for every store and number, and `decode` accepts nothing else (W37: no
//! signs, no address that cannot be read back).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::AgentAddr;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// Number of a DAG in its store; shown as `dag_id`.
    DagId
);
number_id!(
    /// Number of a node in its store; shown as `node_id`.
    NodeId
);
number_id!(
    /// Number of a sub-task in its store; shown as `task_id`.
    SubTaskId
);
number_id!(
    /// Number of an event; grows by one with everything that was recorded. Also a DAG's version: the number of
    /// the last event that concerned it.
    EventId
);

/// Which store a number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Store {
    /// The cluster's own database (schema `ocs`).
    Cluster,
    /// The local store of one agent.
    Agent(AgentAddr),
    /// The local store of one agent, a DAG of type obproxy.
    Proxy(AgentAddr),
}

/// The id a client sees: store and number in one decimal text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GenericId {
    pub store: Store,
    pub number: i64,
}

/// Why a text is no generic id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a task id: {why}")]
pub struct IdError {
    text: String,
    why: &'static str,
}

const V4_DIGITS: usize = 10;
const V6_DIGITS: usize = 39;
const PORT_DIGITS: usize = 5;

impl GenericId {
    pub fn agent(owner: AgentAddr, number: i64) -> Self {
        Self { store: Store::Agent(owner), number }
    }

    /// The agent that owns the row; `None` for the cluster's store.
    pub fn owner(&self) -> Option<AgentAddr> {
        match self.store {
            Store::Cluster => None,
            Store::Agent(addr) | Store::Proxy(addr) => Some(addr),
        }
    }
}

impl fmt::Display for GenericId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (v4, v6, addr) = match self.store {
            Store::Cluster => return write!(f, "1{}", self.number),
            Store::Agent(addr) => ('2', '3', addr),
            Store::Proxy(addr) => ('4', '5', addr),
        };
        match addr.ip {
            IpAddr::V4(ip) => write!(f, "{v4}{:0V4_DIGITS$}", u32::from(ip))?,
            IpAddr::V6(ip) => write!(f, "{v6}{:0V6_DIGITS$}", u128::from(ip))?,
        }
        write!(f, "{:0PORT_DIGITS$}{}", addr.port, self.number)
    }
}

impl FromStr for GenericId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = |why| IdError { text: text.chars().take(80).collect(), why };
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail("only decimal digits are allowed"));
        }
        let (prefix, rest) = text.split_at(1);
        let (store, number) = match prefix {
            "1" => (Store::Cluster, rest),
            "2" | "4" => {
                let (ip, port, number) = split(rest, V4_DIGITS).ok_or_else(|| fail("it is too short"))?;
                let ip: u32 = ip.parse().map_err(|_| fail("the address in it is out of range"))?;
                let addr = address(IpAddr::V4(Ipv4Addr::from(ip)), port)
                    .ok_or_else(|| fail("the port in it is out of range"))?;
                (if prefix == "2" { Store::Agent(addr) } else { Store::Proxy(addr) }, number)
            }
            "3" | "5" => {
                let (ip, port, number) = split(rest, V6_DIGITS).ok_or_else(|| fail("it is too short"))?;
                let ip: u128 = ip.parse().map_err(|_| fail("the address in it is out of range"))?;
                let ip = Ipv6Addr::from(ip);
                if ip.to_ipv4_mapped().is_some() {
                    return Err(fail("an IPv4 address stands in the IPv6 form"));
                }
                let addr =
                    address(IpAddr::V6(ip), port).ok_or_else(|| fail("the port in it is out of range"))?;
                (if prefix == "3" { Store::Agent(addr) } else { Store::Proxy(addr) }, number)
            }
            _ => return Err(fail("it must begin with a digit from 1 to 5")),
        };
        let padded = number.len() > 1 && number.starts_with('0');
        let number: i64 = number.parse().map_err(|_| fail("the number in it is missing or out of range"))?;
        if padded || number == 0 {
            return Err(fail("the number in it must be positive and not padded"));
        }
        Ok(Self { store, number })
    }
}

fn split(rest: &str, ip_digits: usize) -> Option<(&str, &str, &str)> {
    let (ip, rest) = rest.split_at_checked(ip_digits)?;
    let (port, number) = rest.split_at_checked(PORT_DIGITS)?;
    Some((ip, port, number))
}

fn address(ip: IpAddr, port: &str) -> Option<AgentAddr> {
    let port: u16 = port.parse().ok()?;
    (port != 0).then(|| AgentAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> GenericId {
        text.parse().unwrap()
    }

    #[test]
    fn the_vectors_of_the_specification() {
        let local = |addr: &str, n| GenericId::agent(addr.parse().unwrap(), n);
        for (text, value) in [
            ("22130706433028869", local("127.0.0.1:2886", 9)),
            ("201684300810288642", local("10.10.10.1:2886", 42)),
            ("20167772161028867", local("10.0.0.1:2886", 7)),
            ("3042540766411282592856903984951653826561028867", local("[2001:db8::1]:2886", 7)),
            ("1105", GenericId { store: Store::Cluster, number: 105 }),
        ] {
            assert_eq!(value.to_string(), text);
            assert_eq!(id(text), value);
        }
        let proxy = GenericId { store: Store::Proxy("10.10.10.1:2886".parse().unwrap()), number: 42 };
        assert_eq!(proxy.to_string(), "401684300810288642");
    }

    #[test]
    fn w37_an_address_with_a_leading_zero_byte_reads_back() {
        for addr in ["[::1]:2886", "0.0.0.1:2886"] {
            let value = GenericId::agent(addr.parse().unwrap(), 3);
            assert_eq!(id(&value.to_string()), value);
        }
    }

    #[test]
    fn w37_signs_and_garbage_are_refused() {
        for text in [
            "",
            "0",
            "1",
            "10",
            "100",
            "6123",
            "abc",
            "+1105",
            "1-5",
            "1+5",
            "2213070643302886",
            "22130706433028860",
            "221307064330288609",
            "24294967296028869",
            "22130706433999999",
            "22130706433000009",
            "1 5",
            "１105",
            "199999999999999999999",
        ] {
            assert!(text.parse::<GenericId>().is_err(), "{text}");
        }
    }

    fn any_addr() -> impl Strategy<Value = AgentAddr> {
        let ip = prop_oneof![
            any::<u32>().prop_map(|v| IpAddr::V4(v.into())),
            any::<u128>().prop_map(|v| IpAddr::V6(v.into()))
        ];
        (ip, 1u16..).prop_map(|(ip, port)| AgentAddr::new(ip, port))
    }

    proptest! {
        #[test]
        fn w37_encode_and_decode_are_inverse(addr in any_addr(), number in 1i64.., proxy: bool, cluster: bool) {
            let store = match (cluster, proxy) {
                (true, _) => Store::Cluster,
                (false, true) => Store::Proxy(addr),
                (false, false) => Store::Agent(addr),
            };
            let value = GenericId { store, number };
            prop_assert_eq!(value.to_string().parse::<GenericId>().unwrap(), value);
        }

        #[test]
        fn w37_whatever_decodes_encodes_to_the_same_text(text in "[1-5][0-9]{0,60}") {
            if let Ok(value) = text.parse::<GenericId>() {
                prop_assert_eq!(value.to_string(), text);
            }
        }
    }
}

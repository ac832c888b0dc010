//! Addresses of this host, and the networks it is directly attached to.
//!
//! Not here: loopback (a rule of its own in `bootstrap.allow`), routes to further networks.

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::config::Network;

/// Addresses under which others may know this host.
///
/// # Errors
/// When the kernel does not tell.
pub fn addresses() -> std::io::Result<Vec<IpAddr>> {
    let is_usable = |interface: &InterfaceAddress| {
        let flags = interface.flags;
        flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let is_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let found = getifaddrs()?.filter(is_usable).filter_map(|interface| ip(interface.address.as_ref()?));
    Ok(found.filter(|ip| !is_local(ip)).collect())
}

/// Whether an interface other than loopback has an IPv4 address, up or down.
///
/// # Errors
/// When the kernel does not tell.
pub fn has_ipv4() -> std::io::Result<bool> {
    let is_one = |interface: InterfaceAddress| {
        let is_loopback = interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        !is_loopback && matches!(interface.address.as_ref().and_then(ip), Some(IpAddr::V4(_)))
    };
    Ok(getifaddrs()?.any(is_one))
}

/// The networks of all interfaces that are up, without loopback and without links that have no neighbours.
///
/// # Errors
/// When the kernel does not tell.
pub fn attached() -> std::io::Result<Vec<Network>> {
    let mut networks = Vec::new();
    for interface in getifaddrs()? {
        let flags = interface.flags;
        if flags.contains(InterfaceFlags::IFF_LOOPBACK) || !flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let (Some(address), Some(mask)) =
            (interface.address.as_ref().and_then(ip), interface.netmask.as_ref().and_then(ip))
        else {
            continue;
        };
        // Two addresses in one network are one network; a set would need an order that networks do not have.
        networks.extend(network(address, mask).filter(|found| !networks.contains(found)));
    }
    Ok(networks)
}

/// `None` for a mask that has holes, of all ones (nobody else is there) or of all zeros (that would be everybody).
fn network(address: IpAddr, mask: IpAddr) -> Option<Network> {
    let (bits, width) = match mask {
        IpAddr::V4(mask) => (u128::from(u32::from(mask)) << 96, 32),
        IpAddr::V6(mask) => (u128::from(mask), 128),
    };
    let prefix = bits.leading_ones();
    let is_contiguous = bits.checked_shl(prefix).unwrap_or(0) == 0;
    if !is_contiguous || prefix == 0 || prefix == width {
        return None;
    }
    Network::new(address, u8::try_from(prefix).ok()?)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(address: &str, mask: &str) -> Option<Network> {
        network(address.parse().unwrap(), mask.parse().unwrap())
    }

    #[test]
    fn a_mask_becomes_a_prefix() {
        let lan = net("10.1.2.3", "255.255.0.0").unwrap();
        assert!(lan.contains("10.1.255.255".parse().unwrap()));
        assert!(!lan.contains("10.2.0.1".parse().unwrap()));
        let lan = net("fd00::5", "ffff:ffff:ffff:ffff::").unwrap();
        assert!(lan.contains("fd00::99".parse().unwrap()));
        assert!(!lan.contains("fd00:0:0:1::99".parse().unwrap()));
    }

    #[test]
    fn masks_that_say_nothing_are_left_out() {
        assert_eq!(net("10.1.2.3", "255.255.255.255"), None);
        assert_eq!(net("10.1.2.3", "0.0.0.0"), None);
        assert_eq!(net("10.1.2.3", "255.0.255.0"), None);
        assert_eq!(net("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), None);
    }

    #[test]
    fn this_host_can_be_asked_and_loopback_is_not_among_the_answers() {
        let networks = attached().unwrap();
        assert!(networks.iter().all(|n| !n.contains("127.0.0.1".parse().unwrap())));
    }
}

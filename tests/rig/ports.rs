//! Ports for servers that tests start.
//!
//! They lie below the range from which the kernel takes the ports of outgoing connections: a server that is down between
//! two lives finds its port free again. Asking the kernel for "any" gives one of that range.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 11_000;
const COUNT: u32 = 20_000;

/// A port nobody uses now, and no other test of this process is given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Processes at the same time begin far from each other.
    let begin = std::process::id().wrapping_mul(997);
    loop {
        let number = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let Ok(port) = u16::try_from(FIRST + number) else { continue };
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

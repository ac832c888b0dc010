//! Who listens on a TCP port.
//!
//! Purpose: "the port is taken" is worth little without "by whom".
//!
//! Invariant: an owner that cannot be seen (another user's process) is `None`, never guessed.
//!
//! Not here: other network namespaces; this is the namespace of the agent, and the database shares it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};

use super::sock_diag::{self, Listening};

#[cfg(test)]
#[path = "../../tests/rig/ports.rs"]
pub(crate) mod free;

/// A listening TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    /// The uid that opened it; known even where the process is not.
    pub uid: u32,
    /// `None`: the process belongs to another user and the agent may not look.
    pub owner: Option<Owner>,
}

/// The process that holds a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub pid: i32,
    /// Its arguments, or its name where these are empty; at most 120 characters.
    pub command: String,
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{} by pid {} ({})", self.address, owner.pid, owner.command),
            None => {
                write!(f, "{} by a process of uid {}, which the agent may not see", self.address, self.uid)
            }
        }
    }
}

/// Listening sockets on `port`, whatever their address.
pub fn listeners(port: u16) -> Vec<Listener> {
    let entries: Vec<_> = listening().into_iter().filter(|e| e.address.port() == port).collect();
    if entries.is_empty() {
        return Vec::new();
    }
    let owners = owners_of(&entries.iter().map(|e| e.inode).collect::<Vec<_>>());
    let owner = |inode| owners.iter().find(|(of, _)| *of == inode).map(|(_, owner)| owner.clone());
    entries.iter().map(|e| Listener { address: e.address, uid: e.uid, owner: owner(e.inode) }).collect()
}

/// Whether the process `pid` listens on `port`. False also where its descriptors cannot be read.
pub fn is_listening(pid: i32, port: u16) -> bool {
    let inodes: Vec<_> =
        listening().into_iter().filter(|e| e.address.port() == port).map(|e| e.inode).collect();
    !inodes.is_empty()
        && Process::new(pid).is_ok_and(|process| sockets(&process).any(|inode| inodes.contains(&inode)))
}

/// The ports that the process `pid` listens on, each once, in order. Empty also where its descriptors cannot be read.
pub fn listened_by(pid: i32) -> Vec<u16> {
    let Ok(process) = Process::new(pid) else { return Vec::new() };
    let inodes: Vec<_> = sockets(&process).collect();
    let mut ports: Vec<_> = listening()
        .into_iter()
        .filter(|entry| inodes.contains(&entry.inode))
        .map(|entry| entry.address.port())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Why nobody could listen on `port` on all addresses now; `None` when one can. Finds what the table of listeners
/// does not show: a socket that is bound and does not listen, a port that only root may use.
pub fn why_not_bindable(port: u16) -> Option<std::io::Error> {
    let v4 = TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).err();
    let v6 = || {
        let error = TcpListener::bind((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)).err()?;
        // A host without IPv6 is no obstacle.
        (error.kind() == std::io::ErrorKind::AddrInUse).then_some(error)
    };
    v4.or_else(v6)
}

/// A kernel without the faster service, or a sandbox that forbids it, still has the table.
fn listening() -> Vec<Listening> {
    sock_diag::listening().unwrap_or_else(|error| {
        tracing::debug!(%error, "no sock_diag: reading /proc/net/tcp");
        table()
    })
}

fn table() -> Vec<Listening> {
    let mut entries = procfs::net::tcp().unwrap_or_default();
    entries.extend(procfs::net::tcp6().unwrap_or_default());
    let listening = entries.into_iter().filter(|entry| entry.state == TcpState::Listen);
    listening.map(|e| Listening { address: e.local_address, uid: e.uid, inode: e.inode }).collect()
}

fn owners_of(inodes: &[u64]) -> Vec<(u64, Owner)> {
    let mut found = Vec::new();
    for process in procfs::process::all_processes().into_iter().flatten().flatten() {
        for inode in sockets(&process).filter(|inode| inodes.contains(inode)) {
            found.push((inode, Owner { pid: process.pid(), command: command(&process) }));
        }
    }
    found
}

fn sockets(process: &Process) -> impl Iterator<Item = u64> {
    process
        .fd()
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|fd| if let FDTarget::Socket(inode) = fd.target { Some(inode) } else { None })
}

/// What a process was started with, cut to a readable length.
pub fn command(process: &Process) -> String {
    let arguments = process.cmdline().unwrap_or_default().join(" ");
    let text = if arguments.trim().is_empty() {
        process.stat().map(|stat| stat.comm).unwrap_or_default()
    } else {
        arguments
    };
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_found_with_its_owner() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listeners(port);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].owner.as_ref().map(|o| o.pid), Some(std::process::id().cast_signed()));
        assert!(found[0].to_string().contains(&port.to_string()), "{}", found[0]);
        assert!(is_listening(std::process::id().cast_signed(), port));
        assert!(!is_listening(1, port));
        assert!(listened_by(std::process::id().cast_signed()).contains(&port));
        assert!(listened_by(i32::MAX).is_empty());
        assert!(why_not_bindable(port).is_some());
    }

    #[test]
    fn both_ways_to_ask_give_the_same() {
        let sockets = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("[::1]:0")];
        for socket in sockets.iter().flatten() {
            let address = socket.local_addr().unwrap();
            let of = |listening: Vec<Listening>| listening.into_iter().find(|e| e.address == address);
            let fast = of(sock_diag::listening().unwrap());
            assert!(fast.is_some());
            assert_eq!(fast, of(table()));
        }
    }

    #[test]
    fn an_ipv6_listener_is_found_too() {
        let Ok(socket) = TcpListener::bind("[::1]:0") else { return };
        assert_eq!(listeners(socket.local_addr().unwrap().port()).len(), 1);
    }

    #[test]
    fn a_free_port_has_no_listener_and_can_be_bound() {
        let port = free::free_port();
        assert_eq!(listeners(port), []);
        assert!(why_not_bindable(port).is_none());
    }
}

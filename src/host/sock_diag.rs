//! The kernel's listening TCP sockets, asked for over netlink (`sock_diag(7)`).
//!
//! Purpose: `/proc/net/tcp` walks the table of all connections to find the few that listen; measured here, 9 ms for both
//! families, and more with more memory. Every start looks several times.
//!
//! Not here: what to do where the kernel has no such service (`ports`).

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) uid: u32,
    pub(super) inode: u64,
}

/// All that listen in our network namespace, of both families.
///
/// # Errors
/// When the kernel has no such service, or this process may not use it.
pub(super) fn listening() -> io::Result<Vec<Listening>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    let mut found = dump(&socket, AF_INET, SocketId::new_v4())?;
    found.extend(dump(&socket, AF_INET6, SocketId::new_v6())?);
    Ok(found)
}

fn dump(socket: &Socket, family: u8, socket_id: SocketId) -> io::Result<Vec<Listening>> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id,
    });
    let mut request = NetlinkMessage::new(header, request.into());
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut found = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if take(&datagram, &mut found)? {
            return Ok(found);
        }
    }
}

/// The messages of one datagram; true when they were the last ones.
fn take(mut datagram: &[u8], found: &mut Vec<Listening>) -> io::Result<bool> {
    while !datagram.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(datagram).map_err(io::Error::other)?;
        if let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) = &message.payload {
            found.push(listening_of(response));
        } else if let NetlinkPayload::Error(error) = &message.payload {
            return Err(error.to_io());
        } else if let NetlinkPayload::Done(_) = &message.payload {
            return Ok(true);
        }
        // Messages are aligned to 4 bytes; the last one may end before its padding.
        let length = (message.header.length as usize).next_multiple_of(4);
        datagram = datagram.get(length.max(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn listening_of(response: &InetResponse) -> Listening {
    let InetResponse { header, .. } = response;
    let SocketId { source_address, source_port, .. } = header.socket_id;
    Listening {
        address: SocketAddr::new(source_address, source_port),
        uid: header.uid,
        inode: u64::from(header.inode),
    }
}

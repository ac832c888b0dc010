//! Ports and sockets, and what happens to a connection before its first byte.
//!
//! Invariant: every connection has a thread of its own, so that one that hangs disturbs no other.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use crate::protocol;
use crate::server::Server;
use crate::session;
use crate::start::thread;
use crate::wire::{Stream, Wire};

static CONNECTIONS: AtomicU32 = AtomicU32::new(3_221_225_472);

pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// The rpc port: servers talk through the cluster's directory.
pub(crate) fn accept_and_close(listener: TcpListener) {
    thread("rpc", move || listener.incoming().for_each(drop));
}

pub(crate) fn serve_tcp(server: &Arc<Server>, listener: TcpListener) {
    let server = Arc::clone(server);
    thread("sql", move || {
        for stream in listener.incoming().flatten() {
            drop(stream.set_nodelay(true));
            let server = Arc::clone(&server);
            thread("session", move || attend(&server, stream.try_clone().ok(), Box::new(stream)));
        }
    });
}

pub(crate) fn serve_socket(server: &Arc<Server>, path: &Path) -> io::Result<()> {
    // A stale one is no obstacle.
    drop(std::fs::remove_file(path));
    let listener = UnixListener::bind(path)?;
    let server = Arc::clone(server);
    thread("socket", move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&server);
            thread("session", move || attend(&server, None, Box::new(stream)));
        }
    });
    Ok(())
}

/// Fault `half_open`: `silent`, `greet`, `close` or `reset`.
fn attend(server: &Arc<Server>, tcp: Option<TcpStream>, stream: Box<dyn Stream>) {
    let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    let settings = server.settings();
    let mut wire = Wire::new(stream);
    let salt = protocol::salt();
    let version = settings.mysql_version(server.is_restart);
    let greeting = protocol::greeting(&version, connection, &salt);
    let lasts = || {
        while server.settings().has("half_open") {
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    match settings.text("half_open") {
        Some("silent") => lasts(),
        Some("greet") => {
            wire.put(&greeting);
            if wire.flush().is_ok() {
                lasts();
            }
        }
        Some("close") => {
            wire.put(&greeting);
            drop(wire.flush_half());
        }
        Some("reset") => {
            let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
            if let Some(tcp) = tcp {
                setsockopt(&tcp, sockopt::Linger, &at_once).ok();
            }
        }
        _ => {
            drop(tcp);
            wire.put(&greeting);
            // A client that goes away in the middle is no event.
            drop(wire.flush().and_then(|()| session::run(server, wire, connection, &salt)));
        }
    }
}

//! Who comes without a certificate, where clients have to show one of the cluster's own CA (`tls.mode = "mutual"`, `tls.own_ca`).
//!
//! Purpose: an agent that wants to join, or that was away for longer than its certificate lived, has none to show and must be
//! heard nevertheless. So the handshake takes a connection without a certificate (never one with a stranger's), and here it
//! finds the door of agents and nothing else.
//!
//! Invariant: what is open here is what agents need to find each other, each of which proves itself by its own seal: the key to
//! seal with, the sealed join, the sealed messages of members. Everything else is refused before it is looked at.

use actix_web::dev::ServiceRequest;

use super::meta::Peer;
use crate::error::{Code, Error, Result};

/// What stands at the other end of a connection over TLS has shown a certificate, and it was one of ours. Set once per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HasCertificate;

/// Looked at before one joins or adds an agent.
const OPEN: [&str; 2] = ["/api/v1/info", "/api/v1/secret"];

/// Routes of agents, each with a seal of its own.
const AGENTS: &str = "/rpc/v1/";

/// Whether a request may go on.
///
/// # Errors
/// `Common.Unauthorized`.
pub(super) fn check(request: &ServiceRequest) -> Result<()> {
    let is_local = matches!(request.conn_data::<Peer>(), Some(Peer::Unix { .. }));
    let is_shown = request.conn_data::<HasCertificate>().is_some();
    if is_local || is_shown || is_for_agents(request.path()) {
        return Ok(());
    }
    let text = "this agent answers clients that show a certificate of its cluster; \
                'obpilot security issue-client' on its host makes one";
    Err(Error::new(Code::Unauthorized, text))
}

fn is_for_agents(path: &str) -> bool {
    OPEN.contains(&path) || path.starts_with(AGENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_certificate_only_the_door_of_agents_is_found() {
        for path in ["/api/v1/info", "/api/v1/secret", "/rpc/v1/peer", "/rpc/v1/peer/hello", "/rpc/v1/agent"]
        {
            assert!(is_for_agents(path), "{path}");
        }
        for path in [
            "/",
            "/api/v1/status",
            "/api/v1/info/",
            "/api/v1/infos",
            "/rpc",
            "/api/v1/ob/init",
            "//rpc/v1/peer",
        ] {
            assert!(!is_for_agents(path), "{path}");
        }
    }
}

//! A certificate of a cluster's own CA, with what is to be known of it without reading X.509.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Public through and through. Who issues it notes beside it what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// One certificate in PEM.
    pub pem: String,
    /// Common name of whom it is for: `agent 10.0.0.1:2886`, `obpilot CA 6f1c22d0`, or the name of a client.
    pub subject: String,
    /// Common name of who signed it; a root's own.
    pub issuer: String,
    /// SHA-256 of the DER, 64 lower-case hexadecimal digits: what `openssl x509 -fingerprint -sha256` shows with colons.
    pub fingerprint: String,
    pub not_after: Timestamp,
    /// When it is time for the next one.
    pub renew_at: Timestamp,
    /// Addresses that it is valid for, where it is a server's.
    pub names: Vec<IpAddr>,
}

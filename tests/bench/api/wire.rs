//! The plainest client of HTTP/1.1 there is: requests are bytes that were made before, an answer is read to its end and not
//! looked at. So what is measured is the agent, not the client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Where an agent listens, and by whose certificate it is known there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) address: String,
    tls: Option<Arc<ClientConfig>>,
}

impl Place {
    pub(super) fn plain(address: &str) -> Self {
        Self { address: address.to_owned(), tls: None }
    }

    /// `root` is a certificate in PEM.
    pub(super) fn over_tls(address: &str, root: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Self { address: address.to_owned(), tls: Some(Arc::new(config)) }
    }

    /// A connection, ready for a request.
    pub(super) fn connect(&self) -> Wire {
        let tcp = TcpStream::connect(&self.address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(crate::rig::LIMIT)).unwrap();
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let ip: std::net::IpAddr = self.address.rsplit_once(':').unwrap().0.parse().unwrap();
                let client = ClientConnection::new(Arc::clone(config), ServerName::from(ip)).unwrap();
                Box::new(StreamOwned::new(client, tcp))
            }
        };
        Wire { stream, came: Vec::with_capacity(64 << 10) }
    }
}

/// A connection that is kept.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    came: Vec<u8>,
}

impl Wire {
    /// Sends a request and reads its answer. Returns the status and the bytes of the body as they came.
    pub(super) fn ask(&mut self, request: &[u8]) -> (u16, usize) {
        self.stream.write_all(request).unwrap();
        self.stream.flush().unwrap();
        self.came.clear();
        let mut end = None;
        while end.is_none_or(|end| self.came.len() < end) {
            let mut piece = [0; 16 << 10];
            let read = self.stream.read(&mut piece).unwrap();
            assert!(read > 0, "the agent has closed the connection after {} bytes", self.came.len());
            self.came.extend_from_slice(&piece[..read]);
            end = end_of(&self.came);
        }
        (status_of(&self.came), self.came.len())
    }

    /// What came last, for a complaint.
    pub(super) fn last(&self) -> String {
        String::from_utf8_lossy(&self.came).into_owned()
    }
}

pub(super) fn status_of(answer: &[u8]) -> u16 {
    std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()
}

/// Where the answer ends, as soon as that can be told.
pub(super) fn end_of(came: &[u8]) -> Option<usize> {
    let head = came.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&came[..head]).unwrap().to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    if let Some(length) = length {
        return Some(head + length.trim().parse::<usize>().unwrap());
    }
    if !text.contains("transfer-encoding: chunked") {
        return Some(head);
    }
    let mut at = head;
    loop {
        let line = came[at..].windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&came[at..at + line]).unwrap(), 16).unwrap();
        at += line + 2 + size + 2;
        if size == 0 {
            return Some(at);
        }
        if at > came.len() {
            return None;
        }
    }
}

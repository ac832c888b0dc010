//! Whose certificates are taken, both ways, where agents have certificates of a CA of their own.
//!
//! Invariant: what counts is the roots of now. They change while connections live; a session of TLS is never resumed, because
//! that would skip the look at the certificate.
//!
//! Not here: the operator's own files, whose roots are read once at start (`tls`).

use std::sync::{Arc, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::authority::Holding;
use super::tls::{TlsError, provider};
use crate::model::Certificate;

/// The roots of now, as verifiers.
#[derive(Debug)]
pub(super) struct Trusted(RwLock<Verifiers>);

#[derive(Clone, Debug)]
struct Verifiers {
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
    /// The roots are those of the cluster that this agent belongs to: its members are held to them.
    is_clusters: bool,
}

/// A certificate that was kept in PEM.
pub(super) fn der(certificate: &Certificate) -> Result<CertificateDer<'static>, TlsError> {
    let unreadable = |why: String| TlsError::Kept { subject: certificate.subject.clone(), why };
    CertificateDer::from_pem_slice(certificate.pem.as_bytes()).map_err(|e| unreadable(e.to_string()))
}

impl Verifiers {
    fn of(holding: &Holding) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in &holding.roots {
            let kept = |why: Error| TlsError::Kept { subject: root.subject.clone(), why: why.to_string() };
            roots.add(der(root)?).map_err(kept)?;
        }
        let (roots, unusable) = (Arc::new(roots), |why: String| TlsError::Roots { why });
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider());
        Ok(Self {
            clients: clients.build().map_err(|e| unusable(e.to_string()))?,
            servers: servers.build().map_err(|e| unusable(e.to_string()))?,
            is_clusters: holding.is_clusters && holding.left_at.is_none(),
        })
    }
}

/// Whether others that trust these roots will take this certificate now.
///
/// # Errors
/// Why not.
pub fn check_holding(holding: &Holding, now_secs: u64) -> Result<(), TlsError> {
    let verifiers = Verifiers::of(holding)?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_secs));
    let certificate = der(&holding.certificate)?;
    for name in &holding.certificate.names {
        let name = ServerName::IpAddress((*name).into());
        verifiers.servers.verify_server_cert(&certificate, &[], &name, &[], now)?;
    }
    Ok(())
}

impl Trusted {
    pub(super) fn new(holding: &Holding) -> Result<Self, TlsError> {
        Ok(Self(RwLock::new(Verifiers::of(holding)?)))
    }

    pub(super) fn replace(&self, holding: &Holding) -> Result<(), TlsError> {
        let verifiers = Verifiers::of(holding)?;
        *self.0.write().expect("no holder of this lock panics") = verifiers;
        Ok(())
    }

    pub(super) fn is_clusters(&self) -> bool {
        self.0.read().expect("no holder of this lock panics").is_clusters
    }

    fn now(&self) -> Verifiers {
        self.0.read().expect("no holder of this lock panics").clone()
    }
}

impl ClientCertVerifier for Trusted {
    /// A connection without a certificate finds the door of agents and nothing else (`api::certified`): who wants to join has none
    /// yet.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.now().clients.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().clients.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().clients.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().clients.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.now().servers.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().servers.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().servers.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().servers.supported_verify_schemes()
    }
}

//! TLS of the listener: a certificate of the operator's or of the cluster's own CA, and whose certificates clients must show.
//!
//! Purpose: from files, or from what is held of a CA, to a configuration of rustls. The certificate can be replaced while
//! connections live.
//!
//! Invariant: what is configured is done or refused (W19): a file that is missing, unreadable, or does not fit the other is an
//! error, never plain HTTP. A replacement that does not fit leaves the old certificate in service.
//!
//! Not here: who may do what. A certificate opens the connection; the caller shows the same as without TLS. Nor how
//! certificates are issued (`authority`), and whose are taken where the CA is ours (`trust`).

use std::sync::{Arc, RwLock};

use camino::{Utf8Path, Utf8PathBuf};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};

use super::authority::Holding;
use super::compare::sha256_hex;
use super::trust::{Trusted, der};

/// Where the operator has put it; all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those that lead to its root.
    pub certificate: Utf8PathBuf,
    pub key: Utf8PathBuf,
    /// Roots of the clients' certificates. With it every client must show one.
    pub client_ca: Option<Utf8PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {why}")]
    File { path: Utf8PathBuf, why: String },
    #[error("the certificate {certificate} and the key {key} do not belong together")]
    Mismatch { certificate: Utf8PathBuf, key: Utf8PathBuf },
    #[error("the certificate '{subject}' that is kept cannot be used: {why}")]
    Kept { subject: String, why: String },
    #[error("the roots that are kept cannot be used: {why}")]
    Roots { why: String },
    #[error("the certificate '{subject}' that is kept and its key do not belong together")]
    KeptMismatch { subject: String },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What the listener shows, and asks for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    source: Source,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

/// Where certificates come from.
#[derive(Clone, Debug)]
enum Source {
    Files(TlsFiles),
    /// A CA of the agents' own; where it is mutual, clients are asked for a certificate of it.
    Own {
        trusted: Arc<Trusted>,
        is_mutual: bool,
    },
}

/// The certificate of now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().expect("no holder of this lock panics")))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().expect("no holder of this lock panics")))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn file(path: &Utf8Path, why: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), why: why.to_string() }
}

fn certificates(path: &Utf8Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|e| file(path, e))?;
    let all: Vec<_> = read.collect::<Result<_, _>>().map_err(|e| file(path, e))?;
    if all.is_empty() { Err(file(path, "it holds no certificate in PEM")) } else { Ok(all) }
}

fn certified(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let TlsFiles { certificate, key, .. } = files;
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, e))?;
    let private = provider().key_provider.load_private_key(private).map_err(|e| file(key, e))?;
    let certified = CertifiedKey::new(chain, private);
    match certified.keys_match() {
        // A key that does not tell its public half is tried with the first client.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err(TlsError::Mismatch { certificate: certificate.clone(), key: key.clone() }),
    }
}

fn clients(ca: &Utf8Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).map_err(|e| file(ca, e))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    verifier.build().map_err(|e| file(ca, e))
}

/// Certificate and key of what is held of a CA.
fn held(holding: &Holding) -> Result<CertifiedKey, TlsError> {
    let subject = holding.certificate.subject.clone();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(holding.key.to_pkcs8()));
    let private = provider().key_provider.load_private_key(private.clone_key())?;
    let certified = CertifiedKey::new(vec![der(&holding.certificate)?], private);
    certified.keys_match().map_err(|_| TlsError::KeptMismatch { subject })?;
    Ok(certified)
}

impl Tls {
    /// With what is held of the agents' own CA.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn own(holding: &Holding, is_mutual: bool) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown(RwLock::new(Arc::new(held(holding)?))));
        let trusted = Arc::new(Trusted::new(holding)?);
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = if is_mutual {
            builder.with_client_cert_verifier(Arc::clone(&trusted) as Arc<dyn ClientCertVerifier>)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { source: Source::Own { trusted, is_mutual }, shown, config: Arc::new(config) })
    }

    /// What is held now: new connections are shown the new certificate and judged by the new roots, old ones go on.
    ///
    /// # Errors
    /// Why all stays as it was.
    pub fn take_up(&self, holding: &Holding) -> Result<(), TlsError> {
        let Source::Own { trusted, .. } = &self.source else { return Ok(()) };
        let certified = Arc::new(held(holding)?);
        trusted.replace(holding)?;
        *self.shown.0.write().expect("no holder of this lock panics") = certified;
        Ok(())
    }

    /// For calls to members: shows our certificate, takes one of the CA. `None` where the certificates are the operator's.
    ///
    /// # Errors
    /// Never for the protocol versions that are built in; the library's interface allows it.
    pub fn to_members(&self) -> Result<Option<ClientConfig>, TlsError> {
        let Source::Own { trusted, .. } = &self.source else { return Ok(None) };
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::clone(trusted) as Arc<_>);
        let mut config = builder.with_client_cert_resolver(Arc::clone(&self.shown) as Arc<_>);
        config.resumption = Resumption::disabled();
        Ok(Some(config))
    }

    /// The CA is that of a cluster, and its members are held to it.
    pub fn is_clusters(&self) -> bool {
        matches!(&self.source, Source::Own { trusted, .. } if trusted.is_clusters())
    }

    /// Clients have to show a certificate of our own CA.
    pub fn is_by_certificate(&self) -> bool {
        matches!(&self.source, Source::Own { is_mutual: true, .. })
    }

    /// SHA-256 of the certificate that is shown now, 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let shown = Arc::clone(&self.shown.0.read().expect("no holder of this lock panics"));
        shown.cert.first().map(sha256_hex).unwrap_or_default()
    }

    /// # Errors
    /// Which file, and what is wrong with it.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown(RwLock::new(Arc::new(certified(&files)?))));
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &files.client_ca {
            Some(ca) => builder.with_client_cert_verifier(clients(ca)?),
            None => builder.with_no_client_auth(),
        };
        let config = Arc::new(builder.with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>));
        Ok(Self { source: Source::Files(files), shown, config })
    }

    pub fn config(&self) -> ServerConfig {
        (*self.config).clone()
    }

    /// The operator's; `None` where certificates come from a CA of our own.
    pub fn files(&self) -> Option<&TlsFiles> {
        match &self.source {
            Source::Files(files) => Some(files),
            Source::Own { .. } => None,
        }
    }

    /// Certificate and key of the operator as one PEM text, which this agent shows where others ask it for one. `None` where
    /// they are not the operator's.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub fn identity_pem(&self) -> Result<Option<Vec<u8>>, TlsError> {
        let Some(TlsFiles { certificate, key, .. }) = self.files() else { return Ok(None) };
        let mut pem = std::fs::read(certificate).map_err(|e| file(certificate, e))?;
        pem.push(b'\n');
        pem.extend(std::fs::read(key).map_err(|e| file(key, e))?);
        Ok(Some(pem))
    }

    /// Reads the certificate again; true when it is another one. New connections are shown it, old ones go on.
    ///
    /// # Errors
    /// Why the old one stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(files) = self.files() else { return Ok(false) };
        let found = certified(files)?;
        let mut shown = self.shown.0.write().expect("no holder of this lock panics");
        if found.cert == shown.cert {
            return Ok(false);
        }
        *shown = Arc::new(found);
        Ok(true)
    }
}

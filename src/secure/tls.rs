//! TLS of the listener: a certificate of the operator's, and whose certificates clients must show.
//!
//! Purpose: from files to a configuration of rustls. The certificate can be replaced while connections live.
//!
//! Invariant: what is configured is done or refused (W19): a file that is missing, unreadable, or does not fit the other is an
//! error, never plain HTTP. A replacement that does not fit leaves the old certificate in service.
//!
//! Not here: who may do what. A certificate opens the connection; the caller shows the same as without TLS.

use std::sync::{Arc, RwLock};

use camino::{Utf8Path, Utf8PathBuf};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

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
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What the listener shows, and asks for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    files: TlsFiles,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

/// The certificate of now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().expect("no holder of this lock panics")))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Everybody's default for TLS: ours. Called once, before the first connection.
pub fn install_provider() {
    // A second call finds the first one's, which is the same.
    drop(aws_lc_rs::default_provider().install_default());
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

impl Tls {
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
        Ok(Self { files, shown, config })
    }

    pub fn config(&self) -> ServerConfig {
        (*self.config).clone()
    }

    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Certificate and key as one PEM text, which this agent shows where others ask it for one.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub fn identity_pem(&self) -> Result<Vec<u8>, TlsError> {
        let TlsFiles { certificate, key, .. } = &self.files;
        let mut pem = std::fs::read(certificate).map_err(|e| file(certificate, e))?;
        pem.push(b'\n');
        pem.extend(std::fs::read(key).map_err(|e| file(key, e))?);
        Ok(pem)
    }

    /// Reads the certificate again; true when it is another one. New connections are shown it, old ones go on.
    ///
    /// # Errors
    /// Why the old one stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let found = certified(&self.files)?;
        let mut shown = self.shown.0.write().expect("no holder of this lock panics");
        if found.cert == shown.cert {
            return Ok(false);
        }
        *shown = Arc::new(found);
        Ok(true)
    }
}

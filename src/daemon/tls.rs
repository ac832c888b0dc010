//! The listener's certificate: read at start, read again when its files change.

use camino::Utf8PathBuf;

use super::DaemonError;
use crate::config::{self, TlsMode};
use crate::host::events::Events;
use crate::secure::{Tls, TlsFiles};

/// What the configuration asks for; `None` for plain HTTP.
///
/// # Errors
/// Whatever keeps it from being done (W19).
pub(super) fn load(config: &config::Tls) -> Result<Option<Tls>, DaemonError> {
    let config::Tls { mode, certificate, key, client_ca } = config.clone();
    let client_ca = match mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Server => None,
        TlsMode::Mutual => client_ca,
    };
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Err(DaemonError::Usage("tls.mode needs tls.certificate and tls.key".to_owned()));
    };
    let tls = Tls::load(TlsFiles { certificate, key, client_ca });
    tls.map(Some).map_err(|e| DaemonError::Usage(format!("TLS as configured is not possible: {e}")))
}

/// Takes up a new certificate as soon as its files are there. Runs as long as the agent.
pub(super) async fn keep_fresh(tls: Tls) {
    let dir = |path: &Utf8PathBuf| path.parent().map(camino::Utf8Path::to_owned).unwrap_or_default();
    let watch = |path: &Utf8PathBuf| {
        Events::new(&dir(path)).inspect_err(|error| {
            tracing::warn!(%error, %path, "cannot be watched: a new certificate is taken up at the next start");
        })
    };
    let (Ok(certificate), Ok(key)) = (watch(&tls.files().certificate), watch(&tls.files().key)) else {
        return;
    };
    loop {
        tokio::select! {
            () = certificate.next() => {}
            () = key.next() => {}
        }
        match tls.reload() {
            Ok(true) => tracing::info!("new connections are shown the new certificate"),
            Ok(false) => {}
            // One of the two files is there before the other.
            Err(error) => tracing::warn!(%error, "the certificate of before stays in service"),
        }
    }
}

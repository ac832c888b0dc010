//! The listener's certificate: the operator's, read at start and again when its files change; or one of the agents' own CA.

use std::net::IpAddr;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde_json::json;

use super::DaemonError;
use super::home::Home;
use crate::app::custody::KeepHolding;
use crate::app::holding::Subject;
use crate::clock::Clock;
use crate::config::{self, Config, TlsMode};
use crate::engine::port::Stamp;
use crate::host::events::Events;
use crate::secure::{Holding, Tls, TlsFiles};

/// What the listener shows; with a CA of our own, what is held of it.
pub(super) struct Loaded {
    pub(super) tls: Option<Tls>,
    pub(super) own: Option<(Subject, Holding)>,
}

/// What the configuration asks for; no TLS for plain HTTP.
///
/// # Errors
/// Whatever keeps it from being done (W19).
pub(super) async fn load(config: &Config, home: &Home, clock: &dyn Clock) -> Result<Loaded, DaemonError> {
    if !config.tls.own_ca || config.tls.mode == TlsMode::Off {
        return Ok(Loaded { tls: files(&config.tls)?, own: None });
    }
    let subject = subject(config, home);
    let holding = kept(home, &subject, clock).await?;
    let tls = Tls::own(&holding, config.tls.mode == TlsMode::Mutual).map_err(|e| unusable(&e))?;
    Ok(Loaded { tls: Some(tls), own: Some((subject, holding)) })
}

fn unusable(why: &dyn std::fmt::Display) -> DaemonError {
    DaemonError::Usage(format!(
        "what the store holds of the CA cannot be used: {why}. Put back a backup of the store with the vault.key that belongs to it, \
         or set tls.own_ca = false to do without"
    ))
}

fn files(config: &config::Tls) -> Result<Option<Tls>, DaemonError> {
    let config::Tls { mode, certificate, key, client_ca, .. } = config.clone();
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

/// Its own address, those it listens on, and the host's own where it listens everywhere.
fn subject(config: &Config, home: &Home) -> Subject {
    let own = home.ledger.state().addr;
    let mut names = vec![own.ip];
    for listens in config.agent.listen.iter().map(std::net::SocketAddr::ip) {
        let name = match listens {
            IpAddr::V4(ip) if ip.is_unspecified() => [127, 0, 0, 1].into(),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(1.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => listens,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Subject { own, names, lifetime: Duration::from_secs(config.tls.certificate_lifetime_secs) }
}

/// What was kept, renewed where it is time; or at the first start a CA of this agent's own. Kept before it is shown.
async fn kept(home: &Home, subject: &Subject, clock: &dyn Clock) -> Result<Holding, DaemonError> {
    let now = clock.now();
    let (holding, what) = match home.keeper.holding().await.map_err(|e| unusable(&e.chain()))? {
        None => (subject.on_its_own(now)?, "a CA of its own"),
        Some(kept) => match subject.in_time(&kept, now)? {
            Some(renewed) => (renewed, "renewed"),
            None => return Ok(kept),
        },
    };
    let stamp = Stamp { at: now, actor: "start of the agent".to_owned() };
    home.keeper.save_holding(&holding, stamp, json!({ "certificates": what })).await?;
    Ok(holding)
}

/// Takes up a new certificate as soon as its files are there. Runs as long as the agent.
pub(super) async fn keep_fresh(tls: Tls) {
    let Some(files) = tls.files() else { return };
    let dir = |path: &Utf8PathBuf| path.parent().map(camino::Utf8Path::to_owned).unwrap_or_default();
    let watch = |path: &Utf8PathBuf| {
        Events::new(&dir(path)).inspect_err(|error| {
            tracing::warn!(%error, %path, "cannot be watched: a new certificate is taken up at the next start");
        })
    };
    let (Ok(certificate), Ok(key)) = (watch(&files.certificate), watch(&files.key)) else {
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

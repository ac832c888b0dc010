//! The home opened: one agent, its vault, its store, what it remembers about itself.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use zeroize::Zeroizing;

use super::DaemonError;
use super::keep::Keeper;
use super::remembered;
use crate::clock::Clock;
use crate::cluster::{Keep, Ledger};
use crate::config::Config;
use crate::engine::port::Stamp;
use crate::host::files;
use crate::host::lock::{self, AgentLock, LockError};
use crate::host::unit;
use crate::secure::Vault;
use crate::store::Store;

const VAULT_KEY: &str = "vault.key";
const VAULT_KEY_MODE: u32 = 0o600;
const STORE: &str = "store.db";

/// What belongs to this agent as long as it holds the lock.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) path: Utf8PathBuf,
    pub(super) state_dir: Utf8PathBuf,
    pub(super) keeper: Arc<Keeper>,
    pub(super) ledger: Ledger,
    _lock: AgentLock,
}

impl Home {
    pub(super) async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, DaemonError> {
        let path = config.agent.home.clone().ok_or_else(|| {
            DaemonError::Usage(
                "no home: give --home DIR, OBPILOT_HOME, or agent.home in the configuration".to_owned(),
            )
        })?;
        let state_dir = lock::make_state_dir(&path).map_err(|e| DaemonError::Usage(in_full(&e)))?;
        let lock = lock::acquire(&state_dir, unit::own().as_deref()).map_err(|error| match error {
            LockError::Held { .. } => DaemonError::Taken(error.to_string()),
            LockError::Io { .. } => DaemonError::Start(error.to_string()),
        })?;
        if let Err(error) = files::remove_unfinished(&state_dir) {
            tracing::warn!(error = in_full(&error), "files that a killed agent left are still there");
        }
        let vault = Arc::new(open_vault(&state_dir)?);
        let store = Store::open(&state_dir, Arc::clone(&clock), config.store.keep_backups)?;
        let keeper = Arc::new(Keeper { store, vault });
        let (known, secrets) = keeper.load().await?.unzip();
        let adopted = remembered::adopt(known, config)?;
        if let Some(what) = adopted.change {
            let stamp = Stamp { at: clock.now(), actor: "start of the agent".to_owned() };
            keeper.save(None, &adopted.state, &secrets.clone().unwrap_or_default(), stamp, what).await?;
        }
        let keep = Arc::clone(&keeper);
        let ledger = Ledger::new(keep, clock, adopted.state, secrets.unwrap_or_default());
        Ok(Self { path, state_dir, keeper, ledger, _lock: lock })
    }
}

/// The vault of an existing store, or a new one where nothing was sealed yet.
fn open_vault(state_dir: &Utf8Path) -> Result<Vault, DaemonError> {
    let path = state_dir.join(VAULT_KEY);
    let fail = |why: String| DaemonError::Vault(format!("{path}: {why}"));
    let key = match std::fs::metadata(&path) {
        Ok(found) => {
            let mode = found.mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(fail(format!(
                    "others may read the key of the secrets (mode {mode:o}); chmod 600 it"
                )));
            }
            Zeroizing::new(std::fs::read(&path).map_err(|e| fail(e.to_string()))?)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if state_dir.join(STORE).exists() {
                return Err(fail(
                    "it is missing, and the secrets in the store beside it cannot be read without it; put it back".to_owned(),
                ));
            }
            let key = Vault::new_key().map_err(|e| fail(e.to_string()))?;
            files::write_atomic(&path, &key, VAULT_KEY_MODE).map_err(|e| DaemonError::Vault(in_full(&e)))?;
            key
        }
        Err(error) => return Err(fail(error.to_string())),
    };
    Vault::from_key(&key).map_err(|e| fail(e.to_string()))
}

fn in_full(error: &files::FileError) -> String {
    format!("{error}: {}", error.source)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn dir() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        let (_guard, dir) = dir();
        let sealed = open_vault(&dir).unwrap().seal("x", b"secret").unwrap();
        let mode = std::fs::metadata(dir.join(VAULT_KEY)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let again = open_vault(&dir).unwrap();
        assert_eq!(&**again.open("x", &sealed).unwrap(), b"secret");
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_gone_is_refused() {
        let (_guard, dir) = dir();
        open_vault(&dir).unwrap();
        let key = dir.join(VAULT_KEY);
        std::fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
        let error = open_vault(&dir).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        files::remove_file(&key).unwrap();
        files::write_atomic(&dir.join(STORE), b"", 0o600).unwrap();
        let error = open_vault(&dir).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
        files::write_atomic(&key, b"short", 0o600).unwrap();
        let error = open_vault(&dir).unwrap_err().to_string();
        assert!(error.contains("32 bytes"), "{error}");
    }
}

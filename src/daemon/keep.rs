//! The ledger's keeper: the document in the store, its secrets sealed by the vault.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::api::RememberBlocks;
use crate::cluster::{Accounts, AgentState, Keep, Secrets, papers};
use crate::engine::port::Stamp;
use crate::error::{Error, Result};
use crate::flow::ports::Sealer;
use crate::model::{Password, Timestamp};
use crate::secure::{AgentKey, BlockHash, LASTING_FROM, PeerIdentity, V3Key, Vault};
use crate::store::{Secret, Store};
use crate::tasks::Tasks;

const ROOT: &str = "root_password";
const AGENT: &str = "agent_password";
/// Users of the v2 API, as JSON.
const ACCOUNTS: &str = "accounts";
const AGENT_KEY: &str = "agent_key";
const PEER_KEY: &str = "peer_key";
const V3_KEY: &str = "v3_key";

/// Store and vault together.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pub(super) store: Store,
    pub(super) vault: Arc<Vault>,
}

impl Keeper {
    /// What was kept last; `None` on the first start.
    pub(super) async fn load(&self) -> Result<Option<(AgentState, Secrets)>> {
        let Some(agent) = self.store.document(papers::AGENT).await? else { return Ok(None) };
        let state = AgentState::of_papers(agent, self.store.document(papers::OTHERS).await?)?;
        let (root, agent) = (self.secret(ROOT).await?, self.secret(AGENT).await?);
        let accounts = Arc::new(self.accounts().await?);
        Ok(Some((state, Secrets { root, agent, accounts, era: Arc::default() })))
    }

    async fn accounts(&self) -> Result<Accounts> {
        let Some(text) = self.secret(ACCOUNTS).await? else { return Ok(Accounts::default()) };
        serde_json::from_str(text.expose())
            .map_err(|e| Error::unexpected(format!("the accounts cannot be read: {e}")))
    }

    fn sealed_accounts(&self, accounts: &Accounts) -> Result<Secret> {
        let text = serde_json::to_string(accounts).map(Password::new);
        let text = text.map_err(|e| Error::unexpected(format!("the accounts cannot be written: {e}")))?;
        self.sealed(ACCOUNTS, Some(&text).filter(|_| !accounts.is_empty()))
    }

    async fn secret(&self, name: &'static str) -> Result<Option<Password>> {
        let Some(sealed) = self.store.secret(name).await? else { return Ok(None) };
        self.vault.open_text(name, &sealed).map(|text| Some(Password::new(text))).map_err(vault_error)
    }

    fn sealed(&self, name: &'static str, password: Option<&Password>) -> Result<Secret> {
        let sealed = password.map(|pw| self.vault.seal(name, pw.expose().as_bytes())).transpose();
        Ok(Secret { name: name.to_owned(), sealed: sealed.map_err(vault_error)? })
    }

    /// The pair of this agent, made at the first start.
    pub(super) async fn agent_key(&self, now: Timestamp) -> Result<AgentKey> {
        self.pair(AGENT_KEY, AgentKey::from_pkcs8, AgentKey::generate, AgentKey::to_pkcs8, now).await
    }

    /// The pair of scheme v3, made at the first start.
    pub(super) async fn v3_key(&self, now: Timestamp) -> Result<V3Key> {
        self.pair(V3_KEY, V3Key::from_pkcs8, V3Key::generate, V3Key::to_pkcs8, now).await
    }

    /// The key that other agents know this one by, made at the first start.
    pub(super) async fn peer_identity(&self, now: Timestamp) -> Result<PeerIdentity> {
        let to_pkcs8 = PeerIdentity::to_pkcs8;
        self.pair(PEER_KEY, PeerIdentity::from_pkcs8, PeerIdentity::generate, to_pkcs8, now).await
    }

    /// The one that is kept, or a new one, kept before it is used.
    async fn pair<K, E>(
        &self,
        name: &'static str,
        read: impl FnOnce(&[u8]) -> std::result::Result<K, E>,
        make: impl FnOnce() -> std::result::Result<K, E> + Send + 'static,
        to_pkcs8: impl FnOnce(&K) -> &[u8],
        now: Timestamp,
    ) -> Result<K>
    where
        K: Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let unusable = |error: E| {
            Error::unexpected(format!("the key that is kept as {name}: {error}")).with_source(error)
        };
        if let Some(sealed) = self.store.secret(name).await? {
            let der = self.vault.open(name, &sealed).map_err(vault_error)?;
            return read(&der).map_err(unusable);
        }
        let key = Tasks::blocking(make).await.map_err(unusable)?;
        self.save_pair(name, to_pkcs8(&key), now).await?;
        Ok(key)
    }

    async fn save_pair(&self, name: &'static str, pkcs8: &[u8], now: Timestamp) -> Result<()> {
        let sealed = self.vault.seal(name, pkcs8).map_err(vault_error)?;
        self.store.save_secret(Secret { name: name.to_owned(), sealed: Some(sealed) }, now).await
    }
}

pub(super) fn vault_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unexpected(error.to_string()).with_source(error)
}

impl Keep for Keeper {
    fn save<'a>(
        &'a self,
        before: Option<&'a AgentState>,
        state: &'a AgentState,
        secrets: &'a Secrets,
        stamp: Stamp,
        what: Value,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let sealed = vec![
                self.sealed(ROOT, secrets.root.as_ref())?,
                self.sealed(AGENT, secrets.agent.as_ref())?,
                self.sealed_accounts(&secrets.accounts)?,
            ];
            self.store.save_documents(state.papers(before)?, sealed, stamp, what).await
        })
    }
}

impl RememberBlocks for Keeper {
    fn remember(&self, blocks: Vec<BlockHash>, expires_at: Timestamp, now: Timestamp) {
        self.store.remember_blocks(blocks, expires_at, now);
    }

    fn keep_key(&self, key: Arc<AgentKey>, now: Timestamp) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.save_pair(AGENT_KEY, key.to_pkcs8(), now).await?;
            // Lasting blocks were sealed with the key before.
            self.store.forget_blocks_after(now + LASTING_FROM);
            Ok(())
        })
    }

    fn keep_v3_key(&self, key: Arc<V3Key>, now: Timestamp) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.save_pair(V3_KEY, key.to_pkcs8(), now).await })
    }
}

impl Sealer for Keeper {
    fn seal(&self, purpose: &str, secret: &Password) -> Result<String> {
        self.vault.seal_to_text(purpose, secret.expose().as_bytes()).map_err(vault_error)
    }

    fn open(&self, purpose: &str, sealed: &str) -> Result<Password> {
        self.vault.open_from_text(purpose, sealed).map(Password::new).map_err(vault_error)
    }
}

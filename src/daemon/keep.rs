//! The ledger's keeper: the document in the store, its secrets sealed by the vault.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::api::RememberBlocks;
use crate::cluster::{AgentState, Keep, Secrets};
use crate::engine::port::Stamp;
use crate::error::{Error, Result};
use crate::flow::ports::Sealer;
use crate::model::{Password, Timestamp};
use crate::secure::{AgentKey, BlockHash, KeyError, PeerError, PeerIdentity, V3Key, Vault};
use crate::store::{Secret, Store};
use crate::tasks::Tasks;

/// Name of the agent's document.
const DOCUMENT: &str = "agent";
const ROOT: &str = "root_password";
const AGENT: &str = "agent_password";
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
        let Some(document) = self.store.document(DOCUMENT).await? else { return Ok(None) };
        let state = serde_json::from_value(document)
            .map_err(|e| Error::unexpected(format!("the agent's document cannot be read: {e}")))?;
        let secrets = Secrets { root: self.secret(ROOT).await?, agent: self.secret(AGENT).await? };
        Ok(Some((state, secrets)))
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
        let unusable =
            |error: KeyError| Error::unexpected(format!("the agent's key pair: {error}")).with_source(error);
        if let Some(sealed) = self.store.secret(AGENT_KEY).await? {
            let der = self.vault.open(AGENT_KEY, &sealed).map_err(vault_error)?;
            return AgentKey::from_pkcs8(&der).map_err(unusable);
        }
        let key = Tasks::blocking(AgentKey::generate).await.map_err(unusable)?;
        self.save_pair(AGENT_KEY, key.to_pkcs8(), now).await?;
        Ok(key)
    }

    /// The pair of scheme v3, made at the first start.
    pub(super) async fn v3_key(&self, now: Timestamp) -> Result<V3Key> {
        let unusable = |error: KeyError| {
            Error::unexpected(format!("the agent's pair for scheme v3: {error}")).with_source(error)
        };
        if let Some(sealed) = self.store.secret(V3_KEY).await? {
            let der = self.vault.open(V3_KEY, &sealed).map_err(vault_error)?;
            return V3Key::from_pkcs8(&der).map_err(unusable);
        }
        let key = Tasks::blocking(V3Key::generate).await.map_err(unusable)?;
        self.save_pair(V3_KEY, key.to_pkcs8(), now).await?;
        Ok(key)
    }

    /// The key that other agents know this one by, made at the first start.
    pub(super) async fn peer_identity(&self, now: Timestamp) -> Result<PeerIdentity> {
        let unusable = |error: PeerError| Error::unexpected(error.to_string()).with_source(error);
        if let Some(sealed) = self.store.secret(PEER_KEY).await? {
            let der = self.vault.open(PEER_KEY, &sealed).map_err(vault_error)?;
            return PeerIdentity::from_pkcs8(&der).map_err(unusable);
        }
        let identity = PeerIdentity::generate().map_err(unusable)?;
        self.save_pair(PEER_KEY, identity.to_pkcs8(), now).await?;
        Ok(identity)
    }

    async fn save_pair(&self, name: &'static str, pkcs8: &[u8], now: Timestamp) -> Result<()> {
        let sealed = self.vault.seal(name, pkcs8).map_err(vault_error)?;
        self.store.save_secret(Secret { name: name.to_owned(), sealed: Some(sealed) }, now).await
    }
}

fn vault_error(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unexpected(error.to_string()).with_source(error)
}

impl Keep for Keeper {
    fn save<'a>(
        &'a self,
        state: &'a AgentState,
        secrets: &'a Secrets,
        stamp: Stamp,
        what: Value,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let document = serde_json::to_value(state)
                .map_err(|e| Error::unexpected(format!("the agent's document cannot be written: {e}")))?;
            let sealed =
                vec![self.sealed(ROOT, secrets.root.as_ref())?, self.sealed(AGENT, secrets.agent.as_ref())?];
            self.store.save_document(DOCUMENT, document, sealed, stamp, what).await
        })
    }
}

impl RememberBlocks for Keeper {
    fn remember(&self, blocks: Vec<BlockHash>, expires_at: Timestamp, now: Timestamp) {
        self.store.remember_blocks(blocks, expires_at, now);
    }

    fn keep_key(&self, key: Arc<AgentKey>, now: Timestamp) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.save_pair(AGENT_KEY, key.to_pkcs8(), now).await })
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

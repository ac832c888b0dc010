//! What is held of a CA, in the store: what is public as a document, the two keys sealed beside it, all in one commit.
//!
//! Invariant: it is whole or it is an error (W19). A key that is missing or does not open is never replaced by a new one: others
//! go by the old one.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keep::{Keeper, vault_error};
use crate::app::custody::KeepHolding;
use crate::engine::port::Stamp;
use crate::error::{Error, Result};
use crate::model::{Certificate, Timestamp};
use crate::secure::{Holding, TlsKey};
use crate::store::Secret;

/// Names in the store.
const DOCUMENT: &str = "certificates";
const TLS_KEY: &str = "tls_key";
const AUTHORITY_KEY: &str = "ca_key";
const NEXT_KEY: &str = "ca_next_key";

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    roots: Vec<Certificate>,
    certificate: Certificate,
    is_clusters: bool,
    /// The key of the first root is held too.
    may_issue: bool,
    /// And that of the second, which issues next.
    is_announced: bool,
    left_at: Option<Timestamp>,
}

impl Keeper {
    /// What was kept last; `None` on the first start.
    pub(super) async fn holding(&self) -> Result<Option<Holding>> {
        let Some(document) = self.store.document(DOCUMENT).await? else { return Ok(None) };
        let document: Document = serde_json::from_value(document)
            .map_err(|e| Error::unexpected(format!("the document of certificates cannot be read: {e}")))?;
        let Document { roots, certificate, is_clusters, may_issue, is_announced, left_at } = document;
        let key = self.tls_key(TLS_KEY).await?;
        let authority = if may_issue { Some(self.tls_key(AUTHORITY_KEY).await?) } else { None };
        let next = if is_announced { Some(self.tls_key(NEXT_KEY).await?) } else { None };
        Ok(Some(Holding { roots, certificate, key, authority, next, is_clusters, left_at }))
    }

    async fn tls_key(&self, name: &'static str) -> Result<Arc<TlsKey>> {
        let sealed = self.store.secret(name).await?;
        let sealed =
            sealed.ok_or_else(|| Error::unexpected(format!("the key that was kept as {name} is gone")))?;
        let der = self.vault.open(name, &sealed).map_err(vault_error)?;
        let unusable = |e| Error::unexpected(format!("the key that is kept as {name}: {e}"));
        TlsKey::from_pkcs8(&der).map(Arc::new).map_err(unusable)
    }

    fn sealed_key(&self, name: &'static str, key: Option<&TlsKey>) -> Result<Secret> {
        let sealed = key.map(|key| self.vault.seal(name, key.to_pkcs8())).transpose();
        Ok(Secret { name: name.to_owned(), sealed: sealed.map_err(vault_error)? })
    }
}

impl KeepHolding for Keeper {
    fn save_holding<'a>(
        &'a self,
        holding: &'a Holding,
        stamp: Stamp,
        what: Value,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Holding { roots, certificate, key, authority, next, is_clusters, left_at } = holding;
            let document = Document {
                roots: roots.clone(),
                certificate: certificate.clone(),
                is_clusters: *is_clusters,
                may_issue: authority.is_some(),
                is_announced: next.is_some(),
                left_at: *left_at,
            };
            let secrets = vec![
                self.sealed_key(TLS_KEY, Some(key))?,
                self.sealed_key(AUTHORITY_KEY, authority.as_deref())?,
                self.sealed_key(NEXT_KEY, next.as_deref())?,
            ];
            let text = serde_json::to_string(&document).map_err(|e| {
                Error::unexpected("the document of certificates cannot be written").with_source(e)
            })?;
            self.store.save_documents(vec![(DOCUMENT, text)], secrets, stamp, what).await
        })
    }
}

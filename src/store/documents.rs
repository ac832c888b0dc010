//! The agent's own documents, its sealed secrets, and the header blocks it has seen.

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

use super::error::StoreError;
use super::group::Scope;
use super::open::Store;
use super::records::{self, to_nanos};
use crate::engine::port::Stamp;
use crate::error::Result;
use crate::model::Timestamp;

/// A sealed value to keep under a name; `None` removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    pub name: String,
    pub sealed: Option<Vec<u8>>,
}

impl Store {
    /// A document, as it was last saved.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn document(&self, name: &'static str) -> Result<Option<Value>> {
        let found = self.read(move |connection| {
            let mut select = connection.prepare_cached("SELECT body FROM ledger WHERE name = ?1")?;
            let body: Option<String> = select.query_row([name], |row| row.get(0)).optional()?;
            Ok(body.map(|body| serde_json::from_str(&body)).transpose()?)
        });
        Ok(found.await?)
    }

    /// Saves documents, by their names, and secrets together, with a record of what changed; returns after the commit.
    ///
    /// # Errors
    /// When the store cannot keep them; then nothing of them is kept.
    pub async fn save_documents(
        &self,
        documents: Vec<(&'static str, String)>,
        secrets: Vec<Secret>,
        stamp: Stamp,
        what: Value,
    ) -> Result<()> {
        let write = move |scope: &mut Scope<'_>| -> std::result::Result<(), StoreError> {
            let now = to_nanos(stamp.at);
            let mut upsert = scope.connection.prepare_cached(
                "INSERT INTO ledger (name, body, updated_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at",
            )?;
            for (name, body) in &documents {
                upsert.execute(params![name, body, now])?;
            }
            drop(upsert);
            for secret in &secrets {
                save_secret(scope.connection, secret, now)?;
            }
            records::insert_free(
                scope,
                "agent_changed",
                None,
                &stamp,
                json!({ "document": documents.first().map(|(name, _)| name), "change": what }),
            )?;
            Ok(())
        };
        Ok(self.inner.writer.write(write).await?)
    }

    /// # Errors
    /// When the store cannot be read.
    pub async fn secret(&self, name: &'static str) -> Result<Option<Vec<u8>>> {
        let found = self.read(move |connection| {
            let mut select = connection.prepare_cached("SELECT sealed FROM secret WHERE name = ?1")?;
            Ok(select.query_row([name], |row| row.get(0)).optional()?)
        });
        Ok(found.await?)
    }

    /// # Errors
    /// When the store cannot keep it.
    pub async fn save_secret(&self, secret: Secret, at: Timestamp) -> Result<()> {
        let write = move |scope: &mut Scope<'_>| save_secret(scope.connection, &secret, to_nanos(at));
        Ok(self.inner.writer.write(write).await?)
    }

    /// Keeps the header blocks of a request that is about to change something, and forgets expired ones. Queued before
    /// this returns: committed no later than whatever the request commits.
    pub fn remember_blocks(&self, blocks: Vec<[u8; 32]>, expires_at: Timestamp, now: Timestamp) {
        self.inner.writer.post(move |scope| {
            let mut insert = scope.connection.prepare_cached(
                "INSERT INTO seen_block (hash, expires_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?;
            for block in &blocks {
                insert.execute(params![block.as_slice(), to_nanos(expires_at)])?;
            }
            let mut forget =
                scope.connection.prepare_cached("DELETE FROM seen_block WHERE expires_at < ?1")?;
            forget.execute([to_nanos(now)])?;
            Ok(())
        });
    }

    /// Forgets the blocks that would expire later than this. Queued before this returns.
    pub fn forget_blocks_after(&self, moment: Timestamp) {
        self.inner.writer.post(move |scope| {
            let mut forget =
                scope.connection.prepare_cached("DELETE FROM seen_block WHERE expires_at > ?1")?;
            forget.execute([to_nanos(moment)])?;
            Ok(())
        });
    }

    /// Blocks that are not expired, with their expiry in Unix seconds.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn seen_blocks(&self, now: Timestamp) -> Result<Vec<([u8; 32], i64)>> {
        let blocks = self.read(move |connection| {
            let mut select = connection
                .prepare_cached("SELECT hash, expires_at FROM seen_block WHERE expires_at >= ?1")?;
            let rows = select
                .query_map([to_nanos(now)], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, i64>(1)?)))?;
            let blocks = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(blocks.into_iter().map(|(hash, at)| (hash, at / 1_000_000_000)).collect())
        });
        Ok(blocks.await?)
    }
}

fn save_secret(connection: &Connection, secret: &Secret, now: i64) -> std::result::Result<(), StoreError> {
    match &secret.sealed {
        Some(sealed) => {
            let mut upsert = connection.prepare_cached(
                "INSERT INTO secret (name, sealed, updated_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at",
            )?;
            upsert.execute(params![secret.name, sealed, now])?;
        }
        None => {
            connection.prepare_cached("DELETE FROM secret WHERE name = ?1")?.execute([&secret.name])?;
        }
    }
    Ok(())
}

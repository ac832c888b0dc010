//! Servers and zones that come and go (`observer-model.md` §11): ADD, DELETE and CANCEL DELETE SERVER, ADD and DELETE ZONE.
//!
//! Invariant: as everywhere, a look comes before a change, and another one after a refusal that says that somebody was faster.

use std::time::Duration;

use super::connect::STATEMENT_LIMIT;
use super::connect::number_of;
use super::observer::{Session, as_silence};
use super::quote::literal;
use super::view;
use crate::error::{Code, Result};
use crate::model::{ServerAddr, ZoneName};

/// A young cluster may refuse for a moment what it takes then.
const SOON: Duration = Duration::from_millis(500);

const ENTRY_EXISTS: u16 = 4017;
const ALREADY_DELETED: u16 = 4628;
const NOT_DELETING: u16 = 4629;

impl Session<'_> {
    pub(super) async fn add_server(&mut self, zone: &ZoneName, server: ServerAddr) -> Result<()> {
        let mut told = String::new();
        loop {
            let known = self.known_servers().await;
            if known.as_ref().is_some_and(|known| known.contains(&server)) {
                self.progress.info(&format!("server {server} is in"));
                return Ok(());
            }
            if known.is_some() {
                let sql = format!(
                    "ALTER SYSTEM ADD SERVER {} ZONE {}",
                    literal(&server.to_string()),
                    literal(zone.as_str())
                );
                match self.change("ADD SERVER", &sql).await.map_err(as_silence) {
                    Err(error) if error.code != Code::DatabaseUseless => return Err(error),
                    Err(error) if error.text() != told => {
                        error.text().clone_into(&mut told);
                        self.progress.info(&format!("server {server} is not taken yet: {told}"));
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(SOON).await;
        }
    }

    /// `None` while the cluster does not answer for them.
    pub(super) async fn known_servers(&mut self) -> Option<Vec<ServerAddr>> {
        let rows = view::servers(self.endpoint, self.connection, STATEMENT_LIMIT).await.ok()?;
        (!rows.is_empty()).then(|| rows.into_iter().map(|row| row.server).collect())
    }

    /// `None` for a server that the cluster does not have.
    async fn server_status(&mut self, server: ServerAddr) -> Result<Option<String>> {
        let limit = self.look_limit();
        let rows = view::servers(self.endpoint, self.connection, limit).await?;
        Ok(rows.into_iter().find(|row| row.server == server).map(|row| row.status))
    }

    /// The database hands its replicas to others, which takes what it takes; the row goes in the end.
    pub(super) async fn delete_server(&mut self, server: ServerAddr) -> Result<()> {
        match self.server_status(server).await? {
            None => return Ok(()),
            Some(status) if is_deleting(&status) => return Ok(()),
            Some(_) => {}
        }
        let sql = format!("ALTER SYSTEM DELETE SERVER {}", literal(&server.to_string()));
        match self.change("DELETE SERVER", &sql).await {
            Err(error) if number_of(&error) == Some(ALREADY_DELETED) => Ok(()),
            other => other,
        }
    }

    pub(super) async fn cancel_delete_server(&mut self, server: ServerAddr) -> Result<()> {
        if !self.server_status(server).await?.is_some_and(|status| is_deleting(&status)) {
            return Ok(());
        }
        let sql = format!("ALTER SYSTEM CANCEL DELETE SERVER {}", literal(&server.to_string()));
        match self.change("CANCEL DELETE SERVER", &sql).await {
            Err(error) if number_of(&error) == Some(NOT_DELETING) => Ok(()),
            other => other,
        }
    }

    pub(super) async fn add_zone(&mut self, zone: &ZoneName) -> Result<()> {
        if self.zone_status(zone).await?.is_some() {
            return Ok(());
        }
        let sql = format!("ALTER SYSTEM ADD ZONE {}", literal(zone.as_str()));
        match self.change("ADD ZONE", &sql).await {
            Err(error) if number_of(&error) == Some(ENTRY_EXISTS) => Ok(()),
            other => other,
        }
    }

    /// Its name is quoted (OBShell's is not).
    pub(super) async fn delete_zone(&mut self, zone: &ZoneName) -> Result<()> {
        if self.zone_status(zone).await?.is_none() {
            return Ok(());
        }
        self.change("DELETE ZONE", &format!("ALTER SYSTEM DELETE ZONE {}", literal(zone.as_str()))).await
    }

    pub(super) async fn count_units(&mut self, zone: &ZoneName) -> Result<u64> {
        let sql =
            format!("SELECT count(*) FROM oceanbase.DBA_OB_UNITS WHERE ZONE = {}", literal(zone.as_str()));
        self.count("counting the units of a zone", &sql).await
    }
}

fn is_deleting(status: &str) -> bool {
    status.eq_ignore_ascii_case("DELETING")
}

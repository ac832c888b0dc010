//! One connection for one question, and the statements that every engine understands.
//!
//! Purpose: what does not depend on the engine stands once.

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::{Endpoint, STATEMENT_LIMIT, bye, limited, useless};
use super::quote::literal;
use crate::crash::{self, Point};
use crate::error::Result;
use crate::model::Password;

/// Sends a statement that changes the database.
pub(super) async fn change(
    endpoint: Endpoint,
    connection: &mut Conn,
    what: &str,
    limit: Duration,
    sql: &str,
) -> Result<()> {
    crash::point(Point::BeforeSql);
    let done = limited(endpoint, what, limit, connection.query_drop(sql)).await;
    crash::point(Point::AfterSql);
    done
}

/// Consumed by its question, because every answer ends with a goodbye.
pub(super) struct Line {
    pub(super) endpoint: Endpoint,
    pub(super) connection: Conn,
}

impl Line {
    /// The first column of the first row; `None` when there is no row.
    pub(super) async fn first_column(mut self, what: &str, sql: &str) -> Result<Option<String>> {
        let query = self.connection.query_first::<String, _>(sql);
        let value = limited(self.endpoint, what, STATEMENT_LIMIT, query).await;
        bye(self.connection).await;
        value
    }

    /// The first column of every row.
    pub(super) async fn column(mut self, what: &str, sql: &str) -> Result<Vec<String>> {
        let query = self.connection.query::<String, _>(sql);
        let values = limited(self.endpoint, what, STATEMENT_LIMIT, query).await;
        bye(self.connection).await;
        values
    }

    /// `SELECT ob_version()`
    pub(super) async fn version(self) -> Result<String> {
        let endpoint = self.endpoint;
        let version = self.first_column("asking for the version", "SELECT ob_version()").await?;
        version.ok_or_else(|| useless(endpoint, "it told no version"))
    }

    /// `ALTER USER root IDENTIFIED BY …`
    pub(super) async fn set_root_password(mut self, new: &Password) -> Result<()> {
        let sql = format!("ALTER USER root IDENTIFIED BY {}", literal(new.expose()));
        let done =
            change(self.endpoint, &mut self.connection, "ALTER USER root", STATEMENT_LIMIT, &sql).await;
        bye(self.connection).await;
        done
    }
}

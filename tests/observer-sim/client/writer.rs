//! One row after another.
//!
//! Given several servers it does as a proxy does: it knows which zones are in service, and leaves a server whose zone is not.
//! Finding a server is no attempt; writing through it is.
//!
//! Invariant: every attempt has a number of its own, so what an unanswered one left behind is in nobody's way. An attempt
//! that is not acknowledged within its time failed, for whatever reason, and so did one that found no server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::options::Options;
use crate::report::Report;

/// Beyond the statement's own limit, for the way there and back.
const GRACE: Duration = Duration::from_secs(2);
/// For what comes before the first row, and for counting them.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(100);

/// Until it is told to end; then the rows are counted.
pub(crate) async fn write(
    options: &Options,
    mut ended: watch::Receiver<bool>,
    report: &mut Report,
) -> Result<()> {
    let table = format!("test.{}", options.table);
    let make = [
        "CREATE DATABASE IF NOT EXISTS test".to_owned(),
        format!("DROP TABLE IF EXISTS {table}"),
        format!("CREATE TABLE {table} (n BIGINT PRIMARY KEY)"),
    ];
    let made = patiently("no table to write to", async || {
        let mut way = Way::find(options).await?;
        for statement in &make {
            way.connection.query_drop(statement).await.map_err(said)?;
        }
        Ok(way)
    });
    let mut connection = tokio::select! {
        made = made => Some(made?),
        _ = ended.wait_for(|ended| *ended) => return Ok(()),
    };
    for number in 1.. {
        if !options.via.is_empty() {
            connection = stay_in_service(options, connection).await;
        }
        let began = Timestamp::now();
        match attempt(options, &mut connection, &table, number).await {
            Ok(()) => report.written(number),
            Err(text) => report.failed(number, began, text),
        }
        if timeout(options.pause, ended.wait_for(|ended| *ended)).await.is_ok() {
            break;
        }
    }
    drop(connection);
    report.found(count(options, &table).await?);
    Ok(())
}

/// A connection, and which of the servers it leads to.
struct Way {
    connection: Conn,
    place: usize,
}

impl Way {
    /// Through the first server that takes it and whose zone is in service.
    async fn find(options: &Options) -> Result<Self, String> {
        let mut why = String::new();
        for (place, server) in options.places().into_iter().enumerate() {
            match connect(options, server).await {
                Ok(connection) => {
                    let mut way = Self { connection, place };
                    if way.is_in_service(options).await {
                        return Ok(way);
                    }
                }
                Err(said) => why = said,
            }
        }
        Err(why)
    }

    async fn is_in_service(&mut self, options: &Options) -> bool {
        let Some((own, _)) = options.via.get(self.place) else { return true };
        let zones = self.connection.query::<(String, String, String, String), _>(
            "SELECT ZONE, STATUS, REGION, IDC FROM oceanbase.DBA_OB_ZONES ORDER BY ZONE",
        );
        let zones = timeout(options.timeout, zones).await;
        let is_active =
            |(zone, status, ..): &(String, String, String, String)| zone == own && status == "ACTIVE";
        matches!(zones, Ok(Ok(zones)) if zones.iter().any(is_active))
    }
}

/// Where its zone is out of service, through another one; with none it stays, and the attempt says what that means.
async fn stay_in_service(options: &Options, kept: Option<Way>) -> Option<Way> {
    let mut kept = kept;
    if let Some(way) = &mut kept
        && way.is_in_service(options).await
    {
        return kept;
    }
    Way::find(options).await.ok().or(kept)
}

async fn attempt(options: &Options, kept: &mut Option<Way>, table: &str, number: u64) -> Result<(), String> {
    let written = async {
        let mut way = match kept.take() {
            Some(way) => way,
            None => Way::find(options).await?,
        };
        let result = way.connection.query_drop(format!("INSERT INTO {table} VALUES ({number})")).await;
        // A refusal leaves the connection as it was; after anything else nobody knows how it is.
        if matches!(result, Ok(()) | Err(mysql_async::Error::Server(_))) {
            *kept = Some(way);
        }
        result.map_err(said)
    };
    let limit = options.timeout + GRACE;
    timeout(limit, written)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {} ms", limit.as_millis())))
}

async fn connect(options: &Options, server: SocketAddr) -> Result<Conn, String> {
    let to = OptsBuilder::default()
        .ip_or_hostname(server.ip().to_string())
        .tcp_port(server.port())
        .user(Some(&options.user))
        .pass(Some(&options.password))
        .prefer_socket(false);
    let mut connection = Conn::new(Opts::from(to)).await.map_err(said)?;
    let limit = options.timeout.as_micros();
    connection.query_drop(format!("SET SESSION ob_query_timeout = {limit}")).await.map_err(said)?;
    Ok(connection)
}

fn said(error: mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(refusal) => format!("{} {}", refusal.code, refusal.message),
        other => other.to_string(),
    }
}

/// The numbers of all rows.
async fn count(options: &Options, table: &str) -> Result<BTreeSet<u64>> {
    let found = patiently("the rows cannot be counted", async || {
        let mut way = Way::find(options).await?;
        way.connection.query::<u64, _>(format!("SELECT n FROM {table}")).await.map_err(said)
    });
    Ok(found.await?.into_iter().collect())
}

/// Again and again; what it was refused for last is the error.
async fn patiently<T>(what: &'static str, work: impl AsyncFn() -> Result<T, String>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let done = timeout(PATIENCE, work()).await.unwrap_or_else(|_| Err("no answer".to_owned()));
        match done {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(RETRY).await,
            done => return done.map_err(anyhow::Error::msg).context(what),
        }
    }
}

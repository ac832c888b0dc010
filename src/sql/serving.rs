//! Whether the own server of a cluster lets in, and serves (`observer-model.md` §7, §10).
//!
//! Invariant: what the cluster says of a life before is not taken for this one. The row of a server that was killed stays as it
//! was until the lease is over or a heartbeat of the next life is heard.
//!
//! Not here: what is sent once it serves (`observer`).

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::{Endpoint, NoLogin, STATEMENT_LIMIT, bye, limited, login, useless};
use super::line::Line;
use super::quote::literal;
use crate::error::{Error, Result};
use crate::model::{Password, ServerAddr};

/// What a probe may take in the database itself, in microseconds.
const PROBE_MICROS: u32 = 2_000_000;

/// After so long a row tells of the life that is: the lease of the one before is over even where the root service had to move
/// first (30 s, `observer-model.md` §10). Whoever sets the host's clock forward while a server begins waits no longer than this.
const SETTLED: Duration = Duration::from_secs(60);

/// Where the own server is.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Its name in the cluster; unknown before init.
    pub server: Option<ServerAddr>,
    pub sql_port: u16,
    /// How long its process has lived; `None` when that is not known.
    pub age: Option<Duration>,
}

/// `root@sys`. A server of a cluster that has not loaded the cluster's accounts yet offers a built-in root without a password
/// and refuses the real one: such a refusal says nothing about the password (`observer-model.md` §7).
pub(super) async fn let_in(endpoint: Endpoint, password: &Password) -> std::result::Result<Conn, NoLogin> {
    match login(endpoint, password).await {
        Err(NoLogin::Refused) => {}
        other => return other,
    }
    if has_built_in_root(endpoint).await {
        return Err(NoLogin::NoAnswer("it has not loaded the accounts of its cluster yet".to_owned()));
    }
    // It may have loaded them between the two.
    login(endpoint, password).await
}

/// Lets root in without a password, and has no tables.
async fn has_built_in_root(endpoint: Endpoint) -> bool {
    let Ok(mut connection) = login(endpoint, &Password::default()).await else { return false };
    let table = connection.query_first::<String, _>(tables());
    let answer = limited(endpoint, "asking for a table", STATEMENT_LIMIT, table).await;
    bye(connection).await;
    answer.is_err()
}

/// Whether there are tables.
fn tables() -> String {
    format!(
        "SELECT /*+ QUERY_TIMEOUT({PROBE_MICROS}) */ CAST(count(*) AS CHAR) FROM oceanbase.__ALL_DATABASE"
    )
}

/// For how many microseconds a server has served, by the clock that has stamped its row: its own. No row while it does not. (That
/// it is stopped by SQL is no obstacle to answering.)
fn service(server: ServerAddr) -> String {
    format!(
        "SELECT /*+ QUERY_TIMEOUT({PROBE_MICROS}) */ \
         CAST(TIMESTAMPDIFF(MICROSECOND, START_SERVICE_TIME, NOW(6)) AS CHAR) FROM oceanbase.DBA_OB_SERVERS \
         WHERE SVR_IP = {} AND SVR_PORT = {} AND STATUS = 'ACTIVE' AND START_SERVICE_TIME IS NOT NULL",
        literal(&server.ip.to_string()),
        server.port
    )
}

/// Whether the own server serves: tables answer, and its row says so of this life.
pub(super) async fn is_serving(line: Line, own: impl Fn() -> Own) -> Result<()> {
    let endpoint = line.endpoint;
    let no = |why: &str| Err::<(), Error>(useless(endpoint, why));
    let what = "asking whether the server serves";
    let Some(server) = own().server else {
        return match line.first_column(what, &tables()).await? {
            Some(_) => Ok(()),
            None => no("it answers, but has not begun to serve"),
        };
    };
    let Some(told) = line.first_column(what, &service(server)).await? else {
        return no("its cluster does not count it as serving");
    };
    // Its age is read after the answer, so that a life that serves from its first moment is believed.
    if is_of_this_life(&told, own().age) {
        return Ok(());
    }
    no("its cluster has not heard of it since it was started")
}

/// `told`: for how many microseconds it has served. What cannot be read is believed, and so is a time that is still to come: the
/// clock was set back.
fn is_of_this_life(told: &str, age: Option<Duration>) -> bool {
    let served = told.parse().map_or(Duration::ZERO, Duration::from_micros);
    age.is_none_or(|age| served <= age || age >= SETTLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_older_than_the_process_is_that_of_another_life() {
        let age = |secs| Some(Duration::from_secs(secs));
        assert!(is_of_this_life("1999999", age(2)) && is_of_this_life("2000000", age(2)));
        assert!(!is_of_this_life("2000001", age(2)) && !is_of_this_life("86400000000", age(59)));
        // Nobody waits longer than this for a clock that was set.
        assert!(is_of_this_life("86400000000", age(60)));
        assert!(
            is_of_this_life("-5", age(0)) && is_of_this_life("soon", age(0)) && is_of_this_life("9", None)
        );
    }
}

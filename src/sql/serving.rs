//! Whether the own server of a cluster lets in, and serves (`observer-model.md` §7, §10).
//!
//! Invariant: what the cluster says of a life before is not taken for this one. The row of a server that was killed stays as it
//! was until the lease is over or a heartbeat of the next life is heard.
//!
//! Not here: what is sent once it serves (`observer`).

use std::sync::Mutex;
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

/// So long after it was first told of another life a row is believed all the same. A root service that is there hears of a server
/// every two seconds; whoever sets the host's clock forward while a server begins waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the own server is.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Its name in the cluster; unknown before init.
    pub server: Option<ServerAddr>,
    pub sql_port: u16,
    /// `None` when its process is not known.
    pub life: Option<OwnLife>,
}

/// Which life of the server it is, by the start of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnLife {
    /// Clock ticks since boot.
    pub start_ticks: u64,
    /// How long it has lasted.
    pub age: Duration,
}

/// What was found out about the life that was asked about last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Belief {
    start_ticks: u64,
    /// How old it was when its row was first one of another life.
    doubted: Option<Duration>,
    /// Its row was its own once; the clock may do what it wants from then on.
    is_sure: bool,
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
         CAST(IFNULL(TIMESTAMPDIFF(MICROSECOND, START_SERVICE_TIME, NOW(6)), 0) AS CHAR) \
         FROM oceanbase.DBA_OB_SERVERS \
         WHERE SVR_IP = {} AND SVR_PORT = {} AND STATUS = 'ACTIVE' AND START_SERVICE_TIME IS NOT NULL",
        literal(&server.ip.to_string()),
        server.port
    )
}

/// Whether the own server serves: tables answer, and its row says so of this life.
pub(super) async fn is_serving(line: Line, own: impl Fn() -> Own, belief: &Mutex<Belief>) -> Result<()> {
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
    // Its age is read after the answer, so that a life that serves from its first moment is believed. What cannot be read is
    // believed, and so is a service that is still to come: the clock was set back.
    let served = told.parse().map_or(Duration::ZERO, Duration::from_micros);
    let life = own().life;
    let is_its_own =
        life.is_none_or(|life| belief.lock().expect("no holder of this lock panics").is_of(life, served));
    if is_its_own { Ok(()) } else { no("its cluster has not heard of it since it was started") }
}

impl Belief {
    /// Whether a service that has lasted so long is one of this life.
    fn is_of(&mut self, life: OwnLife, served: Duration) -> bool {
        if self.start_ticks != life.start_ticks {
            *self = Self { start_ticks: life.start_ticks, ..Self::default() };
        }
        if served > life.age && !self.is_sure {
            let doubted = *self.doubted.get_or_insert(life.age);
            if life.age.saturating_sub(doubted) < PATIENCE {
                return false;
            }
        }
        self.is_sure = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_older_than_the_process_is_that_of_another_life() {
        let secs = Duration::from_secs;
        let life = |start_ticks, age| OwnLife { start_ticks, age: secs(age) };
        let yesterday = secs(86_400);
        let mut belief = Belief::default();
        // A host that waits for the others of its cluster: no root service has told of this life, however long that takes.
        assert!(!belief.is_of(life(7, 90), yesterday));
        assert!(!belief.is_of(life(7, 149), yesterday));
        // Nobody waits longer than this for a clock that was set.
        assert!(belief.is_of(life(7, 150), yesterday));
        // The next life begins with nothing, and is sure of itself from the first row of its own on.
        assert!(!belief.is_of(life(8, 2), secs(2) + Duration::from_micros(1)));
        assert!(belief.is_of(life(8, 3), secs(3)));
        assert!(belief.is_of(life(8, 4), yesterday), "the clock was set forward");
    }
}

//! The statements of the single-node engine (`seekdb-engine.md` §10, §11).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::{Endpoint, STATEMENT_LIMIT, bye, connect, limited, login, outcome_of, useless};
use super::line::Line;
use super::named::UTC;
use super::{charsets, figures, parameters};
use crate::crash::{self, Point};
use crate::error::{Code, Error, Result};
use crate::flow::ports::{ClusterSql, Login, ObSql, Progress, SqlAct, SqlAnswer};
use crate::model::Password;

/// What a restart may still have to replay for a freeze to count as done: one redo file. Measured: an engine that has
/// just been initialised never moves its checkpoint past the freeze, with 7 MB of log in all.
const REPLAY_BYTES_MAX: u64 = 64 << 20;

/// The engine announces its checkpoint nowhere: it moves every few seconds and has to be read.
const CHECKPOINT_LOOK: Duration = Duration::from_secs(1);

/// SQL to the local `seekdb`. The port is where the running configuration says.
#[derive(Clone)]
pub struct SeekdbSql {
    port: Arc<dyn Fn() -> u16 + Send + Sync>,
}

impl std::fmt::Debug for SeekdbSql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SeekdbSql({})", (self.port)())
    }
}

impl SeekdbSql {
    /// `port` tells where the server was started last; it may change while the agent runs.
    pub fn new(port: impl Fn() -> u16 + Send + Sync + 'static) -> Self {
        Self { port: Arc::new(port) }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::loopback((self.port)())
    }

    async fn connect(&self, password: &Password) -> Result<Line> {
        let endpoint = self.endpoint();
        Ok(Line { endpoint, connection: connect(endpoint, password).await? })
    }
}

impl ObSql for SeekdbSql {
    fn login<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Login> {
        Box::pin(async move {
            let tried = login(self.endpoint(), password).await;
            outcome_of(tried).await
        })
    }

    fn serving<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            // A table, not `SELECT 1`: with a full disk only the latter still answers (§9).
            let sql =
                "SELECT CAST(count(*) AS CHAR) FROM oceanbase.V$OB_SERVER_STAT WHERE START_SERVICE_TIME > 0";
            let line = self.connect(password).await?;
            let serving = line.first_column("asking whether the server serves", sql).await?;
            match serving.as_deref() {
                Some("1") => Ok(()),
                _ => Err(useless(self.endpoint(), "it answers, but has not begun to serve")),
            }
        })
    }

    fn set_root_password<'a>(
        &'a self,
        current: &'a Password,
        new: &'a Password,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let line = self.connect(current).await?;
            line.set_root_password(new).await
        })
    }

    fn minor_freeze<'a>(
        &'a self,
        password: &'a Password,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let endpoint = self.endpoint();
            let mut connection = connect(endpoint, password).await?;
            let before = log_position(endpoint, &mut connection).await?.max_scn;
            crash::point(Point::BeforeSql);
            for sql in ["ALTER SYSTEM MINOR FREEZE", "ALTER SYSTEM CHECKPOINT"] {
                limited(endpoint, sql, STATEMENT_LIMIT, connection.query_drop(sql)).await?;
            }
            crash::point(Point::AfterSql);
            let mut told = u64::MAX;
            loop {
                let log = log_position(endpoint, &mut connection).await?;
                let replay = log.end_lsn.saturating_sub(log.checkpoint_lsn);
                if log.checkpoint_scn > before || replay <= REPLAY_BYTES_MAX {
                    progress.info(&format!("frozen; a restart has {} MiB of log to replay", replay >> 20));
                    bye(connection).await;
                    return Ok(());
                }
                if replay != told {
                    progress
                        .info(&format!("freezing; a restart would still replay {} MiB of log", replay >> 20));
                    told = replay;
                }
                tokio::time::sleep(CHECKPOINT_LOOK).await;
            }
        })
    }

    fn parameter_names<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let line = self.connect(password).await?;
            line.column("listing parameters", "SELECT lower(NAME) FROM oceanbase.V$OB_PARAMETERS").await
        })
    }

    fn version<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let line = self.connect(password).await?;
            line.version().await
        })
    }
}

struct LogPosition {
    max_scn: u64,
    end_lsn: u64,
    checkpoint_scn: u64,
    checkpoint_lsn: u64,
}

async fn log_position(endpoint: Endpoint, connection: &mut Conn) -> Result<LogPosition> {
    let sql = "SELECT s.MAX_SCN, s.END_LSN, i.checkpoint_scn, i.checkpoint_lsn
               FROM oceanbase.V$OB_LOG_STAT s, oceanbase.__all_virtual_ls_info i";
    let what = "reading the log's position";
    let row =
        limited(endpoint, what, STATEMENT_LIMIT, connection.query_first::<(u64, u64, u64, u64), _>(sql))
            .await?;
    let (max_scn, end_lsn, checkpoint_scn, checkpoint_lsn) =
        row.ok_or_else(|| useless(endpoint, "it has no log stream"))?;
    Ok(LogPosition { max_scn, end_lsn, checkpoint_scn, checkpoint_lsn })
}

impl ClusterSql for SeekdbSql {
    /// One server is no cluster: it has itself to tell of, and its parameters to set.
    fn act<'a>(
        &'a self,
        password: &'a Password,
        act: &'a SqlAct,
        limit: Duration,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<SqlAnswer>> {
        Box::pin(async move {
            let endpoint = self.endpoint();
            if !matches!(
                act,
                SqlAct::Figures | SqlAct::Parameters | SqlAct::Charsets | SqlAct::SetParameter(_)
            ) {
                let text = "engine seekdb is one server; it has no zones and no other servers";
                return Err(Error::new(Code::MysqlError, text));
            }
            let mut connection = connect(endpoint, password).await?;
            let done = answer(endpoint, &mut connection, limit.min(STATEMENT_LIMIT), act).await;
            bye(connection).await;
            done
        })
    }
}

async fn answer(
    endpoint: Endpoint,
    connection: &mut Conn,
    limit: Duration,
    act: &SqlAct,
) -> Result<SqlAnswer> {
    let what = "setting the time zone";
    limited(endpoint, what, limit, connection.query_drop(format!("SET SESSION {UTC}"))).await?;
    if let SqlAct::SetParameter(assignment) = act {
        return parameters::set_one(endpoint, connection, limit, assignment).await.map(|()| SqlAnswer::Done);
    }
    if *act == SqlAct::Charsets {
        return charsets::read(endpoint, connection, limit).await.map(SqlAnswer::Charsets);
    }
    if *act == SqlAct::Parameters {
        let all = parameters::read_one(endpoint, connection, limit).await?;
        return Ok(SqlAnswer::Parameters(Box::new(all)));
    }
    figures::read_one(endpoint, connection, limit).await.map(|all| SqlAnswer::Figures(Box::new(all)))
}

//! The statements for a member of a cluster of `observer` (`observer-model.md` §7, §8, §11 to §14).
//!
//! Invariant: a statement that changes the cluster is sent only after a look says that its goal is not true yet, so each act
//! can be repeated after an answer that was lost. A limit and the statement that it is for go over the same connection (W54).

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mysql_async::Conn;
use mysql_async::prelude::{FromRow, Queryable};

use super::connect::{Endpoint, STATEMENT_LIMIT, bye, limited, not_let_in, number_of, outcome_of};
use super::line::{Line, change};
use super::named::UTC;
use super::quote::literal;
use super::serving::{Belief, Own, is_serving, let_in};
use super::{charsets, figures, members, parameters, view};
use crate::cluster::parameters::Assignment;
use crate::error::{Code, Error, Result};
use crate::flow::ports::{ClusterSql, Handed, Login, ObSql, Progress, SqlAct, SqlAnswer};
use crate::model::{Password, ServerAddr, ZoneName};

/// For a look before a change. A server that lets in and has no leader answers none: then another one is asked, and nothing
/// is changed by it long after somebody wanted it.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// SQL to the local `observer`.
#[derive(Clone)]
pub struct ObserverSql {
    ip: IpAddr,
    own: Arc<dyn Fn() -> Own + Send + Sync>,
    belief: Arc<Mutex<Belief>>,
}

impl std::fmt::Debug for ObserverSql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObserverSql({})", (self.own)().sql_port)
    }
}

impl ObserverSql {
    /// `ip` is the agent's: the loopback address of its family is used, or itself where it is one. `own` may change while the
    /// agent runs.
    pub fn new(ip: IpAddr, own: impl Fn() -> Own + Send + Sync + 'static) -> Self {
        let loopback = match ip {
            _ if ip.is_loopback() => ip,
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        };
        Self { ip: loopback, own: Arc::new(own), belief: Arc::default() }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { ip: self.ip, port: (self.own)().sql_port }
    }

    async fn connect(&self, password: &Password) -> Result<Line> {
        let endpoint = self.endpoint();
        let connection = let_in(endpoint, password).await.map_err(|why| not_let_in(endpoint, &why))?;
        Ok(Line { endpoint, connection })
    }
}

impl ObSql for ObserverSql {
    fn login<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Login> {
        Box::pin(async move {
            let tried = let_in(self.endpoint(), password).await;
            outcome_of(tried).await
        })
    }

    fn serving<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let line = self.connect(password).await?;
            is_serving(line, || (self.own)(), &self.belief).await.map_err(as_silence)
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
            let servers = (self.own)().server.into_iter().collect();
            let act = SqlAct::Freeze { servers };
            self.act(password, &act, Duration::from_secs(3_600), progress).await.map(|_| ())
        })
    }

    fn parameter_names<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let line = self.connect(password).await?;
            let sql = "SELECT DISTINCT lower(NAME) FROM oceanbase.GV$OB_PARAMETERS";
            line.column("listing parameters", sql).await
        })
    }

    fn version<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let line = self.connect(password).await?;
            line.version().await
        })
    }
}

impl ClusterSql for ObserverSql {
    fn act<'a>(
        &'a self,
        password: &'a Password,
        act: &'a SqlAct,
        limit: Duration,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<SqlAnswer>> {
        Box::pin(async move {
            let Line { endpoint, mut connection } = self.connect(password).await?;
            let mut session = Session { endpoint, connection: &mut connection, limit, progress };
            let done = match session.set_limit().await {
                Ok(()) => session.act(act).await,
                Err(error) => Err(error),
            };
            bye(connection).await;
            done.map_err(as_silence)
        })
    }
}

/// Answers of a database that has no leader now, or is about to be or cease: another server may answer, or this one soon
/// (`observer-model.md` §14).
const NOT_NOW: [u16; 12] = [4012, 4038, 4121, 4124, 4265, 4550, 4638, 4652, 4654, 4722, 8001, 8002];

pub(super) fn as_silence(error: Error) -> Error {
    if number_of(&error).is_some_and(|number| NOT_NOW.contains(&number)) {
        return Error::new(Code::DatabaseUseless, error.text());
    }
    error
}

/// One connection with its limit.
pub(super) struct Session<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) connection: &'a mut Conn,
    limit: Duration,
    pub(super) progress: &'a dyn Progress,
}

impl Session<'_> {
    /// The database gives up a moment before we do: then it tells why.
    async fn set_limit(&mut self) -> Result<()> {
        let micros = self.limit.as_micros().saturating_sub(500_000).max(500_000);
        let sql = format!("SET SESSION ob_query_timeout = {micros}, {UTC}");
        limited(self.endpoint, "setting the time limit", STATEMENT_LIMIT, self.connection.query_drop(sql))
            .await
    }

    async fn act(&mut self, act: &SqlAct) -> Result<SqlAnswer> {
        let (endpoint, limit) = (self.endpoint, self.limit);
        match act {
            SqlAct::View => {
                let view = view::read(endpoint, self.connection, self.look_limit()).await?;
                return Ok(SqlAnswer::View(Box::new(view)));
            }
            SqlAct::ReadMembers => {
                return members::read(endpoint, self.connection, self.look_limit())
                    .await
                    .map(SqlAnswer::Members);
            }
            SqlAct::ReadAgents => {
                return members::read_all(endpoint, self.connection, self.look_limit())
                    .await
                    .map(SqlAnswer::Members);
            }
            SqlAct::Figures => {
                let figures = figures::read(endpoint, self.connection, self.look_limit()).await?;
                return Ok(SqlAnswer::Figures(Box::new(figures)));
            }
            SqlAct::Parameters => {
                let all = parameters::read(endpoint, self.connection, self.look_limit()).await?;
                return Ok(SqlAnswer::Parameters(Box::new(all)));
            }
            SqlAct::Charsets => {
                let all = charsets::read(endpoint, self.connection, self.look_limit()).await?;
                return Ok(SqlAnswer::Charsets(all));
            }
            SqlAct::StartServer { server } => self.start_server(*server).await?,
            SqlAct::StopServer { server } => self.stop_server(*server).await?,
            SqlAct::StartZone { zone } => self.start_zone(zone).await?,
            SqlAct::StopZone { zone } => self.stop_zone(zone).await?,
            SqlAct::Freeze { servers } => self.freeze(servers).await?,
            SqlAct::Bootstrap { first, others } => self.bootstrap(first, others).await?,
            SqlAct::MakeTables => members::make_tables(endpoint, self.connection, limit).await?,
            SqlAct::SaveMembers { members } => {
                members::save(endpoint, self.connection, limit, members).await?
            }
            SqlAct::ForgetMembers { agents } => {
                members::forget(endpoint, self.connection, limit, agents).await?;
            }
            SqlAct::AddServer { zone, server } => self.add_server(zone, *server).await?,
            SqlAct::DeleteServer { server } => self.delete_server(*server).await?,
            SqlAct::CancelDeleteServer { server } => self.cancel_delete_server(*server).await?,
            SqlAct::AddZone { zone } => self.add_zone(zone).await?,
            SqlAct::DeleteZone { zone } => self.delete_zone(zone).await?,
            SqlAct::CountUnits { zone } => return self.count_units(zone).await.map(SqlAnswer::Count),
            SqlAct::MakeProxyUser { password } => self.make_proxy_user(password).await?,
            SqlAct::SetParameter(assignment) => self.set_parameter(assignment).await?,
            SqlAct::LoadTimeZones => {
                self.change(
                    "loading time zones",
                    "ALTER SYSTEM LOAD MODULE DATA MODULE = timezone TENANT = sys",
                )
                .await?;
            }
        }
        Ok(SqlAnswer::Done)
    }

    pub(super) async fn change(&mut self, what: &str, sql: &str) -> Result<()> {
        change(self.endpoint, self.connection, what, self.limit, sql).await
    }

    pub(super) fn look_limit(&self) -> Duration {
        self.limit.min(LOOK_LIMIT)
    }

    /// A look: what it asks for is small.
    pub(super) async fn rows<T: FromRow + Send + 'static>(
        &mut self,
        what: &str,
        sql: &str,
    ) -> Result<Vec<T>> {
        limited(self.endpoint, what, self.look_limit(), self.connection.query(sql)).await
    }

    pub(super) async fn count(&mut self, what: &str, sql: &str) -> Result<u64> {
        Ok(self.rows::<u64>(what, sql).await?.first().copied().unwrap_or(0))
    }

    /// `None` for a server that the cluster does not know; else whether it is stopped.
    async fn is_stopped(&mut self, server: ServerAddr) -> Result<Option<bool>> {
        let rows = view::servers(self.endpoint, self.connection, self.look_limit()).await?;
        Ok(rows.into_iter().find(|row| row.server == server).map(|row| row.stopped.is_some()))
    }

    async fn start_server(&mut self, server: ServerAddr) -> Result<()> {
        if self.is_stopped(server).await? == Some(false) {
            return Ok(());
        }
        let sql = format!("ALTER SYSTEM START SERVER {}", literal(&server.to_string()));
        self.change("START SERVER", &sql).await
    }

    /// Stopped is: marked so, and no leader left there.
    async fn stop_server(&mut self, server: ServerAddr) -> Result<()> {
        if self.is_stopped(server).await? == Some(true) {
            let sql = format!(
                "SELECT count(*) FROM oceanbase.GV$OB_LOG_STAT WHERE ROLE = 'LEADER' AND SVR_IP = {} AND SVR_PORT = {}",
                literal(&server.ip.to_string()),
                server.port
            );
            if self.count("looking for leaders", &sql).await? == 0 {
                return Ok(());
            }
        }
        let sql = format!("ALTER SYSTEM STOP SERVER {}", literal(&server.to_string()));
        self.change("STOP SERVER", &sql).await
    }

    pub(super) async fn zone_status(&mut self, zone: &ZoneName) -> Result<Option<String>> {
        let sql =
            format!("SELECT STATUS FROM oceanbase.DBA_OB_ZONES WHERE ZONE = {}", literal(zone.as_str()));
        Ok(self.rows("reading the zones", &sql).await?.pop())
    }

    /// START ZONE of an active zone is an error (4633), so it is looked before and after.
    async fn start_zone(&mut self, zone: &ZoneName) -> Result<()> {
        const STATUS_NOT_MATCH: u16 = 4633;
        let is_active =
            |status: Option<String>| status.is_some_and(|status| status.eq_ignore_ascii_case("ACTIVE"));
        if is_active(self.zone_status(zone).await?) {
            return Ok(());
        }
        let sql = format!("ALTER SYSTEM START ZONE {}", literal(zone.as_str()));
        match self.change("START ZONE", &sql).await {
            Err(error)
                if number_of(&error) == Some(STATUS_NOT_MATCH)
                    && is_active(self.zone_status(zone).await?) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// The look says that this server answers; a zone that is stopped already may still have leaders to wait for.
    async fn stop_zone(&mut self, zone: &ZoneName) -> Result<()> {
        self.zone_status(zone).await?;
        let sql = format!("ALTER SYSTEM STOP ZONE {}", literal(zone.as_str()));
        self.change("STOP ZONE", &sql).await
    }

    /// Only what is missing is done: a cluster that answers for its servers was bootstrapped (W19).
    async fn bootstrap(
        &mut self,
        first: &[(ZoneName, ServerAddr)],
        others: &[(ZoneName, ServerAddr)],
    ) -> Result<()> {
        if self.known_servers().await.is_some() {
            self.progress.info("the cluster is bootstrapped already");
        } else {
            let list: Vec<_> = first
                .iter()
                .map(|(zone, server)| {
                    format!("ZONE {} SERVER {}", literal(zone.as_str()), literal(&server.to_string()))
                })
                .collect();
            self.progress.info(&format!("bootstrapping: {}", list.join(", ")));
            self.change("BOOTSTRAP", &format!("ALTER SYSTEM BOOTSTRAP {}", list.join(", "))).await?;
        }
        for (zone, server) in others {
            self.add_server(zone, *server).await?;
        }
        Ok(())
    }

    /// The look says that this server answers; to set the same again changes nothing.
    async fn set_parameter(&mut self, assignment: &Assignment) -> Result<()> {
        view::servers(self.endpoint, self.connection, self.look_limit()).await?;
        parameters::set(self.endpoint, self.connection, self.limit, assignment).await
    }

    async fn make_proxy_user(&mut self, password: &Handed) -> Result<()> {
        let with = if password.0.is_empty() {
            String::new()
        } else {
            format!(" IDENTIFIED BY {}", literal(password.0.expose()))
        };
        self.change("CREATE USER proxyro", &format!("CREATE USER IF NOT EXISTS `proxyro`@`%`{with}")).await?;
        self.change("GRANT", "GRANT SELECT ON oceanbase.* TO proxyro").await
    }
}

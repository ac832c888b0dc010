//! One connection: who may come in, and what is answered when (`observer-model.md` §7, §8).
//!
//! Invariant: what can be answered is decided at every statement anew, since a server changes under its connections. Every
//! statement is written down when it comes and when it was answered.
//!
//! Simplified: user tenants have a root without password. All tenants share the schemas that clients make; what a session
//! writes there is held by the last log stream of its tenant. Whoever cannot write waits for its time limit and is told 4012,
//! also where the real one would give up earlier (4038, 4722, or 6002 inside a transaction). A server that is stopped by SQL
//! goes on answering those who are connected to it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use serde_json::json;

use crate::alter::Command;
use crate::database::{self, Database};
use crate::functions::Facts;
use crate::protocol::{self, Answer, Column, Kind as ColumnKind, Login, Rows};
use crate::refusal::Refusal;
use crate::server::{Door, Phase, Server, Sight};
use crate::settings::hold;
use crate::statement::{self, Kind, Show, Statement};
use crate::tables::Reach;
use crate::token::{self, Piece};
use crate::wire::Wire;
use crate::{bootstrap, clock, rows, rules, show, translate};

pub(crate) struct Session {
    server: Arc<Server>,
    wire: Wire,
    id: u32,
    user: String,
    tenant: String,
    /// Came in as the root that exists before the schema does.
    is_built_in: bool,
    counts_found: bool,
    database: Database,
    prepared: HashMap<u32, Prepared>,
    last_prepared: u32,
}

#[derive(Debug, Default)]
struct Prepared {
    sql: String,
    count: usize,
    types: protocol::Types,
    long: BTreeMap<u16, Vec<u8>>,
}

/// What becomes of a statement.
enum Outcome {
    Answered(Result<Answer, Refusal>),
    /// Fault: done, and the connection is cut.
    Cut,
}

/// From the login to the end of the connection. The greeting has been sent.
pub(crate) fn run(server: &Arc<Server>, mut wire: Wire, id: u32, salt: &[u8; 20]) -> io::Result<()> {
    let Some(login) = wire.read()?.and_then(|payload| protocol::login(&payload)) else { return Ok(()) };
    let mut login = login;
    if login.plugin != protocol::NATIVE {
        wire.put(&protocol::auth_switch(salt));
        wire.flush()?;
        let Some(token) = wire.read()? else { return Ok(()) };
        login.token = token;
    }
    match enter(server, id, &login, salt) {
        Err(why) => {
            wire.put(&protocol::error(&why));
            wire.flush()
        }
        Ok((is_built_in, user, tenant, database)) => {
            wire.put(&protocol::ok(0, 0, false));
            wire.flush()?;
            let counts_found = login.capabilities & protocol::FOUND_ROWS != 0;
            let session = Session {
                server: Arc::clone(server),
                wire,
                id,
                user,
                tenant,
                is_built_in,
                counts_found,
                database,
                prepared: HashMap::new(),
                last_prepared: 0,
            };
            session.serve()
        }
    }
}

/// `user@tenant#cluster`.
fn split_user(written: &str) -> (String, String) {
    let (name, _cluster) = written.split_once('#').unwrap_or((written, ""));
    let (user, tenant) = name.split_once('@').unwrap_or((name, "sys"));
    (user.to_owned(), tenant.to_owned())
}

type Entered = (bool, String, String, Database);

fn enter(server: &Server, id: u32, login: &Login, salt: &[u8; 20]) -> Result<Entered, Refusal> {
    let sight = server.sight()?;
    let settings = &sight.settings;
    if server.phase() == Phase::Stopping {
        return Err(Refusal::plain(8002));
    }
    if settings.millis("initializing_ms").is_some_and(|span| server.age() < span) {
        return Err(Refusal::plain(8001));
    }
    let (user, tenant) = split_user(&login.user);
    let denied = || Refusal::denied(&user, !login.token.is_empty());
    if settings.has("refuse_login") {
        return Err(denied());
    }
    let door = server.door(&sight.state);
    let credential = match &door {
        Door::BuiltIn if tenant != "sys" => return Err(Refusal::plain(8001)),
        Door::BuiltIn => (user == "root").then_some(&None),
        Door::Schema { root, .. } if tenant == "sys" && user == "root" => Some(root),
        Door::Schema { users, .. } if tenant == "sys" => users.get(&user),
        Door::Schema { tenants, .. } => (user == "root" && tenants.contains(&tenant)).then_some(&None),
    };
    if !credential.is_some_and(|credential| protocol::is_right(credential, salt, &login.token)) {
        return Err(denied());
    }
    let is_built_in = door == Door::BuiltIn;
    if let Some(name) = &login.database {
        check_database(server, is_built_in, name)?;
    }
    let facts = Facts {
        version: settings.version(server.is_restart).to_owned(),
        mysql_version: settings.mysql_version(server.is_restart),
        database: login.database.clone(),
        user: user.clone(),
        connection: id,
        // Relative to the home, as the real one says it.
        socket: "run/sql.sock".into(),
        ..Facts::default()
    };
    let database = Database::open(server.cluster.dir(), facts)?;
    Ok((is_built_in, user, tenant, database))
}

fn check_database(server: &Server, is_built_in: bool, name: &str) -> Result<(), Refusal> {
    let lower = name.to_lowercase();
    let is_there = ["oceanbase", "information_schema", "mysql"].contains(&lower.as_str())
        || database::database_file(server.cluster.dir(), &lower).exists();
    if is_there && !is_built_in { Ok(()) } else { Err(Refusal::no_database(name)) }
}

impl Session {
    fn serve(mut self) -> io::Result<()> {
        while let Some(payload) = self.wire.read()? {
            if self.server.phase() == Phase::Stopping {
                return Ok(());
            }
            let Some((command, rest)) = payload.split_first() else { continue };
            let goes_on = match command {
                // QUIT
                0x01 => return Ok(()),
                // INIT_DB
                0x02 => {
                    let answer = self.use_database(&String::from_utf8_lossy(rest));
                    self.send(answer, false)
                }
                // QUERY
                0x03 => self.query(&String::from_utf8_lossy(rest)),
                // PING
                0x0e => self.send(Ok(Answer::done()), false),
                // STMT_PREPARE
                0x16 => self.prepare(&String::from_utf8_lossy(rest)),
                // STMT_EXECUTE
                0x17 => self.execute(rest),
                // STMT_SEND_LONG_DATA
                0x18 => {
                    self.long_data(rest);
                    Ok(true)
                }
                // STMT_CLOSE
                0x19 => {
                    self.prepared.remove(&number(rest));
                    Ok(true)
                }
                // STMT_RESET
                0x1a => self.send(Ok(Answer::done()), false),
                // RESET_CONNECTION
                0x1f => {
                    let reset = self.reset();
                    self.send(reset, false)
                }
                _ => self.send(Err(Refusal::new(1047, "Unknown command")), false),
            };
            if !goes_on? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<Answer, Refusal> {
        self.prepared.clear();
        hold(&self.database.facts).variables.clear();
        self.database.rollback().map(|()| Answer::done())
    }

    /// `true`: the connection goes on.
    fn send(&mut self, answer: Result<Answer, Refusal>, is_binary: bool) -> io::Result<bool> {
        let is_open = self.database.is_in_transaction();
        match answer {
            Err(why) => self.wire.put(&protocol::error(&why)),
            Ok(Answer::Done { affected, id }) => self.wire.put(&protocol::ok(affected, id, is_open)),
            Ok(Answer::Rows(Rows { columns, rows })) => {
                self.wire.put(&protocol::lenenc(columns.len() as u64));
                for column in &columns {
                    self.wire.put(&protocol::column(column));
                }
                self.wire.put(&protocol::eof(is_open));
                for row in &rows {
                    let row =
                        if is_binary { protocol::binary_row(&columns, row) } else { protocol::text_row(row) };
                    self.wire.put(&row);
                }
                self.wire.put(&protocol::eof(is_open));
            }
        }
        self.wire.flush().map(|()| true)
    }

    fn query(&mut self, sql: &str) -> io::Result<bool> {
        match self.statement(sql, &[]) {
            Outcome::Cut => Ok(false),
            Outcome::Answered(answer) => self.send(answer, false),
        }
    }

    fn prepare(&mut self, sql: &str) -> io::Result<bool> {
        let pieces = match token::read(sql) {
            Ok(pieces) => pieces,
            Err(near) => return self.send(Err(Refusal::syntax(&near)), false),
        };
        let count = translate::count_parameters(&pieces);
        let columns = self.columns_of(&pieces).unwrap_or_default();
        self.last_prepared += 1;
        let id = self.last_prepared;
        self.prepared.insert(id, Prepared { sql: sql.to_owned(), count, ..Prepared::default() });
        self.wire.put(&protocol::prepared(id, columns.len(), count));
        let unknown = Column { name: "?".to_owned(), kind: ColumnKind::Text };
        for list in [vec![unknown; count], columns] {
            for column in &list {
                self.wire.put(&protocol::column(column));
            }
            if !list.is_empty() {
                self.wire.put(&protocol::eof(false));
            }
        }
        self.wire.flush().map(|()| true)
    }

    /// A client may prepare while nothing can be answered; then it learns the columns with the rows.
    fn columns_of(&mut self, pieces: &[Piece]) -> Result<Vec<Column>, Refusal> {
        if statement::parse(pieces)? != Statement::Sql(Kind::Read) {
            return Ok(Vec::new());
        }
        self.database.attach()?;
        let sight = self.server.sight()?;
        let named = database::named_tables(pieces, &sight.settings);
        self.database.fill(&named, &sight, self.server.addr)?;
        let translated = translate::translate(pieces, self.current_database().as_deref(), self.counts_found)?;
        Ok(self.database.columns_of(&translated))
    }

    fn execute(&mut self, rest: &[u8]) -> io::Result<bool> {
        let id = number(rest);
        let Some(prepared) = self.prepared.get_mut(&id) else {
            return self.send(Err(Refusal::new(1243, "Unknown prepared statement handler")), true);
        };
        let long = std::mem::take(&mut prepared.long);
        let bytes = rest.get(9..).unwrap_or_default();
        let Some(values) = protocol::parameters(bytes, prepared.count, &mut prepared.types, &long) else {
            return self.send(Err(Refusal::new(1210, "Incorrect arguments to EXECUTE")), true);
        };
        let sql = prepared.sql.clone();
        match self.statement(&sql, &values) {
            Outcome::Cut => Ok(false),
            Outcome::Answered(answer) => self.send(answer, true),
        }
    }

    fn long_data(&mut self, rest: &[u8]) {
        let Some(prepared) = self.prepared.get_mut(&number(rest)) else { return };
        if let Some([low, high]) = rest.get(4..6) {
            let at = u16::from_le_bytes([*low, *high]);
            prepared.long.entry(at).or_default().extend(rest.get(6..).unwrap_or_default());
        }
    }

    /// Traps and journal around the answer.
    fn statement(&mut self, sql: &str, values: &[Value]) -> Outcome {
        let arrived = protocol::moment();
        let server = Arc::clone(&self.server);
        let settings = server.settings();
        server.cluster.note("arrival", json!({ "connection": self.id, "sql": sql }));
        if server.source.trap(&settings, "hang_on", sql).is_some() {
            loop {
                std::thread::park();
            }
        }
        let result = match server.source.trap(&settings, "error_on", sql) {
            Some(trap) => Err(trapped(&trap)),
            None => self.answer(sql, values),
        };
        let is_cut = server.source.trap(&settings, "drop_answer_of", sql).is_some();
        let error = result.as_ref().err();
        server.cluster.note(
            "statement",
            json!({
                "connection": self.id,
                "sql": sql,
                "arrived": arrived,
                "answered": (!is_cut).then(protocol::moment),
                "error": error.map(|why| why.code),
                "text": error.map(|why| &why.text),
            }),
        );
        if is_cut { Outcome::Cut } else { Outcome::Answered(result) }
    }

    fn current_database(&self) -> Option<String> {
        hold(&self.database.facts).database.clone()
    }

    /// In microseconds: of a hint, of the session, or 10 s.
    fn limit(&self, pieces: &[Piece]) -> u64 {
        let session = || hold(&self.database.facts).variable("ob_query_timeout")?.parse().ok();
        statement::hinted_limit(pieces).or_else(session).unwrap_or(10_000_000)
    }

    fn answer(&mut self, sql: &str, values: &[Value]) -> Result<Answer, Refusal> {
        let pieces = token::read(sql).map_err(|near| Refusal::syntax(&near))?;
        let statement = statement::parse(&pieces)?;
        let limit = self.limit(&pieces);
        match statement {
            Statement::Nothing | Statement::Privilege => Ok(Answer::done()),
            Statement::Set(all) => {
                hold(&self.database.facts).variables.extend(all);
                Ok(Answer::done())
            }
            Statement::Use(name) => self.use_database(&name),
            Statement::Begin => self.database.begin(Duration::from_micros(limit)).map(|()| Answer::done()),
            Statement::Commit => {
                let is_open = self.database.is_in_transaction();
                self.reach(if is_open { Reach::Written } else { Reach::Shared }, limit)?;
                self.database.commit().map(|()| Answer::done())
            }
            Statement::Rollback => self.database.rollback().map(|()| Answer::done()),
            Statement::Show(what) => self.show(&what, limit),
            Statement::Bootstrap(listed) => self.bootstrap(&listed, limit),
            Statement::System(system) => {
                if self.tenant != "sys" || self.user != "root" {
                    return Err(Refusal::no_privilege("ALTER SYSTEM"));
                }
                let command = Command { server: &self.server, limit_us: limit };
                command.run(&system).map(|()| Answer::done())
            }
            Statement::Password { .. } | Statement::CreateUser { .. } | Statement::DropUser(_) => {
                self.reach(Reach::Written, limit)?;
                self.change_users(statement).map(|()| Answer::done())
            }
            Statement::CreateDatabase { name, is_quiet } => {
                self.reach(Reach::Written, limit)?;
                self.database.commit()?;
                database::create_database(self.server.cluster.dir(), &name, is_quiet)?;
                Ok(Answer::Done { affected: 1, id: 0 })
            }
            Statement::DropDatabase { name, is_quiet } => {
                self.reach(Reach::Written, limit)?;
                self.database.commit()?;
                database::drop_database(self.server.cluster.dir(), &name, is_quiet).map(|()| Answer::done())
            }
            Statement::Sql(kind) => self.sql(kind, &pieces, values, limit),
        }
    }

    fn use_database(&mut self, name: &str) -> Result<Answer, Refusal> {
        let is_early = !self.server.sight()?.is_member;
        check_database(&self.server, is_early, name)?;
        hold(&self.database.facts).database = Some(name.to_owned());
        Ok(Answer::done())
    }

    fn bootstrap(&self, listed: &[crate::system::Listed], limit: u64) -> Result<Answer, Refusal> {
        if !self.is_built_in || self.user != "root" {
            return Err(Refusal::no_privilege("BOOTSTRAP"));
        }
        bootstrap::run(&self.server, listed, limit).map(|()| Answer::done())
    }

    fn change_users(&self, statement: Statement) -> Result<(), Refusal> {
        let factor = self.server.settings().factor;
        self.server.cluster.change(factor, |state, _| {
            match statement {
                Statement::Password { user, password } if user == "root" => {
                    state.root = protocol::credential(&password)
                }
                Statement::Password { user, password } => {
                    let known = state.users.get_mut(&user).ok_or_else(|| {
                        Refusal::new(1396, format!("Operation ALTER USER failed for '{user}'@'%'"))
                    })?;
                    *known = protocol::credential(&password);
                }
                Statement::CreateUser { user, password, is_quiet } => {
                    if user == "root" || state.users.contains_key(&user) {
                        let exists =
                            || Refusal::new(1396, format!("Operation CREATE USER failed for '{user}'@'%'"));
                        return if is_quiet { Ok(()) } else { Err(exists()) };
                    }
                    state.users.insert(user, password.and_then(|password| protocol::credential(&password)));
                }
                Statement::DropUser(user) => drop(state.users.remove(&user)),
                _ => {}
            }
            Ok(())
        })?;
        // The own schema is up to date when the answer is given.
        self.server.sight().map(drop)
    }

    /// Waits until what a statement needs is there; a weak read needs no leader.
    fn reach(&self, reach: Reach, limit_us: u64) -> Result<Sight, Refusal> {
        let begin = Instant::now();
        loop {
            let sight = self.server.sight()?;
            let is_weak = || {
                let level = hold(&self.database.facts).variable("ob_read_consistency");
                level.is_some_and(|level| level.eq_ignore_ascii_case("weak"))
            };
            let is_there = match reach {
                Reach::Gathered => sight.is_member,
                Reach::Shared => sight.has_leader || (sight.is_member && is_weak()),
                Reach::Written => self.can_write(&sight),
            };
            if is_there {
                return Ok(sight);
            }
            if !sight.is_member {
                // Of no cluster: there is nothing to wait for.
                return Err(Refusal::no_table("oceanbase", "__all_database"));
            }
            if begin.elapsed() >= sight.settings.patience(Duration::from_micros(limit_us)) {
                return Err(Refusal::timeout(limit_us));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the log stream that holds what this session writes takes it.
    fn can_write(&self, sight: &Sight) -> bool {
        let Sight { state, view, settings, is_member, .. } = sight;
        let tenant = state.tenants.iter().find(|tenant| tenant.name == self.tenant);
        let streams =
            state.streams.iter().filter(|stream| Some(stream.tenant) == tenant.map(|tenant| tenant.id));
        let stream = streams.max_by_key(|stream| stream.id);
        let takes = stream.is_some_and(|stream| rules::takes_writes(stream, view, self.server.addr));
        *is_member && takes && !settings.has("no_leader")
    }

    fn show(&mut self, what: &Show, limit: u64) -> Result<Answer, Refusal> {
        let rows = match what {
            Show::Variables { like } => show::variables(&hold(&self.database.facts), like.as_deref()),
            Show::Charsets { like } => show::charsets(like.as_deref()),
            Show::Other => show::nothing(),
            Show::Databases => {
                self.reach(Reach::Shared, limit)?;
                let made = database::made_databases(self.server.cluster.dir());
                let own = ["information_schema", "mysql", "oceanbase"].map(str::to_owned);
                show::names("Database", made.into_iter().chain(own))
            }
            Show::Tables => {
                let database =
                    self.current_database().ok_or_else(|| Refusal::new(1046, "No database selected"))?;
                let pieces = token::read(
                    "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = database()",
                );
                let title = format!("Tables_in_{database}");
                let pieces = pieces.map_err(|near| Refusal::syntax(&near))?;
                return match self.sql(Kind::Read, &pieces, &[], limit)? {
                    Answer::Rows(Rows { rows, .. }) => {
                        let text = |row: Vec<Value>| match row.into_iter().next() {
                            Some(Value::Text(name)) => name,
                            _ => String::new(),
                        };
                        Ok(Answer::Rows(show::names(&title, rows.into_iter().map(text))))
                    }
                    other @ Answer::Done { .. } => Ok(other),
                };
            }
            Show::Parameters { like } => {
                let sight = self.server.sight()?;
                let facts = rows::Facts { sight: &sight, own: self.server.addr, databases: &[] };
                show::parameters(&facts, like.as_deref())
            }
        };
        Ok(Answer::Rows(rows))
    }

    fn sql(&mut self, kind: Kind, pieces: &[Piece], values: &[Value], limit: u64) -> Result<Answer, Refusal> {
        let settings = self.server.settings();
        let named = database::named_tables(pieces, &settings);
        if let Some(reach) = needed_reach(kind, pieces, &named) {
            let sight = self.reach(reach, limit).map_err(|why| match named.first() {
                Some(table) if why.code == 1146 => Refusal::no_table("oceanbase", table.name),
                _ => why,
            })?;
            self.database.attach()?;
            self.database.fill(&named, &sight, self.server.addr)?;
            if pieces.iter().any(|piece| piece.is_word("information_schema")) {
                self.database.fill_information()?;
            }
        }
        let translated = translate::translate(pieces, self.current_database().as_deref(), self.counts_found)?;
        if translated.parameters != values.len() {
            return Err(Refusal::new(1210, "Incorrect arguments to EXECUTE"));
        }
        let is_definition = kind == Kind::Define;
        let answer = self.database.run(&translated, values, is_definition, Duration::from_micros(limit))?;
        let zone = hold(&self.database.facts).variable("time_zone");
        Ok(in_zone(answer, zone.as_deref().unwrap_or_default()))
    }
}

/// Times as a session sees them that has set an offset, such as `+00:00`.
fn in_zone(answer: Answer, zone: &str) -> Answer {
    let Answer::Rows(Rows { columns, mut rows }) = answer else { return answer };
    let times = columns.iter().enumerate().filter(|(_, column)| column.kind == ColumnKind::Time);
    for (at, _) in times {
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(at)) {
            if let Value::Text(text) = cell
                && let Some(told) = clock::in_zone(text, zone)
            {
                *text = told;
            }
        }
    }
    Answer::Rows(Rows { columns, rows })
}

/// `None` for what no table is needed for.
fn needed_reach(kind: Kind, pieces: &[Piece], named: &[&crate::tables::Table]) -> Option<Reach> {
    let has_source = pieces
        .windows(2)
        .any(|pair| matches!(pair, [from, what] if from.is_word("FROM") && !what.is_word("DUAL")));
    if kind == Kind::Read && !has_source {
        return None;
    }
    if kind != Kind::Read {
        return Some(Reach::Written);
    }
    let is_gathered = !named.is_empty() && named.iter().all(|table| table.reach == Reach::Gathered);
    Some(if is_gathered { Reach::Gathered } else { Reach::Shared })
}

fn trapped(trap: &serde_json::Value) -> Refusal {
    let code = trap.get("code").and_then(serde_json::Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let plain = Refusal::plain(code.unwrap_or(4016));
    match trap.get("text").and_then(serde_json::Value::as_str) {
        Some(text) => Refusal::new(plain.code, text),
        None => plain,
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_name_tenant_and_cluster() {
        let split = |user: &str| split_user(user);
        assert_eq!(split("root"), ("root".to_owned(), "sys".to_owned()));
        assert_eq!(split("root@sys#demo"), ("root".to_owned(), "sys".to_owned()));
        assert_eq!(split("app@t1"), ("app".to_owned(), "t1".to_owned()));
    }
}

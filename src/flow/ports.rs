//! The hands a step may use: traits in our own nouns, each with the real adapter and the one tests use.
//!
//! Purpose: flows say *what* is done; how a process is signalled or a statement is sent is an adapter's matter.
//!
//! Invariant: a port never decides. It reports what it saw, in an `Error` with a public code where it failed.
//!
//! Not here: the journal (`engine::port`), the clock (`clock`).

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::cluster::figures::{Charset, Figures};
use crate::cluster::parameters::{Assignment, ParameterSet};
use crate::cluster::{ClusterView, Members};
use crate::error::{Error, Result};
use crate::model::{
    AgentAddr, Exit, Finding, Launch, Member, Password, ServerAddr, ServerProcess, StopHow, StopReport,
    ZoneName,
};

/// Where a port says what it is waiting for. Lines go to the task's log.
pub trait Progress: Send + Sync {
    fn info(&self, text: &str);
    fn warn(&self, text: &str);
}

/// For work whose progress nobody follows.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn info(&self, _: &str) {}
    fn warn(&self, _: &str) {}
}

/// The database process of this home.
///
/// Laws: `find` sees the process wherever it came from, and nothing that is not ours. No method signals a
/// process whose identity (pid, start time, executable, working directory) was not verified through a pidfd in
/// the same call. Dropping a returned future stops the waiting, never the process.
pub trait Process: Send + Sync + Debug {
    /// The running process of this home, if there is one.
    ///
    /// # Errors
    /// `OB.Server.Process.CheckFailed` when it cannot be told, with the reason.
    fn find(&self) -> BoxFuture<'_, Result<Option<ServerProcess>>>;

    /// Everything a start would fail on, found without starting. Empty = nothing found.
    fn preflight<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Vec<Finding>>;

    /// Starts it and returns as soon as the process exists and its identity is known. One that runs already is returned
    /// as it is. What an interrupted first start has left is removed before, and the log says so; whether this is a first
    /// start is decided by what lies there, not by `launch` alone. A future dropped half way leaves no half start: the
    /// process is found by `find`.
    ///
    /// # Errors
    /// `OB.Server.Start.Failed` with a diagnosis.
    fn spawn<'a>(
        &'a self,
        launch: &'a Launch,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<ServerProcess>>;

    /// Returns when it listens. The caller sets the deadline by dropping the future. Where listening means that clients
    /// may write (seekdb), the data is marked initialised as soon as it listens, whether or not anybody waits here.
    ///
    /// # Errors
    /// `OB.Server.Start.Failed` with a diagnosis as soon as the process has ended.
    fn ready<'a>(
        &'a self,
        server: &'a ServerProcess,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<()>>;

    /// Stops it, escalating as told; returns when it is dead.
    ///
    /// # Errors
    /// `OB.Server.Stop.Failed` when it lives on after SIGKILL, with what holds it.
    fn stop<'a>(
        &'a self,
        server: &'a ServerProcess,
        how: StopHow,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<StopReport>>;

    /// Whether it has ended, asked of the kernel now: before the news of it has reached anybody who waits for it.
    fn has_ended(&self, server: &ServerProcess) -> bool;

    /// Returns when it has ended.
    fn exited<'a>(&'a self, server: &'a ServerProcess) -> BoxFuture<'a, Exit>;

    /// Why this life ended or does not get ready, as the diagnosis object for the task's record.
    fn diagnose<'a>(
        &'a self,
        server: &'a ServerProcess,
        exit: Option<Exit>,
    ) -> BoxFuture<'a, crate::model::Diagnosis>;

    /// The data directory has been initialised and was ready once.
    fn is_initialised(&self) -> bool;

    /// Prepares directories of a first start; says what it made, for the undo.
    ///
    /// # Errors
    /// `Common.DirNotEmpty`, or `Common.Unexpected` with the path and the cause.
    fn prepare_dirs<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Removes what a first start made, or the part of it that is named, and only if it never became ready. Logs are kept.
    ///
    /// # Errors
    /// `Common.Unexpected` with the path that could not be removed; `Common.BadRequest` when the database was
    /// ready once: its data is never removed.
    fn remove_dirs<'a>(&'a self, made: Option<&'a [String]>) -> BoxFuture<'a, Result<()>>;

    /// The TCP port on which this process speaks SQL, by what it really listens on. `None` when that cannot be told: not
    /// listening yet, ended, or several ports of which none is the configured one.
    fn sql_port<'a>(&'a self, server: &'a ServerProcess) -> BoxFuture<'a, Option<u16>>;

    /// The engine was ready: from now on its data is precious.
    ///
    /// # Errors
    /// When that cannot be recorded.
    fn mark_initialised(&self) -> BoxFuture<'_, Result<()>>;

    /// Takes [`Process::mark_initialised`] back, for the rollback of an init that never ended: its data may be removed.
    ///
    /// # Errors
    /// When that cannot be recorded.
    fn forget_initialised(&self) -> BoxFuture<'_, Result<()>>;
}

/// Whether a password opens the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    Accepted,
    Refused,
    /// No answer: down, starting, hanging. Nothing is said about the password.
    NoAnswer,
}

/// SQL to the local server, as `root` of the sys tenant.
pub trait ObSql: Send + Sync + Debug {
    /// Tries one login.
    fn login<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Login>;

    /// A statement on user-visible data answers: the server is serving.
    ///
    /// # Errors
    /// `Agent.OceanBase.Useless` with the server's own words.
    fn serving<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<()>>;

    /// `ALTER USER root IDENTIFIED BY …`
    ///
    /// # Errors
    /// `MySQL.Error` or `Agent.OceanBase.Useless`.
    fn set_root_password<'a>(&'a self, current: &'a Password, new: &'a Password)
    -> BoxFuture<'a, Result<()>>;

    /// `ALTER SYSTEM MINOR FREEZE`, then waits until the checkpoint has passed the moment before it.
    ///
    /// # Errors
    /// `MySQL.Error` or `Agent.OceanBase.Useless`. The caller sets the deadline by dropping the future.
    fn minor_freeze<'a>(
        &'a self,
        password: &'a Password,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<()>>;

    /// Names of parameters the engine knows, lower case.
    ///
    /// # Errors
    /// As `serving`.
    fn parameter_names<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Version text of the running engine, such as `4.3.5.3`.
    ///
    /// # Errors
    /// As `serving`.
    fn version<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<String>>;
}

/// Seals what must be stored inside a task's parameters, such as a password to be set.
pub trait Sealer: Send + Sync + Debug {
    /// # Errors
    /// When the vault cannot seal.
    fn seal(&self, purpose: &str, secret: &Password) -> Result<String>;

    /// # Errors
    /// When it was sealed by another vault or for another purpose.
    fn open(&self, purpose: &str, sealed: &str) -> Result<Password>;
}

/// A statement about the whole cluster, for whichever server answers. Each looks first whether its goal is true already, and
/// again when the answer to a change was lost; so each may be repeated, and sent to another agent's server. A look takes
/// seconds at most, whatever the limit of the act: a server that cannot answer it changes nothing long after it was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "act")]
pub enum SqlAct {
    /// Servers, zones, log streams and tenants, as one connection reads them.
    View,
    /// `ALTER SYSTEM START SERVER`
    StartServer { server: ServerAddr },
    /// `ALTER SYSTEM STOP SERVER`; returns when no leader is left there.
    StopServer { server: ServerAddr },
    /// `ALTER SYSTEM START ZONE`
    StartZone { zone: ZoneName },
    /// `ALTER SYSTEM STOP ZONE`
    StopZone { zone: ZoneName },
    /// `ALTER SYSTEM MINOR FREEZE SERVER = (…)`, then waits until every log stream there has its checkpoint past the moment
    /// before it (W32).
    Freeze { servers: Vec<ServerAddr> },
    /// `ALTER SYSTEM BOOTSTRAP`, unless that has happened; then `ADD SERVER` for each that is missing.
    Bootstrap { first: Vec<(ZoneName, ServerAddr)>, others: Vec<(ZoneName, ServerAddr)> },
    /// Schema `ocs` with its tables.
    MakeTables,
    /// Rows of `ocs.all_agent`: these are written, others are left.
    SaveMembers { members: Vec<Member> },
    /// Rows of `ocs.all_agent`: these go.
    ForgetMembers { agents: Vec<AgentAddr> },
    /// `ALTER SYSTEM ADD SERVER`
    AddServer { zone: ZoneName, server: ServerAddr },
    /// `ALTER SYSTEM DELETE SERVER`; returns when the server is marked, or gone.
    DeleteServer { server: ServerAddr },
    /// `ALTER SYSTEM CANCEL DELETE SERVER`; nothing for a server that is not being deleted.
    CancelDeleteServer { server: ServerAddr },
    /// `ALTER SYSTEM ADD ZONE`
    AddZone { zone: ZoneName },
    /// `ALTER SYSTEM DELETE ZONE`
    DeleteZone { zone: ZoneName },
    /// How many units of tenants a zone holds (Q68).
    CountUnits { zone: ZoneName },
    /// All rows of `ocs.all_agent` that belong to agents of ours.
    ReadMembers,
    /// All rows of `ocs.all_agent`, OBShell's among them; those have no key. None where there is no such table.
    ReadAgents,
    /// The user that obproxy asks as.
    MakeProxyUser { password: Handed },
    /// `ALTER SYSTEM LOAD MODULE DATA MODULE = timezone`
    LoadTimeZones,
    /// Room, tenants, edition, licence.
    Figures,
    /// All parameters, with what they can be set for.
    Parameters,
    /// `ALTER SYSTEM SET`. To do it again changes nothing.
    SetParameter(Assignment),
    /// Character sets with their collations.
    Charsets,
}

/// What a statement gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SqlAnswer {
    Done,
    View(Box<ClusterView>),
    Members(Members),
    Figures(Box<Figures>),
    Parameters(Box<ParameterSet>),
    Charsets(Vec<Charset>),
    Count(u64),
}

/// What was asked for, or that something else came.
impl SqlAnswer {
    /// # Errors
    /// When it is something else.
    pub fn view(self) -> Result<ClusterView> {
        if let Self::View(view) = self { Ok(*view) } else { Err(unasked("a view")) }
    }

    /// # Errors
    /// When it is something else.
    pub fn figures(self) -> Result<Figures> {
        if let Self::Figures(figures) = self { Ok(*figures) } else { Err(unasked("figures")) }
    }

    /// # Errors
    /// When it is something else.
    pub fn parameters(self) -> Result<ParameterSet> {
        if let Self::Parameters(all) = self { Ok(*all) } else { Err(unasked("parameters")) }
    }

    /// # Errors
    /// When it is something else.
    pub fn charsets(self) -> Result<Vec<Charset>> {
        if let Self::Charsets(all) = self { Ok(all) } else { Err(unasked("character sets")) }
    }
}

fn unasked(wanted: &str) -> Error {
    Error::unexpected(format!("{wanted}: asked for and not given"))
}

/// A password that is handed to somebody who is trusted with it: inside a sealed message, nowhere else.
#[derive(Clone, Debug, Default)]
pub struct Handed(pub Password);

impl PartialEq for Handed {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Serialize for Handed {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for Handed {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        Password::deserialize(from).map(Self)
    }
}

/// SQL about the cluster, through the local server, as `root` of the sys tenant.
///
/// Laws: an `Err` of `MySQL.Error` is the database's own refusal, and nothing was done; every other means that nobody
/// answered here, and another server may.
pub trait ClusterSql: Send + Sync + Debug {
    /// # Errors
    /// See the laws.
    fn act<'a>(
        &'a self,
        password: &'a Password,
        act: &'a SqlAct,
        limit: Duration,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<SqlAnswer>>;
}

//! A host that exists only here: the database process, which survives its agent, and SQL to it.
//!
//! It keeps the invariants that concern it: no second process is started beside the first, and none is stopped but by the
//! operation that holds the lock of its agent, with a stop in its hands. It knows what a restart has left down.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::chance::Chance;
use super::cluster::Cluster;
use super::disk::Disk;
use crate::error::{Code, Error, Result};
use crate::flow::peers::{Operation, Prepare};
use crate::flow::ports::{ClusterSql, Login, ObSql, Process, Progress, SqlAct, SqlAnswer};
use crate::model::{
    DagId, Diagnosis, Exit, Finding, Launch, LogMark, Password, ServerAddr, ServerProcess, StopHow,
    StopReport, Timestamp,
};

/// What a restart has stopped and nobody has started since.
#[derive(Clone, Debug)]
pub(crate) struct Owed {
    /// The part, here.
    pub(crate) part: DagId,
    pub(crate) main_dag: String,
    /// A start was tried, and failed.
    pub(crate) was_tried: bool,
}

#[derive(Debug, Default)]
struct State {
    running: Option<ServerProcess>,
    pids: i32,
    /// What was ever true, in order: started, stopped.
    history: Vec<bool>,
    /// The next spawns fail.
    fails: u32,
    /// Starts and stops hang until this is cleared.
    hangs: bool,
    owed: Option<Owed>,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    state: Arc<Mutex<State>>,
    ended: Arc<watch::Sender<i32>>,
    unhung: Arc<watch::Sender<u32>>,
    chance: Chance,
    disk: Arc<Disk>,
    cluster: Cluster,
    server: ServerAddr,
}

impl Host {
    pub(crate) fn new(chance: Chance, disk: Arc<Disk>, cluster: Cluster, server: ServerAddr) -> Self {
        Self {
            state: Arc::default(),
            ended: Arc::new(watch::Sender::new(0)),
            unhung: Arc::new(watch::Sender::new(0)),
            chance,
            disk,
            cluster,
            server,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn running(&self) -> Option<ServerProcess> {
        self.state().running.clone()
    }

    /// How often it was started and stopped.
    pub(crate) fn history(&self) -> Vec<bool> {
        self.state().history.clone()
    }

    /// The start that a restart still owes it.
    pub(crate) fn owed(&self) -> Option<Owed> {
        self.state().owed.clone()
    }

    pub(crate) fn fail_next(&self, times: u32) {
        self.state().fails = times;
    }

    pub(crate) fn hang(&self, hangs: bool) {
        self.state().hangs = hangs;
        self.unhung.send_modify(|count| *count += 1);
    }

    /// It runs, whoever started it.
    pub(crate) fn grow(&self) -> ServerProcess {
        let mut state = self.state();
        if state.running.is_some() {
            self.chance.violated("a second process was started beside the first");
        }
        state.pids += 1;
        let server = ServerProcess {
            pid: state.pids,
            start_ticks: 1,
            started_at: Timestamp::UNIX_EPOCH,
            log_from: LogMark::default(),
        };
        state.running = Some(server.clone());
        state.history.push(true);
        state.owed = None;
        self.cluster.grew(self.server);
        server
    }

    /// It dies by itself.
    pub(crate) fn die(&self) {
        let mut state = self.state();
        if let Some(dead) = state.running.take() {
            state.history.push(false);
            self.cluster.died(self.server);
            self.ended.send_replace(dead.pid);
        }
    }

    async fn not_hung(&self) {
        let mut unhung = self.unhung.subscribe();
        while self.state().hangs {
            unhung.changed().await.unwrap();
        }
    }

    /// Whoever touches the process holds the lock, and was told to do this: the part and its request.
    fn check_owner(&self, is_start: bool) -> Option<(DagId, Prepare)> {
        let Some(holder) = self.disk.holder() else {
            self.chance.violated("the process was touched without the lock");
            return None;
        };
        let params = self.disk.state().dags[&holder.dag].0.definition.params.clone();
        let request = serde_json::from_value::<Prepare>(params);
        let fits = request.as_ref().is_ok_and(|request| {
            let is_restart = matches!(request.operation, Operation::Restart { .. });
            let is_stop = matches!(request.operation, Operation::Stop { .. });
            let starts = matches!(request.operation, Operation::Start | Operation::Launch);
            is_restart || starts && is_start || is_stop && !is_start
        });
        if !fits {
            self.chance.violated(&format!(
                "the process was touched by an operation that does not own it: {request:?}"
            ));
        }
        request.ok().map(|request| (holder.dag, request))
    }

    /// It is stopped by who holds the lock: a restart owes it a start from now on, a stop owes nothing.
    fn be_stopped(&self) {
        let owner = self.check_owner(false);
        let mut owed = None;
        if let Some((part, request)) = owner
            && let Operation::Restart { how } = request.operation
        {
            let main_dag = request.key.main_dag;
            self.cluster.goes_down_for(self.server, &main_dag, how == StopHow::Kill);
            owed = Some(Owed { part, main_dag, was_tried: false });
        }
        self.die();
        self.state().owed = owed;
    }
}

impl Process for Host {
    fn find(&self) -> BoxFuture<'_, Result<Option<ServerProcess>>> {
        Box::pin(async move { Ok(self.running()) })
    }

    fn preflight<'a>(&'a self, _: &'a Launch) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async { Vec::new() })
    }

    fn spawn<'a>(&'a self, _: &'a Launch, _: &'a dyn Progress) -> BoxFuture<'a, Result<ServerProcess>> {
        Box::pin(async move {
            self.chance.pause(200).await;
            self.not_hung().await;
            if let Some(running) = self.running() {
                return Ok(running);
            }
            drop(self.check_owner(true));
            let fails = {
                let mut state = self.state();
                let fails = state.fails > 0;
                state.fails = state.fails.saturating_sub(1);
                fails
            };
            if fails || self.chance.once_in(40) {
                if let Some(owed) = &mut self.state().owed {
                    owed.was_tried = true;
                }
                return Err(Error::new(Code::StartFailed, "it ended at once"));
            }
            Ok(self.grow())
        })
    }

    fn ready<'a>(&'a self, server: &'a ServerProcess, _: &'a dyn Progress) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.chance.pause(2_000).await;
            if self.running().as_ref() == Some(server) {
                Ok(())
            } else {
                Err(Error::new(Code::StartFailed, "it has ended"))
            }
        })
    }

    fn stop<'a>(
        &'a self,
        server: &'a ServerProcess,
        _: StopHow,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<StopReport>> {
        Box::pin(async move {
            self.chance.pause(2_000).await;
            self.not_hung().await;
            if self.running().as_ref() == Some(server) {
                self.be_stopped();
            }
            Ok(StopReport { signals: vec!["SIGTERM".to_owned()], exit: Exit::Code(0), took_millis: 1 })
        })
    }

    fn has_ended(&self, server: &ServerProcess) -> bool {
        self.running().as_ref() != Some(server)
    }

    fn exited<'a>(&'a self, server: &'a ServerProcess) -> BoxFuture<'a, Exit> {
        Box::pin(async move {
            let mut ended = self.ended.subscribe();
            ended.wait_for(|pid| *pid >= server.pid).await.unwrap();
            Exit::Signal(9)
        })
    }

    fn diagnose<'a>(&'a self, _: &'a ServerProcess, _: Option<Exit>) -> BoxFuture<'a, Diagnosis> {
        Box::pin(async { Diagnosis::default() })
    }

    fn is_initialised(&self) -> bool {
        true
    }

    fn sql_port<'a>(&'a self, _: &'a ServerProcess) -> BoxFuture<'a, Option<u16>> {
        Box::pin(async { None })
    }

    fn prepare_dirs<'a>(&'a self, _: &'a Launch) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn remove_dirs<'a>(&'a self, _: Option<&'a [String]>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn mark_initialised(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn forget_initialised(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

impl Host {
    fn up(&self) -> Result<()> {
        let up = self.running().is_some();
        if up { Ok(()) } else { Err(Error::new(Code::DatabaseUseless, "the database does not answer")) }
    }
}

impl ObSql for Host {
    fn login<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Login> {
        Box::pin(async move { if self.up().is_ok() { Login::Accepted } else { Login::NoAnswer } })
    }

    fn serving<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.up() })
    }

    fn set_root_password<'a>(&'a self, _: &'a Password, _: &'a Password) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.up() })
    }

    fn minor_freeze<'a>(&'a self, _: &'a Password, _: &'a dyn Progress) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.up() })
    }

    fn parameter_names<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn version<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Result<String>> {
        Box::pin(async { Ok("4.3.5.1".to_owned()) })
    }
}

impl ClusterSql for Host {
    fn act<'a>(
        &'a self,
        _: &'a Password,
        act: &'a SqlAct,
        _: Duration,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<SqlAnswer>> {
        Box::pin(async move {
            self.up()?;
            self.chance.pause(50).await;
            self.cluster.act(act)
        })
    }
}

//! A host that exists only here: its process, its SQL, its vault, around the real engine, store and ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use camino::Utf8Path;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;

use crate::clock::{self, Clock};
use crate::cluster::{AgentState, Keep, Ledger, Secrets};
use crate::config::EngineKind;
use crate::engine::port::{Archive as _, Stamp};
use crate::engine::{Handle, Operator, Snapshot, Submission, Template};
use crate::error::{Code, Error, Result};
use crate::flow::catalog::{About, Limits, Ports, register_all};
use crate::flow::keeper::Keeper;
use crate::flow::participant::Participant;
use crate::flow::peers::{Ask, Facts, Peers};
use crate::flow::ports::{ClusterSql, Login, ObSql, Process, Progress, Sealer, SqlAct, SqlAnswer};
use crate::model::{
    AgentAddr, DagId, Diagnosis, Exit, Finding, Launch, LogMark, Password, ServerProcess, StopHow, StopReport,
};
use crate::store::Store;
use crate::tasks::Tasks;

/// What the host is like now, and what was done to it.
#[derive(Debug, Default)]
struct State {
    running: Option<ServerProcess>,
    pids: i32,
    is_initialised: bool,
    /// What the process listens on, whatever it was told.
    sql_port: Option<u16>,
    password: String,
    findings: Vec<Finding>,
    /// The process found next is a launcher: it ends as soon as it is waited for, and the database is another one.
    is_launcher: bool,
    /// Hands that fail, by name.
    failing: BTreeSet<&'static str>,
    /// Hands that hang until they are dropped or released.
    hanging: BTreeSet<&'static str>,
    done: Vec<&'static str>,
}

impl State {
    /// A new process runs.
    fn grow(&mut self) -> ServerProcess {
        self.pids += 1;
        let started_at = clock::system().now();
        let server =
            ServerProcess { pid: self.pids, start_ticks: 1, started_at, log_from: LogMark::default() };
        self.running = Some(server.clone());
        server
    }
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    state: Arc<Mutex<State>>,
    ended: Arc<watch::Sender<i32>>,
    /// Ticks when a hand begins to hang.
    hangs: Arc<watch::Sender<u32>>,
}

impl Host {
    fn new() -> Self {
        Self {
            state: Arc::default(),
            ended: Arc::new(watch::Sender::new(0)),
            hangs: Arc::new(watch::Sender::new(0)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fail(&self, hand: &'static str) {
        self.state().failing.insert(hand);
    }

    pub(crate) fn hang(&self, hand: &'static str) {
        self.state().hanging.insert(hand);
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.failing.clear();
        state.hanging.clear();
    }

    /// The same, and what hangs goes on.
    pub(crate) fn release(&self) {
        self.heal();
        self.hangs.send_modify(|_| {});
    }

    pub(crate) fn find_wrong(&self, findings: Vec<Finding>) {
        self.state().findings = findings;
    }

    /// How often something was done.
    pub(crate) fn times(&self, hand: &str) -> usize {
        self.state().done.iter().filter(|done| **done == hand).count()
    }

    pub(crate) fn running(&self) -> Option<ServerProcess> {
        self.state().running.clone()
    }

    /// The wall clock is set: the kernel tells another time of the same start.
    pub(crate) fn set_clock(&self) {
        if let Some(running) = &mut self.state().running {
            running.started_at += jiff::SignedDuration::from_hours(1);
        }
    }

    pub(crate) fn is_initialised(&self) -> bool {
        self.state().is_initialised
    }

    pub(crate) fn listen_on(&self, port: u16) {
        self.state().sql_port = Some(port);
    }

    pub(crate) fn password(&self) -> String {
        self.state().password.clone()
    }

    /// Somebody outside changes it.
    pub(crate) fn change_password(&self, password: &str) {
        self.state().password = password.to_owned();
    }

    /// A launcher runs: what an agent finds that comes back in the middle of a spawn.
    pub(crate) fn launch(&self) {
        let mut state = self.state();
        state.is_launcher = true;
        state.grow();
    }

    /// The process dies by itself.
    pub(crate) fn die(&self) {
        let dead = self.state().running.take().expect("it runs");
        self.ended.send_replace(dead.pid);
    }

    /// Waits until some hand hangs.
    pub(crate) async fn until_it_hangs(&self) {
        let mut hangs = self.hangs.subscribe();
        hangs.wait_for(|count| *count > 0).await.unwrap();
    }

    /// One thing that a flow wants done.
    async fn hand(&self, name: &'static str, code: Code) -> Result<()> {
        let (is_failing, is_hanging) = {
            let state = self.state();
            (state.failing.contains(name), state.hanging.contains(name))
        };
        if is_hanging {
            self.hangs.send_modify(|count| *count += 1);
            let mut hangs = self.hangs.subscribe();
            while self.state().hanging.contains(name) {
                hangs.changed().await.expect("the host is there as long as its hands");
            }
        }
        if is_failing {
            return Err(Error::new(code, format!("the test lets '{name}' fail")));
        }
        self.state().done.push(name);
        Ok(())
    }
}

impl Process for Host {
    fn find(&self) -> BoxFuture<'_, Result<Option<ServerProcess>>> {
        Box::pin(async move {
            if self.state().failing.contains("find") {
                return Err(Error::new(Code::ProcessCheckFailed, "the test lets 'find' fail"));
            }
            Ok(self.running())
        })
    }

    fn preflight<'a>(&'a self, _: &'a Launch) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move { self.state().findings.clone() })
    }

    fn spawn<'a>(&'a self, _: &'a Launch, _: &'a dyn Progress) -> BoxFuture<'a, Result<ServerProcess>> {
        Box::pin(async move {
            self.hand("spawn", Code::StartFailed).await?;
            let mut state = self.state();
            assert!(state.running.is_none(), "a second process was spawned beside the first");
            Ok(state.grow())
        })
    }

    fn ready<'a>(&'a self, _: &'a ServerProcess, _: &'a dyn Progress) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.state().failing.contains("ready") {
                self.die();
            }
            if std::mem::take(&mut self.state().is_launcher) {
                self.die();
                self.state().grow();
                return Err(Error::new(Code::StartFailed, "it ended with status 0"));
            }
            self.hand("ready", Code::StartFailed).await?;
            self.state().is_initialised = true;
            Ok(())
        })
    }

    fn stop<'a>(
        &'a self,
        server: &'a ServerProcess,
        _: StopHow,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<StopReport>> {
        Box::pin(async move {
            self.hand("stop", Code::StopFailed).await?;
            assert_eq!(
                self.running().as_ref(),
                Some(server),
                "a process that is not the noted one was stopped"
            );
            self.die();
            if std::mem::take(&mut self.state().is_launcher) {
                self.state().grow();
            }
            Ok(StopReport { signals: vec!["SIGUSR1".to_owned()], exit: Exit::Code(0), took_millis: 1 })
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
        self.is_initialised()
    }

    fn sql_port<'a>(&'a self, server: &'a ServerProcess) -> BoxFuture<'a, Option<u16>> {
        let state = self.state();
        let port = state.running.as_ref().filter(|running| *running == server).and(state.sql_port);
        Box::pin(async move { port })
    }

    fn prepare_dirs<'a>(&'a self, _: &'a Launch) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            self.hand("prepare_dirs", Code::DirNotEmpty).await?;
            Ok(vec!["/home/store".to_owned()])
        })
    }

    fn remove_dirs<'a>(&'a self, _: Option<&'a [String]>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            assert!(!self.is_initialised(), "data of a database that was ready was removed");
            self.hand("remove_dirs", Code::Unexpected).await
        })
    }

    fn mark_initialised(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.state().is_initialised = true;
            Ok(())
        })
    }

    fn forget_initialised(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.state().is_initialised = false;
            Ok(())
        })
    }
}

impl Host {
    fn let_in(&self, password: &Password) -> Result<()> {
        let state = self.state();
        if state.running.is_none() {
            return Err(Error::new(Code::DatabaseUseless, "the database does not answer"));
        }
        if state.password != password.expose() {
            return Err(Error::new(Code::PasswordIncorrect, "the database refuses the password"));
        }
        Ok(())
    }
}

impl ObSql for Host {
    fn login<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Login> {
        Box::pin(async move {
            match self.let_in(password) {
                Ok(()) => Login::Accepted,
                Err(error) if error.code == Code::PasswordIncorrect => Login::Refused,
                Err(_) => Login::NoAnswer,
            }
        })
    }

    fn serving<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.let_in(password) })
    }

    fn set_root_password<'a>(
        &'a self,
        current: &'a Password,
        new: &'a Password,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.let_in(current)?;
            self.hand("set_root_password", Code::MysqlError).await?;
            self.change_password(new.expose());
            Ok(())
        })
    }

    fn minor_freeze<'a>(&'a self, password: &'a Password, _: &'a dyn Progress) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.let_in(password)?;
            self.hand("minor_freeze", Code::MysqlError).await
        })
    }

    fn parameter_names<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async { Ok(vec!["memory_limit".to_owned()]) })
    }

    fn version<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Result<String>> {
        Box::pin(async { Ok("4.3.5.3".to_owned()) })
    }
}

impl ClusterSql for Host {
    fn act<'a>(
        &'a self,
        _: &'a Password,
        _: &'a SqlAct,
        _: Duration,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<SqlAnswer>> {
        Box::pin(async { Err(Error::new(Code::MysqlError, "one server is no cluster")) })
    }
}

/// The only peer of an agent that is alone.
#[derive(Debug)]
struct Alone {
    participant: Participant,
    host: Host,
    ledger: Ledger,
    store: Store,
}

impl Peers for Alone {
    fn ask<'a>(&'a self, agent: AgentAddr, ask: &'a Ask, _: Duration) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            assert_eq!(agent, own(), "there is nobody else");
            if let Some(answer) = self.participant.answer(ask).await {
                return answer;
            }
            if let Ask::Preflight { launch } = ask {
                let launch = launch.clone().unwrap_or_default();
                return Ok(serde_json::json!(self.host.preflight(&launch).await));
            }
            assert_eq!(*ask, Ask::Facts, "nothing else is asked here");
            Ok(serde_json::json!(self.facts().await?))
        })
    }
}

impl Alone {
    async fn facts(&self) -> Result<Facts> {
        let held_by = match self.store.holder().await? {
            Some(holder) => Some(self.participant.held_by(&holder).await),
            None => None,
        };
        let running = self.host.running();
        let process = running.as_ref().map(|server| server.pid);
        Ok(Facts {
            agent: own(),
            identity: self.ledger.state().identity,
            is_initialised: self.host.is_initialised(),
            process,
            process_since: running.map(|server| server.started_at),
            ob_state: if process.is_some() { 3 } else { 0 },
            server: if process.is_some() { "serving" } else { "stopped" }.to_owned(),
            why: None,
            sql_port: None,
            ob_version: None,
            held_by,
            under_way: Vec::new(),
            data_dir: String::new(),
            redo_dir: String::new(),
            log_dir: String::new(),
        })
    }
}

#[derive(Debug)]
pub(super) struct Plain;

impl Sealer for Plain {
    fn seal(&self, _: &str, secret: &Password) -> Result<String> {
        Ok(secret.expose().to_owned())
    }

    fn open(&self, _: &str, sealed: &str) -> Result<Password> {
        Ok(Password::new(sealed))
    }
}

/// The ledger's document lives as long as the rig.
#[derive(Debug)]
struct Memory;

impl Keep for Memory {
    fn save<'a>(
        &'a self,
        _: Option<&'a AgentState>,
        _: &'a AgentState,
        _: &'a Secrets,
        _: Stamp,
        _: Value,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// An agent around a [`Host`]. Dropped and made again on the same store, it is the agent after a restart.
pub(crate) struct Rig {
    pub(crate) host: Host,
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) engine: Handle,
    pub(crate) participant: Participant,
    pub(crate) ports: Ports,
    pub(crate) tasks: Tasks,
    dir: tempfile::TempDir,
}

pub(crate) const OWN: &str = "10.0.0.1:2886";

pub(crate) fn own() -> AgentAddr {
    OWN.parse().unwrap()
}

/// No wait of a test is longer.
const LIMIT: Duration = Duration::from_secs(30);

impl Rig {
    pub(crate) fn new() -> Self {
        let state = AgentState::new(own(), EngineKind::Seekdb, "/bin/seekdb".into());
        let ledger = Ledger::new(Arc::new(Memory), clock::system(), state, Secrets::default());
        Self::on(tempfile::tempdir().unwrap(), Host::new(), ledger)
    }

    fn on(dir: tempfile::TempDir, host: Host, ledger: Ledger) -> Self {
        let clock: Arc<dyn Clock> = clock::system();
        let (tasks, _failures) = Tasks::new();
        let store = Store::open(Utf8Path::from_path(dir.path()).unwrap(), Arc::clone(&clock), 1).unwrap();
        let participant = Participant::new(own(), Arc::new(store.clone()), Arc::clone(&clock));
        let peers = Arc::new(Alone {
            participant: participant.clone(),
            host: host.clone(),
            ledger: ledger.clone(),
            store: store.clone(),
        });
        let limits = Limits {
            start: Duration::from_secs(20),
            stop_grace: Duration::from_secs(5),
            freeze: Duration::from_secs(20),
            quorum: Duration::from_secs(20),
            prepare: Duration::from_secs(5),
            silence: Duration::from_secs(5),
            parallel: 10,
        };
        let ports = Ports {
            own: own(),
            engine: EngineKind::Seekdb,
            process: Arc::new(host.clone()),
            sql: Arc::new(host.clone()),
            cluster: Arc::new(host.clone()),
            peers: peers.clone(),
            gate: Arc::new(super::Away::for_ever()),
            about: About::default(),
            sealer: Arc::new(Plain),
            trust: Arc::new(crate::flow::trust::NoTrust),
            ledger: ledger.clone(),
            clock: Arc::clone(&clock),
            keeper: Keeper::new(peers, tasks.clone()),
            limits,
        };
        let engine = Handle::new(own(), Arc::new(store.clone()), register_all(&ports), tasks.clone(), clock);
        participant.attach(engine.clone());
        Self { host, store, ledger, engine, participant, ports, tasks, dir }
    }

    /// The agent ends in the middle of whatever it does, and another one takes up what it left.
    pub(crate) async fn restarted(self) -> Self {
        let Self { host, store, ledger, tasks, dir, engine: _, participant: _, ports: _ } = self;
        tasks.stop(Duration::from_secs(5)).await;
        store.close().await;
        drop(store);
        let again = Self::on(dir, host, ledger);
        again.engine.recover().await.unwrap();
        again
    }

    pub(crate) async fn submit(&self, template: Template) -> DagId {
        let submission = Submission { template, actor: "test".to_owned(), key: None };
        self.engine.submit(submission).await.unwrap().id
    }

    /// Once nothing moves any more.
    pub(crate) async fn rest(&self, dag: DagId) -> Snapshot {
        let rest = self.engine.until(dag, |snapshot| snapshot.state.is_at_rest());
        tokio::time::timeout(LIMIT, rest).await.expect("it comes to rest").unwrap()
    }

    pub(crate) async fn run(&self, template: Template) -> Snapshot {
        let dag = self.submit(template).await;
        self.rest(dag).await
    }

    pub(crate) async fn operate(&self, dag: DagId, operator: Operator) -> Snapshot {
        self.engine.operate(dag, operator, "test").await.unwrap();
        self.rest(dag).await
    }

    pub(crate) async fn is_locked(&self) -> bool {
        self.store.holder().await.unwrap().is_some()
    }

    /// Every line of a task's record.
    pub(crate) async fn lines(&self, dag: DagId) -> String {
        let records = self.store.records(Some(dag), crate::model::EventId(0), 10_000).await.unwrap();
        let lines = records.iter().filter(|record| record.kind == "log");
        lines.map(|record| format!("{}\n", record.body["text"].as_str().unwrap_or_default())).collect()
    }
}

/// A setting for init.
pub(crate) fn settings() -> BTreeMap<String, String> {
    BTreeMap::from([("memory_limit".to_owned(), "2G".to_owned())])
}

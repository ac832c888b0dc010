//! [`Control`]: the port [`Process`] for one home, put together from the parts of this room.
//!
//! Invariant: whoever changes this home (spawn, directories) holds the guard `effects`; `find` waits for it, so that
//! nobody takes a launcher for the database. Waiting for a process holds nothing.
//!
//! Not here: what the parts do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::OwnedMutexGuard;

use super::diagnose::{self, Subject};
use super::engine::Options;
use super::find::{self, Look};
use super::identity::{self, Ident};
use super::instance::{Instance, Settings, dotted_version};
use super::layout::FirstStart;
use super::life::Life;
use super::record::Record;
use super::{log, preflight, ready, spawn, stop};
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::flow::ports::{Process, Progress, Silent};
use crate::model::{Diagnosis, Exit, Finding, Launch, ServerProcess, StopHow, StopReport, Timestamp};
use crate::tasks::{Kind, Tasks};

/// A process that is ending is waited for; one that takes longer is stuck and worth an error.
const DYING_LIMIT: Duration = Duration::from_secs(60);
/// A first start that was written to for longer may have served; seconds are normal, minutes happen on slow disks.
const FIRST_START_LONGEST: jiff::SignedDuration = jiff::SignedDuration::from_mins(30);
/// Ends of earlier lives that are remembered for those who ask late.
const LIVES_KEPT: usize = 8;

/// The database process of one home. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

/// Proof that nobody else changes this home.
pub(super) type Effects = OwnedMutexGuard<()>;

#[derive(Debug)]
pub(super) struct Shared {
    pub instance: Instance,
    pub clock: Arc<dyn Clock>,
    pub tasks: Tasks,
    lives: Mutex<Vec<Life>>,
    effects: Arc<tokio::sync::Mutex<()>>,
}

impl Control {
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, tasks: Tasks) -> Self {
        let shared = Shared {
            instance: Instance::new(settings),
            clock,
            tasks,
            lives: Mutex::default(),
            effects: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Version of the executable, such as `1.4.0.0`; the process need not run.
    ///
    /// # Errors
    /// `OB.Binary.Version.Unexpected` with what the executable said.
    pub async fn binary_version(&self) -> Result<String> {
        let binary = &self.shared.instance.settings.binary;
        let fail = |what: String| Error::new(Code::BinaryVersion, format!("{binary} -V: {what}"));
        let text = self.shared.instance.version().await.map_err(|error| fail(error.to_string()))?;
        dotted_version(&text).ok_or_else(|| fail(text.join("; ")))
    }
}

impl Shared {
    pub(super) async fn effects(&self) -> Effects {
        Arc::clone(&self.effects).lock_owned().await
    }

    /// The running process. It takes the guard to show that no start is half done.
    pub(super) async fn find(self: &Arc<Self>, _effects: &Effects) -> Result<Option<ServerProcess>> {
        let unclear = |why: String| Error::new(Code::ProcessCheckFailed, why);
        loop {
            let (expected, files) = (self.instance.expected(), self.instance.pid_files());
            match Tasks::blocking(move || find::look(&expected, &files)).await {
                Look::Running(ident) => match self.hold(ident) {
                    Ok(Some(_)) => return self.server(ident).map(Some),
                    // It ended between the two looks.
                    Ok(None) => {}
                    Err(error) => {
                        return Err(unclear(format!("pid {} cannot be watched: {error}", ident.pid)));
                    }
                },
                Look::Dying(ident) => {
                    let held = self.hold(ident);
                    let held = held.map_err(|error| {
                        unclear(format!("pid {} is ending and cannot be watched: {error}", ident.pid))
                    })?;
                    let Some(life) = held else { continue };
                    if tokio::time::timeout(DYING_LIMIT, life.exited()).await.is_err() {
                        return Err(unclear(format!("pid {} is ending and does not end", ident.pid)));
                    }
                }
                Look::Nothing => {
                    // A daemon that died while no agent looked may still wait to be reaped by this one.
                    if let Some(ident) = Record::load(&self.instance.state_dir()).and_then(|r| r.ident()) {
                        drop(self.hold(ident));
                    }
                    return Ok(None);
                }
                Look::Unclear(why) => return Err(unclear(why)),
            }
        }
    }

    /// Takes hold of a process, or finds the hold we have; `None` when it is gone and was never held.
    pub(super) fn hold(self: &Arc<Self>, ident: Ident) -> std::io::Result<Option<Life>> {
        let mut lives = self.lives.lock().expect("no holder of this lock panics");
        if let Some(life) = lives.iter().find(|life| life.ident == ident) {
            return Ok(Some(life.clone()));
        }
        let life = Life::hold(ident, &self.tasks)?;
        if let Some(life) = &life {
            self.watch_first_start(life);
            lives.push(life.clone());
            while lives.len() > LIVES_KEPT {
                lives.remove(0);
            }
        }
        Ok(life)
    }

    /// The first start of an engine ends when it listens, whether or not anybody waits for that: from then on clients
    /// write, and nothing of it may be cleaned away any more.
    fn watch_first_start(self: &Arc<Self>, life: &Life) {
        let is_open = FirstStart::is_marked(&self.instance.state_dir());
        if !is_open || !self.instance.engine.listening_is_ready() {
            return;
        }
        let (shared, life) = (Arc::clone(self), life.clone());
        self.tasks.spawn(Kind::helper("first-start"), async move {
            let options = Options::new();
            if ready::wait(&shared, &life, &options, &Silent).await == ready::Outcome::Listening
                && let Err(error) = shared.end_first_start(&life).await
            {
                tracing::error!(error = %error.chain(), "the first start is over and cannot be recorded as such");
            }
        });
    }

    /// Records that this life has listened. While it lives nobody can begin another first start, so the marker is its own;
    /// after its death the log decides (`was_in_use`).
    pub(super) async fn end_first_start(&self, life: &Life) -> Result<()> {
        let _effects = self.effects().await;
        if life.exit().is_some() {
            return Ok(());
        }
        let state_dir = self.instance.state_dir();
        Tasks::blocking(move || FirstStart::end(&state_dir)).await
    }

    fn life(self: &Arc<Self>, server: &ServerProcess) -> Result<Option<Life>> {
        let ident = Ident { pid: server.pid, start_ticks: server.start_ticks };
        self.hold(ident).map_err(|error| {
            Error::new(Code::ProcessCheckFailed, format!("pid {} cannot be watched: {error}", ident.pid))
        })
    }

    pub(super) fn server(&self, ident: Ident) -> Result<ServerProcess> {
        let started_at = identity::started_at(ident).map_err(|error| {
            Error::new(
                Code::ProcessCheckFailed,
                format!("the boot time of this host cannot be read: {error}"),
            )
        })?;
        let log_from = self.record_of(ident, started_at).log_from;
        Ok(ServerProcess { pid: ident.pid, start_ticks: ident.start_ticks, started_at, log_from })
    }

    fn record_of(&self, ident: Ident, started_at: Timestamp) -> Record {
        let record = Record::load(&self.instance.state_dir());
        record.filter(|record| record.is_about(ident, started_at)).unwrap_or_default()
    }

    /// Whether the data of this unfinished first start was in use after all: its log says so, or what it holds, or it was
    /// written for so long that nobody can be sure. Without a record of the start nobody can be sure either.
    pub(super) async fn was_in_use(&self, first: &FirstStart) -> bool {
        if first.is_given_up() {
            return false;
        }
        let (instance, first) = (self.instance.clone(), first.clone());
        Tasks::blocking(move || {
            let Some(record) = Record::load(&instance.state_dir()) else { return true };
            let words = instance.engine.ready_words();
            let life = log::read(&instance.log_path(), &record.log_from, Timestamp::UNIX_EPOCH, words);
            let is_old = first.last_written().is_some_and(|at| at > record.begun_at + FIRST_START_LONGEST);
            is_old || instance.engine.was_in_use(instance.home(), &life)
        })
        .await
    }

    pub(super) async fn diagnose(self: &Arc<Self>, server: &ServerProcess, exit: Option<Exit>) -> Diagnosis {
        let ident = Ident { pid: server.pid, start_ticks: server.start_ticks };
        let life = self.life(server).ok().flatten();
        let exit = exit.or_else(|| life.as_ref()?.exit());
        let has_failed = exit.is_some_and(|exit| exit != Exit::Code(0));
        let is_known = self.instance.engine.data_version(self.instance.home()).is_some();
        let program_version = match has_failed && is_known {
            // An executable that does not run is told by other evidence.
            true => self.instance.version().await.ok().and_then(|text| dotted_version(&text)),
            false => None,
        };
        let subject = Subject {
            ident: Some(ident),
            started_at: server.started_at,
            log_from: server.log_from.clone(),
            exit,
            launcher: None,
            is_signalled: life.is_some_and(|life| life.is_signalled()),
            record: self.record_of(ident, server.started_at),
            program_version,
        };
        let instance = self.instance.clone();
        Tasks::blocking(move || diagnose::gather(&instance, &subject)).await
    }

    /// The first start that may be undone, with the proof that nothing of it was ever used.
    async fn undoable(self: &Arc<Self>, effects: &Effects) -> Result<Option<FirstStart>> {
        let refuse = |text: String| Error::new(Code::BadRequest, text);
        let home = self.instance.home();
        if let Some(running) = self.find(effects).await? {
            return Err(refuse(format!("pid {} runs in {home}; nothing is removed", running.pid)));
        }
        let first = FirstStart::open(&self.instance.state_dir())?;
        let Some(first) = first else {
            return if self.instance.has_data() {
                Err(refuse(format!("the database in {home} was ready once; its data is never removed")))
            } else {
                Ok(None)
            };
        };
        if first.has_begun() && self.was_in_use(&first).await {
            return Err(refuse(format!(
                "the database in {home} was ready in its last life; its data is kept"
            )));
        }
        Ok(Some(first))
    }
}

impl Process for Control {
    fn find(&self) -> BoxFuture<'_, Result<Option<ServerProcess>>> {
        async {
            let effects = self.shared.effects().await;
            self.shared.find(&effects).await
        }
        .boxed()
    }

    fn preflight<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Vec<Finding>> {
        async {
            let shared = Arc::clone(&self.shared);
            // Whether it runs only decides which listeners are our own; if it cannot be told, they are named as others.
            let running = self.find().await.ok().flatten();
            let running = running.map(|server| Ident { pid: server.pid, start_ticks: server.start_ticks });
            let (launch, now) = (launch.clone(), shared.clock.now());
            let mut findings =
                Tasks::blocking(move || preflight::check(&shared.instance, &launch, running, now)).await;
            if !findings.iter().any(|finding| finding.check == "binary") {
                findings.extend(preflight::runs(&self.shared.instance).await);
            }
            findings
        }
        .boxed()
    }

    fn spawn<'a>(
        &'a self,
        launch: &'a Launch,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<ServerProcess>> {
        spawn::spawn(&self.shared, launch, progress).boxed()
    }

    fn ready<'a>(
        &'a self,
        server: &'a ServerProcess,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<()>> {
        async {
            let shared = &self.shared;
            let Some(life) = shared.life(server)? else {
                return Err(spawn::failed(&shared.diagnose(server, Some(Exit::Unknown)).await));
            };
            let options = shared.record_of(life.ident, server.started_at).options;
            match ready::wait(shared, &life, &options, progress).await {
                ready::Outcome::Ended(exit) => Err(spawn::failed(&shared.diagnose(server, Some(exit)).await)),
                ready::Outcome::Listening => {
                    if shared.instance.engine.listening_is_ready() {
                        shared.end_first_start(&life).await?;
                    }
                    progress.info("it listens");
                    Ok(())
                }
            }
        }
        .boxed()
    }

    fn stop<'a>(
        &'a self,
        server: &'a ServerProcess,
        how: StopHow,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<StopReport>> {
        async move {
            let life = self.shared.life(server)?;
            let over = |exit| StopReport { signals: Vec::new(), exit, took_millis: 0 };
            let Some(life) = life else { return Ok(over(Exit::Unknown)) };
            if let Some(exit) = life.exit() {
                return Ok(over(exit));
            }
            stop::stop(&self.shared, &life, how, progress).await
        }
        .boxed()
    }

    fn has_ended(&self, server: &ServerProcess) -> bool {
        identity::has_ended(Ident { pid: server.pid, start_ticks: server.start_ticks })
    }

    fn exited<'a>(&'a self, server: &'a ServerProcess) -> BoxFuture<'a, Exit> {
        async {
            match self.shared.life(server) {
                Ok(Some(life)) => life.exited().await,
                Ok(None) => Exit::Unknown,
                Err(error) => {
                    // Saying "it ended" of a process that lives would start a second one.
                    tracing::error!(error = %error.chain(), "the end of the database cannot be seen");
                    std::future::pending().await
                }
            }
        }
        .boxed()
    }

    fn diagnose<'a>(&'a self, server: &'a ServerProcess, exit: Option<Exit>) -> BoxFuture<'a, Diagnosis> {
        self.shared.diagnose(server, exit).boxed()
    }

    fn sql_port<'a>(&'a self, server: &'a ServerProcess) -> BoxFuture<'a, Option<u16>> {
        async {
            let life = self.shared.life(server).ok().flatten()?;
            let (shared, pid) = (Arc::clone(&self.shared), life.ident.pid);
            let port = Tasks::blocking(move || shared.instance.sql_port(pid)).await;
            // Its number may have become another's while we looked.
            port.filter(|_| life.exit().is_none())
        }
        .boxed()
    }

    fn is_initialised(&self) -> bool {
        self.shared.instance.is_initialised()
    }

    fn prepare_dirs<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Vec<String>>> {
        async {
            let _effects = self.shared.effects().await;
            let (instance, launch) = (self.shared.instance.clone(), launch.clone());
            if instance.is_initialised() {
                return Ok(Vec::new());
            }
            Tasks::blocking(move || {
                let options = instance.known_options(&launch.options);
                let places = instance.engine.places(instance.home(), &options);
                FirstStart::prepare(&instance.state_dir(), &places).map(|first| first.paths())
            })
            .await
        }
        .boxed()
    }

    fn remove_dirs<'a>(&'a self, made: Option<&'a [String]>) -> BoxFuture<'a, Result<()>> {
        async move {
            let effects = self.shared.effects().await;
            let Some(first) = self.shared.undoable(&effects).await? else { return Ok(()) };
            let (state_dir, made) = (self.shared.instance.state_dir(), made.map(<[String]>::to_vec));
            Tasks::blocking(move || first.clean(&state_dir, made.as_deref())).await
        }
        .boxed()
    }

    fn mark_initialised(&self) -> BoxFuture<'_, Result<()>> {
        async {
            let _effects = self.shared.effects().await;
            let state_dir = self.shared.instance.state_dir();
            Tasks::blocking(move || FirstStart::end(&state_dir)).await
        }
        .boxed()
    }

    fn forget_initialised(&self) -> BoxFuture<'_, Result<()>> {
        async {
            let _effects = self.shared.effects().await;
            let state_dir = self.shared.instance.state_dir();
            Tasks::blocking(move || FirstStart::give_up(&state_dir)).await
        }
        .boxed()
    }
}

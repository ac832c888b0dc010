//! Starting the engine: from a checked home to a process that is known for good.
//!
//! Invariant: between the launcher's start and the record of what it left behind nobody else acts on this home, and
//! dropping the caller does not interrupt that: it runs in a task of its own. The launcher is never killed while it may
//! be forking, only when it has taken far too long.
//!
//! Not here: waiting until it listens (`ready`), the checks before (`preflight`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::oneshot;

use super::command::{self, Invocation};
use super::control::{Effects, Shared};
use super::diagnose::{self, Subject};
use super::find::{self, Launched};
use super::identity::Ident;
use super::layout::{self, FirstStart};
use super::life::Life;
use super::log;
use super::record::Record;
use super::{preflight, scope};
use crate::crash;
use crate::error::{Code, Error, Result};
use crate::flow::ports::Progress;
use crate::host::files;
use crate::host::memory::OomCounts;
use crate::model::{Cause, Diagnosis, Exit, Launch, ServerProcess};
use crate::tasks::{Kind, Tasks};

/// Measured 0.05–0.15 s, 0.35 s when it refuses. A host that needs longer than this needs a person.
const LAUNCHER_LIMIT: Duration = Duration::from_secs(60);
const OUTPUT_FILE: &str = "launcher.log";

/// What came of a launcher.
#[derive(Debug)]
enum Outcome {
    Alive(Life),
    Dead(Life),
    /// It ended with something else than 0.
    Refused(Exit),
    /// It returned 0 and nothing of it can be found.
    Vanished,
    NotRun(io::Error),
    TooLong,
}

/// See `Process::spawn`.
pub(super) async fn spawn(
    shared: &Arc<Shared>,
    launch: &Launch,
    progress: &dyn Progress,
) -> Result<ServerProcess> {
    let effects = shared.effects().await;
    if let Some(running) = shared.find(&effects).await? {
        progress.warn(&format!("it runs already as pid {}; nothing was started", running.pid));
        return Ok(running);
    }
    let launch = shared.settle(launch.clone(), progress).await?;
    let record = shared.begin(&launch).await?;
    let arguments = shared
        .instance
        .engine
        .arguments(shared.instance.home(), &launch.options, launch.is_first)
        .map_err(|why| Error::new(Code::StartFailed, format!("it was not started: {why}")))?;
    let invocation = shared.instance.invocation(arguments);
    progress.info(&format!("starting: {invocation}"));
    let (told, outcome) = oneshot::channel();
    let work = start(Arc::clone(shared), invocation, record.clone(), effects);
    shared.tasks.spawn(Kind::helper("process-launch"), async move {
        // Nobody listens when the caller was dropped; what was started is recorded all the same.
        drop(told.send(work.await));
    });
    let (record, outcome) = outcome
        .await
        .map_err(|_| Error::new(Code::StartFailed, "the start was given up: the agent stops"))?;
    match outcome {
        Outcome::Alive(life) => {
            scope::enter(&shared.instance, life.ident.pid, progress).await;
            let server = shared.server(life.ident)?;
            progress.info(&format!("it runs as pid {}", server.pid));
            Ok(server)
        }
        Outcome::Dead(life) => {
            let server = shared.server(life.ident)?;
            let exit = life.exited().await;
            Err(failed(&shared.diagnose(&server, Some(exit)).await))
        }
        Outcome::NotRun(error) => Err(failed(&not_run(shared, &error))),
        Outcome::Refused(launcher) => Err(failed(&refused(shared, record, Some(launcher)).await)),
        Outcome::Vanished => Err(failed(&refused(shared, record, None).await)),
        Outcome::TooLong => Err(Error::new(
            Code::StartFailed,
            format!(
                "the launcher did not return within {} seconds and was killed; is the host out of memory or its disk \
                 hanging? It said: {}",
                LAUNCHER_LIMIT.as_secs(),
                record.output.join("; ")
            ),
        )),
    }
}

impl Shared {
    /// Decides what kind of start this is by what lies there, and cleans up after an interrupted first start.
    async fn settle(self: &Arc<Self>, mut launch: Launch, progress: &dyn Progress) -> Result<Launch> {
        let instance = &self.instance;
        let state_dir = instance.state_dir();
        if let Some(first) = FirstStart::open(&state_dir)? {
            if first.has_begun() && self.was_in_use(&first).await {
                progress.warn(
                    "the database may have been in use in its last life, so its data is kept: this is a later start",
                );
                Tasks::blocking(move || FirstStart::end(&state_dir)).await?;
            } else {
                launch.options = instance.known_options(&launch.options);
                launch.is_first = true;
                if first.has_begun() {
                    progress.warn(&format!(
                        "an earlier first start never became ready; removing what it made: {}",
                        first.paths().join(", ")
                    ));
                    Tasks::blocking(move || first.clean(&state_dir, None)).await?;
                }
            }
        }
        if instance.is_initialised() {
            if launch.is_first {
                progress.info("the data is initialised already: options of a first start are not passed");
            }
            launch.is_first = false;
        } else if !launch.is_first {
            return Err(Error::new(
                Code::StartFailed,
                format!(
                    "{} holds no data of {}: mount its disk or restore it; an empty start would hide the loss",
                    instance.home(),
                    instance.engine.name()
                ),
            ));
        }
        Ok(launch)
    }

    /// Makes directories, removes what a dead process left in the way, and records the start before it happens.
    async fn begin(self: &Arc<Self>, launch: &Launch) -> Result<Record> {
        let shared = Arc::clone(self);
        let launch = launch.clone();
        Tasks::blocking(move || {
            let instance = &shared.instance;
            let places = instance.engine.places(instance.home(), &launch.options);
            files::create_dirs(&instance.state_dir(), 0o700)?;
            if launch.is_first {
                FirstStart::prepare(&instance.state_dir(), &places)?;
            } else {
                layout::make_kept(&places)?;
            }
            // Stale after SIGKILL. Nothing runs here, and a new one is what tells us that it listens.
            for socket in instance.sockets() {
                files::remove_file(&socket)?;
            }
            let record = Record {
                begun_at: shared.clock.now(),
                pid: None,
                start_ticks: None,
                is_first: launch.is_first,
                options: instance.known_options(&launch.options),
                log_from: log::mark(&instance.log_path()),
                oom_before: OomCounts::now(),
                output: Vec::new(),
            };
            record.save(&instance.state_dir())?;
            Ok(record)
        })
        .await
    }
}

/// The part that nobody interrupts. The guard is held until the process is recorded.
async fn start(
    shared: Arc<Shared>,
    invocation: Invocation,
    mut record: Record,
    effects: Effects,
) -> (Record, Outcome) {
    let path = shared.instance.state_dir().join(OUTPUT_FILE);
    let mut output = match files::create_log(&path, 0o600) {
        Ok(output) => output,
        Err(error) => return (record, Outcome::NotRun(error.source)),
    };
    if let Err(error) = adopt_orphans() {
        // Then an exit status is lost if the process dies early; the start itself does not need it.
        tracing::warn!(%error, "cannot become the parent of daemons");
    }
    crash::point(crash::Point::BeforeSpawn);
    let mut launcher = match invocation.launch(&output) {
        Ok(launcher) => launcher,
        Err(error) => return (record, Outcome::NotRun(error)),
    };
    let ident = ident_of(&launcher);
    let exit = match tokio::time::timeout(LAUNCHER_LIMIT, launcher.wait()).await {
        Ok(Ok(status)) => command::exit_of(status),
        Ok(Err(error)) => return (record, Outcome::NotRun(error)),
        Err(_) => {
            if let Err(error) = launcher.kill().await {
                tracing::warn!(%error, "cannot kill a launcher that hangs");
            }
            record.output = command::first_lines(&mut output);
            return (record, Outcome::TooLong);
        }
    };
    crash::point(crash::Point::AfterSpawn);
    record.output = command::first_lines(&mut output);
    if exit != Exit::Code(0) {
        return (record, Outcome::Refused(exit));
    }
    let found = match ident {
        Some(ident) => look_for(&shared, ident).await,
        None => None,
    };
    let outcome = match found {
        None => Outcome::Vanished,
        Some(found) => {
            let (Launched::Alive(ident) | Launched::Dead(ident)) = found;
            (record.pid, record.start_ticks) = (Some(ident.pid), Some(ident.start_ticks));
            let (state_dir, saved) = (shared.instance.state_dir(), record.clone());
            if let Err(error) = Tasks::blocking(move || saved.save(&state_dir)).await {
                tracing::warn!(%error, "the start is not recorded; a diagnosis will know less");
            }
            match (found, shared.hold(ident)) {
                (Launched::Alive(_), Ok(Some(life))) => Outcome::Alive(life),
                (Launched::Dead(_), Ok(Some(life))) => Outcome::Dead(life),
                (_, Ok(None)) => Outcome::Vanished,
                (_, Err(error)) => Outcome::NotRun(error),
            }
        }
    };
    drop(effects);
    (record, outcome)
}

/// Daemons whose launcher has ended become children of the agent and not of init, so their exit status is ours to read.
/// When the agent ends they become children of the next one up; nothing happens to them.
pub(super) fn adopt_orphans() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(io::Error::from)
}

fn ident_of(child: &Child) -> Option<Ident> {
    let pid = i32::try_from(child.id()?).ok()?;
    // It may have ended already; until it is waited for it keeps its place.
    procfs::process::Process::new(pid).and_then(|process| process.stat()).map(|stat| Ident::of(&stat)).ok()
}

async fn look_for(shared: &Arc<Shared>, launcher: Ident) -> Option<Launched> {
    let instance = shared.instance.clone();
    Tasks::blocking(move || {
        let expected = instance.expected();
        find::launched(launcher, &expected, &instance.pid_files()).or_else(|| {
            // Not our child: somebody reaps before us. A living one is found like any other.
            match find::look(&expected, &instance.pid_files()) {
                find::Look::Running(ident) => Some(Launched::Alive(ident)),
                find::Look::Dying(_) | find::Look::Nothing | find::Look::Unclear(_) => None,
            }
        })
    })
    .await
}

/// A start that gave no process, in words.
pub(super) fn failed(diagnosis: &Diagnosis) -> Error {
    let error =
        Error::new(Code::StartFailed, format!("the database did not start: {}", diagnosis.headline()));
    match serde_json::to_value(diagnosis) {
        Ok(value) => error.with_diagnosis(value),
        Err(_) => error,
    }
}

async fn refused(shared: &Arc<Shared>, record: Record, launcher: Option<Exit>) -> Diagnosis {
    let subject = Subject {
        ident: None,
        started_at: shared.clock.now(),
        log_from: record.log_from.clone(),
        // Returned 0, and its child is gone without a trace of how.
        exit: launcher.is_none().then_some(Exit::Unknown),
        launcher,
        program_version: None,
        is_signalled: false,
        record,
    };
    let instance = shared.instance.clone();
    Tasks::blocking(move || diagnose::gather(&instance, &subject)).await
}

fn not_run(shared: &Shared, error: &io::Error) -> Diagnosis {
    let binary = &shared.instance.settings.binary;
    let (name, evidence, advice) = match preflight::binary(binary) {
        Some(finding) => ("binary-not-usable", finding.problem, finding.remedy),
        None if error.raw_os_error() == Some(nix::libc::ENOEXEC) => (
            "binary-not-usable",
            format!("{binary} is no program for this host: {error}"),
            "install the build for this processor and operating system".to_owned(),
        ),
        None => (
            "not-started",
            format!("{binary} could not be started: {error}"),
            "look at the limits of the agent's user and at the memory of the host".to_owned(),
        ),
    };
    let cause = Cause { name: name.to_owned(), evidence, advice };
    Diagnosis { exit: Some("was never started".to_owned()), causes: vec![cause], ..Diagnosis::default() }
}

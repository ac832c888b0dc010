//! The life of the agent: in which order it starts, what ends it, in which order it stops.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::DaemonError;
use super::build::{Agent, build};
use super::home::Home;
use crate::api;
use crate::app::{Learned, RunState, accounts, members};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::host::{code, descriptors, heap};
use crate::process;
use crate::store::{Retention, Store};
use crate::tasks::{Kind, Tasks};
use crate::telemetry;

const RUNTIME_THREADS: usize = 2;
const PRUNE_INTERVAL: Duration = Duration::from_secs(3_600);
/// By then what a start does is done.
const STARTED: Duration = Duration::from_secs(10);
/// What an answer has freed stays so long at most.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(60);
/// Steps end at their next await; what they were doing is taken up at the next start.
const TASKS_GRACE: Duration = Duration::from_secs(10);
/// Longer than any commit on a healthy disk, shorter than the watchdog.
const STORE_LIMIT: Duration = Duration::from_secs(10);

/// Runs the agent until it is told to stop.
///
/// # Errors
/// [`DaemonError`]: why it did not start, or could not go on.
pub fn run(config: &Config) -> Result<(), DaemonError> {
    let is_frugal = heap::few_arenas();
    telemetry::init(&config.log);
    if !is_frugal {
        tracing::debug!("the allocator keeps an arena for every thread");
    }
    harden(config.is_detached);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(|e| DaemonError::Start(e.to_string()))?;
    let ended = runtime.block_on(live(config));
    // What still blocks a thread (a hanging disk) must not keep the agent from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Secrets are in this process's memory: no core of it, no debugger of the same user. A database that it starts is a
/// program of its own and is not affected.
fn harden(is_detached: bool) {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the agent's memory may appear in a core file");
    }
    if is_detached && let Err(error) = setsid() {
        tracing::warn!(%error, "the agent stays in the session of the terminal that it was started from");
    }
    descriptors::keep_private();
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, DaemonError> {
        let listen =
            |kind| signal(kind).map_err(|e| DaemonError::Start(format!("signals cannot be received: {e}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

async fn live(config: &Config) -> Result<(), DaemonError> {
    let mut signals = Signals::new()?;
    let clock = clock::system();
    let (tasks, failures) = Tasks::new();
    let home = Home::open(config, Arc::clone(&clock)).await?;
    let store = home.keeper.store.clone();
    let ended = match build(config, home, Arc::clone(&clock), &tasks).await {
        Ok(agent) => serve(config, agent, clock, &tasks, failures, &mut signals).await,
        Err(error) => Err(error),
    };
    if !tasks.stop(TASKS_GRACE).await {
        tracing::warn!("not everything has ended in time; it is taken up at the next start");
    }
    store.close().await;
    ended
}

async fn serve(
    config: &Config,
    agent: Agent,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
    failures: mpsc::UnboundedReceiver<String>,
    signals: &mut Signals,
) -> Result<(), DaemonError> {
    let Agent {
        home,
        store,
        engine,
        app,
        health,
        control,
        learned,
        door,
        listeners,
        tls,
        custody,
        run_state,
        stopping,
    } = agent;
    let own = app.own();
    let taken_up = engine.recover().await?;
    let served = api::serve(listeners, door, &config.api, tls.as_ref());
    let served = served.map_err(|e| DaemonError::Listen(e.to_string()))?;
    let ending = served.ending();
    tasks.spawn(Kind::part("health"), health.run(app.clone(), tasks.token().clone()));
    tasks.spawn(Kind::helper("accounts"), accounts::keep(app.clone(), tasks.token().clone()));
    tasks.spawn(Kind::helper("members"), members::keep(app, tasks.token().clone()));
    tasks.spawn(Kind::helper("learn"), learn(control, learned));
    tasks.spawn(Kind::helper("prune"), prune(store.clone(), retention(config), clock));
    tasks.spawn(Kind::helper("watchdog"), watchdog(store.clone()));
    tasks.spawn(Kind::helper("heap"), give_back());
    if let Some(custody) = custody {
        tasks.spawn(Kind::helper("certificates"), custody.keep(tasks.token().clone()));
    }
    if let Some(tls) = tls {
        tasks.spawn(Kind::helper("certificate"), super::tls::keep_fresh(tls));
    }
    run_state.set(RunState::RUNNING);
    tracing::info!(agent = %own, home = %home.path, taken_up, version = env!("CARGO_PKG_VERSION"), "the agent answers");
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("answers at {own}"))]);

    // Polled until its end, also while it shuts down: that is what shuts it down.
    let mut server = std::pin::pin!(served.server);
    let ended = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "the agent stops; the database goes on");
            Ok(())
        }
        cause = broken(&store, failures) => {
            tracing::error!(%cause, "the agent cannot go on");
            Err(DaemonError::Broken(cause))
        }
        ended = &mut server => return Err(DaemonError::Broken(match ended {
            Ok(()) => "the HTTP server ended by itself".to_owned(),
            Err(error) => format!("the HTTP server failed: {error}"),
        })),
    };
    run_state.set(RunState::STOPPING);
    tell(&[NotifyState::Stopping]);
    stopping.cancel();
    tokio::select! {
        () = ending.drain() => {}
        _ = &mut server => {}
        name = signals.next() => tracing::info!(signal = name, "asked again: requests in flight are dropped"),
    }
    ended
}

/// Returns when the agent cannot keep its promises any more.
async fn broken(store: &Store, mut failures: mpsc::UnboundedReceiver<String>) -> String {
    tokio::select! {
        Some(cause) = failures.recv() => cause,
        () = store.ended() => "the store's writer has ended".to_owned(),
    }
}

/// Asks other programs what only they know. Nobody waits for it.
async fn learn(control: process::Control, learned: tokio::sync::watch::Sender<Learned>) {
    let (version, virtualization) = tokio::join!(control.binary_version(), process::virtualization());
    if let Err(error) = &version {
        tracing::warn!(error = %error.chain(), "the version of the database's executable is not known");
    }
    learned.send_replace(Learned { binary_version: version.ok(), virtualization });
}

fn retention(config: &Config) -> Retention {
    let store = &config.store;
    Retention {
        days: store.keep_finished_days,
        count: store.keep_finished_count,
        audit_count: store.keep_audit_count,
    }
}

async fn prune(store: Store, retention: Retention, clock: Arc<dyn Clock>) {
    loop {
        match store.prune(retention, clock.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "old finished tasks were removed"),
            Err(error) => tracing::warn!(error = %error.chain(), "old tasks could not be removed"),
        }
        tokio::time::sleep(PRUNE_INTERVAL).await;
    }
}

async fn give_back() {
    tokio::time::sleep(STARTED).await;
    loop {
        heap::give_back();
        if let Err(error) = code::let_go() {
            tracing::debug!(%error, "code that is not run stays mapped");
        }
        tokio::time::sleep(GIVE_BACK_INTERVAL).await;
    }
}

/// Tells systemd that the agent works, which means that its store takes writes in time.
async fn watchdog(store: Store) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        match tokio::time::timeout(STORE_LIMIT, store.probe()).await {
            Ok(Ok(())) => tell(&[NotifyState::Watchdog]),
            Ok(Err(error)) => tracing::error!(%error, "the store takes no writes"),
            Err(_) => tracing::error!(limit_secs = STORE_LIMIT.as_secs(), "the store does not answer"),
        }
        tokio::time::sleep(limit / 3).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

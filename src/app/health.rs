//! The one who watches the database process: sees its end at once, asks its SQL now and then, applies the policy.
//!
//! Purpose: `status` answers from here; an end outside any operation is recorded with its diagnosis, shown, and, where the
//! policy says so, followed by a restart.
//!
//! Invariant: an end that an operation caused or reported is never called unexpected; a password that the database
//! refuses is a state that is probed slowly, never a loop.
//!
//! Not here: starting and stopping (`flow`), how a process is watched (`process`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::context::App;
use super::policy::{self, Decision, GOOD_LIFE};
use crate::clock::{Clock, Stopwatch};
use crate::cluster::{Change, LastExit, Wanted};
use crate::config::Engine;
use crate::engine::port::Stamp;
use crate::error::{Code, Result};
use crate::flow::ports::Login;
use crate::flow::server::note_port;
use crate::model::{Exit, Identity, ServerProcess, Timestamp};

/// A probe this young is as good as a new one.
const FRESH: Duration = Duration::from_secs(1);

/// Without a process: how often it is looked for one that somebody else started. Our own starts wake us.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// Between probes of a server that has not served yet.
const STARTING_INTERVAL_SECS: u64 = 2;

/// Who this is in the records.
const WATCHER: &str = "watcher";

/// What SQL said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sql {
    /// Not asked yet in this life.
    Unknown,
    Serving,
    /// It lets us in, but does not answer a query on a table.
    Restricted(String),
    /// It does not answer.
    Silent(String),
    /// It refuses the password that the agent knows.
    Refused,
}

/// The server as seen last.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    pub process: Option<ServerProcess>,
    /// Why it is not known whether there is one.
    pub blind: Option<String>,
    pub sql: Sql,
    /// Since when SQL says so.
    pub sql_since: Timestamp,
    /// It served in this life.
    pub has_served: bool,
    /// What the policy is about to do, or why it does nothing more.
    pub policy: Option<String>,
    /// When SQL was asked last, of this life and with this password.
    probed: Option<Stopwatch>,
}

impl Health {
    fn blank(now: Timestamp) -> Self {
        Self {
            process: None,
            blind: None,
            sql: Sql::Unknown,
            sql_since: now,
            has_served: false,
            policy: None,
            probed: None,
        }
    }

    fn is_fresh(&self) -> bool {
        self.probed.is_some_and(|probed| probed.elapsed() < FRESH)
    }

    /// Whoever asks gets a new look, unless the last one is young and good, or the password is refused.
    fn is_stale(&self) -> bool {
        !self.is_fresh() || !matches!(self.sql, Sql::Serving | Sql::Refused)
    }

    pub fn is_serving(&self) -> bool {
        self.process.is_some() && self.sql == Sql::Serving
    }

    /// `obState` (`lifecycle.md` §9.3).
    pub fn ob_state(&self) -> u8 {
        match (&self.process, &self.sql) {
            (None, _) => 0,
            (Some(_), Sql::Serving) => 3,
            (Some(_), Sql::Restricted(_)) => 2,
            (Some(_), Sql::Unknown | Sql::Silent(_) | Sql::Refused) => 1,
        }
    }

    /// Why it does not serve, where that is known.
    pub fn why(&self) -> Option<String> {
        match &self.sql {
            _ if self.blind.is_some() => self.blind.clone(),
            _ if self.process.is_none() => None,
            Sql::Serving | Sql::Unknown => None,
            Sql::Restricted(why) | Sql::Silent(why) => Some(why.clone()),
            Sql::Refused => Some("it refuses the password that the agent knows".to_owned()),
        }
    }

    /// `STOPPED`, `STARTING`, `SERVING` or `NOT_SERVING`.
    pub fn word(&self) -> &'static str {
        match (&self.process, &self.sql) {
            (None, _) => "STOPPED",
            (Some(_), Sql::Serving) => "SERVING",
            (Some(_), Sql::Refused) => "NOT_SERVING",
            (Some(_), _) if self.has_served => "NOT_SERVING",
            (Some(_), Sql::Unknown | Sql::Restricted(_) | Sql::Silent(_)) => "STARTING",
        }
    }

    pub fn in_words(&self) -> String {
        match &self.process {
            None => "stopped".to_owned(),
            Some(process) => {
                format!("{}, process {}", self.word().to_lowercase().replace('_', " "), process.pid)
            }
        }
    }
}

/// What cures a password that the database refuses.
pub fn password_hint(identity: Identity) -> &'static str {
    if identity == Identity::ClusterAgent {
        "it was changed elsewhere: give the new one with `obpilot cluster password`"
    } else {
        "this agent does not manage it yet: `obpilot cluster join`, then `obpilot cluster take-over`"
    }
}

/// Asks the watcher. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    health: watch::Receiver<Health>,
    /// Bounded: a full one means that a probe is under way, which answers everybody.
    wishes: mpsc::Sender<oneshot::Sender<()>>,
}

impl Handle {
    /// As seen last.
    pub fn now(&self) -> Health {
        self.health.borrow().clone()
    }

    /// As seen no longer than a moment ago, unless that takes longer than `limit`.
    pub async fn fresh(&self, limit: Duration) -> Health {
        let seen = self.now();
        if !seen.is_stale() {
            return seen;
        }
        let (reply, answer) = oneshot::channel();
        if self.wishes.try_send(reply).is_ok() {
            // Late or gone: what was seen last is the answer.
            drop(tokio::time::timeout(limit, answer).await);
        }
        self.now()
    }

    /// As seen once the end of this life is known, unless that takes longer than `limit`.
    pub async fn without(&self, ended: &ServerProcess, limit: Duration) -> Health {
        let mut health = self.watch();
        let known = health.wait_for(|health| health.process.as_ref() != Some(ended));
        drop(tokio::time::timeout(limit, known).await);
        self.now()
    }

    /// Tells of every change.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}

/// The watcher. Made before the [`App`] that it serves and is served by.
pub struct Service {
    health: watch::Sender<Health>,
    wishes: mpsc::Receiver<oneshot::Sender<()>>,
    config: Engine,
    clock: Arc<dyn Clock>,
    /// Lives in a row that were too short.
    short_lives: u32,
    /// When the policy restarts. A point in time, not a pause: questions about the status come in between.
    restart_at: Option<Alarm>,
    /// A restart by policy that is under way: whether it ended well.
    restarting: Option<Shared<BoxFuture<'static, bool>>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("short_lives", &self.short_lives).finish_non_exhaustive()
    }
}

pub fn new(config: Engine, clock: Arc<dyn Clock>) -> (Service, Handle) {
    let (health, seen) = watch::channel(Health::blank(clock.now()));
    let (wish, wishes) = mpsc::channel(64);
    let service =
        Service { health, wishes, config, clock, short_lives: 0, restart_at: None, restarting: None };
    (service, Handle { health: seen, wishes: wish })
}

/// Rings so long after it was set.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    set: Stopwatch,
    after: Duration,
}

impl Alarm {
    fn remaining(self) -> Duration {
        self.after.saturating_sub(self.set.elapsed())
    }
}

/// Why the watcher looks up.
enum Woken {
    Ended,
    Wish(oneshot::Sender<()>),
    /// The ledger has changed: what was probed before may be of another life or password.
    Changed,
    /// It is time for the next look.
    Look,
    Restart,
    /// A restart by policy has ended, well or not.
    Restarted(bool),
    Stop,
}

impl Service {
    pub async fn run(mut self, app: App, token: CancellationToken) {
        let mut ledger = app.parts.ledger.watch();
        self.take_up(&app).await;
        loop {
            self.look(&app).await;
            let life = self.health.borrow().process.clone();
            let woken = match life {
                Some(process) => self.watch_life(&app, &process, &mut ledger, &token).await,
                None => self.watch_nothing(&mut ledger, &token).await,
            };
            match woken {
                Woken::Stop => return,
                Woken::Restart => self.restart(&app).await,
                Woken::Restarted(is_well) => self.restarted(is_well),
                Woken::Wish(reply) => {
                    let _gone = reply.send(());
                }
                Woken::Ended | Woken::Changed | Woken::Look => {}
            }
        }
    }

    /// An end that was recorded by an agent which ended itself before the policy did its work: the policy goes on.
    async fn take_up(&mut self, app: &App) {
        let server = app.parts.ledger.state().server.clone();
        let is_open = server.wanted == Wanted::Running
            && server.process.is_none()
            && server.last_exit.is_some_and(|exit| exit.is_unexpected);
        if is_open && self.is_free(app).await && matches!(app.parts.ports.process.find().await, Ok(None)) {
            self.short_lives = 1;
            self.follow_policy();
        }
    }

    /// What runs now, compared with what was known. When it cannot be told, nothing is concluded.
    async fn look(&mut self, app: &App) {
        let process = match app.parts.ports.process.find().await {
            Ok(process) => process,
            Err(error) => return self.set(|health| health.blind = Some(error.text().to_owned())),
        };
        self.set(|health| health.blind = None);
        let known = app.parts.ledger.state().server.process.clone();
        if let Some(gone) = known.filter(|known| process.as_ref() != Some(known)) {
            // It ended while nobody watched, or somebody else started another one since.
            self.ended(app, &gone, Exit::Unknown).await;
        }
        match process {
            Some(process) => self.adopt(app, &process).await,
            None => self.set(|health| {
                health.process = None;
                health.has_served = false;
            }),
        }
    }

    /// A process that runs, whoever started it.
    async fn adopt(&mut self, app: &App, process: &ServerProcess) {
        let is_known = self.health.borrow().process.as_ref() == Some(process);
        if is_known {
            return;
        }
        let now = self.clock.now();
        self.restart_at = None;
        let seen = process.clone();
        self.set(|health| *health = Health { process: Some(seen), ..Health::blank(now) });
        let server = app.parts.ledger.state().server.clone();
        // While an operation holds the lock it records the process itself.
        if server.process.is_none() && server.wanted != Wanted::Nothing && self.is_free(app).await {
            let change = Change::ServerStarted { process: process.clone(), sql_port: None };
            self.note(app.parts.ledger.change(change, WATCHER).await);
        }
    }

    async fn watch_life(
        &mut self,
        app: &App,
        process: &ServerProcess,
        ledger: &mut watch::Receiver<Arc<crate::cluster::AgentState>>,
        token: &CancellationToken,
    ) -> Woken {
        let port = Arc::clone(&app.parts.ports.process);
        let mut exited: BoxFuture<'_, Exit> = port.exited(process).boxed();
        loop {
            self.probe(app).await;
            let interval = self.interval();
            let woken = tokio::select! {
                biased;
                exit = &mut exited => {
                    self.ended(app, process, exit).await;
                    return Woken::Ended;
                }
                () = token.cancelled() => return Woken::Stop,
                is_well = outcome(&mut self.restarting) => Woken::Restarted(is_well),
                wish = self.wishes.recv() => wish.map_or(Woken::Stop, Woken::Wish),
                changed = ledger.changed() => if changed.is_ok() { Woken::Changed } else { Woken::Stop },
                () = tokio::time::sleep(interval) => Woken::Look,
            };
            match woken {
                Woken::Wish(reply) => {
                    if self.health.borrow().is_stale() {
                        self.forget_probe();
                        self.probe(app).await;
                    }
                    let _gone = reply.send(());
                }
                Woken::Restarted(is_well) => self.restarted(is_well),
                Woken::Changed => self.forget_probe(),
                Woken::Look => {}
                Woken::Ended | Woken::Restart | Woken::Stop => return woken,
            }
        }
    }

    async fn watch_nothing(
        &mut self,
        ledger: &mut watch::Receiver<Arc<crate::cluster::AgentState>>,
        token: &CancellationToken,
    ) -> Woken {
        let restart = self.restart_at.map(Alarm::remaining);
        tokio::select! {
            biased;
            () = token.cancelled() => Woken::Stop,
            is_well = outcome(&mut self.restarting) => Woken::Restarted(is_well),
            wish = self.wishes.recv() => wish.map_or(Woken::Stop, Woken::Wish),
            changed = ledger.changed() => if changed.is_ok() { Woken::Changed } else { Woken::Stop },
            () = sleep_some(restart) => Woken::Restart,
            () = tokio::time::sleep(LOOK_INTERVAL) => Woken::Look,
        }
    }

    /// Slow while the password is refused: nothing is locked and no log is filled by asking.
    fn interval(&self) -> Duration {
        let health = self.health.borrow();
        let secs = match health.sql {
            Sql::Refused => self.config.probe_refused_interval_secs,
            // It is about to serve.
            _ if !health.has_served => STARTING_INTERVAL_SECS.min(self.config.probe_interval_secs),
            Sql::Serving | Sql::Restricted(_) | Sql::Silent(_) | Sql::Unknown => {
                self.config.probe_interval_secs
            }
        };
        Duration::from_secs(secs)
    }

    async fn probe(&mut self, app: &App) {
        if self.health.borrow().is_fresh() {
            return;
        }
        let (process, before) = {
            let health = self.health.borrow();
            (health.process.clone(), health.sql.clone())
        };
        if before != Sql::Serving
            && let Some(process) = process
        {
            self.note(note_port(&app.parts.ports, &process, WATCHER).await);
        }
        let password = app.parts.ledger.root_password();
        let sql = match app.parts.ports.sql.serving(&password).await {
            Ok(()) => Sql::Serving,
            Err(error) if error.code == Code::PasswordIncorrect => Sql::Refused,
            Err(error) => match app.parts.ports.sql.login(&password).await {
                Login::Accepted => Sql::Restricted(error.text().to_owned()),
                Login::Refused => Sql::Refused,
                Login::NoAnswer => Sql::Silent(error.text().to_owned()),
            },
        };
        let probed = Some(Stopwatch::start());
        if std::mem::discriminant(&before) != std::mem::discriminant(&sql) {
            self.record_sql(app, &before, &sql).await;
        }
        let now = self.clock.now();
        self.set(|health| {
            if std::mem::discriminant(&health.sql) != std::mem::discriminant(&sql) {
                health.sql_since = now;
            }
            health.has_served |= sql == Sql::Serving;
            health.sql = sql;
            health.probed = probed;
        });
    }

    /// A password that is refused, or accepted again, is news.
    async fn record_sql(&self, app: &App, before: &Sql, after: &Sql) {
        let kind = match (before, after) {
            (_, Sql::Refused) => "credential_refused",
            (Sql::Refused, Sql::Serving) => "credential_accepted",
            _ => return,
        };
        let hint = password_hint(app.identity());
        if *after == Sql::Refused {
            tracing::warn!("the database refuses the password of root@sys that is known here; {hint}");
        }
        let body = json!({ "hint": hint });
        self.note(app.parts.archive.record(kind, None, self.stamp(), body).await.map(|_| ()));
    }

    /// A life has ended. Whose doing it was decides whether it is news.
    async fn ended(&mut self, app: &App, process: &ServerProcess, exit: Exit) {
        let wanted = app.parts.ledger.state().server.wanted;
        let is_reported = app.parts.ledger.state().server.process.as_ref() != Some(process);
        let is_unexpected = wanted == Wanted::Running && !is_reported && self.is_free(app).await;
        let now = self.clock.now();
        self.set(|health| {
            let policy = health.policy.take();
            *health = Health { policy, ..Health::blank(now) };
        });
        if !is_reported && (is_unexpected || wanted != Wanted::Running) {
            let last = LastExit { pid: process.pid, exit, at: now, is_unexpected };
            self.note(app.parts.ledger.change(Change::ServerExited(last), WATCHER).await);
        }
        if is_unexpected {
            self.report(app, process, exit).await;
            self.apply_policy(process, now);
        }
    }

    async fn report(&self, app: &App, process: &ServerProcess, exit: Exit) {
        let diagnosis = app.parts.ports.process.diagnose(process, Some(exit)).await;
        let headline = diagnosis.headline();
        tracing::error!(pid = process.pid, %exit, %headline, "the database process ended, and no operation had asked for it");
        let body = json!({ "pid": process.pid, "how": exit.to_string(), "headline": headline, "diagnosis": diagnosis });
        let recorded = app.parts.archive.record("server_exited", None, self.stamp(), body).await;
        self.note(recorded.map(|_| ()));
    }

    fn apply_policy(&mut self, process: &ServerProcess, now: Timestamp) {
        let lived = Duration::try_from(now.duration_since(process.started_at)).unwrap_or_default();
        self.short_lives = if lived >= GOOD_LIFE { 1 } else { self.short_lives + 1 };
        self.follow_policy();
    }

    fn follow_policy(&mut self) {
        let decision = policy::decide(&self.config, self.short_lives);
        let said = match decision {
            Decision::Leave => None,
            Decision::Restart { after } => Some(format!("restarts it in {} s", after.as_secs())),
            Decision::GiveUp => {
                Some(format!("gave up after {} short lives in a row; start it by hand", self.short_lives))
            }
        };
        self.restart_at = match decision {
            Decision::Restart { after } => Some(Alarm { set: Stopwatch::start(), after }),
            Decision::Leave | Decision::GiveUp => None,
        };
        if let Some(said) = &said {
            tracing::warn!(policy = %said, "restart policy");
        }
        self.set(|health| health.policy = said);
    }

    async fn restart(&mut self, app: &App) {
        self.restart_at = None;
        match app.start_by_policy().await {
            Ok(dag) => {
                tracing::info!(dag = %dag.id, "the restart policy starts the database");
                self.set(|health| health.policy = Some(format!("starts it, task {}", dag.id)));
                let engine = app.parts.engine.clone();
                let done = async move {
                    engine.until(dag.id, |s| s.state.is_at_rest()).await.is_ok_and(|dag| dag.state.is_final())
                };
                self.restarting = Some(done.boxed().shared());
            }
            Err(error) => {
                tracing::warn!(%error, "the restart policy could not start the database");
                self.set(|health| health.policy = Some(format!("could not start it: {error}")));
            }
        }
    }

    fn restarted(&mut self, is_well: bool) {
        if is_well {
            self.set(|health| health.policy = None);
        } else {
            self.short_lives += 1;
            self.follow_policy();
        }
    }

    async fn is_free(&self, app: &App) -> bool {
        matches!(app.parts.archive.holder().await, Ok(None))
    }

    fn stamp(&self) -> Stamp {
        Stamp { at: self.clock.now(), actor: WATCHER.to_owned() }
    }

    fn set(&self, change: impl FnOnce(&mut Health)) {
        self.health.send_if_modified(|health| {
            let mut before = health.clone();
            change(health);
            // That it was asked again is no news.
            before.probed = health.probed;
            *health != before
        });
    }

    fn forget_probe(&self) {
        self.set(|health| health.probed = None);
    }

    /// What cannot be recorded now is seen again at the next look.
    fn note(&self, result: Result<()>) {
        if let Err(error) = result {
            tracing::error!(cause = %error.chain(), "what was seen of the database could not be recorded");
        }
    }
}

/// Ready when there is something under way and it has ended; then there is nothing under way.
async fn outcome(under_way: &mut Option<Shared<BoxFuture<'static, bool>>>) -> bool {
    match under_way {
        Some(future) => {
            let is_well = future.await;
            *under_way = None;
            is_well
        }
        None => std::future::pending().await,
    }
}

async fn sleep_some(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Those who watch hear what is new; those who ask know how old it is.
    #[test]
    fn that_it_was_asked_again_is_no_news() {
        let (service, handle) = new(Engine::default(), clock::system());
        let mut watch = handle.watch();
        service.set(|health| health.sql = Sql::Serving);
        assert!(watch.has_changed().unwrap() && handle.now().is_stale());
        watch.mark_unchanged();
        service.set(|health| health.probed = Some(Stopwatch::start()));
        assert!(!watch.has_changed().unwrap() && !handle.now().is_stale());
        service.forget_probe();
        assert!(!watch.has_changed().unwrap() && handle.now().is_stale());
    }
}

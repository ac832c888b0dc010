//! What every use case has at hand, and who is asking.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::clock::Clock;
use crate::cluster::Ledger;
use crate::engine::port::{Archive, Record, RequestKey, Stamp};
use crate::engine::{Handle, Snapshot, Submission, Template};
use crate::error::Result;
use crate::flow::catalog::Ports;
use crate::flow::participant::Participant;
use crate::model::{AgentAddr, EventId, Timestamp};

use serde_json::Value;

use super::health;

/// Who asks, for the records and for the rules that depend on the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// As it stands in the audit trail: `root@sys from 10.0.0.5`, `uid 0 (socket)`.
    pub actor: String,
    /// Came through the Unix socket.
    pub is_local: bool,
    pub source: Option<IpAddr>,
}

/// How a request wants to be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The caller's `Idempotency-Key`: the same key gives the same task.
    pub key: Option<RequestKey>,
}

/// 1 starting, 2 running, 3 stopping, 4 stopped: what `/info` and `/status` report.
#[derive(Clone, Debug, Default)]
pub struct RunState(Arc<AtomicU8>);

impl RunState {
    pub const STARTING: u8 = 1;
    pub const RUNNING: u8 = 2;
    pub const STOPPING: u8 = 3;

    pub fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }

    pub fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed).max(Self::STARTING)
    }
}

/// What takes other programs to learn; they are asked in the background after the start.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// Version text of the engine's executable.
    pub binary_version: Option<String>,
    /// As `systemd-detect-virt` names it.
    pub virtualization: String,
}

/// What is known as long as the agent runs.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The cluster's own view, as it was read last.
    pub(super) remembered: super::outlook::Remembered,
    /// The plans that were shown lately.
    pub(super) shown: super::plan::Shown,
    /// Members that the users of v2 have still to be brought to.
    pub(super) untold: super::accounts::Untold,
    /// Held while a presented password is asked of the database.
    pub(super) login_turn: Arc<tokio::sync::Mutex<()>>,
}

/// The parts an [`App`] is made of; `daemon` builds them.
#[derive(Clone, Debug)]
pub struct Parts {
    pub own: AgentAddr,
    pub home: String,
    pub engine: Handle,
    pub archive: Arc<dyn Archive>,
    pub ledger: Ledger,
    pub participant: Participant,
    pub ports: Ports,
    pub health: health::Handle,
    pub clock: Arc<dyn Clock>,
    pub run_state: RunState,
    pub started_at: Timestamp,
    pub learned: tokio::sync::watch::Receiver<Learned>,
    pub memory: Memory,
    /// Cancelled when the agent stops: whoever waits is answered with what there is.
    pub stopping: tokio_util::sync::CancellationToken,
}

/// The use cases. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    pub(super) parts: Arc<Parts>,
}

impl App {
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    pub fn own(&self) -> AgentAddr {
        self.parts.own
    }

    pub fn learned(&self) -> Learned {
        self.parts.learned.borrow().clone()
    }

    /// By which other agents know this one.
    pub fn peer_key(&self) -> &str {
        &self.parts.ports.about.peer_key
    }

    pub fn ledger(&self) -> &Ledger {
        &self.parts.ledger
    }

    pub(super) fn stamp(&self, caller: &Caller) -> Stamp {
        Stamp { at: self.parts.clock.now(), actor: caller.actor.clone() }
    }

    /// Notes in the audit trail who did what; nobody waits for it.
    pub fn witness(&self, actor: &str, body: Value) {
        let stamp = Stamp { at: self.parts.clock.now(), actor: actor.to_owned() };
        self.parts.archive.note("audit", stamp, body);
    }

    /// The audit trail of this agent, oldest first: what came after an entry, or the newest ones.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit(&self, after: Option<EventId>, limit: u32) -> Result<Vec<Record>> {
        self.parts.archive.audit(after, limit).await
    }

    /// The task that the same key has made.
    pub(super) async fn made_before(&self, request: &Request) -> Result<Option<Snapshot>> {
        match &request.key {
            Some(key) => Ok(self.parts.archive.made_by(key).await?),
            None => Ok(None),
        }
    }

    /// Makes a task, or finds the one that the same key has made. That comes before every check: what the first request has
    /// changed, or the lock it holds, may be what a check would refuse now.
    pub(super) async fn make(
        &self,
        caller: &Caller,
        request: Request,
        template: impl AsyncFnOnce() -> Result<Template>,
    ) -> Result<Snapshot> {
        if let Some(made) = self.made_before(&request).await? {
            return Ok(made);
        }
        let template = template().await?;
        self.submit(template, caller, request).await
    }

    /// Records a task. A held lock is refused naming its holder, with the id that would unlock it.
    pub(super) async fn submit(
        &self,
        template: Template,
        caller: &Caller,
        request: Request,
    ) -> Result<Snapshot> {
        use crate::engine::SubmitError;
        use crate::engine::port::JournalError;
        let submission = Submission { template, actor: caller.actor.clone(), key: request.key };
        match self.parts.engine.submit(submission).await {
            Err(SubmitError::Journal(JournalError::LockHeld(holder))) => {
                Err(self.parts.participant.held(&holder).await)
            }
            other => other.map_err(Into::into),
        }
    }
}

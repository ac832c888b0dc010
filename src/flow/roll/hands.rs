//! The agents of an order, from its coordinator's side: taken when they are needed, led through their parts, let go.
//!
//! Invariant: a part that was released (by its lease, after a failure) is prepared again by whoever needs it, under a greater
//! round, but never one that somebody has pushed aside while the task ran.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::params::{Params, Verb};
use crate::engine::StepCtx;
use crate::error::{Code, Error, Result};
use crate::flow::catalog::Ports;
use crate::flow::handshake::{READY_LIMIT, copy_lines, look_of, part_failed, prepare_as};
use crate::flow::participant::RELEASER;
use crate::flow::peers::{Operation, PartKey, PeerView, Prepare, Progressed, surely};
use crate::flow::ports::Progress;
use crate::flow::remote;
use crate::model::{AgentAddr, EventId};

/// What an agent has to do in the whole.
pub(super) fn operation(params: &Params) -> Operation {
    match params.verb {
        Verb::Start => Operation::Launch,
        Verb::Stop if params.options.is_service_only => Operation::Stand,
        Verb::Stop => Operation::Stop { how: params.options.how },
        Verb::Restart => Operation::Restart { how: params.options.how },
    }
}

/// How far a step leads a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Halfway,
    Done,
}

/// How far an agent's record was copied into the task's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copied {
    pub(super) until: EventId,
}

/// One part on one agent.
#[derive(Debug)]
pub(super) struct Reins<'a> {
    pub(super) ports: &'a Ports,
    pub(super) ctx: &'a StepCtx,
    pub(super) params: &'a Params,
    pub(super) agent: AgentAddr,
    key: PartKey,
}

impl<'a> Reins<'a> {
    /// The part that this task has on an agent.
    pub(super) fn of(ports: &'a Ports, ctx: &'a StepCtx, params: &'a Params, agent: AgentAddr) -> Self {
        Self { ports, ctx, params, agent, key: PartKey::of(&ctx.dag_ref) }
    }

    /// A part of its own, for taking something back.
    pub(super) fn for_undo(ports: &'a Ports, ctx: &'a StepCtx, params: &'a Params, agent: AgentAddr) -> Self {
        let key = PartKey { main_dag: ctx.dag_ref.to_string(), part: format!("undo {}", ctx.node()) };
        Self { ports, ctx, params, agent, key }
    }

    /// Grows along the task, and with every execution of a step.
    fn round(&self, is_again: bool) -> u32 {
        let node = u32::try_from(self.ctx.node()).unwrap_or(u32::MAX / 2_000);
        node * 1_000 + 2 * self.ctx.attempt + u32::from(is_again)
    }

    fn request(&self, operation: &Operation, is_again: bool) -> Prepare {
        Prepare {
            key: self.key.clone(),
            main_name: self.ctx.dag_name.to_string(),
            round: self.round(is_again),
            operation: operation.clone(),
            force: self.params.force_pass.clone(),
            actor: self.params.actor.clone(),
        }
    }

    /// The part as it stands; nothing when there is none.
    pub(super) async fn look(&self) -> Result<Option<PeerView>> {
        let looked = self.ctx.waiting(self.watch(EventId(0), Duration::ZERO)).await;
        match looked {
            Ok(view) => Ok(Some(view)),
            Err(error) if error.code == Code::TaskNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn watch(&self, since: EventId, wait: Duration) -> Result<PeerView> {
        remote::look(self.ports, self.agent, &self.key, since, wait).await
    }

    /// A live part, prepared or further: the one that is there, else a new one of this operation.
    ///
    /// # Errors
    /// Who holds the agent's lock; that it was not reached; that the part ended before the go.
    pub(super) async fn seize(&self, operation: &Operation) -> Result<PeerView> {
        let seizing = tokio::time::timeout(READY_LIMIT, self.ctx.waiting(self.seized(operation)));
        seizing.await.unwrap_or_else(|_| {
            let text = format!("{}: not ready after {} s", self.agent, READY_LIMIT.as_secs());
            Err(Error::new(Code::SubDagsNotReady, text))
        })
    }

    async fn seized(&self, operation: &Operation) -> Result<PeerView> {
        if let Some(view) = self.look().await? {
            match view.progressed {
                Progressed::Prepared | Progressed::Running | Progressed::Halfway | Progressed::Done => {
                    return Ok(view);
                }
                Progressed::Failed => self.end().await?,
                Progressed::Released => self.refuse_pushed_aside(&view)?,
                Progressed::Preparing => {}
            }
        }
        let mut since = EventId(0);
        let mut is_again = false;
        prepare_as(self.ports, self.ctx, self.agent, &self.request(operation, false)).await?;
        loop {
            let view = self.watch(since, look_of(self.ports)).await?;
            since = view.version;
            match view.progressed {
                Progressed::Preparing => {}
                Progressed::Prepared | Progressed::Running | Progressed::Halfway | Progressed::Done => {
                    return Ok(view);
                }
                // An execution that a crash has cut off prepared it already, and its lease has ended.
                Progressed::Released if !is_again => {
                    self.refuse_pushed_aside(&view)?;
                    (is_again, since) = (true, EventId(0));
                    prepare_as(self.ports, self.ctx, self.agent, &self.request(operation, true)).await?;
                }
                Progressed::Failed => return Err(part_failed(self.agent, &view)),
                Progressed::Released => return Err(self.ended(&view)),
            }
        }
    }

    /// Somebody wanted the lock more. After a RETRY it is asked for again: whoever had it may be done.
    fn refuse_pushed_aside(&self, view: &PeerView) -> Result<()> {
        let was_pushed_aside = view.release.is_some_and(|release| release.was_pushed_aside);
        if was_pushed_aside && self.ctx.attempt == 1 { Err(self.ended(view)) } else { Ok(()) }
    }

    fn ended(&self, view: &PeerView) -> Error {
        let how = match view.release {
            Some(release) if release.was_pushed_aside => "was pushed aside (forcePassDag)",
            Some(release) if release.is_by_lease => "was released by its lease",
            Some(_) | None => "was ended by somebody else",
        };
        Error::new(Code::SubDagsNotSucceeded, format!("{}: its task {} {how}", self.agent, view.sub_dag))
    }

    /// Leads a live part as far as it shall go; its lines go into this record.
    ///
    /// # Errors
    /// Its failure as it was; that it was ended; that its agent was not reached for longer than the limit of silence.
    pub(super) async fn lead(&self, until: Until, copied: EventId) -> Result<Copied> {
        self.ctx.waiting(self.led(until, copied)).await
    }

    async fn led(&self, until: Until, copied: EventId) -> Result<Copied> {
        let mut since = copied;
        let mut view = self.watch(since, Duration::ZERO).await?;
        loop {
            copy_lines(self.ctx, self.agent, &view);
            since = view.version.max(since);
            match view.progressed {
                Progressed::Preparing | Progressed::Running => {}
                Progressed::Prepared => self.tell(false).await?,
                Progressed::Halfway if until == Until::Halfway => return Ok(Copied { until: since }),
                Progressed::Halfway => self.tell(true).await?,
                Progressed::Done => return Ok(Copied { until: since }),
                Progressed::Failed => return Err(part_failed(self.agent, &view)),
                Progressed::Released => return Err(self.ended(&view)),
            }
            view = self.watch(since, look_of(self.ports)).await?;
        }
    }

    async fn tell(&self, is_second_half: bool) -> Result<()> {
        let (peers, key) = (&self.ports.peers, &self.key);
        let told = surely(self.ports.limits.silence, || async {
            if is_second_half { peers.go_on(self.agent, key).await } else { peers.go(self.agent, key).await }
        });
        told.await.map_err(|error| remote::lost(self.ports, self.agent, error))
    }

    /// Frees the agent's lock; cancels what runs.
    pub(super) async fn end(&self) -> Result<()> {
        let silence = self.ports.limits.silence;
        surely(silence, || self.ports.peers.end(self.agent, &self.key, RELEASER)).await.map(|_| ())
    }

    /// The same at the end of a task, one try: what is not reached frees itself. A server that was stopped in order to be
    /// started is started, and one that is at work is left to it.
    pub(super) async fn let_go(&self, is_cancelled: bool) -> Result<Left> {
        let peers = &self.ports.peers;
        let view = match peers.watch(self.agent, &self.key, EventId(0), Duration::ZERO).await {
            Ok(view) => view,
            Err(error) if error.code == Code::TaskNotFound => return Ok(Left::Nothing),
            Err(error) => return Err(error),
        };
        let is_restart = self.params.verb == Verb::Restart;
        // A process that was told to end ends: who cancels sees it through, or a rollback would take it for one that runs.
        let is_left_to_it = self.params.verb == Verb::Stop || !is_cancelled;
        match view.progressed {
            Progressed::Halfway => peers.go_on(self.agent, &self.key).await.map(|()| Left::Starting),
            Progressed::Running if is_restart => {
                peers.go_on(self.agent, &self.key).await.map(|()| Left::AtWork)
            }
            Progressed::Running if is_left_to_it => Ok(Left::AtWork),
            Progressed::Released => Ok(Left::Nothing),
            Progressed::Preparing
            | Progressed::Prepared
            | Progressed::Running
            | Progressed::Done
            | Progressed::Failed => peers.end(self.agent, &self.key, RELEASER).await.map(|_| Left::Released),
        }
    }

    /// A whole operation under its own lock, from PREPARE to the end of it; what this task still has there ends first.
    pub(super) async fn apart(&self, operation: &Operation) -> Result<()> {
        Reins::of(self.ports, self.ctx, self.params, self.agent).end().await?;
        self.ctx.info(&format!("{} is asked for it", self.agent));
        self.seize(operation).await?;
        self.lead(Until::Done, EventId(0)).await?;
        self.end().await
    }
}

/// How an agent was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Released,
    Nothing,
    /// It starts what it had stopped, and frees itself.
    Starting,
    AtWork,
}

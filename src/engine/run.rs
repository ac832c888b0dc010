//! The asynchronous shell: commits what is planned, starts the steps that are claimed, waits for what happens.
//!
//! One task per live DAG owns its snapshot and is its only writer; many DAGs commit at once and the store groups
//! their commits. A DAG that rests and holds no lease has no task: an operator's wish loads it again.
//!
//! Invariant: nothing is started, and no caller is answered, before the events that say so are committed.
//!
//! Not here: decisions (`plan`, `operate`, `steer`, `single`, `recover`), SQL, what a step does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::actor::{Actor, Names};
use super::event::At;
use super::handle::SubmitError;
use super::port::{Journal, NewDag, Stamp};
use super::recover::recover;
use super::registry::Registry;
use super::single::Single;
use super::snapshot::Snapshot;
use super::state::{Operator, Steer};
use super::worker::Ended;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, DagId, NodeId, SubTaskId};
use crate::tasks::{Kind, Tasks};

/// Who the engine itself is in the records.
pub const ENGINE: &str = "engine";

/// A signal of the engine itself: nobody renewed the DAG's lease, so it was passed, or went on by itself.
pub const LEASE_OVER: &str = "lease over";

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) own: AgentAddr,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) registry: Registry,
    pub(super) tasks: Tasks,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) actors: Mutex<HashMap<DagId, Live>>,
}

/// A DAG that has a task.
#[derive(Clone, Debug)]
pub(super) struct Live {
    /// Unbounded because every sender is either a step's end, at most one per sub-task, or a caller that waits for
    /// its reply; both are bounded where they are made.
    pub(super) inbox: mpsc::UnboundedSender<Msg>,
    /// The DAG as it was committed last; nothing until it was read. Closed when the task has ended.
    pub(super) seen: watch::Receiver<Option<Arc<Snapshot>>>,
}

#[derive(Debug)]
pub(super) enum Msg {
    Finished {
        at: At,
        attempt: u32,
        ended: Ended,
    },
    Note {
        at: At,
        attempt: u32,
        note: Value,
        reply: oneshot::Sender<Result<()>>,
    },
    Operate {
        operator: Operator,
        actor: String,
        reply: oneshot::Sender<Result<()>>,
    },
    PassNode {
        node: NodeId,
        actor: String,
        reply: oneshot::Sender<Result<()>>,
    },
    Steer {
        wish: Steer,
        actor: String,
        reply: oneshot::Sender<Result<()>>,
    },
    Single {
        wish: Single,
        sub_task: SubTaskId,
        actor: String,
        reply: oneshot::Sender<Result<()>>,
    },
    Signal {
        signal: String,
        actor: String,
        reply: oneshot::Sender<Result<()>>,
    },
    Renew,
    /// What was claimed with the creation is to be started.
    Begin,
}

/// What a DAG's task begins with.
enum First {
    /// With what the store has.
    Look,
    /// As it was found at the start of the agent. The permit is held until it runs again.
    Found(Box<Snapshot>, OwnedSemaphorePermit),
    /// Created just now, and committed as it is here: its first sub-tasks are claimed, and no code of them runs.
    Begun(Arc<Snapshot>),
}

/// A running step's way to commit a note.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    pub(super) at: At,
    pub(super) attempt: u32,
    pub(super) inbox: mpsc::UnboundedSender<Msg>,
}

impl Notes {
    pub(super) async fn save(&self, note: Value) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::unexpected("the task does not take notes any more");
        let message = Msg::Note { at: self.at, attempt: self.attempt, note, reply };
        self.inbox.send(message).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Shared {
    pub(super) fn actors(&self) -> MutexGuard<'_, HashMap<DagId, Live>> {
        self.actors.lock().expect("no holder of this lock panics")
    }

    pub(super) fn stamp(&self, actor: impl Into<String>) -> Stamp {
        Stamp { at: self.clock.now(), actor: actor.into() }
    }

    pub(super) async fn load(&self, dag: DagId) -> Result<Snapshot> {
        let found = self.journal.load(dag).await?;
        found.ok_or_else(|| {
            Error::new(Code::TaskNotFound, format!("there is no task {dag} in this agent's store"))
        })
    }

    /// Hands a message to the DAG's task, which is made if there is none; without a message it is only made. The task
    /// stands in the map before it reads the DAG, and leaves the map when nothing is left to be written: never do two of
    /// them write one DAG, and none writes what it has read too early.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub(super) fn tell(shared: &Arc<Self>, dag: DagId, message: Option<Msg>) -> Result<()> {
        let mut actors = shared.actors();
        let live = actors.entry(dag).or_insert_with(|| Self::spawn(shared, dag, First::Look));
        let is_gone = message.is_some_and(|message| live.inbox.send(message).is_err());
        if is_gone { Err(Error::unexpected("the agent is stopping")) } else { Ok(()) }
    }

    /// Takes up a DAG as it was found at the start of the agent.
    pub(super) fn take_up(shared: &Arc<Self>, found: Snapshot, permit: OwnedSemaphorePermit) {
        let dag = found.id;
        let live = Self::spawn(shared, dag, First::Found(Box::new(found), permit));
        shared.actors().insert(dag, live);
    }

    /// Records a DAG and starts it, unless its key is one that was used.
    pub(super) async fn create(self: Arc<Self>, new: NewDag) -> std::result::Result<Snapshot, SubmitError> {
        let created = self.journal.create(new).await?;
        match created.begun {
            Some(begun) => Self::begin(&self, begun),
            // An agent that stops has recorded it, and takes it up at its next start.
            None if created.is_new => drop(Self::tell(&self, created.snapshot.id, None)),
            None => {}
        }
        Ok(created.snapshot)
    }

    /// Starts a DAG that was created just now. Somebody may have been faster and have made its task: that one is told.
    pub(super) fn begin(shared: &Arc<Self>, begun: Arc<Snapshot>) {
        match shared.actors().entry(begun.id) {
            Entry::Vacant(place) => {
                let live = Self::spawn(shared, begun.id, First::Begun(begun));
                place.insert(live);
            }
            Entry::Occupied(live) => deliver(&live.get().inbox, Msg::Begin),
        }
    }

    fn spawn(shared: &Arc<Self>, dag: DagId, first: First) -> Live {
        let (sender, inbox) = mpsc::unbounded_channel();
        let (shown, seen) = watch::channel(None);
        // A panic here is a defect of the engine: the agent ends and recovers. Stopping the agent drops it.
        let kind = Kind {
            name: "dag",
            on_failure: crate::tasks::OnFailure::StopAgent,
            on_stop: crate::tasks::OnStop::Drop,
        };
        let ends = Ends { inbox, sender: sender.clone(), shown };
        shared.tasks.spawn(kind, live(Arc::clone(shared), dag, first, ends));
        Live { inbox: sender, seen }
    }
}

/// A task's ends of what connects it to the others.
struct Ends {
    inbox: mpsc::UnboundedReceiver<Msg>,
    sender: mpsc::UnboundedSender<Msg>,
    shown: watch::Sender<Option<Arc<Snapshot>>>,
}

/// The life of a DAG's task.
async fn live(shared: Arc<Shared>, dag: DagId, first: First, ends: Ends) {
    let mut is_begun = false;
    let (read, events, permit) = match first {
        First::Look => (shared.load(dag).await.map(Arc::new), Vec::new(), None),
        First::Found(found, permit) => {
            let events = recover(&found);
            (Ok(Arc::from(found)), events, Some(permit))
        }
        First::Begun(begun) => {
            is_begun = true;
            (Ok(begun), Vec::new(), None)
        }
    };
    match read {
        Ok(snapshot) => {
            let Ends { inbox, sender, shown } = ends;
            shown.send_replace(Some(Arc::clone(&snapshot)));
            let (running, steering) = (HashMap::new(), CancellationToken::new());
            let names = Names::of(shared.own, &snapshot);
            let mut actor =
                Actor { shared, snapshot, inbox, sender, shown, running, steering, next: None, names };
            actor.pass_on_steering();
            if is_begun {
                actor.begin();
            }
            actor.advance_surely(events, ENGINE).await;
            drop(permit);
            actor.run().await;
        }
        Err(error) => refuse_all(&shared, dag, ends.inbox, &error),
    }
}

/// Nobody can work on a DAG that cannot be read; whoever asks next tries again.
fn refuse_all(shared: &Shared, dag: DagId, mut inbox: mpsc::UnboundedReceiver<Msg>, error: &Error) {
    shared.actors().remove(&dag);
    while let Ok(message) = inbox.try_recv() {
        match message {
            Msg::Note { reply, .. }
            | Msg::Operate { reply, .. }
            | Msg::PassNode { reply, .. }
            | Msg::Steer { reply, .. }
            | Msg::Single { reply, .. }
            | Msg::Signal { reply, .. } => answer(reply, Err(Error::new(error.code, error.text()))),
            Msg::Finished { .. } | Msg::Renew | Msg::Begin => {}
        }
    }
}

pub(super) fn answer(reply: oneshot::Sender<Result<()>>, result: Result<()>) {
    if reply.send(result).is_err() {
        tracing::debug!("a caller has gone before its answer");
    }
}

pub(super) fn deliver(inbox: &mpsc::UnboundedSender<Msg>, message: Msg) {
    if inbox.send(message).is_err() {
        tracing::debug!("a step ended after its task; recovery takes care of it");
    }
}

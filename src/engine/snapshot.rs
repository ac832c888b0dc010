//! One DAG as it stands, and the one function that changes it.
//!
//! Invariant: a snapshot is the sum of its events. The store's rows hold the same values; a test folds the log of
//! random runs and compares.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::event::{At, Event, Failure, Output};
use super::state::{
    DagEvent, DagState, Heading, Illegal, NodeState, Operator, Steer, SubTaskEvent, SubTaskState, next_dag,
    next_sub_task,
};
use super::sub_tasks::SubTasks;
use super::template::{Definition, NodeDef};
use crate::model::{AgentAddr, DagId, NodeId, SubTaskId, Timestamp};

#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub id: DagId,
    /// Grows by one with every append; the fence of the DAG's only writer.
    pub revision: i64,
    pub definition: Arc<Definition>,
    pub state: DagState,
    pub heading: Heading,
    pub operator: Operator,
    pub holds_lock: bool,
    /// What the coordinator has said, such as `go`, and what the engine itself has recorded.
    pub signals: Vec<String>,
    pub nodes: Vec<Node>,
    pub created_at: Timestamp,
    /// Of the current round; the previous one's until the new one begins.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub id: NodeId,
    pub operator: Operator,
    pub sub_tasks: SubTasks,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SubTask {
    pub id: SubTaskId,
    pub agent: AgentAddr,
    pub state: SubTaskState,
    pub operator: Operator,
    /// The fence: everything that concerns an execution carries its number.
    pub execute_times: u32,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub output: Option<Output>,
    /// What the step noted for itself; gone with the next forward execution.
    pub note: Option<Value>,
    pub failure: Option<Failure>,
}

impl SubTask {
    /// As it is before its turn has come.
    pub fn new(id: SubTaskId, agent: AgentAddr) -> Self {
        Self {
            id,
            agent,
            state: SubTaskState::Pending,
            operator: Operator::Run,
            execute_times: 0,
            started_at: None,
            ended_at: None,
            output: None,
            note: None,
            failure: None,
        }
    }

    fn has_run(&self) -> bool {
        self.execute_times > 0
    }

    /// Did something, and it is not undone yet.
    pub fn is_left_to_undo(&self) -> bool {
        use SubTaskState as S;
        let has_effect = match self.state {
            S::Pending | S::Waiting | S::Succeeded | S::Failed | S::Passed => true,
            S::Running | S::Cancelling | S::Undoing | S::UndoCancelling | S::UndoFailed | S::Undone => false,
        };
        has_effect && self.has_run()
    }

    fn reset_for_retry(&mut self) -> Result<(), Illegal> {
        self.take(SubTaskEvent::Reset)?;
        self.operator = Operator::Run;
        // Clients of v1 see a retried sub-task grow by two (`task-engine.md` §10.4): OBShell runs a rollback first. Ours
        // looks before it acts instead, but the number stays comparable.
        self.execute_times += 1;
        Ok(())
    }

    fn take(&mut self, event: SubTaskEvent) -> Result<(), Illegal> {
        self.state = next_sub_task(self.state, event)?;
        Ok(())
    }
}

impl Node {
    pub fn state(&self) -> NodeState {
        use SubTaskState as S;
        let (mut failed, mut waiting, mut pending, mut undone, mut passed, mut succeeded) =
            (false, false, false, false, false, false);
        for sub in self.sub_tasks.iter() {
            match sub.state {
                S::Running | S::Cancelling | S::Undoing | S::UndoCancelling => return NodeState::Running,
                S::Failed | S::UndoFailed => failed = true,
                S::Waiting => waiting = true,
                S::Pending => pending = true,
                S::Undone => undone = true,
                S::Passed => passed = true,
                S::Succeeded => succeeded = true,
            }
        }
        if failed {
            NodeState::Failed
        } else if waiting {
            NodeState::Waiting
        } else if pending {
            NodeState::Pending
        } else if undone {
            if succeeded { NodeState::Running } else { NodeState::Undone }
        } else if passed {
            NodeState::Passed
        } else {
            NodeState::Succeeded
        }
    }

    pub fn is_active(&self) -> bool {
        self.sub_tasks.iter().any(|sub| sub.state.is_active())
    }
}

impl Snapshot {
    pub fn definition_of(&self, node: usize) -> &NodeDef {
        &self.definition.nodes[node]
    }

    pub fn sub_task(&self, at: At) -> &SubTask {
        &self.nodes[at.node].sub_tasks[at.sub]
    }

    /// When a sub-task that executes is given up; nothing for one that does not.
    pub fn gives_up_at(&self, at: At) -> Option<Timestamp> {
        let sub = self.sub_task(at);
        let began = sub.started_at.filter(|_| sub.state.is_active())?;
        began.checked_add(Duration::from_secs(self.definition_of(at.node).deadline_secs)).ok()
    }

    /// Every sub-task with its place.
    pub fn sub_tasks(&self) -> impl Iterator<Item = (At, &SubTask)> {
        self.nodes
            .iter()
            .enumerate()
            .flat_map(|(node, n)| n.sub_tasks.iter().enumerate().map(move |(sub, s)| (At { node, sub }, s)))
    }

    pub fn is_any_active(&self) -> bool {
        self.nodes.iter().any(Node::is_active)
    }

    /// Nobody has to deal with it any more: ended, or failed without a lock (`task-engine.md` §1.2).
    pub fn is_finished(&self) -> bool {
        self.state.is_final() || (self.state == DagState::Failed && !self.holds_lock)
    }

    pub fn has_signal(&self, signal: &str) -> bool {
        self.signals.iter().any(|s| s == signal)
    }

    /// What was asked for last, a pause or an abort; nothing when it was to go on since.
    pub fn steer(&self) -> Option<Steer> {
        let last = self.signals.iter().rev().find_map(|signal| Steer::of_signal(signal));
        last.filter(|steer| *steer != Steer::Resume)
    }

    /// Its turn has come, or comes sub-task by sub-task: everything before it is done.
    pub fn is_due(&self, node: usize) -> bool {
        let is_done =
            |up: &usize| matches!(self.nodes[*up].state(), NodeState::Succeeded | NodeState::Passed);
        self.definition_of(node).upstreams.iter().all(is_done)
    }

    /// A pause or an abort can still take effect before this node.
    pub fn is_safe_point_ahead(&self, node: usize) -> bool {
        let def = self.definition_of(node);
        let is_ahead = self.nodes[node].sub_tasks.iter().all(|sub| sub.state == SubTaskState::Pending);
        def.is_safe_point && !def.is_always && is_ahead
    }

    /// The node that does not begin because a pause or an abort was asked for, though its turn has come.
    pub fn held_back(&self) -> Option<usize> {
        self.steer()?;
        (0..self.nodes.len()).find(|node| self.is_safe_point_ahead(*node) && self.is_due(*node))
    }

    /// The node that a paused DAG stands before; nothing for one that is not paused.
    pub fn paused_before(&self) -> Option<usize> {
        let is_paused = self.state == DagState::Waiting && self.steer() == Some(Steer::Pause);
        self.held_back().filter(|_| is_paused)
    }

    /// The 1-based level that v1 shows as `stage` (`task-engine.md` §1.2).
    pub fn stage(&self) -> usize {
        let levels = self.definition.levels();
        let most = levels.iter().copied().max().unwrap_or(1);
        let level_where = |wanted: &dyn Fn(NodeState) -> bool| -> Vec<usize> {
            let nodes = self.nodes.iter().zip(&levels);
            nodes.filter(|(node, _)| wanted(node.state())).map(|(_, level)| *level).collect()
        };
        match (self.state, self.heading) {
            (DagState::Succeeded, _) => most,
            (DagState::RolledBack, _) => 1,
            (_, Heading::Backward) => {
                let open = |s| !matches!(s, NodeState::Undone | NodeState::Pending);
                level_where(&open).into_iter().max().unwrap_or(1)
            }
            (_, Heading::Forward) => {
                let halted = |s| matches!(s, NodeState::Failed | NodeState::Waiting | NodeState::Passed);
                let stopped = match self.state {
                    DagState::Failed | DagState::Waiting | DagState::Cancelling | DagState::Passed => {
                        level_where(&halted).into_iter().min()
                    }
                    DagState::Ready | DagState::Running | DagState::Succeeded | DagState::RolledBack => None,
                };
                let open = |s| !matches!(s, NodeState::Succeeded | NodeState::Passed);
                stopped.or_else(|| level_where(&open).into_iter().min()).unwrap_or(most)
            }
        }
    }

    pub fn max_stage(&self) -> usize {
        self.definition.levels().into_iter().max().unwrap_or(1)
    }

    /// The sum grows by one event.
    ///
    /// # Errors
    /// [`Illegal`] when the event cannot happen to this snapshot; it is then unchanged in all that is stored.
    pub fn apply(&mut self, event: &Event, at: Timestamp) -> Result<(), Illegal> {
        match event {
            // The first event; its content is what this snapshot was made from.
            Event::Created { .. } => Ok(()),
            Event::Started => {
                self.enter(DagEvent::Start)?;
                self.started_at = Some(at);
                self.ended_at = None;
                Ok(())
            }
            Event::Claimed { at: place, heading, attempt } => self.claim(*place, *heading, *attempt, at),
            Event::Resumed { at: place } => self.sub_mut(*place).take(SubTaskEvent::Resume),
            Event::Noted { at: place, attempt, note } => {
                self.fence(*place, *attempt)?;
                self.sub_mut(*place).note = Some(note.clone());
                Ok(())
            }
            Event::Succeeded { at: place, attempt, output } => {
                let sub = self.end_sub_task(*place, *attempt, SubTaskEvent::Succeed, at)?;
                if sub.state == SubTaskState::Succeeded {
                    sub.output = Some(output.clone());
                }
                Ok(())
            }
            Event::Failed { at: place, attempt, failure } => {
                self.end_sub_task(*place, *attempt, SubTaskEvent::Fail, at)?.failure = Some(failure.clone());
                Ok(())
            }
            Event::Waits { at: place, attempt } => {
                self.end_sub_task(*place, *attempt, SubTaskEvent::Wait, at).map(|_| ())
            }
            Event::Stopped { at: place, attempt } => {
                self.end_sub_task(*place, *attempt, SubTaskEvent::Stop, at).map(|_| ())
            }
            Event::Skipped { at: place } => self.skip(*place, at),
            Event::CancelAsked => self.ask_cancel(),
            Event::RetryAsked => self.ask_retry(),
            Event::RollbackAsked => self.ask_rollback(),
            Event::Passed => self.pass(at),
            Event::NodePassed { node } => self.pass_node(*node, at),
            Event::SubTaskRetryAsked { at: place } => self.ask_retry_one(*place),
            Event::SubTaskPassed { at: place } => self.pass_one(*place, at),
            Event::SubTaskCancelAsked { at: place } => self.ask_cancel_one(*place),
            Event::Signalled { signal } => {
                self.signals.push(signal.clone());
                Ok(())
            }
            Event::Ended { state } => self.end(*state, at),
            Event::LockTaken => {
                self.holds_lock = true;
                Ok(())
            }
            Event::LockReleased { .. } => {
                self.holds_lock = false;
                Ok(())
            }
        }
    }

    fn enter(&mut self, event: DagEvent) -> Result<(), Illegal> {
        self.state = next_dag(self.state, self.heading, event)?;
        Ok(())
    }

    fn sub_mut(&mut self, place: At) -> &mut SubTask {
        self.nodes[place.node].sub_tasks.change(place.sub)
    }

    fn fence(&self, place: At, attempt: u32) -> Result<(), Illegal> {
        let sub = self.sub_task(place);
        if sub.execute_times == attempt && sub.state.is_active() {
            return Ok(());
        }
        Err(Illegal {
            what: "a sub-task",
            state: format!("{:?} of execution {}", sub.state, sub.execute_times),
            event: format!("an outcome of execution {attempt}"),
        })
    }

    fn claim(&mut self, place: At, heading: Heading, attempt: u32, at: Timestamp) -> Result<(), Illegal> {
        let sub = self.sub_mut(place);
        if attempt != sub.execute_times + 1 {
            return Err(Illegal {
                what: "a sub-task",
                state: format!("execution {}", sub.execute_times),
                event: format!("a claim for execution {attempt}"),
            });
        }
        match heading {
            Heading::Forward => {
                sub.take(SubTaskEvent::Claim)?;
                sub.operator = Operator::Run;
                sub.note = None;
                sub.output = None;
            }
            Heading::Backward => {
                sub.take(SubTaskEvent::Undo)?;
                sub.operator = Operator::Rollback;
            }
        }
        sub.execute_times = attempt;
        sub.started_at = Some(at);
        sub.ended_at = None;
        sub.failure = None;
        Ok(())
    }

    fn end_sub_task(
        &mut self,
        place: At,
        attempt: u32,
        event: SubTaskEvent,
        at: Timestamp,
    ) -> Result<&mut SubTask, Illegal> {
        self.fence(place, attempt)?;
        let sub = self.sub_mut(place);
        sub.take(event)?;
        sub.ended_at = Some(at);
        Ok(sub)
    }

    fn skip(&mut self, place: At, at: Timestamp) -> Result<(), Illegal> {
        let sub = self.sub_mut(place);
        sub.take(SubTaskEvent::Skip)?;
        sub.operator = Operator::Cancel;
        sub.ended_at = Some(at);
        self.nodes[place.node].operator = Operator::Cancel;
        // An abort is a cancel that waited for its place.
        self.operator = Operator::Cancel;
        Ok(())
    }

    fn ask_cancel(&mut self) -> Result<(), Illegal> {
        self.enter(DagEvent::AskCancel)?;
        self.operator = Operator::Cancel;
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if self.definition.nodes[index].is_always || !node.is_active() {
                continue;
            }
            node.operator = Operator::Cancel;
            // Others are being cancelled already, one by one.
            let is_running =
                |sub: &SubTask| matches!(sub.state, SubTaskState::Running | SubTaskState::Undoing);
            for sub in node.sub_tasks.change_all(is_running) {
                sub.take(SubTaskEvent::AskCancel)?;
                sub.operator = Operator::Cancel;
            }
        }
        Ok(())
    }

    fn ask_cancel_one(&mut self, place: At) -> Result<(), Illegal> {
        let sub = self.sub_mut(place);
        sub.take(SubTaskEvent::AskCancel)?;
        sub.operator = Operator::Cancel;
        self.nodes[place.node].operator = Operator::Cancel;
        Ok(())
    }

    fn ask_retry(&mut self) -> Result<(), Illegal> {
        self.enter(DagEvent::AskRetry)?;
        self.operator = Operator::Run;
        for node in &mut self.nodes {
            if matches!(node.state(), NodeState::Failed | NodeState::Waiting) {
                node.operator = Operator::Retry;
                let is_meant =
                    |sub: &SubTask| matches!(sub.state, SubTaskState::Failed | SubTaskState::Waiting);
                for sub in node.sub_tasks.change_all(is_meant) {
                    sub.reset_for_retry()?;
                }
            }
        }
        self.rearm_always_nodes()
    }

    fn ask_retry_one(&mut self, place: At) -> Result<(), Illegal> {
        self.enter(DagEvent::AskRetry)?;
        self.operator = Operator::Run;
        self.sub_mut(place).reset_for_retry()?;
        self.nodes[place.node].operator = Operator::Retry;
        self.rearm_always_nodes()
    }

    /// They ran because something had failed; they have to run again at the end of the new round.
    fn rearm_always_nodes(&mut self) -> Result<(), Illegal> {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if !self.definition.nodes[index].is_always {
                continue;
            }
            let has_run = |sub: &SubTask| matches!(sub.state, SubTaskState::Succeeded | SubTaskState::Failed);
            for sub in node.sub_tasks.change_all(has_run) {
                sub.take(SubTaskEvent::Reset)?;
                sub.operator = Operator::Run;
            }
        }
        Ok(())
    }

    fn ask_rollback(&mut self) -> Result<(), Illegal> {
        self.enter(DagEvent::AskRollback)?;
        self.heading = Heading::Backward;
        self.operator = Operator::Rollback;
        for node in &mut self.nodes {
            for sub in node.sub_tasks.change_all(|sub| sub.state == SubTaskState::UndoFailed) {
                sub.take(SubTaskEvent::Reset)?;
            }
            if node.sub_tasks.iter().any(SubTask::is_left_to_undo) {
                node.operator = Operator::Rollback;
            }
        }
        Ok(())
    }

    fn pass(&mut self, at: Timestamp) -> Result<(), Illegal> {
        self.enter(DagEvent::Pass)?;
        self.operator = Operator::Pass;
        self.ended_at = Some(at);
        for index in 0..self.nodes.len() {
            self.pass_sub_tasks(index, at)?;
        }
        Ok(())
    }

    fn pass_node(&mut self, node: usize, at: Timestamp) -> Result<(), Illegal> {
        self.enter(DagEvent::PassNode)?;
        self.operator = Operator::Run;
        self.pass_sub_tasks(node, at)?;
        self.rearm_always_nodes()
    }

    fn pass_one(&mut self, place: At, at: Timestamp) -> Result<(), Illegal> {
        let (dag_event, operator, event) = match self.heading {
            Heading::Forward => (DagEvent::PassNode, Operator::Run, SubTaskEvent::Pass),
            Heading::Backward => (DagEvent::AskRollback, Operator::Rollback, SubTaskEvent::PassUndo),
        };
        self.enter(dag_event)?;
        self.operator = operator;
        let sub = self.sub_mut(place);
        sub.take(event)?;
        sub.operator = Operator::Pass;
        sub.ended_at = Some(at);
        self.nodes[place.node].operator = Operator::Pass;
        match self.heading {
            Heading::Forward => self.rearm_always_nodes(),
            Heading::Backward => Ok(()),
        }
    }

    fn pass_sub_tasks(&mut self, node: usize, at: Timestamp) -> Result<(), Illegal> {
        use SubTaskState as S;
        let node = &mut self.nodes[node];
        let is_open =
            |sub: &SubTask| matches!(sub.state, S::Pending | S::Waiting | S::Failed | S::UndoFailed);
        for sub in node.sub_tasks.change_all(is_open) {
            sub.take(SubTaskEvent::Pass)?;
            sub.operator = Operator::Pass;
            sub.ended_at = Some(at);
            node.operator = Operator::Pass;
        }
        Ok(())
    }

    fn end(&mut self, state: DagState, at: Timestamp) -> Result<(), Illegal> {
        let event = match state {
            DagState::Waiting => DagEvent::Wait,
            DagState::Failed => DagEvent::Fail,
            DagState::Succeeded => DagEvent::Succeed,
            DagState::RolledBack => DagEvent::RollBackDone,
            DagState::Ready | DagState::Running | DagState::Cancelling | DagState::Passed => {
                return Err(Illegal {
                    what: "a DAG",
                    state: format!("{:?}", self.state),
                    event: format!("an end {state:?}"),
                });
            }
        };
        self.enter(event)?;
        self.ended_at = Some(at);
        Ok(())
    }
}

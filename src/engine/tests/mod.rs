//! Tables, properties, and the shell on a journal in memory.

mod memory;
mod operators;
mod properties;
mod shell;
mod single;
mod steering;
mod tables;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::event::At;
use super::{Caps, DagState, Definition, Heading, Interruption, NodeDef, Operator, Snapshot};
use super::{Node, Outcome, Step, StepCtx, StepSpec, SubTask};
use crate::error::Result;
use crate::model::{AgentAddr, DagId, NodeId, SubTaskId, Timestamp};

pub(super) fn addr(last: u8) -> AgentAddr {
    AgentAddr::new([127, 0, 0, last].into(), 2886)
}

pub(super) fn node(upstreams: &[usize], targets: u8, caps: &str) -> NodeDef {
    NodeDef {
        name: "n".to_owned(),
        step: "test.step".to_owned(),
        upstreams: upstreams.to_vec(),
        targets: (1..=targets).map(addr).collect(),
        is_parallel: targets > 1,
        at_most: None,
        is_safe_point: false,
        goes_on_by_lease: false,
        is_always: false,
        releases_lock_on_failure: false,
        caps: Caps::of(caps),
        on_interruption: if caps.contains('C') { Interruption::Rerun } else { Interruption::Fail },
        deadline_secs: 3600,
    }
}

pub(super) fn definition(mut nodes: Vec<NodeDef>) -> Definition {
    for (at, node) in nodes.iter_mut().enumerate() {
        node.name = format!("node {}", at + 1);
    }
    Definition {
        name: "Test".to_owned(),
        flow: "test".to_owned(),
        nodes,
        params: serde_json::Value::Null,
        lock: None,
        main_dag: None,
    }
}

/// A DAG as it is created.
pub(super) fn fresh(definition: Definition) -> Snapshot {
    let mut number = 0;
    let mut next = || {
        number += 1;
        number
    };
    let nodes = definition.nodes.iter().map(|def| Node {
        id: NodeId(next()),
        operator: Operator::Run,
        sub_tasks: def.targets.iter().map(|agent| sub_task(next(), *agent)).collect(),
    });
    let nodes = nodes.collect();
    Snapshot {
        id: DagId(1),
        revision: 0,
        holds_lock: definition.lock.is_some(),
        definition: Arc::new(definition),
        state: DagState::Ready,
        heading: Heading::Forward,
        operator: Operator::Run,
        signals: Vec::new(),
        nodes,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        ended_at: None,
    }
}

pub(super) fn sub_task(id: i64, agent: AgentAddr) -> SubTask {
    SubTask::new(SubTaskId(id), agent)
}

pub(super) fn at(node: usize, sub: usize) -> At {
    At { node, sub }
}

/// A step made of a closure.
pub(super) struct FnStep<F> {
    pub(super) key: &'static str,
    pub(super) caps: &'static str,
    pub(super) deadline: Duration,
    pub(super) run: F,
}

impl<F> std::fmt::Debug for FnStep<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key)
    }
}

impl<F> Step for FnStep<F>
where
    F: for<'a> Fn(&'a StepCtx) -> BoxFuture<'a, Result<Outcome>> + Send + Sync,
{
    fn spec(&self) -> StepSpec {
        StepSpec { key: self.key, caps: Caps::of(self.caps), deadline: self.deadline }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        (self.run)(ctx)
    }
}

//! A flow as the engine takes it: named nodes with their steps, edges and capabilities, and the lock it needs.
//!
//! Invariant: a [`Definition`] has at least one node, every node at least one target, and edges only from earlier
//! nodes to later ones, so that order in the list is a topological order.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::registry::Registry;
use crate::model::AgentAddr;

/// What may be done to a node; the letters of the specifications' tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// C: after a crash the step runs again, or re-attaches to what it began.
    pub can_continue: bool,
    /// T
    pub can_retry: bool,
    /// X
    pub can_cancel: bool,
    /// P
    pub can_pass: bool,
    /// B
    pub can_rollback: bool,
}

impl Caps {
    /// From the letters `C T X P B` in any order, as the specifications write them.
    pub const fn of(letters: &str) -> Self {
        let letters = letters.as_bytes();
        let mut caps = Self {
            can_continue: false,
            can_retry: false,
            can_cancel: false,
            can_pass: false,
            can_rollback: false,
        };
        let mut at = 0;
        while at < letters.len() {
            match letters[at] {
                b'C' => caps.can_continue = true,
                b'T' => caps.can_retry = true,
                b'X' => caps.can_cancel = true,
                b'P' => caps.can_pass = true,
                b'B' => caps.can_rollback = true,
                _ => panic!("capabilities are the letters C, T, X, P and B"),
            }
            at += 1;
        }
        caps
    }
}

/// What becomes of a step that was running when the agent died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interruption {
    /// Runs again; it looks first whether its goal is already true, and at what it noted.
    Rerun,
    /// Cannot know what it did: fails, with a text that says so.
    Fail,
}

/// The maintenance lock of this host, and how long a resting DAG may keep it unattended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// A DAG that rests (waits, or has failed) gives the lock back after this many seconds without renewal by its
    /// coordinator. `None`: only an operator ends it.
    pub lease_secs: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeDef {
    pub name: String,
    /// Key into the [`Registry`]. A rename is a change of the stored format.
    pub step: String,
    /// Indices of the nodes that must have succeeded before.
    pub upstreams: Vec<usize>,
    /// One sub-task each.
    pub targets: Vec<AgentAddr>,
    pub is_parallel: bool,
    /// At most so many of its sub-tasks execute at a time, forwards and backwards; the next begins when one ends. After a
    /// failure none begins. `None`: all at once.
    #[serde(default)]
    pub at_most: Option<usize>,
    /// Before it begins, a pause or an abort takes effect. Not for a node that runs always.
    #[serde(default)]
    pub is_safe_point: bool,
    /// A DAG that waits here goes on when its lease ends, instead of being passed. The step sees the signal
    /// [`super::run::LEASE_OVER`] and must not wait again.
    #[serde(default)]
    pub goes_on_by_lease: bool,
    /// Runs when everything before it has settled, also after a failure or a cancel: it releases what the DAG
    /// holds elsewhere.
    pub is_always: bool,
    /// When this node fails, the DAG gives its lock back (`failure_exit_maintenance`).
    pub releases_lock_on_failure: bool,
    pub caps: Caps,
    pub on_interruption: Interruption,
    /// For one execution, from its start, crashes included.
    pub deadline_secs: u64,
}

/// Everything about a DAG that never changes. Stored once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    pub name: String,
    /// The flow it was made by; tells flows apart where names may repeat.
    pub flow: String,
    pub nodes: Vec<NodeDef>,
    /// The flow's own `Params`, as JSON. Never holds a secret in clear.
    pub params: Value,
    pub lock: Option<Lock>,
    /// Generic id of the DAG that coordinates this one.
    pub main_dag: Option<String>,
}

impl Definition {
    /// Topological level of each node, from 1: the `stage` of v1.
    pub fn levels(&self) -> Vec<usize> {
        let mut levels: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let before = node.upstreams.iter().map(|up| levels[*up]).max().unwrap_or(0);
            levels.push(before + 1);
        }
        levels
    }

    /// Every node that comes after the given one, directly or not.
    pub fn descendants(&self, index: usize) -> Vec<usize> {
        let mut found = vec![index];
        for (at, node) in self.nodes.iter().enumerate().skip(index + 1) {
            if node.upstreams.iter().any(|up| found.contains(up)) {
                found.push(at);
            }
        }
        found.split_off(1)
    }

    fn validate(&self) -> Result<(), TemplateError> {
        if self.nodes.is_empty() {
            return Err(TemplateError::Empty);
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if node.targets.is_empty() {
                return Err(TemplateError::NoTarget(node.name.clone()));
            }
            if node.upstreams.iter().any(|up| *up >= at) {
                return Err(TemplateError::Edge(node.name.clone()));
            }
            if node.at_most == Some(0) {
                return Err(TemplateError::NoRoom(node.name.clone()));
            }
        }
        Ok(())
    }
}

/// A flow that cannot be a DAG. Always a defect of the flow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a DAG needs a node")]
    Empty,
    #[error("node '{0}' has no agent to run on")]
    NoTarget(String),
    #[error("node '{0}' comes before one of its upstreams")]
    Edge(String),
    #[error("node '{0}' may run none of its sub-tasks at a time")]
    NoRoom(String),
    #[error("no step is registered under '{0}'")]
    UnknownStep(String),
}

/// Builds a [`Definition`], node by node.
#[derive(Clone, Debug)]
pub struct Template {
    name: String,
    flow: &'static str,
    nodes: Vec<Planned>,
    params: Value,
    lock: Option<Lock>,
    releases_lock_on_failure: bool,
    main_dag: Option<String>,
}

#[derive(Clone, Debug)]
struct Planned {
    name: String,
    step: &'static str,
    upstreams: Vec<usize>,
    targets: Vec<AgentAddr>,
    is_parallel: bool,
    is_always: bool,
    at_most: Option<usize>,
    is_safe_point: bool,
    goes_on_by_lease: bool,
    /// Instead of the step's own.
    deadline: Option<Duration>,
}

impl Template {
    pub fn new(flow: &'static str, name: impl Into<String>, params: Value) -> Self {
        Self {
            name: name.into(),
            flow,
            nodes: Vec::new(),
            params,
            lock: None,
            releases_lock_on_failure: false,
            main_dag: None,
        }
    }

    /// Takes the maintenance lock of this host with the DAG.
    #[must_use]
    pub fn locked(mut self, lease_secs: Option<u64>) -> Self {
        self.lock = Some(Lock { lease_secs });
        self
    }

    /// A failure gives the lock back at once: there is nothing half done that it would protect.
    #[must_use]
    pub fn releases_lock_on_failure(mut self) -> Self {
        self.releases_lock_on_failure = true;
        self
    }

    #[must_use]
    pub fn coordinated_by(mut self, main_dag: impl Into<String>) -> Self {
        self.main_dag = Some(main_dag.into());
        self
    }

    /// The next stage: one step on one agent, after everything before it.
    #[must_use]
    pub fn then(self, step: &'static str, name: impl Into<String>, target: AgentAddr) -> Self {
        self.push(step, name.into(), vec![target], false, false)
    }

    /// The next stage: the same step once per agent.
    #[must_use]
    pub fn then_on_each(self, step: &'static str, name: impl Into<String>, targets: &[AgentAddr]) -> Self {
        self.push(step, name.into(), targets.to_vec(), true, false)
    }

    /// The same, at most so many at a time; `None` is all at once.
    #[must_use]
    pub fn then_split(
        self,
        step: &'static str,
        name: impl Into<String>,
        targets: &[AgentAddr],
        at_most: Option<usize>,
    ) -> Self {
        self.then_on_each(step, name, targets).changing_last(|node| node.at_most = at_most)
    }

    /// The last stage: runs whatever happened before.
    #[must_use]
    pub fn finally(self, step: &'static str, name: impl Into<String>, target: AgentAddr) -> Self {
        self.push(step, name.into(), vec![target], false, true)
    }

    fn push(
        mut self,
        step: &'static str,
        name: String,
        targets: Vec<AgentAddr>,
        is_parallel: bool,
        is_always: bool,
    ) -> Self {
        let upstreams = self.nodes.len().checked_sub(1).into_iter().collect();
        self.nodes.push(Planned {
            name,
            step,
            upstreams,
            targets,
            is_parallel,
            is_always,
            at_most: None,
            is_safe_point: false,
            goes_on_by_lease: false,
            deadline: None,
        });
        self
    }

    /// Of the last stage so far: a pause or an abort takes effect before it.
    #[must_use]
    pub fn safe_point(self) -> Self {
        self.changing_last(|node| node.is_safe_point = true)
    }

    /// Of the last stage so far: so long for one execution, in whole seconds, instead of what its step says.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        self.changing_last(|node| node.deadline = Some(deadline))
    }

    /// Of the last stage so far: who waits there goes on when the lease ends.
    #[must_use]
    pub fn goes_on_by_lease(self) -> Self {
        self.changing_last(|node| node.goes_on_by_lease = true)
    }

    fn changing_last(mut self, change: impl FnOnce(&mut Planned)) -> Self {
        if let Some(node) = self.nodes.last_mut() {
            change(node);
        }
        self
    }

    /// Names of the nodes, in order.
    pub fn node_names(&self) -> Vec<&str> {
        self.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    /// # Errors
    /// [`TemplateError`] when the flow has a defect.
    pub fn define(self, registry: &Registry) -> Result<Definition, TemplateError> {
        let Self { name, flow, nodes, params, lock, releases_lock_on_failure, main_dag } = self;
        let mut defined = Vec::with_capacity(nodes.len());
        for node in nodes {
            let spec = registry
                .get(node.step)
                .ok_or_else(|| TemplateError::UnknownStep(node.step.to_owned()))?
                .spec();
            defined.push(NodeDef {
                name: node.name,
                step: node.step.to_owned(),
                upstreams: node.upstreams,
                targets: node.targets,
                is_parallel: node.is_parallel,
                at_most: node.at_most,
                is_safe_point: node.is_safe_point,
                goes_on_by_lease: node.goes_on_by_lease,
                is_always: node.is_always,
                releases_lock_on_failure,
                caps: spec.caps,
                on_interruption: if spec.caps.can_continue {
                    Interruption::Rerun
                } else {
                    Interruption::Fail
                },
                deadline_secs: node.deadline.unwrap_or(spec.deadline).as_secs(),
            });
        }
        let definition = Definition { name, flow: flow.to_owned(), nodes: defined, params, lock, main_dag };
        definition.validate()?;
        Ok(definition)
    }
}

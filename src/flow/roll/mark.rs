//! Which objects a task has under way, and the word for it (`ocp-v2.md` §5.1): a pure reading of the task's own stored state.

use super::params::{Block, Params, Verb};
use crate::cluster::status::{Mark, Object, Status};
use crate::engine::{NodeState, Snapshot};
use crate::model::Scope;

/// These stand for the whole task, not for one of its blocks.
const WHOLE: [&str; 5] = ["roll.prepare", "roll.sync", "roll.tenants", "roll.cluster_status", "roll.end"];

/// Nothing for a task that rests: then things are what they are.
pub fn marks(task: &str, snapshot: &Snapshot, params: &Params) -> Vec<Mark> {
    if snapshot.state.is_at_rest() {
        return Vec::new();
    }
    let mark = |object, status| Mark { object, status, task: task.to_owned() };
    let word = match params.verb {
        Verb::Start => Status::Starting,
        Verb::Stop => Status::Stopping,
        Verb::Restart => Status::Restarting,
    };
    let is_server = matches!(&params.scope, Scope::Server(_));
    let mut marks =
        vec![mark(Object::Cluster, if params.scope == Scope::Global { word } else { Status::Operating })];
    for block in params.blocks.iter().filter(|block| is_under_way(snapshot, params, block)) {
        let zone = if is_server { Status::Operating } else { word };
        marks.extend(block.zones.iter().map(|name| mark(Object::Zone(name.clone()), zone)));
        marks.extend(block.hands.iter().map(|hand| mark(Object::Server(hand.server), word)));
    }
    marks
}

/// Its turn has come and is not over. What is one block is under way as long as its task.
fn is_under_way(snapshot: &Snapshot, params: &Params, block: &Block) -> bool {
    if params.blocks.len() == 1 {
        return true;
    }
    let nodes = snapshot.nodes.iter().zip(&snapshot.definition.nodes).filter(|(_, def)| {
        let is_of_block = def.targets.iter().any(|agent| block.hands.iter().any(|hand| hand.agent == *agent));
        is_of_block && !WHOLE.contains(&def.step.as_str())
    });
    let states: Vec<_> = nodes.map(|(node, _)| node.state()).collect();
    let has_begun = states.iter().any(|state| *state != NodeState::Pending);
    let is_over = states.iter().all(|state| matches!(state, NodeState::Succeeded | NodeState::Passed));
    has_begun && !is_over
}

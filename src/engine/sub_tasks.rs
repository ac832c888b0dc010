//! The sub-tasks of a node, shared by all snapshots that have them in common.
//!
//! A DAG over many agents is copied with every change of one sub-task; what is copied is a pointer for each node, the pointers of the one
//! node, and the one sub-task.

use std::ops::Index;
use std::sync::Arc;

use super::snapshot::SubTask;

/// In the order of the node's targets. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubTasks(Arc<Vec<Arc<SubTask>>>);

impl SubTasks {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &SubTask> + ExactSizeIterator {
        self.0.iter().map(|sub| &**sub)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, sub: SubTask) {
        Arc::make_mut(&mut self.0).push(Arc::new(sub));
    }

    /// One of them, to be changed; other snapshots keep it as it was.
    pub(super) fn change(&mut self, index: usize) -> &mut SubTask {
        Arc::make_mut(&mut Arc::make_mut(&mut self.0)[index])
    }

    /// Those of them that are so, to be changed.
    pub(super) fn change_all(
        &mut self,
        is_so: impl Fn(&SubTask) -> bool,
    ) -> impl Iterator<Item = &mut SubTask> {
        let meant = if self.iter().any(&is_so) { Arc::make_mut(&mut self.0).as_mut_slice() } else { &mut [] };
        meant.iter_mut().filter(move |sub| is_so(sub)).map(Arc::make_mut)
    }
}

impl Index<usize> for SubTasks {
    type Output = SubTask;

    fn index(&self, index: usize) -> &SubTask {
        &self.0[index]
    }
}

impl FromIterator<SubTask> for SubTasks {
    fn from_iter<I: IntoIterator<Item = SubTask>>(subs: I) -> Self {
        Self(Arc::new(subs.into_iter().map(Arc::new).collect()))
    }
}

impl From<Vec<SubTask>> for SubTasks {
    fn from(subs: Vec<SubTask>) -> Self {
        subs.into_iter().collect()
    }
}

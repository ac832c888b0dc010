//! What is asked all the time and changes seldom: kept until the next commit, whatever that changes.
//!
//! Invariant: it is never older than the last commit that anybody was told of. The number of commits is read before the
//! transaction that reads the value, and is moved before a commit is told.

use std::sync::Mutex;

/// A value with the number of commits it was read after.
#[derive(Debug)]
pub(super) struct Memo<T>(Mutex<Option<(u64, T)>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Memo<T> {
    pub(super) fn get(&self, commits: u64) -> Option<T> {
        let kept = self.0.lock().expect("no holder of this lock panics");
        kept.as_ref().filter(|(at, _)| *at == commits).map(|(_, value)| value.clone())
    }

    pub(super) fn put(&self, commits: u64, value: T) {
        *self.0.lock().expect("no holder of this lock panics") = Some((commits, value));
    }
}

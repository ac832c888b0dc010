//! Everything that happens by chance, from one number: the same number, the same world.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A generator that all of a world share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Chance {
    state: Arc<Mutex<u64>>,
    /// Nothing is left to chance: everything takes no time and nothing goes wrong by itself.
    is_calm: Arc<AtomicBool>,
    /// Invariants that were broken. (A panic would be caught by the agent, which takes it for a failed step.)
    violations: Arc<Mutex<Vec<String>>>,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)),
            is_calm: Arc::default(),
            violations: Arc::default(),
        }
    }

    pub(crate) fn calm() -> Self {
        Self {
            state: Arc::new(Mutex::new(1)),
            is_calm: Arc::new(AtomicBool::new(true)),
            violations: Arc::default(),
        }
    }

    /// From now on nothing goes wrong by itself.
    pub(crate) fn calm_down(&self) {
        self.is_calm.store(true, Ordering::SeqCst);
    }

    fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::SeqCst)
    }

    pub(crate) fn violated(&self, what: &str) {
        self.violations.lock().unwrap().push(what.to_owned());
    }

    /// # Panics
    /// When an invariant was broken.
    pub(crate) fn check(&self) {
        let violations = self.violations.lock().unwrap();
        assert!(violations.is_empty(), "{violations:#?}");
    }

    /// xorshift64*
    fn next(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 up to, and without, `end`.
    pub(crate) fn below(&self, end: u64) -> u64 {
        if self.is_calm() || end == 0 { 0 } else { (self.next() >> 11) % end }
    }

    /// True once in so many.
    pub(crate) fn once_in(&self, many: u64) -> bool {
        !self.is_calm() && self.below(many) == 0
    }

    pub(crate) fn one_of<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.below(items.len() as u64)).unwrap()]
    }

    /// Up to so many milliseconds pass.
    pub(crate) async fn pause(&self, most_millis: u64) {
        let millis = self.below(most_millis + 1);
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}

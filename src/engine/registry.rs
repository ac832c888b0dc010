//! Step key → step. Filled once at start; the keys are part of the stored format.

use std::collections::HashMap;
use std::sync::Arc;

use super::step::Step;

#[derive(Clone, Debug, Default)]
pub struct Registry {
    steps: HashMap<&'static str, Arc<dyn Step>>,
}

impl Registry {
    /// # Panics
    /// When two steps claim one key: a defect that shows at the first start.
    pub fn add(&mut self, step: impl Step + 'static) {
        let key = step.spec().key;
        let before = self.steps.insert(key, Arc::new(step));
        assert!(before.is_none(), "two steps are registered under {key}");
    }

    pub fn get(&self, key: &str) -> Option<&Arc<dyn Step>> {
        self.steps.get(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.steps.keys().copied()
    }
}

//! Blocks of accepted headers, until they expire: a header that brings one back is refused (W2, W10).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::header::BlockHash;

/// Blocks remembered at most: 25,000 requests of four blocks within an hour. Beyond that the ones that expire first give
/// way.
const BLOCKS_MAX: usize = 100_000;

/// Time is a parameter: Unix seconds.
#[derive(Debug, Default)]
pub struct Seen {
    blocks: HashMap<BlockHash, i64>,
    by_expiry: BTreeMap<i64, HashSet<BlockHash>>,
}

impl Seen {
    /// True when none of the blocks was seen; then they are remembered until `ts` (inclusive). Only for headers that were
    /// accepted: strangers cannot fill it.
    pub fn admit(&mut self, blocks: &[BlockHash], ts: i64, now: i64) -> bool {
        self.forget(now);
        if blocks.iter().any(|block| self.blocks.contains_key(block)) {
            return false;
        }
        for block in blocks {
            self.remember(*block, ts);
        }
        true
    }

    /// Takes up what the store has kept over a restart.
    pub fn restore(&mut self, blocks: impl IntoIterator<Item = (BlockHash, i64)>) {
        for (block, ts) in blocks {
            self.remember(block, ts);
        }
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    fn remember(&mut self, block: BlockHash, ts: i64) {
        if self.blocks.len() >= BLOCKS_MAX
            && let Some((_, oldest)) = self.by_expiry.pop_first()
        {
            for block in oldest {
                self.blocks.remove(&block);
            }
        }
        self.blocks.insert(block, ts);
        self.by_expiry.entry(ts).or_default().insert(block);
    }

    fn forget(&mut self, now: i64) {
        while let Some(entry) = self.by_expiry.first_entry()
            && *entry.key() < now
        {
            for block in entry.remove() {
                self.blocks.remove(&block);
            }
        }
    }
}

//! Blocks of accepted headers, until they expire: a header that brings one back is refused (W2, W10).
//!
//! A header of scheme v1 may be valid for centuries. Such *lasting* blocks are kept as long as the key under which they were
//! sealed, and when there are too many of them, a new key ends them all: nothing is forgotten that would still open.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::header::BlockHash;
use crate::config::HEADER_LIFETIME_SECS_MAX;

/// Blocks with an end that are remembered at most: 25,000 requests of four blocks within an hour. Beyond that the ones that
/// expire first give way.
const BLOCKS_MAX: usize = 100_000;

/// Lasting blocks at most: 50,000 requests of the Go SDK under v1, about 5 MB.
const LASTING_MAX: usize = 100_000;

/// Blocks that expire further ahead than this are lasting. Of v2 and v3 there are none.
pub const LASTING_FROM: std::time::Duration = std::time::Duration::from_secs(HEADER_LIFETIME_SECS_MAX as u64);

/// Time is a parameter: Unix seconds.
#[derive(Debug, Default)]
pub struct Seen {
    blocks: HashMap<BlockHash, i64>,
    by_expiry: BTreeMap<i64, HashSet<BlockHash>>,
    lasting: HashSet<BlockHash>,
}

impl Seen {
    /// True when none of the blocks was seen; then they are remembered until `ts` (inclusive). Only for headers that were
    /// accepted: strangers cannot fill it. False also for lasting ones when there is no room for them.
    pub fn admit(&mut self, blocks: &[BlockHash], ts: i64, now: i64) -> bool {
        self.forget(now);
        let is_seen = |block| self.blocks.contains_key(block) || self.lasting.contains(block);
        if blocks.iter().any(is_seen) || (is_lasting(ts, now) && self.is_full()) {
            return false;
        }
        self.restore(blocks.iter().map(|block| (*block, ts)), now);
        true
    }

    /// Takes up what the store has kept over a restart.
    pub fn restore(&mut self, blocks: impl IntoIterator<Item = (BlockHash, i64)>, now: i64) {
        for (block, ts) in blocks {
            if is_lasting(ts, now) {
                self.lasting.insert(block);
            } else {
                self.remember(block, ts);
            }
        }
    }

    /// No room for lasting blocks: the key is to be replaced.
    pub fn is_full(&self) -> bool {
        self.lasting.len() >= LASTING_MAX
    }

    /// The key was replaced: whatever was sealed with the one before opens no more.
    pub fn forget_lasting(&mut self) {
        self.lasting.clear();
    }

    pub fn len(&self) -> usize {
        self.blocks.len() + self.lasting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

fn is_lasting(ts: i64, now: i64) -> bool {
    ts > now.saturating_add(i64::from(HEADER_LIFETIME_SECS_MAX))
}

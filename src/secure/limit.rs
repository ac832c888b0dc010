//! How often strangers may fail: per address, and per key. Pure; time is a parameter.

use std::collections::HashMap;
use std::net::IpAddr;

/// Addresses remembered at most; beyond that the table begins anew, which only gives strangers another chance.
const SOURCES_MAX: usize = 10_000;

const WINDOW_SECS: i64 = 60;

/// Failures per address within a minute.
#[derive(Debug)]
pub struct Limiter {
    most: u32,
    sources: HashMap<IpAddr, (i64, u32)>,
}

impl Limiter {
    pub fn new(failures_per_minute_max: u32) -> Self {
        Self { most: failures_per_minute_max, sources: HashMap::new() }
    }

    /// Whether an address may try now.
    pub fn may_try(&self, source: IpAddr, now: i64) -> bool {
        match self.sources.get(&source) {
            Some((since, failures)) => now - since >= WINDOW_SECS || *failures < self.most,
            None => true,
        }
    }

    pub fn failed(&mut self, source: IpAddr, now: i64) {
        if self.sources.len() >= SOURCES_MAX {
            self.sources.retain(|_, (since, _)| now - *since < WINDOW_SECS);
            if self.sources.len() >= SOURCES_MAX {
                self.sources.clear();
            }
        }
        let entry = self.sources.entry(source).or_insert((now, 0));
        if now - entry.0 >= WINDOW_SECS {
            *entry = (now, 0);
        }
        entry.1 += 1;
    }
}

/// Openings that may fail under one key: an oracle needs tens of thousands (W8).
#[derive(Debug)]
pub struct Budget {
    most: u32,
    spent: u32,
}

impl Budget {
    pub fn new(failed_openings_max: u32) -> Self {
        Self { most: failed_openings_max, spent: 0 }
    }

    /// Counts a failed opening; true when the key must be replaced now. Then the budget begins anew.
    pub fn spend(&mut self) -> bool {
        self.spent += 1;
        let is_over = self.spent > self.most;
        if is_over {
            self.spent = 0;
        }
        is_over
    }
}

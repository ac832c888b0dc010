//! How often strangers may fail: per address, and per key. Pure; time is a parameter.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

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
        match self.sources.get(&one_of(source)) {
            Some((since, failures)) => now - since >= WINDOW_SECS || *failures < self.most,
            None => true,
        }
    }

    /// How often an address may still fail: of so many, so many are left, until so many seconds are over.
    pub fn allowance(&self, source: IpAddr, now: i64) -> (u32, u32, i64) {
        match self.sources.get(&one_of(source)) {
            Some((since, failures)) if now - since < WINDOW_SECS => {
                (self.most, self.most.saturating_sub(*failures), (since + WINDOW_SECS - now).min(WINDOW_SECS))
            }
            Some(_) | None => (self.most, self.most, WINDOW_SECS),
        }
    }

    pub fn failed(&mut self, source: IpAddr, now: i64) {
        let source = one_of(source);
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

/// A host has a whole network of IPv6 (64 bits) to come from: that counts as one address.
fn one_of(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => source,
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

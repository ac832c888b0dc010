//! Resource limits that a process started by the agent inherits, and kernel limits that databases run into.
//!
//! Not here: which value is too low for a database (`process::preflight`, `process::diagnose`).

use std::fmt;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// A soft limit with its hard one; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

impl Limit {
    pub fn is_below(self, least: u64) -> bool {
        self.soft.is_some_and(|soft| soft < least)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |v| v.to_string());
        write!(f, "{} (hard limit {})", show(self.soft), show(self.hard))
    }
}

/// The limits of this process, which its children get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open files.
    pub nofile: Limit,
    /// Processes and threads of this user.
    pub nproc: Limit,
    /// Size of a core file in bytes.
    pub core: Limit,
}

/// Reads the limits of this process.
pub fn inherited() -> Limits {
    Limits {
        nofile: read(Resource::RLIMIT_NOFILE),
        nproc: read(Resource::RLIMIT_NPROC),
        core: read(Resource::RLIMIT_CORE),
    }
}

fn read(which: Resource) -> Limit {
    let bounded = |value| (value != RLIM_INFINITY).then_some(value);
    // It fails only for a resource that this kernel does not know: then there is no limit.
    let (soft, hard) = getrlimit(which).unwrap_or((RLIM_INFINITY, RLIM_INFINITY));
    Limit { soft: bounded(soft), hard: bounded(hard) }
}

/// Asynchronous I/O requests in use on this host and the most it allows, all processes together.
pub fn aio() -> Option<(u64, u64)> {
    let number =
        |name: &str| std::fs::read_to_string(format!("/proc/sys/fs/{name}")).ok()?.trim().parse::<u64>().ok();
    Some((number("aio-nr")?, number("aio-max-nr")?))
}

/// Where the kernel writes core files (`/proc/sys/kernel/core_pattern`); one that begins with `|` goes to a program.
pub fn core_pattern() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/core_pattern").ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_shown() {
        let limits = inherited();
        assert!(!limits.nofile.is_below(1));
        assert!(limits.nofile.soft <= limits.nofile.hard || limits.nofile.hard.is_none());
        assert!(aio().is_some_and(|(_, most)| most > 0));
        let shown = Limit { soft: Some(1024), hard: None }.to_string();
        assert_eq!(shown, "1024 (hard limit unlimited)");
        assert!(!Limit { soft: None, hard: None }.is_below(u64::MAX));
    }
}

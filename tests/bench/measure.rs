//! What a process costs, as the kernel counts it, and the middle of many times.

use std::time::Duration;

/// Sorted times of one thing that was done many times.
#[derive(Debug, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort();
        Self(times)
    }

    pub(crate) fn median(&self) -> Duration {
        self.at(50)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.at(99)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

pub(crate) fn median(times: Vec<Duration>) -> Duration {
    Times::new(times).median()
}

/// A process, looked at from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched(pub(crate) i32);

impl Watched {
    pub(crate) fn own() -> Self {
        Self(std::process::id().cast_signed())
    }

    fn file(self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.0)).unwrap()
    }

    /// `VmRSS`, in bytes.
    pub(crate) fn resident(self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// `RssAnon`, in bytes: what it has made itself. The rest is files: its own executable, the store.
    pub(crate) fn anonymous(self) -> u64 {
        self.status("RssAnon:") * 1024
    }

    /// `VmHWM`: the most that it ever was, in bytes.
    pub(crate) fn most_resident(self) -> u64 {
        self.status("VmHWM:") * 1024
    }

    pub(crate) fn descriptors(self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0)).unwrap().count()
    }

    pub(crate) fn threads(self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.0)).unwrap().count()
    }

    /// Time on a CPU, user and system, of all its threads, also of those that have ended: to the nanosecond.
    pub(crate) fn cpu(self) -> Duration {
        let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(self.0)).unwrap();
        clock.now().unwrap().into()
    }

    /// How often one of its threads went to sleep by itself: each is followed by a wake-up.
    pub(crate) fn wake_ups(self) -> u64 {
        let of = |thread: std::fs::DirEntry| {
            let text = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            number_after(&text, "voluntary_ctxt_switches:").unwrap_or(0)
        };
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0)).unwrap();
        threads.map(|thread| of(thread.unwrap())).sum()
    }

    fn status(self, name: &str) -> u64 {
        number_after(&self.file("status"), name).unwrap()
    }
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

//! The only file that reads the time.
//!
//! Purpose: whoever decides by time is handed a time; whoever stamps a record holds a [`Clock`].
//!
//! Not here: waiting. Timers are tokio's; a wait has a deadline and a reason where it stands.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Wall clock for records and lifetimes.
pub trait Clock: Send + Sync + Debug {
    fn now(&self) -> Timestamp;

    /// Whole Unix seconds, as header lifetimes count them.
    fn now_secs(&self) -> i64 {
        self.now().as_second()
    }
}

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        Timestamp::now()
    }
}

/// The host's clock.
pub fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Since the host was started, its sleep included: the clock by which the kernel stamps processes.
pub fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// A stop watch on the monotonic clock, for durations that are shown or compared with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    pub fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
        Self(std::time::Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that stands still until it is moved, for tests and simulation.
#[derive(Debug)]
pub struct ManualClock(std::sync::Mutex<Timestamp>);

impl ManualClock {
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self(std::sync::Mutex::new(start)))
    }

    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().expect("no holder of this lock panics");
        *now += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("no holder of this lock panics")
    }
}

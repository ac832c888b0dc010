//! Crash points: places where the test build can be told to die as if by `kill -9`.
//!
//! Purpose: the crash-point matrix (`tests/crash`) runs every flow once per point that the flow reaches:
//! after every commit and before every effect on the world. Points count from the moment the file `OBPILOT_CRASH_ARM`
//! exists, so that the start of the agent does not count. A run with `OBPILOT_CRASH_TRACE=<file>` appends `<point> <n>` for
//! each point reached; a run with `OBPILOT_CRASH=<point>:<n>` kills the process at exactly that one,
//! or, with `OBPILOT_CRASH_HOW=panic`, only the thread that meets it.
//!
//! Invariant: without the feature `crash-points` this compiles to nothing.
//!
//! Not here: failures that are returned (steps are made to fail by their fakes), crashes of the database.

/// Where the process can be made to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The store's writer has committed a transaction and has told nobody yet.
    AfterCommit,
    /// About to start the database process.
    BeforeSpawn,
    /// The launcher has returned, the process is not recorded yet.
    AfterSpawn,
    /// About to send a signal to the database process.
    BeforeSignal,
    /// About to send a statement that changes the database.
    BeforeSql,
    /// A statement that changes the database was accepted, nothing is recorded yet.
    AfterSql,
    /// About to create or remove a file or directory.
    BeforeFile,
    /// About to call another agent.
    BeforePeer,
}

impl Point {
    pub const ALL: [Self; 8] = [
        Self::AfterCommit,
        Self::BeforeSpawn,
        Self::AfterSpawn,
        Self::BeforeSignal,
        Self::BeforeSql,
        Self::AfterSql,
        Self::BeforeFile,
        Self::BeforePeer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::AfterCommit => "after-commit",
            Self::BeforeSpawn => "before-spawn",
            Self::AfterSpawn => "after-spawn",
            Self::BeforeSignal => "before-signal",
            Self::BeforeSql => "before-sql",
            Self::AfterSql => "after-sql",
            Self::BeforeFile => "before-file",
            Self::BeforePeer => "before-peer",
        }
    }
}

/// The file beside `OBPILOT_CRASH_ARM` that is made by whoever comes first: the process at its chosen point, or the test that
/// waits for that no longer.
#[cfg(feature = "crash-points")]
pub fn said_at(armed: &str) -> String {
    format!("{armed}-said")
}

/// Dies here if this is the chosen point and it is reached for the chosen time.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_point: Point) {}

#[cfg(feature = "crash-points")]
pub use armed::point;

#[cfg(feature = "crash-points")]
mod armed {
    use std::io::Write as _;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Point;

    static HITS: [AtomicU32; Point::ALL.len()] = [const { AtomicU32::new(0) }; Point::ALL.len()];
    static CHOSEN: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let text = std::env::var("OBPILOT_CRASH").ok()?;
        let (name, number) = text.rsplit_once(':')?;
        Some((name.to_owned(), number.parse().ok()?))
    });
    static TRACE: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("OBPILOT_CRASH_TRACE").ok());
    static IS_PANIC: LazyLock<bool> =
        LazyLock::new(|| std::env::var("OBPILOT_CRASH_HOW").is_ok_and(|how| how == "panic"));
    static ARM: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("OBPILOT_CRASH_ARM").ok());

    /// See the module.
    pub fn point(point: Point) {
        if ARM.as_deref().is_some_and(|file| !std::path::Path::new(file).exists()) {
            return;
        }
        let index = Point::ALL.iter().position(|p| *p == point).expect("ALL lists every point");
        let number = HITS[index].fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(path) = TRACE.as_deref() {
            trace(path, point, number);
        }
        let is_chosen = |(name, chosen): &(String, u32)| name == point.name() && *chosen == number;
        if CHOSEN.as_ref().is_some_and(is_chosen) && is_first_to_say() {
            assert!(!*IS_PANIC, "a test ends this thread");
            let own = nix::unistd::Pid::this();
            nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL)
                .expect("a process may kill itself");
        }
    }

    /// Whoever gives a trial up makes the same file: it is met, or it is given up, and both know which.
    fn is_first_to_say() -> bool {
        let Some(armed) = ARM.as_deref() else { return true };
        std::fs::File::create_new(super::said_at(armed)).is_ok()
    }

    fn trace(path: &str, point: Point, number: u32) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.expect("the trace file of a test can be written");
        // In one piece: several points may be reached at once.
        let line = format!("{} {number}\n", point.name());
        file.write_all(line.as_bytes()).expect("the trace file of a test can be written");
    }
}

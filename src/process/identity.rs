//! Is this pid the database of this home?
//!
//! Invariant: a process is ours by what the kernel says of it — executable, working directory, owner — and by the
//! lock it holds, never by what a file says. Everything about one pid is read through one open `/proc/PID`, so that a
//! pid that is used again in between gives an error and no mixture.
//!
//! Not here: where candidates come from (`find`).

use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use procfs::ProcError;
use procfs::process::{Process, Stat};

use crate::clock;

/// A process for good: a recycled pid has another start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ident {
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_ticks: u64,
}

impl Ident {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { pid: stat.pid, start_ticks: stat.starttime }
    }
}

/// What the database process of this home looks like.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// As configured; resolved at each look, because an upgrade moves links.
    pub binary: Utf8PathBuf,
    /// As configured; resolved likewise.
    pub home: Utf8PathBuf,
    /// File names under which the engine's executables go.
    pub names: &'static [&'static str],
}

/// What a look at one pid gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The executable is the configured one and it works in this home.
    Ours(Ident),
    /// It works in this home under the engine's name, but from another file. Ours only if it holds the lock.
    Kin(Ident, String),
    /// It is ending: its memory is gone, some thread or the parent still holds it.
    Dying(Ident),
    /// A zombie, or no such process.
    Gone,
    /// Something else, with what it is.
    Foreign(String),
    /// It exists and may not be looked at.
    Hidden(String),
}

/// Looks at one pid.
pub(super) fn examine(pid: i32, expected: &Expected) -> Seen {
    let process = match Process::new(pid) {
        Ok(process) => process,
        Err(error) => return unreadable(pid, &error),
    };
    let (stat, exe, cwd) = match (process.stat(), process.exe(), process.cwd()) {
        (Err(error), _, _) => return unreadable(pid, &error),
        (Ok(stat), exe, cwd) => (stat, exe, cwd),
    };
    let ident = Ident::of(&stat);
    match stat.state {
        // The first thread has ended; the process ends with the last one.
        'Z' if stat.num_threads > 1 => return Seen::Dying(ident),
        'Z' | 'X' | 'x' => return Seen::Gone,
        _ => {}
    }
    let (exe, cwd) = match (exe, cwd) {
        (Ok(exe), Ok(cwd)) => (exe, cwd),
        (Err(ProcError::NotFound(_)), _) | (_, Err(ProcError::NotFound(_))) => {
            // Kernel threads have no executable either, but they have no lock and no name of ours.
            return if expected.has_name(&stat.comm) { Seen::Dying(ident) } else { Seen::Foreign(stat.comm) };
        }
        (Err(error), _) | (_, Err(error)) => return unreadable(pid, &error),
    };
    let exe = exe.to_string_lossy().into_owned();
    let exe = exe.strip_suffix(" (deleted)").unwrap_or(&exe);
    judge(ident, Utf8Path::new(exe), &cwd.to_string_lossy(), expected)
}

fn judge(ident: Ident, exe: &Utf8Path, cwd: &str, expected: &Expected) -> Seen {
    let what = format!("{exe} in {cwd}");
    // Somebody has removed the home under the running database: it is still that database, and nothing to start beside.
    let is_orphaned = cwd.strip_suffix(" (deleted)").is_some_and(|cwd| cwd == expected.home);
    if is_orphaned && exe.file_name().is_some_and(|name| expected.has_name(name)) {
        return Seen::Kin(ident, what);
    }
    if cwd != resolved(&expected.home) {
        return Seen::Foreign(what);
    }
    if exe == resolved(&expected.binary) || *exe == expected.binary {
        return Seen::Ours(ident);
    }
    if exe.file_name().is_some_and(|name| expected.has_name(name)) {
        return Seen::Kin(ident, what);
    }
    Seen::Foreign(what)
}

impl Expected {
    /// `comm` holds at most 15 bytes of the name.
    pub(super) fn has_name(&self, name: &str) -> bool {
        let configured = self.binary.file_name();
        self.names
            .iter()
            .copied()
            .chain(configured)
            .any(|known| known == name || known.get(..15) == Some(name))
    }
}

fn resolved(path: &Utf8Path) -> Utf8PathBuf {
    path.canonicalize_utf8().unwrap_or_else(|_| path.to_owned())
}

fn unreadable(pid: i32, error: &ProcError) -> Seen {
    if is_gone(error) { Seen::Gone } else { Seen::Hidden(format!("/proc/{pid} cannot be read: {error}")) }
}

/// There is no such process any more.
fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => error.raw_os_error() == Some(nix::libc::ESRCH),
        ProcError::PermissionDenied(_)
        | ProcError::Incomplete(_)
        | ProcError::Other(_)
        | ProcError::InternalError(_) => false,
    }
}

/// Whether a process has ended, reaped or not. What cannot be read has not.
pub(super) fn has_ended(ident: Ident) -> bool {
    match Process::new(ident.pid).and_then(|process| process.stat()) {
        // The first thread of a process may end before the others.
        Ok(stat) => Ident::of(&stat) != ident || stat.state == 'Z' && stat.num_threads <= 1,
        Err(error) => is_gone(&error),
    }
}

/// When a process started.
///
/// # Errors
/// When the kernel's boot time cannot be read.
pub(super) fn started_at(ident: Ident) -> io::Result<crate::model::Timestamp> {
    let boot_secs = procfs::boot_time_secs().map_err(io::Error::other)?;
    let ticks = procfs::ticks_per_second();
    let millis = boot_secs * 1000 + ident.start_ticks * 1000 / ticks;
    crate::model::Timestamp::from_millisecond(millis.try_into().unwrap_or(i64::MAX)).map_err(io::Error::other)
}

/// How long a process has lived, whatever was done to the wall clock meanwhile. `None` where only an earlier life of the host can
/// have had it.
pub fn age(server: &crate::model::ServerProcess) -> Option<Duration> {
    let ticks = u32::try_from(procfs::ticks_per_second()).unwrap_or(u32::MAX);
    let began = Duration::from_secs(server.start_ticks) / ticks;
    clock::since_boot().checked_sub(began)
}

/// Signals blocked by the process: a set bit `n - 1` is signal `n`. `None` when it cannot be read.
pub(super) fn blocked_signals(ident: Ident) -> Option<u64> {
    let process = Process::new(ident.pid).ok()?;
    let is_same = process.stat().is_ok_and(|stat| Ident::of(&stat) == ident);
    process.status().ok().filter(|_| is_same).map(|status| status.sigblk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(binary: &str, home: &Utf8Path) -> Expected {
        Expected { binary: binary.into(), home: home.to_owned(), names: &["seekdb"] }
    }

    fn own() -> (i32, String, Utf8PathBuf) {
        let exe = std::env::current_exe().unwrap();
        let cwd = Utf8PathBuf::from_path_buf(std::env::current_dir().unwrap()).unwrap();
        (std::process::id().cast_signed(), exe.to_str().unwrap().to_owned(), cwd)
    }

    #[test]
    fn a_process_is_ours_by_executable_and_directory() {
        let (pid, exe, cwd) = own();
        assert!(matches!(examine(pid, &expected(&exe, &cwd)), Seen::Ours(i) if i.pid == pid));
        let seen = examine(pid, &expected(&exe, Utf8Path::new("/")));
        assert!(matches!(&seen, Seen::Foreign(what) if what.contains(&exe)), "{seen:?}");
        assert!(matches!(examine(pid, &expected("/bin/other", &cwd)), Seen::Foreign(_)));
    }

    #[test]
    fn the_same_name_from_another_file_is_only_kin() {
        let ident = Ident { pid: 1, start_ticks: 1 };
        let dir = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(dir.path()).unwrap();
        let home = home.canonicalize_utf8().unwrap();
        let expected = expected("/opt/new/seekdb", &home);
        let judge = |exe: &str| judge(ident, Utf8Path::new(exe), home.as_str(), &expected);
        assert_eq!(judge("/opt/new/seekdb"), Seen::Ours(ident));
        assert!(matches!(judge("/opt/old/seekdb"), Seen::Kin(..)));
        let removed = format!("{home} (deleted)");
        assert!(matches!(
            super::judge(ident, Utf8Path::new("/opt/new/seekdb"), &removed, &expected),
            Seen::Kin(..)
        ));
        assert!(matches!(judge("/usr/bin/vim"), Seen::Foreign(_)));
    }

    #[test]
    fn homes_and_binaries_are_compared_behind_their_links() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap().canonicalize_utf8().unwrap();
        crate::host::files::create_dirs(&dir.join("real"), 0o755).unwrap();
        crate::host::files::link(&dir.join("real"), &dir.join("home")).unwrap();
        crate::host::files::link(Utf8Path::new("/usr/bin/env"), &dir.join("seekdb")).unwrap();
        let ident = Ident { pid: 1, start_ticks: 1 };
        let expected = Expected { binary: dir.join("seekdb"), home: dir.join("home"), names: &["seekdb"] };
        let exe = Utf8Path::new("/usr/bin/env").canonicalize_utf8().unwrap();
        assert_eq!(judge(ident, &exe, dir.join("real").as_str(), &expected), Seen::Ours(ident));
    }

    #[test]
    fn nobody_is_gone_and_pid_1_is_not_ours() {
        let (_, exe, cwd) = own();
        assert_eq!(examine(i32::MAX, &expected(&exe, &cwd)), Seen::Gone);
        assert!(matches!(examine(1, &expected(&exe, &cwd)), Seen::Foreign(_) | Seen::Hidden(_)));
    }

    #[test]
    fn names_are_cut_as_the_kernel_cuts_them() {
        let expected = expected("/x/a-very-long-engine-name", Utf8Path::new("/"));
        assert!(expected.has_name("a-very-long-eng"));
        assert!(expected.has_name("seekdb"));
        assert!(!expected.has_name("seek"));
    }

    #[test]
    fn an_end_is_seen_before_anybody_has_waited_for_it() {
        let stat = Process::myself().unwrap().stat().unwrap();
        let own = Ident::of(&stat);
        assert!(!has_ended(own));
        assert!(has_ended(Ident { start_ticks: own.start_ticks + 1, ..own }), "another life of that number");
        assert!(has_ended(Ident { pid: i32::MAX, ..own }), "nobody");
    }

    #[test]
    fn the_start_of_a_process_lies_between_boot_and_now() {
        let stat = Process::myself().unwrap().stat().unwrap();
        let started = started_at(Ident::of(&stat)).unwrap();
        let now = crate::clock::system().now();
        assert!(started <= now + jiff::SignedDuration::from_secs(1), "{started} {now}");
        assert!(blocked_signals(Ident::of(&stat)).is_some());
        assert_eq!(blocked_signals(Ident { start_ticks: 1, ..Ident::of(&stat) }), None);
    }
}

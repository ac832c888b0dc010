//! Why a life ended or does not get ready: everything that can be known about it, in one object.
//!
//! Purpose: what a person would look up one by one at night, gathered at the moment when it is still there.
//!
//! Invariant: gathering changes nothing, ends, and never fails: what cannot be read is left out.
//!
//! Not here: which causes these facts have (`causes`).

use camino::{Utf8Path, Utf8PathBuf};
use nix::libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};

use super::causes::{self, Evidence};
use super::engine::{Options, option};
use super::identity::Ident;
use super::instance::Instance;
use super::log;
use super::record::Record;
use crate::host::memory::OomCounts;
use crate::host::{disk, kernel_log, limits};
use crate::model::{Diagnosis, Exit, LogMark, Timestamp};

/// Below this a database hangs rather than starts.
const DISK_IS_FULL_BYTES: u64 = 64 << 20;
const NOFILE_SUSPICIOUS: u64 = 10_240;
const NPROC_SUSPICIOUS: u64 = 4_096;

/// What is asked about.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// Absent where a launcher gave no process.
    pub ident: Option<Ident>,
    pub started_at: Timestamp,
    pub log_from: LogMark,
    pub exit: Option<Exit>,
    /// How the launcher ended, where it did not return 0.
    pub launcher: Option<Exit>,
    /// The agent has sent it a signal.
    pub is_signalled: bool,
    /// The start that this life comes from; empty if it was not ours.
    pub record: Record,
    /// Version of the executable, where it was asked for.
    pub program_version: Option<String>,
}

/// Gathers. It reads files of up to some ten MB: call it off the async threads.
pub(super) fn gather(instance: &Instance, subject: &Subject) -> Diagnosis {
    let seen = evidence(instance, subject);
    let oom = seen.oom_named.clone().or_else(|| {
        let was_killed = subject.exit == Some(Exit::Signal(nix::libc::SIGKILL));
        seen.oom_counted.clone().filter(|_| was_killed)
    });
    let exit = match (subject.launcher, subject.exit) {
        (Some(launcher), _) => Some(format!("ended in its launcher, which {launcher}")),
        (None, exit) => exit.map(|exit| exit.to_string()),
    };
    let mut log_lines = seen.log.lines.clone();
    // Without a fatal line the last step says at least how far it came.
    log_lines.extend(seen.log.last_step.clone().filter(|_| seen.log.lines.is_empty() && !seen.log.was_ready));
    let path = instance.log_path();
    Diagnosis {
        exit,
        launcher_output: causes::telling(&seen.output).cloned().collect(),
        oom,
        core: core_file(instance.home(), subject),
        log_lines,
        log_file: path.exists().then_some(path),
        limits: suspicious_limits(subject.exit),
        causes: causes::find(&seen),
    }
}

fn evidence(instance: &Instance, subject: &Subject) -> Evidence {
    let log =
        log::read(&instance.log_path(), &subject.log_from, subject.started_at, instance.engine.ready_words());
    let options = instance.known_options(&subject.record.options);
    let data_version = instance.engine.data_version(instance.home());
    let versions =
        data_version.zip(subject.program_version.clone()).filter(|(data, program)| data != program);
    let own_pid = subject.ident.map(|ident| ident.pid);
    Evidence {
        launcher: subject.launcher,
        output: subject.record.output.clone(),
        exit: subject.exit,
        is_signalled: subject.is_signalled,
        oom_named: subject.ident.and_then(|ident| {
            let ticks = procfs::ticks_per_second();
            kernel_log::oom_kill_of(ident.pid, ident.start_ticks.saturating_mul(1_000_000) / ticks)
        }),
        oom_counted: OomCounts::now().since(subject.record.oom_before),
        taken_ports: instance.taken_ports(&options, own_pid),
        misfits: if subject.record.is_first { instance.misfits(&options) } else { Vec::new() },
        bad_path: instance.path_problem(&options),
        full_disk: full_disk(instance, &options),
        versions,
        is_first: subject.record.is_first,
        options: subject.record.options.clone(),
        log,
    }
}

fn full_disk(instance: &Instance, options: &Options) -> Option<String> {
    let home = instance.home();
    let places = ["data_dir", "redo_dir", "clog_dir"].into_iter().filter_map(|key| option(options, key));
    places.map(|dir| home.join(dir)).chain([home.join("store")]).find_map(|dir| {
        let space = disk::space(&dir).ok()?;
        (space.free_bytes < DISK_IS_FULL_BYTES)
            .then(|| format!("only {} are free for {dir}", disk::human(space.free_bytes)))
    })
}

fn writes_a_core(exit: Option<Exit>) -> bool {
    matches!(exit, Some(Exit::Signal(SIGSEGV | SIGABRT | SIGBUS | SIGFPE | SIGILL)))
}

/// The core file, where the pattern is a plain name in the working directory or a path.
fn core_file(home: &Utf8Path, subject: &Subject) -> Option<Utf8PathBuf> {
    let ident = subject.ident.filter(|_| writes_a_core(subject.exit))?;
    let pattern = limits::core_pattern().filter(|pattern| !pattern.starts_with('|'))?;
    core_candidates(home, &pattern, ident.pid).into_iter().find(|path| {
        let written = std::fs::metadata(path).and_then(|found| found.modified()).ok();
        written.and_then(|at| Timestamp::try_from(at).ok()).is_some_and(|at| at >= subject.started_at)
    })
}

fn core_candidates(home: &Utf8Path, pattern: &str, pid: i32) -> Vec<Utf8PathBuf> {
    // Other specifiers (host, time, name) cannot be known here.
    let name = pattern.replace("%p", &pid.to_string()).replace("%P", &pid.to_string());
    if name.contains('%') {
        return Vec::new();
    }
    let path = home.join(&name);
    // `kernel.core_uses_pid` appends it where the pattern does not name it.
    vec![path.with_file_name(format!("{}.{pid}", path.file_name().unwrap_or_default())), path]
}

fn suspicious_limits(exit: Option<Exit>) -> Vec<String> {
    let limits = limits::inherited();
    let mut found = Vec::new();
    if limits.nofile.is_below(NOFILE_SUSPICIOUS) {
        found.push(format!("open files: {}; a database wants 655350", limits.nofile));
    }
    if limits.nproc.is_below(NPROC_SUSPICIOUS) {
        found.push(format!("processes and threads of this user: {}", limits.nproc));
    }
    if limits.core.soft == Some(0) && writes_a_core(exit) {
        found.push("core file size: 0, so no core file could be written".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_files_are_looked_for_under_the_names_the_kernel_uses() {
        let names = |pattern: &str| {
            core_candidates(Utf8Path::new("/h"), pattern, 7).into_iter().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(names("core"), ["/h/core.7", "/h/core"]);
        assert_eq!(names("/var/cores/c-%p"), ["/var/cores/c-7.7", "/var/cores/c-7"]);
        assert_eq!(names("core-%e-%t"), Vec::<String>::new());
    }

    #[test]
    fn a_crash_without_a_core_says_why() {
        let said = suspicious_limits(Some(Exit::Signal(SIGSEGV)));
        let is_zero = limits::inherited().core.soft == Some(0);
        assert_eq!(said.iter().any(|line| line.starts_with("core file size")), is_zero);
        assert!(suspicious_limits(None).iter().all(|line| !line.starts_with("core file size")));
    }
}

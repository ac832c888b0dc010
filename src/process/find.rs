//! Finding the process of this home: by the lock on its pid file, else by looking at every process.
//!
//! Invariant: two that fit, or one that fits half, is an answer of its own ("unclear", with what was seen) and never a
//! choice. The content of a pid file is not believed; it may only name which of our own dead children to ask.
//!
//! Not here: holding on to what was found (`life`).

use std::fs::File;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::identity::{Expected, Ident, Seen, examine};

/// Where the process of this home is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Running(Ident),
    /// It is ending: wait for it, then look again.
    Dying(Ident),
    Nothing,
    /// It cannot be told, with the reason.
    Unclear(String),
}

/// Who holds the write lock on a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    Pid(i32),
    /// Held, by a process that has no pid in our namespace, or by an open file instead of a process.
    Unseen,
}

/// Looks for the process of this home.
pub(super) fn look(expected: &Expected, pid_files: &[Utf8PathBuf]) -> Look {
    for file in pid_files {
        let pid = match holder(file) {
            Ok(Holder::Nobody) => continue,
            Ok(Holder::Pid(pid)) => pid,
            Ok(Holder::Unseen) => {
                return Look::Unclear(format!(
                    "{file} is locked by a process that has no pid here, perhaps in another container; end it there"
                ));
            }
            Err(error) => return Look::Unclear(format!("the lock on {file} cannot be read: {error}")),
        };
        match examine(pid, expected) {
            Seen::Ours(ident) | Seen::Kin(ident, _) => return Look::Running(ident),
            Seen::Dying(ident) => return Look::Dying(ident),
            // It ended between the two looks; another file may be locked.
            Seen::Gone => {}
            Seen::Foreign(what) => {
                return Look::Unclear(format!(
                    "{file} is locked by pid {pid} ({what}), which is not the database of this home"
                ));
            }
            Seen::Hidden(why) => {
                return Look::Unclear(format!("{file} is locked by pid {pid}, but {why}"));
            }
        }
    }
    scan(expected)
}

/// Whether this process may be signalled: it is the same one and still ours.
///
/// # Errors
/// What it is instead.
pub(super) fn verify(ident: Ident, expected: &Expected, pid_files: &[Utf8PathBuf]) -> Result<(), String> {
    match examine(ident.pid, expected) {
        Seen::Ours(found) if found == ident => Ok(()),
        Seen::Kin(found, what) if found == ident => {
            let has_lock = pid_files
                .iter()
                .any(|file| holder(file).is_ok_and(|holder| holder == Holder::Pid(ident.pid)));
            if has_lock {
                Ok(())
            } else {
                Err(format!("pid {} is {what} and does not hold the lock", ident.pid))
            }
        }
        Seen::Dying(found) if found == ident => Ok(()),
        Seen::Ours(_) | Seen::Kin(..) | Seen::Dying(_) => {
            Err(format!("pid {} is another process by now: its start time differs", ident.pid))
        }
        Seen::Gone => Err(format!("pid {} has ended", ident.pid)),
        Seen::Foreign(what) => Err(format!("pid {} is {what}", ident.pid)),
        Seen::Hidden(why) => Err(why),
    }
}

fn holder(pid_file: &Utf8Path) -> io::Result<Holder> {
    let file = match File::open(pid_file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    // A read lock conflicts with the writer that we look for, and may be asked about with a read-only descriptor.
    let mut lock = libc::flock {
        l_type: libc::F_RDLCK.try_into().map_err(io::Error::other)?,
        l_whence: libc::SEEK_SET.try_into().map_err(io::Error::other)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(Holder::Nobody);
    }
    Ok(if lock.l_pid > 0 { Holder::Pid(lock.l_pid) } else { Holder::Unseen })
}

/// No lock: the pid file is missing, or this engine takes none. Whoever runs our binary in our home is it (W4).
fn scan(expected: &Expected) -> Look {
    let Ok(processes) = procfs::process::all_processes() else {
        return Look::Unclear("/proc cannot be read".to_owned());
    };
    let (mut ours, mut half) = (Vec::new(), Vec::new());
    for process in processes.flatten() {
        match examine(process.pid, expected) {
            Seen::Ours(ident) => {
                let parent = process.stat().map(|stat| stat.ppid).unwrap_or_default();
                ours.push((ident, parent));
            }
            Seen::Kin(ident, what) => half.push(format!("pid {} runs {what}", ident.pid)),
            // A dying process without a lock has nothing left that a start would meet.
            Seen::Dying(_) | Seen::Gone | Seen::Foreign(_) | Seen::Hidden(_) => {}
        }
    }
    // A helper that the database has forked and that has not yet become another program.
    let pids: Vec<i32> = ours.iter().map(|(ident, _)| ident.pid).collect();
    ours.retain(|(_, parent)| !pids.contains(parent));
    match (ours.as_slice(), half.as_slice()) {
        ([], []) => Look::Nothing,
        ([(one, _)], []) => Look::Running(*one),
        ([], half) => Look::Unclear(format!(
            "{}: the engine by name, but not the configured executable in this home as it is, and without the lock on \
             its pid file; end it by hand, or correct engine.binary",
            half.join(" and ")
        )),
        (several, half) => {
            let pids: Vec<String> = several.iter().map(|(i, _)| format!("pid {}", i.pid)).collect();
            let all = [pids.as_slice(), half].concat().join(", ");
            Look::Unclear(format!("more than one process fits this home: {all}; end all but one by hand"))
        }
    }
}

/// What a launcher has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Launched {
    Alive(Ident),
    /// Our child, dead and not reaped yet.
    Dead(Ident),
}

/// The daemon that a launcher of ours has forked. The launcher has ended, so its child is ours by now (the agent is
/// the subreaper of all it starts); it is a child that is not older than the launcher and has the engine's name.
pub(super) fn launched(launcher: Ident, expected: &Expected, pid_files: &[Utf8PathBuf]) -> Option<Launched> {
    let own = std::process::id().cast_signed();
    let mut dead = Vec::new();
    for process in procfs::process::all_processes().ok()?.flatten() {
        let Ok(stat) = process.stat() else { continue };
        let is_candidate = stat.ppid == own
            && stat.pid != launcher.pid
            && stat.starttime >= launcher.start_ticks
            && expected.has_name(&stat.comm);
        if !is_candidate {
            continue;
        }
        match examine(stat.pid, expected) {
            Seen::Ours(ident) => return Some(Launched::Alive(ident)),
            Seen::Dying(ident) => dead.push(ident),
            Seen::Gone => dead.push(Ident::of(&stat)),
            Seen::Kin(..) | Seen::Foreign(_) | Seen::Hidden(_) => {}
        }
    }
    if let [one] = dead.as_slice() {
        return Some(Launched::Dead(*one));
    }
    let named = written_pids(pid_files);
    dead.into_iter().find(|ident| named.contains(&ident.pid)).map(Launched::Dead)
}

fn written_pids(pid_files: &[Utf8PathBuf]) -> Vec<i32> {
    pid_files.iter().filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok()).collect()
}

/// Reaps what our databases have orphaned. A database itself is the leader of its session and has a watcher that
/// wants its status; children that the agent started are in the agent's session.
pub(super) fn reap_orphans() {
    let Ok(own) = procfs::process::Process::myself().and_then(|process| process.stat()) else { return };
    for process in procfs::process::all_processes().into_iter().flatten().flatten() {
        let Ok(stat) = process.stat() else { continue };
        let is_orphan = stat.state == 'Z'
            && stat.ppid == own.pid
            && stat.session != own.session
            && stat.session != stat.pid;
        if let Some(pid) = rustix::process::Pid::from_raw(stat.pid).filter(|_| is_orphan) {
            // It may have been reaped by another watcher in this moment.
            if rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG).is_ok() {
                tracing::debug!(pid = stat.pid, name = %stat.comm, "reaped an orphan of the database");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::command::Invocation;

    /// Children of this process that are called `true` (databases of other tests are not), with session and state.
    fn children() -> Vec<(i32, i32, char)> {
        let own = std::process::id().cast_signed();
        let all = procfs::process::all_processes().unwrap().flatten();
        let stats = all.filter_map(|process| process.stat().ok());
        let stats = stats.filter(|stat| stat.ppid == own && stat.comm == "true");
        stats.map(|stat| (stat.pid, stat.session, stat.state)).collect()
    }

    #[tokio::test]
    async fn what_a_database_orphans_is_reaped_and_the_database_itself_is_left_to_its_watcher() {
        super::super::spawn::adopt_orphans().unwrap();
        // A leader of a session that leaves a child behind, as a database would that dies before its helper.
        let script = "echo $$; true & exec true".to_owned();
        let mut invocation = Invocation::tool("setsid", vec!["--fork".to_owned(), "sh".to_owned()]);
        invocation.arguments.extend(["-c".to_owned(), script]);
        let output = invocation.run(Duration::from_secs(10)).await.unwrap();
        assert_eq!(output.exit, crate::model::Exit::Code(0));
        let session = tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                let leader =
                    children().into_iter().find(|(pid, session, state)| pid == session && *state == 'Z');
                if let Some((_, session, _)) = leader {
                    break session;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let session = session.await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while children().iter().any(|(pid, of, _)| *of == session && *pid != session) {
                reap_orphans();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the orphan is reaped");
        assert!(children().contains(&(session, session, 'Z')), "its status is for the watcher");
    }
}

//! One agent per home: its state directory, its lock, and who holds it.
//!
//! Purpose: two agents on one home would start two databases on one directory.
//!
//! Invariant: the lock is the kernel's (`flock`) and ends with the process, however that ends. The pid in the file
//! is for people. The file is never removed: whoever had opened it before would lock a file without a name.
//!
//! Not here: the lock of the database process on its own pid file (`process::find`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::files::{self, FileError};
use crate::config::STATE_DIR;
use crate::tasks::Tasks;

/// File of the lock, in the agent's state directory.
const FILE: &str = "agent.lock";
const DIR_MODE: u32 = 0o700;

/// Held for the life of the agent.
#[derive(Debug)]
pub struct AgentLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another agent runs in this home{}; it holds {path}", .pid.map(|p| format!(", pid {p}")).unwrap_or_default())]
    Held { path: Utf8PathBuf, pid: Option<i32> },
    #[error("cannot lock {path}: {source}")]
    Io { path: Utf8PathBuf, source: io::Error },
}

/// Makes the agent's directory in a home, and the home itself, and closes it to others. Returns its path.
///
/// # Errors
/// When one cannot be made or is not ours to close.
pub fn make_state_dir(home: &Utf8Path) -> Result<Utf8PathBuf, FileError> {
    files::create_dirs(home, 0o755)?;
    let dir = home.join(STATE_DIR);
    files::create_dirs(&dir, DIR_MODE)?;
    files::set_mode(&dir, DIR_MODE)?;
    Ok(dir)
}

/// The agent that runs on a home.
#[derive(Debug)]
pub struct Holder {
    pub pid: i32,
    /// The systemd unit that runs it.
    pub unit: Option<String>,
    path: Utf8PathBuf,
}

/// Who holds the lock of a home; `None` when nobody does.
///
/// # Errors
/// When the file cannot be read, or does not tell whose the lock is.
pub fn holder(home: &Utf8Path) -> io::Result<Option<Holder>> {
    let path = home.join(STATE_DIR).join(FILE);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let mut lines = text.lines();
            let pid = lines.next().and_then(|line| line.trim().parse().ok());
            let pid = pid.ok_or_else(|| io::Error::other(format!("{path} does not name a process")))?;
            Ok(Some(Holder { pid, unit: lines.next().map(str::to_owned), path }))
        }
    }
}

impl Holder {
    /// Sends it SIGTERM and waits for its end; false when it lives on after `limit`. It is signalled only if the kernel
    /// says that it holds the lock: a number in a file may be anybody's.
    ///
    /// # Errors
    /// When it is not the holder, or not ours to signal.
    pub async fn end(&self, limit: Duration) -> io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(true) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        self.verify()?;
        match pidfd_send_signal(&pidfd, Signal::TERM) {
            Ok(()) => {}
            Err(Errno::SRCH) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        let wait = move || poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit));
        let ended = Tasks::blocking(move || retry_on_intr(wait)).await?;
        Ok(ended > 0)
    }

    fn verify(&self) -> io::Result<()> {
        let inode = std::fs::metadata(&self.path)?.ino();
        let locks = procfs::locks().map_err(io::Error::other)?;
        let holds = locks.iter().any(|lock| lock.pid == Some(self.pid) && lock.inode == inode);
        if holds { Ok(()) } else { Err(io::Error::other(format!("it does not hold {}", self.path))) }
    }
}

/// Takes the lock of a home and writes this pid into the file, and below it the unit that runs this process.
///
/// # Errors
/// [`LockError::Held`] at once when another process has it; it does not wait.
pub fn acquire(state_dir: &Utf8Path, unit: Option<&str>) -> Result<AgentLock, LockError> {
    let path = &state_dir.join(FILE);
    let fail = |source| LockError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // The pid only helps the reader of the message; without it the refusal stands.
            let read = file.read_to_string(&mut text).ok();
            let pid = read.and_then(|_| text.lines().next()?.trim().parse().ok());
            return Err(LockError::Held { path: path.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(fail(source)),
    }
    let unit = unit.map(|unit| format!("{unit}\n")).unwrap_or_default();
    let content = format!("{}\n{unit}", std::process::id());
    file.rewind().and_then(|()| file.write_all(content.as_bytes())).map_err(fail)?;
    file.set_len(content.len() as u64).map_err(fail)?;
    Ok(AgentLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let home = Utf8PathBuf::from_path_buf(dir.path().join("home")).unwrap();
        (dir, home)
    }

    #[test]
    fn the_second_agent_is_refused_with_the_pid_of_the_first() {
        let (_guard, home) = home();
        let dir = make_state_dir(&home).unwrap();
        assert!(holder(&home).unwrap().is_none(), "nobody has been here");
        let first = acquire(&dir, None).unwrap();
        let refused = acquire(&dir, None).unwrap_err();
        let own = std::process::id();
        assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid.cast_unsigned() == own));
        assert!(refused.to_string().contains(&own.to_string()), "{refused}");
        assert_eq!(holder(&home).unwrap().map(|h| h.pid.cast_unsigned()), Some(own));
        assert_eq!(holder(&home).unwrap().unwrap().unit, None);
        drop(first);
        assert!(holder(&home).unwrap().is_none());
        assert!(dir.join(FILE).exists(), "the file stays");
        let _second = acquire(&dir, Some("obpilot.service")).unwrap();
        assert_eq!(holder(&home).unwrap().unwrap().unit.as_deref(), Some("obpilot.service"));
        assert!(matches!(acquire(&dir, None).unwrap_err(), LockError::Held { pid: Some(_), .. }));
    }

    #[test]
    fn what_a_dead_agent_left_in_the_file_does_not_matter() {
        let (_guard, home) = home();
        let dir = make_state_dir(&home).unwrap();
        let path = dir.join(FILE);
        files::write_atomic(&path, b"999999999999 and more text than a pid", 0o644).unwrap();
        let _lock = acquire(&dir, None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn the_state_directory_is_closed_to_others() {
        let (_guard, home) = home();
        let dir = make_state_dir(&home).unwrap();
        files::set_mode(&dir, 0o755).unwrap();
        assert_eq!(make_state_dir(&home).unwrap(), dir);
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_pid_in_the_file_that_does_not_hold_the_lock_is_not_signalled() {
        let (_guard, home) = home();
        let dir = make_state_dir(&home).unwrap();
        let path = dir.join(FILE);
        let _lock = acquire(&dir, None).unwrap();
        // Process 1 is there and is not ours.
        let other = Holder { pid: 1, unit: None, path };
        let error = other.end(Duration::from_secs(1)).await.unwrap_err();
        assert!(error.to_string().contains("does not hold"), "{error}");
    }
}

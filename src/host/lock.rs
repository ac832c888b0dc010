//! One agent per home.
//!
//! Purpose: two agents on one home would start two databases on one directory.
//!
//! Invariant: the lock is the kernel's (`flock`) and ends with the process, however that ends. The pid in the file
//! is for people. The file is never removed: whoever had opened it before would lock a file without a name.
//!
//! Not here: the lock of the database process on its own pid file (`process::find`).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};

/// File of the lock, relative to the agent's state directory.
pub const FILE: &str = "agent.lock";

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

/// Takes the lock and writes this pid into the file.
///
/// # Errors
/// [`LockError::Held`] at once when another process has it; it does not wait.
pub fn acquire(path: &Utf8Path) -> Result<AgentLock, LockError> {
    let fail = |source| LockError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o644)
        .open(path)
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // The pid only helps the reader of the message; without it the refusal stands.
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(LockError::Held { path: path.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(fail(source)),
    }
    let content = format!("{}\n", std::process::id());
    file.rewind().and_then(|()| file.write_all(content.as_bytes())).map_err(fail)?;
    file.set_len(content.len() as u64).map_err(fail)?;
    Ok(AgentLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_agent_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join(FILE);
        let first = acquire(&path).unwrap();
        let refused = acquire(&path).unwrap_err();
        let own = std::process::id();
        assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid.cast_unsigned() == own));
        assert!(refused.to_string().contains(&own.to_string()), "{refused}");
        drop(first);
        assert!(path.exists(), "the file stays");
        drop(acquire(&path).unwrap());
    }

    #[test]
    fn what_a_dead_agent_left_in_the_file_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join(FILE);
        crate::host::files::write_atomic(&path, b"999999999999 and more text than a pid", 0o644).unwrap();
        let _lock = acquire(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }
}

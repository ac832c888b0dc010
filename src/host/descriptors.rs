//! Descriptors that the agent was given by whoever started it.
//!
//! Purpose: a daemon keeps what it inherits for life (`seekdb-engine.md` fact 9). A shell's pipe or a script's lock file
//! that reaches the agent must not be held by a database for months.
//!
//! Not here: what the agent opens itself; Rust marks that when it opens it.

use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

const CLOEXEC: u64 = 0o2_000_000;

/// Marks every descriptor above 2 to be closed in programs that the agent starts. Repeating it is cheap.
pub fn keep_private() {
    for fd in inheritable() {
        #[expect(unsafe_code, reason = "the descriptors of whoever started the agent have no owner in it")]
        // SAFETY: it is open and without the mark, so it was inherited and nothing in this process closes it; if it were
        // closed all the same, the two calls below would fail and touch nothing.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let marked = fcntl_getfd(fd).and_then(|flags| fcntl_setfd(fd, flags | FdFlags::CLOEXEC));
        if let Err(error) = marked {
            tracing::debug!(?fd, %error, "an inherited descriptor cannot be marked");
        }
    }
}

fn inheritable() -> Vec<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok())
        .filter(|fd| *fd > 2)
        .filter(|fd| {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
            let flags = info
                .lines()
                .find_map(|line| u64::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
            flags.is_some_and(|flags| flags & CLOEXEC == 0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn an_inheritable_descriptor_is_marked() {
        let file = tempfile::tempfile().unwrap();
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        keep_private();
        assert!(fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));
        assert!(!inheritable().contains(&file.as_raw_fd()));
    }
}

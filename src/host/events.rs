//! What happens in a directory, as an event.
//!
//! Not here: what it was; whoever waits looks.

use std::io;
use std::os::fd::OwnedFd;

use camino::Utf8Path;
use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor whose being readable is an event of the runtime.
///
/// # Errors
/// When the runtime cannot watch it.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that may change their descriptor; OwnedFd cannot"
    )]
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Names that come into a directory, and files that were written there.
#[derive(Debug)]
pub struct Events(AsyncFd<OwnedFd>);

impl Events {
    /// # Errors
    /// When there is no such directory, or the kernel has no room for more watchers.
    pub fn new(dir: &Utf8Path) -> io::Result<Self> {
        use inotify::WatchFlags;
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let wanted = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&fd, dir.as_std_path(), wanted)?;
        readable(fd).map(Self)
    }

    /// Something happened. For ever pending when nothing can be told any more.
    pub async fn next(&self) {
        let mut buffer = [0_u8; 4096];
        loop {
            let Ok(mut guard) = self.0.readable().await else { return std::future::pending().await };
            match guard.try_io(|fd| rustix::io::read(fd.get_ref(), &mut buffer).map_err(io::Error::from)) {
                Ok(Ok(_)) => return,
                Ok(Err(_)) => return std::future::pending().await,
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_new_name_and_a_written_file_wake() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let events = Events::new(dir).unwrap();
        for content in [b"1", b"2"] {
            super::super::files::write_atomic(&dir.join("x"), content, 0o600).unwrap();
            tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap();
        }
        assert!(Events::new(&dir.join("missing")).is_err());
    }
}

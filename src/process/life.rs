//! One life of a process, held by a pidfd: everybody may wait for its end, and a signal reaches it or nobody.
//!
//! Invariant: the pidfd was opened first and the start time compared afterwards, so it belongs to that process and to
//! no later one with its pid. There is one watcher per life; it reaps, and its answer stays.
//!
//! Not here: which signal when (`stop`).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8PathBuf;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use super::find;
use super::identity::{Expected, Ident};
use crate::crash;
use crate::host::events::readable;
use crate::model::Exit;
use crate::tasks::{Kind, Tasks};

/// A process that is held. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub ident: Ident,
    pidfd: Arc<OwnedFd>,
    exit: watch::Receiver<Option<Exit>>,
    /// A signal of ours has reached it, so its end is no riddle.
    is_signalled: Arc<AtomicBool>,
}

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    #[error("not signalled: {0}")]
    NotOurs(String),
    #[error("the kernel refused the signal: {0}")]
    Refused(#[source] io::Error),
}

impl Life {
    /// Takes hold of a process, dead or alive; `None` when its pid is nobody's or another's.
    ///
    /// # Errors
    /// When descriptors or the event queue are exhausted.
    pub(super) fn hold(ident: Ident, tasks: &Tasks) -> io::Result<Option<Self>> {
        let Some(pid) = Pid::from_raw(ident.pid) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_it = procfs::process::Process::new(ident.pid)
            .and_then(|process| process.stat())
            .is_ok_and(|stat| Ident::of(&stat) == ident);
        if !is_it {
            return Ok(None);
        }
        let events = readable(pidfd.try_clone()?)?;
        let (told, exit) = watch::channel(None);
        tasks.spawn(Kind::helper("process-watch"), async move {
            let exit = super::exit::wait(&events, ident).await;
            told.send_replace(Some(exit));
            Tasks::blocking(find::reap_orphans).await;
        });
        Ok(Some(Self { ident, pidfd: Arc::new(pidfd), exit, is_signalled: Arc::default() }))
    }

    /// How it ended, if it has.
    pub(super) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Whether this agent has sent it a signal.
    pub(super) fn is_signalled(&self) -> bool {
        self.is_signalled.load(Ordering::Relaxed)
    }

    /// Returns when it has ended.
    pub(super) async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await.map(|found| *found) {
            Ok(Some(found)) => found,
            // The watcher is gone because the agent stops; the process lives on and nobody waits any more.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Sends a signal after another look at who that is.
    ///
    /// # Errors
    /// When it is not ours (any more), or the kernel refuses. Nothing was sent then.
    pub(super) fn signal(
        &self,
        signal: Signal,
        expected: &Expected,
        pid_files: &[Utf8PathBuf],
    ) -> Result<(), NotSent> {
        find::verify(self.ident, expected, pid_files).map_err(NotSent::NotOurs)?;
        crash::point(crash::Point::BeforeSignal);
        pidfd_send_signal(&*self.pidfd, signal).map_err(|error| NotSent::Refused(error.into()))?;
        self.is_signalled.store(true, Ordering::Relaxed);
        Ok(())
    }
}

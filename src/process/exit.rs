//! How a process ended, learnt from the kernel through its pidfd.
//!
//! Purpose: "killed by SIGKILL" and "exited with status 1" send a person to different places. A daemon that outlived
//! an agent is nobody's child that we could wait for, so there are three ways, tried in this order: waiting (our child),
//! the zombie's line in `/proc` (not reaped yet), `PIDFD_GET_INFO` (reaped already, Linux 6.15 and later).
//!
//! Invariant: [`Exit::Unknown`] only when all three have nothing; never a guess.
//!
//! Not here: waiting for the end (`life`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::io::unix::AsyncFd;

use super::identity::Ident;
use crate::model::Exit;

/// A reaper (init, a container's first process) is quick, or it is broken and we do without.
const REAPING: Duration = Duration::from_secs(3);

/// Returns when the process has ended. The pidfd is readable from then on.
pub(super) async fn wait(pidfd: &AsyncFd<OwnedFd>, ident: Ident) -> Exit {
    loop {
        let Ok(mut guard) = pidfd.readable().await else { return Exit::Unknown };
        if let Some(exit) = reap(pidfd.get_ref().as_fd()).or_else(|| zombie(ident)) {
            return exit;
        }
        if has_ended(pidfd.get_ref().as_fd()) {
            break;
        }
        guard.clear_ready();
    }
    if let Some(exit) = info(pidfd.get_ref().as_fd()) {
        return exit;
    }
    // It is a zombie that we may not look at. Being reaped is an event of the pidfd (a hang-up), and then the kernel
    // tells everybody.
    if let Ok(mut guard) = pidfd.readable().await {
        guard.clear_ready();
    }
    match tokio::time::timeout(REAPING, pidfd.readable()).await {
        Ok(Ok(_)) | Err(_) => info(pidfd.get_ref().as_fd()).unwrap_or(Exit::Unknown),
        Ok(Err(_)) => Exit::Unknown,
    }
}

/// Our child: its status, once. Only one waiter may ask; the others hear it from that one.
fn reap(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code)),
        (None, Some(signal)) => Some(Exit::Signal(signal)),
        (None, None) => Some(Exit::Unknown),
    }
}

/// Not our child, not reaped: the last field of its `stat` is the status. It reads 0 for those who may not see it, so
/// it counts only for a process of our own user.
fn zombie(ident: Ident) -> Option<Exit> {
    let process = procfs::process::Process::new(ident.pid).ok()?;
    let stat = process.stat().ok()?;
    let is_it = Ident::of(&stat) == ident && stat.state == 'Z' && stat.num_threads <= 1;
    let is_visible = process.uid().is_ok_and(|uid| uid == nix::unistd::geteuid().as_raw());
    stat.exit_code.filter(|_| is_it && is_visible).map(from_status)
}

fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    // Signal 0 would reach a zombie too; being readable is what says that it has ended.
    let mut poll = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// As `wait` encodes it: the signal in the low seven bits, the exit status in the second byte.
fn from_status(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) & 0xff),
        signal => Exit::Signal(signal),
    }
}

/// `struct pidfd_info` of `linux/pidfd.h`, first version: 64 bytes.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
const PIDFD_GET_INFO: rustix::ioctl::Opcode = rustix::ioctl::opcode::read_write::<PidfdInfo>(0xFF, 11);

/// Reaped already: what the kernel keeps for holders of a pidfd.
fn info(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    #[expect(
        unsafe_code,
        reason = "no library has this call; a database that outlived an agent has no other witness"
    )]
    // SAFETY: the opcode carries the size of the structure, the kernel writes at most that much into it, and all its
    // fields are numbers for which every bit pattern is a value. An older kernel refuses the call.
    let told = unsafe {
        rustix::ioctl::ioctl(pidfd, rustix::ioctl::Updater::<PIDFD_GET_INFO, PidfdInfo>::new(&mut info))
    };
    (told.is_ok() && info.mask & PIDFD_INFO_EXIT != 0).then(|| from_status(info.exit_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_has_the_size_that_the_kernel_knows() {
        assert_eq!(size_of::<PidfdInfo>(), 64);
        assert_eq!(PIDFD_GET_INFO, 0xC040_FF0B);
    }

    #[test]
    fn statuses_are_read_as_wait_encodes_them() {
        assert_eq!(from_status(1792), Exit::Code(7));
        assert_eq!(from_status(0), Exit::Code(0));
        assert_eq!(from_status(9), Exit::Signal(9));
        assert_eq!(from_status(11 | 0x80), Exit::Signal(11), "with a core file");
        assert_eq!(from_status(40), Exit::Signal(40));
    }
}

//! Signals: the handled ones are blocked for real and taken by one thread (`observer-model.md` §5.1).
//!
//! Purpose: whoever looks at the mask in `/proc` finds what it would find on a real server; whoever sends a signal is written
//! down.
//!
//! Invariant: what is not in the set keeps its default action.

use std::mem::MaybeUninit;
use std::sync::Arc;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::server::Server;
use crate::settings::Convention;

/// Re-open logs, log levels, profiling and dumps.
const OTHERS: [i32; 18] = [40, 41, 42, 43, 45, 46, 47, 48, 49, 50, 51, 53, 55, 56, 57, 59, 60, 61];
const MORE: [i32; 2] = [62, 63];

fn handled(convention: Convention) -> Vec<i32> {
    let mut set = vec![libc::SIGTERM];
    if convention == Convention::Newer {
        set.push(libc::SIGUSR1);
    }
    set.extend(OTHERS);
    set.extend(MORE);
    set
}

fn graceful(convention: Convention) -> i32 {
    match convention {
        Convention::Newer => libc::SIGUSR1,
        Convention::Older => libc::SIGTERM,
    }
}

fn set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the whole set before it is read; sigaddset only adds to it. nix knows no signals above 31.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// The first thing a start does; the fork and all threads inherit it.
pub(crate) fn block(convention: Convention) {
    let set = set(&handled(convention));
    // SAFETY: the set is initialised and the old mask is not asked for.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for signals until one of them ends the process.
pub(crate) fn take(server: &Arc<Server>, convention: Convention) {
    let set = set(&handled(convention));
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: both pointers are valid for the call; the structure is plain data and was zeroed.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, info.as_mut_ptr()) };
        if signal < 0 {
            continue;
        }
        // SAFETY: sigwaitinfo has filled the structure for a signal, and those have a sender.
        let (pid, uid) = unsafe {
            let info = info.assume_init();
            (info.si_pid(), info.si_uid())
        };
        let is_graceful = signal == graceful(convention);
        let is_ignored = is_graceful && server.settings().has("ignore_graceful");
        server
            .cluster
            .note("signal", json!({ "signal": signal, "si_pid": pid, "si_uid": uid, "ignored": is_ignored }));
        server.log.info(&format!("receive signal. signum={signal}"));
        if is_ignored {
            continue;
        }
        if is_graceful {
            // The one thread sleeps through the grace and is then stopped: later signals are not heard.
            server.stop_after_grace();
            return;
        }
        if signal == libc::SIGTERM {
            kill(Pid::this(), Signal::SIGKILL).ok();
        }
    }
}

//! A process that behaves as told: this very test program, started again with one test chosen.
//!
//! Signals are blocked before it is executed (`env` does that), so that all its threads have the mask that it is judged
//! by; the first thread belongs to the test harness.

use std::time::Duration;

use camino::Utf8Path;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use tokio::process::Child;

use super::rig::LIMIT;
use crate::process::command::Invocation;

const MODE: &str = "OBPILOT_TEST_STANDIN";
const READY: &str = "standin.ready";

/// Not a test: what a stand-in does. Without its variable it does nothing.
#[test]
fn act() {
    let Ok(mode) = std::env::var(MODE) else { return };
    if mode == "lock" {
        lock("run/seekdb.pid");
    }
    crate::host::files::write_atomic(Utf8Path::new(READY), b"", 0o600).unwrap();
    let mask = SigSet::thread_get_mask().unwrap();
    if !mask.contains(Signal::SIGTERM) {
        // Until killed; nothing wakes it.
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        assert!(never.recv_timeout(Duration::from_secs(120)).is_err());
        return;
    }
    let mut handled = SigSet::empty();
    handled.add(Signal::SIGTERM);
    if mask.contains(Signal::SIGUSR1) {
        handled.add(Signal::SIGUSR1);
    }
    let caught = handled.wait().unwrap();
    #[expect(clippy::exit, reason = "the status is what the test looks at")]
    std::process::exit(if caught == Signal::SIGTERM { 15 } else { 10 });
}

fn lock(path: &str) {
    let file = std::fs::File::options().create(true).truncate(true).write(true).open(path).unwrap();
    let lock = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap(),
        l_whence: libc::SEEK_SET.try_into().unwrap(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLK(&lock)).unwrap();
    std::mem::forget(file);
}

/// Starts `program` (this test program, under whatever name) in `directory`; returns when it is in position. Modes: `term`
/// (the older convention: TERM is graceful, USR1 not even blocked), `usr1` (the newer one), `lock` (holds the lock on the
/// pid file), `idle`.
pub(super) async fn start(program: &Utf8Path, directory: &Utf8Path, mode: &str) -> Child {
    let ready = directory.join(READY);
    crate::host::files::remove_file(&ready).unwrap();
    let name = module_path!().split_once("::").unwrap().1;
    let test = format!("{name}::act");
    let blocked = match mode {
        "term" => "--block-signal=TERM",
        "usr1" => "--block-signal=TERM,USR1",
        _ => "--default-signal=TERM",
    };
    let arguments = [blocked, program.as_str(), "--exact", &test, "--test-threads=1", "--nocapture"];
    let mut invocation = Invocation::tool("/usr/bin/env", arguments.map(str::to_owned).to_vec());
    invocation.environment.push((MODE, mode.to_owned()));
    invocation.directory = directory.to_owned();
    let child = invocation.launch(&tempfile::tempfile().unwrap()).unwrap();
    tokio::time::timeout(LIMIT, async {
        while !ready.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the stand-in gets ready");
    child
}

pub(super) fn program() -> camino::Utf8PathBuf {
    Utf8Path::from_path(&std::env::current_exe().unwrap()).unwrap().canonicalize_utf8().unwrap()
}

pub(super) fn pid(child: &Child) -> i32 {
    child.id().unwrap().cast_signed()
}

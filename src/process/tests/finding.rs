//! Who is the database of this home, and who only looks like it.

use nix::sys::signal::Signal as Sig;
use rustix::process::Signal;

use super::rig::{Rig, is_alive, names, signal, within};
use super::standin;
use crate::error::Code;
use crate::flow::ports::Process as _;
use crate::host::files;
use crate::model::{Exit, ServerProcess, StopHow, Timestamp};

const HOW: StopHow = StopHow::Graceful { grace_secs: 20 };

#[tokio::test]
async fn a_deleted_pid_file_does_not_hide_the_process() {
    let rig = Rig::real().await;
    let server = rig.started().await;
    files::remove_file(&rig.home.join("run/seekdb.pid")).unwrap();
    assert_eq!(within(rig.restarted_agent().find()).await.unwrap().as_ref(), Some(&server));
    assert_eq!(rig.spawn(&rig.launch(false, &[])).await.unwrap(), server, "no second one on the same data");
    assert!(rig.notes.has("WARN it runs already"));
}

#[tokio::test]
async fn what_a_pid_file_says_is_not_believed() {
    let rig = Rig::with(standin::program());
    files::create_dirs(&rig.home.join("run"), 0o755).unwrap();
    // Our program, but in another directory: the pid file names a living process that is not ours.
    let elsewhere = rig.home.with_file_name("elsewhere");
    files::create_dirs(&elsewhere, 0o755).unwrap();
    let foreign = standin::start(&standin::program(), &elsewhere, "idle").await;
    let pid = standin::pid(&foreign);
    for content in [pid.to_string(), "garbage".to_owned(), "9999999999999".to_owned(), String::new()] {
        files::write_atomic(&rig.home.join("run/seekdb.pid"), content.as_bytes(), 0o600).unwrap();
        assert_eq!(within(rig.control.find()).await.unwrap(), None, "{content}");
    }
    // Somebody who believes it all the same.
    let stat = procfs::process::Process::new(pid).unwrap().stat().unwrap();
    let claimed = server(pid, stat.starttime);
    for how in [HOW, StopHow::Kill] {
        let refused = within(rig.control.stop(&claimed, how, &rig.notes)).await.unwrap_err();
        assert_eq!(refused.code, Code::ProcessCheckFailed, "{refused}");
    }
    assert!(is_alive(pid));
    signal(pid, Signal::KILL);
}

#[tokio::test]
async fn a_recycled_pid_is_not_signalled() {
    let rig = Rig::with(standin::program());
    files::create_dirs(&rig.home, 0o755).unwrap();
    let child = standin::start(&standin::program(), &rig.home, "idle").await;
    let pid = standin::pid(&child);
    let found = within(rig.control.find()).await.unwrap().unwrap();
    assert_eq!(found.pid, pid);
    let earlier = ServerProcess { start_ticks: found.start_ticks - 1, ..found.clone() };
    let report = within(rig.control.stop(&earlier, StopHow::Kill, &rig.notes)).await.unwrap();
    assert_eq!((report.signals.len(), report.exit), (0, Exit::Unknown));
    assert_eq!(within(rig.control.exited(&earlier)).await, Exit::Unknown);
    assert!(is_alive(pid));
    let report = within(rig.control.stop(&found, StopHow::Kill, &rig.notes)).await.unwrap();
    assert_eq!(report.exit, Exit::Signal(9));
}

#[tokio::test]
async fn two_that_fit_are_refused_and_both_named() {
    let rig = Rig::with(standin::program());
    files::create_dirs(&rig.home, 0o755).unwrap();
    let one = standin::start(&standin::program(), &rig.home, "idle").await;
    let two = standin::start(&standin::program(), &rig.home, "idle").await;
    let refused = within(rig.control.find()).await.unwrap_err();
    assert_eq!(refused.code, Code::ProcessCheckFailed);
    for pid in [standin::pid(&one), standin::pid(&two)] {
        assert!(refused.text().contains(&format!("pid {pid}")), "{refused}");
    }
    let not_started = rig.spawn(&rig.launch(true, &[])).await.unwrap_err();
    assert_eq!(not_started.code, Code::ProcessCheckFailed);
    signal(standin::pid(&one), Signal::KILL);
    signal(standin::pid(&two), Signal::KILL);
}

#[tokio::test]
async fn the_engine_from_another_file_counts_only_with_the_lock() {
    let rig = Rig::with("/opt/new/seekdb".into());
    files::create_dirs(&rig.home.join("run"), 0o755).unwrap();
    let old = rig.home.with_file_name("seekdb");
    std::fs::copy(standin::program(), &old).unwrap();
    let without = standin::start(&old, &rig.home, "idle").await;
    let refused = within(rig.control.find()).await.unwrap_err();
    assert!(refused.text().contains("not the configured executable"), "{refused}");
    signal(standin::pid(&without), Signal::KILL);
    let mut without = without;
    within(without.wait()).await.unwrap();
    // Upgraded under its feet: the executable is another file by now, the lock is still the lock.
    let with = standin::start(&old, &rig.home, "lock").await;
    let found = within(rig.control.find()).await.unwrap().unwrap();
    assert_eq!(found.pid, standin::pid(&with));
    files::remove_file(&old).unwrap();
    assert_eq!(within(rig.control.find()).await.unwrap().as_ref(), Some(&found), "its file was removed");
    let report = within(rig.control.stop(&found, StopHow::Kill, &rig.notes)).await.unwrap();
    assert_eq!(report.exit, Exit::Signal(9));
}

#[tokio::test]
async fn a_stranger_with_the_lock_is_named_and_left_alone() {
    let rig = Rig::with("/opt/seekdb/seekdb".into());
    files::create_dirs(&rig.home.join("run"), 0o755).unwrap();
    let stranger = standin::start(&standin::program(), &rig.home, "lock").await;
    let refused = within(rig.control.find()).await.unwrap_err();
    let pid = standin::pid(&stranger);
    assert!(refused.text().contains(&format!("locked by pid {pid}")), "{refused}");
    assert!(is_alive(pid));
    signal(pid, Signal::KILL);
}

#[tokio::test]
async fn the_older_convention_gets_sigterm_and_the_newer_sigusr1() {
    for (mode, name, code) in [("term", "SIGTERM", 15), ("usr1", "SIGUSR1", 10)] {
        let rig = Rig::with(standin::program());
        files::create_dirs(&rig.home, 0o755).unwrap();
        let _child = standin::start(&standin::program(), &rig.home, mode).await;
        let found = within(rig.control.find()).await.unwrap().unwrap();
        let report = within(rig.control.stop(&found, HOW, &rig.notes)).await.unwrap();
        assert_eq!((report.signals.as_slice(), report.exit), (&[name.to_owned()][..], Exit::Code(code)));
    }
}

#[tokio::test]
async fn a_process_that_understands_no_graceful_signal_is_killed_after_the_grace() {
    let rig = Rig::with(standin::program());
    files::create_dirs(&rig.home, 0o755).unwrap();
    let _child = standin::start(&standin::program(), &rig.home, "idle").await;
    let found = within(rig.control.find()).await.unwrap().unwrap();
    let how = StopHow::Graceful { grace_secs: 1 };
    let report = within(rig.control.stop(&found, how, &rig.notes)).await.unwrap();
    assert_eq!((report.signals.as_slice(), report.exit), (&["SIGKILL".to_owned()][..], Exit::Signal(9)));
    assert!(rig.notes.has("too early in its start"));
}

#[tokio::test]
async fn a_fault_of_the_engine_is_a_crash_with_what_is_known_about_its_core() {
    let rig = Rig::with(standin::program());
    files::create_dirs(&rig.home, 0o755).unwrap();
    let _child = standin::start(&standin::program(), &rig.home, "idle").await;
    let found = within(rig.control.find()).await.unwrap().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(found.pid), Sig::SIGABRT).unwrap();
    assert_eq!(within(rig.control.exited(&found)).await, Exit::Signal(Sig::SIGABRT as i32));
    let diagnosis = within(rig.control.diagnose(&found, None)).await;
    assert_eq!(names(&diagnosis.causes), ["crash"], "{diagnosis:?}");
    let has_no_core = crate::host::limits::inherited().core.soft == Some(0);
    assert_eq!(diagnosis.limits.iter().any(|line| line.contains("core file size: 0")), has_no_core);
}

fn server(pid: i32, start_ticks: u64) -> ServerProcess {
    ServerProcess { pid, start_ticks, started_at: Timestamp::UNIX_EPOCH, log_from: Default::default() }
}

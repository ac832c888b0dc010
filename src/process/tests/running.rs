//! Start, readiness, stop and exit with the real engine.

use std::collections::BTreeSet;
use std::time::Duration;

use camino::Utf8Path;
use rustix::process::Signal;

use super::rig::{Rig, is_alive, names, signal, within};
use crate::clock::Stopwatch;
use crate::error::Code;
use crate::flow::ports::Process as _;
use crate::host::files;
use crate::model::{Exit, StopHow};
use crate::process::Control;

#[tokio::test]
async fn a_database_is_started_found_stopped_gracefully_and_started_again() {
    let rig = Rig::real().await;
    let launch = rig.launch(true, &[("datafile_size", "64M")]);
    let findings = within(rig.control.preflight(&launch)).await;
    assert!(findings.iter().all(|finding| !finding.is_fatal), "{findings:?}");
    assert!(!rig.control.is_initialised());
    let made = within(rig.control.prepare_dirs(&launch)).await.unwrap();
    assert!(made.contains(&rig.home.join("store").into_string()));

    let server = rig.spawn(&launch).await.unwrap();
    rig.ready(&server).await.unwrap();
    assert!(rig.control.is_initialised());
    assert!(rig.notes.has("starting: ") && rig.notes.has("--parameter datafile_size=64M"));
    assert_eq!(within(rig.control.find()).await.unwrap().as_ref(), Some(&server));
    assert_eq!(
        within(rig.restarted_agent().find()).await.unwrap().as_ref(),
        Some(&server),
        "log mark included"
    );
    let refused = within(rig.control.remove_dirs(Some(&made))).await.unwrap_err();
    assert_eq!(refused.code, Code::BadRequest, "{refused}");

    let again = rig.spawn(&launch).await.unwrap();
    assert_eq!(again, server, "a second start finds the first");
    let own_port = within(rig.control.preflight(&launch)).await;
    assert!(own_port.iter().all(|finding| finding.check != "port"), "{own_port:?}");

    let how = StopHow::Graceful { grace_secs: 40 };
    let report = within(rig.control.stop(&server, how, &rig.notes)).await.unwrap();
    assert_eq!((report.signals.as_slice(), report.exit), (&["SIGUSR1".to_owned()][..], Exit::Code(0)));
    assert_eq!(within(rig.control.exited(&server)).await, Exit::Code(0), "who asks late hears the same");
    assert_eq!(within(rig.control.find()).await.unwrap(), None);
    let over = within(rig.control.stop(&server, how, &rig.notes)).await.unwrap();
    assert_eq!((over.signals.len(), over.exit), (0, Exit::Code(0)));
    assert_eq!(within(rig.control.remove_dirs(Some(&made))).await.unwrap_err().code, Code::BadRequest);

    let server = rig.spawn(&rig.launch(false, &[])).await.unwrap();
    assert!(server.log_from.offset > 0, "the log of the earlier life is not this life's");
    rig.ready(&server).await.unwrap();
    let report = within(rig.control.stop(&server, StopHow::Kill, &rig.notes)).await.unwrap();
    assert_eq!((report.signals.as_slice(), report.exit), (&["SIGKILL".to_owned()][..], Exit::Signal(9)));
    let diagnosis = within(rig.control.diagnose(&server, None)).await;
    assert_eq!(diagnosis.causes, [], "the agent did it itself");
}

/// No shell and no guessing: a path is a path (`lifecycle.md` W6).
#[tokio::test]
async fn w6_a_home_may_have_any_name() {
    let rig = Rig::real_in("it's \"$HOME\"; `true` & ünïcode (deleted)").await;
    let server = rig.started().await;
    assert_eq!(within(rig.restarted_agent().find()).await.unwrap().as_ref(), Some(&server));
    let report = within(rig.control.stop(&server, StopHow::Kill, &rig.notes)).await.unwrap();
    assert_eq!(report.exit, Exit::Signal(9));
    let again = rig.spawn(&rig.launch(false, &[])).await.unwrap();
    rig.ready(&again).await.unwrap();
}

#[tokio::test]
async fn an_end_from_outside_is_seen_at_once_by_everybody_and_explained() {
    let rig = Rig::real().await;
    let server = rig.started().await;
    let second = rig.restarted_agent();
    assert_eq!(within(second.find()).await.unwrap().as_ref(), Some(&server));
    let (first, other) = (rig.control.exited(&server), rig.control.exited(&server));
    let watch = Stopwatch::start();
    signal(server.pid, Signal::KILL);
    let seen = within(async { tokio::join!(first, other, second.exited(&server)) }).await;
    assert!(watch.elapsed().as_secs() < 3, "an event, not a poll");
    assert_eq!((seen.0, seen.1), (Exit::Signal(9), Exit::Signal(9)));
    // Only one of two holders can reap; the other one learns it from the pidfd, where the kernel tells (Linux 6.15).
    let kernel = procfs::sys::kernel::Version::current().unwrap();
    let is_told = kernel >= procfs::sys::kernel::Version::new(6, 15, 0);
    assert!(seen.2 == Exit::Signal(9) || (!is_told && seen.2 == Exit::Unknown), "{:?}", seen.2);
    let diagnosis = within(rig.control.diagnose(&server, Some(seen.0))).await;
    assert_eq!(names(&diagnosis.causes), ["killed-from-outside"], "{diagnosis:?}");
    assert_eq!(diagnosis.exit.as_deref(), Some("was killed by SIGKILL"));
}

#[tokio::test]
async fn a_database_that_stands_still_is_killed_after_the_grace() {
    let rig = Rig::real().await;
    let server = rig.started().await;
    signal(server.pid, Signal::STOP);
    let how = StopHow::Graceful { grace_secs: 1 };
    let report = within(rig.control.stop(&server, how, &rig.notes)).await.unwrap();
    assert_eq!(report.signals, ["SIGUSR1", "SIGKILL"]);
    assert_eq!(report.exit, Exit::Signal(9));
    assert!(report.took_millis >= 1_000, "{}", report.took_millis);
    assert!(rig.notes.has("WARN it did not end within 1 s"), "{:?}", rig.notes);
}

#[tokio::test]
async fn an_interrupted_first_start_is_cleaned_and_begun_afresh() {
    let rig = Rig::real().await;
    let launch = rig.launch(true, &[("datafile_size", "64M")]);
    let server = rig.spawn(&launch).await.unwrap();
    signal(server.pid, Signal::KILL);
    assert_eq!(within(rig.control.exited(&server)).await, Exit::Signal(9));
    // It may have been killed before it made anything.
    files::create_dirs(&rig.home.join("store"), 0o755).unwrap();
    files::write_atomic(&rig.home.join("store/half-made"), b"", 0o644).unwrap();
    assert!(!rig.control.is_initialised());
    let findings = within(rig.control.preflight(&launch)).await;
    assert!(findings.iter().any(|f| !f.is_fatal && f.problem.contains("never became ready")), "{findings:?}");

    // A restarted agent that believes in a later start must not start on the ruins either, and keeps the options.
    let agent = rig.restarted_agent();
    let server = within(agent.spawn(&rig.launch(false, &[]), &rig.notes)).await.unwrap();
    assert!(rig.notes.has("removing what it made"), "{:?}", rig.notes);
    within(agent.ready(&server, &rig.notes)).await.unwrap();
    assert!(rig.notes.has("--parameter datafile_size=64M"));
    assert!(agent.is_initialised() && rig.has("log/seekdb.log"));
}

#[tokio::test]
async fn a_first_start_is_not_killed_before_it_is_ready_and_its_data_is_kept() {
    let rig = Rig::real().await;
    let launch = rig.launch(true, &[]);
    let server = rig.spawn(&launch).await.unwrap();
    let report = within(rig.control.stop(&server, StopHow::Kill, &rig.notes)).await.unwrap();
    assert_eq!(report.exit, Exit::Signal(9));
    assert!(rig.notes.has("WARN this is its first start"), "{:?}", rig.notes);
    // It listened before it was killed, so somebody may have written.
    assert!(rig.control.is_initialised());
    let server = rig.spawn(&launch).await.unwrap();
    assert!(!rig.notes.has("removing"), "{:?}", rig.notes);
    rig.ready(&server).await.unwrap();
}

#[tokio::test]
async fn a_first_start_that_listens_is_over_though_nobody_waits_for_it() {
    let rig = Rig::real().await;
    let server = rig.spawn(&rig.launch(true, &[])).await.unwrap();
    within(initialised(&rig.control)).await;
    // As if the agent had died before it saw that.
    rig.mark_first_start();
    let agent = rig.restarted_agent();
    assert!(!agent.is_initialised());
    assert_eq!(within(agent.find()).await.unwrap(), Some(server));
    within(initialised(&agent)).await;
}

#[tokio::test]
async fn data_that_may_have_been_in_use_is_not_cleaned() {
    let rig = Rig::real().await;
    let launch = rig.launch(true, &[]);
    let server = rig.started().await;
    within(rig.control.stop(&server, StopHow::Graceful { grace_secs: 40 }, &rig.notes)).await.unwrap();
    // The marker is back, as if no agent had ever seen it listen; its log tells.
    rig.mark_first_start();
    let made = vec![rig.home.join("store").into_string()];
    let refused = within(rig.control.remove_dirs(Some(&made))).await.unwrap_err();
    assert_eq!(refused.code, Code::BadRequest, "{refused}");
    let server = rig.spawn(&launch).await.unwrap();
    assert!(rig.notes.has("WARN the database may have been in use"), "{:?}", rig.notes);
    rig.ready(&server).await.unwrap();
    within(rig.control.stop(&server, StopHow::Kill, &rig.notes)).await.unwrap();
    // Log and record are gone: nobody can know.
    rig.mark_first_start();
    files::remove_file(&rig.home.join("log/seekdb.log")).unwrap();
    files::remove_file(&rig.home.join(".obpilot/launch.json")).unwrap();
    assert_eq!(within(rig.control.remove_dirs(Some(&made))).await.unwrap_err().code, Code::BadRequest);
    assert!(rig.has("store/sstable/meta.db"));
}

async fn initialised(control: &Control) {
    while !control.is_initialised() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_first_start_that_is_stopped_gracefully_at_once_is_whole() {
    let rig = Rig::real().await;
    let launch = rig.launch(true, &[]);
    let server = rig.spawn(&launch).await.unwrap();
    let how = StopHow::Graceful { grace_secs: 40 };
    let report = within(rig.control.stop(&server, how, &rig.notes)).await.unwrap();
    assert_eq!((report.signals.as_slice(), report.exit), (&["SIGUSR1".to_owned()][..], Exit::Code(0)));
    let server = rig.spawn(&launch).await.unwrap();
    rig.ready(&server).await.unwrap();
}

#[tokio::test]
async fn a_start_goes_on_when_nobody_waits_for_it() {
    let rig = Rig::real().await;
    let launch = rig.launch(true, &[]);
    let launching = async {
        while !rig.has(".obpilot/launcher.log") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        _ = rig.control.spawn(&launch, &rig.notes) => panic!("the launcher takes longer than that"),
        () = launching => {}
    }
    // The caller is gone in the middle of it. Whoever asks now waits and sees the database, never its launcher.
    let found = within(rig.control.find()).await.unwrap().unwrap();
    rig.ready(&found).await.unwrap();
    assert_eq!(rig.spawn(&launch).await.unwrap(), found);
}

/// Files, sockets and pipes that a process has open, apart from devices and whatever lies in the home.
fn open_in(process: &str, home: &Utf8Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    // A descriptor may be closed between its listing and this look.
    let targets = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let targets = targets.filter_map(|target| target.into_os_string().into_string().ok());
    let shared =
        |target: &String| ["/dev/", "anon_inode:", home.as_str()].iter().any(|it| target.starts_with(it));
    targets.filter(|target| !shared(target)).collect()
}

#[tokio::test]
async fn the_database_gets_a_session_of_its_own_and_nothing_of_the_agents() {
    let rig = Rig::real().await;
    let open = (tempfile::NamedTempFile::new().unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    // As if whoever started the agent had left it open: nothing but the agent keeps it from its database.
    rustix::io::fcntl_setfd(&open.0, rustix::io::FdFlags::empty()).unwrap();
    let of_the_agent = open_in("self", &rig.home);
    assert!(of_the_agent.len() >= 2, "a file and a listener at least: {open:?}, {of_the_agent:?}");
    let server = rig.started().await;
    let process = procfs::process::Process::new(server.pid).unwrap();
    let stat = process.stat().unwrap();
    assert_eq!((stat.session, stat.pgrp), (server.pid, server.pid));
    let mut keys: Vec<_> =
        process.environ().unwrap().into_keys().map(|key| key.into_string().unwrap()).collect();
    keys.retain(|key| key != "TZ");
    keys.sort();
    assert_eq!(keys, ["HOME", "LANG", "PATH"]);
    // What the engine opens itself, libraries among it, is its own affair; what this process has open must not be there.
    let of_the_database = open_in(&server.pid.to_string(), &rig.home);
    let handed_over: Vec<_> = of_the_database.intersection(&of_the_agent).collect();
    assert!(handed_over.is_empty(), "descriptors of the agent: {handed_over:?}");
}

#[tokio::test]
async fn what_does_not_get_ready_is_explained_while_it_runs() {
    let rig = Rig::real().await;
    let server = rig.spawn(&rig.launch(true, &[])).await.unwrap();
    signal(server.pid, Signal::STOP);
    let waiting = rig.control.ready(&server, &rig.notes);
    let waited = tokio::time::timeout(Duration::from_millis(1500), waiting).await;
    assert!(waited.is_err(), "a process that stands still is not ready");
    let diagnosis = within(rig.control.diagnose(&server, None)).await;
    assert_eq!(diagnosis.exit, None);
    assert!(is_alive(server.pid));
    signal(server.pid, Signal::CONT);
    rig.ready(&server).await.unwrap();
}

#[tokio::test]
async fn a_failed_first_start_can_be_undone_and_logs_stay() {
    let rig = Rig::real().await;
    let launch = rig.launch(true, &[("log_disk_size", "512M"), ("data_dir", "files")]);
    let made = within(rig.control.prepare_dirs(&launch)).await.unwrap();
    files::write_atomic(&rig.home.join("etc/of-somebody-else"), b"", 0o600).unwrap();
    rig.failure(&launch).await;
    assert!(rig.has("store/sstable") && rig.has("files"));
    within(rig.control.remove_dirs(Some(&made))).await.unwrap();
    for gone in ["store", "files", "etc/seekdb.data_version.bin"] {
        assert!(!rig.has(gone), "{gone}");
    }
    assert!(rig.has("log/seekdb.log") && rig.has("etc/of-somebody-else"));
    within(rig.control.remove_dirs(Some(&made))).await.unwrap();
}

//! Starts that fail, each for a reason that the real engine was brought to have, and the cause that is named for it.

use super::rig::{Rig, engine, names, within};
use crate::error::Code;
use crate::flow::ports::Process as _;
use crate::host::files;
use crate::model::{Diagnosis, Finding};

fn first(diagnosis: &Diagnosis) -> &str {
    diagnosis.causes.first().map(|cause| cause.name.as_str()).unwrap_or_default()
}

fn has_fatal(findings: &[Finding], check: &str) -> bool {
    findings.iter().any(|finding| finding.is_fatal && finding.check == check)
}

#[tokio::test]
async fn a_taken_port_is_foretold_and_explained_with_its_owner() {
    let rig = Rig::real().await;
    let socket = std::net::TcpListener::bind(("0.0.0.0", rig.port)).unwrap();
    let launch = rig.launch(true, &[]);
    assert!(has_fatal(&within(rig.control.preflight(&launch)).await, "port"));
    let diagnosis = rig.failure(&launch).await;
    assert_eq!(first(&diagnosis), "port-taken", "{diagnosis:?}");
    let own = format!("pid {}", std::process::id());
    assert!(diagnosis.causes[0].evidence.contains(&own), "{diagnosis:?}");
    assert_eq!(diagnosis.exit.as_deref(), Some("exited with status 1"));
    drop(socket);
    let server = rig.spawn(&launch).await.unwrap();
    rig.ready(&server).await.unwrap();
}

#[tokio::test]
async fn sizes_that_cannot_be_are_named() {
    let rig = Rig::real().await;
    let too_large = rig.too_large();
    for (key, value, expected) in [
        ("log_disk_size", "512M", "log-disk-too-small"),
        ("log_disk_size", too_large.as_str(), "log-disk-does-not-fit"),
        ("datafile_size", too_large.as_str(), "disk-full"),
    ] {
        let launch = rig.launch(true, &[(key, value)]);
        let diagnosis = rig.failure(&launch).await;
        assert_eq!(first(&diagnosis), expected, "{key}={value}: {diagnosis:?}");
        assert!(!diagnosis.log_lines.is_empty() && diagnosis.log_file.is_some(), "{diagnosis:?}");
        let is_foretold = has_fatal(&within(rig.control.preflight(&launch)).await, "disk");
        assert!(is_foretold, "{key}={value}");
    }
}

#[tokio::test]
async fn a_silent_death_names_the_parameters_that_were_given() {
    let rig = Rig::real().await;
    for (key, value) in [("memory_limit", "1M"), ("datafile_size", "abc")] {
        let diagnosis = rig.failure(&rig.launch(true, &[(key, value)])).await;
        assert_eq!(names(&diagnosis.causes), ["bad-parameter"], "{diagnosis:?}");
        assert!(diagnosis.causes[0].evidence.contains(&format!("{key}={value}")), "{diagnosis:?}");
    }
}

#[tokio::test]
async fn what_the_launcher_refuses_is_quoted() {
    let mut rig = Rig::real().await;
    rig.port = 0;
    let mut launch = rig.launch(true, &[]);
    launch.options.insert("mysql_port".to_owned(), "70000".to_owned());
    let diagnosis = rig.failure(&launch).await;
    assert_eq!(first(&diagnosis), "bad-argument", "{diagnosis:?}");
    assert!(diagnosis.causes[0].evidence.contains("70000"), "{diagnosis:?}");
    assert!(diagnosis.exit.as_deref().is_some_and(|exit| exit.contains("94")), "{diagnosis:?}");
}

#[tokio::test]
async fn a_home_of_another_user_is_foretold_and_explained() {
    // The summary of `make test` names it.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let rig = Rig::real().await;
    let launch = rig.launch(true, &[]);
    within(rig.control.prepare_dirs(&launch)).await.unwrap();
    let nobody = nix::unistd::Uid::from_raw(65_534);
    nix::unistd::chown(rig.home.join("etc").as_std_path(), Some(nobody), None).unwrap();
    assert!(has_fatal(&within(rig.control.preflight(&launch)).await, "owner"));
    let diagnosis = rig.failure(&launch).await;
    assert_eq!(first(&diagnosis), "other-user", "{diagnosis:?}");
    assert!(diagnosis.causes[0].evidence.contains("uid=65534"), "{diagnosis:?}");
}

#[tokio::test]
async fn an_executable_that_cannot_run_is_named() {
    let mut rig = Rig::with("/nowhere/seekdb".into());
    files::create_dirs(&rig.home, 0o755).unwrap();
    let binary = rig.home.join("seekdb");
    for (mode, expected) in
        [(None, "No such file"), (Some(0o644), "mode is 0644"), (Some(0o755), "no program")]
    {
        if let Some(mode) = mode {
            files::write_atomic(&binary, b"garbage", mode).unwrap();
            rig.settings.binary = binary.clone();
            rig.control = rig.restarted_agent();
        }
        let diagnosis = rig.failure(&rig.launch(true, &[])).await;
        assert_eq!(names(&diagnosis.causes), ["binary-not-usable"], "{diagnosis:?}");
        assert!(diagnosis.causes[0].evidence.contains(expected), "{diagnosis:?}");
    }
}

#[tokio::test]
async fn a_missing_library_is_named() {
    let mut rig = Rig::real().await;
    // Its libraries are looked for beside it, and here there are none.
    let lonely = rig.home.with_file_name("seekdb");
    if std::fs::hard_link(engine(), &lonely).is_err() {
        std::fs::copy(engine(), &lonely).unwrap();
    }
    rig.settings.binary = lonely;
    rig.control = rig.restarted_agent();
    let launch = rig.launch(true, &[]);
    let findings = within(rig.control.preflight(&launch)).await;
    let is_named = |finding: &Finding| finding.is_fatal && finding.problem.contains("libaio.so.1");
    assert!(findings.iter().any(is_named), "{findings:?}");
    let diagnosis = rig.failure(&launch).await;
    assert_eq!(first(&diagnosis), "missing-library", "{diagnosis:?}");
    assert!(diagnosis.causes[0].evidence.contains("libaio.so.1"), "{diagnosis:?}");
}

#[tokio::test]
async fn data_of_another_version_is_named() {
    let rig = Rig::real().await;
    let server = rig.started().await;
    within(rig.control.stop(&server, crate::model::StopHow::Kill, &rig.notes)).await.unwrap();
    assert_eq!(within(rig.control.binary_version()).await.unwrap(), "1.4.0.0");
    let path = rig.home.join("etc/seekdb.data_version.bin");
    let text = std::fs::read(&path).unwrap();
    let at = text.windows(7).position(|part| part == b"1.4.0.0").unwrap();
    let mut other = text.clone();
    other[at..at + 7].copy_from_slice(b"1.3.0.5");
    files::write_atomic(&path, &other, 0o640).unwrap();
    let diagnosis = rig.failure(&rig.launch(false, &[])).await;
    let cause = diagnosis.causes.iter().find(|cause| cause.name == "other-version");
    assert!(cause.is_some_and(|cause| cause.evidence.contains("1.3.0.5")), "{diagnosis:?}");
}

#[tokio::test]
async fn a_home_that_works_only_once_is_foretold_and_explained() {
    let mut rig = Rig::real().await;
    rig.home = rig.home.with_file_name("x.tmp1").join("home");
    rig.settings.home = rig.home.clone();
    rig.control = rig.restarted_agent();
    let launch = rig.launch(true, &[]);
    assert!(has_fatal(&within(rig.control.preflight(&launch)).await, "home"));
    let server = rig.started().await;
    within(rig.control.stop(&server, crate::model::StopHow::Kill, &rig.notes)).await.unwrap();
    let diagnosis = rig.failure(&rig.launch(false, &[])).await;
    assert_eq!(first(&diagnosis), "path-not-usable", "{diagnosis:?}");
}

#[tokio::test]
async fn a_later_start_on_an_empty_home_is_refused() {
    let rig = Rig::with("/usr/bin/env".into());
    let error = rig.spawn(&rig.launch(false, &[])).await.unwrap_err();
    assert_eq!(error.code, Code::StartFailed);
    assert!(error.text().contains("mount its disk"), "{error}");
    assert!(!rig.has("store"));
}

#[tokio::test]
async fn a_first_start_among_foreign_files_is_refused() {
    let rig = Rig::with("/usr/bin/env".into());
    files::create_dirs(&rig.home.join("store/of-somebody"), 0o755).unwrap();
    let error = rig.spawn(&rig.launch(true, &[])).await.unwrap_err();
    assert_eq!(error.code, Code::DirNotEmpty, "{error}");
    assert!(rig.has("store/of-somebody"));
    let launch = rig.launch(true, &[("data_dir", "/proc/nope")]);
    files::remove_tree(&rig.home.join("store")).unwrap();
    let error = rig.spawn(&launch).await.unwrap_err();
    assert!(error.text().contains("/proc/nope"), "{error}");
}

//! The table of causes, on made-up evidence.

use nix::libc::{SIGABRT, SIGILL, SIGKILL, SIGSEGV};

use crate::model::Exit;
use crate::process::causes::{Evidence, KNOWN, find};
use crate::process::log::LifeLog;

fn names(seen: &Evidence) -> Vec<String> {
    find(seen).into_iter().map(|cause| cause.name).collect()
}

fn died(code: i32, lines: &[&str]) -> Evidence {
    let codes = lines
        .iter()
        .filter_map(|line| line.split_once("[errcode=")?.1.split_once(']')?.0.parse().ok())
        .collect();
    let log =
        LifeLog { lines: lines.iter().map(|line| (*line).to_owned()).collect(), codes, ..LifeLog::default() };
    Evidence { exit: Some(Exit::Code(code)), log, ..Evidence::default() }
}

fn refused(status: i32, output: &[&str]) -> Evidence {
    let output = output.iter().map(|line| (*line).to_owned()).collect();
    Evidence { launcher: Some(Exit::Code(status)), output, ..Evidence::default() }
}

#[test]
fn every_row_of_the_table_is_complete_and_its_name_stands_once() {
    let mut names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
    assert!(KNOWN.iter().all(|known| !known.signs.is_empty() && known.advice.len() > 10));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KNOWN.len());
}

#[test]
fn what_a_launcher_refuses() {
    for (status, line, expected) in [
        (
            114,
            "ERROR: current user(uid=0) that starts seekdb is not the same with the original one(uid=65534)",
            "other-user",
        ),
        (96, "Start seekdb as a daemon failed. Did you started seekdb already?", "already-running"),
        (
            87,
            "Failed to create redo dir. path='/proc/nope', system error=No such file",
            "directory-not-creatable",
        ),
        (79, "Failed to create base dir. path='/x', system error=No such file", "directory-not-creatable"),
        (94, "Invalid argument, port value out of range [1, 65535], but got 70000", "bad-argument"),
        (127, "./seekdb: error while loading shared libraries: libaio.so.1: cannot open", "missing-library"),
    ] {
        let seen =
            refused(status, &["Starting seekdb (OceanBase seekdb 1.4.0.0) source revision 1-d0.", line]);
        let causes = find(&seen);
        assert_eq!(causes.first().map(|cause| cause.name.as_str()), Some(expected));
        assert!(causes[0].evidence.contains(line), "{:?}", causes[0]);
    }
}

#[test]
fn what_the_log_says() {
    for (line, expected) in [
        ("[t] ERROR [S] start (f) [1] [errcode=-4736] observer instance start fail.", "log-disk-too-small"),
        ("[t] ERROR [B] prepare (f) [1] [errcode=-4264] bootstrap prepare fail.", "log-disk-does-not-fit"),
        ("[t] ERROR [S] start (f) [1] [errcode=-4184] block manager start fail.", "disk-full"),
        ("[t] EDIAG [S] start (f) [1] [errcode=-4016] fail to start net frame(ret=-4016)", "port-taken"),
        (
            "[t] ERROR [S] init (f) [1] [errcode=-4393] local_ip is not a valid IP for this machine",
            "address-not-local",
        ),
        ("[t] ERROR [S] init (f) [1] [errcode=-4147] config zone cannot be empty", "zone-missing"),
        (
            "[t] ERROR [S] init (f) [1] [errcode=-4147] memory_limit with unexpected value",
            "bad-memory-setting",
        ),
        ("[t] ERROR [S] init (f) [1] [errcode=-4147] something else", "bad-configuration"),
        ("[t] ERROR [S] init (f) [1] [errcode=-4624] no room", "resources-too-small"),
    ] {
        let causes = find(&died(1, &[line]));
        assert_eq!(causes.first().map(|cause| cause.name.as_str()), Some(expected), "{line}");
        let (_, text) = line.split_once("] ").unwrap();
        assert!(text.ends_with(causes[0].evidence.split_once(": ").unwrap().1), "{:?}", causes[0]);
    }
}

#[test]
fn memory_is_proved_by_name_or_by_count_with_sigkill() {
    let killed = Evidence { exit: Some(Exit::Signal(SIGKILL)), ..Evidence::default() };
    assert_eq!(names(&killed), ["killed-from-outside"]);
    let counted = Evidence { oom_counted: Some("the kernel killed 1".to_owned()), ..killed.clone() };
    assert_eq!(names(&counted), ["out-of-memory"]);
    let named = Evidence { oom_named: Some("Killed process 7 (seekdb)".to_owned()), ..killed };
    assert_eq!(names(&named), ["out-of-memory"]);
    let other = Evidence { exit: Some(Exit::Code(1)), ..counted };
    assert!(!names(&other).contains(&"out-of-memory".to_owned()), "somebody else was killed");
}

#[test]
fn a_taken_port_counts_only_for_a_life_that_never_listened() {
    let taken = vec!["mysql_port 2881 is taken: 0.0.0.0:2881 by pid 7 (nc)".to_owned()];
    let seen = Evidence { taken_ports: taken, ..died(1, &[]) };
    assert_eq!(names(&seen), ["port-taken"]);
    let mut served = seen.clone();
    served.log.was_ready = true;
    assert!(!names(&served).contains(&"port-taken".to_owned()));
    let alive = Evidence { exit: None, ..seen };
    assert_eq!(names(&alive), Vec::<String>::new());
}

#[test]
fn signals_point_to_their_senders() {
    for (signal, expected) in
        [(SIGILL, "illegal-instruction"), (SIGSEGV, "crash"), (SIGABRT, "crash"), (15, "killed-from-outside")]
    {
        let seen = Evidence { exit: Some(Exit::Signal(signal)), ..Evidence::default() };
        assert_eq!(names(&seen), [expected]);
    }
    assert_eq!(names(&died(0, &[])), ["stopped-from-outside"]);
}

#[test]
fn silence_names_what_was_given_and_a_log_breaks_it() {
    let mut silent = died(1, &[]);
    silent.log.is_empty = true;
    silent.options.insert("memory_limit".to_owned(), "1M".to_owned());
    let causes = find(&silent);
    assert_eq!(causes[0].name, "bad-parameter");
    assert!(causes[0].evidence.contains("memory_limit=1M"));
    silent.log.is_empty = false;
    assert_eq!(names(&silent), Vec::<String>::new());
}

#[test]
fn an_interrupted_first_start_of_others_is_recognised_by_number_and_step() {
    let step = |step: &str, code: i32| {
        let mut seen = died(1, &[&format!("[t] ERROR [S] start (f) [1] [errcode={code}] {step} fail")]);
        seen.log.last_step = Some(step.to_owned());
        names(&seen)
    };
    assert_eq!(step("[server_start 12/14]", -4023), ["interrupted-first-start"]);
    assert_eq!(step("[server_start 9/14]", -4015), ["interrupted-first-start"]);
    assert_eq!(step("[server_start 9/14]", -4023), Vec::<String>::new());
}

#[test]
fn what_hangs_says_where() {
    let mut seen = Evidence::default();
    seen.log.last_step = Some("[server_start 11/14] wait for server runtime success.".to_owned());
    let causes = find(&seen);
    assert_eq!(causes[0].name, "not-getting-ready");
    assert!(causes[0].evidence.contains("11/14"));
    seen.full_disk = Some("only 1 KiB are free for /data".to_owned());
    assert_eq!(names(&seen), ["disk-full"]);
    seen.log.was_ready = true;
    assert_eq!(names(&seen), Vec::<String>::new());
}

#[test]
fn what_cannot_fit_is_named_even_if_the_log_lost_its_end() {
    let mut seen = died(1, &[]);
    seen.misfits = vec![("log-disk-too-small", "log_disk_size is 512M".to_owned())];
    let causes = find(&seen);
    assert_eq!(causes[0].name, "log-disk-too-small");
    assert!(causes[0].advice.contains("2G"));
    seen.log.was_ready = true;
    assert_eq!(names(&seen), Vec::<String>::new());
    let both =
        Evidence { misfits: seen.misfits, ..died(1, &["[t] ERROR [S] x (f) [1] [errcode=-4736] too small"]) };
    assert_eq!(names(&both), ["log-disk-too-small"], "once, and by the better evidence");
}

#[test]
fn another_version_is_told_with_both() {
    let mut seen = died(1, &[]);
    seen.versions = Some(("1.3.0.5".to_owned(), "1.4.0.0".to_owned()));
    let causes = find(&seen);
    assert_eq!(causes[0].name, "other-version");
    assert!(causes[0].evidence.contains("1.3.0.5") && causes[0].evidence.contains("1.4.0.0"));
}

#[test]
fn the_headline_is_the_first_cause() {
    let causes = find(&died(1, &["[t] ERROR [S] x (f) [1] [errcode=-4736] too small"]));
    let diagnosis = crate::model::Diagnosis { causes, ..Default::default() };
    assert!(diagnosis.headline().contains("log_disk_size is below the minimum"), "{}", diagnosis.headline());
}

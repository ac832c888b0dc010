//! Everything a start would fail on, looked at without starting (P10, W5). The same is asked before a stop: never stop a
//! server that would not come up again.
//!
//! Invariant: looking changes nothing; the one thing it runs is the executable with `-V`. A check that cannot see says
//! nothing; a finding quotes what was seen and what to do.
//!
//! Not here: what is done about a finding (`flow`).

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use camino::Utf8Path;
use nix::unistd::{AccessFlags, access};

use super::causes;
use super::command::RunError;
use super::engine::{Options, option, size_option};
use super::identity::Ident;
use super::instance::{Instance, dotted_version};
use super::layout::FirstStart;
use crate::config::EngineKind;
use crate::host::disk::{self, human};
use crate::host::{limits, memory, net, ports};
use crate::model::{Finding, Launch, Timestamp};

/// The documentation of OceanBase asks for this many open files.
const NOFILE_WANTED: u64 = 655_350;
/// Below this a server dies under its first load.
const NOFILE_LEAST: u64 = 1_024;
/// Asynchronous I/O requests that must be left; a seekdb takes 512, an observer some thousands.
const AIO_LEAST: u64 = 4_096;
/// With less free a database hangs in its start instead of failing.
const DISK_LEAST_BYTES: u64 = 64 << 20;
/// Both engines refuse a smaller `memory_limit`.
const MEMORY_LIMIT_LEAST_BYTES: u64 = 1 << 30;
/// Smaller jumps are corrections of the clock.
const CLOCK_JUMP_SECS: i64 = 60;

fn fatal(check: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { check: check.to_owned(), is_fatal: true, problem: problem.into(), remedy: remedy.into() }
}

fn warning(check: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { is_fatal: false, ..fatal(check, problem, remedy) }
}

/// All checks but the one that runs the executable. It looks at `/proc` of every process: call it off the async threads.
pub(super) fn check(
    instance: &Instance,
    launch: &Launch,
    running: Option<Ident>,
    now: Timestamp,
) -> Vec<Finding> {
    let options = instance.known_options(&launch.options);
    let mut findings = Vec::new();
    findings.extend(binary(&instance.settings.binary));
    findings.extend(home(instance, launch));
    findings
        .extend(instance.path_problem(&options).map(|problem| fatal("home", problem, "use another path")));
    findings.extend(owner(instance.home(), nix::unistd::geteuid().as_raw()));
    findings.extend(port(instance, &options, running));
    findings.extend(space(instance, launch, &options));
    if launch.is_first {
        let problems = instance.engine.option_problems(&options);
        findings
            .extend(problems.into_iter().map(|(name, problem)| fatal("disk", problem, causes::advice(name))));
    }
    findings.extend(memory_size(&options, instance.settings.kind == EngineKind::Observer));
    findings.extend(network(instance.settings.kind, net::has_ipv4().unwrap_or(true)));
    findings.extend(limit());
    findings.extend(clock(instance, now));
    findings
}

/// Whether the executable runs at all: a wrong architecture or a missing library shows here.
pub(super) async fn runs(instance: &Instance) -> Option<Finding> {
    let binary = &instance.settings.binary;
    let text = match instance.version().await {
        Ok(text) => text,
        Err(RunError::Start { source, .. }) => {
            let problem = format!("{binary} does not run: {source}");
            return Some(fatal("binary", problem, "install a build for this host, with execute permission"));
        }
        Err(error @ RunError::TooLong { .. }) => {
            return Some(warning(
                "binary",
                error.to_string(),
                "see whether this host is short of memory or disk",
            ));
        }
    };
    if dotted_version(&text).is_some() {
        return None;
    }
    let said = text.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let is_library = text.iter().any(|line| line.contains("shared librar"));
    let remedy = if is_library {
        "install the library that is named, or put it beside the executable"
    } else {
        "check engine.binary: this does not look like the engine that is configured"
    };
    Some(fatal("binary", format!("{binary} -V does not tell a version: {said}"), remedy))
}

pub(super) fn binary(path: &Utf8Path) -> Option<Finding> {
    let remedy = "install the engine there, or set engine.binary";
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) => return Some(fatal("binary", format!("{path} cannot be used: {error}"), remedy)),
    };
    if !found.is_file() {
        return Some(fatal("binary", format!("{path} is not a file"), remedy));
    }
    let mode = found.permissions().mode() & 0o7777;
    access(path.as_std_path(), AccessFlags::X_OK).is_err().then(|| {
        let problem =
            format!("{path} is not executable: its mode is {mode:04o}, its owner uid {}", found.uid());
        fatal("binary", problem, format!("chmod 0755 {path}"))
    })
}

fn home(instance: &Instance, launch: &Launch) -> Vec<Finding> {
    let home = instance.home();
    let mut findings = Vec::new();
    let seen_at = disk::nearest_existing(home);
    if access(seen_at.as_std_path(), AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        let problem = format!("{seen_at} is not writable for uid {}", nix::unistd::geteuid());
        findings.push(fatal("home", problem, "give it to the agent's user"));
    } else if home.exists() && !home.is_dir() {
        findings.push(fatal(
            "home",
            format!("{home} is not a directory"),
            "move it away, or set another home",
        ));
    }
    if FirstStart::is_marked(&instance.state_dir()) {
        let remedy = "the next start removes what it made and begins afresh; nobody ever used that data";
        findings.push(warning("home", "an earlier first start never became ready", remedy));
    } else if !launch.is_first && !instance.has_data() {
        let problem =
            format!("{home} holds no data of {}, though it was started before", instance.engine.name());
        findings.push(fatal(
            "home",
            problem,
            "mount its disk, or restore it; an empty start would hide the loss",
        ));
    } else if !launch.is_first {
        let files = instance.engine.lasting_files().iter().map(|file| home.join(file));
        findings.extend(files.filter(|file| !file.exists()).map(|file| {
            let problem = format!("{file} is missing, and the rest of the data is there");
            fatal("home", problem, "mount the disk it lies on, or restore the home from a backup")
        }));
    }
    findings
}

fn owner(home: &Utf8Path, own_uid: u32) -> Option<Finding> {
    let etc = home.join("etc");
    let owner = std::fs::metadata(&etc).ok()?.uid();
    (owner != own_uid).then(|| {
        let problem =
            format!("{etc} belongs to uid {owner}, the agent runs as uid {own_uid}; the engine refuses that");
        let remedy = format!("run the agent as uid {owner}, or: chown -R {own_uid} {home}");
        fatal("owner", problem, remedy)
    })
}

fn port(instance: &Instance, options: &Options, running: Option<Ident>) -> Vec<Finding> {
    let remedy = "end what listens there, or configure another port";
    let taken = instance.taken_ports(options, running.map(|ident| ident.pid));
    if !taken.is_empty() {
        return taken.into_iter().map(|problem| fatal("port", problem, remedy)).collect();
    }
    if running.is_some() {
        return Vec::new();
    }
    let ports = instance.engine.ports(instance.home(), options);
    ports
        .into_iter()
        .filter_map(|(key, port)| {
            let error = ports::why_not_bindable(port)?;
            Some(fatal("port", format!("{key} {port} cannot be opened: {error}"), remedy))
        })
        .collect()
}

fn space(instance: &Instance, launch: &Launch, options: &Options) -> Vec<Finding> {
    let reserve = instance.settings.disk_reserve_bytes;
    let mut findings = Vec::new();
    // Several needs on one disk add up.
    let mut disks: BTreeMap<u64, (disk::Space, u64, Vec<String>)> = BTreeMap::new();
    for need in instance.engine.needs(instance.home(), options) {
        let Ok(space) = disk::space(&need.at) else { continue };
        let entry = disks.entry(space.device).or_insert((space, 0, Vec::new()));
        entry.1 = entry.1.saturating_add(need.bytes);
        entry.2.push(format!("{} for {}", human(need.bytes), need.because));
    }
    if let Ok(space) = disk::space(&instance.home().join("store")) {
        disks.entry(space.device).or_insert((space, 0, Vec::new()));
    }
    for (space, bytes, reasons) in disks.into_values() {
        let free = human(space.free_bytes);
        let at = &space.seen_at;
        // A later start has its files already.
        let is_first = launch.is_first && !instance.is_initialised();
        if is_first && space.free_bytes < bytes.saturating_add(reserve) {
            let problem = format!(
                "{free} are free at {at}, a first start needs {} ({}) and {} in reserve",
                human(bytes),
                reasons.join(", "),
                human(reserve)
            );
            findings.push(fatal("disk", problem, "free space, use another disk, or lower the sizes"));
        } else if space.free_bytes < DISK_LEAST_BYTES {
            let problem = format!("only {free} are free at {at}; a start hangs on a full disk");
            findings.push(fatal("disk", problem, "free space"));
        } else if space.free_bytes < reserve {
            let problem = format!("{free} are free at {at}, less than the reserve of {}", human(reserve));
            findings.push(warning("disk", problem, "free space before the disk is full"));
        }
    }
    findings
}

/// `is_binding`: the engine takes what it is told; seekdb 1.4 stores `memory_limit` and does not act on it.
fn memory_size(options: &Options, is_binding: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(memory) = memory::memory() else { return findings };
    let group = memory::Groups::of(std::process::id().cast_signed()).limit();
    for key in ["memory_limit", "memory_budget"] {
        let Some(wanted) = size_option(options, key) else { continue };
        let value = option(options, key).unwrap_or_default();
        if key == "memory_limit" && wanted < MEMORY_LIMIT_LEAST_BYTES {
            let problem = format!("{key} is {value}, below the minimum of 1G");
            findings.push(fatal("memory", problem, "raise it to 1G or more"));
        } else if wanted > memory.total_bytes {
            let problem = format!("{key} is {value}, the host has {}", human(memory.total_bytes));
            let remedy = "lower it: the kernel would kill the database under load";
            findings.push(Finding { is_fatal: is_binding, ..fatal("memory", problem, remedy) });
        } else if let Some(group) = group.as_ref().filter(|group| wanted > group.bytes) {
            let problem =
                format!("{key} is {value}, the control group {} allows {}", group.set_by, human(group.bytes));
            let remedy = "lower it, or raise the limit of the container or service";
            findings.push(Finding { is_fatal: is_binding, ..fatal("memory", problem, remedy) });
        } else if wanted > memory.available_bytes {
            let problem = format!("{key} is {value}, {} are available now", human(memory.available_bytes));
            findings.push(warning("memory", problem, "end other programs, or lower it"));
        }
    }
    findings
}

/// An observer is told its address; seekdb takes what it finds.
fn network(kind: EngineKind, has_ipv4: bool) -> Option<Finding> {
    let is_missing = kind == EngineKind::Seekdb && !has_ipv4;
    is_missing.then(|| {
        let problem =
            "no interface but loopback has an IPv4 address, and the engine does not start without one";
        fatal("network", problem, causes::advice(causes::NO_ADDRESS))
    })
}

fn limit() -> Vec<Finding> {
    let mut findings = Vec::new();
    let nofile = limits::inherited().nofile;
    let remedy = "raise it in the agent's unit (LimitNOFILE=655350) or in limits.conf";
    if nofile.is_below(NOFILE_LEAST) {
        let problem = format!("only {nofile} open files are allowed: the database will fail under load");
        findings.push(warning("limits", problem, remedy));
    } else if nofile.is_below(NOFILE_WANTED) {
        let problem = format!("{nofile} open files are allowed, {NOFILE_WANTED} are recommended");
        findings.push(warning("limits", problem, remedy));
    }
    if let Some((used, most)) = limits::aio().filter(|(used, most)| most.saturating_sub(*used) < AIO_LEAST) {
        let problem = format!("{used} of {most} asynchronous I/O requests of this host are in use");
        findings.push(warning("limits", problem, "sysctl -w fs.aio-max-nr=1048576"));
    }
    findings
}

/// A database that meets files from its future misjudges leases and checkpoints.
fn clock(instance: &Instance, now: Timestamp) -> Option<Finding> {
    let written = std::fs::metadata(instance.log_path()).and_then(|found| found.modified()).ok()?;
    let ahead = Timestamp::try_from(written).ok()?.as_second() - now.as_second();
    (ahead > CLOCK_JUMP_SECS).then(|| {
        let problem = format!("the log was last written {ahead} seconds in the future: the clock went back");
        warning("clock", problem, "set the clock right (chronyc tracking) before the start")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files;
    use crate::process::instance::Settings;
    use camino::Utf8PathBuf;

    struct Room {
        _guard: tempfile::TempDir,
        instance: Instance,
    }

    fn room() -> Room {
        let guard = tempfile::Builder::new().prefix("obpilot-").tempdir().unwrap();
        let home = Utf8PathBuf::from_path_buf(guard.path().join("home")).unwrap();
        files::create_dirs(&home, 0o755).unwrap();
        let settings = Settings {
            kind: EngineKind::Seekdb,
            binary: "/usr/bin/env".into(),
            home,
            disk_reserve_bytes: 1 << 20,
            has_systemd_scope: false,
        };
        Room { _guard: guard, instance: Instance::new(settings) }
    }

    fn launch(is_first: bool, options: &[(&str, &str)]) -> Launch {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Launch { is_first, options }
    }

    impl Room {
        fn found(&self, launch: &Launch, check_name: &str) -> Vec<Finding> {
            let now = crate::clock::system().now();
            let mut findings = check(&self.instance, launch, None, now);
            findings.retain(|finding| finding.check == check_name);
            findings
        }
    }

    #[test]
    fn a_missing_a_wrong_and_an_unexecutable_binary_are_named() {
        let room = room();
        let dir = room.instance.home();
        let file = dir.join("seekdb");
        files::write_atomic(&file, b"x", 0o644).unwrap();
        for (path, part) in [
            (dir.join("nothing"), "No such file"),
            (dir.to_owned(), "is not a file"),
            (file.clone(), "not executable: its mode is 0644"),
        ] {
            let finding = binary(&path).unwrap();
            assert!(finding.is_fatal);
            assert!(finding.problem.contains(part) && finding.problem.contains(path.as_str()), "{finding}");
        }
        assert_eq!(binary(Utf8Path::new("/usr/bin/env")), None);
    }

    #[tokio::test]
    async fn a_binary_that_is_no_program_or_another_one_is_found_by_running_it() {
        let mut room = room();
        let file = room.instance.home().join("seekdb");
        files::write_atomic(&file, b"garbage", 0o755).unwrap();
        room.instance.settings.binary = file.clone();
        let finding = runs(&room.instance).await.unwrap();
        assert!(finding.is_fatal && finding.problem.contains("Exec format error"), "{finding}");
        let script = b"#!/bin/sh\necho './seekdb: error while loading shared libraries: libaio.so.1: missing' >&2\nexit 127\n";
        files::write_atomic(&file, script, 0o755).unwrap();
        let finding = runs(&room.instance).await.unwrap();
        assert!(finding.problem.contains("libaio.so.1") && finding.remedy.contains("library"), "{finding}");
        files::write_atomic(&file, b"#!/bin/sh\necho 'seekdb (OceanBase seekdb 1.4.0.0)' >&2\n", 0o755)
            .unwrap();
        assert_eq!(runs(&room.instance).await, None);
    }

    #[test]
    fn a_taken_port_is_named_with_its_owner_unless_it_is_our_own() {
        let room = room();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port().to_string();
        let launch = launch(true, &[("mysql_port", &port)]);
        let found = room.found(&launch, "port");
        assert!(found[0].is_fatal && found[0].problem.contains("by pid"), "{found:?}");
        let own = Ident { pid: std::process::id().cast_signed(), start_ticks: 0 };
        assert_eq!(super::port(&room.instance, &launch.options, Some(own)), []);
    }

    #[test]
    fn sizes_on_one_disk_add_up() {
        let room = room();
        let free = disk::space(room.instance.home()).unwrap().free_bytes >> 20;
        let half = format!("{}M", free * 6 / 10);
        let one = launch(true, &[("datafile_size", &half)]);
        assert_eq!(room.found(&one, "disk"), []);
        let both = launch(true, &[("datafile_size", &half), ("log_disk_size", &half)]);
        let found = room.found(&both, "disk");
        assert!(found[0].is_fatal && found[0].problem.contains("log_disk_size"), "{found:?}");
        let later = Launch { is_first: false, ..both };
        assert_eq!(room.found(&later, "disk"), [], "a later start has its files already");
    }

    #[test]
    fn a_host_without_an_address_is_found() {
        let found = network(EngineKind::Seekdb, false).unwrap();
        assert!(found.is_fatal && found.remedy.contains("loopback"), "{found}");
        assert_eq!((network(EngineKind::Seekdb, true), network(EngineKind::Observer, false)), (None, None));
        assert!(net::has_ipv4().unwrap(), "the machine of the tests has one, or no engine would run here");
    }

    #[test]
    fn memory_is_compared_with_what_is_there() {
        let finding = |value: &str, is_binding: bool| {
            let options = launch(true, &[("memory_limit", value)]).options;
            memory_size(&options, is_binding).first().map(|finding| finding.is_fatal)
        };
        assert_eq!(finding("1M", false), Some(true), "refused by either engine");
        assert_eq!((finding("4096T", true), finding("4096T", false)), (Some(true), Some(false)));
        assert_eq!((finding("1G", true), finding("nonsense", true)), (None, None));
    }

    #[test]
    fn another_owner_is_found() {
        let room = room();
        files::create_dirs(&room.instance.home().join("etc"), 0o755).unwrap();
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(owner(room.instance.home(), own), None);
        let finding = owner(room.instance.home(), own + 1).unwrap();
        assert!(finding.is_fatal && finding.problem.contains(&format!("uid {own}")), "{finding}");
    }

    #[test]
    fn a_path_that_the_engine_cannot_live_in_is_refused() {
        let room = room();
        let found = room.found(&launch(true, &[("redo_dir", "/data/x.tmp1/redo")]), "home");
        assert!(found[0].is_fatal && found[0].problem.contains("/data/x.tmp1/redo"), "{found:?}");
        let found = room.found(&launch(true, &[("redo_dir", "/data/100%/redo")]), "home");
        assert!(found[0].is_fatal && found[0].problem.contains("/data/100%/redo"), "{found:?}");
    }

    #[test]
    fn an_empty_home_of_a_later_start_is_refused() {
        let room = room();
        let found = room.found(&launch(false, &[]), "home");
        assert!(found[0].is_fatal && found[0].remedy.contains("mount its disk"), "{found:?}");
        assert_eq!(room.found(&launch(true, &[]), "home"), []);
    }

    #[test]
    fn an_interrupted_first_start_is_a_warning() {
        let room = room();
        let places = room.instance.engine.places(room.instance.home(), &Options::new());
        FirstStart::prepare(&room.instance.state_dir(), &places).unwrap();
        let found = room.found(&launch(true, &[]), "home");
        assert!(!found[0].is_fatal && found[0].problem.contains("never became ready"), "{found:?}");
    }

    #[test]
    fn a_home_that_cannot_be_made_is_found() {
        let mut room = room();
        room.instance.settings.home = "/proc/nope/home".into();
        let found = room.found(&launch(true, &[]), "home");
        assert!(nix::unistd::geteuid().is_root() || found[0].is_fatal, "{found:?}");
    }

    #[test]
    fn a_clock_that_went_back_is_seen_in_the_log() {
        let room = room();
        files::create_dirs(&room.instance.home().join("log"), 0o755).unwrap();
        files::write_atomic(&room.instance.log_path(), b"x", 0o644).unwrap();
        let now = crate::clock::system().now();
        assert_eq!(clock(&room.instance, now), None);
        let past = now - jiff::SignedDuration::from_secs(3600);
        assert!(clock(&room.instance, past).unwrap().problem.contains("the clock went back"));
    }
}

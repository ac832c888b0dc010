//! Known causes of a start that fails or a process that ends: what gives each away, and what to do about it.
//!
//! Purpose: the person on call gets the sentence that otherwise a maintainer writes after asking for the log (P1).
//!
//! Invariant: a pure function of the evidence. A cause quotes what it saw; the most certain comes first.
//!
//! Not here: gathering the evidence (`diagnose`).

use nix::libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV};

use super::engine::Options;
use super::log::LifeLog;
use crate::model::{Cause, Exit};

/// Everything that was seen of one life, or of a launcher that gave none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// How the launcher ended, where it did not return 0.
    pub launcher: Option<Exit>,
    /// First lines of what the launcher printed.
    pub output: Vec<String>,
    /// How the process ended; `None` while it lives.
    pub exit: Option<Exit>,
    /// The agent has sent it a signal, so its end is what was wanted.
    pub is_signalled: bool,
    pub log: LifeLog,
    /// The kernel names this process as killed for memory.
    pub oom_named: Option<String>,
    /// The kernel killed somebody for memory since the start.
    pub oom_counted: Option<String>,
    /// Ports of this engine that another process listens on.
    pub taken_ports: Vec<String>,
    /// Options of a first start that this host cannot satisfy: name of the cause, and what was seen.
    pub misfits: Vec<(&'static str, String)>,
    /// A path in which this engine cannot live.
    pub bad_path: Option<String>,
    /// A disk of this instance on which hardly anything is free.
    pub full_disk: Option<String>,
    /// Version of the data and of the executable, where both are known and differ.
    pub versions: Option<(String, String)>,
    pub options: Options,
    /// It was the start that initialises the data.
    pub is_first: bool,
}

/// What gives a cause away.
pub(super) enum Sign {
    /// Exit status of the launcher.
    Status(i32),
    /// Error number in a fatal line of the log.
    Code(i32),
    /// Words of the launcher or of a fatal line.
    Words(&'static str),
}

pub(super) struct Known {
    pub name: &'static str,
    pub signs: &'static [Sign],
    pub advice: &'static str,
}

use Sign::{Code, Status, Words};

/// Measured: seekdb dies (-4016, step 4 of 14) where only loopback has an IPv4 address, as in a container without network.
pub(super) const NO_ADDRESS: &str = "no-network-address";

/// Most certain first. Numbers: `seekdb-engine.md` §6, `observer-model.md` §4.
pub(super) const KNOWN: &[Known] = &[
    Known {
        name: "missing-library",
        signs: &[Words("error while loading shared libraries"), Words("symbol lookup error"), Status(127)],
        advice: "install the library that is named, or put it beside the executable; `ldd` shows what is missing",
    },
    Known {
        name: "other-user",
        signs: &[Status(114), Status(164), Code(-9564), Words("is not the same with the original one")],
        advice: "start as the user who owns the directory etc, or give etc, store, run and log to this user",
    },
    Known {
        name: NO_ADDRESS,
        signs: &[Words("init sql expr static var")],
        advice: "give an interface other than loopback an IPv4 address, it need not be up: the engine makes its ids from one",
    },
    Known {
        name: "already-running",
        signs: &[Status(96), Words("pid already exists"), Words("Did you started")],
        advice: "another process holds the lock on the pid file of this home; find it with `fuser` on that file",
    },
    Known {
        name: "directory-not-creatable",
        signs: &[Status(87), Status(79), Words("create pid dir fail")],
        advice: "make the directory that is named, writable for the agent's user; a file of that name must go away",
    },
    Known {
        name: "bad-argument",
        signs: &[Status(94), Words("port number should")],
        advice: "correct the option that is named",
    },
    Known {
        name: "port-taken",
        signs: &[
            Words("fail to start net frame"),
            Words("nio_start failed"),
            Words("sql nio bind listen fd failed"),
            Words("address already in use"),
        ],
        advice: "end what listens on the port, or configure another port; the data directory is intact",
    },
    Known {
        name: "log-disk-too-small",
        signs: &[Code(-4736)],
        advice: "log_disk_size is below the minimum; use 2G or more, or leave it out",
    },
    Known {
        name: "log-disk-does-not-fit",
        signs: &[Code(-4264)],
        advice: "log_disk_size is larger than what is free where the redo logs lie; free space or lower it",
    },
    Known {
        name: "disk-full",
        signs: &[Code(-4184), Words("No space left on device")],
        advice: "the data file does not fit; free space on the data disk or lower datafile_size",
    },
    Known {
        name: "bad-memory-setting",
        signs: &[
            Words("memory_limit with unexpected value"),
            Words("memory limit for oceanbase isn't sufficient"),
            Words("memory limit too small"),
        ],
        advice: "set memory_limit to at least 1G and to no more than the host or its control group has",
    },
    Known {
        name: "address-not-local",
        signs: &[Code(-4393), Words("local_ip is not a valid IP for this machine")],
        advice: "local_ip must be an address of an interface of this host",
    },
    Known {
        name: "zone-missing",
        signs: &[Words("config zone cannot be empty"), Words("invalid cluster id")],
        advice: "a first start needs zone and cluster_id; if this is none, the saved configuration in etc is lost and \
                 can be restored from etc2 or etc3",
    },
    Known {
        name: "bad-configuration",
        signs: &[Code(-4147)],
        advice: "a parameter has a value that the engine refuses; the line names it",
    },
    Known {
        name: "resources-too-small",
        signs: &[Code(-4624), Code(-4290)],
        advice: "memory, data file or log disk are smaller than what is configured; compare them with the host",
    },
];

/// Causes that fit, most certain first.
pub(super) fn find(seen: &Evidence) -> Vec<Cause> {
    let mut causes = Vec::new();
    causes.extend(killed_for_memory(seen));
    causes.extend(taken_port(seen));
    causes.extend(bad_path(seen));
    causes.extend(KNOWN.iter().filter_map(|known| known.look(seen)));
    causes.extend(misfits(seen));
    causes.extend(full_disk(seen));
    causes.extend(other_version(seen));
    causes.extend(interrupted_before(seen));
    if causes.is_empty() {
        causes.extend(crashed(seen).or_else(|| killed(seen).filter(|_| !seen.is_signalled)));
        causes.extend(silent(seen));
        causes.extend(ended_well(seen));
        causes.extend(hanging(seen));
    }
    let mut named: Vec<Cause> = Vec::new();
    for cause in causes {
        if !named.iter().any(|known| known.name == cause.name) {
            named.push(cause);
        }
    }
    named
}

fn cause(name: &str, evidence: impl Into<String>, advice: &str) -> Cause {
    Cause { name: name.to_owned(), evidence: evidence.into(), advice: advice.to_owned() }
}

impl Known {
    fn look(&self, seen: &Evidence) -> Option<Cause> {
        let evidence = self.signs.iter().find_map(|sign| match sign {
            Status(status) => {
                let is_it = seen.launcher == Some(Exit::Code(*status));
                is_it.then(|| match telling(&seen.output).next() {
                    Some(line) => format!("the launcher returned {status} and said: {line}"),
                    None => format!("the launcher returned {status} and said nothing"),
                })
            }
            Code(code) => {
                let line = seen.log.lines.iter().find(|line| line.contains(&format!("[errcode={code}]")));
                seen.log.codes.contains(code).then(|| match line {
                    Some(line) => format!("the log says {code}: {}", message(line)),
                    None => format!("the log says {code}"),
                })
            }
            Words(words) => {
                let line = seen.output.iter().chain(&seen.log.lines).find(|line| line.contains(words))?;
                Some(format!("it said: {}", message(line)))
            }
        })?;
        Some(cause(self.name, evidence, self.advice))
    }
}

/// The lines of a launcher's output that say something: not the greeting, not the farewell.
pub(super) fn telling(output: &[String]) -> impl Iterator<Item = &String> {
    const GREETINGS: [&str; 5] = [
        "Starting ",
        "Change working directory",
        "The log file is in",
        "The seekdb will be",
        "Start seekdb with",
    ];
    let is_telling =
        |line: &&String| !GREETINGS.iter().any(|greeting| line.trim_start().starts_with(greeting));
    output.iter().filter(is_telling)
}

/// A log line without time, thread and place.
fn message(line: &str) -> &str {
    match line.split_once("[errcode=").and_then(|(_, rest)| rest.split_once(']')) {
        Some((_, text)) if !text.trim().is_empty() => text.trim(),
        Some(_) | None => line,
    }
}

fn killed_for_memory(seen: &Evidence) -> Option<Cause> {
    let advice =
        "give the host or its control group more memory, or lower the memory settings of the database";
    if let Some(line) = &seen.oom_named {
        return Some(cause("out-of-memory", format!("the kernel killed it for memory: {line}"), advice));
    }
    let counted = seen.oom_counted.as_ref().filter(|_| seen.exit == Some(Exit::Signal(SIGKILL)))?;
    Some(cause("out-of-memory", format!("it was killed by SIGKILL, and {counted}"), advice))
}

/// A port in other hands is the cause only of a life that never listened itself.
fn taken_port(seen: &Evidence) -> Option<Cause> {
    let has_failed = seen.launcher.is_some() || seen.exit.is_some_and(|exit| exit != Exit::Code(0));
    let taken = seen.taken_ports.first().filter(|_| has_failed && !seen.log.was_ready)?;
    let advice = "end what listens there, or configure another port; the data directory is intact";
    Some(cause("port-taken", taken.clone(), advice))
}

/// What the log would have said, had its end reached the disk.
fn misfits(seen: &Evidence) -> Vec<Cause> {
    let has_failed = seen.launcher.is_some() || seen.exit.is_some_and(|exit| exit != Exit::Code(0));
    let misfits = seen.misfits.iter().filter(|_| has_failed && !seen.log.was_ready);
    misfits.map(|(name, evidence)| cause(name, evidence.clone(), advice(name))).collect()
}

/// What to do about a known cause.
pub(super) fn advice(name: &str) -> &'static str {
    KNOWN.iter().find(|known| known.name == name).map_or("correct that option", |known| known.advice)
}

fn bad_path(seen: &Evidence) -> Option<Cause> {
    let path = seen.bad_path.as_ref().filter(|_| !seen.is_first && !seen.log.was_ready)?;
    Some(cause(
        "path-not-usable",
        path.clone(),
        "move the whole home to another path while it is stopped, and start it there",
    ))
}

/// On a full disk a later start hangs without a word; a first start dies with a number.
fn full_disk(seen: &Evidence) -> Option<Cause> {
    let disk = seen.full_disk.as_ref().filter(|_| !seen.log.was_ready)?;
    Some(cause(
        "disk-full",
        disk.clone(),
        "free space on that disk; what was committed is there after the next start",
    ))
}

fn other_version(seen: &Evidence) -> Option<Cause> {
    let (data, program) = seen.versions.as_ref()?;
    let has_failed = seen.launcher.is_some() || !seen.log.was_ready;
    let advice = "start the version that wrote the data; to move to another one, dump with the old and restore with the new";
    has_failed.then(|| {
        cause("other-version", format!("the data was written by {data}, the executable is {program}"), advice)
    })
}

/// −4015 at step 9, −4023 at step 12: what an interrupted first start leaves (`seekdb-engine.md` §9). One that the agent
/// knows of is cleaned before it gets here.
fn interrupted_before(seen: &Evidence) -> Option<Cause> {
    let step = seen.log.last_step.as_deref().unwrap_or_default();
    let fits = (seen.log.codes.contains(&-4015) && step.starts_with("[server_start 9/"))
        || (seen.log.codes.contains(&-4023) && step.starts_with("[server_start 12/"));
    let advice = "if this database never served, remove its store and etc and start afresh; if it did, restore a backup";
    (fits && !seen.is_first).then(|| {
        cause(
            "interrupted-first-start",
            format!("the start ended at {step}, as after a first start that was killed"),
            advice,
        )
    })
}

fn crashed(seen: &Evidence) -> Option<Cause> {
    let Some(Exit::Signal(signal)) = seen.exit else { return None };
    let how = Exit::Signal(signal).to_string();
    match signal {
        SIGILL => Some(cause(
            "illegal-instruction",
            format!("it {how}"),
            "this processor lacks an instruction that the build needs (AVX); use another host or another build",
        )),
        SIGSEGV | SIGABRT | SIGBUS | SIGFPE => Some(cause(
            "crash",
            format!("it {how}: a fault of the engine itself"),
            "keep the log and the core file for its developers; starting it again is safe",
        )),
        _ => None,
    }
}

fn killed(seen: &Evidence) -> Option<Cause> {
    let Some(Exit::Signal(signal)) = seen.exit else { return None };
    let mut advice = "somebody sent that signal: a person, a container's memory limit, systemd or a shutdown of the host; \
                      starting it again is safe"
        .to_owned();
    if signal == SIGKILL {
        advice.push_str(". Newer engines answer SIGTERM by killing themselves, which looks the same");
    }
    Some(cause(
        "killed-from-outside",
        format!("it {} and the agent did not send it", Exit::Signal(signal)),
        &advice,
    ))
}

fn silent(seen: &Evidence) -> Option<Cause> {
    let has_failed =
        matches!(seen.exit, Some(Exit::Code(code)) if code != 0) || seen.exit == Some(Exit::Unknown);
    if !has_failed || !seen.log.is_empty {
        return None;
    }
    let given: Vec<String> = seen.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let given = if given.is_empty() { "none".to_owned() } else { given.join(", ") };
    Some(cause(
        "bad-parameter",
        format!(
            "it ended before it wrote anything into its log, as it does for a value it cannot read; given were: {given}"
        ),
        "check these values: sizes need a unit (2G), memory_limit must be at least 1G",
    ))
}

fn ended_well(seen: &Evidence) -> Option<Cause> {
    (seen.exit == Some(Exit::Code(0)) && !seen.is_signalled).then(|| {
        cause(
            "stopped-from-outside",
            "it shut down in good order (exit status 0), and the agent did not ask for it",
            "somebody sent the graceful signal; start it again when it is wanted",
        )
    })
}

fn hanging(seen: &Evidence) -> Option<Cause> {
    if seen.exit.is_some() || seen.launcher.is_some() || seen.log.was_ready {
        return None;
    }
    let step = seen.log.last_step.as_deref()?;
    Some(cause(
        "not-getting-ready",
        format!("it runs and does not listen; the last step in its log is {step}"),
        "a full disk and a store that was damaged by an interrupted first start look like this; look at the free space",
    ))
}

//! The rules of this house that a compiler does not check: who may know whom, how large a file may be, what a module
//! opens with. docs/architecture.md has the reasons.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// For each room: the rooms and the crates that its non-test code may name. A crate that is in no row may be used
/// anywhere.
const WALLS: &[(&str, &[&str], &[&str])] = &[
    ("model", &[], &["jiff", "secrecy", "nix", "camino"]),
    ("error", &[], &[]),
    ("clock", &[], &["jiff", "rustix"]),
    ("crash", &[], &["nix"]),
    ("tasks", &[], &[]),
    ("config", &["model"], &["toml", "camino", "tracing_subscriber"]),
    ("telemetry", &["config", "tasks"], &["tracing_subscriber", "prometheus_client"]),
    ("engine", &["model", "error", "clock", "tasks", "flow::ports"], &[]),
    ("cluster", &["model", "error", "clock", "config", "engine::port"], &["camino"]),
    ("flow", &["model", "error", "clock", "tasks", "crash", "config", "cluster", "engine"], &[]),
    ("app", &["model", "error", "clock", "tasks", "config", "cluster", "engine", "flow", "secure"], &[]),
    (
        "peer",
        &["model", "error", "clock", "flow", "secure", "store", "tasks", "wire", "cluster"],
        &["reqwest", "base64", "bytes"],
    ),
    (
        "wire",
        &["model", "error", "engine", "host::facts", "host::memory", "flow::instance", "flow::roll"],
        &["utoipa"],
    ),
    (
        "secure",
        &["model", "error", "clock", "config"],
        &[
            "aws_lc_rs",
            "aes_gcm",
            "md5",
            "rsa",
            "rcgen",
            "rustls",
            "base64",
            "subtle",
            "zeroize",
            "secrecy",
            "camino",
        ],
    ),
    (
        "store",
        &["model", "error", "clock", "tasks", "crash", "engine", "telemetry"],
        &["rusqlite", "camino", "tempfile"],
    ),
    ("sql", &["model", "error", "crash", "cluster", "flow::ports"], &["mysql_async"]),
    (
        "process",
        &["model", "error", "clock", "tasks", "crash", "config", "flow::ports", "host"],
        &["nix", "rustix", "procfs", "camino", "jiff", "tempfile"],
    ),
    (
        "host",
        &["model", "error", "clock", "config", "crash", "tasks"],
        &["nix", "rustix", "procfs", "sysinfo", "camino", "tempfile", "aws_lc_rs"],
    ),
    (
        "api",
        &[
            "model",
            "error",
            "clock",
            "tasks",
            "config",
            "app",
            "wire",
            "secure",
            "engine::port",
            "host",
            "cluster",
            "flow::peers",
            "flow::ports",
            "flow::instance",
            "flow::roll",
            "peer",
            "telemetry",
        ],
        &["actix_web", "actix_tls", "utoipa", "uuid", "bytes", "camino", "aws_lc_rs", "nix", "base64"],
    ),
    (
        "cli",
        &[
            "model",
            "error",
            "clock",
            "config",
            "wire",
            "secure",
            "store",
            "host",
            "api::document",
            "api::ocp_errors",
        ],
        &[
            "clap",
            "clap_complete",
            "indicatif",
            "anstream",
            "reqwest",
            "camino",
            "nix",
            "rustix",
            "anyhow",
            "jiff",
        ],
    ),
    ("daemon", &["*"], &["camino", "sd_notify", "nix", "rustix", "actix_web", "zeroize"]),
    ("main", &["cli", "daemon"], &[]),
    ("lib", &["*"], &[]),
];

/// Crates with a room of their own; naming them elsewhere is a hole in a wall.
fn walled_crates() -> BTreeSet<&'static str> {
    WALLS.iter().flat_map(|(_, _, crates)| crates.iter().copied()).collect()
}

const FILE_LINES_MAX: usize = 600;

const BANNED_NAMES: [&str; 5] = ["utils", "util", "helpers", "common", "manager"];

fn sources() -> Vec<PathBuf> {
    rust_files("src")
}

fn every_source() -> Vec<PathBuf> {
    [rust_files("src"), rust_files("tests")].concat()
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap().display().to_string()
}

fn room(path: &Path) -> String {
    let relative = relative(path);
    relative.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

fn is_test_file(path: &Path) -> bool {
    let relative = relative(path);
    relative.ends_with("/tests.rs") || relative.contains("/tests/")
}

/// A file without its `#[cfg(test)] mod tests { … }` at the end.
fn code(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests {").map_or(text, |at| text.get(..at).unwrap())
}

fn each_code_line(mut visit: impl FnMut(&Path, usize, &str)) {
    for path in sources().iter().filter(|p| !is_test_file(p)) {
        let text = std::fs::read_to_string(path).unwrap();
        for (number, line) in code(&text).lines().enumerate() {
            if !line.trim_start().starts_with("//") {
                visit(path, number + 1, line);
            }
        }
    }
}

fn report(problems: Vec<String>, rule: &str) {
    assert!(problems.is_empty(), "{rule} (docs/architecture.md):\n  {}", problems.join("\n  "));
}

#[test]
fn rooms_know_only_whom_they_may() {
    let mut problems = Vec::new();
    each_code_line(|path, number, line| {
        let room = room(path);
        let Some((_, rooms, _)) = WALLS.iter().find(|(name, _, _)| *name == room) else {
            problems.push(format!("{}: room '{room}' has no row in WALLS", relative(path)));
            return;
        };
        let mut rest = line;
        while let Some(at) = rest.find("crate::") {
            rest = rest.get(at + "crate::".len()..).unwrap();
            let named: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
            let top = named.split("::").next().unwrap();
            let is_allowed = top == room
                || top.is_empty()
                || rooms.iter().any(|r| *r == "*" || *r == top || (r.contains("::") && named.starts_with(r)));
            if !is_allowed && WALLS.iter().any(|(name, _, _)| *name == top) {
                problems.push(format!("{}:{number}: '{room}' may not know '{named}'", relative(path)));
            }
        }
    });
    report(problems, "walls between rooms");
}

#[test]
fn crates_stay_in_their_rooms() {
    let mut problems = Vec::new();
    let walled = walled_crates();
    each_code_line(|path, number, line| {
        let room = room(path);
        let Some((_, _, crates)) = WALLS.iter().find(|(name, _, _)| *name == room) else { return };
        for name in &walled {
            let is_named = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                !line.get(..at).unwrap().ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
            });
            if is_named && !crates.contains(name) {
                problems.push(format!("{}:{number}: '{room}' may not use crate {name}", relative(path)));
            }
        }
    });
    report(problems, "crates and their rooms");
}

/// `rsa` has no constant-time private-key operation (RUSTSEC-2023-0071): public keys and encodings only, in one file.
#[test]
fn rsa_is_named_in_one_file() {
    let mut files = BTreeSet::new();
    each_code_line(|path, _, line| {
        if line.contains("rsa::") && !line.contains("aws_lc_rs::rsa") {
            files.insert(relative(path));
        }
    });
    assert!(files.len() <= 1, "crate rsa is used in {files:?}");
}

#[test]
fn files_are_not_too_long() {
    let problems = sources().into_iter().filter_map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = if is_test_file(&path) { 0 } else { code(&text).lines().count() };
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", relative(&path)))
    });
    report(problems.collect(), "a file has one subject; 600 lines without its tests is the limit");
}

#[test]
fn modules_open_with_what_they_are_for() {
    let mut problems = Vec::new();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") {
            problems.push(format!("{}: does not open with //!", relative(&path)));
        }
        let is_mod = path.file_name().is_some_and(|n| n == "mod.rs") && !is_test_file(&path);
        if is_mod && code(&text).lines().any(|l| l.trim_start().trim_start_matches("pub ").starts_with("fn "))
        {
            problems.push(format!("{}: holds a function", relative(&path)));
        }
        if is_mod && !text.contains("//! Not here") {
            problems.push(format!("{}: does not say what is not here", relative(&path)));
        }
    }
    report(
        problems,
        "every module opens with purpose, invariant, and what is not there; mod.rs holds no code",
    );
}

#[test]
fn every_file_is_reached_from_lib() {
    let mut problems = Vec::new();
    for path in sources() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if matches!(name.as_str(), "lib" | "main") {
            continue;
        }
        let (parent, module) = if name == "mod" {
            let dir = path.parent().unwrap();
            (dir.parent().unwrap().to_owned(), dir.file_name().unwrap().to_string_lossy().into_owned())
        } else {
            (path.parent().unwrap().to_owned(), name)
        };
        let owner =
            if parent.join("lib.rs").exists() { parent.join("lib.rs") } else { parent.join("mod.rs") };
        let text = std::fs::read_to_string(&owner).unwrap_or_default();
        if !text.lines().any(|line| {
            line.trim_start().ends_with(&format!("mod {module};")) && !line.trim_start().starts_with("//")
        }) {
            problems.push(format!("{}: nobody declares it", relative(&path)));
        }
    }
    report(problems, "no file without a way to it");
}

#[test]
fn no_room_for_everything_and_nothing() {
    let problems = sources().into_iter().filter(|path| {
        let relative = relative(path);
        relative.split('/').any(|part| BANNED_NAMES.contains(&part.trim_end_matches(".rs")))
    });
    report(problems.map(|p| relative(&p)).collect(), "a noun, a rule or an effect; no utils");
}

#[test]
fn nothing_is_left_to_be_done_or_switched_off() {
    let mut problems = Vec::new();
    let signs = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let is_left = signs.iter().any(|sign| line.contains(sign));
            let is_code_in_comment = line.trim_start().starts_with("// ") && line.trim_end().ends_with(';');
            if is_left || is_code_in_comment {
                problems.push(format!("{}:{}: {}", relative(&path), number + 1, line.trim()));
            }
        }
    }
    report(problems, "no reminders and no code in comments");
}

/// A code that nothing returns is a promise nobody keeps.
#[test]
fn every_error_code_is_used() {
    let table = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/error.rs")).unwrap();
    let rows: BTreeMap<String, String> = table
        .lines()
        .filter(|l| l.starts_with("    ") && l.contains("\" ") && l.trim_end().ends_with("\";"))
        .filter_map(|l| l.trim().split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned())))
        .collect();
    assert!(rows.len() > 40, "the table is read");
    let mut all = String::new();
    for path in sources().iter().filter(|p| relative(p) != "error.rs") {
        all.push_str(&std::fs::read_to_string(path).unwrap());
    }
    let unused: Vec<_> =
        rows.keys().filter(|name| !all.contains(&format!("Code::{name}"))).cloned().collect();
    report(unused, "error codes nobody returns");
}

/// What docs/guarantees.md promises: each list whole, in order, and every test that it names is there.
#[test]
fn every_guarantee_has_its_row_and_its_test() {
    const LISTS: [(&str, char, usize); 5] = [
        ("Engine and coordination", 'W', 43),
        ("The database and the host", 'W', 56),
        ("The door", 'W', 28),
        ("The command line", 'C', 38),
        ("The API", 'H', 23),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/guarantees.md")).unwrap();
    let all: String = every_source()
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect::<Vec<_>>()
        .join("\n");
    let mut problems = Vec::new();
    for (title, letter, last) in LISTS {
        let section = document.split("\n## ").find(|section| section.starts_with(title)).unwrap();
        let rows: Vec<Vec<&str>> = section
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| |"))
            .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
            .collect();
        let found: Vec<_> = rows.iter().map(|row| row[0].to_owned()).collect();
        let wanted: Vec<_> = (1..=last).map(|number| format!("{letter}{number}")).collect();
        if found != wanted {
            problems.push(format!("{title}: the rows are {found:?}"));
        }
        for row in rows {
            // A test is named in backquotes; what holds a slash, a dot or a space is a place or a command.
            let named = row[2].split('`').skip(1).step_by(2).filter(|name| !name.contains(['/', '.', ' ']));
            let names: Vec<_> = named.filter(|name| name.len() > 10).collect();
            for name in &names {
                if !all.contains(&format!("fn {name}(")) {
                    problems.push(format!("{title} {}: there is no test {name}", row[0]));
                }
            }
        }
    }
    report(problems, "guarantees are shown");
}

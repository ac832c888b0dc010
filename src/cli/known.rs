//! Agents that were asked over TCP before, each with the id of its key (W4): one that shows another key is not asked, because
//! whoever stands in the middle would learn the password.
//!
//! Shape of the file: a line per agent, `ip:port keyId`. It is the user's: `known_agents` in `$XDG_STATE_HOME/obpilot`, else in
//! `~/.local/state/obpilot`.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::args::Global;
use super::exit::{Ending, Exit};
use super::render;
use crate::host::files;

/// Compares the key that an agent shows with the one it had, and remembers a first one. One that never had a key of scheme v3
/// (an agent of OBShell) has none to remember; one that had and shows none is not who it was.
///
/// # Errors
/// When it is another one, unless that was asked for; when the file cannot be used.
pub(super) fn check(place: &str, key_id: Option<&str>, global: &Global) -> Result<(), Ending> {
    // Whoever has no home, such as a job under a bare environment, has nothing to remember by.
    let Some(path) = path() else { return Ok(()) };
    let mut known = read(&path)?;
    let Some(key_id) = key_id else {
        return known.get(place).map_or(Ok(()), |before| Err(changed(place, before, "none", &path)));
    };
    match known.get(place) {
        Some(before) if before == key_id => return Ok(()),
        Some(before) if !global.accept_new_key => return Err(changed(place, before, key_id, &path)),
        Some(_) => render::say(&format!("{place} has key {key_id} from now on")),
        None if global.quiet => {}
        None => render::say(&format!(
            "first contact with {place}, which has key {key_id}; it is remembered. (Compare it there: obpilot security show)"
        )),
    }
    known.insert(place.to_owned(), key_id.to_owned());
    write(&path, &known)
}

fn changed(place: &str, before: &str, key_id: &str, path: &Utf8Path) -> Ending {
    let text = format!(
        "{place} shows key {key_id}, but had {before} before: its key was replaced, it was set up anew, or somebody else answers \
         there; nothing was sent"
    );
    Ending::new(Exit::Denied, text).with_hint(format!(
        "compare with `obpilot security show` on that host; if it is right, repeat with --accept-new-key (remembered in {path})"
    ))
}

fn path() -> Option<Utf8PathBuf> {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Utf8PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?;
    Some(state.join("obpilot/known_agents"))
}

fn unusable(path: &Utf8Path, error: &dyn std::fmt::Display) -> Ending {
    Ending::new(Exit::Failed, format!("{path}, which remembers the keys of agents, cannot be used: {error}"))
}

fn read(path: &Utf8Path) -> Result<BTreeMap<String, String>, Ending> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unusable(path, &error)),
    };
    let entry = |line: &str| line.split_once(' ').map(|(place, id)| (place.to_owned(), id.to_owned()));
    Ok(text.lines().filter_map(entry).collect())
}

fn write(path: &Utf8Path, known: &BTreeMap<String, String>) -> Result<(), Ending> {
    let text: String = known.iter().map(|(place, id)| format!("{place} {id}\n")).collect();
    if let Some(dir) = path.parent() {
        files::create_dirs(dir, 0o700).map_err(|e| unusable(path, &e))?;
    }
    files::write_atomic(path, text.as_bytes(), 0o600).map_err(|e| unusable(path, &e))
}

//! Directories of a first start: made, remembered, and taken away again if nothing came of it.
//!
//! Purpose: a first start that was interrupted leaves a directory that never starts again (5 of 5 measured,
//! `seekdb-engine.md` fact 6). It must be cleaned, and nothing else ever may be.
//!
//! Invariant: the marker file is written before the first directory is made and lists every path that this first start
//! owns. Only what it lists is removed, only while it exists, and logs are never on the list. Links are removed, what
//! they point to only if it is listed itself (W13).
//!
//! Not here: whether a process runs there; the caller knows and holds off (`control`).

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::engine::Places;
use crate::error::{Code, Error, Result};
use crate::host::files;
use crate::model::Timestamp;

const MARKER: &str = "first-start.json";
/// Where the marker goes when the first start is over, so that the rollback of an init can take it back.
const ENDED: &str = "first-start.ended.json";
const DIR_MODE: u32 = 0o755;

/// How a path became ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Claim {
    /// It was not there.
    Made,
    /// An empty directory, such as a mount point: its content is ours, itself not.
    Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owned {
    path: Utf8PathBuf,
    claim: Claim,
}

/// The proof that a first start is under way and which paths are its own. It exists as a file as long as the engine
/// has not been ready; whoever holds it may clean.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FirstStart {
    owned: Vec<Owned>,
    /// An operator rolled the init back: whatever was written meanwhile goes with it.
    #[serde(default)]
    is_given_up: bool,
}

impl FirstStart {
    /// The first start that is under way or was interrupted here.
    ///
    /// # Errors
    /// When the marker is there and cannot be understood: then nothing may be removed, and nothing begun.
    pub(super) fn open(state_dir: &Utf8Path) -> Result<Option<Self>> {
        Self::read(&state_dir.join(MARKER))
    }

    fn read(path: &Utf8Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::unexpected(format!("cannot read {path}: {error}"))),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Error::unexpected(format!(
                "{path} is damaged ({error}); it tells what an interrupted first start has made. Look at the data \
                 directories yourself, then remove that file"
            ))
        })
    }

    /// Whether the marker file is there.
    pub(super) fn is_marked(state_dir: &Utf8Path) -> bool {
        state_dir.join(MARKER).exists()
    }

    /// Claims and makes the places. Repeating it is harmless; with other options it claims what is new.
    ///
    /// # Errors
    /// `Common.DirNotEmpty` for a directory that holds something that no first start of ours has made.
    pub(super) fn prepare(state_dir: &Utf8Path, places: &Places) -> Result<Self> {
        files::create_dirs(state_dir, 0o700)?;
        let mut first = Self::open(state_dir)?.unwrap_or_default();
        refuse_overlap(state_dir, places)?;
        for path in places.data.iter().chain(&places.traces) {
            first.claim(path)?;
        }
        for (at, _) in &places.links {
            first.claim(at)?;
        }
        let text = serde_json::to_vec_pretty(&first).unwrap_or_default();
        files::write_atomic(&state_dir.join(MARKER), &text, 0o600)?;
        first.make(places)?;
        Ok(first)
    }

    fn claim(&mut self, path: &Utf8Path) -> Result<()> {
        let is_covered = |owned: &Owned| path == owned.path || path.starts_with(&owned.path);
        if self.owned.iter().any(is_covered) {
            return Ok(());
        }
        let claim = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Claim::Made,
            Err(error) => return Err(Error::unexpected(format!("cannot examine {path}: {error}"))),
            Ok(_) => match path.read_dir_utf8().map(|mut entries| entries.next().is_none()) {
                Ok(true) => Claim::Content,
                Ok(false) => {
                    return Err(Error::new(
                        Code::DirNotEmpty,
                        format!("{path} is not empty; a first start needs it empty. Nothing was changed"),
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    return Err(Error::new(
                        Code::DirNotEmpty,
                        format!(
                            "{path} is there already, and the first start would make it. Nothing was changed"
                        ),
                    ));
                }
                Err(error) => return Err(Error::unexpected(format!("cannot read {path}: {error}"))),
            },
        };
        self.owned.push(Owned { path: path.to_owned(), claim });
        Ok(())
    }

    fn make(&self, places: &Places) -> Result<()> {
        make_kept(places)?;
        for dir in &places.data {
            files::create_dirs(dir, DIR_MODE)?;
        }
        for (at, target) in &places.links {
            if std::fs::symlink_metadata(at).is_ok_and(|found| found.is_dir()) {
                // An empty directory where the link must be; it was claimed as such.
                std::fs::remove_dir(at)
                    .map_err(|error| Error::unexpected(format!("cannot replace {at} by a link: {error}")))?;
            }
            if std::fs::symlink_metadata(at).is_err() {
                files::link(target, at)?;
            }
        }
        Ok(())
    }

    /// The paths that are owned, for the record of the step.
    pub(super) fn paths(&self) -> Vec<String> {
        self.owned.iter().map(|owned| owned.path.to_string()).collect()
    }

    /// Whether anything that the engine writes lies in what is owned.
    pub(super) fn has_begun(&self) -> bool {
        self.owned.iter().any(|owned| match std::fs::symlink_metadata(&owned.path) {
            Ok(found) if found.is_dir() => holds_a_file(&owned.path),
            Ok(found) => found.is_file(),
            Err(_) => false,
        })
    }

    /// When anything in it was last written.
    pub(super) fn last_written(&self) -> Option<Timestamp> {
        self.owned.iter().filter_map(|owned| newest(&owned.path)).max()
    }

    /// Removes what is owned, or the part of it that `only` names. The marker stays until everything is gone.
    ///
    /// # Errors
    /// The path that could not be removed.
    pub(super) fn clean(&self, state_dir: &Utf8Path, only: Option<&[String]>) -> Result<()> {
        let is_meant = |owned: &&Owned| only.is_none_or(|only| only.iter().any(|path| *path == owned.path));
        // Inner before outer, so that a mount point inside a tree is emptied and not removed.
        let mut meant: Vec<&Owned> = self.owned.iter().filter(is_meant).collect();
        meant.sort_by_key(|owned| std::cmp::Reverse(owned.path.components().count()));
        for owned in &meant {
            self.remove(owned)?;
        }
        if meant.len() == self.owned.len() {
            files::remove_file(&state_dir.join(MARKER))?;
        }
        Ok(())
    }

    fn remove(&self, owned: &Owned) -> Result<()> {
        let found = match std::fs::symlink_metadata(&owned.path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::unexpected(format!("cannot examine {}: {error}", owned.path))),
        };
        if !found.is_dir() {
            files::remove_file(&owned.path)?;
            return Ok(());
        }
        let entries = owned
            .path
            .read_dir_utf8()
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|error| Error::unexpected(format!("cannot read {}: {error}", owned.path)))?;
        for entry in entries {
            // A directory that is only ours in content was emptied a moment ago and stays.
            if self.is_kept(entry.path()) {
                continue;
            }
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir {
                files::remove_tree(entry.path())?;
            } else {
                files::remove_file(entry.path())?;
            }
        }
        let is_empty = owned.path.read_dir_utf8().is_ok_and(|mut entries| entries.next().is_none());
        if owned.claim == Claim::Made && is_empty {
            files::remove_tree(&owned.path)?;
        }
        Ok(())
    }

    fn is_kept(&self, path: &Utf8Path) -> bool {
        self.owned.iter().any(|owned| owned.claim == Claim::Content && owned.path.starts_with(path))
    }

    /// The engine was ready: nothing is ours to remove any more. Repeating it is harmless.
    ///
    /// # Errors
    /// When the marker cannot be moved aside.
    pub(super) fn end(state_dir: &Utf8Path) -> Result<()> {
        files::rename(&state_dir.join(MARKER), &state_dir.join(ENDED))?;
        Ok(())
    }

    /// Takes [`FirstStart::end`] back for good: the data may be removed whatever was done with it. Without a first start
    /// of ours it does nothing, so what others have made stays precious.
    ///
    /// # Errors
    /// When the marker cannot be read or written.
    pub(super) fn give_up(state_dir: &Utf8Path) -> Result<()> {
        let first = match Self::open(state_dir)? {
            Some(first) => Some(first),
            None => Self::read(&state_dir.join(ENDED))?,
        };
        let Some(first) = first else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&Self { is_given_up: true, ..first }).unwrap_or_default();
        files::write_atomic(&state_dir.join(MARKER), &text, 0o600)?;
        files::remove_file(&state_dir.join(ENDED))?;
        Ok(())
    }

    /// Whether [`FirstStart::give_up`] was called.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }
}

/// Makes the directories that every start needs and no undo removes.
///
/// # Errors
/// The directory that could not be made.
pub(super) fn make_kept(places: &Places) -> Result<()> {
    for dir in &places.kept {
        files::create_dirs(dir, DIR_MODE)?;
    }
    Ok(())
}

/// A data directory that holds the logs or the agent's state, or lies in them, would take them along when it is
/// removed.
fn refuse_overlap(state_dir: &Utf8Path, places: &Places) -> Result<()> {
    for kept in places.kept.iter().map(Utf8PathBuf::as_path).chain([state_dir]) {
        if let Some(data) = places.data.iter().find(|data| kept.starts_with(data) || data.starts_with(kept)) {
            return Err(Error::new(
                Code::InvalidPath,
                format!("{data} cannot be a data directory: {kept} is used for something else"),
            ));
        }
    }
    Ok(())
}

fn newest(path: &Utf8Path) -> Option<Timestamp> {
    let found = std::fs::symlink_metadata(path).ok()?;
    let below = if found.is_dir() {
        path.read_dir_utf8().into_iter().flatten().flatten().filter_map(|entry| newest(entry.path())).max()
    } else {
        None
    };
    let own = found.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
    below.max(own)
}

fn holds_a_file(dir: &Utf8Path) -> bool {
    dir.read_dir_utf8().into_iter().flatten().flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => holds_a_file(entry.path()),
        Ok(kind) => kind.is_file(),
        Err(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Room {
        _guard: tempfile::TempDir,
        home: Utf8PathBuf,
        state: Utf8PathBuf,
    }

    fn room() -> Room {
        let guard = tempfile::tempdir().unwrap();
        let home = Utf8PathBuf::from_path_buf(guard.path().join("home")).unwrap();
        let state = home.join(".obpilot");
        Room { _guard: guard, home, state }
    }

    impl Room {
        fn places(&self) -> Places {
            Places {
                data: vec![self.home.join("store"), self.home.join("disk")],
                links: vec![(self.home.join("store/clog"), self.home.join("disk"))],
                traces: vec![self.home.join("etc/version.bin")],
                kept: vec![self.home.join("etc"), self.home.join("log")],
            }
        }

        fn write(&self, path: &str) {
            let path = self.home.join(path);
            files::create_dirs(path.parent().unwrap(), 0o755).unwrap();
            files::write_atomic(&path, b"x", 0o644).unwrap();
        }

        fn has(&self, path: &str) -> bool {
            std::fs::symlink_metadata(self.home.join(path)).is_ok()
        }
    }

    #[test]
    fn what_was_made_is_removed_and_nothing_else() {
        let room = room();
        room.write("etc/of-the-package");
        let first = FirstStart::prepare(&room.state, &room.places()).unwrap();
        assert!(room.has("store/clog") && room.has("log") && !first.has_begun());
        for file in ["store/sstable/block_file", "disk/1", "etc/version.bin", "log/engine.log", "run/pid"] {
            room.write(file);
        }
        assert!(first.has_begun());
        first.clean(&room.state, None).unwrap();
        for gone in ["store", "disk", "etc/version.bin"] {
            assert!(!room.has(gone), "{gone}");
        }
        for kept in ["etc/of-the-package", "log/engine.log", "run/pid"] {
            assert!(room.has(kept), "{kept}");
        }
        assert!(!FirstStart::is_marked(&room.state));
        first.clean(&room.state, None).unwrap();
    }

    #[test]
    fn a_mount_point_is_emptied_and_stays() {
        let room = room();
        files::create_dirs(&room.home.join("disk"), 0o755).unwrap();
        let first = FirstStart::prepare(&room.state, &room.places()).unwrap();
        room.write("disk/deep/1");
        first.clean(&room.state, None).unwrap();
        assert!(room.has("disk") && !room.has("disk/deep"));
    }

    #[test]
    fn a_mount_point_inside_a_tree_stays_with_the_way_to_it() {
        let room = room();
        let inner = room.home.join("store/redo");
        let places = Places { data: vec![inner.clone(), room.home.join("store")], ..Places::default() };
        files::create_dirs(&inner, 0o755).unwrap();
        // Made in this order, `store` would not be empty; claimed while it holds only what is claimed already.
        let error = FirstStart::prepare(&room.state, &places).unwrap_err();
        assert_eq!(error.code, Code::DirNotEmpty);
        let places = Places { data: vec![inner.clone()], ..Places::default() };
        let first = FirstStart::prepare(&room.state, &places).unwrap();
        room.write("store/redo/1");
        first.clean(&room.state, None).unwrap();
        assert!(room.has("store/redo") && !room.has("store/redo/1"));
    }

    #[test]
    fn foreign_content_is_refused_before_anything_is_made() {
        let room = room();
        room.write("disk/precious");
        let error = FirstStart::prepare(&room.state, &room.places()).unwrap_err();
        assert_eq!(error.code, Code::DirNotEmpty);
        assert!(error.text().contains("/disk is not empty"), "{error}");
        assert!(!room.has("store") && !FirstStart::is_marked(&room.state));
    }

    #[test]
    fn a_trace_of_an_earlier_life_is_refused() {
        let room = room();
        room.write("etc/version.bin");
        assert_eq!(FirstStart::prepare(&room.state, &room.places()).unwrap_err().code, Code::DirNotEmpty);
    }

    #[test]
    fn preparing_again_keeps_the_claims_and_takes_new_ones() {
        let room = room();
        let first = FirstStart::prepare(&room.state, &room.places()).unwrap();
        room.write("store/half");
        assert_eq!(FirstStart::prepare(&room.state, &room.places()).unwrap(), first);
        let mut wider = room.places();
        wider.data.push(room.home.join("more"));
        let again = FirstStart::prepare(&room.state, &wider).unwrap();
        assert_eq!(again.paths().len(), first.paths().len() + 1);
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let room = room();
        let outside = room.home.with_file_name("outside");
        files::create_dirs(&outside, 0o755).unwrap();
        files::write_atomic(&outside.join("precious"), b"", 0o600).unwrap();
        let first = FirstStart::prepare(&room.state, &room.places()).unwrap();
        files::link(&outside, &room.home.join("store/sideways")).unwrap();
        first.clean(&room.state, None).unwrap();
        assert!(outside.join("precious").exists());
    }

    #[test]
    fn a_part_can_be_cleaned_and_the_rest_stays_claimed() {
        let room = room();
        let first = FirstStart::prepare(&room.state, &room.places()).unwrap();
        room.write("disk/1");
        let disk = room.home.join("disk").into_string();
        first.clean(&room.state, Some(&[disk, "/etc".to_owned()])).unwrap();
        assert!(!room.has("disk") && room.has("store"));
        assert!(FirstStart::is_marked(&room.state));
    }

    #[test]
    fn data_may_not_share_a_directory_with_logs_or_state() {
        let room = room();
        for bad in ["log", "log/data", ".obpilot", ""] {
            let places = Places { data: vec![room.home.join(bad)], ..room.places() };
            let error = FirstStart::prepare(&room.state, &places).unwrap_err();
            assert_eq!(error.code, Code::InvalidPath, "{bad}");
        }
    }

    #[test]
    fn what_was_ready_can_be_given_up_and_what_others_made_cannot() {
        let room = room();
        FirstStart::give_up(&room.state).unwrap();
        assert!(!FirstStart::is_marked(&room.state), "there was no first start of ours");
        FirstStart::prepare(&room.state, &room.places()).unwrap();
        FirstStart::end(&room.state).unwrap();
        FirstStart::end(&room.state).unwrap();
        assert!(!FirstStart::is_marked(&room.state));
        FirstStart::give_up(&room.state).unwrap();
        FirstStart::give_up(&room.state).unwrap();
        let first = FirstStart::open(&room.state).unwrap().unwrap();
        assert!(first.is_given_up());
        first.clean(&room.state, None).unwrap();
        assert!(!room.has("store") && !FirstStart::is_marked(&room.state));
    }

    #[test]
    fn a_damaged_marker_stops_everything() {
        let room = room();
        FirstStart::prepare(&room.state, &room.places()).unwrap();
        files::write_atomic(&room.state.join(MARKER), b"{\"owned\":[{", 0o600).unwrap();
        assert!(FirstStart::open(&room.state).is_err());
        assert!(FirstStart::prepare(&room.state, &room.places()).is_err());
        FirstStart::end(&room.state).unwrap();
        assert_eq!(FirstStart::open(&room.state).unwrap(), None);
    }
}

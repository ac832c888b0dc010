//! Files and directories of ours, written so that a crash leaves the old state or the new one.
//!
//! Invariant: [`write_atomic`] is the only way a file of ours gets new content; after it has returned the content
//! survives a power failure. A file has its final mode before it has a name.
//!
//! Not here: the store's files (SQLite has its own discipline), the database's files (they are not ours).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};

use crate::crash;

/// What could not be done to which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct FileError {
    pub action: &'static str,
    pub path: Utf8PathBuf,
    pub source: io::Error,
}

impl FileError {
    fn new(action: &'static str, path: &Utf8Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

impl From<FileError> for crate::error::Error {
    fn from(error: FileError) -> Self {
        Self::unexpected(format!("{error}: {}", error.source)).with_source(error)
    }
}

pub type Result<T> = std::result::Result<T, FileError>;

/// Letters that make the name of a temporary file its own.
const RANDOM: usize = 6;

/// Replaces `path` by a file with this content and mode: temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
/// When any of these fails; the old file is untouched then, except that its durability is unknown if the very last
/// fsync failed.
pub fn write_atomic(path: &Utf8Path, content: &[u8], mode: u32) -> Result<()> {
    let dir = parent(path);
    let name = path.file_name().unwrap_or("file");
    let fail = |source| FileError { action: "write", path: path.to_owned(), source };
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix(&format!(".{name}.")).rand_bytes(RANDOM).tempfile_in(dir).map_err(fail)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(fail)?;
    file.write_all(content).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    crash::point(crash::Point::BeforeFile);
    file.persist(path).map_err(|error| fail(error.error))?;
    sync_dir(dir)
}

/// Removes the files that [`write_atomic`] has left in a directory when its process was killed before the rename.
///
/// # Errors
/// When the directory cannot be read, or a file not be removed.
pub fn remove_unfinished(dir: &Utf8Path) -> Result<()> {
    let fail = FileError::new("read the directory", dir);
    let names = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(fail)?;
    for entry in names {
        let name = entry.file_name();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let Some(name) = name.to_str().filter(|name| is_file && is_unfinished(name)) else { continue };
        remove_file(&dir.join(name))?;
    }
    Ok(())
}

/// `.NAME.` and as many letters as `tempfile` gives.
fn is_unfinished(name: &str) -> bool {
    let Some((name, random)) = name.strip_prefix('.').and_then(|rest| rest.rsplit_once('.')) else {
        return false;
    };
    !name.is_empty() && random.len() == RANDOM && random.bytes().all(|letter| letter.is_ascii_alphanumeric())
}

/// Makes a directory and the parents it lacks, each with this mode, and says which were made, outermost first.
///
/// # Errors
/// When one cannot be made, or something that is no directory is in the way.
pub fn create_dirs(path: &Utf8Path, mode: u32) -> Result<Vec<Utf8PathBuf>> {
    let mut missing = Vec::new();
    let mut next = path;
    while !next.exists() {
        missing.push(next.to_owned());
        match next.parent() {
            Some(parent) if !parent.as_str().is_empty() => next = parent,
            Some(_) | None => break,
        }
    }
    missing.reverse();
    for dir in &missing {
        crash::point(crash::Point::BeforeFile);
        fs::DirBuilder::new().mode(mode).create(dir).map_err(FileError::new("create the directory", dir))?;
        // The mask of the agent must not decide what others may read: the mode is what the caller said.
        fs::set_permissions(dir, fs::Permissions::from_mode(mode))
            .map_err(FileError::new("set the mode of", dir))?;
        sync_dir(parent(dir))?;
    }
    if !path.is_dir() {
        let source = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(FileError { action: "use as a directory", path: path.to_owned(), source });
    }
    Ok(missing)
}

/// Gives a path of ours its mode.
///
/// # Errors
/// When it is somebody else's.
pub fn set_mode(path: &Utf8Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(FileError::new("set the mode of", path))
}

/// Removes a file, link or socket; false when there was none.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove_file(path: &Utf8Path) -> Result<bool> {
    if fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Ok(false);
    }
    crash::point(crash::Point::BeforeFile);
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FileError::new("remove", path)(source)),
    }
}

/// Removes a directory with all it holds; links inside it are removed, never followed. Nothing there is success.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_tree(path: &Utf8Path) -> Result<()> {
    crash::point(crash::Point::BeforeFile);
    match fs::remove_dir_all(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(FileError::new("remove", path)(source)),
    }
}

/// Gives a file another name in the same directory; false when there is none. What has that name is replaced.
///
/// # Errors
/// When it is there and cannot be renamed.
pub fn rename(from: &Utf8Path, to: &Utf8Path) -> Result<bool> {
    crash::point(crash::Point::BeforeFile);
    #[expect(clippy::disallowed_methods, reason = "the content was synced when it was written")]
    match fs::rename(from, to) {
        Ok(()) => sync_dir(parent(to)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FileError::new("rename", from)(source)),
    }
}

/// Makes a symbolic link.
///
/// # Errors
/// When something is there already or it cannot be made.
pub fn link(target: &Utf8Path, at: &Utf8Path) -> Result<()> {
    crash::point(crash::Point::BeforeFile);
    std::os::unix::fs::symlink(target, at).map_err(FileError::new("link", at))?;
    sync_dir(parent(at))
}

/// Creates a file anew for somebody else to write into, with this mode; what it held is gone.
///
/// # Errors
/// When it cannot be opened for writing.
pub fn create_log(path: &Utf8Path, mode: u32) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .mode(mode)
        .open(path)
        .map_err(FileError::new("create", path))
}

/// Makes names in a directory durable.
///
/// # Errors
/// When the directory cannot be opened or the disk refuses.
pub fn sync_dir(path: &Utf8Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(FileError::new("sync", path))
}

fn parent(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|p| !p.as_str().is_empty()).unwrap_or_else(|| Utf8Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    fn mode(path: &Utf8Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_leaves_nothing_beside_it() {
        let (_guard, dir) = room();
        let path = dir.join("state.json");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), 0o640);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_write_left_is_removed_and_nothing_else() {
        let (_guard, dir) = room();
        let kept = [".launch.json", "launch.json", ".x.toolong", ".x.a-b-c-", "..abcdef", "abcdef"];
        for name in kept.iter().chain(&[".launch.json.wnXj9d"]) {
            write_atomic(&dir.join(name), b"x", 0o600).unwrap();
        }
        fs::create_dir(dir.join(".folder.abcdef")).unwrap();
        remove_unfinished(&dir).unwrap();
        fs::remove_dir(dir.join(".folder.abcdef")).unwrap();
        let mut left: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut kept = kept.map(str::to_owned);
        kept.sort();
        assert_eq!(left, kept);
    }

    #[test]
    fn a_write_that_fails_keeps_the_old_content_and_names_the_path() {
        let (_guard, dir) = room();
        let path = dir.join("taken");
        fs::create_dir(&path).unwrap();
        let error = write_atomic(&path, b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains(path.as_str()), "{error}");
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn directories_are_made_with_their_mode_and_named() {
        let (_guard, dir) = room();
        let deep = dir.join("a/b/c");
        assert_eq!(create_dirs(&deep, 0o750).unwrap(), [dir.join("a"), dir.join("a/b"), deep.clone()]);
        assert_eq!((mode(&dir.join("a")), mode(&deep)), (0o750, 0o750));
        assert_eq!(create_dirs(&deep, 0o700).unwrap(), Vec::<Utf8PathBuf>::new());
        assert_eq!(mode(&deep), 0o750, "what is there keeps its mode");
    }

    #[test]
    fn a_file_in_the_way_of_a_directory_is_an_error() {
        let (_guard, dir) = room();
        let path = dir.join("file");
        write_atomic(&path, b"", 0o600).unwrap();
        assert!(create_dirs(&path, 0o755).is_err());
        assert!(create_dirs(&path.join("below"), 0o755).is_err());
    }

    #[test]
    fn removing_a_tree_does_not_follow_links() {
        let (_guard, dir) = room();
        let (inside, outside) = (dir.join("inside"), dir.join("outside"));
        create_dirs(&inside, 0o755).unwrap();
        create_dirs(&outside, 0o755).unwrap();
        write_atomic(&outside.join("precious"), b"", 0o600).unwrap();
        link(&outside, &inside.join("link")).unwrap();
        remove_tree(&inside).unwrap();
        remove_tree(&inside).unwrap();
        assert!(!inside.exists() && outside.join("precious").exists());
    }

    #[test]
    fn removing_a_file_says_whether_there_was_one() {
        let (_guard, dir) = room();
        let path = dir.join("f");
        link(Utf8Path::new("/nowhere"), &path).unwrap();
        assert!(remove_file(&path).unwrap(), "a dangling link is there");
        assert!(!remove_file(&path).unwrap());
        assert!(remove_file(&dir).is_err(), "a directory is not a file");
    }
}

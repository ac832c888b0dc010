//! The process part of a start: directories, the lock on the pid file, the fork, the files of the store (`observer-model.md`
//! §1, §3.1, §6).
//!
//! Invariant: the pid file is never opened again by the process that holds it locked, because closing it would end the lock.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde_json::{Value, json};

pub(crate) const PID_FILE: &str = "run/observer.pid";

/// Why it does not even fork: exit status and what is said.
pub(crate) type Stop = (i32, String);

/// Descriptors that came with the process and where they lead. Called before anything is opened.
pub(crate) fn inherited_descriptors() -> Value {
    let mut found = serde_json::Map::new();
    let numbers: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    for number in numbers {
        // The one that the listing itself used is gone by now.
        if let Ok(target) = std::fs::read_link(format!("/proc/self/fd/{number}")) {
            found.insert(number, json!(target));
        }
    }
    Value::Object(found)
}

/// `etc` of somebody else is a home of somebody else.
pub(crate) fn check_owner(home: &Path) -> Result<(), Stop> {
    let Ok(etc) = std::fs::metadata(home.join("etc")) else { return Ok(()) };
    let own = nix::unistd::geteuid().as_raw();
    if etc.uid() == own {
        return Ok(());
    }
    let text = format!(
        "current user(uid={own}) that starts observer is not the same with the original one(uid={}), observer starts failed!",
        etc.uid()
    );
    Err((164, text))
}

pub(crate) fn make_directories(home: &Path) -> Result<(), Stop> {
    for dir in ["run", "log", "etc", "audit"] {
        if let Err(error) = std::fs::create_dir_all(home.join(dir)) {
            return Err((87, format!("create pid dir fail: ./{dir}/ ({error})")));
        }
    }
    Ok(())
}

fn whole_file(kind: i32) -> libc::flock {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the constants fit, and the field is what the kernel has"
    )]
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Whether another process holds the pid file.
pub(crate) fn check_lock(home: &Path) -> Result<(), Stop> {
    let Ok(file) = File::options().read(true).write(true).open(home.join(PID_FILE)) else { return Ok(()) };
    let mut probe = whole_file(libc::F_WRLCK);
    let asked = fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut probe));
    if asked.is_ok() && i32::from(probe.l_type) != libc::F_UNLCK {
        return Err((96, "ERROR: pid already exists, please check whether observer is running".to_owned()));
    }
    Ok(())
}

/// Opens, locks, truncates and fills the pid file. Who lost a race carries on without the lock, as the real one does. The
/// file has to be kept.
pub(crate) fn take_pid_file(home: &Path) -> io::Result<File> {
    let path = home.join(PID_FILE);
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    if fcntl(file.as_fd(), FcntlArg::F_SETLK(&whole_file(libc::F_WRLCK))).is_ok() {
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
    }
    Ok(file)
}

/// These must be there before the first start; it does not make them.
pub(crate) const STORE_DIRS: [&str; 3] = ["clog", "slog", "sstable"];

/// Files of a first start.
pub(crate) fn make_store(data: &Path) -> io::Result<()> {
    std::fs::create_dir_all(data.join("slog/server"))?;
    std::fs::create_dir_all(data.join("clog/log_pool"))?;
    for file in ["slog/server/1", "clog/log_pool/meta", "sstable/block_file"] {
        File::options().create(true).append(true).open(data.join(file))?;
    }
    Ok(())
}

/// What appears with the replicas of the system tenant.
pub(crate) fn make_streams(data: &Path) -> io::Result<()> {
    std::fs::create_dir_all(data.join("clog/tenant_1/1/log"))?;
    std::fs::create_dir_all(data.join("clog/tenant_1/1/meta"))?;
    std::fs::create_dir_all(data.join("slog/tenant_1"))?;
    File::options().create(true).append(true).open(data.join("clog/tenant_1/1/log/0")).map(drop)
}

pub(crate) fn has_streams(data: &Path) -> bool {
    std::fs::read_dir(data.join("clog/tenant_1")).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_tells_whether_it_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sstable")).unwrap();
        make_store(dir.path()).unwrap();
        assert!(dir.path().join("sstable/block_file").exists());
        assert!(!has_streams(dir.path()));
        make_streams(dir.path()).unwrap();
        assert!(has_streams(dir.path()));
    }

    #[test]
    fn a_home_is_prepared_once() {
        let home = tempfile::tempdir().unwrap();
        check_owner(home.path()).unwrap();
        make_directories(home.path()).unwrap();
        check_lock(home.path()).unwrap();
        let _held = take_pid_file(home.path()).unwrap();
        let text = std::fs::read_to_string(home.path().join(PID_FILE)).unwrap();
        assert_eq!(text, std::process::id().to_string());
    }
}

//! Free space where a path lies or will lie.
//!
//! Invariant: "free" is what a process without privileges may use. The database may be root today and not tomorrow,
//! and the last blocks are not for data.
//!
//! Not here: how much is needed (`process::preflight`), the list of disks (`facts`).

use std::io;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};

/// A file system, seen from one path on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The path asked for, or its nearest ancestor that exists.
    pub seen_at: Utf8PathBuf,
    /// Same number, same file system.
    pub device: u64,
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// The file system of `path`; a path that does not exist yet counts as its nearest existing ancestor.
///
/// # Errors
/// When that ancestor cannot be examined.
pub fn space(path: &Utf8Path) -> io::Result<Space> {
    let seen_at = nearest_existing(path);
    let stat = nix::sys::statvfs::statvfs(seen_at.as_std_path())?;
    let device = std::fs::metadata(&seen_at)?.dev();
    let block = stat.fragment_size();
    Ok(Space {
        seen_at,
        device,
        free_bytes: stat.blocks_available().saturating_mul(block),
        total_bytes: stat.blocks().saturating_mul(block),
    })
}

/// `path` or the nearest ancestor of it that exists; links are followed.
pub fn nearest_existing(path: &Utf8Path) -> Utf8PathBuf {
    path.ancestors().find(|p| p.exists()).unwrap_or_else(|| Utf8Path::new("/")).to_owned()
}

/// `1.5 GiB`, for sentences.
pub fn human(bytes: u64) -> String {
    let (divisor, unit) = match bytes {
        0..0x400 => return format!("{bytes} bytes"),
        0x400..0x10_0000 => (0x400, "KiB"),
        0x10_0000..0x4000_0000 => (0x10_0000, "MiB"),
        0x4000_0000..0x100_0000_0000 => (0x4000_0000, "GiB"),
        _ => (0x100_0000_0000_u64, "TiB"),
    };
    let tenths = u128::from(bytes) * 10 / u128::from(divisor);
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_is_measured_where_it_would_be() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let there = space(dir).unwrap();
        let below = space(&dir.join("not/yet/made")).unwrap();
        assert_eq!(there.device, below.device);
        assert_eq!(below.seen_at, dir);
        assert!(there.free_bytes > 0 && there.free_bytes <= there.total_bytes);
        assert_ne!(space(Utf8Path::new("/proc")).unwrap().device, there.device);
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(human(12), "12 bytes");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(600 << 20), "600.0 MiB");
        assert_eq!(human(2 << 30), "2.0 GiB");
        assert_eq!(human(u64::MAX), "16777215.9 TiB");
    }
}

//! The executable's and the libraries' code in memory.
//!
//! Purpose: a start and each operation run much code that is not run again soon, and one page of code brings its neighbours with
//! it. What is not run need not stay mapped: the kernel can use its pages for others at once, and what is counted as resident is
//! what the agent works with. Code that is run again is found where it was, in the kernel's cache of the file.
//!
//! Not here: memory that the agent has written (`heap`).

use std::os::raw::c_void;

use procfs::ProcResult;
use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

/// Lets go of all code that is mapped; what runs comes back by itself. Returns how many bytes of address space that were.
///
/// # Errors
/// When the kernel does not tell what is mapped.
pub fn let_go() -> ProcResult<u64> {
    let maps = Process::myself()?.smaps()?;
    Ok(maps.iter().filter(|map| is_code(map)).map(unmap).sum())
}

/// Of a file, and nothing else: where somebody has written into it, as a debugger does, a page is not the file's any more.
fn is_code(map: &MemoryMap) -> bool {
    let wanted = MMPermissions::READ | MMPermissions::EXECUTE | MMPermissions::PRIVATE;
    let is_written = map.extension.map.get("Anonymous").is_none_or(|bytes| *bytes > 0);
    map.perms == wanted && matches!(map.pathname, MMapPath::Path(_)) && !is_written
}

fn unmap(map: &MemoryMap) -> u64 {
    let (from, to) = map.address;
    let Some((start, length)) = usize::try_from(from).ok().zip(usize::try_from(to - from).ok()) else {
        return 0;
    };
    #[expect(unsafe_code, reason = "no library has this call without it")]
    // SAFETY: the range is one mapping of this process, which nothing unmaps (no library is ever closed). Its pages are those of a
    // file and were never written, so that reading them again gives what was there; that they are unmapped meanwhile is nothing
    // that code can see.
    let done = unsafe {
        nix::libc::madvise(
            std::ptr::with_exposed_provenance_mut::<c_void>(start),
            length,
            nix::libc::MADV_DONTNEED,
        )
    };
    if done == 0 { to - from } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of this process, in KiB: pages of files.
    fn mapped() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn code_that_does_not_run_is_not_resident_and_runs_when_it_is_wanted() {
        let largest = || {
            let maps = Process::myself().unwrap().smaps().unwrap();
            let code = maps.iter().filter(|map| is_code(map)).max_by_key(|map| map.address.1 - map.address.0);
            code.unwrap().pathname.clone()
        };
        let own = std::fs::canonicalize(std::env::current_exe().unwrap()).unwrap();
        let own = MMapPath::Path(own);
        assert_eq!(largest(), own, "most of the code is ours");
        let before = mapped();
        assert!(let_go().unwrap() > 1 << 20);
        let after = mapped();
        assert!(after < before, "{before} KiB before, {after} KiB after");
        assert_eq!(largest(), own, "it runs as before");
    }
}

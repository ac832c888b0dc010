//! Memory: what the host has, what the control groups allow, how often the kernel killed for want of it.
//!
//! Purpose: a database that was killed for memory writes no last line; only the kernel's counters know.
//!
//! Invariant: both generations of control groups are looked at, mounted side by side or alone, because hosts of all
//! three kinds run databases. A counter that cannot be read is `None`.
//!
//! Not here: the kernel's own words about a kill (`kernel_log`).

use std::io::BufRead;

use camino::{Utf8Path, Utf8PathBuf};
use procfs::FromBufRead as _;
use procfs::process::MountInfos;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// The host's memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// What can be used without swapping.
    pub available_bytes: u64,
}

/// The host's memory now; `None` where the kernel does not tell.
pub fn memory() -> Option<Memory> {
    let what = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(what).ok()?;
    let found = Memory {
        total_bytes: system.total_memory(),
        free_bytes: system.free_memory(),
        available_bytes: system.available_memory(),
    };
    (found.total_bytes > 0).then_some(found)
}

/// The memory control groups of one process, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    v1: Vec<Utf8PathBuf>,
    v2: Vec<Utf8PathBuf>,
}

/// The smallest limit that applies to a process and the directory that sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLimit {
    pub bytes: u64,
    pub set_by: Utf8PathBuf,
}

impl Groups {
    /// Groups of a process; empty where there are none or they cannot be seen.
    pub fn of(pid: i32) -> Self {
        let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read(format!("/proc/{pid}/cgroup")), read(format!("/proc/{pid}/mountinfo")).as_bytes())
    }

    fn parse(cgroup: &str, mountinfo: impl BufRead) -> Self {
        let mounts = MountInfos::from_buf_read(mountinfo).map(|m| m.0).unwrap_or_default();
        let mut groups = Self::default();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let is_v2 = controllers.is_empty();
            if !is_v2 && !controllers.split(',').any(|c| c == "memory") {
                continue;
            }
            let mount = mounts.iter().find(|m| match m.fs_type.as_str() {
                "cgroup2" => is_v2,
                "cgroup" => !is_v2 && m.super_options.contains_key("memory"),
                _ => false,
            });
            let Some(mount) = mount else { continue };
            let Some(top) = Utf8Path::from_path(&mount.mount_point) else { continue };
            // In a container only a part of the tree is mounted, and the path names it from the host's root.
            let below = path.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or(path);
            let inner = top.join(below.trim_start_matches('/'));
            let chain = inner.ancestors().take_while(|p| p.starts_with(top)).map(Utf8Path::to_owned);
            if is_v2 { groups.v2.extend(chain) } else { groups.v1.extend(chain) }
        }
        groups
    }

    /// The smallest limit on the way to the root; `None` when nothing limits.
    pub fn limit(&self) -> Option<GroupLimit> {
        let v1 = self.v1.iter().map(|dir| (dir, "memory.limit_in_bytes"));
        let v2 = self.v2.iter().map(|dir| (dir, "memory.max"));
        v1.chain(v2)
            .filter_map(|(dir, file)| {
                let bytes: u64 = std::fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()?;
                // The first generation says "no limit" with a number near the largest one.
                (bytes < 1 << 62).then(|| GroupLimit { bytes, set_by: dir.clone() })
            })
            .min_by_key(|limit| limit.bytes)
    }

    /// Kills for memory in the innermost group, of either generation.
    fn oom_kills(&self) -> Option<u64> {
        let count = |dir: Option<&Utf8PathBuf>, file: &str| {
            let text = std::fs::read_to_string(dir?.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        };
        let v2 = count(self.v2.first(), "memory.events");
        let v1 = count(self.v1.first(), "memory.oom_control");
        match (v1, v2) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
        }
    }
}

/// How many processes the kernel has killed for memory so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OomCounts {
    /// On the whole host since boot (`oom_kill` of `/proc/vmstat`).
    pub host: Option<u64>,
    /// In the innermost control group of this agent, which its children start in.
    pub group: Option<u64>,
}

impl OomCounts {
    /// Reads the counters.
    pub fn now() -> Self {
        let vmstat = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
        let host = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        Self { host, group: Groups::of(own).oom_kills() }
    }

    /// In words what was counted since `before`; `None` when nothing was. It proves that somebody was killed, not who.
    pub fn since(self, before: Self) -> Option<String> {
        let more = |now: Option<u64>, then: Option<u64>| now?.checked_sub(then?).filter(|n| *n > 0);
        if let Some(n) = more(self.group, before.group) {
            return Some(format!(
                "the kernel killed {n} process(es) of this memory control group for memory since the start"
            ));
        }
        let n = more(self.host, before.host)?;
        Some(format!("the kernel killed {n} process(es) on this host for memory since the start"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files;

    #[test]
    fn the_host_has_memory() {
        let memory = memory().unwrap();
        assert!(memory.available_bytes <= memory.total_bytes && memory.total_bytes > 0);
        assert!(OomCounts::now().host.is_some());
    }

    #[test]
    fn both_generations_are_found_side_by_side() {
        let mounts = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let groups = Groups::parse("5:cpu:/x\n4:memory:/a/b\n0::/c\n", mounts.as_bytes());
        assert_eq!(
            groups.v1,
            ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"]
        );
        assert_eq!(groups.v2, ["/sys/fs/cgroup/unified/c", "/sys/fs/cgroup/unified"]);
    }

    #[test]
    fn a_container_sees_its_part_of_the_tree() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let groups = Groups::parse("4:memory:/docker/abc/inner\n", mounts.as_bytes());
        assert_eq!(groups.v1, ["/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"]);
        assert_eq!(Groups::parse("0::/\n", &b""[..]), Groups::default());
    }

    #[test]
    fn the_smallest_limit_counts_and_no_limit_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let top = Utf8Path::from_path(dir.path()).unwrap();
        let (outer, inner) = (top.join("outer"), top.join("outer/inner"));
        files::create_dirs(&inner, 0o755).unwrap();
        let groups = Groups { v1: vec![], v2: vec![inner.clone(), outer.clone()] };
        files::write_atomic(&inner.join("memory.max"), b"max\n", 0o644).unwrap();
        assert_eq!(groups.limit(), None);
        files::write_atomic(&outer.join("memory.max"), b"1073741824\n", 0o644).unwrap();
        assert_eq!(groups.limit(), Some(GroupLimit { bytes: 1 << 30, set_by: outer.clone() }));
        let old = Groups { v1: vec![outer.clone()], v2: vec![] };
        files::write_atomic(&outer.join("memory.limit_in_bytes"), b"9223372036854771712\n", 0o644).unwrap();
        assert_eq!(old.limit(), None, "the first generation's way to say unlimited");
    }

    #[test]
    fn kills_are_counted_in_either_generation() {
        let dir = tempfile::tempdir().unwrap();
        let top = Utf8Path::from_path(dir.path()).unwrap().to_owned();
        files::write_atomic(&top.join("memory.events"), b"low 0\noom 3\noom_kill 2\n", 0o644).unwrap();
        files::write_atomic(&top.join("memory.oom_control"), b"under_oom 0\noom_kill 5\n", 0o644).unwrap();
        assert_eq!(Groups { v1: vec![], v2: vec![top.clone()] }.oom_kills(), Some(2));
        assert_eq!(Groups { v1: vec![top.clone()], v2: vec![] }.oom_kills(), Some(5));
        assert_eq!(Groups { v1: vec![top.clone()], v2: vec![top] }.oom_kills(), Some(7));
        assert_eq!(Groups::default().oom_kills(), None);
    }

    #[test]
    fn the_difference_is_told_and_only_where_both_are_known() {
        let counts = |host, group| OomCounts { host, group };
        assert_eq!(counts(Some(3), Some(1)).since(counts(Some(3), Some(1))), None);
        assert!(
            counts(Some(4), None)
                .since(counts(Some(3), None))
                .unwrap()
                .contains("1 process(es) on this host")
        );
        assert!(counts(Some(4), Some(2)).since(counts(Some(3), Some(1))).unwrap().contains("control group"));
        assert_eq!(counts(Some(4), None).since(counts(None, None)), None);
        assert_eq!(counts(Some(1), None).since(counts(Some(3), None)), None, "a reboot in between");
    }
}

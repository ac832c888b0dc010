//! What `GET /api/v1/agent/host-info` tells about this machine.
//!
//! Purpose: numbers and names, typed; the strings that OBShell prints are made of them in `wire`.
//!
//! Invariant: what cannot be read is empty or `None`. A container without `/etc/os-release` still gets an answer.
//!
//! Not here: hashes of address and mount points (`secure`), the limits' names on the wire.

use std::collections::BTreeSet;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use procfs::{CpuInfo, Current as _};
use sysinfo::{CpuRefreshKind, Disks, RefreshKind, System};

use super::limits::{self, Limits};
use super::memory::{self, Memory};

/// A snapshot of the host.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// `ID` and `VERSION_ID` of os-release, such as `debian` and `12`.
    pub os: String,
    pub os_version: String,
    pub cpu: Cpu,
    /// As `systemd-detect-virt` names it: `none`, `kvm`, `docker`, …; empty where that is not installed.
    pub virtualization: String,
    pub disks: Vec<Disk>,
    pub memory: Option<Memory>,
    pub limits: Limits,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    pub model: String,
    /// 0 where it is not known.
    pub frequency_mhz: u64,
    /// Hardware threads.
    pub logical: usize,
    /// Sockets: OBShell counts these and calls them cores.
    pub sockets: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub device: String,
    pub mount_point: Utf8PathBuf,
    pub used_bytes: u64,
    pub total_bytes: u64,
}

/// `ID` of os-release, such as `debian`.
pub fn os_id() -> String {
    System::distribution_id()
}

/// Everything at once. `virtualization` is what another program has told.
pub fn read(virtualization: String) -> HostFacts {
    HostFacts {
        os: System::distribution_id(),
        os_version: System::os_version().unwrap_or_default(),
        cpu: cpu(),
        virtualization,
        disks: disks(),
        memory: memory::memory(),
        limits: limits::inherited(),
    }
}

/// How long the host has been up.
pub fn uptime() -> Option<Duration> {
    System::uptime().ok().map(Duration::from_secs)
}

/// `df -h`: one decimal below ten, rounded up, unit letters of 1024.
pub fn df_human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["", "K", "M", "G", "T", "P"];
    let mut unit = 0;
    let mut divisor: u64 = 1;
    while unit + 1 < UNITS.len() && bytes.div_ceil(divisor) >= 1024 {
        divisor <<= 10;
        unit += 1;
    }
    let tenths = u128::from(bytes).saturating_mul(10).div_ceil(u128::from(divisor));
    if unit > 0 && tenths < 100 {
        return format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit]);
    }
    format!("{}{}", bytes.div_ceil(divisor), UNITS[unit])
}

fn cpu() -> Cpu {
    let what = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing().with_frequency());
    let Ok(system) = System::new_with_specifics(what) else { return Cpu::default() };
    let first = system.cpus().first();
    Cpu {
        model: first.map(|cpu| cpu.brand().to_owned()).unwrap_or_default(),
        frequency_mhz: first.map(sysinfo::Cpu::frequency).unwrap_or_default(),
        logical: system.cpus().len(),
        sockets: CpuInfo::current().map_or(1, |info| sockets(&info)),
    }
}

/// Machines without the line (many ARM hosts, some guests) have one.
fn sockets(info: &CpuInfo) -> usize {
    let ids: BTreeSet<_> = (0..info.num_cores()).filter_map(|n| info.physical_id(n)).collect();
    ids.len().max(1)
}

fn disks() -> Vec<Disk> {
    let Ok(disks) = Disks::new_with_refreshed_list() else { return Vec::new() };
    disks
        .iter()
        .filter_map(|disk| {
            Some(Disk {
                device: disk.name().to_string_lossy().into_owned(),
                mount_point: Utf8Path::from_path(disk.mount_point())?.to_owned(),
                used_bytes: disk.total_space().saturating_sub(disk.available_space()),
                total_bytes: disk.total_space(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_counted_by_their_ids() {
        use procfs::FromBufRead as _;
        let count = |text: &str| sockets(&CpuInfo::from_buf_read(text.as_bytes()).unwrap());
        let one = |n: u8, socket: u8| format!("processor\t: {n}\nphysical id\t: {socket}\n\n");
        assert_eq!(count(&[one(0, 0), one(1, 0), one(2, 1), one(3, 1)].concat()), 2);
        assert_eq!(count("processor\t: 0\nmodel name\t: x\n\n"), 1);
    }

    #[test]
    fn sizes_as_df_prints_them() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (1025, "1.1K"),
            (10 << 10, "10K"),
            ((10 << 10) + 1, "11K"),
            (1 << 30, "1.0G"),
            (100 << 30, "100G"),
            (1023 << 30, "1023G"),
            ((1 << 40) - 1, "1.0T"),
        ] {
            assert_eq!(df_human(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn this_host_has_a_cpu_memory_and_a_disk_with_a_root() {
        let facts = read("none".to_owned());
        assert!(facts.cpu.logical > 0 && facts.cpu.sockets > 0 && !facts.os.is_empty());
        assert!(facts.memory.is_some());
        assert!(facts.disks.iter().all(|d| d.used_bytes <= d.total_bytes));
        assert!(uptime().is_some_and(|up| up > Duration::ZERO));
    }
}

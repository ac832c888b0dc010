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
use sysinfo::Disks;

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

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cpu {
    pub model: String,
    /// MHz as the kernel prints it, such as `2500.000`.
    pub frequency_mhz: String,
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

/// Reads everything but the kind of virtualization, which takes a program (`process` runs programs).
pub fn read(virtualization: String) -> HostFacts {
    let (os, os_version) = os_release(&read_or_empty("/etc/os-release"));
    HostFacts {
        os,
        os_version,
        cpu: cpu(&read_or_empty("/proc/cpuinfo")),
        virtualization,
        disks: disks(),
        memory: memory::memory().ok(),
        limits: limits::inherited(),
    }
}

/// How long the host has been up.
pub fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
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

fn read_or_empty(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn os_release(text: &str) -> (String, String) {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
            .unwrap_or_default()
    };
    (value("ID"), value("VERSION_ID"))
}

fn cpu(text: &str) -> Cpu {
    let values = |key: &'static str| {
        text.lines().filter_map(move |line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    let sockets: BTreeSet<_> = values("physical id").collect();
    Cpu {
        model: values("model name").next().unwrap_or_default(),
        frequency_mhz: values("cpu MHz").next().unwrap_or_default(),
        logical: values("processor").count(),
        // Machines without the line (many ARM hosts, some guests) have one.
        sockets: sockets.len().max(1),
    }
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
    fn os_release_with_and_without_quotes() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\nID=debian\nID_LIKE=x\n";
        assert_eq!(os_release(text), ("debian".to_owned(), "12".to_owned()));
        assert_eq!(os_release(""), (String::new(), String::new()));
    }

    #[test]
    fn cpuinfo_of_two_sockets() {
        let one = |n: u8, socket: u8| {
            format!(
                "processor\t: {n}\nmodel name\t: Example CPU\ncpu MHz\t\t: 2500.000\nphysical id\t: {socket}\n\n"
            )
        };
        let text: String = [one(0, 0), one(1, 0), one(2, 1), one(3, 1)].concat();
        let found = cpu(&text);
        assert_eq!((found.logical, found.sockets), (4, 2));
        assert_eq!((found.model.as_str(), found.frequency_mhz.as_str()), ("Example CPU", "2500.000"));
        assert_eq!(cpu("processor : 0\n").sockets, 1);
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
        assert!(facts.cpu.logical > 0);
        assert!(facts.memory.is_some());
        assert!(facts.disks.iter().all(|d| d.used_bytes <= d.total_bytes));
        assert!(uptime().is_some_and(|up| up > Duration::ZERO));
    }
}

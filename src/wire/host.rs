//! `GET /api/v1/agent/host-info` (`http-api.md` §6.3): every number is a string, as the host's own tools print it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::host::facts::{HostFacts, df_human};

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostInfo {
    pub os: Os,
    pub cpu_info: CpuInfo,
    pub basic: Basic,
    pub disks: Vec<DiskInfo>,
    pub memory_info: MemoryInfo,
    pub ulimit: Ulimit,
}

/// `ID` and `VERSION_ID` of os-release.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Os {
    pub os: String,
    pub version: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpuInfo {
    /// MHz with three decimals; empty where the host does not tell.
    pub frequency: String,
    pub model_name: String,
    pub logical_cores: usize,
    /// Sockets, whatever the name says.
    pub physical_cores: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// SHA-1 of the agent's address, hexadecimal.
    pub host_hash: String,
    /// As `systemd-detect-virt` names it.
    pub host_type: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiskInfo {
    pub used: String,
    pub total: String,
    /// SHA-1 of the mount point, hexadecimal.
    pub mount_hash: String,
    pub device_name: String,
}

/// `kB`, as in `/proc/meminfo`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemoryInfo {
    pub free: String,
    pub total: String,
    pub available: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ulimit {
    pub nofile_hard: String,
    pub nofile_soft: String,
    pub max_user_processes_hard: String,
    pub max_user_processes_soft: String,
}

impl HostInfo {
    /// `hash` is the hexadecimal SHA-1 of a text.
    pub fn new(ip: IpAddr, facts: &HostFacts, hash: impl Fn(&str) -> String) -> Self {
        let disk = |disk: &crate::host::facts::Disk| DiskInfo {
            used: df_human(disk.used_bytes),
            total: df_human(disk.total_bytes),
            mount_hash: hash(disk.mount_point.as_str()),
            device_name: disk.device.clone(),
        };
        let memory = |pick: fn(&crate::host::memory::Memory) -> u64| {
            facts.memory.as_ref().map(|m| format!("{} kB", pick(m) / 1024)).unwrap_or_default()
        };
        let frequency = facts.cpu.frequency_mhz;
        Self {
            os: Os { os: facts.os.clone(), version: facts.os_version.clone() },
            cpu_info: CpuInfo {
                frequency: if frequency == 0 { String::new() } else { format!("{frequency}.000") },
                model_name: facts.cpu.model.clone(),
                logical_cores: facts.cpu.logical,
                physical_cores: facts.cpu.sockets,
            },
            basic: Basic { host_hash: hash(&ip.to_string()), host_type: facts.virtualization.clone() },
            disks: facts.disks.iter().map(disk).collect(),
            memory_info: MemoryInfo {
                free: memory(|m| m.free_bytes),
                total: memory(|m| m.total_bytes),
                available: memory(|m| m.available_bytes),
            },
            ulimit: Ulimit {
                nofile_hard: limit(facts.limits.nofile.hard),
                nofile_soft: limit(facts.limits.nofile.soft),
                max_user_processes_hard: limit(facts.limits.nproc.hard),
                max_user_processes_soft: limit(facts.limits.nproc.soft),
            },
        }
    }
}

/// As `ulimit` prints it.
fn limit(value: Option<u64>) -> String {
    value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string())
}

//! What the database tells of itself in numbers: servers, tenants, licence, edition (`lifecycle.md` §10, §11.G). Pure.
//!
//! Invariant: a share of nothing is 0, never NaN (H18, W53). What a version of the database does not tell is unknown here too.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::model::ServerAddr;

/// Everything, as one connection has read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub edition: Edition,
    pub name: Option<String>,
    pub id: Option<i64>,
    /// `ob_startup_mode`.
    pub startup_mode: Option<String>,
    /// Least memory of a unit, in bytes.
    pub unit_memory_min: Option<i64>,
    /// Of the sys tenant.
    pub detects_deadlocks: bool,
    pub servers: Vec<ServerFigures>,
    /// Neither meta tenants nor what lies in the recycle bin.
    pub tenants: Vec<TenantFigures>,
    /// Replicas of the log stream that the root service follows.
    pub roots: Vec<RootReplica>,
    /// `None`: this edition knows no licences.
    pub licenses: Option<Vec<License>>,
}

impl Figures {
    pub fn is_shared_storage(&self) -> bool {
        self.startup_mode.as_ref().is_some_and(|mode| mode.eq_ignore_ascii_case("shared_storage"))
    }

    /// Only the standalone edition has licences.
    pub fn is_standalone(&self) -> bool {
        self.edition == Edition::Business && self.licenses.as_ref().is_some_and(|all| !all.is_empty())
    }

    pub fn server(&self, server: ServerAddr) -> Option<&ServerFigures> {
        self.servers.iter().find(|figures| figures.server.is_none_or(|known| known == server))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edition {
    #[default]
    Community,
    Business,
    Seekdb,
}

impl Edition {
    /// From the text of `version()`, such as `5.7.25-OceanBase_CE-v4.3.5.1` (Q92).
    pub fn of_version(text: &str) -> Self {
        if text.contains("seekdb") {
            Self::Seekdb
        } else if text.contains("OceanBase_CE") || text.contains("OceanBase CE") {
            Self::Community
        } else {
            Self::Business
        }
    }

    pub fn is_community(self) -> bool {
        self != Self::Business
    }

    /// What `obcluster/statistics` calls an instance.
    pub fn instance_type(self) -> &'static str {
        match self {
            Self::Community => "oceanbase-ce",
            Self::Business => "oceanbase",
            Self::Seekdb => "seekdb",
        }
    }
}

/// Room of one server, of which units hold a part; sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerFigures {
    /// `None` where one server alone is the database.
    pub server: Option<ServerAddr>,
    pub room: Room,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Room {
    pub cpu_total: f64,
    pub cpu_assigned: f64,
    pub memory_total: i64,
    pub memory_assigned: i64,
    pub disk_total: i64,
    /// What is in use counts as assigned (`lifecycle.md` §10).
    pub disk_in_use: i64,
}

impl AddAssign for Room {
    fn add_assign(&mut self, other: Self) {
        self.cpu_total += other.cpu_total;
        self.cpu_assigned += other.cpu_assigned;
        self.memory_total += other.memory_total;
        self.memory_assigned += other.memory_assigned;
        self.disk_total += other.disk_total;
        self.disk_in_use += other.disk_in_use;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TenantFigures {
    pub id: i64,
    pub name: String,
    pub created: Option<String>,
    pub mode: String,
    pub status: String,
    pub locked: String,
    pub primary_zone: String,
    pub locality: String,
    pub in_recyclebin: String,
    pub comment: String,
    pub charset: String,
    pub collation: String,
    /// `ob_tcp_invited_nodes`.
    pub whitelist: String,
    pub is_read_only: bool,
    pub time_zone: String,
    pub lower_case_table_names: String,
    pub detects_deadlocks: bool,
    pub pools: Vec<Pool>,
    pub usage: Usage,
}

/// What a tenant uses of what it may; processors in hundredths of one, sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub cpu: i64,
    pub cpu_max: i64,
    pub memory: i64,
    pub memory_max: i64,
    pub disk: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    pub id: i64,
    pub name: String,
    pub zones: String,
    pub servers: Vec<ServerAddr>,
    pub units: i64,
    pub config: Option<UnitConfig>,
}

/// A row of `DBA_OB_UNIT_CONFIGS`; sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitConfig {
    pub id: i64,
    pub name: String,
    pub created: Option<String>,
    pub modified: Option<String>,
    pub cpu_max: f64,
    pub cpu_min: f64,
    pub memory: i64,
    pub log_disk: i64,
    pub data_disk: i64,
    pub iops_max: i64,
    pub iops_min: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootReplica {
    pub zone: String,
    pub server: ServerAddr,
    /// `LEADER` or `FOLLOWER`.
    pub role: String,
}

/// A row of `DBA_OB_LICENSE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct License {
    pub end_user: String,
    pub id: String,
    pub code: String,
    pub kind: String,
    pub product: String,
    pub issued: Option<String>,
    pub activated: Option<String>,
    pub expires: Option<String>,
    pub options: String,
    pub nodes: i64,
    pub cluster_ulid: String,
}

/// A row of `SHOW CHARACTER SET` with its collations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charset {
    pub name: String,
    pub description: String,
    /// Name, and whether it is the default.
    pub collations: Vec<(String, bool)>,
    pub bytes_max: i64,
}

/// Mode of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantMode {
    Mysql,
    Oracle,
}

impl TenantMode {
    /// In any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "mysql" => Some(Self::Mysql),
            "oracle" => Some(Self::Oracle),
            _ => None,
        }
    }

    /// Whether a tenant of this mode can have that character set.
    pub fn takes(self, charset: &str) -> bool {
        const ORACLE: [&str; 9] =
            ["utf8mb4", "gbk", "gb18030", "latin1", "gb18030_2022", "ascii", "tis620", "hkscs", "hkscs31"];
        match self {
            Self::Mysql => charset != "utf16",
            Self::Oracle => ORACLE.contains(&charset),
        }
    }
}

/// Of nothing it is 0.
pub fn percent(part: f64, whole: f64) -> f64 {
    let share = part / whole * 100.0;
    if share.is_finite() { share } else { 0.0 }
}

/// Whether a value of `_lcl_op_interval` leaves the search for deadlocks on.
pub fn detects_deadlocks(interval: &str) -> bool {
    !matches!(interval.trim(), "" | "0" | "0ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h18_a_share_of_nothing_is_0() {
        assert_eq!([percent(0.0, 0.0), percent(3.0, 0.0), percent(1.0, 4.0)], [0.0, 0.0, 25.0]);
    }

    #[test]
    fn editions_are_told_by_the_version() {
        for (text, edition) in [
            ("5.7.25-OceanBase_CE-v4.3.5.1", Edition::Community),
            ("5.7.25-OceanBase CE-v4.2.0.0", Edition::Community),
            ("5.7.25-OceanBase-v4.3.5.1", Edition::Business),
            ("5.7.25-OceanBase seekdb-v1.4.0.0", Edition::Seekdb),
        ] {
            assert_eq!(Edition::of_version(text), edition, "{text}");
        }
        let licensed =
            |edition, licenses| Figures { edition, licenses, ..Figures::default() }.is_standalone();
        assert!(licensed(Edition::Business, Some(vec![License::default()])));
        assert!(!licensed(Edition::Business, Some(Vec::new())));
        assert!(
            !licensed(Edition::Business, None)
                && !licensed(Edition::Community, Some(vec![License::default()]))
        );
    }

    #[test]
    fn modes_choose_their_character_sets() {
        assert_eq!(TenantMode::parse("Oracle"), Some(TenantMode::Oracle));
        assert_eq!(TenantMode::parse("none"), None);
        assert!(TenantMode::Mysql.takes("binary") && !TenantMode::Mysql.takes("utf16"));
        assert!(TenantMode::Oracle.takes("gbk") && !TenantMode::Oracle.takes("binary"));
    }

    #[test]
    fn an_interval_of_0_switches_the_search_for_deadlocks_off() {
        assert_eq!(["30ms", "1s", "0", "0ms", ""].map(detects_deadlocks), [true, true, false, false, false]);
    }
}

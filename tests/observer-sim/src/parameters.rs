//! Parameters that every server knows, with what clients see of them.
//!
//! Invariant: a value is, in this order, what SQL set, what the server was started with, the default.
//!
//! Simplified: some thirty of several hundred. What a server was started with and is not here counts as known too.

use crate::state::{Addr, Card, State, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) is_of_tenant: bool,
    pub(crate) section: &'static str,
    pub(crate) edit_level: &'static str,
    pub(crate) info: &'static str,
}

const fn cluster(
    name: &'static str,
    default: &'static str,
    section: &'static str,
    info: &'static str,
) -> Known {
    Known { name, default, is_of_tenant: false, section, edit_level: "DYNAMIC_EFFECTIVE", info }
}

const fn fixed(name: &'static str, default: &'static str, info: &'static str) -> Known {
    Known { name, default, is_of_tenant: false, section: "OBSERVER", edit_level: "READONLY", info }
}

const fn tenant(name: &'static str, default: &'static str, info: &'static str) -> Known {
    Known { name, default, is_of_tenant: true, section: "TENANT", edit_level: "DYNAMIC_EFFECTIVE", info }
}

const KNOWN: [Known; 40] = [
    fixed("zone", "", "specifies the zone name"),
    fixed("cluster", "obcluster", "Name of the cluster"),
    fixed("cluster_id", "0", "ID of the cluster"),
    fixed("local_ip", "", "the IP address of the machine on which the ObServer is deployed"),
    fixed("mysql_port", "2881", "the port number for the MySQL connection"),
    fixed("rpc_port", "2882", "the RPC port"),
    fixed("devname", "bond0", "name of network adapter"),
    fixed("data_dir", "store", "the directory for the data file"),
    fixed("ob_startup_mode", "NORMAL", "specifies the observer startup mode"),
    fixed("observer_id", "0", "the unique id of the server"),
    cluster("rootservice_list", "", "ROOT_SERVICE", "a list of servers against which election is run"),
    cluster("all_server_list", "", "LOCATION_CACHE", "all server addr in cluster"),
    cluster("min_observer_version", "", "OBSERVER", "the min observer version"),
    cluster("compatible", "", "TRANS", "compatible version for persisted data"),
    cluster("memory_limit", "0M", "OBSERVER", "the size of the memory reserved for internal use"),
    cluster(
        "memory_limit_percentage",
        "80",
        "OBSERVER",
        "memory limit percentage of the total physical memory",
    ),
    cluster("system_memory", "0M", "OBSERVER", "the memory reserved for internal use"),
    cluster("cpu_count", "0", "OBSERVER", "the number of CPU's in the system"),
    cluster("datafile_size", "0M", "SSTABLE", "size of the data file"),
    cluster("datafile_next", "0M", "SSTABLE", "the auto extend step"),
    cluster("datafile_maxsize", "0M", "SSTABLE", "the auto extend max size"),
    cluster(
        "datafile_disk_percentage",
        "0",
        "SSTABLE",
        "the percentage of disk space used by the data files",
    ),
    cluster("log_disk_size", "0M", "LOGSERVICE", "the size of disk space used by the log files"),
    cluster("log_disk_percentage", "0", "LOGSERVICE", "the percentage of disk space used by the log files"),
    cluster("syslog_level", "WDIAG", "OBSERVER", "specifies the current level of logging"),
    cluster("max_syslog_file_count", "0", "OBSERVER", "the maximum number of the log files"),
    cluster("enable_syslog_recycle", "False", "OBSERVER", "whether log file recycling is turned on"),
    cluster("lease_time", "10s", "ROOT_SERVICE", "lease for current heartbeat"),
    cluster(
        "server_permanent_offline_time",
        "3600s",
        "ROOT_SERVICE",
        "time without heartbeat until replicas move",
    ),
    cluster("migration_disable_time", "3600s", "ROOT_SERVICE", "time in which no migration goes to a server"),
    cluster("server_check_interval", "30s", "ROOT_SERVICE", "the time interval between schedules of a task"),
    cluster("enable_rereplication", "True", "LOAD_BALANCE", "whether replicas are made anew"),
    cluster("enable_rebalance", "True", "LOAD_BALANCE", "whether units are balanced"),
    cluster(
        "internal_sql_execute_timeout",
        "30s",
        "OBSERVER",
        "the number of microseconds an internal DML request is permitted",
    ),
    cluster(
        "__min_full_resource_pool_memory",
        "2147483648",
        "ROOT_SERVICE",
        "the min memory value of a resource pool",
    ),
    cluster("use_ipv6", "False", "OBSERVER", "whether this server uses ipv6 address"),
    tenant("freeze_trigger_percentage", "20", "the threshold of the size of the mem store"),
    tenant("cpu_quota_concurrency", "4", "max allowed concurrency for 1 CPU quota"),
    tenant("undo_retention", "1800", "the low threshold value of undo retention"),
    tenant("_lcl_op_interval", "30ms", "scan interval of the deadlock detector"),
];

impl Known {
    /// As its default shows it.
    pub(crate) fn kind(&self) -> &'static str {
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let strip = |ends: &[&str]| ends.iter().find_map(|end| self.default.strip_suffix(end));
        match self.default {
            "True" | "False" => "BOOL",
            default if is_number(default) => "INT",
            _ if strip(&["ms", "s"]).is_some_and(is_number) => "TIME",
            _ if strip(&["M", "G"]).is_some_and(is_number) => "CAPACITY",
            _ => "STRING",
        }
    }

    /// Simplified: ranges are not checked.
    pub(crate) fn takes(&self, value: &str) -> bool {
        let begins_with_digit = value.bytes().next().is_some_and(|b| b.is_ascii_digit());
        match self.kind() {
            "BOOL" => ["true", "false", "0", "1", "on", "off"].contains(&value.to_ascii_lowercase().as_str()),
            "INT" => value.parse::<i64>().is_ok(),
            "TIME" | "CAPACITY" => begins_with_digit,
            _ => true,
        }
    }
}

pub(crate) fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(name))
}

/// One row of a parameter view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) known: Known,
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) default: String,
    pub(crate) tenant: Option<i64>,
}

/// All parameters of one server. A server that is of no cluster has no tenants.
pub(crate) fn of_server(state: &State, addr: Addr, card: &Card, has_startup_mode: bool) -> Vec<Shown> {
    let mut all = Vec::new();
    for known in KNOWN.iter().filter(|known| has_startup_mode || known.name != "ob_startup_mode") {
        let default = default(known, card);
        if known.is_of_tenant {
            for tenant in &state.tenants {
                let target = Target::Tenant(tenant.name.clone());
                let set = set_value(state, known.name, |other| *other == target);
                let value = set.unwrap_or_else(|| default.clone());
                all.push(Shown {
                    known: *known,
                    name: known.name.to_owned(),
                    value,
                    default: default.clone(),
                    tenant: Some(tenant.id),
                });
            }
        } else {
            let value = value(state, addr, card, known.name).unwrap_or_else(|| default.clone());
            all.push(Shown { known: *known, name: known.name.to_owned(), value, default, tenant: None });
        }
    }
    for name in card.config.keys().filter(|name| find(name).is_none()) {
        let known = cluster("", "", "OBSERVER", "");
        let value = value(state, addr, card, name).unwrap_or_default();
        all.push(Shown { known, name: name.clone(), value, default: String::new(), tenant: None });
    }
    all
}

fn default(known: &Known, card: &Card) -> String {
    match known.name {
        "min_observer_version" | "compatible" => card.version.clone(),
        _ => known.default.to_owned(),
    }
}

fn value(state: &State, addr: Addr, card: &Card, name: &str) -> Option<String> {
    let on_server = set_value(state, name, |target| *target == Target::Server(addr));
    let in_zone = || set_value(state, name, |target| *target == Target::Zone(card.zone.clone()));
    let everywhere = || set_value(state, name, |target| *target == Target::Cluster);
    on_server.or_else(in_zone).or_else(everywhere).or_else(|| card.config.get(name).cloned())
}

fn set_value(state: &State, name: &str, is_meant: impl Fn(&Target) -> bool) -> Option<String> {
    let mut found =
        state.parameters.iter().filter(|set| set.name.eq_ignore_ascii_case(name) && is_meant(&set.target));
    found.next_back().map(|set| set.value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Parameter;

    #[test]
    fn values_fit_their_kinds() {
        let known = |name: &str| find(name).unwrap();
        for (name, kind, good, bad) in [
            ("cpu_count", "INT", "16", "many"),
            ("memory_limit", "CAPACITY", "8G", "much"),
            ("lease_time", "TIME", "10s", "soon"),
            ("enable_rebalance", "BOOL", "off", "maybe"),
        ] {
            assert_eq!(known(name).kind(), kind);
            assert!(known(name).takes(good) && !known(name).takes(bad), "{name}");
        }
        assert!(known("syslog_level").kind() == "STRING" && known("syslog_level").takes(""));
    }

    #[test]
    fn the_closest_value_counts() {
        let addr: Addr = "10.0.0.1:2882".parse().unwrap();
        let mut card = Card { zone: "z1".to_owned(), version: "4.3.5.1".to_owned(), ..Card::default() };
        card.config.insert("cpu_count".to_owned(), "4".to_owned());
        card.config.insert("own".to_owned(), "1".to_owned());
        let mut state = State::default();
        let read = |state: &State, name: &str| {
            of_server(state, addr, &card, true).into_iter().find(|shown| shown.name == name).unwrap().value
        };
        assert_eq!(read(&state, "cpu_count"), "4");
        assert_eq!(read(&state, "compatible"), "4.3.5.1");
        assert_eq!(read(&state, "own"), "1");
        for (value, target) in
            [("8", Target::Cluster), ("9", Target::Zone("z2".into())), ("7", Target::Server(addr))]
        {
            let (name, value) = ("cpu_count".to_owned(), value.to_owned());
            state.parameters.push(Parameter { name, value, target });
        }
        assert_eq!(read(&state, "cpu_count"), "7");
        state.parameters.pop();
        assert_eq!(read(&state, "cpu_count"), "8");
        assert!(!of_server(&state, addr, &card, false).iter().any(|shown| shown.name == "ob_startup_mode"));
    }
}

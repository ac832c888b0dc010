//! What stopping servers does to the log streams of every tenant. Pure: facts in, fates out.
//!
//! The rule is the database's own (`observer-model.md` §11, §12.4): of a log stream's members, those count that are not
//! being stopped, have answered, are in sync, and whose server is active and serving in a zone that is active. They must be
//! more than half of its replicas. What cannot be seen is not counted; a stream whose leader cannot be seen has lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{ServerAddr, ZoneName};

/// The log stream that every tenant has.
const FIRST_STREAM: i64 = 1;

/// A row of `DBA_OB_SERVERS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRow {
    pub id: i64,
    pub server: ServerAddr,
    pub zone: ZoneName,
    pub sql_port: u16,
    /// It runs the root service.
    pub has_root: bool,
    /// `ACTIVE`, `INACTIVE` or `DELETING`.
    pub status: String,
    /// When it began to serve, as the database says; `None` while it does not.
    pub started: Option<String>,
    /// When it was stopped by `STOP SERVER`; `None` when it is in service.
    pub stopped: Option<String>,
    pub build_version: String,
}

impl ServerRow {
    /// Active, serving, in service.
    pub fn is_well(&self) -> bool {
        self.status.eq_ignore_ascii_case("ACTIVE") && self.started.is_some() && self.stopped.is_none()
    }
}

/// A row of `DBA_OB_ZONES`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneRow {
    pub zone: ZoneName,
    pub status: String,
    pub region: String,
    pub idc: String,
}

impl ZoneRow {
    pub fn is_active(&self) -> bool {
        self.status.eq_ignore_ascii_case("ACTIVE")
    }
}

/// A row of `GV$OB_LOG_STAT`: one replica that has answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRow {
    pub tenant: i64,
    pub stream: i64,
    pub server: ServerAddr,
    pub is_leader: bool,
    /// As this replica knows them.
    pub members: Vec<ServerAddr>,
    pub replicas: usize,
    pub is_in_sync: bool,
}

/// The cluster in its own eyes, as one connection has read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    pub servers: Vec<ServerRow>,
    pub zones: Vec<ZoneRow>,
    pub replicas: Vec<ReplicaRow>,
    /// Names by id.
    pub tenants: BTreeMap<i64, String>,
    /// `ob_version()`.
    pub version: String,
}

/// What becomes of one log stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    pub tenant: i64,
    pub tenant_name: String,
    pub stream: i64,
    pub replicas: usize,
    /// Members that are left.
    pub left: usize,
    pub needed: usize,
    /// The leader, where it can be seen.
    pub leader: Option<ServerAddr>,
    /// Its leader is among the servers that are stopped.
    pub leader_moves: bool,
    /// Members that do not count although nobody stops them, and why.
    pub missing: Vec<String>,
}

impl Fate {
    pub fn keeps_majority(&self) -> bool {
        self.leader.is_some() && self.left >= self.needed
    }

    /// For people: `tenant shop (1002) log stream 1: 1 of 3 replicas left, 2 needed (10.0.0.2:2882 is not in sync)`.
    pub fn in_words(&self) -> String {
        let name = format!("tenant {} ({}) log stream {}", self.tenant_name, self.tenant, self.stream);
        if self.leader.is_none() {
            return format!("{name}: it has no leader now");
        }
        let missing =
            if self.missing.is_empty() { String::new() } else { format!(" ({})", self.missing.join(", ")) };
        format!("{name}: {} of {} replicas left, {} needed{missing}", self.left, self.replicas, self.needed)
    }
}

impl ClusterView {
    pub fn server(&self, server: ServerAddr) -> Option<&ServerRow> {
        self.servers.iter().find(|row| row.server == server)
    }

    pub fn zone(&self, zone: &ZoneName) -> Option<&ZoneRow> {
        self.zones.iter().find(|row| row.zone == *zone)
    }

    pub fn tenant_name(&self, tenant: i64) -> String {
        self.tenants.get(&tenant).cloned().unwrap_or_else(|| format!("#{tenant}"))
    }

    /// Every log stream that anybody has told of, or that there must be, by tenant and number.
    fn streams(&self) -> BTreeMap<(i64, i64), Vec<&ReplicaRow>> {
        let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in &self.replicas {
            streams.entry((row.tenant, row.stream)).or_default().push(row);
        }
        // Every tenant has one: where none is seen, nobody who has it answers.
        for tenant in self.tenants.keys() {
            if !streams.keys().any(|(known, _)| known == tenant) {
                streams.insert((*tenant, FIRST_STREAM), Vec::new());
            }
        }
        streams
    }

    /// What becomes of every log stream when these servers stop.
    pub fn without(&self, stopping: &[ServerAddr]) -> Vec<Fate> {
        self.streams()
            .into_iter()
            .map(|((tenant, stream), rows)| self.fate(tenant, stream, &rows, stopping))
            .collect()
    }

    fn fate(&self, tenant: i64, stream: i64, rows: &[&ReplicaRow], stopping: &[ServerAddr]) -> Fate {
        // Of two that call themselves leader one is wrong, and its members are too.
        let mut leaders = rows.iter().filter(|row| row.is_leader);
        let leader = leaders.next().filter(|_| leaders.next().is_none());
        let known = leader.or(rows.first());
        let (members, replicas) = known.map_or((&[][..], 0), |row| (row.members.as_slice(), row.replicas));
        let mut missing = Vec::new();
        let mut left = 0;
        for member in members.iter().filter(|member| !stopping.contains(member)) {
            match self.why_not(*member, rows) {
                None => left += 1,
                Some(why) => missing.push(format!("{member} {why}")),
            }
        }
        Fate {
            tenant,
            tenant_name: self.tenant_name(tenant),
            stream,
            replicas,
            left,
            needed: replicas / 2 + 1,
            leader: leader.map(|row| row.server),
            leader_moves: leader.is_some_and(|row| stopping.contains(&row.server)),
            missing,
        }
    }

    /// Why a member does not count.
    fn why_not(&self, member: ServerAddr, rows: &[&ReplicaRow]) -> Option<&'static str> {
        let Some(replica) = rows.iter().find(|row| row.server == member) else {
            return Some("does not answer");
        };
        let Some(server) = self.server(member) else { return Some("is no server of the cluster") };
        if !server.status.eq_ignore_ascii_case("ACTIVE") {
            return Some("is not active");
        }
        if server.stopped.is_some() {
            return Some("is stopped");
        }
        if server.started.is_none() {
            return Some("does not serve yet");
        }
        if !self.zone(&server.zone).is_some_and(ZoneRow::is_active) {
            return Some("is in a stopped zone");
        }
        (!replica.is_in_sync).then_some("is not in sync")
    }

    /// Log streams that have a member on one of these servers which has not caught up with its leader, or does not answer.
    pub fn behind(&self, servers: &[ServerAddr]) -> Vec<String> {
        let mut found = Vec::new();
        for ((tenant, stream), rows) in self.streams() {
            let leader = rows.iter().find(|row| row.is_leader);
            let name = format!("tenant {} ({tenant}) log stream {stream}", self.tenant_name(tenant));
            let Some(leader) = leader else {
                found.push(format!("{name} has no leader"));
                continue;
            };
            let members = leader.members.iter().filter(|member| servers.contains(member));
            for member in members {
                let is_in_sync = rows.iter().any(|row| row.server == *member && row.is_in_sync);
                if !is_in_sync {
                    found.push(format!("{name} on {member}"));
                }
            }
        }
        found
    }

    /// Zones in which something is stopped, these aside: as the database asks before it stops more (Q41).
    pub fn stopped_elsewhere(&self, zones: &[ZoneName]) -> Vec<String> {
        let servers = self.servers.iter().filter(|row| row.stopped.is_some() && !zones.contains(&row.zone));
        let mut found: Vec<_> =
            servers.map(|row| format!("server {} of zone {}", row.server, row.zone)).collect();
        let inactive = self.zones.iter().filter(|row| !row.is_active() && !zones.contains(&row.zone));
        found.extend(inactive.map(|row| format!("zone {}", row.zone)));
        found
    }
}

//! Rows of the tables and views, made from the state at the moment of the question.
//!
//! Invariant: `DBA_…` shows what RootService knows; `GV$…` has rows of the servers that are reached, `V$…` of this one only. A
//! time of 0 is NULL.
//!
//! Simplified: capacities are made up.
//!
//! Not here: what tenants have (`tenant_rows`).

use std::collections::BTreeSet;

use rusqlite::types::Value;

use crate::clock;
use crate::parameters;
use crate::rules;
use crate::server::Sight;
use crate::state::{Addr, Card, Stream, TenantKind};
use crate::tables::Row;

/// What rows are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) sight: &'a Sight,
    pub(crate) own: Addr,
    pub(crate) databases: &'a [String],
}

pub(crate) trait Cell {
    fn cell(self) -> Value;
}

impl Cell for i64 {
    fn cell(self) -> Value {
        Value::Integer(self)
    }
}

impl Cell for i32 {
    fn cell(self) -> Value {
        Value::Integer(i64::from(self))
    }
}

impl Cell for u16 {
    fn cell(self) -> Value {
        Value::Integer(i64::from(self))
    }
}

impl Cell for f64 {
    fn cell(self) -> Value {
        Value::Real(self)
    }
}

impl Cell for &str {
    fn cell(self) -> Value {
        Value::Text(self.to_owned())
    }
}

impl Cell for String {
    fn cell(self) -> Value {
        Value::Text(self)
    }
}

impl<T: Cell> Cell for Option<T> {
    fn cell(self) -> Value {
        self.map_or(Value::Null, Cell::cell)
    }
}

macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$($crate::rows::Cell::cell($value)),*] };
}
pub(crate) use row;

pub(crate) const NULL: Option<i64> = None;
pub(crate) const UNIT_CPU: f64 = 2.0;
pub(crate) const UNIT_MEMORY: i64 = 2 << 30;
const CAPACITY: i64 = 64 << 30;
const SCHEMA_VERSION: i64 = 1_600_000_000_000_000;

pub(crate) fn time(us: i64) -> Option<String> {
    (us != 0).then(|| clock::text(us, 6))
}

pub(crate) fn ip(addr: Addr) -> String {
    addr.ip().to_string()
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn yes_no(is_so: bool) -> &'static str {
    if is_so { "YES" } else { "NO" }
}

impl Facts<'_> {
    /// Servers of the cluster that are reached from here. One that is of no cluster knows itself.
    pub(crate) fn reached(&self) -> Vec<(Addr, &Card)> {
        let is_known = |addr: Addr| self.sight.state.server(addr).is_some() || addr == self.own;
        let view = &self.sight.view;
        view.reached(self.own)
            .filter(|(addr, _)| is_known(**addr))
            .map(|(addr, card)| (*addr, card))
            .collect()
    }

    fn root(&self) -> Option<Addr> {
        self.sight.state.root_service.as_ref().map(|root| root.addr)
    }

    pub(crate) fn tenant_servers(&self, tenant: i64) -> BTreeSet<Addr> {
        let streams = self.sight.state.streams.iter().filter(|stream| stream.tenant == tenant);
        streams.flat_map(|stream| stream.members.iter().copied()).collect()
    }
}

pub(crate) fn servers(facts: &Facts<'_>) -> Vec<Row> {
    let row = |row: &crate::state::Server| {
        row![
            ip(row.addr),
            row.addr.port(),
            row.id,
            row.zone.clone(),
            row.sql_port,
            yes_no(facts.root() == Some(row.addr)),
            row.status.name(),
            time(row.start_service_time),
            time(row.stop_time),
            NULL,
            time(row.created),
            time(row.modified),
            row.build_version.clone(),
            time(row.last_offline_time),
        ]
    };
    facts.sight.state.servers.iter().map(row).collect()
}

pub(crate) fn all_server(facts: &Facts<'_>) -> Vec<Row> {
    let row = |row: &crate::state::Server| {
        row![
            time(row.created),
            time(row.modified),
            ip(row.addr),
            row.addr.port(),
            row.id,
            row.zone.clone(),
            row.sql_port,
            i64::from(facts.root() == Some(row.addr)),
            row.status.name(),
            0,
            row.build_version.clone(),
            row.stop_time,
            row.start_service_time,
            row.id,
            i64::from(facts.sight.state.streams.iter().any(|stream| stream.members.contains(&row.addr))),
            row.last_offline_time,
        ]
    };
    facts.sight.state.servers.iter().map(row).collect()
}

pub(crate) fn zones(facts: &Facts<'_>) -> Vec<Row> {
    let zones = facts.sight.state.zones.iter();
    zones
        .map(|zone| {
            row![
                zone.name.clone(),
                time(zone.created),
                time(zone.modified),
                zone.status.name(),
                zone.idc.clone(),
                zone.region.clone(),
                zone.kind.clone()
            ]
        })
        .collect()
}

pub(crate) fn all_zone(facts: &Facts<'_>) -> Vec<Row> {
    let mut all = vec![row![NULL, NULL, "", "cluster", 0, facts.sight.state.cluster.clone()]];
    for zone in &facts.sight.state.zones {
        for (name, info) in [
            ("idc", zone.idc.as_str()),
            ("region", &zone.region),
            ("status", zone.status.name()),
            ("zone_type", &zone.kind),
        ] {
            all.push(row![time(zone.created), time(zone.modified), zone.name.clone(), name, 0, info]);
        }
    }
    all
}

fn server_row(facts: &Facts<'_>, addr: Addr, card: &Card) -> Row {
    let tenants = facts.sight.state.tenants.iter().filter(|tenant| tenant.kind != TenantKind::Meta);
    let units = count(tenants.filter(|tenant| facts.tenant_servers(tenant.id).contains(&addr)).count());
    #[expect(clippy::cast_precision_loss, reason = "a handful of units")]
    let cpu = units as f64 * UNIT_CPU;
    row![
        ip(addr),
        addr.port(),
        card.zone.clone(),
        card.sql_port,
        16,
        16.0,
        cpu,
        cpu,
        CAPACITY,
        units * UNIT_MEMORY,
        CAPACITY,
        units * 3 * UNIT_MEMORY,
        UNIT_MEMORY,
        CAPACITY,
        UNIT_MEMORY,
        "NORMAL",
        CAPACITY,
        CAPACITY,
        NULL,
        NULL,
        NULL,
    ]
}

pub(crate) fn live_servers(facts: &Facts<'_>) -> Vec<Row> {
    facts.reached().into_iter().map(|(addr, card)| server_row(facts, addr, card)).collect()
}

fn own_of(facts: &Facts<'_>, rows: fn(&Facts<'_>) -> Vec<Row>, ip_at: usize) -> Vec<Row> {
    let own = (ip(facts.own).cell(), facts.own.port().cell());
    rows(facts)
        .into_iter()
        .filter(|row| row.get(ip_at) == Some(&own.0) && row.get(ip_at + 1) == Some(&own.1))
        .collect()
}

pub(crate) fn own_server(facts: &Facts<'_>) -> Vec<Row> {
    own_of(facts, live_servers, 0)
}

pub(crate) fn own_log_stat(facts: &Facts<'_>) -> Vec<Row> {
    own_of(facts, log_stat, 2)
}

pub(crate) fn own_parameters(facts: &Facts<'_>) -> Vec<Row> {
    own_of(facts, parameters, 0)
}

/// Streams with those of their members that are reached and have data.
fn replicas<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (&'a Stream, Addr)> {
    let reached: Vec<Addr> =
        facts.reached().into_iter().filter(|(_, card)| card.has_data).map(|(addr, _)| addr).collect();
    facts.sight.state.streams.iter().flat_map(move |stream| {
        let here: Vec<Addr> = stream.members.iter().copied().filter(|addr| reached.contains(addr)).collect();
        here.into_iter().map(move |addr| (stream, addr))
    })
}

fn member_list(stream: &Stream) -> String {
    stream.members.iter().map(|member| format!("{member}:1")).collect::<Vec<_>>().join(",")
}

pub(crate) fn log_stat(facts: &Facts<'_>) -> Vec<Row> {
    let now = clock::scn(facts.sight.view.wall);
    let row = |(stream, addr): (&Stream, Addr)| {
        let lag = rules::lag(stream, &facts.sight.view, addr);
        let end = lag.unwrap_or(now);
        let lsn = end / 1_000_000;
        row![
            stream.tenant,
            stream.id,
            ip(addr),
            addr.port(),
            if stream.leader() == Some(addr) { "LEADER" } else { "FOLLOWER" },
            stream.proposal,
            format!("{{proposal_id:{}, config_seq:1}}", stream.proposal),
            "APPEND",
            member_list(stream),
            count(stream.members.len()),
            yes_no(lag.is_none()),
            0,
            0,
            1,
            lsn,
            end,
            lsn,
            end,
            "",
            "",
            "",
        ]
    };
    let silent = facts.sight.settings.text("silent_streams");
    replicas(facts).filter(|(_, addr)| silent != Some(addr.to_string().as_str())).map(row).collect()
}

pub(crate) fn locations(facts: &Facts<'_>) -> Vec<Row> {
    let mut all = Vec::new();
    for stream in &facts.sight.state.streams {
        for addr in &stream.members {
            let Some(server) = facts.sight.state.server(*addr) else { continue };
            // The table is reported to: after a loss it still names the old leader.
            let is_leader = stream.reported == Some(*addr);
            all.push(row![
                time(server.created),
                time(server.modified),
                stream.tenant,
                stream.id,
                ip(*addr),
                addr.port(),
                server.sql_port,
                server.zone.clone(),
                if is_leader { "LEADER" } else { "FOLLOWER" },
                is_leader.then(|| member_list(stream)),
                is_leader.then(|| count(stream.members.len())),
                "FULL",
                "",
            ]);
        }
    }
    all
}

pub(crate) fn system_locations(facts: &Facts<'_>) -> Vec<Row> {
    let system = locations(facts).into_iter().filter(|row| row.get(2) == Some(&Value::Integer(1)));
    system
        .map(|mut row| {
            row.remove(2);
            row
        })
        .collect()
}

fn shown(facts: &Facts<'_>) -> Vec<(Addr, String, parameters::Shown)> {
    let has_mode = !facts.sight.settings.has("no_startup_mode");
    let mut all = Vec::new();
    for (addr, card) in facts.reached() {
        for shown in parameters::of_server(&facts.sight.state, addr, card, has_mode) {
            all.push((addr, card.zone.clone(), shown));
        }
    }
    all
}

fn scope(shown: &parameters::Shown) -> &'static str {
    if shown.tenant.is_some() { "TENANT" } else { "CLUSTER" }
}

pub(crate) fn parameters(facts: &Facts<'_>) -> Vec<Row> {
    let row = |(addr, zone, shown): (Addr, String, parameters::Shown)| {
        let scope = scope(&shown);
        row![
            ip(addr),
            addr.port(),
            zone,
            scope,
            shown.tenant,
            shown.name,
            shown.known.kind(),
            shown.value.clone(),
            shown.known.info,
            shown.known.section,
            shown.known.edit_level,
            shown.default.clone(),
            yes_no(shown.value == shown.default),
        ]
    };
    shown(facts).into_iter().map(row).collect()
}

pub(crate) fn parameter_stat(facts: &Facts<'_>) -> Vec<Row> {
    let row = |(addr, zone, shown): (Addr, String, parameters::Shown)| {
        let scope = scope(&shown);
        row![
            zone,
            "observer",
            ip(addr),
            addr.port(),
            shown.name,
            shown.known.kind(),
            shown.value.clone(),
            shown.value.clone(),
            shown.known.info,
            i64::from(shown.known.edit_level == "READONLY"),
            shown.known.section,
            "COMMON",
            scope,
            "DEFAULT",
            shown.known.edit_level,
            shown.default.clone(),
            i64::from(shown.value == shown.default),
        ]
    };
    shown(facts).into_iter().map(row).collect()
}

/// As SHOW PARAMETERS has them.
pub(crate) fn show_parameters(facts: &Facts<'_>) -> Vec<Row> {
    let row = |(addr, zone, shown): (Addr, String, parameters::Shown)| {
        let scope = scope(&shown);
        row![
            zone,
            "observer",
            ip(addr),
            addr.port(),
            shown.name,
            shown.known.kind(),
            shown.value.clone(),
            shown.known.info,
            shown.known.section,
            scope,
            "DEFAULT",
            shown.known.edit_level,
            shown.default.clone(),
            i64::from(shown.value == shown.default),
        ]
    };
    shown(facts).into_iter().map(row).collect()
}

pub(crate) fn schema_info(facts: &Facts<'_>) -> Vec<Row> {
    let mut all = Vec::new();
    for (addr, card) in facts.reached() {
        // Who does not serve has not seen the schema yet.
        let version = if card.serving_since == 0 { 1 } else { SCHEMA_VERSION };
        for tenant in &facts.sight.state.tenants {
            all.push(row![ip(addr), addr.port(), tenant.id, version, version, 1000, 1 << 20, 0]);
        }
    }
    all
}

pub(crate) fn ls_info(facts: &Facts<'_>) -> Vec<Row> {
    let now = clock::scn(facts.sight.view.wall);
    replicas(facts)
        .map(|(stream, addr)| {
            let checkpoint = stream.checkpoints.get(&addr).copied().unwrap_or(1);
            let lsn = checkpoint / 1_000_000;
            row![
                ip(addr),
                addr.port(),
                stream.tenant,
                stream.id,
                "FULL",
                "LEADER",
                100,
                now,
                "NO",
                checkpoint,
                lsn,
                0,
                0
            ]
        })
        .collect()
}

fn all_databases<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a str> {
    ["oceanbase", "mysql", "information_schema"].into_iter().chain(facts.databases.iter().map(String::as_str))
}

pub(crate) fn databases(facts: &Facts<'_>) -> Vec<Row> {
    (200_001..).zip(all_databases(facts)).map(|(id, name)| row![NULL, NULL, 0, id, name]).collect()
}

pub(crate) fn database_names(facts: &Facts<'_>) -> Vec<Row> {
    all_databases(facts).map(|name| row![name, "NO", "NO"]).collect()
}

pub(crate) fn jobs(facts: &Facts<'_>) -> Vec<Row> {
    let root = facts.root();
    let row = |job: &crate::state::Job| {
        let progress = if job.status == "SUCCESS" { 100 } else { 0 };
        row![
            job.id,
            "DELETE_SERVER",
            job.status.clone(),
            (job.status == "SUCCESS").then_some(0),
            progress,
            time(job.started),
            time(job.started),
            ip(job.server),
            job.server.port(),
            format!("ALTER SYSTEM DELETE SERVER '{}'", job.server),
            NULL,
            root.map(ip),
            root.map(|root| root.port()),
        ]
    };
    facts.sight.state.jobs.iter().map(row).collect()
}

pub(crate) fn events(facts: &Facts<'_>) -> Vec<Row> {
    let root = facts.root();
    let row = |event: &crate::state::Event| {
        let mut row = short_event(event);
        row.extend(std::iter::repeat_n(Value::Null, 11));
        row.extend(row![root.map(ip), root.map(|root| root.port())]);
        row
    };
    facts.sight.state.events.iter().map(row).collect()
}

fn short_event(event: &crate::state::Event) -> Row {
    row![time(event.at), event.module.clone(), event.event.clone(), event.name.clone(), event.value.clone()]
}

pub(crate) fn short_events(facts: &Facts<'_>) -> Vec<Row> {
    facts.sight.state.events.iter().map(short_event).collect()
}

pub(crate) fn license(facts: &Facts<'_>) -> Vec<Row> {
    let created = facts.sight.state.servers.first().map_or(0, |row| row.created);
    let code = "simulated";
    vec![row![
        "test",
        "1",
        code,
        "Trial",
        "SE",
        time(created),
        time(created),
        time(i64::from(u32::MAX) * 1_000_000),
        "",
        1,
        code
    ]]
}

pub(crate) fn compactions(facts: &Facts<'_>) -> Vec<Row> {
    facts.sight.state.tenants.iter().map(|tenant| row![tenant.id, 1, "IDLE", 1, "NO"]).collect()
}

pub(crate) fn own_stat(facts: &Facts<'_>) -> Vec<Row> {
    let own = facts.sight.view.live.get(&facts.own);
    own.map(|card| row![ip(facts.own), facts.own.port(), card.serving_since]).into_iter().collect()
}

pub(crate) fn virtual_servers(facts: &Facts<'_>) -> Vec<Row> {
    let row = |(addr, card): (Addr, &Card)| row![ip(addr), addr.port(), card.zone.clone(), card.sql_port];
    facts.reached().into_iter().map(row).collect()
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;

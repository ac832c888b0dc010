//! Rows about tenants: units, pools, and what they are made of.
//!
//! Simplified: every tenant has one unit on each of its servers, all of one size.

use std::collections::BTreeSet;

use crate::clock;
use crate::rows::{Facts, NULL, UNIT_CPU, UNIT_MEMORY, ip, row, time};
use crate::state::{Addr, Tenant, TenantKind};
use crate::tables::Row;

/// Tenants with the servers that hold a unit of theirs; a meta tenant lives in the unit of its own.
fn held_units<'a>(facts: &'a Facts<'_>) -> Vec<(i64, &'a Tenant, Addr)> {
    let tenants = facts.sight.state.tenants.iter().filter(|tenant| tenant.kind != TenantKind::Meta);
    let pairs = tenants
        .flat_map(|tenant| facts.tenant_servers(tenant.id).into_iter().map(move |addr| (tenant, addr)));
    (1..).zip(pairs).map(|(id, (tenant, addr))| (id, tenant, addr)).collect()
}

fn zone_of(facts: &Facts<'_>, addr: Addr) -> String {
    facts.sight.state.server(addr).map(|server| server.zone.clone()).unwrap_or_default()
}

pub(crate) fn units(facts: &Facts<'_>) -> Vec<Row> {
    let row = |(id, tenant, addr): (i64, &Tenant, Addr)| {
        row![
            id,
            tenant.id,
            "ACTIVE",
            tenant.id,
            id,
            time(tenant.created),
            time(tenant.created),
            zone_of(facts, addr),
            ip(addr),
            addr.port(),
            NULL,
            NULL,
            NULL,
            tenant.id,
            UNIT_CPU,
            UNIT_CPU,
            UNIT_MEMORY,
            3 * UNIT_MEMORY,
            10_000,
            10_000,
            1,
        ]
    };
    held_units(facts).into_iter().map(row).collect()
}

pub(crate) fn live_units(facts: &Facts<'_>) -> Vec<Row> {
    let reached: Vec<Addr> = facts.reached().into_iter().map(|(addr, _)| addr).collect();
    let units = held_units(facts).into_iter().filter(|(_, _, addr)| reached.contains(addr));
    units
        .map(|(id, tenant, addr)| {
            row![
                ip(addr),
                addr.port(),
                id,
                tenant.id,
                zone_of(facts, addr),
                "ReadWrite",
                "default_region",
                UNIT_CPU,
                UNIT_CPU,
                UNIT_MEMORY,
                10_000,
                10_000,
                1,
                3 * UNIT_MEMORY,
                UNIT_MEMORY,
                UNIT_MEMORY,
                NULL,
                "NORMAL",
                time(tenant.created),
            ]
        })
        .collect()
}

pub(crate) fn tenants(facts: &Facts<'_>) -> Vec<Row> {
    let state = &facts.sight.state;
    let now = clock::scn(facts.sight.view.wall);
    let row = |tenant: &Tenant| {
        let zones: BTreeSet<String> =
            facts.tenant_servers(tenant.id).into_iter().map(|addr| zone_of(facts, addr)).collect();
        let locality: Vec<String> = zones.into_iter().map(|zone| format!("FULL{{1}}@{zone}")).collect();
        row![
            tenant.id,
            tenant.name.clone(),
            tenant.kind.name(),
            time(tenant.created),
            time(tenant.created),
            "RANDOM",
            locality.join(", "),
            NULL,
            "MYSQL",
            "NORMAL",
            "NO",
            "NO",
            "PRIMARY",
            "NORMAL",
            0,
            now,
            now,
            now,
            i64::MAX,
            "NOARCHIVELOG",
            "DISABLED",
            1,
            state.version.clone(),
            1001,
            "",
        ]
    };
    state.tenants.iter().map(row).collect()
}

pub(crate) fn all_tenant(facts: &Facts<'_>) -> Vec<Row> {
    let tenants = facts.sight.state.tenants.iter();
    tenants.map(|tenant| row![time(tenant.created), tenant.id, tenant.name.clone(), "NORMAL", 0, 0]).collect()
}

fn user_and_sys<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = &'a Tenant> {
    facts.sight.state.tenants.iter().filter(|tenant| tenant.kind != TenantKind::Meta)
}

pub(crate) fn pools(facts: &Facts<'_>) -> Vec<Row> {
    let row = |tenant: &Tenant| {
        let zones: BTreeSet<String> =
            facts.tenant_servers(tenant.id).into_iter().map(|addr| zone_of(facts, addr)).collect();
        row![
            tenant.id,
            format!("{}_pool", tenant.name),
            tenant.id,
            time(tenant.created),
            time(tenant.created),
            1,
            tenant.id,
            zones.into_iter().collect::<Vec<_>>().join(";"),
            "FULL",
        ]
    };
    user_and_sys(facts).map(row).collect()
}

pub(crate) fn unit_configs(facts: &Facts<'_>) -> Vec<Row> {
    user_and_sys(facts)
        .map(|tenant| {
            row![
                tenant.id,
                format!("{}_unit_config", tenant.name),
                time(tenant.created),
                time(tenant.created),
                UNIT_CPU,
                UNIT_CPU,
                UNIT_MEMORY,
                3 * UNIT_MEMORY,
                10_000,
                10_000,
                1,
            ]
        })
        .collect()
}

/// As every tenant has them at its birth.
const VARIABLES: [(&str, &str); 6] = [
    ("ob_tcp_invited_nodes", "%"),
    ("read_only", "0"),
    ("lower_case_table_names", "1"),
    ("time_zone", "+08:00"),
    ("character_set_server", "45"),
    ("collation_server", "45"),
];

pub(crate) fn variables(facts: &Facts<'_>) -> Vec<Row> {
    let of = |tenant: &Tenant| {
        let (id, created) = (tenant.id, tenant.created);
        VARIABLES.map(|(name, value)| row![time(created), time(created), id, name, value, ""])
    };
    user_and_sys(facts).flat_map(of).collect()
}

/// Number, name, and what a unit has of it. Simplified: a quarter of the processors and half of the memory are in use.
pub(crate) fn statistics(facts: &Facts<'_>) -> Vec<Row> {
    #[expect(clippy::cast_possible_truncation, reason = "a handful of processors")]
    let cpu = (UNIT_CPU * 100.0) as i64;
    let told = [
        (140_006, "cpu usage", cpu / 4),
        (140_005, "max cpus", cpu),
        (140_003, "memory usage", UNIT_MEMORY / 2),
        (140_002, "max memory size", UNIT_MEMORY),
    ];
    let reached: Vec<Addr> = facts.reached().into_iter().map(|(addr, _)| addr).collect();
    let units = held_units(facts).into_iter().filter(|(_, _, addr)| reached.contains(addr));
    let of = |(_, tenant, addr): (i64, &Tenant, Addr)| {
        told.map(|(id, name, value)| {
            row![tenant.id, ip(addr), addr.port(), id, name, 256, value, "SET_VALUE"]
        })
    };
    units.flat_map(of).collect()
}

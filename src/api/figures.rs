//! Numbers of the cluster as the wire shows them. Pure.

use crate::app::{InfoView, Instance, ServerView};
use crate::cluster::figures::{Edition, Figures, License, Pool, Room, TenantFigures, UnitConfig, percent};
use crate::model::{NEVER, on_wire};
use crate::wire::{
    InstanceInfo, LicenseInfo, PoolInfo, ServerStats, Stats, TenantInfo, TenantStats, UnitConfigInfo,
    UnitConfigLimit, capacity,
};

/// A size as a part of another; sizes are far below what a fraction holds exactly.
#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn share(part: i64, whole: i64) -> f64 {
    percent(part as f64, whole as f64)
}

pub(super) fn stats(room: &Room) -> Stats {
    Stats {
        cpu_core_total: room.cpu_total,
        cpu_core_assigned: room.cpu_assigned,
        cpu_core_assigned_percent: percent(room.cpu_assigned, room.cpu_total),
        memory_total: capacity(room.memory_total),
        memory_assigned: capacity(room.memory_assigned),
        memory_in_bytes_total: room.memory_total,
        memory_in_bytes_assigned: room.memory_assigned,
        memory_assigned_percent: share(room.memory_assigned, room.memory_total),
        disk_total: capacity(room.disk_total),
        disk_assigned: capacity(room.disk_in_use),
        disk_in_bytes_total: room.disk_total,
        disk_in_bytes_assigned: room.disk_in_use,
        disk_assigned_percent: share(room.disk_in_use, room.disk_total),
    }
}

/// Of all servers that are shown.
pub(super) fn cluster_stats(info: &InfoView) -> Stats {
    let mut sum = Room::default();
    for server in info.zones.iter().flat_map(|zone| &zone.servers) {
        sum += room_of(server, info.figures.as_deref());
    }
    stats(&sum)
}

fn room_of(server: &ServerView, figures: Option<&Figures>) -> Room {
    let addr = server.addr;
    figures.and_then(|all| all.server(addr?)).map(|found| found.room).unwrap_or_default()
}

pub(super) fn server_stats(server: &ServerView, figures: Option<&Figures>, zone: &str) -> ServerStats {
    let room = room_of(server, figures);
    let free = (room.disk_total - room.disk_in_use).max(0);
    ServerStats {
        stats: stats(&room),
        disk_used: capacity(room.disk_in_use),
        disk_free: capacity(free),
        disk_in_bytes_used: room.disk_in_use,
        disk_in_bytes_free: free,
        disk_used_percent: share(room.disk_in_use, room.disk_total),
        ip: server.ip.clone(),
        port: server.rpc_port,
        zone: zone.to_owned(),
    }
}

fn time(told: Option<&String>) -> String {
    told.cloned().unwrap_or_else(|| on_wire(NEVER))
}

pub(super) fn tenant(tenant: &TenantFigures) -> TenantInfo {
    TenantInfo {
        tenant_name: tenant.name.clone(),
        tenant_id: tenant.id,
        created_time: time(tenant.created.as_ref()),
        mode: tenant.mode.clone(),
        status: tenant.status.clone(),
        locked: tenant.locked.clone(),
        primary_zone: tenant.primary_zone.clone(),
        locality: tenant.locality.clone(),
        in_recyclebin: tenant.in_recyclebin.clone(),
        charset: tenant.charset.clone(),
        collation: tenant.collation.clone(),
        whitelist: tenant.whitelist.clone(),
        pools: tenant.pools.iter().map(pool).collect(),
        read_only: tenant.is_read_only,
        time_zone: tenant.time_zone.clone(),
        lower_case_table_names: tenant.lower_case_table_names.clone(),
        dead_lock_detection_enabled: tenant.detects_deadlocks,
        connection_strings: Vec::new(),
        comment: tenant.comment.clone(),
    }
}

fn pool(pool: &Pool) -> PoolInfo {
    let servers: Vec<_> = pool.servers.iter().map(ToString::to_string).collect();
    PoolInfo {
        pool_name: pool.name.clone(),
        pool_id: pool.id,
        zone_list: pool.zones.clone(),
        observer_list: servers.join(";"),
        unit_num: pool.units,
        unit_config: pool.config.as_ref().map(unit_config),
    }
}

fn unit_config(config: &UnitConfig) -> UnitConfigInfo {
    UnitConfigInfo {
        create_time: time(config.created.as_ref()),
        modify_time: time(config.modified.as_ref()),
        unit_config_id: config.id,
        name: config.name.clone(),
        max_cpu: config.cpu_max,
        min_cpu: config.cpu_min,
        memory_size: config.memory,
        log_disk_size: config.log_disk,
        data_disk_size: config.data_disk,
        max_iops: config.iops_max,
        min_iops: config.iops_min,
    }
}

#[expect(clippy::cast_precision_loss, reason = "hundredths of processors")]
pub(super) fn tenant_stats(tenant: &TenantFigures) -> TenantStats {
    let usage = &tenant.usage;
    TenantStats {
        tenant_id: tenant.id,
        tenant_name: tenant.name.clone(),
        cpu_used_percent: share(usage.cpu, usage.cpu_max),
        memory_used_percent: share(usage.memory, usage.memory_max),
        data_disk_usage: usage.disk,
        cpu_core_total: usage.cpu_max as f64 / 100.0,
        memory_in_bytes_total: usage.memory_max,
    }
}

pub(super) fn license(license: &License) -> LicenseInfo {
    LicenseInfo {
        end_user: license.end_user.clone(),
        license_id: license.id.clone(),
        license_code: license.code.clone(),
        license_type: license.kind.clone(),
        product_type: license.product.clone(),
        issuance_date: time(license.issued.as_ref()),
        activation_time: time(license.activated.as_ref()),
        expired_time: time(license.expires.as_ref()),
        options: license.options.clone(),
        node_num: license.nodes,
        cluster_ulid: license.cluster_ulid.clone(),
    }
}

/// The smallest unit; every one has a processor.
#[expect(clippy::cast_precision_loss, reason = "a size in GiB")]
pub(super) fn unit_limit(figures: &Figures) -> UnitConfigLimit {
    let memory = figures.unit_memory_min.map(|bytes| bytes as f64 / (1_u64 << 30) as f64);
    UnitConfigLimit { min_memory: memory, min_cpu: Some(1) }
}

/// `4.3.5.1_101000042025031818-…` is version and revision.
pub(super) fn instance(instance: &Instance, edition: Edition, hash: fn(&str) -> String) -> InstanceInfo {
    let full = instance.version.split('-').next().unwrap_or_default();
    let (version, revision) = full.split_once('_').unwrap_or((full, ""));
    InstanceInfo {
        r#type: edition.instance_type().to_owned(),
        version: version.to_owned(),
        revision: revision.to_owned(),
        cpu_count: instance.cpu_count,
        memory_limit: instance.memory_limit.clone(),
        data_file_size: instance.datafile_size.clone(),
        log_disk_size: instance.log_disk_size.clone(),
        host_hash: hash(&instance.ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn h18_w53_stats_of_nothing_are_zeros() {
        let json = serde_json::to_value(stats(&Room::default())).unwrap();
        assert_eq!(json["cpu_core_assigned_percent"], json!(0.0));
        assert_eq!((&json["memory_total"], &json["disk_assigned_percent"]), (&json!("0B"), &json!(0.0)));
        let nobody = tenant_stats(&TenantFigures::default());
        assert_eq!((nobody.cpu_used_percent, nobody.memory_used_percent), (0.0, 0.0));
    }

    #[test]
    fn sizes_are_shown_for_people_and_for_programs() {
        let room = Room {
            cpu_total: 16.0,
            cpu_assigned: 4.0,
            memory_total: 64 << 30,
            memory_assigned: 16 << 30,
            disk_total: 100 << 30,
            disk_in_use: 1 << 30,
        };
        let json = serde_json::to_value(stats(&room)).unwrap();
        assert_eq!((&json["memory_total"], &json["disk_assigned"]), (&json!("64.00GB"), &json!("1.00GB")));
        assert_eq!(
            (&json["cpu_core_assigned_percent"], &json["disk_assigned_percent"]),
            (&json!(25.0), &json!(1.0))
        );
        assert_eq!([0, 1023, 1536, i64::MAX, -1].map(capacity), ["0B", "1023B", "1.50KB", "8191.99PB", "0B"]);
    }

    #[test]
    fn an_instance_tells_version_and_revision_apart() {
        let of = |version: &str| {
            let instance = Instance { version: version.to_owned(), ..Instance::default() };
            let shown = super::instance(&instance, Edition::Community, |ip| format!("#{ip}"));
            (shown.version, shown.revision, shown.r#type)
        };
        let ce = || "oceanbase-ce".to_owned();
        assert_eq!(
            of("4.3.5.1_101000042024121211-abcdef(Jan  1 2025)"),
            ("4.3.5.1".to_owned(), "101000042024121211".to_owned(), ce())
        );
        assert_eq!(of("4.3.5.3"), ("4.3.5.3".to_owned(), String::new(), ce()));
    }

    #[test]
    fn the_smallest_unit_is_told_in_gib() {
        let figures = Figures { unit_memory_min: Some(5 << 30), ..Figures::default() };
        assert_eq!(
            serde_json::to_value(unit_limit(&figures)).unwrap(),
            json!({ "min_memory": 5.0, "min_cpu": 1 })
        );
        assert_eq!(serde_json::to_value(unit_limit(&Figures::default())).unwrap(), json!({ "min_cpu": 1 }));
    }
}

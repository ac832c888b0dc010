//! Tables and views of schema `oceanbase`: names, columns in view order, and where their rows come from (`observer-model.md`
//! §9).
//!
//! Invariant: columns have the types that clients see. Text compares without regard to case, as in the default collation.
//!
//! Not here: the rows (`rows`).

use rusqlite::types::Value;

use crate::rows::{self, Facts};
use crate::settings::Settings;
use crate::tenant_rows;

/// What has to be there for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A leader of the system's log stream.
    Shared,
    /// The servers that are reached tell of themselves; nobody else is needed.
    Gathered,
    /// A leader that serves of the log stream that is written to, and a majority in sync. No view needs it.
    Written,
}

pub(crate) type Row = Vec<Value>;

#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// `NAME TYPE, …` with `S` for a name-sized text, `I` for a whole number, `T` for a time, `D` for a fraction.
    columns: &'static str,
    pub(crate) reach: Reach,
    pub(crate) rows: fn(&Facts<'_>) -> Vec<Row>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({})", self.name)
    }
}

impl Table {
    pub(crate) fn definition(&self) -> String {
        let columns = self.columns.split(',').map(|column| {
            let (name, kind) = column.trim().rsplit_once(' ').unwrap_or((column, "S"));
            let kind = match kind {
                "I" => "BIGINT",
                "D" => "DOUBLE",
                "T" => "TIMESTAMP(6) COLLATE NOCASE",
                _ => "VARCHAR(4096) COLLATE NOCASE",
            };
            format!("\"{name}\" {kind}")
        });
        let columns: Vec<String> = columns.collect();
        format!("CREATE TABLE oceanbase.\"{}\" ({})", self.name, columns.join(", "))
    }

    pub(crate) fn width(&self) -> usize {
        self.columns.split(',').count()
    }
}

/// By any spelling of the name.
pub(crate) fn find(name: &str, settings: &Settings) -> Option<&'static Table> {
    let table = TABLES.iter().find(|table| table.name.eq_ignore_ascii_case(name))?;
    // Only the standalone edition knows licences.
    (table.name != "DBA_OB_LICENSE" || settings.has("license")).then_some(table)
}

#[cfg(test)]
pub(crate) fn all() -> &'static [Table] {
    &TABLES
}

fn none(_: &Facts<'_>) -> Vec<Row> {
    Vec::new()
}

const fn shared(name: &'static str, columns: &'static str, rows: fn(&Facts<'_>) -> Vec<Row>) -> Table {
    Table { name, columns, reach: Reach::Shared, rows }
}

const fn gathered(name: &'static str, columns: &'static str, rows: fn(&Facts<'_>) -> Vec<Row>) -> Table {
    Table { name, columns, reach: Reach::Gathered, rows }
}

const LOG_STAT: &str = "TENANT_ID I, LS_ID I, SVR_IP S, SVR_PORT I, ROLE S, PROPOSAL_ID I, CONFIG_VERSION S, ACCESS_MODE S, \
                        PAXOS_MEMBER_LIST S, PAXOS_REPLICA_NUM I, IN_SYNC S, BASE_LSN I, BEGIN_LSN I, BEGIN_SCN I, END_LSN I, \
                        END_SCN I, MAX_LSN I, MAX_SCN I, ARBITRATION_MEMBER S, DEGRADED_LIST S, LEARNER_LIST S";

const PARAMETERS: &str = "SVR_IP S, SVR_PORT I, ZONE S, SCOPE S, TENANT_ID I, NAME S, DATA_TYPE S, VALUE S, INFO S, SECTION S, \
                          EDIT_LEVEL S, DEFAULT_VALUE S, ISDEFAULT S";

const SERVERS: &str = "SVR_IP S, SVR_PORT I, ZONE S, SQL_PORT I, CPU_CAPACITY I, CPU_CAPACITY_MAX D, CPU_ASSIGNED D, \
                       CPU_ASSIGNED_MAX D, MEM_CAPACITY I, MEM_ASSIGNED I, LOG_DISK_CAPACITY I, LOG_DISK_ASSIGNED I, \
                       LOG_DISK_IN_USE I, DATA_DISK_CAPACITY I, DATA_DISK_IN_USE I, DATA_DISK_HEALTH_STATUS S, MEMORY_LIMIT I, \
                       DATA_DISK_ALLOCATED I, DATA_DISK_ABNORMAL_TIME T, SSL_CERT_EXPIRED_TIME T, DATA_DISK_ASSIGNED I";

const UNITS: &str = "UNIT_ID I, TENANT_ID I, STATUS S, RESOURCE_POOL_ID I, UNIT_GROUP_ID I, CREATE_TIME T, MODIFY_TIME T, ZONE S, \
                     SVR_IP S, SVR_PORT I, MIGRATE_FROM_SVR_IP S, MIGRATE_FROM_SVR_PORT I, MANUAL_MIGRATE S, UNIT_CONFIG_ID I, \
                     MAX_CPU D, MIN_CPU D, MEMORY_SIZE I, LOG_DISK_SIZE I, MAX_IOPS I, MIN_IOPS I, IOPS_WEIGHT I";

const TENANTS: &str = "TENANT_ID I, TENANT_NAME S, TENANT_TYPE S, CREATE_TIME T, MODIFY_TIME T, PRIMARY_ZONE S, LOCALITY S, \
                       PREVIOUS_LOCALITY S, COMPATIBILITY_MODE S, STATUS S, IN_RECYCLEBIN S, LOCKED S, TENANT_ROLE S, \
                       SWITCHOVER_STATUS S, SWITCHOVER_EPOCH I, SYNC_SCN I, REPLAYABLE_SCN I, READABLE_SCN I, \
                       RECOVERY_UNTIL_SCN I, LOG_MODE S, ARBITRATION_SERVICE_STATUS S, UNIT_NUM I, COMPATIBLE S, \
                       MAX_LS_ID I, COMMENT S";

static TABLES: [Table; 41] = [
    shared(
        "DBA_OB_SERVERS",
        "SVR_IP S, SVR_PORT I, ID I, ZONE S, SQL_PORT I, WITH_ROOTSERVER S, STATUS S, START_SERVICE_TIME T, STOP_TIME T, \
         BLOCK_MIGRATE_IN_TIME T, CREATE_TIME T, MODIFY_TIME T, BUILD_VERSION S, LAST_OFFLINE_TIME T",
        rows::servers,
    ),
    shared(
        "__all_server",
        "gmt_create T, gmt_modified T, svr_ip S, svr_port I, id I, zone S, inner_port I, with_rootserver I, status S, \
         block_migrate_in_time I, build_version S, stop_time I, start_service_time I, first_sessid I, with_partition I, \
         last_offline_time I",
        rows::all_server,
    ),
    shared(
        "DBA_OB_ZONES",
        "ZONE S, CREATE_TIME T, MODIFY_TIME T, STATUS S, IDC S, REGION S, TYPE S",
        rows::zones,
    ),
    shared("__all_zone", "gmt_create T, gmt_modified T, zone S, name S, value I, info S", rows::all_zone),
    gathered("GV$OB_SERVERS", SERVERS, rows::live_servers),
    gathered("V$OB_SERVERS", SERVERS, rows::own_server),
    gathered("GV$OB_LOG_STAT", LOG_STAT, rows::log_stat),
    gathered("V$OB_LOG_STAT", LOG_STAT, rows::own_log_stat),
    shared(
        "DBA_OB_LS_LOCATIONS",
        "CREATE_TIME T, MODIFY_TIME T, LS_ID I, SVR_IP S, SVR_PORT I, SQL_PORT I, ZONE S, ROLE S, MEMBER_LIST S, \
         PAXOS_REPLICA_NUMBER I, REPLICA_TYPE S, LEARNER_LIST S",
        rows::system_locations,
    ),
    shared(
        "CDB_OB_LS_LOCATIONS",
        "CREATE_TIME T, MODIFY_TIME T, TENANT_ID I, LS_ID I, SVR_IP S, SVR_PORT I, SQL_PORT I, ZONE S, ROLE S, MEMBER_LIST S, \
         PAXOS_REPLICA_NUMBER I, REPLICA_TYPE S, LEARNER_LIST S",
        rows::locations,
    ),
    shared("DBA_OB_UNITS", UNITS, tenant_rows::units),
    gathered(
        "GV$OB_UNITS",
        "SVR_IP S, SVR_PORT I, UNIT_ID I, TENANT_ID I, ZONE S, ZONE_TYPE S, REGION S, MAX_CPU D, MIN_CPU D, MEMORY_SIZE I, \
         MAX_IOPS I, MIN_IOPS I, IOPS_WEIGHT I, LOG_DISK_SIZE I, LOG_DISK_IN_USE I, DATA_DISK_IN_USE I, DATA_DISK_SIZE I, \
         STATUS S, CREATE_TIME T",
        tenant_rows::live_units,
    ),
    shared("DBA_OB_TENANTS", TENANTS, tenant_rows::tenants),
    gathered("GV$OB_PARAMETERS", PARAMETERS, rows::parameters),
    gathered("V$OB_PARAMETERS", PARAMETERS, rows::own_parameters),
    gathered(
        "__all_virtual_sys_parameter_stat",
        "zone S, svr_type S, svr_ip S, svr_port I, name S, data_type S, value S, value_strict S, info S, need_reboot I, \
         section S, visible_level S, scope S, source S, edit_level S, default_value S, isdefault I",
        rows::parameter_stat,
    ),
    gathered(
        "GV$OB_SERVER_SCHEMA_INFO",
        "SVR_IP S, SVR_PORT I, TENANT_ID I, REFRESHED_SCHEMA_VERSION I, RECEIVED_SCHEMA_VERSION I, SCHEMA_COUNT I, SCHEMA_SIZE I, \
         MIN_SSTABLE_SCHEMA_VERSION I",
        rows::schema_info,
    ),
    gathered(
        "__all_virtual_ls_info",
        "svr_ip S, svr_port I, tenant_id I, ls_id I, replica_type S, ls_state S, tablet_count I, weak_read_scn I, need_rebuild S, \
         checkpoint_scn I, checkpoint_lsn I, migrate_status I, rebuild_seq I",
        rows::ls_info,
    ),
    shared(
        "__ALL_DATABASE",
        "gmt_create T, gmt_modified T, tenant_id I, database_id I, database_name S",
        rows::databases,
    ),
    shared("DBA_OB_DATABASES", "DATABASE_NAME S, IN_RECYCLEBIN S, READ_ONLY S", rows::database_names),
    shared(
        "DBA_OB_RESOURCE_POOLS",
        "RESOURCE_POOL_ID I, NAME S, TENANT_ID I, CREATE_TIME T, MODIFY_TIME T, UNIT_COUNT I, UNIT_CONFIG_ID I, ZONE_LIST S, \
         REPLICA_TYPE S",
        tenant_rows::pools,
    ),
    shared(
        "DBA_OB_UNIT_CONFIGS",
        "UNIT_CONFIG_ID I, NAME S, CREATE_TIME T, MODIFY_TIME T, MAX_CPU D, MIN_CPU D, MEMORY_SIZE I, LOG_DISK_SIZE I, MAX_IOPS I, \
         MIN_IOPS I, IOPS_WEIGHT I",
        tenant_rows::unit_configs,
    ),
    shared(
        "DBA_OB_SERVER_JOBS",
        "JOB_ID I, JOB_TYPE S, JOB_STATUS S, RESULT_CODE I, PROGRESS I, START_TIME T, MODIFY_TIME T, SVR_IP S, SVR_PORT I, \
         SQL_TEXT S, EXTRA_INFO S, RS_SVR_IP S, RS_SVR_PORT I",
        rows::jobs,
    ),
    shared(
        "DBA_OB_ROOTSERVICE_EVENT_HISTORY",
        "TIMESTAMP T, MODULE S, EVENT S, NAME1 S, VALUE1 S, NAME2 S, VALUE2 S, NAME3 S, VALUE3 S, NAME4 S, VALUE4 S, NAME5 S, \
         VALUE5 S, NAME6 S, VALUE6 S, EXTRA_INFO S, RS_SVR_IP S, RS_SVR_PORT I",
        rows::events,
    ),
    shared(
        "__all_rootservice_event_history",
        "gmt_create T, module S, event S, name1 S, value1 S",
        rows::short_events,
    ),
    shared(
        "__all_tenant",
        "gmt_create T, tenant_id I, tenant_name S, status S, locked I, in_recyclebin I",
        tenant_rows::all_tenant,
    ),
    shared(
        "DBA_OB_LICENSE",
        "END_USER S, LICENSE_ID S, LICENSE_CODE S, LICENSE_TYPE S, PRODUCT_TYPE S, ISSUANCE_DATE T, ACTIVATION_TIME T, \
         EXPIRED_TIME T, OPTIONS S, NODE_NUM I, CLUSTER_ULID S",
        rows::license,
    ),
    gathered(
        "__all_virtual_tablet_compaction_info",
        "svr_ip S, svr_port I, tenant_id I, tablet_id I, max_received_scn I, finished_scn I",
        none,
    ),
    shared(
        "CDB_OB_MAJOR_COMPACTION",
        "TENANT_ID I, FROZEN_SCN I, STATUS S, LAST_SCN I, IS_ERROR S",
        rows::compactions,
    ),
    shared("CDB_OB_BACKUP_JOBS", "TENANT_ID I, JOB_ID I, STATUS S", none),
    shared("CDB_OB_RESTORE_PROGRESS", "TENANT_ID I, JOB_ID I, STATUS S", none),
    shared(
        "CDB_OB_SYS_VARIABLES",
        "CREATE_TIME T, MODIFY_TIME T, TENANT_ID I, NAME S, VALUE S, INFO S",
        tenant_rows::variables,
    ),
    shared("CDB_OB_SPACE_USAGE", "TENANT_ID I, SVR_IP S, SPACE_TYPE S, USAGE_BYTES I", none),
    shared("DBA_OB_TENANT_JOBS", "JOB_ID I, JOB_TYPE S, JOB_STATUS S, TENANT_ID I", none),
    shared("DBA_OB_UNIT_JOBS", "JOB_ID I, JOB_TYPE S, JOB_STATUS S, UNIT_ID I", none),
    shared(
        "DBA_OB_ZONE_STORAGE",
        "CREATE_TIME T, MODIFY_TIME T, ZONE S, PATH S, ENDPOINT S, USED_FOR S, STORAGE_ID I, AUTHORIZATION S, MAX_IOPS I, MAX_BANDWIDTH I, STATE S, EXTENSION S",
        none,
    ),
    gathered(
        "GV$SYSSTAT",
        "CON_ID I, SVR_IP S, SVR_PORT I, STAT_ID I, NAME S, CLASS I, VALUE I, VALUE_TYPE S",
        tenant_rows::statistics,
    ),
    gathered(
        "GV$OB_PROCESSLIST",
        "SVR_IP S, SVR_PORT I, ID I, USER S, HOST S, TENANT S, COMMAND S, STATE S, INFO S",
        none,
    ),
    gathered("V$OB_SERVER_STAT", "SVR_IP S, SVR_PORT I, START_SERVICE_TIME I", rows::own_stat),
    gathered("__all_virtual_server", "svr_ip S, svr_port I, zone S, sql_port I", rows::virtual_servers),
    gathered("__all_dummy", "value I", none),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_can_be_made() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute("ATTACH ':memory:' AS oceanbase", []).unwrap();
        for table in TABLES {
            connection.execute(&table.definition(), []).unwrap_or_else(|why| panic!("{}: {why}", table.name));
        }
        assert!(find("dba_ob_servers", &Settings::default()).is_some());
        assert!(find("DBA_OB_LICENSE", &Settings::default()).is_none());
    }
}

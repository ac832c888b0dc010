//! Rows fit their tables, and the statements that tools send can be answered from them.

use super::*;
use crate::database::{Database, named_tables};
use crate::functions;
use crate::protocol::Answer;
use crate::rules::tests::{addr, cluster};
use crate::settings::Settings;
use crate::tables;
use crate::token;
use crate::translate::translate;

fn sight() -> Sight {
    let (state, view) = cluster(3, 0.0);
    let mut settings = Settings::default();
    settings.faults.insert("license".to_owned(), true.into());
    Sight { state, view, settings, is_member: true, has_leader: true }
}

/// Of `lifecycle.md` §11 and of the agent, with values for their parameters.
const ASKED: [&str; 37] = [
    "select /*+ QUERY_TIMEOUT(1000) */ count(*) from oceanbase.__ALL_DATABASE limit 1",
    "select count(*) from oceanbase.GV$OB_SERVER_SCHEMA_INFO where (svr_ip, svr_port) in (select svr_ip, svr_port from oceanbase.GV$OB_LOG_STAT where tenant_id = 1 and role = 'LEADER') and tenant_id = 1 and refreshed_schema_version = received_schema_version",
    "SELECT count(*) FROM oceanbase.DBA_OB_SERVERS WHERE svr_ip = '10.0.0.1' and svr_port = 2882 and zone = 'z1'",
    "SELECT COUNT(*) + 1 FROM (SELECT zone FROM oceanbase.DBA_OB_SERVERS WHERE stop_time > 0 AND zone != 'z1' UNION SELECT zone FROM oceanbase.DBA_OB_ZONES WHERE status = 'INACTIVE' AND zone != 'z1')",
    "SELECT count(*) FROM oceanbase.DBA_OB_ZONES WHERE STATUS = 'active' AND ZONE = 'Z1'",
    "SELECT value FROM oceanbase.V$OB_PARAMETERS WHERE name = 'rpc_port'",
    "SELECT NAME FROM oceanbase.GV$OB_PARAMETERS WHERE NAME NOT LIKE '\\_%'",
    "SELECT VALUE FROM oceanbase.GV$OB_PARAMETERS WHERE NAME = 'rootservice_list'",
    "select zone, svr_type, value, need_reboot, visible_level from oceanbase.__all_virtual_sys_parameter_stat",
    "SELECT checkpoint_scn FROM oceanbase.__all_virtual_ls_info WHERE svr_ip = '10.0.0.1' AND svr_port = 2882 ORDER BY checkpoint_scn ASC LIMIT 1",
    "SELECT @@system_time_zone",
    "SELECT DISTINCT a.TENANT_ID, a.LS_ID FROM oceanbase.GV$OB_LOG_STAT as a INNER JOIN oceanbase.DBA_OB_SERVERS as s ON a.svr_ip = s.svr_ip AND a.svr_port = s.svr_port WHERE s.zone = 'z1'",
    "SELECT COUNT(*) FROM oceanbase.GV$OB_LOG_STAT as a INNER JOIN oceanbase.GV$OB_LOG_STAT as b ON a.tenant_id = b.tenant_id AND a.ls_id = b.ls_id INNER JOIN oceanbase.DBA_OB_SERVERS as s ON a.svr_ip = s.svr_ip AND a.svr_port = s.svr_port WHERE b.tenant_id = 1 AND b.ls_id = 1 AND b.role = 'LEADER' AND b.paxos_member_list LIKE CONCAT('%', a.svr_ip, ':', a.svr_port, '%') AND a.in_sync = 'YES' AND s.zone != 'z1'",
    "SELECT paxos_replica_num FROM oceanbase.GV$OB_LOG_STAT WHERE ls_id = 1 AND tenant_id = 1 AND ROLE = 'LEADER'",
    "SELECT count(*) FROM oceanbase.DBA_OB_UNITS WHERE ZONE = 'z1'",
    "SELECT TENANT_NAME FROM oceanbase.DBA_OB_TENANTS WHERE TENANT_ID = 1",
    "SELECT DISTINCT tenant_name FROM (SELECT tenant_id, tenant_name, svr_ip, svr_port FROM oceanbase.DBA_OB_TENANTS, oceanbase.DBA_OB_SERVERS) AS ts LEFT JOIN oceanbase.GV$OB_SERVER_SCHEMA_INFO AS os ON ts.tenant_id = os.tenant_id AND ts.svr_ip = os.svr_ip AND ts.svr_port = os.svr_port WHERE refreshed_schema_version % 8 = 0",
    "select count(1) + 1 from oceanbase.__all_virtual_tablet_compaction_info where max_received_scn > finished_scn and max_received_scn > 0",
    "SELECT count(*) + 1 FROM oceanbase.CDB_OB_MAJOR_COMPACTION WHERE STATUS != 'IDLE'",
    "SELECT DISTINCT VALUE FROM oceanbase.GV$OB_PARAMETERS WHERE NAME = 'min_observer_version'",
    "SELECT COMPATIBILITY_MODE, LOCKED, COMMENT FROM oceanbase.DBA_OB_TENANTS WHERE TENANT_TYPE != 'META' AND IN_RECYCLEBIN = 'NO'",
    "SELECT s.* FROM oceanbase.DBA_OB_UNITS u JOIN oceanbase.DBA_OB_SERVERS s ON u.svr_ip = s.svr_ip AND u.svr_port = s.svr_port WHERE u.tenant_id = (select tenant_id from oceanbase.DBA_OB_TENANTS where tenant_name = 'sys') AND s.status = 'ACTIVE' LIMIT 1",
    "SELECT COUNT(*) FROM oceanbase.DBA_OB_LICENSE",
    "select BUILD_VERSION from oceanbase.dba_ob_servers where oceanbase.dba_ob_servers.SVR_IP = '10.0.0.1' and oceanbase.dba_ob_servers.SQL_PORT = 0",
    "SELECT SVR_IP, SVR_PORT, ZONE, ROLE FROM oceanbase.CDB_OB_LS_LOCATIONS WHERE LS_ID = 1 AND TENANT_ID = 1",
    "SELECT round(MEM_CAPACITY / 1024 / 1024 / 1024, 2), DATA_DISK_ASSIGNED FROM oceanbase.GV$OB_SERVERS",
    "SELECT CON_ID, sum(VALUE) AS VALUE, 1 FROM (SELECT 1 AS CON_ID, 1 AS VALUE UNION ALL SELECT CON_ID, VALUE FROM oceanbase.GV$sysstat WHERE CON_ID IN (1)) GROUP BY CON_ID",
    "SELECT resource_pool_id, SVR_IP, SVR_PORT FROM oceanbase.DBA_OB_UNITS WHERE resource_pool_id IN (1)",
    "SELECT MAX_CPU FROM oceanbase.DBA_OB_UNIT_CONFIGS JOIN oceanbase.DBA_OB_RESOURCE_POOLS USING (UNIT_CONFIG_ID)",
    "SELECT data_disk_in_use FROM oceanbase.gv$ob_units",
    "SELECT SVR_IP, ROLE FROM oceanbase.DBA_OB_LS_LOCATIONS WHERE MEMBER_LIST IS NOT NULL",
    "SELECT zone, name, info FROM oceanbase.__all_zone WHERE name = 'status'",
    "SELECT CON_ID, STAT_ID, sum(VALUE) AS VALUE FROM oceanbase.GV$SYSSTAT WHERE STAT_ID IN (140006, 140005, 140003, 140002) GROUP BY CON_ID, STAT_ID",
    "SELECT TENANT_ID, NAME, VALUE FROM oceanbase.CDB_OB_SYS_VARIABLES WHERE NAME IN ('ob_tcp_invited_nodes', 'character_set_server')",
    "SELECT TENANT_ID, sum(DATA_DISK_IN_USE) AS IN_USE FROM oceanbase.GV$OB_UNITS GROUP BY TENANT_ID",
    "SELECT END_USER, EXPIRED_TIME FROM oceanbase.DBA_OB_LICENSE LIMIT 1",
    "SELECT svr_ip FROM oceanbase.__all_server WHERE status != 'active' OR stop_time > 0 OR start_service_time = 0 OR 1 = 1",
];

#[test]
fn rows_fit_their_tables_and_statements_find_them() {
    let sight = sight();
    let dir = tempfile::tempdir().unwrap();
    let facts = functions::Facts { version: "4.3.5.1".to_owned(), ..functions::Facts::default() };
    let mut database = Database::open(dir.path(), facts).unwrap();
    for sql in ASKED {
        let pieces = token::read(sql).unwrap();
        let named = named_tables(&pieces, &sight.settings);
        database.fill(&named, &sight, addr(1)).unwrap();
        let translated = translate(&pieces, None, false).unwrap();
        let answer = database.run(&translated, &[], false, std::time::Duration::ZERO);
        let Ok(Answer::Rows(rows)) = &answer else { panic!("{sql}: {answer:?}") };
        assert!(!rows.rows.is_empty(), "{sql}");
        let is_zero = |row: &Row| row.first() == Some(&Value::Integer(0));
        assert!(!rows.rows.iter().any(is_zero), "{sql}: {:?}", rows.rows);
    }
}

#[test]
fn every_row_is_as_wide_as_its_table() {
    let mut sight = sight();
    let now = sight.view.wall;
    sight.state.jobs.push(crate::state::Job {
        id: 1,
        server: addr(1),
        status: "SUCCESS".to_owned(),
        started: now,
    });
    let view = sight.view.clone();
    crate::rules::note(&mut sight.state, &view, "m", "e", "s");
    let facts = Facts { sight: &sight, own: addr(1), databases: &["ocs".to_owned()] };
    for table in tables::all() {
        for row in (table.rows)(&facts) {
            assert_eq!(row.len(), table.width(), "{}", table.name);
        }
    }
}

#[test]
fn dead_servers_stay_in_the_tables_and_leave_the_views() {
    let mut sight = sight();
    sight.view.live.remove(&addr(1));
    crate::rules::settle(&mut sight.state, &sight.view.clone());
    let facts = Facts { sight: &sight, own: addr(2), databases: &[] };
    assert_eq!((servers(&facts).len(), live_servers(&facts).len(), log_stat(&facts).len()), (3, 2, 2));
    assert_eq!(locations(&facts).len(), 3);
    assert_eq!((own_server(&facts).len(), own_log_stat(&facts).len()), (1, 1));
}

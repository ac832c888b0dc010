//! What the database tells of itself in numbers (`lifecycle.md` §11.G).
//!
//! Invariant: what a version or an edition does not have is unknown; a database that does not answer is an error.

use std::collections::BTreeMap;
use std::time::Duration;

use mysql_async::Conn;

use super::charsets::COLLATIONS;
use super::connect::Endpoint;
use super::named::{Named, rows_if_any};
use crate::cluster::figures::{
    Edition, Figures, License, Pool, Room, RootReplica, ServerFigures, TenantFigures, UnitConfig, Usage,
    detects_deadlocks,
};
use crate::error::Result;
use crate::model::ServerAddr;

const VERSION: &str = "SELECT version() AS VERSION";
const PARAMETERS: &str = "SELECT NAME, VALUE, TENANT_ID FROM oceanbase.GV$OB_PARAMETERS WHERE NAME IN \
     ('cluster', 'cluster_id', 'ob_startup_mode', '__min_full_resource_pool_memory', '_lcl_op_interval')";
const SERVERS: &str = "SELECT * FROM oceanbase.GV$OB_SERVERS ORDER BY SVR_IP, SVR_PORT";
const ONE_SERVER: &str = "SELECT * FROM oceanbase.V$OB_SERVER_STAT";
const ROOTS: &str = "SELECT SVR_IP, SVR_PORT, ZONE, ROLE FROM oceanbase.CDB_OB_LS_LOCATIONS \
     WHERE LS_ID = 1 AND TENANT_ID = 1 ORDER BY SVR_IP, SVR_PORT";
const TENANTS: &str = "SELECT * FROM oceanbase.DBA_OB_TENANTS WHERE TENANT_TYPE != 'META' AND IN_RECYCLEBIN = 'NO' \
     ORDER BY TENANT_ID";
const TENANTS_OF_OLD: &str =
    "SELECT * FROM oceanbase.DBA_OB_TENANTS WHERE TENANT_TYPE != 'META' ORDER BY TENANT_ID";
const VARIABLES: &str = "SELECT TENANT_ID, NAME, VALUE FROM oceanbase.CDB_OB_SYS_VARIABLES WHERE NAME IN \
     ('ob_tcp_invited_nodes', 'read_only', 'lower_case_table_names', 'time_zone', 'character_set_server', \
     'collation_server')";
const POOLS: &str = "SELECT * FROM oceanbase.DBA_OB_RESOURCE_POOLS ORDER BY RESOURCE_POOL_ID";
const CONFIGS: &str = "SELECT * FROM oceanbase.DBA_OB_UNIT_CONFIGS ORDER BY UNIT_CONFIG_ID";
const UNITS: &str =
    "SELECT RESOURCE_POOL_ID, SVR_IP, SVR_PORT FROM oceanbase.DBA_OB_UNITS ORDER BY SVR_IP, SVR_PORT";
const USAGE: &str = "SELECT CON_ID, STAT_ID, sum(VALUE) AS VALUE FROM oceanbase.GV$SYSSTAT \
     WHERE STAT_ID IN (140006, 140005, 140003, 140002) GROUP BY CON_ID, STAT_ID";
const DISKS: &str =
    "SELECT TENANT_ID, sum(DATA_DISK_IN_USE) AS IN_USE FROM oceanbase.GV$OB_UNITS GROUP BY TENANT_ID";
const LICENSES: &str = "SELECT * FROM oceanbase.DBA_OB_LICENSE";

/// One connection, statement after statement.
struct Reader<'a> {
    endpoint: Endpoint,
    connection: &'a mut Conn,
    limit: Duration,
}

impl Reader<'_> {
    async fn maybe(&mut self, what: &str, sql: &str) -> Result<Option<Vec<Named>>> {
        rows_if_any(self.endpoint, self.connection, self.limit, (what, sql)).await
    }

    async fn rows(&mut self, what: &str, sql: &str) -> Result<Vec<Named>> {
        Ok(self.maybe(what, sql).await?.unwrap_or_default())
    }

    async fn edition(&mut self) -> Result<Edition> {
        let rows = self.rows("asking for the edition", VERSION).await?;
        Ok(rows.first().map_or(Edition::default(), |row| Edition::of_version(&row.text("VERSION"))))
    }

    async fn servers(&mut self, sql: &str) -> Result<Vec<ServerFigures>> {
        let rows = self.rows("reading the room of servers", sql).await?;
        Ok(rows.iter().map(|row| ServerFigures { server: row.server(), room: room(row) }).collect())
    }
}

/// Of a cluster.
pub(super) async fn read(endpoint: Endpoint, connection: &mut Conn, limit: Duration) -> Result<Figures> {
    let mut reader = Reader { endpoint, connection, limit };
    let parameters = reader.rows("reading parameters", PARAMETERS).await?;
    let value = |name: &str| {
        let row = parameters.iter().find(|row| row.text("NAME").eq_ignore_ascii_case(name));
        row.map(|row| row.text("VALUE"))
    };
    let roots = reader.rows("reading where the root service is", ROOTS).await?;
    let licenses = reader.maybe("reading the licence", LICENSES).await?;
    Ok(Figures {
        edition: reader.edition().await?,
        name: value("cluster"),
        id: value("cluster_id").and_then(|id| id.parse().ok()),
        startup_mode: value("ob_startup_mode"),
        unit_memory_min: value("__min_full_resource_pool_memory").and_then(|bytes| bytes.parse().ok()),
        detects_deadlocks: interval_of(&parameters, 1),
        servers: reader.servers(SERVERS).await?,
        tenants: tenants(&mut reader, &parameters).await?,
        roots: roots.iter().filter_map(root).collect(),
        licenses: licenses.map(|rows| rows.iter().map(license).collect()),
    })
}

/// Of one server that is the whole database. Its row names it otherwise than its cluster of one does.
pub(super) async fn read_one(endpoint: Endpoint, connection: &mut Conn, limit: Duration) -> Result<Figures> {
    let mut reader = Reader { endpoint, connection, limit };
    let mut servers = reader.servers(ONE_SERVER).await?;
    servers.iter_mut().for_each(|figures| figures.server = None);
    Ok(Figures { edition: reader.edition().await?, servers, ..Figures::default() })
}

fn room(row: &Named) -> Room {
    Room {
        cpu_total: row.fraction("CPU_CAPACITY"),
        cpu_assigned: row.fraction("CPU_ASSIGNED"),
        memory_total: row.number("MEM_CAPACITY"),
        memory_assigned: row.number("MEM_ASSIGNED"),
        disk_total: row.number("DATA_DISK_CAPACITY"),
        disk_in_use: row.number("DATA_DISK_IN_USE"),
    }
}

fn root(row: &Named) -> Option<RootReplica> {
    Some(RootReplica { zone: row.text("ZONE"), server: row.server()?, role: row.text("ROLE") })
}

fn license(row: &Named) -> License {
    License {
        end_user: row.text("END_USER"),
        id: row.text("LICENSE_ID"),
        code: row.text("LICENSE_CODE"),
        kind: row.text("LICENSE_TYPE"),
        product: row.text("PRODUCT_TYPE"),
        issued: row.time("ISSUANCE_DATE"),
        activated: row.time("ACTIVATION_TIME"),
        expires: row.time("EXPIRED_TIME"),
        options: row.text("OPTIONS"),
        nodes: row.number("NODE_NUM"),
        cluster_ulid: row.text("CLUSTER_ULID"),
    }
}

/// Whether the search for deadlocks is on in a tenant.
fn interval_of(parameters: &[Named], tenant: i64) -> bool {
    let is_it = |row: &&Named| {
        row.text("NAME").eq_ignore_ascii_case("_lcl_op_interval")
            && row.maybe_number("TENANT_ID").is_none_or(|id| id == 0 || id == tenant)
    };
    parameters.iter().find(is_it).is_some_and(|row| detects_deadlocks(&row.text("VALUE")))
}

async fn tenants(reader: &mut Reader<'_>, parameters: &[Named]) -> Result<Vec<TenantFigures>> {
    let rows = match reader.maybe("reading the tenants", TENANTS).await? {
        Some(rows) => rows,
        None => reader.rows("reading the tenants", TENANTS_OF_OLD).await?,
    };
    let variables = reader.rows("reading variables of tenants", VARIABLES).await?;
    let collations = reader.rows("reading the collations", COLLATIONS).await?;
    let mut pools = pools(reader).await?;
    let usage = usage(reader).await?;
    let tenant = |row: &Named| {
        let id = row.number("TENANT_ID");
        let variable = |name: &str| {
            let is_it = |row: &&Named| row.number("TENANT_ID") == id && row.text("NAME") == name;
            variables.iter().find(is_it).map(|row| row.text("VALUE")).unwrap_or_default()
        };
        let (charset, collation) =
            charset(&variable("character_set_server"), &variable("collation_server"), &collations);
        TenantFigures {
            id,
            name: row.text("TENANT_NAME"),
            created: row.time("CREATE_TIME"),
            mode: row.text("COMPATIBILITY_MODE"),
            status: row.text("STATUS"),
            locked: row.text("LOCKED"),
            primary_zone: row.text("PRIMARY_ZONE"),
            locality: row.text("LOCALITY"),
            in_recyclebin: row.maybe("IN_RECYCLEBIN").unwrap_or_else(|| "NO".to_owned()),
            comment: row.text("COMMENT"),
            charset,
            collation,
            whitelist: variable("ob_tcp_invited_nodes"),
            is_read_only: matches!(variable("read_only").to_ascii_lowercase().as_str(), "1" | "on" | "true"),
            time_zone: variable("time_zone"),
            lower_case_table_names: variable("lower_case_table_names"),
            detects_deadlocks: interval_of(parameters, id),
            pools: pools.remove(&id).unwrap_or_default(),
            usage: usage.get(&id).copied().unwrap_or_default(),
        }
    };
    Ok(rows.iter().map(tenant).collect())
}

/// The variables hold the number of a collation, or a name.
fn charset(charset: &str, collation: &str, known: &[Named]) -> (String, String) {
    let by_number = |number: &str| known.iter().find(|row| !number.is_empty() && row.text("ID") == number);
    let of_charset = |name: &str| {
        let is_default = |row: &&Named| row.text("IS_DEFAULT").eq_ignore_ascii_case("Yes");
        known.iter().filter(|row| row.text("CHARACTER_SET_NAME") == name).find(is_default)
    };
    let name = by_number(charset).map_or_else(|| charset.to_owned(), |row| row.text("CHARACTER_SET_NAME"));
    let row = by_number(collation).or_else(|| by_number(charset));
    let row = row.or_else(|| of_charset(&name).filter(|_| collation.is_empty()));
    (name, row.map_or_else(|| collation.to_owned(), |row| row.text("COLLATION_NAME")))
}

/// By tenant.
async fn pools(reader: &mut Reader<'_>) -> Result<BTreeMap<i64, Vec<Pool>>> {
    let pools = reader.rows("reading the resource pools", POOLS).await?;
    let configs = reader.rows("reading the unit configurations", CONFIGS).await?;
    let units = reader.rows("reading the units", UNITS).await?;
    let mut by_tenant: BTreeMap<i64, Vec<Pool>> = BTreeMap::new();
    for row in &pools {
        let id = row.number("RESOURCE_POOL_ID");
        let own = units.iter().filter(|unit| unit.number("RESOURCE_POOL_ID") == id);
        let servers: Vec<ServerAddr> = own.filter_map(Named::server).collect();
        let wanted = row.number("UNIT_CONFIG_ID");
        let config = configs.iter().find(|config| config.number("UNIT_CONFIG_ID") == wanted);
        by_tenant.entry(row.number("TENANT_ID")).or_default().push(Pool {
            id,
            name: row.text("NAME"),
            zones: row.text("ZONE_LIST"),
            servers,
            units: row.number("UNIT_COUNT"),
            config: config.map(unit_config),
        });
    }
    Ok(by_tenant)
}

fn unit_config(row: &Named) -> UnitConfig {
    UnitConfig {
        id: row.number("UNIT_CONFIG_ID"),
        name: row.text("NAME"),
        created: row.time("CREATE_TIME"),
        modified: row.time("MODIFY_TIME"),
        cpu_max: row.fraction("MAX_CPU"),
        cpu_min: row.fraction("MIN_CPU"),
        memory: row.number("MEMORY_SIZE"),
        log_disk: row.number("LOG_DISK_SIZE"),
        data_disk: row.number("DATA_DISK_SIZE"),
        iops_max: row.number("MAX_IOPS"),
        iops_min: row.number("MIN_IOPS"),
    }
}

/// By tenant.
async fn usage(reader: &mut Reader<'_>) -> Result<BTreeMap<i64, Usage>> {
    let mut by_tenant: BTreeMap<i64, Usage> = BTreeMap::new();
    for row in reader.rows("reading the statistics of tenants", USAGE).await? {
        let usage = by_tenant.entry(row.number("CON_ID")).or_default();
        let value = row.number("VALUE");
        match row.number("STAT_ID") {
            140_006 => usage.cpu = value,
            140_005 => usage.cpu_max = value,
            140_003 => usage.memory = value,
            140_002 => usage.memory_max = value,
            _ => {}
        }
    }
    for row in reader.rows("reading the disks of tenants", DISKS).await? {
        by_tenant.entry(row.number("TENANT_ID")).or_default().disk = row.number("IN_USE");
    }
    Ok(by_tenant)
}

//! The cluster's own views as rows of ours (`observer-model.md` §9).

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connect::{Endpoint, limited, useless};
use super::named::moment;
use crate::cluster::{ClusterView, ReplicaRow, ServerRow, ZoneRow};
use crate::error::Result;
use crate::model::{ServerAddr, ZoneName};

type ServerColumns =
    (i64, String, u16, String, u16, String, String, Option<String>, Option<String>, Option<String>);

type ReplicaColumns = (i64, i64, String, u16, String, Option<String>, Option<u32>, String);

const SERVERS: &str = "SELECT ID, SVR_IP, SVR_PORT, ZONE, SQL_PORT, WITH_ROOTSERVER, STATUS, \
     CAST(START_SERVICE_TIME AS CHAR), CAST(STOP_TIME AS CHAR), BUILD_VERSION \
     FROM oceanbase.DBA_OB_SERVERS ORDER BY ID";
const ZONES: &str = "SELECT ZONE, STATUS, REGION, IDC FROM oceanbase.DBA_OB_ZONES ORDER BY ZONE";
const REPLICAS: &str = "SELECT TENANT_ID, LS_ID, SVR_IP, SVR_PORT, ROLE, PAXOS_MEMBER_LIST, PAXOS_REPLICA_NUM, \
     IN_SYNC FROM oceanbase.GV$OB_LOG_STAT ORDER BY TENANT_ID, LS_ID, SVR_IP, SVR_PORT";
const TENANTS: &str = "SELECT TENANT_ID, TENANT_NAME FROM oceanbase.DBA_OB_TENANTS";

/// Reads all of it on one connection.
pub(super) async fn read(endpoint: Endpoint, connection: &mut Conn, limit: Duration) -> Result<ClusterView> {
    let servers = servers(endpoint, connection, limit).await?;
    let zones: Vec<(String, String, Option<String>, Option<String>)> =
        limited(endpoint, "reading the zones", limit, connection.query(ZONES)).await?;
    let replicas: Vec<ReplicaColumns> =
        limited(endpoint, "reading the log streams", limit, connection.query(REPLICAS)).await?;
    let tenants: Vec<(i64, String)> =
        limited(endpoint, "reading the tenants", limit, connection.query(TENANTS)).await?;
    let version: Option<String> =
        limited(endpoint, "asking for the version", limit, connection.query_first("SELECT ob_version()"))
            .await?;
    let mut view = ClusterView { servers, version: version.unwrap_or_default(), ..ClusterView::default() };
    view.tenants = tenants.into_iter().collect();
    for (zone, status, region, idc) in zones {
        let (region, idc) = (region.unwrap_or_default(), idc.unwrap_or_default());
        view.zones.push(ZoneRow { zone: zone_name(endpoint, &zone)?, status, region, idc });
    }
    for (tenant, stream, ip, port, role, members, replicas, in_sync) in replicas {
        view.replicas.push(ReplicaRow {
            tenant,
            stream,
            server: server_addr(endpoint, &ip, port)?,
            is_leader: role.eq_ignore_ascii_case("LEADER"),
            members: member_list(&members.unwrap_or_default()),
            replicas: replicas.unwrap_or(0) as usize,
            is_in_sync: in_sync.eq_ignore_ascii_case("YES"),
        });
    }
    Ok(view)
}

pub(super) async fn servers(
    endpoint: Endpoint,
    connection: &mut Conn,
    limit: Duration,
) -> Result<Vec<ServerRow>> {
    let rows: Vec<ServerColumns> =
        limited(endpoint, "reading the servers", limit, connection.query(SERVERS)).await?;
    let rows = rows.into_iter().map(|row| {
        let (id, ip, port, zone, sql_port, root, status, started, stopped, build) = row;
        Ok(ServerRow {
            id,
            server: server_addr(endpoint, &ip, port)?,
            zone: zone_name(endpoint, &zone)?,
            sql_port,
            has_root: root.eq_ignore_ascii_case("YES"),
            status,
            started: started.map(on_wire),
            stopped: stopped.map(on_wire),
            build_version: build.unwrap_or_default(),
        })
    });
    rows.collect()
}

/// What cannot be read is still a time.
fn on_wire(told: String) -> String {
    moment(&told).unwrap_or(told)
}

fn server_addr(endpoint: Endpoint, ip: &str, port: u16) -> Result<ServerAddr> {
    let ip = ip.parse().map_err(|_| useless(endpoint, &format!("it names a server at '{ip}'")))?;
    Ok(ServerAddr::new(ip, port))
}

fn zone_name(endpoint: Endpoint, zone: &str) -> Result<ZoneName> {
    zone.parse().map_err(|_| {
        useless(endpoint, &format!("it has a zone '{zone}', a name that this agent does not take"))
    })
}

/// `ip:port:1,ip:port:1`, parsed and never searched (W31). What is no member is left out, and so does not count.
fn member_list(text: &str) -> Vec<ServerAddr> {
    let member = |item: &str| {
        let (server, _timestamp) = item.trim().rsplit_once(':')?;
        let (ip, port) = server.rsplit_once(':')?;
        let ip = ip.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        Some(ServerAddr::new(ip, port.parse().ok()?))
    };
    text.split(',').filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w31_member_lists_are_parsed() {
        let names = |text: &str| member_list(text).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names("10.0.0.1:2882:1,110.0.0.1:2882:1"), ["10.0.0.1:2882", "110.0.0.1:2882"]);
        assert_eq!(
            names("[2001:db8::1]:2882:1, 2001:db8::2:2882:1"),
            ["[2001:db8::1]:2882", "[2001:db8::2]:2882"]
        );
        assert_eq!(names(""), Vec::<String>::new());
        assert_eq!(names("rubbish,10.0.0.1:288:1"), ["10.0.0.1:288"]);
    }
}

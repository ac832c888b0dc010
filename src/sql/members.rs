//! The members of the cluster in its own database: schema `ocs`, with OBShell's columns for `all_agent` (`lifecycle.md` §11
//! F), and beside it a table of ours with what OBShell's has no column for.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, TxOpts};

use super::connect::{Endpoint, limited, statement_error};
use crate::cluster::Members;
use crate::error::Result;
use crate::model::{AgentAddr, Member};

const TABLES: [&str; 3] = [
    "CREATE DATABASE IF NOT EXISTS ocs READ WRITE",
    "CREATE TABLE IF NOT EXISTS ocs.all_agent (ip varchar(64) NOT NULL, port int NOT NULL, identity varchar(18) NOT NULL, \
     version varchar(32), os varchar(32), architecture varchar(32), zone varchar(128), mysql_port int, rpc_port int, \
     home_path varchar(1024), public_key text, PRIMARY KEY (ip, port))",
    "CREATE TABLE IF NOT EXISTS ocs.obpilot_agent (ip varchar(64) NOT NULL, port int NOT NULL, peer_key varchar(64) NOT NULL, \
     PRIMARY KEY (ip, port))",
];

pub(super) async fn make_tables(endpoint: Endpoint, connection: &mut Conn, limit: Duration) -> Result<()> {
    for sql in TABLES {
        limited(endpoint, "making schema ocs", limit, connection.query_drop(sql)).await?;
    }
    Ok(())
}

const SAVE: &str = "INSERT INTO ocs.all_agent \
     (ip, port, identity, version, os, architecture, zone, mysql_port, rpc_port, home_path, public_key) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE identity = VALUES(identity), version = VALUES(version), \
     os = VALUES(os), architecture = VALUES(architecture), zone = VALUES(zone), mysql_port = VALUES(mysql_port), \
     rpc_port = VALUES(rpc_port), home_path = VALUES(home_path), public_key = VALUES(public_key)";
const SAVE_KEY: &str = "INSERT INTO ocs.obpilot_agent (ip, port, peer_key) VALUES (?, ?, ?) \
     ON DUPLICATE KEY UPDATE peer_key = VALUES(peer_key)";

/// All of them or none.
pub(super) async fn save(
    endpoint: Endpoint,
    connection: &mut Conn,
    limit: Duration,
    members: &[Member],
) -> Result<()> {
    let saving = async {
        let mut transaction = connection.start_transaction(TxOpts::default()).await?;
        for member in members {
            let (ip, port) = (member.agent.ip.to_string(), member.agent.port);
            let row = (
                ip.as_str(),
                port,
                member.identity.text(),
                member.version.as_str(),
                member.os.as_str(),
                member.architecture.as_str(),
                member.zone.as_str(),
                member.sql_port,
                member.rpc_port,
                member.home_path.as_str(),
                member.public_key.as_str(),
            );
            transaction.exec_drop(SAVE, row).await?;
            transaction.exec_drop(SAVE_KEY, (ip.as_str(), port, member.peer_key.as_str())).await?;
        }
        transaction.commit().await
    };
    limited(endpoint, "writing ocs.all_agent", limit, saving).await
}

/// All of them or none.
pub(super) async fn forget(
    endpoint: Endpoint,
    connection: &mut Conn,
    limit: Duration,
    agents: &[AgentAddr],
) -> Result<()> {
    const DELETES: [&str; 2] = [
        "DELETE FROM ocs.all_agent WHERE ip = ? AND port = ?",
        "DELETE FROM ocs.obpilot_agent WHERE ip = ? AND port = ?",
    ];
    let forgetting = async {
        let mut transaction = connection.start_transaction(TxOpts::default()).await?;
        for agent in agents {
            for sql in DELETES {
                transaction.exec_drop(sql, (agent.ip.to_string(), agent.port)).await?;
            }
        }
        transaction.commit().await
    };
    limited(endpoint, "removing rows of ocs.all_agent", limit, forgetting).await
}

type Columns = (
    String,
    u16,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<u16>,
    Option<u16>,
);
type MoreColumns = (String, u16, Option<String>, Option<String>, Option<String>);

/// All rows. A row that cannot be one of ours (no key, no zone) is left out: it belongs to an agent of OBShell, which is no
/// peer of ours.
pub(super) async fn read(endpoint: Endpoint, connection: &mut Conn, limit: Duration) -> Result<Members> {
    let sql =
        "SELECT ip, port, identity, version, os, architecture, zone, mysql_port, rpc_port FROM ocs.all_agent";
    let more = "SELECT a.ip, a.port, a.home_path, a.public_key, k.peer_key FROM ocs.all_agent a \
                LEFT JOIN ocs.obpilot_agent k ON a.ip = k.ip AND a.port = k.port";
    let reading = async {
        let rows: Vec<Columns> = connection.query(sql).await?;
        let more: Vec<MoreColumns> = connection.query(more).await?;
        Ok::<_, mysql_async::Error>((rows, more))
    };
    let (rows, more) = match tokio::time::timeout(limit, reading).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return Err(statement_error(endpoint, "reading ocs.all_agent", &error)),
        Err(_) => return Err(super::connect::useless(endpoint, "reading ocs.all_agent: no answer in time")),
    };
    let members = rows.into_iter().filter_map(|row| {
        let (ip, port, identity, version, os, architecture, zone, sql_port, rpc_port) = row;
        let (_, _, home_path, public_key, peer_key) =
            more.iter().find(|(other_ip, other_port, ..)| *other_ip == ip && *other_port == port)?.clone();
        Some(Member {
            agent: AgentAddr::new(ip.parse().ok()?, port),
            zone: zone?.parse().ok()?,
            identity: identity.parse().ok()?,
            version: version.unwrap_or_default(),
            os: os.unwrap_or_default(),
            architecture: architecture.unwrap_or_default(),
            home_path: home_path.unwrap_or_default(),
            sql_port: sql_port?,
            rpc_port: rpc_port?,
            public_key: public_key.unwrap_or_default(),
            peer_key: peer_key?,
        })
    });
    Ok(members.collect())
}

//! The members of the cluster in its own database: schema `ocs`, with OBShell's columns for `all_agent` (`lifecycle.md` §11
//! F), and beside it a table of ours with what OBShell's has no column for.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, TxOpts};

use super::connect::{Endpoint, limited, number_of};
use crate::cluster::Members;
use crate::error::{Error, Result};
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
            // Agents of OBShell have none.
            if !member.peer_key.is_empty() {
                transaction.exec_drop(SAVE_KEY, (ip.as_str(), port, member.peer_key.as_str())).await?;
            }
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

/// 1049: no such database; 1146: no such table.
const NOT_THERE: [u16; 2] = [1049, 1146];

const ROWS: &str =
    "SELECT ip, port, identity, version, os, architecture, zone, mysql_port, rpc_port FROM ocs.all_agent";
const MORE: &str = "SELECT a.ip, a.port, a.home_path, a.public_key, k.peer_key FROM ocs.all_agent a \
     LEFT JOIN ocs.obpilot_agent k ON a.ip = k.ip AND a.port = k.port";
/// Where no agent of ours has ever been.
const MORE_WITHOUT_KEYS: &str = "SELECT ip, port, home_path, public_key, NULL FROM ocs.all_agent";

/// All rows. A row that cannot be one of ours (no key, no zone) is left out: it belongs to an agent of OBShell, which is no
/// peer of ours.
pub(super) async fn read(endpoint: Endpoint, connection: &mut Conn, limit: Duration) -> Result<Members> {
    let all = rows(endpoint, connection, limit, MORE).await?;
    Ok(all.into_iter().filter(|member| !member.peer_key.is_empty()).collect())
}

/// All rows, those of OBShell's agents among them, which have no key. None where nobody has made the table.
pub(super) async fn read_all(endpoint: Endpoint, connection: &mut Conn, limit: Duration) -> Result<Members> {
    let is_missing = |error: &Error| number_of(error).is_some_and(|number| NOT_THERE.contains(&number));
    let mut found = rows(endpoint, connection, limit, MORE).await;
    if found.as_ref().is_err_and(is_missing) {
        found = rows(endpoint, connection, limit, MORE_WITHOUT_KEYS).await;
    }
    match found {
        Err(error) if is_missing(&error) => Ok(Members::default()),
        found => Ok(found?.into_iter().collect()),
    }
}

async fn rows(endpoint: Endpoint, connection: &mut Conn, limit: Duration, more: &str) -> Result<Vec<Member>> {
    let reading = async {
        let rows: Vec<Columns> = connection.query(ROWS).await?;
        let more: Vec<MoreColumns> = connection.query(more).await?;
        Ok::<_, mysql_async::Error>((rows, more))
    };
    let (rows, more) = limited(endpoint, "reading ocs.all_agent", limit, reading).await?;
    let members = rows.into_iter().filter_map(|row| {
        let (_, _, home_path, public_key, peer_key) =
            more.iter().find(|known| known.0 == row.0 && known.1 == row.1)?.clone();
        Some(Member {
            home_path: home_path.unwrap_or_default(),
            public_key: public_key.unwrap_or_default(),
            peer_key: peer_key.unwrap_or_default(),
            ..member_of(row)?
        })
    });
    Ok(members.collect())
}

/// Without what only other columns tell.
fn member_of(row: Columns) -> Option<Member> {
    let (ip, port, identity, version, os, architecture, zone, sql_port, rpc_port) = row;
    Some(Member {
        agent: AgentAddr::new(ip.parse().ok()?, port),
        zone: zone?.parse().ok()?,
        identity: identity.parse().ok()?,
        version: version.unwrap_or_default(),
        os: os.unwrap_or_default(),
        architecture: architecture.unwrap_or_default(),
        home_path: String::new(),
        sql_port: sql_port?,
        rpc_port: rpc_port?,
        public_key: String::new(),
        peer_key: String::new(),
    })
}

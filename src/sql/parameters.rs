//! Reading and setting parameters (`lifecycle.md` §11.D).
//!
//! Invariant: a statement is made of a name that the database itself has told, and of literals.

use std::time::Duration;

use mysql_async::Conn;

use super::connect::{Endpoint, useless};
use super::line::change;
use super::named::{Named, rows_if_any};
use super::quote::literal;
use super::view;
use crate::cluster::parameters::{Assignment, ParameterRow, ParameterSet, SYS, Target, TenantRef};
use crate::error::{Code, Error, Result};

const ALL: &str = "SELECT * FROM oceanbase.GV$OB_PARAMETERS";
const OF_ONE: &str = "SELECT * FROM oceanbase.V$OB_PARAMETERS";
const TENANTS: &str =
    "SELECT TENANT_ID, TENANT_NAME, TENANT_TYPE FROM oceanbase.DBA_OB_TENANTS ORDER BY TENANT_ID";

/// Of a cluster.
pub(super) async fn read(endpoint: Endpoint, connection: &mut Conn, limit: Duration) -> Result<ParameterSet> {
    let rows = parameter_rows(endpoint, connection, limit, ALL).await?;
    let tenants = rows_if_any(endpoint, connection, limit, ("reading the tenants", TENANTS)).await?;
    let tenant = |row: Named| TenantRef {
        id: row.number("TENANT_ID"),
        name: row.text("TENANT_NAME"),
        is_user: row.text("TENANT_TYPE").eq_ignore_ascii_case("USER"),
    };
    let servers = view::servers(endpoint, connection, limit).await?;
    Ok(ParameterSet {
        rows,
        tenants: tenants.into_iter().flatten().map(tenant).collect(),
        servers: servers.into_iter().map(|row| (row.zone, row.server)).collect(),
    })
}

/// Of one server that is the whole database.
pub(super) async fn read_one(
    endpoint: Endpoint,
    connection: &mut Conn,
    limit: Duration,
) -> Result<ParameterSet> {
    let rows = parameter_rows(endpoint, connection, limit, OF_ONE).await?;
    let sys = TenantRef { id: 1, name: SYS.to_owned(), is_user: false };
    Ok(ParameterSet { rows, tenants: vec![sys], servers: Vec::new() })
}

async fn parameter_rows(
    endpoint: Endpoint,
    connection: &mut Conn,
    limit: Duration,
    sql: &str,
) -> Result<Vec<ParameterRow>> {
    let rows = rows_if_any(endpoint, connection, limit, ("reading the parameters", sql)).await?;
    let rows = rows.ok_or_else(|| useless(endpoint, "it has no view of its parameters"))?;
    Ok(rows.iter().map(parameter).collect())
}

fn parameter(row: &Named) -> ParameterRow {
    ParameterRow {
        server: row.server(),
        zone: row.text("ZONE"),
        scope: row.text("SCOPE").to_ascii_uppercase(),
        tenant: row.maybe_number("TENANT_ID").filter(|id| *id != 0),
        name: row.text("NAME"),
        data_type: row.text("DATA_TYPE"),
        value: row.text("VALUE"),
        info: row.text("INFO"),
        section: row.text("SECTION"),
        edit_level: row.text("EDIT_LEVEL"),
        default_value: row.text("DEFAULT_VALUE"),
    }
}

/// `ALTER SYSTEM SET`; sent again it sets the same.
pub(super) async fn set(
    endpoint: Endpoint,
    connection: &mut Conn,
    limit: Duration,
    assignment: &Assignment,
) -> Result<()> {
    let sql = statement(assignment)?;
    change(endpoint, connection, &format!("setting {assignment}"), limit, &sql).await
}

fn statement(Assignment { name, value, target }: &Assignment) -> Result<String> {
    // It comes from the database's own list; from another agent it is looked at again.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Error::new(Code::IllegalArgument, format!("'{name}' is no name of a parameter")));
    }
    let what_for = match target {
        Target::Cluster => String::new(),
        Target::Zone(zone) => format!(" ZONE = {}", literal(zone.as_str())),
        Target::Server(server) => format!(" SERVER = {}", literal(&server.to_string())),
        Target::Tenant(tenant) => format!(" TENANT = {}", literal(tenant)),
    };
    Ok(format!("ALTER SYSTEM SET {name} = {}{what_for}", literal(value)))
}

/// The same for one server that is the whole database: there is nothing to choose.
pub(super) async fn set_one(
    endpoint: Endpoint,
    connection: &mut Conn,
    limit: Duration,
    assignment: &Assignment,
) -> Result<()> {
    let plain = Assignment { target: Target::Cluster, ..assignment.clone() };
    set(endpoint, connection, limit, &plain).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(name: &str, value: &str, target: Target) -> Assignment {
        Assignment { name: name.to_owned(), value: value.to_owned(), target }
    }

    #[test]
    fn statements_name_what_they_are_for() {
        let sql = |target| statement(&of("cpu_count", "it's 16", target)).unwrap();
        assert_eq!(sql(Target::Cluster), "ALTER SYSTEM SET cpu_count = 'it\\'s 16'");
        assert_eq!(
            sql(Target::Zone("z1".parse().unwrap())),
            "ALTER SYSTEM SET cpu_count = 'it\\'s 16' ZONE = 'z1'"
        );
        let server = Target::Server("10.0.0.1:2882".parse().unwrap());
        assert!(sql(server).ends_with(" SERVER = '10.0.0.1:2882'"));
        assert!(sql(Target::Tenant("t'1".to_owned())).ends_with(" TENANT = 't\\'1'"));
    }

    proptest! {
        /// Whatever a value holds: the statement is the same but for one literal. Whatever a name holds: it is a word.
        #[test]
        fn nothing_leaves_its_literal(name in "\\PC{0,20}", value in "\\PC*|[\\\\'\"`;\0\n-]{0,20}") {
            let sql = statement(&of("cpu_count", &value, Target::Cluster)).unwrap();
            prop_assert_eq!(sql, format!("ALTER SYSTEM SET cpu_count = {}", literal(&value)));
            if statement(&of(&name, "1", Target::Cluster)).is_ok() {
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
            }
        }
    }
}

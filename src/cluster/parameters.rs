//! Parameters of the database: what it tells of them, and what a request to set some amounts to. Pure: facts in, statements
//! out.
//!
//! Invariant: a request is judged whole before anything of it is done; every name in an [`Assignment`] is one that the
//! database itself has told, and consists of letters, digits and underscores.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::model::{AddrError, ServerAddr, ZoneName};

/// The tenant that every database has.
pub const SYS: &str = "sys";

/// A row of `GV$OB_PARAMETERS` (`observer-model.md` §9), or of what an engine has in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterRow {
    /// Who tells; `None` where one server alone is the database.
    pub server: Option<ServerAddr>,
    pub zone: String,
    /// `CLUSTER` or `TENANT`.
    pub scope: String,
    pub tenant: Option<i64>,
    pub name: String,
    pub data_type: String,
    pub value: String,
    pub info: String,
    pub section: String,
    pub edit_level: String,
    /// Empty where this version does not tell it.
    pub default_value: String,
}

impl ParameterRow {
    pub fn is_of_tenant(&self) -> bool {
        self.scope.eq_ignore_ascii_case("TENANT")
    }

    /// Not meant for everybody.
    pub fn is_hidden(&self) -> bool {
        self.name.starts_with('_')
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRef {
    pub id: i64,
    pub name: String,
    /// Neither sys nor a meta tenant.
    pub is_user: bool,
}

/// All parameters, with what they can be set for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterSet {
    pub rows: Vec<ParameterRow>,
    pub tenants: Vec<TenantRef>,
    /// Servers with their zones.
    pub servers: Vec<(ZoneName, ServerAddr)>,
}

/// One wish of `PATCH /obcluster/parameters`, as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
    /// `CLUSTER` or `TENANT`, in exactly this case.
    pub scope: String,
    pub zones: Vec<String>,
    /// As ip:rpc_port.
    pub servers: Vec<String>,
    pub tenants: Vec<String>,
    pub all_user_tenants: bool,
}

/// One statement: a parameter, its value, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub name: String,
    pub value: String,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Cluster,
    Zone(ZoneName),
    Server(ServerAddr),
    Tenant(String),
}

/// Without the value, which may be nobody's business.
impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, target, .. } = self;
        match target {
            Target::Cluster => write!(f, "{name}"),
            Target::Zone(zone) => write!(f, "{name} for zone {zone}"),
            Target::Server(server) => write!(f, "{name} for server {server}"),
            Target::Tenant(tenant) => write!(f, "{name} for tenant {tenant}"),
        }
    }
}

impl ParameterSet {
    pub fn tenant(&self, id: i64) -> Option<&TenantRef> {
        self.tenants.iter().find(|tenant| tenant.id == id)
    }

    /// What a request amounts to, in its order.
    ///
    /// # Errors
    /// The first wish that cannot be, with why: `OB.Parameter.Scope.Invalid`, `Common.IllegalArgument`, `OB.Zone.NotExist`,
    /// `OB.Server.NotExist`, `Common.InvalidAddress`.
    pub fn assignments(&self, settings: &[Setting]) -> Result<Vec<Assignment>> {
        let mut all = Vec::new();
        for setting in settings {
            let targets = self.targets(setting)?;
            let name = self.known_name(&setting.name)?;
            let value = || setting.value.clone();
            all.extend(targets.into_iter().map(|target| Assignment {
                name: name.clone(),
                value: value(),
                target,
            }));
        }
        Ok(all)
    }

    /// As the database spells it; its names match in any case.
    fn known_name(&self, asked: &str) -> Result<String> {
        let row = self.rows.iter().find(|row| row.name.eq_ignore_ascii_case(asked.trim()));
        let is_plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let Some(row) = row.filter(|row| is_plain(&row.name)) else {
            let text = format!(
                "the database knows no parameter '{asked}'; GET /api/v1/obcluster/parameters lists them"
            );
            return Err(Error::new(Code::IllegalArgument, text));
        };
        if row.edit_level.eq_ignore_ascii_case("READONLY") {
            let text = format!("parameter {} is READONLY: it is given when a server starts first", row.name);
            return Err(Error::new(Code::IllegalArgument, text));
        }
        Ok(row.name.clone())
    }

    fn targets(&self, setting: &Setting) -> Result<Vec<Target>> {
        let Setting { name, scope, zones, servers, tenants, all_user_tenants, .. } = setting;
        let illegal = |text: &str| Err(Error::new(Code::IllegalArgument, format!("{name}: {text}")));
        if !zones.is_empty() && !servers.is_empty() {
            return illegal("zones and servers exclude each other; give one of them");
        }
        match scope.as_str() {
            "CLUSTER" => {
                if !tenants.is_empty() || *all_user_tenants {
                    return illegal("tenants and all_user_tenant belong to scope TENANT");
                }
                if !zones.is_empty() {
                    return zones.iter().map(|zone| self.zone(zone)).collect();
                }
                if !servers.is_empty() {
                    return servers.iter().map(|server| self.server(server)).collect();
                }
                Ok(vec![Target::Cluster])
            }
            "TENANT" => {
                if !tenants.is_empty() && *all_user_tenants {
                    return illegal("tenants and all_user_tenant exclude each other; give one of them");
                }
                if !zones.is_empty() || !servers.is_empty() {
                    return illegal(
                        "what is set for tenants holds on all their servers; leave out zones and servers",
                    );
                }
                if *all_user_tenants {
                    let users = self.tenants.iter().filter(|tenant| tenant.is_user);
                    return Ok(users.map(|tenant| Target::Tenant(tenant.name.clone())).collect());
                }
                if tenants.is_empty() {
                    return Ok(vec![Target::Tenant(SYS.to_owned())]);
                }
                tenants.iter().map(|tenant| self.tenant_named(tenant)).collect()
            }
            other => {
                let text = format!("{name}: scope is '{other}'; it must be CLUSTER or TENANT");
                Err(Error::new(Code::ParameterScope, text))
            }
        }
    }

    fn zone(&self, asked: &str) -> Result<Target> {
        let known = self.servers.iter().map(|(zone, _)| zone).find(|zone| zone.as_str() == asked);
        let unknown = || Error::new(Code::ZoneNotExist, format!("there is no zone '{asked}' with a server"));
        known.cloned().map(Target::Zone).ok_or_else(unknown)
    }

    fn server(&self, asked: &str) -> Result<Target> {
        let addr: ServerAddr = asked.parse().map_err(|error: AddrError| {
            Error::new(Code::InvalidAddress, format!("{error}; a server is named as ip:rpc_port"))
        })?;
        if self.servers.iter().any(|(_, server)| *server == addr) {
            return Ok(Target::Server(addr));
        }
        Err(Error::new(Code::ServerNotExist, format!("there is no server {addr}; its port is the rpc port")))
    }

    fn tenant_named(&self, asked: &str) -> Result<Target> {
        let known = self.tenants.iter().find(|tenant| tenant.name == asked);
        let unknown = || Error::new(Code::IllegalArgument, format!("there is no tenant '{asked}'"));
        known.map(|tenant| Target::Tenant(tenant.name.clone())).ok_or_else(unknown)
    }
}

/// A failure in the middle: what was set before it, and what was not tried (H21).
pub fn stopped_at(done: &[Assignment], failed: &Assignment, rest: &[Assignment], error: Error) -> Error {
    let names = |all: &[Assignment]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (set, not_tried) = (names(done), names(rest));
    let list = |all: &[String]| if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
    let is_refused = error.code == Code::MysqlError;
    let what = if is_refused { "was not set" } else { "may have been set, the answer is missing" };
    let text = format!(
        "{failed} {what}: {}. Set before it: {}. Not tried: {}",
        error.text().trim_end_matches('.'),
        list(&set),
        list(&not_tried)
    );
    let data = serde_json::json!({ "set": set, "failed": failed.to_string(), "notTried": not_tried });
    Error::new(error.code, text).with_data(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(name: &str, scope: &str, edit_level: &str) -> ParameterRow {
        ParameterRow {
            name: name.to_owned(),
            scope: scope.to_owned(),
            edit_level: edit_level.to_owned(),
            ..ParameterRow::default()
        }
    }

    fn known() -> ParameterSet {
        let tenant = |id, name: &str, is_user| TenantRef { id, name: name.to_owned(), is_user };
        ParameterSet {
            rows: vec![
                row("cpu_count", "CLUSTER", "DYNAMIC_EFFECTIVE"),
                row("undo_retention", "TENANT", "DYNAMIC_EFFECTIVE"),
                row("zone", "CLUSTER", "READONLY"),
            ],
            tenants: vec![
                tenant(1, "sys", false),
                tenant(1001, "META$1002", false),
                tenant(1002, "t1", true),
            ],
            servers: vec![("z1".parse().unwrap(), "10.0.0.1:2882".parse().unwrap())],
        }
    }

    fn cluster(name: &str) -> Setting {
        Setting {
            name: name.to_owned(),
            value: "1".to_owned(),
            scope: "CLUSTER".to_owned(),
            ..Setting::default()
        }
    }

    fn tenants(names: &[&str]) -> Setting {
        let tenants = names.iter().map(|name| (*name).to_owned()).collect();
        Setting { scope: "TENANT".to_owned(), tenants, ..cluster("undo_retention") }
    }

    fn targets(setting: Setting) -> Vec<String> {
        known().assignments(&[setting]).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_wish_becomes_a_statement_for_each_of_its_targets() {
        let one = |setting: Setting| targets(setting).join("; ");
        assert_eq!(one(cluster("CPU_count")), "cpu_count");
        let zones = Setting { zones: vec!["z1".to_owned()], ..cluster("cpu_count") };
        assert_eq!(one(zones), "cpu_count for zone z1");
        let servers = Setting { servers: vec!["10.0.0.1:2882".to_owned()], ..cluster("cpu_count") };
        assert_eq!(one(servers), "cpu_count for server 10.0.0.1:2882");
        assert_eq!(one(tenants(&[])), "undo_retention for tenant sys");
        assert_eq!(targets(tenants(&["t1", "sys"])).len(), 2);
        assert_eq!(one(Setting { all_user_tenants: true, ..tenants(&[]) }), "undo_retention for tenant t1");
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_code() {
        let z = || vec!["z1".to_owned()];
        let s = |addr: &str| vec![addr.to_owned()];
        for (setting, code) in [
            (Setting { scope: "cluster".to_owned(), ..cluster("cpu_count") }, Code::ParameterScope),
            (Setting { scope: String::new(), ..cluster("cpu_count") }, Code::ParameterScope),
            (
                Setting { zones: z(), servers: s("10.0.0.1:2882"), ..cluster("cpu_count") },
                Code::IllegalArgument,
            ),
            (Setting { tenants: s("t1"), ..cluster("cpu_count") }, Code::IllegalArgument),
            (Setting { all_user_tenants: true, ..cluster("cpu_count") }, Code::IllegalArgument),
            (Setting { all_user_tenants: true, ..tenants(&["t1"]) }, Code::IllegalArgument),
            (Setting { zones: z(), ..tenants(&["t1"]) }, Code::IllegalArgument),
            (tenants(&["nobody"]), Code::IllegalArgument),
            (cluster("no_such"), Code::IllegalArgument),
            (cluster(""), Code::IllegalArgument),
            (cluster("zone"), Code::IllegalArgument),
            (Setting { zones: s("z9"), ..cluster("cpu_count") }, Code::ZoneNotExist),
            (Setting { servers: s("10.0.0.1"), ..cluster("cpu_count") }, Code::InvalidAddress),
            (Setting { servers: s("10.0.0.9:2882"), ..cluster("cpu_count") }, Code::ServerNotExist),
        ] {
            let error = known().assignments(std::slice::from_ref(&setting)).unwrap_err();
            assert_eq!(error.code, code, "{setting:?}: {error}");
        }
        // One that cannot be, and nothing of the rest is.
        assert!(known().assignments(&[cluster("cpu_count"), cluster("no_such")]).is_err());
    }

    #[test]
    fn h21_a_failure_in_the_middle_names_what_was_set() {
        let of = |target| Assignment { name: "cpu_count".to_owned(), value: "secret".to_owned(), target };
        let (zone, server) = (Target::Zone("z1".parse().unwrap()), "10.0.0.1:2882".parse().unwrap());
        let refusal = Error::new(Code::MysqlError, "SET was refused: Invalid config (4147)");
        let told = stopped_at(&[of(Target::Cluster)], &of(zone), &[of(Target::Server(server))], refusal);
        assert_eq!(told.code, Code::MysqlError);
        assert_eq!(
            told.text(),
            "cpu_count for zone z1 was not set: SET was refused: Invalid config (4147). Set before it: cpu_count. \
             Not tried: cpu_count for server 10.0.0.1:2882"
        );
        assert_eq!(told.data().unwrap()["set"], serde_json::json!(["cpu_count"]));
        let silence = Error::new(Code::DatabaseUseless, "no answer");
        assert!(stopped_at(&[], &of(Target::Cluster), &[], silence).text().contains("may have been set"));
    }

    proptest! {
        /// Whatever is asked for: what comes out names what the database has told.
        #[test]
        fn no_text_becomes_a_name_that_nobody_has_told(name in "\\PC*", target in "\\PC*", value in "\\PC*") {
            let named = |all: &str| vec![all.to_owned()];
            for setting in [
                Setting { zones: named(&target), value: value.clone(), ..cluster(&name) },
                Setting { servers: named(&target), value: value.clone(), ..cluster("cpu_count") },
                Setting { name: name.clone(), value: value.clone(), ..tenants(&[&target]) },
            ] {
                for assignment in known().assignments(&[setting]).unwrap_or_default() {
                    prop_assert!(known().rows.iter().any(|row| row.name == assignment.name));
                }
            }
        }
    }
}

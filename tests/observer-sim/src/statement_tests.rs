//! Statements as tools send them (`lifecycle.md` §11).

use super::*;
use crate::checks::Strength;
use crate::state::{Addr, Target};
use crate::system::{Assignment, ServerAct, ZoneAct};
use crate::token::read;

fn parsed(sql: &str) -> Statement {
    parse(&read(sql).unwrap()).unwrap_or_else(|why| panic!("{sql}: {}", why.text))
}

fn system(sql: &str) -> System {
    match parsed(sql) {
        Statement::System(system) => system,
        other => panic!("{sql}: {other:?}"),
    }
}

fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

#[test]
fn bootstrap_lists() {
    let one = |zone: &str, server: &str| Listed {
        region: "default_region".to_owned(),
        zone: zone.to_owned(),
        server: addr(server),
    };
    assert_eq!(
        parsed("ALTER SYSTEM BOOTSTRAP ZONE 'z1' SERVER '10.0.0.1:2882', ZONE = 'z2' SERVER = '[::1]:2882'"),
        Statement::Bootstrap(vec![one("z1", "10.0.0.1:2882"), one("z2", "[::1]:2882")])
    );
    let with_region = "alter system bootstrap region 'r' zone z1 server '10.0.0.1:2882'";
    assert_eq!(
        parsed(with_region),
        Statement::Bootstrap(vec![Listed { region: "r".to_owned(), ..one("z1", "10.0.0.1:2882") }])
    );
    assert!(parse(&read("ALTER SYSTEM BOOTSTRAP ZONE 'z1'").unwrap()).is_err());
}

#[test]
fn servers_and_zones() {
    let server = |act, zone: Option<&str>| System::Server {
        act,
        servers: vec![addr("10.0.0.1:2882")],
        zone: zone.map(str::to_owned),
    };
    assert_eq!(
        system("ALTER SYSTEM ADD SERVER '10.0.0.1:2882' ZONE 'z1'"),
        server(ServerAct::Add, Some("z1"))
    );
    assert_eq!(system("alter system start server \"10.0.0.1:2882\";"), server(ServerAct::Start, None));
    assert_eq!(
        system("ALTER SYSTEM FORCE STOP SERVER '10.0.0.1:2882'"),
        server(ServerAct::Stop(Strength::Force), None)
    );
    assert_eq!(
        system("ALTER SYSTEM CANCEL DELETE SERVER '10.0.0.1:2882'"),
        server(ServerAct::CancelDelete, None)
    );
    assert_eq!(
        system("ALTER SYSTEM STOP ZONE 'z1'"),
        System::Zone { act: ZoneAct::Stop(Strength::Stop), name: "z1".to_owned() }
    );
    assert_eq!(
        system("ALTER SYSTEM DELETE ZONE z1"),
        System::Zone { act: ZoneAct::Delete, name: "z1".to_owned() }
    );
    let System::AddZone { region, idc, .. } = system("alter system add zone 'z4' region 'r', idc = i") else {
        panic!()
    };
    assert_eq!((region.as_str(), idc.as_str()), ("r", "i"));
    let System::ChangeZone { region, .. } = system("ALTER SYSTEM MODIFY ZONE z1 SET REGION = 'r2'") else {
        panic!()
    };
    assert_eq!(region.as_deref(), Some("r2"));
    assert!(parse(&read("ALTER SYSTEM STOP SERVER z1").unwrap()).is_err());
}

#[test]
fn freezes_and_parameters() {
    let System::Freeze { servers, tenants, zone } =
        system("alter system minor freeze server = ('10.0.0.1:2882','10.0.0.2:2882');")
    else {
        panic!()
    };
    assert_eq!((servers.len(), tenants.len(), zone), (2, 0, None));
    let one = |target| Assignment { name: "cpu_count".to_owned(), value: "16".to_owned(), target };
    assert_eq!(
        system("ALTER SYSTEM SET `cpu_count` = \"16\" SERVER = '10.0.0.1:2882'"),
        System::Set(vec![one(Target::Server(addr("10.0.0.1:2882")))])
    );
    assert_eq!(
        system("alter system set cpu_count = 16, cpu_count = '16' tenant = sys"),
        System::Set(vec![one(Target::Cluster), one(Target::Tenant("sys".to_owned()))])
    );
}

#[test]
fn sessions_and_users() {
    let set = |name: &str, value: &str| Statement::Set(vec![(name.to_owned(), value.to_owned())]);
    assert_eq!(parsed("SET SESSION ob_query_timeout = 1000"), set("ob_query_timeout", "1000"));
    assert_eq!(parsed("set @@session.autocommit=1"), set("autocommit", "1"));
    assert_eq!(parsed("SET NAMES utf8mb4"), set("character_set_client", "utf8mb4"));
    assert_eq!(
        parsed(r#"ALTER USER root IDENTIFIED BY "a'b""#),
        Statement::Password { user: "root".to_owned(), password: "a'b".to_owned() }
    );
    assert_eq!(
        parsed("CREATE USER IF NOT EXISTS `proxyro`@`%` IDENTIFIED BY 'x'"),
        Statement::CreateUser { user: "proxyro".to_owned(), password: Some("x".to_owned()), is_quiet: true }
    );
    assert_eq!(parsed("GRANT SELECT ON oceanbase.* TO proxyro"), Statement::Privilege);
    assert_eq!(
        parsed("CREATE DATABASE IF NOT EXISTS ocs READ WRITE"),
        Statement::CreateDatabase { name: "ocs".to_owned(), is_quiet: true }
    );
    assert_eq!(parsed("SHOW CHARACTER SET"), Statement::Show(Show::Charsets { like: None }));
    assert_eq!(
        parsed("show charset like 'utf8%'"),
        Statement::Show(Show::Charsets { like: Some("utf8%".to_owned()) })
    );
    assert_eq!(
        parsed("SHOW PARAMETERS LIKE 'x%'"),
        Statement::Show(Show::Parameters { like: Some("x%".to_owned()) })
    );
}

#[test]
fn the_simulator_s_own() {
    assert_eq!(
        system("ALTER SYSTEM SIM ADD TENANT 1002 't1' SERVERS '10.0.0.1:2882, 10.0.0.2:2882'"),
        System::AddTenant {
            id: 1002,
            name: "t1".to_owned(),
            servers: vec![addr("10.0.0.1:2882"), addr("10.0.0.2:2882")]
        }
    );
    assert_eq!(
        system("ALTER SYSTEM SIM SYNC '10.0.0.1:2882' NO"),
        System::Sync { server: addr("10.0.0.1:2882"), is_in_sync: false }
    );
    assert_eq!(
        system("ALTER SYSTEM SIM FAULT hang_on = '\"x\"'"),
        System::Fault { name: "hang_on".to_owned(), json: "\"x\"".to_owned() }
    );
}

#[test]
fn limits_in_hints() {
    assert_eq!(hinted_limit(&read("select /*+ QUERY_TIMEOUT(2000000) */ 1").unwrap()), Some(2_000_000));
    assert_eq!(hinted_limit(&read("select 1").unwrap()), None);
}

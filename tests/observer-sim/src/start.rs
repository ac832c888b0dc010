//! From the command line to a server that listens (`observer-model.md` §3, §4).
//!
//! Invariant: no thread exists before the fork. What goes wrong before it is the exit status of the caller; what goes wrong
//! later stands in the log alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::journal::Journal;
use crate::log::Log;
use crate::options::{self, Request, Start};
use crate::saved::{self, Config};
use crate::server::{Parts, Phase, Server};
use crate::settings::{Convention, Settings, Source};
use crate::state::Addr;
use crate::{listen, process, signals};

/// A kernel error, negative, and what the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    code: i32,
    place: &'static str,
    text: String,
}

fn failure(code: i32, place: &'static str, text: impl Into<String>) -> Failure {
    Failure { code, place, text: text.into() }
}

/// The whole program; returns the exit status.
pub(crate) fn main() -> i32 {
    let descriptors = process::inherited_descriptors();
    let arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let home = std::env::current_dir().unwrap_or_default();
    let source = Source::find(arguments.first().map_or("observer", String::as_str), &home);
    let settings = source.read();
    record(&settings, &arguments, &home, &descriptors);
    signals::block(settings.signals);
    let start = match options::parse(&arguments, &settings) {
        Request::Say(text, status) => {
            eprintln!("{text}");
            return status;
        }
        Request::Start(start) => start,
    };
    for line in &start.echo {
        eprintln!("{line}");
    }
    if let Err((status, why)) = prepare(&home, &source, &settings) {
        eprintln!("{why}");
        return status;
    }
    if !start.stays_in_front {
        const FORK: f64 = 0.05;
        std::thread::sleep(settings.span(FORK));
        if let Err(error) = nix::unistd::daemon(true, false) {
            eprintln!("create process as daemon failed: {error}");
            return 81;
        }
    }
    live(&home, source, &settings, &start)
}

fn record(settings: &Settings, arguments: &[String], home: &Path, descriptors: &Value) {
    if settings.cluster.as_os_str().is_empty() || std::fs::create_dir_all(&settings.cluster).is_err() {
        return;
    }
    let environment: serde_json::Map<String, Value> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), json!(value.to_string_lossy())))
        .collect();
    Journal::new(&settings.cluster).write(
        "",
        "argv",
        json!({ "argv": arguments, "cwd": home, "env": environment, "fds": descriptors }),
    );
}

/// What is checked before the fork.
fn prepare(home: &Path, source: &Source, settings: &Settings) -> Result<(), process::Stop> {
    if settings.cluster.as_os_str().is_empty() {
        return Err((1, format!("no cluster is named in {}", source.path().display())));
    }
    if let Some(status) = settings.number("exit_before_fork") {
        return Err((i32::try_from(status).unwrap_or(1), "observer refuses to start".to_owned()));
    }
    process::check_owner(home)?;
    process::make_directories(home)?;
    process::check_lock(home)
}

/// The daemon's life.
fn live(home: &Path, source: Source, settings: &Settings, start: &Start) -> i32 {
    // In front, the older line writes no pid file.
    let has_pid_file = !start.stays_in_front || settings.signals == Convention::Newer;
    let held =
        if has_pid_file && !settings.has("no_pid_file") { process::take_pid_file(home).ok() } else { None };
    let log = Log::new(home);
    let log_of_panics = log.clone();
    std::panic::set_hook(Box::new(move |what| log_of_panics.error("crash", -4016, &what.to_string())));
    log.info(&format!("observer starts, version {}", settings.version));
    let status = match begin(home, source, settings, start, &log) {
        Ok(server) => server.wait_for_stop(),
        Err(failure) => {
            log.error(failure.place, failure.code, &failure.text);
            log.diagnosis(failure.code, &failure.text);
            log.error("init", -4393, "observer init() has failure");
            let status = (256 - (-failure.code).rem_euclid(256)).rem_euclid(256);
            Journal::new(&settings.cluster).write(
                "",
                "exit",
                json!({ "code": status, "error": failure.code, "home": home }),
            );
            status
        }
    };
    drop(held);
    status
}

fn begin(
    home: &Path,
    source: Source,
    settings: &Settings,
    start: &Start,
    log: &Log,
) -> Result<Arc<Server>, Failure> {
    let stored = saved::load(home);
    let is_restart = stored.is_some();
    let mut config = stored.unwrap_or_default();
    config.extend(start.items.clone());
    config.extend(option_items(start.optstr.as_deref())?);
    complete(&mut config);
    check(&config)?;
    let own = own_address(&mut config)?;
    let data_dir = home.join(config.get("data_dir").map_or("store", String::as_str));
    config.entry("all_server_list".to_owned()).or_insert_with(|| own.to_string());
    saved::save(home, &config)
        .map_err(|error| failure(-4009, "dump2file", format!("fail to save: {error}")))?;
    for dir in process::STORE_DIRS {
        if !data_dir.join(dir).is_dir() {
            let text = format!("fail to open directory, errno=2, path={}", data_dir.join(dir).display());
            return Err(failure(-4009, "init_storage", text));
        }
    }
    let rpc = listen::bind(listen_address(&config, own.port()))
        .map_err(|error| failure(-4015, "init_network", format!("fail to start net frame, {error}")))?;
    let cluster = Cluster::open(&settings.cluster, own)
        .map_err(|error| failure(-4016, "init", format!("no cluster directory, {error:#}")))?;
    let mark = cluster.join(own).map_err(|error| failure(-4016, "init", format!("{error:#}")))?;
    cluster.note("start", json!({ "home": home, "restart": is_restart, "zone": config.get("zone") }));
    let sql_port = port(&config, "mysql_port", 2881);
    let server = Server::new(Parts {
        addr: own,
        home: home.to_owned(),
        data_dir,
        cluster,
        log: log.clone(),
        source,
        config,
        sql_port,
        is_restart,
    });
    listen::accept_and_close(rpc);
    thread("beat", {
        let server = Arc::clone(&server);
        move || server.beat_for_ever(&mark)
    });
    thread("signals", {
        let server = Arc::clone(&server);
        let signals = settings.signals;
        move || signals::take(&server, signals)
    });
    plan_death(&server, settings);
    open(&server, settings)?;
    Ok(server)
}

/// Waits as long as an allocation of disk space would, then opens the SQL port.
fn open(server: &Arc<Server>, settings: &Settings) -> Result<(), Failure> {
    const LISTEN: f64 = 1.0;
    let span = settings.span(LISTEN).max(settings.millis("listen_after_ms").unwrap_or_default());
    let begin = server.age();
    while server.age().saturating_sub(begin) < span || server.settings().has("never_listen") {
        if server.phase() == Phase::Stopping {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20).min(span.max(Duration::from_millis(1))));
    }
    let config = server.config();
    for address in sql_addresses(&config, server.sql_port) {
        let listener = listen::bind(address).map_err(|error| {
            failure(-4016, "nio_start", format!("sql nio bind listen fd failed, {address}, {error}"))
        })?;
        listen::serve_tcp(server, listener);
    }
    let socket = match settings.signals {
        Convention::Newer => "run/sql.sock",
        Convention::Older => "run/mysql.sock",
    };
    listen::serve_socket(server, &server.home.join(socket))
        .map_err(|error| failure(-4016, "nio_start", format!("unix socket failed, {error}")))?;
    process::make_store(&server.data_dir)
        .map_err(|error| failure(-4009, "init_storage", format!("cannot make the block file, {error}")))?;
    server.log.info("[server_start 7/7] server instance start succeed");
    server.has_opened();
    drop(server.sight());
    Ok(())
}

pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
        eprintln!("cannot start thread {name}: {error}");
    }
}

fn option_items(optstr: Option<&str>) -> Result<Config, Failure> {
    let mut items = Config::new();
    for item in optstr.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let (name, value) = item
            .split_once('=')
            .ok_or_else(|| failure(-4147, "add_extra_config", format!("invalid config string, {item}")))?;
        items.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    Ok(items)
}

fn complete(config: &mut Config) {
    for (name, value) in [
        ("mysql_port", "2881"),
        ("rpc_port", "2882"),
        ("data_dir", "store"),
        ("cluster", "obcluster"),
        ("devname", "bond0"),
    ] {
        config.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
}

fn check(config: &Config) -> Result<(), Failure> {
    const GIB: u64 = 1 << 30;
    let value = |name: &str| config.get(name).map_or("", String::as_str);
    if value("zone").is_empty() {
        return Err(failure(-4147, "check_config", "config zone cannot be empty"));
    }
    if !value("cluster_id").parse::<u32>().is_ok_and(|id| id > 0) {
        return Err(failure(
            -4147,
            "check_config",
            format!("invalid cluster id, cluster id={}", value("cluster_id")),
        ));
    }
    for name in ["mysql_port", "rpc_port"] {
        if !value(name).parse::<u16>().is_ok_and(|port| port > 1024) {
            return Err(failure(-4147, "check_config", format!("invalid {name}")));
        }
    }
    let memory = config.get("memory_limit").map(|text| saved::size(text));
    if memory.is_some_and(|size| size.is_none_or(|size| size != 0 && size < GIB)) {
        return Err(failure(-4147, "reload_config", "memory_limit with unexpected value"));
    }
    Ok(())
}

fn port(config: &Config, name: &str, default: u16) -> u16 {
    config.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What the server is called: its address, which must be of this host, and its rpc port. Without an address that of the
/// device is taken, and loopback where there is none, since a test host need not have a `bond0`.
fn own_address(config: &mut Config) -> Result<Addr, Failure> {
    let rpc = port(config, "rpc_port", 2882);
    let given = config.get("local_ip").filter(|text| !text.is_empty()).cloned();
    let Some(given) = given else {
        let device = config.get("devname").and_then(|name| device_address(name));
        return Ok(Addr::new(device.unwrap_or(Ipv4Addr::LOCALHOST.into()), rpc));
    };
    let foreign = || {
        failure(
            -4393,
            "init_config",
            format!("local_ip is not a valid IP for this machine, local_ip={given}"),
        )
    };
    let ip: IpAddr = given.parse().map_err(|_| foreign())?;
    UdpSocket::bind((ip, 0)).map_err(|_| foreign())?;
    Ok(Addr::new(ip, rpc))
}

fn device_address(name: &str) -> Option<IpAddr> {
    let mut interfaces = nix::ifaddrs::getifaddrs().ok()?;
    interfaces.find_map(|interface| {
        let address = interface.address.filter(|_| interface.interface_name == name)?;
        Some(IpAddr::V4(address.as_sockaddr_in()?.ip()))
    })
}

/// All addresses of the host, unless one was given.
fn listen_address(config: &Config, port: u16) -> SocketAddr {
    let given = config.get("local_ip").and_then(|text| text.parse().ok());
    SocketAddr::new(given.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port)
}

/// For SQL loopback too; but servers with loopback addresses of their own share a port and leave each other alone.
fn sql_addresses(config: &Config, port: u16) -> Vec<SocketAddr> {
    let main = listen_address(config, port);
    let ip = main.ip();
    if ip.is_loopback() || ip.is_unspecified() {
        return vec![main];
    }
    let loopback: IpAddr =
        if ip.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
    vec![main, SocketAddr::new(loopback, port)]
}

/// Fault `die_after_ms`: with a last line in the log, a status, or a signal.
fn plan_death(server: &Arc<Server>, settings: &Settings) {
    let Some(delay) = settings.millis("die_after_ms") else { return };
    let server = Arc::clone(server);
    let settings = settings.clone();
    thread("death", move || {
        std::thread::sleep(delay.saturating_sub(server.age()));
        match settings.text("die_log") {
            Some(line) if line.starts_with('[') => server.log.raw(line),
            Some(line) => server.log.error("start", -4016, line),
            None => {}
        }
        let signal = settings.number("die_signal").and_then(|number| i32::try_from(number).ok());
        let code = settings.number("die_code").and_then(|code| i32::try_from(code).ok()).unwrap_or(1);
        server.cluster.note("exit", json!({ "code": code, "signal": signal, "fault": "die_after_ms" }));
        if let Some(signal) = signal.and_then(|number| Signal::try_from(number).ok()) {
            kill(Pid::this(), signal).ok();
        }
        std::process::exit(code);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let mut config: Config = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        complete(&mut config);
        config
    }

    #[test]
    fn a_configuration_is_checked() {
        let code = |pairs: &[(&str, &str)]| check(&config(pairs)).map_err(|f| (f.code, f.text));
        assert_eq!(code(&[("zone", "z1"), ("cluster_id", "1")]), Ok(()));
        assert_eq!(code(&[("cluster_id", "1")]), Err((-4147, "config zone cannot be empty".to_owned())));
        assert!(code(&[("zone", "z1")]).unwrap_err().1.starts_with("invalid cluster id"));
        assert!(code(&[("zone", "z"), ("cluster_id", "1"), ("memory_limit", "512M")]).is_err());
        assert!(option_items(Some("a=1,b")).is_err());
        assert_eq!(option_items(Some("a=1,b=2")).unwrap().len(), 2);
    }

    #[test]
    fn addresses_to_listen_on() {
        let listens = |ip: &str| {
            sql_addresses(&config(&[("local_ip", ip)]), 2881)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(listens("127.0.0.2"), ["127.0.0.2:2881"]);
        assert_eq!(listens("10.0.0.1"), ["10.0.0.1:2881", "127.0.0.1:2881"]);
        assert_eq!(listens("fd00::1"), ["[fd00::1]:2881", "[::1]:2881"]);
        assert_eq!(sql_addresses(&config(&[]), 1)[0].to_string(), "0.0.0.0:1");
        assert_eq!(own_address(&mut config(&[("local_ip", "192.0.2.1")])).unwrap_err().code, -4393);
    }
}

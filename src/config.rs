//! The configuration: every key with its default and the reason for it, read from four sources.
//!
//! Purpose: argument over environment over file over default, merged once at start into one [`Config`].
//! `config.example.toml` documents every key; a test compares it with this file.
//!
//! Invariant: a `Config` that exists is valid: unknown keys, wrong types and impossible values are refused with
//! the key's name and what would be right.
//!
//! Not here: reading it again while running (restart the agent; the database does not notice), and secrets:
//! passwords never stand in this file.

use std::net::{IpAddr, SocketAddr};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// Most that `auth.header_lifetime_max_secs` may be: no sealed header of v2 or v3 lives longer than a day.
pub const HEADER_LIFETIME_SECS_MAX: u32 = 86_400;

/// Where the agent keeps its own files, relative to the home.
pub const STATE_DIR: &str = ".obpilot";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub agent: Agent,
    pub engine: Engine,
    pub peers: Peers,
    pub api: Api,
    pub tls: Tls,
    pub socket: Socket,
    pub auth: Auth,
    pub bootstrap: Bootstrap,
    pub store: Store,
    pub log: Log,
    /// Started in the background by `agent start`: makes a session of its own. Not a key.
    #[serde(skip)]
    pub is_detached: bool,
}

/// Who this agent is and where it listens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// The database's home; everything else is relative to it. No default: `--home`, `OBPILOT_HOME` or this key.
    pub home: Option<Utf8PathBuf>,
    /// The address under which peers and clients know this agent. Remembered after the first start.
    pub ip: Option<IpAddr>,
    /// Default 2886, or what the store remembers.
    pub port: Option<u16>,
    /// Addresses to listen on. Empty: the agent's own address and nothing else (W49).
    pub listen: Vec<SocketAddr>,
}

/// The database process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Which engine runs in this home. Remembered after the first start.
    pub kind: Option<EngineKind>,
    /// Its executable. Default: `bin/observer` under the home, or `seekdb` from the search path.
    pub binary: Option<Utf8PathBuf>,
    /// From spawning to serving.
    pub start_timeout_secs: u64,
    /// From the graceful signal to SIGKILL.
    pub stop_grace_secs: u64,
    /// From the statement to the checkpoint of a stop with `terminate`.
    pub freeze_timeout_secs: u64,
    /// What to do when the process ends outside any operation.
    pub restart: RestartPolicy,
    /// First pause before a restart by policy; doubles up to `restart_backoff_max_secs`.
    pub restart_backoff_secs: u64,
    pub restart_backoff_max_secs: u64,
    /// Restarts by policy in a row that did not stay up for ten minutes; then it stays down for a human.
    pub restart_count_max: u32,
    /// How often the database is asked whether it serves and accepts the known password.
    pub probe_interval_secs: u64,
    /// The same while it refuses the known password: slow, so that nothing is locked and no log is filled.
    pub probe_refused_interval_secs: u64,
    /// Free space that must be left on the data disk beyond what the configured sizes need.
    pub disk_reserve_mib: u64,
    /// Put the database into a systemd scope of its own where systemd runs and the agent is root.
    pub systemd_scope: bool,
}

/// The other agents of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peers {
    /// For an agent in scope to be reached and to prepare, before an operation is given up.
    pub prepare_timeout_secs: u64,
    /// An agent that was not reached for so long is lost for the operation under way.
    pub silence_limit_secs: u64,
    /// A started server that does not serve is given so long before it is asked whether the others run that it needs for a
    /// majority.
    pub quorum_wait_secs: u64,
    /// Servers of a zone that a restart works on at a time, where the request does not say.
    pub parallel_max: u64,
}

impl Default for Peers {
    fn default() -> Self {
        Self { prepare_timeout_secs: 10, silence_limit_secs: 60, quorum_wait_secs: 60, parallel_max: 10 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// A member of an OceanBase cluster.
    Observer,
    /// The single-node engine.
    Seekdb,
}

impl EngineKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Observer => "observer",
            Self::Seekdb => "seekdb",
        }
    }
}

impl std::str::FromStr for EngineKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "observer" => Ok(Self::Observer),
            "seekdb" => Ok(Self::Seekdb),
            _ => Err(format!("'{text}' is not an engine; use observer or seekdb")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It stays down; the status and the event stream say so.
    Never,
    /// Started again unless an operation stopped it.
    OnFailure,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            kind: None,
            binary: None,
            start_timeout_secs: 600,
            stop_grace_secs: 60,
            freeze_timeout_secs: 600,
            restart: RestartPolicy::Never,
            restart_backoff_secs: 1,
            restart_backoff_max_secs: 60,
            restart_count_max: 5,
            probe_interval_secs: 15,
            probe_refused_interval_secs: 60,
            disk_reserve_mib: 256,
            systemd_scope: true,
        }
    }
}

/// The HTTP listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Largest body that is read, sealed or not.
    pub body_max_bytes: usize,
    /// From the connection to the end of the request's head.
    pub head_timeout_secs: u64,
    /// From the end of the head to the end of the request's body.
    pub body_timeout_secs: u64,
    /// Connections at a time, per listener thread.
    pub connections_max: usize,
    /// Longest a watch may wait; a longer wish is cut to this.
    pub watch_wait_max_secs: u64,
    /// What in-flight requests get to finish when the agent stops.
    pub shutdown_grace_secs: u64,
    /// Threads that serve requests.
    pub workers: usize,
    /// In which shape the operations of the v2 API answer.
    pub v2_shape: V2Shape,
    /// Users and key pairs of the v2 API over plain HTTP from other hosts too.
    pub v2_over_http: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum V2Shape {
    /// Each in the one that its documented page has.
    #[default]
    Page,
    /// All in the newer one.
    Newer,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            body_max_bytes: 1 << 20,
            head_timeout_secs: 10,
            body_timeout_secs: 30,
            connections_max: 1_000,
            watch_wait_max_secs: 120,
            shutdown_grace_secs: 10,
            workers: 2,
            v2_shape: V2Shape::Page,
            v2_over_http: false,
        }
    }
}

/// TLS of the TCP listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    pub mode: TlsMode,
    /// Certificates come from the cluster's own CA, which the agents make and keep themselves; no files then.
    pub own_ca: bool,
    /// Life of a certificate of that CA; it is renewed at two thirds. 90 days: longer than most absences, short enough that
    /// a stolen one ends by itself.
    pub certificate_lifetime_secs: u64,
    /// PEM: the certificate, then those that lead to its root. Clients call agents by address, so it names that.
    pub certificate: Option<Utf8PathBuf>,
    /// PEM.
    pub key: Option<Utf8PathBuf>,
    /// PEM: roots of the certificates that clients must show; for `mutual`.
    pub client_ca: Option<Utf8PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Plain HTTP.
    #[default]
    Off,
    /// HTTPS only.
    Server,
    /// And clients show a certificate.
    Mutual,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            mode: TlsMode::Off,
            own_ca: false,
            certificate_lifetime_secs: 90 * 86_400,
            certificate: None,
            key: None,
            client_ca: None,
        }
    }
}

impl Tls {
    fn validate(&self) -> Result<(), ConfigError> {
        if self.own_ca {
            return self.validate_own();
        }
        let wanted = |key, path: &Option<Utf8PathBuf>, why: &str| match path {
            None => Err(bad(key, "", why)),
            Some(path) if !path.is_absolute() => Err(bad(key, path, "must be an absolute path")),
            Some(_) => Ok(()),
        };
        if self.mode == TlsMode::Off {
            return Ok(());
        }
        wanted("tls.certificate", &self.certificate, "tls.mode needs a certificate: a PEM file")?;
        wanted("tls.key", &self.key, "tls.mode needs the key of the certificate: a PEM file")?;
        if self.mode == TlsMode::Mutual {
            wanted("tls.client_ca", &self.client_ca, "mutual needs the roots of the clients: a PEM file")?;
        }
        Ok(())
    }

    /// One source of certificates: what is asked for is done, not guessed.
    fn validate_own(&self) -> Result<(), ConfigError> {
        if self.mode == TlsMode::Off {
            return Err(bad("tls.own_ca", true, "needs tls.mode = \"server\" or \"mutual\""));
        }
        let files = [
            ("tls.certificate", &self.certificate),
            ("tls.key", &self.key),
            ("tls.client_ca", &self.client_ca),
        ];
        match files.into_iter().find_map(|(key, path)| path.as_ref().map(|path| (key, path))) {
            Some((key, path)) => Err(bad(key, path, "leave it out: with tls.own_ca there are no files")),
            None => Ok(()),
        }
    }
}

/// The Unix socket for the local operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Socket {
    /// Default: `run/obpilot.sock` under the home.
    pub path: Option<Utf8PathBuf>,
    /// User ids that may use it besides root, the agent's own and the owner of the home.
    pub allow_uids: Vec<u32>,
}

/// Checks of sealed requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A header whose `ts` lies further ahead than this is refused (`security.md` §11).
    pub header_lifetime_max_secs: i64,
    /// Scheme v1 too (`security.md` §2.8), for clients that speak nothing else: a header that holds for any request and, from the Go
    /// SDK, for ever; bodies in clear.
    pub v1: bool,
    /// Refusals from one address within a minute before it has to wait. One human mistake is two or three.
    pub failures_per_minute_max: u32,
    /// Openings that may fail under one key before it is replaced.
    pub failed_openings_max: u32,
    /// The known root password is checked against the database again after this, if no probe has done so before.
    pub recheck_password_secs: u64,
    /// A session of a client ends when it was not used for so long.
    pub session_lifetime_secs: u32,
    /// Sessions at a time; beyond that the one that was not used for longest gives way.
    pub sessions_max: usize,
    /// The same for one address.
    pub sessions_per_source_max: usize,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            header_lifetime_max_secs: 3_600,
            v1: false,
            failures_per_minute_max: 30,
            failed_openings_max: 4_096,
            recheck_password_secs: 60,
            session_lifetime_secs: 1_800,
            sessions_max: 200,
            sessions_per_source_max: 20,
        }
    }
}

/// Who may claim a fresh agent that has no password yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// `loopback`, `attached` (networks this host has an interface in), or networks such as `10.1.0.0/16`.
    pub allow: Vec<String>,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { allow: vec!["loopback".to_owned(), "attached".to_owned()] }
    }
}

/// The agent's own store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Finished tasks older than this are removed, with their logs. 0 keeps them for ever.
    pub keep_finished_days: u32,
    /// More finished tasks than this are removed, oldest first. 0 keeps all.
    pub keep_finished_count: u32,
    /// Entries of the audit trail kept at most; older ones go. `keep_finished_days` holds for them too.
    pub keep_audit_count: u32,
    /// Backups kept beside the store.
    pub keep_backups: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            keep_finished_days: 90,
            keep_finished_count: 20_000,
            keep_audit_count: 100_000,
            keep_backups: 3,
        }
    }
}

/// The agent's own log; goes to stderr, and so to the journal under systemd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level, or a filter such as `info,obpilot::engine=debug`.
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}")]
    Read { path: Utf8PathBuf, source: std::io::Error },
    #[error("{path} is not a valid configuration: {why}")]
    Parse { path: Utf8PathBuf, why: String },
    #[error("{key} = {value}: {why}")]
    Value { key: &'static str, value: String, why: String },
}

/// What the command line and the environment say; clap has merged these two already, arguments first.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub home: Option<Utf8PathBuf>,
    pub socket: Option<Utf8PathBuf>,
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    pub engine: Option<EngineKind>,
    pub engine_bin: Option<Utf8PathBuf>,
    pub log_filter: Option<String>,
    pub is_detached: bool,
}

impl Config {
    /// File (if named) under the overrides, checked.
    ///
    /// # Errors
    /// The first key that cannot be used, with what would be right.
    pub fn load(file: Option<&Utf8Path>, overrides: Overrides) -> Result<Self, ConfigError> {
        let mut config = match file {
            None => Self::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
                Self::parse(path, &text)?
            }
        };
        let Overrides { home, socket, ip, port, engine, engine_bin, log_filter, is_detached } = overrides;
        config.agent.home = home.or(config.agent.home);
        config.socket.path = socket.or(config.socket.path);
        config.is_detached = is_detached;
        config.agent.ip = ip.or(config.agent.ip);
        config.agent.port = port.or(config.agent.port);
        config.engine.kind = engine.or(config.engine.kind);
        config.engine.binary = engine_bin.or(config.engine.binary);
        config.log.filter = log_filter.unwrap_or(config.log.filter);
        config.validate()?;
        Ok(config)
    }

    /// # Errors
    /// Not TOML, an unknown key, or a value of the wrong type; the text names line and key.
    pub fn parse(path: &Utf8Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            why: error.to_string().trim_end().to_owned(),
        })
    }

    /// Numbers with the least and the most that they may be.
    fn ranges(&self) -> Vec<(&'static str, u64, u64, u64)> {
        let Self { engine, peers, api, tls, auth, store, .. } = self;
        vec![
            ("engine.start_timeout_secs", engine.start_timeout_secs, 1, 86_400),
            ("engine.stop_grace_secs", engine.stop_grace_secs, 1, 3_600),
            ("engine.freeze_timeout_secs", engine.freeze_timeout_secs, 1, 86_400),
            ("engine.restart_backoff_secs", engine.restart_backoff_secs, 1, 3_600),
            (
                "engine.restart_backoff_max_secs",
                engine.restart_backoff_max_secs,
                engine.restart_backoff_secs,
                86_400,
            ),
            ("engine.probe_interval_secs", engine.probe_interval_secs, 1, 3_600),
            ("engine.probe_refused_interval_secs", engine.probe_refused_interval_secs, 5, 3_600),
            ("peers.prepare_timeout_secs", peers.prepare_timeout_secs, 1, 600),
            ("peers.silence_limit_secs", peers.silence_limit_secs, 5, 3_600),
            ("peers.quorum_wait_secs", peers.quorum_wait_secs, 1, 3_600),
            ("peers.parallel_max", peers.parallel_max, 1, 1_000),
            ("api.head_timeout_secs", api.head_timeout_secs, 1, 600),
            ("api.body_timeout_secs", api.body_timeout_secs, 1, 3_600),
            ("api.watch_wait_max_secs", api.watch_wait_max_secs, 1, 3_600),
            ("api.shutdown_grace_secs", api.shutdown_grace_secs, 1, 600),
            ("api.body_max_bytes", api.body_max_bytes as u64, 4_096, 1 << 30),
            ("api.connections_max", api.connections_max as u64, 8, 1_000_000),
            ("api.workers", api.workers as u64, 1, 64),
            ("tls.certificate_lifetime_secs", tls.certificate_lifetime_secs, 6, 366 * 86_400),
            (
                "auth.header_lifetime_max_secs",
                auth.header_lifetime_max_secs.unsigned_abs(),
                60,
                u64::from(HEADER_LIFETIME_SECS_MAX),
            ),
            ("auth.failures_per_minute_max", u64::from(auth.failures_per_minute_max), 3, 100_000),
            ("auth.failed_openings_max", u64::from(auth.failed_openings_max), 16, 1_000_000),
            ("auth.recheck_password_secs", auth.recheck_password_secs, 1, 3_600),
            ("auth.session_lifetime_secs", u64::from(auth.session_lifetime_secs), 1, 86_400),
            ("auth.sessions_max", auth.sessions_max as u64, 1, 10_000),
            ("auth.sessions_per_source_max", auth.sessions_per_source_max as u64, 1, 10_000),
            ("store.keep_audit_count", u64::from(store.keep_audit_count), 100, 10_000_000),
        ]
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let Self { agent, engine, tls, bootstrap, log, .. } = self;
        if let Some(home) = agent.home.as_deref().filter(|h| !h.is_absolute()) {
            return Err(bad("agent.home", home, "must be an absolute path"));
        }
        tls.validate()?;
        if agent.port == Some(0) {
            return Err(bad("agent.port", 0, "ports go from 1 to 65535"));
        }
        if let Some(binary) = engine.binary.as_deref().filter(|b| !b.is_absolute()) {
            return Err(bad("engine.binary", binary, "must be an absolute path"));
        }
        for (key, value, least, most) in self.ranges() {
            if !(least..=most).contains(&value) {
                return Err(bad(key, value, &format!("must be between {least} and {most}")));
            }
        }
        for rule in &bootstrap.allow {
            let named = matches!(rule.as_str(), "loopback" | "attached");
            if !named && Network::parse(rule).is_none() {
                return Err(bad(
                    "bootstrap.allow",
                    rule,
                    "use loopback, attached, or a network such as 10.1.0.0/16",
                ));
            }
        }
        if log.filter.parse::<tracing_subscriber::EnvFilter>().is_err() {
            return Err(bad(
                "log.filter",
                &log.filter,
                "use a level such as info, or a filter such as info,obpilot=debug",
            ));
        }
        Ok(())
    }
}

fn bad(key: &'static str, value: impl ToString, why: &str) -> ConfigError {
    ConfigError::Value { key, value: value.to_string(), why: why.to_owned() }
}

/// A network in prefix notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    pub fn new(base: IpAddr, prefix: u8) -> Option<Self> {
        let most = if base.is_ipv4() { 32 } else { 128 };
        (prefix <= most).then_some(Self { base, prefix })
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/')?;
        Self::new(base.parse().ok()?, prefix.parse().ok()?)
    }

    pub fn contains(self, ip: IpAddr) -> bool {
        match (self.base, ip.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                same_prefix(u128::from(u32::from(base)) << 96, u128::from(u32::from(ip)) << 96, self.prefix)
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => same_prefix(base.into(), ip.into(), self.prefix),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn same_prefix(left: u128, right: u128, prefix: u8) -> bool {
    (left ^ right).checked_shr(128 - u32::from(prefix)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../config.example.toml");

    #[test]
    fn the_example_file_is_the_default() {
        let example = Config::parse(Utf8Path::new("config.example.toml"), EXAMPLE).unwrap();
        assert_eq!(example, Config::default());
    }

    /// Every key stands in the example, set or commented out, under a line that explains it.
    #[test]
    fn the_example_file_explains_every_key() {
        let keys = serde_json::to_value(Config::default()).unwrap();
        for (section, members) in keys.as_object().unwrap() {
            let at =
                EXAMPLE.find(&format!("\n[{section}]\n")).unwrap_or_else(|| panic!("[{section}] is missing"));
            let text = EXAMPLE.get(at + 1..).unwrap();
            let text = text.split("\n[").next().unwrap();
            let lines: Vec<_> = text.lines().collect();
            for key in members.as_object().unwrap().keys() {
                let set = |l: &str| l.trim_start_matches("# ").starts_with(&format!("{key} = "));
                let line =
                    lines.iter().position(|l| set(l)).unwrap_or_else(|| panic!("{section}.{key} is missing"));
                assert!(lines[line - 1].starts_with("# "), "{section}.{key} is not explained");
            }
        }
    }

    #[test]
    fn arguments_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("c.toml")).unwrap();
        std::io::Write::write_all(
            &mut std::fs::File::create(&path).unwrap(),
            b"[agent]\nhome = \"/file\"\nport = 1\n[engine]\nkind = \"seekdb\"\n",
        )
        .unwrap();
        let overrides = Overrides { port: Some(2), ..Overrides::default() };
        let config = Config::load(Some(&path), overrides).unwrap();
        assert_eq!(config.agent.home.as_deref(), Some(Utf8Path::new("/file")));
        assert_eq!((config.agent.port, config.engine.kind), (Some(2), Some(EngineKind::Seekdb)));
    }

    #[test]
    fn wrong_files_are_refused_by_name() {
        for (text, expected) in [
            ("[agent]\nhoem = \"/x\"\n", "hoem"),
            ("[agent]\nport = \"x\"\n", "port"),
            ("[engine]\nkind = \"oracle\"\n", "oracle"),
            ("nonsense", "nonsense"),
        ] {
            let error = Config::parse(Utf8Path::new("c.toml"), text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn impossible_values_are_refused_by_key() {
        let check = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().map_err(|e| e.to_string())
        };
        assert_eq!(check(|_| ()), Ok(()));
        for (change, key) in [
            ((|c| c.agent.home = Some("rel".into())) as fn(&mut Config), "agent.home"),
            (|c| c.engine.stop_grace_secs = 0, "engine.stop_grace_secs"),
            (|c| c.engine.restart_backoff_max_secs = 0, "engine.restart_backoff_max_secs"),
            (|c| c.api.body_max_bytes = 1, "api.body_max_bytes"),
            (|c| c.bootstrap.allow = vec!["everybody".into()], "bootstrap.allow"),
            (|c| c.log.filter = "obpilot=loud".into(), "log.filter"),
        ] {
            let error = check(change).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn networks_contain_by_prefix() {
        let net = |t: &str| Network::parse(t).unwrap();
        assert!(net("10.1.0.0/16").contains("10.1.255.1".parse().unwrap()));
        assert!(!net("10.1.0.0/16").contains("10.2.0.1".parse().unwrap()));
        assert!(net("0.0.0.0/0").contains("8.8.8.8".parse().unwrap()));
        assert!(net("fd00::/8").contains("fd12::1".parse().unwrap()));
        assert!(!net("10.0.0.0/8").contains("fd12::1".parse().unwrap()));
        assert!(net("10.0.0.5/32").contains("::ffff:10.0.0.5".parse().unwrap()));
        assert!(Network::parse("10.0.0.0/33").is_none());
    }
}

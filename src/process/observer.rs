//! The member of an OceanBase cluster (`observer-model.md`, `lifecycle.md` §4.3, §4.4).
//!
//! Invariant: a later start passes no option at all: everything is in its saved configuration, and repeating an
//! option would undo what was changed by SQL since.
//!
//! Not here: joining a cluster; a server that listens is still empty.

use camino::{Utf8Path, Utf8PathBuf};

use super::engine::{self, Engine, NEVER_PASSED, Need, Options, Places, option, size_option};
use super::log::LifeLog;

/// See the module.
#[derive(Debug)]
pub(super) struct Observer;

/// Options with an argument of their own, in the order of the command line.
const ARGUMENTS: [(&str, &str); 10] = [
    ("cluster", "-n"),
    ("cluster_id", "-c"),
    ("data_dir", "-d"),
    ("zone", "-z"),
    ("devname", "-i"),
    ("local_ip", "-I"),
    ("mysql_port", "-p"),
    ("rpc_port", "-P"),
    ("syslog_level", "-l"),
    ("rootservice_list", "-r"),
];

/// Directories become links below `store` and are no options of the program.
const DIRECTORIES: [&str; 4] = ["redo_dir", "clog_dir", "slog_dir", "home_path"];

/// Where its saved configuration lies, newest first (`observer-model.md` §1).
const CONFIG_FILES: [&str; 3] =
    ["etc/observer.config.bin", "etc2/observer.conf.bin", "etc3/observer.conf.bin"];

const DEFAULT_SQL_PORT: u16 = 2881;
const DEFAULT_RPC_PORT: u16 = 2882;

impl Engine for Observer {
    fn name(&self) -> &'static str {
        "observer"
    }

    fn process_names(&self) -> &'static [&'static str] {
        &["observer"]
    }

    fn arguments(&self, _home: &Utf8Path, options: &Options, is_first: bool) -> Result<Vec<String>, String> {
        if !is_first {
            return Ok(Vec::new());
        }
        let mut arguments = Vec::new();
        for (key, argument) in ARGUMENTS {
            if let Some(value) = option(options, key) {
                arguments.extend([argument.to_owned(), value.to_owned()]);
            }
        }
        if option(options, "local_ip").is_some_and(|ip| ip.contains(':')) {
            arguments.push("--ipv6".to_owned());
        }
        let mut items = Vec::new();
        for (key, value) in options.iter().filter(|(key, value)| is_item(key) && !value.is_empty()) {
            if !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(format!("'{key}' is not the name of a parameter"));
            }
            if value.contains(',') {
                return Err(format!(
                    "{key} has a value with a comma, which cannot be given at the start: set it by SQL"
                ));
            }
            items.push(format!("{key}={value}"));
        }
        if !items.is_empty() {
            arguments.extend(["-o".to_owned(), items.join(",")]);
        }
        Ok(arguments)
    }

    /// Older builds load their libraries from there; newer ones do not mind.
    fn library_dir(&self, home: &Utf8Path) -> Option<Utf8PathBuf> {
        Some(home.join("lib"))
    }

    fn pid_files(&self) -> &'static [&'static str] {
        &["run/observer.pid"]
    }

    fn sockets(&self) -> &'static [&'static str] {
        &["run/sql.sock", "run/mysql.sock"]
    }

    fn log_file(&self) -> &'static str {
        "log/observer.log"
    }

    fn data_marks(&self) -> &'static [&'static str] {
        &CONFIG_FILES
    }

    /// Any of its configuration files will do.
    fn lasting_files(&self) -> &'static [&'static str] {
        &[]
    }

    fn ports(&self, home: &Utf8Path, options: &Options) -> Vec<(&'static str, u16)> {
        let saved = saved_config(home);
        [("mysql_port", DEFAULT_SQL_PORT), ("rpc_port", DEFAULT_RPC_PORT)]
            .map(|(key, default)| {
                let saved = saved.as_deref().and_then(|bytes| saved_value(bytes, key)?.parse().ok());
                (key, saved.or_else(|| engine::port(options, key)).unwrap_or(default))
            })
            .to_vec()
    }

    /// `sstable`, `clog` and `slog` must be there before it starts; it does not make them (§4).
    fn places(&self, home: &Utf8Path, options: &Options) -> Places {
        let store = home.join("store");
        let dir =
            |key: &str, default: Utf8PathBuf| option(options, key).map_or(default, |dir| home.join(dir));
        let data = dir("data_dir", store.clone());
        let redo = dir("redo_dir", data.clone());
        let clog = dir("clog_dir", redo.join("clog"));
        let slog = dir("slog_dir", data.join("slog"));
        let mut places = Places::default();
        for path in [&data, &redo, &clog, &slog, &data.join("sstable")] {
            if !places.data.contains(path) {
                places.data.push(path.clone());
            }
        }
        for (at, target) in [(store, &data), (data.join("clog"), &clog), (data.join("slog"), &slog)] {
            if at != *target {
                places.links.push((at, target.clone()));
            }
        }
        for file in CONFIG_FILES {
            places.traces.extend(["", ".history", ".tmp"].map(|suffix| home.join(format!("{file}{suffix}"))));
        }
        places.kept = ["etc", "log", "run"].map(|dir| home.join(dir)).to_vec();
        places
    }

    fn path_problem(&self, _path: &Utf8Path) -> Option<String> {
        None
    }

    fn needs(&self, home: &Utf8Path, options: &Options) -> Vec<Need> {
        let places = self.places(home, options);
        let data = places.data.first().cloned().unwrap_or_else(|| home.join("store"));
        let redo = option(options, "clog_dir")
            .or_else(|| option(options, "redo_dir"))
            .map_or_else(|| data.clone(), |dir| home.join(dir));
        // Without these options it takes a share of whatever disk it finds, so nothing can be too large.
        [("datafile_size", data), ("log_disk_size", redo)]
            .into_iter()
            .filter_map(|(key, at)| {
                Some(Need { at, bytes: size_option(options, key)?, because: key.to_owned() })
            })
            .collect()
    }

    fn option_problems(&self, _options: &Options) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Its log tells when it serves, but an empty server that waits for its cluster is not in use.
    fn ready_words(&self) -> &'static [&'static str] {
        &["observer start service"]
    }

    /// Log streams of the sys tenant appear when it is bootstrapped or added to a cluster.
    fn was_in_use(&self, home: &Utf8Path, log: &LifeLog) -> bool {
        let tenant = home.join("store/clog/tenant_1");
        log.was_ready || std::fs::read_dir(tenant).is_ok_and(|mut entries| entries.next().is_some())
    }

    fn listening_is_ready(&self) -> bool {
        false
    }

    fn data_version(&self, _home: &Utf8Path) -> Option<String> {
        None
    }
}

fn is_item(key: &str) -> bool {
    !ARGUMENTS.iter().any(|(name, _)| *name == key)
        && !DIRECTORIES.contains(&key)
        && !NEVER_PASSED.contains(&key)
}

fn saved_config(home: &Utf8Path) -> Option<Vec<u8>> {
    CONFIG_FILES.iter().find_map(|file| std::fs::read(home.join(file)).ok())
}

/// `key=value` lines after a binary head; what is not text is no obstacle (W18).
fn saved_value(bytes: &[u8], key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    text.split(['\n', '\0']).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        // The first line may follow the head without a line end.
        let is_it = name == key || name.strip_suffix(key).is_some_and(|head| !head.ends_with(is_name_char));
        is_it.then(|| value.trim().to_owned())
    })
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn home() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    #[test]
    fn golden_first_start() {
        let all = options(&[
            ("memory_limit", "8G"),
            ("rootservice_list", "10.0.0.1:2882:2881;10.0.0.2:2882:2881"),
            ("zone", "z1"),
            ("mysql_port", "2881"),
            ("rpc_port", "2882"),
            ("cluster", "demo's"),
            ("cluster_id", "1"),
            ("data_dir", "/data/store dir"),
            ("clog_dir", "/redo/clog"),
            ("syslog_level", "INFO"),
            ("devname", "eth0"),
            ("local_ip", "fd00::1"),
            ("datafile_size", "20G"),
            ("rootPwd", "secret"),
        ]);
        let arguments = Observer.arguments(Utf8Path::new("/h"), &all, true).unwrap();
        let expected = [
            ["-n", "demo's"],
            ["-c", "1"],
            ["-d", "/data/store dir"],
            ["-z", "z1"],
            ["-i", "eth0"],
            ["-I", "fd00::1"],
            ["-p", "2881"],
            ["-P", "2882"],
            ["-l", "INFO"],
            ["-r", "10.0.0.1:2882:2881;10.0.0.2:2882:2881"],
        ];
        let mut expected: Vec<&str> = expected.concat();
        expected.extend(["--ipv6", "-o", "datafile_size=20G,memory_limit=8G"]);
        assert_eq!(arguments, expected);
    }

    #[test]
    fn golden_later_start_passes_nothing() {
        let all = options(&[("mysql_port", "2881"), ("memory_limit", "8G")]);
        assert_eq!(Observer.arguments(Utf8Path::new("/h"), &all, false).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_the_command_line_cannot_carry_is_refused_by_name() {
        for (key, value) in [("config_additional_dir", "a,b"), ("bad key", "1")] {
            let why = Observer.arguments(Utf8Path::new("/h"), &options(&[(key, value)]), true).unwrap_err();
            assert!(why.contains(key), "{why}");
        }
    }

    #[test]
    fn directories_are_linked_where_the_engine_looks_for_them() {
        let places =
            Observer.places(Utf8Path::new("/h"), &options(&[("data_dir", "/d"), ("redo_dir", "/r")]));
        assert_eq!(places.data, ["/d", "/r", "/r/clog", "/d/slog", "/d/sstable"]);
        let links: Vec<_> = places.links.iter().map(|(at, to)| (at.as_str(), to.as_str())).collect();
        assert_eq!(links, [("/h/store", "/d"), ("/d/clog", "/r/clog")]);
        let plain = Observer.places(Utf8Path::new("/h"), &Options::new());
        assert_eq!(plain.data, ["/h/store", "/h/store/clog", "/h/store/slog", "/h/store/sstable"]);
        assert_eq!(plain.links, []);
        assert!(plain.traces.contains(&Utf8PathBuf::from("/h/etc/observer.config.bin.history")));
    }

    #[test]
    fn ports_come_from_the_saved_configuration_then_the_options_then_the_default() {
        let (_guard, home) = home();
        let given = options(&[("mysql_port", "4001")]);
        assert_eq!(Observer.ports(&home, &given), [("mysql_port", 4001), ("rpc_port", 2882)]);
        files::create_dirs(&home.join("etc2"), 0o755).unwrap();
        let saved = b"\x0a\xff\x00\x01mysql_port=5001\nmy_rpc_port=1\nrpc_port=5002\nx\xfe=\n";
        files::write_atomic(&home.join("etc2/observer.conf.bin"), saved, 0o640).unwrap();
        assert_eq!(Observer.ports(&home, &given), [("mysql_port", 5001), ("rpc_port", 5002)]);
    }

    #[test]
    fn a_server_with_log_streams_of_the_sys_tenant_is_in_use() {
        let (_guard, home) = home();
        files::create_dirs(&home.join("store/clog/tenant_1"), 0o755).unwrap();
        assert!(!Observer.was_in_use(&home, &LifeLog::default()));
        files::create_dirs(&home.join("store/clog/tenant_1/1"), 0o755).unwrap();
        assert!(Observer.was_in_use(&home, &LifeLog::default()));
    }
}

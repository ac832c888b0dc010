//! The single-node engine (`seekdb-engine.md`).
//!
//! Not here: the differences of versions before 1.3, whose executable was called `observer`; only the names under
//! which such a process would be found.

use camino::{Utf8Path, Utf8PathBuf};

use super::engine::{self, Engine, NEVER_PASSED, Need, Options, Places, option, size_option};
use super::log::LifeLog;

/// See the module.
#[derive(Debug)]
pub(super) struct Seekdb;

/// Options that are arguments of their own, in the order of the command line.
const ARGUMENTS: [(&str, &str); 3] =
    [("mysql_port", "--port"), ("data_dir", "--data-dir"), ("redo_dir", "--redo-dir")];

/// Keys of a cluster member, and directories that this engine does not split.
const NOT_FOR_SEEKDB: [&str; 10] = [
    "rpc_port",
    "cluster",
    "cluster_id",
    "zone",
    "local_ip",
    "devname",
    "rootservice_list",
    "clog_dir",
    "slog_dir",
    "home_path",
];

/// Data, log and system tables of a fresh instance with default sizes: measured 167 MB, and with 600 MB free the
/// start fails (§4, §6).
const DEFAULT_NEED_BYTES: u64 = 700 << 20;

impl Engine for Seekdb {
    fn name(&self) -> &'static str {
        "seekdb"
    }

    fn process_names(&self) -> &'static [&'static str] {
        &["seekdb", "observer"]
    }

    /// `--port` may be repeated and follows the configuration. The level of the log must be repeated: a start without
    /// it sets EDIAG (§10). Everything else is remembered by the engine from its first start.
    fn arguments(&self, home: &Utf8Path, options: &Options, is_first: bool) -> Result<Vec<String>, String> {
        let mut arguments = vec!["--base-dir".to_owned(), home.to_string()];
        for (key, argument) in ARGUMENTS {
            let is_wanted = is_first || key == "mysql_port";
            if let Some(value) = option(options, key).filter(|_| is_wanted) {
                arguments.extend([argument.to_owned(), value.to_owned()]);
            }
        }
        if let Some(level) = option(options, "syslog_level") {
            arguments.extend(["--log-level".to_owned(), level.to_ascii_uppercase()]);
        }
        if is_first {
            for (key, value) in options.iter().filter(|(key, value)| is_parameter(key) && !value.is_empty()) {
                if !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || key.is_empty() {
                    return Err(format!("'{key}' is not the name of a parameter"));
                }
                arguments.extend(["--parameter".to_owned(), format!("{key}={value}")]);
            }
        }
        Ok(arguments)
    }

    /// Its RUNPATH is its own directory.
    fn library_dir(&self, _home: &Utf8Path) -> Option<Utf8PathBuf> {
        None
    }

    fn pid_files(&self) -> &'static [&'static str] {
        &["run/seekdb.pid", "run/observer.pid"]
    }

    fn sockets(&self) -> &'static [&'static str] {
        &["run/sql.sock"]
    }

    fn log_file(&self) -> &'static str {
        "log/seekdb.log"
    }

    fn data_marks(&self) -> &'static [&'static str] {
        &["etc/seekdb.data_version.bin", "store/sstable/meta.db"]
    }

    fn lasting_files(&self) -> &'static [&'static str] {
        self.data_marks()
    }

    fn ports(&self, _home: &Utf8Path, options: &Options) -> Vec<(&'static str, u16)> {
        engine::port(options, "mysql_port").map(|port| ("mysql_port", port)).into_iter().collect()
    }

    /// `store` is used by the engine even where the data lies elsewhere: `meta.db` stays there.
    fn places(&self, home: &Utf8Path, options: &Options) -> Places {
        let mut data = vec![home.join("store")];
        for key in ["data_dir", "redo_dir"] {
            if let Some(dir) =
                option(options, key).map(|dir| home.join(dir)).filter(|dir| !data.contains(dir))
            {
                data.push(dir);
            }
        }
        Places {
            data,
            links: Vec::new(),
            traces: vec![home.join("etc/seekdb.data_version.bin")],
            kept: ["etc", "log", "run"].map(|dir| home.join(dir)).to_vec(),
        }
    }

    /// At every start it clears away what has `.tmp` in its path as left over, its own redo log included: the first
    /// start works and no later one does (measured with 1.4.0.0 for home, data and redo directory). It prints its home
    /// as a format: `%s` in it is a segmentation fault of the launcher (measured with 1.4.0.0).
    fn path_problem(&self, path: &Utf8Path) -> Option<String> {
        if path.as_str().contains(".tmp") {
            let why = "the engine takes everything below such a path for left-over files, so that no later start works";
            return Some(format!("{path} contains \".tmp\", and {why}"));
        }
        path.as_str()
            .contains('%')
            .then(|| format!("{path} contains \"%\", which the engine takes for a format and may crash on"))
    }

    fn needs(&self, home: &Utf8Path, options: &Options) -> Vec<Need> {
        let data = option(options, "data_dir").map_or_else(|| home.join("store"), |dir| home.join(dir));
        let redo = option(options, "redo_dir").map_or_else(|| data.join("redo"), |dir| home.join(dir));
        let mut needs = vec![Need {
            at: data.clone(),
            bytes: DEFAULT_NEED_BYTES,
            because: "a fresh instance".to_owned(),
        }];
        for (key, at) in [("datafile_size", data), ("log_disk_size", redo)] {
            if let Some(bytes) = size_option(options, key) {
                needs.push(Need { at, bytes, because: key.to_owned() });
            }
        }
        needs
    }

    /// 256M, 512M and 1G were refused, 2G was taken (§3); what lies between is for the engine to say.
    fn option_problems(&self, options: &Options) -> Vec<(&'static str, String)> {
        let too_small = size_option(options, "log_disk_size").filter(|bytes| (1..=1 << 30).contains(bytes));
        let value = option(options, "log_disk_size").unwrap_or_default();
        too_small
            .map(|_| {
                ("log-disk-too-small", format!("log_disk_size is {value}; the engine refuses 1G and less"))
            })
            .into_iter()
            .collect()
    }

    fn ready_words(&self) -> &'static [&'static str] {
        &["observer start success", "observer start service"]
    }

    fn was_in_use(&self, _home: &Utf8Path, log: &LifeLog) -> bool {
        log.was_ready
    }

    fn listening_is_ready(&self) -> bool {
        true
    }

    /// The file ends in text such as `1.4.0.0 4295229440`.
    fn data_version(&self, home: &Utf8Path) -> Option<String> {
        let bytes = std::fs::read(home.join("etc/seekdb.data_version.bin")).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let is_version = |word: &&str| {
            word.matches('.').count() == 3 && word.split('.').all(|part| part.parse::<u32>().is_ok())
        };
        text.split(|c: char| !c.is_ascii_digit() && c != '.').find(is_version).map(str::to_owned)
    }
}

fn is_parameter(key: &str) -> bool {
    key != "syslog_level"
        && !ARGUMENTS.iter().any(|(name, _)| *name == key)
        && !NOT_FOR_SEEKDB.contains(&key)
        && !NEVER_PASSED.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn line(options: &Options, is_first: bool) -> String {
        Seekdb.arguments(Utf8Path::new("/data/one"), options, is_first).unwrap().join(" ")
    }

    #[test]
    fn golden_first_start() {
        let all = options(&[
            ("syslog_level", "error"),
            ("redo_dir", "/redo"),
            ("zone", "z1"),
            ("log_disk_size", "2G"),
            ("mysql_port", "33001"),
            ("cluster", "c"),
            ("cluster_id", "1"),
            ("datafile_size", "2G"),
            ("data_dir", "/data/files"),
            ("rpc_port", "2882"),
            ("rootservice_list", "x"),
            ("local_ip", "10.0.0.1"),
            ("rootPwd", "secret"),
            ("cpu_count", ""),
        ]);
        assert_eq!(
            line(&all, true),
            "--base-dir /data/one --port 33001 --data-dir /data/files --redo-dir /redo --log-level ERROR \
             --parameter datafile_size=2G --parameter log_disk_size=2G"
        );
        assert_eq!(line(&Options::new(), true), "--base-dir /data/one");
    }

    #[test]
    fn golden_later_start_repeats_only_what_the_engine_would_forget() {
        let all = options(&[
            ("mysql_port", "33001"),
            ("data_dir", "/d"),
            ("syslog_level", "INFO"),
            ("cpu_count", "2"),
        ]);
        assert_eq!(line(&all, false), "--base-dir /data/one --port 33001 --log-level INFO");
    }

    #[test]
    fn a_key_that_is_no_name_is_refused() {
        let bad = options(&[("a=b --x", "1")]);
        let why = Seekdb.arguments(Utf8Path::new("/h"), &bad, true).unwrap_err();
        assert!(why.contains("a=b --x"), "{why}");
    }

    #[test]
    fn the_data_says_who_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(Seekdb.data_version(home), None);
        crate::host::files::create_dirs(&home.join("etc"), 0o755).unwrap();
        let path = home.join("etc/seekdb.data_version.bin");
        for content in
            [&b"\x02z\x14\xff\xe21.4.0.0 4295229440\n"[..], b"\x00 1.4.0.0 4295229440", b"\x001.4.0.0"]
        {
            crate::host::files::write_atomic(&path, content, 0o640).unwrap();
            assert_eq!(Seekdb.data_version(home).as_deref(), Some("1.4.0.0"));
        }
    }

    #[test]
    fn places_and_needs_follow_the_directories() {
        let home = Utf8Path::new("/h");
        let places = Seekdb.places(home, &options(&[("data_dir", "/d"), ("redo_dir", "/d")]));
        assert_eq!(places.data, ["/h/store", "/d"]);
        assert!(places.kept.contains(&Utf8PathBuf::from("/h/log")), "logs are never removed");
        let needs = Seekdb
            .needs(home, &options(&[("datafile_size", "2G"), ("redo_dir", "/r"), ("log_disk_size", "3G")]));
        let seen: Vec<_> = needs.iter().map(|n| (n.at.as_str(), n.bytes >> 20)).collect();
        assert_eq!(seen, [("/h/store", 700), ("/h/store", 2048), ("/r", 3072)]);
    }
}

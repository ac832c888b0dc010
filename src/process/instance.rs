//! One home with its engine: the paths and settings that everything in this room shares.
//!
//! Not here: anything that changes. What runs there is asked each time (`find`).

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::Mutex;

use super::command::{Invocation, Ran, RunError, environment};
use super::engine::{self, Engine, Options};
use super::identity::Expected;
use super::layout::FirstStart;
use super::record::Record;
use crate::config::{EngineKind, STATE_DIR};
use crate::host::{disk, ports};
use crate::model::Exit;

/// `-V` takes 0.35 s; on a host that swaps it may take longer, and then a start would, too.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// What the agent's configuration says about the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub kind: EngineKind,
    /// Absolute.
    pub binary: Utf8PathBuf,
    /// Absolute.
    pub home: Utf8PathBuf,
    /// Must be left on the data disk beyond what the configured sizes need.
    pub disk_reserve_bytes: u64,
    /// Put a started process into a systemd scope of its own, where that is possible.
    pub has_systemd_scope: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub settings: Settings,
    pub engine: &'static dyn Engine,
    /// `TZ` of the agent, which the engine gets too.
    pub time_zone: Option<String>,
    /// Shared by everybody who asks the executable.
    said: Arc<Mutex<Option<Said>>>,
}

impl Instance {
    pub(super) fn new(settings: Settings) -> Self {
        let engine = engine::of(settings.kind);
        Self { settings, engine, time_zone: std::env::var("TZ").ok(), said: Arc::default() }
    }

    pub(super) fn home(&self) -> &Utf8Path {
        &self.settings.home
    }

    pub(super) fn state_dir(&self) -> Utf8PathBuf {
        self.home().join(STATE_DIR)
    }

    pub(super) fn log_path(&self) -> Utf8PathBuf {
        self.home().join(self.engine.log_file())
    }

    pub(super) fn pid_files(&self) -> Vec<Utf8PathBuf> {
        self.engine.pid_files().iter().map(|file| self.home().join(file)).collect()
    }

    pub(super) fn sockets(&self) -> Vec<Utf8PathBuf> {
        self.engine.sockets().iter().map(|file| self.home().join(file)).collect()
    }

    pub(super) fn expected(&self) -> Expected {
        Expected {
            binary: self.settings.binary.clone(),
            home: self.settings.home.clone(),
            names: self.engine.process_names(),
        }
    }

    /// The engine was started here at least once, by whomever.
    pub(super) fn has_data(&self) -> bool {
        self.engine.data_marks().iter().any(|mark| self.home().join(mark).exists())
    }

    /// It was, and no first start of ours is open.
    pub(super) fn is_initialised(&self) -> bool {
        self.has_data() && !FirstStart::is_marked(&self.state_dir())
    }

    /// What was given now over what was given at the last start.
    pub(super) fn known_options(&self, given: &Options) -> Options {
        let mut options = Record::load(&self.state_dir()).map(|record| record.options).unwrap_or_default();
        options.extend(given.iter().map(|(key, value)| (key.clone(), value.clone())));
        options
    }

    /// The port on which `pid` speaks SQL.
    pub(super) fn sql_port(&self, pid: i32) -> Option<u16> {
        let configured = self.engine.ports(self.home(), &self.known_options(&Options::new()));
        sql_port_of(&ports::listened_by(pid), &configured)
    }

    /// Who else listens on the ports of this instance, in words.
    pub(super) fn taken_ports(&self, options: &Options, own_pid: Option<i32>) -> Vec<String> {
        let mut taken = Vec::new();
        for (key, port) in self.engine.ports(self.home(), options) {
            for listener in ports::listeners(port) {
                let is_own = own_pid.is_some() && listener.owner.as_ref().map(|o| o.pid) == own_pid;
                if !is_own {
                    taken.push(format!("{key} {port} is taken: {listener}"));
                }
            }
        }
        taken
    }

    /// Why this engine cannot live in the places that it is given.
    pub(super) fn path_problem(&self, options: &Options) -> Option<String> {
        let places = self.engine.places(self.home(), options);
        places.data.iter().find_map(|path| self.engine.path_problem(path))
    }

    /// Why a first start with these options cannot work on this host, under the names of known causes. The engine's log
    /// often loses its last lines, and with them the reason.
    pub(super) fn misfits(&self, options: &Options) -> Vec<(&'static str, String)> {
        let mut found = self.engine.option_problems(options);
        for need in self.engine.needs(self.home(), options) {
            let Ok(space) = disk::space(&need.at) else { continue };
            if need.bytes > space.free_bytes {
                let name =
                    if need.because == "log_disk_size" { "log-disk-does-not-fit" } else { "disk-full" };
                let (wanted, free) = (disk::human(need.bytes), disk::human(space.free_bytes));
                found.push((
                    name,
                    format!("{} needs {wanted} at {}, where {free} are free", need.because, need.at),
                ));
            }
        }
        found
    }

    /// The engine with these arguments, in its home, with its environment.
    pub(super) fn invocation(&self, arguments: Vec<String>) -> Invocation {
        let library_dir = self.engine.library_dir(self.home());
        Invocation {
            program: self.settings.binary.clone(),
            arguments,
            environment: environment(self.home(), library_dir, self.time_zone.as_deref()),
            directory: self.home().to_owned(),
        }
    }

    /// What the executable says of itself (`-V`): the check that it runs at all, and its version. A file that said it
    /// once is asked again when it is another file: a start must not pay for this every time.
    ///
    /// # Errors
    /// Why it does not run.
    pub(super) async fn version(&self) -> Result<Vec<String>, RunError> {
        let now = FileMark::of(&self.settings.binary);
        // Held while it runs: whoever asks meanwhile gets the same answer.
        let mut said = self.said.lock().await;
        if let Some(said) = said.as_ref().filter(|said| now.as_ref() == Some(&said.by)) {
            return Ok(said.text.clone());
        }
        let ran = self.run_version().await?;
        if ran.exit != Exit::Code(0) {
            return Ok([vec![format!("-V {}", ran.exit)], ran.output].concat());
        }
        let is_version = dotted_version(&ran.output).is_some();
        *said = now.filter(|_| is_version).map(|by| Said { by, text: ran.output.clone() });
        Ok(ran.output)
    }

    /// It runs outside the home, so that nobody takes it for the database.
    async fn run_version(&self) -> Result<Ran, RunError> {
        let mut invocation = self.invocation(vec!["-V".to_owned()]);
        invocation.directory = "/".into();
        invocation.run(VERSION_LIMIT).await
    }
}

/// What the executable has said of itself, and which file it was.
#[derive(Clone, Debug)]
struct Said {
    by: FileMark,
    text: Vec<String>,
}

/// Tells whether a file is still the one that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileMark {
    place: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
    mode: u32,
}

impl FileMark {
    fn of(path: &Utf8Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            place: (found.dev(), found.ino()),
            bytes: found.len(),
            // The change time follows every replacement and every write; nobody sets it back.
            changed: (found.ctime(), found.ctime_nsec()),
            mode: found.mode(),
        })
    }
}

/// `1.4.0.0` in the text of `-V`, between brackets after the product's name.
pub(super) fn dotted_version(text: &[String]) -> Option<String> {
    text.iter().find_map(|line| {
        let (_, inside) = line.split_once("(OceanBase")?;
        let words = inside.split(')').next()?.split(|c: char| c.is_whitespace() || c == '-');
        words
            .map(|word| word.trim_start_matches('v'))
            .find(|word| word.matches('.').count() == 3 && word.starts_with(|c: char| c.is_ascii_digit()))
            .map(str::to_owned)
    })
}

/// The configured port when it is listened on, else the only one that is and that is not configured for something else: a server
/// that starts may listen for its like before it does for clients.
fn sql_port_of(listened: &[u16], configured: &[(&str, u16)]) -> Option<u16> {
    let is_for = |is_sql: bool, port: u16| {
        configured.iter().any(|(key, known)| (*key == "mysql_port") == is_sql && *known == port)
    };
    let known = listened.iter().copied().find(|port| is_for(true, *port));
    let mut others = listened.iter().copied().filter(|port| !is_for(false, *port));
    let only = others.next().filter(|_| others.next().is_none());
    known.or(only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files;

    /// A start must not pay for `-V` each time, and must see that the executable is another one.
    #[tokio::test]
    async fn an_executable_is_asked_once_and_again_when_it_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let program = |version: &str| {
            let text =
                format!("#!/bin/sh\necho x >> {dir}/asked\necho 'seekdb (OceanBase seekdb {version})'\n");
            files::write_atomic(&dir.join("seekdb"), text.as_bytes(), 0o755).unwrap();
        };
        program("1.4.0.0");
        let instance = Instance::new(Settings {
            kind: EngineKind::Seekdb,
            binary: dir.join("seekdb"),
            home: dir.join("home"),
            disk_reserve_bytes: 0,
            has_systemd_scope: false,
        });
        let other = instance.clone();
        let asked = || std::fs::read_to_string(dir.join("asked")).unwrap().lines().count();
        let (one, two) = tokio::join!(instance.version(), other.version());
        assert_eq!(dotted_version(&one.unwrap()), dotted_version(&two.unwrap()));
        assert_eq!(asked(), 1);
        program("1.5.0.0");
        assert_eq!(dotted_version(&instance.version().await.unwrap()).as_deref(), Some("1.5.0.0"));
        assert_eq!(asked(), 2);
    }

    #[test]
    fn versions_are_read_from_either_engine() {
        let version = |text: &str| dotted_version(&[text.to_owned()]);
        assert_eq!(version("seekdb (OceanBase seekdb 1.4.0.0)").as_deref(), Some("1.4.0.0"));
        assert_eq!(version("observer (OceanBase_CE 4.3.5.1)").as_deref(), Some("4.3.5.1"));
        assert_eq!(version("observer (OceanBase 4.2.1.8-rc)").as_deref(), Some("4.2.1.8"));
        assert_eq!(version("REVISION: 1-d0cbdf0e"), None);
    }

    #[test]
    fn the_port_of_sql_is_no_port_of_something_else() {
        let configured = [("mysql_port", 2881), ("rpc_port", 2882)];
        for (listened, port) in [
            (&[2882, 2881][..], Some(2881)),
            (&[2881], Some(2881)),
            // It has only begun.
            (&[2882], None),
            // It was told another one by hand.
            (&[2882, 4001], Some(4001)),
            (&[4001], Some(4001)),
            (&[4001, 4002], None),
            (&[], None),
        ] {
            assert_eq!(sql_port_of(listened, &configured), port, "{listened:?}");
        }
    }
}

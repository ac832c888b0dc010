//! A home in a temporary directory with a [`Control`] on it; whatever runs there is killed when it is dropped.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock;
use crate::config::EngineKind;
use crate::error::Error;
use crate::flow::ports::{Process as _, Progress};
use crate::host::ports::free::free_port;
use crate::host::{disk, files};
use crate::model::{Cause, Diagnosis, Launch, ServerProcess};
use crate::process::find::{self, Look};
use crate::process::instance::Instance;
use crate::process::{Control, Settings};
use crate::tasks::Tasks;

/// Every wait of a test ends.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Real engines at a time: two cores.
static ENGINES: Semaphore = Semaphore::const_new(3);

pub(super) struct Rig {
    pub home: Utf8PathBuf,
    pub port: u16,
    pub settings: Settings,
    pub control: Control,
    pub notes: Notes,
    _permit: Option<SemaphorePermit<'static>>,
    _dir: tempfile::TempDir,
}

/// What the task's log would show.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Vec<String>>>);

impl Progress for Notes {
    fn info(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn warn(&self, text: &str) {
        self.0.lock().unwrap().push(format!("WARN {text}"));
    }
}

impl Notes {
    pub(super) fn has(&self, part: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

/// The real engine.
pub(super) fn engine() -> Utf8PathBuf {
    let path = std::env::var("OBPILOT_TEST_ENGINE").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/build/engine/pylibseekdb/seekdb").to_owned()
    });
    assert!(
        Utf8Path::new(&path).is_file(),
        "{path} is missing: these tests need a real seekdb. Set OBPILOT_TEST_ENGINE, or: \
         pip install --no-deps --target build/engine pylibseekdb==1.4.0.post1"
    );
    Utf8Path::new(&path).canonicalize_utf8().unwrap()
}

impl Rig {
    /// With the real engine.
    pub(super) async fn real() -> Self {
        let permit = ENGINES.acquire().await.unwrap();
        Self::build(engine(), Some(permit), "home")
    }

    /// With the real engine, in a home of this name.
    pub(super) async fn real_in(name: &str) -> Self {
        let permit = ENGINES.acquire().await.unwrap();
        Self::build(engine(), Some(permit), name)
    }

    /// With any other executable.
    pub(super) fn with(binary: Utf8PathBuf) -> Self {
        Self::build(binary, None, "home")
    }

    fn build(binary: Utf8PathBuf, permit: Option<SemaphorePermit<'static>>, name: &str) -> Self {
        // Not the default prefix: it is `.tmp`, and the engine cannot live under that.
        let dir = tempfile::Builder::new().prefix("obpilot-").tempdir().unwrap();
        let home = Utf8Path::from_path(dir.path()).unwrap().canonicalize_utf8().unwrap().join(name);
        let settings = Settings {
            kind: EngineKind::Seekdb,
            binary,
            home: home.clone(),
            disk_reserve_bytes: 1 << 20,
            has_systemd_scope: false,
        };
        let control = control(&settings);
        Self {
            home,
            port: free_port(),
            settings,
            control,
            notes: Notes::default(),
            _permit: permit,
            _dir: dir,
        }
    }

    /// What a restarted agent has: nothing but the files.
    pub(super) fn restarted_agent(&self) -> Control {
        control(&self.settings)
    }

    pub(super) fn launch(&self, is_first: bool, more: &[(&str, &str)]) -> Launch {
        let mut options: std::collections::BTreeMap<_, _> =
            more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        options.insert("mysql_port".to_owned(), self.port.to_string());
        options.insert("syslog_level".to_owned(), "ERROR".to_owned());
        Launch { is_first, options }
    }

    pub(super) async fn spawn(&self, launch: &Launch) -> Result<ServerProcess, Error> {
        within(self.control.spawn(launch, &self.notes)).await
    }

    pub(super) async fn ready(&self, server: &ServerProcess) -> Result<(), Error> {
        within(self.control.ready(server, &self.notes)).await
    }

    /// A first start that has become ready.
    pub(super) async fn started(&self) -> ServerProcess {
        let server = self.spawn(&self.launch(true, &[])).await.unwrap();
        self.ready(&server).await.unwrap();
        server
    }

    /// How a start fails, wherever it does.
    pub(super) async fn failure(&self, launch: &Launch) -> Diagnosis {
        let error = match self.spawn(launch).await {
            Ok(server) => self.ready(&server).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code, crate::error::Code::StartFailed, "{error}");
        serde_json::from_value(error.diagnosis().expect("a failed start explains itself").clone()).unwrap()
    }

    /// The marker of an unfinished first start, as `prepare` would have written it.
    pub(super) fn mark_first_start(&self) {
        let store = self.home.join("store");
        let text = format!(r#"{{"owned":[{{"path":"{store}","claim":"made"}}]}}"#);
        files::write_atomic(&self.home.join(".obpilot/first-start.json"), text.as_bytes(), 0o600).unwrap();
    }

    pub(super) fn has(&self, path: &str) -> bool {
        std::fs::symlink_metadata(self.home.join(path)).is_ok()
    }

    /// A size that no file of this disk can have.
    pub(super) fn too_large(&self) -> String {
        format!("{}G", (disk::space(&self.home).unwrap().total_bytes >> 30) + 100)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let instance = Instance::new(self.settings.clone());
        if let Look::Running(ident) = find::look(&instance.expected(), &instance.pid_files()) {
            signal(ident.pid, Signal::KILL);
            wait_dead(ident.pid);
        }
    }
}

fn control(settings: &Settings) -> Control {
    let (tasks, _failures) = Tasks::new();
    Control::new(settings.clone(), clock::system(), tasks)
}

pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it ends in time")
}

/// As somebody outside would.
pub(super) fn signal(pid: i32, signal: Signal) {
    if let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) {
        pidfd_send_signal(pidfd, signal).unwrap();
    }
}

fn wait_dead(pid: i32) {
    let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { return };
    let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
    // Other tests of this process have children, whose ends interrupt whoever waits.
    retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit))).unwrap();
}

pub(super) fn is_alive(pid: i32) -> bool {
    procfs::process::Process::new(pid).and_then(|p| p.stat()).is_ok_and(|stat| stat.state != 'Z')
}

pub(super) fn names(causes: &[Cause]) -> Vec<&str> {
    causes.iter().map(|cause| cause.name.as_str()).collect()
}

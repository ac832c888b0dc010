//! The same amounts of the same work, done bare: what no orchestration can be quicker than on this machine.
//!
//! Process starts first, all at once as an operation starts them; then every agent's commits and messages, one after another for
//! each agent, all agents at once. An operation can do some of that side by side, and this does, too: it has as many threads as
//! there are agents.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rusqlite::Connection;

use crate::rig::Cluster;

/// A server that is there: its SQL port takes connections.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Bytes of a message and of its answer: about what agents say to each other.
const MESSAGE: usize = 1_024;

/// How one agent's server is started, as it was found running.
#[derive(Debug)]
pub(crate) struct Launch {
    executable: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    listens: (String, u16),
}

impl Launch {
    /// Of every server of a cluster that runs.
    pub(crate) fn all_of(cluster: &Cluster) -> Vec<Self> {
        let of = |home: &crate::rig::Home| {
            let process = PathBuf::from(format!("/proc/{}", home.database()));
            let parts = |name: &str| -> Vec<String> {
                let bytes = std::fs::read(process.join(name)).unwrap();
                let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
                parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
            };
            let pair =
                |text: String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            Self {
                executable: std::fs::read_link(process.join("exe")).unwrap(),
                arguments: parts("cmdline").into_iter().skip(1).collect(),
                environment: parts("environ").into_iter().filter_map(pair).collect(),
                folder: std::fs::read_link(process.join("cwd")).unwrap(),
                listens: (home.ip.clone(), home.mysql_port),
            }
        };
        cluster.homes.iter().map(of).collect()
    }

    fn start(&self) {
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments).current_dir(&self.folder).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // It becomes a daemon: what is waited for is the parent.
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "{self:?} starts");
    }

    fn until_it_listens(&self) {
        let begun = Instant::now();
        let (ip, port) = &self.listens;
        while TcpStream::connect((ip.as_str(), *port)).is_err() {
            assert!(begun.elapsed() < START_LIMIT, "{self:?} listens");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Starts them all at once; returns when every one listens.
pub(crate) fn starts(launches: &[Launch]) -> Duration {
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for launch in launches {
            scope.spawn(|| {
                launch.start();
                launch.until_it_listens();
            });
        }
    });
    begun.elapsed()
}

/// What one agent has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) commits: u64,
    pub(crate) messages: u64,
}

/// Does the work of all agents, each in a file of its own in this folder.
pub(crate) fn work(folder: &Path, agents: &[Work]) -> Duration {
    let files: Vec<_> = (0..agents.len()).map(|number| Bare::open(folder, number)).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (bare, work) in files.into_iter().zip(agents) {
            scope.spawn(move || bare.does(*work));
        }
    });
    begun.elapsed()
}

/// A store and a line to somebody who answers, and nothing else.
struct Bare {
    store: Connection,
    line: TcpStream,
}

impl Bare {
    fn open(folder: &Path, number: usize) -> Self {
        let store = Connection::open(folder.join(format!("bare-{number}.db"))).unwrap();
        store.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        store.pragma_update(None, "synchronous", "FULL").unwrap();
        store.execute_batch("CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, body TEXT)").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        line.set_nodelay(true).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        other.set_nodelay(true).unwrap();
        std::thread::spawn(move || {
            let mut message = [0; MESSAGE];
            while other.read_exact(&mut message).is_ok() && other.write_all(&message).is_ok() {}
        });
        Self { store, line }
    }

    fn does(mut self, work: Work) {
        let body = "x".repeat(MESSAGE);
        for number in 0..work.commits.max(work.messages) {
            if number < work.commits {
                self.store.execute("INSERT INTO event (body) VALUES (?1)", [&body]).unwrap();
            }
            if number < work.messages {
                let mut message = [0; MESSAGE];
                self.line.write_all(&message).unwrap();
                self.line.read_exact(&mut message).unwrap();
            }
        }
    }
}

/// One commit, one message and answer, and the sealing and opening of both, each alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) commit: Duration,
    pub(crate) message: Duration,
    pub(crate) sealing: Duration,
}

impl Unit {
    pub(crate) fn measured(folder: &Path) -> Self {
        const TIMES: u32 = 300;
        let many = u64::from(TIMES);
        let commit = work(folder, &[Work { commits: many, messages: 0 }]) / TIMES;
        let message = work(folder, &[Work { commits: 0, messages: many }]) / TIMES;
        Self { commit, message, sealing: sealing(TIMES) }
    }
}

/// Both ways, sealed and opened: four operations.
fn sealing(times: u32) -> Duration {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
    let nonce = || Nonce::assume_unique_for_key([0; NONCE_LEN]);
    let begun = Instant::now();
    for _ in 0..2 * times {
        let mut message = vec![0; MESSAGE];
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut message).unwrap();
        key.open_in_place(nonce(), Aad::empty(), &mut message).unwrap();
    }
    begun.elapsed() / times
}

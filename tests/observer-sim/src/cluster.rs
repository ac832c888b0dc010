//! The directory that the servers of one cluster share: state, who lives, who reaches whom.
//!
//! Invariant: `state.json` is replaced whole under an exclusive lock, and only if something changed. Who lives is told by a
//! lock that ends with the process, and by a beat that a stopped process does not write.
//!
//! Not here: what the state means (`rules`).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock;
use crate::journal::Journal;
use crate::refusal::Refusal;
use crate::rules::{self, View};
use crate::settings::hold;
use crate::state::{Addr, Card, State};

/// See the module.
#[derive(Debug)]
pub(crate) struct Cluster {
    dir: PathBuf,
    pub(crate) journal: Journal,
    /// As the journal calls this server.
    name: String,
    written: Mutex<Option<Card>>,
}

/// `network.json`, which tests write: what does not get through between the servers; see [`View`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Network {
    groups: Vec<Vec<Addr>>,
    unheard: Vec<Addr>,
}

/// The locked mark of a live process.
#[derive(Debug)]
pub(crate) struct Mark {
    _lock: Flock<File>,
    beat: File,
}

impl Mark {
    pub(crate) fn beat(&self) {
        // Always as long, so that a reader never meets a half.
        let text = format!("{:020}", clock::boot_ns());
        drop(self.beat.write_all_at(text.as_bytes(), 0));
    }
}

impl Cluster {
    pub(crate) fn open(dir: &Path, own: Addr) -> Result<Self> {
        std::fs::create_dir_all(dir.join("servers")).context("cannot make the cluster's directory")?;
        Ok(Self {
            dir: dir.to_owned(),
            journal: Journal::new(dir),
            name: own.to_string(),
            written: Mutex::default(),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn note(&self, kind: &str, more: Value) {
        self.journal.write(&self.name, kind, more);
    }

    fn file(&self, addr: Addr, end: &str) -> PathBuf {
        let ip = addr.ip().to_string().replace(':', "_");
        self.dir.join("servers").join(format!("{ip}_{}.{end}", addr.port()))
    }

    /// Marks the own process as alive. Whoever looks holds the lock for a moment, so it is tried for a while.
    pub(crate) fn join(&self, own: Addr) -> Result<Mark> {
        let mut file = File::options().create(true).append(true).open(self.file(own, "lock"))?;
        for _ in 0..200 {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    let beat = File::options()
                        .create(true)
                        .truncate(false)
                        .write(true)
                        .open(self.file(own, "beat"))?;
                    let mark = Mark { _lock: lock, beat };
                    mark.beat();
                    return Ok(mark);
                }
                Err((back, Errno::EAGAIN)) => file = back,
                Err((_, error)) => return Err(error).context("cannot lock the mark of life"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        anyhow::bail!("another live process is called {own}")
    }

    /// Tells the others about this process; without a change nothing is written.
    pub(crate) fn publish(&self, own: Addr, card: &Card) -> Result<()> {
        let mut written = hold(&self.written);
        if written.as_ref() == Some(card) {
            return Ok(());
        }
        replace(&self.file(own, "json"), &serde_json::to_vec(card)?)?;
        *written = Some(card.clone());
        Ok(())
    }

    /// Who lives, and the time.
    pub(crate) fn look(&self, factor: f64) -> View {
        let now = clock::boot_ns();
        let mut live = BTreeMap::new();
        for entry in std::fs::read_dir(self.dir.join("servers")).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            if let Some((addr, card)) =
                read_card(&path).filter(|(_, card)| is_alive(&path, card.pid, now, factor))
            {
                live.insert(addr, card);
            }
        }
        let Network { groups, unheard } = self.network();
        View { now, wall: clock::wall_us(), factor, live, groups, unheard }
    }

    fn network(&self) -> Network {
        let bytes = std::fs::read(self.dir.join("network.json")).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn read(&self) -> State {
        let bytes = std::fs::read(self.dir.join("state.json")).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// The state of this moment.
    pub(crate) fn settled(&self, factor: f64) -> Result<(State, View)> {
        let view = self.look(factor);
        let mut state = self.read();
        let before = state.clone();
        rules::settle(&mut state, &view);
        // A process that is stopped while it holds the lock stops all: the lock is taken only if there is something to do.
        if state == before {
            return Ok((state, view));
        }
        self.change(factor, |state, view| Ok((state.clone(), view.clone())))
            .map_err(|why| anyhow::anyhow!(why.text))
    }

    /// Settles and then changes the state; what a refused change did is forgotten.
    pub(crate) fn change<T>(
        &self,
        factor: f64,
        work: impl FnOnce(&mut State, &View) -> std::result::Result<T, Refusal>,
    ) -> std::result::Result<T, Refusal> {
        let _lock = self.lock()?;
        let view = self.look(factor);
        let before = self.read();
        let mut settled = before.clone();
        rules::settle(&mut settled, &view);
        let mut changed = settled.clone();
        let result = work(&mut changed, &view);
        if result.is_ok() {
            rules::settle(&mut changed, &view);
        } else {
            changed = settled;
        }
        if changed != before {
            let bytes = serde_json::to_vec(&changed).context("cannot write the state")?;
            replace(&self.dir.join("state.json"), &bytes)?;
            self.tell(&before, &changed);
        }
        result
    }

    fn lock(&self) -> Result<Flock<File>> {
        let file = File::options().create(true).append(true).open(self.dir.join("lock"))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| error)
            .context("cannot lock the state")
    }

    /// What others would notice of a change.
    fn tell(&self, before: &State, after: &State) {
        let (before, after) = (visible(before), visible(after));
        for (what, now) in &after {
            if before.get(what) != Some(now) {
                self.note("state", json!({ "what": what, "is": now, "was": before.get(what) }));
            }
        }
        for (what, was) in before.iter().filter(|(what, _)| !after.contains_key(*what)) {
            self.note("state", json!({ "what": what, "is": null, "was": was }));
        }
    }
}

fn visible(state: &State) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    all.insert("cluster".to_owned(), if state.is_bootstrapped { "bootstrapped" } else { "empty" }.to_owned());
    for row in &state.servers {
        let serving = if row.start_service_time == 0 { "" } else { " serving" };
        let stopped = if row.stop_time == 0 { "" } else { " stopped" };
        all.insert(format!("server {}", row.addr), format!("{}{serving}{stopped}", row.status.name()));
    }
    for zone in &state.zones {
        all.insert(format!("zone {}", zone.name), zone.status.name().to_owned());
    }
    for stream in &state.streams {
        let leader = stream.leader().map_or_else(|| "none".to_owned(), |addr| addr.to_string());
        all.insert(format!("leader of {}/{}", stream.tenant, stream.id), leader);
    }
    all
}

fn read_card(path: &Path) -> Option<(Addr, Card)> {
    let (ip, port) = path.file_stem()?.to_str()?.rsplit_once('_')?;
    let addr = Addr::new(ip.replace('_', ":").parse().ok()?, port.parse().ok()?);
    let mut card: Card = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    card.has_data = crate::process::has_streams(&card.data_dir);
    Some((addr, card))
}

fn is_alive(card: &Path, pid: u32, now: u64, factor: f64) -> bool {
    let Ok(file) = File::open(card.with_extension("lock")) else { return false };
    // Shared: those who look do not disturb each other.
    if Flock::lock(file, FlockArg::LockSharedNonblock).is_ok() {
        return false;
    }
    // A killed process is dead from the moment that everybody can see it, a little before its lock is.
    if is_zombie(pid) {
        return false;
    }
    let beat = std::fs::read_to_string(card.with_extension("beat")).ok();
    let Some(beat) = beat.and_then(|text| text.trim().parse::<u64>().ok()) else { return false };
    let age = Duration::from_nanos(now.saturating_sub(beat));
    age.as_secs_f64() < f64::max(1.0, 4.0 * factor)
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).with_context(|| format!("cannot write {}", new.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("cannot replace {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Card {
        Card { pid: 1, zone: "z1".to_owned(), ..Card::default() }
    }

    #[test]
    fn a_mark_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let own: Addr = "[::1]:2882".parse().unwrap();
        let cluster = Cluster::open(dir.path(), own).unwrap();
        let mark = cluster.join(own).unwrap();
        cluster.publish(own, &card()).unwrap();
        assert_eq!(cluster.look(0.0).live.keys().collect::<Vec<_>>(), [&own]);
        drop(mark);
        assert!(cluster.look(0.0).live.is_empty());
    }

    #[test]
    fn an_old_beat_is_no_life() {
        let dir = tempfile::tempdir().unwrap();
        let own: Addr = "127.0.0.1:2882".parse().unwrap();
        let cluster = Cluster::open(dir.path(), own).unwrap();
        let mark = cluster.join(own).unwrap();
        cluster.publish(own, &card()).unwrap();
        mark.beat.write_all_at(b"00000000000000000001", 0).unwrap();
        assert!(cluster.look(0.0).live.is_empty());
    }

    #[test]
    fn a_refused_change_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Cluster::open(dir.path(), "127.0.0.1:2882".parse().unwrap()).unwrap();
        let refused = cluster.change(0.0, |state, _| {
            state.cluster = "x".to_owned();
            Err::<(), _>(Refusal::plain(4018))
        });
        assert_eq!(refused.unwrap_err().code, 4018);
        assert_eq!(cluster.read(), State::default());
        cluster
            .change(0.0, |state, _| {
                state.cluster = "x".to_owned();
                Ok(())
            })
            .unwrap();
        assert_eq!(cluster.read().cluster, "x");
    }
}

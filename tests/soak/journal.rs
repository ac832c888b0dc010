//! The lives of servers as the stand-ins have written them down, read on as the journal grows.

use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value;

use crate::rig::{Cluster, zone};

/// One process of a server.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) host: usize,
    /// Told when something is wrong.
    pub(crate) pid: i64,
    pub(crate) began: Timestamp,
    /// When it first served.
    pub(crate) served: Option<Timestamp>,
    /// Its last word so far.
    pub(crate) last: Timestamp,
    /// When it ended, as far as that is known.
    pub(crate) ended: Option<Timestamp>,
}

/// In service or not, since when.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) at: Timestamp,
    pub(crate) host: usize,
    pub(crate) is_zone: bool,
    pub(crate) is_active: bool,
}

#[derive(Debug)]
pub(crate) struct Journal {
    file: PathBuf,
    read: u64,
    homes: Vec<PathBuf>,
    servers: Vec<String>,
    pub(crate) lives: Vec<Life>,
    pub(crate) services: Vec<Service>,
    current: HashMap<i64, usize>,
}

impl Journal {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let root = cluster.homes[0].path.parent().unwrap();
        Self {
            file: root.join("cluster/journal.jsonl"),
            read: 0,
            homes: cluster.homes.iter().map(|home| home.path.clone()).collect(),
            servers: (0..cluster.homes.len()).map(|host| cluster.server(host)).collect(),
            lives: Vec::new(),
            services: Vec::new(),
            current: HashMap::new(),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.read
    }

    /// What has been written since.
    pub(crate) fn read_on(&mut self) {
        let mut file = std::fs::File::open(&self.file).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        for line in text[..whole].split(|byte| *byte == b'\n') {
            if let Ok(entry) = serde_json::from_slice::<Value>(line) {
                self.take(&entry);
            }
        }
    }

    fn take(&mut self, entry: &Value) {
        let Some(at) = entry["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok()) else { return };
        let pid = entry["pid"].as_i64().unwrap_or_default();
        let kind = entry["kind"].as_str().unwrap_or_default();
        if kind == "start" {
            let home = Path::new(entry["home"].as_str().unwrap_or_default());
            let Some(host) = self.homes.iter().position(|one| one == home) else { return };
            self.current.insert(pid, self.lives.len());
            self.lives.push(Life { host, pid, began: at, served: None, last: at, ended: None });
            return;
        }
        if kind == "state" {
            self.service(at, entry);
        }
        let Some(life) = self.current.get(&pid).map(|at| &mut self.lives[*at]) else { return };
        life.last = at;
        let is_phase = entry["what"].as_str().is_some_and(|what| what.starts_with("phase of "));
        if is_phase && entry["is"] == "serving" && life.served.is_none() {
            life.served = Some(at);
        }
        if kind == "exit" {
            life.ended = Some(at);
        }
    }

    fn service(&mut self, at: Timestamp, entry: &Value) {
        let what = entry["what"].as_str().unwrap_or_default();
        let is = entry["is"].as_str().unwrap_or_default();
        let server = what.strip_prefix("server ");
        let server = server.and_then(|name| self.servers.iter().position(|one| one == name));
        let in_zone = what.strip_prefix("zone ");
        let in_zone = in_zone.and_then(|name| (0..self.servers.len()).find(|host| zone(*host) == name));
        if let Some(host) = server {
            self.services.push(Service { at, host, is_zone: false, is_active: is == "ACTIVE serving" });
        } else if let Some(host) = in_zone {
            self.services.push(Service { at, host, is_zone: true, is_active: is == "ACTIVE" });
        }
    }

    /// Somebody killed it then, who leaves no word.
    pub(crate) fn killed(&mut self, host: usize, at: Timestamp) {
        let life = self.lives.iter_mut().rev().find(|life| life.host == host && life.began < at);
        if let Some(life) = life.filter(|life| life.ended.is_none()) {
            life.ended = Some(at);
        }
    }

    /// When it was over at the latest, as far as is known.
    pub(crate) fn end_of(&self, life: &Life) -> Option<Timestamp> {
        let next = self.lives.iter().filter(|other| other.host == life.host && other.began > life.began);
        life.ended.into_iter().chain(next.map(|other| other.began)).min()
    }

    /// Whether a server, or its zone, was out of service at some moment of a span.
    pub(crate) fn was_out(&self, host: usize, from: Timestamp, until: Timestamp) -> bool {
        [false, true].into_iter().any(|is_zone| {
            let its = self.services.iter().filter(|one| one.host == host && one.is_zone == is_zone);
            let before = its.clone().rfind(|one| one.at <= from);
            before.is_some_and(|one| !one.is_active)
                || its.clone().any(|one| !one.is_active && one.at > from && one.at <= until)
        })
    }
}

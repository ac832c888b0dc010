//! What is left when everything was stopped: no process, no socket, no file that was only meant for a moment.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::rig::Cluster;
use crate::world::World;

/// Of the files in the agents' own folders, without what changes from file to file.
pub(crate) type Names = BTreeSet<String>;

/// As set in the run's settings, and what may have been made since the last pruning.
const KEPT: i64 = 150 + 20;

/// Names of what agents keep, relative to the home; digits count as one.
pub(crate) fn names(cluster: &Cluster) -> Names {
    let mut names = Names::new();
    for home in &cluster.homes {
        for folder in [".obpilot", "run", "etc"] {
            walk(&home.path.join(folder), &home.path, &mut names);
        }
    }
    names
}

fn walk(folder: &Path, home: &Path, names: &mut Names) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), home, names);
        } else {
            let name = entry.path().strip_prefix(home).unwrap().display().to_string();
            let mut short = String::new();
            for letter in name.chars() {
                let is_digit = letter.is_ascii_digit();
                if !is_digit || !short.ends_with('#') {
                    short.push(if is_digit { '#' } else { letter });
                }
            }
            names.insert(short);
        }
    }
}

/// An agent that is asked to stop does so, with status 0.
pub(crate) fn ends_well(cluster: &mut Cluster, world: &World, host: usize) {
    let Some(mut agent) = cluster.agents[host].take() else { return };
    let ended = tokio::task::block_in_place(|| agent.terminate());
    if ended.code != Some(0) {
        world.violate(format!(
            "the agent of host {} ended with {:?} {:?}",
            host + 1,
            ended.code,
            ended.signal
        ));
    }
}

/// Agents that were just started keep as many finished tasks as they should.
pub(crate) async fn pruned(cluster: &Cluster, world: &World) {
    let begun = Instant::now();
    for (host, home) in cluster.homes.iter().enumerate() {
        loop {
            let store = rusqlite::Connection::open_with_flags(
                home.path.join(".obpilot/store.db"),
                rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
            )
            .unwrap();
            let count = "SELECT count(*) FROM dag WHERE is_finished = 1";
            let tasks: i64 = store.query_row(count, [], |row| row.get(0)).unwrap();
            if tasks <= KEPT {
                break;
            }
            if begun.elapsed() > Duration::from_secs(20) {
                world.violate(format!("host {} keeps {tasks} finished tasks", host + 1));
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// No process, no socket, no file more than there was in the beginning.
pub(crate) fn nothing(cluster: &Cluster, world: &World, before: &Names) {
    let root = cluster.homes[0].path.parent().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let lives_here = ["cwd", "exe"]
            .iter()
            .any(|link| std::fs::read_link(entry.path().join(link)).is_ok_and(|path| path.starts_with(root)));
        if lives_here {
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            world.violate(format!("process {} is left: {words}", entry.file_name().display()));
        }
    }
    for home in &cluster.homes {
        for port in [home.port, home.mysql_port] {
            if TcpListener::bind((home.ip.as_str(), port)).is_err() {
                world.violate(format!("{}:{port} is not free", home.ip));
            }
        }
        // Its file stays, for the next life; nobody listens there.
        if UnixStream::connect(home.socket()).is_ok() {
            world.violate(format!("somebody listens at {}", home.socket().display()));
        }
    }
    let more: Vec<_> = names(cluster).difference(before).cloned().collect();
    if !more.is_empty() {
        world.violate(format!("files are left that were not there in the beginning: {more:?}"));
    }
}

//! The database cluster of a world: which servers run, what was stopped by SQL, and what the cluster tells of itself. Every
//! server has a zone of its own, and a replica of the one log stream there is.
//!
//! It keeps the invariant of a roll: of what one task restarts, no second zone goes down before the first is up again.
//!
//! Not here: processes (`host`); elections and replays, which take no time here, but that a replica may be behind by chance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::chance::Chance;
use crate::cluster::figures::Figures;
use crate::cluster::{ClusterView, Members, ReplicaRow, ServerRow, ZoneRow};
use crate::error::{Code, Error, Result};
use crate::flow::ports::{SqlAct, SqlAnswer};
use crate::model::{ServerAddr, ZoneName};

#[derive(Debug)]
struct Server {
    number: i64,
    zone: ZoneName,
    runs: bool,
    /// Each serves since another moment.
    lives: u32,
    /// By `STOP SERVER`, over all its lives.
    is_stopped: bool,
    is_zone_stopped: bool,
    /// The main DAG whose restart has stopped it, until it runs again.
    down_for: Option<String>,
}

impl Server {
    fn is_out(&self) -> bool {
        self.is_stopped || self.is_zone_stopped
    }
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    servers: Arc<Mutex<BTreeMap<ServerAddr, Server>>>,
    chance: Chance,
}

impl Cluster {
    pub(crate) fn new(members: &Members, chance: Chance) -> Self {
        let server = |(number, member): (i64, &crate::model::Member)| {
            let zone = member.zone.clone();
            let (runs, lives, is_stopped, is_zone_stopped, down_for) = (false, 0, false, false, None);
            (member.server(), Server { number, zone, runs, lives, is_stopped, is_zone_stopped, down_for })
        };
        let servers = (1..).zip(members.iter()).map(server).collect();
        Self { servers: Arc::new(Mutex::new(servers)), chance }
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<ServerAddr, Server>> {
        self.servers.lock().unwrap()
    }

    pub(super) fn grew(&self, server: ServerAddr) {
        let mut servers = self.servers();
        let server = servers.get_mut(&server).unwrap();
        (server.runs, server.down_for) = (true, None);
        server.lives += 1;
    }

    pub(super) fn died(&self, server: ServerAddr) {
        self.servers().get_mut(&server).unwrap().runs = false;
    }

    /// A restart takes it down. With force, nothing else is asked.
    pub(super) fn goes_down_for(&self, server: ServerAddr, main_dag: &str, is_forced: bool) {
        let mut servers = self.servers();
        let is_of_it = |other: &Server| other.down_for.as_deref() == Some(main_dag);
        let down = servers.iter().find(|(_, other)| is_of_it(other));
        if let Some((other, _)) = down.filter(|_| !is_forced) {
            self.chance.violated(&format!(
                "task {main_dag} takes {server} down while {other} is down because of it"
            ));
        }
        servers.get_mut(&server).unwrap().down_for = Some(main_dag.to_owned());
    }

    /// Servers and zones that SQL has stopped.
    pub(crate) fn out_of_service(&self) -> Vec<ServerAddr> {
        let servers = self.servers();
        servers.iter().filter(|(_, server)| server.is_out()).map(|(server, _)| *server).collect()
    }

    pub(super) fn act(&self, act: &SqlAct) -> Result<SqlAnswer> {
        let mut servers = self.servers();
        if let SqlAct::StopServer { .. } | SqlAct::StopZone { .. } = act {
            refuse_a_second_zone(&servers, act)?;
        }
        let is_stop = matches!(act, SqlAct::StopServer { .. } | SqlAct::StopZone { .. });
        for (_, known) in servers.iter_mut().filter(|(server, known)| is_meant(act, **server, known)) {
            if let SqlAct::StopServer { .. } | SqlAct::StartServer { .. } = act {
                known.is_stopped = is_stop;
            } else {
                known.is_zone_stopped = is_stop;
            }
        }
        Ok(if *act == SqlAct::View {
            SqlAnswer::View(Box::new(self.view(&servers)))
        } else if *act == SqlAct::Figures {
            SqlAnswer::Figures(Box::<Figures>::default())
        } else {
            SqlAnswer::Done
        })
    }

    fn view(&self, servers: &BTreeMap<ServerAddr, Server>) -> ClusterView {
        let up = servers.iter().filter(|(_, known)| known.runs).count();
        let serving = servers.iter().find(|(_, known)| known.runs && !known.is_out());
        let leader = serving.or_else(|| servers.iter().find(|(_, known)| known.runs));
        let leader = leader.map(|(server, _)| *server).filter(|_| up * 2 > servers.len());
        let mut view = ClusterView { version: "4.3.5.1".to_owned(), ..ClusterView::default() };
        for (server, known) in servers {
            let word = |is_so: bool| if is_so { "ACTIVE" } else { "INACTIVE" }.to_owned();
            view.servers.push(ServerRow {
                id: known.number,
                server: *server,
                zone: known.zone.clone(),
                sql_port: 2881,
                has_root: leader == Some(*server),
                status: word(known.runs),
                started: known.runs.then(|| format!("life {}", known.lives)),
                stopped: known.is_stopped.then(|| "then".to_owned()),
                build_version: String::new(),
            });
            view.zones.push(ZoneRow {
                zone: known.zone.clone(),
                status: word(!known.is_zone_stopped),
                region: String::new(),
                idc: String::new(),
            });
            if known.runs {
                view.replicas.push(ReplicaRow {
                    tenant: 1,
                    stream: 1,
                    server: *server,
                    is_leader: leader == Some(*server),
                    members: servers.keys().copied().collect(),
                    replicas: servers.len(),
                    is_in_sync: leader == Some(*server) || !self.chance.once_in(20),
                });
            }
        }
        view
    }
}

/// Whether a start or stop is about this server, or about its zone.
fn is_meant(act: &SqlAct, server: ServerAddr, known: &Server) -> bool {
    if let SqlAct::StopServer { server: one } | SqlAct::StartServer { server: one } = act {
        return *one == server;
    }
    if let SqlAct::StopZone { zone } | SqlAct::StartZone { zone } = act {
        return *zone == known.zone;
    }
    false
}

/// The database's own refusal: one zone at a time.
fn refuse_a_second_zone(servers: &BTreeMap<ServerAddr, Server>, act: &SqlAct) -> Result<()> {
    let mut out = servers.iter().filter(|(_, known)| known.is_out());
    match out.find(|(server, known)| !is_meant(act, **server, known)) {
        Some((server, _)) => {
            Err(Error::new(Code::MysqlError, format!("cannot stop server in multiple zones: {server}")))
        }
        None => Ok(()),
    }
}

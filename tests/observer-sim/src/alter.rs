//! Executing ALTER SYSTEM (`observer-model.md` §11, §13).
//!
//! Invariant: what is checked and what is changed happens in one turn of the shared state. A refusal that RootService would
//! retry is retried here, for the same time scaled by the factor.
//!
//! Not here: the checks (`checks`), BOOTSTRAP (`bootstrap`).

use std::time::{Duration, Instant};

use crate::clock;
use crate::parameters;
use crate::refusal::Refusal;
use crate::rules::{self, View};
use crate::server::{Server, Sight};
use crate::state::{
    Addr, Freeze, Job, Parameter, ServerStatus, State, Stream, Target, Tenant, TenantKind, Zone, ZoneStatus,
};
use crate::system::{Assignment, ServerAct, System, ZoneAct};
use crate::{checks, process, state};

const LOOK: Duration = Duration::from_millis(20);

/// A statement on its way to RootService.
#[derive(Debug)]
pub(crate) struct Command<'a> {
    pub(crate) server: &'a Server,
    /// Of the statement, in microseconds.
    pub(crate) limit_us: u64,
}

type Done = Result<(), Refusal>;

impl Command<'_> {
    pub(crate) fn run(&self, system: &System) -> Done {
        match system {
            System::Fault { name, json } => return self.fault(name, json),
            System::AddTenant { id, name, servers } => {
                return self.change(|s, v| add_tenant(s, v, *id, name, servers));
            }
            System::DropTenant(id) => return self.change(|s, _| drop_tenant(s, *id)),
            System::Sync { server, is_in_sync } => {
                return self.change(|s, v| sync(s, v, *server, *is_in_sync));
            }
            _ => {}
        }
        let root = self.await_root_service()?;
        match system {
            System::Server { act, servers, zone } => self.server_act(root, *act, servers, zone.as_deref()),
            System::Zone { act, name } => self.zone_act(*act, name),
            System::AddZone { name, region, idc, kind } => {
                self.change(|s, v| add_zone(s, v, name, region, idc, kind))
            }
            System::ChangeZone { name, region, idc } => {
                self.change(|s, v| change_zone(s, v, name, region.as_deref(), idc.as_deref()))
            }
            System::Freeze { tenants, servers, zone } => {
                self.change(|s, v| freeze(s, v, tenants, servers, zone.as_deref()))
            }
            System::Set(all) => self.set(all),
            _ => Ok(()),
        }
    }

    fn factor(&self) -> f64 {
        self.server.settings().factor
    }

    fn limit(&self) -> Duration {
        Duration::from_micros(self.limit_us)
    }

    fn change<T>(&self, work: impl FnOnce(&mut State, &View) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.server.cluster.change(self.factor(), work)
    }

    /// Again and again while it is refused for a reason that may pass.
    fn retried<T>(
        &self,
        patience: Duration,
        work: impl Fn(&mut State, &View) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        const RETRY: Duration = Duration::from_millis(100);
        let deadline = Instant::now() + patience;
        loop {
            match self.change(&work) {
                Err(why) if why.is_retried && Instant::now() < deadline => std::thread::sleep(RETRY),
                other => return other,
            }
        }
    }

    /// Looks until `is_there` finds something or the time is over.
    fn await_sight<T>(
        &self,
        patience: Duration,
        is_there: impl Fn(&Sight) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = is_there(&self.server.sight()?) {
                return Ok(Some(found));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn await_root_service(&self) -> Result<Addr, Refusal> {
        let own = self.server.addr;
        let settings = self.server.settings();
        let found = self.await_sight(settings.patience(self.limit()), |sight| {
            let root = rules::root_service(&sight.state, &sight.view)?;
            (sight.has_leader && sight.view.sees(own, root)).then_some(root)
        })?;
        let refusal = || match settings.number("alter_without_rs").and_then(|code| u16::try_from(code).ok()) {
            None | Some(4012) => Refusal::timeout(self.limit_us),
            Some(code) => Refusal::plain(code),
        };
        found.ok_or_else(refusal)
    }

    /// How long the majority check is repeated.
    fn retry_span(&self) -> Duration {
        const INTERNAL: Duration = Duration::from_secs(30);
        const MARGIN: Duration = Duration::from_millis(500);
        self.server.settings().span(self.limit().min(INTERNAL).saturating_sub(MARGIN).as_secs_f64())
    }

    fn server_act(&self, root: Addr, act: ServerAct, servers: &[Addr], zone: Option<&str>) -> Done {
        if let ServerAct::Stop(strength) = act {
            let is_new = self.retried(self.retry_span(), |state, view| {
                let is_new = checks::stop_server(state, view, servers, strength)?;
                for row in state.servers.iter_mut().filter(|row| is_new && servers.contains(&row.addr)) {
                    row.stop_time = view.wall;
                    row.modified = view.wall;
                }
                Ok(is_new)
            })?;
            let waits = is_new && strength != checks::Strength::Isolate;
            return if waits { self.await_leaders_gone(servers) } else { Ok(()) };
        }
        for addr in servers {
            match act {
                ServerAct::Add => self.add_server(root, *addr, zone)?,
                ServerAct::Start => self.change(|state, view| start_server(state, view, *addr, zone))?,
                ServerAct::Delete => self.change(|state, view| delete_server(state, view, *addr, zone))?,
                ServerAct::CancelDelete => self.change(|state, view| cancel_delete(state, view, *addr))?,
                ServerAct::Stop(_) => {}
            }
        }
        Ok(())
    }

    fn await_leaders_gone(&self, servers: &[Addr]) -> Done {
        let patience = self.server.settings().patience(self.limit());
        let gone = self.await_sight(patience, |sight| {
            let is_left = |stream: &Stream| stream.leader().is_some_and(|leader| servers.contains(&leader));
            (!sight.state.streams.iter().any(is_left)).then_some(())
        })?;
        gone.ok_or_else(|| Refusal::plain(4652))
    }

    fn add_server(&self, root: Addr, addr: Addr, zone: Option<&str>) -> Done {
        const CONNECT: f64 = 2.0;
        let data = self.retried(self.server.settings().span(CONNECT), |state, view| {
            checks::add_server(state, view, root, addr, zone)
                .map_err(|why| if why.code == 4012 { why.retried() } else { why })?;
            let card = view.live.get(&addr).ok_or_else(|| Refusal::plain(4012))?;
            state.last_server_id += 1;
            state.servers.push(new_row(state, view, addr, card));
            rules::note(state, view, "server", "add_server", &addr.to_string());
            Ok(card.data_dir.clone())
        })?;
        process::make_streams(&data).map_err(anyhow::Error::from)?;
        Ok(())
    }

    fn zone_act(&self, act: ZoneAct, name: &str) -> Done {
        match act {
            ZoneAct::Start => self.change(|state, view| {
                let zone = state.zone_mut(name).ok_or_else(|| Refusal::plain(4018))?;
                if zone.status == ZoneStatus::Active {
                    return Err(Refusal::plain(4633));
                }
                zone.status = ZoneStatus::Active;
                zone.modified = view.wall;
                Ok(())
            }),
            ZoneAct::Delete => self.change(|state, view| {
                checks::delete_zone(state, view, name)?;
                state.zones.retain(|zone| !zone.name.eq_ignore_ascii_case(name));
                Ok(())
            }),
            ZoneAct::Stop(strength) => {
                let servers = self.retried(self.retry_span(), |state, view| {
                    if !checks::stop_zone(state, view, name, strength)? {
                        return Ok(Vec::new());
                    }
                    if let Some(zone) = state.zone_mut(name) {
                        zone.status = ZoneStatus::Inactive;
                        zone.modified = view.wall;
                    }
                    let inside = state.servers.iter().filter(|row| row.zone.eq_ignore_ascii_case(name));
                    Ok(inside.map(|row| row.addr).collect())
                })?;
                if strength == checks::Strength::Isolate { Ok(()) } else { self.await_leaders_gone(&servers) }
            }
        }
    }

    fn set(&self, all: &[Assignment]) -> Done {
        self.change(|state, view| {
            for Assignment { name, value, target } in all {
                let is_known = parameters::find(name).is_some()
                    || view.live.values().any(|card| card.config.contains_key(name));
                if !is_known {
                    return Err(Refusal::plain(5099));
                }
                if parameters::find(name).is_some_and(|known| !known.takes(value)) {
                    return Err(Refusal::plain(4147));
                }
                if !is_there(state, target) {
                    return Err(Refusal::plain(4018));
                }
                state.parameters.retain(|old| {
                    let is_overridden =
                        *target == Target::Cluster && !matches!(old.target, Target::Tenant(_));
                    !(old.name == *name && (old.target == *target || is_overridden))
                });
                state.parameters.push(Parameter {
                    name: name.clone(),
                    value: value.clone(),
                    target: target.clone(),
                });
            }
            Ok(())
        })
    }

    fn fault(&self, name: &str, json: &str) -> Done {
        let value =
            serde_json::from_str(json).map_err(|_| Refusal::new(1210, "Incorrect arguments to json"))?;
        self.server.source.set_fault(name, value)?;
        Ok(())
    }
}

/// Whether the cluster has what a parameter is set for.
fn is_there(state: &State, target: &Target) -> bool {
    match target {
        Target::Cluster => true,
        Target::Server(addr) => state.server(*addr).is_some(),
        Target::Zone(name) => state.zone(name).is_some(),
        Target::Tenant(name) => state.tenants.iter().any(|tenant| tenant.name == *name),
    }
}

pub(crate) fn new_row(state: &State, view: &View, addr: Addr, card: &state::Card) -> state::Server {
    state::Server {
        addr,
        id: state.last_server_id,
        zone: card.zone.clone(),
        sql_port: card.sql_port,
        status: ServerStatus::Active,
        start_service_time: 0,
        stop_time: 0,
        last_offline_time: 0,
        build_version: card.build_version.clone(),
        created: view.wall,
        modified: view.wall,
        lost_at: None,
        news_at: None,
        deleting_since: None,
    }
}

pub(crate) fn new_zone(view: &View, name: &str, region: &str, status: ZoneStatus) -> Zone {
    Zone {
        name: name.to_owned(),
        status,
        region: region.to_owned(),
        idc: String::new(),
        kind: "ReadWrite".to_owned(),
        created: view.wall,
        modified: view.wall,
    }
}

/// A stream that was just made, led by the first of its members who can.
pub(crate) fn new_stream(state: &State, view: &View, tenant: i64, id: i64, members: &[Addr]) -> Stream {
    let scn = clock::scn(view.wall);
    let mut stream = Stream {
        tenant,
        id,
        members: members.to_vec(),
        leader: None,
        reported: None,
        proposal: 0,
        lost_at: None,
        leaving_at: None,
        lagging: std::collections::BTreeMap::new(),
        checkpoints: members.iter().map(|member| (*member, scn)).collect(),
        freezes: Vec::new(),
    };
    let first = members.iter().find(|member| view.live.contains_key(member) && !state.is_stopped(**member));
    if let Some(first) = first {
        rules::crown(&mut stream, view, *first);
    }
    stream
}

fn start_server(state: &mut State, view: &View, addr: Addr, zone: Option<&str>) -> Done {
    let row = state.server_mut(addr).ok_or_else(|| Refusal::plain(4630))?;
    checks::same_zone(&row.zone, zone)?;
    if row.stop_time != 0 {
        row.stop_time = 0;
        row.modified = view.wall;
    }
    Ok(())
}

fn delete_server(state: &mut State, view: &View, addr: Addr, zone: Option<&str>) -> Done {
    checks::delete_server(state, view, addr, zone)?;
    let id = i64::try_from(state.jobs.len()).unwrap_or_default() + 1;
    state.jobs.push(Job { id, server: addr, status: "INPROGRESS".to_owned(), started: view.wall });
    if let Some(row) = state.server_mut(addr) {
        row.status = ServerStatus::Deleting;
        row.deleting_since = Some(view.now);
        row.modified = view.wall;
    }
    Ok(())
}

fn cancel_delete(state: &mut State, view: &View, addr: Addr) -> Done {
    let row = state.server_mut(addr).ok_or_else(|| Refusal::plain(4630))?;
    if row.status != ServerStatus::Deleting {
        return Err(Refusal::plain(4629));
    }
    let is_alive = view.live.contains_key(&addr);
    row.status = if is_alive { ServerStatus::Active } else { ServerStatus::Inactive };
    row.deleting_since = None;
    row.modified = view.wall;
    for job in state.jobs.iter_mut().filter(|job| job.server == addr && job.status == "INPROGRESS") {
        job.status = "CANCELED".to_owned();
    }
    Ok(())
}

fn add_zone(state: &mut State, view: &View, name: &str, region: &str, idc: &str, kind: &str) -> Done {
    if state.zone(name).is_some() {
        return Err(Refusal::plain(4017));
    }
    let zone = new_zone(view, name, region, ZoneStatus::Inactive);
    state.zones.push(Zone { idc: idc.to_owned(), kind: kind.to_owned(), ..zone });
    Ok(())
}

fn change_zone(state: &mut State, view: &View, name: &str, region: Option<&str>, idc: Option<&str>) -> Done {
    let zone = state.zone_mut(name).ok_or_else(|| Refusal::plain(4018))?;
    if let Some(region) = region {
        region.clone_into(&mut zone.region);
    }
    if let Some(idc) = idc {
        idc.clone_into(&mut zone.idc);
    }
    zone.modified = view.wall;
    Ok(())
}

fn freeze(state: &mut State, view: &View, tenants: &[String], servers: &[Addr], zone: Option<&str>) -> Done {
    if servers.iter().any(|addr| state.server(*addr).is_none())
        || zone.is_some_and(|zone| state.zone(zone).is_none())
    {
        return Err(Refusal::plain(4018));
    }
    let meant: Vec<Addr> = state
        .servers
        .iter()
        .filter(|row| servers.is_empty() || servers.contains(&row.addr))
        .filter(|row| zone.is_none_or(|zone| row.zone == zone))
        .map(|row| row.addr)
        .collect();
    let names =
        |id: i64| state.tenants.iter().find(|tenant| tenant.id == id).map_or("", |tenant| &tenant.name);
    let is_tenant = |id: i64| {
        tenants.is_empty()
            || tenants
                .iter()
                .any(|name| name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case(names(id)))
    };
    let wanted: Vec<bool> = state.streams.iter().map(|stream| is_tenant(stream.tenant)).collect();
    let scn = clock::scn(view.wall);
    for (stream, _) in state.streams.iter_mut().zip(wanted).filter(|(_, is_wanted)| *is_wanted) {
        let there: Vec<Addr> = meant.iter().copied().filter(|addr| stream.members.contains(addr)).collect();
        stream.freezes.retain(|old| !there.contains(&old.addr));
        stream.freezes.extend(there.into_iter().map(|addr| Freeze { addr, since: view.now, scn }));
    }
    Ok(())
}

fn add_tenant(state: &mut State, view: &View, id: i64, name: &str, servers: &[Addr]) -> Done {
    if state.tenants.iter().any(|tenant| tenant.id == id || tenant.id == id - 1) {
        return Err(Refusal::plain(4017));
    }
    if servers.iter().any(|addr| state.server(*addr).is_none()) {
        return Err(Refusal::plain(4630));
    }
    let tenant = |id, name: String, kind| Tenant { id, name, kind, created: view.wall };
    state.tenants.push(tenant(id - 1, format!("META${id}"), TenantKind::Meta));
    state.tenants.push(tenant(id, name.to_owned(), TenantKind::User));
    for (tenant, stream) in [(id - 1, 1), (id, 1), (id, 1001)] {
        let stream = new_stream(state, view, tenant, stream, servers);
        state.streams.push(stream);
    }
    Ok(())
}

fn drop_tenant(state: &mut State, id: i64) -> Done {
    if !state.tenants.iter().any(|tenant| tenant.id == id && tenant.kind == TenantKind::User) {
        return Err(Refusal::plain(4018));
    }
    state.tenants.retain(|tenant| tenant.id != id && tenant.id != id - 1);
    state.streams.retain(|stream| stream.tenant != id && stream.tenant != id - 1);
    Ok(())
}

fn sync(state: &mut State, view: &View, server: Addr, is_in_sync: bool) -> Done {
    let scn = clock::scn(view.wall);
    for stream in state.streams.iter_mut().filter(|stream| stream.members.contains(&server)) {
        if is_in_sync {
            stream.lagging.remove(&server);
        } else {
            stream.lagging.entry(server).or_insert(scn);
        }
    }
    Ok(())
}

//! `Cluster scale out`: a server on a new host becomes one of the cluster's (`lifecycle.md` §6.1, §6.2). The nodes are those that
//! clients know; what the new host does itself are parts of it, under its own lock (`newcomer`, `init`).
//!
//! The new host learns our key by a sealed request with its agent password, and we learn its own by the answer; from then on
//! they speak in sessions of peers. The root password goes over only there, once its key is known (`security.md` W23).
//!
//! Invariant: until the last node the new host is SCALING OUT and nobody's member, so no other operation counts it. A rollback
//! takes everything back in order and ends with the host SINGLE and empty, as it was.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use super::init::in_words;
use super::peers::{Operation, is_unknown, surely};
use super::ports::{Handed, Progress, SqlAct};
use super::step::step;
use super::{remote, server, zones};
use crate::cluster::{Act, Change, ClusterView, MYSQL_PORT_DEFAULT, Members, RPC_PORT_DEFAULT, may};
use crate::engine::{Outcome, Registry, StepCtx, Template};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity, Invitation, Launch, Member, Password, ServerAddr, ZoneName};

/// What the target's agent password in parameters is sealed for.
pub const TARGET_PASSWORD: &str = "task.target_password";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    pub target: AgentAddr,
    pub zone: ZoneName,
    /// There was no such zone when it was asked for.
    pub is_new_zone: bool,
    pub server: ServerAddr,
    /// Settings of the new server, by name; both ports among them.
    pub config: BTreeMap<String, String>,
    /// Sealed for [`TARGET_PASSWORD`].
    pub password: String,
    pub actor: String,
}

pub fn template(own: AgentAddr, params: &Params) -> Template {
    let started = Template::new("scale_out", "Cluster scale out", json!(params))
        .locked(None)
        .releases_lock_on_failure()
        .then("scale_out.integrate", "Integrate server config", own)
        .then("scale_out.invite", "Create local scale out dag", own)
        .then("scale_out.ready", "Wait scale out ready", own)
        .then("scale_out.deploy", "Wait remote deploy finish", own)
        .then("scale_out.start", "Wait remote start finish", own)
        .then("scale_out.check", "Prev check for scale_out", own);
    let zoned = if params.is_new_zone {
        started.then("scale_out.add_zone", "Add new zone for scale_out", own).then(
            "scale_out.start_zone",
            "Start new zone for scale_out",
            own,
        )
    } else {
        started
    };
    zoned
        .then("scale_out.add_server", "Add server for scale_out", own)
        .then("scale_out.add_agent", "Add agent for scale_out", own)
        .then("scale_out.finish", "Check cluster scale_out whether finished", own)
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Integrate(ports.clone()));
    registry.add(Invite(ports.clone()));
    registry.add(Ready(ports.clone()));
    registry.add(Deploy(ports.clone()));
    registry.add(Start(ports.clone()));
    registry.add(Check(ports.clone()));
    registry.add(AddZone(ports.clone()));
    registry.add(StartZone(ports.clone()));
    registry.add(AddServer(ports.clone()));
    registry.add(AddAgent(ports.clone()));
    registry.add(Finish(ports.clone()));
}

const SHORT: Duration = Duration::from_secs(300);

/// For a part that has limits of its own: the longest that a configuration allows, and some.
const LONG: Duration = Duration::from_secs(26 * 3_600);

/// For one statement about servers or zones.
const SQL_LIMIT: Duration = Duration::from_secs(60);

/// For a host to look at itself; it runs the executable once.
const PREFLIGHT_LIMIT: Duration = Duration::from_secs(60);

/// How long a server that was just added is given to serve.
const SERVING_LIMIT: Duration = Duration::from_secs(600);

/// How long the cluster is given to take everything off a server that is deleted.
const DELETE_LIMIT: Duration = Duration::from_secs(24 * 3_600);

/// Between two looks at the cluster, which announces nothing.
const LOOK: Duration = Duration::from_millis(500);

/// For a new host to learn the version of its executable.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// For another member to be told.
const TELL_LIMIT: Duration = Duration::from_secs(5);

step!(
    /// The options of the first start. Looks only.
    Integrate, "scale_out.integrate", "CTBXP", SHORT, integrate
);
step!(
    /// The new host is SCALING OUT, and both know each other's key. It knows us by ours, so asking twice is asking once.
    Invite, "scale_out.invite", "CTBX", SHORT, invite, uninvite
);
step!(
    /// It answers in a session of peers, and finds nothing that its server would fail on. Looks only.
    Ready, "scale_out.ready", "CTBXP", SHORT, ready
);
step!(
    /// Its directories.
    Deploy, "scale_out.deploy", "CTBXP", SHORT, deploy, undeploy
);
step!(
    /// Its server's first start, until that lets its root in.
    Start, "scale_out.start", "CTBXP", LONG, start, undo_start
);
step!(
    /// The zone is still as it was when this was asked for; then the root password goes over. Looks only in the cluster.
    Check, "scale_out.check", "CTBX", SHORT, check
);
step!(AddZone, "scale_out.add_zone", "CTBXP", SHORT, add_zone, delete_zone);
step!(StartZone, "scale_out.start_zone", "CTBXP", SHORT, start_zone, stop_zone);
step!(
    /// ADD SERVER, and then until it serves: in is not yet ready.
    AddServer, "scale_out.add_server", "CTBX", LONG, add_server, delete_server
);
step!(
    /// Its row, in the cluster's database and here.
    AddAgent, "scale_out.add_agent", "CTB", SHORT, add_agent, forget_agent
);
step!(
    /// The new host takes itself for a member, and the others know it.
    Finish, "scale_out.finish", "CTB", SHORT, finish, unadopt
);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Planned {
    launch: Launch,
}

async fn integrate(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    may(Act::Scale, ports.own, ports.ledger.state().identity)?;
    let launch = launch(ports, &params)?;
    ctx.info(&format!("{}: first start with {}", params.target, in_words(&launch)));
    Outcome::with(Planned { launch })
}

/// What the caller wants, and what only the cluster knows. (Where its root servers are, a server learns when it is added.)
pub fn launch(ports: &Ports, params: &Params) -> Result<Launch> {
    let cluster = ports.ledger.state().cluster.clone();
    let (Some(name), Some(id)) = (cluster.name, cluster.id) else {
        let text = "this agent does not know its cluster's name and id, and cannot tell them to a new server";
        return Err(Error::new(Code::BadRequest, text));
    };
    let mut options = params.config.clone();
    options.insert("cluster".to_owned(), name);
    options.insert("cluster_id".to_owned(), id.to_string());
    options.insert("zone".to_owned(), params.zone.to_string());
    options.insert("local_ip".to_owned(), params.target.ip.to_string());
    let mut or = |key: &str, default: u16| {
        options.entry(key.to_owned()).or_insert_with(|| default.to_string());
    };
    or("mysql_port", MYSQL_PORT_DEFAULT);
    or("rpc_port", RPC_PORT_DEFAULT);
    Ok(Launch { is_first: true, options })
}

/// What the new host is told of us.
///
/// # Errors
/// When we do not know ourselves.
pub fn invitation(ports: &Ports, zone: &ZoneName, config: &BTreeMap<String, String>) -> Result<Invitation> {
    let state = ports.ledger.state();
    let coordinator = state.own_member().cloned();
    let coordinator =
        coordinator.ok_or_else(|| Error::unexpected("this agent is not in its own list of members"))?;
    Ok(Invitation { coordinator, zone: zone.clone(), config: config.clone() })
}

async fn invite(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    ctx.waiting(introduced(ports, &params)).await?;
    ctx.info(&format!("{} is SCALING OUT, zone {}", params.target, params.zone));
    Outcome::done()
}

/// The host knows us, and we know it.
async fn introduced(ports: &Ports, params: &Params) -> Result<()> {
    let invitation = invitation(ports, &params.zone, &params.config)?;
    let password = ports.sealer.open(TARGET_PASSWORD, &params.password)?;
    let limit = ports.limits.silence;
    crate::crash::point(crate::crash::Point::BeforePeer);
    let asked = surely(limit, || ports.gate.invite(params.target, &password, &invitation, false));
    let member = asked.await?;
    if member.agent != params.target || member.server() != params.server || member.peer_key.is_empty() {
        let text = format!(
            "what answers at {} says that it is {} with server {}; expected was server {}",
            params.target,
            member.agent,
            member.server(),
            params.server
        );
        return Err(Error::new(Code::RpcRequestError, text));
    }
    ports.ledger.change(Change::GuestKnown(member), &params.actor).await
}

/// It becomes SINGLE. What is not known is asked again by the next rollback.
async fn uninvite(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let params: Params = ctx.params()?;
    let target = params.target;
    let found = surely(ports.limits.silence, || ports.gate.look(target)).await?;
    if found.identity == Identity::ScalingOut {
        if ports.ledger.state().guests.find(target).is_none() {
            // The answer was lost, and with it its key.
            introduced(ports, &params).await?;
        }
        let left = remote::run(ports, ctx, target, "leave", Operation::Leave, &params.actor).await;
        if let Err(error) = left {
            // Once it is SINGLE it tells us no more than any stranger.
            let now = surely(ports.limits.silence, || ports.gate.look(target)).await?;
            if now.identity != Identity::Single {
                return Err(error);
            }
        }
    }
    ports.ledger.change(Change::GuestLeft(target), &params.actor).await?;
    ctx.info(&format!("{target} is SINGLE again"));
    Ok(())
}

async fn ready(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Params { target, .. } = ctx.params()?;
    let Planned { launch } = ctx.input("scale_out.integrate")?;
    let asked = surely(ports.limits.silence, || ports.peers.facts(target, TELL_LIMIT));
    let facts = ctx.waiting(asked).await?;
    if !matches!(facts.identity, Identity::ScalingOut) {
        let text = format!("{target} is {}, but must be SCALING OUT by now", facts.identity);
        return Err(Error::new(Code::IdentityNotSupported, text));
    }
    let found = ctx.waiting(ports.peers.preflight(target, Some(&launch), PREFLIGHT_LIMIT)).await?;
    server::report(ctx, &found)?;
    let (theirs, ours) = (ctx.waiting(version_of(ports, ctx, target)).await?, own_version(ports));
    if !theirs.is_empty() && !ours.is_empty() && theirs != ours {
        let text = format!("{target} has database {theirs}, the cluster {ours}; they must be of one version");
        return Err(Error::new(Code::ObVersionInconsistent, text));
    }
    ctx.info(&format!("{target} is ready"));
    Outcome::done()
}

/// An agent that has just begun asks its executable first. Empty when it does not learn it.
async fn version_of(ports: &Ports, ctx: &StepCtx, target: AgentAddr) -> Result<String> {
    let known = async {
        loop {
            let facts = surely(ports.limits.silence, || ports.peers.facts(target, TELL_LIMIT)).await?;
            if let Some(version) = facts.ob_version.filter(|version| !version.is_empty()) {
                return Ok(version);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(VERSION_LIMIT, known).await.unwrap_or_else(|_| {
        ctx.warn(&format!(
            "{target} does not tell the version of its database; it is taken for the cluster's"
        ));
        Ok(String::new())
    })
}

fn own_version(ports: &Ports) -> String {
    ports.ledger.state().server.version.clone().unwrap_or_default()
}

async fn deploy(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Planned { launch } = ctx.input("scale_out.integrate")?;
    on_target(ports, ctx, "deploy", Operation::Deploy { launch }).await?;
    Outcome::done()
}

async fn on_target(ports: &Ports, ctx: &StepCtx, part: &str, operation: Operation) -> Result<()> {
    let Params { target, actor, .. } = ctx.params()?;
    remote::run(ports, ctx, target, part, operation, &actor).await
}

/// The same for what is taken back: a host that is SINGLE has given everything up by itself.
async fn back_on_target(ports: &Ports, ctx: &StepCtx, part: &str, operation: Operation) -> Result<()> {
    let Params { target, .. } = ctx.params()?;
    match on_target(ports, ctx, part, operation).await {
        Err(error) if is_single(ports, target).await => {
            tracing::debug!(%error, agent = %target, "what it was asked last");
            ctx.info(&format!("{target} is SINGLE already"));
            Ok(())
        }
        other => other,
    }
}

/// As it says at its open door.
pub(super) async fn is_single(ports: &Ports, agent: AgentAddr) -> bool {
    let look = tokio::time::timeout(TELL_LIMIT, ports.gate.look(agent)).await;
    matches!(look, Ok(Ok(found)) if found.identity == Identity::Single)
}

async fn undeploy(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    back_on_target(ports, ctx, "undeploy", Operation::Undeploy).await
}

async fn start(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Planned { launch } = ctx.input("scale_out.integrate")?;
    on_target(ports, ctx, "start", Operation::StartFirst { launch }).await?;
    Outcome::done()
}

async fn undo_start(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    back_on_target(ports, ctx, "undo-start", Operation::UndoStart).await
}

async fn check(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Params { target, zone, is_new_zone, .. } = ctx.params()?;
    let view = ctx.waiting(zones::view(ports, SQL_LIMIT, ctx)).await?;
    let is_there = view.zone(&zone).is_some();
    if is_there == is_new_zone {
        let now = if is_there { "exists by now" } else { "does not exist any more" };
        let text = format!("zone {zone} {now}; ROLLBACK this task, and ask again");
        return Err(Error::new(Code::BadRequest, text));
    }
    let password: Password = ports.ledger.root_password();
    let given =
        surely(ports.limits.silence, || ports.peers.give_root_password(target, Handed(password.clone())));
    ctx.waiting(given).await?;
    // Whoever knows the one may have the other; and as a member it is held to the CA.
    if let Some(said) = ctx.waiting(surely(ports.limits.silence, || ports.trust.hand_to(target))).await? {
        ctx.info(&said);
    }
    let is = if is_new_zone { "does not exist yet" } else { "exists" };
    ctx.info(&format!("zone {zone} {is}; {target} knows the root password"));
    Outcome::done()
}

/// A statement about the cluster, through whichever server answers.
pub(super) async fn act(ports: &Ports, ctx: &StepCtx, act: SqlAct) -> Result<()> {
    zones::anywhere(ports, &act, SQL_LIMIT, ctx).await.map(|_| ())
}

async fn add_zone(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Params { zone, .. } = ctx.params()?;
    ctx.waiting(act(ports, ctx, SqlAct::AddZone { zone: zone.clone() })).await?;
    ctx.info(&format!("zone {zone} exists"));
    Outcome::done()
}

/// A zone that somebody else has put a server into meanwhile stays.
async fn delete_zone(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let Params { zone, .. } = ctx.params()?;
    if is_in_use(ports, ctx, &zone).await? {
        return Ok(());
    }
    act(ports, ctx, SqlAct::DeleteZone { zone: zone.clone() }).await?;
    ctx.info(&format!("zone {zone} is gone"));
    Ok(())
}

/// It has servers that are not ours to take away; or it does not exist, and there is nothing to do.
async fn is_in_use(ports: &Ports, ctx: &StepCtx, zone: &ZoneName) -> Result<bool> {
    let view = zones::view(ports, SQL_LIMIT, ctx).await?;
    let others: Vec<_> = view.servers.iter().filter(|row| row.zone == *zone).collect();
    if !others.is_empty() {
        let names: Vec<_> = others.iter().map(|row| row.server.to_string()).collect();
        ctx.warn(&format!("zone {zone} has servers by now ({}) and stays", names.join(", ")));
    }
    Ok(!others.is_empty() || view.zone(zone).is_none())
}

async fn start_zone(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Params { zone, .. } = ctx.params()?;
    ctx.waiting(act(ports, ctx, SqlAct::StartZone { zone: zone.clone() })).await?;
    ctx.info(&format!("zone {zone} is active"));
    Outcome::done()
}

async fn stop_zone(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let Params { zone, .. } = ctx.params()?;
    if is_in_use(ports, ctx, &zone).await? {
        return Ok(());
    }
    act(ports, ctx, SqlAct::StopZone { zone: zone.clone() }).await?;
    ctx.info(&format!("zone {zone} is stopped"));
    Ok(())
}

async fn add_server(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Params { target, zone, server, .. } = ctx.params()?;
    // While we were away it may have been told to.
    if is_single(ports, target).await {
        let text =
            format!("{target} has given this up and is SINGLE again; ROLLBACK takes back what is left");
        return Err(Error::new(Code::IdentityNotSupported, text));
    }
    ctx.waiting(act(ports, ctx, SqlAct::AddServer { zone, server })).await?;
    ctx.log_wait(&format!("server {server} to serve"), SERVING_LIMIT);
    let serves = until(ports, ctx, |view: &ClusterView| match view.server(server) {
        Some(row) if row.is_well() => Ok(true),
        Some(_) => Ok(false),
        None => {
            Err(Error::new(Code::ServerNotExist, format!("server {server} was taken out of the cluster")))
        }
    });
    let serves = tokio::time::timeout(SERVING_LIMIT, ctx.waiting(serves)).await;
    serves.unwrap_or_else(|_| {
        let text = format!(
            "the cluster has server {server}, but does not count it as serving after {} s; look at its log. RETRY waits again",
            SERVING_LIMIT.as_secs()
        );
        Err(Error::new(Code::ServerNotReady, text))
    })?;
    ctx.info(&format!("server {server} is in, and serves"));
    Outcome::done()
}

/// Looks at the cluster until it is as wanted. A look that nobody answers says nothing.
///
/// # Errors
/// What `is_so` says. The caller limits the time.
pub(super) async fn until(
    ports: &Ports,
    ctx: &StepCtx,
    is_so: impl Fn(&ClusterView) -> Result<bool>,
) -> Result<()> {
    let mut told = String::new();
    loop {
        match zones::view(ports, SQL_LIMIT, ctx).await {
            Ok(view) if is_so(&view)? => return Ok(()),
            Ok(_) => told.clear(),
            Err(error) if error.text() != told => {
                error.text().clone_into(&mut told);
                ctx.warn(&format!("the cluster cannot be looked at: {told}"));
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn delete_server(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let Params { server, .. } = ctx.params()?;
    delete_and_wait(ports, ctx, &[server]).await
}

/// DELETE SERVER, and until the cluster has forgotten them. Gone already is done.
pub(super) async fn delete_and_wait(ports: &Ports, ctx: &StepCtx, servers: &[ServerAddr]) -> Result<()> {
    for server in servers {
        act(ports, ctx, SqlAct::DeleteServer { server: *server }).await?;
    }
    let names: Vec<_> = servers.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    ctx.log_wait(&format!("the cluster to take everything off {names}"), DELETE_LIMIT);
    let gone = until(ports, ctx, |view| {
        for row in servers.iter().filter_map(|server| view.server(*server)) {
            if !row.status.eq_ignore_ascii_case("DELETING") {
                let text = format!(
                    "server {} is {} again: its deletion was cancelled by somebody; RETRY deletes it again",
                    row.server, row.status
                );
                return Err(Error::new(Code::ServerNotDeleting, text));
            }
        }
        Ok(servers.iter().all(|server| view.server(*server).is_none()))
    });
    tokio::time::timeout(DELETE_LIMIT, gone).await.unwrap_or_else(|_| {
        let text = format!(
            "{names} still holds replicas after {} h; DBA_OB_SERVER_JOBS and DBA_OB_UNIT_JOBS tell what is in the way. \
             RETRY waits again",
            DELETE_LIMIT.as_secs() / 3_600
        );
        Err(Error::new(Code::AsyncTimeout, text))
    })?;
    ctx.info(&format!("the cluster has forgotten {names}"));
    Ok(())
}

/// The new member, as it told us.
fn guest(ports: &Ports, target: AgentAddr) -> Result<Member> {
    let state = ports.ledger.state();
    let known = state.guests.find(target).or_else(|| state.members.find(target)).cloned();
    known.ok_or_else(|| Error::new(Code::AgentNotExist, format!("{target} is not known here any more")))
}

async fn add_agent(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Params { target, actor, .. } = ctx.params()?;
    let member = Member { identity: Identity::ClusterAgent, ..guest(ports, target)? };
    // Its root may have been replaced since: those steps are told to members, and from here on it is one.
    ctx.waiting(surely(ports.limits.silence, || ports.trust.hand_to(target))).await?;
    act(ports, ctx, SqlAct::SaveMembers { members: vec![member.clone()] }).await?;
    ports.ledger.change(Change::MemberKnown(member), &actor).await?;
    ports.ledger.change(Change::GuestLeft(target), &actor).await?;
    ctx.info(&format!("{target} is in ocs.all_agent"));
    Outcome::done()
}

async fn forget_agent(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let Params { target, actor, .. } = ctx.params()?;
    let member = Member { identity: Identity::ScalingOut, ..guest(ports, target)? };
    ports.ledger.change(Change::GuestKnown(member), &actor).await?;
    act(ports, ctx, SqlAct::ForgetMembers { agents: vec![target] }).await?;
    ports.ledger.change(Change::MemberLeft(target), &actor).await?;
    tell_others(ports, ctx, target, None).await;
    ctx.info(&format!("{target} is not in ocs.all_agent"));
    Ok(())
}

async fn finish(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Params { target, .. } = ctx.params()?;
    let state = ports.ledger.state();
    let member = guest(ports, target)?;
    let adopt = Operation::Adopt { members: state.members.clone(), cluster: state.cluster.clone() };
    on_target(ports, ctx, "adopt", adopt).await?;
    tell_others(ports, ctx, target, Some(&member)).await;
    ctx.info(&format!("{target} is CLUSTER AGENT"));
    Outcome::done()
}

async fn unadopt(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let Params { target, zone, .. } = ctx.params()?;
    let own = invitation(ports, &zone, &BTreeMap::new())?.coordinator;
    let target = Member { identity: Identity::ScalingOut, ..guest(ports, target)? };
    let members: Members = [own, target].into_iter().collect();
    back_on_target(ports, ctx, "unadopt", Operation::Unadopt { zone, members }).await
}

/// Every other member hears of one that came or went. Who does not learns it from the cluster's own database.
pub(super) async fn tell_others(ports: &Ports, ctx: &StepCtx, about: AgentAddr, new: Option<&Member>) {
    let members = ports.ledger.state().members.agents();
    let told =
        members.into_iter().filter(|agent| *agent != ports.own && *agent != about).map(|agent| async move {
            let telling = async {
                match new {
                    Some(member) => ports.peers.welcome(agent, member).await,
                    None => ports.peers.farewell(agent, about).await,
                }
            };
            let told = tokio::time::timeout(TELL_LIMIT, telling).await;
            (agent, told.unwrap_or_else(|_| Err(Error::new(Code::RpcRequestFailed, "no answer in time"))))
        });
    for (agent, told) in futures_util::future::join_all(told).await {
        if let Err(error) = told {
            let later = if is_unknown(&error) { "learns it from the database" } else { "was not told" };
            ctx.warn(&format!("{agent} {later}: {error}"));
        }
    }
}

/// Why nothing can be said about the cluster.
pub(super) fn no_answer(error: &Error) -> Error {
    let text = format!(
        "the cluster cannot be asked whether it has this host's server ({error}); RETRY when it answers, or delete the server \
         there by SQL first"
    );
    Error::new(Code::DatabaseUseless, text)
}

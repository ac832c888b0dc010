//! `Cluster scale in` and `Delete zone`: the cluster gives servers up, and their agents are SINGLE again (`lifecycle.md` §6.4,
//! §6.5). The nodes are those that clients know.
//!
//! From the beginning each agent that is reached holds its own lock for this (`Operation::Retire`), under a lease like every
//! part: nobody starts or stops its server meanwhile, and it is free by itself when the coordinator is gone. The go of that part
//! is what ends its server. An agent that is not reached is left behind as a guest, and told when it is back (`app::members`).
//!
//! Invariant: a server's process ends only after the cluster has forgotten the server, or (forced) while a majority of every
//! log stream lives without it. Its directories are never touched.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use super::handshake::{copy_lines, look_of, part_failed};
use super::participant::RELEASER;
use super::peers::{Gate, Operation, PartKey, Prepare, Progressed, is_unknown, surely};
use super::ports::{Progress, SqlAct};
use super::scale_out::{act, delete_and_wait, is_single, tell_others};
use super::step::step;
use super::{keeper, remote, zones};
use crate::cluster::{Act, Change, ClusterView, Fate, may};
use crate::crash::{self, Point};
use crate::engine::{Outcome, Registry, StepCtx, Template};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, EventId, Identity, Member, ServerAddr, StopHow, ZoneName};

/// Of a scale in: one server with its agent. Of a zone: everything in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    /// The agents that leave, as they were when it was asked for.
    pub members: Vec<Member>,
    pub servers: Vec<ServerAddr>,
    /// The zone that goes.
    pub zone: Option<ZoneName>,
    pub is_forced: bool,
    pub actor: String,
}

impl Params {
    fn agents(&self) -> Vec<AgentAddr> {
        self.members.iter().map(|member| member.agent).collect()
    }
}

const DELETE: &str = "Delete observer";
const MARK: &str = "Set agent to 'SCALING IN'";
const WAIT: &str = "Wait delete observer success";
const FORGET: &str = "Delete agent";
const KILL: &str = "Try to inform to kill observer";

pub fn template(own: AgentAddr, params: &Params) -> Template {
    let new = |name: &'static str| Template::new("scale_in", name, json!(params));
    let Some(zone) = &params.zone else {
        let marked =
            new("Cluster scale in").then("scale_in.delete", DELETE, own).then("scale_in.mark", MARK, own);
        return if params.is_forced {
            marked
                .then("scale_in.majority", "Check multi paxos member alive", own)
                .then("scale_in.kill", KILL, own)
                .then("scale_in.wait", WAIT, own)
                .then("scale_in.forget", FORGET, own)
        } else {
            marked.then("scale_in.wait", WAIT, own).then("scale_in.forget", FORGET, own).then(
                "scale_in.kill",
                KILL,
                own,
            )
        };
    };
    let has_agents = !params.members.is_empty();
    let begun = new("Delete zone");
    let marked = if has_agents { begun.then("scale_in.mark", MARK, own) } else { begun };
    let stopped = marked.then("scale_in.stop_zone", format!("Stop zone {zone}"), own);
    let emptied = if params.servers.is_empty() {
        stopped
    } else {
        stopped.then("scale_in.delete", DELETE, own).then("scale_in.wait", WAIT, own)
    };
    let deleted = emptied.then("scale_in.delete_zone", format!("Delete zone {zone}"), own);
    if !has_agents {
        return deleted;
    }
    deleted.then("scale_in.forget", FORGET, own).then("scale_in.kill", "Try to inform to kill observers", own)
}

/// An agent that was removed while it was away is told.
pub fn tell_template(own: AgentAddr, params: &Params) -> Template {
    Template::new("scale_in", "Kill observer of removed agent", json!(params)).then(
        "scale_in.kill",
        KILL,
        own,
    )
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Delete(ports.clone()));
    registry.add(Mark(ports.clone()));
    registry.add(Majority(ports.clone()));
    registry.add(Wait(ports.clone()));
    registry.add(Forget(ports.clone()));
    registry.add(Kill(ports.clone()));
    registry.add(StopZone(ports.clone()));
    registry.add(DeleteZone(ports.clone()));
}

const SHORT: Duration = Duration::from_secs(300);

/// For a part that has limits of its own: the longest stop that a configuration allows, and some.
const LONG: Duration = Duration::from_secs(26 * 3_600);

const SQL_LIMIT: Duration = Duration::from_secs(60);

/// What a step does after it was cancelled has to be done in the grace of a cancel.
const TAKE_BACK_LIMIT: Duration = Duration::from_secs(4);

step!(
    /// DELETE SERVER: marked so, and the database begins to move what is there.
    Delete, "scale_in.delete", "CTXBP", SHORT, delete, cancel_delete
);
step!(
    /// Their rows say SCALING IN.
    Mark, "scale_in.mark", "CTXBP", SHORT, mark, unmark
);
step!(
    /// A majority of every log stream lives without the server. Looks only.
    Majority, "scale_in.majority", "CTXBP", SHORT, majority
);
step!(
    /// Until the cluster has forgotten the servers. A cancel takes the deletion back (CANCEL DELETE SERVER).
    Wait, "scale_in.wait", "CTXBP", LONG, wait, cancel_delete
);
step!(
    /// Their rows go, here and in the cluster's database.
    Forget, "scale_in.forget", "CTP", SHORT, forget
);
step!(
    /// Their servers end, and they are SINGLE. An agent that is not reached is told later.
    Kill, "scale_in.kill", "CTP", LONG, kill
);
step!(StopZone, "scale_in.stop_zone", "CTBPX", SHORT, stop_zone, start_zone);
step!(DeleteZone, "scale_in.delete_zone", "CTXP", SHORT, delete_zone);

/// The part of each agent holds its lock. Who is not reached does not hold the others up; who is busy does.
async fn hold(ports: &Ports, ctx: &StepCtx, params: &Params) -> Result<keeper::Held> {
    let agents = params.agents();
    for agent in &agents {
        match prepare(ports, ctx, params, *agent).await {
            Ok(()) => {}
            Err(error) if is_unknown(&error) && !ctx.token.is_cancelled() => {
                ctx.warn(&format!("{agent} is not reached, and is told later: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(ports.keeper.hold(&ctx.dag_ref, &agents))
}

/// What is prepared and alive is found again; a part whose lease has ended is made anew, as a later round.
async fn prepare(ports: &Ports, ctx: &StepCtx, params: &Params, agent: AgentAddr) -> Result<()> {
    let how = if params.is_forced {
        StopHow::Kill
    } else {
        StopHow::Graceful { grace_secs: ports.limits.stop_grace.as_secs() }
    };
    let request = Prepare {
        key: PartKey::of(&ctx.dag_ref),
        main_name: ctx.dag_name.to_string(),
        round: u32::try_from(ports.clock.now().as_second()).unwrap_or(u32::MAX),
        operation: Operation::Retire { how },
        force: Vec::new(),
        actor: params.actor.clone(),
    };
    crash::point(Point::BeforePeer);
    let asked = surely(ports.limits.prepare, || ports.peers.prepare(agent, &request));
    let made = ctx.waiting(asked).await?;
    ctx.info(&format!("{agent} holds its lock for this as task {}", made.sub_dag));
    Ok(())
}

async fn delete(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    may(Act::Scale, ports.own, ports.ledger.state().identity)?;
    let _held = hold(ports, ctx, &params).await?;
    for server in &params.servers {
        ctx.waiting(act(ports, ctx, SqlAct::DeleteServer { server: *server })).await?;
        ctx.info(&format!("server {server} is being deleted"));
    }
    Outcome::done()
}

/// What is still there stays. What the cluster has forgotten does not come back.
async fn cancel_delete(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let params: Params = ctx.params()?;
    take_back(ports, ctx, &params, SQL_LIMIT).await
}

async fn take_back(ports: &Ports, ctx: &StepCtx, params: &Params, limit: Duration) -> Result<()> {
    let view = zones::view(ports, limit, ctx).await?;
    let gone: Vec<_> = params.servers.iter().filter(|server| view.server(**server).is_none()).collect();
    for server in params.servers.iter().filter(|server| !gone.contains(server)) {
        zones::anywhere(ports, &SqlAct::CancelDeleteServer { server: *server }, limit, ctx).await?;
        ctx.info(&format!("server {server} stays"));
    }
    if gone.is_empty() {
        return Ok(());
    }
    let gone: Vec<_> = gone.iter().map(ToString::to_string).collect();
    let text = format!(
        "the cluster has forgotten {} already; that cannot be taken back, a scale out adds it again",
        gone.join(", ")
    );
    Err(Error::new(Code::ServerNotExist, text))
}

async fn mark(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = hold(ports, ctx, &params).await?;
    ctx.waiting(mark_as(ports, ctx, &params, Identity::ScalingIn)).await?;
    Outcome::done()
}

async fn mark_as(ports: &Ports, ctx: &StepCtx, params: &Params, identity: Identity) -> Result<()> {
    let known = ports.ledger.state().members.clone();
    let members = params.members.iter().filter(|member| known.find(member.agent).is_some());
    let members: Vec<_> = members.map(|member| Member { identity, ..member.clone() }).collect();
    act(ports, ctx, SqlAct::SaveMembers { members: members.clone() }).await?;
    for member in members {
        let agent = member.agent;
        ports.ledger.change(Change::MemberKnown(member), &params.actor).await?;
        ctx.info(&format!("{agent} is {identity} in ocs.all_agent"));
    }
    Ok(())
}

/// They are members as before, and their locks are free.
async fn unmark(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let params: Params = ctx.params()?;
    mark_as(ports, ctx, &params, Identity::ClusterAgent).await?;
    release(ports, ctx, &params).await;
    Ok(())
}

async fn release(ports: &Ports, ctx: &StepCtx, params: &Params) {
    let key = PartKey::of(&ctx.dag_ref);
    for agent in params.agents() {
        match ports.peers.end(agent, &key, RELEASER).await {
            Ok(_) => ctx.info(&format!("{agent} is released")),
            Err(error) => ctx.warn(&format!("{agent} could not be released, its lease does that: {error}")),
        }
    }
}

/// Log streams with a replica on these servers that would not keep their majority without them.
pub fn losses(view: &ClusterView, servers: &[ServerAddr]) -> Vec<Fate> {
    let concerns = |fate: &Fate| {
        let rows = view.replicas.iter().filter(|row| (row.tenant, row.stream) == (fate.tenant, fate.stream));
        let mut rows = rows.filter(|row| {
            servers.contains(&row.server) || row.members.iter().any(|member| servers.contains(member))
        });
        rows.next().is_some()
    };
    view.without(servers).into_iter().filter(|fate| concerns(fate) && !fate.keeps_majority()).collect()
}

/// The refusal that lists them.
pub fn majority_error(losses: &[Fate]) -> Error {
    let listed: Vec<_> = losses.iter().map(Fate::in_words).collect();
    let text = format!(
        "these log streams would lose their majority: {}; nothing was ended. Bring back what is missing, or scale in without force",
        listed.join("; ")
    );
    Error::new(Code::MultiPaxosNotAlive, text)
}

async fn majority(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = hold(ports, ctx, &params).await?;
    let view = ctx.waiting(zones::view(ports, SQL_LIMIT, ctx)).await?;
    let losses = losses(&view, &params.servers);
    if !losses.is_empty() {
        return Err(majority_error(&losses));
    }
    ctx.info("every log stream keeps its majority");
    Outcome::done()
}

async fn wait(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    // Forced, they are nobody's already.
    let _held = if params.is_forced { None } else { Some(hold(ports, ctx, &params).await?) };
    if params.is_forced {
        ctx.waiting(delete_and_wait(ports, ctx, &params.servers)).await?;
        return Outcome::done();
    }
    let waited = ctx.waiting(delete_and_wait(ports, ctx, &params.servers)).await;
    // The limit of the wait is shorter than the step's: this is somebody's cancel.
    if waited.is_err() && ctx.token.is_cancelled() {
        let back =
            tokio::time::timeout(TAKE_BACK_LIMIT, take_back(ports, ctx, &params, TAKE_BACK_LIMIT)).await;
        if let Err(error) = back.unwrap_or_else(|_| Err(Error::unexpected("no time is left for it"))) {
            ctx.warn(&format!("the deletion could not be taken back, ROLLBACK does it: {error}"));
        }
    }
    waited?;
    Outcome::done()
}

async fn forget(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let agents = params.agents();
    act(ports, ctx, SqlAct::ForgetMembers { agents: agents.clone() }).await?;
    for agent in agents {
        // Forced, it knows already, if it was reached.
        let knows = params.is_forced && is_single(ports, agent).await;
        let change = if knows { Change::MemberLeft(agent) } else { Change::MemberRetired(agent) };
        ports.ledger.change(change, &params.actor).await?;
        tell_others(ports, ctx, agent, None).await;
        ctx.info(&format!("{agent} is no member any more"));
    }
    Outcome::done()
}

async fn kill(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    for agent in params.agents() {
        match end_server(ports, ctx, &params, agent).await {
            Ok(()) => {
                ports.ledger.change(Change::GuestLeft(agent), &params.actor).await?;
                ctx.info(&format!("{agent} is SINGLE, its server does not run"));
            }
            Err(error) if is_unknown(&error) => {
                ctx.warn(&format!("{agent} is not reached, and is told when it is back: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    Outcome::done()
}

/// The go, and until it is SINGLE. From then on it tells us no more than any stranger: what it is, is asked at its open door.
async fn end_server(ports: &Ports, ctx: &StepCtx, params: &Params, agent: AgentAddr) -> Result<()> {
    let key = PartKey::of(&ctx.dag_ref);
    if is_single(ports, agent).await {
        return Ok(());
    }
    let known = async {
        prepare(ports, ctx, params, agent).await?;
        let _held = ports.keeper.hold(&ctx.dag_ref, &[agent]);
        follow(ports, ctx, agent, &key).await
    };
    match known.await {
        Ok(()) => Ok(()),
        Err(error) if is_unknown(&error) => {
            if is_single(ports, agent).await {
                Ok(())
            } else {
                Err(error)
            }
        }
        Err(error) => refused(&*ports.gate, agent, ports.limits.silence, error).await,
    }
}

/// What the refusal of who leaves means: who is SINGLE by now knows us no more, and has done it. It may die between its
/// refusal and our look, so it is looked at until it answers.
async fn refused(gate: &dyn Gate, agent: AgentAddr, silence: Duration, refusal: Error) -> Result<()> {
    let found = surely(silence, || gate.look(agent)).await?;
    if found.identity == Identity::Single { Ok(()) } else { Err(refusal) }
}

async fn follow(ports: &Ports, ctx: &StepCtx, agent: AgentAddr, key: &PartKey) -> Result<()> {
    let mut since = EventId(0);
    loop {
        let wait = if since == EventId(0) { Duration::ZERO } else { look_of(ports) };
        let view = remote::look(ports, agent, key, since, wait).await?;
        copy_lines(ctx, agent, &view);
        since = view.version.max(since);
        match view.progressed {
            Progressed::Prepared => {
                crash::point(Point::BeforePeer);
                surely(ports.limits.silence, || ports.peers.go(agent, key)).await?;
            }
            Progressed::Preparing | Progressed::Running | Progressed::Halfway => {}
            Progressed::Done => return Ok(()),
            Progressed::Failed => return Err(part_failed(agent, &view)),
            Progressed::Released => {
                let text = format!("{agent}: its task {} was ended; RETRY asks again", view.sub_dag);
                return Err(Error::new(Code::SubDagsNotSucceeded, text));
            }
        }
    }
}

/// The database looks itself whether every tenant lives without it.
async fn stop_zone(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = hold(ports, ctx, &params).await?;
    let Some(zone) = params.zone else { return Outcome::done() };
    ctx.waiting(act(ports, ctx, SqlAct::StopZone { zone: zone.clone() })).await?;
    ctx.info(&format!("zone {zone} is stopped"));
    Outcome::done()
}

async fn start_zone(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let params: Params = ctx.params()?;
    let Some(zone) = params.zone else { return Ok(()) };
    act(ports, ctx, SqlAct::StartZone { zone: zone.clone() }).await?;
    ctx.info(&format!("zone {zone} is active"));
    Ok(())
}

async fn delete_zone(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = hold(ports, ctx, &params).await?;
    let Some(zone) = params.zone else { return Outcome::done() };
    ctx.waiting(act(ports, ctx, SqlAct::DeleteZone { zone: zone.clone() })).await?;
    ctx.info(&format!("zone {zone} is gone"));
    Outcome::done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ReplicaRow, ServerRow, ZoneRow};
    use crate::flow::tests::Away;

    fn server(last: u8) -> ServerAddr {
        ServerAddr::new([10, 0, 0, last].into(), 2882)
    }

    /// Three servers with a log stream; what is not well is not in service.
    fn view(well: [bool; 4]) -> ClusterView {
        let servers = (1..=4_u8).zip(well).map(|(last, is_well)| ServerRow {
            id: i64::from(last),
            server: server(last),
            zone: format!("z{last}").parse().unwrap(),
            sql_port: 2881,
            has_root: last == 1,
            status: if is_well { "ACTIVE" } else { "INACTIVE" }.to_owned(),
            started: is_well.then(|| "now".to_owned()),
            stopped: None,
            build_version: String::new(),
        });
        let members: Vec<_> = (1..=3).map(server).collect();
        let replicas = (1..=3).map(|last| ReplicaRow {
            tenant: 1,
            stream: 1,
            server: server(last),
            is_leader: last == 1,
            members: members.clone(),
            replicas: 3,
            is_in_sync: true,
        });
        let zones = (1..=4).map(|last| ZoneRow {
            zone: format!("z{last}").parse().unwrap(),
            status: "ACTIVE".to_owned(),
            region: String::new(),
            idc: String::new(),
        });
        ClusterView {
            servers: servers.collect(),
            zones: zones.collect(),
            replicas: replicas.collect(),
            ..ClusterView::default()
        }
    }

    /// Only streams that the server has a part in count against its removal.
    #[test]
    fn a_majority_must_live_without_the_server() {
        let lost = |well, last| losses(&view(well), &[server(last)]).len();
        assert_eq!(lost([true; 4], 2), 0, "two of three are left");
        assert_eq!(lost([true, true, false, true], 2), 1, "one of three is left");
        assert_eq!(lost([true, true, false, true], 3), 0, "it is the one that is missing");
        assert_eq!(lost([true, false, false, true], 4), 0, "it holds nothing of what is lost already");
        let error = majority_error(&losses(&view([true, true, false, true]), &[server(2)]));
        assert_eq!(error.code, Code::MultiPaxosNotAlive);
        assert!(error.text().contains("log stream 1: 1 of 3 replicas left, 2 needed"), "{error}");
    }

    /// `lifecycle.md` §6.4, §6.5.
    #[test]
    fn the_nodes_are_those_that_clients_know() {
        let params = |zone: Option<&str>, is_forced| Params {
            members: Vec::new(),
            servers: vec![server(4)],
            zone: zone.map(|zone| zone.parse().unwrap()),
            is_forced,
            actor: "test".to_owned(),
        };
        let own = AgentAddr::new([10, 0, 0, 1].into(), 2886);
        let names = |params: &Params| {
            let template = template(own, params);
            template.node_names().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names(&params(None, false)), [DELETE, MARK, WAIT, FORGET, KILL]);
        let forced = [DELETE, MARK, "Check multi paxos member alive", KILL, WAIT, FORGET];
        assert_eq!(names(&params(None, true)), forced);
        // Without agents nobody is told.
        let zone = ["Stop zone z4", DELETE, WAIT, "Delete zone z4"];
        assert_eq!(names(&params(Some("z4"), false)), zone);
    }

    /// It became SINGLE, refused us, and was killed before we looked: it has done what it was told all the same.
    #[tokio::test(start_paused = true)]
    async fn who_dies_after_it_has_refused_is_looked_at_when_it_is_back() {
        let agent = AgentAddr::new([10, 0, 0, 3].into(), 2886);
        let judged = async |times, identity| {
            let gate = Away::for_times(times, identity);
            let refusal = Error::new(Code::RpcRequestError, "not authorised");
            refused(&gate, agent, Duration::from_secs(60), refusal).await
        };
        judged(0, Identity::Single).await.unwrap();
        judged(5, Identity::Single).await.unwrap();
        assert_eq!(judged(5, Identity::ClusterAgent).await.unwrap_err().code, Code::RpcRequestError);
        // Not back within the limit of silence: it is told later.
        assert!(is_unknown(&judged(u32::MAX, Identity::Single).await.unwrap_err()));
    }
}

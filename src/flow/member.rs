//! Who belongs to the cluster: becoming master, following one, adopting what the cluster says, leaving.
//!
//! `Join self`, `Join to master`, `Follower remove self`, `Remove follower agent …`, `Remove all agents`
//! (`lifecycle.md` §2). Every one of them can be repeated, and a failure leaves nothing locked (W25).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use super::peers::{Operation, is_unknown, surely};
use super::ports::Progress;
use super::remote;
use super::step::step;
use crate::cluster::{
    Act, Change, ClusterConfig, MYSQL_PORT_DEFAULT, Members, RPC_PORT_DEFAULT, effective, may, port,
};
use crate::engine::{Outcome, Registry, StepCtx, Template};
use crate::error::{Code, Error, Result};
use crate::model::{API_VERSION, AgentAddr, Identity, Member, ZoneName};

/// What a master's password in parameters is sealed for.
pub const MASTER_PASSWORD: &str = "task.master_password";

const DEADLINE: Duration = Duration::from_secs(120);

/// How long an unreachable side is tried before a removal fails (W26).
const REMOVAL_LIMIT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinSelf {
    pub zone: ZoneName,
    pub actor: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinMaster {
    pub zone: ZoneName,
    pub master: AgentAddr,
    /// Sealed for [`MASTER_PASSWORD`].
    pub password: String,
    pub actor: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remove {
    pub agents: Vec<AgentAddr>,
    pub actor: String,
}

fn short(name: impl Into<String>, params: serde_json::Value) -> Template {
    Template::new("member", name, params).locked(None).releases_lock_on_failure()
}

pub fn join_self(own: AgentAddr, params: &JoinSelf) -> Template {
    short("Join self", json!(params)).then("member.join_self", "Join self", own)
}

pub fn join_master(own: AgentAddr, params: &JoinMaster) -> Template {
    short("Join to master", json!(params)).then("member.join_master", "Join to master", own).then(
        "member.follow",
        "Be follower",
        own,
    )
}

/// This follower leaves.
pub fn leave_master(own: AgentAddr, params: &Remove) -> Template {
    short("Follower remove self", json!(params)).then("member.tell_master", "Follower remove self", own).then(
        "member.single",
        "Agent to single",
        own,
    )
}

/// A follower is let go; told so by us, or asking for it itself.
pub fn remove_follower(own: AgentAddr, params: &Remove, is_told: bool) -> Template {
    let agent = params.agents.first().map(ToString::to_string).unwrap_or_default();
    let name = format!("Remove follower agent {agent}");
    let removing = short(name.clone(), json!(params));
    let told = if is_told {
        removing.then_on_each("member.tell_follower", "Remove follower", &params.agents)
    } else {
        removing
    };
    told.then("member.forget", name, own)
}

/// The master gives its cluster to be up.
pub fn remove_all(own: AgentAddr, params: &Remove) -> Template {
    let removing = short("Remove all agents", json!(params));
    let told = if params.agents.is_empty() {
        removing
    } else {
        removing.then_on_each("member.tell_follower", "Remove follower", &params.agents)
    };
    told.then("member.single", "Remove master", own)
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(BecomeMaster(ports.clone()));
    registry.add(TellJoin(ports.clone()));
    registry.add(Follow(ports.clone()));
    registry.add(TellMaster(ports.clone()));
    registry.add(TellFollower(ports.clone()));
    registry.add(Forget(ports.clone()));
    registry.add(BecomeSingle(ports.clone()));
}

/// Ourselves, as a member of this zone.
pub fn own_member(ports: &Ports, zone: &ZoneName, identity: Identity) -> Member {
    let state = ports.ledger.state();
    let configured = effective(&state, ports.own);
    let about = &ports.about;
    let known = state.own_member();
    // A configuration that cannot be was refused when it was given.
    let told = |key, default| port(&configured, key, default).unwrap_or(default);
    Member {
        agent: ports.own,
        zone: zone.clone(),
        identity,
        version: API_VERSION.to_owned(),
        os: about.os.clone(),
        architecture: about.architecture.clone(),
        home_path: about.home_path.clone(),
        sql_port: state.server.sql_port.unwrap_or_else(|| told("mysql_port", MYSQL_PORT_DEFAULT)),
        rpc_port: match (known, configured.contains_key("rpc_port")) {
            (Some(known), false) => known.rpc_port,
            _ => told("rpc_port", RPC_PORT_DEFAULT),
        },
        public_key: about.public_key.clone(),
        peer_key: about.peer_key.clone(),
    }
}

step!(
    /// One commit of the ledger; running it twice finds it done.
    BecomeMaster, "member.join_self", "CTPB", DEADLINE, become_master, master_no_more
);
step!(
    /// The master takes us among its followers. It knows us by our key, so asking twice is asking once.
    TellJoin, "member.join_master", "CTPB", DEADLINE, tell_join, take_join_back
);
step!(
    /// One commit of the ledger.
    Follow, "member.follow", "CTPB", DEADLINE, follow, master_no_more
);
step!(
    /// The master lets us go; both sides agree, or it fails (W26). PASS is the human override.
    TellMaster, "member.tell_master", "CTPX", DEADLINE, tell_master
);
step!(
    /// The follower becomes SINGLE.
    TellFollower, "member.tell_follower", "CTPX", DEADLINE, tell_follower
);
step!(
    /// Its row and what was configured for it go, nothing else (W27).
    Forget, "member.forget", "CTP", DEADLINE, forget
);
step!(
    /// One commit of the ledger.
    BecomeSingle, "member.single", "CTP", DEADLINE, become_single
);

async fn become_master(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let JoinSelf { zone, actor } = ctx.params()?;
    let state = ports.ledger.state();
    if state.identity == Identity::Master && state.zone.as_ref() == Some(&zone) {
        ctx.info("already the master of its own cluster");
        return Outcome::done();
    }
    may(Act::Join, ports.own, state.identity)?;
    let own = own_member(ports, &zone, Identity::Master);
    ports.ledger.change(Change::BecameMaster { own }, &actor).await?;
    ctx.info(&format!("{} is MASTER, zone {zone}", ports.own));
    Outcome::done()
}

async fn master_no_more(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    if matches!(ports.ledger.state().identity, Identity::Master | Identity::Follower) {
        ports.ledger.change(Change::BecameSingle, &ctx.dag_ref).await?;
        ctx.info("SINGLE again");
    }
    Ok(())
}

/// What the master has told of its cluster to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Joined {
    members: Members,
}

async fn tell_join(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let JoinMaster { zone, master, password, .. } = ctx.params()?;
    let state = ports.ledger.state();
    if state.identity == Identity::Follower && state.members.is_master(master) {
        ctx.info(&format!("already a follower of {master}"));
        return Outcome::with(Joined { members: state.members.clone() });
    }
    may(Act::Join, ports.own, state.identity)?;
    let own = own_member(ports, &zone, Identity::Follower);
    let password = ports.sealer.open(MASTER_PASSWORD, &password)?;
    let joined =
        ctx.waiting(surely(REMOVAL_LIMIT, || ports.gate.join(master, &password, &own, false))).await?;
    // The other followers are the master's business: one that it removes is nobody to us, too.
    let members = joined.iter().filter(|member| member.agent == master).cloned().chain([own]).collect();
    ctx.info(&format!("{master} has taken {} among its followers, zone {zone}", ports.own));
    Outcome::with(Joined { members })
}

/// The master may not have heard of it, or be gone: what it keeps of us is a row that `agent remove` takes away.
async fn take_join_back(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let JoinMaster { master, actor, .. } = ctx.params()?;
    if let Err(error) = ports.peers.leave(master, &actor).await {
        ctx.warn(&format!("{master} could not be told, and may keep this agent in its list: {error}"));
    }
    Ok(())
}

async fn follow(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let JoinMaster { zone, master, actor, .. } = ctx.params()?;
    let Joined { members } = ctx.input("member.join_master")?;
    ports.ledger.change(Change::BecameFollower { zone, members }, &actor).await?;
    // Before the master speaks to us as to a member, which it holds to the CA.
    let certified = surely(REMOVAL_LIMIT, || ports.trust.be_certified(master));
    if let Some(said) = ctx.waiting(certified).await? {
        ctx.info(&said);
    }
    ctx.info(&format!("{} is FOLLOWER of {master}", ports.own));
    Outcome::done()
}

async fn tell_master(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Remove { actor, .. } = ctx.params()?;
    let state = ports.ledger.state();
    if state.identity == Identity::Single {
        ctx.info("already SINGLE");
        return Outcome::done();
    }
    let master = state.members.master().map(|member| member.agent);
    let master = master.ok_or_else(|| Error::new(Code::NoMaster, "the master is not known"))?;
    match ctx.waiting(surely(REMOVAL_LIMIT, || ports.peers.leave(master, &actor))).await {
        Ok(()) => ctx.info(&format!("{master} lets {} go", ports.own)),
        Err(error) if is_unknown(&error) => {
            let text = format!(
                "{error}; nothing has changed. RETRY tries again; PASS leaves without telling it (then remove {} there)",
                ports.own
            );
            return Err(Error::new(Code::RpcRequestFailed, text));
        }
        Err(refused) => return Err(refused),
    }
    Outcome::done()
}

async fn tell_follower(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Remove { actor, .. } = ctx.params()?;
    if ports.ledger.state().members.find(ctx.agent).is_none() {
        ctx.info(&format!("{} is no member any more", ctx.agent));
        return Outcome::done();
    }
    match remote::run(ports, ctx, ctx.agent, "leave", Operation::Leave, &actor).await {
        Ok(()) => Outcome::done(),
        // Once it has left it tells us no more than any stranger.
        Err(error) if has_left(ports, ctx.agent).await => {
            tracing::debug!(%error, agent = %ctx.agent, "the last look at what it did");
            ctx.info(&format!("{} says that it is SINGLE", ctx.agent));
            Outcome::done()
        }
        Err(error) => Err(error),
    }
}

async fn has_left(ports: &Ports, agent: AgentAddr) -> bool {
    ports.gate.look(agent).await.is_ok_and(|found| found.identity == Identity::Single)
}

async fn forget(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Remove { agents, actor } = ctx.params()?;
    for agent in agents {
        ports.ledger.change(Change::MemberLeft(agent), &actor).await?;
        ctx.info(&format!("{agent} is no follower any more"));
    }
    Outcome::done()
}

async fn become_single(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Remove { actor, .. } = ctx.params()?;
    leave(ports, ctx, &actor).await?;
    Outcome::done()
}

/// Forgets the cluster to be, or the one that has not taken us yet. An agent of an initialised cluster does not.
pub(super) async fn leave(ports: &Ports, ctx: &StepCtx, actor: &str) -> Result<()> {
    let identity = ports.ledger.state().identity;
    if identity != Identity::Single {
        if identity != Identity::ScalingOut {
            may(Act::Leave, ports.own, identity)?;
        }
        ports.ledger.change(Change::BecameSingle, actor).await?;
    }
    ctx.info(&format!("{} is SINGLE", ports.own));
    Ok(())
}

/// Takes these members for the cluster's. We become what we are among them; a list without us is not for us.
pub(super) async fn adopt(
    ports: &Ports,
    ctx: &StepCtx,
    members: Members,
    cluster: ClusterConfig,
    actor: &str,
) -> Result<()> {
    let Some(own) = members.find(ports.own).cloned() else {
        let text = format!("{} is not among the members that it was told", ports.own);
        return Err(Error::new(Code::IllegalArgument, text));
    };
    let count = members.len();
    let configured = Change::ClusterConfigured { config: cluster, root_password: None };
    ports.ledger.change(configured, actor).await?;
    // One commit: in the list there is no master any more, whom a follower would have to ask, and a CLUSTER AGENT knows its ports
    // from it.
    let known = if own.identity == Identity::ClusterAgent {
        ports.process.mark_initialised().await?;
        Change::Adopted { members }
    } else {
        Change::MembersKnown(members)
    };
    ports.ledger.change(known, actor).await?;
    ctx.info(&format!("{} is {}, one of {count} members", ports.own, own.identity));
    Ok(())
}

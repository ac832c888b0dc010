//! `Take over`: a running cluster that no agent of ours deployed becomes one that ours manage (`lifecycle.md` §7).
//!
//! Agents come to it as to a cluster to be: one is MASTER, the others have joined it, each in the home of its server. One
//! request with the password of root@sys does the rest; no agent elects anybody, and nothing happens because an agent was started.
//!
//! Invariant: no server is started, stopped or told anything but SQL; what is written is schema `ocs`, and the agents' own
//! lists. Until the end everything is taken back by ROLLBACK, but for the tables of `ocs`, which may have been there before. A failure
//! holds no lock: a server that falls meanwhile can be started.
//!
//! Not here: whose server is which (`cluster::take_over`), what is told before anything happens (`app::take_over`).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::bootstrap::become_cluster_agent;
use super::catalog::Ports;
use super::member::{self, own_member};
use super::peers::{Facts, Operation, surely};
use super::ports::{Handed, Login, Progress, Silent, SqlAct, SqlAnswer};
use super::remote;
use super::step::step;
use crate::cluster::take_over::{Candidate, Matched, matched};
use crate::cluster::{Act, Change, ClusterConfig, ClusterView, Members, Wanted, may};
use crate::config::EngineKind;
use crate::engine::{Outcome, Registry, StepCtx, Template};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity, Member, Password, Scope, ServerAddr, ZoneName};

/// Of its tasks.
pub const FLOW: &str = "take_over";

/// What the root password in parameters is sealed for.
pub const ROOT_PASSWORD: &str = "task.take_over.root_password";

const DEADLINE: Duration = Duration::from_secs(300);

/// For the cluster to be asked something.
const LOOK: Duration = Duration::from_secs(5);

/// For an agent to tell of its server.
const FACTS_LIMIT: Duration = Duration::from_secs(5);

/// For somebody who may not be there any more to answer.
const STRANGER_LIMIT: Duration = Duration::from_secs(3);

/// For one change in schema `ocs`.
const SQL_LIMIT: Duration = Duration::from_secs(60);

/// A database of one server has no name; this is shown for one.
const NAME_OF_ONE: &str = "seekdb";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Params {
    pub actor: String,
    pub engine: EngineKind,
    /// Every member, ourselves included.
    pub agents: Vec<AgentAddr>,
    /// Sealed for [`ROOT_PASSWORD`].
    pub password: String,
}

pub fn template(own: AgentAddr, params: &Params) -> Template {
    let looked = Template::new(FLOW, "Take over", json!(params))
        .locked(None)
        .releases_lock_on_failure()
        .then("take_over.look", "Check servers of cluster", own)
        .then("take_over.record", "Synchronize agent from cluster", own);
    let others: Vec<_> = params.agents.iter().copied().filter(|agent| *agent != own).collect();
    let written = match params.engine {
        EngineKind::Seekdb => looked,
        EngineKind::Observer => {
            looked.then("take_over.tables", "Migrate table", own).then("take_over.rows", "Migrate data", own)
        }
    };
    let told = if others.is_empty() {
        written
    } else {
        written.then_on_each("take_over.tell", "Convert follower to cluster agent", &others)
    };
    told.then("take_over.convert", "Convert master to cluster agent", own)
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(LookAtAll(ports.clone()));
    registry.add(Record(ports.clone()));
    registry.add(Tables(ports.clone()));
    registry.add(Rows(ports.clone()));
    registry.add(Tell(ports.clone()));
    registry.add(Convert(ports.clone()));
}

step!(
    /// Whose server is which. Looks only.
    LookAtAll, "take_over.look", "CTBX", DEADLINE, look
);
step!(
    /// What the cluster has told, in our own ledger. Each change is one that may be made twice.
    Record, "take_over.record", "CTBX", DEADLINE, record, forget
);
step!(
    /// Schema `ocs`, where it is missing. Its tables stay: they may be older than this.
    Tables, "take_over.tables", "CTBX", DEADLINE, tables
);
step!(
    /// The members' rows; those of agents that are gone go.
    Rows, "take_over.rows", "CTBX", DEADLINE, rows, remove_rows
);
step!(
    /// A follower has the root password and the members, and is a CLUSTER AGENT.
    Tell, "take_over.tell", "CTBX", DEADLINE, tell, give_back
);
step!(
    /// One commit of the ledger.
    Convert, "take_over.convert", "CTB", DEADLINE, convert, master_again
);

/// What is there to be taken over.
#[derive(Debug)]
pub struct Examined {
    /// As they are now, with the zones and ports that the cluster has them in.
    pub members: Members,
    pub cluster: ClusterConfig,
    /// Every server of the cluster.
    pub servers: Vec<ServerAddr>,
    /// What each agent tells of itself, where it was reached.
    pub seen: BTreeMap<AgentAddr, Facts>,
    pub obstacles: Vec<Error>,
    pub notes: Vec<String>,
    /// Agents in `ocs.all_agent` that nobody reaches any more, and that are none of ours.
    pub gone: Vec<AgentAddr>,
    /// Everything that stands in that table.
    pub rows: Members,
}

/// Looks at every agent's server and at the cluster. Changes nothing.
///
/// # Errors
/// When the cluster cannot be looked at at all: our own server does not answer, or refuses the password.
pub async fn examine(ports: &Ports, password: &Password) -> Result<Examined> {
    match ports.sql.login(password).await {
        Login::Accepted => {}
        Login::Refused => {
            let text = "the database refuses this password of root@sys; nothing was changed";
            return Err(Error::new(Code::PasswordIncorrect, text));
        }
        Login::NoAnswer => {
            let text = format!(
                "the server in the home of {} does not answer; start it first (`obpilot cluster start` on that host)",
                ports.own
            );
            return Err(Error::new(Code::DatabaseUseless, text));
        }
    }
    let members = ports.ledger.state().members.clone();
    let told = join_all(members.iter().map(|member| told_by(ports, member))).await;
    let seen = told.iter().filter_map(|(_, facts)| facts.clone()).map(|facts| (facts.agent, facts)).collect();
    let candidates: Vec<Candidate> = told.into_iter().map(|(candidate, _)| candidate).collect();
    match ports.engine {
        EngineKind::Seekdb => Ok(examine_one(ports, candidates, seen)),
        EngineKind::Observer => examine_cluster(ports, password, &candidates, seen).await,
    }
}

async fn told_by(ports: &Ports, member: &Member) -> (Candidate, Option<Facts>) {
    let facts = ports.peers.facts(member.agent, FACTS_LIMIT).await;
    let sql_port = match &facts {
        Err(error) => Err(format!("it does not tell of its server: {error}")),
        Ok(facts) if !facts.is_initialised => Err(format!(
            "its home holds no database ({}); is it the home of the server, and its `engine` the right one?",
            member.home_path
        )),
        Ok(facts) if facts.process.is_none() => {
            Err("no server of its home runs; start it first (`obpilot cluster start` on that host), or name the executable of \
                 the one that runs (`engine.binary`)"
                .to_owned())
        }
        Ok(facts) => facts
            .sql_port
            .ok_or_else(|| "it is not known on which port its server speaks SQL; try again".to_owned()),
    };
    (Candidate { member: member.clone(), sql_port }, facts.ok())
}

/// A database of one server is its agent's.
fn examine_one(ports: &Ports, candidates: Vec<Candidate>, seen: BTreeMap<AgentAddr, Facts>) -> Examined {
    let state = ports.ledger.state();
    let mut found = Examined {
        members: Members::default(),
        cluster: ClusterConfig {
            id: state.cluster.id.or(Some(1)),
            name: state.cluster.name.clone().or_else(|| Some(NAME_OF_ONE.to_owned())),
            rs_list: None,
        },
        servers: Vec::new(),
        seen,
        obstacles: Vec::new(),
        notes: Vec::new(),
        gone: Vec::new(),
        rows: Members::default(),
    };
    for Candidate { member, sql_port } in candidates {
        match sql_port {
            Ok(sql_port) => found.members = found.members.with(Member { sql_port, ..member }),
            Err(why) => {
                found.obstacles.push(Error::new(Code::ServerNotReady, format!("{}: {why}", member.agent)));
            }
        }
    }
    found
}

async fn examine_cluster(
    ports: &Ports,
    password: &Password,
    candidates: &[Candidate],
    seen: BTreeMap<AgentAddr, Facts>,
) -> Result<Examined> {
    let ask = async |act: SqlAct| ports.cluster.act(password, &act, LOOK, &Silent).await;
    let view = ask(SqlAct::View).await?.view()?;
    let cluster = cluster_of(&ask(SqlAct::Parameters).await?.parameters()?);
    let SqlAnswer::Members(managers) = ask(SqlAct::ReadAgents).await? else {
        return Err(Error::unexpected("agents: asked for and not given"));
    };
    let Matched { members, mut obstacles, notes } = matched(&view, candidates);
    let strangers: Vec<_> = managers
        .agents()
        .into_iter()
        .filter(|agent| candidates.iter().all(|c| c.member.agent != *agent))
        .collect();
    let mut gone = Vec::new();
    for (agent, busy) in join_all(strangers.iter().map(|agent| manages(ports, *agent))).await {
        if busy { obstacles.push(managed_already(agent)) } else { gone.push(agent) }
    }
    let servers = servers_of(&view);
    Ok(Examined { members, cluster, servers, seen, obstacles, notes, gone, rows: managers })
}

fn servers_of(view: &ClusterView) -> Vec<ServerAddr> {
    let mut servers: Vec<_> = view.servers.iter().map(|row| row.server).collect();
    servers.sort();
    servers
}

/// `cluster` and `cluster_id` of `GV$OB_PARAMETERS`.
fn cluster_of(parameters: &crate::cluster::parameters::ParameterSet) -> ClusterConfig {
    let value = |name: &str| {
        let row = parameters.rows.iter().find(|row| row.name.eq_ignore_ascii_case(name));
        row.map(|row| row.value.clone()).filter(|value| !value.is_empty())
    };
    ClusterConfig {
        id: value("cluster_id").and_then(|id| id.parse().ok()),
        name: value("cluster"),
        rs_list: None,
    }
}

/// Whether an agent of `ocs.all_agent` lives and takes itself for one of this cluster. (An agent of OBShell answers this, too.)
async fn manages(ports: &Ports, agent: AgentAddr) -> (AgentAddr, bool) {
    let look = tokio::time::timeout(STRANGER_LIMIT, ports.gate.look(agent)).await;
    (agent, matches!(look, Ok(Ok(found)) if found.identity == Identity::ClusterAgent))
}

fn managed_already(agent: AgentAddr) -> Error {
    let text = format!(
        "{agent} manages this cluster already (it stands in ocs.all_agent and answers); stop that agent first: two of them \
         would start and stop one server"
    );
    Error::new(Code::AgentAlreadyExists, text)
}

/// What was found, and what was before, for the way back.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Planned {
    members: Members,
    cluster: ClusterConfig,
    servers: Vec<ServerAddr>,
    gone: Vec<AgentAddr>,
    before: Before,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Before {
    members: Members,
    cluster: ClusterConfig,
    wanted: Wanted,
    /// What stood in `ocs.all_agent`: rows that are written over, or go.
    rows: Members,
    /// What was set for each server.
    settings: BTreeMap<AgentAddr, BTreeMap<String, String>>,
}

fn planned(ctx: &StepCtx) -> Result<Planned> {
    ctx.input("take_over.look")
}

async fn look(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let state = ports.ledger.state();
    may(Act::Init, ports.own, state.identity)?;
    let password = ports.sealer.open(ROOT_PASSWORD, &params.password)?;
    let found = ctx.waiting(examine(ports, &password)).await?;
    found.notes.iter().for_each(|note| ctx.warn(note));
    let mut texts: Vec<_> = found.obstacles.iter().map(|error| error.text().to_owned()).collect();
    if let Some(first) = found.obstacles.first() {
        texts.dedup();
        return Err(Error::new(first.code, format!("nothing was changed: {}", texts.join(". "))));
    }
    if found.members.agents() != params.agents {
        let text = "agents have come or gone since this was asked for; ROLLBACK, and ask again";
        return Err(Error::new(Code::BadRequest, text));
    }
    for member in found.members.iter() {
        ctx.info(&format!("{}: server {}, zone {}", member.agent, member.server(), member.zone));
    }
    let before = Before {
        members: state.members.clone(),
        cluster: state.cluster.clone(),
        wanted: state.server.wanted,
        rows: found.rows,
        settings: state.observer.servers.clone(),
    };
    let Examined { members, cluster, servers, gone, .. } = found;
    Outcome::with(Planned { members, cluster, servers, gone, before })
}

async fn record(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let Planned { members, cluster, .. } = planned(ctx)?;
    let root_password = Some(ports.sealer.open(ROOT_PASSWORD, &params.password)?);
    let name = cluster.name.clone().unwrap_or_default();
    let known = Change::ClusterConfigured { config: cluster, root_password };
    let change = async |change| ports.ledger.change(change, &params.actor).await;
    change(known).await?;
    for member in members.iter() {
        // What was set before counts for first starts; of a server that runs only its ports are true.
        let ports_of = [("mysql_port", member.sql_port), ("rpc_port", member.rpc_port)];
        let config = ports_of.map(|(key, port)| (key.to_owned(), port.to_string())).into();
        change(Change::ObserverConfigured { scope: Scope::Server(vec![member.agent]), config }).await?;
    }
    let count = members.len();
    change(Change::MembersKnown(members)).await?;
    watch_server(ports, &params.actor).await?;
    ctx.info(&format!("cluster {name} has {count} servers, each with its agent"));
    Outcome::done()
}

/// Whoever has come since stays; that the root password is right does not become wrong, and it stays known.
async fn forget(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let Params { actor, .. } = ctx.params()?;
    let Planned { before, .. } = planned(ctx)?;
    let change = async |change| ports.ledger.change(change, &actor).await;
    change(Change::ServerWanted(before.wanted)).await?;
    for member in before.members.iter() {
        let agent = member.agent;
        if ports.ledger.state().members.find(agent).is_some() {
            change(Change::MemberKnown(member.clone())).await?;
            let config = before.settings.get(&agent).cloned().unwrap_or_default();
            change(Change::ObserverConfigured { scope: Scope::Server(vec![agent]), config }).await?;
        }
    }
    if let Some(own) = before.members.find(ports.own).cloned() {
        change(Change::BecameMaster { own }).await?;
    }
    change(Change::ClusterConfigured { config: before.cluster, root_password: None }).await
}

async fn act(ports: &Ports, ctx: &StepCtx, act: SqlAct) -> Result<()> {
    let password = ports.ledger.root_password();
    ctx.waiting(ports.cluster.act(&password, &act, SQL_LIMIT, ctx)).await.map(|_| ())
}

async fn tables(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    act(ports, ctx, SqlAct::MakeTables).await?;
    ctx.info("schema ocs is there");
    Outcome::done()
}

async fn rows(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Planned { members, gone, .. } = planned(ctx)?;
    let count = members.len();
    let members = members.all_as(Identity::ClusterAgent).iter().cloned().collect();
    act(ports, ctx, SqlAct::SaveMembers { members }).await?;
    ctx.info(&format!("{count} agents are in ocs.all_agent"));
    if !gone.is_empty() {
        let names: Vec<_> = gone.iter().map(ToString::to_string).collect();
        act(ports, ctx, SqlAct::ForgetMembers { agents: gone }).await?;
        ctx.warn(&format!("no longer in it, because nobody answers there: {}", names.join(", ")));
    }
    Outcome::done()
}

async fn remove_rows(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let Planned { members, before, .. } = planned(ctx)?;
    act(ports, ctx, SqlAct::ForgetMembers { agents: members.agents() }).await?;
    let rows: Vec<Member> = before.rows.iter().cloned().collect();
    if !rows.is_empty() {
        act(ports, ctx, SqlAct::SaveMembers { members: rows }).await?;
    }
    ctx.info("ocs.all_agent is as it was");
    Ok(())
}

async fn tell(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Params { actor, .. } = ctx.params()?;
    let Planned { members, cluster, servers, .. } = planned(ctx)?;
    let (agent, silence) = (ctx.agent, ports.limits.silence);
    let password = ports.ledger.root_password();
    let given = surely(silence, || ports.peers.give_root_password(agent, Handed(password.clone())));
    ctx.waiting(given).await?;
    // Asked of the very server that this agent is going to start and stop.
    let asked = surely(silence, || ports.peers.sql(agent, &SqlAct::View, LOOK));
    let theirs = servers_of(&ctx.waiting(asked).await?.view()?);
    if theirs != servers {
        let text =
            format!("the server of {agent} belongs to another cluster, or its cluster has changed meanwhile");
        return Err(Error::new(Code::TakeOverNotExistInCluster, text));
    }
    let members = members.all_as(Identity::ClusterAgent);
    remote::run(ports, ctx, agent, "take-over", Operation::BeTakenOver { members, cluster }, &actor).await?;
    Outcome::done()
}

async fn give_back(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let Params { actor, .. } = ctx.params()?;
    let Planned { before, .. } = planned(ctx)?;
    let is_known = |member: &&Member| member.agent == ctx.agent || member.agent == ports.own;
    let members = before.members.iter().filter(is_known).cloned().collect();
    remote::run(ports, ctx, ctx.agent, "give-back", Operation::FollowAgain { members }, &actor).await
}

async fn convert(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Params { actor, .. } = ctx.params()?;
    become_cluster_agent(ports, ctx, &actor).await?;
    Outcome::done()
}

async fn master_again(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let Params { actor, .. } = ctx.params()?;
    let state = ports.ledger.state();
    if let (Identity::ClusterAgent, Some(zone)) = (state.identity, state.zone.clone()) {
        let own = own_member(ports, &zone, Identity::Master);
        ports.ledger.change(Change::BecameMaster { own }, &actor).await?;
        ctx.info(&format!("{} is MASTER again", ports.own));
    }
    Ok(())
}

/// A follower's part: its server is a member's from now on, and is watched like one.
pub(super) async fn be_taken_over(
    ports: &Ports,
    ctx: &StepCtx,
    members: Members,
    cluster: ClusterConfig,
    actor: &str,
) -> Result<()> {
    member::adopt(ports, ctx, members, cluster, actor).await?;
    watch_server(ports, actor).await
}

/// The server counts as one that we have started: its end is news from now on.
async fn watch_server(ports: &Ports, actor: &str) -> Result<()> {
    ports.ledger.change(Change::ServerWanted(Wanted::Running), actor).await?;
    match ports.process.find().await? {
        Some(process) => ports.ledger.change(Change::ServerStarted { process, sql_port: None }, actor).await,
        None => Ok(()),
    }
}

/// The way back: a follower of its master, as it was. Its server goes on as it is.
pub(super) async fn follow_again(ports: &Ports, ctx: &StepCtx, members: Members, actor: &str) -> Result<()> {
    let zone: Option<ZoneName> = members.zone_of(ports.own).cloned();
    let (Some(zone), Some(master)) = (zone, members.master().map(|master| master.agent)) else {
        let text = format!("{} and its master are not among the members that it was told", ports.own);
        return Err(Error::new(Code::IllegalArgument, text));
    };
    let change = async |change| ports.ledger.change(change, actor).await;
    change(Change::ServerWanted(Wanted::Nothing)).await?;
    change(Change::BecameFollower { zone, members }).await?;
    change(Change::ClusterConfigured { config: ClusterConfig::default(), root_password: None }).await?;
    ctx.info(&format!("{} is FOLLOWER of {master} again", ports.own));
    Ok(())
}

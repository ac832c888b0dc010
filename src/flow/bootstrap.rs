//! What an init does that only a cluster of servers needs: configuration of all hosts, BOOTSTRAP, the schema `ocs`, the
//! members' conversion (`lifecycle.md` §4.2, §4.5, §4.6).

use std::time::Duration;

use super::catalog::Ports;
use super::init::{InitPlan, Params, SHORT, in_words};
use super::member::own_member;
use super::peers::{Operation, surely};
use super::ports::{Handed, Login, Progress, SqlAct};
use super::remote;
use crate::cluster::{Change, MYSQL_PORT_DEFAULT, RPC_PORT_DEFAULT, effective, port};
use crate::engine::{Caps, Outcome, Registry, Step, StepCtx, StepSpec, Template};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity, Launch, Member, Password, ServerAddr, ZoneName};
use futures_util::future::{BoxFuture, join_all};

/// What the password of obproxy's user in parameters is sealed for.
pub const PROXY_PASSWORD: &str = "task.proxy_password";

/// BOOTSTRAP takes minutes on slow disks; its own limit is ten (`observer-model.md` §3.3).
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(1_000);

/// For a host to look at itself; it runs the executable once.
const PREFLIGHT_LIMIT: Duration = Duration::from_secs(60);

/// For an agent to tell of its executable.
const FACTS_LIMIT: Duration = Duration::from_secs(5);

/// For what a young cluster needs a moment to be able to.
const SQL_LIMIT: Duration = Duration::from_secs(60);

/// The nodes between the start of every server and the end.
pub(super) fn nodes(own: AgentAddr, params: &Params, started: Template) -> Template {
    let ready = started
        .then("init.bootstrap", "Cluster boostrap", own)
        .then("init.tables", "Migrate table", own)
        .then("init.password", "Modify password", own);
    let with_user =
        if params.proxy_password.is_some() { ready.then("init.user", "Create user", own) } else { ready };
    let converted = with_user
        .then("init.rows", "Migrate data", own)
        .then("init.followers", "Convert follower to cluster agent", own)
        .then_on_each("init.sync", "Synchronize agent from cluster", &params.agents)
        .then("init.master", "Convert master to cluster agent", own);
    let loaded = if params.imports_script {
        converted.then("init.import", "Import script for tenant", own)
    } else {
        converted
    };
    loaded.then_on_each("init.sync", "Synchronize agent from cluster", &params.agents)
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(Bootstrap(ports.clone()));
    registry.add(Tables(ports.clone()));
    registry.add(MakeUser(ports.clone()));
    registry.add(Rows(ports.clone()));
    registry.add(Followers(ports.clone()));
    registry.add(Sync(ports.clone()));
    registry.add(Master(ports.clone()));
    registry.add(Import(ports.clone()));
}

/// Every member's options: SERVER over ZONE over GLOBAL, and what only the cluster knows. Then everything that each of them
/// would fail on, in one error, before anything is made anywhere.
pub(super) async fn integrate(ports: &Ports, ctx: &StepCtx) -> Result<InitPlan> {
    let state = ports.ledger.state();
    if ports.process.is_initialised() {
        return Err(super::init::foreign_data());
    }
    let members: Vec<Member> =
        state.members.iter().map(|member| configured(ports, member)).collect::<Result<_>>()?;
    let order = root_servers(ports.own, &members, state.cluster.rs_list.as_deref())?;
    let list = list_of(&members, &order.first);
    let mut plan = order;
    for member in &members {
        let mut options = effective(&state, member.agent);
        let mut set = |key: &str, value: String| options.insert(key.to_owned(), value);
        set("cluster", state.cluster.name.clone().unwrap_or_default());
        set("cluster_id", state.cluster.id.unwrap_or_default().to_string());
        set("zone", member.zone.to_string());
        set("local_ip", member.agent.ip.to_string());
        set("mysql_port", member.sql_port.to_string());
        set("rpc_port", member.rpc_port.to_string());
        set("rootservice_list", list.clone());
        let launch = Launch { is_first: true, options };
        ctx.info(&format!("{}: first start with {}", member.agent, in_words(&launch)));
        plan.launches.insert(member.agent, launch);
    }
    precheck(ports, ctx, &plan).await?;
    Ok(plan)
}

/// A member with the ports that are configured for it.
fn configured(ports: &Ports, member: &Member) -> Result<Member> {
    let options = effective(&ports.ledger.state(), member.agent);
    let told = |key, default| {
        port(&options, key, default)
            .map_err(|error| Error::new(Code::InvalidPort, format!("{}: {error}", member.agent)))
    };
    let (sql_port, rpc_port) = (told("mysql_port", MYSQL_PORT_DEFAULT)?, told("rpc_port", RPC_PORT_DEFAULT)?);
    Ok(Member { sql_port, rpc_port, ..member.clone() })
}

/// Which server BOOTSTRAP names for each zone: those of the list, in its order; without one the first of each zone, our own
/// zone first. The others are added afterwards.
fn root_servers(own: AgentAddr, members: &[Member], list: Option<&str>) -> Result<InitPlan> {
    let first: Vec<(ZoneName, ServerAddr)> = match list.filter(|list| !list.trim().is_empty()) {
        Some(list) => from_list(members, list)?,
        None => {
            let mut sorted: Vec<_> = members.iter().collect();
            let own_zone = members.iter().find(|member| member.agent == own).map(|member| &member.zone);
            // Our own server stands for our zone, and our zone first.
            sorted.sort_by_key(|member| {
                (Some(&member.zone) != own_zone, &member.zone, member.agent != own, member.agent)
            });
            sorted.dedup_by_key(|member| &member.zone);
            sorted.into_iter().map(|member| (member.zone.clone(), member.server())).collect()
        }
    };
    let is_first = |server: ServerAddr| first.iter().any(|(_, chosen)| *chosen == server);
    let others = members.iter().filter(|member| !is_first(member.server()));
    let others = others.map(|member| (member.zone.clone(), member.server())).collect();
    Ok(InitPlan { first, others, ..InitPlan::default() })
}

/// `ip:rpc_port:sql_port;…`: each a member with those very ports, one per zone, every zone covered.
fn from_list(members: &[Member], list: &str) -> Result<Vec<(ZoneName, ServerAddr)>> {
    let wrong = |text: String| Error::new(Code::RsListInvalid, text);
    let mut first: Vec<(ZoneName, ServerAddr)> = Vec::new();
    for item in list.split(';').map(str::trim).filter(|item| !item.is_empty()) {
        let member = members.iter().find(|member| item == format!("{}:{}", member.server(), member.sql_port));
        let member = member.ok_or_else(|| {
            let known: Vec<_> = members.iter().map(|m| format!("{}:{}", m.server(), m.sql_port)).collect();
            wrong(format!(
                "rsList names {item}, which is no server of this cluster; those are {}",
                known.join(";")
            ))
        })?;
        if first.iter().any(|(zone, _)| *zone == member.zone) {
            return Err(wrong(format!(
                "rsList names two servers of zone {}; one per zone is needed",
                member.zone
            )));
        }
        first.push((member.zone.clone(), member.server()));
    }
    match members.iter().find(|member| !first.iter().any(|(zone, _)| *zone == member.zone)) {
        Some(member) => Err(wrong(format!("rsList names no server of zone {}", member.zone))),
        None => Ok(first),
    }
}

fn list_of(members: &[Member], first: &[(ZoneName, ServerAddr)]) -> String {
    let items = first.iter().filter_map(|(_, server)| {
        let member = members.iter().find(|member| member.server() == *server)?;
        Some(format!("{server}:{}", member.sql_port))
    });
    items.collect::<Vec<_>>().join(";")
}

/// What any host would fail on, of all hosts, in one error (W23).
async fn precheck(ports: &Ports, ctx: &StepCtx, plan: &InitPlan) -> Result<()> {
    let asked = plan.launches.iter().map(|(agent, launch)| async move {
        (*agent, ports.peers.preflight(*agent, Some(launch), PREFLIGHT_LIMIT).await)
    });
    let mut fatal = Vec::new();
    for (agent, found) in join_all(asked).await {
        match found {
            Ok(findings) => {
                for finding in findings {
                    let text = format!("{agent}: {finding}");
                    if finding.is_fatal { fatal.push(text) } else { ctx.warn(&text) }
                }
            }
            Err(error) => fatal.push(format!("{agent}: {error}")),
        }
    }
    fatal.extend(versions_differ(ports, plan).await);
    if fatal.is_empty() {
        return Ok(());
    }
    let text = format!("the servers would not start; nothing was made: {}", fatal.join(". "));
    Err(Error::new(Code::PreflightFailed, text))
}

/// Servers of one cluster have one version; a preflight has just asked each executable.
async fn versions_differ(ports: &Ports, plan: &InitPlan) -> Option<String> {
    let asked = plan.launches.keys().map(|agent| async move {
        let facts = ports.peers.facts(*agent, FACTS_LIMIT).await.ok()?;
        facts.ob_version.filter(|version| !version.is_empty()).map(|version| (*agent, version))
    });
    let known: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    let is_one = known.windows(2).all(|pair| matches!(pair, [(_, left), (_, right)] if left == right));
    let each: Vec<_> = known.iter().map(|(agent, version)| format!("{agent} has {version}")).collect();
    (!is_one).then(|| format!("the servers have different versions: {}", each.join(", ")))
}

fn spec(key: &'static str, caps: &str, deadline: Duration) -> StepSpec {
    StepSpec { key, caps: Caps::of(caps), deadline }
}

/// The password that opens the database now: none before `Modify password`, the configured one after it.
async fn opening(ports: &Ports) -> Password {
    let known = ports.ledger.root_password();
    match ports.sql.login(&known).await {
        Login::Accepted => known,
        Login::Refused | Login::NoAnswer => Password::default(),
    }
}

/// An act of this flow, through our own server.
async fn act(ports: &Ports, ctx: &StepCtx, act: &SqlAct, limit: Duration) -> Result<()> {
    let password = opening(ports).await;
    ctx.waiting(ports.cluster.act(&password, act, limit, ctx)).await.map(|_| ())
}

/// `Cluster boostrap` (the spelling is what clients know). It looks first whether that has happened (W19).
#[derive(Debug)]
struct Bootstrap(Ports);

impl Step for Bootstrap {
    fn spec(&self) -> StepSpec {
        spec("init.bootstrap", "XCTB", BOOTSTRAP_LIMIT + SHORT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let InitPlan { first, others, .. } = ctx.input("init.integrate")?;
            ctx.log_wait("the cluster to be bootstrapped", BOOTSTRAP_LIMIT);
            act(&self.0, ctx, &SqlAct::Bootstrap { first, others }, BOOTSTRAP_LIMIT).await?;
            self.0.process.mark_initialised().await?;
            Outcome::done()
        })
    }
}

/// `Migrate table`: schema `ocs`.
#[derive(Debug)]
struct Tables(Ports);

impl Step for Tables {
    fn spec(&self) -> StepSpec {
        spec("init.tables", "XCTB", SHORT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            act(&self.0, ctx, &SqlAct::MakeTables, SQL_LIMIT).await?;
            ctx.info("schema ocs is there");
            Outcome::done()
        })
    }
}

/// `Create user`: the one that obproxy asks as.
#[derive(Debug)]
struct MakeUser(Ports);

impl Step for MakeUser {
    fn spec(&self) -> StepSpec {
        spec("init.user", "TCXB", SHORT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let params: Params = ctx.params()?;
            let sealed = params.proxy_password.unwrap_or_default();
            let password = Handed(self.0.sealer.open(PROXY_PASSWORD, &sealed)?);
            act(&self.0, ctx, &SqlAct::MakeProxyUser { password }, SQL_LIMIT).await?;
            ctx.info("user proxyro is there");
            Outcome::done()
        })
    }
}

/// The members with their servers' ports, as the database is told them.
fn members(ports: &Ports, ctx: &StepCtx, identity: Option<Identity>) -> Result<Vec<Member>> {
    let state = ports.ledger.state();
    let as_now = |member: Member| Member { identity: identity.unwrap_or(member.identity), ..member };
    let plan: InitPlan = ctx.input("init.integrate")?;
    let with_ports = |member: &Member| {
        let options = plan.launches.get(&member.agent).map(|launch| &launch.options);
        let told = |key, default| options.and_then(|o| port(o, key, default).ok()).unwrap_or(default);
        Member {
            sql_port: told("mysql_port", member.sql_port),
            rpc_port: told("rpc_port", member.rpc_port),
            ..member.clone()
        }
    };
    Ok(state.members.iter().map(|member| as_now(with_ports(member))).collect())
}

/// `Migrate data`: the members' rows.
#[derive(Debug)]
struct Rows(Ports);

impl Step for Rows {
    fn spec(&self) -> StepSpec {
        spec("init.rows", "XCTB", SHORT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let members = members(&self.0, ctx, None)?;
            let count = members.len();
            act(&self.0, ctx, &SqlAct::SaveMembers { members }, SQL_LIMIT).await?;
            ctx.info(&format!("{count} agents are in ocs.all_agent"));
            Outcome::done()
        })
    }
}

/// `Convert follower to cluster agent`: their rows.
#[derive(Debug)]
struct Followers(Ports);

impl Step for Followers {
    fn spec(&self) -> StepSpec {
        spec("init.followers", "CTB", SHORT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let mut members = members(&self.0, ctx, Some(Identity::ClusterAgent))?;
            members.retain(|member| member.agent != self.0.own);
            let count = members.len();
            act(&self.0, ctx, &SqlAct::SaveMembers { members }, SQL_LIMIT).await?;
            ctx.info(&format!("{count} followers are CLUSTER AGENT in ocs.all_agent"));
            Outcome::done()
        })
    }
}

/// `Synchronize agent from cluster`, on every member: it has the root password and the members, and is a CLUSTER AGENT.
#[derive(Debug)]
struct Sync(Ports);

impl Step for Sync {
    fn spec(&self) -> StepSpec {
        spec("init.sync", "XCT", SHORT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let ports = &self.0;
            if ctx.agent == ports.own {
                ctx.info(&format!("{} has them", ports.own));
                return Outcome::done();
            }
            let Params { actor, .. } = ctx.params()?;
            let members = members(ports, ctx, Some(Identity::ClusterAgent))?.into_iter().collect();
            let password = ports.ledger.root_password();
            let given = surely(ports.limits.silence, || {
                ports.peers.give_root_password(ctx.agent, Handed(password.clone()))
            });
            ctx.waiting(given).await?;
            // The same node stands twice in the DAG, and is done twice.
            let part = format!("adopt-{}", ctx.sub_task);
            let cluster = ports.ledger.state().cluster.clone();
            remote::run(ports, ctx, ctx.agent, &part, Operation::Adopt { members, cluster }, &actor).await?;
            Outcome::done()
        })
    }
}

/// `Convert master to cluster agent`: our row, here and in the database.
#[derive(Debug)]
struct Master(Ports);

impl Step for Master {
    fn spec(&self) -> StepSpec {
        spec("init.master", "CTB", SHORT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            let Params { actor, .. } = ctx.params()?;
            let members = members(&self.0, ctx, Some(Identity::ClusterAgent))?;
            act(&self.0, ctx, &SqlAct::SaveMembers { members: members.clone() }, SQL_LIMIT).await?;
            let known = Change::MembersKnown(members.into_iter().collect());
            self.0.ledger.change(known, &actor).await?;
            become_cluster_agent(&self.0, ctx, &actor).await?;
            Outcome::done()
        })
    }
}

/// One commit of the ledger. Who never joined anybody is its own only member.
pub(super) async fn become_cluster_agent(ports: &Ports, ctx: &StepCtx, actor: &str) -> Result<()> {
    let state = ports.ledger.state();
    if let Some(zone) = state.zone.clone() {
        let own = own_member(ports, &zone, Identity::ClusterAgent);
        ports.ledger.change(Change::MemberKnown(own), actor).await?;
    }
    ports.ledger.change(Change::BecameClusterAgent, actor).await?;
    ctx.info(&format!("{} is CLUSTER AGENT", ports.own));
    Ok(())
}

/// `Import script for tenant`: time zones of tenant sys, by the database's own statement.
#[derive(Debug)]
struct Import(Ports);

impl Step for Import {
    fn spec(&self) -> StepSpec {
        spec("init.import", "CTXP", BOOTSTRAP_LIMIT)
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            act(&self.0, ctx, &SqlAct::LoadTimeZones, BOOTSTRAP_LIMIT - SHORT).await?;
            ctx.info("time zones of tenant sys are loaded");
            Outcome::done()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(last: u8, zone: &str) -> Member {
        Member::sample(AgentAddr::new([10, 0, 0, last].into(), 2886), zone, Identity::Follower)
    }

    fn names(chosen: &[(ZoneName, ServerAddr)]) -> Vec<String> {
        chosen.iter().map(|(zone, server)| format!("{zone} {server}")).collect()
    }

    #[test]
    fn our_own_zone_comes_first_and_every_zone_once() {
        let members = [member(1, "z2"), member(2, "z1"), member(3, "z2"), member(4, "z3")];
        let plan = root_servers(members[2].agent, &members, None).unwrap();
        assert_eq!(names(&plan.first), ["z2 10.0.0.3:2882", "z1 10.0.0.2:2882", "z3 10.0.0.4:2882"]);
        assert_eq!(names(&plan.others), ["z2 10.0.0.1:2882"]);
        assert_eq!(
            list_of(&members, &plan.first),
            "10.0.0.3:2882:2881;10.0.0.2:2882:2881;10.0.0.4:2882:2881"
        );
    }

    /// C11: a list is taken as it stands, or refused with what is wrong about it.
    #[test]
    fn c11_a_list_of_root_servers_decides_and_must_fit() {
        let members = [member(1, "z1"), member(2, "z1"), member(3, "z2")];
        let plan = root_servers(members[0].agent, &members, Some("10.0.0.3:2882:2881; 10.0.0.2:2882:2881;"))
            .unwrap();
        assert_eq!(names(&plan.first), ["z2 10.0.0.3:2882", "z1 10.0.0.2:2882"]);
        assert_eq!(names(&plan.others), ["z1 10.0.0.1:2882"]);
        for (list, named) in [
            ("10.0.0.9:2882:2881;10.0.0.3:2882:2881", "10.0.0.9"),
            ("10.0.0.1:2882:2999;10.0.0.3:2882:2881", "2999"),
            ("10.0.0.1:2882:2881;10.0.0.2:2882:2881;10.0.0.3:2882:2881", "two servers of zone z1"),
            ("10.0.0.1:2882:2881", "no server of zone z2"),
            ("rubbish", "rubbish"),
        ] {
            let error = root_servers(members[0].agent, &members, Some(list)).unwrap_err();
            assert_eq!(error.code, Code::RsListInvalid);
            assert!(error.text().contains(named), "{list}: {error}");
        }
    }

    #[test]
    fn the_nodes_are_those_that_clients_know() {
        let own = member(1, "z1").agent;
        let params = |imports_script, has_user: bool| Params {
            actor: "test".to_owned(),
            engine: crate::config::EngineKind::Observer,
            agents: vec![own, member(2, "z2").agent],
            imports_script,
            proxy_password: has_user.then(String::new),
        };
        let names = |params: &Params| {
            let template = super::super::init::template(own, params);
            template.node_names().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let all = names(&params(true, true));
        assert_eq!(
            all,
            [
                "Integrate config",
                "Create observer workdir",
                "Start observer",
                "Cluster boostrap",
                "Migrate table",
                "Modify password",
                "Create user",
                "Migrate data",
                "Convert follower to cluster agent",
                "Synchronize agent from cluster",
                "Convert master to cluster agent",
                "Import script for tenant",
                "Synchronize agent from cluster",
            ]
        );
        assert_eq!(names(&params(false, false)).len(), 11);
    }
}

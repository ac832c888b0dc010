//! Several agents in one process: the real engine, flows and participants, on hosts, disks and a network that exist only
//! here, in a time that jumps. What goes wrong is scripted, or left to chance.
//!
//! Messages are delivered to tasks of the receiving agent, as a server does it: a caller that dies does not stop them.

pub(crate) mod chance;
pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use self::chance::Chance;
use self::cluster::Cluster;
use self::disk::Disk;
use self::host::Host;
use super::fakes::Plain;
use crate::clock::Clock;
use crate::cluster::{AgentState, Keep, Ledger, Members, Secrets};
use crate::config::EngineKind;
use crate::engine::port::{Archive as _, Stamp};
use crate::engine::{Handle, Operator, Snapshot, Steer, Submission, Template};
use crate::error::{Code, Error, Result};
use crate::flow::catalog::{About, Limits, Ports, register_all};
use crate::flow::keeper::Keeper;
use crate::flow::participant::Participant;
use crate::flow::peers::{Ask, Facts, Gate, Peers, Stranger};
use crate::flow::ports::{ClusterSql as _, Process as _, Silent};
use crate::model::{
    AgentAddr, DagId, GenericId, Identity, Invitation, Launch, Member, Password, Timestamp, ZoneName,
};
use crate::tasks::{Kind, Tasks};

/// Time as tokio's paused clock tells it.
#[derive(Debug)]
struct VirtualClock(tokio::time::Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let since = jiff::SignedDuration::try_from(self.0.elapsed()).unwrap();
        Timestamp::from_second(1_700_000_000).unwrap() + since
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is not delivered, and the sender is told at once.
    Refuse,
    /// It is not delivered, and the sender waits in vain.
    Swallow,
    /// It is delivered, and its answer is lost.
    LoseAnswer,
    /// It is delivered twice.
    Twice,
    /// The receiver is killed when it comes, before it is looked at.
    KillReceiver,
    /// The receiver is killed when it has answered, and the answer is lost.
    KillAfter,
    /// The sender is killed when it would send it.
    KillSender,
}

/// A fault that is waiting for its message.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) to: AgentAddr,
    /// Name of the message: `prepare`, `go`, `go_on`, `watch`, `renew`, `end`.
    pub(crate) ask: &'static str,
    pub(crate) effect: Effect,
    pub(crate) times: u32,
    /// From then on the receiver is not reached at all.
    pub(crate) is_last: bool,
}

#[derive(Default)]
struct Wires {
    agents: BTreeMap<AgentAddr, Arc<Agent>>,
    rules: Vec<Rule>,
    /// Agents that nobody else reaches any more.
    deaf: BTreeSet<AgentAddr>,
    /// Pairs that do not reach each other.
    cut: BTreeSet<(AgentAddr, AgentAddr)>,
}

/// All of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World {
    wires: Arc<Mutex<Wires>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Chance,
    members: Members,
    hosts: Arc<BTreeMap<AgentAddr, Lasting>>,
    pub(crate) cluster: Cluster,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

/// What outlives an agent: its server, its disk, its documents.
type Lasting = (Host, Arc<Disk>, Arc<Paper>);

/// One life of an agent.
pub(crate) struct Agent {
    pub(crate) engine: Handle,
    pub(crate) participant: Participant,
    pub(crate) disk: disk::Handle,
    pub(crate) ledger: Ledger,
    tasks: Tasks,
}

/// Documents that survive.
#[derive(Debug)]
struct Paper(Mutex<AgentState>);

impl Keep for Paper {
    fn save<'a>(
        &'a self,
        _: Option<&'a AgentState>,
        state: &'a AgentState,
        _: &'a Secrets,
        _: Stamp,
        _: Value,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            *self.0.lock().unwrap() = state.clone();
            Ok(())
        })
    }
}

pub(crate) fn addr(last: u8) -> AgentAddr {
    AgentAddr::new([10, 0, 0, last].into(), 2886)
}

fn member(last: u8) -> Member {
    Member {
        home_path: "/home".to_owned(),
        peer_key: "key".to_owned(),
        ..Member::sample(addr(last), &format!("zone{last}"), Identity::ClusterAgent)
    }
}

/// Runs a future in virtual time, on one thread: the same seed, the same schedule.
pub(crate) fn simulate<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let ended = runtime.block_on(work);
    runtime.shutdown_background();
    ended
}

impl World {
    /// A cluster of so many agents, each in a zone of its own, all servers stopped.
    pub(crate) async fn new(agents: u8, chance: Chance) -> Self {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins here")]
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(tokio::time::Instant::now()));
        let members: Members = (1..=agents).map(member).collect();
        let cluster = Cluster::new(&members, chance.clone());
        let hosts = members.iter().map(|member| {
            let (agent, disk) = (member.agent, Disk::new());
            let mut state = AgentState::new(agent, EngineKind::Observer, "/bin/observer".into());
            state.identity = Identity::ClusterAgent;
            state.zone = members.zone_of(agent).cloned();
            state.members = members.clone();
            let host = Host::new(chance.clone(), Arc::clone(&disk), cluster.clone(), member.server());
            (agent, (host, disk, Arc::new(Paper(Mutex::new(state)))))
        });
        let hosts = Arc::new(hosts.collect());
        let world = Self { wires: Arc::default(), clock, chance, members, hosts, cluster };
        for agent in world.members.agents() {
            world.start(agent).await;
        }
        world
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap()
    }

    pub(crate) fn agents(&self) -> Vec<AgentAddr> {
        self.members.agents()
    }

    /// Every agent with its zone.
    pub(crate) fn zones(&self) -> Vec<(AgentAddr, ZoneName)> {
        self.members.iter().map(|member| (member.agent, member.zone.clone())).collect()
    }

    pub(crate) fn host(&self, agent: AgentAddr) -> &Host {
        &self.hosts[&agent].0
    }

    pub(crate) fn disk(&self, agent: AgentAddr) -> &Arc<Disk> {
        &self.hosts[&agent].1
    }

    /// The agent, while it lives.
    pub(crate) fn agent(&self, agent: AgentAddr) -> Option<Arc<Agent>> {
        self.wires().agents.get(&agent).cloned()
    }

    pub(crate) fn living(&self, agent: AgentAddr) -> Arc<Agent> {
        self.agent(agent).expect("it lives")
    }

    /// A new life on what the last one has left.
    pub(crate) async fn start(&self, own: AgentAddr) {
        if self.agent(own).is_some() {
            return;
        }
        let (host, disk, paper) = &self.hosts[&own];
        let (tasks, _failures) = Tasks::new();
        let handle = disk.handle(Arc::clone(&self.clock), self.chance.clone());
        let archive = Arc::new(handle.clone());
        let participant = Participant::new(own, archive.clone(), Arc::clone(&self.clock));
        let peers: Arc<dyn Peers> = Arc::new(Sender { own, world: self.clone() });
        let ledger = Ledger::new(
            paper.clone(),
            Arc::clone(&self.clock),
            paper.0.lock().unwrap().clone(),
            Secrets::default(),
        );
        let ports = Ports {
            own,
            engine: EngineKind::Observer,
            process: Arc::new(host.clone()),
            sql: Arc::new(host.clone()),
            cluster: Arc::new(host.clone()),
            peers: Arc::clone(&peers),
            gate: Arc::new(Away::for_ever()),
            sealer: Arc::new(Plain),
            trust: Arc::new(crate::flow::trust::NoTrust),
            ledger: ledger.clone(),
            clock: Arc::clone(&self.clock),
            keeper: Keeper::new(peers, tasks.clone()),
            limits: LIMITS,
            about: About::default(),
        };
        let engine = Handle::new(own, archive, register_all(&ports), tasks.clone(), Arc::clone(&self.clock));
        participant.attach(engine.clone());
        engine.recover().await.unwrap();
        let agent = Agent { engine, participant, disk: handle, ledger, tasks };
        self.wires().agents.insert(own, Arc::new(agent));
    }

    /// kill -9: nothing of it runs any more, nothing of it is written any more.
    pub(crate) fn kill(&self, agent: AgentAddr) {
        let killed = self.wires().agents.remove(&agent);
        if let Some(killed) = killed {
            killed.disk.kill();
            killed.tasks.token().cancel();
        }
    }

    pub(crate) fn rule(&self, to: AgentAddr, ask: &'static str, effect: Effect, times: u32) {
        self.wires().rules.push(Rule { to, ask, effect, times, is_last: false });
    }

    /// The same, once, and from then on nobody else reaches the receiver.
    pub(crate) fn last_rule(&self, to: AgentAddr, ask: &'static str, effect: Effect) {
        self.wires().rules.push(Rule { to, ask, effect, times: 1, is_last: true });
    }

    pub(crate) fn forget_rules(&self) {
        let mut wires = self.wires();
        wires.rules.clear();
        wires.deaf.clear();
    }

    /// Whether every scripted fault has met its message.
    pub(crate) fn has_struck(&self) -> bool {
        self.wires().rules.iter().all(|rule| rule.times == 0)
    }

    /// Whether the last scripted fault, of two, has met a message.
    pub(crate) fn has_begun_to_strike(&self) -> bool {
        self.wires().rules.iter().any(|rule| rule.times < 2)
    }

    pub(crate) fn cut(&self, left: AgentAddr, right: AgentAddr) {
        self.wires().cut.extend([(left, right), (right, left)]);
    }

    pub(crate) fn mend(&self) {
        self.wires().cut.clear();
    }

    /// Cuts an agent off from all others.
    pub(crate) fn isolate(&self, agent: AgentAddr) {
        for other in self.agents().into_iter().filter(|other| *other != agent) {
            self.cut(agent, other);
        }
    }

    fn effect(&self, to: AgentAddr, ask: &Ask) -> Option<Effect> {
        let name = name_of(ask);
        let mut wires = self.wires();
        let rule = wires.rules.iter_mut().find(|rule| rule.to == to && rule.ask == name && rule.times > 0)?;
        rule.times -= 1;
        let (effect, is_last) = (rule.effect, rule.is_last);
        if is_last {
            wires.deaf.insert(to);
        }
        Some(effect)
    }

    fn is_cut(&self, from: AgentAddr, to: AgentAddr) -> bool {
        from != to && self.wires().cut.contains(&(from, to))
    }

    fn is_deaf(&self, from: AgentAddr, to: AgentAddr) -> bool {
        from != to && self.wires().deaf.contains(&to)
    }

    /// Delivers a message; the answer comes unless the receiver dies.
    async fn deliver(&self, to: AgentAddr, ask: &Ask) -> Option<Result<Value>> {
        let agent = self.agent(to)?;
        let (reply, answer) = oneshot::channel();
        let (receiver, ask, world) = (Arc::clone(&agent), ask.clone(), self.clone());
        agent.tasks.spawn(Kind::helper("serve"), async move {
            let answered = receiver.answer(&world, to, &ask).await;
            drop(reply.send(answered));
        });
        drop(agent);
        answer.await.ok()
    }

    // ---- what tests do ----

    pub(crate) async fn submit(&self, on: AgentAddr, template: Template) -> Result<DagId> {
        let submission = Submission { template, actor: "test".to_owned(), key: None };
        let agent = self.agent(on).ok_or_else(|| Error::unexpected("it is dead"))?;
        // An agent that dies in the middle never answers.
        let made = tokio::time::timeout(Duration::from_secs(60), agent.engine.submit(submission)).await;
        Ok(made.map_err(|_| Error::unexpected("it died"))??.id)
    }

    pub(crate) fn stored(&self, on: AgentAddr, dag: DagId) -> Snapshot {
        self.disk(on).state().dags[&dag].0.clone()
    }

    /// Waits, in virtual time, until something is true; looks whenever time passes.
    pub(crate) async fn until(&self, limit: Duration, what: &str, is_true: impl Fn() -> bool) {
        assert!(self.is_so(limit, is_true).await, "after {} s still not so: {what}", limit.as_secs());
    }

    /// Whether it becomes true in time.
    pub(crate) async fn is_so(&self, limit: Duration, is_true: impl Fn() -> bool) -> bool {
        let look = async {
            while !is_true() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(limit, look).await;
        self.chance.check();
        ended.is_ok()
    }

    pub(crate) async fn rest(&self, on: AgentAddr, dag: DagId) -> Snapshot {
        self.until(Duration::from_secs(900), "the task rests", || self.stored(on, dag).state.is_at_rest())
            .await;
        self.stored(on, dag)
    }

    pub(crate) async fn operate(&self, on: AgentAddr, dag: DagId, operator: Operator) -> Result<()> {
        self.living(on).engine.operate(dag, operator, "test").await
    }

    pub(crate) async fn steer(&self, on: AgentAddr, dag: DagId, wish: Steer) -> Result<()> {
        self.living(on).engine.steer(dag, wish, "test").await
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.agents().into_iter().any(|agent| self.disk(agent).holder().is_some())
    }

    pub(crate) fn reference(&self, on: AgentAddr, dag: DagId) -> String {
        GenericId::agent(on, dag.0).to_string()
    }

    /// Every line and failure of a task.
    pub(crate) async fn story(&self, on: AgentAddr, dag: DagId) -> String {
        let detail = self.living(on).disk.dag(dag, true).await.unwrap().unwrap();
        let mut story: String = detail.logs.iter().map(|line| format!("{}\n", line.text)).collect();
        for (_, sub) in detail.snapshot.sub_tasks() {
            if let Some(failure) = &sub.failure {
                story.push_str(&format!("[{}] {}\n", failure.code, failure.text));
            }
        }
        story
    }
}

const LIMITS: Limits = Limits {
    start: Duration::from_secs(120),
    stop_grace: Duration::from_secs(10),
    freeze: Duration::from_secs(60),
    quorum: Duration::from_secs(30),
    prepare: Duration::from_secs(10),
    silence: Duration::from_secs(20),
    parallel: 10,
};

pub(crate) fn name_of(ask: &Ask) -> &'static str {
    let name = ask.name();
    assert_eq!(serde_json::to_value(ask).unwrap()["ask"], name, "as it is called on the wire");
    name
}

impl Agent {
    async fn answer(&self, world: &World, own: AgentAddr, ask: &Ask) -> Result<Value> {
        if let Some(answer) = self.participant.answer(ask).await {
            return answer;
        }
        let host = world.host(own);
        if let Ask::Sql { act, limit_millis } = ask {
            let limit = Duration::from_millis(*limit_millis);
            return host.act(&Password::default(), act, limit, &Silent).await.map(|answer| json!(answer));
        }
        if let Ask::Preflight { .. } = ask {
            return Ok(json!(host.preflight(&Launch::default()).await));
        }
        if let Ask::Topology { .. } = ask {
            return Ok(Value::Null);
        }
        assert_eq!(*ask, Ask::Facts, "nothing else is asked here");
        let held_by = match self.disk.holder().await? {
            Some(holder) => Some(self.participant.held_by(&holder).await),
            None => None,
        };
        let running = host.running();
        let process = running.as_ref().map(|server| server.pid);
        Ok(json!(Facts {
            agent: own,
            identity: self.ledger.state().identity,
            is_initialised: true,
            process,
            process_since: running.map(|server| server.started_at),
            ob_state: if process.is_some() { 3 } else { 0 },
            server: if process.is_some() { "serving" } else { "stopped" }.to_owned(),
            why: None,
            sql_port: None,
            ob_version: None,
            held_by,
            under_way: Vec::new(),
            data_dir: String::new(),
            redo_dir: String::new(),
            log_dir: String::new(),
        }))
    }
}

/// The way of one agent to all.
#[derive(Debug)]
struct Sender {
    own: AgentAddr,
    world: World,
}

fn lost(to: AgentAddr, why: &str) -> Error {
    Error::new(Code::RpcRequestFailed, format!("{to} does not answer: {why}"))
}

impl Sender {
    async fn send(&self, to: AgentAddr, ask: &Ask, limit: Duration) -> Result<Value> {
        let (world, chance) = (&self.world, &self.world.chance);
        if world.is_deaf(self.own, to) {
            return Err(lost(to, "connection refused"));
        }
        let effect = world.effect(to, ask).or_else(|| self.by_chance(to));
        if effect == Some(Effect::KillSender) {
            world.kill(self.own);
            std::future::pending::<()>().await;
        }
        if self.own != to {
            chance.pause(20).await;
        }
        if world.is_cut(self.own, to) || effect == Some(Effect::Swallow) {
            // Sometimes the network says so, sometimes it says nothing.
            if effect == Some(Effect::Swallow) || chance.once_in(2) {
                tokio::time::sleep(limit).await;
                return Err(lost(to, "no answer in time"));
            }
            return Err(lost(to, "no route to host"));
        }
        match effect {
            Some(Effect::Refuse) => return Err(lost(to, "connection refused")),
            Some(Effect::KillReceiver) => {
                world.kill(to);
                return Err(lost(to, "connection reset"));
            }
            Some(Effect::Twice) => {
                let (world, ask) = (world.clone(), ask.clone());
                if let Some(agent) = world.agent(to) {
                    agent.tasks.spawn(Kind::helper("serve"), async move {
                        world.chance.pause(3_000).await;
                        drop(world.deliver(to, &ask).await);
                    });
                }
            }
            _ => {}
        }
        let answer = tokio::time::timeout(limit, world.deliver(to, ask)).await;
        match effect {
            Some(Effect::LoseAnswer) => return Err(lost(to, "connection reset")),
            Some(Effect::KillAfter) => {
                world.kill(to);
                return Err(lost(to, "connection reset"));
            }
            _ => {}
        }
        if self.own != to {
            chance.pause(20).await;
            if world.is_cut(self.own, to) {
                return Err(lost(to, "connection reset"));
            }
        }
        match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(lost(to, "connection refused")),
            Err(_) => Err(lost(to, "no answer in time")),
        }
    }

    fn by_chance(&self, to: AgentAddr) -> Option<Effect> {
        if self.own == to || !self.world.chance.once_in(25) {
            return None;
        }
        Some(*self.world.chance.one_of(&[Effect::Refuse, Effect::Swallow, Effect::LoseAnswer, Effect::Twice]))
    }
}

impl Peers for Sender {
    fn ask<'a>(&'a self, agent: AgentAddr, ask: &'a Ask, limit: Duration) -> BoxFuture<'a, Result<Value>> {
        Box::pin(self.send(agent, ask, limit))
    }
}

/// Nobody joins here, and who is looked for is away, for ever or for so many times.
#[derive(Debug)]
pub(crate) struct Away {
    times: AtomicU32,
    then: Identity,
}

impl Away {
    pub(crate) fn for_times(times: u32, then: Identity) -> Self {
        Self { times: AtomicU32::new(times), then }
    }

    pub(crate) fn for_ever() -> Self {
        Self::for_times(u32::MAX, Identity::Single)
    }
}

impl Gate for Away {
    fn look(&self, agent: AgentAddr) -> BoxFuture<'_, Result<Stranger>> {
        let left = self.times.load(Ordering::SeqCst);
        self.times.store(left.saturating_sub(1), Ordering::SeqCst);
        let found = Stranger {
            identity: self.then,
            version: "4.5.0.0".to_owned(),
            ob_version: String::new(),
            engine: "observer".to_owned(),
        };
        Box::pin(async move { if left > 0 { Err(lost(agent, "nobody is there")) } else { Ok(found) } })
    }

    fn join<'a>(
        &'a self,
        master: AgentAddr,
        _: &'a Password,
        _: &'a Member,
        _: bool,
    ) -> BoxFuture<'a, Result<Members>> {
        Box::pin(async move { Err(lost(master, "nobody is there")) })
    }

    fn invite<'a>(
        &'a self,
        agent: AgentAddr,
        _: &'a Password,
        _: &'a Invitation,
        _: bool,
    ) -> BoxFuture<'a, Result<Member>> {
        Box::pin(async move { Err(lost(agent, "nobody is there")) })
    }
}

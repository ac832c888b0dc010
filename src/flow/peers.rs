//! What agents ask of each other, and the way to them.
//!
//! Purpose: an operation over agents is messages, so that one host, many hosts and the simulation run the same code; who
//! carries the messages is an adapter's matter.
//!
//! Invariant: every message may be repeated. Parts of operations are keyed by the main DAG that coordinates them (W18).

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::instance::InstanceAsk;
use super::ports::{Handed, SqlAct, SqlAnswer};
use super::trust::Grant;
use crate::cluster::status::Mark;
use crate::cluster::topology::Topology;
use crate::cluster::{Accounts, ClusterConfig, Members};
use crate::engine::event::Failure;
use crate::engine::port::Level;
use crate::error::{Code, Error, Result};
use crate::model::{
    AgentAddr, EventId, Finding, Identity, Invitation, Launch, Member, Password, StopHow, Timestamp, ZoneName,
};

/// A part of an operation: the DAG that coordinates it, and which of its parts on that agent, where it has several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartKey {
    /// Generic id.
    pub main_dag: String,
    /// Empty for the one part of a start or stop.
    #[serde(default)]
    pub part: String,
}

impl PartKey {
    pub fn of(main_dag: &str) -> Self {
        Self { main_dag: main_dag.to_owned(), part: String::new() }
    }
}

/// What a coordinator asks of an agent in scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    #[serde(flatten)]
    pub key: PartKey,
    pub main_name: String,
    /// Grows when a part that was released has to be prepared again, after a retry of the main DAG.
    pub round: u32,
    pub operation: Operation,
    /// Main DAGs that may be pushed aside.
    pub force: Vec<String>,
    /// Who asked for the operation.
    pub actor: String,
}

/// What the agent does with its own server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Operation {
    Start,
    Stop {
        how: StopHow,
    },
    /// Holds its lock while the servers are taken out of service by SQL.
    Stand,
    /// Starts the process; service is the coordinator's matter.
    Launch,
    /// Stops the process, waits for the others, starts it again. What it has stopped it starts also when its coordinator is
    /// not heard of any more.
    Restart {
        how: StopHow,
    },
    /// Makes the directories of a first start.
    Deploy {
        launch: Launch,
    },
    /// Removes them.
    Undeploy,
    /// The first start, until the server lets its root in.
    StartFirst {
        launch: Launch,
    },
    /// Stops what that has started.
    UndoStart,
    /// Takes these members for the cluster's, and becomes what it is among them.
    Adopt {
        members: Members,
        cluster: ClusterConfig,
    },
    /// Forgets the cluster.
    Leave,
    /// Takes an adoption back: a server that is added, and is not a member yet.
    Unadopt {
        zone: ZoneName,
        /// Itself and its coordinator.
        members: Members,
    },
    /// The same for a server that runs already, in a cluster that no agent of ours deployed.
    BeTakenOver {
        members: Members,
        cluster: ClusterConfig,
    },
    /// Takes that back.
    FollowAgain {
        /// Itself and its master.
        members: Members,
    },
    /// Holds its lock while the cluster gives its server up; at the go it stops that and forgets the cluster.
    Retire {
        how: StopHow,
    },
}

impl Operation {
    /// Acts when it is prepared, and is over then; the others wait for the go.
    pub fn is_immediate(&self) -> bool {
        match self {
            Self::Start
            | Self::Stop { .. }
            | Self::Stand
            | Self::Launch
            | Self::Restart { .. }
            | Self::Retire { .. } => false,
            Self::Deploy { .. }
            | Self::Undeploy
            | Self::StartFirst { .. }
            | Self::UndoStart
            | Self::Adopt { .. }
            | Self::Leave
            | Self::Unadopt { .. }
            | Self::BeTakenOver { .. }
            | Self::FollowAgain { .. } => true,
        }
    }
}

/// What PREPARE made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Generic id of the agent's sub-DAG.
    pub sub_dag: String,
    /// Generic ids of the main DAGs that were pushed aside for it.
    pub pushed_aside: Vec<String>,
}

/// How far an agent's part has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progressed {
    Preparing,
    /// Holds its lock and waits for the go.
    Prepared,
    Running,
    /// The first half of a restart is done: it has stopped, and waits to be told to start again.
    Halfway,
    /// Did its part; where it waited for the go, it waits for the end.
    Done,
    Failed,
    /// Released: ended by the coordinator, an operator or its lease.
    Released,
}

/// A line of the agent's own record, for the coordinator's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLine {
    pub level: Level,
    pub text: String,
}

/// One look at an agent's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// Generic id of the agent's sub-DAG.
    pub sub_dag: String,
    pub progressed: Progressed,
    /// Pass it to the next look to be answered when something has changed since.
    pub version: EventId,
    /// What was recorded since the version that was passed.
    pub lines: Vec<PeerLine>,
    pub failure: Option<Failure>,
    /// Of a part that was released.
    #[serde(default)]
    pub release: Option<Release>,
}

/// How a part came to be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Nobody wanted it: its coordinator was not heard of for the time of a lease.
    pub is_by_lease: bool,
    /// What it had to do was done before.
    pub was_done: bool,
    /// Somebody wanted the lock for something else (`forcePassDag`).
    pub was_pushed_aside: bool,
}

/// Who holds an agent's maintenance lock, why, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    /// Generic id of the task to look at, to wait for, or to name in `forcePassDag`.
    pub id: String,
    /// Generic id of what holds it there: that task itself, or its part.
    pub sub_dag: String,
    pub name: String,
    pub since: Timestamp,
    /// Prepared, and waiting for the go.
    pub is_prepared: bool,
    /// What its step does, or waits for.
    pub doing: String,
    /// When its step gives up, or its lease ends.
    pub until: Option<Timestamp>,
    /// Who asked for it.
    pub actor: String,
}

/// What an agent tells of itself. True when it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub agent: AgentAddr,
    pub identity: Identity,
    pub is_initialised: bool,
    /// Pid of its server.
    pub process: Option<i32>,
    /// When that began to run; a pid and its start are one life.
    #[serde(default)]
    pub process_since: Option<Timestamp>,
    /// `obState` (`lifecycle.md` §9.3).
    pub ob_state: u8,
    /// `stopped`, `starting`, `serving`, … in words.
    pub server: String,
    /// Why it does not serve, where that is known.
    pub why: Option<String>,
    pub sql_port: Option<u16>,
    /// Of the running engine, else of its executable.
    pub ob_version: Option<String>,
    pub held_by: Option<HeldBy>,
    /// What the tasks that it coordinates have under way.
    #[serde(default)]
    pub under_way: Vec<Mark>,
    pub data_dir: String,
    pub redo_dir: String,
    pub log_dir: String,
}

impl Facts {
    /// How its server is, and why, where that is known.
    pub fn in_words(&self) -> String {
        match &self.why {
            Some(why) => format!("{} ({why})", self.server),
            None => self.server.clone(),
        }
    }
}

/// A client's credential that a follower passes on to its master, who knows the password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// It came in the header of the agent password.
    pub is_agent: bool,
    pub password: Handed,
    /// Where the client is, for the rule of who may claim a master without a password.
    pub may_claim: bool,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Ask {
    /// Create the part under the agent's lock. → [`Prepared`]
    Prepare(Box<Prepare>),
    /// → nothing
    Go { key: PartKey },
    /// A part that is halfway does its second half. → nothing
    GoOn { key: PartKey },
    /// Answered when something has changed since, or after the wait; renews the lease. → [`PeerView`]
    Watch { key: PartKey, since: EventId, wait_millis: u64 },
    /// The coordinator is alive: the lease begins anew. → nothing
    Renew { key: PartKey },
    /// Ends the part and frees its lock; cancels it first if it still runs. → whether there was one
    End { key: PartKey, actor: String },
    /// Ends a main DAG of that agent, which was pushed aside elsewhere: nothing of it goes on (W43). → nothing
    Revoke { main_dag: String, actor: String },
    /// → [`Facts`]
    Facts,
    /// What a first start would fail on there. → findings
    Preflight { launch: Option<Launch> },
    /// Through that agent's server. → [`SqlAnswer`]
    Sql { act: SqlAct, limit_millis: u64 },
    /// The root password as it is now. → nothing
    RootPassword { password: Handed },
    /// A certificate for the sender's address and this public key. → [`Grant`]
    Certify { public_key: String },
    /// The CA of the cluster, for a member of it or for who is being added. → nothing
    TakeAuthority { grant: Box<Grant> },
    /// The sender wants to leave the cluster to be. → nothing
    Leave { actor: String },
    /// → who it is, if it is right
    CheckPassword { credential: Credential },
    /// The cluster has a new member. → nothing
    Welcome { member: Box<Member> },
    /// A member was removed from the cluster. → nothing
    Farewell { agent: AgentAddr },
    /// Servers with their numbers, as the database has just told. → nothing
    Topology { topology: Topology },
    /// About the receiver's own main tasks; its caller was let in where it knocked. → see there
    Instance { what: Box<InstanceAsk> },
    /// Users of the v2 API as the sender knows them. → the same as the receiver knows them then
    Accounts { accounts: Accounts },
}

impl Ask {
    /// As it is called on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepare(_) => "prepare",
            Self::Go { .. } => "go",
            Self::GoOn { .. } => "go_on",
            Self::Watch { .. } => "watch",
            Self::Renew { .. } => "renew",
            Self::End { .. } => "end",
            Self::Revoke { .. } => "revoke",
            Self::Facts => "facts",
            Self::Preflight { .. } => "preflight",
            Self::Sql { .. } => "sql",
            Self::RootPassword { .. } => "root_password",
            Self::Certify { .. } => "certify",
            Self::TakeAuthority { .. } => "take_authority",
            Self::Leave { .. } => "leave",
            Self::CheckPassword { .. } => "check_password",
            Self::Welcome { .. } => "welcome",
            Self::Farewell { .. } => "farewell",
            Self::Topology { .. } => "topology",
            Self::Instance { .. } => "instance",
            Self::Accounts { .. } => "accounts",
        }
    }
}

/// The agents that take part, ourselves included.
///
/// Laws: an `Err` with a code of its own is a refusal: it was understood and nothing was done. `Agent.RPC.RequestFailed`
/// means not known: ask again.
pub trait Peers: Send + Sync + Debug {
    /// Sends a message and brings the answer. The limit holds for the answer; a watch gets its wait on top.
    ///
    /// # Errors
    /// See the laws.
    fn ask<'a>(&'a self, agent: AgentAddr, ask: &'a Ask, limit: Duration) -> BoxFuture<'a, Result<Value>>;
}

/// What an agent tells anybody of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    pub identity: Identity,
    /// API level and release.
    pub version: String,
    pub ob_version: String,
    /// `seekdb` or `observer`.
    pub engine: String,
}

/// The open door of an agent that we are no member with yet.
pub trait Gate: Send + Sync + Debug {
    /// # Errors
    /// `Agent.RPC.RequestFailed` when it does not answer.
    fn look(&self, agent: AgentAddr) -> BoxFuture<'_, Result<Stranger>>;

    /// Asks a master to take us among its followers, with its agent password. A trial changes nothing. Returns its members,
    /// with the keys by which we know them from now on. (The master is believed to be who answers at its address.)
    ///
    /// # Errors
    /// `Agent.RPC.RequestError` with the master's own words, or `Agent.RPC.RequestFailed`.
    fn join<'a>(
        &'a self,
        master: AgentAddr,
        password: &'a Password,
        own: &'a Member,
        is_trial: bool,
    ) -> BoxFuture<'a, Result<Members>>;

    /// Tells a SINGLE agent, with its agent password, that we add it to our cluster. A trial changes nothing. Returns what it
    /// is as a member, with the key by which we know it from now on. (It is believed to be who answers at its address.)
    ///
    /// # Errors
    /// `Agent.RPC.RequestError` with its own words, or `Agent.RPC.RequestFailed`.
    fn invite<'a>(
        &'a self,
        agent: AgentAddr,
        password: &'a Password,
        invitation: &'a Invitation,
        is_trial: bool,
    ) -> BoxFuture<'a, Result<Member>>;
}

/// For one message: one that is lost must leave time for another within every budget. What takes the receiver longer (to end
/// what is pushed aside) goes on there, and is found by the next message.
const LIMIT: Duration = Duration::from_secs(4);

/// An answer is waited for a little longer than it was promised.
const MARGIN: Duration = Duration::from_secs(3);

impl dyn Peers + '_ {
    async fn typed<T: DeserializeOwned>(&self, agent: AgentAddr, ask: &Ask, limit: Duration) -> Result<T> {
        let answer = self.ask(agent, ask, limit).await?;
        serde_json::from_value(answer)
            .map_err(|e| Error::unexpected(format!("the answer of {agent} cannot be read")).with_source(e))
    }

    /// # Errors
    /// `Agent.UnderMaintenanceDag` naming the holder, in text and `data`.
    pub async fn prepare(&self, agent: AgentAddr, request: &Prepare) -> Result<Prepared> {
        self.typed(agent, &Ask::Prepare(Box::new(request.clone())), LIMIT).await
    }

    /// # Errors
    /// When nothing is prepared there for this main DAG.
    pub async fn go(&self, agent: AgentAddr, key: &PartKey) -> Result<()> {
        self.typed(agent, &Ask::Go { key: key.clone() }, LIMIT).await
    }

    /// # Errors
    /// When nothing is prepared there for this main DAG.
    pub async fn go_on(&self, agent: AgentAddr, key: &PartKey) -> Result<()> {
        self.typed(agent, &Ask::GoOn { key: key.clone() }, LIMIT).await
    }

    /// # Errors
    /// When nothing is prepared there for this main DAG.
    pub async fn watch(
        &self,
        agent: AgentAddr,
        key: &PartKey,
        since: EventId,
        wait: Duration,
    ) -> Result<PeerView> {
        let wait_millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask::Watch { key: key.clone(), since, wait_millis };
        self.typed(agent, &ask, wait + LIMIT).await
    }

    /// # Errors
    /// When nothing is prepared there for this main DAG.
    pub async fn renew(&self, agent: AgentAddr, key: &PartKey) -> Result<()> {
        self.typed(agent, &Ask::Renew { key: key.clone() }, LIMIT).await
    }

    /// True when there was one.
    ///
    /// # Errors
    /// `Task.Dag.CancelTimeout` when its code does not stop.
    pub async fn end(&self, agent: AgentAddr, key: &PartKey, actor: &str) -> Result<bool> {
        let ask = Ask::End { key: key.clone(), actor: actor.to_owned() };
        self.typed(agent, &ask, LIMIT).await
    }

    /// # Errors
    /// As [`dyn Peers::end`].
    pub async fn revoke(&self, agent: AgentAddr, main_dag: &str, actor: &str) -> Result<()> {
        let ask = Ask::Revoke { main_dag: main_dag.to_owned(), actor: actor.to_owned() };
        self.typed(agent, &ask, LIMIT).await
    }

    /// # Errors
    /// When it is not known.
    pub async fn facts(&self, agent: AgentAddr, limit: Duration) -> Result<Facts> {
        self.typed(agent, &Ask::Facts, limit).await
    }

    /// # Errors
    /// When it is not known.
    pub async fn preflight(
        &self,
        agent: AgentAddr,
        launch: Option<&Launch>,
        limit: Duration,
    ) -> Result<Vec<Finding>> {
        self.typed(agent, &Ask::Preflight { launch: launch.cloned() }, limit).await
    }

    /// # Errors
    /// The database's, or that this agent's server does not answer.
    pub async fn sql(&self, agent: AgentAddr, act: &SqlAct, limit: Duration) -> Result<SqlAnswer> {
        let limit_millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.typed(agent, &Ask::Sql { act: act.clone(), limit_millis }, limit + MARGIN).await
    }

    /// # Errors
    /// When it could not be handed over.
    pub async fn give_root_password(&self, agent: AgentAddr, password: Handed) -> Result<()> {
        self.typed(agent, &Ask::RootPassword { password }, LIMIT).await
    }

    /// # Errors
    /// `Common.NotSupported` when there is no CA there.
    pub async fn certify(&self, agent: AgentAddr, public_key: &str) -> Result<Grant> {
        self.typed(agent, &Ask::Certify { public_key: public_key.to_owned() }, LIMIT).await
    }

    /// # Errors
    /// `Common.NotSupported` when it wants none.
    pub async fn hand_authority(&self, agent: AgentAddr, grant: &Grant) -> Result<()> {
        self.typed(agent, &Ask::TakeAuthority { grant: Box::new(grant.clone()) }, LIMIT).await
    }

    /// # Errors
    /// The master's refusal.
    pub async fn leave(&self, master: AgentAddr, actor: &str) -> Result<()> {
        self.typed(master, &Ask::Leave { actor: actor.to_owned() }, LIMIT * 4).await
    }

    /// # Errors
    /// When it could not be told.
    pub async fn welcome(&self, agent: AgentAddr, member: &Member) -> Result<()> {
        self.typed(agent, &Ask::Welcome { member: Box::new(member.clone()) }, LIMIT).await
    }

    /// # Errors
    /// When it could not be told.
    pub async fn farewell(&self, agent: AgentAddr, gone: AgentAddr) -> Result<()> {
        self.typed(agent, &Ask::Farewell { agent: gone }, LIMIT).await
    }

    /// # Errors
    /// When it could not be told.
    pub async fn tell_topology(&self, agent: AgentAddr, topology: &Topology) -> Result<()> {
        self.typed(agent, &Ask::Topology { topology: topology.clone() }, LIMIT).await
    }

    /// # Errors
    /// `Task.NotFound`, the refusals of the engine, or that it does not answer.
    pub async fn instance<T: DeserializeOwned>(
        &self,
        agent: AgentAddr,
        what: InstanceAsk,
        limit: Duration,
    ) -> Result<T> {
        self.typed(agent, &Ask::Instance { what: Box::new(what) }, limit).await
    }

    /// # Errors
    /// The member's refusal, or that it was not reached.
    pub async fn swap_accounts(&self, agent: AgentAddr, accounts: &Accounts) -> Result<Accounts> {
        self.typed(agent, &Ask::Accounts { accounts: accounts.clone() }, LIMIT).await
    }

    /// `None` when the password is wrong.
    ///
    /// # Errors
    /// When it is not known.
    pub async fn check_password(&self, master: AgentAddr, credential: Credential) -> Result<Option<String>> {
        self.typed(master, &Ask::CheckPassword { credential }, LIMIT).await
    }
}

/// It is not known what became of a message.
pub fn is_unknown(error: &Error) -> bool {
    error.code == Code::RpcRequestFailed
}

/// Between two tries of a message whose fate is not known: short first, because most troubles are.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Asks again until it is known, or the time is over: then the last error. What was asked must be safe to repeat.
///
/// # Errors
/// The refusal, or that nobody answered.
pub async fn surely<T, A>(limit: Duration, mut ask: impl FnMut() -> A) -> Result<T>
where
    A: Future<Output = Result<T>>,
{
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    let tries = async {
        loop {
            match ask().await {
                Err(error) if is_unknown(&error) => last = Some(error),
                known => return known,
            }
            // Nothing announces a network that is back.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    if let Ok(known) = tokio::time::timeout(limit, tries).await {
        return known;
    }
    let why = last.map_or_else(|| "no answer".to_owned(), |error| error.text().to_owned());
    Err(Error::new(Code::RpcRequestFailed, format!("{why} (tried for {} s)", limit.as_secs())))
}

//! What other agents ask of us, and how we answer: the receiving side of `flow::peers`.
//!
//! Invariant: whoever asks is a member that was recognised by its key; still, each message says which identity of ours it is
//! for, and a destructive one is refused in any other (W39, W48).

use std::time::Duration;

use serde_json::{Value, json};

use super::context::{App, Caller, Request};
use super::health::Health;
use crate::cluster::{Act, Change, Members, effective, may};
use crate::engine::DagState;
use crate::error::{Code, Error, Result};
use crate::flow::member;
use crate::flow::peers::{Ask, Credential, Facts, Operation, Prepare};
use crate::flow::ports::Silent;
use crate::flow::server::next_start;
use crate::model::{AgentAddr, Identity};

/// How fresh what we tell of our server is.
const LOOK: Duration = Duration::from_millis(800);

/// For our own part in letting a follower go.
const REMOVAL_LIMIT: Duration = Duration::from_secs(15);

impl App {
    /// # Errors
    /// Our refusal, with its code.
    pub async fn answer(&self, from: AgentAddr, ask: &Ask) -> Result<Value> {
        if let Ask::Prepare(request) = ask {
            self.check_prepare(from, request)?;
        }
        if let Some(answer) = self.parts.participant.answer(ask).await {
            return answer;
        }
        let ports = &self.parts.ports;
        match ask {
            Ask::Facts => Ok(json!(self.own_facts().await?)),
            Ask::Preflight { launch } => {
                let launch = launch.clone().unwrap_or_else(|| next_start(ports));
                Ok(json!(ports.process.preflight(&launch).await))
            }
            Ask::Sql { act, limit_millis } => {
                let password = ports.ledger.root_password();
                let limit = Duration::from_millis(*limit_millis);
                ports.cluster.act(&password, act, limit, &Silent).await.map(|answer| json!(answer))
            }
            Ask::RootPassword { password } => {
                self.may_hand_over(from)?;
                let change = Change::RootPassword(password.0.clone());
                ports.ledger.change(change, &format!("agent {from}")).await.map(|()| Value::Null)
            }
            Ask::Certify { public_key } => Ok(json!(ports.trust.certify(from, public_key).await?)),
            Ask::TakeAuthority { grant } => ports.trust.take(from, grant).await.map(|()| Value::Null),
            Ask::Leave { actor } => self.let_go(from, actor).await.map(|()| Value::Null),
            Ask::CheckPassword { credential } => Ok(json!(self.knows(credential).await)),
            Ask::Welcome { member } => {
                let change = Change::MemberKnown((**member).clone());
                self.told_of_a_member(from, change).await.map(|()| Value::Null)
            }
            Ask::Farewell { agent } => {
                self.told_of_a_member(from, Change::MemberLeft(*agent)).await.map(|()| Value::Null)
            }
            Ask::Topology { topology } => {
                self.check_member(from)?;
                may(Act::Operate, self.own(), self.identity())?;
                self.know(topology.clone(), &format!("agent {from}")).await.map(|()| Value::Null)
            }
            Ask::Instance { what } => {
                self.check_member(from)?;
                self.tell_instance(what).await
            }
            Ask::Accounts { accounts } => Ok(json!(self.swap_accounts(from, accounts).await?)),
            Ask::Prepare(_)
            | Ask::Go { .. }
            | Ask::GoOn { .. }
            | Ask::Watch { .. }
            | Ask::Renew { .. }
            | Ask::End { .. }
            | Ask::Revoke { .. } => Err(Error::unexpected("a message about parts was not answered")),
        }
    }

    /// One meaning per message and identity: what is meant for a member of a cluster never acts on another (W39).
    fn check_prepare(&self, from: AgentAddr, request: &Prepare) -> Result<()> {
        let state = self.parts.ledger.state();
        let is_from_master = state.members.is_master(from) || from == self.own();
        let wanted: &[Identity] = match request.operation {
            Operation::Start
            | Operation::Stop { .. }
            | Operation::Stand
            | Operation::Launch
            | Operation::Restart { .. }
            | Operation::Retire { .. } => &[Identity::ClusterAgent],
            Operation::Adopt { .. } => &[Identity::Follower, Identity::ScalingOut, Identity::ClusterAgent],
            Operation::Leave => &[Identity::Follower, Identity::ScalingOut, Identity::Single],
            Operation::BeTakenOver { .. } | Operation::FollowAgain { .. } => {
                &[Identity::Follower, Identity::ClusterAgent]
            }
            Operation::Unadopt { .. } => &[Identity::ScalingOut, Identity::ClusterAgent],
            Operation::Deploy { .. }
            | Operation::Undeploy
            | Operation::StartFirst { .. }
            | Operation::UndoStart => &[Identity::Follower, Identity::ScalingOut],
        };
        if !wanted.contains(&state.identity) {
            let wanted: Vec<_> = wanted.iter().map(|identity| identity.text()).collect();
            let text =
                format!("{} is {}, but must be {} for this", self.own(), state.identity, wanted.join(" or "));
            return Err(Error::new(Code::IdentityNotSupported, text));
        }
        let leads = |members: &Members| members.is_master(from);
        if matches!(&request.operation, Operation::FollowAgain { members } if !leads(members)) {
            let text = format!("{from} does not lead those whom {} is told to follow", self.own());
            return Err(Error::new(Code::IllegalArgument, text));
        }
        if state.identity == Identity::Follower && !is_from_master {
            return Err(Error::new(
                Code::IdentityNotSupported,
                format!("{from} is not the master of {}", self.own()),
            ));
        }
        Ok(())
    }

    /// Who is being added, or was removed, has a key to speak to us, and no say in what the cluster does.
    fn check_member(&self, from: AgentAddr) -> Result<()> {
        if from == self.own() || self.parts.ledger.state().members.find(from).is_some() {
            return Ok(());
        }
        let text = format!("{from} is no member of the cluster of {}", self.own());
        Err(Error::new(Code::AgentNotExist, text))
    }

    /// For a decision: a server whose end is still on its way to the watcher does not count as running.
    async fn health_now(&self) -> Health {
        let health = self.parts.health.fresh(LOOK).await;
        match &health.process {
            Some(process) if self.parts.ports.process.has_ended(process) => {
                self.parts.health.without(process, LOOK).await
            }
            Some(_) | None => health,
        }
    }

    /// What we tell of ourselves.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn own_facts(&self) -> Result<Facts> {
        let health = self.health_now().await;
        let state = self.parts.ledger.state();
        let held_by = match self.parts.archive.holder().await? {
            Some(holder) => Some(self.parts.participant.held_by(&holder).await),
            None => None,
        };
        let options = effective(&state, self.own());
        let home = &self.parts.home;
        let data_dir = options.get("data_dir").cloned().unwrap_or_else(|| format!("{home}/store"));
        let redo_dir = options.get("redo_dir").cloned().unwrap_or_else(|| format!("{data_dir}/clog"));
        Ok(Facts {
            agent: self.own(),
            identity: state.identity,
            is_initialised: self.parts.ports.process.is_initialised(),
            process: health.process.as_ref().map(|process| process.pid),
            process_since: health.process.as_ref().map(|process| process.started_at),
            ob_state: health.ob_state(),
            server: health.in_words(),
            why: health.why(),
            sql_port: state.server.sql_port,
            ob_version: state.server.version.clone().or_else(|| self.learned().binary_version),
            held_by,
            under_way: self.own_marks().await,
            data_dir,
            redo_dir,
            log_dir: format!("{home}/log"),
        })
    }

    /// Members of a running cluster come and go by its operations; of ourselves we are told by an operation of our own.
    async fn told_of_a_member(&self, from: AgentAddr, change: Change) -> Result<()> {
        may(Act::Operate, self.own(), self.identity())?;
        let is_ours = matches!(&change, Change::MemberKnown(member) if member.agent == self.own())
            || matches!(&change, Change::MemberLeft(agent) if *agent == self.own());
        if is_ours {
            let text = format!("{from} may not say of {} whether it is a member", self.own());
            return Err(Error::new(Code::IllegalArgument, text));
        }
        self.parts.ledger.change(change, &format!("agent {from}")).await
    }

    /// Before init the root password is the master's alone; who is being added is told it by who adds it.
    fn may_hand_over(&self, from: AgentAddr) -> Result<()> {
        let state = self.parts.ledger.state();
        let is_allowed = matches!(state.identity, Identity::ClusterAgent | Identity::ScalingOut)
            || state.identity == Identity::Follower && state.members.is_master(from);
        if is_allowed {
            return Ok(());
        }
        let text =
            format!("{from} may not tell the root password to {}, which is {}", self.own(), state.identity);
        Err(Error::new(Code::IllegalArgument, text))
    }

    /// A follower wants to leave: our side of it, done when it is answered.
    async fn let_go(&self, follower: AgentAddr, actor: &str) -> Result<()> {
        may(Act::Admit, self.own(), self.identity())?;
        if self.parts.ledger.state().members.find(follower).is_none() {
            return Ok(());
        }
        let params = member::Remove { agents: vec![follower], actor: actor.to_owned() };
        let caller = Caller { actor: actor.to_owned(), is_local: false, source: None };
        let template = member::remove_follower(self.own(), &params, false);
        let dag = self.submit(template, &caller, Request::default()).await?;
        let rest = self.parts.engine.until(dag.id, |dag| dag.state.is_at_rest());
        let ended = tokio::time::timeout(REMOVAL_LIMIT, rest).await;
        let ended =
            ended.map_err(|_| Error::new(Code::RpcRequestFailed, "the removal goes on at the master"))??;
        if ended.state == DagState::Succeeded {
            return Ok(());
        }
        Err(Error::new(
            Code::RpcRequestError,
            format!("{} could not remove {follower}; its task {} failed", self.own(), ended.id),
        ))
    }

    /// A client of our follower: who it is, if the password is right. Its right to claim was judged where it knocked.
    async fn knows(&self, credential: &Credential) -> Option<String> {
        let secrets = self.parts.ledger.secrets();
        if secrets.agent.is_none() && secrets.root.is_none() {
            return credential.may_claim.then(|| "somebody (no password is set yet)".to_owned());
        }
        let password = &credential.password.0;
        if credential.is_agent {
            let known = secrets.agent.as_ref()?;
            return crate::secure::is_same(known.expose(), password.expose())
                .then(|| "agent password".to_owned());
        }
        secrets.root.as_ref()?;
        self.check_root(password).await.then(|| "root@sys".to_owned())
    }
}

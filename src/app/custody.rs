//! What this agent holds of the cluster's own CA, from the first start to the day it leaves.
//!
//! Purpose: certificates that nobody has to think of. An agent that belongs to nobody has a CA of its own; when it leads a
//! cluster, that is the cluster's. A follower is certified by its master. Every member of an initialised cluster holds the key of
//! the CA, and certifies itself.
//!
//! **Why every member holds the key.** A master may die, be scaled in or be lost the day after init, and a certificate must be
//! renewed in sixty days nevertheless, with no other agent in reach. Each of them knows the root password already, which
//! opens everything that the CA protects; the key adds no power to that. It is handed out where that password is: inside the
//! sealed messages of members, to members. What it costs: a host that was a member has known it. A certificate opens no route:
//! agents are known by their peer keys, which end with membership (W14); but who has kept the key can pretend to be an agent to
//! clients that go by the root alone (docs/architecture.md, Known weaknesses).
//!
//! Invariant: what is shown was kept before (`KeepHolding`), certificate and keys in one commit: after `kill -9` at any instant the
//! next start goes on with the old or with the new, never with a CA that nobody remembers. Private keys of certificates never
//! leave their agent. Nothing here says who may do what.
//!
//! Not here: X.509 (`secure::authority`), TLS itself (`secure::tls`), when a join asks for it (`flow::trust`).

use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::holding::{Step, Subject, broken, whole};
use crate::clock::Clock;
use crate::cluster::{Act, AgentState, Ledger, may};
use crate::engine::port::Stamp;
use crate::error::{Code, Error, Result};
use crate::flow::peers::{Peers, is_unknown};
use crate::flow::trust::{Grant, Trust};
use crate::model::{AgentAddr, Certificate, Identity, Timestamp};
use crate::secure::{CLIENT_LIFETIME, Holding, Tls, TlsKey, Wanted, issue};

/// Who this is in the records.
const KEEPER: &str = "certificates";

/// Others may still follow the last task of an agent that has left; it is shown to them as they know it for so long.
const FAREWELL: Duration = Duration::from_secs(120);

/// Between two tries to get what cannot be had now: short first, because most troubles are.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A timer does not count the time in which a host sleeps, and clocks are set: the moment of renewal is looked at daily.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// Where it is kept. Law: it returns after the commit, all or nothing.
pub trait KeepHolding: Send + Sync + std::fmt::Debug {
    /// # Errors
    /// When it cannot be kept; then nothing of it is.
    fn save_holding<'a>(
        &'a self,
        holding: &'a Holding,
        stamp: Stamp,
        what: serde_json::Value,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Custody {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    subject: Subject,
    tls: Tls,
    keep: Arc<dyn KeepHolding>,
    peers: Arc<dyn Peers>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    holding: RwLock<Arc<Holding>>,
    /// One change at a time; held over the commit.
    turn: Mutex<()>,
}

/// What a custody is made of.
#[derive(Debug)]
pub struct Parts {
    pub subject: Subject,
    pub tls: Tls,
    pub keep: Arc<dyn KeepHolding>,
    pub peers: Arc<dyn Peers>,
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub holding: Holding,
}

/// A client's certificate, and the root by which it knows agents.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate: Certificate,
    pub roots: Vec<Certificate>,
}

fn none_here() -> Error {
    Error::new(Code::NotSupported, "this agent does not hold the key of its cluster's CA")
}

impl Custody {
    pub fn new(parts: Parts) -> Self {
        let Parts { subject, tls, keep, peers, ledger, clock, holding } = parts;
        let holding = RwLock::new(Arc::new(holding));
        Self {
            inner: Arc::new(Inner {
                subject,
                tls,
                keep,
                peers,
                ledger,
                clock,
                holding,
                turn: Mutex::default(),
            }),
        }
    }

    /// What is held now.
    pub fn holding(&self) -> Arc<Holding> {
        Arc::clone(&self.inner.holding.read().expect("no holder of this lock panics"))
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn fresh_key(&self) -> Result<Arc<TlsKey>> {
        TlsKey::generate().map(Arc::new).map_err(|e| broken(&e))
    }

    /// Keeps it, then shows it. Whoever calls this has the turn.
    async fn hold(&self, holding: Holding, what: &str, actor: &str) -> Result<()> {
        let Certificate { subject, issuer, fingerprint, not_after, .. } = &holding.certificate;
        let what = json!({ "certificates": what, "subject": subject, "issuer": issuer, "fingerprint": fingerprint,
                           "not_after": not_after });
        let stamp = Stamp { at: self.now(), actor: actor.to_owned() };
        self.inner.keep.save_holding(&holding, stamp, what).await?;
        let unshown = |e| Error::unexpected(format!("the certificate that was kept cannot be shown: {e}"));
        self.inner.tls.take_up(&holding).map_err(unshown)?;
        tracing::info!(
            subject,
            issuer,
            fingerprint,
            %not_after,
            "new connections are shown another certificate, or are held to other roots"
        );
        *self.inner.holding.write().expect("no holder of this lock panics") = Arc::new(holding);
        Ok(())
    }

    /// Runs as long as the agent: follows what the agent becomes, and renews in time.
    pub async fn keep(self, token: CancellationToken) {
        let mut state = self.inner.ledger.watch();
        let mut pause = FIRST_PAUSE;
        loop {
            state.mark_unchanged();
            let wait = match self.settle().await {
                Ok(wait) => {
                    pause = FIRST_PAUSE;
                    wait
                }
                Err(error) => {
                    tracing::warn!(cause = %error.chain(), again_in_secs = pause.as_secs(), "the certificate is not what it should be yet");
                    let now = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    now
                }
            };
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                changed = state.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Makes it what it should be. Returns how long it will be right.
    ///
    /// # Errors
    /// What is missing, and has to be asked for again.
    pub async fn settle(&self) -> Result<Duration> {
        let _turn = self.inner.turn.lock().await;
        let state = self.inner.ledger.state();
        self.end_farewell().await?;
        match state.identity {
            Identity::Single => self.leave().await?,
            Identity::Master => self.lead().await?,
            Identity::Follower => self.follow(&state).await?,
            Identity::ClusterAgent => self.belong(&state).await?,
            // The first two keep what they have until they are members; the others are handed theirs.
            Identity::TakeOverMaster
            | Identity::TakeOverFollower
            | Identity::ScalingOut
            | Identity::ScalingIn
            | Identity::Unidentified => {}
        }
        self.renew(&state).await?;
        Ok(self.until_due())
    }

    fn until_due(&self) -> Duration {
        let holding = self.holding();
        let farewell = holding.left_at.and_then(|at| at.checked_add(FAREWELL).ok());
        let due = farewell.unwrap_or(holding.certificate.renew_at);
        let left = Duration::try_from(due.duration_since(self.now())).unwrap_or_default();
        left.clamp(FIRST_PAUSE, LONGEST_WAIT)
    }

    /// The key of the cluster's CA goes at once, its certificate a moment later.
    async fn leave(&self) -> Result<()> {
        let held = self.holding();
        if !held.is_clusters || held.left_at.is_some() {
            return Ok(());
        }
        let left = Holding { authority: None, next: None, left_at: Some(self.now()), ..(*held).clone() };
        self.hold(left, "the key of the cluster's CA was forgotten", KEEPER).await
    }

    /// Wherever it belongs by now: others may have no CA to give.
    async fn end_farewell(&self) -> Result<()> {
        let (held, now) = (self.holding(), self.now());
        let Some(at) = held.left_at else { return Ok(()) };
        if at.checked_add(FAREWELL).is_ok_and(|end| now < end) {
            return Ok(());
        }
        self.hold(self.inner.subject.on_its_own(now)?, "a CA of its own", KEEPER).await
    }

    /// What was the agent's own is the cluster's from now on; clients that trust it go on.
    async fn lead(&self) -> Result<()> {
        let held = self.holding();
        if held.is_clusters && held.authority.is_some() {
            return Ok(());
        }
        let own = if held.authority.is_some() && !held.is_clusters {
            (*held).clone()
        } else {
            self.inner.subject.on_its_own(self.now())?
        };
        let leading = Holding { is_clusters: true, left_at: None, ..own };
        self.hold(leading, "the CA of the cluster", KEEPER).await
    }

    async fn follow(&self, state: &AgentState) -> Result<()> {
        let held = self.holding();
        if held.is_clusters && held.left_at.is_none() {
            if held.authority.is_none() {
                return Ok(());
            }
            // It was a member for a moment: what made it one was taken back.
            let without = Holding { authority: None, next: None, ..(*held).clone() };
            return self.hold(without, "the key of the cluster's CA was given back", KEEPER).await;
        }
        let Some(master) = state.members.master().map(|member| member.agent) else { return Ok(()) };
        self.ask_and_hold(master, Arc::clone(&held.key), KEEPER).await.map(|_| ())
    }

    /// A certificate for this key by another agent; false when that one has no CA.
    async fn ask_and_hold(&self, by: AgentAddr, key: Arc<TlsKey>, actor: &str) -> Result<bool> {
        let grant = match self.inner.peers.certify(by, &key.public_on_wire()).await {
            Ok(grant) => grant,
            Err(error) if is_unknown(&error) => return Err(error),
            Err(error) => {
                tracing::info!(%by, %error, "no certificate of its CA");
                return Ok(false);
            }
        };
        let holding = self.inner.subject.accepted(&grant, key, self.now())?;
        self.hold(holding, &format!("certified by {by}"), actor).await?;
        Ok(true)
    }

    /// A member of an initialised cluster holds the key of its CA. It is had from any other one. When all others were asked and
    /// nobody has one, the first of them makes it; what was trusted before is trusted on.
    async fn belong(&self, state: &AgentState) -> Result<()> {
        let held = self.holding();
        if held.is_clusters && held.authority.is_some() && held.left_at.is_none() {
            return Ok(());
        }
        let own = self.inner.subject.own;
        let (mut is_somewhere, mut silent) = (false, Vec::new());
        for agent in state.members.agents().into_iter().filter(|agent| *agent != own) {
            match self.inner.peers.certify(agent, &held.key.public_on_wire()).await {
                Ok(grant) if grant.authority.is_some() => {
                    let holding = self.inner.subject.accepted(&grant, Arc::clone(&held.key), self.now())?;
                    return self.hold(holding, &format!("the CA's key, from {agent}"), KEEPER).await;
                }
                Ok(_) => is_somewhere = true,
                Err(error) if is_unknown(&error) => silent.push(agent.to_string()),
                Err(error) => tracing::debug!(%agent, %error, "has no CA"),
            }
        }
        let is_first = state.members.agents().first() == Some(&own);
        if is_somewhere || !silent.is_empty() || !is_first {
            let who = if silent.is_empty() { "nobody yet".to_owned() } else { silent.join(", ") };
            let text = format!("the key of the cluster's CA was not to be had; not reached: {who}");
            return Err(Error::new(Code::RpcRequestFailed, text));
        }
        let made = if held.is_clusters || held.authority.is_none() {
            let made = self.inner.subject.on_its_own(self.now())?;
            let roots = made.roots.iter().chain(&held.roots).cloned().collect();
            Holding { roots, ..made }
        } else {
            (*held).clone()
        };
        let made = Holding { is_clusters: true, left_at: None, ..made };
        self.hold(made, "the CA of the cluster", KEEPER).await
    }

    /// In time, and when the agent has other addresses.
    async fn renew(&self, state: &AgentState) -> Result<()> {
        let (held, now) = (self.holding(), self.now());
        if held.left_at.is_some() {
            return Ok(());
        }
        if let Some(renewed) = self.inner.subject.in_time(&held, now)? {
            return self.hold(renewed, "renewed", KEEPER).await;
        }
        if held.authority.is_some() || now < held.certificate.renew_at {
            return Ok(());
        }
        let by = self.issuer(state)?;
        if self.ask_and_hold(by, Arc::clone(&held.key), KEEPER).await? { Ok(()) } else { Err(none_at(by)) }
    }

    /// Who certifies us, where we cannot do it ourselves.
    fn issuer(&self, state: &AgentState) -> Result<AgentAddr> {
        let master = state.members.master().map(|member| member.agent);
        master.filter(|master| *master != self.inner.subject.own).ok_or_else(none_here)
    }

    /// A new key pair and a certificate for it, at once. Connections go on.
    ///
    /// # Errors
    /// When no certificate could be had; then the old one stays.
    pub async fn rotate(&self, actor: &str) -> Result<()> {
        let _turn = self.inner.turn.lock().await;
        let key = self.fresh_key()?;
        if let Some(renewed) = self.inner.subject.certified(&self.holding(), Arc::clone(&key), self.now())? {
            return self.hold(renewed, "a new key", actor).await;
        }
        let by = self.issuer(&self.inner.ledger.state())?;
        if self.ask_and_hold(by, key, actor).await? { Ok(()) } else { Err(none_at(by)) }
    }

    /// A certificate for the key of a client.
    ///
    /// # Errors
    /// When this agent cannot issue, or the key is none.
    pub fn issue_client(&self, name: &str, public_key: &str) -> Result<Issued> {
        let held = self.holding();
        let (Some(root), Some(authority)) = (held.roots.first(), &held.authority) else {
            return Err(none_here());
        };
        let wanted =
            Wanted { subject: name.to_owned(), public_key, names: Vec::new(), lifetime: CLIENT_LIFETIME };
        let certificate = issue(root, authority, &wanted, self.now())
            .map_err(|e| Error::new(Code::IllegalArgument, e.to_string()))?;
        Ok(Issued { certificate, roots: held.roots.clone() })
    }

    /// One step on the way to another root, with all members of the cluster. Each may be repeated, at any member, until all
    /// were reached; a step begins by making sure that all have taken the one before, so nobody is ever shown a certificate of a
    /// root that he does not trust yet.
    ///
    /// # Errors
    /// That it is not its turn, or which members were not reached.
    pub async fn replace_root(&self, step: Step, actor: &str) -> Result<()> {
        let _turn = self.inner.turn.lock().await;
        let state = self.inner.ledger.state();
        may(Act::Operate, self.inner.subject.own, state.identity)?;
        let held = self.holding();
        if held.authority.is_none() || !held.is_clusters {
            return Err(none_here());
        }
        let target = self.inner.subject.stepped(&held, step, self.now())?;
        let others = state.members.agents().into_iter().filter(|agent| *agent != self.inner.subject.own);
        let others: Vec<_> = others.collect();
        if step != Step::Announce {
            self.hand_to_all(&others, &held).await?;
        }
        if let Some(target) = target {
            self.hold(target, step.text(), actor).await?;
        }
        self.hand_to_all(&others, &self.holding()).await
    }

    async fn hand_to_all(&self, others: &[AgentAddr], held: &Holding) -> Result<()> {
        let mut missed = Vec::new();
        for agent in others {
            if let Err(error) = self.inner.peers.hand_authority(*agent, &whole(held)).await {
                missed.push(format!("{agent} ({error})"));
            }
        }
        if missed.is_empty() {
            return Ok(());
        }
        let text = format!(
            "not every member has taken it: {}; repeat this step when they are back (one without tls.own_ca: when that is set)",
            missed.join(", ")
        );
        Err(Error::new(Code::RpcRequestFailed, text))
    }

    async fn certify_member(&self, from: AgentAddr, public_key: &str) -> Result<Grant> {
        let state = self.inner.ledger.state();
        if state.identity == Identity::Master {
            let _turn = self.inner.turn.lock().await;
            self.lead().await?;
        }
        let held = self.holding();
        let (Some(root), Some(authority), true) = (held.roots.first(), &held.authority, held.is_clusters)
        else {
            return Err(none_here());
        };
        let member = state.members.find(from);
        let member = member.ok_or_else(|| Error::new(Code::AgentNotExist, format!("{from} is no member")))?;
        let wanted = Wanted {
            subject: format!("agent {from}"),
            public_key,
            names: vec![from.ip],
            lifetime: self.inner.subject.lifetime,
        };
        let certificate = issue(root, authority, &wanted, self.now())
            .map_err(|e| Error::new(Code::IllegalArgument, e.to_string()))?;
        let is_full = state.identity == Identity::ClusterAgent && member.identity == Identity::ClusterAgent;
        tracing::info!(agent = %from, fingerprint = certificate.fingerprint, with_the_key = is_full, "a member was certified");
        let full = is_full.then(|| whole(&held));
        let roots = held.roots.clone();
        let full = full.unwrap_or(Grant { certificate: None, roots, authority: None, next: None });
        Ok(Grant { certificate: Some(certificate), ..full })
    }
}

fn none_at(by: AgentAddr) -> Error {
    Error::new(Code::RpcRequestFailed, format!("{by} has no CA; is tls.own_ca set there?"))
}

impl Trust for Custody {
    fn be_certified(&self, by: AgentAddr) -> BoxFuture<'_, Result<Option<String>>> {
        Box::pin(async move {
            let _turn = self.inner.turn.lock().await;
            let key = Arc::clone(&self.holding().key);
            let is_certified = self.ask_and_hold(by, key, KEEPER).await?;
            if !is_certified {
                // What it holds of another cluster is nothing to this one.
                self.leave().await?;
            }
            Ok(Some(if is_certified {
                format!("{by} has certified {}", self.inner.subject.own)
            } else {
                format!("{by} has no CA (tls.own_ca is not set there): this agent keeps its own")
            }))
        })
    }

    fn hand_to(&self, agent: AgentAddr) -> BoxFuture<'_, Result<Option<String>>> {
        Box::pin(async move {
            let held = self.holding();
            if held.authority.is_none() || !held.is_clusters {
                let text =
                    format!("{} has not got the CA's key from the other members yet", self.inner.subject.own);
                return Err(Error::new(Code::RpcRequestFailed, text));
            };
            match self.inner.peers.hand_authority(agent, &whole(&held)).await {
                Ok(()) => Ok(Some(format!("{agent} has the CA of the cluster"))),
                Err(error) if error.code == Code::NotSupported => Ok(Some(format!(
                    "{agent} takes no part in the cluster's CA (tls.own_ca is not set there)"
                ))),
                Err(error) => Err(error),
            }
        })
    }

    fn certify<'a>(&'a self, from: AgentAddr, public_key: &'a str) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(self.certify_member(from, public_key))
    }

    fn take<'a>(&'a self, from: AgentAddr, grant: &'a Grant) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let _turn = self.inner.turn.lock().await;
            let state = self.inner.ledger.state();
            let sender = state.members.find(from).map(|member| member.identity);
            let is_replaced =
                state.identity == Identity::ClusterAgent && sender == Some(Identity::ClusterAgent);
            if state.identity != Identity::ScalingOut && !is_replaced {
                let own = self.inner.subject.own;
                let text = format!("{from} may not hand a CA to {own}, which is {}", state.identity);
                return Err(Error::new(Code::IllegalArgument, text));
            }
            // Said again.
            if whole(&self.holding()) == *grant && self.holding().is_clusters {
                return Ok(());
            }
            let key = Arc::clone(&self.holding().key);
            let holding = self.inner.subject.accepted(grant, key, self.now())?;
            self.hold(holding, &format!("the CA's key, from {from}"), &format!("agent {from}")).await
        })
    }
}

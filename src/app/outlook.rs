//! The cluster as it is now: every agent asked at once, and the database's own view through whichever server answers.
//!
//! Invariant: an answer is no older than a second, and never late because a host is away: who does not answer in time is
//! "not reached", and that is a fact too.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Mutex;

use super::context::App;
use crate::clock::Stopwatch;
use crate::cluster::figures::Figures;
use crate::cluster::{ClusterView, Fate};
use crate::config::EngineKind;
use crate::error::Result;
use crate::flow::peers::{Facts, HeldBy};
use crate::flow::ports::{Silent, SqlAct, SqlAnswer};
use crate::flow::zones;
use crate::model::{AgentAddr, Member};

/// For one agent to answer.
const LIMIT: Duration = Duration::from_millis(950);

/// What was read so recently is as good as new: many ask at once.
const FRESH: Duration = Duration::from_millis(500);

/// What was read last, for all who ask at the same time.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    view: Kept<ClusterView>,
    figures: Kept<Figures>,
}

/// When it was read, and what; nothing when nobody answered.
type Kept<T> = Arc<Mutex<Option<(Stopwatch, Option<Arc<T>>)>>>;

/// One reads; who comes meanwhile, or right after, gets the same answer.
async fn kept<T>(last: &Kept<T>, read: impl Future<Output = Option<Arc<T>>>) -> Option<Arc<T>> {
    let mut last = last.lock().await;
    if let Some((at, answer)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        tracing::trace!(age = ?at.elapsed(), "what was read is fresh");
        return answer.clone();
    }
    let answer = read.await;
    *last = Some((Stopwatch::start(), answer.clone()));
    answer
}

/// An agent with what it tells, or why it is not known.
#[derive(Clone, Debug)]
pub struct Seen {
    pub member: Member,
    pub facts: Result<Facts, String>,
}

impl Seen {
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref().ok()
    }

    pub fn held_by(&self) -> Option<&HeldBy> {
        self.facts()?.held_by.as_ref()
    }

    /// `obState`; unknown is 0.
    pub fn ob_state(&self) -> u8 {
        self.facts().map_or(0, |facts| facts.ob_state)
    }

    pub fn in_words(&self) -> String {
        self.facts().map_or_else(|| "not reached".to_owned(), Facts::in_words)
    }
}

/// Everything at once.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// In the order of the members.
    pub agents: Vec<Seen>,
    /// `None` when no server answers for the cluster.
    pub view: Option<Arc<ClusterView>>,
}

impl Outlook {
    pub fn seen(&self, agent: AgentAddr) -> Option<&Seen> {
        self.agents.iter().find(|seen| seen.member.agent == agent)
    }

    /// No server serves anywhere, as far as anybody can see.
    pub fn is_all_down(&self) -> bool {
        self.view.is_none() && self.agents.iter().all(|seen| seen.ob_state() < 3)
    }
}

impl App {
    /// Facts of these members and the view, together.
    pub async fn outlook(&self) -> Outlook {
        let (agents, view) = tokio::join!(self.see(self.members()), self.view());
        Outlook { agents, view }
    }

    /// The same for a decision: nothing in it was read before it was asked for.
    pub async fn outlook_now(&self) -> Outlook {
        let (agents, view) = tokio::join!(self.see(self.members()), self.view_now());
        Outlook { agents, view }
    }

    fn members(&self) -> Vec<Member> {
        self.parts.ledger.state().members.iter().cloned().collect()
    }

    async fn see(&self, members: Vec<Member>) -> Vec<Seen> {
        let asked = members.into_iter().map(|member| async move {
            let peers = &self.parts.ports.peers;
            let facts = tokio::time::timeout(LIMIT, peers.facts(member.agent, LIMIT)).await;
            let facts = facts.map_or_else(
                |_| Err(format!("{} does not answer within a second", member.agent)),
                |facts| facts.map_err(|error| error.text().to_owned()),
            );
            Seen { member, facts }
        });
        join_all(asked).await
    }

    /// The database's own view; `None` when nobody answers for the cluster within a second. Engine seekdb has none.
    pub async fn view(&self) -> Option<Arc<ClusterView>> {
        if self.parts.ports.engine == EngineKind::Seekdb {
            return None;
        }
        kept(&self.parts.memory.remembered.view, self.read_view()).await
    }

    pub(super) async fn view_now(&self) -> Option<Arc<ClusterView>> {
        if self.parts.ports.engine == EngineKind::Seekdb {
            return None;
        }
        let view = self.read_view().await;
        *self.parts.memory.remembered.view.lock().await = Some((Stopwatch::start(), view.clone()));
        view
    }

    pub(super) async fn read_view(&self) -> Option<Arc<ClusterView>> {
        let read = zones::glance_view(&self.parts.ports, LIMIT, &Silent).await;
        read.inspect_err(|error| tracing::debug!(%error, "nobody answers for the cluster")).ok().map(Arc::new)
    }

    /// What the database tells of itself in numbers; `None` when nobody answers within a second, or there is no cluster.
    pub async fn figures(&self) -> Option<Arc<Figures>> {
        if !self.is_cluster_agent() {
            return None;
        }
        kept(&self.parts.memory.remembered.figures, async {
            let read = zones::glance(&self.parts.ports, &SqlAct::Figures, LIMIT, &Silent).await;
            let figures = read.and_then(SqlAnswer::figures);
            figures.inspect_err(|error| tracing::debug!(%error, "nobody tells figures")).ok().map(Arc::new)
        })
        .await
    }

    /// Whether a member's server may stop without a tenant noticing: nothing in the way, or the reasons why not.
    pub fn stop_risks(&self, view: Option<&ClusterView>, agents: &[AgentAddr]) -> Vec<String> {
        if self.parts.ports.engine == EngineKind::Seekdb {
            return vec!["it is the only server: the database is away while it is stopped".to_owned()];
        }
        let Some(view) = view else {
            return vec![
                "no server answers for the cluster, so nothing is proven about its log streams".to_owned(),
            ];
        };
        let stopping = zones::servers_of(&self.parts.ports, agents);
        let state = self.parts.ledger.state();
        let zones: Vec<_> =
            agents.iter().filter_map(|agent| state.members.zone_of(*agent).cloned()).collect();
        let mut risks: Vec<_> = zones::losses(view, &stopping).iter().map(Fate::in_words).collect();
        let elsewhere = view.stopped_elsewhere(&zones);
        if !elsewhere.is_empty() {
            risks.push(format!("stopped already in another zone: {}", elsewhere.join(", ")));
        }
        risks
    }
}

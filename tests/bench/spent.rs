//! What agents have spent on something: by their own pages of numbers, and by the kernel's.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::floor::Work;
use crate::measure::Watched;
use crate::rig::Cluster;

/// Messages whose time is not that of a message: a watch waits for news, SQL that another agent is asked for waits for its database.
const WAITS: [&str; 2] = ["watch", "sql"];

/// Sums of one agent's page.
#[derive(Clone, Debug, Default)]
struct Page(BTreeMap<String, f64>);

impl Page {
    async fn of(cluster: &Cluster, host: usize) -> Self {
        let text = cluster.door(host).get("/api/v2/metrics").await.text;
        let numbers = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            numbers
                .filter_map(|line| {
                    let (name, number) = line.rsplit_once(' ')?;
                    Some((name.to_owned(), number.parse().ok()?))
                })
                .collect(),
        )
    }

    /// All of one name, but for the kinds that are named.
    fn sum(&self, name: &str, but: &[&str]) -> f64 {
        let is_meant = |key: &&String| {
            key.split('{').next() == Some(name)
                && !but.iter().any(|kind| key.contains(&format!("\"{kind}\"")))
        };
        self.0.keys().filter(is_meant).map(|key| self.0[key]).sum()
    }
}

/// What all agents of a cluster have spent until now.
#[derive(Debug)]
pub(crate) struct Tally {
    pages: Vec<Page>,
    cpu: Duration,
}

impl Tally {
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        let mut pages = Vec::new();
        for host in 0..cluster.homes.len() {
            pages.push(Page::of(cluster, host).await);
        }
        let cpu = (0..cluster.homes.len()).map(|host| Watched(cluster.agent(host).pid()).cpu()).sum();
        Self { pages, cpu }
    }

    /// What was spent since.
    pub(crate) fn until(&self, later: &Self) -> Spent {
        let of = |name: &str, but: &[&str]| -> f64 {
            let all = |tally: &Self| -> f64 { tally.pages.iter().map(|page| page.sum(name, but)).sum() };
            all(later) - all(self)
        };
        let agents = self.pages.iter().zip(&later.pages).map(|(before, after)| {
            let count = |name: &str| whole(after.sum(name, &[]) - before.sum(name, &[]));
            Work {
                commits: count("obpilot_store_commit_seconds_count"),
                messages: count("obpilot_peer_message_seconds_count"),
            }
        });
        Spent {
            agents: agents.collect(),
            in_commits: Duration::from_secs_f64(of("obpilot_store_commit_seconds_sum", &[])),
            in_messages: Duration::from_secs_f64(of("obpilot_peer_message_seconds_sum", &WAITS)),
            messages: whole(of("obpilot_peer_message_seconds_count", &WAITS)),
            in_sql: Duration::from_secs_f64(of("obpilot_sql_seconds_sum", &[])),
            statements: whole(of("obpilot_sql_seconds_count", &[])),
            cpu: later.cpu.saturating_sub(self.cpu),
        }
    }
}

/// Of one operation: sums over all agents, which work side by side.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub(crate) agents: Vec<Work>,
    pub(crate) in_commits: Duration,
    /// Without those that wait.
    pub(crate) in_messages: Duration,
    /// As many of them.
    pub(crate) messages: u64,
    pub(crate) in_sql: Duration,
    pub(crate) statements: u64,
    pub(crate) cpu: Duration,
}

impl Spent {
    pub(crate) fn commits(&self) -> u64 {
        self.agents.iter().map(|work| work.commits).sum()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that is told as a float"
)]
fn whole(count: f64) -> u64 {
    count.round() as u64
}

//! Leases, from the coordinator's side: while one of its steps works, every part of its operation knows that it is alive.
//!
//! Invariant: one renewal runs per main DAG, however many of its steps hold it; it ends with the last of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::handshake::each;
use super::participant::LEASE;
use super::peers::{PartKey, Peers};
use crate::model::AgentAddr;
use crate::tasks::{Kind, Tasks};

/// Between two renewals of a lease; two may be lost.
const RENEWAL: Duration = Duration::from_secs(LEASE.as_secs() / 3);

/// Renews the leases of a main DAG's parts for as long as one of its steps holds it.
#[derive(Clone, Debug)]
pub struct Keeper {
    peers: Arc<dyn Peers>,
    tasks: Tasks,
    held: Arc<Mutex<HashMap<String, (usize, CancellationToken)>>>,
}

/// Dropped when the step ends; the last one ends the renewals.
#[derive(Debug)]
pub(super) struct Held {
    keeper: Keeper,
    main_dag: String,
}

impl Keeper {
    pub fn new(peers: Arc<dyn Peers>, tasks: Tasks) -> Self {
        Self { peers, tasks, held: Arc::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, (usize, CancellationToken)>> {
        self.held.lock().expect("no holder of this lock panics")
    }

    pub(super) fn hold(&self, main_dag: &str, agents: &[AgentAddr]) -> Held {
        self.hold_all(main_dag, || agents.to_vec())
    }

    /// The same for one of many steps: who they are is asked by the first.
    pub(super) fn hold_all(&self, main_dag: &str, agents: impl FnOnce() -> Vec<AgentAddr>) -> Held {
        let mut held = self.held();
        let (count, token) = held.entry(main_dag.to_owned()).or_insert_with(|| (0, CancellationToken::new()));
        *count += 1;
        if *count == 1 {
            let (peers, main_dag, agents) = (Arc::clone(&self.peers), main_dag.to_owned(), agents());
            let token = token.clone();
            self.tasks.spawn(Kind::helper("lease-keeper"), async move {
                let key = PartKey::of(&main_dag);
                let renewing = renew_all(&*peers, &key, &agents);
                token.run_until_cancelled(renewing).await;
            });
        }
        Held { keeper: self.clone(), main_dag: main_dag.to_owned() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.keeper.held();
        let Some((count, token)) = held.get_mut(&self.main_dag) else { return };
        *count -= 1;
        if *count == 0 {
            token.cancel();
            held.remove(&self.main_dag);
        }
    }
}

async fn renew_all(peers: &dyn Peers, key: &PartKey, agents: &[AgentAddr]) {
    loop {
        tokio::time::sleep(RENEWAL).await;
        for (agent, result) in each(agents, |agent| Box::pin(peers.renew(agent, key))).await {
            if let Err(error) = result {
                tracing::debug!(%agent, main_dag = key.main_dag, %error, "a lease was not renewed");
            }
        }
    }
}

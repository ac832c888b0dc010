//! One trial on a cluster: a flow, a kill of one of its agents, that agent's second life.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::checks::{self, Before};
use super::flows::{COORDINATOR, Flow, Victim, configured, deployed_by_hand, formed, formed_without_one};
use crate::Sums;
use crate::checks::{has_ended, tells_of_the_kill};
use crate::rig::{Cluster, told};
use crate::trial::{Kill, ask_once};

/// A cluster and what is tried on it.
pub(super) struct Trial {
    victim: Victim,
    cluster: Cluster,
    number: u32,
    runtime: tokio::runtime::Runtime,
}

impl Trial {
    pub(super) fn new(flows: &[Flow], victim: Victim) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cluster = if flows.contains(&Flow::Init) {
            let mut cluster = runtime.block_on(configured());
            cluster.keep();
            cluster
        } else if flows.contains(&Flow::ScaleOut) {
            runtime.block_on(formed_without_one())
        } else if flows.contains(&Flow::TakeOver) {
            runtime.block_on(deployed_by_hand())
        } else {
            runtime.block_on(formed())
        };
        Self { victim, cluster, number: 0, runtime }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.cluster.homes[COORDINATOR].path.with_file_name(format!("{name}-{}", self.number))
    }

    fn trace(&self) -> String {
        std::fs::read_to_string(self.beside("trace")).unwrap_or_default()
    }

    /// Brings the cluster to the flow's beginning. The victim's life that begins here dies at the kill, once it is armed.
    fn prepared(&mut self, flow: Flow, kill: Option<&Kill>) -> Before {
        self.number += 1;
        if flow == Flow::TakeOver {
            (0..self.cluster.homes.len()).for_each(|host| self.cluster.lose_store(host));
        }
        self.runtime.block_on(flow.prepare(&self.cluster));
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut env = vec![
            ("OBPILOT_CRASH_ARM".to_owned(), text(self.beside("armed"))),
            ("OBPILOT_CRASH_TRACE".to_owned(), text(self.beside("trace"))),
        ];
        env.extend(kill.map(|kill| ("OBPILOT_CRASH".to_owned(), kill.to_string())));
        let victim = self.victim.host();
        self.cluster.homes[victim].env = env;
        if flow == Flow::Init {
            self.cluster.rewind();
        } else {
            self.cluster.kill(victim);
            self.cluster.start(victim);
        }
        self.cluster.homes[victim].env.clear();
        let before = self.runtime.block_on(async {
            flow.until_ready(&self.cluster).await;
            Before::of(&self.cluster).await
        });
        std::fs::write(self.beside("armed"), "").unwrap();
        before
    }

    /// From now on nothing is killed any more. Whether the victim was, or is about to die.
    fn disarm(&self) -> bool {
        let armed = self.beside("armed");
        let is_met = std::fs::File::create_new(obpilot::crash::said_at(armed.to_str().unwrap())).is_err();
        std::fs::remove_file(armed).unwrap();
        is_met
    }

    /// The id of the task; `None` when the coordinator died before it answered.
    async fn asked(&self, flow: Flow) -> Option<String> {
        let (target, body) = flow.request(&self.cluster);
        let key = format!("trial-{}", self.number);
        let answer = ask_once(self.cluster.door(COORDINATOR), target, &body, &key).await?;
        Some(answer.data()["id"].as_str().unwrap().to_owned())
    }

    /// The flow without a kill: it must end well, and tells every point there is.
    pub(super) fn traced(&mut self, flow: Flow) -> Vec<Kill> {
        let before = self.prepared(flow, None);
        self.runtime.block_on(async {
            let id = self.asked(flow).await.expect("the coordinator lives");
            let dag = self.cluster.door(COORDINATOR).until(&id, has_ended).await.data();
            assert!(!self.disarm(), "nobody was to die");
            checks::everything(&self.cluster, flow, &dag, &before, false).await;
        });
        Kill::all_of(&self.trace())
    }

    /// The flow with a kill.
    pub(super) fn killed_at(&mut self, flow: Flow, kill: &Kill) -> Sums {
        let begun = Instant::now();
        let before = self.prepared(flow, Some(kill));
        self.runtime.block_on(self.until_killed_or_ended(flow));
        let is_dead = self.disarm();
        let victim = self.victim.host();
        if is_dead {
            let ended = self.cluster.agents[victim].as_mut().unwrap().wait();
            assert_eq!(ended.signal, Some(9), "it may die of the kill only: {}", ended.stderr);
            self.cluster.start(victim);
        }
        let (told, retried) = self.runtime.block_on(async {
            let id = self.asked(flow).await.expect("the coordinator lives");
            let (dag, is_retried) = self.ended(flow, kill, &id).await;
            checks::everything(&self.cluster, flow, &dag, &before, dag["id"] != json!(id)).await;
            let door = self.cluster.door(victim);
            (tells_of_the_kill(door, &dag).await, is_retried)
        });
        let check = self.cluster.homes[victim].cli(&["store", "check"]);
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        Sums {
            kills: usize::from(is_dead),
            told: usize::from(is_dead && told),
            retried: usize::from(retried),
            spent: begun.elapsed(),
        }
    }

    /// Asks, and returns when the victim is dead or the task has ended.
    async fn until_killed_or_ended(&self, flow: Flow) {
        let dead = self.cluster.agent(self.victim.host()).until_dead();
        let ended = async {
            if let Some(id) = self.asked(flow).await {
                let has_ended = self.cluster.door(COORDINATOR).until_gone_or(&id, has_ended).await;
                if has_ended {
                    return;
                }
            }
            // Who does not answer is dead, or the test ends here.
            let gone = self.cluster.agent(COORDINATOR).until_dead();
            tokio::time::timeout(crate::rig::LIMIT, gone).await.expect("the coordinator answers or is dead");
        };
        tokio::select! {
            () = dead => {}
            () = ended => {}
        }
    }

    /// Waits for the end of the task. One that failed holds nothing (but an init, which is retried or rolled back), and succeeds
    /// when it is tried again.
    async fn ended(&self, flow: Flow, kill: &Kill, id: &str) -> (Value, bool) {
        let door = self.cluster.door(COORDINATOR);
        let dag = door.until(id, has_ended).await.data();
        if dag["state"] != "FAILED" {
            return (dag, false);
        }
        println!("crash matrix: Cluster {flow:?} killed at {kill} failed at first: {}", told(&dag));
        for agent in self.cluster.agents.iter().flatten().filter(|_| flow != Flow::Init) {
            agent.door.until_status(|status| status["underMaintenance"] == json!(false)).await;
        }
        let operated = door.post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "RETRY" })).await;
        if operated.status < 300 {
            return (door.until(id, has_ended).await.data(), true);
        }
        // What is committed and has lost an agent cannot be retried; it is asked for anew.
        assert_eq!(operated.code(), "Task.Dag.Operator.RetryNotAllowed", "{}\n{}", operated.text, told(&dag));
        let (target, body) = flow.request(&self.cluster);
        let dag = self.cluster.done(COORDINATOR, target, body).await;
        (dag, true)
    }
}

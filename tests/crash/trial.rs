//! One trial: a home, a flow, a kill, a second life.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use crate::Sums;
use crate::checks;
use crate::flows::{Flow, Request};
use crate::rig::{Agent, Answer, Door, Home};

/// Where the agent dies: the point, and at which of its meetings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    point: String,
    number: u32,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.point, self.number)
    }
}

impl Kill {
    pub(crate) fn point(&self) -> &str {
        &self.point
    }

    /// A kill for every point of a trace. Points that are reached at the same moment may have written into each other's
    /// lines; what cannot be read is left out.
    pub(crate) fn all_of(trace: &str) -> Vec<Self> {
        let kills = trace.lines().filter_map(|line| {
            let (point, number) = line.split_once(' ')?;
            let is_known = obpilot::crash::Point::ALL.iter().any(|known| known.name() == point);
            let number = number.parse().ok().filter(|_| is_known)?;
            Some(Self { point: point.to_owned(), number })
        });
        kills.collect()
    }
}

/// A request that both lives of an agent may be sent: the second finds what the first has made. `None` when the agent
/// died before it answered.
pub(crate) async fn ask_once(door: &Door, target: &str, body: &Value, key: &str) -> Option<Answer> {
    let sending = door.request("POST", target, Some(&body.to_string()));
    let response = sending.header("Idempotency-Key", key).send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Some(Answer { status, headers, text: response.text().await.ok()? })
}

/// A home and what is tried on it.
pub(crate) struct Trial {
    flow: Flow,
    home: Home,
    number: u32,
    runtime: tokio::runtime::Runtime,
}

impl Trial {
    pub(crate) fn new(flow: Flow) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let home = Home::new();
        runtime.block_on(flow.furnish(&home));
        Self { flow, home, number: 0, runtime }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.home.path.with_file_name(format!("{name}-{}", self.number))
    }

    /// The environment of an agent of this trial; with a kill or without.
    fn arm(&mut self, kill: Option<&Kill>) {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        self.home.env = vec![
            ("OBPILOT_CRASH_ARM".to_owned(), text(self.beside("armed"))),
            ("OBPILOT_CRASH_TRACE".to_owned(), text(self.beside("trace"))),
        ];
        self.home.env.extend(kill.map(|kill| ("OBPILOT_CRASH".to_owned(), kill.to_string())));
    }

    /// How often each point was reached while the flow was worked on, in all lives of the agent.
    pub(crate) fn reached(&self) -> Vec<String> {
        let trace = std::fs::read_to_string(self.beside("trace")).unwrap_or_default();
        trace.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    fn begin(&mut self) {
        self.number += 1;
        if self.flow.is_once() && self.number > 1 {
            self.home = Home::new();
            self.runtime.block_on(self.flow.furnish(&self.home));
        }
    }

    /// The flow without a kill: it must end well, and tells every point there is.
    pub(crate) fn traced(&mut self) -> Vec<Kill> {
        self.begin();
        self.arm(None);
        let mut agent = self.home.start();
        let (request, before) = self.prepared(&agent);
        let id = self.asked(&agent.door, &request).expect("the agent lives");
        self.runtime.block_on(agent.door.until(&id, checks::has_ended));
        // Now: what comes later belongs to the checks.
        let trace = std::fs::read_to_string(self.beside("trace")).unwrap_or_default();
        self.ended(&agent, &request, &id, &before);
        agent.terminate();
        Kill::all_of(&trace)
    }

    /// The flow with a kill. Whether it was met, and whether the record tells of it.
    pub(crate) fn killed_at(&mut self, kill: &Kill) -> Sums {
        self.begin();
        self.arm(Some(kill));
        let mut agent = self.home.start();
        let (request, before) = self.prepared(&agent);
        let is_dead = self.ask_to_the_end(&mut agent, &request);
        if !is_dead {
            agent.terminate();
        }
        self.arm(None);
        let mut again = self.home.start();
        let id = self.asked(&again.door, &request).expect("the second agent lives");
        let dag = self.ended(&again, &request, &id, &before);
        let told = self.runtime.block_on(checks::tells_of_the_kill(&again.door, &dag));
        again.terminate();
        Sums { kills: usize::from(is_dead), told: usize::from(is_dead && told), ..Sums::default() }
    }

    fn prepared(&self, agent: &Agent) -> (Request, Vec<String>) {
        let prepared = self.runtime.block_on(async {
            let request = self.flow.prepare(&self.home, agent).await;
            (request, checks::tasks(&agent.door).await)
        });
        std::fs::write(self.beside("armed"), "").unwrap();
        prepared
    }

    /// The id of the task; `None` when the agent died before it answered.
    fn asked(&self, door: &Door, request: &Request) -> Option<String> {
        self.runtime.block_on(async {
            let key = format!("trial-{}", self.number);
            let answer = ask_once(door, &request.target, &request.body, &key).await?;
            if let Some(id) = &request.on {
                // An operator that was applied in the first life may be refused in the second: it has had its effect.
                assert!(
                    answer.status < 300 || answer.code().starts_with("Task.Dag.Operator"),
                    "{}",
                    answer.text
                );
                return Some(id.clone());
            }
            Some(answer.data()["id"].as_str().unwrap().to_owned())
        })
    }

    /// Asks, and returns when the agent is dead (true) or the task has ended.
    fn ask_to_the_end(&self, agent: &mut Agent, request: &Request) -> bool {
        let Some(id) = self.asked(&agent.door.clone(), request) else {
            assert_eq!(agent.wait().signal, Some(9), "it may die of the kill only");
            return true;
        };
        let has_ended = self.runtime.block_on(agent.door.until_gone_or(&id, checks::has_ended));
        if !has_ended {
            assert_eq!(agent.wait().signal, Some(9), "it may die of the kill only");
        }
        !has_ended
    }

    /// Waits for the end of the task and checks everything.
    fn ended(&self, agent: &Agent, request: &Request, id: &str, before: &[String]) -> Value {
        self.runtime.block_on(async {
            let dag = agent.door.until(id, checks::has_ended).await.data();
            checks::everything(self, agent, request, &dag, before).await;
            dag
        })
    }

    pub(crate) fn flow(&self) -> Flow {
        self.flow
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }
}

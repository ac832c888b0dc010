//! Main tasks of the whole cluster under one set of numbers: listed, looked at and operated through any agent.
//!
//! Invariant: a number says who owns the row, and only the owner answers for it; who may ask was decided where the client
//! knocked. An agent without a known server has no numbers: its tasks are seen through v1.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::context::{App, Caller};
use crate::config::EngineKind;
use crate::engine::port::Detail;
use crate::engine::{Operator, Steer};
use crate::error::{Code, Error, Result};
use crate::flow::instance::{Instance, InstanceAct, InstanceAsk, StepLog, Told, Wanted};
use crate::model::{AgentAddr, DagId, EventId, InstanceId, Member, SubTaskId};

/// For one agent to tell of its tasks.
const LIST_LIMIT: Duration = Duration::from_secs(3);

/// For one agent to look at a task or to do something to it; a cancel may wait for a step to stop.
const LIMIT: Duration = Duration::from_secs(15);

/// Of the one server where the engine has no others.
const ONLY_SERVER: i64 = 1;

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub number: usize,
    pub size: usize,
}

/// A task with the number of its owner's server.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered {
    pub server: i64,
    pub instance: Instance,
}

/// A page of tasks, and how many there are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    pub total: usize,
    pub instances: Vec<Numbered>,
}

/// The numbers of the servers beside the agents, as they are known now.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Vec<(AgentAddr, i64)>);

impl Numbers {
    pub fn of(&self, agent: AgentAddr) -> Option<i64> {
        self.0.iter().find(|(known, _)| *known == agent).map(|(_, number)| *number)
    }

    pub fn agent(&self, number: i64) -> Option<AgentAddr> {
        self.0.iter().find(|(_, known)| *known == number).map(|(agent, _)| *agent)
    }
}

fn no_task(id: i64) -> Error {
    Error::new(Code::TaskNotFound, format!("there is no task {id}; see GET /api/v2/tasks/instances"))
}

fn no_step(id: i64, task: i64) -> Error {
    Error::new(Code::TaskNotFound, format!("task {task} has no subtask {id}"))
}

impl App {
    /// As they were stored last: no database is asked.
    pub fn known_numbers(&self) -> Numbers {
        if self.parts.ports.engine == EngineKind::Seekdb {
            return Numbers(vec![(self.own(), ONLY_SERVER)]);
        }
        let state = self.parts.ledger.state();
        let number = |member: &Member| {
            let known = state.topology.of_server(member.server())?;
            Some((member.agent, known.id))
        };
        Numbers(state.members.iter().filter_map(number).collect())
    }

    /// The same; where a member is not among them, the database is asked.
    pub async fn numbers(&self) -> Numbers {
        let known = self.known_numbers();
        let members = self.parts.ledger.state().members.clone();
        if members.iter().all(|member| known.of(member.agent).is_some()) {
            return known;
        }
        let topology = self.topology().await;
        let number = |member: &Member| Some((member.agent, topology.of_server(member.server())?.id));
        Numbers(members.iter().filter_map(number).collect())
    }

    /// Who owns what a number names.
    async fn owner(&self, id: InstanceId) -> Option<AgentAddr> {
        self.numbers().await.agent(id.server)
    }

    /// Tasks of all agents that answer in time.
    pub async fn list_instances(&self, wanted: &Wanted, page: Page) -> Listed {
        let numbers = self.numbers().await;
        let skipped = page.size.saturating_mul(page.number.saturating_sub(1));
        let most = skipped.saturating_add(page.size);
        let asked = numbers.0.iter().map(|(agent, server)| async move {
            let ask = InstanceAsk::List { wanted: wanted.clone(), most };
            let told =
                tokio::time::timeout(LIST_LIMIT, self.ask_owner::<Told>(*agent, ask, LIST_LIMIT)).await;
            match told {
                Ok(Ok(told)) => Some((*server, told)),
                Ok(Err(error)) => {
                    tracing::debug!(%agent, cause = %error.chain(), "its tasks are left out of a list");
                    None
                }
                Err(_) => None,
            }
        });
        let mut listed = Listed::default();
        for (server, told) in join_all(asked).await.into_iter().flatten() {
            listed.total += told.total;
            listed.instances.extend(told.instances.into_iter().map(|instance| Numbered { server, instance }));
        }
        listed.instances.sort_by(|a, b| wanted.order((&a.instance, a.server), (&b.instance, b.server)));
        listed.instances = listed.instances.into_iter().skip(skipped).take(page.size).collect();
        listed
    }

    /// # Errors
    /// `Task.NotFound`, or that its owner does not answer.
    pub async fn instance(&self, id: i64) -> Result<Numbered> {
        let (owner, known) = self.locate(id).await?;
        let ask = InstanceAsk::Look { dag: DagId(known.number) };
        let instance = self.ask_owner(owner, ask, LIMIT).await.map_err(|error| renamed(error, id))?;
        Ok(Numbered { server: known.server, instance })
    }

    /// What a step has recorded so far.
    ///
    /// # Errors
    /// `Task.NotFound`, or that its owner does not answer.
    pub async fn step_log(&self, id: i64, step: i64) -> Result<StepLog> {
        let (owner, known) = self.locate(id).await?;
        let sub_task = step_of(known, step).ok_or_else(|| no_step(step, id))?;
        let ask = InstanceAsk::Log { dag: DagId(known.number), sub_task };
        self.ask_owner(owner, ask, LIMIT).await.map_err(|error| renamed(error, id))
    }

    /// Does something to a task; returns when its new state can be read back, with that.
    ///
    /// # Errors
    /// The refusals of the engine, `Task.NotFound`, or that its owner does not answer.
    pub async fn operate_instance(&self, id: i64, act: InstanceAct, caller: &Caller) -> Result<Numbered> {
        let (owner, known) = self.locate(id).await?;
        let actor = if owner == self.own() {
            caller.actor.clone()
        } else {
            format!("{} via {}", caller.actor, self.own())
        };
        let ask = InstanceAsk::Do { dag: DagId(known.number), act, actor };
        let instance = self.ask_owner(owner, ask, LIMIT).await.map_err(|error| renamed(error, id))?;
        Ok(Numbered { server: known.server, instance })
    }

    /// The step of a task that a number names.
    ///
    /// # Errors
    /// `Task.NotFound`.
    pub fn step_of_instance(&self, id: i64, step: i64) -> Result<SubTaskId> {
        let known = InstanceId::read(id).ok_or_else(|| no_task(id))?;
        step_of(known, step).ok_or_else(|| no_step(step, id))
    }

    /// The number by which clients of v2 know our cluster: the database's own. `None` before there is one.
    pub fn cluster_number(&self) -> Option<i64> {
        self.is_cluster_agent().then(|| self.cluster_id())
    }

    /// Whether tasks that are made here have numbers; returns that of our server.
    ///
    /// # Errors
    /// `Agent.OceanBase.Useless` when it is not known yet.
    pub async fn check_numbered(&self) -> Result<i64> {
        self.numbers().await.of(self.own()).ok_or_else(|| {
            let text = format!(
                "the number of the server beside {} was never read from the database, so a task made here could not be \
                 named; start the database through v1 (obpilot cluster start), or ask another agent",
                self.own()
            );
            Error::new(Code::DatabaseUseless, text)
        })
    }

    /// A task that was made here.
    ///
    /// # Errors
    /// A failing store; as [`App::check_numbered`].
    pub async fn made_instance(&self, dag: DagId) -> Result<Numbered> {
        Ok(Numbered { server: self.check_numbered().await?, instance: self.own_instance(dag).await? })
    }

    async fn locate(&self, id: i64) -> Result<(AgentAddr, InstanceId)> {
        let known = InstanceId::read(id).ok_or_else(|| no_task(id))?;
        let owner = self.owner(known).await.ok_or_else(|| no_task(id))?;
        Ok((owner, known))
    }

    async fn ask_owner<T: serde::de::DeserializeOwned>(
        &self,
        owner: AgentAddr,
        what: InstanceAsk,
        limit: Duration,
    ) -> Result<T> {
        if owner != self.own() {
            return self.parts.ports.peers.instance(owner, what, limit).await;
        }
        let answer = self.tell_instance(&what).await?;
        serde_json::from_value(answer)
            .map_err(|e| Error::unexpected("a task cannot be read back").with_source(e))
    }

    /// The owner's side.
    pub(super) async fn tell_instance(&self, what: &InstanceAsk) -> Result<Value> {
        match what {
            InstanceAsk::List { wanted, most } => Ok(json!(self.own_instances(wanted, *most).await?)),
            InstanceAsk::Look { dag } => Ok(json!(self.own_instance(*dag).await?)),
            InstanceAsk::Log { dag, sub_task } => Ok(json!(self.own_log(*dag, *sub_task).await?)),
            InstanceAsk::Do { dag, act, actor } => {
                self.own_act(*dag, *act, actor).await?;
                Ok(json!(self.own_instance(*dag).await?))
            }
        }
    }

    async fn own_instances(&self, wanted: &Wanted, most: usize) -> Result<Told> {
        let mut told = Told { total: 0, instances: Vec::new() };
        let mut after = DagId(0);
        loop {
            let details = self.dags_after(after, false).await?;
            let Some(last) = details.last() else { break };
            after = last.snapshot.id;
            let mains = details.iter().filter(|detail| detail.snapshot.definition.main_dag.is_none());
            let all = mains.map(|detail| Instance::of(self.own(), detail, String::new()));
            let before = told.instances.len();
            told.instances.extend(all.filter(|instance| wanted.fits(instance)));
            told.total += told.instances.len() - before;
            // One owner: the number of its server makes no difference here.
            told.instances.sort_by(|a, b| wanted.order((a, 0), (b, 0)));
            told.instances.truncate(most);
        }
        for instance in &mut told.instances {
            instance.actor = self.maker(instance.dag).await?;
        }
        Ok(told)
    }

    async fn own_detail(&self, dag: DagId) -> Result<Detail> {
        let found = self.parts.archive.dag(dag, false).await?;
        // A part of another agent's task is no task.
        let main = found.filter(|detail| detail.snapshot.definition.main_dag.is_none());
        main.ok_or_else(|| Error::new(Code::TaskNotFound, format!("there is no task {dag}")))
    }

    async fn own_instance(&self, dag: DagId) -> Result<Instance> {
        let detail = self.own_detail(dag).await?;
        let actor = self.maker(dag).await?;
        Ok(Instance::of(self.own(), &detail, actor))
    }

    /// Who asked for a task.
    async fn maker(&self, dag: DagId) -> Result<String> {
        let first = self.parts.archive.records(Some(dag), EventId(0), 1).await?;
        Ok(first.into_iter().next().map(|record| record.actor).unwrap_or_default())
    }

    async fn own_log(&self, dag: DagId, sub_task: SubTaskId) -> Result<StepLog> {
        let instance = self.own_instance(dag).await?;
        let Some((_, step)) = instance.step(sub_task) else {
            return Err(Error::new(Code::TaskNotFound, format!("task {dag} has no subtask {sub_task}")));
        };
        let rows = self.parts.archive.logs(sub_task).await?;
        Ok(StepLog { step: step.clone(), lines: rows.into_iter().map(Into::into).collect() })
    }

    async fn own_act(&self, dag: DagId, act: InstanceAct, actor: &str) -> Result<()> {
        let instance = self.own_instance(dag).await?;
        if let Some(step) = act.step().filter(|step| instance.step(*step).is_none()) {
            return Err(Error::new(Code::TaskNotFound, format!("task {dag} has no subtask {step}")));
        }
        let engine = &self.parts.engine;
        match act {
            InstanceAct::Retry => engine.operate(dag, Operator::Retry, actor).await,
            InstanceAct::Rollback => engine.operate(dag, Operator::Rollback, actor).await,
            InstanceAct::Pause => engine.steer(dag, Steer::Pause, actor).await,
            InstanceAct::Resume => engine.steer(dag, Steer::Resume, actor).await,
            InstanceAct::Abort => engine.steer(dag, Steer::Abort, actor).await,
            InstanceAct::RetryStep(step) => engine.retry_one(dag, step, actor).await,
            InstanceAct::SkipStep(step) => engine.pass_one(dag, step, actor).await,
            InstanceAct::CancelStep(step) => engine.cancel_one(dag, step, actor).await,
        }
    }
}

/// A step has the same owner as its task.
fn step_of(task: InstanceId, step: i64) -> Option<SubTaskId> {
    let step = InstanceId::read(step).filter(|step| step.server == task.server)?;
    Some(SubTaskId(step.number))
}

/// The owner speaks of its own numbers; the client knows another.
fn renamed(error: Error, id: i64) -> Error {
    let is_it = error.code == Code::TaskNotFound && error.text().starts_with("there is no task");
    if is_it { no_task(id) } else { error }
}

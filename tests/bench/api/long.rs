//! A finished task with a thousand lines, made by the engine itself in the store of an agent that does not run.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use obpilot::clock;
use obpilot::engine::port::Level;
use obpilot::engine::{Caps, Handle, Outcome, Registry, Step, StepCtx, StepSpec, Submission, Template};
use obpilot::error::Result;
use obpilot::model::{AgentAddr, GenericId};
use obpilot::store::Store;
use obpilot::tasks::Tasks;
use serde_json::json;

use crate::rig::Home;

const LINES: usize = 1_000;

#[derive(Debug)]
struct Talk;

impl Step for Talk {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "bench.talk", caps: Caps::of("TCBPX"), deadline: Duration::from_secs(60) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            for line in 0..LINES {
                ctx.log(
                    Level::Info,
                    format!("line {line} of {LINES}, as long as such lines are in real tasks"),
                );
            }
            Outcome::done()
        })
    }
}

/// Returns the id by which the API knows it.
pub(super) async fn seed(home: &Home) -> String {
    let dir = home.path.join(".obpilot");
    let dir = camino::Utf8Path::from_path(&dir).unwrap();
    let own = AgentAddr::new(home.ip.parse().unwrap(), home.port);
    let (clock, (tasks, _failures)) = (clock::system(), Tasks::new());
    let store = Store::open(dir, Arc::clone(&clock), 1).unwrap();
    let mut registry = Registry::default();
    registry.add(Talk);
    let engine = Handle::new(own, Arc::new(store.clone()), registry, tasks.clone(), clock);
    let template = Template::new("bench", "Say much", json!({})).then("bench.talk", "Talk", own);
    let submission = Submission { template, actor: "bench".to_owned(), key: None };
    let dag = engine.submit(submission).await.unwrap();
    engine.until(dag.id, |snapshot| snapshot.state.is_final()).await.unwrap();
    tasks.stop(Duration::from_secs(10)).await;
    store.close().await;
    GenericId::agent(own, dag.id.0).to_string()
}

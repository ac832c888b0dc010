//! Finished DAGs in a store, made by the engine itself: six nodes of one step each, a line in every step.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use obpilot::clock;
use obpilot::engine::port::Level;
use obpilot::engine::{Caps, Handle, Outcome, Registry, Step, StepCtx, StepSpec, Submission, Template};
use obpilot::error::Result;
use obpilot::model::AgentAddr;
use obpilot::store::Store;
use obpilot::tasks::Tasks;
use serde_json::json;

const AT_ONCE: usize = 256;

#[derive(Debug)]
struct Nothing;

impl Step for Nothing {
    fn spec(&self) -> StepSpec {
        StepSpec { key: "bench.nothing", caps: Caps::of("TCBPX"), deadline: Duration::from_secs(60) }
    }

    fn run<'a>(&'a self, ctx: &'a StepCtx) -> BoxFuture<'a, Result<Outcome>> {
        Box::pin(async move {
            ctx.log(Level::Info, "nothing was to be done");
            Outcome::done()
        })
    }
}

/// Returns how many events the store holds then.
pub(crate) async fn seed(state_dir: &Path, port: u16, count: usize) -> i64 {
    let dir = camino::Utf8Path::from_path(state_dir).unwrap();
    let own = AgentAddr::new("127.0.0.1".parse().unwrap(), port);
    let (clock, (tasks, _failures)) = (clock::system(), Tasks::new());
    let store = Store::open(dir, Arc::clone(&clock), 1).unwrap();
    let mut registry = Registry::default();
    registry.add(Nothing);
    let engine = Handle::new(own, Arc::new(store.clone()), registry, tasks.clone(), clock);
    let one = |_| async {
        let mut template = Template::new("bench", "Do nothing", json!({}));
        for stage in 1..=6 {
            template = template.then("bench.nothing", format!("Stage {stage}"), own);
        }
        let submission = Submission { template, actor: "bench".to_owned(), key: None };
        let dag = engine.submit(submission).await.unwrap();
        engine.until(dag.id, |snapshot| snapshot.state.is_final()).await.unwrap();
    };
    stream::iter(0..count).map(one).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    tasks.stop(Duration::from_secs(10)).await;
    store.close().await;
    let events = rusqlite::Connection::open(dir.join("store.db")).unwrap();
    events.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap()
}

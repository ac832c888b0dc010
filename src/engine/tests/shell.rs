//! The shell on a journal in memory: real tasks, real tokens, time that tokio moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::super::event::At;
use super::super::state::{DagState, Operator, SubTaskState};
use super::super::{Handle, Outcome, Registry, Step, StepCtx, Submission, Template};
use super::memory::Memory;
use super::{FnStep, addr};
use crate::clock;
use crate::error::{Error, Result};
use crate::tasks::Tasks;

struct Rig {
    engine: Handle,
    journal: Arc<Memory>,
    tasks: Tasks,
}

type Add = Box<dyn FnOnce(&mut Registry)>;

fn registry(steps: Vec<Add>) -> Registry {
    let mut registry = Registry::default();
    for add in steps {
        add(&mut registry);
    }
    registry
}

fn step<S: Step + 'static>(step: S) -> Add {
    Box::new(move |registry| registry.add(step))
}

fn rig(registry: Registry) -> Rig {
    let journal = Memory::new();
    on(journal, registry)
}

fn on(journal: Arc<Memory>, registry: Registry) -> Rig {
    let (tasks, _failures) = Tasks::new();
    let port: Arc<Memory> = Arc::clone(&journal);
    let engine = Handle::new(addr(1), port, registry, tasks.clone(), clock::system());
    Rig { engine, journal, tasks }
}

impl Rig {
    async fn submit(&self, template: Template) -> crate::model::DagId {
        let submission = Submission { template, actor: "test".into(), key: None };
        self.engine.submit(submission).await.unwrap().id
    }

    async fn rest(&self, dag: crate::model::DagId) -> super::super::Snapshot {
        let rest = self.engine.until(dag, |s| s.state.is_at_rest());
        tokio::time::timeout(Duration::from_secs(600), rest).await.expect("it comes to rest").unwrap()
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn fn_step<F>(key: &'static str, caps: &'static str, deadline: Duration, run: F) -> Add
where
    F: for<'a> Fn(&'a StepCtx) -> BoxFuture<'a, Result<Outcome>> + Send + Sync + 'static,
{
    step(FnStep { key, caps, deadline, run })
}

#[tokio::test(start_paused = true)]
async fn results_reach_later_steps_and_logs_reach_the_journal() {
    let rig = rig(registry(vec![
        fn_step("t.one", "", LONG, |ctx| {
            Box::pin(async move {
                ctx.log(super::super::port::Level::Info, format!("on {}", ctx.agent));
                Outcome::with(json!({ "port": ctx.agent.ip.to_string() }))
            })
        }),
        fn_step("t.two", "", LONG, |ctx| {
            Box::pin(async move {
                assert_eq!(ctx.inputs_of("t.one").count(), 2);
                assert_eq!(ctx.input::<Value>("t.one")?, json!({ "port": "127.0.0.2" }));
                assert_eq!(ctx.params::<u32>()?, 7);
                Outcome::done()
            })
        }),
    ]));
    let template = Template::new("test", "Test", json!(7))
        .then_on_each("t.one", "One", &[addr(1), addr(2)])
        .then("t.two", "Two", addr(2));
    let dag = rig.submit(template).await;
    let end = rig.rest(dag).await;
    assert_eq!(end.state, DagState::Succeeded, "{:?}", rig.journal.logs());
    assert!(rig.journal.logs().contains(&"Info on 127.0.0.1:2886".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_failure_leaves_its_reason_as_the_last_line_and_retry_runs_it_again() {
    let tries = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&tries);
    let rig = rig(registry(vec![fn_step("t.flaky", "T", LONG, move |_| {
        let first = seen.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move { if first { Err(Error::unexpected("not yet")) } else { Outcome::done() } })
    })]));
    let dag = rig.submit(Template::new("test", "Test", Value::Null).then("t.flaky", "Flaky", addr(1))).await;
    assert_eq!(rig.rest(dag).await.state, DagState::Failed);
    assert_eq!(rig.journal.logs().last().unwrap(), "Error [Common.Unexpected]: not yet");
    rig.engine.operate(dag, Operator::Retry, "me").await.unwrap();
    assert_eq!(rig.rest(dag).await.state, DagState::Succeeded);
    assert_eq!(tries.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn w10_a_panic_is_a_failed_step_and_the_engine_lives_on() {
    let rig = rig(registry(vec![fn_step("t.panic", "", LONG, |_| Box::pin(async { panic!("boom") }))]));
    let dag = rig.submit(Template::new("test", "Test", Value::Null).then("t.panic", "Panic", addr(1))).await;
    let end = rig.rest(dag).await;
    let failure = end.nodes[0].sub_tasks[0].failure.clone().unwrap();
    assert!(failure.text.contains("boom"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn w15_a_step_that_ignores_the_cancel_is_dropped_before_it_counts_as_cancelled() {
    struct Alive(Arc<AtomicBool>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.store(false, Ordering::SeqCst);
        }
    }
    let alive = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&alive);
    let rig = rig(registry(vec![fn_step("t.deaf", "X", LONG, move |_| {
        let alive = Arc::clone(&seen);
        Box::pin(async move {
            alive.store(true, Ordering::SeqCst);
            let _guard = Alive(alive);
            std::future::pending().await
        })
    })]));
    let dag = rig.submit(Template::new("test", "Test", Value::Null).then("t.deaf", "Deaf", addr(1))).await;
    rig.engine.until(dag, |s| s.is_any_active()).await.unwrap();
    while !alive.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    rig.engine.operate(dag, Operator::Cancel, "me").await.unwrap();
    let cancelling = rig.engine.load(dag).await.unwrap();
    assert_eq!((cancelling.state, cancelling.operator), (DagState::Cancelling, Operator::Cancel));
    assert!(alive.load(Ordering::SeqCst));
    let end = rig.rest(dag).await;
    assert_eq!((end.state, end.operator), (DagState::Failed, Operator::Cancel));
    assert!(!alive.load(Ordering::SeqCst), "FAILED is shown only when the code has stopped");
    assert_eq!(rig.journal.logs().last().unwrap(), "Info cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_step_past_its_deadline_fails_with_the_code_of_a_timeout() {
    let rig = rig(registry(vec![fn_step("t.slow", "", Duration::from_secs(30), |_| {
        Box::pin(std::future::pending())
    })]));
    let dag = rig.submit(Template::new("test", "Test", Value::Null).then("t.slow", "Slow", addr(1))).await;
    let end = rig.rest(dag).await;
    assert_eq!(end.nodes[0].sub_tasks[0].failure.clone().unwrap().code, "Task.Dag.ExecuteTimeout");
}

#[tokio::test(start_paused = true)]
async fn w36_only_a_recorded_go_advances_a_prepared_dag() {
    let rig = rig(registry(vec![fn_step("t.prepare", "CPXT", LONG, |ctx| {
        Box::pin(async move { if ctx.has_signal("go") { Outcome::done() } else { Ok(Outcome::Wait) } })
    })]));
    let template =
        Template::new("test", "Sub", Value::Null).locked(None).then("t.prepare", "Prepare", addr(1));
    let dag = rig.submit(template).await;
    assert_eq!(rig.rest(dag).await.state, DagState::Waiting);
    rig.engine.operate(dag, Operator::Retry, "somebody").await.unwrap();
    assert_eq!(rig.rest(dag).await.state, DagState::Waiting, "RETRY by hand is no go");
    rig.engine.signal(dag, "go", "coordinator").await.unwrap();
    rig.engine.signal(dag, "go", "coordinator").await.unwrap();
    assert_eq!(rig.rest(dag).await.state, DagState::Succeeded);
    assert!(!rig.journal.is_locked());
}

#[tokio::test(start_paused = true)]
async fn w19_a_prepared_dag_dissolves_when_its_lease_ends_unless_it_is_renewed() {
    let rig = rig(registry(vec![fn_step("t.wait", "CPXT", LONG, |_| Box::pin(async { Ok(Outcome::Wait) }))]));
    let template = Template::new("test", "Sub", Value::Null).locked(Some(10)).then("t.wait", "Wait", addr(1));
    let dag = rig.submit(template).await;
    assert_eq!(rig.rest(dag).await.state, DagState::Waiting);
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(8)).await;
        rig.engine.renew(dag);
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.engine.load(dag).await.unwrap().state, DagState::Waiting);
    assert!(rig.journal.is_locked());
    let end = rig.engine.until(dag, |s| s.state.is_final()).await.unwrap();
    assert_eq!(end.state, DagState::Passed);
    assert!(!rig.journal.is_locked());
}

#[tokio::test(start_paused = true)]
async fn w19_a_failed_sub_dag_gives_its_lock_back_when_its_lease_ends() {
    let rig = rig(registry(vec![fn_step("t.bad", "P", LONG, |_| {
        Box::pin(async { Err(Error::unexpected("bad")) })
    })]));
    let template = Template::new("test", "Sub", Value::Null).locked(Some(10)).then("t.bad", "Bad", addr(1));
    let dag = rig.submit(template).await;
    let failed = rig.rest(dag).await;
    assert!(failed.state == DagState::Failed && failed.holds_lock && rig.journal.is_locked());
    let end = rig.engine.until(dag, |s| !s.holds_lock).await.unwrap();
    assert_eq!(end.state, DagState::Failed, "the outcome stays");
    assert!(!rig.journal.is_locked());
}

#[tokio::test(start_paused = true)]
async fn w9_any_number_of_interrupted_sub_tasks_is_recovered() {
    let blocked = || registry(vec![fn_step("t.many", "C", LONG, |_| Box::pin(std::future::pending()))]);
    let first = rig(blocked());
    let agents: Vec<_> = (1..=200).map(addr).collect();
    let template = Template::new("test", "Many", Value::Null).then_on_each("t.many", "Many", &agents);
    let dag = first.submit(template).await;
    first.engine.until(dag, |s| s.is_any_active()).await.unwrap();
    first.tasks.stop(Duration::from_secs(1)).await;

    let ready = registry(vec![fn_step("t.many", "C", LONG, |ctx| {
        Box::pin(async move {
            assert!(ctx.is_resumed && ctx.attempt == 1);
            Outcome::done()
        })
    })]);
    let second = on(Arc::clone(&first.journal), ready);
    assert_eq!(second.engine.recover().await.unwrap(), 1);
    assert_eq!(second.rest(dag).await.state, DagState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_step_finds_its_note_after_a_crash() {
    let first = rig(registry(vec![fn_step("t.noting", "C", LONG, |ctx| {
        Box::pin(async move {
            ctx.save_note(json!({ "pid": 42 })).await?;
            std::future::pending().await
        })
    })]));
    let dag =
        first.submit(Template::new("test", "Note", Value::Null).then("t.noting", "Noting", addr(1))).await;
    first.engine.until(dag, |s| s.sub_task(At { node: 0, sub: 0 }).note.is_some()).await.unwrap();
    first.tasks.stop(Duration::from_secs(1)).await;
    let second = on(
        Arc::clone(&first.journal),
        registry(vec![fn_step("t.noting", "C", LONG, |ctx| {
            Box::pin(async move {
                assert_eq!(ctx.note::<Value>(), Some(json!({ "pid": 42 })));
                Outcome::done()
            })
        })]),
    );
    second.engine.recover().await.unwrap();
    assert_eq!(second.rest(dag).await.state, DagState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_waits_until_the_store_takes_it() {
    let rig = rig(registry(vec![fn_step("t.ok", "", LONG, |_| Box::pin(async { Outcome::done() }))]));
    rig.journal.fail_next(5);
    let dag = rig.submit(Template::new("test", "Full disk", Value::Null).then("t.ok", "Ok", addr(1))).await;
    assert_eq!(rig.rest(dag).await.state, DagState::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_resting_dag_is_loaded_again_for_its_operator() {
    let rig = rig(registry(vec![fn_step("t.bad", "P", LONG, |_| {
        Box::pin(async { Err(Error::unexpected("bad")) })
    })]));
    let dag = rig.submit(Template::new("test", "Bad", Value::Null).then("t.bad", "Bad", addr(1))).await;
    rig.rest(dag).await;
    // Its task has left, or is about to: both ways lead to the same answer.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let refused = rig.engine.operate(dag, Operator::Retry, "me").await.unwrap_err();
    assert_eq!(refused.code, crate::error::Code::RetryNotAllowed);
    rig.engine.operate(dag, Operator::Pass, "me").await.unwrap();
    let end = rig.engine.load(dag).await.unwrap();
    assert_eq!(end.sub_task(At { node: 0, sub: 0 }).state, SubTaskState::Passed);
    let missing = rig.engine.operate(crate::model::DagId(99), Operator::Pass, "me").await.unwrap_err();
    assert_eq!(missing.code, crate::error::Code::TaskNotFound);
}

/// Many steps wait for one that begins last: waiting takes no worker away from anybody.
#[tokio::test(start_paused = true)]
async fn w16_any_number_of_waits_leaves_room_for_what_they_wait_for() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let rig = rig(registry(vec![
        fn_step("t.wait", "", LONG, move |ctx| {
            let mut gate = gate.clone();
            Box::pin(async move {
                let opened = async {
                    gate.wait_for(|is_open| *is_open)
                        .await
                        .map(|_| ())
                        .map_err(|_| Error::unexpected("the gate is gone"))
                };
                ctx.waiting(opened).await?;
                Outcome::done()
            })
        }),
        fn_step("t.open", "", LONG, move |_| {
            open.send_replace(true);
            Box::pin(async { Outcome::done() })
        }),
    ]));
    let many: Vec<_> = (0..250).map(addr).collect();
    let template = Template::new("test", "Wait", Value::Null).then_on_each("t.wait", "Wait", &many);
    let waiting = rig.submit(template).await;
    let opener = rig.submit(Template::new("test", "Open", Value::Null).then("t.open", "Open", addr(1))).await;
    assert_eq!(rig.rest(opener).await.state, DagState::Succeeded);
    assert_eq!(rig.rest(waiting).await.state, DagState::Succeeded);
}

/// Wishes that come at once while nobody has the DAG in hand: one after another, and none hears of a stale copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_at_once_are_taken_one_after_another() {
    let rig = rig(registry(vec![fn_step("t.bad", "T", LONG, |_| {
        Box::pin(async { Err(Error::unexpected("never")) })
    })]));
    let dag = rig.submit(Template::new("test", "Test", Value::Null).then("t.bad", "Bad", addr(1))).await;
    rig.rest(dag).await;
    for _ in 0..50 {
        let wishes = (0..8).map(|_| rig.engine.operate(dag, Operator::Retry, "me"));
        let answers = futures_util::future::join_all(wishes).await;
        assert!(answers.iter().any(Result::is_ok), "{answers:?}");
        let refusals = answers.iter().filter_map(|answer| answer.as_ref().err());
        for refusal in refusals {
            assert_eq!(refusal.code, crate::error::Code::RetryNotFailed, "{refusal}");
        }
        rig.rest(dag).await;
    }
}

#[tokio::test]
async fn a_task_that_is_not_there_is_told_to_everybody_who_asks() {
    let rig = rig(Registry::default());
    let wishes = (0..4).map(|_| rig.engine.operate(crate::model::DagId(99), Operator::Cancel, "me"));
    for answer in futures_util::future::join_all(wishes).await {
        assert_eq!(answer.unwrap_err().code, crate::error::Code::TaskNotFound);
    }
}

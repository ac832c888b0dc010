//! The shell on a journal in memory: real tasks, real tokens, time that tokio moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::super::event::At;
use super::super::port::Journal as _;
use super::super::run::LEASE_OVER;
use super::super::state::{DagState, Operator, Steer, SubTaskState};
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
async fn what_is_recorded_is_begun_although_its_caller_goes() {
    let rig = rig(registry(vec![fn_step("t.one", "", LONG, |_| Box::pin(async { Outcome::done() }))]));
    let template = Template::new("test", "Test", Value::Null).then("t.one", "One", addr(1));
    let submission = Submission { template, actor: "test".into(), key: None };
    let mut news = rig.journal.feed();
    {
        let mut submitting = Box::pin(rig.engine.submit(submission));
        let recorded = async { while news.recv().await.unwrap().kind != "created" {} };
        tokio::select! {
            biased;
            () = recorded => {}
            _ = &mut submitting => panic!("it waits for the answer of the journal"),
        }
    }
    let ended = async { while news.recv().await.unwrap().kind != "ended" {} };
    tokio::time::timeout(LONG, ended).await.expect("somebody works on it");
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

/// A cancel of a DAG that is stored as running, before its steps are: they begin only to end.
#[tokio::test(start_paused = true)]
async fn a_cancel_that_is_faster_than_the_beginning_is_heard() {
    let rig = rig(rolling());
    let dag = crate::model::DagId(1);
    let template = Template::new("test", "Test", Value::Null).then("t.never", "Never", addr(1));
    let mut news = rig.journal.feed();
    let cancelling = async {
        while news.recv().await.unwrap().kind != "created" {}
        rig.engine.operate(dag, Operator::Cancel, "me").await.unwrap();
    };
    let (made, ()) = tokio::join!(rig.submit(template), cancelling);
    assert_eq!(made, dag);
    let end = rig.rest(dag).await;
    let step = end.sub_task(At { node: 0, sub: 0 });
    assert_eq!((end.state, step.operator), (DagState::Failed, Operator::Cancel));
}

#[tokio::test]
async fn a_task_that_is_not_there_is_told_to_everybody_who_asks() {
    let rig = rig(Registry::default());
    let wishes = (0..4).map(|_| rig.engine.operate(crate::model::DagId(99), Operator::Cancel, "me"));
    for answer in futures_util::future::join_all(wishes).await {
        assert_eq!(answer.unwrap_err().code, crate::error::Code::TaskNotFound);
    }
}

/// A step that lets time pass until somebody steers, one that ends at once, and one that waits for what is opened.
fn rolling() -> Registry {
    registry(vec![
        fn_step("t.linger", "CTXPB", LONG, |ctx| {
            Box::pin(async move {
                ctx.steered().await;
                Outcome::done()
            })
        }),
        fn_step("t.ok", "CTXPB", LONG, |_| Box::pin(async { Outcome::done() })),
        fn_step("t.never", "CTXPB", LONG, |ctx| {
            Box::pin(async move { ctx.waiting(std::future::pending::<Result<Outcome>>()).await })
        }),
    ])
}

#[tokio::test(start_paused = true)]
async fn a_pause_wakes_the_steps_that_only_wait_and_outlives_the_agent() {
    let first = rig(rolling());
    // The second one begins when the pause has been asked for, and hears of it all the same.
    let template = Template::new("test", "Roll", Value::Null)
        .then("t.linger", "Linger", addr(1))
        .then("t.linger", "Linger on", addr(1))
        .then("t.ok", "Next zone", addr(1))
        .safe_point()
        .then("t.linger", "Linger there", addr(1));
    let dag = first.submit(template).await;
    first.engine.until(dag, |s| s.is_any_active()).await.unwrap();
    first.engine.steer(dag, Steer::Pause, "me").await.unwrap();
    let paused = first.rest(dag).await;
    assert_eq!((paused.state, paused.paused_before()), (DagState::Waiting, Some(2)));
    first.engine.signal(dag, "go", "coordinator").await.unwrap();
    let told = first.engine.load(dag).await.unwrap();
    assert_eq!((told.state, told.has_signal("go")), (DagState::Waiting, true));
    assert_eq!(told.started_at, paused.started_at, "a signal is no resume, and begins no turn");
    first.tasks.stop(Duration::from_secs(1)).await;

    let second = on(Arc::clone(&first.journal), rolling());
    second.engine.recover().await.unwrap();
    assert_eq!(second.engine.load(dag).await.unwrap().paused_before(), Some(2));
    second.engine.steer(dag, Steer::Resume, "me").await.unwrap();
    let on_its_way = second.engine.until(dag, |s| s.nodes[3].is_active()).await.unwrap();
    assert_eq!(on_its_way.steer(), None);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(second.engine.load(dag).await.unwrap().nodes[3].is_active(), "what was taken back wakes nobody");
    second.engine.steer(dag, Steer::Abort, "me").await.unwrap_err();
    second.engine.operate(dag, Operator::Cancel, "me").await.unwrap();
    assert_eq!(second.rest(dag).await.state, DagState::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_while_a_pause_is_asked_for_tells_its_steps() {
    let stuck = fn_step("t.linger", "C", LONG, |_| Box::pin(std::future::pending()));
    let first =
        rig(registry(vec![stuck, fn_step("t.ok", "", LONG, |_| Box::pin(async { Outcome::done() }))]));
    let template = Template::new("test", "Roll", Value::Null)
        .then("t.linger", "Linger", addr(1))
        .then("t.ok", "Next zone", addr(1))
        .safe_point();
    let dag = first.submit(template).await;
    first.engine.until(dag, |s| s.is_any_active()).await.unwrap();
    first.engine.steer(dag, Steer::Abort, "me").await.unwrap();
    first.tasks.stop(Duration::from_secs(1)).await;
    let second = on(Arc::clone(&first.journal), rolling());
    second.engine.recover().await.unwrap();
    let end = second.rest(dag).await;
    assert_eq!((end.state, end.operator), (DagState::Failed, Operator::Cancel));
    assert_eq!(second.journal.logs().last().unwrap(), "Info aborted before it began");
    let refused = second.engine.steer(dag, Steer::Pause, "me").await.unwrap_err();
    assert_eq!(refused.code, crate::error::Code::SteerNotAllowed);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_goes_on_by_lease_finds_out_why() {
    let rig = rig(registry(vec![
        fn_step("t.hold", "CPXT", LONG, |ctx| {
            Box::pin(
                async move { if ctx.has_signal(LEASE_OVER) { Outcome::done() } else { Ok(Outcome::Wait) } },
            )
        }),
        fn_step("t.wait", "CPXT", LONG, |_| Box::pin(async { Ok(Outcome::Wait) })),
    ]));
    let template = Template::new("test", "Sub", Value::Null)
        .locked(Some(10))
        .then("t.hold", "Hold", addr(1))
        .goes_on_by_lease()
        .then("t.wait", "Wait", addr(1));
    let dag = rig.submit(template).await;
    let held = rig.rest(dag).await;
    assert!(held.holds_lock && held.sub_task(At { node: 0, sub: 0 }).state == SubTaskState::Waiting);
    let gone_on = rig
        .engine
        .until(dag, |s| s.sub_task(At { node: 1, sub: 0 }).state == SubTaskState::Waiting)
        .await
        .unwrap();
    assert!(gone_on.holds_lock && rig.journal.is_locked(), "the lock stays");
    let end = rig.engine.until(dag, |s| s.state.is_final()).await.unwrap();
    assert_eq!(end.state, DagState::Passed);
    assert!(!rig.journal.is_locked());
}

#[tokio::test(start_paused = true)]
async fn one_sub_task_is_cancelled_retried_and_passed_by_its_number() {
    let rig = rig(rolling());
    let agents = [addr(1), addr(2), addr(3)];
    let template =
        Template::new("test", "Single", Value::Null).then_split("t.never", "Never", &agents, Some(2));
    let dag = rig.submit(template).await;
    let running = rig.engine.until(dag, |s| s.is_any_active()).await.unwrap();
    let ids: Vec<_> = running.nodes[0].sub_tasks.iter().map(|sub| sub.id).collect();
    let state = |s: &super::super::Snapshot, sub: usize| s.sub_task(At { node: 0, sub }).state;
    rig.engine.cancel_one(dag, ids[0], "me").await.unwrap();
    let cancelled = rig.engine.until(dag, |s| state(s, 0) == SubTaskState::Failed).await.unwrap();
    assert_eq!((cancelled.state, state(&cancelled, 1)), (DagState::Running, SubTaskState::Running));
    let stopped = cancelled.sub_task(At { node: 0, sub: 0 });
    let is_overdue = stopped.failure.as_ref().is_some_and(|f| f.code == "Task.Dag.ExecuteTimeout");
    assert!(stopped.operator == Operator::Cancel && !is_overdue, "it was told to stop: {stopped:?}");
    rig.engine.cancel_one(dag, ids[1], "me").await.unwrap();
    let failed = rig.rest(dag).await;
    assert_eq!((failed.state, state(&failed, 2)), (DagState::Failed, SubTaskState::Pending));

    rig.engine.retry_one(dag, ids[0], "me").await.unwrap();
    let again = rig.engine.load(dag).await.unwrap();
    assert_eq!((state(&again, 0), state(&again, 1)), (SubTaskState::Running, SubTaskState::Failed));
    rig.engine.cancel_one(dag, ids[0], "me").await.unwrap();
    rig.rest(dag).await;
    rig.engine.pass_one(dag, ids[0], "me").await.unwrap();
    assert_eq!(rig.engine.load(dag).await.unwrap().state, DagState::Failed);
    rig.engine.pass_one(dag, ids[1], "me").await.unwrap();
    let last = rig.engine.load(dag).await.unwrap();
    assert_eq!((last.state, state(&last, 2)), (DagState::Running, SubTaskState::Running));
    rig.engine.cancel_one(dag, ids[2], "me").await.unwrap();
    rig.rest(dag).await;
    let unknown = rig.engine.retry_one(dag, crate::model::SubTaskId(99), "me").await.unwrap_err();
    assert_eq!(unknown.code, crate::error::Code::TaskNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_node_may_have_a_deadline_of_its_own_and_a_step_knows_its_node() {
    let rig = rig(registry(vec![fn_step("t.slow", "", LONG, |ctx| {
        Box::pin(async move { if ctx.node() == 0 { Outcome::done() } else { std::future::pending().await } })
    })]));
    let template = Template::new("test", "Slow", Value::Null)
        .then("t.slow", "First", addr(1))
        .then("t.slow", "Second", addr(1))
        .within(Duration::from_secs(7));
    let dag = rig.submit(template).await;
    // Within the limit of its rest, which is less than what the step says.
    let end = rig.rest(dag).await;
    let failure = end.nodes[1].sub_tasks[0].failure.clone().unwrap();
    assert_eq!(failure.code, "Task.Dag.ExecuteTimeout");
    let deadlines: Vec<_> = end.definition.nodes.iter().map(|node| node.deadline_secs).collect();
    assert_eq!(deadlines, [3600, 7]);
}

#[test]
fn a_node_that_may_run_nothing_is_a_defect_of_its_flow() {
    let template = Template::new("test", "None", Value::Null).then_split("t.ok", "Ok", &[addr(1)], Some(0));
    let defect = template.define(&rolling()).unwrap_err();
    assert_eq!(defect, super::super::template::TemplateError::NoRoom("Ok".to_owned()));
}

/// Ends that come while another is being recorded are recorded together.
#[tokio::test(start_paused = true)]
async fn what_ends_at_once_is_committed_at_once() {
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&go);
    let rig = rig(registry(vec![fn_step("t.gate", "", LONG, move |_| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.expect("it is open").forget();
            Outcome::done()
        })
    })]));
    let targets: Vec<_> = (1..=100).map(addr).collect();
    let template = Template::new("test", "Test", Value::Null).then_on_each("t.gate", "Gate", &targets);
    let dag = rig.submit(template).await;
    let is_claimed = |s: &super::super::Snapshot| s.is_any_active();
    let claimed = rig.engine.until(dag, is_claimed).await.unwrap();
    go.add_permits(targets.len());
    let end = rig.rest(dag).await;
    assert_eq!(end.state, DagState::Succeeded);
    let commits = end.revision - claimed.revision;
    assert!(commits < 10, "100 ends took {commits} commits");
}

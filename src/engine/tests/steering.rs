//! Limits within a node, safe points, leases: what `plan` holds back, and what the wishes are refused with.

use super::super::event::{Event, Output};
use super::super::run::LEASE_OVER;
use super::super::state::{DagState, Operator, Steer, SubTaskState, Wish};
use super::super::template::{Lock, NodeDef};
use super::super::{Snapshot, lease_over, operate, pass_node, steer, steerable, wishes};
use super::operators::{done, fail, failure, go};
use super::{at, definition, fresh, node};
use crate::error::Code;

fn safe(upstreams: &[usize]) -> NodeDef {
    NodeDef { is_safe_point: true, ..node(upstreams, 1, "TB") }
}

/// Three zones in a row, each a safe point; the first runs.
fn roll() -> Snapshot {
    let mut dag = fresh(definition(vec![safe(&[]), safe(&[0]), safe(&[1])]));
    go(&mut dag, vec![]);
    dag
}

fn ask(dag: &mut Snapshot, wish: Steer) {
    let events = steer(dag, wish).unwrap();
    go(dag, events);
}

fn do_it(dag: &mut Snapshot, operator: Operator) {
    let events = operate(dag, operator).unwrap();
    go(dag, events);
}

fn states(dag: &Snapshot, node: usize) -> Vec<SubTaskState> {
    dag.nodes[node].sub_tasks.iter().map(|sub| sub.state).collect()
}

fn end(dag: &mut Snapshot, sub: usize) {
    let attempt = dag.nodes[0].sub_tasks[sub].execute_times;
    go(dag, vec![Event::Succeeded { at: at(0, sub), attempt, output: Output::default() }]);
}

#[test]
fn a_node_runs_no_more_at_a_time_than_it_may_and_the_next_begins_when_one_ends() {
    use SubTaskState::{Pending, Running, Succeeded, Undoing, Undone};
    let limited = NodeDef { at_most: Some(2), ..node(&[], 3, "B") };
    let mut dag = fresh(definition(vec![limited, node(&[0], 1, "B")]));
    go(&mut dag, vec![]);
    assert_eq!(states(&dag, 0), [Running, Running, Pending]);
    end(&mut dag, 1);
    assert_eq!(states(&dag, 0), [Running, Succeeded, Running]);
    end(&mut dag, 0);
    assert_eq!(states(&dag, 1), [Pending], "one of it runs yet");
    end(&mut dag, 2);
    fail(&mut dag, 1);
    do_it(&mut dag, Operator::Rollback);
    assert_eq!(dag.nodes[1].sub_tasks[0].state, Undoing);
    done(&mut dag, 1);
    assert_eq!(states(&dag, 0), [Undoing, Undoing, Succeeded]);
    end(&mut dag, 0);
    assert_eq!(states(&dag, 0), [Undone, Undoing, Undoing]);
}

#[test]
fn after_a_failure_the_next_of_a_limited_node_does_not_begin_until_a_retry() {
    use SubTaskState::{Failed, Pending, Running, Succeeded};
    let mut dag = fresh(definition(vec![NodeDef { at_most: Some(1), ..node(&[], 3, "T") }]));
    go(&mut dag, vec![]);
    end(&mut dag, 0);
    go(&mut dag, vec![Event::Failed { at: at(0, 1), attempt: 1, failure: failure() }]);
    assert_eq!((dag.state, states(&dag, 0)), (DagState::Failed, vec![Succeeded, Failed, Pending]));
    do_it(&mut dag, Operator::Retry);
    assert_eq!(states(&dag, 0), [Succeeded, Running, Pending]);
    end(&mut dag, 1);
    end(&mut dag, 2);
    assert_eq!(dag.state, DagState::Succeeded);
}

#[test]
fn a_pause_takes_effect_before_the_next_safe_point_and_a_resume_goes_on() {
    let mut dag = roll();
    assert_eq!(steerable(&dag), [Steer::Pause, Steer::Abort]);
    ask(&mut dag, Steer::Pause);
    assert_eq!((dag.state, dag.steer()), (DagState::Running, Some(Steer::Pause)));
    assert_eq!(steer(&dag, Steer::Pause).unwrap(), [], "twice is once");
    assert_eq!(dag.paused_before(), None);
    done(&mut dag, 0);
    assert_eq!((dag.state, dag.paused_before(), dag.stage()), (DagState::Waiting, Some(1), 2));
    assert_eq!(states(&dag, 1), [SubTaskState::Pending]);
    let words: Vec<_> = wishes(&dag).into_iter().map(Wish::text).collect();
    assert_eq!(words, ["RETRY", "ROLLBACK", "RESUME", "ABORT"]);
    ask(&mut dag, Steer::Resume);
    assert_eq!((dag.state, dag.steer(), dag.paused_before()), (DagState::Running, None, None));
    assert_eq!(dag.nodes[1].sub_tasks[0].execute_times, 1);
    done(&mut dag, 1);
    done(&mut dag, 2);
    assert_eq!(dag.state, DagState::Succeeded);
}

#[test]
fn a_pause_that_is_taken_back_in_time_changes_nothing() {
    let mut dag = roll();
    ask(&mut dag, Steer::Pause);
    ask(&mut dag, Steer::Resume);
    assert_eq!(dag.steer(), None);
    done(&mut dag, 0);
    assert_eq!((dag.state, states(&dag, 1)), (DagState::Running, vec![SubTaskState::Running]));
}

#[test]
fn a_pause_leaves_the_other_branches_to_run_until_theirs() {
    let nodes = vec![node(&[], 1, ""), safe(&[0]), node(&[0], 1, ""), node(&[2], 1, "")];
    let mut dag = fresh(definition(nodes));
    go(&mut dag, vec![]);
    ask(&mut dag, Steer::Pause);
    done(&mut dag, 0);
    assert_eq!(
        (states(&dag, 1), states(&dag, 2)),
        (vec![SubTaskState::Pending], vec![SubTaskState::Running])
    );
    done(&mut dag, 2);
    assert_eq!(dag.state, DagState::Running, "no safe point there");
    done(&mut dag, 3);
    assert_eq!((dag.state, dag.paused_before()), (DagState::Waiting, Some(1)));
}

#[test]
fn a_node_that_has_begun_is_held_back_no_more() {
    let limited = NodeDef { at_most: Some(1), is_safe_point: true, ..node(&[], 2, "") };
    let mut dag = fresh(definition(vec![limited, safe(&[0])]));
    go(&mut dag, vec![]);
    ask(&mut dag, Steer::Pause);
    end(&mut dag, 0);
    assert_eq!(states(&dag, 0), [SubTaskState::Succeeded, SubTaskState::Running]);
    end(&mut dag, 1);
    assert_eq!(dag.paused_before(), Some(1));
}

#[test]
fn an_abort_ends_as_a_cancel_at_the_next_safe_point_and_a_retry_goes_on_there() {
    let mut dag = roll();
    ask(&mut dag, Steer::Pause);
    ask(&mut dag, Steer::Abort);
    assert_eq!(dag.steer(), Some(Steer::Abort), "the last one counts");
    assert_eq!(states(&dag, 0), [SubTaskState::Running], "what runs is left alone");
    done(&mut dag, 0);
    assert_eq!((dag.state, dag.operator, dag.stage()), (DagState::Failed, Operator::Cancel, 2));
    let skipped = &dag.nodes[1].sub_tasks[0];
    assert_eq!((skipped.state, skipped.operator), (SubTaskState::Failed, Operator::Cancel));
    assert_eq!(dag.nodes[1].operator, Operator::Cancel);
    assert_eq!(steer(&dag, Steer::Resume).unwrap_err().code, Code::SteerNotAllowed);
    do_it(&mut dag, Operator::Retry);
    assert_eq!((dag.state, dag.steer(), dag.operator), (DagState::Running, None, Operator::Run));
    done(&mut dag, 1);
    assert_eq!(states(&dag, 2), [SubTaskState::Running], "the abort was that once");
}

#[test]
fn whoever_passes_the_node_of_an_abort_goes_on_too() {
    let nodes = vec![node(&[], 1, ""), NodeDef { is_safe_point: true, ..node(&[0], 1, "P") }, safe(&[1])];
    let mut dag = fresh(definition(nodes));
    go(&mut dag, vec![]);
    ask(&mut dag, Steer::Abort);
    done(&mut dag, 0);
    let events = pass_node(&dag, 1).unwrap();
    go(&mut dag, events);
    assert_eq!((dag.state, states(&dag, 2)), (DagState::Running, vec![SubTaskState::Running]));
}

#[test]
fn a_paused_dag_can_be_aborted_and_what_runs_always_runs() {
    let last = NodeDef { is_always: true, is_safe_point: true, ..node(&[1], 1, "") };
    let mut dag = fresh(definition(vec![node(&[], 1, ""), safe(&[0]), last]));
    go(&mut dag, vec![]);
    ask(&mut dag, Steer::Pause);
    done(&mut dag, 0);
    assert_eq!(states(&dag, 2), [SubTaskState::Pending], "a pause is no end");
    ask(&mut dag, Steer::Abort);
    assert_eq!((dag.state, states(&dag, 2)), (DagState::Running, vec![SubTaskState::Running]));
    done(&mut dag, 2);
    assert_eq!((dag.state, dag.operator), (DagState::Failed, Operator::Cancel));
    assert_eq!(states(&dag, 1), [SubTaskState::Failed]);
}

#[test]
fn a_paused_dag_can_be_rolled_back_whole() {
    let mut dag = roll();
    ask(&mut dag, Steer::Pause);
    done(&mut dag, 0);
    do_it(&mut dag, Operator::Rollback);
    assert_eq!(
        (dag.state, dag.steer(), states(&dag, 0)),
        (DagState::Running, None, vec![SubTaskState::Undoing])
    );
    assert_eq!(
        steer(&dag, Steer::Pause).unwrap_err().code,
        Code::SteerNotAllowed,
        "a rollback has no safe point"
    );
    done(&mut dag, 0);
    assert_eq!(dag.state, DagState::RolledBack);
}

#[test]
fn a_cancel_stays_what_it_is() {
    let cancellable = |ups: &[usize]| NodeDef { is_safe_point: true, ..node(ups, 1, "TX") };
    let mut dag = fresh(definition(vec![cancellable(&[]), cancellable(&[0])]));
    go(&mut dag, vec![]);
    ask(&mut dag, Steer::Pause);
    do_it(&mut dag, Operator::Cancel);
    assert_eq!(states(&dag, 0), [SubTaskState::Cancelling]);
    assert_eq!(steer(&dag, Steer::Abort).unwrap_err().code, Code::SteerNotAllowed);
    go(&mut dag, vec![Event::Stopped { at: at(0, 0), attempt: 1 }]);
    assert_eq!((dag.state, dag.stage()), (DagState::Failed, 1));
    do_it(&mut dag, Operator::Retry);
    done(&mut dag, 0);
    assert_eq!(states(&dag, 1), [SubTaskState::Running], "the retry has taken the pause back");
}

#[test]
fn refusals_of_steering_have_one_code_and_say_what_is_possible() {
    let refused = |dag: &Snapshot, wish| {
        let refused = steer(dag, wish).unwrap_err();
        assert_eq!(refused.code, Code::SteerNotAllowed);
        refused.text
    };
    let mut plain = fresh(definition(vec![node(&[], 1, "X")]));
    go(&mut plain, vec![]);
    let text = refused(&plain, Steer::Pause);
    assert_eq!(text, "PAUSE is not possible: no safe point lies ahead of the task; possible now: CANCEL");
    assert_eq!(steerable(&plain), []);

    let running = roll();
    let text = refused(&running, Steer::Resume);
    assert_eq!(
        text,
        "RESUME is not possible: nobody has asked for a pause or an abort; possible now: PAUSE, ABORT"
    );
    let mut last = roll();
    done(&mut last, 0);
    done(&mut last, 1);
    assert!(refused(&last, Steer::Abort).contains("no safe point lies ahead"));

    let mut failed = roll();
    fail(&mut failed, 0);
    for wish in Steer::ALL {
        let text = refused(&failed, wish);
        assert!(text.contains("the task is failed; possible now: RETRY, ROLLBACK"), "{text}");
    }
}

#[test]
fn a_wait_that_goes_on_by_lease_is_not_passed_and_the_next_one_is() {
    let flagged = NodeDef { goes_on_by_lease: true, ..node(&[], 1, "") };
    let mut def = definition(vec![flagged, node(&[0], 1, "")]);
    def.lock = Some(Lock { lease_secs: Some(10) });
    let mut dag = fresh(def);
    go(&mut dag, vec![]);
    go(&mut dag, vec![Event::Waits { at: at(0, 0), attempt: 1 }]);
    let events = lease_over(&dag);
    go(&mut dag, events);
    assert_eq!((dag.state, dag.holds_lock), (DagState::Running, true));
    assert!(dag.has_signal(LEASE_OVER));
    done(&mut dag, 0);
    go(&mut dag, vec![Event::Waits { at: at(1, 0), attempt: 1 }]);
    let events = lease_over(&dag);
    go(&mut dag, events);
    assert_eq!((dag.state, dag.holds_lock), (DagState::Passed, false));
    assert_eq!(dag.signals, [LEASE_OVER]);
}

#[test]
fn a_paused_dag_is_passed_when_its_lease_ends() {
    let mut def = definition(vec![node(&[], 1, ""), NodeDef { goes_on_by_lease: true, ..safe(&[0]) }]);
    def.lock = Some(Lock { lease_secs: Some(10) });
    let mut dag = fresh(def);
    go(&mut dag, vec![]);
    ask(&mut dag, Steer::Pause);
    done(&mut dag, 0);
    assert!(dag.paused_before().is_some());
    let events = lease_over(&dag);
    go(&mut dag, events);
    assert_eq!((dag.state, dag.holds_lock), (DagState::Passed, false));
}

/// Stores hold definitions from before there were limits and safe points.
#[test]
fn a_definition_of_an_older_release_is_readable() {
    let mut stored = serde_json::to_value(node(&[], 1, "T")).unwrap();
    for member in ["at_most", "is_safe_point", "goes_on_by_lease"] {
        assert!(stored.as_object_mut().unwrap().remove(member).is_some(), "{member}");
    }
    assert_eq!(serde_json::from_value::<NodeDef>(stored).unwrap(), node(&[], 1, "T"));
}

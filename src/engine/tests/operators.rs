//! Operators: when each is granted, what it rewrites, and what the refusals say.

use super::super::event::{Event, Failure, Output};
use super::super::state::{DagState, Operator, SubTaskState};
use super::super::template::Lock;
use super::super::{Heading, Snapshot, allowed, operate, pass_node, plan};
use super::{at, definition, fresh, node};
use crate::error::Code;
use crate::model::Timestamp;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) fn failure() -> Failure {
    Failure { code: "Common.Unexpected".into(), text: "no".into(), diagnosis: None }
}

/// Applies the events and everything planned after them.
pub(super) fn go(snapshot: &mut Snapshot, events: Vec<Event>) {
    for event in events {
        snapshot.apply(&event, NOW).unwrap();
    }
    for event in plan(snapshot) {
        snapshot.apply(&event, NOW).unwrap();
    }
}

pub(super) fn done(snapshot: &mut Snapshot, node: usize) {
    let attempt = snapshot.nodes[node].sub_tasks[0].execute_times;
    go(snapshot, vec![Event::Succeeded { at: at(node, 0), attempt, output: Output::default() }]);
}

pub(super) fn fail(snapshot: &mut Snapshot, node: usize) {
    let attempt = snapshot.nodes[node].sub_tasks[0].execute_times;
    go(snapshot, vec![Event::Failed { at: at(node, 0), attempt, failure: failure() }]);
}

/// Three nodes in a row; the second has failed.
fn failed_at_two(caps: [&str; 3]) -> Snapshot {
    let nodes = vec![node(&[], 1, caps[0]), node(&[0], 1, caps[1]), node(&[1], 1, caps[2])];
    let mut dag = fresh(definition(nodes));
    go(&mut dag, vec![]);
    done(&mut dag, 0);
    fail(&mut dag, 1);
    assert_eq!((dag.state, dag.stage()), (DagState::Failed, 2));
    dag
}

fn refused(dag: &Snapshot, operator: Operator) -> (Code, String) {
    let refused = operate(dag, operator).unwrap_err();
    (refused.code, refused.text)
}

#[test]
fn retry_repeats_what_failed_and_counts_two() {
    let mut dag = failed_at_two(["", "T", ""]);
    assert_eq!(allowed(&dag), [Operator::Retry]);
    let events = operate(&dag, Operator::Retry).unwrap();
    go(&mut dag, events);
    assert_eq!(
        (dag.state, dag.operator, dag.nodes[1].operator),
        (DagState::Running, Operator::Run, Operator::Retry)
    );
    assert_eq!(dag.nodes[1].sub_tasks[0].execute_times, 3);
    assert_eq!(dag.nodes[0].sub_tasks[0].execute_times, 1);
    done(&mut dag, 1);
    done(&mut dag, 2);
    assert_eq!((dag.state, dag.stage()), (DagState::Succeeded, 3));
}

#[test]
fn a_retry_begins_without_the_note_of_the_last_try_but_an_undo_finds_it() {
    let noted = |caps| {
        let mut dag = fresh(definition(vec![node(&[], 1, caps)]));
        go(&mut dag, vec![]);
        go(&mut dag, vec![Event::Noted { at: at(0, 0), attempt: 1, note: 7.into() }]);
        fail(&mut dag, 0);
        dag
    };
    let mut retried = noted("T");
    let events = operate(&retried, Operator::Retry).unwrap();
    go(&mut retried, events);
    assert_eq!(retried.nodes[0].sub_tasks[0].note, None);
    let mut undone = noted("B");
    let events = operate(&undone, Operator::Rollback).unwrap();
    go(&mut undone, events);
    assert_eq!(undone.nodes[0].sub_tasks[0].note, Some(7.into()));
}

#[test]
fn rollback_goes_down_and_ends_at_stage_one() {
    let mut dag = failed_at_two(["B", "B", ""]);
    let events = operate(&dag, Operator::Rollback).unwrap();
    go(&mut dag, events);
    assert_eq!((dag.state, dag.heading, dag.stage()), (DagState::Running, Heading::Backward, 2));
    assert_eq!(dag.nodes[1].sub_tasks[0].state, SubTaskState::Undoing);
    assert_eq!(dag.nodes[0].sub_tasks[0].state, SubTaskState::Succeeded);
    done(&mut dag, 1);
    assert_eq!(dag.stage(), 1);
    done(&mut dag, 0);
    assert_eq!((dag.state, dag.operator, dag.stage()), (DagState::RolledBack, Operator::Rollback, 1));
    assert_eq!(dag.nodes[2].sub_tasks[0].execute_times, 0);
    assert!(allowed(&dag).is_empty());
}

#[test]
fn w3_after_a_failed_rollback_only_rollback_and_pass_are_left() {
    let mut dag = failed_at_two(["BTXP", "BTXP", "BTXP"]);
    let events = operate(&dag, Operator::Rollback).unwrap();
    go(&mut dag, events);
    fail(&mut dag, 1);
    assert_eq!((dag.state, dag.heading), (DagState::Failed, Heading::Backward));
    assert_eq!(allowed(&dag), [Operator::Rollback, Operator::Pass]);
    let (code, text) = refused(&dag, Operator::Retry);
    assert_eq!(code, Code::RetryNotAllowed);
    assert!(
        text.contains("rollback failed half way") && text.contains("possible now: ROLLBACK, PASS"),
        "{text}"
    );
    assert_eq!(pass_node(&dag, 1).unwrap_err().code, Code::NodePassNotFailedDag);

    let events = operate(&dag, Operator::Rollback).unwrap();
    go(&mut dag, events);
    done(&mut dag, 1);
    done(&mut dag, 0);
    assert_eq!(dag.state, DagState::RolledBack);
}

#[test]
fn w3_cancel_during_a_rollback_does_not_turn_it_forward() {
    let mut dag = failed_at_two(["BX", "BX", ""]);
    let events = operate(&dag, Operator::Rollback).unwrap();
    go(&mut dag, events);
    let events = operate(&dag, Operator::Cancel).unwrap();
    go(&mut dag, events);
    assert_eq!(dag.nodes[1].sub_tasks[0].state, SubTaskState::UndoCancelling);
    let attempt = dag.nodes[1].sub_tasks[0].execute_times;
    go(&mut dag, vec![Event::Stopped { at: at(1, 0), attempt }]);
    assert_eq!(
        (dag.state, dag.heading, dag.operator),
        (DagState::Failed, Heading::Backward, Operator::Cancel)
    );
    assert_eq!(dag.nodes[0].sub_tasks[0].state, SubTaskState::Succeeded);
    assert_eq!(allowed(&dag), [Operator::Rollback]);
}

#[test]
fn w15_cancel_is_done_only_when_the_code_has_stopped() {
    let mut dag = fresh(definition(vec![node(&[], 2, "X"), node(&[0], 1, "")]));
    go(&mut dag, vec![]);
    let events = operate(&dag, Operator::Cancel).unwrap();
    go(&mut dag, events);
    assert_eq!((dag.state, dag.operator), (DagState::Cancelling, Operator::Cancel));
    assert_eq!(operate(&dag, Operator::Cancel).unwrap(), [], "twice is once");
    assert_eq!(refused(&dag, Operator::Pass).0, Code::PassNotFailed, "no PASS while code runs");
    go(&mut dag, vec![Event::Stopped { at: at(0, 0), attempt: 1 }]);
    assert_eq!(dag.state, DagState::Cancelling);
    go(&mut dag, vec![Event::Stopped { at: at(0, 1), attempt: 1 }]);
    assert_eq!((dag.state, dag.stage(), dag.nodes[0].operator), (DagState::Failed, 1, Operator::Cancel));
}

#[test]
fn w3_a_cancel_that_came_too_late_does_not_undo_success() {
    let mut dag = fresh(definition(vec![node(&[], 1, "X")]));
    go(&mut dag, vec![]);
    let events = operate(&dag, Operator::Cancel).unwrap();
    go(&mut dag, events);
    done(&mut dag, 0);
    assert_eq!(dag.state, DagState::Succeeded);
}

#[test]
fn a_cancel_between_two_nodes_cancels_the_next() {
    let mut dag = fresh(definition(vec![node(&[], 1, "X"), node(&[0], 2, "X")]));
    go(&mut dag, vec![]);
    let events = operate(&dag, Operator::Cancel).unwrap();
    go(&mut dag, events);
    done(&mut dag, 0);
    assert_eq!((dag.state, dag.stage()), (DagState::Failed, 2));
    assert_eq!(dag.nodes[1].operator, Operator::Cancel);
    assert!(dag.nodes[1].sub_tasks.iter().all(|s| s.state == SubTaskState::Failed && s.execute_times == 0));
}

#[test]
fn a_node_that_runs_always_runs_after_failure_cancel_and_success() {
    let make = || {
        let mut last = node(&[1], 1, "X");
        last.is_always = true;
        let mut dag = fresh(definition(vec![node(&[], 1, "XT"), node(&[0], 1, "XT"), last]));
        go(&mut dag, vec![]);
        dag
    };
    let mut failed = make();
    fail(&mut failed, 0);
    assert_eq!((failed.state, failed.stage()), (DagState::Running, 1));
    let (code, text) = refused(&failed, Operator::Cancel);
    assert_eq!(code, Code::CancelNotAllowed);
    assert!(text.contains("releases what the task holds"), "{text}");
    done(&mut failed, 2);
    assert_eq!((failed.state, failed.stage()), (DagState::Failed, 1));

    let events = operate(&failed, Operator::Retry).unwrap();
    go(&mut failed, events);
    done(&mut failed, 0);
    done(&mut failed, 1);
    assert_eq!(
        failed.nodes[2].sub_tasks[0].state,
        SubTaskState::Running,
        "again, at the end of the new round"
    );
    done(&mut failed, 2);
    assert_eq!((failed.state, failed.stage()), (DagState::Succeeded, 3));

    let mut cancelled = make();
    let events = operate(&cancelled, Operator::Cancel).unwrap();
    go(&mut cancelled, events);
    go(&mut cancelled, vec![Event::Stopped { at: at(0, 0), attempt: 1 }]);
    assert_eq!(cancelled.nodes[2].sub_tasks[0].state, SubTaskState::Running);
    done(&mut cancelled, 2);
    assert_eq!(
        (cancelled.state, cancelled.operator, cancelled.stage()),
        (DagState::Failed, Operator::Cancel, 1)
    );
}

#[test]
fn pass_ends_at_once_and_frees_the_lock() {
    let mut def = definition(vec![node(&[], 1, "P"), node(&[0], 1, "P")]);
    def.lock = Some(Lock { lease_secs: None });
    let mut dag = fresh(def);
    go(&mut dag, vec![]);
    fail(&mut dag, 0);
    assert!(dag.holds_lock && !dag.is_finished(), "a failed maintenance DAG keeps its lock");
    let events = operate(&dag, Operator::Pass).unwrap();
    go(&mut dag, events);
    assert_eq!((dag.state, dag.operator, dag.stage()), (DagState::Passed, Operator::Pass, 1));
    assert!(!dag.holds_lock && dag.is_finished());
    assert!(dag.nodes.iter().all(|n| n.operator == Operator::Pass));
}

#[test]
fn a_node_may_give_the_lock_back_and_a_retry_takes_it_again() {
    let mut failing = node(&[], 1, "T");
    failing.releases_lock_on_failure = true;
    let mut def = definition(vec![failing]);
    def.lock = Some(Lock { lease_secs: None });
    let mut dag = fresh(def);
    go(&mut dag, vec![]);
    fail(&mut dag, 0);
    assert!(!dag.holds_lock && dag.is_finished());
    assert_eq!(operate(&dag, Operator::Retry).unwrap(), [Event::LockTaken, Event::RetryAsked]);
}

#[test]
fn pass_of_a_node_lets_the_next_one_run() {
    let mut dag = failed_at_two(["", "P", ""]);
    assert_eq!(pass_node(&dag, 0).unwrap_err().code, Code::NodePassNotFailed);
    let events = pass_node(&dag, 1).unwrap();
    go(&mut dag, events);
    assert_eq!((dag.state, dag.stage(), dag.nodes[1].operator), (DagState::Running, 3, Operator::Pass));
    done(&mut dag, 2);
    assert_eq!(dag.state, DagState::Succeeded);
    assert_eq!(pass_node(&dag, 1).unwrap_err().code, Code::NodePassNotFailedDag);
}

#[test]
fn waiting_takes_retry_and_pass_and_nothing_else() {
    let mut dag = fresh(definition(vec![node(&[], 1, "CPXTB")]));
    go(&mut dag, vec![]);
    go(&mut dag, vec![Event::Waits { at: at(0, 0), attempt: 1 }]);
    assert_eq!((dag.state, dag.stage()), (DagState::Waiting, 1));
    assert_eq!(allowed(&dag), [Operator::Retry, Operator::Pass]);
    assert_eq!(refused(&dag, Operator::Cancel).0, Code::CancelFinished);
    assert_eq!(refused(&dag, Operator::Rollback).0, Code::RollbackNotFailed);
}

#[test]
fn every_refusal_has_its_code_and_says_what_is_possible() {
    let mut running = fresh(definition(vec![node(&[], 1, "")]));
    go(&mut running, vec![]);
    for (operator, code) in [
        (Operator::Run, Code::DagOperatorUnknown),
        (Operator::Retry, Code::RetryNotFailed),
        (Operator::Rollback, Code::RollbackNotFailed),
        (Operator::Cancel, Code::CancelNotAllowed),
        (Operator::Pass, Code::PassNotFailed),
    ] {
        let (found, text) = refused(&running, operator);
        assert_eq!(found, code);
        assert!(text.contains("wait for it to end"), "{text}");
    }
    let failed = failed_at_two(["", "", ""]);
    for (operator, code) in [
        (Operator::Retry, Code::RetryNotAllowed),
        (Operator::Rollback, Code::RollbackNotAllowed),
        (Operator::Cancel, Code::CancelFinished),
        (Operator::Pass, Code::PassNotAllowed),
    ] {
        let (found, text) = refused(&failed, operator);
        assert_eq!(found, code);
        assert!(text.contains("start a new task"), "{text}");
    }
    assert_eq!(pass_node(&failed, 1).unwrap_err().code, Code::NodePassNotAllowed);
}

//! Operators on one sub-task: it alone, and what becomes of the rest.

use super::super::event::{At, Event, Output};
use super::super::state::{DagState, Heading, Operator, SubTaskState};
use super::super::template::Lock;
use super::super::{Single, Snapshot, operate, recover, single};
use super::operators::{done, failure, go};
use super::{at, definition, fresh, node};
use crate::error::Code;

use SubTaskState::{Cancelling, Failed, Passed, Pending, Running, Succeeded, UndoFailed, Undoing, Undone};

fn states(dag: &Snapshot, node: usize) -> Vec<SubTaskState> {
    dag.nodes[node].sub_tasks.iter().map(|sub| sub.state).collect()
}

fn ask(dag: &mut Snapshot, wish: Single, place: At) {
    let events = single(dag, wish, place).unwrap();
    go(dag, events);
}

fn code(dag: &Snapshot, wish: Single, place: At) -> Code {
    single(dag, wish, place).unwrap_err().code
}

fn ends(dag: &mut Snapshot, place: At, is_well: bool) {
    let attempt = dag.sub_task(place).execute_times;
    let event = match is_well {
        true => Event::Succeeded { at: place, attempt, output: Output::default() },
        false => Event::Failed { at: place, attempt, failure: failure() },
    };
    go(dag, vec![event]);
}

/// Three at once of which the first two have failed, and a node after them.
fn two_failed(caps: &str) -> Snapshot {
    let mut dag = fresh(definition(vec![node(&[], 3, caps), node(&[0], 1, "TXPB")]));
    go(&mut dag, vec![]);
    for (sub, is_well) in [(0, false), (1, false), (2, true)] {
        ends(&mut dag, at(0, sub), is_well);
    }
    assert_eq!((dag.state, states(&dag, 0)), (DagState::Failed, vec![Failed, Failed, Succeeded]));
    dag
}

#[test]
fn a_retry_of_one_runs_it_alone_and_the_task_fails_again_while_others_have_failed() {
    let mut dag = two_failed("T");
    ask(&mut dag, Single::Retry, at(0, 0));
    assert_eq!(
        (dag.state, dag.operator, dag.nodes[0].operator),
        (DagState::Running, Operator::Run, Operator::Retry)
    );
    assert_eq!(states(&dag, 0), [Running, Failed, Succeeded]);
    assert_eq!(dag.nodes[0].sub_tasks[0].execute_times, 3, "a retry counts two");
    ends(&mut dag, at(0, 0), true);
    assert_eq!((dag.state, states(&dag, 1)), (DagState::Failed, vec![Pending]));
    ask(&mut dag, Single::Retry, at(0, 1));
    ends(&mut dag, at(0, 1), true);
    assert_eq!((dag.state, states(&dag, 1)), (DagState::Running, vec![Running]), "none is left");
}

/// The reset and the claim are one commit, so a crash finds it before or running.
#[test]
fn a_retry_of_one_is_one_change() {
    let dag = two_failed("CT");
    let events = single(&dag, Single::Retry, at(0, 1)).unwrap();
    let kinds: Vec<_> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, ["sub_task_retry_asked", "started", "claimed"]);
    let mut crashed = dag;
    go(&mut crashed, events);
    assert_eq!(recover(&crashed), [Event::Resumed { at: at(0, 1) }]);
}

#[test]
fn a_retry_of_one_takes_the_lock_again() {
    let mut failing = node(&[], 2, "T");
    failing.releases_lock_on_failure = true;
    let mut def = definition(vec![failing]);
    def.lock = Some(Lock { lease_secs: None });
    let mut dag = fresh(def);
    go(&mut dag, vec![]);
    ends(&mut dag, at(0, 0), false);
    ends(&mut dag, at(0, 1), true);
    assert!(!dag.holds_lock);
    ask(&mut dag, Single::Retry, at(0, 0));
    assert!(dag.holds_lock);
}

#[test]
fn a_pass_of_one_does_not_run_it() {
    let mut dag = two_failed("P");
    ask(&mut dag, Single::Pass, at(0, 1));
    assert_eq!((dag.state, states(&dag, 0)), (DagState::Failed, vec![Failed, Passed, Succeeded]));
    assert_eq!(dag.nodes[0].sub_tasks[1].operator, Operator::Pass);
    ask(&mut dag, Single::Pass, at(0, 0));
    assert_eq!((dag.state, states(&dag, 1)), (DagState::Running, vec![Running]));
    assert_eq!(dag.nodes[0].sub_tasks[0].execute_times, 1);
}

#[test]
fn a_node_that_runs_always_runs_again_after_a_retry_of_one() {
    let mut last = node(&[0], 1, "");
    last.is_always = true;
    let mut dag = fresh(definition(vec![node(&[], 2, "T"), last]));
    go(&mut dag, vec![]);
    ends(&mut dag, at(0, 0), false);
    ends(&mut dag, at(0, 1), false);
    done(&mut dag, 1);
    assert_eq!(dag.state, DagState::Failed);
    ask(&mut dag, Single::Retry, at(0, 0));
    assert_eq!((states(&dag, 0), states(&dag, 1)), (vec![Running, Failed], vec![Pending]));
    ends(&mut dag, at(0, 0), true);
    assert_eq!((dag.state, states(&dag, 1)), (DagState::Running, vec![Running]));
    done(&mut dag, 1);
    assert_eq!(dag.state, DagState::Failed);
}

#[test]
fn a_cancel_of_one_leaves_the_others_to_run_and_then_fails_the_task() {
    let mut dag = fresh(definition(vec![node(&[], 2, "X"), node(&[0], 1, "")]));
    go(&mut dag, vec![]);
    ask(&mut dag, Single::Cancel, at(0, 0));
    assert_eq!((dag.state, states(&dag, 0)), (DagState::Running, vec![Cancelling, Running]));
    assert_eq!(single(&dag, Single::Cancel, at(0, 0)).unwrap(), [], "twice is once");
    assert_eq!(recover(&dag)[0], Event::Stopped { at: at(0, 0), attempt: 1 }, "a crash is its end");
    go(&mut dag, vec![Event::Stopped { at: at(0, 0), attempt: 1 }]);
    assert_eq!((dag.state, states(&dag, 0)), (DagState::Running, vec![Failed, Running]));
    assert_eq!(dag.nodes[0].sub_tasks[0].operator, Operator::Cancel);
    ends(&mut dag, at(0, 1), true);
    assert_eq!((dag.state, states(&dag, 1)), (DagState::Failed, vec![Pending]));
}

#[test]
fn a_cancel_of_the_whole_follows_that_of_one() {
    let mut dag = fresh(definition(vec![node(&[], 2, "X")]));
    go(&mut dag, vec![]);
    ask(&mut dag, Single::Cancel, at(0, 0));
    let events = operate(&dag, Operator::Cancel).unwrap();
    go(&mut dag, events);
    assert_eq!((dag.state, states(&dag, 0)), (DagState::Cancelling, vec![Cancelling, Cancelling]));
}

/// While one is being cancelled nothing new begins, for it will most likely have failed.
#[test]
fn nothing_begins_beside_a_cancel_unless_it_came_too_late() {
    let limited = super::NodeDef { at_most: Some(2), ..node(&[], 4, "X") };
    let mut dag = fresh(definition(vec![limited]));
    go(&mut dag, vec![]);
    ask(&mut dag, Single::Cancel, at(0, 0));
    ends(&mut dag, at(0, 1), true);
    assert_eq!(states(&dag, 0), [Cancelling, Succeeded, Pending, Pending]);
    ends(&mut dag, at(0, 0), true);
    assert_eq!(states(&dag, 0), [Succeeded, Succeeded, Running, Running]);
}

#[test]
fn a_failed_undo_that_is_passed_counts_as_undone_and_the_rollback_goes_on() {
    let mut dag = two_failed("PBX");
    let events = operate(&dag, Operator::Rollback).unwrap();
    go(&mut dag, events);
    for (sub, is_well) in [(0, false), (1, false), (2, true)] {
        ends(&mut dag, at(0, sub), is_well);
    }
    assert_eq!((dag.state, states(&dag, 0)), (DagState::Failed, vec![UndoFailed, UndoFailed, Undone]));
    assert_eq!(code(&dag, Single::Retry, at(0, 0)), Code::RetryNotAllowed);
    assert_eq!(code(&dag, Single::Pass, at(0, 2)), Code::NodePassNotFailed);
    ask(&mut dag, Single::Pass, at(0, 0));
    assert_eq!((dag.state, dag.heading), (DagState::Failed, Heading::Backward), "the other has failed too");
    assert_eq!(states(&dag, 0), [Undone, UndoFailed, Undone]);
    ask(&mut dag, Single::Pass, at(0, 1));
    assert_eq!((dag.state, dag.operator), (DagState::RolledBack, Operator::Rollback));
}

#[test]
fn a_passed_undo_lets_the_nodes_before_it_be_undone() {
    let mut dag = fresh(definition(vec![node(&[], 1, "B"), node(&[0], 1, "BP")]));
    go(&mut dag, vec![]);
    done(&mut dag, 0);
    ends(&mut dag, at(1, 0), false);
    let events = operate(&dag, Operator::Rollback).unwrap();
    go(&mut dag, events);
    ends(&mut dag, at(1, 0), false);
    ask(&mut dag, Single::Pass, at(1, 0));
    assert_eq!((dag.state, states(&dag, 0)), (DagState::Running, vec![Undoing]));
}

#[test]
fn refusals_for_one_sub_task_have_their_codes() {
    let mut dag = fresh(definition(vec![node(&[], 2, ""), node(&[0], 1, "")]));
    go(&mut dag, vec![]);
    for (wish, found) in [
        (Single::Retry, Code::RetryNotFailed),
        (Single::Pass, Code::NodePassNotFailedDag),
        (Single::Cancel, Code::CancelNotAllowed),
    ] {
        assert_eq!(code(&dag, wish, at(0, 0)), found, "{wish:?} of what runs");
    }
    assert_eq!(code(&dag, Single::Cancel, at(1, 0)), Code::CancelNotAllowed);
    ends(&mut dag, at(0, 0), false);
    ends(&mut dag, at(0, 1), true);
    for (wish, found) in [
        (Single::Retry, Code::RetryNotAllowed),
        (Single::Pass, Code::NodePassNotAllowed),
        (Single::Cancel, Code::CancelFinished),
    ] {
        assert_eq!(code(&dag, wish, at(0, 0)), found, "{wish:?} of what cannot");
    }
    assert_eq!(code(&dag, Single::Retry, at(0, 1)), Code::RetryNotFailed);
    assert_eq!(code(&dag, Single::Pass, at(0, 1)), Code::NodePassNotFailed);
    let text = single(&dag, Single::Pass, at(0, 0)).unwrap_err().text;
    assert!(text.contains("'node 1' on 127.0.0.1:2886 alone") && text.contains("cannot be passed"), "{text}");
}

#[test]
fn what_runs_always_is_not_cancelled_alone() {
    let mut last = node(&[0], 1, "X");
    last.is_always = true;
    let mut dag = fresh(definition(vec![node(&[], 1, ""), last]));
    go(&mut dag, vec![]);
    done(&mut dag, 0);
    assert_eq!(states(&dag, 1), [Running]);
    assert_eq!(code(&dag, Single::Cancel, at(1, 0)), Code::CancelNotAllowed);
}

//! Random DAGs, outcomes and operators: it ends, in order, and its log is its state.

use proptest::prelude::*;

use super::super::event::{At, Event, Output};
use super::super::state::{DagState, Heading, NodeState, Operator, Steer, SubTaskState};
use super::super::template::{Definition, Lock, NodeDef};
use super::super::{Single, Snapshot, lease_over, operate, pass_node, plan, recover, single, steer};
use super::operators::failure;
use super::{definition, fresh, node};
use crate::model::Timestamp;

/// What the world does next. Numbers choose among what is possible then.
#[derive(Clone, Debug)]
enum Act {
    Finish { which: usize, how: u8 },
    Operate(Operator),
    PassNode(usize),
    Steer(Steer),
    Single { wish: Single, which: usize },
    LeaseOver,
    Crash,
    Note { which: usize },
}

fn any_node(position: usize) -> impl Strategy<Value = NodeDef> {
    let upstreams = prop::collection::btree_set(0..position.max(1), 0..=position.min(2));
    let limits = (prop::option::of(1usize..4), prop::bool::weighted(0.3), any::<bool>());
    let parts = (upstreams, 1u8..4, "[CTXPB]{0,5}", any::<bool>(), limits);
    parts.prop_map(move |(ups, targets, caps, releases, (at_most, is_safe_point, goes_on_by_lease))| {
        let ups: Vec<usize> = if position == 0 { Vec::new() } else { ups.into_iter().collect() };
        let node = node(&ups, targets, &caps);
        NodeDef { releases_lock_on_failure: releases, at_most, is_safe_point, goes_on_by_lease, ..node }
    })
}

fn any_definition() -> impl Strategy<Value = Definition> {
    let nodes = (1usize..6).prop_flat_map(|len| (0..len).map(any_node).collect::<Vec<_>>());
    (nodes, any::<bool>(), any::<bool>()).prop_map(|(mut nodes, locked, has_always)| {
        if has_always && nodes.len() > 1 {
            let last = nodes.len() - 1;
            nodes[last].is_always = true;
            nodes[last].upstreams = (0..last).collect();
        }
        let mut def = definition(nodes);
        def.lock = locked.then_some(Lock { lease_secs: Some(10) });
        def
    })
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (any::<usize>(), 0u8..10).prop_map(|(which, how)| Act::Finish { which, how }),
        3 => prop::sample::select(Operator::ALL.to_vec()).prop_map(Act::Operate),
        1 => any::<usize>().prop_map(Act::PassNode),
        2 => prop::sample::select(Steer::ALL.to_vec()).prop_map(Act::Steer),
        2 => (prop::sample::select(Single::ALL.to_vec()), any::<usize>())
            .prop_map(|(wish, which)| Act::Single { wish, which }),
        1 => Just(Act::LeaseOver),
        1 => Just(Act::Crash),
        1 => any::<usize>().prop_map(|which| Act::Note { which }),
    ]
}

/// A live run with everything recorded: the events, and the snapshot after each.
struct Run {
    snapshot: Snapshot,
    log: Vec<Event>,
    after_each: Vec<Snapshot>,
    /// Forward claims and backward claims in order.
    claims: Vec<(At, Heading)>,
    clock: i64,
}

impl Run {
    fn new(definition: Definition) -> Self {
        let snapshot = fresh(definition);
        let mut run =
            Self { snapshot, log: Vec::new(), after_each: Vec::new(), claims: Vec::new(), clock: 0 };
        run.take(Vec::new());
        run
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            self.apply(event);
        }
        let planned = plan(&self.snapshot);
        assert_eq!(planned, plan(&self.snapshot), "the same snapshot gives the same plan");
        for event in planned {
            self.apply(event);
        }
        assert_eq!(plan(&self.snapshot), [], "after the plan there is nothing more to say");
    }

    fn apply(&mut self, event: Event) {
        if let Event::Claimed { at, heading, .. } = event {
            self.check_claim(at, heading);
            self.claims.push((at, heading));
        }
        self.clock += 1;
        self.snapshot.apply(&event, Timestamp::from_second(self.clock).unwrap()).expect("events are legal");
        self.check_room();
        self.log.push(event);
        self.after_each.push(self.snapshot.clone());
    }

    /// No node ever runs more of its sub-tasks at a time than it may.
    fn check_room(&self) {
        for (node, def) in self.snapshot.nodes.iter().zip(&self.snapshot.definition.nodes) {
            let active = node.sub_tasks.iter().filter(|sub| sub.state.is_active()).count();
            assert!(def.at_most.is_none_or(|most| active <= most), "{active} of '{}' at a time", def.name);
        }
    }

    /// Nothing runs before its upstreams succeeded; no safe point begins against a pause or an abort; nothing is undone before what came after it.
    fn check_claim(&self, at: At, heading: Heading) {
        let def = self.snapshot.definition_of(at.node);
        match heading {
            Heading::Forward => {
                let state = |up: &usize| self.snapshot.nodes[*up].state();
                let is_done = |up: &usize| matches!(state(up), NodeState::Succeeded | NodeState::Passed);
                assert!(def.is_always || def.upstreams.iter().all(is_done), "{at:?} ran too early");
                assert!(
                    def.upstreams.iter().all(|up| state(up) != NodeState::Running),
                    "{at:?} ran beside an upstream"
                );
                let is_held = self.snapshot.steer().is_some() && self.snapshot.is_safe_point_ahead(at.node);
                assert!(!is_held, "{at:?} began against a pause or an abort");
            }
            Heading::Backward => {
                for later in self.snapshot.definition.descendants(at.node) {
                    for sub in self.snapshot.nodes[later].sub_tasks.iter() {
                        assert!(!sub.is_left_to_undo() && !sub.state.is_active(), "{at:?} undone too early");
                    }
                }
            }
        }
    }

    fn active(&self) -> Vec<At> {
        self.snapshot.sub_tasks().filter(|(_, sub)| sub.state.is_active()).map(|(at, _)| at).collect()
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Finish { which, how } => self.finish(*which, *how),
            Act::Note { which } => {
                let active = self.active();
                if let Some(at) = active.get(which % active.len().max(1)).copied() {
                    let attempt = self.snapshot.sub_task(at).execute_times;
                    self.take(vec![Event::Noted { at, attempt, note: serde_json::json!({ "n": which }) }]);
                }
            }
            Act::Operate(operator) => {
                if let Ok(events) = operate(&self.snapshot, *operator) {
                    self.take(events);
                }
            }
            Act::PassNode(which) => {
                if let Ok(events) = pass_node(&self.snapshot, which % self.snapshot.nodes.len()) {
                    self.take(events);
                }
            }
            Act::Steer(wish) => {
                if let Ok(events) = steer(&self.snapshot, *wish) {
                    self.take(events);
                }
            }
            Act::Single { wish, which } => self.single(*wish, *which),
            Act::LeaseOver => {
                let is_resting = matches!(self.snapshot.state, DagState::Waiting | DagState::Failed);
                if is_resting && self.snapshot.holds_lock {
                    self.take(lease_over(&self.snapshot));
                }
            }
            Act::Crash => {
                let from = self.log.len();
                let events = recover(&self.snapshot);
                self.take(events);
                // Code is started for every active sub-task: resumed by recovery or claimed by the plan.
                for at in self.active() {
                    let is_start = |event: &Event| matches!(event, Event::Resumed { at: place } | Event::Claimed { at: place, .. } if *place == at);
                    assert!(self.log[from..].iter().any(is_start), "nobody runs {at:?} after the crash");
                }
            }
        }
    }

    /// Others are left as they are, by the wish and all that follows from it at once.
    fn single(&mut self, wish: Single, which: usize) {
        let places: Vec<At> = self.snapshot.sub_tasks().map(|(at, _)| at).collect();
        let at = places[which % places.len()];
        let Ok(events) = single(&self.snapshot, wish, at) else { return };
        // On its way back a DAG undoes what has failed forward, as soon as nothing hinders it.
        let hindrance = match self.snapshot.heading {
            Heading::Forward => SubTaskState::Failed,
            Heading::Backward => SubTaskState::UndoFailed,
        };
        let failed = |snapshot: &Snapshot| -> Vec<At> {
            let is_failed = |state| state == hindrance;
            let others = snapshot.sub_tasks().filter(|(place, sub)| *place != at && is_failed(sub.state));
            let others = others.filter(|(place, _)| !snapshot.definition_of(place.node).is_always);
            others.map(|(place, _)| place).collect()
        };
        let before = failed(&self.snapshot);
        self.take(events);
        let after = failed(&self.snapshot);
        assert!(before.iter().all(|place| after.contains(place)), "{wish:?} of {at:?} changed another");
    }

    fn finish(&mut self, which: usize, how: u8) {
        let active = self.active();
        let Some(at) = active.get(which % active.len().max(1)).copied() else { return };
        let sub = self.snapshot.sub_task(at);
        let (attempt, state) = (sub.execute_times, sub.state);
        let is_cancelling = matches!(state, SubTaskState::Cancelling | SubTaskState::UndoCancelling);
        let event = match how {
            0 | 1 => Event::Failed { at, attempt, failure: failure() },
            2 if state == SubTaskState::Running => Event::Waits { at, attempt },
            3..=6 if is_cancelling => Event::Stopped { at, attempt },
            _ => Event::Succeeded { at, attempt, output: Output::default() },
        };
        self.take(vec![event]);
    }

    /// The world lets everything succeed from here on.
    fn let_it_end(&mut self) {
        let bound = 4 * self.snapshot.sub_tasks().count() + 4;
        for _ in 0..bound {
            if self.active().is_empty() {
                break;
            }
            self.finish(0, 9);
        }
        assert!(self.active().is_empty(), "it ends");
        assert!(self.snapshot.state.is_at_rest(), "and rests: {:?}", self.snapshot.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_ends_in_order_and_its_log_is_its_state(
        definition in any_definition(),
        acts in prop::collection::vec(any_act(), 0..40),
    ) {
        let mut run = Run::new(definition.clone());
        for act in &acts {
            run.act(act);
            let lock_is_right = !run.snapshot.state.is_final() || !run.snapshot.holds_lock;
            prop_assert!(lock_is_right, "an ended DAG holds no lock");
        }
        run.let_it_end();

        // Recovery of any prefix of the log gives the state that was then.
        let mut replayed = fresh(definition);
        for (index, (event, then)) in run.log.iter().zip(&run.after_each).enumerate() {
            replayed.apply(event, Timestamp::from_second(i64::try_from(index).unwrap() + 1).unwrap()).unwrap();
            prop_assert_eq!(&replayed, then);
        }
    }

    /// From any point of any run: a failure that can be rolled back visits exactly what ran, in reverse.
    #[test]
    fn a_rollback_visits_exactly_what_ran(
        definition in any_definition(),
        acts in prop::collection::vec(any_act(), 0..30),
    ) {
        let mut run = Run::new(definition);
        for act in acts.iter().filter(|a| !matches!(a, Act::Operate(Operator::Rollback))) {
            run.act(act);
        }
        run.let_it_end();
        if let Ok(events) = operate(&run.snapshot, Operator::Rollback) {
            let mut ran: Vec<At> = run.claims.iter().filter(|(_, h)| *h == Heading::Forward).map(|(at, _)| *at).collect();
            ran.sort_unstable();
            ran.dedup();
            run.claims.clear();
            run.take(events);
            run.let_it_end();
            let mut undone: Vec<At> = run.claims.iter().map(|(at, _)| *at).collect();
            prop_assert!(run.claims.iter().all(|(_, heading)| *heading == Heading::Backward));
            undone.sort_unstable();
            prop_assert_eq!(undone, ran);
            prop_assert_eq!(run.snapshot.state, DagState::RolledBack);
            prop_assert_eq!(run.snapshot.stage(), 1);
        }
    }

    /// Crashing after every single commit changes nothing about the end.
    #[test]
    fn a_run_with_a_crash_after_every_commit_ends_the_same(definition in any_definition()) {
        let mut calm = Run::new(definition.clone());
        calm.let_it_end();
        let mut definition = definition;
        for node in &mut definition.nodes {
            node.on_interruption = super::super::Interruption::Rerun;
        }
        let mut shaken = Run::new(definition);
        let bound = 2 * shaken.snapshot.sub_tasks().count() + 2;
        for _ in 0..bound {
            shaken.act(&Act::Crash);
            if shaken.active().is_empty() {
                break;
            }
            shaken.finish(0, 9);
        }
        prop_assert_eq!(shaken.snapshot.state, calm.snapshot.state);
        prop_assert!(shaken.snapshot.sub_tasks().all(|(_, sub)| sub.execute_times == 1));
    }

    #[test]
    fn the_stage_stays_within_the_dag(definition in any_definition(), acts in prop::collection::vec(any_act(), 0..40)) {
        let mut run = Run::new(definition);
        for act in &acts {
            run.act(act);
            prop_assert!((1..=run.snapshot.max_stage()).contains(&run.snapshot.stage()));
        }
    }
}

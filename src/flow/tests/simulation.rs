//! Seeded simulation (`decisions.md` §5): three to five agents, operations from any of them at any time, and everything that
//! can go wrong: agents are killed and come back, hosts are cut off, messages are late, lost, doubled, answered in vain,
//! servers do not start or die by themselves. Among the operations are restarts, which are paused, aborted and cancelled. After
//! every commit and every act on a process the invariants hold; when the faults end, everything ends within a bound.
//!
//! A seed is a whole world: `OBPILOT_SIM_SEED=17 cargo test --lib simulation` runs that one alone, and
//! `OBPILOT_SIM_SEEDS=100000` so many.

use std::time::Duration;

use super::rolling::{restart_of_all, restart_of_server, restart_of_zone};
use super::world::chance::Chance;
use super::world::{World, simulate};
use crate::engine::port::Archive as _;
use crate::engine::{DagState, Operator, Steer, Template};
use crate::flow::handshake::Params;
use crate::flow::peers::Operation;
use crate::flow::{roll, start, stop};
use crate::model::{AgentAddr, DagId, EventId, Scope, StopHow};

/// In every `make test`.
const SEEDS: u64 = 2_000;

/// Faults happen for so long.
const STORM_SECS: u64 = 120;

/// When they have ended, everything ends within this: every limit of the protocol, one after another.
const CALM: Duration = Duration::from_secs(600);

/// A restart waits half an hour for the others to be well, which they need not become; somebody loses patience sooner.
const PATIENCE: Duration = Duration::from_secs(60);

/// Worlds with restarts: one of so many. (They look at the cluster all the time, which takes time.)
const WITH_RESTARTS: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Start,
    Stop,
    Restart,
}

/// One operation that was asked for.
#[derive(Clone, Debug)]
struct Asked {
    on: AgentAddr,
    dag: DagId,
    what: What,
    agents: Vec<AgentAddr>,
    /// What each host had been through when it was asked for.
    before: Vec<usize>,
}

#[test]
fn every_seed_keeps_the_invariants() {
    if let Ok(seed) = std::env::var("OBPILOT_SIM_SEED") {
        return run(seed.parse().expect("a seed is a number"));
    }
    let seeds =
        std::env::var("OBPILOT_SIM_SEEDS").map_or(SEEDS, |text| text.parse().expect("a number of seeds"));
    // On as many threads as there are processors: worlds know nothing of each other.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || (first..seeds).step_by(usize::try_from(threads).unwrap()).for_each(run));
        }
    });
}

fn run(seed: u64) {
    let world = std::panic::catch_unwind(|| simulate(live(seed)));
    if let Err(panic) = world {
        eprintln!("simulation: seed {seed} failed; OBPILOT_SIM_SEED={seed} cargo test --lib simulation");
        std::panic::resume_unwind(panic);
    }
}

async fn live(seed: u64) {
    let chance = Chance::new(seed + 1);
    let agents = u8::try_from(3 + chance.below(3)).unwrap();
    let world = World::new(agents, chance.clone()).await;
    let has_restarts = seed.is_multiple_of(WITH_RESTARTS);
    let mut asked = Vec::new();
    if has_restarts {
        // Where nothing runs there is little to restart.
        for agent in world.agents() {
            world.host(agent).grow();
        }
    }
    let storm = async {
        loop {
            chance.pause(8_000).await;
            something(&world, &chance, has_restarts, &mut asked).await;
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(STORM_SECS), storm).await);
    end_of_faults(&world).await;
    out_of_patience(&world, &asked).await;
    check(&world, &asked).await;
    nothing_is_left_down(&world).await;
    // By the seed: nothing is left to chance any more.
    take_back(&world, &asked, seed.is_multiple_of(2 * WITH_RESTARTS)).await;
    use_again(&world, &asked, has_restarts).await;
}

/// One thing that people or the world do.
async fn something(world: &World, chance: &Chance, has_restarts: bool, asked: &mut Vec<Asked>) {
    let agents = world.agents();
    let one = *chance.one_of(&agents);
    match chance.below(if has_restarts { 14 } else { 12 }) {
        0..=3 => asked.extend(ask(world, chance, has_restarts, one).await),
        4 => world.kill(one),
        5 | 6 => world.start(one).await,
        7 => world.isolate(one),
        8 => world.mend(),
        9 => world.host(one).die(),
        10 => {
            world.host(one).fail_next(1);
        }
        12 | 13 => {
            let restart = asked.iter().rev().find(|one| one.what == What::Restart).cloned();
            if let Some(restart) = restart.filter(|one| world.agent(one.on).is_some()) {
                let wish = *chance.one_of(&[Steer::Pause, Steer::Resume, Steer::Abort]);
                let steer = world.steer(restart.on, restart.dag, wish);
                drop(tokio::time::timeout(Duration::from_secs(5), steer).await);
            }
        }
        _ => {
            let last = asked.last().cloned();
            if let Some(last) = last.filter(|last| world.agent(last.on).is_some()) {
                let cancel = world.operate(last.on, last.dag, Operator::Cancel);
                drop(tokio::time::timeout(Duration::from_secs(5), cancel).await);
            }
        }
    }
}

/// A start, a stop or a restart, of all or of some, now and then with the power to push others aside.
async fn ask(world: &World, chance: &Chance, has_restarts: bool, on: AgentAddr) -> Option<Asked> {
    let force = if chance.once_in(4) { holders(world) } else { Vec::new() };
    let (what, agents, template) = if has_restarts && chance.once_in(3) {
        let params = roll::Params { force_pass: force, ..a_restart(world, chance) };
        (What::Restart, params.agents(), roll::template(on, &params))
    } else {
        let is_start = chance.below(2) == 0;
        let all = world.agents();
        let agents = if chance.once_in(3) { vec![*chance.one_of(&all)] } else { all };
        let is_emergency = is_start && chance.once_in(5);
        let actor = format!("seeded on {on}");
        let params = Params { force, actor, is_emergency, ..start_or_stop(is_start, agents.clone()) };
        let what = if is_start { What::Start } else { What::Stop };
        (what, agents, template_of(on, &params))
    };
    let before = agents.iter().map(|agent| world.host(*agent).history().len()).collect();
    let dag = world.submit(on, template).await.ok()?;
    Some(Asked { on, dag, what, agents, before })
}

fn start_or_stop(is_start: bool, agents: Vec<AgentAddr>) -> Params {
    Params {
        operation: if is_start { Operation::Start } else { Operation::Stop { how: StopHow::Kill } },
        scope: Scope::Server(agents.clone()),
        agents,
        force: Vec::new(),
        actor: "afterwards".to_owned(),
        is_emergency: false,
        is_zone_stop: false,
        remarks: Vec::new(),
    }
}

fn template_of(on: AgentAddr, params: &Params) -> Template {
    if params.operation == Operation::Start {
        start::template(on, params)
    } else {
        stop::template(on, params)
    }
}

/// Of a server, a zone, or the cluster zone by zone; now and then by force, or with a pause between zones.
fn a_restart(world: &World, chance: &Chance) -> roll::Params {
    let (agent, zone) = chance.one_of(&world.zones()).clone();
    let mut params = match chance.below(4) {
        0 => restart_of_server(agent, zone),
        1 => restart_of_zone(agent, zone),
        _ => restart_of_all(world),
    };
    params.options.pause_secs = if chance.once_in(4) { chance.below(40) } else { 0 };
    params.options.server_deadline_secs = Some(60);
    if chance.once_in(5) {
        (params.options.is_forced, params.options.how) = (true, StopHow::Kill);
    }
    params
}

/// Main DAGs that hold something anywhere.
fn holders(world: &World) -> Vec<String> {
    let holders = world.agents().into_iter().filter_map(|agent| world.disk(agent).holder());
    holders.filter_map(|holder| holder.main_dag).collect()
}

async fn end_of_faults(world: &World) {
    world.mend();
    world.chance.calm_down();
    for agent in world.agents() {
        world.host(agent).fail_next(0);
        world.start(agent).await;
    }
}

/// Every main DAG ends, every lock is free, and success was true.
async fn check(world: &World, asked: &[Asked]) {
    let at_rest = || asked.iter().all(|one| world.stored(one.on, one.dag).state.is_at_rest());
    if !world.is_so(CALM, at_rest).await {
        let left = asked.iter().filter(|one| !world.stored(one.on, one.dag).state.is_at_rest());
        for one in left {
            let dag = world.stored(one.on, one.dag);
            eprintln!("{one:?} is {:?}:\n{}", dag.state, world.story(one.on, one.dag).await);
        }
        panic!("a task has not ended {} s after the faults", CALM.as_secs());
    }
    world.until(CALM, "every lock is free", || !world.is_locked()).await;
    for one in asked {
        let ended = world.stored(one.on, one.dag);
        assert!(
            matches!(ended.state, DagState::Succeeded | DagState::Failed),
            "a main DAG waits for nobody: {ended:?}"
        );
        if ended.state != DagState::Succeeded {
            continue;
        }
        for (agent, before) in one.agents.iter().zip(&one.before) {
            // It was so before and stayed so, or it became so meanwhile. A restart is a new life.
            let (history, is_start) = (world.host(*agent).history(), one.what != What::Stop);
            let was = before.checked_sub(1).is_some_and(|last| history[last]) == is_start;
            let became = history[*before..].contains(&is_start);
            assert!(
                became || was && one.what != What::Restart,
                "{one:?} succeeded, but {agent} never was so: {history:?}"
            );
        }
    }
}

/// Who has paused goes on; who waits for what does not come is cancelled in the end.
async fn out_of_patience(world: &World, asked: &[Asked]) {
    let restarts = || asked.iter().filter(|one| one.what == What::Restart);
    for one in restarts() {
        // Refused where nothing was asked for, or nothing is under way.
        drop(world.steer(one.on, one.dag, Steer::Resume).await);
    }
    let is_under_way = |one: &&Asked| !world.stored(one.on, one.dag).state.is_at_rest();
    world.is_so(PATIENCE, || restarts().filter(is_under_way).count() == 0).await;
    for one in restarts().filter(is_under_way) {
        // Only the release may be left: that is not cancelled, and ends by itself.
        drop(world.operate(one.on, one.dag, Operator::Cancel).await);
    }
}

/// Whatever became of a restart: what it has stopped was started, or its start was tried and failed, or somebody else has
/// pushed the restart aside. The record says which.
async fn nothing_is_left_down(world: &World) {
    for agent in world.agents() {
        let Some(owed) = world.host(agent).owed() else { continue };
        let records = world.living(agent).disk.records(Some(owed.part), EventId(0), 10_000).await.unwrap();
        let was_pushed_aside = records.iter().any(|record| record.kind == "audit");
        let story = world.story(agent, owed.part).await;
        let is_told = owed.was_tried && story.contains("it ended at once");
        assert!(
            is_told || was_pushed_aside,
            "{agent} was stopped by {owed:?} and not started again:\n{story}"
        );
    }
}

/// A restart that has failed is taken back, where that is wanted: everything that it stopped runs then.
async fn take_back(world: &World, asked: &[Asked], is_wanted: bool) {
    for one in asked.iter().filter(|one| is_wanted && one.what == What::Restart) {
        // What has to be told by SQL needs somebody who answers.
        let is_heard = world.agents().iter().any(|agent| world.host(*agent).running().is_some());
        if !is_heard || world.stored(one.on, one.dag).state != DagState::Failed {
            continue;
        }
        world.operate(one.on, one.dag, Operator::Rollback).await.unwrap();
        let ended = world.rest(one.on, one.dag).await;
        let story = world.story(one.on, one.dag).await;
        assert_eq!(ended.state, DagState::RolledBack, "{story}");
        let main_dag = world.reference(one.on, one.dag);
        for agent in &one.agents {
            let owed = world.host(*agent).owed().filter(|owed| owed.main_dag == main_dag);
            assert!(owed.is_none(), "{agent} was stopped by {main_dag}, which was taken back: {story}");
        }
        assert!(!world.is_locked(), "{story}");
    }
}

/// And the cluster can be used again: everything starts; what has failed goes on; everything restarts, and stops.
async fn use_again(world: &World, asked: &[Asked], has_restarts: bool) {
    let (on, all) = (world.agents()[0], world.agents());
    let everything = |is_start| Params { scope: Scope::Global, ..start_or_stop(is_start, all.clone()) };
    succeeds(world, on, template_of(on, &everything(true))).await;
    let failed = |one: &&Asked| world.stored(one.on, one.dag).state == DagState::Failed;
    for one in asked.iter().filter(|one| one.what == What::Restart).filter(failed) {
        goes_on(world, one).await;
    }
    if has_restarts {
        restarts(world, on).await;
    }
    succeeds(world, on, template_of(on, &everything(false))).await;
    world.chance.check();
}

/// A roll that halts is taken back, and the next one does not halt.
async fn restarts(world: &World, on: AgentAddr) {
    world.host(*world.agents().last().unwrap()).fail_next(1);
    let halts = world.submit(on, roll::template(on, &restart_of_all(world))).await.unwrap();
    assert_eq!(world.rest(on, halts).await.state, DagState::Failed, "{}", world.story(on, halts).await);
    world.operate(on, halts, Operator::Rollback).await.unwrap();
    assert_eq!(world.rest(on, halts).await.state, DagState::RolledBack, "{}", world.story(on, halts).await);
    whole(world);
    succeeds(world, on, roll::template(on, &restart_of_all(world))).await;
    whole(world);
}

fn whole(world: &World) {
    for agent in world.agents() {
        assert!(world.host(agent).running().is_some(), "{agent} is down after a restart");
    }
    assert_eq!(world.cluster.out_of_service(), [], "after a restart");
}

/// By RETRY, forwards or backwards: once, and once more for each agent that somebody had pushed aside meanwhile.
async fn goes_on(world: &World, one: &Asked) {
    for _ in 0..=one.agents.len() {
        world.operate(one.on, one.dag, Operator::Retry).await.unwrap();
        let has_ended = || world.stored(one.on, one.dag).state.is_at_rest();
        assert!(world.is_so(CALM, has_ended).await, "{}", world.story(one.on, one.dag).await);
        let ended = world.stored(one.on, one.dag);
        if matches!(ended.state, DagState::Succeeded | DagState::RolledBack) {
            return;
        }
        let mut failures = ended.sub_tasks().filter_map(|(_, sub)| sub.failure.as_ref());
        let is_pushed_aside = failures.any(|failure| failure.text.contains("was pushed aside"));
        assert!(is_pushed_aside, "{}", world.story(one.on, one.dag).await);
    }
    panic!("it does not go on: {}", world.story(one.on, one.dag).await);
}

async fn succeeds(world: &World, on: AgentAddr, template: Template) {
    let dag = world.submit(on, template).await.unwrap();
    let ended = world.rest(on, dag).await;
    assert_eq!(ended.state, DagState::Succeeded, "{}", world.story(on, dag).await);
    world.until(CALM, "every lock is free", || !world.is_locked()).await;
}

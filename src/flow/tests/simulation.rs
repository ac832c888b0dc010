//! Seeded simulation (`decisions.md` §5): three to five agents, operations from any of them at any time, and everything that
//! can go wrong: agents are killed and come back, hosts are cut off, messages are late, lost, doubled, answered in vain,
//! servers do not start or die by themselves. After every commit and every act on a process the invariants hold; when the
//! faults end, everything ends within a bound.
//!
//! A seed is a whole world: `OBPILOT_SIM_SEED=17 cargo test --lib simulation` runs that one alone, and
//! `OBPILOT_SIM_SEEDS=100000` so many.

use std::time::Duration;

use super::world::chance::Chance;
use super::world::{World, simulate};
use crate::engine::{DagState, Operator, Template};
use crate::flow::handshake::Params;
use crate::flow::peers::Operation;
use crate::flow::{start, stop};
use crate::model::{AgentAddr, DagId, Scope, StopHow};

/// In every `make test`.
const SEEDS: u64 = 2_000;

/// Faults happen for so long.
const STORM_SECS: u64 = 120;

/// When they have ended, everything ends within this: every limit of the protocol, one after another.
const CALM: Duration = Duration::from_secs(600);

/// One operation that was asked for.
#[derive(Clone, Debug)]
struct Asked {
    on: AgentAddr,
    dag: DagId,
    is_start: bool,
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
    let mut asked = Vec::new();
    let storm = async {
        loop {
            chance.pause(8_000).await;
            something(&world, &chance, &mut asked).await;
        }
    };
    drop(tokio::time::timeout(Duration::from_secs(STORM_SECS), storm).await);
    end_of_faults(&world).await;
    check(&world, &asked).await;
}

/// One thing that people or the world do.
async fn something(world: &World, chance: &Chance, asked: &mut Vec<Asked>) {
    let agents = world.agents();
    let one = *chance.one_of(&agents);
    match chance.below(12) {
        0..=3 => asked.extend(ask(world, chance, one).await),
        4 => world.kill(one),
        5 | 6 => world.start(one).await,
        7 => world.isolate(one),
        8 => world.mend(),
        9 => world.host(one).die(),
        10 => {
            world.host(one).fail_next(1);
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

/// A start or stop, of all or of some, now and then with the power to push others aside.
async fn ask(world: &World, chance: &Chance, on: AgentAddr) -> Option<Asked> {
    let is_start = chance.below(2) == 0;
    let all = world.agents();
    let agents: Vec<_> = match chance.below(3) {
        0 => vec![*chance.one_of(&all)],
        _ => all.clone(),
    };
    let operation = if is_start { Operation::Start } else { Operation::Stop { how: StopHow::Kill } };
    let force = if chance.once_in(4) { holders(world) } else { Vec::new() };
    let params = Params {
        operation,
        scope: Scope::Server(agents.clone()),
        agents: agents.clone(),
        force,
        actor: format!("seeded on {on}"),
        is_emergency: is_start && chance.once_in(5),
        is_zone_stop: false,
        remarks: Vec::new(),
    };
    let template: Template =
        if is_start { start::template(on, &params) } else { stop::template(on, &params) };
    let before = agents.iter().map(|agent| world.host(*agent).history().len()).collect();
    let dag = world.submit(on, template).await.ok()?;
    Some(Asked { on, dag, is_start, agents, before })
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
            // It was so before and stayed so, or it became so meanwhile.
            let history = world.host(*agent).history();
            let was = before.checked_sub(1).is_some_and(|last| history[last]);
            let became = history[*before..].contains(&one.is_start);
            assert!(
                was == one.is_start || became,
                "{one:?} succeeded, but {agent} never was so: {history:?}"
            );
        }
    }
    // And the cluster can be used again.
    for is_start in [true, false] {
        let params = Params {
            operation: if is_start { Operation::Start } else { Operation::Stop { how: StopHow::Kill } },
            scope: Scope::Global,
            agents: world.agents(),
            force: Vec::new(),
            actor: "afterwards".to_owned(),
            is_emergency: false,
            is_zone_stop: false,
            remarks: Vec::new(),
        };
        let on = world.agents()[0];
        let template = if is_start { start::template(on, &params) } else { stop::template(on, &params) };
        let dag = world.submit(on, template).await.unwrap();
        let ended = world.rest(on, dag).await;
        assert_eq!(ended.state, DagState::Succeeded, "{}", world.story(on, dag).await);
    }
}

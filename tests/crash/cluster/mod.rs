//! Flows over three agents: the one that coordinates, or another one, is killed at every crash point that it reaches.
//!
//! The agents and the kills are real, the servers are stand-ins. A cluster is formed once and serves for many trials: a
//! start leaves what the next stop begins with. An init needs a cluster that has none yet: its files are laid back as they
//! were before it.

mod checks;
mod flows;
mod trial;

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::trial::Kill;
use crate::{Sums, TURN, words_of};
use flows::{Flow, Victim};
use trial::Trial;

const HOSTS: usize = 3;

/// Clusters at once.
const WORKERS: usize = 3;

#[test]
fn start_and_stop_whose_coordinator_dies() {
    run_matrix(&[Flow::Start, Flow::Stop], Victim::Coordinator);
}

#[test]
fn start_and_stop_one_of_whose_participants_dies() {
    run_matrix(&[Flow::Start, Flow::Stop], Victim::Participant);
}

#[test]
fn stop_of_another_hosts_server_whose_coordinator_dies() {
    run_matrix(&[Flow::StopOther], Victim::Coordinator);
}

#[test]
fn init_of_three_hosts_whose_coordinator_dies() {
    run_matrix(&[Flow::Init], Victim::Coordinator);
}

#[test]
fn scale_out_and_in_whose_coordinator_dies() {
    run_matrix(&[Flow::ScaleOut, Flow::ScaleIn], Victim::Coordinator);
}

#[test]
fn scale_out_and_in_whose_new_host_dies() {
    run_matrix(&[Flow::ScaleOut, Flow::ScaleIn], Victim::Newcomer);
}

#[test]
fn take_over_whose_coordinator_dies() {
    run_matrix(&[Flow::TakeOver], Victim::Coordinator);
}

#[test]
fn take_over_one_of_whose_followers_dies() {
    run_matrix(&[Flow::TakeOver], Victim::Participant);
}

#[test]
fn restarts_whose_coordinator_dies() {
    run_matrix(RESTARTS, Victim::Coordinator);
}

#[test]
fn restarts_one_of_whose_participants_dies() {
    run_matrix(RESTARTS, Victim::Participant);
}

const RESTARTS: &[Flow] = &[Flow::RestartAll, Flow::RestartOther, Flow::RestartZone];

/// What is tried on one cluster one after the other.
type Turn = Vec<(Flow, Kill)>;

/// How many points a flow reaches, and at how many of them it is tried.
type Points = HashMap<Flow, (usize, usize)>;

/// What became of the trials.
#[derive(Default)]
struct Results {
    sums: HashMap<Flow, Sums>,
    broken: Vec<(Flow, String)>,
}

impl Results {
    fn add(&mut self, other: Self) {
        for (flow, sums) in other.sums {
            let known = self.sums.entry(flow).or_default();
            *known = known.plus(sums);
        }
        self.broken.extend(other.broken);
    }
}

fn run_matrix(flows: &'static [Flow], victim: Victim) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let begun = Instant::now();
    let (sender, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let workers: Vec<_> = (1..WORKERS)
        .map(|_| {
            let receiver = Arc::clone(&receiver);
            std::thread::spawn(move || work(Trial::new(flows, victim), flows, victim, &receiver))
        })
        .collect();
    // The others form their clusters meanwhile. If this fails, the sender goes with it, and they end.
    let mut trial = Trial::new(flows, victim);
    let points = trace(&mut trial, flows, sender);
    let mut results = work(trial, flows, victim, &receiver);
    for worker in workers {
        results.add(worker.join().unwrap());
    }
    for flow in flows {
        tell(*flow, victim, points[flow], &results);
    }
    println!("crash matrix: {flows:?} of {HOSTS} agents took {:.0} s", begun.elapsed().as_secs_f64());
    let broken: Vec<_> = results.broken.iter().map(|(flow, text)| format!("  {flow:?} {text}")).collect();
    assert!(broken.is_empty(), "{victim:?}:\n{}", broken.join("\n"));
    for flow in flows {
        let (Sums { kills, retried, .. }, tried) = (results.sums[flow], points[flow].1);
        assert!(kills * 2 >= tried, "{flow:?}, {victim:?}: only {kills} of {tried} points were met");
        // An agent that takes long to come back may be missed; that is no rule.
        assert!(retried * 10 <= kills, "{flow:?}, {victim:?}: {retried} of {kills} failed at first");
    }
}

/// Finds the points, and hands out what is to be tried at them.
fn trace(trial: &mut Trial, flows: &[Flow], sender: Sender<Turn>) -> Points {
    let mut points = Points::new();
    let mut turns: Vec<Turn> = Vec::new();
    for flow in flows {
        let kills = trial.traced(*flow);
        assert!(!kills.is_empty(), "{flow:?} reaches no crash point: the feature is off or it does nothing");
        let all = kills.len();
        let kills = flow.chosen(kills);
        points.insert(*flow, (all, kills.len()));
        turns.resize(turns.len().max(kills.len()), Turn::new());
        turns.iter_mut().zip(kills).for_each(|(turn, kill)| turn.push((*flow, kill)));
    }
    turns.into_iter().for_each(|turn| sender.send(turn).unwrap());
    points
}

/// One cluster for as many trials as it can take.
fn work(mut trial: Trial, flows: &[Flow], victim: Victim, turns: &Mutex<Receiver<Turn>>) -> Results {
    let mut results = Results::default();
    loop {
        let next = turns.lock().unwrap().recv();
        let Ok(turn) = next else { return results };
        for (flow, kill) in turn {
            let tried =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trial.killed_at(flow, &kill)));
            match tried {
                Ok(sums) => results.add(Results { sums: HashMap::from([(flow, sums)]), broken: Vec::new() }),
                Err(panic) => {
                    results.broken.push((flow, format!("killed at {kill}: {}", words_of(&*panic))));
                    trial = Trial::new(flows, victim);
                }
            }
        }
    }
}

fn tell(flow: Flow, victim: Victim, (all, tried): (usize, usize), results: &Results) {
    let sums = results.sums.get(&flow).copied().unwrap_or_default();
    let of_all = if all == tried { String::new() } else { format!(" of {all}") };
    println!(
        "crash matrix: {:<32} {tried:>3}{of_all} points, {:>3} kills, {:>3} interrupted a step and said so, {:>3} retried, {:>3} bad, {:.0} s",
        format!("Cluster {flow:?}, {victim:?}"),
        sums.kills,
        sums.told,
        sums.retried,
        results.broken.iter().filter(|(broken, _)| *broken == flow).count(),
        // Its share of the time: the trials of several clusters went on at once.
        sums.spent.as_secs_f64() / WORKERS as f64,
    );
}

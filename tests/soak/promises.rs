//! What SUCCEED promised, held against what the stand-ins have written down. Only what the journal proves wrong counts: a
//! process that was killed leaves no word of its end.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::journal::Journal;
use crate::orders::Promise;
use crate::world::Made;

/// The agent hears of a change a moment before the stand-in has written it down.
const MOMENT: Duration = Duration::from_millis(200);

/// Why a task that succeeded was wrong about it.
pub(crate) fn broken(journal: &Journal, made: &Made, dag: &Value) -> Option<String> {
    if dag["obpilot"]["state"] != "succeeded" || was_passed(dag) {
        return None;
    }
    let end = dag["end_time"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let (from, until) = (made.asked, end? + MOMENT);
    let is_broken = |host: &usize| !holds(journal, made.promise, *host, from, until);
    let broken: Vec<_> = made.hosts.iter().filter(|host| is_broken(host)).map(|host| host + 1).collect();
    if broken.is_empty() {
        return None;
    }
    let lives: Vec<_> = journal
        .lives
        .iter()
        .filter(|life| made.hosts.contains(&life.host) && life.last > from - Duration::from_secs(60))
        .map(|life| {
            let ended = life
                .ended
                .map_or_else(|| "nothing is known of its end".to_owned(), |at| format!("ended {at}"));
            let served = life.served.map_or_else(|| "never served".to_owned(), |at| format!("served {at}"));
            format!(
                "host {} pid {}: began {}, {served}, last word {}, {ended}",
                life.host + 1,
                life.pid,
                life.began,
                life.last
            )
        })
        .collect();
    let (promise, words) = (made.promise, &made.words);
    Some(format!(
        "SUCCEED between {from} and {until} promised {promise:?} of hosts {broken:?}, and the journal says otherwise: \
         {words}\n  {}",
        lives.join("\n  ")
    ))
}

fn holds(journal: &Journal, promise: Promise, host: usize, from: Timestamp, until: Timestamp) -> bool {
    let mut lives = journal.lives.iter().filter(|life| life.host == host);
    match promise {
        Promise::Serving => lives.any(|life| {
            let is_over = journal.end_of(life).is_some_and(|end| end < from - MOMENT);
            life.served.is_some_and(|served| served <= until) && !is_over
        }),
        Promise::Restarted => {
            lives.any(|life| life.began >= from && life.served.is_some_and(|served| served <= until))
        }
        Promise::Stopped => !lives.any(|life| life.began < from && life.last > until),
        Promise::OutOfService => journal.was_out(host, from, until),
    }
}

/// Somebody said that a step counts as done.
fn was_passed(dag: &Value) -> bool {
    let nodes = dag["nodes"].as_array().into_iter().flatten();
    nodes
        .flat_map(|node| node["sub_tasks"].as_array().into_iter().flatten().chain([node]))
        .any(|one| one["operator"] == "PASS")
}

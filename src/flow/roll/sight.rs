//! What is looked at: the cluster in its own eyes, an agent and its server; and what stands in the way of taking servers away.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::params::{Block, Hand, Isolation, Params, Verb};
use crate::cluster::ClusterView;
use crate::config::EngineKind;
use crate::engine::StepCtx;
use crate::error::{Code, Error, Result};
use crate::flow::catalog::Ports;
use crate::flow::peers::Facts;
use crate::flow::ports::Progress;
use crate::flow::zones;
use crate::model::{AgentAddr, ServerAddr, Timestamp};

/// For an agent to tell how its server is.
const FACTS_LIMIT: Duration = Duration::from_secs(5);

/// For one look at the cluster.
const VIEW_LIMIT: Duration = Duration::from_secs(10);

/// Between two looks: soon first, because most of what is waited for is there in a moment.
const SOON: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Looks in a row that must find a server down, and the pause before each: an agent that was just started has not looked yet.
const DOWN_LOOKS: u32 = 5;
const DOWN_PAUSE: Duration = Duration::from_secs(3);

/// Kept of a step's time for its own end.
const MARGIN: Duration = Duration::from_secs(5);

/// One life of a server's process; nothing when it does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life(Option<(i32, Option<Timestamp>)>);

impl Life {
    pub(super) fn of(facts: &Facts) -> Self {
        Self(facts.process.map(|pid| (pid, facts.process_since)))
    }

    pub(super) fn runs(&self) -> bool {
        self.0.is_some()
    }
}

/// What an agent tells of itself and its server.
///
/// # Errors
/// That it is not reached.
pub(super) async fn facts(ports: &Ports, agent: AgentAddr) -> Result<Facts> {
    ports.peers.facts(agent, FACTS_LIMIT).await
}

/// The cluster in its own eyes, through whichever server answers. Engine seekdb has no such view.
///
/// # Errors
/// That nobody answers now.
pub(super) async fn view(ports: &Ports, ctx: &StepCtx) -> Result<Option<ClusterView>> {
    match ports.engine {
        EngineKind::Seekdb => Ok(None),
        EngineKind::Observer => zones::glance_view(ports, VIEW_LIMIT, ctx).await.map(Some),
    }
}

/// How a server was when its turn came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) life: Life,
    /// Since when the cluster said that it serves. A server that comes back soon is still called so for its last life.
    pub(super) served_since: Option<String>,
}

impl Before {
    pub(super) fn of(ctx: &StepCtx, agent: AgentAddr) -> Self {
        let mut found =
            ctx.inputs_of("roll.prepare_server").filter(|input| input.agent == agent && input.is_done);
        found.next().and_then(|input| serde_json::from_value(input.data.clone()).ok()).unwrap_or_default()
    }
}

/// What these servers lack in order to serve: their agents must reach them by SQL, and the cluster must call them active, for
/// their present lives.
pub(super) async fn lacks(ports: &Ports, ctx: &StepCtx, hands: &[&Hand]) -> Option<String> {
    let seen = join_all(hands.iter().map(|hand| facts(ports, hand.agent)));
    let (seen, view) = tokio::join!(seen, view(ports, ctx));
    let missing = hands.iter().zip(seen).filter_map(|(hand, seen)| lack(ctx, hand, seen, view.as_ref()));
    all_of(missing)
}

fn lack(
    ctx: &StepCtx,
    hand: &Hand,
    seen: Result<Facts>,
    view: Result<&Option<ClusterView>, &Error>,
) -> Option<String> {
    let Hand { agent, server, .. } = hand;
    let before = Before::of(ctx, *agent);
    let life = match seen {
        Err(error) => return Some(format!("{agent} is not reached: {error}")),
        Ok(facts) if facts.ob_state < 3 => return Some(format!("{server} is {}", facts.in_words())),
        Ok(facts) => Life::of(&facts),
    };
    let is_new_life = before.life.runs() && life != before.life;
    match view {
        Err(error) => Some(error.text().to_owned()),
        Ok(None) => None,
        Ok(Some(view)) => match view.server(*server) {
            None => Some(format!("{server} is no server of the cluster")),
            Some(row) if !row.status.eq_ignore_ascii_case("ACTIVE") => {
                Some(format!("the cluster calls {server} {}", row.status))
            }
            Some(row) if row.started.is_none() => Some(format!("{server} does not serve yet")),
            Some(row) if is_new_life && row.started == before.served_since => {
                Some(format!("the cluster has not seen yet that {server} runs anew"))
            }
            Some(_) => None,
        },
    }
}

/// What is missing in one sentence; nothing when nothing is.
pub(super) fn all_of(missing: impl IntoIterator<Item = String>) -> Option<String> {
    let missing: Vec<_> = missing.into_iter().collect();
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// Looks until nothing is missing. The database announces none of this; what is missing is told once, and again when it changes.
///
/// # Errors
/// What is still missing when the step's time is over, under the given code.
pub(super) async fn until_nothing<F>(
    ctx: &StepCtx,
    what: &str,
    code: Code,
    mut missing: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Option<String>>,
{
    until_no_error(ctx, what, || {
        let missing = missing();
        async move { missing.await.map(|text| Error::new(code, text)) }
    })
    .await
}

/// The same for what has codes of its own.
///
/// # Errors
/// What still stood in the way when the step's time was over, under its own code.
pub(super) async fn until_no_error<F>(
    ctx: &StepCtx,
    what: &str,
    mut hindrance: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Option<Error>>,
{
    let limit = ctx.allowed().saturating_sub(MARGIN).max(ctx.allowed() / 2);
    let mut last: Option<Error> = None;
    let looking = async {
        let mut pause = SOON;
        while let Some(now) = hindrance().await {
            if last.is_none() {
                ctx.log_wait(what, limit);
            }
            if last.as_ref().is_none_or(|last| last.headline() != now.headline()) {
                ctx.info(&format!("not yet: {}", now.text()));
            }
            last = Some(now);
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST);
        }
        Ok(())
    };
    let looked = tokio::time::timeout(limit, ctx.waiting(looking)).await;
    looked.unwrap_or_else(|_| {
        let (code, told) =
            last.map_or((Code::ExecuteTimeout, String::new()), |last| (last.code, last.text().to_owned()));
        Err(Error::new(code, format!("{what}: not so after {} s: {told}", limit.as_secs())))
    })
}

/// Waits for what needs these servers, for as long as they run. One that has ended stays down while this task holds its agent,
/// since nobody else may start it: what waits for it would wait in vain, and keep the restart policy and operators from it.
///
/// # Errors
/// Those of the waiting; which server has ended.
pub(super) async fn while_they_run(
    ports: &Ports,
    ctx: &StepCtx,
    verb: Verb,
    hands: &[&Hand],
    waiting: impl Future<Output = Result<()>>,
) -> Result<()> {
    if verb == Verb::Stop {
        return waiting.await;
    }
    tokio::select! {
        biased;
        done = waiting => done,
        down = kept_down(ports, ctx, hands) => Err(Error::new(
            Code::ServerNotReady,
            format!("{} has ended, and nobody starts it while {} is held for this task", down.server, down.agent),
        )),
    }
}

/// The first of them that does not run and is held for this task, look after look.
async fn kept_down<'a>(ports: &Ports, ctx: &StepCtx, hands: &[&'a Hand]) -> &'a Hand {
    let mut looks = vec![0; hands.len()];
    loop {
        tokio::time::sleep(DOWN_PAUSE).await;
        let seen = join_all(hands.iter().map(|hand| facts(ports, hand.agent))).await;
        for ((seen, hand), count) in seen.into_iter().zip(hands).zip(&mut looks) {
            let is_ours = |seen: &Facts| seen.held_by.as_ref().is_some_and(|by| *by.id == *ctx.dag_ref);
            let is_down = seen.is_ok_and(|seen| seen.process.is_none() && is_ours(&seen));
            *count = if is_down { *count + 1 } else { 0 };
            if *count == DOWN_LOOKS {
                return hand;
            }
        }
    }
}

/// The hand of a step that is about one server.
pub(super) fn hand_of<'a>(params: &'a Params, ctx: &StepCtx) -> Result<&'a Hand> {
    params.hand(ctx.agent).ok_or_else(|| Error::unexpected("a step is about no server of its task"))
}

/// The servers of a block that lie in the zone of this agent; of a single server's order, that one.
pub(super) fn hands_beside(params: &Params, agent: AgentAddr) -> Vec<&Hand> {
    let Some(hand) = params.hand(agent) else { return params.hands().collect() };
    params.hands().filter(|other| other.zone == hand.zone).collect()
}

/// What cannot be judged: nothing is seen of the log streams, or what the database calls its servers is not what we do.
fn unknown(view: &ClusterView, block: &Block) -> Option<Error> {
    if view.replicas.is_empty() {
        let text = "the database tells of no log stream, so nothing is known of them; use force";
        return Some(Error::new(Code::ForceStopRequired, text));
    }
    let is_listed = |hand: &&Hand| view.server(hand.server).is_some_and(|row| row.zone == hand.zone);
    let strange = block.hands.iter().find(|hand| !is_listed(hand))?;
    let text = format!(
        "the cluster lists no server {} in zone {}, so nothing is known of what it holds; use force",
        strange.server, strange.zone
    );
    Some(Error::new(Code::ServerNotExist, text))
}

/// The servers that go out of service; with their zone also those that have no agent.
fn leaving(view: &ClusterView, block: &Block) -> Vec<ServerAddr> {
    let mut servers: Vec<_> = block.hands.iter().map(|hand| hand.server).collect();
    if block.isolation == Isolation::Zone {
        let beside = view.servers.iter().filter(|row| block.zones.contains(&row.zone));
        servers.extend(beside.map(|row| row.server));
    }
    servers
}

/// Why this block must not be taken away now. A roll asks more than a single order: everything elsewhere must be well, or the
/// next block would begin with less than this one.
pub fn dangers(view: &ClusterView, block: &Block, is_roll: bool) -> Option<Error> {
    if let Some(unknown) = unknown(view, block) {
        return Some(unknown);
    }
    let losses = zones::losses(view, &leaving(view, block));
    if !losses.is_empty() {
        return Some(zones::majority_error(&losses));
    }
    let stopped = view.stopped_elsewhere(&block.zones);
    if !stopped.is_empty() {
        let text = format!(
            "something is stopped in another zone already: {}; start that first, or use force",
            stopped.join(", ")
        );
        return Some(Error::new(Code::StoppedInMultiZone, text));
    }
    let rows =
        view.servers.iter().filter(|row| is_roll && !block.zones.contains(&row.zone) && !row.is_well());
    let unwell: Vec<_> = rows.map(|row| format!("{} of zone {}", row.server, row.zone)).collect();
    if unwell.is_empty() {
        return None;
    }
    let text = format!(
        "not in service: {}; a roll goes on only while everything else serves, or use force",
        unwell.join(", ")
    );
    Some(Error::new(Code::StoppedInMultiZone, text))
}

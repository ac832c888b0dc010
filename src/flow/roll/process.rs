//! What the agents do: the process ends, begins, serves (`ocp-v2.md` §5.2).

use std::time::Duration;

use super::hands::{Copied, Reins, Until, operation};
use super::params::{Params, Verb};
use super::prepare::{block_of, is_free, nothing, until_safe};
use super::sight::{
    self, Before, Life, all_of, facts, hand_of, hands_beside, lacks, until_nothing, while_they_run,
};
use crate::engine::{Outcome, Registry, StepCtx};
use crate::error::{Code, Error, Result};
use crate::flow::catalog::Ports;
use crate::flow::peers::{Operation, Progressed};
use crate::flow::ports::Progress;
use crate::flow::step::step;
use crate::model::{EventId, StopHow};

const SPAN: Duration = Duration::from_secs(1_800);

const STOPPED: &str = "roll.stop_process";

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(StopProcess(ports.clone()));
    registry.add(WaitStopped(ports.clone()));
    registry.add(StartProcess(ports.clone()));
    registry.add(WaitActive(ports.clone()));
    registry.add(WaitAccessible(ports.clone()));
    registry.add(AgentAnswers(ports.clone()));
}

step!(
    /// `Stop observer process`: the process that was found at the beginning has ended.
    StopProcess, "roll.stop_process", "CTXPB", SPAN, stop_process, start_again
);

step!(
    /// `Wait observer stop`: the cluster knows it, too.
    WaitStopped, "roll.wait_stopped", "CTXPB", SPAN, wait_stopped, nothing
);

step!(
    /// `Start observer process`: it runs and listens.
    StartProcess, "roll.start_process", "CTXPB", SPAN, start_process, stop_again
);

step!(
    /// `Wait observer active`: SQL answers, and the cluster calls it active and serving.
    WaitActive, "roll.wait_active", "CTXPB", SPAN, wait_active, nothing
);

step!(
    /// `Wait observer accessible`: SQL answers. The cluster may be half up, so it is not asked.
    WaitAccessible, "roll.wait_accessible", "CTXPB", SPAN, wait_accessible, nothing
);

step!(
    /// `Start ocp agent service`: the agent is us; it answers and tells of its server.
    AgentAnswers, "roll.agent", "CTXPB", SPAN, agent_answers, nothing
);

async fn stop_process(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let reins = Reins::of(ports, ctx, &params, ctx.agent);
    let copied = ctx.note::<Copied>();
    // What a lost coordinator's part has done by itself is done: the process is another one, or none.
    let seen = ctx.waiting(facts(ports, ctx.agent)).await;
    let now = seen.as_ref().ok().map(Life::of);
    let before = Before::of(ctx, ctx.agent).life;
    let is_gone = now.is_some_and(|now| !now.runs() || (before.runs() && now != before));
    if is_gone && copied.is_none() {
        // It may be an earlier execution that has ended it, and its note is gone: the undo goes by how it was found.
        if before.runs() {
            ctx.save_note(Copied { until: EventId(0) }).await?;
        }
        ctx.info("its process has ended already");
        return Outcome::with(Copied { until: EventId(0) });
    }
    let part = reins.seize(&operation(&params)).await?;
    if copied.is_none() {
        // From here on the undo has something to take back.
        ctx.save_note(Copied { until: EventId(0) }).await?;
    }
    if is_gone && part.progressed == Progressed::Prepared {
        ctx.info("its process has ended");
        return Outcome::with(Copied { until: EventId(0) });
    }
    if part.progressed == Progressed::Prepared {
        still_safe(ports, ctx, &params).await?;
    }
    let led = reins.lead(Until::Halfway, EventId(0)).await?;
    Outcome::with(led)
}

/// The last moment to look: a RETRY, or a coordinator that was away, may come to this hours after the zone was found to be
/// dispensable.
async fn still_safe(ports: &Ports, ctx: &StepCtx, params: &Params) -> Result<()> {
    if is_free(params) {
        return Ok(());
    }
    until_safe(ports, ctx, params, block_of(params, ctx)?).await
}

/// What this step has stopped is started; what runs again is left as it is.
async fn start_again(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let params: Params = ctx.params()?;
    if ctx.note::<Copied>().is_none() {
        return Ok(());
    }
    let reins = Reins::of(ports, ctx, &params, ctx.agent);
    if let Some(part) = reins.look().await?
        && matches!(part.progressed, Progressed::Halfway | Progressed::Running)
    {
        reins.lead(Until::Done, part.version).await?;
        if params.verb == Verb::Restart {
            return reins.end().await;
        }
    }
    if ctx.waiting(facts(ports, ctx.agent)).await?.process.is_some() {
        ctx.info("it runs");
        return Ok(());
    }
    let hand = hand_of(&params, ctx)?;
    Reins::for_undo(ports, ctx, &params, ctx.agent).apart(&Operation::Launch).await?;
    ctx.info(&format!("{} is started again", hand.server));
    Ok(())
}

/// Nobody answers who could tell that nobody is there: then the end of the process says enough.
async fn wait_stopped(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let hand = hand_of(&params, ctx)?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    until_nothing(ctx, "the cluster to see that it has stopped", Code::StopFailed, || async {
        match sight::view(ports, ctx).await {
            Ok(Some(view)) => {
                let row = view.server(hand.server);
                let is_active = row.is_some_and(|row| row.status.eq_ignore_ascii_case("ACTIVE"));
                is_active.then(|| format!("the cluster still calls {} ACTIVE", hand.server))
            }
            Ok(None) | Err(_) => match facts(ports, ctx.agent).await {
                Ok(seen) => seen.process.map(|pid| format!("process {pid} runs")),
                Err(error) => Some(error.text().to_owned()),
            },
        }
    })
    .await?;
    ctx.info(&format!("{} has stopped in the eyes of the cluster", hand.server));
    Outcome::done()
}

async fn start_process(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let reins = Reins::of(ports, ctx, &params, ctx.agent);
    let copied = ctx.inputs_of(STOPPED).find(|input| input.agent == ctx.agent && input.is_done);
    let copied = copied.and_then(|input| serde_json::from_value::<Copied>(input.data.clone()).ok());
    let copied = copied.map_or(EventId(0), |copied| copied.until);
    let now = Life::of(&ctx.waiting(facts(ports, ctx.agent)).await?);
    let part = reins.look().await?;
    let is_under_way = part.as_ref().is_some_and(|part| {
        matches!(part.progressed, Progressed::Running | Progressed::Halfway | Progressed::Done)
    });
    if now.runs() && !is_under_way {
        match (params.verb, now == Before::of(ctx, ctx.agent).life) {
            (Verb::Restart, true) => ctx.warn("its old process still runs, and was left as it is"),
            (Verb::Restart | Verb::Start | Verb::Stop, _) => ctx.info("it runs"),
        }
        return Outcome::done();
    }
    ctx.save_note(Copied { until: copied }).await?;
    let wanted =
        if params.verb == Verb::Restart && part.is_some_and(|part| part.progressed == Progressed::Prepared) {
            operation(&params)
        } else {
            Operation::Launch
        };
    reins.seize(&wanted).await?;
    if let Err(error) = reins.lead(Until::Done, copied).await {
        still_starting(ports, ctx, error).await?;
    }
    Outcome::done()
}

/// A start that takes longer than its agent waits is no failure while the process lives: the next node waits on, for as long
/// as it was given.
async fn still_starting(ports: &Ports, ctx: &StepCtx, error: Error) -> Result<()> {
    let is_late = error.code == Code::StartFailed && !ctx.token.is_cancelled();
    if !is_late || !facts(ports, ctx.agent).await.is_ok_and(|seen| seen.process.is_some()) {
        return Err(error);
    }
    ctx.warn(&format!("{}; it is waited for further", error.text()));
    Ok(())
}

/// Only what a start has started. After a restart, running is how it was.
async fn stop_again(ports: &Ports, ctx: &StepCtx) -> Result<()> {
    let params: Params = ctx.params()?;
    if params.verb != Verb::Start || ctx.note::<Copied>().is_none() {
        return Ok(());
    }
    let grace_secs = ports.limits.stop_grace.as_secs();
    let stop = Operation::Stop { how: StopHow::Graceful { grace_secs } };
    Reins::for_undo(ports, ctx, &params, ctx.agent).apart(&stop).await
}

async fn wait_active(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    let hands = hands_beside(&params, ctx.agent);
    let active =
        until_nothing(ctx, "its servers to be active", Code::ServerNotReady, || lacks(ports, ctx, &hands));
    while_they_run(ports, ctx, params.verb, &hands, active).await?;
    ctx.info("its servers are active");
    Outcome::done()
}

async fn wait_accessible(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    // A start of the whole cluster waits once, for all.
    let hands: Vec<_> = match params.verb {
        Verb::Start => params.hands().collect(),
        Verb::Stop | Verb::Restart => hands_beside(&params, ctx.agent),
    };
    let accessible = until_nothing(ctx, "its servers to answer SQL", Code::ServerNotReady, || async {
        let looks = hands.iter().map(|hand| async {
            match facts(ports, hand.agent).await {
                Ok(seen) if seen.ob_state >= 2 => None,
                Ok(seen) => Some(format!("{} is {}", hand.server, seen.in_words())),
                Err(error) => Some(format!("{} is not reached: {error}", hand.agent)),
            }
        });
        all_of(futures_util::future::join_all(looks).await.into_iter().flatten())
    });
    while_they_run(ports, ctx, params.verb, &hands, accessible).await?;
    ctx.info("its servers answer SQL");
    Outcome::done()
}

async fn agent_answers(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let params: Params = ctx.params()?;
    let _held = ports.keeper.hold(&ctx.dag_ref, &params.agents());
    until_nothing(ctx, "its agent to answer", Code::RpcRequestFailed, || async {
        match facts(ports, ctx.agent).await {
            Ok(seen) => {
                ctx.info(&format!("{} answers; its server is {}", ctx.agent, seen.server));
                None
            }
            Err(error) => Some(error.text().to_owned()),
        }
    })
    .await?;
    Outcome::done()
}

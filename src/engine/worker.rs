//! One execution of one step: its deadline, its cancellation, its panic.
//!
//! Invariant: whatever the step does, an execution ends; when it has ended, no code of it runs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::event::{Failure, Output};
use super::port::Level;
use super::state::Heading;
use super::step::{Outcome, Step, StepCtx};
use crate::error::{Code, Error, Result};
use crate::tasks::panic_text;

/// What a step gets to end by itself after it was told to stop; then it is dropped at its next `await`.
const STOP_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum Ended {
    Done(Outcome),
    Failed(Failure),
    /// Stopped because the DAG was cancelled.
    Stopped,
}

pub(super) async fn execute(
    step: Arc<dyn Step>,
    ctx: Arc<StepCtx>,
    heading: Heading,
    deadline: Duration,
) -> Ended {
    let work = AssertUnwindSafe(work(&*step, &ctx, heading)).catch_unwind();
    tokio::pin!(work);
    tokio::select! {
        biased;
        ended = &mut work => conclude(ended.unwrap_or_else(|panic| Err(panicked(&*panic))), &ctx),
        () = ctx.token.cancelled() => {
            let ended = tokio::time::timeout(STOP_GRACE, &mut work).await;
            conclude_cancelled(ended.ok().map(|e| e.unwrap_or_else(|panic| Err(panicked(&*panic)))), &ctx)
        }
        () = tokio::time::sleep(deadline) => {
            ctx.token.cancel();
            // How it ends now does not matter, only that it does.
            let ended = tokio::time::timeout(STOP_GRACE, &mut work).await;
            tracing::debug!(dag = %ctx.dag, was_dropped = ended.is_err(), "a step was ended by its deadline");
            fail(&overdue(deadline), &ctx)
        }
    }
}

async fn work(step: &dyn Step, ctx: &StepCtx, heading: Heading) -> Result<Outcome> {
    match heading {
        Heading::Forward => step.run(ctx).await,
        Heading::Backward => step.undo(ctx).await.map(|()| Outcome::Done(Output::default())),
    }
}

fn conclude(result: Result<Outcome>, ctx: &StepCtx) -> Ended {
    match result {
        Ok(outcome) => Ended::Done(outcome),
        Err(error) => fail(&error, ctx),
    }
}

/// Done is done, also when the cancel came first; everything else has stopped.
fn conclude_cancelled(result: Option<Result<Outcome>>, ctx: &StepCtx) -> Ended {
    match result {
        Some(Ok(Outcome::Done(output))) => Ended::Done(Outcome::Done(output)),
        Some(Err(error)) => {
            ctx.log(Level::Info, format!("stopped while cancelling: {error}"));
            Ended::Stopped
        }
        Some(Ok(Outcome::Wait)) | None => Ended::Stopped,
    }
}

fn fail(error: &Error, ctx: &StepCtx) -> Ended {
    tracing::info!(dag = %ctx.dag, node = %ctx.node_name, agent = %ctx.agent, code = error.code.name(), cause = %error.chain(), "a step failed");
    Ended::Failed(Failure::from(error))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    Error::unexpected(format!(
        "the step hit a defect of the agent and was ended: {}; please report it with this task's log",
        panic_text(panic)
    ))
}

fn overdue(deadline: Duration) -> Error {
    Error::new(
        Code::ExecuteTimeout,
        format!("the step was not done after {} s and was ended", deadline.as_secs()),
    )
}

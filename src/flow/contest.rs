//! PREPARE against a competitor: two operations that want the same agents at the same time.
//!
//! Rule: of two whose parts are only prepared, the one with the higher id withdraws (W41). It is refused where the other was
//! first, and releases what it has; whoever comes before it waits for that.
//!
//! Not here: the agent that is asked, which refuses one and waits for the other (`participant`).

use std::time::Duration;

use serde::Deserialize;

use super::catalog::Ports;
use super::peers::{HeldBy, Prepare, Prepared, surely};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, GenericId};

/// Before it is asked again whether the competitor has withdrawn; the agent itself waits much longer before it refuses.
const CONTEST_PAUSE: Duration = Duration::from_millis(50);

/// More than the limit of one question: who is not reached is told so by that question itself.
const MARGIN: Duration = Duration::from_secs(1);

/// Asks again, within the limit, while a competitor that has to withdraw has not done so: its coordinator may still be waiting for
/// an answer that was lost.
pub(super) async fn surely_prepared(
    ports: &Ports,
    agent: AgentAddr,
    request: &Prepare,
    limit: Duration,
) -> Result<Prepared> {
    let mut refusal = None;
    let tries = async {
        loop {
            match surely(limit, || ports.peers.prepare(agent, request)).await {
                Err(error) if must_withdraw(&error, request) => refusal = Some(error),
                known => return known,
            }
            tokio::time::sleep(CONTEST_PAUSE).await;
        }
    };
    let tried = tokio::time::timeout(limit + MARGIN, tries).await;
    tried.unwrap_or_else(|_| {
        let late = || Error::new(Code::RpcRequestFailed, format!("{agent} has not answered in time"));
        Err(refusal.unwrap_or_else(late))
    })
}

/// Refused for a task that is only prepared there and comes after this one in the order of ids (W41).
fn must_withdraw(error: &Error, request: &Prepare) -> bool {
    let Some(holder) = error.data().and_then(|data| HeldBy::deserialize(&data["holder"]).ok()) else {
        return false;
    };
    let is_after = comes_first(&request.key.main_dag, &holder.id);
    error.code == Code::UnderMaintenanceDag && holder.is_prepared && is_after
}

/// In the order of generic ids; what is none has no place in it.
pub(super) fn comes_first(ours: &str, theirs: &str) -> bool {
    let id = |text: &str| text.parse::<GenericId>().ok();
    id(ours).zip(id(theirs)).is_some_and(|(ours, theirs)| ours < theirs)
}

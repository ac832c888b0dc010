//! What a scale-out and a scale-in do on the host itself: becoming SCALING OUT, giving that up, and leaving a cluster for good
//! (`lifecycle.md` §6.3, §6.4). The coordinators are `scale_out` and `scale_in`.
//!
//! Invariant: a host that is being added has no data but what this scale-out made, and only that is ever removed; a host that
//! is removed keeps its directories.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog::Ports;
use super::member::own_member;
use super::ports::{Progress, SqlAct};
use super::scale_out::{act, no_answer};
use super::step::step;
use super::{init, server, zones};
use crate::cluster::{Change, MYSQL_PORT_DEFAULT, Members, RPC_PORT_DEFAULT, Wanted, port};
use crate::engine::{Outcome, Registry, StepCtx, Template};
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity, Invitation, Member, ServerAddr, StopHow, ZoneName};

/// A server that the cluster has taken already is given back first, which takes what it takes.
const ABANDON_LIMIT: Duration = Duration::from_secs(26 * 3_600);

/// Between two looks at the cluster, which announces nothing.
const LOOK: Duration = Duration::from_millis(500);

/// For the cluster to be asked whether it has our server.
const VIEW_LIMIT: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Abandon {
    pub actor: String,
}

/// `agent remove` of an agent that is SCALING OUT: for when its coordinator is gone for good.
pub fn abandon_template(own: AgentAddr, params: &Abandon) -> Template {
    Template::new("newcomer", "Give up scale out", json!(params))
        .locked(None)
        .releases_lock_on_failure()
        .then("newcomer.abandon", "Give up scale out", own)
}

pub(super) fn register(registry: &mut Registry, ports: &Ports) {
    registry.add(GiveUp(ports.clone()));
}

step!(
    /// Looks first what there is to take back; each part of it may be done already.
    GiveUp, "newcomer.abandon", "CTX", ABANDON_LIMIT, abandon
);

/// Ourselves as the member we are going to be.
///
/// # Errors
/// `Common.InvalidPort`.
pub fn as_member(ports: &Ports, invitation: &Invitation) -> Result<Member> {
    let told = |key, default| {
        port(&invitation.config, key, default).map_err(|e| Error::new(Code::InvalidPort, e.to_string()))
    };
    Ok(Member {
        sql_port: told("mysql_port", MYSQL_PORT_DEFAULT)?,
        rpc_port: told("rpc_port", RPC_PORT_DEFAULT)?,
        ..own_member(ports, &invitation.zone, Identity::ScalingOut)
    })
}

/// What an invitation makes of us; `members` are ourselves and the coordinator.
pub fn became(invitation: &Invitation, members: Members) -> Change {
    let Invitation { zone, config, .. } = invitation;
    Change::BecameScalingOut { zone: zone.clone(), members, config: config.clone() }
}

/// SCALING OUT again. Its server goes on; what it made may be removed again.
pub(super) async fn unadopt(
    ports: &Ports,
    ctx: &StepCtx,
    zone: ZoneName,
    members: Members,
    actor: &str,
) -> Result<()> {
    if members.find(ports.own).is_none() {
        let text = format!("{} is not among the members that it was told", ports.own);
        return Err(Error::new(Code::IllegalArgument, text));
    }
    ports.process.forget_initialised().await?;
    let state = ports.ledger.state();
    let config: BTreeMap<String, String> =
        state.observer.servers.get(&ports.own).cloned().unwrap_or_default();
    if state.identity != Identity::ScalingOut {
        ports.ledger.change(Change::BecameScalingOut { zone, members, config }, actor).await?;
    }
    ctx.info(&format!("{} is SCALING OUT", ports.own));
    Ok(())
}

/// The cluster has given our server up (or a majority lives without it): it ends, its directories stay, and we are nobody's.
pub(super) async fn retire(ports: &Ports, ctx: &StepCtx, how: StopHow, actor: &str) -> Result<()> {
    ports.ledger.change(Change::ServerWanted(Wanted::Stopped), &ctx.dag_ref).await?;
    match ports.process.find().await? {
        Some(process) => server::stop_as(ports, ctx, &process, how).await?,
        None => ctx.info("its server does not run"),
    }
    if ports.ledger.state().identity != Identity::Single {
        ports.ledger.change(Change::BecameSingle, actor).await?;
    }
    ctx.info(&format!("{} is SINGLE; its directories were left as they are", ports.own));
    Ok(())
}

/// Our own server is the only one that we can ask: once the cluster has forgotten it, it has no cluster to tell of.
async fn given_back(ports: &Ports, ctx: &StepCtx, own: ServerAddr) -> Result<()> {
    act(ports, ctx, SqlAct::DeleteServer { server: own }).await?;
    ctx.log_wait(&format!("the cluster to take everything off {own}"), ABANDON_LIMIT);
    loop {
        match zones::view(ports, VIEW_LIMIT, ctx).await {
            Ok(view) if view.server(own).is_none() => break,
            Err(error) if is_no_table(&error) => break,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "not known whether it is forgotten"),
        }
        tokio::time::sleep(LOOK).await;
    }
    ctx.info(&format!("the cluster has forgotten {own}"));
    Ok(())
}

/// 1146: a server outside of a cluster has no views of one (`observer-model.md` §7).
fn is_no_table(error: &Error) -> bool {
    const NO_SUCH_TABLE: u64 = 1146;
    let number = error.data().and_then(|data| data.get("number")?.as_u64());
    error.code == Code::MysqlError && number == Some(NO_SUCH_TABLE)
}

async fn abandon(ports: &Ports, ctx: &StepCtx) -> Result<Outcome> {
    let Abandon { actor } = ctx.params()?;
    let state = ports.ledger.state();
    if state.identity == Identity::Single {
        ctx.info("already SINGLE");
        return Outcome::done();
    }
    if state.identity != Identity::ScalingOut {
        let text = format!("{} is {} by now; a member leaves by a scale in", ports.own, state.identity);
        return Err(Error::new(Code::IdentityNotSupported, text));
    }
    // The coordinator hands the password over before it adds the server.
    if ports.ledger.secrets().root.is_some()
        && let Some(own) = state.own_member()
    {
        let seen = ctx.waiting(zones::view(ports, VIEW_LIMIT, ctx)).await;
        let view = seen.map_err(|error| no_answer(&error))?;
        if view.server(own.server()).is_some() {
            ctx.waiting(given_back(ports, ctx, own.server())).await?;
        }
    }
    init::undo_start(ports, ctx).await?;
    init::remove_directories(ports, ctx, None).await?;
    ports.ledger.change(Change::BecameSingle, &actor).await?;
    ctx.info(&format!("{} is SINGLE", ports.own));
    Outcome::done()
}

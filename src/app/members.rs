//! Keeps two lists alike: the members as we know them, and those in the cluster's own database.
//!
//! Purpose: an agent that was away learns what changed, as soon as its database answers; and the database learns what of our
//! own row has changed (an address of a key, a port). An agent that was removed while it was away is told. While the database is down the local list serves.
//!
//! Invariant: a list without ourselves changes nothing here: an agent does not forget its cluster because a table says so.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::context::{App, Caller, Request};
use super::health::Health;
use crate::cluster::{Change, Members};
use crate::config::EngineKind;
use crate::error::Result;
use crate::flow::member::own_member;
use crate::flow::ports::{Silent, SqlAct, SqlAnswer};
use crate::flow::scale_in;
use crate::model::{Identity, Member};

/// Nothing announces a change of the table; a member that was added or removed is told of directly, this is for what was lost.
const INTERVAL: Duration = Duration::from_secs(60);

/// For one statement.
const LIMIT: Duration = Duration::from_secs(10);

/// Who this is in the records.
const KEEPER: &str = "members";

/// Runs as long as the agent.
pub async fn keep(app: App, token: CancellationToken) {
    if let Err(error) = know_ourselves(&app).await {
        tracing::error!(cause = %error.chain(), "our own row among the members could not be recorded");
    }
    if app.parts.ports.engine == EngineKind::Seekdb {
        return;
    }
    let mut health = app.parts.health.watch();
    loop {
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            serving = health.wait_for(Health::is_serving) => if serving.is_err() { return },
        }
        if let Err(error) = tell_guests(&app).await {
            tracing::debug!(cause = %error.chain(), "a removed agent could not be told");
        }
        if let Err(error) = compare(&app).await {
            tracing::debug!(cause = %error.chain(), "the members could not be compared with the database's");
        }
        // Kept where it is read: tasks and servers have their numbers also while the database is down.
        let known = app.topology().await.servers.len();
        tracing::trace!(known, "the numbers of the servers were read");
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
            // Down and up again: it may have missed something.
            gone = health.wait_for(|health| !health.is_serving()) => if gone.is_err() { return },
        }
    }
}

/// Agents that were removed while they were away learn it when they are back: what they run ends, and they are SINGLE.
async fn tell_guests(app: &App) -> Result<()> {
    let ports = &app.parts.ports;
    let state = ports.ledger.state();
    let removed =
        |guest: &&Member| guest.identity == Identity::ScalingIn && state.members.find(guest.agent).is_none();
    for guest in state.guests.iter().filter(removed) {
        // Whoever is away is no news.
        let Ok(found) = ports.gate.look(guest.agent).await else { continue };
        if found.identity != Identity::ClusterAgent {
            ports.ledger.change(Change::GuestLeft(guest.agent), KEEPER).await?;
            continue;
        }
        if ports.peers.facts(guest.agent, LIMIT).await.is_ok_and(|facts| facts.held_by.is_none()) {
            tell(app, guest).await?;
        }
    }
    Ok(())
}

async fn tell(app: &App, guest: &Member) -> Result<()> {
    let params = scale_in::Params {
        members: vec![guest.clone()],
        servers: vec![guest.server()],
        zone: None,
        is_forced: false,
        actor: KEEPER.to_owned(),
    };
    let caller = Caller { actor: KEEPER.to_owned(), is_local: true, source: None };
    let template = scale_in::tell_template(app.own(), &params);
    let dag = app.submit(template, &caller, Request::default()).await?;
    app.parts.engine.until(dag.id, |dag| dag.state.is_at_rest()).await?;
    Ok(())
}

/// An agent that belongs somewhere is a member of it.
async fn know_ourselves(app: &App) -> Result<()> {
    let state = app.parts.ledger.state();
    let Some(zone) = state.zone.clone().filter(|_| state.identity != Identity::Single) else { return Ok(()) };
    let own = own_member(&app.parts.ports, &zone, state.identity);
    app.parts.ledger.change(Change::MemberKnown(own), KEEPER).await
}

async fn compare(app: &App) -> Result<()> {
    let ports = &app.parts.ports;
    let state = ports.ledger.state();
    if state.identity != Identity::ClusterAgent {
        return Ok(());
    }
    let password = ports.ledger.root_password();
    let SqlAnswer::Members(read) = ports.cluster.act(&password, &SqlAct::ReadMembers, LIMIT, &Silent).await?
    else {
        return Ok(());
    };
    let Some(own) = state.own_member().cloned() else { return Ok(()) };
    match read.find(app.own()) {
        None => {
            tracing::warn!("this agent is not in ocs.all_agent; was it removed while it was away?");
            return Ok(());
        }
        // Somebody scales us in: that is for them to write.
        Some(known) if known.identity == Identity::ScalingIn => {}
        Some(known) if *known != own => {
            ports
                .cluster
                .act(&password, &SqlAct::SaveMembers { members: vec![own.clone()] }, LIMIT, &Silent)
                .await?;
        }
        Some(_) => {}
    }
    let now: Members = if read.find(app.own()).is_some_and(|known| known.identity == Identity::ScalingIn) {
        read
    } else {
        read.with(own)
    };
    if now != state.members {
        let names: Vec<_> = now.agents().iter().map(ToString::to_string).collect();
        tracing::info!(members = names.join(", "), "the cluster's database has told of other members");
        ports.ledger.change(Change::MembersKnown(now), KEEPER).await?;
    }
    Ok(())
}

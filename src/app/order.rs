//! Orders over a server, zones or the whole cluster: every restart, and starts and stops of the v2 API. Which servers, in which
//! order, how they leave service, and whether they may (`ocp-v2.md` §5.3, §5.4).

use std::collections::BTreeSet;

use super::context::{App, Caller, Request};
use super::ob::{Operated, unneeded};
use super::outlook::Outlook;
use super::plan::Plan;
use super::proposal::Proposal;
use crate::cluster::status::Status;
use crate::cluster::{Act, may};
use crate::config::EngineKind;
use crate::error::{Code, Error, Result};
use crate::flow::roll::{self, Block, Hand, Isolation, Options, Params, Verb};
use crate::model::{AgentAddr, Member, Scope, StopHow, ZoneName};

/// An order as it was asked for.
#[derive(Clone, Debug)]
pub struct OrderRequest {
    pub verb: Verb,
    pub scope: Scope,
    /// Main DAGs that may be pushed aside.
    pub force_pass: Vec<String>,
    pub wish: OrderWish,
    /// The plan that was shown: the operation does exactly that, or is refused.
    pub plan_hash: Option<String>,
}

/// How it shall be done; what is not said is decided by the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderWish {
    /// `force`: no checks, no waiting for leaders; servers that are named are killed.
    pub is_forced: bool,
    /// All at once, business stops. Restarts of the whole cluster, or of several zones or servers.
    pub stops_the_world: bool,
    /// `freezeServer`
    pub freezes: bool,
    /// `type=STOP_SERVICE`
    pub is_service_only: bool,
    /// The order of zones; those that are not named come after them.
    pub order: Vec<ZoneName>,
    pub at_most: Option<usize>,
    pub pause_secs: Option<u64>,
    pub server_deadline_secs: Option<u64>,
}

/// Longest pause between two zones, and longest time for one server.
const PAUSE_SECS_MAX: u64 = 24 * 3_600;
const DEADLINE_SECS_MIN: u64 = 10;

impl App {
    /// # Errors
    /// Scope, identity, state, safety, locks, a plan that does not hold any more.
    pub async fn order(&self, wanted: OrderRequest, caller: &Caller, request: Request) -> Result<Operated> {
        let mut notes = Vec::new();
        let snapshot = self
            .make(caller, request, async || {
                let (proposal, outlook) = self.propose_order(&wanted, caller).await?;
                notes = unneeded(&wanted.force_pass, &outlook);
                self.go_ahead(proposal, wanted.plan_hash.as_deref())
            })
            .await?;
        Ok(Operated { snapshot, notes })
    }

    /// # Errors
    /// What is wrong with the request itself; what stands in its way is part of the plan.
    pub async fn plan_order(&self, wanted: &OrderRequest, caller: &Caller) -> Result<Plan> {
        let (proposal, _) = self.propose_order(wanted, caller).await?;
        Ok(self.show(proposal))
    }

    async fn propose_order(&self, wanted: &OrderRequest, caller: &Caller) -> Result<(Proposal, Outlook)> {
        check_wish(wanted)?;
        let agents = self.parts.ledger.state().members.in_scope(&wanted.scope)?;
        may(Act::Operate, self.own(), self.identity())?;
        let outlook = self.outlook_now().await;
        let params = self.params_of(wanted, &agents, &outlook, caller).await?;
        self.refuse_what_leaves_nobody(wanted, &agents)?;
        let mut obstacles = self.order_obstacles(&params, &outlook);
        obstacles.extend(self.held(&outlook, &agents, &wanted.force_pass).await);
        let plan = self.plan_of_order(&params, &outlook);
        let proposal = self.propose(roll::template(self.own(), &params), plan, obstacles)?;
        Ok((proposal, outlook))
    }

    async fn params_of(
        &self,
        wanted: &OrderRequest,
        agents: &[AgentAddr],
        outlook: &Outlook,
        caller: &Caller,
    ) -> Result<Params> {
        let wish = &wanted.wish;
        let standing = self.standing_in(outlook).await;
        let topology = self.topology_in(outlook).await;
        let state = self.parts.ledger.state();
        let hand = |member: &Member| Hand {
            agent: member.agent,
            server: member.server(),
            zone: member.zone.clone(),
            id: topology.of_server(member.server()).map(|known| known.id),
        };
        let members = agents.iter().filter_map(|agent| state.members.find(*agent));
        let blocks = self.blocks(wanted, members.map(hand).collect(), outlook)?;
        let is_whole = blocks.len() == 1
            && agents.len() == state.members.len()
            && is_everything(wanted, &blocks[0], outlook);
        let zone = match blocks.as_slice() {
            [block] => block.zones.first().filter(|_| block.zones.len() == 1),
            _ => None,
        };
        let former_zone = zone.and_then(|zone| standing.zones.iter().find(|(name, _)| name == zone));
        Ok(Params {
            verb: wanted.verb,
            scope: wanted.scope.clone(),
            cluster_name: state.cluster.name.clone().unwrap_or_default(),
            cluster_id: self.cluster_id(),
            blocks,
            options: self.options(wanted),
            former_cluster_status: standing.cluster.text().to_owned(),
            former_zone_status: former_zone.map(|(_, status): &(ZoneName, Status)| status.text().to_owned()),
            is_whole,
            force_pass: wanted.force_pass.clone(),
            actor: caller.actor.clone(),
            remarks: remarks(wish, wanted.verb),
        })
    }

    fn options(&self, wanted: &OrderRequest) -> Options {
        let (wish, limits) = (&wanted.wish, &self.parts.ports.limits);
        // Only what is named is killed: a zone or a cluster names no server.
        let kills = wish.is_forced && matches!(wanted.scope, Scope::Server(_));
        let grace_secs = limits.stop_grace.as_secs();
        Options {
            is_forced: wish.is_forced,
            freezes: wish.freezes && wanted.verb != Verb::Start,
            is_service_only: wish.is_service_only && wanted.verb == Verb::Stop,
            how: if kills { StopHow::Kill } else { StopHow::Graceful { grace_secs } },
            at_most: wish.at_most.unwrap_or(limits.parallel),
            pause_secs: wish.pause_secs.unwrap_or(0),
            server_deadline_secs: wish.server_deadline_secs,
        }
    }

    /// Which servers go together, and one after another in which order.
    fn blocks(&self, wanted: &OrderRequest, hands: Vec<Hand>, outlook: &Outlook) -> Result<Vec<Block>> {
        let zone_count = self.parts.ledger.state().members.zones().len();
        let is_alone = has_no_others(&hands, outlook);
        let is_lonely = zone_count == 1 && is_alone || self.parts.ports.engine == EngineKind::Seekdb;
        let isolation = match (&wanted.scope, wanted.verb) {
            (_, Verb::Start) => Isolation::None,
            (Scope::Global, Verb::Stop) => Isolation::None,
            (Scope::Server(_), _) if self.parts.ledger.state().members.len() == 1 && is_alone => {
                Isolation::None
            }
            (Scope::Server(_), Verb::Stop | Verb::Restart) => Isolation::Servers,
            (Scope::Zone(_) | Scope::Global, Verb::Stop | Verb::Restart) if is_lonely => Isolation::None,
            (Scope::Zone(_) | Scope::Global, Verb::Stop | Verb::Restart) => Isolation::Zone,
        };
        let zones = self.order_of_zones(wanted, &hands, outlook)?;
        let rolls = wanted.verb == Verb::Restart && zones.len() > 1 && !wanted.wish.stops_the_world;
        if !rolls {
            let isolation = if zones.len() > 1 { Isolation::None } else { isolation };
            return Ok(vec![Block { zones, hands, isolation }]);
        }
        let block = |zone: ZoneName| {
            let hands = hands.iter().filter(|hand| hand.zone == zone).cloned().collect();
            Block { zones: vec![zone], hands, isolation }
        };
        Ok(zones.into_iter().map(block).collect())
    }

    /// As asked; the rest by name, and the zone of the root service last, so that it moves once.
    fn order_of_zones(
        &self,
        wanted: &OrderRequest,
        hands: &[Hand],
        outlook: &Outlook,
    ) -> Result<Vec<ZoneName>> {
        let zones: BTreeSet<ZoneName> = hands.iter().map(|hand| hand.zone.clone()).collect();
        if let Some(zone) = wanted.wish.order.iter().find(|zone| !zones.contains(zone)) {
            let known: Vec<_> = zones.iter().map(ToString::to_string).collect();
            let text = format!(
                "the order names zone '{zone}', which is not concerned; zones are: {}",
                known.join(", ")
            );
            return Err(Error::new(Code::ZoneNotExist, text));
        }
        let root = outlook.view.as_ref().and_then(|view| view.servers.iter().find(|row| row.has_root));
        let root = root.map(|row| row.zone.clone());
        let asked = &wanted.wish.order;
        let mut rest: Vec<_> = zones.into_iter().filter(|zone| !asked.contains(zone)).collect();
        rest.sort_by_key(|zone| root.as_ref() == Some(zone));
        Ok(asked.iter().cloned().chain(rest).collect())
    }

    /// Who stops the only server means to stop the cluster, and shall say so.
    fn refuse_what_leaves_nobody(&self, wanted: &OrderRequest, agents: &[AgentAddr]) -> Result<()> {
        let is_all = agents.len() == self.parts.ledger.state().members.len();
        let is_named = !matches!(wanted.scope, Scope::Global);
        if wanted.verb == Verb::Stop && is_all && is_named && !wanted.wish.is_service_only {
            let text = "nothing else would be left of the cluster; stop the cluster instead";
            return Err(Error::new(Code::OnlyServer, text));
        }
        Ok(())
    }

    /// What stands in the way of taking servers away; nothing of it is looked at with force, or where nothing would be left to
    /// protect.
    fn order_obstacles(&self, params: &Params, outlook: &Outlook) -> Vec<Error> {
        if params.verb == Verb::Start || params.options.is_forced {
            return Vec::new();
        }
        if self.parts.ports.engine == EngineKind::Seekdb || params.is_whole {
            return Vec::new();
        }
        let zones: BTreeSet<&ZoneName> = params.zones().collect();
        let zone_count = self.parts.ledger.state().members.zones().len();
        if params.blocks.len() > 1 && zones.len() == zone_count && zone_count < 3 {
            let text = format!(
                "{zone_count} zones are too few for a restart zone by zone, 3 are needed: without either, log streams lose \
                 their majority; stopTheWorld restarts everything at once, and business stops meanwhile"
            );
            return vec![Error::new(Code::TooFewZones, text)];
        }
        let Some(view) = &outlook.view else {
            let said = outlook.agents.iter().map(|seen| format!("{} {}", seen.member.agent, seen.in_words()));
            let said: Vec<_> = said.collect();
            let text = format!(
                "no database server answers ({}), so nothing is known of the log streams; use force",
                said.join(", ")
            );
            return vec![Error::new(Code::ForceStopRequired, text)];
        };
        let is_roll = params.blocks.len() > 1;
        params.blocks.iter().filter_map(|block| roll::dangers(view, block, is_roll)).take(1).collect()
    }
}

/// As far as the database tells, it has no other servers than these; some may have no agent.
fn has_no_others(hands: &[Hand], outlook: &Outlook) -> bool {
    let is_among = |server| hands.iter().any(|hand| hand.server == server);
    outlook.view.as_ref().is_none_or(|view| view.servers.iter().all(|row| is_among(row.server)))
}

/// Nothing is left to protect: there is nobody else, or everything was asked for at once.
fn is_everything(wanted: &OrderRequest, block: &Block, outlook: &Outlook) -> bool {
    let is_meant =
        wanted.scope == Scope::Global && (wanted.verb != Verb::Restart || wanted.wish.stops_the_world);
    is_meant || has_no_others(&block.hands, outlook)
}

fn remarks(wish: &OrderWish, verb: Verb) -> Vec<String> {
    let mut remarks = Vec::new();
    if wish.is_forced && verb != Verb::Start {
        remarks.push("forced: nothing was checked".to_owned());
    }
    if wish.stops_the_world && verb == Verb::Restart {
        remarks.push("everything at once, as asked: business stops meanwhile".to_owned());
    }
    remarks
}

fn check_wish(wanted: &OrderRequest) -> Result<()> {
    let wish = &wanted.wish;
    let refuse = |text: String| Err(Error::new(Code::IllegalArgument, text));
    if wish.at_most == Some(0) {
        return refuse("parallel must be 1 or more".to_owned());
    }
    if wish.pause_secs.is_some_and(|secs| secs > PAUSE_SECS_MAX) {
        return refuse(format!("pauseSeconds must be at most {PAUSE_SECS_MAX}"));
    }
    let is_bad = |secs: u64| !(DEADLINE_SECS_MIN..=PAUSE_SECS_MAX).contains(&secs);
    if wish.server_deadline_secs.is_some_and(is_bad) {
        return refuse(format!(
            "serverDeadlineSeconds must be between {DEADLINE_SECS_MIN} and {PAUSE_SECS_MAX}"
        ));
    }
    let named: BTreeSet<_> = wish.order.iter().collect();
    if named.len() < wish.order.len() {
        return refuse("the order of zones names a zone twice".to_owned());
    }
    Ok(())
}

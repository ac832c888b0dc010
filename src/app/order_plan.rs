//! The plan of an order: which server when, what becomes of the log streams before each block, what it means for business.

use super::context::App;
use super::outlook::{Outlook, Seen};
use super::plan::{Plan, PlannedServer, without_pid};
use crate::cluster::Fate;
use crate::config::EngineKind;
use crate::flow::roll::{Block, Isolation, Params, Verb};
use crate::model::StopHow;

impl App {
    pub(super) fn plan_of_order(&self, params: &Params, outlook: &Outlook) -> Plan {
        let mut servers = Vec::new();
        let mut consequences = Vec::new();
        let mut streams = Vec::new();
        for (at, block) in params.blocks.iter().enumerate() {
            for hand in &block.hands {
                let seen = outlook.seen(hand.agent);
                servers.push(PlannedServer {
                    agent: hand.agent.to_string(),
                    zone: hand.zone.to_string(),
                    now: seen.map_or_else(|| self.parts.health.now().in_words(), without_pid),
                    then: then(params, block, seen).to_owned(),
                    group: at + 1,
                });
            }
            if params.verb != Verb::Start && !params.is_whole {
                let fates = self.fates_of(block, outlook);
                consequences.extend(consequences_of(params, block, &fates));
                // Of a roll every block has its own; here only what they would lose.
                let is_single = params.blocks.len() == 1;
                streams.extend(fates.into_iter().filter(|fate| is_single || !fate.keeps_majority()));
            }
        }
        if params.verb != Verb::Start && params.is_whole {
            consequences.push(self.business_stops(params));
        }
        if params.blocks.len() > 1 {
            let zones: Vec<_> = params.zones().map(ToString::to_string).collect();
            consequences.insert(0, format!("zone by zone: {}", zones.join(", then ")));
        }
        Plan {
            scope: params.scope.to_string(),
            servers,
            streams,
            consequences,
            no_return: no_return(params).to_owned(),
            ..Plan::default()
        }
    }

    fn business_stops(&self, params: &Params) -> String {
        let until =
            if params.verb == Verb::Restart { "until it runs again" } else { "until it is started again" };
        match self.parts.ports.engine {
            EngineKind::Seekdb => format!("it is the only server: the database is not available {until}"),
            EngineKind::Observer => format!("every tenant is unavailable {until}"),
        }
    }

    fn fates_of(&self, block: &Block, outlook: &Outlook) -> Vec<Fate> {
        let servers: Vec<_> = block.hands.iter().map(|hand| hand.server).collect();
        outlook.view.as_ref().map_or_else(Vec::new, |view| view.without(&servers))
    }
}

fn consequences_of(params: &Params, block: &Block, fates: &[Fate]) -> Vec<String> {
    let zones: Vec<_> = block.zones.iter().map(ToString::to_string).collect();
    let zones = zones.join(", ");
    let mut told: Vec<_> = fates
        .iter()
        .filter(|fate| !fate.keeps_majority())
        .map(|fate| format!("without {zones} it loses its majority: {}", fate.in_words()))
        .collect();
    let moving = fates.iter().filter(|fate| fate.leader_moves).count();
    if told.is_empty() && !fates.is_empty() {
        let moved =
            if block.isolation == Isolation::None { "are lost and elected anew" } else { "move away first" };
        told.push(format!(
            "without {zones} every log stream keeps its majority; {moving} of {} leaders {moved}",
            fates.len()
        ));
    }
    if params.options.is_forced {
        told.push("forced: nothing is checked, and nothing is waited for".to_owned());
    }
    told
}

fn then(params: &Params, block: &Block, seen: Option<&Seen>) -> &'static str {
    let is_running = match seen.map(|seen| &seen.facts) {
        Some(Ok(facts)) => facts.process.is_some(),
        Some(Err(_)) => return "must be reached, or nothing is done",
        None => true,
    };
    let is_isolated = block.isolation != Isolation::None;
    let is_killed = params.options.how == StopHow::Kill;
    match (params.verb, is_running) {
        (Verb::Start, true) => "runs already, is left as it is",
        (Verb::Start | Verb::Restart, false) => "is started",
        (Verb::Stop, _) if params.options.is_service_only => "leaves service; its process stays as it is",
        (Verb::Stop, false) => "is stopped already",
        (Verb::Stop, true) if is_killed => "leaves service, then is killed",
        (Verb::Stop, true) if is_isolated => "leaves service, then is stopped gracefully",
        (Verb::Stop, true) => "is stopped gracefully",
        (Verb::Restart, true) if is_killed => "leaves service, is killed, started, caught up",
        (Verb::Restart, true) if is_isolated => "leaves service, is stopped, started, caught up",
        (Verb::Restart, true) => "is stopped, then started",
    }
}

fn no_return(params: &Params) -> &'static str {
    match params.verb {
        Verb::Start => "none; ROLLBACK stops what it has started",
        Verb::Stop => "none; ROLLBACK of a failed task starts what it has stopped",
        Verb::Restart if params.blocks.len() > 1 => {
            "none; a pause or an abort takes effect before the next zone, ROLLBACK starts what is stopped"
        }
        Verb::Restart => "none; ROLLBACK starts what is stopped",
    }
}

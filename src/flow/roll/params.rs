//! What an order over servers, zones or the whole cluster is made of. Stored with its task; the v2 API shows it as context.

use serde::{Deserialize, Serialize};

use crate::model::{AgentAddr, Scope, ServerAddr, StopHow, ZoneName};

/// What is done with the servers in scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Start,
    Stop,
    Restart,
}

impl Verb {
    /// `Start`, as the names of tasks have it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Stop => "Stop",
            Self::Restart => "Restart",
        }
    }
}

/// Parameters of the flow `roll`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Params {
    pub verb: Verb,
    pub scope: Scope,
    pub cluster_name: String,
    pub cluster_id: i64,
    /// One after another, in this order.
    pub blocks: Vec<Block>,
    pub options: Options,
    /// Words of `ocp-v2.md` §5.1, of the moment when it was asked for. The zone's only where one zone is concerned.
    pub former_cluster_status: String,
    pub former_zone_status: Option<String>,
    /// Every server of the cluster is stopped or restarted at once, or there is no other: nothing is left to protect.
    pub is_whole: bool,
    /// Ids of tasks that may be pushed aside.
    pub force_pass: Vec<String>,
    pub actor: String,
    /// What was known and accepted when it was asked for; for the record.
    pub remarks: Vec<String>,
}

/// Servers that go together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// One; several where all go at once.
    pub zones: Vec<ZoneName>,
    pub hands: Vec<Hand>,
    pub isolation: Isolation,
}

/// How a block leaves service before its processes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// `STOP ZONE`
    Zone,
    /// `STOP SERVER`, each
    Servers,
    /// Not at all: nobody else could serve, or everything goes at once.
    None,
}

/// A server with the agent beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hand {
    pub agent: AgentAddr,
    pub server: ServerAddr,
    pub zone: ZoneName,
    /// Its number in the cluster, where that is known.
    pub id: Option<i64>,
}

/// How it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Skips the checks and the wait for leaders to move.
    pub is_forced: bool,
    /// `MINOR FREEZE` before processes end.
    pub freezes: bool,
    /// Stops by SQL only; the processes stay.
    pub is_service_only: bool,
    pub how: StopHow,
    /// Servers of a block that are worked on at a time.
    pub at_most: usize,
    /// Seconds between two blocks.
    pub pause_secs: u64,
    /// Seconds for one server to stop, and to start; `None`: each step's own.
    pub server_deadline_secs: Option<u64>,
}

impl Params {
    pub fn hands(&self) -> impl Iterator<Item = &Hand> {
        self.blocks.iter().flat_map(|block| &block.hands)
    }

    pub fn agents(&self) -> Vec<AgentAddr> {
        self.hands().map(|hand| hand.agent).collect()
    }

    pub fn zones(&self) -> impl Iterator<Item = &ZoneName> {
        self.blocks.iter().flat_map(|block| &block.zones)
    }

    pub fn hand(&self, agent: AgentAddr) -> Option<&Hand> {
        self.hands().find(|hand| hand.agent == agent)
    }

    /// The block of an agent.
    pub fn block(&self, agent: AgentAddr) -> Option<&Block> {
        self.blocks.iter().find(|block| block.hands.iter().any(|hand| hand.agent == agent))
    }
}

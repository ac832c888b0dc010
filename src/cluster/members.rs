//! The members of this cluster as this agent knows them: `all_agent` of OBShell, kept locally so that nothing that has to
//! work without the database needs it.
//!
//! Invariant: no two members have one address; members stand in the order of their addresses, which is the order in which
//! operations name them.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity, Member, Scope, ServerAddr, ZoneName};

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(Arc<Vec<Member>>);

/// As they were written: in order.
impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Ok(Self(Arc::new(Vec::deserialize(deserializer)?)))
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl FromIterator<Member> for Members {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let mut sorted = Self::default();
        for member in members {
            sorted = sorted.with(member);
        }
        sorted
    }
}

impl Members {
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn find(&self, agent: AgentAddr) -> Option<&Member> {
        self.0.iter().find(|member| member.agent == agent)
    }

    pub fn by_server(&self, server: ServerAddr) -> Option<&Member> {
        self.0.iter().find(|member| member.server() == server)
    }

    pub fn agents(&self) -> Vec<AgentAddr> {
        self.0.iter().map(|member| member.agent).collect()
    }

    /// Who leads a cluster that is not initialised yet.
    pub fn master(&self) -> Option<&Member> {
        self.0.iter().find(|member| member.identity == Identity::Master)
    }

    pub fn is_master(&self, agent: AgentAddr) -> bool {
        self.master().is_some_and(|master| master.agent == agent)
    }

    pub fn zones(&self) -> Vec<ZoneName> {
        let mut zones: Vec<_> = self.0.iter().map(|member| member.zone.clone()).collect();
        zones.sort();
        zones.dedup();
        zones
    }

    pub fn zone_of(&self, agent: AgentAddr) -> Option<&ZoneName> {
        self.find(agent).map(|member| &member.zone)
    }

    /// With this member, in place of one with its address.
    #[must_use]
    pub fn with(&self, member: Member) -> Self {
        let mut members: Vec<_> =
            self.0.iter().filter(|known| known.agent != member.agent).cloned().collect();
        let at = members.partition_point(|known| known.agent < member.agent);
        members.insert(at, member);
        Self(Arc::new(members))
    }

    #[must_use]
    pub fn without(&self, agent: AgentAddr) -> Self {
        Self(Arc::new(self.0.iter().filter(|member| member.agent != agent).cloned().collect()))
    }

    /// The same members, all of them with this identity.
    #[must_use]
    pub fn all_as(&self, identity: Identity) -> Self {
        Self(Arc::new(self.0.iter().cloned().map(|member| Member { identity, ..member }).collect()))
    }

    /// The agents that a scope is about. Every target must be a member.
    ///
    /// # Errors
    /// `OB.Zone.NotExist` or `Agent.NotExist`, naming what there is.
    pub fn in_scope(&self, scope: &Scope) -> Result<Vec<AgentAddr>> {
        match scope {
            Scope::Global => Ok(self.agents()),
            Scope::Zone(zones) => {
                if let Some(zone) =
                    zones.iter().find(|zone| !self.0.iter().any(|member| member.zone == **zone))
                {
                    let known: Vec<_> = self.zones().iter().map(ToString::to_string).collect();
                    let text = format!("there is no zone '{zone}'; zones are: {}", or_none(&known));
                    return Err(Error::new(Code::ZoneNotExist, text));
                }
                Ok(self.0.iter().filter(|m| zones.contains(&m.zone)).map(|m| m.agent).collect())
            }
            Scope::Server(servers) => {
                if let Some(server) = servers.iter().find(|server| self.find(**server).is_none()) {
                    let known: Vec<_> = self.agents().iter().map(ToString::to_string).collect();
                    let text =
                        format!("{server} is no agent of this cluster; agents are: {}", or_none(&known));
                    return Err(Error::new(Code::AgentNotExist, text));
                }
                Ok(self.agents().into_iter().filter(|agent| servers.contains(agent)).collect())
            }
        }
    }
}

fn or_none(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

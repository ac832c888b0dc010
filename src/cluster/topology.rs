//! Numbers of the cluster and of its servers, as the database gives them, kept by every agent: the ids of the v2 API
//! (`ocp-v2.md` §3) hold while the database is down.

use serde::{Deserialize, Serialize};

use super::quorum::ClusterView;
use crate::model::{ServerAddr, ZoneName};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    pub servers: Vec<KnownServer>,
}

/// A row of `DBA_OB_SERVERS` as far as it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownServer {
    /// `DBA_OB_SERVERS.ID`: positive, never given twice.
    pub id: i64,
    pub server: ServerAddr,
    pub zone: ZoneName,
}

impl Topology {
    /// In the order of the ids.
    pub fn of(view: &ClusterView) -> Self {
        let row = |row: &super::quorum::ServerRow| KnownServer {
            id: row.id,
            server: row.server,
            zone: row.zone.clone(),
        };
        let mut servers: Vec<_> = view.servers.iter().map(row).collect();
        servers.sort_by_key(|known| known.id);
        Self { servers }
    }

    pub fn by_id(&self, id: i64) -> Option<&KnownServer> {
        self.servers.iter().find(|known| known.id == id)
    }

    pub fn of_server(&self, server: ServerAddr) -> Option<&KnownServer> {
        self.servers.iter().find(|known| known.server == server)
    }
}

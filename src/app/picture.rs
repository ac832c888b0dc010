//! All that the v2 API shows of the cluster, from one look.
//!
//! Invariant: nothing in it was read before it was asked for: who has seen a task end sees what it has done.

use super::context::App;
use super::info::InfoView;
use super::standing::Standing;
use crate::cluster::topology::Topology;

/// See the module.
#[derive(Clone, Debug)]
pub struct Picture {
    /// With figures.
    pub info: InfoView,
    pub topology: Topology,
    pub standing: Standing,
}

impl App {
    /// See [`Picture`].
    pub async fn picture(&self) -> Picture {
        let (outlook, figures) = tokio::join!(self.outlook_now(), self.figures());
        let standing = self.standing_in(&outlook).await;
        let topology = self.topology_in(&outlook).await;
        let info = self.overview_in(outlook).await;
        Picture { info: InfoView { figures, ..info }, topology, standing }
    }
}

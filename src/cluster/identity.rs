//! The identity table: which operation an agent may do as what (`http-api.md` §4.3, `lifecycle.md` §0.3).

use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Identity};

/// An operation that depends on the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Become master, or follow one. The agent becomes MASTER or FOLLOWER.
    Join,
    /// Leave a cluster that is not initialised, or let one leave. The agent that leaves becomes SINGLE.
    Leave,
    /// Be joined by another agent.
    Admit,
    /// Configuration before init.
    Configure,
    /// Init. The agent becomes CLUSTER AGENT.
    Init,
    /// Start or stop through the cluster.
    Operate,
    /// Add servers to the cluster, or remove them.
    Scale,
    /// Be added to a cluster. The agent becomes SCALING OUT, and CLUSTER AGENT in the end.
    BeAdded,
    /// Start or stop the own server without a cluster, through the Unix socket.
    OperateLocally,
}

impl Act {
    pub const ALL: [Self; 9] = [
        Self::Join,
        Self::Leave,
        Self::Admit,
        Self::Configure,
        Self::Init,
        Self::Operate,
        Self::Scale,
        Self::BeAdded,
        Self::OperateLocally,
    ];

    /// Identities that may, in the words of the refusal.
    fn wanted(self) -> &'static [Identity] {
        match self {
            Self::Join | Self::BeAdded => &[Identity::Single],
            Self::Admit => &[Identity::Master],
            Self::Leave | Self::Configure | Self::Init => &[Identity::Master, Identity::Follower],
            Self::Operate | Self::Scale => &[Identity::ClusterAgent],
            Self::OperateLocally => &[
                Identity::Single,
                Identity::Master,
                Identity::Follower,
                Identity::TakeOverMaster,
                Identity::TakeOverFollower,
                Identity::ScalingOut,
                Identity::ScalingIn,
                Identity::Unidentified,
            ],
        }
    }
}

/// Whether an agent of this identity may do it itself. (A FOLLOWER hands CONFIGURE and INIT to its master.)
///
/// # Errors
/// `OB.Cluster.AlreadyInitialized` or `Agent.Identify.NotSupportOperation`, naming what would be needed.
pub fn may(act: Act, agent: AgentAddr, identity: Identity) -> Result<()> {
    if act.wanted().contains(&identity) {
        return Ok(());
    }
    if identity == Identity::ClusterAgent && matches!(act, Act::Configure | Act::Init) {
        let text = "the cluster is initialised already; its settings are changed in the database now";
        return Err(Error::new(Code::AlreadyInitialized, text));
    }
    let wanted: Vec<_> = act.wanted().iter().map(|i| i.text()).collect();
    let text = format!("{agent} is {identity}, but must be {} for this", wanted.join(" or "));
    Err(Error::new(Code::IdentityNotSupported, text))
}

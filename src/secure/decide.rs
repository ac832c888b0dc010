//! Who may: the decision table of callers on TCP (`security.md` §3.4), with its holes closed. Pure.
//!
//! | hole | closed by |
//! |---|---|
//! | W1: a deliberate forward with an empty token opens a MASTER | deliberate forwards are checked by token, and an empty token never equals ([`Verdict::CheckToken`]) |
//! | W10: no password, no expiry | the time of every header is checked, whatever this table says |
//! | W15: anybody may claim a fresh agent | only callers from `bootstrap.allow` may; see [`Facts::may_claim`] |
//! | §3.5 `neither known → pass` | the same |

use crate::model::Identity;

/// Which header came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKind {
    /// `X-OCS-Header`: the password of `root@sys`.
    Database,
    /// `X-OCS-Agent-Header`: the agent password.
    Agent,
}

/// How a request says that it was forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Forward {
    #[default]
    No,
    /// A follower passed a client's request on; the client's password is in it.
    Automatic,
    /// An agent asks in its own name; its token is in it.
    Deliberate,
}

/// Kind of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteClass {
    /// Answers anybody.
    Open,
    /// Everything else.
    Protected,
    /// `POST /api/v1/agent/password`: a rule of its own (`security.md` §3.4.4).
    SetPassword,
    /// `POST /rpc/v1/ob/scale_out`: who is being added answers whoever could add it a second time, when the first answer was
    /// lost. It answers nobody but that one, by its key.
    BeAdded,
    /// Messages of other agents, known by their keys; no password opens it.
    Peer,
}

/// What the decision is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub class: RouteClass,
    pub identity: Identity,
    /// An agent password is set.
    pub has_agent_password: bool,
    /// A root password is known, an empty one included.
    pub knows_root: bool,
    pub header: Option<HeaderKind>,
    pub forward: Forward,
    /// The caller's address is one that may claim an agent nobody has a password for (`bootstrap.allow`).
    pub may_claim: bool,
}

/// What has to be true for the caller to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Accept,
    /// `auth` is the password of `root@sys`.
    CheckRoot,
    /// `auth` is the agent password.
    CheckAgent,
    /// `auth` is the agent password, or that password sealed with the own key (scale-out sends it so).
    CheckAgentPlainOrSealed,
    /// `token` is the one of the agent that forwards; empty is never equal.
    CheckToken,
    /// A follower hands it to its master, which decides.
    ToMaster,
    /// No header at all: 400, the one refusal that says why, because it betrays nothing.
    NoHeader,
    /// The one refusal.
    Refuse,
}

/// The table.
pub fn decide(facts: &Facts) -> Verdict {
    let Some(header) = facts.header else {
        return if facts.class == RouteClass::Open { Verdict::Accept } else { Verdict::NoHeader };
    };
    match facts.class {
        RouteClass::Open => Verdict::Accept,
        RouteClass::Peer => Verdict::Refuse,
        RouteClass::SetPassword => set_password(facts, header),
        RouteClass::BeAdded if facts.identity == Identity::ScalingOut => single(facts, header),
        RouteClass::BeAdded | RouteClass::Protected => protected(facts, header),
    }
}

fn protected(facts: &Facts, header: HeaderKind) -> Verdict {
    match facts.identity {
        Identity::Single => single(facts, header),
        Identity::Follower if facts.forward == Forward::Deliberate => Verdict::CheckToken,
        Identity::Follower => Verdict::ToMaster,
        Identity::Master if facts.forward == Forward::Deliberate => Verdict::CheckToken,
        Identity::Master if is_unclaimed(facts) => claim(facts),
        Identity::Master
        | Identity::ClusterAgent
        | Identity::TakeOverMaster
        | Identity::TakeOverFollower
        | Identity::ScalingOut
        | Identity::ScalingIn
        | Identity::Unidentified => by_password(facts, header),
    }
}

fn single(facts: &Facts, header: HeaderKind) -> Verdict {
    match (facts.has_agent_password, header) {
        (false, _) => claim(facts),
        (true, HeaderKind::Agent) => Verdict::CheckAgentPlainOrSealed,
        (true, HeaderKind::Database) => Verdict::Refuse,
    }
}

/// Nobody has a password yet: neither can be asked for.
fn is_unclaimed(facts: &Facts) -> bool {
    !facts.has_agent_password && !facts.knows_root
}

fn claim(facts: &Facts) -> Verdict {
    if facts.may_claim { Verdict::Accept } else { Verdict::Refuse }
}

/// A cluster agent that knows no root password yet asks the database for it; every other identity without one has only
/// the agent password.
fn by_password(facts: &Facts, header: HeaderKind) -> Verdict {
    let has_root = facts.knows_root || facts.identity == Identity::ClusterAgent;
    match header {
        HeaderKind::Database if has_root => Verdict::CheckRoot,
        HeaderKind::Agent if facts.has_agent_password => Verdict::CheckAgent,
        HeaderKind::Database | HeaderKind::Agent => Verdict::Refuse,
    }
}

fn set_password(facts: &Facts, header: HeaderKind) -> Verdict {
    match (facts.has_agent_password, header) {
        (true, HeaderKind::Agent) => Verdict::CheckAgent,
        (true, HeaderKind::Database) => Verdict::Refuse,
        (false, _) => match facts.identity {
            Identity::ClusterAgent if header == HeaderKind::Database => Verdict::CheckRoot,
            Identity::Master if facts.knows_root && header == HeaderKind::Database => Verdict::CheckRoot,
            Identity::Single => claim(facts),
            Identity::Master if !facts.knows_root => claim(facts),
            Identity::Master
            | Identity::Follower
            | Identity::ClusterAgent
            | Identity::TakeOverMaster
            | Identity::TakeOverFollower
            | Identity::ScalingOut
            | Identity::ScalingIn
            | Identity::Unidentified => Verdict::Refuse,
        },
    }
}

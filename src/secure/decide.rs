//! Who may: the decision table of callers on TCP (`security.md` §3.4) as data, with its holes closed. Pure.
//!
//! | hole | closed by |
//! |---|---|
//! | W1: a deliberate forward with an empty token opens a MASTER | deliberate forwards are checked by token, and an empty token never equals ([`Verdict::CheckToken`]) |
//! | W10: no password, no expiry | the time of every header is checked, whatever this table says |
//! | W15: anybody may claim a fresh agent | only callers from `bootstrap.allow` may; see [`Facts::may_claim`] |
//! | §3.5 `neither known → pass` | the same |
//! | W16: a session from before init, one password for everything | [`Verdict::CheckSession`] stands in one row; setting a password and logging in are classes of their own |

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
    /// Makes a session: wants a password, never a session.
    Login,
    /// `POST /rpc/v1/ob/scale_out`: who is being added answers whoever could add it a second time, when the first answer was
    /// lost. It answers nobody but that one, by its key.
    BeAdded,
    /// Messages of other agents, known by their keys; no password opens it.
    Peer,
}

impl RouteClass {
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Protected, Self::SetPassword, Self::Login, Self::BeAdded, Self::Peer];
}

/// A way in beside the sealed headers of v2 and v3, and so with less behind the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// The mark of another agent.
    Mark,
    /// The Unix socket, as a user who may use it.
    Socket,
    /// A header of scheme v1: the password of `root@sys`, as in `X-OCS-Header`, and the table decides by it.
    V1,
}

/// What each such way opens: agents speak to each other and hand requests of their clients on; they neither set passwords
/// nor log in. Users of the socket may do what a client may (a session they do not get: they have no keys). A header of v1 makes
/// nobody more than it says: no session (there are no keys to tell it under), no other password in a body in clear, nothing
/// among agents.
pub const WAYS: &[(Way, &[RouteClass])] = &[
    (Way::Mark, &[RouteClass::Open, RouteClass::Protected, RouteClass::Peer]),
    (
        Way::Socket,
        &[
            RouteClass::Open,
            RouteClass::Protected,
            RouteClass::SetPassword,
            RouteClass::Login,
            RouteClass::BeAdded,
        ],
    ),
    (Way::V1, &[RouteClass::Open, RouteClass::Protected]),
];

/// Whether a way opens a class, by [`WAYS`].
pub fn opens(way: Way, class: RouteClass) -> bool {
    WAYS.iter().any(|(known, classes)| *known == way && classes.contains(&class))
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
    /// The header names a session.
    pub has_session: bool,
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
    /// `session_id` is a session whose password would be asked for here; `auth` is not looked at.
    CheckSession,
    /// `token` is the one of the agent that forwards; empty is never equal.
    CheckToken,
    /// A follower hands it to its master, which decides.
    ToMaster,
    /// No header at all: 400, the one refusal that says why, because it betrays nothing.
    NoHeader,
    /// The one refusal.
    Refuse,
}

/// What a row says of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Anything,
    Nothing,
    Header(HeaderKind),
    /// Either header, with a session in it.
    Session,
}

/// A row of the table. `None` and an empty list match everything.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    classes: &'static [RouteClass],
    identities: &'static [Identity],
    shows: Shows,
    is_deliberate: Option<bool>,
    has_agent_password: Option<bool>,
    knows_root: Option<bool>,
    may_claim: Option<bool>,
    pub verdict: Verdict,
}

macro_rules! asked {
    (any) => {
        None
    };
    (yes) => {
        Some(true)
    };
    (no) => {
        Some(false)
    };
}

macro_rules! shown {
    (any) => {
        Shows::Anything
    };
    (nothing) => {
        Shows::Nothing
    };
    (root) => {
        Shows::Header(HeaderKind::Database)
    };
    (agent) => {
        Shows::Header(HeaderKind::Agent)
    };
    (session) => {
        Shows::Session
    };
}

macro_rules! rules {
    ($([$($class:ident)+] [$($identity:ident)*] $shows:ident $deliberate:ident $agent:ident $root:ident $claim:ident => $verdict:ident;)*) => {
        &[$(Rule {
            classes: &[$(RouteClass::$class),+],
            identities: &[$(Identity::$identity),*],
            shows: shown!($shows),
            is_deliberate: asked!($deliberate),
            has_agent_password: asked!($agent),
            knows_root: asked!($root),
            may_claim: asked!($claim),
            verdict: Verdict::$verdict,
        }),*]
    };
}

/// The table: the first row that matches decides, and what matches none is refused. Columns: classes, identities (none: all),
/// what the header shows, a deliberate forward, an agent password is set, a root password is known, the caller may claim.
///
/// A CLUSTER AGENT that knows no root password yet asks the database for it; every other identity without one has only the agent
/// password.
pub const TABLE: &[Rule] = rules! {
    [Open]                         []             any      any any any any => Accept;
    [Peer]                         []             any      any any any any => Refuse;
    [Protected SetPassword Login BeAdded]
                                   []             nothing  any any any any => NoHeader;

    // Only where the cluster's password is known to be somebody's: a session from before init is worth nothing (W16).
    [Protected]                    [ClusterAgent] session  any any any any => CheckSession;

    // Nobody has a password yet: neither can be asked for.
    [Protected Login SetPassword BeAdded]
                                   [Single]       any      any no  any yes => Accept;
    [Protected Login BeAdded]      [Single]       agent    any yes any any => CheckAgentPlainOrSealed;
    // Who is being added is asked for nothing else than when it was SINGLE.
    [BeAdded]                      [ScalingOut]   any      any no  any yes => Accept;
    [BeAdded]                      [ScalingOut]   agent    any yes any any => CheckAgentPlainOrSealed;
    [BeAdded]                      [ScalingOut]   any      any any any any => Refuse;
    [Protected Login BeAdded]      [Follower]     any      yes any any any => CheckToken;
    [Protected Login BeAdded]      [Follower]     any      any any any any => ToMaster;
    [Protected Login BeAdded]      [Master]       any      yes any any any => CheckToken;
    [Protected Login SetPassword BeAdded]
                                   [Master]       any      any no  no  yes => Accept;
    [Protected Login BeAdded]      [ClusterAgent] root     any any any any => CheckRoot;
    [Protected Login BeAdded]      [Master TakeOverMaster TakeOverFollower ScalingOut ScalingIn Unidentified]
                                                  root     any any yes any => CheckRoot;
    [Protected Login BeAdded]      [Master ClusterAgent TakeOverMaster TakeOverFollower ScalingOut ScalingIn Unidentified]
                                                  agent    any yes any any => CheckAgent;

    [SetPassword]                  []             agent    any yes any any => CheckAgent;
    [SetPassword]                  [ClusterAgent] root     any no  any any => CheckRoot;
    [SetPassword]                  [Master]       root     any no  yes any => CheckRoot;
};

/// Decides by the [`TABLE`].
pub fn decide(facts: &Facts) -> Verdict {
    TABLE.iter().find(|rule| rule.matches(facts)).map_or(Verdict::Refuse, |rule| rule.verdict)
}

impl Rule {
    pub fn matches(&self, facts: &Facts) -> bool {
        let fits = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        let shows = match self.shows {
            Shows::Anything => true,
            Shows::Nothing => facts.header.is_none(),
            Shows::Header(kind) => facts.header == Some(kind),
            Shows::Session => facts.header.is_some() && facts.has_session,
        };
        shows
            && self.classes.contains(&facts.class)
            && (self.identities.is_empty() || self.identities.contains(&facts.identity))
            && fits(self.is_deliberate, facts.forward == Forward::Deliberate)
            && fits(self.has_agent_password, facts.has_agent_password)
            && fits(self.knows_root, facts.knows_root)
            && fits(self.may_claim, facts.may_claim)
    }
}

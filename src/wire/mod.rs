//! Bodies as they look outside: JSON names, shapes and spellings of OBShell's v1 API.
//!
//! Purpose: the one place that knows how a thing is spelled on the wire. Requests turn themselves into `model` types and
//! say what is wrong; answers are made from what the inside speaks.
//!
//! Invariant: what v1 clients read is spelled and typed as in `http-api.md`, misspellings included; what is ours is an
//! additional optional member.
//!
//! Not here: statuses and headers (`api`), meaning.

mod accounts;
mod agent;
mod audit;
mod body;
mod envelope;
mod figures;
mod host;
mod info;
mod keys;
mod ob;
mod order;
mod parameters;
mod peer;
mod scale;
mod take_over;
mod task;
pub mod v2;

#[cfg(test)]
mod tests;

pub use accounts::{
    AccountBody, AccountList, AccountView, AccountsChanged, KeyPairBody, KeyPairMade, KeyPairView,
};
pub use agent::{
    AgentBody, AgentInfo, AgentInstance, AuthSchemes, CredentialView, GitInfo, Info, JoinBody, LastExitView,
    LockHolder, LogoutBody, Obpilot, PasswordBody, SchemeV3, Secret, ServerView, Status, StatusAgent,
};
pub use audit::AuditEntry;
pub use body::{BodyError, parse};
pub use envelope::{ApiError, Contents, Envelope};
pub use figures::{
    ConnectionString, LicenseInfo, PoolInfo, ServerStats, Stats, TenantInfo, TenantStats, UnitConfigInfo,
    UnitConfigLimit, capacity,
};
pub use host::HostInfo;
pub use info::{
    BlockedView, ClusterInfo, LockView, NotReached, ObClusterInfo, ObInfo, RootServerInfo, SafeToStop,
    ServerInfo, ServerMore, TopologyInfo, TopologyServer, WaitView, ZoneInfo,
};
pub use keys::{CertificateView, IssueBody, IssuedCertificate, KeyView, Keys, RotateBody, RotateCaBody};
pub use ob::{
    ClusterConfigBody, ForcePass, InitBody, ObserverConfigBody, Plan, PlanServer, PlanStream, RootPwdBody,
    ScopeBody, StartBody, StopBody, TaskOrPlan, ZoneStopBody,
};
pub use order::RestartBody;
pub use parameters::{
    CharsetInfo, ClusterParameter, CollationInfo, InstanceInfo, ServerValue, SetParameter, SetParametersBody,
    Statistics, StorageKeyBody, TenantValue, UpgradeBody,
};
pub use peer::{AdmitBody, InviteBody, PeerMark};
pub use scale::{DeleteZoneBody, ScaleInBody, ScaleOutBody};
pub use take_over::TakeOverBody;
pub use task::{
    DagDetail, FailureView, LogLine, NodeDetail, OperatorBody, SubTaskDetail, TaskEvent, TaskView, created,
    created_with, dag_detail, event_view, log_line, node_detail, operator_body, sub_task_detail,
};

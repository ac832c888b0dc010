//! OCP's codes (`ocp-v2.md` §4.4), and which of ours is which of them.
//!
//! Invariant: the text that says what to do, our own code and its details are never lost on the way: a code of OCP is added.

use serde_json::Value;

use crate::error::{Code, Error};

macro_rules! codes {
    ($($variant:ident $name:literal $status:literal, $en:literal, $zh:literal;)*) => {
        /// A code of OCP, as its tables have it since 4.2.2.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(in crate::api) enum OcpCode { $($variant),* }

        impl OcpCode {
            /// Every row, in the order of `proto/ocp-errors.json`.
            pub(in crate::api) const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// `code` on the wire: text, always.
            pub(in crate::api) fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }

            /// HTTP status. Codes that only a step's log has are failures of ours.
            pub(in crate::api) fn status(self) -> u16 { match self { $(Self::$variant => $status),* } }

            pub(in crate::api) fn title_en(self) -> &'static str { match self { $(Self::$variant => $en),* } }

            pub(in crate::api) fn title_zh(self) -> &'static str { match self { $(Self::$variant => $zh),* } }
        }
    };
}

codes! {
    ParameterInvalid "COM10001" 400, "a parameter is missing, empty or malformed", "参数缺失、为空或格式不合法";
    NoRecord "COM10002" 404, "there is no such record", "记录不存在";
    InvalidRequest "COM10003" 400, "the request cannot be carried out as it stands", "请求无法按原样执行";
    TookTooLong "COM10004" 500, "it took too long", "操作超时";
    ConflictingRequest "COM10005" 409, "something else has changed or is changing it", "存在冲突的请求";
    MethodNotSupported "COM10008" 405, "the method is not supported", "不支持该请求方法";
    AccessDenied "COM10009" 403, "access denied", "拒绝访问";
    SortNotSupported "COM10011" 400, "it cannot be sorted by that", "不支持按该字段排序";
    Unknown "COM10999" 500, "unknown failure", "未知错误";
    NotLoggedOn "IAM10000" 401, "not logged on", "未登录";
    AccountDisabled "IAM10001" 401, "the account is disabled", "账号已禁用";
    AccountLocked "IAM10003" 401, "the account is locked", "账号已锁定";
    WrongCredentials "IAM10004" 401, "user name or password wrong", "用户名或密码错误";
    WrongPassword "IAM10006" 401, "user name or password wrong", "用户名或密码错误";
    AccountBlocked "IAM10007" 401, "the account is blocked for a while", "账号暂时被锁定";
    SourceRestricted "IAM10014" 403, "not from this address", "来源地址受限";
    NoPermission "IAM11000" 403, "no permission", "没有操作权限";
    NoTask "TSK10001" 404, "no such task", "任务不存在";
    TaskStateForbids "TSK10007" 400, "not in this state of the task", "任务当前状态不支持该操作";
    RollbackForbidden "TSK10009" 400, "it cannot be rolled back", "任务不支持回滚";
    SkipForbidden "TSK10010" 400, "it cannot be skipped", "任务不支持跳过";
    StepTimeout "TSK10012" 500, "the step ran past its deadline", "子任务超时";
    StepInterrupted "TSK10013" 500, "the step was interrupted", "子任务被中断";
    StepCancelled "TSK10014" 500, "the step was cancelled", "子任务已取消";
    StepRestarted "TSK10015" 500, "the agent of the step was restarted", "子任务执行节点重启";
    TaskStateWrong "TSK10016" 400, "the task is not in the state that this needs", "任务状态不符合要求";
    StepStateWrong "TSK10017" 400, "the step is not in the state that this needs", "子任务状态不符合要求";
    NoConnection "OBE10001" 500, "no connection to the database", "无法连接数据库";
    StatementRefused "OBE10002" 500, "the database refused the statement", "数据库拒绝了该语句";
    NoCluster "OBE11001" 404, "no cluster with that id", "集群不存在";
    ClusterStateForbids "OBE11007" 400, "not in this state of the cluster", "集群当前状态不支持该操作";
    ClusterStateWrong "OBE11008" 400, "the cluster is not in the state that this needs", "集群状态不符合要求";
    ClusterBusy "OBE11020" 409, "the cluster's last maintenance task is not finished", "集群运维任务未结束";
    NoConnectionToCluster "OBE11028" 500, "no connection to the cluster", "无法连接集群";
    ClusterForbids "OBE11050" 400, "the cluster's state forbids it", "集群状态不允许该操作";
    NoProcess "OBE11053" 500, "no observer process", "observer 进程不存在";
    MajorityLost "OBE11070" 400, "a tenant would lose its majority", "租户将失去多数派";
    NoConnectionToTenant "OBE12000" 500, "no connection to the tenant", "无法连接租户";
    NotForThisCluster "OBE12101" 400, "not for this cluster", "该集群不支持此操作";
    NoZone "OBE18002" 404, "no zone of that name", "Zone 不存在";
    ZoneStateForbids "OBE18004" 400, "not in this state of the zone", "Zone 当前状态不支持该操作";
    ZoneStateWrong "OBE18005" 400, "the zone is not in the state that this needs", "Zone 状态不符合要求";
    ZoneNotStopped "OBE18006" 500, "the zone was not stopped", "停止 Zone 失败";
    ZoneBusy "OBE18008" 409, "the zone's last maintenance task is not finished", "Zone 运维任务未结束";
    TooFewZones "OBE18010" 400, "not enough zones", "Zone 数量不足";
    NoServer "OBE19001" 404, "no server with that id", "OBServer 不存在";
    ServerStateForbids "OBE19003" 400, "not in this state of the server", "OBServer 当前状态不支持该操作";
    ServerStateWrong "OBE19004" 400, "the server is not in the state that this needs", "OBServer 状态不符合要求";
    ServerNotStopped "OBE19005" 500, "the process did not end", "observer 进程停止失败";
    ServerNotStarted "OBE19006" 500, "the process did not start", "observer 进程启动失败";
    ServerBusy "OBE19012" 409, "the server's last maintenance task is not finished", "OBServer 运维任务未结束";
    TooFewCores "OBE19018" 400, "too few CPU cores", "CPU 核数不足";
    TooLittleMemory "OBE19019" 400, "too little memory", "内存不足";
    OnlyServer "OBE19020" 400, "it is the only server: stop the cluster instead", "唯一的 OBServer，请停止集群";
    AgentNotReached "CMP10001" 500, "the agent of a host cannot be reached", "无法访问主机代理";
    Throttled "0" 429, "too many failed attempts", "失败次数过多";
}

/// What a request is about: OCP tells the same refusal of a cluster, a zone and a server by different codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Concern {
    Cluster,
    Zone,
    Server,
    Task,
    None,
}

impl Concern {
    /// The same failure, as OCP would name it here.
    pub(in crate::api) fn refusal(self, error: Error) -> Refusal {
        Refusal { code: code_of(error.code, self), error }
    }
}

/// What a handler of v2 refuses with.
#[derive(Debug)]
pub(in crate::api) struct Refusal {
    pub(in crate::api) code: OcpCode,
    /// What v1 says of it.
    pub(in crate::api) error: Error,
}

impl Refusal {
    /// One that v1 has no code of its own for.
    pub(in crate::api) fn new(code: OcpCode, text: impl Into<String>) -> Self {
        Self { code, error: Error::new(nearest(code), text) }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Concern::None.refusal(error)
    }
}

/// Results of the application, as v2 answers them.
pub(in crate::api) trait About<T> {
    fn about(self, concern: Concern) -> Result<T, Refusal>;
}

impl<T> About<T> for Result<T, Error> {
    fn about(self, concern: Concern) -> Result<T, Refusal> {
        self.map_err(|error| concern.refusal(error))
    }
}

/// The state of what is concerned forbids it.
fn forbidden(concern: Concern) -> OcpCode {
    match concern {
        Concern::Cluster => OcpCode::ClusterStateForbids,
        Concern::Zone => OcpCode::ZoneStateForbids,
        Concern::Server => OcpCode::ServerStateForbids,
        Concern::Task => OcpCode::TaskStateForbids,
        Concern::None => OcpCode::InvalidRequest,
    }
}

/// Somebody else is at work there.
fn busy(concern: Concern) -> OcpCode {
    match concern {
        Concern::Zone => OcpCode::ZoneBusy,
        Concern::Server => OcpCode::ServerBusy,
        Concern::Cluster | Concern::Task | Concern::None => OcpCode::ClusterBusy,
    }
}

/// There is none.
fn missing(concern: Concern) -> OcpCode {
    match concern {
        Concern::Cluster => OcpCode::NoCluster,
        Concern::Zone => OcpCode::NoZone,
        Concern::Server => OcpCode::NoServer,
        Concern::Task => OcpCode::NoTask,
        Concern::None => OcpCode::InvalidRequest,
    }
}

fn not_stopped(concern: Concern) -> OcpCode {
    if concern == Concern::Zone { OcpCode::ZoneNotStopped } else { OcpCode::ServerNotStopped }
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn code_of(code: Code, concern: Concern) -> OcpCode {
    match code {
        Code::BindJsonFailed
        | Code::IllegalArgument
        | Code::InvalidPort
        | Code::InvalidIp
        | Code::InvalidAddress
        | Code::InvalidPath
        | Code::BodyTooLarge
        | Code::BodyReadFailed
        | Code::QueryIllegal
        | Code::GenericIdInvalid
        | Code::DagOperatorUnknown
        | Code::NodeOperatorUnknown
        | Code::ScopeInvalid
        | Code::ClusterIdInvalid
        | Code::ClusterNameEmpty
        | Code::StopModeConflict
        | Code::StopModeRequired
        | Code::ParameterScope
        | Code::RsListInvalid => OcpCode::ParameterInvalid,
        Code::BadRequest
        | Code::NotSupported
        | Code::AesKeyNotFound
        | Code::VersionInconsistent
        | Code::ObVersionInconsistent
        | Code::TakeOverNotExistInCluster
        | Code::ForceStopRequired
        | Code::ScaleOutHigherVersion
        | Code::ScaleOutLowerVersion
        | Code::ServerDeleteSelf
        | Code::ZoneDeleteSelf
        | Code::SharedStorageNotSupported => OcpCode::InvalidRequest,
        Code::NotFound => missing(concern),
        Code::Unauthorized
        | Code::UriMismatch
        | Code::AuthExpired
        | Code::AuthTimestamp
        | Code::KeyIdUnknown => OcpCode::WrongCredentials,
        Code::HeaderNotFound => OcpCode::NotLoggedOn,
        Code::UserDenied => OcpCode::NoPermission,
        Code::TooManyRequests => OcpCode::Throttled,
        Code::DirNotEmpty
        | Code::Unexpected
        | Code::Busy
        | Code::TaskCreateFailed
        | Code::SubDagsNotCreated
        | Code::SubDagsNotReady
        | Code::SubDagsNotAdvanced
        | Code::SubDagsNotSucceeded
        | Code::RpcRequestError
        | Code::ProcessCheckFailed
        | Code::BinaryVersion => OcpCode::Unknown,
        Code::MysqlError => OcpCode::StatementRefused,
        Code::DatabaseUseless | Code::PasswordIncorrect | Code::ServerNotReady => OcpCode::NoConnection,
        Code::TaskNotFound => OcpCode::NoTask,
        Code::RetryNotAllowed | Code::CancelFinished | Code::CancelNotAllowed | Code::SteerNotAllowed => {
            OcpCode::TaskStateForbids
        }
        Code::RetryNotFailed | Code::RollbackNotFailed | Code::PassNotFailed | Code::NodePassNotFailedDag => {
            OcpCode::TaskStateWrong
        }
        Code::NodePassNotFailed => OcpCode::StepStateWrong,
        Code::RollbackNotAllowed => OcpCode::RollbackForbidden,
        Code::PassNotAllowed | Code::NodePassNotAllowed => OcpCode::SkipForbidden,
        Code::ExecuteTimeout | Code::CancelTimeout | Code::AsyncTimeout | Code::MinorFreezeTimeout => {
            OcpCode::TookTooLong
        }
        Code::IdentityNotSupported
        | Code::AlreadyInitialized
        | Code::NotInitialized
        | Code::StoppedInMultiZone
        | Code::ServerNotDeleting
        | Code::ZoneNotEmpty => forbidden(concern),
        Code::TooFewZones => OcpCode::TooFewZones,
        Code::OnlyServer => OcpCode::OnlyServer,
        Code::UnderMaintenance | Code::UnderMaintenanceDag => busy(concern),
        Code::AgentNotExist | Code::ServerNotExist => OcpCode::NoServer,
        Code::ZoneNotExist => OcpCode::NoZone,
        Code::AgentAlreadyExists | Code::PlanChanged => OcpCode::ConflictingRequest,
        Code::NoMaster | Code::RpcRequestFailed => OcpCode::AgentNotReached,
        Code::ReplicaInvalid | Code::MultiPaxosNotAlive => OcpCode::MajorityLost,
        Code::ProcessNotExist => OcpCode::NoProcess,
        Code::PreflightFailed | Code::StartFailed => OcpCode::ServerNotStarted,
        Code::StopFailed => not_stopped(concern),
    }
}

/// What v1 would have said. Exact ones come as errors of the application; these are for what only v2 refuses.
fn nearest(code: OcpCode) -> Code {
    match code {
        OcpCode::ParameterInvalid | OcpCode::SortNotSupported => Code::IllegalArgument,
        OcpCode::NoRecord
        | OcpCode::InvalidRequest
        | OcpCode::TooFewCores
        | OcpCode::TooLittleMemory
        | OcpCode::ClusterStateForbids
        | OcpCode::ClusterStateWrong
        | OcpCode::ClusterForbids
        | OcpCode::ZoneStateForbids
        | OcpCode::ZoneStateWrong
        | OcpCode::ServerStateForbids
        | OcpCode::ServerStateWrong
        | OcpCode::TaskStateForbids
        | OcpCode::TaskStateWrong
        | OcpCode::StepStateWrong => Code::BadRequest,
        OcpCode::TooFewZones => Code::TooFewZones,
        OcpCode::OnlyServer => Code::OnlyServer,
        OcpCode::NotForThisCluster => Code::NotSupported,
        OcpCode::TookTooLong | OcpCode::StepTimeout => Code::ExecuteTimeout,
        OcpCode::ConflictingRequest => Code::PlanChanged,
        OcpCode::MethodNotSupported => Code::NotFound,
        OcpCode::AccessDenied | OcpCode::SourceRestricted | OcpCode::NoPermission => Code::UserDenied,
        OcpCode::Unknown | OcpCode::StepInterrupted | OcpCode::StepCancelled | OcpCode::StepRestarted => {
            Code::Unexpected
        }
        OcpCode::NotLoggedOn => Code::HeaderNotFound,
        OcpCode::AccountDisabled
        | OcpCode::AccountLocked
        | OcpCode::WrongCredentials
        | OcpCode::WrongPassword
        | OcpCode::AccountBlocked => Code::Unauthorized,
        OcpCode::NoTask => Code::TaskNotFound,
        OcpCode::RollbackForbidden => Code::RollbackNotAllowed,
        OcpCode::SkipForbidden => Code::PassNotAllowed,
        OcpCode::NoConnection | OcpCode::NoConnectionToCluster | OcpCode::NoConnectionToTenant => {
            Code::DatabaseUseless
        }
        OcpCode::StatementRefused => Code::MysqlError,
        OcpCode::NoCluster => Code::ClusterIdInvalid,
        OcpCode::ClusterBusy | OcpCode::ZoneBusy | OcpCode::ServerBusy => Code::UnderMaintenanceDag,
        OcpCode::NoProcess => Code::ProcessNotExist,
        OcpCode::MajorityLost => Code::ReplicaInvalid,
        OcpCode::NoZone => Code::ZoneNotExist,
        OcpCode::ZoneNotStopped | OcpCode::ServerNotStopped => Code::StopFailed,
        OcpCode::NoServer => Code::ServerNotExist,
        OcpCode::ServerNotStarted => Code::StartFailed,
        OcpCode::AgentNotReached => Code::RpcRequestFailed,
        OcpCode::Throttled => Code::TooManyRequests,
    }
}

/// The document `proto/ocp-errors.json`: OCP's codes, and which of ours are answered with each.
pub fn table_as_json() -> Value {
    const CONCERNS: [Concern; 5] =
        [Concern::Cluster, Concern::Zone, Concern::Server, Concern::Task, Concern::None];
    let rows = OcpCode::ALL.iter().map(|code| {
        let is_it = |own: &&Code| CONCERNS.iter().any(|concern| code_of(**own, *concern) == *code);
        let own: Vec<_> = Code::ALL.iter().filter(is_it).map(|own| own.name()).collect();
        serde_json::json!({
            "code": code.name(),
            "status": code.status(),
            "en": code.title_en(),
            "zh": code.title_zh(),
            "errCodes": own,
        })
    });
    Value::Array(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: Code, concern: Concern) -> (&'static str, u16) {
        let refusal = concern.refusal(Error::new(code, "text"));
        (refusal.code.name(), refusal.code.status())
    }

    #[test]
    fn what_is_concerned_decides_between_codes() {
        let held = Code::UnderMaintenanceDag;
        assert_eq!(answered(held, Concern::Cluster), ("OBE11020", 409));
        assert_eq!(answered(held, Concern::Zone), ("OBE18008", 409));
        assert_eq!(answered(held, Concern::Server), ("OBE19012", 409));
        assert_eq!(answered(Code::ReplicaInvalid, Concern::Zone), ("OBE11070", 400));
        assert_eq!(answered(Code::ZoneNotExist, Concern::Cluster), ("OBE18002", 404));
        assert_eq!(answered(Code::RpcRequestFailed, Concern::None), ("CMP10001", 500));
        assert_eq!(answered(Code::MysqlError, Concern::Server), ("OBE10002", 500));
        assert_eq!(answered(Code::DatabaseUseless, Concern::Server), ("OBE10001", 500));
        assert_eq!(answered(Code::PlanChanged, Concern::Cluster), ("COM10005", 409));
        assert_eq!(answered(Code::StopFailed, Concern::Zone), ("OBE18006", 500));
        assert_eq!(answered(Code::StopFailed, Concern::Server), ("OBE19005", 500));
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        let error = Error::new(Code::UnderMaintenanceDag, "wait for task 7, or name it in forcePassDag")
            .with_data(serde_json::json!({ "id": "7" }));
        let refusal = Concern::Server.refusal(error);
        assert_eq!(refusal.error.code, Code::UnderMaintenanceDag);
        assert!(refusal.error.text().contains("forcePassDag"));
        assert!(refusal.error.data().is_some());
    }

    #[test]
    fn codes_are_one_of_a_kind_and_errors() {
        let mut names: Vec<_> = OcpCode::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OcpCode::ALL.len());
        for code in OcpCode::ALL {
            assert!((400..600).contains(&code.status()), "{}", code.name());
        }
    }

    /// A code of v1 that was chosen for one of OCP's leads back to a status of the same kind.
    #[test]
    fn what_only_v2_refuses_has_a_neighbour_in_v1() {
        for code in OcpCode::ALL {
            let neighbour = nearest(*code);
            assert!(Code::ALL.contains(&neighbour), "{}", code.name());
        }
    }
}

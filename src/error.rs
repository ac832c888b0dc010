//! The public errors: one table of codes, and the one type that crosses room walls and reaches a client.
//!
//! Purpose: a row of the table is a promise to clients: `errCode`, HTTP status, legacy number (SDKs act on 1 and
//! 10008, `http-api.md` §10.2) and a short title in both languages. `proto/errors.json` is the same table under
//! review; a test compares them.
//!
//! Invariant: `text` is written for the operator who reads it at night: what happened, with the values, and
//! where possible what to do. Causes that only help us stand in `source` and go to the log, never to a client.
//!
//! Not here: the envelope (`wire`), exit codes (`cli::exit`), the errors that stay inside one room.

use std::error::Error as StdError;
use std::fmt;

use serde_json::Value;

pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($variant:ident $name:literal $status:literal $legacy:expr, $en:literal, $zh:literal;)*) => {
        /// A public error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($variant),* }

        impl Code {
            /// Every row, in the order of `proto/errors.json`.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The row of a name that was stored or came from a peer.
            pub fn by_name(name: &str) -> Option<Self> { Self::ALL.iter().copied().find(|code| code.name() == name) }

            /// `errCode` on the wire.
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }

            /// HTTP status in v1.
            pub fn status(self) -> u16 { match self { $(Self::$variant => $status),* } }

            /// The number in `code`; absent where OBShell sends none.
            pub fn legacy(self) -> Option<i32> { match self { $(Self::$variant => $legacy),* } }

            pub fn title_en(self) -> &'static str { match self { $(Self::$variant => $en),* } }

            pub fn title_zh(self) -> &'static str { match self { $(Self::$variant => $zh),* } }
        }
    };
}

const NONE: Option<i32> = None;
const AUTH: Option<i32> = Some(10008);

codes! {
    BadRequest "Common.BadRequest" 400 NONE, "the request cannot be carried out as it stands", "请求无法按原样执行";
    BindJsonFailed "Common.BindJsonFailed" 400 NONE, "the body does not have the expected shape", "请求体格式不符合要求";
    IllegalArgument "Common.IllegalArgument" 400 NONE, "an argument has a value that is not allowed", "参数取值不合法";
    InvalidPort "Common.InvalidPort" 400 NONE, "not a usable port", "端口不可用";
    InvalidIp "Common.InvalidIp" 400 NONE, "not an IP address", "IP 地址不合法";
    InvalidAddress "Common.InvalidAddress" 400 NONE, "not an address", "地址不合法";
    InvalidPath "Common.InvalidPath" 400 NONE, "the path is not allowed", "路径不合法";
    NotSupported "Common.NotSupported" 400 NONE, "not supported", "不支持该功能";
    NotFound "Common.NotFound" 404 NONE, "no such route", "路由不存在";
    Unauthorized "Common.Unauthorized" 401 AUTH, "not authorised", "未通过认证";
    DirNotEmpty "Common.DirNotEmpty" 500 NONE, "a directory that must be empty is not", "目录非空";
    Unexpected "Common.Unexpected" 500 NONE, "unexpected failure", "意外错误";
    MysqlError "MySQL.Error" 400 NONE, "the database refused the statement", "数据库拒绝了该语句";
    BodyTooLarge "Request.Body.TooLarge" 413 NONE, "the body is too large", "请求体过大";
    BodyReadFailed "Request.Body.ReadFailed" 400 NONE, "the body could not be read", "请求体读取失败";
    TooManyRequests "Request.TooMany" 429 NONE, "too many failed attempts", "失败次数过多";
    Busy "Request.Busy" 503 NONE, "the agent is at its limit", "代理已达上限";
    AesKeyNotFound "Request.AESKey.NotFound" 400 NONE, "no keys to seal the answer with", "缺少用于加密应答的密钥";
    HeaderNotFound "Request.Header.NotFound" 400 NONE, "no authentication header", "缺少认证请求头";
    QueryIllegal "Request.Query.Param.Illegal" 400 NONE, "a query parameter is not usable", "查询参数不合法";
    UriMismatch "Security.Authentication.Header.UriMismatch" 401 AUTH, "the header was made for another target", "请求头与请求路径不符";
    AuthExpired "Security.Authentication.Expired" 401 AUTH, "the header has expired", "请求头已过期";
    AuthTimestamp "Security.Authentication.Timestamp.Invalid" 401 AUTH, "the header's time is not usable", "请求头时间戳无效";
    KeyIdUnknown "Security.Authentication.KeyId.Unknown" 401 AUTH, "the request was sealed with another key than this agent has", "请求使用的密钥与本代理的密钥不符";
    UserDenied "Security.User.PermissionDenied" 401 NONE, "this user may not use the socket", "该用户无权使用套接字";
    TaskNotFound "Task.NotFound" 404 NONE, "no such task", "任务不存在";
    GenericIdInvalid "Task.GenericID.Invalid" 400 NONE, "not a task id", "任务 ID 不合法";
    TaskCreateFailed "Task.CreateFailed" 500 NONE, "the task could not be recorded", "任务创建失败";
    DagOperatorUnknown "Task.Dag.Operator.NotSupport" 400 NONE, "unknown operator", "不支持的操作";
    RetryNotFailed "Task.Dag.Operator.RetryNotFailedDag" 400 NONE, "only a failed task can be retried", "只能重试失败的任务";
    RetryNotAllowed "Task.Dag.Operator.RetryNotAllowed" 400 NONE, "this task cannot be retried", "该任务不允许重试";
    RollbackNotFailed "Task.Dag.Operator.RollbackNotFailedDag" 400 NONE, "only a failed task can be rolled back", "只能回滚失败的任务";
    RollbackNotAllowed "Task.Dag.Operator.RollbackNotAllowed" 400 NONE, "this task cannot be rolled back", "该任务不允许回滚";
    CancelFinished "Task.Dag.Operator.CancelFinishedDag" 400 NONE, "the task has ended already", "任务已结束";
    CancelNotAllowed "Task.Dag.Operator.CancelNotAllowed" 400 NONE, "this task cannot be cancelled", "该任务不允许取消";
    PassNotFailed "Task.Dag.Operator.PassNotFailedDag" 400 NONE, "only a failed task can be passed", "只能跳过失败的任务";
    PassNotAllowed "Task.Dag.Operator.PassNotAllowed" 400 NONE, "this task cannot be passed", "该任务不允许跳过";
    SteerNotAllowed "Task.Dag.Operator.SteerNotAllowed" 400 NONE, "the task cannot be paused, resumed or aborted now", "当前不能暂停、继续或中止该任务";
    NodeOperatorUnknown "Task.Node.Operator.NotSupport" 400 NONE, "only PASS exists for nodes", "节点仅支持 PASS";
    NodePassNotFailedDag "Task.Node.Operator.PassNotFailedDag" 400 NONE, "a node can be passed only while its task has failed", "仅可在任务失败时跳过节点";
    NodePassNotFailed "Task.Node.Operator.PassNotFailedNode" 400 NONE, "only a failed node can be passed", "只能跳过失败的节点";
    NodePassNotAllowed "Task.Node.Operator.PassNotAllowed" 400 NONE, "this node cannot be passed", "该节点不允许跳过";
    ExecuteTimeout "Task.Dag.ExecuteTimeout" 500 NONE, "the deadline of the step has passed", "步骤超时";
    CancelTimeout "Task.Dag.CancelTimeout" 500 NONE, "the task did not stop in time", "取消任务超时";
    SubDagsNotCreated "Task.SubDag.NotAllCreated" 500 NONE, "not every agent could be prepared", "部分代理未能创建子任务";
    SubDagsNotReady "Task.SubDag.NotAllReady" 500 NONE, "not every agent became ready", "部分代理未就绪";
    SubDagsNotAdvanced "Task.SubDag.NotAllAdvanced" 500 NONE, "not every agent could be told to go", "部分代理未能推进";
    SubDagsNotSucceeded "Task.SubDag.NotAllSucceed" 500 NONE, "not every agent succeeded", "部分代理执行失败";
    IdentityNotSupported "Agent.Identify.NotSupportOperation" 400 NONE, "not for an agent of this identity", "当前代理身份不支持该操作";
    UnderMaintenance "Agent.UnderMaintenance" 500 NONE, "the agent is busy with another task", "代理正在运维中";
    UnderMaintenanceDag "Agent.UnderMaintenanceDag" 500 NONE, "the agent is busy with another task", "代理正在执行其他任务";
    AgentNotExist "Agent.NotExist" 400 NONE, "no such agent", "代理不存在";
    AgentAlreadyExists "Agent.AlreadyExists" 500 NONE, "the agent is a member already", "代理已是集群成员";
    TakeOverNotExistInCluster "Agent.TakeOver.NotExistInCluster" 500 NONE, "the agent's server is none of this cluster", "代理的数据库节点不属于该集群";
    NoMaster "Agent.NoMaster" 500 NONE, "the master is not known", "未找到 MASTER 代理";
    VersionInconsistent "Agent.Version.Inconsistent" 400 NONE, "agents of different versions", "代理版本不一致";
    ObVersionInconsistent "Agent.OB.Version.Inconsistent" 400 NONE, "databases of different versions", "数据库版本不一致";
    RpcRequestError "Agent.RPC.RequestError" 500 NONE, "another agent refused", "其他代理拒绝了请求";
    RpcRequestFailed "Agent.RPC.RequestFailed" 500 NONE, "another agent does not answer", "其他代理无响应";
    DatabaseUseless "Agent.OceanBase.Useless" 500 NONE, "the database does not answer", "数据库无响应";
    ScopeInvalid "OB.Cluster.Scope.Invalid" 400 NONE, "unknown scope", "作用域不合法";
    ClusterIdInvalid "OB.Cluster.Id.Invalid" 400 NONE, "not a cluster id", "集群 ID 不合法";
    ClusterNameEmpty "OB.Cluster.Name.Empty" 400 NONE, "the cluster needs a name", "集群名不能为空";
    AlreadyInitialized "OB.Cluster.AlreadyInitialized" 400 NONE, "the cluster is initialised already", "集群已初始化";
    NotInitialized "OB.Cluster.NotInitialized" 400 NONE, "no database was ever started here", "数据库从未启动";
    PasswordIncorrect "OB.Cluster.Password.Incorrect" 400 NONE, "the database refuses this password", "数据库密码错误";
    StopModeConflict "OB.Cluster.StopModeConflict" 400 NONE, "force and terminate exclude each other", "force 与 terminate 不能同时使用";
    ForceStopRequired "OB.Cluster.ForceStopRequired" 400 NONE, "only force is possible while the database does not answer", "数据库不可用时须使用 force";
    StopModeRequired "OB.Cluster.ForceStopOrTerminateRequired" 400 NONE, "force or terminate is required", "须指定 force 或 terminate";
    ReplicaInvalid "OB.Cluster.Tenant.Replica.Invalid" 400 NONE, "a log stream would lose its majority", "日志流将失去多数派";
    MultiPaxosNotAlive "OB.Cluster.MultiPaxosNotAlive" 400 NONE, "a log stream would lose its majority without this server", "移除该节点后日志流将失去多数派";
    ScaleOutHigherVersion "OB.Cluster.ScaleOutHigherVersion" 400 NONE, "the new agent is too new", "新代理版本过高";
    ScaleOutLowerVersion "OB.Cluster.ScaleOutLowerVersion" 400 NONE, "the new agent is too old", "新代理版本过低";
    ServerDeleteSelf "OB.Server.DeleteSelf" 400 NONE, "an agent does not remove its own server", "代理不能移除自身节点";
    ServerNotExist "OB.Server.NotExist" 400 NONE, "no such server in the cluster", "集群中不存在该节点";
    ServerNotDeleting "OB.Server.NotDeleting" 500 NONE, "the server is not being deleted any more", "节点不处于删除状态";
    StoppedInMultiZone "OB.Server.StoppedInMultiZone" 400 NONE, "servers of several zones would be stopped", "不能同时停止多个 Zone 中的节点";
    ParameterScope "OB.Parameter.Scope.Invalid" 400 NONE, "unknown scope of a parameter", "参数作用域不合法";
    SharedStorageNotSupported "SharedStorage.NotSupported" 400 NONE, "the cluster has no shared storage", "集群未使用共享存储";
    RsListInvalid "OB.Parameter.RsList.Invalid" 400 NONE, "the list of root servers does not fit", "rootservice_list 不合法";
    TooFewZones "OB.Zone.TooFew" 400 NONE, "too few zones to go one after another", "Zone 数量不足，无法逐个 Zone 操作";
    OnlyServer "OB.Server.Only" 400 NONE, "nothing else of the cluster would be left", "该操作将停止集群中仅有的节点";
    PlanChanged "OB.Plan.Changed" 400 NONE, "the plan does not hold any more", "计划已失效";
    ServerNotReady "OB.Server.Unavailable" 500 NONE, "the database process is not serving", "数据库进程不可用";
    ProcessNotExist "OB.Server.Process.NotExist" 500 NONE, "the database process is gone", "数据库进程不存在";
    ProcessCheckFailed "OB.Server.Process.CheckFailed" 500 NONE, "the database process cannot be examined", "无法检查数据库进程";
    ZoneNotExist "OB.Zone.NotExist" 400 NONE, "no such zone", "Zone 不存在";
    ZoneNotEmpty "OB.Zone.NotEmpty" 400 NONE, "the zone has units of tenants", "Zone 中仍有资源单元";
    ZoneDeleteSelf "OB.Zone.DeleteSelf" 400 NONE, "an agent does not delete its own zone", "代理不能删除自身所在的 Zone";
    AsyncTimeout "OB.Cluster.AsyncOperationTimeout" 500 NONE, "the database did not finish it in time", "数据库异步操作超时";
    MinorFreezeTimeout "OB.Cluster.MinorFreezeTimeout" 500 NONE, "the checkpoint did not advance in time", "转储超时";
    BinaryVersion "OB.Binary.Version.Unexpected" 500 NONE, "the engine's version text was not understood", "无法识别数据库二进制版本";
    PreflightFailed "OB.Server.Preflight.Failed" 500 NONE, "the server would not start", "启动前检查未通过";
    StartFailed "OB.Server.Start.Failed" 500 NONE, "the server did not start", "启动数据库进程失败";
    StopFailed "OB.Server.Stop.Failed" 500 NONE, "the server did not stop", "停止数据库进程失败";
}

/// A failure with its public code. Built with [`Error::new`] and the `with_…` methods.
pub struct Error {
    pub code: Code,
    text: String,
    /// What may accompany the error in the envelope's `data`.
    data: Option<Box<Value>>,
    /// Facts for the task's record (`additional_data.diagnosis`): exit status, log lines, causes with advice.
    diagnosis: Option<Box<Value>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), data: None, diagnosis: None, source: None }
    }

    /// A failure without a code of its own.
    pub fn unexpected(text: impl Into<String>) -> Self {
        Self::new(Code::Unexpected, text)
    }

    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(Box::new(data));
        self
    }

    #[must_use]
    pub fn with_diagnosis(mut self, diagnosis: Value) -> Self {
        self.diagnosis = Some(Box::new(diagnosis));
        self
    }

    /// The first line of the text: below it a server may write what differs each time (`enable_rich_error_msg`).
    pub fn headline(&self) -> &str {
        self.text().lines().next().unwrap_or_default()
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn data(&self) -> Option<&Value> {
        self.data.as_deref()
    }

    pub fn diagnosis(&self) -> Option<&Value> {
        self.diagnosis.as_deref()
    }

    /// The whole chain of causes on one line, for the log.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(inner) = cause {
            line.push_str(": ");
            line.push_str(&inner.to_string());
            cause = inner.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code.name(), self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

/// The document `proto/errors.json`.
pub fn table_as_json() -> Value {
    let rows = Code::ALL.iter().map(|code| {
        serde_json::json!({
            "errCode": code.name(),
            "status": code.status(),
            "code": code.legacy(),
            "en": code.title_en(),
            "zh": code.title_zh(),
        })
    });
    Value::Array(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_statuses_are_errors() {
        let mut names: Vec<_> = Code::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|c| (400..600).contains(&c.status())));
    }

    #[test]
    fn every_authentication_refusal_makes_the_sdks_read_the_key_again() {
        for code in Code::ALL.iter().filter(|c| c.name().starts_with("Security.Authentication.")) {
            assert_eq!((code.status(), code.legacy()), (401, AUTH), "{}", code.name());
        }
    }
}

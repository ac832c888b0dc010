//! The command tree. Names and short flags follow OBShell's (`cli.md` §3–§6); long names are accepted with dashes and
//! with underscores.

use std::net::IpAddr;

use camino::Utf8PathBuf;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use super::exit;
use super::security::SecurityCommand;
use super::store::StoreCommand;
use crate::config::EngineKind;

/// Operates an OceanBase server on this host, and keeps every step.
#[derive(Debug, Parser)]
#[command(name = "obpilot", version, propagate_version = true, arg_required_else_help = true, after_help = exit::table())]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Over the options that every command takes.
const AGENT: &str = "Which agent, and how to answer";

#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Home of the database; its agent is asked through the socket there
    #[arg(long, env = "OBPILOT_HOME", global = true, help_heading = AGENT, value_name = "DIR", value_parser = from_here)]
    pub home: Option<Utf8PathBuf>,
    /// Unix socket of the agent, where it is not in the home
    #[arg(long, global = true, help_heading = AGENT, value_name = "PATH", hide_short_help = true, value_parser = from_here)]
    pub socket: Option<Utf8PathBuf>,
    /// Ask an agent over TCP instead, at ip:port or https://ip:port; needs its password
    #[arg(long, global = true, help_heading = AGENT, value_name = "IP:PORT")]
    pub host: Option<String>,
    /// File with the password for --host, or for the command (first line); else OBPILOT_PASSWORD, else a prompt
    #[arg(long, global = true, help_heading = AGENT, value_name = "FILE", hide_short_help = true)]
    pub password_file: Option<Utf8PathBuf>,
    /// File with the roots that --host https://… is trusted by, instead of the system's
    #[arg(long, global = true, help_heading = AGENT, value_name = "FILE", hide_short_help = true, value_parser = from_here)]
    pub ca: Option<Utf8PathBuf>,
    /// File with a certificate and its key, for an agent that asks for one
    #[arg(long, global = true, help_heading = AGENT, value_name = "FILE", hide_short_help = true, value_parser = from_here)]
    pub client_cert: Option<Utf8PathBuf>,
    /// Take the key that the agent of --host shows now, whatever it was before
    #[arg(long, global = true, help_heading = AGENT, hide_short_help = true)]
    pub accept_new_key: bool,
    /// Form of what goes to stdout
    #[arg(long, short = None, global = true, help_heading = AGENT, value_enum, default_value_t = Output::Text, value_name = "FORM")]
    pub output: Output,
    /// Say nothing while a task runs
    #[arg(long, short, global = true, help_heading = AGENT)]
    pub quiet: bool,
}

/// A path as the caller means it: from where the command is given, whatever directory the agent works in.
fn from_here(text: &str) -> Result<Utf8PathBuf, String> {
    camino::absolute_utf8(text).map_err(|e| e.to_string())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The agent itself: run, start, stop, restart, status
    #[command(subcommand)]
    Agent(AgentCommand),
    /// The cluster: join, configure, init, start, stop, restart, show
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Who holds what, since when, for what, until when
    WhyBlocked(WhyBlockedArgs),
    /// Tasks: list, show, watch, graph, and the operators
    #[command(subcommand, visible_alias = "utilities")]
    Task(TaskCommand),
    /// Who did what from where; the agent's keys
    #[command(subcommand)]
    Security(SecurityCommand),
    /// The agent's store: backup and check
    #[command(subcommand)]
    Store(StoreCommand),
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Documents that are made from the code
    #[command(subcommand, hide = true)]
    Debug(DebugCommand),
}

#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Run the agent in the foreground (what systemd calls)
    Run(RunArgs),
    /// Start the agent in the background and wait until it answers
    Start(RunArgs),
    /// Stop the agent; the database goes on
    Stop(StopAgentArgs),
    /// Stop it and start it again with what it remembers
    Restart(RunArgs),
    /// What runs where, since when
    Status,
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Address under which the agent is known; needed once
    #[arg(long, value_name = "IP")]
    pub ip: Option<IpAddr>,
    /// Port of the API [default: 2886]
    #[arg(long, short = 'P', value_name = "PORT")]
    pub port: Option<u16>,
    /// Which database runs in this home
    #[arg(long, value_name = "observer|seekdb")]
    pub engine: Option<EngineKind>,
    /// Its executable
    #[arg(long, visible_alias = "engine_bin", value_name = "PATH", value_parser = from_here)]
    pub engine_bin: Option<Utf8PathBuf>,
    /// Configuration file (see config.example.toml)
    #[arg(long, env = "OBPILOT_CONFIG", value_name = "FILE", value_parser = from_here)]
    pub config: Option<Utf8PathBuf>,
    /// Level or filter of the agent's log
    #[arg(long, env = "OBPILOT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Seconds to wait until it answers (start and restart)
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub timeout: u64,
    /// Make a session of its own (what `agent start` calls)
    #[arg(long, hide = true)]
    pub detached: bool,
}

#[derive(Clone, Debug, Args)]
pub struct StopAgentArgs {
    /// Seconds to wait until it has ended
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub timeout: u64,
}

/// Options for the database server, as `observerConfig` takes them.
#[derive(Clone, Debug, Default, Args)]
pub struct ServerOptions {
    /// Port of the MySQL protocol
    #[arg(long = "mysql_port", alias = "mysql-port", short = 'p', value_name = "PORT")]
    pub mysql_port: Option<u16>,
    /// Port between servers
    #[arg(long = "rpc_port", alias = "rpc-port", short = 'P', value_name = "PORT")]
    pub rpc_port: Option<u16>,
    /// Directory of the data
    #[arg(long = "data_dir", alias = "data-dir", short = 'd', value_name = "DIR")]
    pub data_dir: Option<Utf8PathBuf>,
    /// Directory of the redo log
    #[arg(long = "redo_dir", alias = "redo-dir", short = 'r', value_name = "DIR")]
    pub redo_dir: Option<Utf8PathBuf>,
    /// Level of the server's log
    #[arg(
        long = "log_level",
        alias = "log-level",
        short = 'l',
        ignore_case = true,
        value_enum,
        value_name = "LEVEL"
    )]
    pub log_level: Option<LogLevel>,
    /// Any other setting as name=value; may be given more than once
    #[arg(long = "opt_str", alias = "opt-str", short = 'o', value_name = "NAME=VALUE")]
    pub options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum LogLevel {
    Debug,
    Trace,
    Wdiag,
    Ediag,
    Info,
    Warn,
    Error,
}

/// All locks of the cluster, or what one task is blocked by.
#[derive(Clone, Debug, Args)]
pub struct WhyBlockedArgs {
    /// A task
    #[arg(value_name = "ID")]
    pub id: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make this agent the master of a cluster to be, or a follower of one
    Join(JoinArgs),
    /// Leave a cluster that is not initialised, or let another agent leave it
    Remove(RemoveArgs),
    /// Set name, id, root password and server options, before init
    Config(ConfigArgs),
    /// Create the database; takes the options of `config` too
    Init(InitArgs),
    /// Start servers
    Start(StartArgs),
    /// Stop servers
    Stop(StopArgs),
    /// Restart servers, several zones one after another; shows its plan and asks
    Restart(super::restart::RestartArgs),
    /// Manage a running cluster that something else deployed: its agents have joined one; shows its plan and asks
    TakeOver(super::take_over::TakeOverArgs),
    /// Add a new host's server to a running cluster; shows its plan and asks
    ScaleOut(ScaleOutArgs),
    /// Take a server, or a zone with all of its servers, out of a running cluster; shows its plan and asks
    ScaleIn(ScaleInArgs),
    /// Take a zone with all of its servers out of a running cluster; shows its plan and asks
    DeleteZone(DeleteZoneArgs),
    /// Agents, servers, states
    Show(ShowArgs),
    /// Tell the agent the root password that was set elsewhere
    Password(PasswordArgs),
    /// Parameters of the database: show, set
    #[command(subcommand)]
    Parameter(super::parameter::ParameterCommand),
}

#[derive(Clone, Debug, Args)]
pub struct JoinArgs {
    /// Agent to join; itself by default
    #[arg(long, short, value_name = "IP:PORT")]
    pub server: Option<String>,
    /// Zone of this agent
    #[arg(long, short)]
    pub zone: String,
    /// File with the agent password of the agent to join (first line); else OBPILOT_MASTER_PASSWORD, else none
    #[arg(long = "master-password-file", alias = "master_password_file", value_name = "FILE")]
    pub master_password_file: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub options: ServerOptions,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Clone, Debug, Args)]
pub struct RemoveArgs {
    /// The agent that leaves; this one by default
    #[arg(long, short, value_name = "IP:PORT")]
    pub server: Option<String>,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    pub settings: ClusterSettings,
    #[command(flatten)]
    pub options: ServerOptions,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ClusterSettings {
    /// Name of the cluster
    #[arg(long = "cluster_name", alias = "cluster-name", short = 'n', value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// Id of the cluster [default: 1]
    #[arg(long = "cluster_id", alias = "cluster-id", short = 'i', value_name = "NUMBER")]
    pub cluster_id: Option<i64>,
    #[command(flatten)]
    pub root: RootPassword,
    /// Root servers as ip:rpc_port:sql_port, separated by `;` (engine observer)
    #[arg(long = "rs_list", alias = "rs-list", alias = "rs", value_name = "LIST")]
    pub rs_list: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub settings: ClusterSettings,
    #[command(flatten)]
    pub options: ServerOptions,
    /// Load time zones and the like after init (engine observer)
    #[arg(long = "import_script", alias = "import-script")]
    pub import_script: bool,
    /// Make the user that obproxy asks as (engine observer)
    #[arg(long = "create_proxyro_user", alias = "create-proxyro-user")]
    pub create_proxyro_user: bool,
    /// File with the password of that user (first line); else OBPILOT_PROXYRO_PASSWORD, else none
    #[arg(long = "proxyro-password-file", value_name = "FILE", requires = "create_proxyro_user")]
    pub proxyro_password_file: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Which servers. None of the three: the agent's own.
#[derive(Clone, Debug, Default, Args)]
pub struct ScopeArgs {
    /// Agents whose servers, comma separated
    #[arg(long, short, value_delimiter = ',', value_name = "IP:PORT", group = "scope")]
    pub server: Vec<String>,
    /// Zones, comma separated
    #[arg(long, short, value_delimiter = ',', group = "scope")]
    pub zone: Vec<String>,
    /// The whole cluster
    #[arg(long, short, group = "scope")]
    pub all: bool,
    /// Earlier start or stop tasks that may be pushed aside (forcePassDag), comma separated
    #[arg(long, short, value_delimiter = ',', value_name = "ID")]
    pub id: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// For scripts written for OBShell: a start asks nothing anyway
    #[arg(long, short, hide = true)]
    pub yes: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// Of commands that show their plan, ask, and do exactly that.
#[derive(Clone, Debug, Args)]
pub struct PlannedArgs {
    /// Show what would be done, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Kill the processes at once
    #[arg(long, short, group = "mode")]
    pub force: bool,
    /// Freeze, then stop gracefully (the default)
    #[arg(long, short, group = "mode")]
    pub terminate: bool,
    /// Take the servers out of service, and leave their processes running (engine observer)
    #[arg(long, short = 'I', group = "mode")]
    pub immediate: bool,
    #[command(flatten)]
    pub planned: PlannedArgs,
}

#[derive(Clone, Debug, Args)]
pub struct RootPassword {
    /// Password of root@sys; seen by others in the process list, so rather --rootpassword-file, OBPILOT_ROOT_PASSWORD or the prompt
    #[arg(long = "rootpassword", alias = "rp", alias = "root-password", value_name = "PASSWORD")]
    pub root_password: Option<String>,
    /// File with the password of root@sys (first line)
    #[arg(
        long = "rootpassword-file",
        alias = "rootpassword_file",
        value_name = "FILE",
        conflicts_with = "root_password"
    )]
    pub root_password_file: Option<Utf8PathBuf>,
}

impl RootPassword {
    pub fn is_given(&self) -> bool {
        self.root_password.is_some() || self.root_password_file.is_some()
    }
}

#[derive(Clone, Debug, Args)]
pub struct ScaleOutArgs {
    /// On the new host: any agent of the cluster. On an agent of the cluster: the new one
    #[arg(long, short, value_name = "IP:PORT")]
    pub server: String,
    /// Zone of the new server; one that does not exist is made
    #[arg(long, short)]
    pub zone: String,
    #[command(flatten)]
    pub root: RootPassword,
    /// File with the agent password of the new agent (first line); else OBPILOT_AGENT_PASSWORD, else none
    #[arg(long = "agent-password-file", alias = "agent_password_file", value_name = "FILE")]
    pub agent_password_file: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub options: ServerOptions,
    #[command(flatten)]
    pub planned: PlannedArgs,
}

#[derive(Clone, Debug, Args)]
#[group(id = "leaving", required = true, multiple = false, args = ["server", "zone"])]
pub struct ScaleInArgs {
    /// Agent that leaves with its server
    #[arg(long, short, value_name = "IP:PORT")]
    pub server: Option<String>,
    /// The same as delete-zone
    #[arg(long, short)]
    pub zone: Option<String>,
    /// Kill the server at once instead of waiting until the database has moved what is there
    #[arg(long, short, conflicts_with = "zone")]
    pub force: bool,
    #[command(flatten)]
    pub planned: PlannedArgs,
}

#[derive(Clone, Debug, Args)]
pub struct DeleteZoneArgs {
    /// The zone that goes
    #[arg(long, short)]
    pub zone: String,
    #[command(flatten)]
    pub planned: PlannedArgs,
}

#[derive(Clone, Debug, Default, Args)]
pub struct WaitArgs {
    /// Print the task's id and do not wait for its end
    #[arg(long)]
    pub no_wait: bool,
    /// Stop waiting after so many seconds; the task goes on (exit code 5)
    #[arg(long, value_name = "SECONDS")]
    pub wait_timeout: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// With maintenance and state of the database
    #[arg(long = "show_detail", alias = "show-detail", short = 'd')]
    pub detail: bool,
}

#[derive(Clone, Debug, Args)]
pub struct PasswordArgs {
    /// File with the new password (first line); else OBPILOT_ROOT_PASSWORD, else a prompt
    #[arg(long = "rootpassword-file", alias = "rootpassword_file", value_name = "FILE")]
    pub root_password_file: Option<Utf8PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Tasks of this agent, newest last
    List(ListArgs),
    /// One task; without id the unfinished ones
    Show(TaskShowArgs),
    /// Follow a task to its end
    Watch(WatchArgs),
    /// The graph of a task as the v2 API tells it
    Graph(GraphArgs),
    /// Run again what failed
    #[command(visible_alias = "rerun")]
    Retry(OperateArgs),
    /// Undo what was done
    Rollback(OperateArgs),
    /// Stop it; what was done stays
    #[command(visible_alias = "stop")]
    Cancel(OperateArgs),
    /// Call it done as it is, and free its lock
    #[command(visible_alias = "skip")]
    Pass(OperateArgs),
    /// Let it stand still before its next safe point
    Pause(OperateArgs),
    /// Let it go on after a pause
    Resume(OperateArgs),
    /// End it before its next safe point; what was done stays
    Abort(OperateArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Only what nobody has dealt with yet
    #[arg(long, short)]
    pub unfinished: bool,
    /// The newest so many; 0 for all
    #[arg(long, default_value_t = 20, value_name = "NUMBER")]
    pub last: usize,
}

/// A task's id, as a word or as OBShell's flag.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct IdArgs {
    /// The task
    #[arg(value_name = "ID")]
    pub word: Option<String>,
    #[arg(long = "id", short = 'i', value_name = "ID", hide_short_help = true)]
    pub flag: Option<String>,
}

impl IdArgs {
    pub fn get(&self) -> String {
        self.word.clone().or_else(|| self.flag.clone()).unwrap_or_default()
    }
}

#[derive(Clone, Debug, Args)]
pub struct TaskShowArgs {
    /// The task; without it all unfinished ones
    #[arg(value_name = "ID")]
    pub word: Option<String>,
    #[arg(long = "id", short = 'i', value_name = "ID", hide_short_help = true, conflicts_with = "word")]
    pub flag: Option<String>,
    /// With every line of its record
    #[arg(long = "show_detail", alias = "show-detail", short = 'd')]
    pub detail: bool,
}

#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub id: IdArgs,
    /// Stop watching after so many seconds; the task goes on (exit code 5)
    #[arg(long, value_name = "SECONDS")]
    pub wait_timeout: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    pub id: IdArgs,
}

#[derive(Clone, Debug, Args)]
pub struct OperateArgs {
    #[command(flatten)]
    pub id: IdArgs,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a configuration file as the agent would, and say what is wrong
    Check { file: Utf8PathBuf },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum DebugCommand {
    /// The OpenAPI document (proto/openapi.json)
    Openapi,
    /// The table of error codes (proto/errors.json)
    Errors,
    /// The OpenAPI document of the v2 API (proto/openapi-v2.json)
    OpenapiV2,
    /// The table of OCP's error codes (proto/ocp-errors.json)
    OcpErrors,
}

/// The tree, for completions and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

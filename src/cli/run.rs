//! From arguments to an exit code.

use std::process::ExitCode;

use clap::Parser;
use clap_complete::generate;

use super::args::{
    AgentCommand, Cli, Command, ConfigCommand, DebugCommand, Global, Output, RunArgs, StopAgentArgs, command,
};
use super::exit::{Ending, Exit};
use super::{agent, cluster, render, security, store, task};
use crate::config::{Config, ConfigError, Overrides};

/// What `main` has to do.
#[derive(Debug)]
pub enum Next {
    /// Be the agent.
    Agent(Box<Config>),
    /// The command has ended.
    Exit(ExitCode),
}

/// Parses, and runs everything but the agent itself.
pub fn run() -> Next {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; everything else is a wrong command line.
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            drop(error.print());
            return Next::Exit(ExitCode::from(code.code()));
        }
    };
    let Cli { global, command } = cli;
    if let Command::Agent(AgentCommand::Run(args)) = &command {
        return match agent_config(args, &global) {
            Ok(config) => Next::Agent(Box::new(config)),
            Err(error) => Next::Exit(finish(Err(config_ending(&error)))),
        };
    }
    Next::Exit(finish(in_runtime(command, &global)))
}

pub fn finish(ended: Result<(), Ending>) -> ExitCode {
    let lost = render::lost();
    let written = lost.map_or(Ok(()), |why| {
        Err(Ending::new(Exit::Failed, format!("the output could not be written: {why}")))
    });
    match ended.and(written) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => {
            render::ending(&ending);
            ExitCode::from(ending.exit.code())
        }
    }
}

fn agent_config(args: &RunArgs, global: &Global) -> Result<Config, ConfigError> {
    let overrides = Overrides {
        home: global.home.clone(),
        socket: global.socket.clone(),
        ip: args.ip,
        port: args.port,
        engine: args.engine,
        engine_bin: args.engine_bin.clone(),
        log_filter: args.log.clone(),
        is_detached: args.detached,
    };
    Config::load(args.config.as_deref(), overrides)
}

fn config_ending(error: &ConfigError) -> Ending {
    use std::error::Error as _;
    let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
    Ending::usage(format!("{error}{cause}"))
}

fn in_runtime(command: Command, global: &Global) -> Result<(), Ending> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Ending::new(Exit::Failed, format!("no runtime: {e}")))?;
    runtime.block_on(dispatch(command, global))
}

async fn dispatch(command: Command, global: &Global) -> Result<(), Ending> {
    match command {
        Command::Agent(AgentCommand::Run(_)) => Err(Ending::new(Exit::Failed, "the agent runs in main")),
        Command::Agent(AgentCommand::Start(args)) => agent::start(&args, global).await,
        Command::Agent(AgentCommand::Stop(args)) => agent::stop(&args, global, global.output).await,
        Command::Agent(AgentCommand::Restart(args)) => {
            agent::stop(&StopAgentArgs { timeout: args.timeout }, global, Output::Text).await?;
            agent::start(&args, global).await
        }
        Command::Agent(AgentCommand::Status) => agent::status(global).await,
        Command::Cluster(command) => cluster::run(command, global).await,
        Command::WhyBlocked(args) => cluster::why_blocked(&args, global).await,
        Command::Task(command) => task::run(command, global).await,
        Command::Security(command) => security::run(command, global).await,
        Command::Store(command) => store::run(command, global),
        Command::Config(ConfigCommand::Check { file }) => {
            let checked = Config::load(Some(&file), Overrides::default());
            checked.map_err(|e| config_ending(&e))?;
            render::done(
                global.output,
                &format!("{file} is valid"),
                &serde_json::json!({ "file": file, "valid": true }),
            );
            Ok(())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            generate(shell, &mut self::command(), "obpilot", &mut script);
            render::out(&String::from_utf8_lossy(&script));
            Ok(())
        }
        Command::Debug(DebugCommand::Openapi) => {
            render::out(&crate::api::document());
            Ok(())
        }
        Command::Debug(DebugCommand::Errors) => {
            render::json(&crate::error::table_as_json());
            Ok(())
        }
        Command::Debug(DebugCommand::OpenapiV2) => {
            render::out(&crate::api::document_v2());
            Ok(())
        }
        Command::Debug(DebugCommand::OcpErrors) => {
            render::json(&crate::api::ocp_errors());
            Ok(())
        }
    }
}

//! Arguments in, exit code out.

use std::process::ExitCode;

use obpilot::cli::exit::{Ending, Exit};
use obpilot::cli::{self, Next};
use obpilot::daemon::{self, DaemonError};

fn main() -> ExitCode {
    match cli::run() {
        Next::Exit(code) => code,
        Next::Agent(config) => cli::finish(daemon::run(&config).map_err(|error| ending(&error))),
    }
}

/// systemd does not start an agent again that ended with 2, 8 or 9 (see systemd/obpilot.service).
fn ending(error: &DaemonError) -> Ending {
    let exit = match error {
        DaemonError::Usage(_) => Exit::Usage,
        DaemonError::Taken(_) => Exit::Taken,
        DaemonError::Store(_) | DaemonError::Vault(_) => Exit::Store,
        DaemonError::Listen(_) | DaemonError::Start(_) | DaemonError::Broken(_) => Exit::Failed,
    };
    Ending::new(exit, error.to_string())
}

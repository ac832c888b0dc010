//! `obpilot store …`: on the file itself, because it has to work when nothing else does.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;
use serde_json::json;

use super::args::{Global, Output};
use super::client::home_of;
use super::exit::{Ending, Exit};
use super::render;
use crate::config::STATE_DIR;
use crate::store::{self, BackupReport};

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Copy the store beside itself; the agent may be running
    Backup {
        /// Backups to keep
        #[arg(long, default_value_t = 3)]
        keep: u32,
    },
    /// Verify that a store file is whole and holds together; the agent may be running
    Check {
        /// The file [default: the store of --home]
        file: Option<Utf8PathBuf>,
    },
}

pub(super) fn run(command: StoreCommand, global: &Global) -> Result<(), Ending> {
    match command {
        StoreCommand::Backup { keep } => backup(&file_of(global)?, keep, global),
        StoreCommand::Check { file } => {
            let file = file.map_or_else(|| file_of(global), Ok)?;
            check(&file, global)
        }
    }
}

fn file_of(global: &Global) -> Result<Utf8PathBuf, Ending> {
    Ok(home_of(global)?.join(STATE_DIR).join("store.db"))
}

fn broken(error: &store::StoreError) -> Ending {
    Ending::new(Exit::Store, error.to_string())
}

fn backup(file: &Utf8Path, keep: u32, global: &Global) -> Result<(), Ending> {
    let now = crate::clock::system().now();
    let BackupReport { path, bytes } = store::backup(file, now, keep).map_err(|e| broken(&e))?;
    match global.output {
        Output::Json => render::json(&json!({ "path": path, "bytes": bytes })),
        Output::Text => render::out(path.as_str()),
    }
    Ok(())
}

fn check(file: &Utf8Path, global: &Global) -> Result<(), Ending> {
    let report = store::check(file).map_err(|e| broken(&e))?;
    match global.output {
        Output::Json => render::json(&report),
        Output::Text => {
            let summary =
                format!("{file}: format {}, {} tasks, {} events", report.format, report.dags, report.events);
            render::out(&summary);
            for problem in &report.problems {
                render::say(problem);
            }
        }
    }
    match report.problems.len() {
        0 => Ok(()),
        count => Err(Ending::new(Exit::Store, format!("{count} problems; keep the file and use a backup"))),
    }
}

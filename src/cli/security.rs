//! `obpilot security …`: who was here, and the agent's keys.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{Global, Output};
use super::client::Client;
use super::exit::Ending;
use super::{password, render};
use crate::wire::{AuditEntry, Contents, Keys};

const KEYS: &str = "/api/v1/security/keys";

#[derive(Debug, Subcommand)]
pub enum SecurityCommand {
    /// The audit trail of this agent: what was changed by whom, and who was refused
    Audit(AuditArgs),
    /// The ids of the agent's keys, to compare with what clients were shown
    Show,
    /// New keys for schemes v2 and v3
    Rotate {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// The newest so many, up to 1000
    #[arg(long, default_value_t = 50, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub last: u32,
    /// What came after this entry instead, oldest first
    #[arg(long, value_name = "ENTRY")]
    pub after: Option<u64>,
}

pub(super) async fn run(command: SecurityCommand, global: &Global) -> Result<(), Ending> {
    let client = Client::connect(global).await?;
    match command {
        SecurityCommand::Audit(args) => audit(&client, global, &args).await,
        SecurityCommand::Show => show(&client.get(KEYS).await?, global),
        SecurityCommand::Rotate { yes } => rotate(&client, global, yes).await,
    }
}

fn show(keys: &Keys, global: &Global) -> Result<(), Ending> {
    match global.output {
        Output::Json => render::json(keys),
        Output::Text => render::out(&format!(
            "scheme v3   {}\nscheme v2   {}\nto agents   {}",
            keys.v3.key_id, keys.v2.key_id, keys.peer.key_id
        )),
    }
    Ok(())
}

async fn rotate(client: &Client, global: &Global, yes: bool) -> Result<(), Ending> {
    if !yes {
        password::confirm(
            "New keys? Clients that remember the old one will ask what has happened; SDKs go on by themselves.",
        )?;
    }
    show(&client.post(&format!("{KEYS}/rotate"), &json!({ "schemes": ["v2", "v3"] })).await?, global)
}

async fn audit(client: &Client, global: &Global, args: &AuditArgs) -> Result<(), Ending> {
    let after = args.after.map_or(String::new(), |after| format!("&after={after}"));
    let target = format!("/api/v1/security/audit?limit={}{after}", args.last);
    let trail: Contents<AuditEntry> = client.get(&target).await?;
    match global.output {
        Output::Json => render::json(&trail.contents),
        Output::Text if trail.contents.is_empty() => render::say("nothing is recorded"),
        Output::Text => render::out(&table(&trail.contents)),
    }
    Ok(())
}

fn table(entries: &[AuditEntry]) -> String {
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.id.to_string(),
                render::moment(&entry.time),
                entry.actor.clone(),
                what(entry),
                how(entry),
            ]
        })
        .collect();
    render::table(&["ENTRY", "TIME", "WHO", "WHAT", "HOW IT ENDED"], &rows)
}

fn text(entry: &AuditEntry, member: &str) -> Option<String> {
    match &entry.details[member] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn what(entry: &AuditEntry) -> String {
    let request = text(entry, "request");
    let task = entry.task.as_ref().map(|task| format!(" (task {task})")).unwrap_or_default();
    format!("{}{task}", request.unwrap_or_else(|| entry.action.clone()))
}

fn how(entry: &AuditEntry) -> String {
    if entry.action == "refused" {
        let count = text(entry, "count").unwrap_or_default();
        return format!("refused x{count}, {}", text(entry, "code").unwrap_or_default());
    }
    let said = [text(entry, "status"), text(entry, "code"), text(entry, "note")];
    said.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

//! `obpilot security …`: the agent's keys.

use serde_json::json;

use super::args::{Global, Output, SecurityCommand};
use super::client::Client;
use super::exit::Ending;
use super::{password, render};
use crate::wire::Keys;

const KEYS: &str = "/api/v1/security/keys";

pub(super) async fn run(command: SecurityCommand, global: &Global) -> Result<(), Ending> {
    let client = Client::connect(global).await?;
    let keys: Keys = match command {
        SecurityCommand::Show => client.get(KEYS).await?,
        SecurityCommand::Rotate { yes } => {
            if !yes {
                password::confirm(
                    "New keys? Clients that remember the old one will ask what has happened; SDKs go on by themselves.",
                )?;
            }
            client.post(&format!("{KEYS}/rotate"), &json!({})).await?
        }
    };
    match global.output {
        Output::Json => render::json(&keys),
        Output::Text => render::out(&format!(
            "scheme v3   {}\nscheme v2   {}\nto agents   {}",
            keys.v3.key_id, keys.v2.key_id, keys.peer.key_id
        )),
    }
    Ok(())
}

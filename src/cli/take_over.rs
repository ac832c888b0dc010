//! `obpilot cluster take-over`: shows its plan, asks, and does exactly that.

use clap::Args;
use serde_json::json;

use super::args::{Global, PlannedArgs, RootPassword};
use super::client::Client;
use super::exit::Ending;
use super::{password, scale};

#[derive(Clone, Debug, Args)]
pub struct TakeOverArgs {
    #[command(flatten)]
    pub root: RootPassword,
    #[command(flatten)]
    pub planned: PlannedArgs,
}

pub(super) async fn run(client: &Client, global: &Global, args: TakeOverArgs) -> Result<(), Ending> {
    let password = password::of_cluster(&args.root)?;
    let asked = scale::Asked {
        method: reqwest::Method::POST,
        target: "/api/v1/ob/take_over".to_owned(),
        body: json!({ "rootPwd": password.expose() }),
        how: &args.planned,
        nothing: String::new(),
    };
    scale::carry_out(client, global, asked).await
}

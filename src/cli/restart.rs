//! `obpilot cluster restart`: shows its plan, asks, and does exactly that.

use clap::Args;
use serde_json::{Value, json};

use super::args::{Global, PlannedArgs, ScopeArgs};
use super::client::Client;
use super::cluster::scope_body;
use super::exit::Ending;
use super::scale;

#[derive(Clone, Debug, Args)]
pub struct RestartArgs {
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Check nothing, wait for no leader to move; servers that are named are killed
    #[arg(long, short)]
    pub force: bool,
    /// All at once instead of zone by zone: business stops meanwhile
    #[arg(long)]
    pub stop_the_world: bool,
    /// Freeze before processes end: stopping takes longer, coming back is faster
    #[arg(long)]
    pub freeze: bool,
    /// Zones in the order in which they are restarted; the others come after them
    #[arg(long, value_name = "ZONE", value_delimiter = ',')]
    pub order: Vec<String>,
    /// Servers of a zone that are worked on at a time
    #[arg(long, value_name = "N")]
    pub parallel: Option<usize>,
    /// Seconds between two zones
    #[arg(long, value_name = "SECONDS")]
    pub pause: Option<u64>,
    /// Seconds for one server to stop, and to start
    #[arg(long, value_name = "SECONDS")]
    pub deadline: Option<u64>,
    #[command(flatten)]
    pub planned: PlannedArgs,
}

pub(super) async fn run(client: &Client, global: &Global, args: RestartArgs) -> Result<(), Ending> {
    let mut body = scope_body(client, &args.scope).await?;
    body["force"] = args.force.into();
    body["stopTheWorld"] = args.stop_the_world.into();
    body["freezeServer"] = args.freeze.into();
    body["order"] = json!(args.order);
    let numbers = [
        ("parallel", args.parallel.map(Value::from)),
        ("pauseSeconds", args.pause.map(Value::from)),
        ("serverDeadlineSeconds", args.deadline.map(Value::from)),
    ];
    for (name, value) in numbers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        body[name] = value;
    }
    let asked = scale::Asked {
        method: reqwest::Method::POST,
        target: "/api/v1/ob/restart".to_owned(),
        body,
        how: &args.planned,
        nothing: String::new(),
    };
    scale::carry_out(client, global, asked).await
}

//! `obpilot task …`

use serde_json::json;

use super::args::{Global, ListArgs, OperateArgs, Output, TaskCommand, TaskShowArgs, WaitArgs, WatchArgs};
use super::client::Client;
use super::exit::Ending;
use super::follow::{Wanted, follow};
use super::tree::Seen;
use super::{graph, password, render};
use crate::wire::{Contents, DagDetail};

pub(super) async fn run(command: TaskCommand, global: &Global) -> Result<(), Ending> {
    let client = Client::connect(global).await?;
    match command {
        TaskCommand::List(args) => list(&client, global, &args).await,
        TaskCommand::Show(args) => show(&client, global, args).await,
        TaskCommand::Watch(args) => watch(&client, global, &args).await,
        TaskCommand::Graph(args) => graph::show(&client, global, &args).await,
        TaskCommand::Retry(args) => operate(&client, global, &args, "RETRY").await,
        TaskCommand::Rollback(args) => operate(&client, global, &args, "ROLLBACK").await,
        TaskCommand::Cancel(args) => operate(&client, global, &args, "CANCEL").await,
        TaskCommand::Pass(args) => operate(&client, global, &args, "PASS").await,
        TaskCommand::Pause(args) => operate(&client, global, &args, "PAUSE").await,
        TaskCommand::Resume(args) => operate(&client, global, &args, "RESUME").await,
        TaskCommand::Abort(args) => operate(&client, global, &args, "ABORT").await,
    }
}

async fn list(client: &Client, global: &Global, args: &ListArgs) -> Result<(), Ending> {
    let route = if args.unfinished { "dag/unfinish" } else { "dags/agent" };
    let list: Contents<DagDetail> = client.get(&format!("/api/v1/task/{route}?show_details=false")).await?;
    let skip = if args.last == 0 { 0 } else { list.contents.len().saturating_sub(args.last) };
    let dags: Vec<_> = list.contents.into_iter().skip(skip).collect();
    match global.output {
        Output::Json => render::json(&dags),
        Output::Text if dags.is_empty() => render::say("no tasks"),
        Output::Text => render::out(&render::dag_list(&dags)),
    }
    Ok(())
}

async fn show(client: &Client, global: &Global, args: TaskShowArgs) -> Result<(), Ending> {
    let Some(id) = args.word.or(args.flag) else {
        return list(client, global, &ListArgs { unfinished: true, last: 0 }).await;
    };
    let main: DagDetail = client.get(&format!("/api/v1/task/dag/{id}")).await?;
    match global.output {
        Output::Json => render::json(&main),
        Output::Text => {
            let mut seen = Seen { main, parts: std::collections::BTreeMap::new() };
            for id in seen.part_ids().into_values() {
                if let Ok(part) = client.get::<DagDetail>(&format!("/api/v1/task/dag/{id}")).await {
                    seen.parts.insert(id, part);
                }
            }
            render::out(&render::dag_in_full(&seen, args.detail));
        }
    }
    Ok(())
}

async fn watch(client: &Client, global: &Global, args: &WatchArgs) -> Result<(), Ending> {
    let wait = WaitArgs { no_wait: false, wait_timeout: args.wait_timeout };
    follow(client, &args.id.get(), Wanted::Done, &wait, global.output, global.quiet).await
}

async fn operate(client: &Client, global: &Global, args: &OperateArgs, operator: &str) -> Result<(), Ending> {
    let id = args.id.get();
    if !args.yes {
        let dag: DagDetail = client.get(&format!("/api/v1/task/dag/{id}?show_details=false")).await?;
        render::say(&render::dag_head(&dag));
        password::confirm(&format!("{operator} this task?"))?;
    }
    client.post_only(&format!("/api/v1/task/dag/{id}"), &json!({ "operator": operator })).await?;
    let wanted = match operator {
        "CANCEL" | "ABORT" => Wanted::Cancelled,
        "PAUSE" => Wanted::Paused,
        _ => Wanted::Done,
    };
    follow(client, &id, wanted, &args.wait, global.output, global.quiet).await
}

//! `obpilot cluster scale-out`, `scale-in`, `delete-zone`: each shows its plan, asks, and does exactly that.

use serde_json::{Value, json};

use super::args::{DeleteZoneArgs, Global, Output, PlannedArgs, ScaleInArgs, ScaleOutArgs};
use super::client::Client;
use super::cluster::server_options;
use super::exit::Ending;
use super::follow::{Wanted, follow};
use super::{password, render};
use crate::model::AgentAddr;
use crate::wire::{DagDetail, Info, Plan};

/// What is asked for, and how.
pub(super) struct Asked<'a> {
    pub(super) method: reqwest::Method,
    pub(super) target: String,
    pub(super) body: Value,
    pub(super) how: &'a PlannedArgs,
    /// When there is nothing to do.
    pub(super) nothing: String,
}

pub(super) async fn scale_out(client: Client, global: &Global, args: ScaleOutArgs) -> Result<(), Ending> {
    let info: Info = client.get("/api/v1/info").await?;
    let own = AgentAddr::from_parts(&info.ip, info.port).map_err(|e| Ending::usage(e.to_string()))?;
    let named = args.server.parse::<AgentAddr>().map_err(|e| Ending::usage(format!("--server: {e}")))?;
    // On the new host a member is named; on a member the new host.
    let (target, client) = if info.identity == "SINGLE" {
        let password = password::of_cluster(&args.root)?;
        (own, Client::over_tcp_with(named, global, password).await?)
    } else {
        (named, client)
    };
    let agent_password = password::of_new_agent(args.agent_password_file.as_deref())?;
    let body = json!({
        "agentInfo": { "ip": target.ip, "port": target.port },
        "zone": args.zone,
        "obConfigs": server_options(&args.options)?,
        "targetAgentPassword": agent_password.expose(),
    });
    let asked = Asked {
        method: reqwest::Method::POST,
        target: "/api/v1/ob/scale_out".to_owned(),
        body,
        how: &args.planned,
        nothing: String::new(),
    };
    carry_out(&client, global, asked).await
}

pub(super) async fn scale_in(client: Client, global: &Global, args: ScaleInArgs) -> Result<(), Ending> {
    let Some(server) = &args.server else {
        let zone = args.zone.unwrap_or_default();
        let args = DeleteZoneArgs { zone, planned: args.planned };
        return delete_zone(client, global, args).await;
    };
    let target = server.parse::<AgentAddr>().map_err(|e| Ending::usage(format!("--server: {e}")))?;
    let body = json!({
        "agent_info": { "ip": target.ip, "port": target.port },
        "force_kill": args.force,
    });
    let asked = Asked {
        method: reqwest::Method::POST,
        target: "/api/v1/ob/scale_in".to_owned(),
        body,
        how: &args.planned,
        nothing: format!("{target} is no member; there was nothing to do"),
    };
    carry_out(&client, global, asked).await
}

pub(super) async fn delete_zone(client: Client, global: &Global, args: DeleteZoneArgs) -> Result<(), Ending> {
    // What a zone cannot be called does not become a part of a path.
    let is_name = args.zone.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if args.zone.is_empty() || !is_name {
        return Err(Ending::usage(format!("--zone: '{}' is not the name of a zone", args.zone)));
    }
    let asked = Asked {
        method: reqwest::Method::DELETE,
        target: format!("/api/v1/zone/{}", args.zone),
        body: json!({}),
        how: &args.planned,
        nothing: format!("there is no zone {}; there was nothing to do", args.zone),
    };
    carry_out(&client, global, asked).await
}

pub(super) async fn carry_out(client: &Client, global: &Global, asked: Asked<'_>) -> Result<(), Ending> {
    let Asked { method, target, mut body, how, nothing } = asked;
    let PlannedArgs { plan, yes, wait } = how;
    let nothing_to_do = || render::done(global.output, &nothing, &json!({ "removed": false }));
    if *plan || !yes {
        // Looks before it asks (C26); what was shown is done, or nothing.
        let planned = format!("{target}?plan=true");
        let shown = client.send_maybe::<Plan>(method.clone(), &planned, Some(&body)).await?;
        let Some(shown) = shown else {
            nothing_to_do();
            return Ok(());
        };
        if *plan {
            match global.output {
                Output::Json => render::json(&shown),
                Output::Text => render::out(&render::plan(&shown)),
            }
            return Ok(());
        }
        render::say(&render::plan(&shown));
        password::confirm("Do this?")?;
        body["planHash"] = shown.hash.into();
    }
    let Some(dag) = client.send_maybe::<DagDetail>(method, &target, Some(&body)).await? else {
        nothing_to_do();
        return Ok(());
    };
    follow(client, &dag.id, Wanted::Done, wait, global.output, global.quiet).await
}

//! `obpilot cluster parameter …`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{Global, Output};
use super::client::Client;
use super::exit::{Ending, Exit};
use super::render;
use crate::wire::{ClusterParameter, Contents};

#[derive(Debug, Subcommand)]
pub enum ParameterCommand {
    /// Parameters with their values
    Show(ShowParametersArgs),
    /// Set parameters, all checked before any is set
    Set(SetParametersArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ShowParametersArgs {
    /// Only names that hold this; all by default
    #[arg(value_name = "PATTERN")]
    pub pattern: Option<String>,
    /// With a line per server and tenant where values differ, and what each is for
    #[arg(long = "show_detail", alias = "show-detail", short = 'd')]
    pub detail: bool,
}

/// Without zone, server and tenant: everywhere; a parameter of tenants for tenant sys.
#[derive(Clone, Debug, Args)]
pub struct SetParametersArgs {
    /// Parameters as name=value; a value may hold anything
    #[arg(value_name = "NAME=VALUE", required = true)]
    pub items: Vec<String>,
    /// Only in these zones, comma separated
    #[arg(long, short, value_delimiter = ',', group = "where")]
    pub zone: Vec<String>,
    /// Only on these servers, comma separated; the port is the rpc port
    #[arg(long, short, value_delimiter = ',', value_name = "IP:RPC_PORT", group = "where")]
    pub server: Vec<String>,
    /// For these tenants, comma separated
    #[arg(long, short, value_delimiter = ',', group = "where")]
    pub tenant: Vec<String>,
    /// For all user tenants
    #[arg(long = "all-tenants", alias = "all_tenants", group = "where")]
    pub all_tenants: bool,
}

const TARGET: &str = "/api/v1/obcluster/parameters";

pub(super) async fn run(client: &Client, global: &Global, command: ParameterCommand) -> Result<(), Ending> {
    match command {
        ParameterCommand::Show(args) => show(client, global, &args).await,
        ParameterCommand::Set(args) => set(client, global, &args).await,
    }
}

async fn all(client: &Client) -> Result<Vec<ClusterParameter>, Ending> {
    client.get::<Contents<ClusterParameter>>(TARGET).await.map(|all| all.contents)
}

async fn show(client: &Client, global: &Global, args: &ShowParametersArgs) -> Result<(), Ending> {
    let mut found = all(client).await?;
    if let Some(pattern) = &args.pattern {
        let pattern = pattern.to_lowercase();
        found.retain(|parameter| parameter.name.to_lowercase().contains(&pattern));
        if found.is_empty() {
            let text = format!("no parameter has '{pattern}' in its name");
            let hint = "`obpilot cluster parameter show` lists all that are not hidden";
            return Err(Ending::new(Exit::Refused, text).with_hint(hint));
        }
    }
    match global.output {
        Output::Json => render::json(&found),
        Output::Text => render::out(&render::parameters(&found, args.detail)),
    }
    Ok(())
}

async fn set(client: &Client, global: &Global, args: &SetParametersArgs) -> Result<(), Ending> {
    let items = pairs(&args.items)?;
    let is_of_tenants = !args.tenant.is_empty() || args.all_tenants;
    // What is asked for says the scope, or the parameter itself does.
    let known = if is_of_tenants { Vec::new() } else { all(client).await? };
    let params: Vec<Value> = items
        .iter()
        .map(|(name, value)| {
            let known = known.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name));
            let scope = if is_of_tenants || known.is_some_and(|parameter| parameter.scope == "TENANT") {
                "TENANT"
            } else {
                "CLUSTER"
            };
            json!({
                "name": name, "value": value, "scope": scope, "zones": args.zone, "servers": args.server,
                "tenants": args.tenant, "all_user_tenant": args.all_tenants,
            })
        })
        .collect();
    client.patch_only(TARGET, &json!({ "params": params })).await?;
    let names: Vec<_> = items.iter().map(|(name, _)| name.as_str()).collect();
    render::done(global.output, &format!("set: {}", names.join(", ")), &json!({ "set": names }));
    Ok(())
}

/// A value may hold `=`.
fn pairs(items: &[String]) -> Result<Vec<(String, String)>, Ending> {
    let pair = |item: &String| {
        let (name, value) = item.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    };
    let wrong = |item: &String| Ending::usage(format!("'{item}': write it as name=value"));
    items.iter().map(|item| pair(item).ok_or_else(|| wrong(item))).collect()
}

#[cfg(test)]
mod tests {
    use super::pairs;

    #[test]
    fn a_value_may_hold_anything() {
        let items = ["a=b=c".to_owned(), "d=".to_owned(), "e=x,y z".to_owned()];
        let pairs = pairs(&items).unwrap();
        let words: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(words, [("a", "b=c"), ("d", ""), ("e", "x,y z")]);
        for wrong in ["a", "=b"] {
            assert!(super::pairs(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}

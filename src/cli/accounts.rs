//! `obpilot security account …` and `… key-pair …`: users of the v2 API.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::args::{Global, Output};
use super::client::Client;
use super::exit::Ending;
use super::{password, render};
use crate::model::Role;
use crate::wire::{AccountList, AccountsChanged, KeyPairMade};

const ACCOUNTS: &str = "/api/v1/security/accounts";
const KEY_PAIRS: &str = "/api/v1/security/key-pairs";

#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// An account on every agent of the cluster; one of this name gets this role and password
    Add(AccountArgs),
    /// Remove an account and its key pairs, on every agent of the cluster
    Remove { name: String },
    /// Accounts and key pairs
    List,
}

#[derive(Clone, Debug, Args)]
pub struct AccountArgs {
    pub name: String,
    /// What it may do: viewer reads, operator starts and stops, admin everything
    #[arg(long, value_name = "viewer|operator|admin")]
    pub role: Role,
    /// Its first line is the password; without it OBPILOT_ACCOUNT_PASSWORD, or a question
    #[arg(long, value_name = "FILE")]
    pub account_password_file: Option<Utf8PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum KeyPairCommand {
    /// A key pair on every agent of the cluster; its secret key is shown once
    Add(KeyPairArgs),
    /// Remove a key pair on every agent of the cluster
    Remove { access_key: String },
}

#[derive(Clone, Debug, Args)]
pub struct KeyPairArgs {
    /// What it may do: viewer reads, operator starts and stops, admin everything
    #[arg(long, value_name = "viewer|operator|admin")]
    pub role: Role,
    /// Whose it is: it goes with that account, and may never do more
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
}

pub(super) async fn run(client: &Client, global: &Global, command: AccountCommand) -> Result<(), Ending> {
    match command {
        AccountCommand::Add(AccountArgs { name, role, account_password_file }) => {
            let password = password::of_account(account_password_file.as_deref(), &name)?;
            let body = json!({ "name": name, "role": role.text(), "password": password.expose() });
            tell(&client.post(ACCOUNTS, &body).await?, global);
        }
        AccountCommand::Remove { name } => {
            let target = format!("{ACCOUNTS}/{name}");
            tell(&client.send(Method::DELETE, &target).await?, global);
        }
        AccountCommand::List => list(&client.get(ACCOUNTS).await?, global),
    }
    Ok(())
}

pub(super) async fn run_pair(
    client: &Client,
    global: &Global,
    command: KeyPairCommand,
) -> Result<(), Ending> {
    match command {
        KeyPairCommand::Add(KeyPairArgs { role, account }) => {
            let body = json!({ "role": role.text(), "account": account });
            let made: KeyPairMade = client.post(KEY_PAIRS, &body).await?;
            match global.output {
                Output::Json => render::json(&made),
                Output::Text => {
                    render::out(&format!("access key  {}\nsecret key  {}", made.access_key, made.secret_key));
                    render::say("the secret key is not shown again");
                    missed(&made.not_reached);
                }
            }
        }
        KeyPairCommand::Remove { access_key } => {
            let target = format!("{KEY_PAIRS}/{access_key}");
            tell(&client.send(Method::DELETE, &target).await?, global);
        }
    }
    Ok(())
}

fn tell(changed: &AccountsChanged, global: &Global) {
    match global.output {
        Output::Json => render::json(changed),
        Output::Text => {
            render::say("done");
            missed(&changed.not_reached);
        }
    }
}

fn missed(agents: &[String]) {
    if !agents.is_empty() {
        render::say(&format!("not reached: {}; they take it when they are back", agents.join(", ")));
    }
}

fn list(known: &AccountList, global: &Global) {
    if global.output == Output::Json {
        return render::json(known);
    }
    let accounts = known.accounts.iter().map(|one| vec![one.name.clone(), one.role.clone(), String::new()]);
    let pairs = known.key_pairs.iter().map(|one| {
        let whose = one.account.clone().unwrap_or_default();
        vec![one.access_key.clone(), one.role.clone(), format!("key pair {whose}").trim_end().to_owned()]
    });
    let rows: Vec<_> = accounts.chain(pairs).collect();
    if rows.is_empty() {
        return render::say("there are none; root of the database is an admin");
    }
    render::out(&render::table(&["NAME", "ROLE", "KIND"], &rows));
}

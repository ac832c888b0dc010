//! Users of the v2 API: who there is, new ones, and none any more.

use actix_web::web::Path;

use super::call::{Call, Unread};
use super::reply::Outcome;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Role};
use crate::wire::{
    AccountBody, AccountList, AccountView, AccountsChanged, Envelope, KeyPairBody, KeyPairMade, KeyPairView,
};

/// Users of the v2 API besides root
#[utoipa::path(get, path = "/api/v1/security/accounts", tag = "security", responses((status = 200, body = Envelope<AccountList>)))]
pub(super) async fn list(call: Call<()>) -> Outcome<AccountList> {
    let known = call.app.accounts();
    let account = |(name, account): (&str, &crate::model::Account)| AccountView {
        name: name.to_owned(),
        role: account.role.text().to_owned(),
    };
    let pair = |(access_key, pair): (&str, &crate::model::KeyPair)| KeyPairView {
        access_key: access_key.to_owned(),
        role: pair.role.text().to_owned(),
        account: pair.account.clone(),
    };
    Outcome::data(Ok(AccountList {
        accounts: known.accounts().map(account).collect(),
        key_pairs: known.key_pairs().map(pair).collect(),
    }))
}

fn changed(result: Result<Vec<AgentAddr>>) -> Outcome<AccountsChanged> {
    Outcome::data(result.map(|missed| AccountsChanged { not_reached: names(&missed) }))
}

fn names(agents: &[AgentAddr]) -> Vec<String> {
    agents.iter().map(ToString::to_string).collect()
}

fn role(text: &str) -> Result<Role> {
    text.parse().map_err(|why: String| Error::new(Code::IllegalArgument, why))
}

/// An account of the v2 API on all agents of the cluster; one of this name gets this role and password
#[utoipa::path(post, path = "/api/v1/security/accounts", tag = "security", request_body = AccountBody,
    responses((status = 200, body = Envelope<AccountsChanged>)))]
pub(super) async fn add(call: Call<AccountBody>) -> Outcome<AccountsChanged> {
    let AccountBody { name, role: wanted, password } = &call.body;
    let added = async {
        let role = role(wanted)?;
        let missed = call.app.set_account(name, role, password.clone(), &call.caller).await?;
        tracing::warn!(actor = call.caller.actor, account = name, %role, "an account was set");
        Ok(missed)
    };
    changed(added.await)
}

/// Remove an account and its key pairs
#[utoipa::path(delete, path = "/api/v1/security/accounts/{id}", tag = "security",
    params(("id" = String, Path, description = "Name of the account")),
    responses((status = 200, body = Envelope<AccountsChanged>)))]
pub(super) async fn remove(call: Call<Unread>, name: Path<String>) -> Outcome<AccountsChanged> {
    changed(call.app.remove_account(&name, &call.caller).await)
}

/// A key pair of the v2 API on all agents of the cluster; its secret key is told this once
#[utoipa::path(post, path = "/api/v1/security/key-pairs", tag = "security", request_body = KeyPairBody,
    responses((status = 200, body = Envelope<KeyPairMade>)))]
pub(super) async fn add_pair(call: Call<KeyPairBody>) -> Outcome<KeyPairMade> {
    Outcome::data(added_pair(&call).await)
}

async fn added_pair(call: &Call<KeyPairBody>) -> Result<KeyPairMade> {
    let tell = |secret: &str| match call.caller.is_local {
        true => Some(secret.to_owned()),
        false => call.discretion.tell(secret),
    };
    if tell("").is_none() {
        let text = "a secret key is told under the keys of the request's header, and there are none; seal a header with keys, or \
                    use the Unix socket";
        return Err(Error::new(Code::AesKeyNotFound, text));
    }
    let KeyPairBody { role: wanted, account } = &call.body;
    let role = role(wanted)?;
    let account = account.clone().filter(|name| !name.is_empty());
    let made = call.app.add_key_pair(role, account, &call.caller).await?;
    tracing::warn!(actor = call.caller.actor, access_key = made.access_key, %role, "a key pair was made");
    Ok(KeyPairMade {
        access_key: made.access_key,
        secret_key: tell(made.secret.expose()).unwrap_or_default(),
        not_reached: names(&made.missed),
    })
}

/// Remove a key pair
#[utoipa::path(delete, path = "/api/v1/security/key-pairs/{id}", tag = "security",
    params(("id" = String, Path, description = "Access key of the pair")),
    responses((status = 200, body = Envelope<AccountsChanged>)))]
pub(super) async fn remove_pair(call: Call<Unread>, access_key: Path<String>) -> Outcome<AccountsChanged> {
    changed(call.app.remove_key_pair(&access_key, &call.caller).await)
}

//! Routes of upgrades and packages (`http-api.md` §6.3, §7.13): they are there, judge what they are given, and say that this
//! release does not upgrade.

use serde_json::Value;

use super::call::{Call, Judged, Unread};
use super::reply::Outcome;
use crate::error::{Code, Error, Result};
use crate::wire::{Envelope, UpgradeBody};

/// The last word of each of these routes.
fn not_yet(what: &str, instead: &str) -> Error {
    Error::new(Code::BadRequest, format!("{what} is not supported yet by this release of obpilot; {instead}"))
}

const BY_HAND: &str = "stop the servers, replace the package on every host, and start them again";

const AGENT_BY_HAND: &str =
    "replace the executable and restart the agent: the database goes on, and so do tasks";

fn refused<B>(
    call: Call<Judged<B>>,
    check: impl FnOnce(&B) -> Result<()>,
    what: &str,
    instead: &str,
) -> Outcome<Value> {
    let (app, body) = call.into_parts();
    let judge = || -> Result<()> {
        app.may_read()?;
        check(&body.get()?)?;
        Err(not_yet(what, instead))
    };
    Outcome::nothing(judge())
}

fn refused_unread<B>(call: &Call<B>, what: &str, instead: &str) -> Outcome<Value> {
    Outcome::nothing(call.app.may_read().and_then(|()| Err(not_yet(what, instead))))
}

/// Check an upgrade of the database: not supported yet
#[utoipa::path(post, path = "/api/v1/ob/upgrade/check", tag = "upgrade", request_body = UpgradeBody,
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn check_database(call: Call<Judged<UpgradeBody>>) -> Outcome<Value> {
    refused(call, |body| body.check(false), "checking an upgrade of the database", BY_HAND)
}

/// Upgrade the database: not supported yet
#[utoipa::path(post, path = "/api/v1/ob/upgrade", tag = "upgrade", request_body = UpgradeBody,
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn database(call: Call<Judged<UpgradeBody>>) -> Outcome<Value> {
    refused(call, |body| body.check(true), "an upgrade of the database", BY_HAND)
}

/// Check an upgrade of the agents: not supported yet
#[utoipa::path(post, path = "/api/v1/agent/upgrade/check", tag = "upgrade", request_body = UpgradeBody,
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn check_agent(call: Call<Judged<UpgradeBody>>) -> Outcome<Value> {
    refused(call, |body| body.check(false), "checking an upgrade of the agents", AGENT_BY_HAND)
}

/// Upgrade the agents: not supported yet
#[utoipa::path(post, path = "/api/v1/agent/upgrade", tag = "upgrade", request_body = UpgradeBody,
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn agent(call: Call<Judged<UpgradeBody>>) -> Outcome<Value> {
    refused(call, |body| body.check(false), "an upgrade of the agents", AGENT_BY_HAND)
}

/// The same for a route that any agent answers, whatever it is.
fn refused_anywhere(what: &str, instead: &str) -> Outcome<Value> {
    Outcome::nothing(Err(not_yet(what, instead)))
}

const HOSTS: &str = "put packages onto the hosts by other means";

/// Upload a package: not supported yet
#[utoipa::path(post, path = "/api/v1/upgrade/package", tag = "upgrade",
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn upload(call: Call<Unread>) -> Outcome<Value> {
    refused_unread(&call, "uploading packages", HOSTS)
}

/// Upload a package: not supported yet
#[utoipa::path(post, path = "/api/v1/package", tag = "upgrade",
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn upload_plain(call: Call<Unread>) -> Outcome<Value> {
    refused_unread(&call, "uploading packages", HOSTS)
}

/// The packages that were uploaded: not supported yet
#[utoipa::path(get, path = "/api/v1/upgrade/package/info", tag = "upgrade",
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn packages(call: Call<()>) -> Outcome<Value> {
    refused_unread(&call, "keeping packages", HOSTS)
}

/// Delete a package: not supported yet
#[utoipa::path(delete, path = "/api/v1/upgrade/package/{id}", tag = "upgrade",
    params(("id" = String, Path, description = "The package")),
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn delete_package(call: Call<Unread>) -> Outcome<Value> {
    refused_unread(&call, "keeping packages", HOSTS)
}

const PARAMETERS: &str = "read them by GET /api/v1/obcluster/parameters and set them by PATCH";

/// Parameters that an upgrade changes: not supported yet
#[utoipa::path(post, path = "/api/v1/upgrade/params/backup", tag = "upgrade",
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn backup_parameters(_: Call<Unread>) -> Outcome<Value> {
    refused_anywhere("the backup of parameters around an upgrade", PARAMETERS)
}

/// Put back parameters that an upgrade has changed: not supported yet
#[utoipa::path(post, path = "/api/v1/upgrade/params/restore", tag = "upgrade",
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn restore_parameters(_: Call<Unread>) -> Outcome<Value> {
    refused_anywhere("the restore of parameters around an upgrade", PARAMETERS)
}

/// Whether this host can run the scripts of an upgrade: not supported yet
#[utoipa::path(post, path = "/api/v1/upgrade/env/check", tag = "upgrade",
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn check_environment(_: Call<Unread>) -> Outcome<Value> {
    refused_anywhere("looking at what the scripts of an upgrade need", BY_HAND)
}

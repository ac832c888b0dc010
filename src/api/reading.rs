//! Routes that read the database: character sets, smallest unit, licence; what telemetry would tell; keys of shared storage
//! (`http-api.md` §7.12).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::call::{Call, Judged};
use super::info::ask;
use super::reply::Outcome;
use super::{agent, figures};
use crate::clock;
use crate::cluster::figures::TenantMode;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, PRODUCT, PRODUCT_VERSION};
use crate::secure;
use crate::wire::{
    CharsetInfo, CollationInfo, Contents, Envelope, LicenseInfo, Statistics, StorageKeyBody, UnitConfigLimit,
};

/// For one agent to tell of its host.
const LIMIT: Duration = Duration::from_millis(950);

/// Character sets with their collations (only on a CLUSTER AGENT)
#[utoipa::path(get, path = "/api/v1/obcluster/charsets", tag = "cluster",
    params(("tenant_mode" = Option<String>, Query, description = "Only those that a tenant of this mode can have: mysql or oracle, in any case; all by default")),
    responses((status = 200, body = Envelope<Contents<CharsetInfo>>)))]
pub(super) async fn charsets(call: Call<()>) -> Outcome<Contents<CharsetInfo>> {
    let read: Result<_> = async {
        call.app.may_read()?;
        let mode = tenant_mode(call.text("tenant_mode"))?;
        call.app.charsets(mode).await
    }
    .await;
    let collation = |(name, is_default)| CollationInfo { is_default, name };
    Outcome::list(read.map(|all| {
        let charset = |charset: crate::cluster::figures::Charset| CharsetInfo {
            name: charset.name,
            description: charset.description,
            collations: charset.collations.into_iter().map(collation).collect(),
            maxlen: charset.bytes_max,
        };
        all.into_iter().map(charset).collect()
    }))
}

fn tenant_mode(asked: Option<String>) -> Result<Option<TenantMode>> {
    let Some(asked) = asked.filter(|text| !text.is_empty()) else { return Ok(None) };
    TenantMode::parse(&asked).map(Some).ok_or_else(|| {
        Error::new(Code::QueryIllegal, format!("tenant_mode is '{asked}'; it must be mysql or oracle"))
    })
}

/// The smallest unit (only on a CLUSTER AGENT); null when the database does not tell
#[utoipa::path(get, path = "/api/v1/obcluster/unit-config-limit", tag = "cluster",
    responses((status = 200, body = Envelope<Option<UnitConfigLimit>>)))]
pub(super) async fn unit_config_limit(call: Call<()>) -> Outcome<Option<UnitConfigLimit>> {
    let limit: Result<_> = async {
        call.app.may_read()?;
        Ok(call.app.figures().await.map(|told| figures::unit_limit(&told)))
    }
    .await;
    Outcome::data(limit)
}

/// The licence of the standalone edition (only on a CLUSTER AGENT); null when it has none yet
#[utoipa::path(get, path = "/api/v1/obcluster/license", tag = "cluster",
    responses((status = 200, body = Envelope<Option<LicenseInfo>>)))]
pub(super) async fn license(call: Call<()>) -> Outcome<Option<LicenseInfo>> {
    let read: Result<_> = async {
        call.app.may_read()?;
        let silent = || {
            let text = "no server of the cluster answers, so its licence is not known; start one";
            Error::new(Code::DatabaseUseless, text)
        };
        let told = call.app.figures().await.ok_or_else(silent)?;
        let licenses = told.licenses.as_ref().filter(|_| !told.edition.is_community()).ok_or_else(|| {
            Error::new(
                Code::BadRequest,
                "this edition of the database needs no licence; only the standalone one has one",
            )
        })?;
        Ok(licenses.first().map(figures::license))
    }
    .await;
    Outcome::data(read)
}

/// What telemetry would tell of hosts and servers; nothing is sent anywhere
#[utoipa::path(get, path = "/api/v1/obcluster/statistics", tag = "cluster",
    responses((status = 200, body = Envelope<Statistics>)))]
pub(super) async fn statistics(call: Call<()>) -> Outcome<Statistics> {
    let own = call.app.own();
    let others = call.app.agents().into_iter().filter(|agent| *agent != own);
    let asked = others.map(|agent| host_of(&call, agent));
    let (mine, theirs, info) =
        tokio::join!(agent::own_host(&call.app), join_all(asked), call.app.full_overview());
    let edition = info.figures.as_ref().map(|told| told.edition).unwrap_or_default();
    let instances = call.app.instances(&info).await;
    let mine = serde_json::to_value(mine).unwrap_or_default();
    Outcome::data(Ok(Statistics {
        telemetry_enabled: false,
        cluster_id: info.state.cluster.id.map(|id| id.to_string()).unwrap_or_default(),
        reporter: PRODUCT.to_owned(),
        obshell_version: format!("{PRODUCT} {PRODUCT_VERSION}"),
        obshell_revision: option_env!("OBPILOT_COMMIT").unwrap_or_default().to_owned(),
        report_time: clock::system().now_secs(),
        telemetry_version: 1,
        hosts: std::iter::once(mine).chain(theirs.into_iter().flatten()).collect(),
        instances: instances.iter().map(|one| figures::instance(one, edition, secure::sha1_hex)).collect(),
    }))
}

async fn host_of(call: &Call<()>, agent: AgentAddr) -> Option<Value> {
    ask(call, agent, "/api/v1/agent/host-info", LIMIT).await
}

/// Whether a key opens the shared storage (only on a CLUSTER AGENT); clusters with shared storage are not supported
#[utoipa::path(post, path = "/api/v1/obcluster/shared-storage/validate-key", tag = "cluster", request_body = StorageKeyBody,
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn validate_key(call: Call<Judged<StorageKeyBody>>) -> Outcome<Value> {
    shared_storage(call)
}

/// Set the key of the shared storage (only on a CLUSTER AGENT); clusters with shared storage are not supported
#[utoipa::path(post, path = "/api/v1/obcluster/shared-storage/save-key", tag = "cluster", request_body = StorageKeyBody,
    responses((status = 200, body = Envelope<Value>)))]
pub(super) async fn save_key(call: Call<Judged<StorageKeyBody>>) -> Outcome<Value> {
    shared_storage(call)
}

fn shared_storage(call: Call<Judged<StorageKeyBody>>) -> Outcome<Value> {
    let (app, body) = call.into_parts();
    let refused = || -> Result<()> {
        app.may_read()?;
        body.get()?.check()?;
        let text = "the keys of shared storage cannot be set here: clusters with shared storage are not supported yet; use \
                    ALTER SYSTEM ALTER SHARED_STORAGE_DEST";
        Err(Error::new(Code::SharedStorageNotSupported, text))
    };
    Outcome::nothing(refused())
}

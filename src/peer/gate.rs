//! The open door of an agent that we share no session with: what it tells anybody, and how one joins it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::client::{Client, Way, data_of, envelope, unknown};
use crate::cluster::Members;
use crate::error::{Code, Error, Result};
use crate::flow::peers::{Gate, Stranger};
use crate::model::{AgentAddr, Invitation, Member, Password};
use crate::secure::{Claims, ClaimsTo, V3_HEADER, V3Error, V3PublicKey, V3Request, fresh_request_id};
use crate::wire::{Info, Secret};

const LIMIT: Duration = Duration::from_secs(10);

/// Where a master takes followers.
const JOIN_TARGET: &str = "/rpc/v1/agent";

/// Where an agent that belongs to nobody learns that it is being added to a cluster.
const INVITE_TARGET: &str = "/rpc/v1/ob/scale_out";

/// A sealed header is valid for so long; clocks of two hosts may differ by less.
const HEADER_LIFETIME_SECS: i64 = 60;

impl Client {
    async fn open<T: serde::de::DeserializeOwned>(&self, agent: AgentAddr, target: &str) -> Result<T> {
        let get = |http: &reqwest::Client, base: &str| http.get(format!("{base}{target}")).timeout(LIMIT);
        let response = self.reach(agent, Way::Open, get).await?;
        let data = envelope(agent, response).await?;
        serde_json::from_value(data).map_err(|_| {
            Error::new(Code::RpcRequestFailed, format!("what answers at {agent} is not an agent of obpilot"))
        })
    }
}

impl Client {
    /// Sends a body with the receiver's agent password, sealed by scheme v3, as the answer is.
    async fn knock<T: serde::de::DeserializeOwned>(
        &self,
        agent: AgentAddr,
        target: &str,
        password: &Password,
        body: &serde_json::Value,
    ) -> Result<T> {
        let secret: Secret = self.open(agent, "/api/v1/secret").await?;
        let schemes = secret.auth_schemes.ok_or_else(|| {
            let text = format!("what answers at {agent} is an agent of OBShell, which is no peer of ours");
            Error::new(Code::RpcRequestError, text)
        })?;
        let broken = |e: V3Error| Error::unexpected(format!("the request to {agent} cannot be sealed: {e}"));
        let key = V3PublicKey::from_wire(&schemes.v3.public_key).map_err(broken)?;
        let claims = Claims { claims_to: ClaimsTo::Agent, password: password.clone(), ..Claims::default() };
        let expires = self.clock().now_secs() + HEADER_LIFETIME_SECS;
        let id = fresh_request_id().map_err(broken)?;
        let body = body.to_string();
        let sealed = key.seal("POST", target, expires, &id, claims, Some(body.as_bytes()));
        let V3Request { header_value, body, exchange } = sealed.map_err(broken)?;
        let body = body.unwrap_or_default();
        let ask = |http: &reqwest::Client, base: &str| {
            let request = http.post(format!("{base}{target}")).header(V3_HEADER, &header_value);
            request.body(body.clone()).timeout(LIMIT)
        };
        let response = self.reach(agent, Way::Open, ask).await?;
        let is_success = response.status().is_success();
        let bytes = response.bytes().await.map_err(|e| unknown(agent, &e))?;
        let answer = match exchange.open_whole(bytes.to_vec()) {
            Ok(Some(opened)) => data_of(agent, &opened)?,
            // Refused before it knew us: then nothing is sealed.
            Ok(None) | Err(_) if !is_success => data_of(agent, &bytes)?,
            Ok(None) | Err(_) => {
                let text = format!("what answers at {agent} is not who has the key that it shows");
                return Err(Error::new(Code::RpcRequestFailed, text));
            }
        };
        serde_json::from_value(answer)
            .map_err(|_| Error::new(Code::RpcRequestFailed, format!("the answer of {agent} cannot be read")))
    }
}

impl Gate for Client {
    fn look(&self, agent: AgentAddr) -> BoxFuture<'_, Result<Stranger>> {
        Box::pin(async move {
            let info: Info = self.open(agent, "/api/v1/info").await?;
            let identity = info.identity.parse().map_err(Error::unexpected)?;
            Ok(Stranger { identity, version: info.version, ob_version: info.ob_version, engine: info.engine })
        })
    }

    fn join<'a>(
        &'a self,
        master: AgentAddr,
        password: &'a Password,
        own: &'a Member,
        is_trial: bool,
    ) -> BoxFuture<'a, Result<Members>> {
        Box::pin(async move {
            let body = json!({ "member": own, "isTrial": is_trial });
            self.knock(master, JOIN_TARGET, password, &body).await
        })
    }

    fn invite<'a>(
        &'a self,
        agent: AgentAddr,
        password: &'a Password,
        invitation: &'a Invitation,
        is_trial: bool,
    ) -> BoxFuture<'a, Result<Member>> {
        Box::pin(async move {
            let body = json!({ "invitation": invitation, "isTrial": is_trial });
            self.knock(agent, INVITE_TARGET, password, &body).await
        })
    }
}

//! The open door of an agent that we share no session with: what it tells anybody, and how one joins it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::client::{Client, envelope, unknown};
use crate::cluster::Members;
use crate::error::{Code, Error, Result};
use crate::flow::peers::{Gate, Stranger};
use crate::model::{AgentAddr, Invitation, Member, Password};
use crate::secure::{AGENT_HEADER, BodyKey, PublicKey, SealedRequest, seal_request};
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
        let request = self.http().get(format!("http://{agent}{target}")).timeout(LIMIT);
        let response = request.send().await.map_err(|e| unknown(agent, &e))?;
        let data = envelope(agent, response).await?;
        serde_json::from_value(data).map_err(|_| {
            Error::new(Code::RpcRequestFailed, format!("what answers at {agent} is not an agent of obpilot"))
        })
    }
}

impl Client {
    /// Sends a body sealed with the receiver's agent password (scheme v2).
    async fn knock<T: serde::de::DeserializeOwned>(
        &self,
        agent: AgentAddr,
        target: &str,
        password: &Password,
        body: &serde_json::Value,
    ) -> Result<T> {
        let secret: Secret = self.open(agent, "/api/v1/secret").await?;
        let broken = |e: &dyn std::error::Error| {
            Error::unexpected(format!("the request to {agent} cannot be sealed: {e}"))
        };
        let key = PublicKey::from_wire(&secret.public_key).map_err(|e| broken(&e))?;
        let keys = BodyKey::generate().map_err(|e| broken(&e))?;
        let body = body.to_string();
        let ts = self.clock().now_secs() + HEADER_LIFETIME_SECS;
        let sealed = seal_request(AGENT_HEADER, &key, password, ts, target, &keys, Some(body.as_bytes()));
        let SealedRequest { header_name, header_value, body } = sealed.map_err(|e| broken(&e))?;
        let request = self.http().post(format!("http://{agent}{target}")).header(header_name, header_value);
        let request = request.header("Content-Type", "application/json").body(body.unwrap_or_default());
        let response = request.timeout(LIMIT).send().await.map_err(|e| unknown(agent, &e))?;
        let answer = envelope(agent, response).await?;
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

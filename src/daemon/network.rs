//! The port `Peers`: messages to ourselves are answered here, others are sent.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::flow::peers::{Ask, Peers};
use crate::model::AgentAddr;
use crate::peer::Client;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Network {
    own: AgentAddr,
    client: Client,
    /// Given once it exists: its steps hold this network.
    app: Arc<OnceLock<App>>,
}

impl Network {
    pub(super) fn new(own: AgentAddr, client: Client) -> Self {
        Self { own, client, app: Arc::default() }
    }

    pub(super) fn attach(&self, app: App) {
        let is_first = self.app.set(app).is_ok();
        assert!(is_first, "the network gets its application once");
    }

    async fn answer(&self, ask: &Ask, limit: Duration) -> Result<Value> {
        let app = self.app.get().ok_or_else(|| Error::unexpected("the agent is not whole yet"))?;
        // The same promise as on the wire: an answer, or not known.
        let answered = tokio::time::timeout(limit, app.answer(self.own, ask)).await;
        answered.unwrap_or_else(|_| {
            Err(Error::new(Code::RpcRequestFailed, format!("{} does not answer itself in time", self.own)))
        })
    }
}

impl Peers for Network {
    fn ask<'a>(&'a self, agent: AgentAddr, ask: &'a Ask, limit: Duration) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            if agent == self.own {
                return self.answer(ask, limit).await;
            }
            self.client.ask(agent, ask, limit).await
        })
    }
}

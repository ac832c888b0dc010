//! Ports that tell how long each answer took: what an operation's time goes into is messages and SQL.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::network::Network;
use crate::clock::Stopwatch;
use crate::error::Result;
use crate::flow::peers::{Ask, Peers};
use crate::flow::ports::{ClusterSql, Progress, SqlAct, SqlAnswer};
use crate::model::{AgentAddr, Password};
use crate::telemetry::Meters;

/// Messages to others; those to ourselves are no messages.
#[derive(Clone, Debug)]
pub(super) struct MeteredNetwork {
    pub(super) network: Network,
    pub(super) own: AgentAddr,
    pub(super) messages: Meters,
}

impl Peers for MeteredNetwork {
    fn ask<'a>(&'a self, agent: AgentAddr, ask: &'a Ask, limit: Duration) -> BoxFuture<'a, Result<Value>> {
        if agent == self.own {
            return self.network.ask(agent, ask, limit);
        }
        Box::pin(async move {
            let begun = Stopwatch::start();
            let answer = self.network.ask(agent, ask, limit).await;
            self.messages.took(ask.name(), begun.elapsed());
            answer
        })
    }
}

/// What is asked of the database, from the login to the last answer.
#[derive(Debug)]
pub(super) struct MeteredSql<S> {
    pub(super) sql: S,
    pub(super) acts: Meters,
}

impl<S: ClusterSql> ClusterSql for MeteredSql<S> {
    fn act<'a>(
        &'a self,
        password: &'a Password,
        act: &'a SqlAct,
        limit: Duration,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<SqlAnswer>> {
        Box::pin(async move {
            let begun = Stopwatch::start();
            let answer = self.sql.act(password, act, limit, progress).await;
            self.acts.took(if matches!(act, SqlAct::View) { "look" } else { "act" }, begun.elapsed());
            answer
        })
    }
}

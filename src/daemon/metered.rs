//! Ports that tell how long each answer took: what an operation's time goes into is messages and SQL.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::network::Network;
use crate::clock::Stopwatch;
use crate::error::Result;
use crate::flow::peers::{Ask, Peers};
use crate::flow::ports::{ClusterSql, Login, ObSql, Progress, SqlAct, SqlAnswer};
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
#[derive(Clone, Debug)]
pub(super) struct MeteredSql<S> {
    pub(super) sql: S,
    pub(super) acts: Meters,
}

impl<S: Sync> MeteredSql<S> {
    fn timed<'a, T: 'a>(&'a self, what: &'static str, answer: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        Box::pin(async move {
            let begun = Stopwatch::start();
            let answer = answer.await;
            self.acts.took(what, begun.elapsed());
            answer
        })
    }
}

impl<S: ObSql> ObSql for MeteredSql<S> {
    fn login<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Login> {
        self.timed("login", self.sql.login(password))
    }

    fn serving<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<()>> {
        self.timed("serving", self.sql.serving(password))
    }

    fn set_root_password<'a>(
        &'a self,
        current: &'a Password,
        new: &'a Password,
    ) -> BoxFuture<'a, Result<()>> {
        self.timed("set_root_password", self.sql.set_root_password(current, new))
    }

    fn minor_freeze<'a>(
        &'a self,
        password: &'a Password,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<()>> {
        self.timed("minor_freeze", self.sql.minor_freeze(password, progress))
    }

    fn parameter_names<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<Vec<String>>> {
        self.timed("parameter_names", self.sql.parameter_names(password))
    }

    fn version<'a>(&'a self, password: &'a Password) -> BoxFuture<'a, Result<String>> {
        self.timed("version", self.sql.version(password))
    }
}

impl<S: ClusterSql> ClusterSql for MeteredSql<S> {
    fn act<'a>(
        &'a self,
        password: &'a Password,
        act: &'a SqlAct,
        limit: Duration,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<SqlAnswer>> {
        let what = if matches!(act, SqlAct::View) { "look" } else { "act" };
        self.timed(what, self.sql.act(password, act, limit, progress))
    }
}

//! What the database tells of its parameters, character sets and numbers, and the setting of parameters
//! (`http-api.md` §7.12).
//!
//! Invariant: a request to set parameters is judged whole before anything of it is set; who asked for what is in the log, without
//! the values.

use std::time::Duration;

use super::context::{App, Caller};
use super::info::InfoView;
use crate::cluster::figures::{Charset, TenantMode};
use crate::cluster::parameters::{ParameterSet, Setting, stopped_at};
use crate::cluster::{Act, may};
use crate::config::EngineKind;
use crate::error::Result;
use crate::flow::ports::{Silent, SqlAct};
use crate::flow::zones::anywhere;
use crate::model::ServerAddr;

/// For a server to be found that answers, and to tell.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// For one parameter to be set.
const SET_LIMIT: Duration = Duration::from_secs(10);

/// What `GET /obcluster/statistics` tells of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    pub ip: String,
    /// With build and hash, as the server tells it.
    pub version: String,
    pub cpu_count: i64,
    pub memory_limit: String,
    pub datafile_size: String,
    pub log_disk_size: String,
}

impl App {
    /// # Errors
    /// The identity's refusal (only a CLUSTER AGENT has a database to ask).
    pub fn may_read(&self) -> Result<()> {
        may(Act::Operate, self.own(), self.identity())
    }

    /// All parameters, hidden ones too.
    ///
    /// # Errors
    /// The identity's refusal; `Agent.OceanBase.Useless` when no server answers.
    pub async fn parameters(&self) -> Result<ParameterSet> {
        self.may_read()?;
        let answer = anywhere(&self.parts.ports, &SqlAct::Parameters, READ_LIMIT, &Silent).await?;
        let mut all = answer.parameters()?;
        if self.parts.ports.engine == EngineKind::Seekdb {
            self.name_the_one(&mut all);
        }
        Ok(all)
    }

    /// One server that is the whole database is called as its cluster of one calls it.
    fn name_the_one(&self, all: &mut ParameterSet) {
        let state = self.parts.ledger.state();
        let Some(own) = state.members.find(self.own()) else { return };
        all.servers = vec![(own.zone.clone(), own.server())];
        for row in &mut all.rows {
            row.server = Some(own.server());
            row.zone = own.zone.to_string();
        }
    }

    /// Sets parameters one after another, once all of them were found possible.
    ///
    /// # Errors
    /// As [`App::parameters`]; what cannot be, with nothing set; the database's refusal of one, with what was set before it
    /// (H21).
    pub async fn set_parameters(&self, settings: &[Setting], caller: &Caller) -> Result<()> {
        self.may_read()?;
        if settings.is_empty() {
            return Ok(());
        }
        let assignments = self.parameters().await?.assignments(settings)?;
        for (at, assignment) in assignments.iter().enumerate() {
            let act = SqlAct::SetParameter(assignment.clone());
            let set = anywhere(&self.parts.ports, &act, SET_LIMIT, &Silent).await;
            tracing::info!(actor = %caller.actor, parameter = %assignment, ok = set.is_ok(), "a parameter is set");
            if let Err(error) = set {
                let (done, rest) = assignments.split_at(at);
                return Err(stopped_at(done, assignment, rest.get(1..).unwrap_or_default(), error));
            }
        }
        Ok(())
    }

    /// Those that a tenant of this mode can have; without a mode all.
    ///
    /// # Errors
    /// As [`App::parameters`].
    pub async fn charsets(&self, mode: Option<TenantMode>) -> Result<Vec<Charset>> {
        self.may_read()?;
        let answer = anywhere(&self.parts.ports, &SqlAct::Charsets, READ_LIMIT, &Silent).await?;
        let all = answer.charsets()?.into_iter();
        Ok(all.filter(|charset| mode.is_none_or(|mode| mode.takes(&charset.name))).collect())
    }

    /// What servers were given, for `obcluster/statistics`; nothing where nobody answers.
    pub async fn instances(&self, info: &InfoView) -> Vec<Instance> {
        let told = match info.figures {
            Some(_) => self.parameters().await.ok(),
            None => None,
        };
        let servers = info.zones.iter().flat_map(|zone| &zone.servers);
        let instance = |server: &super::ServerView| {
            let value = |name: &str| {
                let rows = told.iter().flat_map(|all| &all.rows);
                let is_it =
                    |addr: ServerAddr| addr.ip.to_string() == server.ip && addr.port == server.rpc_port;
                let row = rows.filter(|row| row.name == name).find(|row| row.server.is_some_and(is_it));
                row.map(|row| row.value.clone()).unwrap_or_default()
            };
            let version = server.row.as_ref().map(|row| row.build_version.clone());
            Instance {
                ip: server.ip.clone(),
                version: version.unwrap_or_else(|| info.version.clone()),
                cpu_count: value("cpu_count").parse().unwrap_or(0),
                memory_limit: value("memory_limit"),
                datafile_size: value("datafile_size"),
                log_disk_size: value("log_disk_size"),
            }
        };
        servers.map(instance).collect()
    }
}

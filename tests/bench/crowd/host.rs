//! What an agent of the crowd has instead of a machine: a server that starts at once and answers every statement.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use obpilot::cluster::{ClusterView, Members, ZoneRow};
use obpilot::error::{Code, Error, Result};
use obpilot::flow::peers::{Gate, Stranger};
use obpilot::flow::ports::{ClusterSql, Login, ObSql, Process, Progress, Sealer, SqlAct, SqlAnswer};
use obpilot::model::{
    AgentAddr, Diagnosis, Exit, Finding, Invitation, Launch, LogMark, Member, Password, ServerProcess,
    StopHow, StopReport, Timestamp,
};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Host {
    state: Arc<Mutex<State>>,
    members: Members,
}

#[derive(Debug, Default)]
struct State {
    running: Option<ServerProcess>,
    pids: i32,
}

impl Host {
    pub(super) fn new(members: Members) -> Self {
        Self { state: Arc::default(), members }
    }

    pub(super) fn is_running(&self) -> bool {
        self.state.lock().unwrap().running.is_some()
    }

    pub(super) fn stop_at_once(&self) {
        self.state.lock().unwrap().running = None;
    }

    fn view(&self) -> ClusterView {
        let zone =
            |zone| ZoneRow { zone, status: "ACTIVE".to_owned(), region: String::new(), idc: String::new() };
        ClusterView { zones: self.members.zones().into_iter().map(zone).collect(), ..ClusterView::default() }
    }
}

fn none<T>() -> Result<T> {
    Err(Error::new(Code::NotSupported, "nobody asks for that here"))
}

impl Process for Host {
    fn find(&self) -> BoxFuture<'_, Result<Option<ServerProcess>>> {
        Box::pin(async { Ok(self.state.lock().unwrap().running.clone()) })
    }

    fn preflight<'a>(&'a self, _: &'a Launch) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async { Vec::new() })
    }

    fn spawn<'a>(&'a self, _: &'a Launch, _: &'a dyn Progress) -> BoxFuture<'a, Result<ServerProcess>> {
        Box::pin(async {
            let mut state = self.state.lock().unwrap();
            state.pids += 1;
            let (pid, started_at) = (state.pids, Timestamp::UNIX_EPOCH);
            let server = ServerProcess { pid, start_ticks: 1, started_at, log_from: LogMark::default() };
            state.running = Some(server.clone());
            Ok(server)
        })
    }

    fn ready<'a>(&'a self, _: &'a ServerProcess, _: &'a dyn Progress) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn stop<'a>(
        &'a self,
        _: &'a ServerProcess,
        _: StopHow,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<StopReport>> {
        Box::pin(async { none() })
    }

    fn has_ended(&self, _: &ServerProcess) -> bool {
        false
    }

    fn exited<'a>(&'a self, _: &'a ServerProcess) -> BoxFuture<'a, Exit> {
        Box::pin(std::future::pending())
    }

    fn diagnose<'a>(&'a self, _: &'a ServerProcess, _: Option<Exit>) -> BoxFuture<'a, Diagnosis> {
        Box::pin(async { Diagnosis::default() })
    }

    fn is_initialised(&self) -> bool {
        true
    }

    fn prepare_dirs<'a>(&'a self, _: &'a Launch) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async { none() })
    }

    fn remove_dirs<'a>(&'a self, _: Option<&'a [String]>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { none() })
    }

    fn sql_port<'a>(&'a self, _: &'a ServerProcess) -> BoxFuture<'a, Option<u16>> {
        Box::pin(async { None })
    }

    fn mark_initialised(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn forget_initialised(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { none() })
    }
}

impl ObSql for Host {
    fn login<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Login> {
        Box::pin(async { Login::Accepted })
    }

    fn serving<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn set_root_password<'a>(&'a self, _: &'a Password, _: &'a Password) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { none() })
    }

    fn minor_freeze<'a>(&'a self, _: &'a Password, _: &'a dyn Progress) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { none() })
    }

    fn parameter_names<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async { none() })
    }

    fn version<'a>(&'a self, _: &'a Password) -> BoxFuture<'a, Result<String>> {
        Box::pin(async { Ok("4.3.5.1".to_owned()) })
    }
}

impl ClusterSql for Host {
    fn act<'a>(
        &'a self,
        _: &'a Password,
        act: &'a SqlAct,
        _: Duration,
        _: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<SqlAnswer>> {
        Box::pin(async move {
            Ok(if *act == SqlAct::View { SqlAnswer::View(Box::new(self.view())) } else { SqlAnswer::Done })
        })
    }
}

/// Nobody joins, nothing is sealed.
#[derive(Debug)]
pub(super) struct Shut;

impl Gate for Shut {
    fn look(&self, _: AgentAddr) -> BoxFuture<'_, Result<Stranger>> {
        Box::pin(async { none() })
    }

    fn join<'a>(
        &'a self,
        _: AgentAddr,
        _: &'a Password,
        _: &'a Member,
        _: bool,
    ) -> BoxFuture<'a, Result<Members>> {
        Box::pin(async { none() })
    }

    fn invite<'a>(
        &'a self,
        _: AgentAddr,
        _: &'a Password,
        _: &'a Invitation,
        _: bool,
    ) -> BoxFuture<'a, Result<Member>> {
        Box::pin(async { none() })
    }
}

impl Sealer for Shut {
    fn seal(&self, _: &str, _: &Password) -> Result<String> {
        none()
    }

    fn open(&self, _: &str, _: &str) -> Result<Password> {
        none()
    }
}

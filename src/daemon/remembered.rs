//! What the agent remembers about itself, against what it is told at a start.
//!
//! Purpose: address, engine and executable are needed once; afterwards they may be left out, and some may not change.

use std::net::IpAddr;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::DaemonError;
use crate::cluster::AgentState;
use crate::config::{Config, EngineKind};
use crate::host::net;
use crate::model::{AgentAddr, DEFAULT_AGENT_PORT, Identity};

/// The document to go on with, and what is new about it.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) state: AgentState,
    pub(super) change: Option<Value>,
}

/// # Errors
/// `Usage`: something is missing at a first start, or is given and must not change any more.
pub(super) fn adopt(known: Option<AgentState>, config: &Config) -> Result<Adopted, DaemonError> {
    let home = config.agent.home.as_deref().unwrap_or(Utf8Path::new("/"));
    match known {
        None => first(config, home).map(|state| Adopted { change: Some(json!("first start")), state }),
        Some(known) => again(known, config),
    }
}

fn first(config: &Config, home: &Utf8Path) -> Result<AgentState, DaemonError> {
    let Some(ip) = config.agent.ip else {
        let own = net::addresses().unwrap_or_default();
        let own: Vec<_> = own.iter().map(ToString::to_string).collect();
        let known =
            if own.is_empty() { String::new() } else { format!("; this host has {}", own.join(", ")) };
        return Err(usage(format!(
            "the first start needs --ip, the address others know this agent by{known}"
        )));
    };
    let Some(engine) = config.engine.kind else {
        return Err(usage("the first start needs --engine observer or --engine seekdb".to_owned()));
    };
    let binary = match &config.engine.binary {
        Some(binary) => binary.clone(),
        None => default_binary(engine, home)?,
    };
    let addr = AgentAddr::new(check_ip(ip)?, config.agent.port.unwrap_or(DEFAULT_AGENT_PORT));
    Ok(AgentState::new(addr, engine, binary))
}

fn again(known: AgentState, config: &Config) -> Result<Adopted, DaemonError> {
    let addr = AgentAddr::new(
        config.agent.ip.unwrap_or(known.addr.ip),
        config.agent.port.unwrap_or(known.addr.port),
    );
    let engine = config.engine.kind.unwrap_or(known.engine);
    let binary = config.engine.binary.clone().unwrap_or_else(|| known.binary.clone());
    let is_bound = known.identity != Identity::Single;
    if is_bound && addr != known.addr {
        return Err(usage(format!(
            "this agent is {} of a cluster that knows it as {}; its address cannot become {addr}. Leave --ip and --port out, \
             or set agent.listen to listen elsewhere",
            known.identity, known.addr
        )));
    }
    if is_bound && engine != known.engine {
        return Err(usage(format!(
            "this home belongs to {}; it cannot become {}. Leave --engine out",
            known.engine.name(),
            engine.name()
        )));
    }
    check_ip(addr.ip)?;
    let state = AgentState { addr, engine, binary, ..known.clone() };
    let change =
        (state != known).then(|| json!({ "address": addr, "engine": engine, "binary": state.binary }));
    Ok(Adopted { state, change })
}

fn check_ip(ip: IpAddr) -> Result<IpAddr, DaemonError> {
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(usage(format!(
            "{ip} is nobody's address; --ip is how others reach this agent, agent.listen where it listens"
        )));
    }
    Ok(ip)
}

fn default_binary(engine: EngineKind, home: &Utf8Path) -> Result<Utf8PathBuf, DaemonError> {
    match engine {
        EngineKind::Observer => Ok(home.join("bin/observer")),
        EngineKind::Seekdb => {
            let path = std::env::var("PATH").unwrap_or_default();
            let found =
                path.split(':').map(|dir| Utf8Path::new(dir).join("seekdb")).find(|file| file.is_file());
            found.ok_or_else(|| usage("seekdb is not in the search path; give --engine-bin".to_owned()))
        }
    }
}

fn usage(text: String) -> DaemonError {
    DaemonError::Usage(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(ip: &str) -> Config {
        let mut config = Config::default();
        config.agent.home = Some("/home/db".into());
        config.agent.ip = Some(ip.parse().unwrap());
        config.engine.kind = Some(EngineKind::Observer);
        config
    }

    fn known() -> AgentState {
        adopt(None, &config("10.0.0.1")).unwrap().state
    }

    #[test]
    fn a_first_start_needs_address_and_engine() {
        let adopted = adopt(None, &config("10.0.0.1")).unwrap();
        assert_eq!(adopted.state.addr.to_string(), "10.0.0.1:2886");
        assert_eq!(adopted.state.binary, "/home/db/bin/observer");
        assert!(adopted.change.is_some());
        for (change, named) in [
            ((|c| c.agent.ip = None) as fn(&mut Config), "--ip"),
            (|c| c.engine.kind = None, "--engine"),
            (|c| c.agent.ip = Some("0.0.0.0".parse().unwrap()), "0.0.0.0"),
        ] {
            let mut config = config("10.0.0.1");
            change(&mut config);
            let error = adopt(None, &config).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn later_starts_need_nothing() {
        let adopted = adopt(Some(known()), &Config::default()).unwrap();
        assert!(adopted.change.is_none());
        assert_eq!(adopted.state, known());
    }

    #[test]
    fn a_single_agent_may_move_and_a_member_may_not() {
        let moved = adopt(Some(known()), &config("10.0.0.2")).unwrap();
        assert_eq!(moved.state.addr.to_string(), "10.0.0.2:2886");
        assert!(moved.change.is_some());
        let member = AgentState { identity: Identity::Master, ..known() };
        let error = adopt(Some(member.clone()), &config("10.0.0.2")).unwrap_err().to_string();
        assert!(error.contains("10.0.0.1:2886"), "{error}");
        let mut other = Config::default();
        other.engine.kind = Some(EngineKind::Seekdb);
        assert!(adopt(Some(member.clone()), &other).is_err());
        let mut newer = Config::default();
        newer.engine.binary = Some("/opt/ob/bin/observer".into());
        assert_eq!(adopt(Some(member), &newer).unwrap().state.binary, "/opt/ob/bin/observer");
    }
}

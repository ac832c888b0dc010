//! A cluster that no agent of ours deployed, and the agents that are to manage it: whose server is which. Pure.
//!
//! The rule: a server belongs to the agent in whose home its process runs. It is known by the address of that agent and the
//! port on which that process really speaks SQL, which no two servers of one address share; everything else about it (zone,
//! port between servers) is what the cluster says.
//!
//! Invariant: all or nothing. A server without an agent, or an agent without a server, is an obstacle, so nobody is late (W36).

use super::members::Members;
use super::quorum::{ClusterView, ServerRow};
use crate::error::{Code, Error};
use crate::model::{AgentAddr, Member};

/// An agent, and the server in its home as that agent tells of it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub member: Member,
    /// The port on which it speaks SQL; or why there is none to be taken over, in words.
    pub sql_port: std::result::Result<u16, String>,
}

/// Who has which server.
#[derive(Debug)]
pub struct Matched {
    /// The candidates with the zones and ports that the cluster has them in.
    pub members: Members,
    /// Everything that stands in the way, of all hosts.
    pub obstacles: Vec<Error>,
    /// What differs from what was said when they joined.
    pub notes: Vec<String>,
}

/// Finds every candidate's server, and every server's agent.
pub fn matched(view: &ClusterView, candidates: &[Candidate]) -> Matched {
    let mut found = Matched { members: Members::default(), obstacles: Vec::new(), notes: Vec::new() };
    for Candidate { member, sql_port } in candidates {
        let agent = member.agent;
        let row = match sql_port {
            Err(why) => {
                found.obstacles.push(Error::new(Code::ServerNotReady, format!("{agent}: {why}")));
                continue;
            }
            Ok(port) => match server_at(view, agent, *port) {
                Some(row) => row,
                None => {
                    found.obstacles.push(no_such_server(view, agent, *port));
                    continue;
                }
            },
        };
        if row.zone != member.zone {
            let (zone, told) = (&row.zone, &member.zone);
            found.notes.push(format!("{agent} joined for zone {told}; the cluster has its server in {zone}"));
        }
        found.members = found.members.with(Member {
            zone: row.zone.clone(),
            sql_port: row.sql_port,
            rpc_port: row.server.port,
            ..member.clone()
        });
    }
    found.obstacles.extend(view.servers.iter().filter_map(not_in_service));
    let nobodys = view.servers.iter().filter(|row| found.members.by_server(row.server).is_none());
    // A candidate whose server is not known was told of above.
    let is_told = |row: &ServerRow| {
        candidates.iter().any(|known| known.member.agent.ip == row.server.ip && known.sql_port.is_err())
    };
    found.obstacles.extend(nobodys.filter(|row| !is_told(row)).map(no_agent));
    found
}

fn server_at(view: &ClusterView, agent: AgentAddr, sql_port: u16) -> Option<&ServerRow> {
    view.servers.iter().find(|row| row.server.ip == agent.ip && row.sql_port == sql_port)
}

fn no_such_server(view: &ClusterView, agent: AgentAddr, sql_port: u16) -> Error {
    let known: Vec<_> =
        view.servers.iter().map(|row| format!("{} (SQL on {})", row.server, row.sql_port)).collect();
    let text = format!(
        "{agent}: the server in its home speaks SQL on port {sql_port}, and the cluster has none at {} with that port; \
         its servers are {}",
        agent.ip,
        known.join(", ")
    );
    Error::new(Code::TakeOverNotExistInCluster, text)
}

/// What is half gone, or does not answer, cannot be looked at: whose it is would be guessed.
fn not_in_service(row: &ServerRow) -> Option<Error> {
    if row.status.eq_ignore_ascii_case("ACTIVE") && row.started.is_some() {
        return None;
    }
    let text = format!(
        "server {} of zone {} is {} and does not serve; start it, or delete it from the cluster, first",
        row.server, row.zone, row.status
    );
    Some(Error::new(Code::ServerNotReady, text))
}

fn no_agent(row: &ServerRow) -> Error {
    let text = format!(
        "server {} of zone {} has no agent here; start one in its home and let it join this one (zone {})",
        row.server, row.zone, row.zone
    );
    Error::new(Code::AgentNotExist, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identity, ServerAddr};

    fn candidate(last: u8, zone: &str, sql_port: std::result::Result<u16, String>) -> Candidate {
        let member = Member::sample(AgentAddr::new([10, 0, 0, last].into(), 2886), zone, Identity::Follower);
        Candidate { member, sql_port }
    }

    fn row(last: u8, rpc_port: u16, sql_port: u16, zone: &str) -> ServerRow {
        ServerRow {
            id: i64::from(last),
            server: ServerAddr::new([10, 0, 0, last].into(), rpc_port),
            zone: zone.parse().unwrap(),
            sql_port,
            has_root: false,
            status: "ACTIVE".to_owned(),
            started: Some("2026-01-01T00:00:00Z".to_owned()),
            stopped: None,
            build_version: String::new(),
        }
    }

    fn view(servers: Vec<ServerRow>) -> ClusterView {
        ClusterView { servers, ..ClusterView::default() }
    }

    fn texts(found: &Matched) -> Vec<String> {
        found.obstacles.iter().map(|error| format!("{} {}", error.code.name(), error.text())).collect()
    }

    #[test]
    fn the_cluster_says_where_a_server_is() {
        let view = view(vec![row(1, 3882, 3881, "z1"), row(2, 2882, 2881, "z2")]);
        let found = matched(&view, &[candidate(1, "z1", Ok(3881)), candidate(2, "wrong", Ok(2881))]);
        assert_eq!(texts(&found), Vec::<String>::new());
        let seen: Vec<_> =
            found.members.iter().map(|m| format!("{} {} {}", m.server(), m.sql_port, m.zone)).collect();
        assert_eq!(seen, ["10.0.0.1:3882 3881 z1", "10.0.0.2:2882 2881 z2"]);
        assert_eq!(found.notes.len(), 1);
        assert!(found.notes[0].contains("wrong"), "{:?}", found.notes);
    }

    #[test]
    fn two_servers_of_one_address_are_told_apart_by_their_ports() {
        let view = view(vec![row(1, 2882, 2881, "z1"), row(1, 3882, 3881, "z2")]);
        let mut second = candidate(1, "z2", Ok(3881));
        second.member.agent = AgentAddr::new([10, 0, 0, 1].into(), 3886);
        let found = matched(&view, &[candidate(1, "z1", Ok(2881)), second.clone()]);
        assert_eq!(texts(&found), Vec::<String>::new());
        assert_eq!(found.members.find(second.member.agent).unwrap().rpc_port, 3882);
    }

    /// W36: nobody is late, because nothing is taken over while somebody is missing.
    #[test]
    fn w36_whatever_is_missing_is_told_at_once() {
        let mut gone = row(4, 2882, 2881, "z3");
        (gone.status, gone.started) = ("INACTIVE".to_owned(), None);
        let view = view(vec![row(1, 2882, 2881, "z1"), row(2, 2882, 2881, "z2"), gone]);
        let candidates = [
            candidate(1, "z1", Err("no process".to_owned())),
            candidate(3, "z3", Ok(2881)),
            candidate(4, "z3", Ok(2881)),
        ];
        let found = texts(&matched(&view, &candidates));
        assert_eq!(found.len(), 4, "{found:#?}");
        for (text, parts) in found.iter().zip([
            ["OB.Server.Unavailable", "10.0.0.1:2886: no process"],
            ["Agent.TakeOver.NotExistInCluster", "10.0.0.3:2886"],
            ["OB.Server.Unavailable", "server 10.0.0.4:2882 of zone z3 is INACTIVE"],
            ["Agent.NotExist", "server 10.0.0.2:2882 of zone z2 has no agent"],
        ]) {
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
    }
}

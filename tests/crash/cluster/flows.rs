//! The flows over several agents: what they begin with, the request, the end that must be reached.

use serde_json::{Value, json};

use super::HOSTS;
use crate::rig::{Cluster, PASSWORD, zone};
use crate::trial::Kill;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flow {
    Start,
    Stop,
    /// Of one server, by an agent on another host.
    StopOther,
    Init,
    /// Of the last host, into a zone of its own.
    ScaleOut,
    /// Of that host.
    ScaleIn,
    /// Of servers that somebody else has deployed, by agents that know nothing yet.
    TakeOver,
    /// Zone by zone.
    RestartAll,
    /// Of one server, by an agent on another host.
    RestartOther,
    /// Of its zone.
    RestartZone,
}

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Coordinator,
    Participant,
    /// The host that is added.
    Newcomer,
}

/// The host that is asked, and coordinates.
pub(super) const COORDINATOR: usize = 0;

/// The host whose server is stopped alone, or added.
const OTHER: usize = 2;

/// The host whose server, or zone, is restarted alone: the one that takes part and may die.
const TAKING_PART: usize = 1;

impl Victim {
    pub(super) fn host(self) -> usize {
        match self {
            Self::Coordinator => COORDINATOR,
            Self::Participant => 1,
            Self::Newcomer => OTHER,
        }
    }
}

impl Flow {
    pub(super) fn is_restart(self) -> bool {
        matches!(self, Self::RestartAll | Self::RestartOther | Self::RestartZone)
    }

    /// Which of its points are tried, where a trial is long or they are many: every so manieth commit, and of the messages and
    /// statements. What is done to processes and files is tried each time.
    fn sample(self) -> (usize, usize) {
        match self {
            Self::Init => (3, 1),
            Self::RestartAll => (8, 2),
            Self::RestartOther | Self::RestartZone => (3, 1),
            Self::Start | Self::Stop | Self::StopOther | Self::ScaleOut | Self::ScaleIn | Self::TakeOver => {
                (1, 1)
            }
        }
    }

    /// The points at which it is tried.
    pub(super) fn chosen(self, kills: Vec<Kill>) -> Vec<Kill> {
        let (of_commits, of_words) = self.sample();
        let (mut commits, mut words) = (0, 0);
        let is_tried = |kill: &Kill| {
            let (count, every) = match kill.point() {
                "after-commit" => (&mut commits, of_commits),
                "before-peer" | "before-sql" | "after-sql" => (&mut words, of_words),
                _ => return true,
            };
            *count += 1;
            *count % every == 0
        };
        kills.into_iter().filter(is_tried).collect()
    }

    pub(super) fn request(self, cluster: &Cluster) -> (&'static str, Value) {
        let global = json!({ "type": "GLOBAL" });
        match self {
            Self::Start => ("/api/v1/ob/start", json!({ "scope": global })),
            Self::Stop => ("/api/v1/ob/stop", json!({ "scope": global, "terminate": true })),
            Self::StopOther => {
                let scope = json!({ "type": "SERVER", "target": [cluster.address(OTHER)] });
                ("/api/v1/ob/stop", json!({ "scope": scope, "terminate": true }))
            }
            Self::RestartAll => ("/api/v1/ob/restart", json!({ "scope": global })),
            Self::RestartOther => {
                let scope = json!({ "type": "SERVER", "target": [cluster.address(TAKING_PART)] });
                ("/api/v1/ob/restart", json!({ "scope": scope }))
            }
            Self::RestartZone => {
                let scope = json!({ "type": "ZONE", "target": [zone(TAKING_PART)] });
                ("/api/v1/ob/restart", json!({ "scope": scope }))
            }
            Self::Init => ("/api/v1/ob/init", json!({})),
            Self::TakeOver => ("/api/v1/ob/take_over", json!({ "rootPwd": PASSWORD })),
            Self::ScaleIn => {
                let home = &cluster.homes[OTHER];
                let body = json!({ "agent_info": { "ip": home.ip, "port": home.port } });
                ("/api/v1/ob/scale_in", body)
            }
            Self::ScaleOut => {
                let home = &cluster.homes[OTHER];
                let body = json!({
                    "agentInfo": { "ip": home.ip, "port": home.port },
                    "zone": zone(OTHER),
                    "obConfigs": cluster.ports(OTHER),
                });
                ("/api/v1/ob/scale_out", body)
            }
        }
    }

    /// Brings a formed cluster to what the flow begins with.
    pub(super) async fn prepare(self, cluster: &Cluster) {
        match self {
            Self::Start if cluster.running() == [false; HOSTS] => {}
            Self::Start => {
                let body = json!({ "scope": { "type": "GLOBAL" }, "force": true });
                cluster.done(COORDINATOR, "/api/v1/ob/stop", body).await;
            }
            Self::Stop | Self::StopOther if cluster.running() == [true; HOSTS] => {}
            Self::RestartAll | Self::RestartOther | Self::RestartZone
                if cluster.running() == [true; HOSTS] => {}
            Self::Stop | Self::RestartAll | Self::RestartOther | Self::RestartZone => {
                drop(cluster.start_all(COORDINATOR).await);
            }
            Self::StopOther => {
                let body = json!({ "scope": { "type": "SERVER", "target": [cluster.address(OTHER)] } });
                cluster.done(COORDINATOR, "/api/v1/ob/start", body).await;
            }
            Self::ScaleOut => {
                let target = format!("/api/v1/zone/{}", zone(OTHER));
                let door = cluster.door(COORDINATOR);
                let answer = door.send("DELETE", &target, None).await;
                if answer.status != 204 {
                    door.finished(answer.data()["id"].as_str().unwrap()).await.expect_succeeded();
                }
                // A new host is empty.
                for left in ["store", "etc", "etc2", "etc3", "run/observer.pid"] {
                    let left = cluster.homes[OTHER].path.join(left);
                    drop(if left.is_dir() {
                        std::fs::remove_dir_all(left)
                    } else {
                        std::fs::remove_file(left)
                    });
                }
            }
            Self::ScaleIn if cluster.running() == [true; HOSTS] => {}
            Self::ScaleIn => {
                Box::pin(Self::ScaleOut.prepare(cluster)).await;
                let (target, body) = Self::ScaleOut.request(cluster);
                cluster.done(COORDINATOR, target, body).await;
            }
            Self::TakeOver => {
                for host in 0..HOSTS {
                    cluster.join(host, COORDINATOR, &zone(host)).await;
                }
            }
            Self::Init => {}
        }
    }

    /// Every agent knows what it has to decide from.
    pub(super) async fn until_ready(self, cluster: &Cluster) {
        let wanted = match self {
            Self::Start | Self::Init => return,
            Self::TakeOver => return cluster.until_found(&[0, 1, 2]).await,
            Self::Stop
            | Self::StopOther
            | Self::ScaleOut
            | Self::ScaleIn
            | Self::RestartAll
            | Self::RestartOther
            | Self::RestartZone => "SERVING",
        };
        let hosts = if self == Self::ScaleOut { OTHER } else { HOSTS };
        for host in 0..hosts {
            let is_known = |status: &Value| status["obpilot"]["server"]["state"] == wanted;
            cluster.door(host).until_status(is_known).await;
        }
    }

    /// How many hosts are members at its end.
    pub(super) fn members(self) -> usize {
        if self == Self::ScaleIn { OTHER } else { HOSTS }
    }

    /// Which servers run at its end.
    pub(super) fn running(self) -> [bool; HOSTS] {
        match self {
            Self::Start
            | Self::Init
            | Self::ScaleOut
            | Self::TakeOver
            | Self::RestartAll
            | Self::RestartOther
            | Self::RestartZone => [true; HOSTS],
            Self::Stop => [false; HOSTS],
            Self::StopOther | Self::ScaleIn => std::array::from_fn(|host| host != OTHER),
        }
    }

    /// How often the server of a host is started.
    pub(super) fn starts(self, host: usize) -> usize {
        match self {
            Self::Start | Self::Init | Self::RestartAll => 1,
            Self::RestartOther | Self::RestartZone => usize::from(host == TAKING_PART),
            Self::ScaleOut => usize::from(host == OTHER),
            Self::Stop | Self::StopOther | Self::ScaleIn | Self::TakeOver => 0,
        }
    }
}

/// Joined and configured, without servers: what an init begins with.
pub(super) async fn configured() -> Cluster {
    let cluster = Cluster::new(HOSTS);
    for host in 0..HOSTS {
        cluster.join(host, COORDINATOR, &zone(host)).await;
    }
    cluster.configure(COORDINATOR).await;
    cluster
}

pub(super) async fn formed() -> Cluster {
    let cluster = Cluster::new(HOSTS);
    cluster.form().await;
    cluster
}

/// Servers of somebody else's, beside agents that are nobody's.
pub(super) async fn deployed_by_hand() -> Cluster {
    let cluster = Cluster::new(HOSTS);
    cluster.deploy_by_hand(&[0, 1, 2]).await;
    cluster
}

/// All but the last host, which belongs to nobody.
pub(super) async fn formed_without_one() -> Cluster {
    let cluster = Cluster::new(HOSTS);
    cluster.form_first(OTHER).await;
    cluster
}

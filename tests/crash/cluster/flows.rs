//! The flows over several agents: what they begin with, the request, the end that must be reached.

use serde_json::{Value, json};

use super::HOSTS;
use crate::rig::{Cluster, zone};
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
    /// The points at which it is tried. A trial of an init is long: every third of its commits must do; what is done to the
    /// world is tried each time.
    pub(super) fn chosen(self, kills: Vec<Kill>) -> Vec<Kill> {
        if self != Self::Init {
            return kills;
        }
        let (mut chosen, mut commits) = (Vec::new(), 0);
        for kill in kills {
            let is_commit = kill.point() == "after-commit";
            commits += usize::from(is_commit);
            if !is_commit || commits % 3 == 0 {
                chosen.push(kill);
            }
        }
        chosen
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
            Self::Init => ("/api/v1/ob/init", json!({})),
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
            Self::Stop => drop(cluster.start_all(COORDINATOR).await),
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
            Self::Init => {}
        }
    }

    /// Every agent knows what it has to decide from.
    pub(super) async fn until_ready(self, cluster: &Cluster) {
        let wanted = match self {
            Self::Start | Self::Init => return,
            Self::Stop | Self::StopOther | Self::ScaleOut | Self::ScaleIn => "SERVING",
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
            Self::Start | Self::Init | Self::ScaleOut => [true; HOSTS],
            Self::Stop => [false; HOSTS],
            Self::StopOther | Self::ScaleIn => std::array::from_fn(|host| host != OTHER),
        }
    }

    /// How often the server of a host is started.
    pub(super) fn starts(self, host: usize) -> usize {
        match self {
            Self::Start | Self::Init => 1,
            Self::ScaleOut => usize::from(host == OTHER),
            Self::Stop | Self::StopOther | Self::ScaleIn => 0,
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

/// All but the last host, which belongs to nobody.
pub(super) async fn formed_without_one() -> Cluster {
    let cluster = Cluster::new(HOSTS);
    cluster.form_first(OTHER).await;
    cluster
}

//! Networks that break: hosts in network namespaces of their own, whose packets are lost as a test says, while agents and servers
//! go on. What is cut off, who coordinates it, both halves at once, one direction only.
//!
//! They need root; without it each says that it is left out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::body::{global, server, terminate};
use crate::rig::{Cluster, Net, ip, told};

/// Short, so that a test takes seconds: who is silent for this long is lost.
const SHORT: &str = "[peers]\nprepare_timeout_secs = 2\nsilence_limit_secs = 5\nquorum_wait_secs = 8\n";

/// Silence is borne; only what is asked before anything began is given up soon.
const PATIENT: &str = "[peers]\nprepare_timeout_secs = 2\n";

/// A cluster whose network the test holds.
struct Field {
    // Its processes end before their networks do.
    cluster: Cluster,
    net: Net,
}

impl Field {
    /// A cluster that serves; nothing where there can be no networks.
    #[expect(clippy::print_stdout, reason = "what is left out is named")]
    async fn formed(hosts: usize, toml: &str) -> Option<Self> {
        let net = match Net::new(hosts) {
            Ok(net) => net,
            Err(why) => {
                println!("left out, needs root: networks that break ({why})");
                return None;
            }
        };
        let mut cluster = Cluster::at_rest(hosts, toml, ip);
        for host in 0..hosts {
            cluster.homes[host].namespace = Some(net.space(host));
            cluster.start(host);
        }
        cluster.form().await;
        Some(Self { cluster, net })
    }

    /// Between agents and between servers alike.
    fn split(&self, groups: &[&[usize]]) {
        self.net.split(groups);
        self.cluster.split_servers(groups);
    }

    fn heal(&self) {
        self.net.heal();
        self.cluster.split_servers(&[]);
    }

    async fn ask(&self, host: usize, target: &str, body: Value) -> String {
        let made = self.cluster.door(host).post(target, body).await.data();
        made["id"].as_str().unwrap().to_owned()
    }

    async fn ended(&self, host: usize, id: &str) -> Value {
        self.cluster.door(host).finished(id).await.data()
    }

    /// A start by `coordinator` has come to where the server of `host` was told to start, and does not listen yet.
    async fn until_starting(&self, coordinator: usize, id: &str, host: usize) {
        let line = format!("{}: waiting for process", self.cluster.address(host));
        self.cluster.door(coordinator).until(id, |dag| dag.to_string().contains(&line)).await;
    }

    /// The id of what a host does for a task, as its coordinator has written it down.
    async fn part_of(&self, coordinator: usize, id: &str, host: usize) -> String {
        let line = format!("{} prepares as task ", self.cluster.address(host));
        let dag =
            self.cluster.door(coordinator).until(id, |dag| dag.to_string().contains(&line)).await.data();
        let record = told(&dag);
        let (_, rest) = record.split_once(&line).unwrap();
        rest.lines().next().unwrap().to_owned()
    }

    /// The agent itself says that nothing holds it.
    async fn until_free(&self, host: usize) {
        self.cluster.door(host).until_status(|status| status["underMaintenance"] == json!(false)).await;
    }

    /// How often each server was started.
    fn starts(&self) -> Vec<usize> {
        let journal = self.cluster.journal();
        let count = |host: usize| {
            let server = json!(self.cluster.server(host));
            journal.iter().filter(|entry| entry["kind"] == "start" && entry["server"] == server).count()
        };
        (0..self.cluster.homes.len()).map(count).collect()
    }

    /// Everything runs, as often started as said; nobody holds a lock; and a start more succeeds and changes nothing.
    async fn assert_whole(&self, by: usize, starts: &[usize]) {
        for host in 0..self.cluster.homes.len() {
            self.until_free(host).await;
        }
        self.cluster.start_all(by).await;
        assert!(self.cluster.running().iter().all(|runs| *runs), "{:?}", self.cluster.running());
        assert_eq!(self.starts(), starts, "starts of each server");
        self.cluster.assert_free().await;
    }

    async fn blocked(&self, host: usize) -> Value {
        self.cluster.door(host).get("/api/v1/task/blocked").await.data()
    }
}

/// A host is cut off after it was told to go, and is back before it counts as lost: the task ends well, and knows everything that
/// happened there meanwhile.
#[tokio::test]
async fn a_host_that_is_cut_off_in_mid_start_and_comes_back_is_done() {
    let Some(field) = Field::formed(3, PATIENT).await else { return };
    field.cluster.kill_servers();
    field.cluster.set(2, &json!({ "faults": { "listen_after_ms": 2000 } }));
    let id = field.ask(0, "/api/v1/ob/start", global()).await;
    field.until_starting(0, &id, 2).await;
    let part = field.part_of(0, &id, 2).await;
    field.split(&[&[0, 1], &[2]]);
    // It goes on alone, as far as it comes without the others.
    let alone = |dag: &Value| dag["nodes"][3]["state"] == "RUNNING";
    field.cluster.door(2).until(&part, alone).await;
    let still = field.cluster.door(0).get(&format!("/api/v1/task/dag/{id}")).await.data();
    assert_eq!(still["state"], "RUNNING", "{still:#}");
    field.heal();
    let ended = field.ended(0, &id).await;
    assert_eq!(ended["state"], "SUCCEED", "{}", told(&ended));
    let line = format!("{}: it serves", field.cluster.address(2));
    assert!(ended.to_string().contains(&line), "{}", told(&ended));
    field.assert_whole(1, &[2, 2, 2]).await;
}

/// The same host stays away for longer than the limit: the task says what it does not know, and does not call it failed. The host
/// itself ends what it began, and gives its lock back.
#[tokio::test]
async fn a_host_that_is_lost_in_mid_start_is_told_as_not_known() {
    let Some(field) = Field::formed(3, SHORT).await else { return };
    field.cluster.kill_servers();
    field.cluster.set(2, &json!({ "faults": { "listen_after_ms": 2000 } }));
    let id = field.ask(0, "/api/v1/ob/start", global()).await;
    field.until_starting(0, &id, 2).await;
    let part = field.part_of(0, &id, 2).await;
    field.split(&[&[0, 1], &[2]]);
    let ended = field.ended(0, &id).await;
    assert_eq!(ended["state"], "FAILED", "{}", told(&ended));
    let lost = format!("{} was not reached for 5 s", field.cluster.address(2));
    assert!(ended.to_string().contains(&lost), "{}", told(&ended));
    let goes_on = "goes on there, its own record tells";
    assert!(ended.to_string().contains(goes_on), "{}", told(&ended));
    // The others have done their part, and are free at once.
    assert_eq!(field.cluster.running(), [true; 3]);
    field.until_free(0).await;
    field.until_free(1).await;
    field.heal();
    field.until_free(2).await;
    let own = field.cluster.door(2).get(&format!("/api/v1/task/dag/{part}?show_details=true")).await.data();
    assert!(own["obpilot"]["finished"] == json!(true), "{}", told(&own));
    field.assert_whole(2, &[2, 2, 2]).await;
}

/// W17: a host is away before it begins: nothing is started, it is named, nobody is locked; everything that needs it not works, and
/// what is shown is true within a second.
#[tokio::test]
async fn a_host_that_stays_cut_off_fails_the_whole_and_hinders_nobody() {
    let Some(field) = Field::formed(3, SHORT).await else { return };
    let cluster = &field.cluster;
    field.split(&[&[0, 1], &[2]]);
    cluster.homes[1].kill_database();
    let id = field.ask(0, "/api/v1/ob/start", global()).await;
    let failed = field.ended(0, &id).await;
    assert_eq!((&failed["state"], &failed["stage"]), (&json!("FAILED"), &json!(1)), "{}", told(&failed));
    let named = format!("{} does not answer", cluster.address(2));
    assert!(failed.to_string().contains(&named), "{}", told(&failed));
    assert_eq!((field.starts(), cluster.running()), (vec![1; 3], vec![true, false, true]));
    cluster.assert_free().await;

    for target in ["/api/v1/ob/info", "/api/v1/obcluster/info", "/api/v1/task/blocked"] {
        let began = Instant::now();
        cluster.door(0).get(target).await.data();
        // A second, and what a busy machine takes.
        assert!(began.elapsed() < Duration::from_secs(3), "{target} took {:?}", began.elapsed());
    }
    let info = cluster.door(0).get("/api/v1/obcluster/info").await.data();
    let reached = |host: usize| info["zones"][host]["servers"][0]["obpilot"]["agentReached"].clone();
    assert_eq!((reached(0), reached(1), reached(2)), (json!(true), json!(true), json!(false)), "{info:#}");
    let blocked = field.blocked(0).await;
    let away = blocked["notReached"].as_array().unwrap();
    assert_eq!(blocked["locks"], json!([]), "{blocked:#}");
    assert_eq!((away.len(), &away[0]["agent"]), (1, &json!(cluster.address(2))), "{blocked:#}");
    // The other side sees it the other way round.
    let blocked = field.blocked(2).await;
    assert_eq!(blocked["notReached"].as_array().unwrap().len(), 2, "{blocked:#}");

    cluster.done(0, "/api/v1/ob/start", server(&cluster.address(1))).await;
    assert_eq!(cluster.running(), [true; 3]);
    field.heal();
    field.assert_whole(0, &[1, 2, 1]).await;
}

/// The coordinator is cut off from everybody after the go: the others do their part, and are free by their lease while it is still
/// away. Its record says what it does not know, and anybody else begins anew.
#[tokio::test]
async fn participants_free_themselves_of_a_coordinator_that_is_cut_off() {
    let Some(field) = Field::formed(3, SHORT).await else { return };
    let cluster = &field.cluster;
    cluster.kill_servers();
    for host in [1, 2] {
        cluster.set(host, &json!({ "faults": { "listen_after_ms": 1000 } }));
    }
    let id = field.ask(0, "/api/v1/ob/start", global()).await;
    field.until_starting(0, &id, 1).await;
    field.until_starting(0, &id, 2).await;
    field.split(&[&[0], &[1, 2]]);
    // While they have its lock they say whose it is.
    let blocked = field.blocked(1).await;
    let holders = blocked["locks"].as_array().unwrap();
    assert!(holders.len() == 2 && holders.iter().all(|lock| lock["id"] == json!(id)), "{blocked:#}");
    for host in [1, 2] {
        field.until_free(host).await;
        assert_eq!(cluster.agent(host).status().await["obState"], 3, "two of three are a majority");
    }
    cluster.done(1, "/api/v1/ob/start", server(&cluster.address(2))).await;
    let ended = field.ended(0, &id).await;
    assert_eq!(ended["state"], "FAILED", "{}", told(&ended));
    for host in [1, 2] {
        let lost = format!("{} was not reached for 5 s", cluster.address(host));
        assert!(ended.to_string().contains(&lost), "{}", told(&ended));
    }
    field.until_free(0).await;
    field.heal();
    field.assert_whole(1, &[2, 2, 2]).await;
    // What was written then is what is read now, also from elsewhere.
    let seen = cluster.door(2).get(&format!("/api/v1/task/dag/{id}?show_details=true")).await.data();
    assert_eq!(seen["state"], "FAILED", "{}", told(&seen));
}

/// Two halves, all servers down, and both sides are told to start everything: each starts its own, names what it left out, and after
/// the cut nothing was done twice.
#[tokio::test]
async fn two_halves_that_start_at_once_start_nothing_twice() {
    let Some(field) = Field::formed(4, PATIENT).await else { return };
    let cluster = &field.cluster;
    cluster.kill_servers();
    field.split(&[&[0, 1], &[2, 3]]);
    let (left, right) =
        tokio::join!(field.ask(1, "/api/v1/ob/start", global()), field.ask(2, "/api/v1/ob/start", global()));
    let starting = |dag: &Value| dag["stage"].as_i64().is_some_and(|stage| stage >= 4);
    cluster.door(1).until(&left, starting).await;
    cluster.door(2).until(&right, starting).await;
    // The one with the majority says what it could not do; the other waits for a majority.
    let ended = field.ended(1, &left).await;
    assert_eq!(ended["state"], "FAILED", "{}", told(&ended));
    let out = format!("left out: {}, {}", cluster.address(2), cluster.address(3));
    assert!(ended.to_string().contains(&out), "{}", told(&ended));
    field.heal();
    let ended = field.ended(2, &right).await;
    let out = format!("left out: {}, {}", cluster.address(0), cluster.address(1));
    assert!(ended["state"] == "FAILED" && ended.to_string().contains(&out), "{}", told(&ended));
    field.assert_whole(3, &[2; 4]).await;
}

/// A stop is decided by who can see a majority; a server that is away is not stopped, and nothing is half done.
#[tokio::test]
async fn a_stop_across_a_cut_is_refused_or_fails_before_anything_is_done() {
    let Some(field) = Field::formed(3, SHORT).await else { return };
    let cluster = &field.cluster;
    field.split(&[&[0, 1], &[2]]);
    // Until the database itself has noticed.
    cluster.door(2).until_status(|status| status["obState"] != json!(3)).await;
    let stop = |host: usize| terminate(server(&cluster.address(host)));

    // The one of two that are left: its majority would be gone.
    let refused = cluster.door(0).post("/api/v1/ob/stop", stop(1)).await;
    assert_eq!(refused.code(), "OB.Cluster.Tenant.Replica.Invalid", "{}", refused.text);
    assert!(refused.message().contains("1 of 3 replicas left, 2 needed"), "{}", refused.text);
    // Whoever is alone can prove nothing.
    for host in [1, 2] {
        let refused = cluster.door(2).post("/api/v1/ob/stop", stop(host)).await;
        assert_eq!(refused.code(), "OB.Cluster.ForceStopRequired", "{}", refused.text);
        assert!(refused.message().contains("not reached"), "{}", refused.text);
    }
    // The one that is away would not be missed, and cannot be told.
    let id = field.ask(0, "/api/v1/ob/stop", stop(2)).await;
    let failed = field.ended(0, &id).await;
    assert_eq!((&failed["state"], &failed["stage"]), (&json!("FAILED"), &json!(1)), "{}", told(&failed));
    assert_eq!((cluster.statements("STOP SERVER"), cluster.running()), (0, vec![true; 3]));
    cluster.assert_free().await;

    field.heal();
    cluster.door(2).until_status(|status| status["obState"] == json!(3)).await;
    cluster.done(0, "/api/v1/ob/stop", stop(2)).await;
    assert_eq!(cluster.running(), [true, true, false]);
    field.assert_whole(0, &[1, 1, 2]).await;
}

/// One direction: what host 1 is told reaches it, and its answers are lost, from each of several moments on. Everything is asked
/// again when it is heard again, and nothing is done twice.
#[tokio::test]
async fn lost_answers_do_not_lead_to_doing_things_twice() {
    let Some(field) = Field::formed(3, "[peers]\nprepare_timeout_secs = 20\n").await else { return };
    let cluster = &field.cluster;
    let mut starts = 1;
    // One answer is the facts for the decision; then PREPARE's is lost, the go's, the first of the watch.
    for after in [1, 4, 5] {
        cluster.homes[1].kill_database();
        field.net.mute(1, 0, after);
        let id = field.ask(0, "/api/v1/ob/start", global()).await;
        // Host 0 has waited for an answer in vain, and asks in a new connection.
        field.net.until_lost(|lost| lost.contents > 0 && lost.welcomes > 0).await;
        field.heal();
        let ended = field.ended(0, &id).await;
        assert_eq!(ended["state"], "SUCCEED", "after {after}: {}", told(&ended));
        starts += 1;
        field.assert_whole(2, &[1, starts, 1]).await;
    }
}

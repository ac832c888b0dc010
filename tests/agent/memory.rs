//! A database that the kernel kills for want of memory; and what the agent takes of it itself.

use std::path::PathBuf;

use serde_json::json;

use crate::rig::Home;

/// What a database of this size cannot start with (measured: 270 MB), and the agent can go on with.
const TOO_LITTLE_BYTES: &str = "100000000";

/// A control group with a limit of memory, as a container or a unit has one.
struct Group(PathBuf);

impl Group {
    /// `None` where groups cannot be made; the summary of `make test` says so.
    fn limited() -> Option<Self> {
        let generations =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        generations.into_iter().find_map(|(top, limit)| {
            let group = Self(PathBuf::from(top).join(format!("obpilot-test-{}", std::process::id())));
            std::fs::create_dir(&group.0).ok()?;
            // Where memory is not counted in this tree, there is no such file.
            std::fs::write(group.0.join(limit), TOO_LITTLE_BYTES).ok()?;
            Some(group)
        })
    }

    fn take(&self, pid: i32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(std::fs::remove_dir(&self.0));
    }
}

#[tokio::test]
async fn a_start_that_was_killed_for_memory_says_so() {
    let Some(group) = Group::limited() else { return };
    let home = Home::new();
    let mut agent = home.start();
    let door = agent.door.clone();
    home.initialise(&agent).await;
    let global = json!({ "type": "GLOBAL", "target": [] });
    let stop = door.post("/api/v1/ob/stop", json!({ "scope": global, "force": true })).await.data();
    door.finished(stop["id"].as_str().unwrap()).await.expect_succeeded();

    group.take(agent.pid());
    let start = door.post("/api/v1/ob/start", json!({ "scope": global })).await.data();
    let dag = door.finished(start["id"].as_str().unwrap()).await.data();
    assert_eq!(dag["state"], "FAILED", "{dag:#}");
    let text = dag.to_string();
    // By the kernel's own log where it may be read, else by the group's counter; and what was foretold.
    for part in ["SIGKILL", "out-of-memory", "the kernel killed", "the control group"] {
        assert!(text.contains(part), "says nothing of {part}: {dag:#}");
    }
    door.until_status(|status| status["underMaintenance"] == json!(false)).await;
    // A group goes when nobody is in it.
    agent.terminate();
}

/// Every arena of the allocator keeps what it was ever asked for at a time: a dozen threads would keep it a dozen times.
#[tokio::test]
async fn all_threads_of_an_agent_share_two_arenas() {
    let home = Home::new();
    let agent = home.start();
    let ask = |_| async { agent.door.get("/api/v1/task/dags/agent?show_details=true").await.data() };
    futures_util::future::join_all((0..64).map(ask)).await;
    // What is not the first thread's is mapped as 64 MiB at a multiple of that, of which the beginning may be used.
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", agent.pid())).unwrap();
    let begins_arena = |line: &&str| {
        let mut words = line.split_whitespace();
        let begin = words.next().and_then(|range| u64::from_str_radix(range.split('-').next()?, 16).ok());
        let is_anonymous = words.clone().count() == 4;
        words.next() == Some("rw-p") && is_anonymous && begin.is_some_and(|begin| begin % (64 << 20) == 0)
    };
    let arenas = maps.lines().filter(begins_arena).count();
    assert!(arenas <= 1, "{arenas} arenas beside that of the first thread:\n{maps}");
}

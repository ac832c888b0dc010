//! A database that the kernel kills for want of memory.

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

//! What is measured in a process of its own: this program again, told by its environment what to do.
//!
//! Memory, threads and CPU time are then those of the work, and of nothing that was measured before it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const VARIABLE: &str = "OBPILOT_BENCH_SHARE";

/// One share: whose it is, and what that one asks for.
pub(crate) type Share = (String, Value);

/// What this process was started for; `None` when it measures everything.
pub(crate) fn asked() -> Option<Share> {
    let text = std::env::var(VARIABLE).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

pub(crate) fn answer((section, ask): &Share) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        match section.as_str() {
            "engine" => crate::engine::share(ask.clone()).await,
            "crowd" => crate::crowd::share(ask.clone()).await,
            other => unreachable!("{other} has no shares"),
        }
    });
    println!("{answer}");
}

/// Does a share in a process of its own.
pub(crate) async fn of<T: DeserializeOwned>(section: &str, ask: impl Serialize) -> T {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    let ask = json!([section, json!(ask)]).to_string();
    command.env(VARIABLE, ask).stderr(std::process::Stdio::inherit()).kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "a share of {section} ended with {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

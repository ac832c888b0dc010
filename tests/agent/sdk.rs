//! OBShell's own client from PyPI, unpatched.

use serde_json::json;

use crate::rig::{Agent, Home, PASSWORD, python};

/// Runs one of the scripts beside this file on an agent.
fn drive(script: &str, home: &Home, agent: &Agent, password: &str) {
    drive_with(script, home, agent, home.mysql_port, password);
}

/// The same with another port for the script than that of SQL.
pub(crate) fn drive_with(script: &str, home: &Home, agent: &Agent, port: u16, password: &str) {
    let script = format!("{}/tests/agent/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = python();
    command.args([&script, &home.ip, &home.port.to_string(), &port.to_string(), password]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{}", agent.stderr());
    assert!(text.contains("everything the SDK was asked to do is done"), "{text}");
}

/// Join, settings, init, info, stop and start in every scope, tasks, refusals.
#[test]
fn the_sdk_from_pypi_drives_one_host_through_its_life() {
    let home = Home::new();
    let agent = home.start();
    drive("sdk.py", &home, &agent, PASSWORD);
}

/// Tasks that fail raise what a caller of the SDK expects, and each operator does what the SDK waits for.
#[test]
fn the_sdk_mends_failed_tasks_by_the_operators() {
    let home = Home::new();
    let agent = home.start();
    drive("sdk_operators.py", &home, &agent, PASSWORD);
}

#[tokio::test]
async fn the_sdk_opens_an_agent_by_its_own_password() {
    const AGENT_PASSWORD: &str = "an agent's own";
    let home = Home::new();
    let agent = home.start();
    agent.door.post("/api/v1/agent/password", json!({ "password": AGENT_PASSWORD })).await;
    drive("sdk_agent_password.py", &home, &agent, AGENT_PASSWORD);
}

//! OBShell's own client from PyPI, unpatched.

use crate::rig::{Home, PASSWORD, python};

/// Join, settings, init, info, stop and start in every scope, tasks, refusals: as `sdk.py` asks for them.
#[test]
fn the_sdk_from_pypi_drives_one_host_through_its_life() {
    let home = Home::new();
    let agent = home.start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/sdk.py");
    let mut command = python();
    command.arg(script).args(["127.0.0.1", &home.port.to_string(), &home.mysql_port.to_string(), PASSWORD]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{}", agent.stderr());
    assert!(text.contains("everything the SDK was asked to do is done"), "{text}");
}

//! A systemd scope for the database, so that stopping, limiting or counting the agent's unit does not touch it (P9).
//!
//! Invariant: an extra. Where it fails the start goes on, with a warning in its log.
//!
//! Not here: a scope that outlives the process (systemd removes it), limits of the scope (operators set them).

use std::time::Duration;

use camino::Utf8Path;

use super::command::Invocation;
use super::instance::Instance;
use crate::flow::ports::Progress;
use crate::model::Exit;

const LIMIT: Duration = Duration::from_secs(5);

/// Moves the process where systemd runs, the agent is root and the configuration wants it; elsewhere does nothing.
pub(super) async fn enter(instance: &Instance, pid: i32, progress: &dyn Progress) {
    let has_systemd = Utf8Path::new("/run/systemd/system").exists();
    if !instance.settings.has_systemd_scope || !has_systemd || !nix::unistd::geteuid().is_root() {
        return;
    }
    let name = unit_name(instance.engine.name(), pid);
    match Invocation::tool("busctl", arguments(&name, instance.home(), pid)).run(LIMIT).await {
        Ok(ran) if ran.exit == Exit::Code(0) => {
            progress.info(&format!("it runs in the systemd scope {name}"))
        }
        Ok(ran) => progress.warn(&format!(
            "no systemd scope of its own: busctl {}, {}; it stays in the scope of the agent",
            ran.exit,
            ran.output.join(" ")
        )),
        Err(error) => {
            progress
                .warn(&format!("no systemd scope of its own: {error}; it stays in the scope of the agent"));
        }
    }
}

fn unit_name(engine: &str, pid: i32) -> String {
    format!("obpilot-{engine}-{pid}.scope")
}

/// `StartTransientUnit(name, mode, properties, aux)` with signature `ssa(sv)a(sa(sv))`.
fn arguments(name: &str, home: &Utf8Path, pid: i32) -> Vec<String> {
    let pid = pid.to_string();
    let description = format!("OceanBase database in {home}");
    [
        "--system",
        "call",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        name,
        "fail",
        "3",
        "Description",
        "s",
        &description,
        "PIDs",
        "au",
        "1",
        &pid,
        // A scope that ended with an error would stay and block its name.
        "CollectMode",
        "s",
        "inactive-or-failed",
        "0",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_call() {
        let name = unit_name("seekdb", 4711);
        assert_eq!(name, "obpilot-seekdb-4711.scope");
        let line = arguments(&name, Utf8Path::new("/data/my db"), 4711);
        assert_eq!(
            line[5..],
            [
                "StartTransientUnit",
                "ssa(sv)a(sa(sv))",
                "obpilot-seekdb-4711.scope",
                "fail",
                "3",
                "Description",
                "s",
                "OceanBase database in /data/my db",
                "PIDs",
                "au",
                "1",
                "4711",
                "CollectMode",
                "s",
                "inactive-or-failed",
                "0",
            ]
        );
    }
}

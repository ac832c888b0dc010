//! The systemd unit whose main process is the agent, if there is one.
//!
//! Purpose: what systemd runs is systemd's to stop. Ended by anybody else, it is started again.
//!
//! Not here: the scope of the database (`process::scope`), telling systemd how we are (`daemon`).

/// The unit that runs this process, such as `obpilot.service`.
pub fn own() -> Option<String> {
    let started_for = std::env::var("SYSTEMD_EXEC_PID").ok();
    let is_notified = std::env::var_os("NOTIFY_SOCKET").is_some();
    let is_child_of_init = is_notified && nix::unistd::getppid().as_raw() == 1;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    main_process_of(std::process::id(), started_for.as_deref(), is_child_of_init, &groups)
}

/// systemd says for whom it set the environment; before version 248 it does not, and its main processes are children of
/// process 1. A process that merely lives in the control group of a unit (a shell that was started by cron) is not meant.
fn main_process_of(
    pid: u32,
    started_for: Option<&str>,
    is_child_of_init: bool,
    groups: &str,
) -> Option<String> {
    let is_main = started_for.map_or(is_child_of_init, |text| text.parse() == Ok(pid));
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).filter(|_| is_main);
    paths.flat_map(|path| path.rsplit('/')).find(|part| part.ends_with(".service")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c25_only_the_main_process_of_a_service_is_meant() {
        let service = "0::/system.slice/obpilot.service\n";
        let found = |started_for, is_child, groups| main_process_of(7, started_for, is_child, groups);
        let unit = Some("obpilot.service".to_owned());
        assert_eq!(found(Some("7"), false, service), unit);
        assert_eq!(found(None, true, "4:memory:/\n1:name=systemd:/system.slice/obpilot.service\n"), unit);
        let of_a_user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/obpilot.service\n";
        assert_eq!(found(Some("7"), false, of_a_user), unit);
        // Its environment came down from another process of that service.
        assert_eq!(found(Some("8"), true, "0::/system.slice/cron.service\n"), None);
        assert_eq!(found(None, false, service), None);
        assert_eq!(found(Some("7"), true, "0::/user.slice/session-3.scope\n"), None);
    }
}

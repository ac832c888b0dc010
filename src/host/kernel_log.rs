//! The kernel's log, where it may be read: who was killed for memory.
//!
//! Invariant: a record counts for a process only if it is younger than the process, because pids come again.
//!
//! Not here: following the log. It is read once, when somebody asks why a process died.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc;

/// The kernel's ring buffer is a few MiB at most; more than this is a reader that never ends.
const RECORDS_MAX: usize = 200_000;

/// The kernel's sentence about killing `pid` for memory, not older than `since_boot_micros`. `None` when there is none
/// or the log may not be read (`kernel.dmesg_restrict`).
pub fn oom_kill_of(pid: i32, since_boot_micros: u64) -> Option<String> {
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    // One read is one record, and a buffer that is too small is an error: the kernel's own limit is below this.
    let mut buffer = [0_u8; 16 << 10];
    let mut found = None;
    for _ in 0..RECORDS_MAX {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => {
                let record = String::from_utf8_lossy(&buffer[..len]);
                found = oom_kill_in(&record, pid, since_boot_micros).or(found);
            }
            // EPIPE: records were overwritten while we read; the next read goes on with the oldest that is left.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    found
}

/// `priority,sequence,micros,flags;text`.
fn oom_kill_in(record: &str, pid: i32, since_boot_micros: u64) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let micros: u64 = head.split(',').nth(2)?.parse().ok()?;
    let line = text.lines().next()?;
    let is_about_it = line.contains(&format!("Killed process {pid} ("))
        || line.contains(&format!("Killed process {pid},"))
        || (line.contains("oom-kill:") && line.contains(&format!(",pid={pid},")));
    (is_about_it && micros >= since_boot_micros).then(|| line.chars().take(400).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: &str = "3,912,5000000,-;Memory cgroup out of memory: Killed process 4711 (seekdb) total-vm:600000kB, \
                        anon-rss:250000kB, file-rss:0kB\n SUBSYSTEM=memory\n";

    #[test]
    fn a_kill_is_found_by_pid() {
        assert!(oom_kill_in(KILL, 4711, 1).unwrap().contains("Killed process 4711 (seekdb)"));
        assert_eq!(oom_kill_in(KILL, 471, 1), None);
        let summary = "6,1,9,-;oom-kill:constraint=CONSTRAINT_MEMCG,task=seekdb,pid=4711,uid=0\n";
        assert!(oom_kill_in(summary, 4711, 1).is_some());
        assert_eq!(oom_kill_in(summary, 711, 1), None);
    }

    #[test]
    fn a_record_older_than_the_process_is_about_another() {
        assert_eq!(oom_kill_in(KILL, 4711, 5_000_001), None);
        assert_eq!(oom_kill_in("nonsense", 4711, 0), None);
    }

    #[test]
    fn reading_the_log_ends() {
        assert_eq!(oom_kill_of(i32::MAX, 0), None);
    }
}

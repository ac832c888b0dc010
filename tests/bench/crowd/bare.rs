//! The floor of a start: as many commits in as many files, and as many messages, by plain loops.

use std::time::{Duration, Instant};

use camino::Utf8Path;
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// What one commit writes, about: the rows of two events and of what they change.
const BYTES: usize = 1_024;

/// One thread per file; each commits one row after another and syncs it. Beside them the messages, one task each, all at once.
pub(super) fn run(
    dir: &Utf8Path,
    runtime: &Runtime,
    files: usize,
    first: u64,
    each: u64,
    messages: u64,
) -> Duration {
    let dir = tempfile::tempdir_in(dir).unwrap();
    let open = |file: usize| {
        let connection = Connection::open(dir.path().join(file.to_string())).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        connection.pragma_update(None, "synchronous", "FULL").unwrap();
        connection.execute_batch("CREATE TABLE row (body TEXT)").unwrap();
        connection
    };
    let connections: Vec<_> = (0..files).map(open).collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (file, connection) in connections.into_iter().enumerate() {
            let commits = if file == 0 { first } else { each };
            scope.spawn(move || {
                let mut insert = connection.prepare("INSERT INTO row VALUES (?)").unwrap();
                let body = "x".repeat(BYTES);
                for _ in 0..commits {
                    insert.execute([&body]).unwrap();
                }
            });
        }
        runtime.block_on(async {
            let sent: Vec<_> = (0..messages)
                .map(|_| {
                    let (reply, answer) = oneshot::channel();
                    let _served = runtime.spawn(async move { drop(reply.send("x".repeat(BYTES))) });
                    answer
                })
                .collect();
            for answer in sent {
                drop(answer.await.unwrap());
            }
        });
    });
    begun.elapsed()
}

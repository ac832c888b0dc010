//! Many who listen to the event stream of one agent.

use std::path::Path;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Effort;
use crate::measure::{Watched, median};
use crate::rig::{Home, LIMIT};
use crate::table::{Figure, Line, Table};

/// Both workers of the agent take so many together, and the one who makes the events.
const LISTENERS: usize = 1_000;

pub(super) async fn measure(effort: Effort, table: &mut Table) {
    let home = Home::new();
    let agent = home.start();
    let watched = Watched(agent.pid());
    let refused =
        || agent.door.post("/api/v1/ob/start", serde_json::json!({ "scope": { "type": "GLOBAL" } }));
    refused().await;
    let (count, events) = (effort.pick(500, LISTENERS), effort.pick(10, 50));
    let resident = watched.resident();
    let (heard, mut all) = mpsc::unbounded_channel();
    let mut listeners = JoinSet::new();
    for _ in 0..count {
        let (socket, heard) = (home.socket(), heard.clone());
        listeners.spawn(async move { listen(&socket, &heard).await });
    }
    // Each says so when its stream has begun.
    for _ in 0..count {
        within(all.recv()).await;
    }
    let grown = watched.resident().saturating_sub(resident);
    table.line(Line::of(
        format!("{count} listen to events: memory of each"),
        Figure::Bytes(grown / count as u64),
    ));
    let (mut times, before) = (Vec::new(), watched.cpu());
    for _ in 0..events {
        let begun = Instant::now();
        refused().await;
        let mut last = begun;
        for _ in 0..count {
            last = last.max(within(all.recv()).await);
        }
        times.push(last - begun);
    }
    let heard = u32::try_from(events * count).unwrap();
    let cpu = watched.cpu().saturating_sub(before);
    table.line(Line::time("  from the request that makes an event until all have it", median(times)));
    table.line(Line::time("  CPU of the agent for an event to one of them", cpu / heard));
    listeners.shutdown().await;
}

async fn within(next: impl Future<Output = Option<Instant>>) -> Instant {
    tokio::time::timeout(LIMIT, next).await.expect("every listener hears every event").unwrap()
}

/// Tells when the stream has begun, and then of every event when it has come.
async fn listen(socket: &Path, heard: &mpsc::UnboundedSender<Instant>) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(b"GET /api/v1/task/events HTTP/1.1\r\nHost: agent\r\n\r\n").await.unwrap();
    let (mut came, mut is_begun) = (Vec::new(), false);
    loop {
        if stream.read_buf(&mut came).await.unwrap_or(0) == 0 {
            return;
        }
        let now = Instant::now();
        let mut told = usize::from(!is_begun);
        is_begun = true;
        while let Some(end) = came.windows(7).position(|text| text == b"event: ") {
            told += 1;
            came.drain(..end + 7);
        }
        for _ in 0..told {
            if heard.send(now).is_err() {
                return;
            }
        }
    }
}

//! Clients that misbehave, and clients that are many, beside one that does neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::seal::{Asked, Scheme};
use super::wire::{end_of, status_of};
use super::{Bench, timed};
use crate::measure::Times;
use crate::table::{Figure, Line, Table};

/// Connections whose requests come byte by byte.
const SLOW: usize = 200;

/// Between two bytes of one of them.
const TRICKLE: Duration = Duration::from_millis(100);

/// Requests in a second, of all the many together.
const MANY_RATE: u32 = 200;

pub(super) async fn measure(bench: &Bench<'_>, table: &mut Table) {
    let many = bench.effort.pick(500, 1_000);
    let asked = Asked::get("/api/v1/ob/info");
    let watch = |table: &mut Table, what: String, floor: Option<&Times>| {
        let times = well_behaved(bench, &asked);
        let (p50, p99) =
            (Line::time(format!("{what}, p50"), times.median()), Line::time("  p99", times.p99()));
        let beside = |line: Line, floor: Option<Duration>| match floor {
            Some(floor) => line.beside(Figure::Time(floor)),
            None => line,
        };
        table.line(beside(p50, floor.map(Times::median)));
        table.line(beside(p99, floor.map(Times::p99)));
        times
    };
    let alone = watch(table, "v2 status of one client, alone".to_owned(), None);
    let before = (bench.agent.resident(), bench.agent.descriptors());
    let sent = Arc::new(AtomicU64::new(0));
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        slow.spawn(trickle(bench.place.address.clone(), Arc::clone(&sent)));
    }
    tokio::time::sleep(TRICKLE * 5).await;
    watch(table, format!("the same beside {SLOW} whose requests come byte by byte"), Some(&alone));
    table.note(format!("{} bytes came that way", sent.load(Ordering::Relaxed)));
    slow.shutdown().await;

    let mut crowd = JoinSet::new();
    for number in 0..many {
        crowd.spawn(one_of_many(bench.place.address.clone(), many, number));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = bench.agent.descriptors().saturating_sub(before.1);
    let grown = bench.agent.resident().saturating_sub(before.0);
    watch(
        table,
        format!("the same beside {many} kept connections, {MANY_RATE} requests/s of theirs"),
        Some(&alone),
    );
    table.line(Line::of("  memory per kept connection", Figure::Bytes(grown / held.max(1) as u64)));
    assert!(crowd.try_join_next().is_none(), "one of the many was not served");
    crowd.shutdown().await;
}

/// What a client with sealed requests sees.
fn well_behaved(bench: &Bench<'_>, asked: &Asked) -> Times {
    let sealed = bench.seal(Scheme::Sdk, asked, bench.effort.pick(300, 1_500));
    let mut wire = bench.place.connect();
    tokio::task::block_in_place(|| {
        Times::new(sealed.requests.iter().map(|request| timed(&mut wire, request)).collect())
    })
}

/// A request whose head takes longer than anybody waits, again and again.
async fn trickle(address: String, sent: Arc<AtomicU64>) {
    loop {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = "POST /api/v1/ob/start HTTP/1.1\r\nHost: agent\r\nContent-Length: 1000\r\n";
        for byte in head.bytes().chain(std::iter::repeat(b'x')) {
            if stream.write_all(&[byte]).await.is_err() {
                break;
            }
            sent.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(TRICKLE).await;
        }
    }
}

/// Asks now and then over a connection that it keeps.
async fn one_of_many(address: String, many: usize, number: usize) {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let between = Duration::from_secs(1) * u32::try_from(many).unwrap() / MANY_RATE;
    tokio::time::sleep(between * u32::try_from(number).unwrap() / u32::try_from(many).unwrap()).await;
    loop {
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: agent\r\n\r\n").await.unwrap();
        let mut came = Vec::new();
        while end_of(&came).is_none_or(|end| came.len() < end) {
            assert!(stream.read_buf(&mut came).await.unwrap() > 0, "the agent has closed a connection");
        }
        assert_eq!(status_of(&came), 200);
        tokio::time::sleep(between).await;
    }
}

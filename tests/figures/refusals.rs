//! How long a refusal takes, by what was wrong: what a stranger could measure (W8, W26).

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obpilot::model::Password;
use obpilot::secure::{AGENT_HEADER, BodyKey, DATABASE_HEADER, PublicKey, seal_request};

use super::{median, row};
use crate::rig::{Door, Home, PASSWORD};

/// So long that every header is two blocks: the same work for each.
const TARGET: &str = "/api/v1/ob/info?a-query-that-nobody-reads=and-that-makes-the-header-two-blocks-long-whatever-else-stands-in-it-\
                      for-a-header-of-one-block-cannot-be-torn-into-pieces-that-open-each-by-itself";
const TIMES: usize = 300;

/// Name and value of a header.
type Make<'a> = &'a dyn Fn() -> (&'static str, String);

/// Whatever was wrong, in turn, so that what else the machine does is the same for all.
pub(super) async fn times() {
    let mut home = Home::new();
    home.configure("[auth]\nfailures_per_minute_max = 100000\nfailed_openings_max = 1000000\n");
    let agent = home.start();
    home.join(&agent.door).await;
    home.settings(&agent.door).await;
    let door = Door::open(&home.address());
    let secret = door.get("/api/v1/secret").await.data();
    let key = PublicKey::from_wire(secret["public_key"].as_str().unwrap()).unwrap();
    let seal = |password: &str, ts: i64| {
        let keys = BodyKey::generate().unwrap();
        let now = obpilot::clock::system().now_secs();
        seal_request(DATABASE_HEADER, &key, &Password::new(password), now + ts, TARGET, &keys, None)
            .unwrap()
            .header_value
    };
    let kinds: [(&str, Make<'_>); 6] = [
        ("a block that does not open", &|| (DATABASE_HEADER, torn(&seal(PASSWORD, 60)))),
        ("blocks that open into no header", &|| (DATABASE_HEADER, swapped(&seal(PASSWORD, 60)))),
        ("wrong password", &|| (DATABASE_HEADER, seal("wrong password", 60))),
        ("wrong password, as long as the right one", &|| {
            (DATABASE_HEADER, seal(&"x".repeat(PASSWORD.len()), 60))
        }),
        ("wrong password and late", &|| (DATABASE_HEADER, seal("wrong password", -60))),
        ("the right password in the agent's header", &|| (AGENT_HEADER, seal(PASSWORD, 60))),
    ];
    let mut taken = vec![Vec::new(); kinds.len()];
    for _ in 0..TIMES {
        for (at, (_, make)) in kinds.iter().enumerate() {
            let (name, value) = make();
            let request = door.request("GET", TARGET, None).header(name, value).build().unwrap();
            let begun = Instant::now();
            let status = door.http.execute(request).await.unwrap().status();
            taken[at].push(begun.elapsed());
            assert_eq!(status, 401);
        }
    }
    for ((what, _), mut times) in kinds.iter().zip(taken) {
        times.sort();
        let micros = |time: Duration| format!("{:.0} µs", time.as_secs_f64() * 1e6);
        let (low, high) = (times[TIMES / 10], times[TIMES * 9 / 10]);
        row(
            &format!("refusal: {what} (median of {TIMES}, 10 % to 90 %)"),
            format!("{}, {} to {}", micros(median(times)), micros(low), micros(high)),
        );
    }
}

fn torn(value: &str) -> String {
    let mut bytes = STANDARD.decode(value).unwrap();
    bytes[100] ^= 1;
    STANDARD.encode(bytes)
}

/// The last block first: each opens, the whole is no JSON.
fn swapped(value: &str) -> String {
    let mut bytes = STANDARD.decode(value).unwrap();
    assert_eq!(bytes.len(), 512, "two blocks");
    bytes.rotate_left(256);
    STANDARD.encode(bytes)
}

//! How long a refusal takes, by what was wrong: what a stranger could measure (W8, W26).

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obpilot::model::Password;
use obpilot::secure::{
    AGENT_HEADER, BodyKey, Claims, ClaimsTo, DATABASE_HEADER, PublicKey, V3_HEADER, V3PublicKey,
    fresh_request_id, seal_request,
};

use crate::Effort;
use crate::measure::median;
use crate::rig::{Cluster, Door, Home, PASSWORD};
use crate::table::{Figure, Line, Table};

/// So long that every header is two blocks: the same work for each.
const TARGET: &str = "/api/v1/ob/info?a-query-that-nobody-reads=and-that-makes-the-header-two-blocks-long-whatever-else-stands-in-it-\
                      for-a-header-of-one-block-cannot-be-torn-into-pieces-that-open-each-by-itself";

/// A benchmark fails more often than anybody may.
const PATIENT: &str = "[auth]\nfailures_per_minute_max = 100000\nfailed_openings_max = 1000000\n";

/// Name and value of a header.
type Header = (&'static str, String);

/// What is wrong, and a header of which that is true; whether it was accepted before.
type Kind<'a> = (&'static str, &'a dyn Fn() -> Header, bool);

pub(crate) async fn measure(effort: Effort, table: &mut Table) {
    table.section("refusals, by what was wrong");
    let times = effort.pick(30, 300);
    let mut home = Home::new();
    home.configure(PATIENT);
    let agent = home.start();
    home.join(&agent.door).await;
    home.settings(&agent.door).await;
    of("MASTER", &home, times, table).await;
    let cluster = Cluster::configured(1, PATIENT);
    cluster.form().await;
    of("CLUSTER AGENT", &cluster.homes[0], times, table).await;
}

/// The keys of an agent, and what is sealed for them.
struct Sealing {
    v2: PublicKey,
    v3: V3PublicKey,
}

impl Sealing {
    async fn of(door: &Door) -> Self {
        let secret = door.get("/api/v1/secret").await.data();
        let v2 = PublicKey::from_wire(secret["public_key"].as_str().unwrap()).unwrap();
        let v3 = secret["authSchemes"]["v3"]["publicKey"].as_str().unwrap();
        Self { v2, v3: V3PublicKey::from_wire(v3).unwrap() }
    }

    fn v2(&self, password: &str, lifetime: i64, target: &str) -> String {
        let keys = BodyKey::generate().unwrap();
        let ts = obpilot::clock::system().now_secs() + lifetime;
        seal_request(DATABASE_HEADER, &self.v2, &Password::new(password), ts, target, &keys, None)
            .unwrap()
            .header_value
    }

    fn v3(&self, claims_to: ClaimsTo, password: &str, lifetime: i64, target: &str) -> Header {
        let claims = Claims { claims_to, password: Password::new(password), ..Claims::default() };
        let expires = obpilot::clock::system().now_secs() + lifetime;
        let id = fresh_request_id().unwrap();
        let sealed = self.v3.seal("GET", target, expires, &id, claims, None).unwrap();
        (V3_HEADER, sealed.header_value)
    }
}

/// As long as the right one, and never the same.
fn wrong() -> String {
    let number = fresh_request_id().unwrap();
    number.chars().cycle().take(PASSWORD.len()).collect()
}

/// Under scheme v2, then under v3. Which of them it was is known to whoever asks.
async fn of(identity: &str, home: &Home, times: usize, table: &mut Table) {
    let door = Door::open(&home.address());
    let sealing = Sealing::of(&door).await;
    let elsewhere = TARGET.replace("nobody", "anyone");
    let root = |password: &str, lifetime| (DATABASE_HEADER, sealing.v2(password, lifetime, TARGET));
    let kinds: [Kind<'_>; 9] = [
        ("no base64", &|| (DATABASE_HEADER, root(PASSWORD, 60).1.replace('=', "!")), false),
        ("a block that does not open", &|| (DATABASE_HEADER, torn(&root(PASSWORD, 60).1)), false),
        ("blocks that open into no header", &|| (DATABASE_HEADER, swapped(&root(PASSWORD, 60).1)), false),
        ("wrong password", &|| root(&wrong(), 60), false),
        ("a short wrong password", &|| root("wrong", 60), false),
        ("wrong password and late", &|| root(&wrong(), -60), false),
        (
            "wrong password and another target",
            &|| (DATABASE_HEADER, sealing.v2(&wrong(), 60, &elsewhere)),
            false,
        ),
        ("the right password in the agent's header", &|| (AGENT_HEADER, root(PASSWORD, 60).1), false),
        ("the right one, for the second time", &|| root(PASSWORD, 60), true),
    ];
    compare(&format!("{identity}, v2"), &door, &kinds, times, table).await;
    let root = |password: &str, lifetime| sealing.v3(ClaimsTo::Root, password, lifetime, TARGET);
    let kinds: [Kind<'_>; 9] = [
        ("a key that does not open", &|| torn_part(root(PASSWORD, 60), 4), false),
        ("claims that do not open", &|| torn_part(root(PASSWORD, 60), 5), false),
        ("another target", &|| sealing.v3(ClaimsTo::Root, PASSWORD, 60, &elsewhere), false),
        ("wrong password", &|| root(&wrong(), 60), false),
        ("a short wrong password", &|| root("wrong", 60), false),
        ("wrong password and late", &|| root(&wrong(), -60), false),
        ("the right password as the agent's", &|| sealing.v3(ClaimsTo::Agent, PASSWORD, 60, TARGET), false),
        ("a wrong one as the agent's", &|| sealing.v3(ClaimsTo::Agent, &wrong(), 60, TARGET), false),
        ("the right one, for the second time", &|| root(PASSWORD, 60), true),
    ];
    compare(&format!("{identity}, v3"), &door, &kinds, times, table).await;
}

/// Every kind in turn, so that what else the machine does is the same for all.
async fn compare(place: &str, door: &Door, kinds: &[Kind<'_>], times: usize, table: &mut Table) {
    let mut taken = vec![Vec::new(); kinds.len()];
    for _ in 0..times {
        for (at, (what, make, was_accepted)) in kinds.iter().enumerate() {
            let header = make();
            if *was_accepted {
                assert_eq!(ask(door, &header).await.0, 200, "{place}: {what}");
            }
            let (status, time) = ask(door, &header).await;
            assert_eq!(status, 401, "{place}: {what}");
            taken[at].push(time);
        }
    }
    let mut medians = Vec::new();
    for ((what, ..), times) in kinds.iter().zip(taken) {
        let middle = median(times);
        medians.push((middle, *what));
        table.line(Line::time(format!("{place}: {what}"), middle));
    }
    let ((fast, first), (slow, last)) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    let ratio = slow.as_secs_f64() / fast.as_secs_f64();
    table.line(Line::of("  the largest ratio of two of them", Figure::Plain(ratio)));
    table.note(format!("{last}; {first}"));
}

async fn ask(door: &Door, (name, value): &Header) -> (u16, Duration) {
    let request = door.request("GET", TARGET, None).header(*name, value).build().unwrap();
    let begun = Instant::now();
    let response = door.http.execute(request).await.unwrap();
    let status = response.status().as_u16();
    drop(response.bytes().await.unwrap());
    (status, begun.elapsed())
}

fn torn(value: &str) -> String {
    let mut bytes = STANDARD.decode(value).unwrap();
    bytes[100] ^= 1;
    STANDARD.encode(bytes)
}

/// One part of a header of scheme v3 is another.
fn torn_part((name, value): Header, part: usize) -> Header {
    let mut parts: Vec<String> = value.split(';').map(str::to_owned).collect();
    let mut bytes = STANDARD.decode(&parts[part]).unwrap();
    bytes[10] ^= 1;
    parts[part] = STANDARD.encode(bytes);
    (name, parts.join(";"))
}

/// The last block first: each opens, the whole is no JSON.
fn swapped(value: &str) -> String {
    let mut bytes = STANDARD.decode(value).unwrap();
    assert_eq!(bytes.len(), 512, "two blocks");
    bytes.rotate_left(256);
    STANDARD.encode(bytes)
}

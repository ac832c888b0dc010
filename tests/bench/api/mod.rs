//! What requests cost the agent: sealed ones of schemes v2 and v3, one at a time and many at once, over TLS or not, beside the
//! bare private-key operations that are in them; and whether clients that misbehave are felt by one that does not.

mod hard;
mod long;
mod seal;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::json;

use crate::Effort;
use crate::measure::{Times, Watched, median};
use crate::rig::Cluster;
use crate::table::{Budget, Figure, Line, Table};
use seal::{Asked, Bare, Keys, Scheme, Sealed};
use wire::{Place, Wire};

/// Rounds of the agent's work and of the same work bare, in turn; so many more, where those say that a promise is broken.
const ROUNDS: usize = 9;
const ROUNDS_MAX: usize = 27;

/// Connections at a time, where the agent has all the work it can take.
const AT_ONCE: usize = 8;

/// Server CPU by private-key operations: the promise.
const MOST: f64 = 1.5;
const CPU: Budget = Budget::RatioAtMost(MOST);

pub(crate) async fn measure(effort: Effort, table: &mut Table) {
    table.section("the API, sealed requests");
    let mut cluster = Cluster::configured(1, "[auth]\nfailures_per_minute_max = 100000\n");
    cluster.form().await;
    cluster.agents[0].as_mut().unwrap().terminate();
    let dag = long::seed(&cluster.homes[0]).await;
    cluster.start(0);
    cluster.door(0).until_status(|status| status["obState"] == 3).await;
    let bare = Bare::new();
    let place = Place::plain(&cluster.address(0));
    let (keys, asked) = prepared(&cluster, &dag).await;
    let bench = Bench { agent: Watched(cluster.agent(0).pid()), place, keys: &keys, bare: &bare, effort };
    for (what, asked, budget) in &asked {
        bench.of("v2 as SDKs", Scheme::Sdk, what, asked, *budget, table);
    }
    for (what, asked, _) in &asked {
        bench.of("v3", Scheme::V3, what, asked, None, table);
    }
    bench.of("v2, full blocks", Scheme::Full, asked[0].0, &asked[0].1, asked[0].2, table);
    hard::measure(&bench, table).await;
    table.line(Line::of("resident after all of it", Figure::Bytes(bench.agent.resident())));
    table.line(Line::of("  of it its own, not files", Figure::Bytes(bench.agent.anonymous())));
    over_tls(cluster, &bare, effort, table).await;
}

/// What is asked, and what of it is promised.
type Kind = (&'static str, Asked, Option<Budget>);

async fn prepared(cluster: &Cluster, dag: &str) -> (Keys, Vec<Kind>) {
    let keys = Keys::of(cluster.door(0)).await;
    let start = json!({ "scope": { "type": "GLOBAL" } }).to_string();
    let start = Asked {
        method: "POST",
        target: "/api/v1/ob/start".to_owned(),
        body: Some(start),
        idempotency_key: Some("bench".to_owned()),
    };
    let kinds = vec![
        ("door alone (security/keys)", Asked::get("/api/v1/security/keys"), Some(CPU)),
        ("status (ob/info)", Asked::get("/api/v1/ob/info"), Some(CPU)),
        ("task with 1,000 lines", Asked::get(format!("/api/v1/task/dag/{dag}?show_details=true")), None),
        ("start, sent again with its key", start, None),
    ];
    (keys, kinds)
}

struct Bench<'a> {
    agent: Watched,
    place: Place,
    keys: &'a Keys,
    bare: &'a Bare,
    effort: Effort,
}

impl Bench<'_> {
    fn seal(&self, scheme: Scheme, asked: &Asked, count: usize) -> Sealed {
        self.keys.seal(scheme, asked, count)
    }

    /// One kind of request under one scheme: six lines.
    fn of(
        &self,
        name: &str,
        scheme: Scheme,
        what: &str,
        asked: &Asked,
        budget: Option<Budget>,
        table: &mut Table,
    ) {
        let (times, alone) = self.alone(scheme, asked, budget.is_some());
        let operations = u32::try_from(alone.operations).unwrap();
        let line = Line::time(format!("{name}, {what}: agent's CPU, beside {operations} bare"), alone.cpu);
        let line = line.beside(Figure::Time(alone.bare * operations));
        table.line(match budget {
            Some(budget) => line.within(budget),
            None => line,
        });
        table.line(Line::time("  one at a time, p50", times.median()));
        table.line(Line::time("  one at a time, p99", times.p99()));
        let Crowded { rate, bare, times: crowded } = self.at_once(scheme, asked);
        table.line(
            Line::of(format!("  {AT_ONCE} at once"), Figure::PerSecond(rate)).beside(Figure::PerSecond(bare)),
        );
        table.line(Line::time(format!("  {AT_ONCE} at once, p50"), crowded.median()));
        table.line(Line::time(format!("  {AT_ONCE} at once, p99"), crowded.p99()));
    }

    fn alone(&self, scheme: Scheme, asked: &Asked, is_judged: bool) -> (Times, Alone) {
        let count = self.effort.pick(25, 100);
        let mut wire = self.place.connect();
        let mut round = || {
            let sealed = self.seal(scheme, asked, count);
            let before = self.agent.cpu();
            let times = sealed.requests.iter().map(|request| timed(&mut wire, request)).collect::<Vec<_>>();
            let cpu = (self.agent.cpu() - before) / u32::try_from(count).unwrap();
            (times, Alone { cpu, bare: self.bare.cpu(scheme, count), operations: sealed.operations })
        };
        // The first one warms up.
        round();
        let (mut times, mut alone) = round();
        let mut rounds = 1;
        while rounds < ROUNDS || is_judged && rounds < ROUNDS_MAX && alone.ratio() > MOST {
            let (took, other) = round();
            times.extend(took);
            // What else the machine does only adds to a round.
            alone = Alone { cpu: alone.cpu.min(other.cpu), bare: alone.bare.min(other.bare), ..alone };
            rounds += 1;
        }
        (Times::new(times), alone)
    }

    /// Requests in a second, over several connections; and how many the bare operations would let through.
    fn at_once(&self, scheme: Scheme, asked: &Asked) -> Crowded {
        let (count, rounds) = (self.effort.pick(160, 2_000), self.effort.pick(1, 3));
        let mut rounds_done = Vec::new();
        for _ in 0..rounds {
            let sealed = self.seal(scheme, asked, count);
            let mut wires: Vec<_> = (0..AT_ONCE).map(|_| self.place.connect()).collect();
            let next = AtomicUsize::new(0);
            let begun = Instant::now();
            let times = std::thread::scope(|scope| {
                let ask = |wire: &mut Wire| {
                    let mine = || sealed.requests.get(next.fetch_add(1, Ordering::Relaxed));
                    std::iter::from_fn(mine).map(|request| timed(wire, request)).collect::<Vec<_>>()
                };
                let clients: Vec<_> = wires.iter_mut().map(|wire| scope.spawn(move || ask(wire))).collect();
                clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
            });
            let rate = count as f64 / begun.elapsed().as_secs_f64();
            let bare = self.bare.rate(scheme, AT_ONCE, 1_000) / sealed.operations as f64;
            rounds_done.push(Crowded { rate, bare, times: Times::new(times) });
        }
        rounds_done.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        rounds_done.swap_remove(rounds_done.len() / 2)
    }
}

/// What a request of one client costs the agent.
#[derive(Clone, Copy)]
struct Alone {
    cpu: Duration,
    /// Of one operation.
    bare: Duration,
    operations: usize,
}

impl Alone {
    fn ratio(self) -> f64 {
        self.cpu.as_secs_f64() / (self.bare.as_secs_f64() * self.operations as f64)
    }
}

/// What several clients see at once.
struct Crowded {
    rate: f64,
    bare: f64,
    times: Times,
}

/// Any answer of success.
fn timed(wire: &mut Wire, request: &[u8]) -> Duration {
    let begun = Instant::now();
    let (status, _) = wire.ask(request);
    let took = begun.elapsed();
    assert_eq!(status, 200, "{}", wire.last());
    took
}

/// The same agent behind a certificate: the status once more, and what a handshake costs.
async fn over_tls(mut cluster: Cluster, bare: &Bare, effort: Effort, table: &mut Table) {
    let dir = tempfile::tempdir().unwrap();
    let root = certify(dir.path());
    cluster.agents[0].as_mut().unwrap().terminate();
    let file = dir.path().display();
    cluster.homes[0].configure(&format!(
        "[tls]\nmode = \"server\"\ncertificate = \"{file}/agent.crt\"\nkey = \"{file}/agent.key\"\n"
    ));
    cluster.homes[0].args.drain(..2);
    cluster.start(0);
    cluster.door(0).until_status(|status| status["obState"] == 3).await;
    let keys = Keys::of(cluster.door(0)).await;
    let place = Place::over_tls(&cluster.address(0), root.as_bytes());
    let bench = Bench { agent: Watched(cluster.agent(0).pid()), place, keys: &keys, bare, effort };
    let asked = Asked::get("/api/v1/ob/info");
    bench.of("TLS, v2 as SDKs", Scheme::Sdk, "status (ob/info)", &asked, Some(CPU), table);
    bench.of("TLS, v3", Scheme::V3, "status (ob/info)", &asked, None, table);
    let count = effort.pick(20, 100);
    let time = b"GET /api/v1/time HTTP/1.1\r\nHost: agent\r\n\r\n";
    let before = bench.agent.cpu();
    let times = (0..count).map(|_| {
        let begun = Instant::now();
        assert_eq!(bench.place.connect().ask(time).0, 200);
        begun.elapsed()
    });
    let middle = median(times.collect());
    let cpu = (bench.agent.cpu() - before) / u32::try_from(count).unwrap();
    table.line(Line::time("TLS: a connection and its first answer (open route)", middle));
    table.line(Line::time("  CPU of the agent", cpu));
}

/// Certificate and key of an agent on the loopback network, in files; returns the root.
fn certify(dir: &std::path::Path) -> String {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    std::fs::write(dir.join("agent.crt"), certificate).unwrap();
    std::fs::write(dir.join("agent.key"), key.serialize_pem()).unwrap();
    issuer.pem()
}

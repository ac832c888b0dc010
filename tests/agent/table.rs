//! Every route × every kind of caller × what the agent is, over real listeners: who is let in, and what the others hear.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use obpilot::api::{ROUTES, Route};
use obpilot::model::Password;
use obpilot::secure::{
    AGENT_HEADER, AgentKey, Claims, ClaimsTo, DATABASE_HEADER, Exchange, RouteClass, V3_HEADER, V3Key,
};
use serde_json::{Value, json};

use crate::door::visible;
use crate::forge::{Forge, NO_SESSION, honest, now};
use crate::rig::{Answer, Cluster, Door, Home, PASSWORD};

const AGENT_PASSWORD: &str = "an agent's own";

/// What callers do to be let in; none of them spends the limits.
const PATIENT: &str = "[auth]\nfailures_per_minute_max = 100000\nfailed_openings_max = 1000000\n\
                       sessions_max = 10000\nsessions_per_source_max = 10000\n";

/// What an agent is in a column of the table.
///
/// | | identity | agent password | root password |
/// |---|---|---|---|
/// | S | SINGLE | | |
/// | SP | SINGLE | yes | |
/// | M | MASTER | | |
/// | MR | MASTER | | yes |
/// | MP | MASTER | yes | |
/// | C | CLUSTER AGENT | | yes |
/// | CP | CLUSTER AGENT | yes | yes |
/// | F | FOLLOWER of an MR | | |
const COLUMNS: [&str; 8] = ["S", "SP", "M", "MR", "MP", "C", "CP", "F"];

/// For each caller and column: what a protected route, the one that sets the agent password, and the login answer.
/// i: let in. h: there is no header. r: the one refusal. t: known, and told what was wrong. k: told the id of the key.
/// Whoever is let in under scheme v3 hears so under its seal, and nobody else does.
const TABLE: &str = "
                       S   SP  M   MR  MP  C   CP  F
no header              hhh hhh hhh hhh hhh hhh hhh hhh
no base64              rrr rrr rrr rrr rrr rrr rrr rrr
another agent's key    rrr rrr rrr rrr rrr rrr rrr rrr
header twice           rrr rrr rrr rrr rrr rrr rrr rrr
root                   iii rrr iii iii rrr iii iri iri
root, wrong            iii rrr iii rrr rrr rrr rrr rrr
root, empty            iii rrr iii rrr rrr rrr rrr rrr
root as agent          iii rrr iii rrr rrr rrr rrr rrr
agent                  iii iii iii rrr iii rrr iii rrr
agent, wrong           iii rrr iii rrr rrr rrr rrr rrr
agent as root          iii rrr iii rrr rrr rrr rrr rrr
root, and agent wrong  iii rrr iii rrr rrr rrr rrr rrr
root, late             rrr rrr rrr ttt rrr ttt trt trt
root, for ever         rrr rrr rrr ttt rrr ttt trt trt
root, other target     rrr rrr rrr ttt rrr ttt trt trt
root, wrong and late   rrr rrr rrr rrr rrr rrr rrr rrr
agent, late            rrr ttt rrr rrr ttt rrr ttt rrr
root, no time          rrr rrr rrr rrr rrr rrr rrr rrr
root, replayed         rrr rrr rrr rrr rrr rrr rrr rrr
forwarded, no token    iii rrr rir rir rrr iii iri rrr
session of root        iii rrr iii rrr rrr irr irr rrr
session of agent       iii rrr iii rrr rrr rrr irr rrr
session, late          rrr rrr rrr rrr rrr trr trr rrr
session, ended         iii rrr iii rrr rrr rrr rrr rrr
session, unknown       iii rrr iii rrr rrr rrr rrr rrr
v3 root                iii rrr iii iii rrr iii iri iri
v3 root, wrong         iii rrr iii rrr rrr rrr rrr rrr
v3 root, empty         iii rrr iii rrr rrr rrr rrr rrr
v3 root as agent       iii rrr iii rrr rrr rrr rrr rrr
v3 agent               iii iii iii rrr iii rrr iii rrr
v3 agent, wrong        iii rrr iii rrr rrr rrr rrr rrr
v3 agent as root       iii rrr iii rrr rrr rrr rrr rrr
v3 root, late          rrr rrr rrr ttt rrr ttt trt trt
v3 root, for ever      rrr rrr rrr ttt rrr ttt trt trt
v3 root, wrong, late   rrr rrr rrr rrr rrr rrr rrr rrr
v3 agent, late         rrr ttt rrr rrr ttt rrr ttt rrr
v3 root, replayed      rrr rrr rrr rrr rrr rrr rrr rrr
v3 session of root     iii rrr iii rrr rrr irr irr rrr
v3 session of agent    iii rrr iii rrr rrr rrr irr rrr
v3 session, late       rrr rrr rrr rrr rrr trr trr rrr
v3 session, ended      iii rrr iii rrr rrr rrr rrr rrr
v3 session, unknown    iii rrr iii rrr rrr rrr rrr rrr
v3 nothing in it       rrr rrr rrr rrr rrr rrr rrr rrr
v3 cut short           rrr rrr rrr rrr rrr rrr rrr rrr
v3 other target        rrr rrr rrr rrr rrr rrr rrr rrr
v3 other method        rrr rrr rrr rrr rrr rrr rrr rrr
v3 other key, our id   rrr rrr rrr rrr rrr rrr rrr rrr
v3 header twice        rrr rrr rrr rrr rrr rrr rrr rrr
v3 beside v2           rrr rrr rrr rrr rrr rrr rrr rrr
v3 unknown key         kkk kkk kkk kkk kkk kkk kkk kkk
mark of no agent       rrr rrr rrr rrr rrr rrr rrr rrr
mark, no session       rrr rrr rrr rrr rrr rrr rrr rrr
";

/// Under scheme v3 an open route asks for no password, but opens what came: its answer would be nobody's otherwise.
const OPEN_TO_V3: [(&str, char); 8] = [
    ("v3 nothing in it", 'r'),
    ("v3 cut short", 'r'),
    ("v3 other target", 'r'),
    ("v3 other method", 'r'),
    ("v3 other key, our id", 'r'),
    ("v3 header twice", 'r'),
    ("v3 beside v2", 'r'),
    ("v3 unknown key", 'k'),
];

/// Sessions that were made in a column.
struct Sessions {
    root: String,
    agent: String,
    ended: String,
}

struct World<'a> {
    column: &'static str,
    forge: &'a Forge,
    foreign: &'a Forge,
    sessions: Sessions,
    own: String,
}

type Headers = Vec<(&'static str, String)>;

/// The headers of a caller for a target.
fn shown(world: &World<'_>, caller: &str, target: &str) -> Headers {
    let seal = |shown: Value| world.forge.seal(&honest(target, shown));
    let auth = |password: &str| seal(json!({ "auth": password }));
    let session = |id: &str| seal(json!({ "session_id": id }));
    let late = (now() - 9).to_string();
    let (root, agent) = (DATABASE_HEADER, AGENT_HEADER);
    match caller {
        "no header" => vec![],
        "no base64" => vec![(root, "no base64!".to_owned())],
        "another agent's key" => {
            vec![(root, world.foreign.seal(&honest(target, json!({ "auth": PASSWORD }))))]
        }
        "header twice" => vec![(root, auth(PASSWORD)), (root, auth(PASSWORD))],
        "root" | "root, replayed" => vec![(root, auth(PASSWORD))],
        "root, wrong" => vec![(root, auth("wrong"))],
        "root, empty" => vec![(root, auth(""))],
        "root as agent" => vec![(agent, auth(PASSWORD))],
        "agent" => vec![(agent, auth(AGENT_PASSWORD))],
        "agent, wrong" => vec![(agent, auth("wrong"))],
        "agent as root" => vec![(root, auth(AGENT_PASSWORD))],
        "root, and agent wrong" => vec![(root, auth(PASSWORD)), (agent, auth("wrong"))],
        "root, late" => vec![(root, seal(json!({ "auth": PASSWORD, "ts": late })))],
        "root, for ever" => vec![(root, seal(json!({ "auth": PASSWORD, "ts": "99999999999" })))],
        "root, other target" => {
            vec![(root, seal(json!({ "auth": PASSWORD, "uri": format!("{target}?a=b") })))]
        }
        "root, wrong and late" => vec![(root, seal(json!({ "auth": "wrong", "ts": late })))],
        "agent, late" => vec![(agent, seal(json!({ "auth": AGENT_PASSWORD, "ts": late })))],
        "root, no time" => vec![(root, seal(json!({ "auth": PASSWORD, "ts": null })))],
        "forwarded, no token" => {
            let from = json!({ "ip": "10.0.0.9", "port": 2886 });
            let header = json!({ "auth": PASSWORD, "forwardtype": 2, "token": "", "forwardagent": from });
            vec![(root, seal(header))]
        }
        "session of root" => vec![(root, session(&world.sessions.root))],
        "session of agent" => vec![(agent, session(&world.sessions.agent))],
        "session, late" => {
            vec![(root, seal(json!({ "session_id": world.sessions.root, "ts": late })))]
        }
        "session, ended" => vec![(root, session(&world.sessions.ended))],
        "session, unknown" => vec![(root, session(NO_SESSION))],
        "mark of no agent" => vec![("X-Obpilot-Peer", "v1 nobody".to_owned())],
        "mark, no session" => vec![("X-Obpilot-Peer", format!("v1 {} abc 1 ", world.own))],
        other => panic!("there is no caller '{other}'"),
    }
}

fn target(route: &Route) -> String {
    route.path.replace("{id}", "1").replace("{zone_name}", "zone1")
}

/// A request under scheme v3 by one of its callers, and what opens the answer.
fn shown_v3(world: &World<'_>, caller: &str, method: &str, target: &str) -> (Headers, Exchange) {
    let claims = |claims_to, password: &str| Claims {
        claims_to,
        password: Password::new(password),
        ..Claims::default()
    };
    let (root, agent) = (claims(ClaimsTo::Root, PASSWORD), claims(ClaimsTo::Agent, AGENT_PASSWORD));
    let session = |id: &str| Claims { session_id: Password::new(id), ..Claims::default() };
    let (soon, late) = (now() + 60, now() - 9);
    let seal = |expires, claims| world.forge.seal_v3((method, target), expires, claims);
    let (value, exchange) = match caller {
        "v3 root" | "v3 root, replayed" | "v3 header twice" | "v3 beside v2" => seal(soon, root),
        "v3 root, wrong" => seal(soon, claims(ClaimsTo::Root, "wrong")),
        "v3 root, empty" => seal(soon, claims(ClaimsTo::Root, "")),
        "v3 root as agent" => seal(soon, claims(ClaimsTo::Agent, PASSWORD)),
        "v3 agent" => seal(soon, agent),
        "v3 agent, wrong" => seal(soon, claims(ClaimsTo::Agent, "wrong")),
        "v3 agent as root" => seal(soon, claims(ClaimsTo::Root, AGENT_PASSWORD)),
        "v3 root, late" => seal(late, root),
        "v3 root, for ever" => seal(99_999_999_999, root),
        "v3 root, wrong, late" => seal(late, claims(ClaimsTo::Root, "wrong")),
        "v3 agent, late" => seal(late, agent),
        "v3 session of root" => seal(soon, session(&world.sessions.root)),
        "v3 session of agent" => {
            seal(soon, Claims { claims_to: ClaimsTo::Agent, ..session(&world.sessions.agent) })
        }
        "v3 session, late" => seal(late, session(&world.sessions.root)),
        "v3 session, ended" => seal(soon, session(&world.sessions.ended)),
        "v3 session, unknown" => seal(soon, session(NO_SESSION)),
        "v3 nothing in it" => (String::new(), seal(soon, root).1),
        "v3 cut short" => {
            let (value, exchange) = seal(soon, root);
            (value.chars().take(value.len() - 8).collect(), exchange)
        }
        "v3 other target" => world.forge.seal_v3((method, &format!("{target}?a=b")), soon, root),
        "v3 other method" => world.forge.seal_v3(("OPTIONS", target), soon, root),
        "v3 unknown key" => world.foreign.seal_v3((method, target), soon, root),
        "v3 other key, our id" => {
            let (value, exchange) = world.foreign.seal_v3((method, target), soon, root);
            let ours = seal(soon, Claims::default()).0;
            let id = |value: &str| value.split(';').nth(1).unwrap().to_owned();
            (value.replace(&id(&value), &id(&ours)), exchange)
        }
        other => panic!("there is no caller '{other}'"),
    };
    let mut headers = vec![(V3_HEADER, value.clone())];
    match caller {
        "v3 header twice" => headers.push((V3_HEADER, value)),
        "v3 beside v2" => {
            headers.push((DATABASE_HEADER, world.forge.seal(&honest(target, json!({ "auth": PASSWORD })))));
        }
        _ => {}
    }
    (headers, exchange)
}

/// What a caller heard, in one letter.
fn heard(
    answer: &Answer,
    is_sealed: bool,
    refusal: &(u16, Vec<(String, String)>, Value),
    is_mark: bool,
) -> char {
    if answer.status < 400 {
        return 'i';
    }
    match (answer.status, answer.code().as_str()) {
        (400, "Request.Header.NotFound") => 'h',
        (401, "Common.Unauthorized") => {
            let mut seen = visible(answer);
            if is_mark {
                // A member whose session is over begins a new one.
                seen.1.retain(|(name, _)| name != "x-obpilot-peer");
            }
            // Under a seal there are no headers to tell anything by.
            if is_sealed {
                seen.1.clone_from(&refusal.1);
            }
            if &seen == refusal { 'r' } else { '?' }
        }
        (401, "Security.Authentication.KeyId.Unknown") => 'k',
        (401, code) if code.starts_with("Security.Authentication.") => 't',
        (500.., _) if answer.code() == "Common.Unexpected" => '!',
        (401 | 429, _) => '?',
        _ => 'i',
    }
}

/// The column's row of expectations for every caller.
fn expected(column: &str) -> BTreeMap<&'static str, [char; 3]> {
    let at = COLUMNS.iter().position(|known| *known == column).unwrap();
    let lines = TABLE.lines().skip(2).filter(|line| !line.trim().is_empty());
    let cell = |line: &'static str| {
        let (caller, cells) = line.split_at(23);
        let letters: Vec<char> = cells.split_whitespace().nth(at).unwrap().chars().collect();
        (caller.trim(), [letters[0], letters[1], letters[2]])
    };
    lines.map(cell).collect()
}

/// Every route for every caller; returns how many that were.
async fn check(world: &World<'_>) -> usize {
    let refusal =
        visible(&world.forge.send("GET", "/api/v1/ob/info", &[(DATABASE_HEADER, "x".into())], None).await);
    assert_eq!((refusal.0, &refusal.2["error"]["code"]), (401, &json!(10008)));
    let expected = expected(world.column);
    let pairs: Vec<_> = expected
        .iter()
        .flat_map(|(caller, cells)| ROUTES.iter().map(move |route| (*caller, *cells, route)))
        .collect();
    let count = pairs.len();
    let one = async |(caller, cells, route): (&'static str, [char; 3], &'static Route)| {
        let target = target(route);
        let (headers, exchange) = if caller.starts_with("v3") {
            let (headers, exchange) = shown_v3(world, caller, route.method, &target);
            (headers, Some(exchange))
        } else {
            (shown(world, caller, &target), None)
        };
        let send = async |body| {
            world.forge.send_under(route.method, &target, &headers, body, exchange.as_ref()).await
        };
        // A body that never opens: whoever is let in changes nothing.
        let body = (route.method != "GET").then_some("no body of anybody");
        let (mut answer, mut is_sealed) = send(body).await;
        if caller.ends_with("replayed") {
            (answer, is_sealed) = send(body).await;
        }
        let is_hello = route.path == "/rpc/v1/peer/hello";
        let to_v3 = OPEN_TO_V3.iter().find(|(known, _)| *known == caller).map(|(_, letter)| *letter);
        let wanted = match route.class {
            RouteClass::Open if is_hello => to_v3.unwrap_or('r'),
            RouteClass::Open => to_v3.unwrap_or('i'),
            RouteClass::Peer if cells[0] == 'k' => 'k',
            RouteClass::Peer => 'r',
            RouteClass::Protected => cells[0],
            RouteClass::SetPassword => cells[1],
            // Neither takes a session.
            RouteClass::Login | RouteClass::BeAdded => cells[2],
        };
        let found = heard(&answer, is_sealed, &refusal, caller.starts_with("mark"));
        // Whoever asks an open route was let in, even to be refused.
        let is_let_in = found == 'i' || is_hello && to_v3.is_none();
        let is_told_so = is_sealed == (exchange.is_some() && is_let_in);
        (found != wanted || !is_told_so).then(|| {
            let place = format!("{}: {} {} for '{caller}'", world.column, route.method, route.path);
            let seal = if is_sealed { "sealed" } else { "in clear" };
            format!("{place}: {found} {seal} instead of {wanted}: {} {}", answer.status, answer.text)
        })
    };
    let wrong: Vec<_> =
        stream::iter(pairs).map(one).buffer_unordered(4).filter_map(async |w| w).collect().await;
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    count
}

async fn column(column: &'static str, home: &Home, foreign: &Forge) -> usize {
    let forge = Forge::of(&home.address()).await;
    let login =
        async |name, password| forge.login(name, password).await.unwrap_or_else(|_| NO_SESSION.to_owned());
    let sessions = Sessions {
        root: login(DATABASE_HEADER, PASSWORD).await,
        agent: login(AGENT_HEADER, AGENT_PASSWORD).await,
        ended: login(DATABASE_HEADER, PASSWORD).await,
    };
    let logout = json!({ "session_id": sessions.ended });
    Door::socket(&home.socket()).post("/api/v1/logout", logout).await;
    check(&World { column, forge: &forge, foreign, sessions, own: home.address() }).await
}

fn foreign(home: &Home) -> Forge {
    let key = AgentKey::generate().unwrap();
    let v3 = V3Key::generate().unwrap();
    Forge::with_keys(Door::open(&home.address()), key.public_on_wire(), v3.public_on_wire())
}

/// The tasks of an agent: nothing that was refused, or let in without a body, has made one.
async fn tasks(door: &Door) -> usize {
    door.get("/api/v1/task/dags/agent").await.data()["contents"].as_array().unwrap().len()
}

async fn set_agent_password(door: &Door) {
    let answer = door.post("/api/v1/agent/password", json!({ "password": AGENT_PASSWORD })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn every_route_and_every_caller_before_there_is_a_cluster() {
    let mut home = Home::new();
    home.configure(PATIENT);
    let agent = home.start();
    let foreign = foreign(&home);
    let mut count = column("S", &home, &foreign).await;
    assert_eq!(tasks(&agent.door).await, 0);
    home.join(&agent.door).await;
    count += column("M", &home, &foreign).await;
    home.settings(&agent.door).await;
    let made = tasks(&agent.door).await;
    count += column("MR", &home, &foreign).await;
    assert_eq!(tasks(&agent.door).await, made);
    println!("{count} times a route and a caller");
}

#[tokio::test]
async fn every_route_and_every_caller_with_an_agent_password() {
    let mut home = Home::new();
    home.configure(PATIENT);
    let agent = home.start();
    let foreign = foreign(&home);
    set_agent_password(&agent.door).await;
    let mut count = column("SP", &home, &foreign).await;
    home.join(&agent.door).await;
    count += column("MP", &home, &foreign).await;
    assert_eq!(tasks(&agent.door).await, 1);
    println!("{count} times a route and a caller");
}

#[tokio::test]
async fn every_route_and_every_caller_of_a_cluster() {
    let cluster = Cluster::configured(2, PATIENT);
    let foreign = foreign(&cluster.homes[0]);
    cluster.join(0, 0, "zone1").await;
    cluster.join(1, 0, "zone2").await;
    cluster.configure(0).await;
    let mut count = column("F", &cluster.homes[1], &foreign).await;
    cluster.done(0, "/api/v1/ob/init", json!({})).await;
    let made = tasks(cluster.door(0)).await;
    count += column("C", &cluster.homes[0], &foreign).await;
    set_agent_password(cluster.door(0)).await;
    count += column("CP", &cluster.homes[0], &foreign).await;
    assert_eq!(tasks(cluster.door(0)).await, made);
    println!("{count} times a route and a caller");
}

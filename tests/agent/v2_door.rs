//! The door of the v2 API: who is let in as what, by a password, by a signature, from where; and users that every agent knows.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use obpilot::api::{Needs, ROUTES_V2, RouteV2};
use serde_json::{Value, json};

use crate::recovery::events_until;
use crate::rig::{Answer, Cluster, Door, LIMIT, Net, PASSWORD, ip, zone};

const INFO: &str = "/api/v2/info";
const ACCOUNTS: &str = "/api/v1/security/accounts";
const KEY_PAIRS: &str = "/api/v1/security/key-pairs";

const VIEWERS: &str = "a viewer's own word";
const OPERATORS: &str = "an operator's own word";

/// Nothing spends the limits.
const PATIENT: &str = "[auth]\nfailures_per_minute_max = 100000\n";

async fn answered(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

async fn basic(door: &Door, method: &str, target: &str, user: &str, password: &str) -> Answer {
    answered(door.request(method, target, None).basic_auth(user, Some(password))).await
}

/// A request as a client of OCP signs it, by the documentation.
struct Signer {
    access_key: String,
    secret_key: String,
}

impl Signer {
    fn of(made: &Value) -> Self {
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Self { access_key: text("accessKey"), secret_key: text("secretKey") }
    }

    /// At so many seconds from now, with a body or none.
    fn request(
        &self,
        door: &Door,
        method: &str,
        target: &str,
        body: &str,
        later: i64,
    ) -> reqwest::RequestBuilder {
        let at = obpilot::clock::system().now().as_second() + later;
        let date =
            jiff::Timestamp::from_second(at).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let host = door.base.split("://").nth(1).unwrap();
        let digest: String = md5::Md5::digest(body).iter().map(|byte| format!("{byte:02X}")).collect();
        let digest = if body.is_empty() { String::new() } else { digest };
        let message =
            [method, &digest, "application/json", &date, host, "x-ocp-origin:test", target].join("\n");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.secret_key.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, message.as_bytes()));
        let shown = format!("OCP-ACCESS-KEY-HMACSHA1 {}:{signature}", self.access_key);
        let request = door.http.request(method.parse().unwrap(), format!("{}{target}", door.base));
        request
            .header("Content-Type", "application/json")
            .header("Authorization", shown)
            .header("Date", date)
            .header("x-ocp-origin", "test")
            .body(body.to_owned())
    }

    async fn ask(&self, door: &Door, target: &str) -> u16 {
        answered(self.request(door, "GET", target, "", 0)).await.status
    }
}

fn code(answer: &Answer) -> (u16, String) {
    let json = answer.json();
    assert_eq!(
        (&json["successful"], &json["status"]),
        (&json!(false), &json!(answer.status)),
        "{}",
        answer.text
    );
    assert!(json.get("data").is_none(), "{}", answer.text);
    (answer.status, json["error"]["code"].as_str().unwrap().to_owned())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// What a stranger can see of a refusal.
fn visible(answer: &Answer) -> Value {
    let mut json = answer.json();
    for member in ["timestamp", "duration", "traceId"] {
        json[member] = Value::Null;
    }
    json
}

async fn made_pair(door: &Door, body: Value) -> Signer {
    Signer::of(&door.post(KEY_PAIRS, body).await.data())
}

async fn set_account(door: &Door, name: &str, role: &str, password: &str) -> Value {
    door.post(ACCOUNTS, json!({ "name": name, "role": role, "password": password })).await.data()
}

/// Has taken what another member has, after an event.
async fn until_taken(door: &Door, after: i64) {
    let is_it = |event: &Value| event.to_string().contains("accounts of another member");
    tokio::time::timeout(LIMIT, events_until(door, after, is_it)).await.expect("it is told of the users");
}

/// A path that names things which are not there.
fn path_of(route: &RouteV2) -> String {
    let part = |part: &str| if part.starts_with('{') { "999".to_owned() } else { part.to_owned() };
    route.path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// What a scraper of Prometheus reads: as an account that may read, in the format that it knows.
#[tokio::test]
async fn a_viewer_reads_the_page_of_numbers() {
    let cluster = Cluster::new(2);
    cluster.form().await;
    set_account(cluster.door(0), "prometheus", "viewer", "long enough").await;
    let door = Door::open(&cluster.address(0));
    let page = basic(&door, "GET", "/api/v2/metrics", "prometheus", "long enough").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let count = |name: &str| -> f64 {
        let line = page.text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("no {name} in {}", page.text))
    };
    assert!(count("obpilot_store_commit_seconds_count") > 10.0, "{}", page.text);
    assert!(count("obpilot_peer_message_seconds_count{message=\"prepare\"}") >= 1.0, "{}", page.text);
    for what in ["look", "act", "serving", "version"] {
        assert!(count(&format!("obpilot_sql_seconds_count{{what=\"{what}\"}}")) >= 1.0, "{}", page.text);
    }
    assert!(count("obpilot_server_serving") > 0.5, "{}", page.text);
    assert!(count("obpilot_heap_held_bytes") > 1_000_000.0, "{}", page.text);
    assert_eq!(basic(&door, "GET", "/api/v2/metrics", "prometheus", "wrong").await.status, 401);
}

/// Before there is a cluster, and what needs no caller.
#[tokio::test]
async fn without_a_cluster_v2_has_no_users_and_answers_in_its_own_words() {
    let cluster = Cluster::new(1);
    let door = Door::open(&cluster.address(0));
    let time = door.get("/api/v2/time").await;
    let is_time =
        |text: &str| text.len() == 29 && jiff::Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%:z", text).is_ok();
    assert!(time.status == 200 && is_time(&time.text), "{}", time.text);
    assert_eq!(door.get("/api/status").await.text, "okay");

    let unknown = door.get("/api/v2/nothing").await;
    assert_eq!(code(&unknown), is(400, "COM10003"));
    let json = unknown.json();
    assert_eq!(json["server"], "127.0.0.1");
    assert_eq!(json["error"]["errCode"], "Common.NotFound");
    let trace = json["traceId"].as_str().unwrap();
    assert!(trace.len() == 16 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()), "{trace}");
    assert!(is_time(json["timestamp"].as_str().unwrap()), "{json}");
    let wrong = door.send("DELETE", "/api/v2/time", None).await;
    assert_eq!(code(&wrong), is(405, "COM10008"));
    assert_eq!(wrong.headers["allow"], "GET");

    let nothing = door.get(INFO).await;
    assert_eq!(code(&nothing), is(401, "IAM10000"));
    let early = basic(&door, "GET", INFO, "root", "").await;
    assert_eq!(code(&early), is(401, "IAM10000"));
    assert!(early.message().contains("no cluster"), "{}", early.text);
    let local = cluster.door(0).get(INFO).await;
    assert_eq!((local.status, &local.json()["name"]), (200, &json!("obpilot")));
    assert!(local.json().get("data").is_none(), "a bare object");
    let refused =
        cluster.door(0).post(ACCOUNTS, json!({ "name": "a", "role": "viewer", "password": VIEWERS })).await;
    assert_eq!(refused.code(), "Agent.Identify.NotSupportOperation");
}

/// Passwords and signatures, right and wrong: whoever is not known learns nothing from what he hears.
#[tokio::test]
async fn strangers_all_hear_the_same_and_users_are_let_in() {
    let cluster = Cluster::configured(1, PATIENT);
    cluster.form().await;
    let (door, local) = (Door::open(&cluster.address(0)), cluster.door(0));
    for user in ["root", "root@sys"] {
        assert_eq!(basic(&door, "GET", INFO, user, PASSWORD).await.status, 200, "{user}");
    }
    set_account(local, "reader", "viewer", VIEWERS).await;
    for _ in 0..2 {
        assert_eq!(basic(&door, "GET", INFO, "reader", VIEWERS).await.status, 200);
    }
    let pair = made_pair(local, json!({ "role": "operator" })).await;
    assert_eq!(pair.ask(&door, INFO).await, 200);
    assert_eq!(pair.ask(&door, "/api/v2/info?b=x%20y&a=1,2").await, 401, "its query is not in one spelling");
    assert_eq!(pair.ask(&door, "/api/v2/info?a=1%2C2&b=x%20y").await, 200);

    let stranger = visible(&basic(&door, "GET", INFO, "root", "wrong").await);
    assert_eq!((&stranger["status"], &stranger["error"]["code"]), (&json!(401), &json!("IAM10004")));
    for (user, password) in [
        ("root", ""),
        ("reader", PASSWORD),
        ("reader", ""),
        ("nobody", VIEWERS),
        ("Reader", VIEWERS),
        ("", ""),
    ] {
        assert_eq!(visible(&basic(&door, "GET", INFO, user, password).await), stranger, "{user} {password}");
    }
    for value in ["Basic", "Basic !", "Bearer x", "OCP-ACCESS-KEY-HMACSHA1 x", ""] {
        let answer = answered(door.request("GET", INFO, None).header("Authorization", value)).await;
        assert_eq!(visible(&answer), stranger, "{value}");
    }
    let twice = door.request("GET", INFO, None).basic_auth("root", Some(PASSWORD));
    let twice = answered(twice.header("Authorization", "Basic eDp5")).await;
    assert_eq!(visible(&twice), stranger, "a header twice");
    let other = Signer { access_key: pair.access_key.clone(), secret_key: "another".to_owned() };
    let unknown = Signer { access_key: "unknown".to_owned(), secret_key: pair.secret_key.clone() };
    let moved = pair.request(&door, "GET", INFO, "", 0).build().unwrap();
    let mut elsewhere = moved;
    *elsewhere.url_mut() = format!("{}{INFO}?x=1", door.base).parse().unwrap();
    let elsewhere = reqwest::RequestBuilder::from_parts(door.http.clone(), elsewhere);
    for (what, request) in [
        ("another secret", other.request(&door, "GET", INFO, "", 0)),
        ("nobody's access key", unknown.request(&door, "GET", INFO, "", 0)),
        ("too old", pair.request(&door, "GET", INFO, "", -901)),
        ("from the future", pair.request(&door, "GET", INFO, "", 905)),
        ("another target", elsewhere),
        ("another header", pair.request(&door, "GET", INFO, "", 0).header("x-ocp-more", "1")),
    ] {
        assert_eq!(visible(&answered(request).await), stranger, "{what}");
    }
    assert_eq!(
        answered(pair.request(&door, "GET", INFO, "", -890)).await.status,
        200,
        "the clocks may differ"
    );
    let trail = local.get("/api/v1/security/audit?limit=1000").await.text;
    assert!(!trail.contains(VIEWERS) && !trail.contains(&pair.secret_key));
}

/// Too many wrong guesses, and nobody from there is listened to.
#[tokio::test]
async fn whoever_guesses_has_to_wait() {
    let cluster = Cluster::configured(1, "[auth]\nfailures_per_minute_max = 3\n");
    cluster.form().await;
    let door = Door::open(&cluster.address(0));
    for left in [2, 1, 0] {
        let answer = basic(&door, "GET", INFO, "root", "wrong").await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.headers["ratelimit-limit"], "3");
        assert_eq!(answer.headers["ratelimit-remaining"], left.to_string().as_str());
    }
    let answer = basic(&door, "GET", INFO, "root", PASSWORD).await;
    assert_eq!(code(&answer), is(429, "0"));
    assert_eq!(answer.json()["traceId"], "");
    let reset: u64 = answer.headers["ratelimit-reset"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&reset), "{reset}");
}

/// Every route × every role; and a signature that changes something counts once.
#[tokio::test]
async fn a_role_opens_what_its_row_says() {
    let mut cluster = Cluster::configured(1, PATIENT);
    cluster.form().await;
    let local = cluster.door(0).clone();
    for (role, password) in [("viewer", VIEWERS), ("operator", OPERATORS)] {
        set_account(&local, role, role, password).await;
    }
    let door = Door::open(&cluster.address(0));
    for route in ROUTES_V2.iter().filter(|route| route.needs != Needs::Open) {
        let path = path_of(route);
        for (user, password, may) in [
            ("viewer", VIEWERS, matches!(route.needs, Needs::Viewer)),
            ("operator", OPERATORS, matches!(route.needs, Needs::Viewer | Needs::Operator)),
            ("root", PASSWORD, true),
        ] {
            let answer = basic(&door, route.method, &path, user, password).await;
            if may {
                assert!(
                    ![401, 403, 405].contains(&answer.status),
                    "{user} {} {path}: {}",
                    route.method,
                    answer.text
                );
            } else {
                assert_eq!(code(&answer), is(403, "IAM11000"), "{user} {} {path}", route.method);
            }
        }
        assert_eq!(door.send(route.method, &path, None).await.status, 401, "nobody: {} {path}", route.method);
    }
    let Some(changing) = ROUTES_V2.iter().find(|route| route.method == "POST") else { return };
    let pair = made_pair(&local, json!({ "role": "admin" })).await;
    let request = pair.request(&door, "POST", &path_of(changing), "{}", 0);
    let (first, second, third) = (request.try_clone().unwrap(), request.try_clone().unwrap(), request);
    assert_ne!(answered(first).await.status, 401);
    assert_eq!(answered(second).await.status, 401, "the same once more");
    // What was kept of the signature is written before this is: one writer writes in order.
    made_pair(&local, json!({ "role": "viewer" })).await;
    cluster.kill(0);
    cluster.start(0);
    // On a connection of its own: that of before has ended.
    let third = reqwest::RequestBuilder::from_parts(Door::open("").http, third.build().unwrap());
    assert_eq!(answered(third).await.status, 401, "over a restart too");
}

/// What is made on one agent works on all: now, after a restart, at one that was away, at one that comes later; and is gone
/// everywhere.
#[tokio::test]
async fn users_are_those_of_the_whole_cluster() {
    let mut cluster = Cluster::configured(3, PATIENT);
    cluster.form_first(2).await;
    let addresses = cluster.addresses();
    // Each on connections of its own: agents end meanwhile.
    let door = |host: usize| Door::open(&addresses[host]);
    let made = set_account(cluster.door(0), "reader", "viewer", VIEWERS).await;
    assert_eq!(made["notReached"], json!([]));
    let pair = made_pair(cluster.door(1), json!({ "role": "admin", "account": "reader" })).await;
    for door in [door(0), door(1)] {
        assert_eq!(basic(&door, "GET", INFO, "reader", VIEWERS).await.status, 200);
        assert_eq!(pair.ask(&door, INFO).await, 200);
    }
    assert_eq!(basic(&door(2), "GET", INFO, "reader", VIEWERS).await.status, 401, "it is no member");

    let before =
        cluster.door(1).get("/api/v1/security/audit?limit=1").await.data()["contents"][0]["id"].as_i64();
    cluster.kill(1);
    let later = made_pair(cluster.door(0), json!({ "role": "viewer" })).await;
    let answer = cluster.door(0).send("DELETE", &format!("{ACCOUNTS}/reader"), None).await.data();
    assert_eq!(answer["notReached"], json!([cluster.address(1)]));
    cluster.start(1);
    until_taken(cluster.door(1), before.unwrap()).await;
    for door in [door(0), door(1)] {
        assert_eq!(basic(&door, "GET", INFO, "reader", VIEWERS).await.status, 401, "it was removed");
        assert_eq!(pair.ask(&door, INFO).await, 401, "and its key pair with it");
        assert_eq!(later.ask(&door, INFO).await, 200);
    }

    let server = json!({ "agentInfo": { "ip": cluster.homes[2].ip, "port": cluster.homes[2].port }, "zone": zone(2),
                         "obConfigs": cluster.ports(2) });
    cluster.done(0, "/api/v1/ob/scale_out", server).await;
    until_taken(cluster.door(2), 0).await;
    assert_eq!(later.ask(&door(2), INFO).await, 200, "a new member has the users");
    cluster.kill(0);
    cluster.start(0);
    assert_eq!(later.ask(&door(0), INFO).await, 200, "after kill -9");
    let listed = cluster.door(2).get(ACCOUNTS).await.data();
    assert_eq!(
        listed,
        json!({ "accounts": [], "keyPairs": [{ "accessKey": later.access_key, "role": "viewer", "account": null }] })
    );
}

/// The commands, with what they say.
#[tokio::test]
async fn users_are_made_and_removed_by_commands() {
    let cluster = Cluster::configured(1, PATIENT);
    cluster.form().await;
    let door = Door::open(&cluster.address(0));
    let said = |args: &[&str]| {
        let mut command = cluster.homes[0].cli_command(args);
        let output = command.env("OBPILOT_ACCOUNT_PASSWORD", OPERATORS).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let (is_done, text) = said(&["security", "account", "add", "deployer", "--role", "operator"]);
    assert!(is_done, "{text}");
    assert_eq!(basic(&door, "GET", INFO, "deployer", OPERATORS).await.status, 200);
    let (is_done, text) = said(&[
        "--output",
        "json",
        "security",
        "key-pair",
        "add",
        "--role",
        "viewer",
        "--account",
        "deployer",
    ]);
    assert!(is_done, "{text}");
    let pair = Signer::of(&serde_json::from_str(&text).unwrap());
    assert_eq!(pair.ask(&door, INFO).await, 200);
    let (_, listed) = said(&["security", "account", "list"]);
    assert!(listed.contains("deployer") && listed.contains(&pair.access_key), "{listed}");
    assert!(!listed.contains(&pair.secret_key), "it is shown once");
    assert!(said(&["security", "key-pair", "remove", &pair.access_key]).0);
    assert_eq!(pair.ask(&door, INFO).await, 401);
    assert!(said(&["security", "account", "remove", "deployer"]).0);
    assert_eq!(basic(&door, "GET", INFO, "deployer", OPERATORS).await.status, 401);
    for refused in [
        &["security", "account", "remove", "deployer"][..],
        &["security", "account", "add", "root", "--role", "admin"],
        &["security", "account", "add", "x", "--role", "king"],
        &["security", "key-pair", "add", "--role", "admin", "--account", "nobody"],
    ] {
        assert!(!said(refused).0, "{refused:?}");
    }
    // Over TCP a secret key is told under the keys of the request, or not at all.
    let sealed = Door::sealed(&cluster.address(0), PASSWORD).await;
    let told = sealed.post(KEY_PAIRS, json!({ "role": "viewer" })).await.data();
    assert!(told["secretKey"].as_str().unwrap().len() > 40, "it is sealed");
}

/// Over TLS.
#[tokio::test]
async fn users_are_let_in_over_https() {
    let cluster = Cluster::configured(1, "[tls]\nmode = \"server\"\nown_ca = true\n");
    cluster.form().await;
    let ca = cluster.homes[0].cli(&["security", "ca"]).stdout;
    let roots = reqwest::Certificate::from_pem_bundle(&ca).unwrap();
    let http = reqwest::Client::builder().no_proxy().timeout(LIMIT).tls_certs_only(roots).build().unwrap();
    let ask = async |password: &str| {
        let request = http.get(format!("https://{}{INFO}", cluster.address(0)));
        answered(request.basic_auth("root", Some(password))).await.status
    };
    assert_eq!((ask(PASSWORD).await, ask("wrong").await), (200, 401));
    let pair = made_pair(cluster.door(0), json!({ "role": "viewer" })).await;
    let mut door = Door::open(&cluster.address(0));
    (door.http, door.base) = (http.clone(), format!("https://{}", cluster.address(0)));
    // HTTP/2: the host stands in the target.
    assert_eq!(pair.ask(&door, INFO).await, 200);
}

/// From another host over plain HTTP only where somebody has said so.
#[tokio::test]
async fn nobody_shows_a_password_over_plain_http_from_another_host() {
    let net = match Net::new(2) {
        Ok(net) => net,
        Err(why) => {
            println!("left out, needs root: a client on another host ({why})");
            return;
        }
    };
    let mut cluster = Cluster::at_rest(2, "", ip);
    cluster.homes[1].configure("[api]\nv2_over_http = true\n");
    for host in 0..2 {
        cluster.homes[host].namespace = Some(net.space(host));
        cluster.start(host);
    }
    cluster.form().await;
    let asked = |from: usize, of: usize| {
        let mut curl = std::process::Command::new("nsenter");
        curl.arg(format!("--net={}", net.space(from))).args([
            "curl",
            "--silent",
            "--noproxy",
            "*",
            "--max-time",
            "20",
        ]);
        curl.arg("--user")
            .arg(format!("root:{PASSWORD}"))
            .arg(format!("http://{}{INFO}", cluster.address(of)));
        let output = curl.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str::<Value>(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let refused = asked(1, 0);
    assert_eq!(
        (&refused["status"], &refused["error"]["code"]),
        (&json!(403), &json!("IAM10014")),
        "{refused}"
    );
    assert!(refused["error"]["message"].as_str().unwrap().contains("api.v2_over_http"), "{refused}");
    assert_eq!(asked(0, 0)["name"], "obpilot", "from its own host");
    assert_eq!(asked(0, 1)["name"], "obpilot", "where it is allowed");
}

//! Certificates without files: the agents' own CA, from the first start of one host to the day a host leaves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use obpilot::secure::{TlsKey, Wanted, issue, new_root};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::rig::{Cluster, Home, LIMIT, PASSWORD, python, zone};

const SERVER: &str = "[tls]\nmode = \"server\"\nown_ca = true\n";
const MUTUAL: &str = "[tls]\nmode = \"mutual\"\nown_ca = true\n";

/// `GET /api/v1/security/keys` → `certificate`.
async fn shown(home: &Home) -> Value {
    let door = crate::rig::Door::socket(&home.socket());
    door.get("/api/v1/security/keys").await.data()["certificate"].clone()
}

fn text(certificate: &Value, member: &str) -> String {
    certificate[member].as_str().unwrap_or_else(|| panic!("{member} of {certificate:#}")).to_owned()
}

/// What an operator gives to clients, by the command that he types.
fn root(home: &Home) -> String {
    let output = home.cli(&["security", "ca"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Certificate and key of a client, issued on this host.
fn client_of(home: &Home, name: &str) -> Result<PathBuf, String> {
    let dir = home.path.with_file_name(format!("{name}-{}", home.ip));
    let output = home.cli(&["security", "issue-client", "--name", name, "--out", dir.to_str().unwrap()]);
    if output.status.success() { Ok(dir) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A client that trusts these roots and nobody else, and may show a certificate (with its key, PEM).
fn client(roots: &str, own: Option<&[u8]>) -> reqwest::Client {
    let roots = reqwest::Certificate::from_pem_bundle(roots.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().timeout(LIMIT).tls_certs_only(roots);
    let builder = match own {
        Some(pem) => builder.identity(reqwest::Identity::from_pem(pem).unwrap()),
        None => builder,
    };
    builder.build().unwrap()
}

/// Status of an answer; `None` where no connection came about.
async fn status(client: &reqwest::Client, home: &Home, target: &str) -> Option<u16> {
    let asked = client.get(format!("https://{}{target}", home.address())).send().await;
    asked.ok().map(|answer| answer.status().as_u16())
}

/// A connection as it is, with the fingerprint of what was shown when it began.
struct Line {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
    fingerprint: String,
}

fn line(home: &Home, roots: &str) -> Line {
    let mut store = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
        store.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(store);
    let config = Arc::new(builder.with_no_client_auth());
    let ip: std::net::IpAddr = home.ip.parse().unwrap();
    let mut tls = rustls::ClientConnection::new(config, ServerName::IpAddress(ip.into())).unwrap();
    let mut tcp = TcpStream::connect(home.address()).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).unwrap();
    }
    let certificate = tls.peer_certificates().unwrap()[0].clone();
    let fingerprint = obpilot::secure::sha256_hex(certificate);
    Line { stream: rustls::StreamOwned::new(tls, tcp), fingerprint }
}

impl Line {
    /// Asks for the time on this very connection, and reads the whole answer.
    fn ask(&mut self) -> String {
        self.stream.write_all(b"GET /api/v1/time HTTP/1.1\r\nHost: agent\r\n\r\n").unwrap();
        let (mut answer, mut buffer) = (String::new(), [0; 4096]);
        while !answer.ends_with('}') {
            let read = self.stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the connection ended: {answer}");
            answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        answer
    }
}

/// Somebody else's CA, with a certificate for the loopback network and its key.
struct Stranger {
    root: String,
    pem: String,
}

fn stranger() -> Stranger {
    let now = obpilot::clock::system().now();
    let (root, authority) = new_root(now).unwrap();
    let key = TlsKey::generate().unwrap();
    let wanted = Wanted {
        subject: "agent 127.0.0.1:2886".to_owned(),
        public_key: &key.public_on_wire(),
        names: (1..=3).map(|last| [127, 0, 0, last].into()).collect(),
        lifetime: Duration::from_secs(3_600),
    };
    let certificate = issue(&root, &authority, &wanted, now).unwrap();
    Stranger { root: root.pem, pem: key.to_pem_after(&certificate.pem).to_string() }
}

/// From the first moment, with a root to hand out; the SDK and the command line check it. What leads to a master keeps it, over a
/// `kill -9` too.
#[tokio::test]
async fn one_host_speaks_https_by_its_own_ca() {
    let mut home = Home::new();
    home.configure(SERVER);
    let mut agent = home.start();
    let ca = root(&home);
    assert_eq!(status(&client(&ca, None), &home, "/api/v1/info").await, Some(200));
    assert_eq!(status(&client(&stranger().root, None), &home, "/api/v1/info").await, None);
    let plain = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap();
    assert!(plain.get(format!("http://{}/api/v1/info", home.address())).send().await.is_err(), "plain HTTP");
    let before = shown(&home).await;
    assert_eq!(text(&before, "subject"), format!("agent {}", home.address()));
    assert_eq!(line(&home, &ca).fingerprint, text(&before, "fingerprint"));
    assert_eq!(before["ca"], ca, "the command shows what the API does");

    agent.kill();
    let agent = home.start();
    assert_eq!(shown(&home).await, before, "it was kept before it was shown");

    let file = home.path.with_file_name("ca.crt");
    std::fs::write(&file, &ca).unwrap();
    let mut sdk = python();
    sdk.arg(format!("{}/tests/agent/sdk_own_ca.py", env!("CARGO_MANIFEST_DIR")));
    let output = sdk.args(["127.0.0.1", &home.port.to_string()]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("the SDK knows the agent"),
        "{said}\n{}",
        agent.stderr()
    );
    assert_eq!(agent.status().await["agent"]["identity"], "MASTER");
    assert_eq!(root(&home), ca, "clients of before go on");

    let host = format!("https://{}", home.address());
    let ask = |ca: &Path| {
        let args = ["--host", &host, "--ca", ca.to_str().unwrap(), "task", "list"];
        home.cli_command(&args).env("OBPILOT_PASSWORD", "").output().unwrap().status.success()
    };
    assert!(ask(&file));
    std::fs::write(&file, stranger().root).unwrap();
    assert!(!ask(&file), "another root");
}

/// A new key pair and certificate: who is connected goes on, who comes is shown the new one.
#[tokio::test]
async fn a_certificate_is_rotated_without_interruption() {
    let mut home = Home::new();
    home.configure(SERVER);
    let agent = home.start();
    let ca = root(&home);
    let mut going_on = line(&home, &ca);
    assert!(going_on.ask().contains("200 OK"));
    let output = home.cli(&["security", "rotate", "--certificates"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let after = shown(&home).await;
    assert_ne!(text(&after, "fingerprint"), going_on.fingerprint);
    assert!(going_on.ask().contains("200 OK"), "a connection of before");
    assert_eq!(line(&home, &ca).fingerprint, text(&after, "fingerprint"));
    assert_eq!(root(&home), ca);
    let trail = agent.door.get("/api/v1/security/audit").await.data();
    assert!(trail.to_string().contains("/api/v1/security/keys/rotate"), "{trail:#}");
}

/// Without a rotation: short-lived ones are renewed by themselves, before they end.
#[tokio::test]
async fn certificates_are_renewed_by_themselves() {
    let mut home = Home::new();
    home.configure(&format!("{SERVER}certificate_lifetime_secs = 6\n"));
    let _agent = home.start();
    let (ca, mut seen) = (root(&home), Vec::new());
    let renewed = async {
        while seen.len() < 3 {
            // Every one that is shown is valid when it is shown.
            let fingerprint = line(&home, &ca).fingerprint;
            if seen.last() != Some(&fingerprint) {
                seen.push(fingerprint);
            }
            shown(&home).await;
        }
    };
    tokio::time::timeout(LIMIT, renewed).await.unwrap();
}

/// W19: what the store does not give back is no start, and nothing is made in its place.
#[test]
fn w19_a_ca_that_cannot_be_read_is_no_start() {
    let mut home = Home::new();
    home.configure(SERVER);
    home.start().terminate();
    let store = home.path.join(".obpilot/store.db");
    let change = |sql: &str| {
        let changed = rusqlite::Connection::open(&store).unwrap().execute_batch(sql);
        changed.unwrap_or_else(|e| panic!("{sql}: {e}"));
    };
    let refused = |said: &str| {
        let mut agent =
            home.spawn_logging(&home.path.with_extension(format!("{}.log", said.replace(' ', "-"))));
        let ended = agent.until_ready().err().unwrap_or_else(|| panic!("it started: {said}"));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(said) && ended.stderr.contains("tls.own_ca = false"),
            "{}",
            ended.stderr
        );
    };
    change("CREATE TABLE kept AS SELECT * FROM secret");
    change("DELETE FROM secret WHERE name = 'ca_key'");
    refused("ca_key is gone");
    change("INSERT INTO secret SELECT * FROM kept WHERE name = 'ca_key'");
    change(
        "UPDATE secret SET sealed = (SELECT sealed FROM kept WHERE name = 'ca_key') WHERE name = 'tls_key'",
    );
    refused("does not open");
    change(
        "UPDATE secret SET sealed = (SELECT sealed FROM kept WHERE name = 'tls_key') WHERE name = 'tls_key'",
    );
    change(
        "UPDATE ledger SET body = replace(body, '-----BEGIN CERTIFICATE', '-----BEGIN NOTHING') WHERE name = 'certificates'",
    );
    refused("cannot be used");
    change(
        "UPDATE ledger SET body = replace(body, '-----BEGIN NOTHING', '-----BEGIN CERTIFICATE') WHERE name = 'certificates'",
    );
    change("DROP TABLE kept");
    home.start();
    for (toml, said) in [
        ("[tls]\nown_ca = true\n", "tls.own_ca"),
        ("[tls]\nmode = \"server\"\nown_ca = true\nkey = \"/x\"\n", "tls.key"),
    ] {
        let mut home = Home::new();
        home.configure(toml);
        let mut agent = home.spawn();
        let ended = agent.until_ready().err().unwrap_or_else(|| panic!("it started with {toml}"));
        assert!(ended.code == Some(2) && ended.stderr.contains(said), "{}", ended.stderr);
    }
}

/// Of a cluster whose clients show certificates: joined, initialised, worked with from every side. One CA, whose key every member
/// comes to hold; strangers and their certificates are nobody.
#[tokio::test]
async fn three_hosts_form_a_cluster_by_certificate() {
    let mut cluster = Cluster::configured(3, MUTUAL);
    cluster.form().await;
    let ca = root(&cluster.homes[0]);
    let nobody = stranger();
    for (host, home) in cluster.homes.iter().enumerate() {
        assert_eq!(root(home), ca, "host {host}");
        // The key comes in the background, from whoever has it.
        let dir = async {
            loop {
                match client_of(home, "backup") {
                    Ok(dir) => break dir,
                    Err(why) => assert!(why.contains("does not hold the key"), "{why}"),
                }
            }
        };
        let dir = tokio::time::timeout(LIMIT, dir).await.expect("every member may issue");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(dir.join("backup.key")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        let pem = std::fs::read(dir.join("backup.pem")).unwrap();
        let known = client(&ca, Some(&pem));
        for other in &cluster.homes {
            assert_eq!(status(&known, other, "/api/v1/status").await, Some(200), "issued at {host}");
        }
        // Without one: what agents need to find each other, and nothing else.
        let anybody = client(&ca, None);
        for (target, expected) in [("/api/v1/info", 200), ("/api/v1/status", 401), ("/api/v1/ob/info", 401)] {
            assert_eq!(status(&anybody, home, target).await, Some(expected), "{target}");
        }
        // A stranger's is refused by the handshake, and so is the stranger.
        let shows = client(&ca, Some(nobody.pem.as_bytes()));
        assert_eq!(status(&shows, home, "/api/v1/info").await, None, "a certificate of another CA");
        assert_eq!(status(&client(&nobody.root, Some(&pem)), home, "/api/v1/info").await, None);
    }
    let stopped =
        cluster.done(2, "/api/v1/ob/stop", json!({ "scope": { "type": "ZONE", "target": [zone(1)] } })).await;
    assert_eq!(stopped["state"], "SUCCEED");
    cluster.done(1, "/api/v1/ob/start", json!({ "scope": { "type": "GLOBAL" } })).await;
    // The one that made the CA is gone: the others go on without it.
    cluster.kill(0);
    for host in [1, 2] {
        let before = text(&shown(&cluster.homes[host]).await, "fingerprint");
        let output = cluster.homes[host].cli(&["security", "rotate", "--certificates"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_ne!(text(&shown(&cluster.homes[host]).await, "fingerprint"), before);
    }
    cluster.done(2, "/api/v1/ob/start", json!({ "scope": { "type": "ZONE", "target": [zone(1)] } })).await;
    cluster.start(0);
    cluster.done(0, "/api/v1/ob/start", json!({ "scope": { "type": "GLOBAL" } })).await;
    cluster.assert_free().await;
}

/// Who answers in a member's place with another CA's certificate is not spoken to.
#[tokio::test]
async fn a_stranger_in_a_members_place_is_not_spoken_to() {
    let mut cluster = Cluster::configured(2, MUTUAL);
    cluster.join(0, 0, "zone1").await;
    cluster.join(1, 0, "zone2").await;
    cluster.kill(0);
    let nobody = stranger();
    let address = cluster.address(0);
    let listener = std::net::TcpListener::bind(&address).unwrap();
    let chain = CertificateDer::pem_slice_iter(nobody.pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(nobody.pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    // What comes of the first handshake, at the stranger's side.
    let heard = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut tls = rustls::ServerConnection::new(config).unwrap();
        while tls.is_handshaking() {
            if let Err(error) = tls.complete_io(&mut tcp) {
                return error.to_string();
            }
        }
        "a handshake".to_owned()
    });
    let asked = cluster.door(1).get("/api/v1/ob/info").await;
    assert_eq!(asked.code(), "Agent.RPC.RequestFailed", "{}", asked.text);
    assert!(asked.message().contains("certificate"), "{}", asked.text);
    let heard = heard.join().unwrap();
    assert!(heard.contains("UnknownCA"), "it was refused for its CA: {heard}");
}

/// W14: a member that was removed while it was away has a certificate that is valid, and it opens nothing.
#[tokio::test]
async fn w14_the_certificate_of_a_removed_member_opens_nothing() {
    let mut cluster = Cluster::configured(2, &format!("{MUTUAL}[peers]\nsilence_limit_secs = 5\n"));
    cluster.join(0, 0, "zone1").await;
    cluster.join(1, 0, "zone2").await;
    let through = |cluster: &Cluster| {
        let door = cluster.door(1).clone();
        async move { door.get("/api/v1/ob/info").await }
    };
    assert_eq!(through(&cluster).await.data()["agent_info"].as_array().unwrap().len(), 2);
    cluster.kill(1);
    let target = json!({ "ip": cluster.homes[1].ip, "port": cluster.homes[1].port });
    let made = cluster.door(0).post("/api/v1/agent/remove", target).await.data();
    let id = made["id"].as_str().unwrap();
    let failed = cluster.door(0).finished(id).await.data();
    let node = failed["nodes"][0]["id"].as_str().unwrap();
    cluster.door(0).post(&format!("/api/v1/task/node/{node}"), json!({ "operator": "PASS" })).await.data();
    cluster.door(0).post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "RETRY" })).await;
    cluster.door(0).finished(id).await.expect_succeeded();
    cluster.start(1);
    let kept = shown(&cluster.homes[1]).await;
    assert_eq!(root(&cluster.homes[1]), root(&cluster.homes[0]), "it shows {kept:#}");
    let refused = through(&cluster).await;
    assert!(refused.status >= 400, "{}", refused.text);
    assert!(!refused.message().contains("certificate"), "TLS let it in, the key did not: {}", refused.text);
    // Nor does it get another.
    let output = cluster.homes[1].cli(&["security", "rotate", "--certificates"]);
    assert!(!output.status.success());
    assert_eq!(shown(&cluster.homes[1]).await, kept);
}

/// A follower cannot certify itself. One that was away for longer than its certificate lives is certified anew when it is back.
#[tokio::test]
async fn a_member_that_was_away_over_its_renewal_comes_back() {
    let mut cluster = Cluster::configured(2, &format!("{MUTUAL}certificate_lifetime_secs = 6\n"));
    cluster.join(0, 0, "zone1").await;
    cluster.join(1, 0, "zone2").await;
    let before = shown(&cluster.homes[1]).await;
    cluster.kill(1);
    // Two renewals of the other take longer than this one lives.
    let (mut last, mut count) = (text(&shown(&cluster.homes[0]).await, "fingerprint"), 0);
    let passed = async {
        while count < 2 {
            let now = text(&shown(&cluster.homes[0]).await, "fingerprint");
            count += usize::from(now != last);
            last = now;
        }
    };
    tokio::time::timeout(LIMIT, passed).await.unwrap();
    cluster.start(1);
    let back = async { while cluster.door(1).get("/api/v1/ob/info").await.status != 200 {} };
    tokio::time::timeout(LIMIT, back).await.expect("it speaks to its master again");
    let after = shown(&cluster.homes[1]).await;
    assert_ne!(text(&after, "fingerprint"), text(&before, "fingerprint"));
    assert_eq!(after["issuer"], before["issuer"]);
    assert_eq!(line(&cluster.homes[1], &root(&cluster.homes[0])).fingerprint, text(&after, "fingerprint"));
}

/// A host that is added has the CA before it is a member; one that leaves forgets its key.
#[tokio::test]
async fn hosts_come_and_go_under_one_ca() {
    let cluster = Cluster::configured(2, MUTUAL);
    cluster.form_first(1).await;
    let agent = json!({ "ip": cluster.homes[1].ip, "port": cluster.homes[1].port });
    let before = root(&cluster.homes[1]);
    let out = json!({ "agentInfo": agent, "zone": "zone2", "obConfigs": cluster.ports(1) });
    cluster.done(0, "/api/v1/ob/scale_out", out).await;
    let ca = root(&cluster.homes[0]);
    assert_ne!(before, ca, "until then it had its own");
    assert_eq!(root(&cluster.homes[1]), ca);
    client_of(&cluster.homes[1], "one").expect("a member may issue");
    cluster
        .done(
            1,
            "/api/v1/ob/stop",
            json!({ "scope": { "type": "ZONE", "target": ["zone1"] }, "force": true }),
        )
        .await;
    cluster.done(1, "/api/v1/ob/start", json!({ "scope": { "type": "GLOBAL" } })).await;

    cluster.done(0, "/api/v1/ob/scale_in", json!({ "agent_info": agent })).await;
    let forgotten = async { while client_of(&cluster.homes[1], "two").is_ok() {} };
    tokio::time::timeout(LIMIT, forgotten).await.expect("the key is forgotten");
    let why = client_of(&cluster.homes[1], "three").unwrap_err();
    assert!(why.contains("does not hold the key"), "{why}");
    cluster.assert_free().await;
}

/// A host that is being added is nobody's member yet, so the steps to another root pass it by.
#[tokio::test]
async fn a_root_that_is_replaced_meanwhile_is_that_of_who_is_being_added() {
    let cluster = Cluster::configured(2, MUTUAL);
    cluster.form_first(1).await;
    cluster
        .set(0, &json!({ "faults": { "error_on": { "match": "ADD SERVER", "code": 1146, "text": "no" } } }));
    let agent = json!({ "ip": cluster.homes[1].ip, "port": cluster.homes[1].port });
    let out = json!({ "agentInfo": agent, "zone": "zone2", "obConfigs": cluster.ports(1) });
    let made = cluster.door(0).post("/api/v1/ob/scale_out", out).await.data();
    let id = made["id"].as_str().unwrap();
    cluster.door(0).until(id, |dag| dag["obpilot"]["state"] == "failed").await.data();
    assert_eq!(root(&cluster.homes[1]), root(&cluster.homes[0]));
    for step in ["announce", "switch", "finish"] {
        let output = cluster.homes[0].cli(&["security", "rotate-ca", step]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    cluster.set(0, &json!({}));
    cluster.door(0).post(&format!("/api/v1/task/dag/{id}"), json!({ "operator": "RETRY" })).await.data();
    cluster.door(0).finished(id).await.expect_succeeded();
    assert_eq!(root(&cluster.homes[1]), root(&cluster.homes[0]));
    for host in 0..2 {
        cluster.done(host, "/api/v1/ob/start", json!({ "scope": { "type": "GLOBAL" } })).await;
    }
    cluster.assert_free().await;
}

/// Hosts of a cluster that serves are changed over one by one, and work together all the time. Nobody has a CA at first; in the
/// end all go by one.
#[tokio::test]
async fn a_cluster_changes_over_to_its_own_ca() {
    let mut cluster = Cluster::new(2);
    cluster.form().await;
    for host in [1, 0] {
        cluster.homes[host].configure(SERVER);
        cluster.kill(host);
        cluster.start(host);
        for coordinator in 0..2 {
            let scope = json!({ "scope": { "type": "ZONE", "target": [zone((coordinator + 1) % 2)] } });
            cluster.done(coordinator, "/api/v1/ob/start", scope).await;
        }
    }
    let one = async { while root(&cluster.homes[0]) != root(&cluster.homes[1]) {} };
    tokio::time::timeout(LIMIT, one).await.expect("all go by one CA");
    for host in 0..2 {
        let scope = json!({ "scope": { "type": "ZONE", "target": [zone((host + 1) % 2)] } });
        cluster.done(host, "/api/v1/ob/start", scope).await;
    }
    assert_eq!(cluster.running(), [true; 2]);
}

/// A new root in three steps: clients that were given it between the first and the second never notice, and neither do members.
#[tokio::test]
async fn the_root_is_replaced_and_nobody_is_cut_off() {
    let mut cluster = Cluster::configured(2, MUTUAL);
    cluster.form().await;
    let one = async { while client_of(&cluster.homes[1], "old").is_err() {} };
    tokio::time::timeout(LIMIT, one).await.expect("every member may issue");
    let old = root(&cluster.homes[0]);
    let own_old = std::fs::read(client_of(&cluster.homes[1], "old").unwrap().join("old.pem")).unwrap();
    let step = |cluster: &Cluster, host: usize, step: &str| {
        let output = cluster.homes[host].cli(&["security", "rotate-ca", step]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (is_done, said) = step(&cluster, 0, "switch");
    assert!(!is_done && said.contains("announce one first"), "{said}");
    // Nothing goes on while somebody does not hear of it.
    cluster.kill(1);
    let (is_done, said) = step(&cluster, 0, "announce");
    assert!(!is_done && said.contains(&cluster.address(1)), "{said}");
    cluster.start(1);
    let (is_done, said) = step(&cluster, 0, "announce");
    assert!(is_done, "{said}");
    let both = root(&cluster.homes[1]);
    assert!(both.starts_with(old.trim_end()) && both.len() > old.len() + 100);
    // Where it was announced does not matter.
    let (is_done, said) = step(&cluster, 1, "switch");
    assert!(is_done, "{said}");
    for home in &cluster.homes {
        let known = client(&both, Some(&own_old));
        assert_eq!(
            status(&known, home, "/api/v1/status").await,
            Some(200),
            "who was given both roots in time"
        );
        assert_eq!(status(&client(&old, Some(&own_old)), home, "/api/v1/info").await, None);
    }
    cluster.done(0, "/api/v1/ob/start", json!({ "scope": { "type": "GLOBAL" } })).await;
    let own_new = std::fs::read(client_of(&cluster.homes[0], "new").unwrap().join("new.pem")).unwrap();
    let (is_done, said) = step(&cluster, 0, "finish");
    assert!(is_done, "{said}");
    let new = root(&cluster.homes[0]);
    for home in &cluster.homes {
        assert_eq!(root(home), new);
        assert_eq!(status(&client(&new, Some(&own_new)), home, "/api/v1/status").await, Some(200));
        assert_eq!(
            status(&client(&new, Some(&own_old)), home, "/api/v1/info").await,
            None,
            "of the old root"
        );
    }
    cluster.done(1, "/api/v1/ob/start", json!({ "scope": { "type": "GLOBAL" } })).await;
    cluster.assert_free().await;
}

/// Who has only the password of a client does not make certificates that outlive it.
#[tokio::test]
async fn clients_are_certified_on_the_host_only() {
    let mut home = Home::new();
    home.configure(SERVER);
    let agent = home.start();
    let ca = root(&home);
    let mut door = crate::rig::Door::open(&home.address());
    (door.base, door.http) = (format!("https://{}", home.address()), client(&ca, None));
    let body = json!({ "name": "backup", "publicKey": TlsKey::generate().unwrap().public_on_wire() });
    let door = door.with_password(PASSWORD).await;
    let refused = door.post("/api/v1/security/certificates", body.clone()).await;
    assert_eq!(refused.code(), "Common.NotSupported", "{}", refused.text);
    assert!(agent.door.post("/api/v1/security/certificates", body).await.data()["certificate"].is_string());
    for body in
        [json!({ "name": "a/b", "publicKey": "" }), json!({ "name": "a", "publicKey": "AAAA" }), json!({})]
    {
        let refused = agent.door.post("/api/v1/security/certificates", body).await;
        assert_eq!(refused.code(), "Common.IllegalArgument", "{}", refused.text);
    }
}

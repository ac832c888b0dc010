//! TLS of the listener: off, on, mutual; certificates that change; agents that change over one by one.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::json;

use crate::rig::{Cluster, Home, LIMIT, zone};

/// A root, and what it has signed, as files.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, dir: dir.join(name) };
        std::fs::create_dir_all(&authority.dir).unwrap();
        std::fs::write(authority.root(), authority.issuer.pem()).unwrap();
        authority
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root.crt")
    }

    /// Certificate and key for the loopback addresses, in two files and in one.
    pub(crate) fn sign(&self, name: &str) -> Signed {
        let mut params = CertificateParams::new(vec![]).unwrap();
        for last in 1..=4 {
            params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, last].into()));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let signed = Signed {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
            both: self.dir.join(format!("{name}.pem")),
        };
        std::fs::write(&signed.certificate, &certificate).unwrap();
        std::fs::write(&signed.key, key.serialize_pem()).unwrap();
        std::fs::write(&signed.both, certificate + &key.serialize_pem()).unwrap();
        signed
    }
}

pub(crate) struct Signed {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    both: PathBuf,
}

pub(crate) fn server(signed: &Signed) -> String {
    let (certificate, key) = (signed.certificate.display(), signed.key.display());
    format!("[tls]\nmode = \"server\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
}

pub(crate) fn mutual(signed: &Signed, clients: &Authority) -> String {
    let (certificate, key, root) =
        (signed.certificate.display(), signed.key.display(), clients.root().display().to_string());
    format!(
        "[tls]\nmode = \"mutual\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\nclient_ca = \"{root}\"\n"
    )
}

/// A client that trusts one root, and may show a certificate.
fn client(root: &Authority, own: Option<&Signed>) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(&std::fs::read(root.root()).unwrap()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().timeout(LIMIT).tls_certs_only([root]);
    let builder = match own {
        Some(own) => {
            builder.identity(reqwest::Identity::from_pem(&std::fs::read(&own.both).unwrap()).unwrap())
        }
        None => builder,
    };
    builder.build().unwrap()
}

async fn answers(client: &reqwest::Client, scheme: &str, home: &Home) -> bool {
    let asked = client.get(format!("{scheme}://{}/api/v1/info", home.address())).send().await;
    asked.is_ok_and(|answer| answer.status() == 200)
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("obpilot-tls-").tempdir().unwrap()
}

#[tokio::test]
async fn over_tls_only_and_by_certificate_only() {
    let dir = scratch();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let mut home = Home::new();
    home.configure(&server(&ours.sign("agent")));
    let _agent = home.start();
    assert!(answers(&client(&ours, None), "https", &home).await);
    assert!(!answers(&client(&theirs, None), "https", &home).await, "a root that has not signed it");
    assert!(!answers(&client(&ours, None), "http", &home).await, "plain HTTP");

    let mut home = Home::new();
    home.configure(&mutual(&ours.sign("agent"), &ours));
    let _agent = home.start();
    assert!(!answers(&client(&ours, None), "https", &home).await, "no certificate");
    assert!(!answers(&client(&ours, Some(&theirs.sign("client"))), "https", &home).await, "a stranger's");
    assert!(answers(&client(&ours, Some(&ours.sign("client"))), "https", &home).await);
}

/// W19: what cannot be done is refused, with the file.
#[test]
fn w19_tls_that_cannot_be_had_is_no_start() {
    let dir = scratch();
    let authority = Authority::new(dir.path(), "ours");
    let (signed, other) = (authority.sign("agent"), authority.sign("other"));
    let missing = |signed: Signed| Signed { certificate: dir.path().join("none.crt"), ..signed };
    let mixed = Signed { key: other.key.clone(), ..authority.sign("mixed") };
    let empty = Signed { certificate: dir.path().join("empty.crt"), ..authority.sign("empty") };
    std::fs::write(&empty.certificate, "no certificate\n").unwrap();
    for (toml, said) in [
        (server(&missing(signed)), "none.crt"),
        (server(&mixed), "do not belong together"),
        (server(&empty), "empty.crt"),
        (mutual(&other, &Authority { issuer: authority.issuer, dir: dir.path().join("nowhere") }), "nowhere"),
        ("[tls]\nmode = \"server\"\n".to_owned(), "tls.certificate"),
    ] {
        let mut home = Home::new();
        home.configure(&toml);
        let mut agent = home.spawn();
        let ended = agent.until_ready().err().unwrap_or_else(|| panic!("it started with {toml}"));
        assert_eq!(ended.code, Some(2), "{}", agent.stderr());
        assert!(agent.stderr().contains(said), "{said}: {}", agent.stderr());
    }
}

/// A new certificate is in service as soon as its files are there; one that does not fit is not.
#[tokio::test]
async fn a_certificate_is_replaced_without_interruption() {
    let dir = scratch();
    let (old, new) = (Authority::new(dir.path(), "old"), Authority::new(dir.path(), "new"));
    let signed = old.sign("agent");
    let mut home = Home::new();
    home.configure(&server(&signed));
    let _agent = home.start();
    let going_on = client(&old, None);
    assert!(answers(&going_on, "https", &home).await);
    let replacement = new.sign("agent");
    // First the certificate, then its key: between the two nothing fits.
    std::fs::copy(&replacement.certificate, &signed.certificate).unwrap();
    assert!(answers(&client(&old, None), "https", &home).await);
    std::fs::copy(&replacement.key, &signed.key).unwrap();
    let is_new = async { while !answers(&client(&new, None), "https", &home).await {} };
    tokio::time::timeout(LIMIT, is_new).await.unwrap();
    assert!(answers(&going_on, "https", &home).await, "a connection of before");
    assert!(!answers(&client(&old, None), "https", &home).await);
}

/// The command line, with a check of the certificate and one of its own.
#[tokio::test]
async fn the_command_line_speaks_tls() {
    let dir = scratch();
    let authority = Authority::new(dir.path(), "ours");
    let mut home = Home::new();
    home.configure(&mutual(&authority.sign("agent"), &authority));
    let _agent = home.start();
    let client = authority.sign("client");
    let (root, own) = (authority.root().display().to_string(), client.both.display().to_string());
    let host = format!("https://{}", home.address());
    let ask = |more: &[&str]| {
        let args = [&["--host", &host, "task", "list"], more].concat();
        let output = home.cli_command(&args).env("OBPILOT_PASSWORD", "").output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (is_done, said) = ask(&["--ca", &root, "--client-cert", &own]);
    assert!(is_done, "{said}");
    for args in [&["--ca", &root][..], &["--client-cert", &own], &[]] {
        assert!(!ask(args).0, "{args:?}");
    }
}

/// Agents change over one after the other, and work together all the time.
#[tokio::test]
async fn a_cluster_changes_over_host_by_host() {
    let dir = scratch();
    let authority = Authority::new(dir.path(), "ours");
    let mut cluster = Cluster::new(3);
    cluster.form().await;
    for (host, toml) in [
        (0, server(&authority.sign("agent0"))),
        (1, mutual(&authority.sign("agent1"), &authority)),
        (2, mutual(&authority.sign("agent2"), &authority)),
    ] {
        cluster.homes[host].configure(&toml);
        cluster.kill(host);
        cluster.start(host);
        for coordinator in 0..3 {
            let scope = json!({ "scope": { "type": "ZONE", "target": [zone((coordinator + 1) % 3)] } });
            cluster.done(coordinator, "/api/v1/ob/start", scope).await;
        }
    }
    let stopped =
        cluster.done(2, "/api/v1/ob/stop", json!({ "scope": { "type": "GLOBAL" }, "force": true })).await;
    assert_eq!(stopped["state"], "SUCCEED");
    cluster.start_all(0).await;
    assert_eq!(cluster.running(), [true; 3]);
    cluster.assert_free().await;
}

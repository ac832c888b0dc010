//! The vectors of the specification, the decision table as text, and what strangers may try.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::model::{Identity, Password};

const VECTORS: &str = include_str!("../../proto/vectors/security-vectors.json");

/// Every part of the file: one that nobody reads does not parse.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "title")]
    _title: String,
    #[serde(rename = "read_with")]
    _read_with: String,
    #[serde(rename = "conventions")]
    _conventions: HashMap<String, String>,
    rsa_keys: HashMap<String, Key>,
    v2_accept: Vec<Request>,
    v1_accept: Vec<Request>,
    rsa_values: Vec<Value>,
    aes_values: Vec<AesValue>,
    file_sha256: Value,
    credential: Credential,
    refuse: Vec<Request>,
}

/// A passphrase for SSH as OBShell keeps it (`security.md` §1.6).
#[derive(Deserialize)]
struct Credential {
    stored_key: String,
    key_hex: String,
    passphrase: String,
    stored_passphrase: String,
}

#[derive(Deserialize)]
struct Key {
    private_key_pkcs1_b64: String,
    private_key_pkcs8_b64: String,
    public_key_pkcs1_b64: String,
    public_key_spki_b64: String,
    block_bytes: usize,
    max_chunk_bytes: usize,
}

#[derive(Deserialize, Clone)]
struct Request {
    name: String,
    rsa_key: String,
    request_target: String,
    now: i64,
    header_name: String,
    header_value: String,
    header_plaintext: Option<String>,
    body_wire: Option<String>,
    body_plaintext: Option<String>,
    #[serde(default)]
    ours: String,
}

#[derive(Deserialize)]
struct Value {
    rsa_key: String,
    #[serde(alias = "sha256_hex")]
    plaintext: String,
    value: String,
}

#[derive(Deserialize)]
struct AesValue {
    aes_key_hex: String,
    aes_iv_hex: String,
    plaintext: String,
    value: String,
}

static ALL: LazyLock<Vectors> = LazyLock::new(|| serde_json::from_str(VECTORS).unwrap());

fn own_key() -> AgentKey {
    let der = STANDARD.decode(&ALL.rsa_keys["rsa2048"].private_key_pkcs8_b64).unwrap();
    AgentKey::from_pkcs8(&der).unwrap()
}

/// The password of the vectors' callers.
const PASSWORDS: [&str; 5] = ["pa\"ss<&>é", "rootpw", "p", "agent-secret", ""];

/// What the door would do, with the pieces in the order in which `api` uses them.
#[derive(Debug, PartialEq)]
enum Outcome {
    Accepted(Option<Vec<u8>>),
    /// The one refusal.
    Refused,
    /// Known caller, but late or for another target.
    Told,
    BodyRefused,
}

fn judge(key: &AgentKey, seen: &mut Seen, request: &Request, identity: Identity) -> Outcome {
    let is_v1 = request.header_name == V1_HEADER;
    let opened = if is_v1 {
        Opened::open_v1(key, &request.header_value, &request.request_target)
    } else {
        Opened::open(key, &request.header_value)
    };
    let Some(opened) = opened else { return Outcome::Refused };
    let is_agent = request.header_name.eq_ignore_ascii_case(AGENT_HEADER);
    let facts = Facts {
        class: RouteClass::Protected,
        identity,
        has_agent_password: is_agent,
        knows_root: true,
        header: Some(if is_agent { HeaderKind::Agent } else { HeaderKind::Database }),
        has_session: !opened.session_id.is_empty(),
        forward: opened.forward,
        may_claim: true,
    };
    let is_known = match decide(&facts) {
        Verdict::CheckRoot | Verdict::CheckAgent => {
            let fits = PASSWORDS.iter().any(|pw| is_same(opened.auth.expose(), pw));
            fits && opened.ts.is_some()
        }
        Verdict::CheckToken => !opened.token.is_empty(),
        Verdict::Accept => true,
        Verdict::CheckSession
        | Verdict::CheckAgentPlainOrSealed
        | Verdict::ToMaster
        | Verdict::NoHeader
        | Verdict::Refuse => false,
    };
    if !is_known {
        return Outcome::Refused;
    }
    let lifetime_max = if is_v1 { i64::MAX } else { 3_600 };
    if opened.uri != request.request_target || !check_time(opened.ts, request.now, lifetime_max) {
        return Outcome::Told;
    }
    if !seen.admit(&opened.blocks, opened.ts.unwrap_or(0), request.now) {
        return Outcome::Refused;
    }
    let wire = request.body_wire.as_deref().unwrap_or_default();
    if wire.is_empty() || request.request_target == "/api/v1/package" {
        return Outcome::Accepted(None);
    }
    if is_v1 {
        return Outcome::Accepted(Some(wire.as_bytes().to_vec()));
    }
    match opened.keys.and_then(|keys| keys.open(wire.as_bytes())) {
        Some(body) => Outcome::Accepted(Some(body)),
        None => Outcome::BodyRefused,
    }
}

/// The parser alone, for keys that our listener never has.
fn open_with_rsa(request: &Request) -> Option<Opened> {
    Opened::from_plain(&decrypt_with_rsa(&request.rsa_key, &request.header_value), vec![])
}

/// The text of a value, whatever the size of its key.
fn decrypt_with_rsa(key: &str, value: &str) -> Vec<u8> {
    use rsa::pkcs8::DecodePrivateKey;
    let der = STANDARD.decode(&ALL.rsa_keys[key].private_key_pkcs8_b64).unwrap();
    let private = rsa::RsaPrivateKey::from_pkcs8_der(&der).unwrap();
    let sealed = STANDARD.decode(value).unwrap();
    let blocks = sealed.chunks(ALL.rsa_keys[key].block_bytes);
    blocks.flat_map(|block| private.decrypt(rsa::Pkcs1v15Encrypt, block).unwrap()).collect()
}

#[test]
fn every_header_of_the_clients_opens() {
    let key = own_key();
    let mut opened_here = 0;
    for request in &ALL.v2_accept {
        let is_ours = request.rsa_key == "rsa2048";
        let opened = if is_ours { Opened::open(&key, &request.header_value) } else { open_with_rsa(request) };
        let opened = opened.unwrap_or_else(|| panic!("{}", request.name));
        assert_eq!(opened.uri, request.request_target, "{}", request.name);
        assert!(check_time(opened.ts, request.now, 3_600), "{}", request.name);
        assert!(request.header_plaintext.is_some());
        if let (Some(keys), Some(plain)) = (&opened.keys, &request.body_plaintext) {
            let body = keys.open(request.body_wire.as_ref().unwrap().as_bytes());
            assert_eq!(body.as_deref(), Some(plain.as_bytes()), "{}", request.name);
        }
        opened_here += usize::from(is_ours);
    }
    assert_eq!((ALL.v2_accept.len(), opened_here), (19, 12), "all vectors, twelve of them with our own key");
}

#[test]
fn accepted_vectors_are_accepted_by_the_whole_pipeline() {
    let key = own_key();
    for request in ALL
        .v2_accept
        .iter()
        .filter(|r| r.rsa_key == "rsa2048" && !r.name.contains("session") && !r.name.contains("upload"))
    {
        let outcome = judge(&key, &mut Seen::default(), request, Identity::ClusterAgent);
        let expected = Outcome::Accepted(request.body_plaintext.clone().map(String::into_bytes));
        assert_eq!(outcome, expected, "{}", request.name);
    }
}

#[test]
fn every_refused_vector_ends_as_we_said() {
    let key = own_key();
    let first = ALL.v2_accept.iter().find(|r| r.name == "python-post-2048").unwrap();
    for request in &ALL.refuse {
        let mut seen = Seen::default();
        if matches!(request.name.as_str(), "replayed" | "spliced-without-duplicates") {
            assert!(matches!(judge(&key, &mut seen, first, Identity::ClusterAgent), Outcome::Accepted(_)));
        }
        let identity =
            if request.name.starts_with("master-") { Identity::Master } else { Identity::ClusterAgent };
        let outcome = judge(&key, &mut seen, request, identity);
        let expected = if request.ours.starts_with("refused after authentication") {
            Outcome::BodyRefused
        } else if request.ours.contains("the reason may be told") {
            Outcome::Told
        } else {
            Outcome::Refused
        };
        assert_eq!(outcome, expected, "{}: {}", request.name, request.ours);
    }
    assert_eq!(ALL.refuse.len(), 23);
}

#[test]
fn a_replay_is_refused_also_after_a_restart() {
    let key = own_key();
    let request = ALL.v2_accept.iter().find(|r| r.name == "python-post-2048").unwrap();
    let opened = Opened::open(&key, &request.header_value).unwrap();
    let mut restarted = Seen::default();
    restarted.restore(opened.blocks.iter().take(1).map(|block| (*block, opened.ts.unwrap())), request.now);
    assert_eq!(judge(&key, &mut restarted, request, Identity::ClusterAgent), Outcome::Refused);
}

#[test]
fn other_sealed_values_open() {
    let key = own_key();
    for value in ALL.rsa_values.iter().chain([&ALL.file_sha256]).filter(|v| v.rsa_key == "rsa2048") {
        let sealed = STANDARD.decode(&value.value).unwrap();
        let plain = key.open_blocks(sealed.chunks(256)).unwrap();
        assert_eq!(plain.as_slice(), value.plaintext.as_bytes());
    }
    // Those of keys that our listener never has are what an OBShell leaves behind.
    for value in &ALL.rsa_values {
        assert_eq!(decrypt_with_rsa(&value.rsa_key, &value.value), value.plaintext.as_bytes());
    }
    for value in &ALL.aes_values {
        let keys = [hex(&value.aes_key_hex), hex(&value.aes_iv_hex)].concat();
        let keys = BodyKey::from_text(&STANDARD.encode(keys)).unwrap();
        assert_eq!(keys.open(value.value.as_bytes()).unwrap(), value.plaintext.as_bytes());
        assert_eq!(keys.seal(value.plaintext.as_bytes()).unwrap(), value.value);
    }
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(text.get(at..at + 2).unwrap(), 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Nothing of ours keeps one (W25): that the file is understood is what this shows.
#[test]
fn an_ssh_passphrase_of_obshell_can_be_read() {
    use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
    const LETTERS: &[u8; 65] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    let moved_back = |letter: u8| {
        let at = LETTERS.iter().position(|known| *known == letter).unwrap();
        char::from(LETTERS[(at + LETTERS.len() - 11) % LETTERS.len()])
    };
    let Credential { stored_key, key_hex, passphrase, stored_passphrase } = &ALL.credential;
    let key = STANDARD.decode(stored_key.bytes().map(moved_back).collect::<String>()).unwrap();
    assert_eq!(key, hex(key_hex));
    let mut sealed = STANDARD.decode(stored_passphrase).unwrap();
    let iv: [u8; 16] = sealed.drain(..16).collect::<Vec<_>>().try_into().unwrap();
    let key = UnboundCipherKey::new(&AES_256, &key).unwrap();
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).unwrap();
    let plain = key.decrypt(&mut sealed, DecryptionContext::Iv128(iv.into())).unwrap();
    assert_eq!(plain, passphrase.as_bytes());
}

/// The keys of the file in all their forms; the small ones are taken from peers and never for our own.
#[test]
fn keys_of_every_size_are_read_and_small_ones_are_not_ours() {
    use rsa::pkcs1::DecodeRsaPrivateKey as _;
    use rsa::pkcs8::DecodePrivateKey as _;
    let der = |text: &str| STANDARD.decode(text).unwrap();
    assert_eq!(ALL.rsa_keys.len(), 3);
    for (name, key) in &ALL.rsa_keys {
        let is_ours = AgentKey::from_pkcs8(&der(&key.private_key_pkcs8_b64)).is_ok();
        assert_eq!(is_ours, key.block_bytes >= 256, "W9: {name}");
        let private = rsa::RsaPrivateKey::from_pkcs8_der(&der(&key.private_key_pkcs8_b64)).unwrap();
        assert_eq!(
            rsa::RsaPrivateKey::from_pkcs1_der(&der(&key.private_key_pkcs1_b64)).unwrap(),
            private,
            "{name}"
        );
        let public = PublicKey::from_spki(&der(&key.public_key_spki_b64)).unwrap();
        assert_eq!(public.to_wire().unwrap(), key.public_key_pkcs1_b64, "{name}");
        // One block for what fits into one, two for a byte more; and the private key opens them.
        for (bytes, blocks) in [(key.max_chunk_bytes, 1), (key.max_chunk_bytes + 1, 2)] {
            let plain = vec![b'x'; bytes];
            let sealed = PublicKey::from_wire(&key.public_key_pkcs1_b64).unwrap().seal(&plain).unwrap();
            assert_eq!(der(&sealed).len(), blocks * key.block_bytes, "{name}");
            assert_eq!(decrypt_with_rsa(name, &sealed), plain, "{name}");
        }
    }
}

#[test]
fn every_header_of_the_clients_of_v1_opens_and_is_accepted_once() {
    let key = own_key();
    let now = 1_795_209_241;
    let shown: Vec<_> = ALL
        .v1_accept
        .iter()
        .map(|request| {
            let is_ours = request.rsa_key == "rsa2048";
            let opened = if is_ours {
                Opened::open_v1(&key, &request.header_value, &request.request_target)
            } else {
                let plain = decrypt_with_rsa(&request.rsa_key, &request.header_value);
                assert_eq!(Some(plain.clone()), request.header_plaintext.clone().map(String::into_bytes));
                Opened::of_v1(&plain, vec![], "another".to_owned(), &request.request_target)
            };
            let opened = opened.unwrap_or_else(|| panic!("{}", request.name));
            assert_eq!((opened.auth.expose(), request.now), (PASSWORDS[0], now), "{}", request.name);
            assert!(opened.keys.is_none() && opened.session_id.is_empty());
            (is_ours, opened.ts.unwrap() - now)
        })
        .collect();
    assert_eq!(shown, [(false, 60), (true, 60_000_000_000)], "seconds, and nanoseconds");
    let request = ALL.v1_accept.iter().find(|request| request.rsa_key == "rsa2048").unwrap();
    let mut seen = Seen::default();
    let body = request.body_wire.clone().map(String::into_bytes);
    let outcome = judge(&key, &mut seen, request, Identity::ClusterAgent);
    assert_eq!(outcome, Outcome::Accepted(body));
    assert_eq!(judge(&key, &mut seen, request, Identity::ClusterAgent), Outcome::Refused);
    // Under the other scheme neither is a header.
    for request in &ALL.v1_accept {
        let plain = request.header_plaintext.as_ref().unwrap().as_bytes();
        assert!(Opened::from_plain(plain, vec![]).is_none_or(|opened| opened.ts.is_none()));
    }
    for request in &ALL.v2_accept {
        let plain = request.header_plaintext.as_ref().unwrap().as_bytes();
        assert!(Opened::of_v1(plain, vec![], String::new(), "/").is_none(), "{}", request.name);
    }
}

/// All of `security-vectors.json`, by how many there are of each.
#[test]
fn every_entry_of_the_vectors_has_a_test() {
    let Vectors { rsa_keys, v2_accept, v1_accept, rsa_values, aes_values, refuse, .. } = &*ALL;
    let parts = [
        // `keys_of_every_size_are_read_and_small_ones_are_not_ours`
        rsa_keys.len(),
        // `every_header_of_the_clients_opens`
        v2_accept.len(),
        // `every_header_of_the_clients_of_v1_opens_and_is_accepted_once`
        v1_accept.len(),
        // `other_sealed_values_open`, with `file_sha256`
        rsa_values.len() + 1,
        aes_values.len(),
        // `an_ssh_passphrase_of_obshell_can_be_read`
        1,
        // `every_refused_vector_ends_as_we_said`
        refuse.len(),
    ];
    assert_eq!(parts, [3, 19, 2, 6, 2, 1, 23]);
    assert_eq!(parts.iter().sum::<usize>(), 56);
}

/// What no client of v1 writes is no header of it.
#[test]
fn a_header_of_v1_is_a_password_and_a_time_and_nothing_else() {
    let open = |json: &str| Opened::of_v1(json.as_bytes(), vec![], String::new(), "/x");
    let opened = open(" {\"ts\":5, \"password\":\"pw\"}\n").unwrap();
    assert_eq!((opened.auth.expose(), opened.ts, opened.uri.as_str()), ("pw", Some(5), "/x"));
    assert!(open("{\"password\":null,\"ts\":5}").unwrap().auth.is_empty(), "the SDK was given none");
    for json in [
        "",
        "null",
        "[\"pw\",5]",
        " [\"pw\",5]",
        "{}",
        "{\"password\":\"pw\"}",
        "{\"password\":\"pw\",\"ts\":null}",
        "{\"password\":\"pw\",\"ts\":\"5\"}",
        "{\"password\":\"pw\",\"ts\":5.0}",
        "{\"password\":\"pw\",\"ts\":5e3}",
        "{\"password\":\"pw\",\"ts\":9223372036854775808}",
        "{\"password\":5,\"ts\":5}",
        "{\"password\":\"pw\",\"ts\":5,\"ts\":6}",
        "{\"password\":\"a\",\"password\":\"pw\",\"ts\":5}",
        "{\"password\":\"a\",\"Password\":\"pw\",\"ts\":5}",
        "{\"password\":\"pw\",\"ts\":5,\"keys\":\"\"}",
        "{\"password\":\"pw\",\"ts\":5,\"uri\":\"/x\"}",
        "{\"password\":\"pw\",\"ts\":5} x",
        "{\"password\":\"pw\",\"ts\":5}{}",
        "{\"password\":\"\\ud83d\",\"ts\":5}",
    ] {
        assert!(open(json).is_none(), "{json}");
    }
    assert!(Opened::of_v1(b"{\"password\":\"\xff\",\"ts\":5}", vec![], String::new(), "/").is_none());
}

/// Blocks that do not end are kept until their key ends; when there is no room, nothing gives way.
#[test]
fn w10_lasting_blocks_are_remembered_as_long_as_their_key() {
    let (now, day) = (1_000_000, 86_400);
    let block = |n: u32| {
        let mut hash = [9; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        hash
    };
    let mut seen = Seen::default();
    let far = now + 60_000_000_000;
    assert!(seen.admit(&[block(1), block(2)], far, now));
    assert!(!seen.admit(&[block(3), block(2)], far, now), "one known block is enough");
    assert!(!seen.admit(&[block(1)], now + 60, now), "whatever time another header tells");
    assert!(!seen.admit(&[block(1)], far, far - 1), "a second before its end as well");
    let mut restarted = Seen::default();
    restarted.restore([(block(1), far)], now);
    assert!(!restarted.admit(&[block(1)], far, now));
    // Those with an end do not give way to them, nor they to those.
    assert!(seen.admit(&[block(4)], now + day, now));
    let mut count = 0;
    while !seen.is_full() {
        count += 1;
        assert!(seen.admit(&[block(1_000 + count)], far, now), "{count}");
    }
    assert_eq!(count, 100_000 - 2);
    assert!(!seen.admit(&[block(5)], far, now), "there is no room");
    assert!(seen.admit(&[block(6)], now + day, now), "one that ends has room");
    for n in 0..200_000 {
        seen.admit(&[block(1_000_000 + n)], now + day, now);
    }
    assert!(!seen.admit(&[block(1)], far, now), "still known");
    seen.forget_lasting();
    assert!(!seen.is_full() && seen.admit(&[block(5)], far, now));
    assert!(seen.len() <= 100_001);
}

#[test]
fn a_published_key_is_pkcs1_and_survives_the_vault() {
    let key = own_key();
    assert_eq!(key.public_on_wire(), ALL.rsa_keys["rsa2048"].public_key_pkcs1_b64);
    let fresh = AgentKey::generate().unwrap();
    let again = AgentKey::from_pkcs8(fresh.to_pkcs8()).unwrap();
    assert_eq!(fresh.public_on_wire(), again.public_on_wire());
    assert_ne!(fresh.public_on_wire(), key.public_on_wire());
    let der = STANDARD.decode(fresh.public_on_wire()).unwrap();
    assert_eq!(der.len(), 270, "2048 bits of modulus, three bytes of exponent, and their heads");
    for text in ["", "x", &ALL.rsa_keys["rsa2048"].private_key_pkcs8_b64] {
        assert!(PublicKey::from_wire(text).is_err());
    }
}

/// The decision table, whole. S M C F: SINGLE, MASTER, CLUSTER AGENT, FOLLOWER. P: an agent password is set. R: a root
/// password is known. "claim": the caller's address may claim.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_decision_table() {
    let expected = "\
S .. db: Refuse, claim Accept, deliberate Refuse
S .. agent: Refuse, claim Accept, deliberate Refuse
S .R db: Refuse, claim Accept, deliberate Refuse
S .R agent: Refuse, claim Accept, deliberate Refuse
S P. db: Refuse, claim Refuse, deliberate Refuse
S P. agent: CheckAgentPlainOrSealed, claim CheckAgentPlainOrSealed, deliberate CheckAgentPlainOrSealed
S PR db: Refuse, claim Refuse, deliberate Refuse
S PR agent: CheckAgentPlainOrSealed, claim CheckAgentPlainOrSealed, deliberate CheckAgentPlainOrSealed
M .. db: Refuse, claim Accept, deliberate CheckToken
M .. agent: Refuse, claim Accept, deliberate CheckToken
M .R db: CheckRoot, claim CheckRoot, deliberate CheckToken
M .R agent: Refuse, claim Refuse, deliberate CheckToken
M P. db: Refuse, claim Refuse, deliberate CheckToken
M P. agent: CheckAgent, claim CheckAgent, deliberate CheckToken
M PR db: CheckRoot, claim CheckRoot, deliberate CheckToken
M PR agent: CheckAgent, claim CheckAgent, deliberate CheckToken
C .. db: CheckRoot, claim CheckRoot, deliberate CheckRoot
C .. agent: Refuse, claim Refuse, deliberate Refuse
C .R db: CheckRoot, claim CheckRoot, deliberate CheckRoot
C .R agent: Refuse, claim Refuse, deliberate Refuse
C P. db: CheckRoot, claim CheckRoot, deliberate CheckRoot
C P. agent: CheckAgent, claim CheckAgent, deliberate CheckAgent
C PR db: CheckRoot, claim CheckRoot, deliberate CheckRoot
C PR agent: CheckAgent, claim CheckAgent, deliberate CheckAgent
F .. db: ToMaster, claim ToMaster, deliberate CheckToken
F .. agent: ToMaster, claim ToMaster, deliberate CheckToken
F .R db: ToMaster, claim ToMaster, deliberate CheckToken
F .R agent: ToMaster, claim ToMaster, deliberate CheckToken
F P. db: ToMaster, claim ToMaster, deliberate CheckToken
F P. agent: ToMaster, claim ToMaster, deliberate CheckToken
F PR db: ToMaster, claim ToMaster, deliberate CheckToken
F PR agent: ToMaster, claim ToMaster, deliberate CheckToken
";
    let mut found = String::new();
    for (letter, identity) in [
        ("S", Identity::Single),
        ("M", Identity::Master),
        ("C", Identity::ClusterAgent),
        ("F", Identity::Follower),
    ] {
        for (has_agent_password, knows_root) in [(false, false), (false, true), (true, false), (true, true)] {
            for (name, header) in [("db", HeaderKind::Database), ("agent", HeaderKind::Agent)] {
                let verdict = |forward, may_claim| {
                    let class = RouteClass::Protected;
                    let header = Some(header);
                    decide(&Facts {
                        class,
                        identity,
                        has_agent_password,
                        knows_root,
                        header,
                        has_session: false,
                        forward,
                        may_claim,
                    })
                };
                let p = if has_agent_password { 'P' } else { '.' };
                let r = if knows_root { 'R' } else { '.' };
                let plain = verdict(Forward::No, false);
                assert_eq!(
                    verdict(Forward::Automatic, false),
                    plain,
                    "an automatic forward is the client's request"
                );
                let (claim, deliberate) = (verdict(Forward::No, true), verdict(Forward::Deliberate, false));
                writeln!(
                    found,
                    "{letter} {p}{r} {name}: {plain:?}, claim {claim:?}, deliberate {deliberate:?}"
                )
                .unwrap();
            }
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn without_a_header_only_open_routes_answer() {
    for identity in Identity::ALL {
        for may_claim in [false, true] {
            let facts = |class| Facts {
                class,
                identity,
                has_agent_password: false,
                knows_root: false,
                header: None,
                has_session: false,
                forward: Forward::No,
                may_claim,
            };
            assert_eq!(decide(&facts(RouteClass::Open)), Verdict::Accept);
            assert_eq!(decide(&facts(RouteClass::Protected)), Verdict::NoHeader);
            assert_eq!(decide(&facts(RouteClass::SetPassword)), Verdict::NoHeader);
            assert_eq!(decide(&facts(RouteClass::BeAdded)), Verdict::NoHeader);
        }
    }
}

/// Who is being added is asked again when its answer was lost; everybody else is asked like on any protected route.
#[test]
fn who_is_being_added_hears_whoever_could_add_it() {
    let verdict = |class, identity, has_agent_password, may_claim| {
        decide(&Facts {
            class,
            identity,
            has_agent_password,
            knows_root: identity != Identity::Single,
            header: Some(HeaderKind::Agent),
            has_session: false,
            forward: Forward::No,
            may_claim,
        })
    };
    let being_added = Identity::ScalingOut;
    assert_eq!(verdict(RouteClass::BeAdded, being_added, false, true), Verdict::Accept);
    assert_eq!(verdict(RouteClass::BeAdded, being_added, false, false), Verdict::Refuse);
    assert_eq!(verdict(RouteClass::BeAdded, being_added, true, true), Verdict::CheckAgentPlainOrSealed);
    assert_eq!(verdict(RouteClass::Protected, being_added, false, true), Verdict::Refuse);
    for identity in Identity::ALL.into_iter().filter(|identity| *identity != being_added) {
        for (has, may) in [(false, false), (false, true), (true, false), (true, true)] {
            let protected = verdict(RouteClass::Protected, identity, has, may);
            assert_eq!(verdict(RouteClass::BeAdded, identity, has, may), protected, "{identity}");
        }
    }
}

/// Everything that the table can be asked.
fn every_fact() -> Vec<Facts> {
    let booleans = [false, true];
    let mut all = Vec::new();
    for class in RouteClass::ALL {
        for identity in Identity::ALL {
            for header in [None, Some(HeaderKind::Database), Some(HeaderKind::Agent)] {
                for forward in [Forward::No, Forward::Automatic, Forward::Deliberate] {
                    for bits in 0..16 {
                        let [has_agent_password, knows_root, has_session, may_claim] =
                            [1, 2, 4, 8].map(|bit| booleans[usize::from(bits & bit != 0)]);
                        all.push(Facts {
                            class,
                            identity,
                            has_agent_password,
                            knows_root,
                            header,
                            has_session,
                            forward,
                            may_claim,
                        });
                    }
                }
            }
        }
    }
    all
}

/// What no row may ever say, over everything that the table can be asked; and no row stands there in vain.
#[test]
fn no_row_of_the_table_opens_what_it_must_not() {
    let all = every_fact();
    assert_eq!(all.len(), RouteClass::ALL.len() * 9 * 3 * 3 * 16);
    for facts in &all {
        let verdict = decide(facts);
        let (is_open, has_header) = (facts.class == RouteClass::Open, facts.header.is_some());
        match verdict {
            Verdict::Accept if is_open => {}
            Verdict::Accept => {
                // Who is being added is still nobody's, whatever password it was handed for later.
                let is_being_added =
                    (facts.class, facts.identity) == (RouteClass::BeAdded, Identity::ScalingOut);
                let is_nobodys = facts.identity == Identity::Single || is_being_added;
                let nobody_has_one = !facts.has_agent_password && (!facts.knows_root || is_nobodys);
                assert!(has_header && facts.may_claim && nobody_has_one, "W15: {facts:?}");
                assert!(is_nobodys || facts.identity == Identity::Master, "{facts:?}");
            }
            Verdict::CheckRoot => {
                assert_eq!(facts.header, Some(HeaderKind::Database), "{facts:?}");
                assert!(!matches!(facts.identity, Identity::Single | Identity::Follower), "{facts:?}");
            }
            Verdict::CheckAgent | Verdict::CheckAgentPlainOrSealed => {
                assert_eq!(facts.header, Some(HeaderKind::Agent), "{facts:?}");
                assert!(facts.has_agent_password, "there is nothing to compare with: {facts:?}");
            }
            Verdict::CheckSession => {
                assert!(facts.has_session && has_header, "{facts:?}");
                assert_eq!(
                    (facts.class, facts.identity),
                    (RouteClass::Protected, Identity::ClusterAgent),
                    "W16: {facts:?}"
                );
            }
            Verdict::CheckToken => assert_eq!(facts.forward, Forward::Deliberate, "{facts:?}"),
            Verdict::ToMaster => assert_eq!(facts.identity, Identity::Follower, "{facts:?}"),
            Verdict::NoHeader => assert!(!has_header, "{facts:?}"),
            Verdict::Refuse => assert!(!is_open, "{facts:?}"),
        }
        assert!(has_header || is_open || matches!(verdict, Verdict::NoHeader | Verdict::Refuse), "{facts:?}");
    }
    for (number, rule) in TABLE.iter().enumerate() {
        let first = |facts: &&Facts| TABLE.iter().position(|rule| rule.matches(facts)) == Some(number);
        assert!(all.iter().any(|facts| first(&facts)), "row {number} decides nothing: {rule:?}");
    }
}

/// A session stands for its password only where that would open, and never for another class of route.
#[test]
fn w16_logging_in_and_setting_a_password_want_a_password() {
    for facts in every_fact().into_iter().filter(|facts| facts.has_session) {
        let without = decide(&Facts { has_session: false, ..facts });
        let is_honoured = facts.class == RouteClass::Protected
            && facts.identity == Identity::ClusterAgent
            && facts.header.is_some();
        let expected = if is_honoured { Verdict::CheckSession } else { without };
        assert_eq!(decide(&facts), expected, "{facts:?}");
    }
}

#[test]
fn what_shows_no_password_opens_what_it_is_for() {
    let opened = |way| RouteClass::ALL.into_iter().filter(|class| opens(way, *class)).collect::<Vec<_>>();
    use RouteClass::{BeAdded, Login, Open, Peer, Protected, SetPassword};
    assert_eq!(opened(Way::Mark), [Open, Protected, Peer]);
    assert_eq!(opened(Way::Socket), [Open, Protected, SetPassword, Login, BeAdded]);
    assert_eq!(opened(Way::V1), [Open, Protected], "neither a session, nor another password, nor agents");
}

/// `security.md` §3.4.4: identity × agent password × header.
#[test]
fn who_may_set_the_agent_password() {
    let verdict = |identity, has_agent_password, header, may_claim| {
        decide(&Facts {
            class: RouteClass::SetPassword,
            identity,
            has_agent_password,
            knows_root: identity != Identity::Single,
            header: Some(header),
            has_session: false,
            forward: Forward::No,
            may_claim,
        })
    };
    use HeaderKind::{Agent, Database};
    for identity in Identity::ALL {
        assert_eq!(verdict(identity, true, Agent, true), Verdict::CheckAgent, "{identity}");
        assert_eq!(verdict(identity, true, Database, true), Verdict::Refuse, "{identity}");
    }
    assert_eq!(verdict(Identity::ClusterAgent, false, Database, false), Verdict::CheckRoot);
    assert_eq!(verdict(Identity::ClusterAgent, false, Agent, true), Verdict::Refuse);
    assert_eq!(verdict(Identity::Single, false, Agent, true), Verdict::Accept);
    assert_eq!(verdict(Identity::Single, false, Database, false), Verdict::Refuse, "W15");
    assert_eq!(
        verdict(Identity::Follower, false, Database, true),
        Verdict::Refuse,
        "H8: no crash, a refusal"
    );
}

#[test]
fn w8_refusals_are_one_and_the_same() {
    let text = |error: crate::error::Error| format!("{:?} {}", error.code, error.text());
    assert_eq!(text(refusal()), text(refusal()));
    assert_eq!(refusal().code.legacy(), Some(10008), "SDKs read the key again and send once");
}

#[test]
fn time_is_bounded_on_both_sides() {
    assert!(check_time(Some(100), 100, 10));
    assert!(check_time(Some(110), 100, 10));
    assert!(!check_time(Some(99), 100, 10));
    assert!(!check_time(Some(111), 100, 10), "W10: no header is valid for ever");
    assert!(!check_time(None, 100, 10), "H13: not even with an empty password");
    assert!(!check_time(Some(i64::MAX), 100, 10));
}

#[test]
fn seen_blocks_expire_and_are_bounded() {
    let mut seen = Seen::default();
    let block = |n: u32| {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        hash
    };
    assert!(seen.admit(&[block(1), block(2)], 100, 50));
    assert!(!seen.admit(&[block(3), block(2)], 100, 50), "one known block is enough");
    assert!(seen.admit(&[block(3)], 100, 100), "what was refused was not remembered");
    assert!(seen.admit(&[block(1)], 200, 101), "expired blocks are forgotten");
    for n in 0..200_000 {
        seen.admit(&[block(1_000 + n)], 1_000, 102);
    }
    assert!(seen.len() <= 100_000);
}

#[test]
fn strangers_are_limited_by_address_and_the_key_by_its_budget() {
    let mut limiter = Limiter::new(3);
    let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    for _ in 0..3 {
        assert!(limiter.may_try(one, 0));
        limiter.failed(one, 0);
    }
    assert!(!limiter.may_try(one, 59) && limiter.may_try(two, 59));
    assert!(limiter.may_try(one, 60));
    // One host's network of IPv6 is one address; its neighbour's, and the own host, are others.
    let ip = |text: &str| -> std::net::IpAddr { text.parse().unwrap() };
    for host in ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::9"] {
        limiter.failed(ip(host), 0);
    }
    assert!(!limiter.may_try(ip("2001:db8:0:1:abcd::"), 1));
    assert!(limiter.may_try(ip("2001:db8:0:2::1"), 1) && limiter.may_try(ip("::1"), 1));
    let mut budget = Budget::new(2);
    assert_eq!([budget.spend(), budget.spend(), budget.spend(), budget.spend()], [false, false, true, false]);
}

#[test]
fn the_vault_opens_its_own_and_nothing_else() {
    let vault = Vault::from_key(&Vault::new_key().unwrap()).unwrap();
    let other = Vault::from_key(&Vault::new_key().unwrap()).unwrap();
    let sealed = vault.seal("a", b"secret").unwrap();
    assert!(!sealed.windows(6).any(|w| w == b"secret"));
    assert_eq!(vault.open("a", &sealed).unwrap().as_slice(), b"secret");
    for (name, value) in [("b", sealed.clone()), ("a", sealed[..10].to_vec()), ("a", vec![])] {
        assert!(vault.open(name, &value).is_err());
    }
    let error = other.open("a", &sealed).unwrap_err().to_string();
    assert!(error.contains("key file was replaced"), "{error}");
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(vault.open("a", &changed).is_err(), "byte {at}");
    }
    assert!(Vault::from_key(&[0; 31]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_opens(password in "\\PC{0,80}", target in "/[a-z/%?=&]{0,200}", body in prop::option::of(prop::collection::vec(any::<u8>(), 0..300))) {
        let key = own_key();
        let public = PublicKey::from_wire(key.public_on_wire()).unwrap();
        let keys = BodyKey::generate().unwrap();
        let sealed = seal_request(DATABASE_HEADER, &public, &Password::new(password.clone()), 77, &target, &keys, body.as_deref()).unwrap();
        let opened = Opened::open(&key, &sealed.header_value).unwrap();
        prop_assert_eq!(opened.auth.expose(), password);
        prop_assert_eq!(opened.ts, Some(77));
        prop_assert_eq!(opened.uri, target);
        let found = sealed.body.and_then(|text| opened.keys.unwrap().open(text.as_bytes()));
        prop_assert_eq!(found, body);
    }

    #[test]
    fn garbage_is_refused_and_never_panics(value in "\\PC{0,400}", blocks in prop::collection::vec(any::<u8>(), 0..1_200)) {
        let key = own_key();
        prop_assert!(Opened::open(&key, &value).is_none());
        prop_assert!(Opened::open(&key, &STANDARD.encode(&blocks)).is_none());
    }

    #[test]
    fn bodies_that_are_not_ours_never_open_into_something(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let keys = BodyKey::generate().unwrap();
        let sealed = keys.seal(&bytes).unwrap();
        prop_assert_eq!(keys.open(sealed.as_bytes()), Some(bytes.clone()));
        prop_assert!(keys.open(&bytes).is_none_or(|plain| plain.is_empty() || bytes.len() >= 16));
    }
}

#[test]
fn oversized_headers_are_refused_before_any_work() {
    let key = own_key();
    for value in ["A".repeat(40_000), STANDARD.encode(vec![0; 256 * 65])] {
        assert!(Opened::open(&key, &value).is_none() && Opened::open_v1(&key, &value, "/").is_none());
    }
}

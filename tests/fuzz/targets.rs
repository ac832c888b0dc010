//! What is fed, and what must hold of it whatever it is.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8Path;
use obpilot::config::{Config, Overrides};
use obpilot::model::{AgentAddr, GenericId, compare_dotted};
use obpilot::secure::{AgentKey, BlockHash, BodyKey, Exchange, Opened, V3Key, V3Mark};
use obpilot::wire::{
    AdmitBody, ClusterConfigBody, InitBody, JoinBody, LogoutBody, ObserverConfigBody, OperatorBody, PeerMark,
    StartBody, StopBody, ZoneStopBody, parse,
};
use serde_json::{Map, Value};

pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) check: fn(&[u8]),
}

pub(crate) const TARGETS: [Target; 11] = [
    Target { name: "header", check: header },
    Target { name: "v1", check: v1 },
    Target { name: "v3", check: v3 },
    Target { name: "answer", check: answer },
    Target { name: "blocks", check: blocks },
    Target { name: "body", check: body },
    Target { name: "config", check: config },
    Target { name: "version", check: version },
    Target { name: "id", check: id },
    Target { name: "mark", check: mark },
    Target { name: "request", check: request },
];

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../proto/vectors/security-vectors.json")).unwrap()
});

/// Made by the Python client of scheme v3.
static V3_VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../proto/vectors/v3.json")).unwrap());

/// Headers of real clients for the key of the vectors, under one scheme.
fn sealed(part: &str) -> Vec<String> {
    let requests = VECTORS[part].as_array().unwrap().iter();
    let ours = requests.filter(|request| request["rsa_key"] == "rsa2048");
    ours.map(|request| request["header_value"].as_str().unwrap().to_owned()).collect()
}

/// Requests of v3 that open, each with what opened it.
static V3_KNOWN: LazyLock<Vec<(&'static Value, V3Key, Exchange)>> = LazyLock::new(|| {
    let text = |value: &'static Value| value.as_str().unwrap();
    let der = STANDARD.decode(text(&V3_VECTORS["key"]["privateKeyPkcs8"])).unwrap();
    let known = V3_VECTORS["accept"].as_array().unwrap().iter().map(|vector| {
        let key = V3Key::from_pkcs8(&der).unwrap();
        let mark = V3Mark::from_text(text(&vector["header"])).unwrap();
        let (_, exchange) = key.open(&mark, text(&vector["method"]), text(&vector["target"])).unwrap();
        (vector, key, exchange)
    });
    known.collect()
});

fn answer_of(vector: &Value) -> Vec<u8> {
    STANDARD.decode(vector["answerWire"].as_str().unwrap()).unwrap()
}

/// Seeds that stand elsewhere already.
pub(crate) fn more_seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "blocks" => {
            let all = sealed("v2_accept").into_iter().chain(sealed("v1_accept"));
            all.map(String::into_bytes).collect()
        }
        "v3" => V3_KNOWN.iter().map(|(vector, ..)| vector["header"].as_str().unwrap().into()).collect(),
        "answer" => V3_KNOWN.iter().map(|(vector, ..)| answer_of(vector)).collect(),
        "config" => vec![include_bytes!("../../config.example.toml").to_vec()],
        _ => Vec::new(),
    }
}

/// Opening a header, once it is decrypted.
fn header(input: &[u8]) {
    let Some(opened) = Opened::from_plain(input, Vec::new()) else { return };
    let text = std::str::from_utf8(input).expect("only text is a header");
    let object: Map<String, Value> = serde_json::from_str(text).expect("only an object is a header");
    // The map keeps the last of equal names: a header has none.
    let names: HashSet<_> = object.keys().map(|name| name.to_ascii_lowercase()).collect();
    assert_eq!(names.len(), object.len(), "names differ by more than their case");
    let member =
        |name: &str| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    assert_eq!(member("auth").and_then(Value::as_str).unwrap_or_default(), opened.auth.expose());
    assert_eq!(member("uri").and_then(Value::as_str).unwrap_or_default(), opened.uri);
    if let Some(ts) = opened.ts {
        let text = member("ts").and_then(Value::as_str).expect("a time is a text");
        assert_eq!(text.trim_start_matches('0'), if ts == 0 { String::new() } else { ts.to_string() });
    }
    let has_keys = member("keys").and_then(Value::as_str).is_some_and(|keys| !keys.is_empty());
    assert_eq!(opened.keys.is_some(), has_keys, "keys that are none make no header");
}

/// The same under scheme v1: a password and a time, and nothing that would be a header of v2 too.
fn v1(input: &[u8]) {
    let Some(opened) = Opened::of_v1(input, Vec::new(), String::new(), "/x") else { return };
    let object: Map<String, Value> = serde_json::from_slice(input).expect("only an object is a header");
    assert!(object.keys().all(|name| matches!(name.as_str(), "password" | "ts")), "{object:?}");
    assert_eq!(object["ts"].as_i64(), opened.ts, "a time is a number");
    let password = object.get("password").and_then(Value::as_str).unwrap_or_default();
    assert_eq!(password, opened.auth.expose());
    assert!(opened.keys.is_none() && opened.session_id.is_empty() && opened.token.is_empty());
    assert!(Opened::from_plain(input, Vec::new()).is_none(), "a header has one scheme");
}

/// A header of scheme v3 as it comes: the very text that was made for a request opens, and no other.
fn v3(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Some(mark) = V3Mark::from_text(&text) else { return };
    for (vector, key, _) in V3_KNOWN.iter() {
        let (method, target) = (vector["method"].as_str().unwrap(), vector["target"].as_str().unwrap());
        if key.open(&mark, method, target).is_some() {
            let is_known = V3_KNOWN.iter().any(|(vector, ..)| vector["header"] == *text);
            assert!(is_known, "a header that nobody has sealed opened");
        }
    }
}

/// An answer under scheme v3, as a client takes it: whole, and the one to its request, or none.
fn answer(input: &[u8]) {
    for (vector, _, exchange) in V3_KNOWN.iter() {
        if let Ok(Some(plain)) = exchange.open_whole(input.to_vec()) {
            let pieces = vector["answer"].as_array().unwrap().iter();
            let whole: String = pieces.map(|piece| piece.as_str().unwrap()).collect();
            assert_eq!(plain, whole.as_bytes());
            assert!(input.starts_with(&answer_of(vector)), "nothing is left out");
        }
    }
}

/// Opening a header as it comes: only what was sealed for us opens, in whatever pieces.
fn blocks(input: &[u8]) {
    static KEY: LazyLock<AgentKey> = LazyLock::new(|| {
        let der = VECTORS["rsa_keys"]["rsa2048"]["private_key_pkcs8_b64"].as_str().unwrap();
        AgentKey::from_pkcs8(&STANDARD.decode(der).unwrap()).unwrap()
    });
    static KNOWN: LazyLock<HashSet<BlockHash>> = LazyLock::new(|| {
        let v2 = sealed("v2_accept").into_iter().map(|value| Opened::open(&KEY, &value));
        let v1 = sealed("v1_accept").into_iter().map(|value| Opened::open_v1(&KEY, &value, "/x"));
        v2.chain(v1).flat_map(|opened| opened.unwrap().blocks).collect()
    });
    let text = String::from_utf8_lossy(input);
    let (v2, v1) = (Opened::open(&KEY, &text), Opened::open_v1(&KEY, &text, "/x"));
    assert!(v2.is_none() || v1.is_none(), "a header has one scheme");
    for opened in [v2, v1].into_iter().flatten() {
        assert!(
            opened.blocks.iter().all(|block| KNOWN.contains(block)),
            "a block that nobody has sealed opened"
        );
        assert!(opened.blocks.len() <= 64);
    }
}

/// Opening a body: what opens is what its keys make of the same text.
fn body(input: &[u8]) {
    static KEYS: LazyLock<Vec<BodyKey>> = LazyLock::new(|| {
        let requests = VECTORS["v2_accept"].as_array().unwrap().iter();
        let keys = requests.filter_map(|request| request["keys_b64"].as_str());
        let header = |keys: &str| serde_json::json!({ "keys": keys }).to_string();
        keys.map(|keys| Opened::from_plain(header(keys).as_bytes(), Vec::new()).unwrap().keys.unwrap())
            .collect()
    });
    for keys in KEYS.iter().take(3) {
        if let Some(plain) = keys.open(input) {
            assert_eq!(keys.seal(&plain).unwrap().as_bytes(), input.trim_ascii(), "one body, one text");
        }
    }
}

/// The configuration file.
fn config(input: &[u8]) {
    let file = Utf8Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz.toml");
    std::fs::write(&file, input).unwrap();
    match Config::load(Some(&file), Overrides::default()) {
        Ok(config) => {
            assert!((1..=64).contains(&config.api.workers) && config.auth.failures_per_minute_max >= 3);
            assert!(config.agent.home.is_none_or(|home| home.is_absolute()));
        }
        Err(error) => assert!(error.to_string().len() > 8, "{error}"),
    }
}

/// Versions: an order, whatever the texts.
fn version(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (left, right) = text.split_once('\n').unwrap_or((&text, "4.5.0.0-1"));
    assert_eq!(compare_dotted(left, right), compare_dotted(right, left).reverse());
    assert_eq!(compare_dotted(left, left), Ordering::Equal);
    assert_eq!(
        compare_dotted(&format!("{left}-x"), left),
        Ordering::Equal,
        "what stands after the dash is no part of it"
    );
}

/// Ids and addresses: what is read is what would be written, and nothing else.
fn id(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(id) = text.parse::<GenericId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(address) = text.parse::<AgentAddr>() {
        assert_eq!(address.to_string().parse::<AgentAddr>().unwrap(), address);
        assert_ne!(address.port, 0);
    }
}

/// The mark of another agent.
fn mark(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Some(mark) = PeerMark::from_text(&text) {
        assert_eq!(PeerMark::from_text(&mark.to_text()), Some(mark));
    }
}

/// Bodies of requests, once they are opened.
fn request(input: &[u8]) {
    macro_rules! each {
        ($($body:ident)*) => {
            $(if let Err(error) = parse::<$body>(input, $body::MEMBERS) {
                assert!(!error.0.is_empty());
            })*
        };
    }
    each!(AdmitBody ClusterConfigBody InitBody JoinBody LogoutBody ObserverConfigBody OperatorBody StartBody StopBody ZoneStopBody);
}

//! Scheme v3 against `proto/vectors/v3.json`, which was made by the Python client, and against everything that is not it.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;
use crate::model::Password;

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../proto/vectors/v3.json")).unwrap());

static KEY: LazyLock<V3Key> =
    LazyLock::new(|| V3Key::from_pkcs8(&bytes(&VECTORS["key"]["privateKeyPkcs8"])).unwrap());

const LIFETIME_MAX: i64 = 3_600;

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(text(value)).unwrap()
}

fn list(name: &str) -> &'static [Value] {
    VECTORS[name].as_array().unwrap()
}

fn accepted(name: &Value) -> &'static Value {
    list("accept").iter().find(|vector| vector["name"] == *name).unwrap()
}

/// As the door does it.
fn open(vector: &Value) -> Option<(Claims, Exchange)> {
    let mark = V3Mark::from_text(text(&vector["header"]))?;
    let opened = KEY.open(&mark, text(&vector["method"]), text(&vector["target"]))?;
    check_time(Some(mark.expires), vector["now"].as_i64().unwrap(), LIFETIME_MAX).then_some(opened)
}

fn whole(exchange: &Exchange, wire: &[u8]) -> Result<Option<Vec<String>>, NotAnAnswer> {
    let (mut came, mut pieces) = (wire.to_vec(), Vec::new());
    loop {
        let Some(piece) = exchange.open_answer(pieces.len() as u64, &mut came)? else { return Ok(None) };
        pieces.push(String::from_utf8(piece.plain).unwrap());
        if piece.is_last {
            return Ok(Some(pieces));
        }
    }
}

#[test]
fn every_vector_opens() {
    assert_eq!(KEY.id(), text(&VECTORS["key"]["keyId"]));
    assert_eq!(KEY.public_on_wire(), text(&VECTORS["key"]["publicKey"]));
    assert_eq!(V3PublicKey::from_wire(KEY.public_on_wire()).unwrap().id(), KEY.id());
    for vector in list("accept") {
        let (claims, exchange) = open(vector).unwrap_or_else(|| panic!("{}", vector["name"]));
        assert_eq!(serde_json::to_value(&claims).unwrap(), vector["claims"], "{}", vector["name"]);
        if let Some(body) = vector["body"].as_str() {
            let opened = exchange.open_body(&bytes(&vector["bodyWire"])).unwrap();
            assert_eq!(opened, body.as_bytes(), "{}", vector["name"]);
        }
        let pieces = whole(&exchange, &bytes(&vector["answerWire"])).unwrap().unwrap();
        assert_eq!(serde_json::json!(pieces), vector["answer"], "{}", vector["name"]);
        let mut sealed = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let is_last = number + 1 == pieces.len();
            sealed.extend(exchange.seal_answer(number as u64, is_last, piece.as_bytes()));
        }
        assert_eq!(sealed, bytes(&vector["answerWire"]), "{}", vector["name"]);
    }
}

#[test]
fn whatever_was_changed_does_not_open() {
    for vector in list("refuse") {
        assert!(open(vector).is_none(), "{}", vector["name"]);
    }
    for vector in list("refuseBody") {
        let (claims, exchange) = open(accepted(&vector["from"])).unwrap();
        let body = bytes(&vector["bodyWire"]);
        let is_open = if claims.has_body { exchange.open_body(&body).is_some() } else { body.is_empty() };
        assert!(!is_open, "{}", vector["name"]);
    }
    for vector in list("refuseAnswer") {
        let (_, exchange) = open(accepted(&vector["from"])).unwrap();
        let pieces = whole(&exchange, &bytes(&vector["answerWire"]));
        assert!(!matches!(pieces, Ok(Some(_))), "{}", vector["name"]);
    }
}

#[test]
fn what_we_seal_opens_for_this_very_request_and_agent() {
    let key = V3PublicKey::from_wire(KEY.public_on_wire()).unwrap();
    let claims = Claims {
        password: Password::new("pw"),
        idempotency_key: Some("once".to_owned()),
        ..Claims::default()
    };
    let sealed = key.seal("POST", "/x?y=1", 1_000, "id-1", claims, Some(b"body")).unwrap();
    let mark = V3Mark::from_text(&sealed.header_value).unwrap();
    assert_eq!((mark.expires, mark.request_id.as_str()), (1_000, "id-1"));
    let (claims, exchange) = KEY.open(&mark, "POST", "/x?y=1").unwrap();
    assert_eq!((claims.password.expose(), claims.has_body), ("pw", true));
    assert_eq!(claims.idempotency_key.as_deref(), Some("once"));
    assert_eq!(exchange.open_body(&sealed.body.unwrap()).unwrap(), b"body");
    let answer = exchange.seal_answer(0, true, b"answer");
    assert_eq!(whole(&sealed.exchange, &answer).unwrap().unwrap(), ["answer"]);
    assert!(KEY.open(&mark, "POST", "/x?y=2").is_none() && KEY.open(&mark, "GET", "/x?y=1").is_none());
    assert!(V3Key::generate().unwrap().open(&mark, "POST", "/x?y=1").is_none());
    // Two requests have nothing in common, but the id by which a repetition is found.
    let again = key.seal("POST", "/x?y=1", 1_000, "id-1", Claims::default(), None).unwrap();
    assert_ne!(again.header_value, sealed.header_value);
    assert_eq!(V3Mark::from_text(&again.header_value).unwrap().once(), mark.once());
    let other = key.seal("POST", "/x?y=1", 1_000, "id-2", Claims::default(), None).unwrap();
    assert_ne!(V3Mark::from_text(&other.header_value).unwrap().once(), mark.once());
}

#[test]
fn an_answer_that_has_not_come_is_waited_for() {
    let vector = accepted(&"session-and-stream".into());
    let (_, exchange) = open(vector).unwrap();
    let wire = bytes(&vector["answerWire"]);
    let first = 5 + u32::from_be_bytes([wire[1], wire[2], wire[3], wire[4]]) as usize;
    for came in 0..first {
        assert_eq!(exchange.open_answer(0, &mut wire[..came].to_vec()), Ok(None), "{came}");
    }
    let mut came = wire[..first].to_vec();
    assert!(exchange.open_answer(0, &mut came).unwrap().is_some());
    assert!(came.is_empty());
    let mut monstrous = vec![0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(exchange.open_answer(0, &mut monstrous), Err(NotAnAnswer));
}

//! Headers as anybody may make them: honest, late, foreign, torn.

use aws_lc_rs::rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obpilot::model::Password;
use obpilot::secure::{
    BodyKey, Claims, Exchange, PublicKey, V3_CONTENT_TYPE, V3PublicKey, fresh_request_id, seal_request,
};
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::pkcs8::EncodePublicKey as _;
use serde_json::{Value, json};

use crate::rig::{Answer, Door};

/// A session id that nobody has made.
pub(crate) const NO_SESSION: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub(crate) fn now() -> i64 {
    obpilot::clock::system().now_secs()
}

/// Seals with one agent's key, quickly.
pub(crate) struct Forge {
    key: Pkcs1PublicEncryptingKey,
    wire: String,
    v3: V3PublicKey,
    pub(crate) door: Door,
}

impl Forge {
    pub(crate) async fn of(address: &str) -> Self {
        let door = Door::open(address);
        let secret = door.get("/api/v1/secret").await.data();
        let v3 = secret["authSchemes"]["v3"]["publicKey"].as_str().unwrap();
        Self::with_keys(door, secret["public_key"].as_str().unwrap(), v3)
    }

    /// With the keys of schemes v2 and v3, as they go on the wire.
    pub(crate) fn with_keys(door: Door, wire: &str, v3: &str) -> Self {
        let der = STANDARD.decode(wire).unwrap();
        let spki = rsa::RsaPublicKey::from_pkcs1_der(&der).unwrap().to_public_key_der().unwrap();
        let key = PublicEncryptingKey::from_der(spki.as_bytes()).unwrap();
        Self {
            key: Pkcs1PublicEncryptingKey::new(key).unwrap(),
            wire: wire.to_owned(),
            v3: V3PublicKey::from_wire(v3).unwrap(),
            door,
        }
    }

    /// The blocks of a text, each as full as it can be.
    pub(crate) fn blocks(&self, text: &[u8]) -> Vec<Vec<u8>> {
        let size = self.key.key_size_bytes();
        let seal = |part: &[u8]| {
            let mut block = vec![0; size];
            self.key.encrypt(part, &mut block).unwrap();
            block
        };
        text.chunks(size - 11).map(seal).collect()
    }

    pub(crate) fn seal(&self, header: &Value) -> String {
        STANDARD.encode(self.blocks(header.to_string().as_bytes()).concat())
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, String)],
        body: Option<&str>,
    ) -> Answer {
        self.send_under(method, target, headers, body, None).await.0
    }

    /// The same under scheme v3, whose exchange opens the answer; and whether it was sealed.
    pub(crate) async fn send_under(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, String)],
        body: Option<&str>,
        exchange: Option<&Exchange>,
    ) -> (Answer, bool) {
        let mut request = self.door.request(method, target, body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.unwrap_or_else(|e| panic!("{method} {target}: {e:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let is_sealed = headers.get("content-type").is_some_and(|kind| kind == V3_CONTENT_TYPE);
        // A stream goes on: that it began is enough.
        if status < 400 && target.ends_with("/events") {
            return (Answer { status, headers, text: "{}".to_owned() }, is_sealed);
        }
        let came = response.bytes().await.unwrap().to_vec();
        let Some(exchange) = exchange.filter(|_| is_sealed) else {
            return (Answer { status, headers, text: String::from_utf8(came).unwrap() }, is_sealed);
        };
        let whole = exchange.open_whole(came).unwrap().expect("the answer is whole");
        let mut answer = Answer { status, headers, text: String::from_utf8(whole).unwrap() };
        answer.status =
            answer.json()["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap();
        (answer, true)
    }

    /// A request under scheme v3 for one target, and what opens its answer. A body is to follow whatever it is.
    pub(crate) fn seal_v3(&self, about: (&str, &str), expires: i64, claims: Claims) -> (String, Exchange) {
        let (method, target) = about;
        let body = (method != "GET").then_some(&b"x"[..]);
        let id = fresh_request_id().unwrap();
        let sealed = self.v3.seal(method, target, expires, &id, claims, body).unwrap();
        (sealed.header_value, sealed.exchange)
    }

    /// An honest request with nothing in its body, by a password or a session.
    pub(crate) async fn ask(&self, method: &str, target: &str, name: &str, shown: Value) -> Answer {
        let value = self.seal(&honest(target, shown));
        self.send(method, target, &[(name, value)], None).await
    }

    /// Logs in; the id of the session, or the refusal.
    pub(crate) async fn login(&self, name: &'static str, password: &str) -> Result<String, Answer> {
        const LOGIN: &str = "/api/v1/login";
        let key = PublicKey::from_wire(&self.wire).unwrap();
        let (keys, password) = (BodyKey::generate().unwrap(), Password::new(password));
        let sealed = seal_request(name, &key, &password, now() + 60, LOGIN, &keys, None).unwrap();
        let answer = self.send("POST", LOGIN, &[(name, sealed.header_value)], None).await;
        if answer.status != 200 {
            return Err(answer);
        }
        let id = keys.open(answer.data().as_str().unwrap().as_bytes()).expect("sealed under our keys");
        Ok(String::from_utf8(id).unwrap())
    }
}

/// A header that is on time and for its target.
pub(crate) fn honest(target: &str, shown: Value) -> Value {
    let mut header = json!({ "auth": "", "ts": (now() + 60).to_string(), "uri": target });
    for (member, value) in shown.as_object().unwrap() {
        header[member] = value.clone();
    }
    header
}

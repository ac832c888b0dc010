//! Headers as anybody may make them: honest, late, foreign, torn.

use aws_lc_rs::rsa::{Pkcs1PublicEncryptingKey, PublicEncryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obpilot::model::Password;
use obpilot::secure::{BodyKey, PublicKey, seal_request};
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
    pub(crate) door: Door,
}

impl Forge {
    pub(crate) async fn of(address: &str) -> Self {
        let door = Door::open(address);
        let secret = door.get("/api/v1/secret").await.data();
        Self::with_key(door, secret["public_key"].as_str().unwrap())
    }

    pub(crate) fn with_key(door: Door, wire: &str) -> Self {
        let der = STANDARD.decode(wire).unwrap();
        let spki = rsa::RsaPublicKey::from_pkcs1_der(&der).unwrap().to_public_key_der().unwrap();
        let key = PublicEncryptingKey::from_der(spki.as_bytes()).unwrap();
        Self { key: Pkcs1PublicEncryptingKey::new(key).unwrap(), wire: wire.to_owned(), door }
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
        let mut request = self.door.request(method, target, body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.unwrap_or_else(|e| panic!("{method} {target}: {e:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // A stream goes on: that it began is enough.
        let text = if status < 400 && target.ends_with("/events") {
            "{}".to_owned()
        } else {
            response.text().await.unwrap()
        };
        Answer { status, headers, text }
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

//! Requests sealed beforehand: each header is accepted once, so there is one for every request. And the bare private-key
//! operations that the agent has to do for them.

use std::time::Duration;

use aws_lc_rs::cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obpilot::model::Password;
use obpilot::secure::{BodyKey, Claims, PublicKey, V3_HEADER, V3PublicKey, fresh_request_id, seal_request};
use serde_json::json;

use crate::rig::{Door, PASSWORD};

/// Bytes that an SDK puts into one block, whatever the size of the key.
const SDK_CHUNK: usize = 53;

const BLOCK_BYTES: usize = 256;

/// How a request is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// v2 as SDKs seal it.
    Sdk,
    /// v2 with as few blocks as can be.
    Full,
    V3,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) body: Option<String>,
    pub(super) idempotency_key: Option<String>,
}

impl Asked {
    pub(super) fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), body: None, idempotency_key: None }
    }
}

/// Requests as bytes, and what each costs bare.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) requests: Vec<Vec<u8>>,
    /// Private-key operations per request.
    pub(super) operations: usize,
}

/// The public keys of an agent.
#[derive(Debug)]
pub(super) struct Keys {
    v2: PublicKey,
    v2_raw: Pkcs1PublicEncryptingKey,
    v3: V3PublicKey,
}

impl Keys {
    pub(super) async fn of(door: &Door) -> Self {
        let secret = door.get("/api/v1/secret").await.data();
        let v2 = PublicKey::from_wire(secret["public_key"].as_str().unwrap()).unwrap();
        let v3 = secret["authSchemes"]["v3"]["publicKey"].as_str().unwrap();
        // On the wire it is PKCS#1; aws-lc-rs reads that as well.
        let raw = STANDARD.decode(secret["public_key"].as_str().unwrap()).unwrap();
        let raw = PublicEncryptingKey::from_der(&spki(&raw)).unwrap();
        let v2_raw = Pkcs1PublicEncryptingKey::new(raw).unwrap();
        Self { v2, v2_raw, v3: V3PublicKey::from_wire(v3).unwrap() }
    }

    /// So many of one.
    pub(super) fn seal(&self, scheme: Scheme, asked: &Asked, count: usize) -> Sealed {
        let mut operations = 0;
        let mut one = |_| {
            let (request, blocks) = match scheme {
                Scheme::Sdk => self.sdk(asked),
                Scheme::Full => self.full(asked),
                Scheme::V3 => self.v3(asked),
            };
            operations = operations.max(blocks);
            request
        };
        let requests = (0..count).map(&mut one).collect();
        Sealed { requests, operations }
    }

    fn full(&self, asked: &Asked) -> (Vec<u8>, usize) {
        let keys = BodyKey::generate().unwrap();
        let (password, body) = (Password::new(PASSWORD), asked.body.as_deref().map(str::as_bytes));
        let sealed =
            seal_request("X-OCS-Header", &self.v2, &password, expiry(), &asked.target, &keys, body).unwrap();
        let blocks = STANDARD.decode(&sealed.header_value).unwrap().len() / BLOCK_BYTES;
        let header = ("X-OCS-Header", sealed.header_value.as_str());
        (
            render(
                asked,
                header,
                asked.idempotency_key.as_deref(),
                sealed.body.as_deref().map(str::as_bytes),
            ),
            blocks,
        )
    }

    /// The same text in smaller pieces.
    fn sdk(&self, asked: &Asked) -> (Vec<u8>, usize) {
        let mut keys = [0; 32];
        aws_lc_rs::rand::fill(&mut keys).unwrap();
        let text = json!({ "auth": PASSWORD, "ts": expiry().to_string(), "uri": asked.target, "keys": STANDARD.encode(keys) });
        let mut sealed = Vec::new();
        for chunk in text.to_string().as_bytes().chunks(SDK_CHUNK) {
            let mut block = [0; BLOCK_BYTES];
            sealed.extend_from_slice(self.v2_raw.encrypt(chunk, &mut block).unwrap());
        }
        let blocks = sealed.len() / BLOCK_BYTES;
        let header = STANDARD.encode(sealed);
        let body = asked.body.as_ref().map(|body| aes(&keys, body.as_bytes()));
        let key = asked.idempotency_key.as_deref();
        (render(asked, ("X-OCS-Header", &header), key, body.as_deref().map(str::as_bytes)), blocks)
    }

    fn v3(&self, asked: &Asked) -> (Vec<u8>, usize) {
        let idempotency_key = asked.idempotency_key.clone();
        let claims = Claims { password: Password::new(PASSWORD), idempotency_key, ..Claims::default() };
        let (id, body) = (fresh_request_id().unwrap(), asked.body.as_deref().map(str::as_bytes));
        let sealed = self.v3.seal(asked.method, &asked.target, expiry(), &id, claims, body).unwrap();
        (render(asked, (V3_HEADER, &sealed.header_value), None, sealed.body.as_deref()), 1)
    }
}

/// Nothing that was sealed beforehand expires while it is measured.
fn expiry() -> i64 {
    obpilot::clock::system().now_secs() + 3_000
}

fn aes(keys: &[u8; 32], plain: &[u8]) -> String {
    let (key, iv) = keys.split_at(16);
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_128, key).unwrap()).unwrap();
    let mut buffer = plain.to_vec();
    let iv: [u8; 16] = iv.try_into().unwrap();
    key.less_safe_encrypt(&mut buffer, EncryptionContext::Iv128(iv.into())).unwrap();
    STANDARD.encode(buffer)
}

fn render(asked: &Asked, (name, value): (&str, &str), key: Option<&str>, body: Option<&[u8]>) -> Vec<u8> {
    let Asked { method, target, .. } = asked;
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: agent\r\n{name}: {value}\r\n");
    if let Some(key) = key {
        head += &format!("Idempotency-Key: {key}\r\n");
    }
    if let Some(body) = body {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    let mut request = (head + "\r\n").into_bytes();
    request.extend_from_slice(body.unwrap_or_default());
    request
}

/// PKCS#1 as SubjectPublicKeyInfo: what stands before the key never changes for 2048 bits.
fn spki(pkcs1: &[u8]) -> Vec<u8> {
    let mut der =
        vec![0x30, 0x82, 0, 0, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0, 3];
    let number = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    der.extend_from_slice(&[0x82]);
    der.extend_from_slice(&number(pkcs1.len() + 1));
    der.push(0);
    der.extend_from_slice(pkcs1);
    let length = number(der.len() - 4);
    der[2..4].copy_from_slice(&length);
    der
}

/// A pair of 2048 bits, and something sealed for it under either scheme.
pub(super) struct Bare {
    pkcs1: Pkcs1PrivateDecryptingKey,
    oaep: OaepPrivateDecryptingKey,
    block: Vec<u8>,
    sealed_key: Vec<u8>,
}

impl Bare {
    pub(super) fn new() -> Self {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let (mut block, mut sealed_key) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
        let public = Pkcs1PublicEncryptingKey::new(key.public_key()).unwrap();
        public.encrypt(&[7; SDK_CHUNK], &mut block).unwrap();
        let public = OaepPublicEncryptingKey::new(key.public_key()).unwrap();
        public.encrypt(&OAEP_SHA256_MGF1SHA256, &[7; 32], &mut sealed_key, None).unwrap();
        let oaep = OaepPrivateDecryptingKey::new(key.clone()).unwrap();
        Self { pkcs1: Pkcs1PrivateDecryptingKey::new(key).unwrap(), oaep, block, sealed_key }
    }

    /// One operation of a scheme.
    pub(super) fn open(&self, scheme: Scheme) {
        let mut plain = [0; BLOCK_BYTES];
        let length = match scheme {
            Scheme::Sdk | Scheme::Full => self.pkcs1.decrypt(&self.block, &mut plain).unwrap().len(),
            Scheme::V3 => {
                let sealed = &self.sealed_key;
                self.oaep.decrypt(&OAEP_SHA256_MGF1SHA256, sealed, &mut plain, None).unwrap().len()
            }
        };
        assert!(length == SDK_CHUNK || length == 32);
    }

    /// CPU time of one, over so many on this thread.
    pub(super) fn cpu(&self, scheme: Scheme, count: usize) -> Duration {
        let begun = thread_cpu();
        for _ in 0..count {
            self.open(scheme);
        }
        (thread_cpu() - begun) / u32::try_from(count).unwrap()
    }

    /// Operations in a second by so many threads at once, over so many of them.
    pub(super) fn rate(&self, scheme: Scheme, threads: usize, count: usize) -> f64 {
        let begun = std::time::Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..count / threads).for_each(|_| self.open(scheme)));
            }
        });
        count as f64 / begun.elapsed().as_secs_f64()
    }
}

/// Time that this thread was on a CPU.
fn thread_cpu() -> Duration {
    // The kernel counts when a thread gives its CPU up.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

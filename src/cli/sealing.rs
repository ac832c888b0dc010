//! How a request over TCP is sealed, and its answer opened: scheme v3 where the agent has it, else v2 (an OBShell agent).

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};

use super::exit::{Ending, Exit};
use crate::model::Password;
use crate::secure::{
    BodyKey, Claims, DATABASE_HEADER, Exchange, PublicKey, SealedRequest, V3_CONTENT_TYPE, V3_HEADER,
    V3PublicKey, fresh_request_id, seal_request,
};
use crate::wire::Secret;

/// How long a sealed header is valid; clocks of two hosts may differ by less.
const HEADER_LIFETIME_SECS: i64 = 60;

/// The agent's key, by scheme.
#[derive(Debug)]
enum Key {
    V2(PublicKey),
    V3(V3PublicKey),
}

/// A way to be let in.
#[derive(Debug)]
pub(super) struct Sealing {
    key: Key,
    password: Password,
}

fn broken(error: impl std::fmt::Display) -> Ending {
    Ending::new(Exit::Failed, format!("the request cannot be sealed: {error}"))
}

impl Sealing {
    /// # Errors
    /// When what the agent shows as its key cannot be used.
    pub(super) fn new(place: &str, secret: &Secret, password: Password) -> Result<Self, Ending> {
        let unusable = |e: &dyn std::fmt::Display| {
            Ending::new(Exit::Failed, format!("the key of {place} cannot be used: {e}"))
        };
        let key = match &secret.auth_schemes {
            Some(schemes) => {
                let key = V3PublicKey::from_wire(&schemes.v3.public_key).map_err(|e| unusable(&e))?;
                if key.id() != schemes.v3.key_id {
                    return Err(unusable(&"it does not have the id that it is shown with"));
                }
                Key::V3(key)
            }
            None => Key::V2(PublicKey::from_wire(&secret.public_key).map_err(|e| unusable(&e))?),
        };
        Ok(Self { key, password })
    }

    /// Adds header and body, and tells what opens the answer.
    ///
    /// # Errors
    /// When the key is unusable.
    pub(super) fn seal(
        &self,
        request: RequestBuilder,
        method: &Method,
        target: &str,
        body: Option<&[u8]>,
    ) -> Result<(RequestBuilder, Option<Exchange>), Ending> {
        let expires = crate::clock::system().now_secs() + HEADER_LIFETIME_SECS;
        let (name, value, body, exchange) = match &self.key {
            Key::V2(key) => {
                let keys = BodyKey::generate().map_err(broken)?;
                let sealed = seal_request(DATABASE_HEADER, key, &self.password, expires, target, &keys, body);
                let SealedRequest { header_name, header_value, body } = sealed.map_err(broken)?;
                (header_name, header_value, body.map(String::into_bytes), None)
            }
            Key::V3(key) => {
                let claims = Claims { password: self.password.clone(), ..Claims::default() };
                let id = fresh_request_id().map_err(broken)?;
                let sealed = key.seal(method.as_str(), target, expires, &id, claims, body).map_err(broken)?;
                (V3_HEADER, sealed.header_value, sealed.body, Some(sealed.exchange))
            }
        };
        let value = HeaderValue::from_str(&value).map_err(broken)?;
        let request = request.header(name, value).header(CONTENT_TYPE, "application/json");
        let request = match body {
            Some(body) => request.body(body),
            None => request,
        };
        Ok((request, exchange))
    }
}

/// An answer as it comes, opened where it is sealed.
pub(super) struct Incoming {
    chunks: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    exchange: Option<Exchange>,
    number: u64,
    came: Vec<u8>,
    is_whole: bool,
}

/// Why an answer does not go on.
#[derive(Debug)]
pub(super) enum Cut {
    /// The connection has ended before the answer.
    Connection(Option<reqwest::Error>),
    /// Somebody else has answered.
    NotAnAnswer,
}

impl Incoming {
    pub(super) fn new(response: Response, exchange: Option<Exchange>) -> Self {
        // Refused before it knew us: then nothing is sealed.
        let is_sealed = response.headers().get(CONTENT_TYPE).is_some_and(|is| is == V3_CONTENT_TYPE);
        let exchange = exchange.filter(|_| is_sealed || response.status().is_success());
        Self {
            chunks: response.bytes_stream().map(|chunk| chunk.map(Into::into)).boxed(),
            exchange,
            number: 0,
            came: Vec::new(),
            is_whole: false,
        }
    }

    /// What has come next; `None` at the end of the answer.
    pub(super) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        loop {
            if self.is_whole {
                return Ok(None);
            }
            if let Some(exchange) = &self.exchange
                && let Some(piece) =
                    exchange.open_answer(self.number, &mut self.came).map_err(|_| Cut::NotAnAnswer)?
            {
                (self.number, self.is_whole) = (self.number + 1, piece.is_last);
                return Ok(Some(piece.plain));
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) if self.exchange.is_some() => self.came.extend_from_slice(&chunk),
                Some(Ok(chunk)) => return Ok(Some(chunk)),
                None if self.exchange.is_none() => self.is_whole = true,
                Some(Err(error)) => return Err(Cut::Connection(Some(error))),
                None => return Err(Cut::Connection(None)),
            }
        }
    }

    /// The whole of it.
    pub(super) async fn whole(mut self) -> Result<Vec<u8>, Cut> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }
}

//! The envelope around every answer of v2; a refusal becomes status, code and text here and nowhere else.

use std::fmt;
use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError, web};
use serde::Serialize;
use serde_json::Value;

use super::error::{Concern, OcpCode, Refusal, code_of};
use super::is_ours;
use crate::api::door::Door;
use crate::api::meta::{Meta, Peer};
use crate::clock;
use crate::error::Error;
use crate::model::in_millis;
use crate::wire::v2::{EnvelopeV2, ErrorV2};

/// A handler's result; becomes an envelope with the request's own trace and time.
#[derive(Debug)]
pub(in crate::api) struct Outcome<T>(Result<Option<T>, Refusal>);

impl<T> Outcome<T> {
    pub(in crate::api) fn data(result: Result<T, Refusal>) -> Self {
        Self(result.map(Some))
    }
}

impl Outcome<Value> {
    /// Done, and there is nothing to tell.
    pub(in crate::api) fn nothing(result: Result<(), Refusal>) -> Self {
        Self(result.map(|()| None))
    }
}

impl<T: Serialize> Responder for Outcome<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let meta = Meta::of(request);
        match self.0 {
            Ok(data) => render(&meta, StatusCode::OK, data, None),
            Err(refusal) => failure(&meta, &refusal),
        }
    }
}

/// What ends a request before its handler.
#[derive(Debug)]
pub(in crate::api) struct Refused {
    pub(in crate::api) refusal: Refusal,
    pub(in crate::api) meta: Rc<Meta>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.error.fmt(f)
    }
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        status_of(self.refusal.code)
    }

    fn error_response(&self) -> HttpResponse {
        failure(&self.meta, &self.refusal)
    }
}

fn status_of(code: OcpCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The envelope of a refusal. What only helps us goes to the log, once, here.
pub(in crate::api) fn failure(meta: &Meta, refusal: &Refusal) -> HttpResponse {
    answer(meta, refusal.code, &refusal.error)
}

/// Of what happened before anybody asked what the request is about.
pub(in crate::api) fn failed(meta: &Meta, error: &Error) -> HttpResponse {
    answer(meta, code_of(error.code, Concern::None), error)
}

fn answer(meta: &Meta, code: OcpCode, error: &Error) -> HttpResponse {
    let status = status_of(code);
    if status.is_server_error() {
        tracing::warn!(trace_id = %meta.trace_id, code = code.name(), cause = %error.chain(), "a request failed");
    } else {
        tracing::debug!(trace_id = %meta.trace_id, code = code.name(), cause = %error.chain(), "a request was refused");
    }
    let message = if meta.is_chinese {
        format!("{}: {}", code.title_zh(), error.text())
    } else {
        error.text().to_owned()
    };
    let shown = ErrorV2 {
        code: code.name().to_owned(),
        message,
        err_code: error.code.name().to_owned(),
        details: error.data().cloned(),
    };
    let mut response = render::<Value>(meta, status, None, Some(shown));
    // For the audit trail.
    response.extensions_mut().insert(error.code);
    let headers = response.headers_mut();
    if code == OcpCode::Throttled {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("60"));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"obpilot\", charset=\"UTF-8\""));
    }
    response
}

/// On every answer of v2 over TCP: how often its source may still fail (`ocp-v2.md` §4.4).
pub(in crate::api) fn with_allowance<B>(mut response: ServiceResponse<B>) -> ServiceResponse<B> {
    let meta = Meta::of(response.request());
    let Peer::Tcp(source) = meta.peer else { return response };
    let Some(door) = response.request().app_data::<web::Data<Door>>().filter(|_| is_ours(&meta.target))
    else {
        return response;
    };
    let (most, left, seconds) = door.allowance(source);
    for (name, value) in [
        ("ratelimit-limit", i64::from(most)),
        ("ratelimit-remaining", i64::from(left)),
        ("ratelimit-reset", seconds),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
    response
}

fn render<T: Serialize>(
    meta: &Meta,
    status: StatusCode,
    data: Option<T>,
    error: Option<ErrorV2>,
) -> HttpResponse {
    // OCP sends none with a throttled answer.
    let trace_id =
        if status == StatusCode::TOO_MANY_REQUESTS { String::new() } else { meta.trace_id.clone() };
    HttpResponse::build(status).json(EnvelopeV2 {
        data,
        successful: error.is_none(),
        timestamp: in_millis(clock::system().now()),
        duration: u64::try_from(meta.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        status: status.as_u16(),
        trace_id,
        server: meta.own.to_string(),
        error,
    })
}

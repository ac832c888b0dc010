//! The envelope around every answer; an error becomes status, code and text here and nowhere else.

use std::fmt;
use std::rc::Rc;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use serde::Serialize;
use serde_json::Value;

use super::meta::Meta;
use super::v2;
use crate::clock;
use crate::error::{Code, Error};
use crate::model::on_wire;
use crate::peer::Forwarded;
use crate::secure::PEER_HEADER;
use crate::wire::{ApiError, Contents, Envelope, PeerMark};

/// What a handler answers.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Data(T),
    /// 200 without `data`.
    Nothing,
    /// 204: there was nothing to do.
    NoContent,
}

/// A handler's result; becomes an envelope with the request's own trace and time.
#[derive(Debug)]
pub(super) struct Outcome<T>(pub(super) Result<Answer<T>, Error>);

impl<T> Outcome<T> {
    pub(super) fn data(result: Result<T, Error>) -> Self {
        Self(result.map(Answer::Data))
    }

    /// There was nothing to do.
    pub(super) fn no_content() -> Self {
        Self(Ok(Answer::NoContent))
    }
}

impl Outcome<Value> {
    pub(super) fn nothing(result: Result<(), Error>) -> Self {
        Self(result.map(|()| Answer::Nothing))
    }
}

impl<T> Outcome<Contents<T>> {
    pub(super) fn list(result: Result<Vec<T>, Error>) -> Self {
        Self(result.map(|contents| Answer::Data(Contents { contents })))
    }
}

impl<T: Serialize> Responder for Outcome<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        let meta = Meta::of(request);
        match self.0 {
            Ok(Answer::Data(data)) => render(&meta, StatusCode::OK, Some(data), None),
            Ok(Answer::Nothing) => render::<Value>(&meta, StatusCode::OK, None, None),
            Ok(Answer::NoContent) => HttpResponse::NoContent().finish(),
            Err(error) => failure(&meta, &error),
        }
    }
}

/// What ends a request before its handler: an error, or the answer of the agent that it was handed to.
#[derive(Debug)]
pub(super) enum Failure {
    Error(Error, Rc<Meta>),
    /// A peer whose session we have forgotten: it begins a new one and sends again.
    UnknownSession(Error, Rc<Meta>),
    Answered(Box<Forwarded>),
}

impl Failure {
    pub(super) fn new(error: Error, meta: Rc<Meta>) -> Self {
        Self::Error(error, meta)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error, _) | Self::UnknownSession(error, _) => error.fmt(f),
            Self::Answered(answer) => write!(f, "answered elsewhere with {}", answer.status),
        }
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Error(error, _) | Self::UnknownSession(error, _) => status_of(error),
            Self::Answered(answer) => StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY),
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Error(error, meta) => failure(meta, error),
            Self::UnknownSession(error, meta) => {
                let mut response = failure(meta, error);
                let name = HeaderName::from_static(PEER_HEADER);
                response.headers_mut().insert(name, HeaderValue::from_static(PeerMark::UNKNOWN_SESSION));
                response
            }
            Self::Answered(answer) => {
                let mut response = HttpResponse::build(self.status_code());
                response.content_type(answer.content_type.as_str()).body(answer.body.clone())
            }
        }
    }
}

fn status_of(error: &Error) -> StatusCode {
    StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The envelope of an error. What only helps us goes to the log, once, here. A request to v2 that never came to its door gets
/// the envelope of v2.
pub(super) fn failure(meta: &Meta, error: &Error) -> HttpResponse {
    if v2::is_ours(&meta.target) {
        return v2::failed(meta, error);
    }
    let status = status_of(error);
    if status.is_server_error() {
        tracing::warn!(trace_id = %meta.trace_id, code = error.code.name(), cause = %error.chain(), "a request failed");
    } else {
        tracing::debug!(trace_id = %meta.trace_id, code = error.code.name(), cause = %error.chain(), "a request was refused");
    }
    let message = if meta.is_chinese {
        format!("{}: {}", error.code.title_zh(), error.text())
    } else {
        error.text().to_owned()
    };
    let api_error = ApiError { code: error.code.legacy(), err_code: error.code.name().to_owned(), message };
    let mut response = render(meta, status, error.data().cloned(), Some(api_error));
    // For the audit trail.
    response.extensions_mut().insert(error.code);
    if error.code == Code::TooManyRequests {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
    }
    response
}

fn render<T: Serialize>(
    meta: &Meta,
    status: StatusCode,
    data: Option<T>,
    error: Option<ApiError>,
) -> HttpResponse {
    HttpResponse::build(status).json(envelope(meta, status, data, error))
}

fn envelope<T>(meta: &Meta, status: StatusCode, data: Option<T>, error: Option<ApiError>) -> Envelope<T> {
    Envelope {
        successful: error.is_none(),
        timestamp: on_wire(clock::system().now()),
        duration: u64::try_from(meta.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        status: status.as_u16(),
        trace_id: meta.trace_id.clone(),
        data,
        error,
    }
}

/// "There was nothing to do" as a body, for an answer that cannot do without one.
pub(super) fn no_content(meta: &Meta) -> String {
    serde_json::to_string(&envelope::<Value>(meta, StatusCode::NO_CONTENT, None, None)).unwrap_or_default()
}

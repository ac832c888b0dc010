//! Answers to requests under scheme v3: sealed on their way out, piece by piece, whatever made them.
//!
//! Invariant: from the moment a caller is known by scheme v3, nothing of the answer leaves in clear but status and trace. An
//! answer without a body becomes one with the status inside, because an empty one could be anybody's.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use actix_web::web::Bytes;

use super::meta::Meta;
use super::reply::no_content;
use crate::secure::{Exchange, V3_CONTENT_TYPE};

/// Left in a request's extensions by the door: its answer is sealed with this.
pub(super) struct Answering(pub(super) Exchange);

/// Seals the answer where the door has asked for that.
pub(super) fn sealed<B: MessageBody + 'static>(response: ServiceResponse<B>) -> ServiceResponse<BoxBody> {
    let exchange = response.request().extensions().get::<Answering>().map(|answering| answering.0.clone());
    let mut response = response.map_into_boxed_body();
    let Some(exchange) = exchange else { return response };
    if response.status() == StatusCode::NO_CONTENT {
        let nothing = no_content(&Meta::of(response.request()));
        *response.response_mut().status_mut() = StatusCode::OK;
        response = response.map_body(|_, _| BoxBody::new(nothing));
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(V3_CONTENT_TYPE));
    headers.remove(CONTENT_LENGTH);
    response.map_body(|_, body| BoxBody::new(Pieces { body, exchange, number: 0, came: 0, has_ended: false }))
}

/// A body in sealed pieces.
struct Pieces {
    body: BoxBody,
    exchange: Exchange,
    number: u64,
    /// Bytes of the body that have come.
    came: u64,
    has_ended: bool,
}

impl Pieces {
    fn piece(&mut self, is_last: bool, plain: &[u8]) -> Bytes {
        let piece = self.exchange.seal_answer(self.number, is_last, plain);
        self.number += 1;
        self.has_ended = is_last;
        piece.into()
    }
}

impl MessageBody for Pieces {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let size = self.body.size();
        let chunk = match ready!(Pin::new(&mut self.body).poll_next(cx)) {
            None => return Poll::Ready(Some(Ok(self.piece(true, &[])))),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(chunk)) => chunk,
        };
        self.came += chunk.len() as u64;
        let is_last = matches!(size, BodySize::Sized(whole) if whole == self.came);
        Poll::Ready(Some(Ok(self.piece(is_last, &chunk))))
    }
}

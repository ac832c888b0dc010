//! The graceful end: requests in flight get their answers, connections that only wait for a next request are let go.
//!
//! actix-web waits for *connections*, and looks once a second. A client that keeps one open, as every SDK and every
//! HTTP/2 client does, would hold the agent for the whole grace, though nobody is owed anything. So requests are counted.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::web::Bytes;
use tokio::sync::watch;

/// What a worker needs to hand the last bytes of an answer to the kernel: they are queued when the answer is dropped.
const LAST_BYTES: Duration = Duration::from_millis(50);

/// How many requests are being answered. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct InFlight(watch::Sender<usize>);

impl InFlight {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Counts a request until its ticket is dropped.
    pub(super) fn enter(&self) -> Ticket {
        self.0.send_modify(|count| *count += 1);
        Ticket(self.clone())
    }

    /// Returns when every answer has left.
    pub(super) async fn answered(&self) {
        // We hold a sender, so the channel is open.
        drop(self.0.subscribe().wait_for(|count| *count == 0).await);
        tokio::time::sleep(LAST_BYTES).await;
    }
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct Ticket(InFlight);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// An answer that is in flight until its body has been sent or given up.
pub(super) fn counted<B: MessageBody + 'static>(
    response: ServiceResponse<B>,
    ticket: Ticket,
) -> ServiceResponse<Counted> {
    response.map_into_boxed_body().map_body(|_, body| Counted { body, _ticket: ticket })
}

#[derive(Debug)]
pub(super) struct Counted {
    body: BoxBody,
    _ticket: Ticket,
}

impl MessageBody for Counted {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

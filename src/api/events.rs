//! `GET /api/v1/task/events`: everything that is recorded, as server-sent events.
//!
//! A stream begins with what is recorded next, or after `Last-Event-ID` (header, or query `after`) with everything since:
//! first from the store, then live; a reader that falls behind the live feed is served from the store again. Nothing is
//! left out, nothing comes twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::call::Call;
use super::meta::Meta;
use super::public::form_value;
use super::reply::failure;
use crate::app::App;
use crate::engine::port::Record;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, EventId};
use crate::wire::event_view;

/// Records read from the store at a time.
const PAGE: u32 = 500;

/// A comment is sent into a silent stream so that dead connections are noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Every transition and log line, as server-sent events
///
/// Begins with what happens next, or after a given event with everything since.
#[utoipa::path(get, path = "/api/v1/task/events", tag = "task",
    params(
        ("Last-Event-ID" = Option<i64>, Header, description = "Go on after this event"),
        ("after" = Option<i64>, Query, description = "The same, for clients that cannot set the header")),
    responses((status = 200, description = "Server-sent events, each a TaskEvent", body = crate::wire::TaskEvent, content_type = "text/event-stream")))]
pub(super) async fn events(call: Call<()>, request: HttpRequest) -> HttpResponse {
    let begun: Result<_> = async {
        let feed = call.app.feed();
        let after = match resume_after(&request)? {
            Some(after) => after,
            None => call.app.newest_record().await?,
        };
        Ok((feed, after))
    }
    .await;
    match begun {
        Ok((feed, after)) => {
            let stop = call.door.stopping();
            let source = Source {
                app: call.app.clone(),
                own: call.app.own(),
                feed,
                after,
                ready: VecDeque::new(),
                is_behind: true,
                stop,
            };
            HttpResponse::Ok()
                .insert_header((CONTENT_TYPE, "text/event-stream"))
                .insert_header(("Cache-Control", "no-store"))
                .streaming(source.into_stream())
        }
        Err(error) => failure(&Meta::of(&request), &error),
    }
}

fn resume_after(request: &HttpRequest) -> Result<Option<EventId>> {
    let header = request.headers().get("Last-Event-ID").map(|v| v.to_str().unwrap_or("?").to_owned());
    let Some(text) = header.or_else(|| form_value(request.query_string(), "after")) else { return Ok(None) };
    let number = text.parse::<i64>().ok().filter(|n| *n >= 0);
    let number = number.ok_or_else(|| {
        Error::new(
            Code::QueryIllegal,
            format!("'{text}' is not an event id; use the id of the last event you have seen"),
        )
    })?;
    Ok(Some(EventId(number)))
}

struct Source {
    app: App,
    own: AgentAddr,
    feed: Receiver<Arc<Record>>,
    /// The last record that was sent, or is ready to be.
    after: EventId,
    ready: VecDeque<Bytes>,
    /// The store has more than was sent; the feed alone would leave a hole.
    is_behind: bool,
    stop: CancellationToken,
}

impl Source {
    fn into_stream(self) -> impl Stream<Item = std::io::Result<Bytes>> {
        stream::unfold(self, |mut source| async move {
            let next = source.next().await?;
            Some((Ok(next), source))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.is_behind {
                self.read_page().await?;
                continue;
            }
            let received = tokio::select! {
                () = self.stop.cancelled() => return None,
                received = tokio::time::timeout(KEEP_ALIVE, self.feed.recv()) => received,
            };
            match received {
                Ok(Ok(record)) => self.take(&record),
                Ok(Err(RecvError::Lagged(_))) => self.is_behind = true,
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
            }
        }
    }

    async fn read_page(&mut self) -> Option<()> {
        match self.app.records(self.after, PAGE).await {
            Ok(page) => {
                self.is_behind = page.len() == PAGE as usize;
                for record in &page {
                    self.take(record);
                }
                Some(())
            }
            Err(error) => {
                tracing::warn!(cause = %error.chain(), "an event stream was ended, the store cannot be read");
                None
            }
        }
    }

    fn take(&mut self, record: &Record) {
        if record.id <= self.after {
            return;
        }
        self.after = record.id;
        let view = event_view(self.own, record);
        match serde_json::to_string(&view) {
            Ok(data) => self
                .ready
                .push_back(Bytes::from(format!("id: {}\nevent: {}\ndata: {data}\n\n", view.id, view.kind))),
            Err(error) => tracing::error!(%error, "a record cannot be shown"),
        }
    }
}

//! What is known of a request before anything is looked at: its target as received, when, from where, under which trace.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::rc::Rc;

use actix_web::http::header::{ACCEPT_LANGUAGE, HeaderMap};
use actix_web::{HttpMessage, HttpRequest};

use super::v2;
use crate::clock::Stopwatch;

/// Where the connection came from; set once per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Tcp(IpAddr),
    Unix {
        uid: u32,
    },
    /// The kernel told nothing: refused like a stranger.
    Unknown,
}

/// Nobody on the way can read along. Set once per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverTls;

/// Set by the outermost layer, read by everybody.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    /// Path and query exactly as received; the header's `uri` must equal it byte for byte.
    pub(super) target: String,
    pub(super) trace_id: String,
    pub(super) is_chinese: bool,
    pub(super) since: Stopwatch,
    /// Unix seconds of arrival: expiry is judged by it, so a slow upload does not expire.
    pub(super) received_secs: i64,
    pub(super) peer: Peer,
    /// Address of this agent.
    pub(super) own: IpAddr,
    /// Who was let in to change something: for the audit trail.
    pub(super) actor: OnceCell<String>,
}

const TRACE_HEADER: &str = "X-OBSHELL-Trace-ID";

/// Longest trace id of a caller that is kept; it goes into every log line.
const TRACE_LEN_MAX: usize = 128;

impl Meta {
    pub(super) fn of(request: &HttpRequest) -> Rc<Self> {
        let found = request.extensions().get::<Rc<Self>>().cloned();
        found.expect("the outermost layer sets it for every request")
    }

    pub(super) fn new(
        target: String,
        headers: &HeaderMap,
        peer: Peer,
        own: IpAddr,
        received_secs: i64,
    ) -> Self {
        // The status is asked for all the time; its answers carry no trace (http-api.md §2.4).
        let is_traced = target != "/api/v1/status";
        let trace_id = if is_traced { trace_id(headers, v2::is_ours(&target)) } else { String::new() };
        Self {
            target,
            trace_id,
            is_chinese: prefers_chinese(headers),
            since: Stopwatch::start(),
            received_secs,
            peer,
            own,
            actor: OnceCell::new(),
        }
    }
}

/// The caller's, or a new one. OCP's are always 16 hexadecimal digits.
fn trace_id(headers: &HeaderMap, is_ocps: bool) -> String {
    let given = headers.get(TRACE_HEADER).and_then(|v| v.to_str().ok()).map(str::trim);
    let fits = |text: &str| match is_ocps {
        true => text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        false => !text.is_empty() && text.len() <= TRACE_LEN_MAX,
    };
    match given {
        Some(text) if fits(text) => text.to_owned(),
        _ => {
            let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
            format!("{high:016x}")
        }
    }
}

/// The first language of the list that we have (H17: lists of browsers are negotiated).
fn prefers_chinese(headers: &HeaderMap) -> bool {
    let Some(list) = headers.get(ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok()) else { return false };
    let mut wishes: Vec<(f32, &str)> = list.split(',').filter_map(wish).collect();
    // A stable sort: equal weights keep their order.
    wishes.sort_by(|left, right| right.0.total_cmp(&left.0));
    let ours = wishes.iter().find_map(|(_, tag)| match *tag {
        "zh" => Some(true),
        "en" => Some(false),
        _ => None,
    });
    ours.unwrap_or(false)
}

fn wish(item: &str) -> Option<(f32, &str)> {
    let mut parts = item.split(';').map(str::trim);
    let tag = parts.next()?;
    let weight = parts.find_map(|p| p.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok())?;
    let primary = tag.split(['-', '_']).next()?;
    (weight > 0.0).then_some((weight, primary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn chinese(list: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_str(list).unwrap());
        prefers_chinese(&headers)
    }

    #[test]
    fn h17_lists_of_languages_are_negotiated() {
        for list in
            ["zh", "zh-CN", "zh_CN", "zh-CN,zh;q=0.9,en;q=0.8", "fr;q=1, zh;q=0.5, en;q=0.1", "en;q=0, zh"]
        {
            assert!(chinese(list), "{list}");
        }
        for list in ["en", "en-US,zh;q=0.9", "fr", "", "*", "zh;q=0"] {
            assert!(!chinese(list), "{list}");
        }
    }

    #[test]
    fn traces_are_kept_or_made() {
        let mut headers = HeaderMap::new();
        let of = |target: &str, headers: &HeaderMap| {
            Meta::new(target.into(), headers, Peer::Unknown, [127, 0, 0, 1].into(), 0).trace_id
        };
        let made = of("/api/v1/time", &headers);
        assert!(made.len() == 16 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{made}");
        headers.insert(HeaderName::from_static("x-obshell-trace-id"), HeaderValue::from_static("mine"));
        assert_eq!(of("/api/v1/time", &headers), "mine");
        assert_eq!(of("/api/v1/status", &headers), "");
        let short = of("/api/v2/info", &headers);
        assert!(short.len() == 16 && short != "mine", "{short}");
    }
}

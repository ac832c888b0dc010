//! Distributions of durations, and the page that shows them.

use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What [`Page::text`] is.
pub const PAGE_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// 50 µs to 13 s: a commit on a fast disk, a statement that waits for a majority.
fn buckets() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 4.0, 10))
}

/// How often something was done, and how long it took each time. Clones are one meter.
#[derive(Clone, Debug)]
pub struct Meter(Histogram);

impl Default for Meter {
    fn default() -> Self {
        Self(buckets())
    }
}

impl Meter {
    pub fn took(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}

type ByKind = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// The same for several kinds of one thing, told apart by a label.
#[derive(Clone, Debug)]
pub struct Meters {
    label: &'static str,
    kinds: ByKind,
}

impl Meters {
    pub fn new(label: &'static str) -> Self {
        Self { label, kinds: Family::new_with_constructor(buckets) }
    }

    pub fn took(&self, kind: &'static str, time: Duration) {
        self.kinds.get_or_create(&[(self.label, kind)]).observe(time.as_secs_f64());
    }
}

/// A number that is read when the page is asked for.
struct Reading {
    name: &'static str,
    help: &'static str,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reading({})", self.name)
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new((self.read)());
        let to = encoder.encode_descriptor(self.name, self.help, None, gauge.metric_type())?;
        gauge.encode(to)
    }
}

/// Everything that is told, under names that begin with `obpilot_`.
#[derive(Debug)]
pub struct Page(Registry);

impl Default for Page {
    fn default() -> Self {
        Self(Registry::with_prefix("obpilot"))
    }
}

impl Page {
    /// A distribution in seconds; the name gets `_seconds`.
    #[must_use]
    pub fn with(mut self, name: &str, help: &str, meter: &Meter) -> Self {
        self.0.register_with_unit(name, help, Unit::Seconds, meter.0.clone());
        self
    }

    /// Distributions by kind.
    #[must_use]
    pub fn with_kinds(mut self, name: &str, help: &str, meters: &Meters) -> Self {
        self.0.register_with_unit(name, help, Unit::Seconds, meters.kinds.clone());
        self
    }

    /// A number that `read` tells each time.
    #[must_use]
    pub fn with_reading(
        mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        self.0.register_collector(Box::new(Reading { name, help, read: Box::new(read) }));
        self
    }

    /// In the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.0).expect("a text in memory can be written");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_counts_sums_kinds_and_readings() {
        let (commits, messages) = (Meter::default(), Meters::new("message"));
        let page = Page::default()
            .with("store_commit", "groups of writes", &commits)
            .with_kinds("peer_message", "messages", &messages)
            .with_reading("server_serving", "whether it serves", || 1.0);
        commits.took(Duration::from_millis(2));
        commits.clone().took(Duration::from_millis(4));
        messages.took("go", Duration::from_secs(1));
        let text = page.text();
        for line in [
            "# TYPE obpilot_store_commit_seconds histogram",
            "obpilot_store_commit_seconds_sum 0.006",
            "obpilot_store_commit_seconds_count 2",
            "obpilot_store_commit_seconds_bucket{le=\"0.0032\"} 1",
            "obpilot_peer_message_seconds_count{message=\"go\"} 1",
            "obpilot_server_serving 1.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|written| written == line), "no '{line}' in:\n{text}");
        }
    }
}

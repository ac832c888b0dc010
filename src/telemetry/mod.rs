//! What the agent tells of itself: its log, and a page of numbers.
//!
//! Purpose: one line per event to stderr, which is the journal under systemd ([`init`]); how often and how long it has done what
//! its time goes into, as a scraper of Prometheus reads it ([`Page`]).
//!
//! Invariant: a meter is a value that belongs to whoever measures; two agents in one process do not meet. Nothing is sent
//! anywhere.
//!
//! Not here: the records of tasks (they are data in the store).

mod log;
mod metrics;

pub use log::init;
pub use metrics::{Meter, Meters, PAGE_TYPE, Page};

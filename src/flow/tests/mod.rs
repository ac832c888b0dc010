//! Every flow on the real engine and a real store, with hands that do as the test says.

mod failures;
pub(crate) mod fakes;
mod repeated;
mod shapes;

pub(crate) use failures::{configured, running, stopped};

//! Every flow on the real engine and a real store, with hands that do as the test says.

mod failures;
pub(crate) mod fakes;
mod matrix;
mod repeated;
mod restart;
mod rolling;
mod shapes;
mod simulation;
mod world;

pub(crate) use failures::{configured, running, stopped};
pub(crate) use world::Away;

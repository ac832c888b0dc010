//! Rendering, held against the documented graphs and the types of the documented samples.

mod orders;
mod rendered;

#[path = "../../../../tests/agent/graphs.rs"]
mod graphs;

//! Every flow, killed at every crash point it reaches, ends as if nothing had happened.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests start processes and make clients")]

#[path = "../rig/mod.rs"]
mod rig;

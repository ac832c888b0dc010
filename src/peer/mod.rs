//! The way to other agents: sealed messages, forwarded requests, and the door of one that we are no member with yet.
//!
//! Purpose: the one room that calls agents. It carries what `flow::peers` says and knows nothing of what it means.
//!
//! Invariant: a member is known by its key, whatever answers at its address. An answer is the agent's own (did it, or refused
//! with a code), or it is `Agent.RPC.RequestFailed`: not known. A message that met a session which the other side has
//! forgotten was not opened there, so it is sent once more in a new one.
//!
//! Not here: what is asked (`flow`, `app`), the answering side (`api`).

mod client;
mod gate;

pub use client::{Client, Forward, Forwarded, PeerAnswer};

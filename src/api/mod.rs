//! The HTTP door: listeners, the route table, authentication, the envelope, handlers of a few lines each.
//!
//! Purpose: OBShell's v1 API over TCP (HTTP/1.1 and HTTP/2) and over a Unix socket guarded by peer credentials. A handler
//! gets a [`call::Call`], which exists only when its caller was let in and its body was opened and parsed; forgetting
//! the check means not having the application.
//!
//! Invariant: every answer is an envelope, also for unknown paths, refused callers, oversized bodies and panics. A route
//! without a row in [`route`] does not exist.
//!
//! Not here: what requests mean (`app`), the shapes of bodies (`wire`), opening and deciding (`secure`).

mod accounts;
mod agent;
mod audit;
mod auth;
mod call;
mod certified;
mod door;
mod drain;
mod elsewhere;
mod events;
mod figures;
mod guess;
mod info;
mod kept;
mod keys;
mod login;
mod meta;
mod ob;
mod on_demand;
mod openapi;
mod parameters;
mod public;
mod reading;
mod reply;
mod restart;
mod route;
mod rpc;
mod scale;
mod sealed;
mod serve;
mod session;
mod take_over;
mod task;
mod upgrade;
mod user_session;
mod v2;

#[cfg(test)]
mod tests;

pub use door::{Door, Parts as DoorParts, RememberBlocks};
pub use openapi::document;
pub use route::{ROUTES, Route};
pub use serve::{Ending, Listeners, ServeError, Served, listen, serve};
pub use v2::{
    Needs, ROUTES as ROUTES_V2, Route as RouteV2, document as document_v2, table_as_json as ocp_errors,
};

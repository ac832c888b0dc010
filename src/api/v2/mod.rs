//! OCP's v2 API (`ocp-v2.md`): its callers, its envelope, its codes, and its routes.
//!
//! Purpose: tools that were written for OCP work with us. A handler gets a [`call::Call`], which exists only when its caller is
//! known and may do what the route's row asks for; forgetting the check means not having the application.
//!
//! Invariant: every answer under `/api/v2` is OCP's envelope, also for unknown paths, refused callers and defects, but for the
//! two that OCP answers bare. What v1 would have said is said too: text, code and details.
//!
//! Not here: what requests mean (`app`), the shapes of bodies (`wire::v2`), checking of secrets (`secure`).

mod auth;
mod call;
mod cluster;
mod error;
mod known;
mod open;
mod openapi;
mod order;
mod query;
mod reply;
mod route;
mod task;

#[cfg(test)]
mod tests;

pub use error::table_as_json;
pub(super) use known::Known;
pub(super) use open::not_found;
pub use openapi::document;
pub(super) use reply::{failed, with_allowance};
pub use route::{Needs, ROUTES, Route};
pub(super) use route::{configure, is_ours};

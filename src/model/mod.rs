//! The nouns of this house: addresses, identities, scopes, ids, secrets.
//!
//! Purpose: everything that comes from outside is parsed into one of these at the door, once; inside nobody
//! passes a bare `String` that means an address or a password.
//!
//! Invariant: a value of these types is valid. What cannot be is refused by the constructor with a sentence
//! that a person can act on.
//!
//! Not here: JSON shapes (`wire`), decisions (`engine`, `cluster`, `app`), input and output of any kind.

mod account;
mod addr;
mod certificate;
mod id;
mod identity;
mod instance_id;
mod member;
mod role;
mod scope;
mod secret;
mod server;
mod time;
mod version;

pub use account::{Account, KeyPair, PasswordHash, SecretKey};
pub use addr::{AddrError, AgentAddr, DEFAULT_AGENT_PORT, ServerAddr};
pub use certificate::Certificate;
pub use id::{DagId, EventId, GenericId, IdError, NodeId, Store, SubTaskId};
pub use identity::Identity;
pub use instance_id::InstanceId;
pub use member::{Invitation, Member};
pub use role::Role;
pub use scope::{Scope, ScopeError, ZoneName};
pub use secret::Password;
pub use server::{Cause, Diagnosis, Exit, Finding, Launch, LogMark, ServerProcess, StopHow, StopReport};
pub use time::{NEVER, Timestamp, in_millis, on_wire};
pub use version::{API_VERSION, PRODUCT, PRODUCT_VERSION, compare_dotted};

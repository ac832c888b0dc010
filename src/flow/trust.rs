//! The cluster's own CA, as flows and agents see it: who is certified when, and what is said on the way.
//!
//! Purpose: an agent that joins is certified before the join is over, and one that is added is handed the CA with the root
//! password, so that every member can be held to the CA from the moment it is one.
//!
//! Invariant: a private key of a certificate never travels. That of the CA goes where the root password goes, and nowhere else:
//! to members of an initialised cluster, and to who is being added; always inside a sealed message between agents.
//!
//! Not here: X.509 and keys (`secure`), when a certificate is renewed (`app::custody`).

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::ports::Handed;
use crate::error::{Code, Error, Result};
use crate::model::{AgentAddr, Certificate};

/// What one agent gives another of the CA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// For the key that was asked for, where one was.
    pub certificate: Option<Certificate>,
    /// The first is who issues.
    pub roots: Vec<Certificate>,
    /// The key of the first root, PKCS#8 in base64, for who may issue.
    pub authority: Option<Handed>,
    /// That of the second root, where it was announced and issues next.
    #[serde(default)]
    pub next: Option<Handed>,
}

/// This agent's part in the CA of its cluster.
///
/// Laws: everything may be repeated. `Common.NotSupported` means that there is no CA there, and never that it is not known;
/// that is `Agent.RPC.RequestFailed`.
pub trait Trust: Send + Sync + Debug {
    /// Takes up a certificate of this member's CA. Returns what there is to say about it.
    ///
    /// # Errors
    /// That it could not be had.
    fn be_certified(&self, by: AgentAddr) -> BoxFuture<'_, Result<Option<String>>>;

    /// Hands the CA to an agent that is trusted with the root password. Returns what there is to say about it.
    ///
    /// # Errors
    /// That it could not be handed over.
    fn hand_to(&self, agent: AgentAddr) -> BoxFuture<'_, Result<Option<String>>>;

    /// Certifies the public key of a member, for its address.
    ///
    /// # Errors
    /// That it is no member, or that no CA is held here.
    fn certify<'a>(&'a self, from: AgentAddr, public_key: &'a str) -> BoxFuture<'a, Result<Grant>>;

    /// Takes the CA over from the member that adds us, or from one that replaces it.
    ///
    /// # Errors
    /// That it is not for that agent to hand it over, or that it is not usable.
    fn take<'a>(&'a self, from: AgentAddr, grant: &'a Grant) -> BoxFuture<'a, Result<()>>;
}

/// Of an agent that has no CA: certificates are the operator's matter, or there are none.
#[derive(Clone, Copy, Debug)]
pub struct NoTrust;

fn none_here() -> Error {
    Error::new(Code::NotSupported, "this agent has no CA of its own (tls.own_ca)")
}

impl Trust for NoTrust {
    fn be_certified(&self, _: AgentAddr) -> BoxFuture<'_, Result<Option<String>>> {
        Box::pin(async { Ok(None) })
    }

    fn hand_to(&self, _: AgentAddr) -> BoxFuture<'_, Result<Option<String>>> {
        Box::pin(async { Ok(None) })
    }

    fn certify<'a>(&'a self, _: AgentAddr, _: &'a str) -> BoxFuture<'a, Result<Grant>> {
        Box::pin(async { Err(none_here()) })
    }

    fn take<'a>(&'a self, _: AgentAddr, _: &'a Grant) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Err(none_here()) })
    }
}

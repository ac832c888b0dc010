//! Keys, sealed requests, decisions about callers, secrets at rest. It computes and does no IO (but for the vault's key
//! file, which has no other home).
//!
//! Purpose: scheme v2 of OBShell (`security.md` §2) on the server's side (`header`, `body`) and on the client's (`seal`); ours,
//! v3, on both (`v3`); v1 on the server's (`v1`);
//! the decision table of callers (`decide`); agents among themselves (`peer`); TLS (`tls`) and the CA of our own (`authority`); what keeps the scheme safe although it is old (`replay`, `limit`, one
//! [`refusal()`]); and the vault.
//!
//! Invariant: everything done with a private key is done by aws-lc-rs; crate `rsa` touches public keys only. Whoever is
//! not known yet gets one and the same refusal, after the same work.
//!
//! Not here: HTTP (`api`), where keys are kept (`store`).

mod access_key;
mod authority;
mod body;
mod compare;
mod decide;
mod derive;
mod header;
mod keys;
mod limit;
mod password;
mod peer;
mod public;
mod refusal;
mod replay;
mod seal;
mod session_id;
mod strict;
mod tls;
mod trust;
mod v1;
mod v3;
mod vault;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod v3_tests;

pub use access_key::{SIGNED, SignedRequest, is_signed_by, new_key_pair, use_of};
pub use authority::{AuthorityError, CLIENT_LIFETIME, Holding, TlsKey, Wanted, issue, new_root};
pub use body::BodyKey;
pub use compare::{is_same, sha1_hex, sha256_hex};
pub use decide::{Facts, Forward, HeaderKind, RouteClass, Rule, TABLE, Verdict, WAYS, Way, decide, opens};
pub use header::{BlockHash, Opened, Scheme, check_time};
pub use keys::{AgentKey, KeyError};
pub use limit::{Budget, Limiter};
pub use password::{RecallKey, hash_password, is_password};
pub use peer::{
    Begun, Counters, Hello, HelloAnswer, PEER_HEADER, PeerError, PeerIdentity, Session, answer, begin,
    is_signed,
};
pub use public::{PublicKey, PublicKeyError};
pub use refusal::{body_refusal, refusal};
pub use replay::{LASTING_FROM, Seen};
pub use seal::{AGENT_HEADER, DATABASE_HEADER, SealError, SealedRequest, seal_request};
pub use session_id::SessionId;
pub use tls::{Tls, TlsError, TlsFiles};
pub use trust::check_holding;
pub use v1::V1_HEADER;
pub use v3::{
    Claims, ClaimsTo, Exchange, NotAnAnswer, Piece, V3_CONTENT_TYPE, V3_HEADER, V3Error, V3Key, V3Mark,
    V3PublicKey, V3Request, fresh_request_id, key_id_of,
};
pub use vault::{Vault, VaultError};

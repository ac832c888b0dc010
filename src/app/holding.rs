//! What an agent holds of a CA, and what becomes of it: made, renewed, taken over, led to another root. Pure but for randomness.
//!
//! Invariant: a holding that is taken from others is one that others take: its certificate is checked against its own roots.
//!
//! Not here: when, by whose word, and where it is kept (`custody`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::flow::ports::Handed;
use crate::flow::trust::Grant;
use crate::model::{AgentAddr, Certificate, Password, Timestamp};
use crate::secure::{AuthorityError, Holding, TlsKey, Wanted, check_holding, issue, new_root};

/// What a certificate of this agent says.
#[derive(Clone, Debug)]
pub struct Subject {
    pub own: AgentAddr,
    /// Addresses it is reached under, its own first.
    pub names: Vec<IpAddr>,
    pub lifetime: Duration,
}

/// The way from one root to another. Clients follow between the steps: they are given both roots after the first, and
/// certificates of the new one after the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new root is made, and trusted by all members beside the old one, which goes on issuing.
    Announce,
    /// The new root issues, and every member certifies itself anew. The old one is trusted on.
    Switch,
    /// The old root is trusted no more.
    Finish,
}

impl Step {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Announce => "a new root is trusted too",
            Self::Switch => "the new root issues",
            Self::Finish => "the old root is trusted no more",
        }
    }
}

pub(super) fn broken(error: &AuthorityError) -> Error {
    Error::unexpected(format!("no certificate was made: {error}"))
}

impl Subject {
    /// A CA and a certificate of one's own.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn on_its_own(&self, now: Timestamp) -> Result<Holding> {
        let (root, authority) = new_root(now).map_err(|e| broken(&e))?;
        let key = TlsKey::generate().map_err(|e| broken(&e))?;
        let certificate = self.certificate(&root, &authority, &key, now)?;
        Ok(Holding {
            roots: vec![root],
            certificate,
            key: Arc::new(key),
            authority: Some(Arc::new(authority)),
            next: None,
            is_clusters: false,
            left_at: None,
        })
    }

    fn certificate(
        &self,
        root: &Certificate,
        authority: &TlsKey,
        key: &TlsKey,
        now: Timestamp,
    ) -> Result<Certificate> {
        let wanted = Wanted {
            subject: format!("agent {}", self.own),
            public_key: &key.public_on_wire(),
            names: self.names.clone(),
            lifetime: self.lifetime,
        };
        issue(root, authority, &wanted, now).map_err(|e| broken(&e))
    }

    /// The same with a new certificate for its key, when it is time, or when this agent has other addresses. `None` when there is
    /// nothing to do, or when it takes another agent to do it.
    ///
    /// # Errors
    /// When it could not be made.
    pub fn in_time(&self, holding: &Holding, now: Timestamp) -> Result<Option<Holding>> {
        let is_other = holding.certificate.names != self.names;
        let is_due = holding.certificate.renew_at <= now || holding.authority.is_some() && is_other;
        if is_due { self.certified(holding, Arc::clone(&holding.key), now) } else { Ok(None) }
    }

    /// The same with a new certificate, for this key. `None` for who cannot issue.
    pub(super) fn certified(
        &self,
        holding: &Holding,
        key: Arc<TlsKey>,
        now: Timestamp,
    ) -> Result<Option<Holding>> {
        let (Some(root), Some(authority)) = (holding.roots.first(), &holding.authority) else {
            return Ok(None);
        };
        let certificate = self.certificate(root, authority, &key, now)?;
        Ok(Some(Holding { certificate, key, ..holding.clone() }))
    }

    /// What is held after a step; `None` when that is so already.
    pub(super) fn stepped(&self, held: &Holding, step: Step, now: Timestamp) -> Result<Option<Holding>> {
        let not_yet = |text: &str| Err(Error::new(Code::BadRequest, text));
        match (step, held.roots.as_slice(), &held.next) {
            (Step::Announce, _, Some(_)) | (Step::Switch, [_, _, ..], None) | (Step::Finish, [_], None) => {
                Ok(None)
            }
            (Step::Announce, [root], None) => {
                let (next, key) = new_root(now).map_err(|e| broken(&e))?;
                let roots = vec![root.clone(), next];
                Ok(Some(Holding { roots, next: Some(Arc::new(key)), ..held.clone() }))
            }
            (Step::Announce, _, None) => not_yet("the root of before is still trusted; finish that first"),
            (Step::Switch, [before, next, ..], Some(key)) => {
                let roots = vec![next.clone(), before.clone()];
                let authority = Some(Arc::clone(key));
                let switched = Holding { roots, authority, next: None, ..held.clone() };
                self.certified(&switched, Arc::clone(&held.key), now)
            }
            (Step::Switch, _, _) => not_yet("no new root was announced; announce one first"),
            (Step::Finish, _, Some(_)) => not_yet("the new root does not issue yet; switch first"),
            (Step::Finish, roots, None) => {
                Ok(Some(Holding { roots: roots.iter().take(1).cloned().collect(), ..held.clone() }))
            }
        }
    }

    /// What becomes of a grant that was asked for with this key.
    pub(super) fn accepted(&self, grant: &Grant, key: Arc<TlsKey>, now: Timestamp) -> Result<Holding> {
        let unusable =
            |why: String| Error::new(Code::IllegalArgument, format!("the CA is not usable: {why}"));
        let root = grant.roots.first().ok_or_else(|| unusable("it has no root".to_owned()))?;
        let read = |handed: &Option<Handed>| {
            let key = handed.as_ref().map(|handed| TlsKey::from_text(handed.0.expose()));
            key.transpose().map(|key| key.map(Arc::new)).map_err(|e| unusable(e.to_string()))
        };
        let (authority, next) = (read(&grant.authority)?, read(&grant.next)?);
        let certificate = match (&authority, &grant.certificate) {
            (Some(authority), _) => self.certificate(root, authority, &key, now)?,
            (None, Some(certificate)) => certificate.clone(),
            (None, None) => return Err(unusable("it has neither a certificate nor a key".to_owned())),
        };
        let roots = grant.roots.clone();
        let holding = Holding { roots, certificate, key, authority, next, is_clusters: true, left_at: None };
        let now_secs = u64::try_from(now.as_second()).unwrap_or_default();
        check_holding(&holding, now_secs).map_err(|e| unusable(e.to_string()))?;
        Ok(holding)
    }
}

/// All that a member holds, for another one.
pub(super) fn whole(held: &Holding) -> Grant {
    let handed = |key: &Arc<TlsKey>| Handed(Password::new(key.to_text().as_str()));
    let (authority, next) = (held.authority.as_ref().map(handed), held.next.as_ref().map(handed));
    Grant { certificate: None, roots: held.roots.clone(), authority, next }
}

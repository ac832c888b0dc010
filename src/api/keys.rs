//! The agent's keys and its certificate: what clients compare with what they were shown, and new ones on demand.

use super::call::Call;
use super::reply::Outcome;
use crate::app::holding::Step;
use crate::error::{Code, Error, Result};
use crate::model::on_wire;
use crate::secure::key_id_of;
use crate::wire::{
    CertificateView, Envelope, IssueBody, IssuedCertificate, KeyView, Keys, RotateBody, RotateCaBody,
};

/// What can be made anew.
const SCHEMES: [&str; 3] = ["v2", "v3", "certificate"];

/// Longest name of a client: that of a common name in X.509.
const NAME_LEN_MAX: usize = 64;

/// The ids of this agent's keys
#[utoipa::path(get, path = "/api/v1/security/keys", tag = "agent", responses((status = 200, body = Envelope<Keys>)))]
pub(super) async fn show(call: Call<()>) -> Outcome<Keys> {
    Outcome::data(Ok(keys_of(&call)))
}

/// New keys for schemes v2 or v3, or a new certificate of the cluster's own CA; what was sealed for the old v3 key a moment ago
/// still opens for ten minutes, and connections go on
#[utoipa::path(post, path = "/api/v1/security/keys/rotate", tag = "agent", request_body = RotateBody,
    responses((status = 200, body = Envelope<Keys>)))]
pub(super) async fn rotate(call: Call<RotateBody>) -> Outcome<Keys> {
    Outcome::data(rotated(&call).await)
}

async fn rotated(call: &Call<RotateBody>) -> Result<Keys> {
    let wanted = &call.body.schemes;
    if let Some(unknown) = wanted.iter().find(|scheme| !SCHEMES.contains(&scheme.as_str())) {
        let text =
            format!("there is no key of scheme '{unknown}' to rotate; schemes are {}", SCHEMES.join(", "));
        return Err(Error::new(Code::IllegalArgument, text));
    }
    if wanted.is_empty() {
        return Err(Error::new(
            Code::IllegalArgument,
            "schemes is missing or empty; name some of v2, v3, certificate",
        ));
    }
    let has = |scheme: &str| wanted.iter().any(|wanted| wanted == scheme);
    if has("certificate") {
        let custody = call.door.custody().ok_or_else(not_ours)?;
        custody.rotate(&call.caller.actor).await?;
    }
    call.door.rotate_keys(has("v2"), has("v3")).await?;
    tracing::warn!(actor = call.caller.actor, schemes = wanted.join(", "), "the agent has new keys");
    Ok(keys_of(call))
}

fn keys_of<B>(call: &Call<B>) -> Keys {
    Keys {
        v2: KeyView { key_id: call.door.v2_key_id() },
        v3: KeyView { key_id: call.door.v3_key().id().to_owned() },
        peer: KeyView { key_id: key_id_of(call.app.peer_key().as_bytes()) },
        certificate: certificate_of(call),
    }
}

fn certificate_of<B>(call: &Call<B>) -> Option<CertificateView> {
    let tls = call.door.tls()?;
    let Some(custody) = call.door.custody() else {
        let fingerprint = tls.fingerprint();
        return Some(CertificateView { fingerprint, subject: None, issuer: None, not_after: None, ca: None });
    };
    let held = custody.holding();
    let shown = held.certificate.clone();
    Some(CertificateView {
        fingerprint: shown.fingerprint,
        subject: Some(shown.subject),
        issuer: Some(shown.issuer),
        not_after: Some(on_wire(shown.not_after)),
        ca: Some(held.roots.iter().map(|root| root.pem.as_str()).collect()),
    })
}

/// Certificates are not this agent's to make.
fn not_ours() -> Error {
    let text = "certificates of this agent do not come from its cluster's own CA (tls.own_ca): replace their files, and \
                they are taken up by themselves";
    Error::new(Code::NotSupported, text)
}

/// One step on the way to another root of the cluster's own CA, with all members: announce, switch, finish
#[utoipa::path(post, path = "/api/v1/security/ca/rotate", tag = "agent", request_body = RotateCaBody,
    responses((status = 200, body = Envelope<Keys>)))]
pub(super) async fn rotate_ca(call: Call<RotateCaBody>) -> Outcome<Keys> {
    Outcome::data(rotated_ca(&call).await)
}

async fn rotated_ca(call: &Call<RotateCaBody>) -> Result<Keys> {
    let step = match call.body.step.as_str() {
        "announce" => Step::Announce,
        "switch" => Step::Switch,
        "finish" => Step::Finish,
        other => {
            let text = format!("there is no step '{other}'; in this order: announce, switch, finish");
            return Err(Error::new(Code::IllegalArgument, text));
        }
    };
    let custody = call.door.custody().ok_or_else(not_ours)?;
    custody.replace_root(step, &call.caller.actor).await?;
    tracing::warn!(actor = call.caller.actor, step = call.body.step, "the cluster's CA is being replaced");
    Ok(keys_of(call))
}

/// A certificate for the key of a client; only on the Unix socket
#[utoipa::path(post, path = "/api/v1/security/certificates", tag = "agent", request_body = IssueBody,
    responses((status = 200, body = Envelope<IssuedCertificate>)))]
pub(super) async fn issue(call: Call<IssueBody>) -> Outcome<IssuedCertificate> {
    Outcome::data(issued(&call))
}

/// Whoever has a password could otherwise make himself certificates that outlive it.
fn issued(call: &Call<IssueBody>) -> Result<IssuedCertificate> {
    let IssueBody { name, public_key } = &call.body;
    if !call.caller.is_local {
        let text = "certificates of clients are issued on the agent's own host only, over its Unix socket";
        return Err(Error::new(Code::NotSupported, text));
    }
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(is_letter) {
        let text = format!("a name of a client has 1 to {NAME_LEN_MAX} letters, digits, '.', '_' and '-'");
        return Err(Error::new(Code::IllegalArgument, text));
    }
    let issued = call.door.custody().ok_or_else(not_ours)?.issue_client(name, public_key)?;
    tracing::warn!(
        actor = call.caller.actor,
        name,
        fingerprint = issued.certificate.fingerprint,
        "a client was certified"
    );
    Ok(IssuedCertificate {
        certificate: issued.certificate.pem,
        ca: issued.roots.iter().map(|root| root.pem.as_str()).collect(),
        not_after: on_wire(issued.certificate.not_after),
    })
}

//! Who is asking: the socket's peer, a user with a password, or a key pair's signature (`ocp-v2.md` §4.1, §4.2).
//!
//! Order: that nobody reads along, that there is a cluster, how often this source has failed, the secret, the time, a repetition.
//!
//! Invariant: whoever is not known gets one and the same refusal, whatever was wrong, after the same work.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderName, HttpDate};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::{OcpCode, Refusal};
use crate::api::auth::{counted, may_try};
use crate::api::call::read_in_time;
use crate::api::door::Door;
use crate::api::meta::{Meta, OverTls, Peer};
use crate::app::Caller;
use crate::error::{Code, Error};
use crate::model::{Identity, Password, Role};
use crate::secure::{SIGNED, SignedRequest, is_signed_by, use_of};

/// Clocks of client and agent may differ by less than this.
const DATE_WINDOW_SECS: i64 = 15 * 60;

/// Who asks.
#[derive(Debug)]
pub(super) struct Known {
    /// Name of the account: `root`, an account, or that of a key pair; of a key pair of its own, the access key.
    pub(super) user: String,
    pub(super) role: Role,
    pub(super) caller: Caller,
}

/// A request of a known caller.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) known: Known,
    /// As it came.
    pub(super) body: Vec<u8>,
}

/// What a caller shows.
#[derive(Debug)]
enum Shown {
    Password {
        user: String,
        password: Password,
    },
    Signature {
        access_key: String,
        signature: String,
    },
    /// Nothing that could be one of these.
    Nonsense,
}

/// # Errors
/// Not known, not from there, or too often: never more than that.
pub(super) async fn admit(
    door: &Door,
    meta: &Meta,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Admitted, Refusal> {
    let source = match meta.peer {
        Peer::Unix { uid } => {
            let known = by_socket(door, uid)?;
            return Ok(Admitted { known, body: read_in_time(payload, door.limits()).await? });
        }
        Peer::Tcp(source) => source,
        Peer::Unknown => return Err(refusal()),
    };
    let shown = shown(request.headers())?;
    check_way(door, meta, request, source)?;
    if door.app().ledger().state().identity != Identity::ClusterAgent {
        let text = "this agent belongs to no cluster yet, so it has no users; initialise one, or use the Unix socket";
        return Err(Refusal::new(OcpCode::NotLoggedOn, text));
    }
    may_try(door, source)?;
    let (user, actor, role, body) = match shown {
        Shown::Password { user, password } => {
            let role = by_password(door, source, &user, &password).await.ok_or_else(|| refusal().error);
            let role = counted(door, meta, source, role)?;
            let actor = user.clone();
            (user, actor, role, read_in_time(payload, door.limits()).await?)
        }
        Shown::Signature { access_key, signature } => {
            // It signs the body.
            let body = read_in_time(payload, door.limits()).await?;
            let known = by_signature(door, meta, request, (&access_key, &signature), &body);
            let (user, role) = counted(door, meta, source, known.ok_or_else(|| refusal().error))?;
            let actor = match user {
                Some(ref user) => format!("{user} (key pair {access_key})"),
                None => format!("key pair {access_key}"),
            };
            (user.unwrap_or(access_key), actor, role, body)
        }
        Shown::Nonsense => counted(door, meta, source, Err(refusal().error))?,
    };
    let caller = Caller { actor: format!("{actor} from {source}"), is_local: false, source: Some(source) };
    Ok(Admitted { known: Known { user, role, caller }, body })
}

/// For every caller that is not known.
fn refusal() -> Refusal {
    Refusal::new(
        OcpCode::WrongCredentials,
        "not authorised; check the user and the password, or the key pair, the clocks, and that nothing on the way has \
         changed the request",
    )
}

fn by_socket(door: &Door, uid: u32) -> Result<Known, Refusal> {
    if !door.may_use_socket(uid) {
        let text =
            format!("user {uid} may not use this socket; add it to socket.allow_uids, or use the TCP port");
        return Err(Error::new(Code::UserDenied, text).into());
    }
    let caller = Caller { actor: format!("uid {uid} (socket)"), is_local: true, source: None };
    Ok(Known { user: format!("uid {uid}"), role: Role::Admin, caller })
}

/// A password, and a request that may be repeated, are for nobody else to see. What comes from this very host does not leave it.
fn check_way(door: &Door, meta: &Meta, request: &HttpRequest, source: IpAddr) -> Result<(), Refusal> {
    let is_from_here = source.is_loopback() || source == meta.own.to_canonical();
    let is_over_tls = request.conn_data::<OverTls>().is_some();
    if is_from_here || is_over_tls || door.limits().v2_over_http {
        return Ok(());
    }
    let text = "users and key pairs are taken over HTTPS, or from this very host; set tls.mode, or api.v2_over_http if the \
                network between is yours alone. What was sent now has crossed it in clear";
    Err(Refusal::new(OcpCode::SourceRestricted, text))
}

/// # Errors
/// Only that there is nothing.
fn shown(headers: &HeaderMap) -> Result<Shown, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION);
    let Some(value) = values.next() else {
        let text = "this needs a user: Authorization: Basic, or a key pair (OCP-ACCESS-KEY-HMACSHA1)";
        return Err(Refusal::new(OcpCode::NotLoggedOn, text));
    };
    // One that is repeated is nobody's honest request.
    let value = value.to_str().ok().filter(|_| values.next().is_none()).unwrap_or_default();
    Ok(basic(value).or_else(|| signed(value)).unwrap_or(Shown::Nonsense))
}

/// `Basic base64(user:password)`
fn basic(value: &str) -> Option<Shown> {
    let (scheme, coded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(STANDARD.decode(coded.trim()).ok()?).ok()?;
    let (user, password) = plain.split_once(':')?;
    Some(Shown::Password { user: user.to_owned(), password: Password::new(password) })
}

/// `OCP-ACCESS-KEY-HMACSHA1 AK:signature`
fn signed(value: &str) -> Option<Shown> {
    let (access_key, signature) = value.strip_prefix(SIGNED)?.strip_prefix(' ')?.trim().split_once(':')?;
    Some(Shown::Signature { access_key: access_key.to_owned(), signature: signature.to_owned() })
}

async fn by_password(door: &Door, source: IpAddr, user: &str, password: &Password) -> Option<Role> {
    if matches!(user, "root" | "root@sys") {
        return door.app().check_root(password).await.then_some(Role::Admin);
    }
    let accounts = door.app().accounts();
    let account = accounts.account(user);
    let is_right = door.known().is(user, password, account, || door.may_try(source)).await;
    account.filter(|_| is_right).map(|account| account.role)
}

/// Whose key pair has signed this very request, and what it may do. A signature counts once where it changes something.
fn by_signature(
    door: &Door,
    meta: &Meta,
    request: &HttpRequest,
    (access_key, signature): (&str, &str),
    body: &[u8],
) -> Option<(Option<String>, Role)> {
    let accounts = door.app().accounts();
    let found = accounts.key_pair(access_key);
    let headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| value.to_str().ok().map(|value| (name.as_str(), value)))
        .collect::<Option<_>>()?;
    let only =
        |wanted: HeaderName| headers.iter().find(|(name, _)| *name == wanted.as_str()).map(|found| found.1);
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let date = only(DATE).unwrap_or_default();
    let signed = SignedRequest {
        method: request.method().as_str(),
        body,
        content_type: only(CONTENT_TYPE).unwrap_or_default(),
        date,
        // HTTP/2 has it in the target.
        host: only(HOST).or(authority).unwrap_or_default(),
        headers: &headers,
        target: &meta.target,
    };
    let secret = found.map(|(pair, _)| &pair.secret.0);
    let is_signed = is_signed_by(secret, signature, &signed);
    let at = seconds(date)?;
    let (pair, role) = found.filter(|_| is_signed)?;
    if (meta.received_secs - at).abs() >= DATE_WINDOW_SECS {
        tracing::info!(
            access_key,
            date,
            "a request of a key pair is too old, or from the future: compare the clocks"
        );
        return None;
    }
    let is_question = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_question && !door.admit_use(use_of(access_key, signature), at + DATE_WINDOW_SECS) {
        tracing::warn!(access_key, target = %meta.target, "a signature came for the second time");
        return None;
    }
    Some((pair.account.clone(), role))
}

/// Unix seconds of a `Date`.
fn seconds(date: &str) -> Option<i64> {
    let moment: std::time::SystemTime = date.parse::<HttpDate>().ok()?.into();
    i64::try_from(moment.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_hold_anything() {
        let coded = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let opened = |value: &str| match basic(value) {
            Some(Shown::Password { user, password }) => Some((user, password.expose().to_owned())),
            Some(Shown::Signature { .. } | Shown::Nonsense) | None => None,
        };
        assert_eq!(opened(&coded("root:a:b\u{e9}")), Some(("root".to_owned(), "a:b\u{e9}".to_owned())));
        assert_eq!(opened(&coded("root:")), Some(("root".to_owned(), String::new())));
        for wrong in ["Basic", "Basic !", "Bearer cm9vdDo=", &coded("root"), ""] {
            assert!(opened(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_signature_is_taken_apart() {
        let found = signed("OCP-ACCESS-KEY-HMACSHA1 AK:c2ln=");
        assert!(
            matches!(found, Some(Shown::Signature { access_key, signature }) if access_key == "AK" && signature == "c2ln=")
        );
        for wrong in
            ["OCP-ACCESS-KEY-HMACSHA1 AK", "OCP-ACCESS-KEY-HMACSHA256 AK:x", "ocp-access-key-hmacsha1 AK:x"]
        {
            assert!(signed(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_date_is_one_of_rfc_1123() {
        assert_eq!(seconds("Tue, 17 Jan 2023 09:13:57 GMT"), Some(1_673_946_837));
        for wrong in ["", "2023-01-17T09:13:57Z", "yesterday"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}

//! The cluster's own CA: its root, the certificates it issues, and what one agent holds of it.
//!
//! Purpose: certificates without files and without an operator. Keys are ECDSA P-256 and never leave aws-lc-rs but as PKCS#8
//! on their way into the vault; `rcgen` only writes X.509.
//!
//! Invariant: whoever issues a certificate decides what stands in it. A request is a public key and nothing else, so nobody
//! asks for a name: an agent is certified for the address under which its cluster knows it, a client for no address at all.
//! (That the asker has the private key needs no proof: a certificate of another's key is of no use to it.)
//!
//! Not here: who may have one, when it is renewed and where it is kept (`app::custody`), what is done with it (`tls`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};
use zeroize::Zeroizing;

use super::compare::sha256_hex;
use crate::model::{Certificate, Timestamp};

/// Longer than a cluster lives between two upgrades of its hardware; nothing but the root lives so long.
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A certificate of a client is kept by people, so it lasts; it ends with the CA at the latest.
pub const CLIENT_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// Clocks of a cluster differ by less (`peer::Hello::LIFETIME_SECS`): a certificate is valid at once everywhere.
const CLOCKS_DIFFER: Duration = Duration::from_secs(300);

/// Bytes of an uncompressed point of P-256, the marker included.
const POINT_BYTES: usize = 65;
const POINT_MARKER: u8 = 4;

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("a key pair could not be made")]
    Generate,
    #[error("the stored key is not a usable ECDSA key")]
    Stored,
    #[error("this is no public key that a certificate can be issued for: base64 of a point of P-256")]
    PublicKey,
    #[error("the certificate could not be written: {0}")]
    Encode(#[from] rcgen::Error),
    #[error("the time of a certificate is beyond what can be written")]
    Time,
}

/// A key pair of a certificate.
pub struct TlsKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsKey({})", self.public_on_wire())
    }
}

impl TlsKey {
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, AuthorityError> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        Self::from_pkcs8(made.map_err(|_| AuthorityError::Generate)?.as_ref())
    }

    /// # Errors
    /// When it is no such key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, AuthorityError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der);
        let pair = pair.map_err(|_| AuthorityError::Stored)?;
        Ok(Self { pair, pkcs8: Zeroizing::new(der.to_vec()) })
    }

    /// The private half as one member hands it to another inside a sealed message: base64 of PKCS#8.
    ///
    /// # Errors
    /// When it is no such key.
    pub fn from_text(text: &str) -> Result<Self, AuthorityError> {
        let der = STANDARD.decode(text).map(Zeroizing::new).map_err(|_| AuthorityError::Stored)?;
        Self::from_pkcs8(&der)
    }

    /// See [`TlsKey::from_text`].
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&self.pkcs8))
    }

    /// What the vault keeps.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// `PRIVATE KEY` in PEM, for a file of a client.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.to_pem_after("")
    }

    /// The same after its certificate, as programs want it that take one file.
    pub fn to_pem_after(&self, certificate: &str) -> Zeroizing<String> {
        const LINE: usize = 64;
        let text = self.to_text();
        // Room for all of it: a text that grows leaves itself behind.
        let room = certificate.len() + 2 * text.len() + 64;
        let mut pem = Zeroizing::new(String::with_capacity(room));
        pem.push_str(certificate);
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for (at, letter) in text.chars().enumerate() {
            pem.push(letter);
            if (at + 1) % LINE == 0 {
                pem.push('\n');
            }
        }
        if !pem.ends_with('\n') {
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem
    }

    /// What a certificate is asked for: base64 of the uncompressed point.
    pub fn public_on_wire(&self) -> String {
        STANDARD.encode(self.pair.public_key().as_ref())
    }
}

impl PublicKeyData for TlsKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| rcgen::Error::RemoteKeyError)?.as_ref().to_vec())
    }
}

/// The public half of somebody's key.
#[derive(Debug)]
struct PublicPoint(Vec<u8>);

impl PublicPoint {
    fn from_wire(text: &str) -> Result<Self, AuthorityError> {
        let point = STANDARD.decode(text).map_err(|_| AuthorityError::PublicKey)?;
        let is_point = point.len() == POINT_BYTES && point.first() == Some(&POINT_MARKER);
        if is_point { Ok(Self(point)) } else { Err(AuthorityError::PublicKey) }
    }
}

impl PublicKeyData for PublicPoint {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Whom a certificate is for, and until when.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Common name.
    pub subject: String,
    /// As [`TlsKey::public_on_wire`] has it.
    pub public_key: &'a str,
    /// Addresses under which it serves; without any it is a client's and serves nowhere.
    pub names: Vec<IpAddr>,
    pub lifetime: Duration,
}

/// What an agent holds of a CA: its own, or its cluster's. Public but for the two keys.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Whom it trusts. The first is who issues certificates now; others have issued those that are still in use.
    pub roots: Vec<Certificate>,
    /// What it shows.
    pub certificate: Certificate,
    /// Of that certificate.
    pub key: Arc<TlsKey>,
    /// Of the first root, where this agent may issue.
    pub authority: Option<Arc<TlsKey>>,
    /// Of the second root, which is trusted already and issues next, where a new one was announced.
    pub next: Option<Arc<TlsKey>>,
    /// The CA is one of a cluster; until then it is this agent's alone.
    pub is_clusters: bool,
    /// It belongs to the cluster no more; what it shows is shown a moment longer, for those who still speak to it.
    pub left_at: Option<Timestamp>,
}

/// A new root and its key.
///
/// # Errors
/// When there is no randomness.
pub fn new_root(now: Timestamp) -> Result<(Certificate, TlsKey), AuthorityError> {
    const NAME_LEN: usize = 8;
    let key = TlsKey::generate()?;
    let id: String = sha256_hex(key.der_bytes()).chars().take(NAME_LEN).collect();
    let name = format!("obpilot CA {id}");
    let mut params = root_params(&name);
    let not_after = now.checked_add(ROOT_LIFETIME).map_err(|_| AuthorityError::Time)?;
    date(&mut params, now, not_after)?;
    let made = params.self_signed(&key)?;
    let root = noted(&made, &name, &name, not_after, not_after, Vec::new());
    Ok((root, key))
}

/// A certificate that this root's key signs; it does not outlive the root.
///
/// # Errors
/// When the public key is none.
pub fn issue(
    root: &Certificate,
    authority: &TlsKey,
    wanted: &Wanted<'_>,
    now: Timestamp,
) -> Result<Certificate, AuthorityError> {
    let key = PublicPoint::from_wire(wanted.public_key)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, wanted.subject.clone());
    params.subject_alt_names = wanted.names.iter().copied().map(SanType::IpAddress).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !wanted.names.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let end = now.checked_add(wanted.lifetime).map_err(|_| AuthorityError::Time)?;
    let not_after = end.min(root.not_after);
    date(&mut params, now, not_after)?;
    // At two thirds of its life: a third is left for whatever keeps it from being renewed.
    let renew_at = now.checked_add(wanted.lifetime * 2 / 3).map_err(|_| AuthorityError::Time)?;
    let issuer_params = root_params(&root.subject);
    let made = params.signed_by(&key, &Issuer::from_params(&issuer_params, authority))?;
    Ok(noted(&made, &wanted.subject, &root.subject, not_after, renew_at, wanted.names.clone()))
}

/// What a root says of itself; its certificates repeat its name and the id of its key.
fn root_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn date(params: &mut CertificateParams, now: Timestamp, end: Timestamp) -> Result<(), AuthorityError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |secs: i64| u64::try_from(secs).map(|secs| epoch + Duration::from_secs(secs));
    let start = now.checked_sub(CLOCKS_DIFFER).map_err(|_| AuthorityError::Time)?;
    params.not_before = at(start.as_second()).map_err(|_| AuthorityError::Time)?;
    params.not_after = at(end.as_second()).map_err(|_| AuthorityError::Time)?;
    Ok(())
}

fn noted(
    made: &rcgen::Certificate,
    subject: &str,
    issuer: &str,
    not_after: Timestamp,
    renew_at: Timestamp,
    names: Vec<IpAddr>,
) -> Certificate {
    Certificate {
        pem: made.pem(),
        subject: subject.to_owned(),
        issuer: issuer.to_owned(),
        fingerprint: sha256_hex(made.der()),
        not_after,
        renew_at,
        names,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Tls, TlsError, check_holding};
    use super::*;

    const NOW: i64 = 1_700_000_000;
    const OWN: [u8; 4] = [10, 0, 0, 1];

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    fn wanted<'a>(public_key: &'a str, names: &[[u8; 4]]) -> Wanted<'a> {
        Wanted {
            subject: "agent 10.0.0.1:2886".to_owned(),
            public_key,
            names: names.iter().map(|ip| (*ip).into()).collect(),
            lifetime: Duration::from_secs(900),
        }
    }

    fn held() -> Holding {
        let (root, authority) = new_root(at(NOW)).unwrap();
        let key = TlsKey::generate().unwrap();
        let certificate = issue(&root, &authority, &wanted(&key.public_on_wire(), &[OWN]), at(NOW)).unwrap();
        Holding {
            roots: vec![root],
            certificate,
            key: Arc::new(key),
            authority: Some(Arc::new(authority)),
            next: None,
            is_clusters: true,
            left_at: None,
        }
    }

    fn is_taken(holding: &Holding, now: i64) -> bool {
        check_holding(holding, now.unsigned_abs()).is_ok()
    }

    #[test]
    fn a_certificate_is_good_for_its_address_and_its_time() {
        let holding = held();
        // Clocks differ by five minutes, and it lives for fifteen.
        for (now, expected) in
            [(NOW - 301, false), (NOW - 299, true), (NOW, true), (NOW + 899, true), (NOW + 901, false)]
        {
            assert_eq!(is_taken(&holding, now), expected, "{now}");
        }
        assert_eq!(holding.certificate.not_after, at(NOW + 900));
        assert_eq!(holding.certificate.renew_at, at(NOW + 600), "at two thirds");
        let elsewhere = Certificate { names: vec![[10, 0, 0, 2].into()], ..holding.certificate.clone() };
        assert!(!is_taken(&Holding { certificate: elsewhere, ..holding }, NOW), "another address");
    }

    #[test]
    fn another_root_takes_none_of_it_unless_it_stands_beside_the_new_one() {
        let (holding, other) = (held(), held());
        assert!(!is_taken(&Holding { roots: other.roots.clone(), ..holding.clone() }, NOW));
        let both = [other.roots, holding.roots.clone()].concat();
        assert!(is_taken(&Holding { roots: both, ..holding }, NOW));
    }

    #[test]
    fn the_certificate_of_a_client_serves_nowhere() {
        let holding = held();
        let (root, authority) = (&holding.roots[0], holding.authority.as_ref().unwrap());
        let public_key = holding.key.public_on_wire();
        let made = issue(root, authority, &wanted(&public_key, &[]), at(NOW)).unwrap();
        // serverAuth, 1.3.6.1.5.5.7.3.1 (RFC 5280 §4.2.1.12), as it stands in the DER.
        const SERVER_AUTH: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 1];
        let serves = |certificate: &Certificate| {
            let read = rustls::pki_types::pem::PemObject::from_pem_slice(certificate.pem.as_bytes());
            let der: rustls::pki_types::CertificateDer<'_> = read.unwrap();
            der.windows(SERVER_AUTH.len()).any(|window| window == SERVER_AUTH)
        };
        assert!(serves(&holding.certificate) && !serves(&made));
        let claimed = Certificate { names: vec![OWN.into()], ..made };
        assert!(!is_taken(&Holding { certificate: claimed, ..holding }, NOW));
    }

    #[test]
    fn no_certificate_outlives_its_root() {
        let (root, authority) = new_root(at(NOW)).unwrap();
        let key = TlsKey::generate().unwrap().public_on_wire();
        let late = at(root.not_after.as_second() - 100);
        assert_eq!(issue(&root, &authority, &wanted(&key, &[OWN]), late).unwrap().not_after, root.not_after);
    }

    #[test]
    fn only_a_public_key_is_certified() {
        let (root, authority) = new_root(at(NOW)).unwrap();
        let short = STANDARD.encode([POINT_MARKER; POINT_BYTES - 1]);
        let packed = STANDARD.encode([2; POINT_BYTES]);
        for text in ["", "!", &short, &packed] {
            let refused = issue(&root, &authority, &wanted(text, &[OWN]), at(NOW));
            assert!(matches!(refused, Err(AuthorityError::PublicKey)), "{text}");
        }
    }

    #[test]
    fn a_key_is_kept_and_handed_over_as_it_was() {
        let key = TlsKey::generate().unwrap();
        for again in [TlsKey::from_pkcs8(key.to_pkcs8()).unwrap(), TlsKey::from_text(&key.to_text()).unwrap()]
        {
            assert_eq!(again.public_on_wire(), key.public_on_wire());
        }
        assert!(TlsKey::from_text("AAAA").is_err() && TlsKey::from_text("!").is_err());
        assert!(!format!("{key:?}").contains(key.to_text().as_str()));
        let pem = key.to_pem();
        let read = rustls::pki_types::PrivatePkcs8KeyDer::from(key.to_pkcs8());
        let parsed =
            <rustls::pki_types::PrivatePkcs8KeyDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
                pem.as_bytes(),
            );
        assert_eq!(parsed.unwrap(), read);
    }

    #[test]
    fn what_does_not_belong_together_is_not_shown() {
        let (holding, other) = (held(), held());
        let tls = Tls::own(&holding, true).unwrap();
        let mixed = Holding { key: other.key.clone(), ..holding.clone() };
        assert!(matches!(Tls::own(&mixed, true), Err(TlsError::KeptMismatch { .. })));
        assert!(tls.take_up(&mixed).is_err());
        assert_eq!(tls.fingerprint(), holding.certificate.fingerprint, "the old one stays");
        tls.take_up(&other).unwrap();
        assert_eq!(tls.fingerprint(), other.certificate.fingerprint);
    }
}

//! Bodies about the agent's own keys and certificates.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/v1/security/keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Keys {
    /// Of `public_key` in `GET /api/v1/secret`.
    pub v2: KeyView,
    pub v3: KeyView,
    /// By which other agents know this one.
    pub peer: KeyView,
    /// What the agent's port shows; `null` where it speaks plain HTTP.
    pub certificate: Option<CertificateView>,
}

/// A certificate, and by whom it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// SHA-256 of the DER, 64 lower-case hexadecimal digits.
    pub fingerprint: String,
    /// Common name; `null` where the certificate is the operator's, whose file tells more.
    pub subject: Option<String>,
    /// Common name of the CA.
    pub issuer: Option<String>,
    /// RFC 3339.
    #[serde(rename = "notAfter")]
    pub not_after: Option<String>,
    /// Roots of the cluster's own CA in PEM, the one that issues first: what clients are given to trust.
    pub ca: Option<String>,
}

/// `POST /api/v1/security/certificates`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct IssueBody {
    /// Who will show it: 1 to 64 letters, digits, `.`, `_`, `-`.
    #[serde(default)]
    #[schema(required = true, example = "backup")]
    pub name: String,
    /// ECDSA P-256, the uncompressed point in base64. The private key stays where it was made.
    #[serde(default, rename = "publicKey")]
    #[schema(required = true)]
    pub public_key: String,
}

impl IssueBody {
    pub const MEMBERS: &[&str] = &["name", "publicKey"];
}

/// A certificate of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedCertificate {
    /// PEM.
    pub certificate: String,
    /// Roots by which the client knows agents, PEM.
    pub ca: String,
    /// RFC 3339.
    #[serde(rename = "notAfter")]
    pub not_after: String,
}

/// `POST /api/v1/security/keys/rotate`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct RotateBody {
    /// Which keys are to be new: `v2`, `v3`, `certificate`.
    #[serde(default)]
    #[schema(required = true, example = json!(["v2", "v3"]))]
    pub schemes: Vec<String>,
}

impl RotateBody {
    pub const MEMBERS: &[&str] = &["schemes"];
}

/// `POST /api/v1/security/ca/rotate`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct RotateCaBody {
    /// `announce`, `switch`, `finish`.
    #[serde(default)]
    #[schema(required = true, example = "announce")]
    pub step: String,
}

impl RotateCaBody {
    pub const MEMBERS: &[&str] = &["step"];
}

/// A key by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// First 32 hexadecimal digits of the SHA-256 of the public key as it is published, base64 undone for v3.
    #[serde(rename = "keyId")]
    pub key_id: String,
}

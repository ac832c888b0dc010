//! The signature of a key pair (`ocp-v2.md` §4.2), on the server's side.
//!
//! Invariant: what is signed is taken from the request as it came, but for the query, which is decoded and encoded anew. An access
//! key that nobody has costs the same as a wrong signature.

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use std::collections::BTreeMap;

use super::compare::is_same;
use super::header::BlockHash;
use crate::model::Password;

/// Before the access key in `Authorization`. The only algorithm, in capitals.
pub const SIGNED: &str = "OCP-ACCESS-KEY-HMACSHA1";

/// Own headers begin with this.
const OWN_HEADERS: &str = "x-ocp-";

/// What stands in for the secret of an access key that nobody has.
const NOBODYS: &str = "0123456789abcdef0123456789abcdef";

const AK_LETTERS: usize = 16;
const SK_LETTERS: usize = 40;

/// A request as far as it is signed.
#[derive(Clone, Debug)]
pub struct SignedRequest<'a> {
    pub method: &'a str,
    /// Empty where there is none.
    pub body: &'a [u8],
    /// As sent; empty where there is none.
    pub content_type: &'a str,
    pub date: &'a str,
    /// Port included.
    pub host: &'a str,
    /// All headers in the order in which they came, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    /// Path and query as they came.
    pub target: &'a str,
}

/// Whether this signature of this request was made with this secret; without one, never, after the same work.
pub fn is_signed_by(secret: Option<&Password>, signature: &str, request: &SignedRequest<'_>) -> bool {
    let key = secret.map_or(NOBODYS, Password::expose);
    // What joins several values of one name may have been encoded or not: the documentation shows the one, its code does the other.
    let fits = [",", "%2C"].map(|comma| is_same(&sign(key, &message(request, comma)), signature));
    secret.is_some() && (fits[0] | fits[1])
}

fn sign(secret: &str, message: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, message.as_bytes()))
}

fn message(request: &SignedRequest<'_>, comma: &str) -> String {
    let SignedRequest { method, body, content_type, date, host, headers, target } = request;
    [
        &method.to_ascii_uppercase(),
        &body_digest(body),
        *content_type,
        *date,
        *host,
        &own_headers(headers),
        &canonical(target, comma),
    ]
    .map(str::to_owned)
    .join("\n")
}

fn body_digest(body: &[u8]) -> String {
    if body.is_empty() {
        return String::new();
    }
    Md5::digest(body).iter().map(|byte| format!("{byte:02X}")).collect()
}

/// One line for each name; a header that came once is one value, whatever is in it.
fn own_headers(headers: &[(&str, &str)]) -> String {
    let mut own: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| name.starts_with(OWN_HEADERS)) {
        own.entry(name).or_default().push(value);
    }
    let lines: Vec<_> = own.iter().map(|(name, values)| format!("{name}:{}", values.join(","))).collect();
    lines.join("\n")
}

/// The path as it came, and the query in one spelling.
fn canonical(target: &str, comma: &str) -> String {
    let Some((path, query)) = target.split_once('?').filter(|(_, query)| !query.is_empty()) else {
        return target.trim_end_matches('?').to_owned();
    };
    let mut values: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        values.entry(decoded(key)).or_default().push(decoded(value));
    }
    let pairs = values.into_iter().map(|(key, mut values)| {
        values.sort();
        let values: Vec<_> = values.iter().map(|value| encoded(value)).collect();
        format!("{}={}", encoded(&key), values.join(comma))
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// Percent signs undone; a plus is a space, as in every query.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let coded = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let coded = coded.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        plain.push(match (byte, coded) {
            (_, Some(coded)) => coded,
            (b'+', None) => b' ',
            (other, None) => *other,
        });
        at += if coded.is_some() { 3 } else { 1 };
    }
    plain
}

/// RFC 3986: letters, digits and `-._~` stay.
fn encoded(plain: &[u8]) -> String {
    let mut text = String::with_capacity(plain.len());
    for byte in plain {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Names this use of a key pair: the same request signed once more in the same second is the same use.
pub fn use_of(access_key: &str, signature: &str) -> BlockHash {
    let mut use_of = [0; 32];
    let text = format!("{SIGNED} {access_key}:{signature}");
    use_of.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    use_of
}

/// A fresh access key and its secret.
///
/// # Errors
/// When the system has no randomness.
pub fn new_key_pair() -> Result<(String, Password), aws_lc_rs::error::Unspecified> {
    Ok((letters(AK_LETTERS)?, Password::new(letters(SK_LETTERS)?)))
}

/// Letters and digits, all equally likely.
fn letters(count: usize) -> Result<String, aws_lc_rs::error::Unspecified> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(count);
    let mut random = zeroize::Zeroizing::new([0_u8; 64]);
    while text.len() < count {
        aws_lc_rs::rand::fill(random.as_mut_slice())?;
        // What is left of 256 above a multiple of 62 would favour some.
        let even = random.iter().filter(|byte| **byte < 248).map(|byte| usize::from(*byte) % 62);
        text.extend(even.take(count - text.len()).filter_map(|at| ALPHABET.get(at)).map(|b| char::from(*b)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SK: &str = "2fc0c299cc94c6be266f2ceece765d4d";
    const HOST: &str = "ocp.alibaba.net:8080";

    fn post() -> SignedRequest<'static> {
        SignedRequest {
            method: "POST",
            body: br#"{"name":"test01","description":"test","regionId":1}"#,
            content_type: "application/json",
            date: "Tue, 17 Jan 2023 09:13:57 GMT",
            host: HOST,
            headers: &[("x-ocp-data", "A,1"), ("accept", "*/*")],
            target: "/api/v2/compute/idcs",
        }
    }

    fn get(target: &str) -> SignedRequest<'_> {
        SignedRequest {
            method: "GET",
            body: b"",
            content_type: "application/json;charset=utf-8",
            date: "Tue, 17 Jan 2023 04:14:02 GMT",
            host: HOST,
            headers: &[],
            target,
        }
    }

    #[test]
    fn both_vectors() {
        let secret = Password::new(SK);
        assert_eq!(body_digest(post().body), "186974DB33A090A16D3E2CA35F547B56");
        assert!(is_signed_by(Some(&secret), "XN8P+O+v3vUabB16ZCooq5wMJoY=", &post()));
        let listed = get("/api/v2/compute/idcs?size=100");
        assert!(is_signed_by(Some(&secret), "TsQD6HDOuZuJ409m0wdnZPmijlc=", &listed));
    }

    #[test]
    fn whatever_is_signed_counts() {
        let secret = Password::new(SK);
        let signature = "XN8P+O+v3vUabB16ZCooq5wMJoY=";
        for changed in [
            SignedRequest { method: "PUT", ..post() },
            SignedRequest { body: b"{}", ..post() },
            SignedRequest { content_type: "application/json;charset=utf-8", ..post() },
            SignedRequest { date: "Tue, 17 Jan 2023 09:13:58 GMT", ..post() },
            SignedRequest { host: "ocp.alibaba.net", ..post() },
            SignedRequest { headers: &[("x-ocp-data", "1,A")], ..post() },
            SignedRequest { headers: &[], ..post() },
            SignedRequest { target: "/api/v2/compute/idcs?size=1", ..post() },
        ] {
            assert!(!is_signed_by(Some(&secret), signature, &changed), "{changed:?}");
        }
        assert!(!is_signed_by(Some(&Password::new("another")), signature, &post()));
        assert!(!is_signed_by(None, signature, &post()));
        assert!(!is_signed_by(None, &sign(NOBODYS, &message(&post(), ",")), &post()));
        assert!(!is_signed_by(Some(&secret), "", &post()));
    }

    #[test]
    fn a_query_has_one_spelling() {
        for (target, expected) in [
            ("/p", "/p"),
            ("/p?", "/p"),
            ("/p?b=2&a=1", "/p?a=1&b=2"),
            ("/p?ab=1&a=2", "/p?a=2&ab=1"),
            ("/p?a", "/p?a="),
            ("/p?a=x+y", "/p?a=x%20y"),
            ("/p?a=x%20y&b=%7e", "/p?a=x%20y&b=~"),
            ("/p?a=%e4%b8%ad", "/p?a=%E4%B8%AD"),
            ("/p?a=RUNNING,FAILED", "/p?a=RUNNING%2CFAILED"),
            ("/p?a=100%", "/p?a=100%25"),
            ("/p%20q?a=1", "/p%20q?a=1"),
        ] {
            assert_eq!(canonical(target, "%2C"), expected, "{target}");
        }
        assert_eq!(canonical("/p?s=c&s=a&s=b", ","), "/p?s=a,b,c");
        assert_eq!(canonical("/p?s=b&s=a,c&s=a", "%2C"), "/p?s=a%2Ca%2Cc%2Cb");
        assert_eq!(canonical("/p?s=b&s=a,c&s=a", ","), "/p?s=a,a%2Cc,b");
    }

    #[test]
    fn joined_values_are_taken_either_way() {
        let secret = Password::new(SK);
        let request = get("/p?s=b&s=a");
        for comma in [",", "%2C"] {
            assert!(is_signed_by(Some(&secret), &sign(SK, &message(&request, comma)), &request));
        }
        assert!(!is_signed_by(Some(&secret), &sign(SK, &message(&request, "%2c")), &request));
    }

    #[test]
    fn own_headers_are_sorted_and_repeated_ones_are_joined_as_they_came() {
        let headers =
            [("x-ocp-b", "2"), ("x-ocp-a", "B,A"), ("host", "h"), ("x-ocp-b", "1"), ("x-ocq", "no")];
        assert_eq!(own_headers(&headers), "x-ocp-a:B,A\nx-ocp-b:2,1");
    }

    #[test]
    fn key_pairs_are_letters_and_digits_and_never_alike() {
        let (first, second) = (new_key_pair().unwrap(), new_key_pair().unwrap());
        assert_eq!((first.0.len(), first.1.expose().len()), (16, 40));
        assert!(first.0.bytes().chain(first.1.expose().bytes()).all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(first.0, second.0);
        assert_ne!(first.1.expose(), second.1.expose());
    }
}

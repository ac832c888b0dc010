//! The header's JSON, read more strictly than JSON asks for: names in any case, none twice; unknown ones are skipped;
//! nothing after the value (`security.md` §11). Honest clients write nothing else.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::model::Password;

/// Members as they stand, before they mean anything.
#[derive(Debug, Default)]
pub(super) struct RawHeader {
    pub(super) auth: Option<Password>,
    pub(super) ts: Option<String>,
    pub(super) uri: Option<String>,
    pub(super) keys: Option<Password>,
    pub(super) token: Option<Password>,
    pub(super) session_id: Option<Password>,
    pub(super) sso_token: Option<Password>,
    pub(super) forward_type: Option<i64>,
    pub(super) forward_agent: Option<RawAgent>,
}

#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct RawAgent {
    #[serde(default)]
    pub(super) ip: String,
    #[serde(default)]
    pub(super) port: i64,
    /// Skipped, but read, as in the header around it.
    #[serde(flatten)]
    #[expect(dead_code, reason = "reading it is what it is there for")]
    rest: serde_json::Map<String, serde_json::Value>,
}

const KNOWN: [&str; 9] =
    ["auth", "ts", "uri", "keys", "token", "session_id", "ssotoken", "forwardtype", "forwardagent"];

/// `None` for whatever an honest client would not send.
pub(super) fn read(json: &[u8]) -> Option<RawHeader> {
    let text = std::str::from_utf8(json).ok()?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let header = RawHeader::deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(header)
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut header = RawHeader::default();
        let mut seen: Vec<String> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let name = name.to_ascii_lowercase();
            if seen.contains(&name) {
                return Err(serde::de::Error::custom("a member stands twice"));
            }
            match KNOWN.iter().position(|known| *known == name) {
                Some(0) => header.auth = map.next_value()?,
                Some(1) => header.ts = map.next_value()?,
                Some(2) => header.uri = map.next_value()?,
                Some(3) => header.keys = map.next_value()?,
                Some(4) => header.token = map.next_value()?,
                Some(5) => header.session_id = map.next_value()?,
                Some(6) => header.sso_token = map.next_value()?,
                Some(7) => header.forward_type = map.next_value()?,
                Some(8) => header.forward_agent = map.next_value()?,
                // Skipped, but read: half a character is no text there either.
                Some(_) | None => drop(map.next_value::<serde_json::Value>()?),
            }
            seen.push(name);
        }
        Ok(header)
    }
}

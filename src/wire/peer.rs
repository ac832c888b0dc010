//! What agents put around their messages to each other: the header `X-Obpilot-Peer`, and the body of a join.

use serde::{Deserialize, Serialize};

use crate::model::{AgentAddr, Invitation, Member};

/// The header of a request that comes from an agent: `v1 <from> <session> <counter> <actor, in hex>`. The actor is
/// whom a forwarded request was let in as; it is bound to the seal like method and target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMark {
    pub from: AgentAddr,
    pub session: String,
    pub counter: u64,
    pub actor: String,
}

impl PeerMark {
    /// In the answer's header: the message was not opened, begin a new session.
    pub const UNKNOWN_SESSION: &str = "unknown session";

    /// What the seal of a request is bound to.
    pub fn about(method: &str, target: &str, actor: &str) -> String {
        format!("{method}\n{target}\n{actor}")
    }

    pub fn to_text(&self) -> String {
        format!("v1 {} {} {} {}", self.from, self.session, self.counter, hex(&self.actor))
    }

    /// `None` for what is no such header.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? != "v1" {
            return None;
        }
        let (from, session, counter) =
            (words.next()?.parse().ok()?, words.next()?, words.next()?.parse().ok()?);
        let actor = unhex(words.next().unwrap_or_default())?;
        let is_over = words.next().is_none();
        (is_over && !session.is_empty()).then(|| Self { from, session: session.to_owned(), counter, actor })
    }
}

/// Any text as one word of a header.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<String> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

/// `POST /rpc/v1/agent`: an agent asks a master to be taken among its followers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdmitBody {
    pub member: Member,
    /// Only asks whether it would be.
    #[serde(default, rename = "isTrial")]
    pub is_trial: bool,
}

impl AdmitBody {
    pub const MEMBERS: &[&str] = &["member", "isTrial"];
}

/// `POST /rpc/v1/ob/scale_out`: a member of a cluster adds an agent that belongs to nobody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InviteBody {
    pub invitation: Invitation,
    /// Only asks whether it could be.
    #[serde(default, rename = "isTrial")]
    pub is_trial: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_as_it_was() {
        for actor in ["", "root@sys from 10.0.0.5", "uid 0 (socket)", "ünïcode 密码"] {
            let mark = PeerMark {
                from: "[2001:db8::1]:2886".parse().unwrap(),
                session: "abc".to_owned(),
                counter: u64::MAX,
                actor: actor.to_owned(),
            };
            assert_eq!(PeerMark::from_text(&mark.to_text()), Some(mark));
        }
        for text in [
            "",
            "v1",
            "v2 10.0.0.1:1 s 1 ",
            "v1 x s 1 ",
            "v1 10.0.0.1:1 s -1 ",
            "v1 10.0.0.1:1 s 1 6",
            "v1 10.0.0.1:1 s 1 zz",
            "v1 10.0.0.1:1 s 1 61 x",
        ] {
            assert_eq!(PeerMark::from_text(text), None, "{text}");
        }
    }
}

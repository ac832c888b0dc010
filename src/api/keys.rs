//! The agent's keys: what clients compare with what they were shown, and new ones on demand.

use super::call::Call;
use super::reply::Outcome;
use crate::secure::key_id_of;
use crate::wire::{Envelope, KeyView, Keys};

/// The ids of this agent's keys
#[utoipa::path(get, path = "/api/v1/security/keys", tag = "agent", responses((status = 200, body = Envelope<Keys>)))]
pub(super) async fn show(call: Call<()>) -> Outcome<Keys> {
    Outcome::data(Ok(keys_of(&call)))
}

/// New keys for schemes v2 and v3; what was sealed for the old v3 key a moment ago still opens for ten minutes
#[utoipa::path(post, path = "/api/v1/security/keys/rotate", tag = "agent",
    responses((status = 200, body = Envelope<Keys>)))]
pub(super) async fn rotate(call: Call<()>) -> Outcome<Keys> {
    let rotated = call.door.rotate_keys().await;
    if rotated.is_ok() {
        tracing::warn!(actor = call.caller.actor, "the agent has new keys");
    }
    Outcome::data(rotated.map(|()| keys_of(&call)))
}

fn keys_of(call: &Call<()>) -> Keys {
    Keys {
        v2: KeyView { key_id: call.door.v2_key_id() },
        v3: KeyView { key_id: call.door.v3_key().id().to_owned() },
        peer: KeyView { key_id: key_id_of(call.app.peer_key().as_bytes()) },
    }
}

//! The agent's keys: what clients compare with what they were shown, and new ones on demand.

use super::call::Call;
use super::reply::Outcome;
use crate::error::{Code, Error, Result};
use crate::secure::key_id_of;
use crate::wire::{Envelope, KeyView, Keys, RotateBody};

/// The ids of this agent's keys
#[utoipa::path(get, path = "/api/v1/security/keys", tag = "agent", responses((status = 200, body = Envelope<Keys>)))]
pub(super) async fn show(call: Call<()>) -> Outcome<Keys> {
    Outcome::data(Ok(keys_of(&call)))
}

/// New keys for schemes v2 or v3; what was sealed for the old v3 key a moment ago still opens for ten minutes
#[utoipa::path(post, path = "/api/v1/security/keys/rotate", tag = "agent", request_body = RotateBody,
    responses((status = 200, body = Envelope<Keys>)))]
pub(super) async fn rotate(call: Call<RotateBody>) -> Outcome<Keys> {
    Outcome::data(rotated(&call).await)
}

async fn rotated(call: &Call<RotateBody>) -> Result<Keys> {
    let wanted = &call.body.schemes;
    if let Some(unknown) = wanted.iter().find(|scheme| !["v2", "v3"].contains(&scheme.as_str())) {
        let text = format!("there is no key of scheme '{unknown}' to rotate; schemes are v2 and v3");
        return Err(Error::new(Code::IllegalArgument, text));
    }
    if wanted.is_empty() {
        return Err(Error::new(Code::IllegalArgument, "schemes is missing or empty; name v2, v3 or both"));
    }
    let has = |scheme: &str| wanted.iter().any(|wanted| wanted == scheme);
    call.door.rotate_keys(has("v2"), has("v3")).await?;
    tracing::warn!(actor = call.caller.actor, schemes = wanted.join(", "), "the agent has new keys");
    Ok(keys_of(call))
}

fn keys_of<B>(call: &Call<B>) -> Keys {
    Keys {
        v2: KeyView { key_id: call.door.v2_key_id() },
        v3: KeyView { key_id: call.door.v3_key().id().to_owned() },
        peer: KeyView { key_id: key_id_of(call.app.peer_key().as_bytes()) },
    }
}

//! Body of a take-over (our own; OBShell takes over when an agent is started).

use serde::Deserialize;
use utoipa::ToSchema;

use crate::error::{Code, Error, Result};
use crate::model::Password;

/// `POST /api/v1/ob/take_over`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeOverBody {
    /// Of root@sys, as it is now; empty when it has none.
    #[serde(default, rename = "rootPwd")]
    #[schema(value_type = String, required = true)]
    pub root_pwd: Option<Password>,
    /// Of the plan that was shown: exactly that is done, or nothing.
    #[serde(default, rename = "planHash")]
    pub plan_hash: Option<String>,
}

impl TakeOverBody {
    pub const MEMBERS: &[&str] = &["rootPwd", "planHash"];

    /// # Errors
    /// `Common.BindJsonFailed` when it is missing: an empty one is a password, too.
    pub fn root_password(&mut self) -> Result<Password> {
        self.root_pwd.take().ok_or_else(|| {
            Error::new(Code::BindJsonFailed, "rootPwd is missing; an empty text stands for no password")
        })
    }
}
